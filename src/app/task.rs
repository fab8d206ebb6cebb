//! Tasks: add, start, next, done, fail, cancel, block, unblock, list, show.

use std::time::Duration;

use crate::app::failure::{Failure, FailureKind};
use crate::app::listing::Listing;
use crate::app::tether::Tether;
use crate::domain::event::{RunEvent, WorkEnd};
use crate::domain::ids::{PoolName, RunId, SessionId, TaskAddress, TaskId};
use crate::domain::task::{NewTask, Task, TaskState};
use crate::domain::transition::startable;
use crate::domain::view::RunView;
use crate::store::runs::{Committed, Need};

/// How the start of a task that has to wait is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Patience {
    /// It is refused.
    Refuse,
    /// It waits until it may start.
    Wait,
}

/// Every run that can be read, and name and problem of each that cannot.
pub type AllRuns = (Vec<RunView>, Vec<(String, String)>);

/// How long a waiting start sleeps before it looks again.
const WAITING_PAUSE: Duration = Duration::from_millis(200);
/// How often `task next` reads the queue anew after a lost race.
const MOST_ROUNDS: usize = 256;

/// What became of the first task of the queue.
enum FirstOfQueue {
    /// It was started.
    Started(Box<Task>),
    /// Somebody else was faster.
    Raced,
    /// There is none that may start.
    NothingReady,
}

impl Tether {
    /// Adds a task to a run.
    pub fn add_task(&self, run: &RunId, new: &NewTask) -> Result<Task, Failure> {
        let need = new.depends_on.iter().fold(Need::run().with_task(&new.id), Need::with_task);
        let gate = crate::domain::task::Requirement::Approval.gate_id(&new.id);
        let added = self.change_run(run, &need.with_gate(&gate), |view| {
            let unknown = new.depends_on.iter().find(|task| **task != new.id && !view.tasks.contains_key(*task));
            match unknown {
                Some(task) => Err(self.unknown_task(&TaskAddress { run: run.clone(), task: task.clone() })),
                None => Ok(RunEvent::TaskAdded(Box::new(new.clone())).into()),
            }
        });
        let done = added?;
        if !new.command.is_empty() {
            self.trust_command(run, &new.id, &new.command)?;
        }
        task_of(done.view, &new.id)
    }

    /// A task.
    pub fn show_task(&self, address: &TaskAddress) -> Result<Task, Failure> {
        let read = self.read_run(&address.run, &Need::run().with_task(&address.task))?;
        read.view.tasks.get(&address.task).cloned().ok_or_else(|| self.unknown_task(address))
    }

    /// The tasks of a run, or of all; oldest first.
    pub fn list_tasks(&self, run: Option<&RunId>, state: Option<TaskState>) -> Result<Listing<Task>, Failure> {
        Ok(self.list_views(run)?.map(|runs| {
            let mut tasks: Vec<Task> = runs.into_iter().flat_map(|view| view.tasks.into_values()).collect();
            tasks.retain(|task| state.is_none_or(|state| task.state == state));
            tasks.sort_by(|a, b| (a.created_at, &a.run, &a.id).cmp(&(b.created_at, &b.run, &b.id)));
            tasks
        }))
    }

    /// Every run that can be read, and what is wrong with each that cannot.
    pub fn read_all_runs(&self) -> Result<AllRuns, Failure> {
        let (mut views, mut unreadable) = (Vec::new(), Vec::new());
        for (name, tip) in self.ledger().list_runs()? {
            let read =
                tip.map_err(|found| Failure::fatal("unusable_ref", format!("it holds {found}"))).and_then(|_| {
                    let id = RunId::new(name.as_str())?;
                    Ok(self.ledger().read_run(&id, &Need::Everything)?)
                });
            match read {
                Ok(Some(read)) => views.push(read.view),
                Ok(None) => {}
                Err(failure) => unreadable.push((name, failure.message)),
            }
        }
        Ok((views, unreadable))
    }

    /// Starts a task for a session. Its pool's place is taken first, in a swap of its own, and given back if the start is refused.
    pub fn start_task(
        &self,
        address: &TaskAddress,
        session: Option<&SessionId>,
        patience: Patience,
    ) -> Result<Task, Failure> {
        let before = self.read_run(&address.run, &Need::run().with_task(&address.task))?.view;
        if !before.tasks.contains_key(&address.task) {
            return Err(self.unknown_task(address));
        }
        loop {
            let tried = self.try_start_task(address, session);
            match tried {
                Err(failure) if patience == Patience::Wait && is_passing(&failure) => std::thread::sleep(WAITING_PAUSE),
                result => return result,
            }
        }
    }

    /// Decides on what is recorded before anything is written, so that a refusal leaves nothing behind.
    fn try_start_task(&self, address: &TaskAddress, session: Option<&SessionId>) -> Result<Task, Failure> {
        let named = self.named_session(session)?;
        let view = self.read_run(&address.run, &Need::run().with_task(&address.task))?.view;
        startable(&view, &address.task, self.now())?;
        let pool = view.tasks.get(&address.task).and_then(|task| task.pool.clone());
        if let Some(pool) = &pool {
            self.require_place(pool, address)?;
        }
        if let Some(session) = named {
            return self.start_task_for(address, &session, pool.as_ref());
        }
        let made = self.make_session_for_task(address)?;
        let started = self.start_task_for(address, &made.session.id, pool.as_ref());
        if started.is_err() {
            self.drop_session_of_refused_start(address, &made.session.id)?;
        }
        started
    }

    fn start_task_for(
        &self,
        address: &TaskAddress,
        session: &SessionId,
        pool: Option<&PoolName>,
    ) -> Result<Task, Failure> {
        let expected = self.expected_task_token(address, session)?;
        if let Some(pool) = pool {
            self.take_slot(pool, address, session)?;
        }
        let started = self.change_run(&address.run, &Need::run().with_task(&address.task), |view| {
            let lease = self.lease_for_task(view, &address.task, session, &expected)?;
            Ok(RunEvent::TaskStarted { task: address.task.clone(), session: session.clone(), lease }.into())
        });
        match (started, pool) {
            (Ok(done), _) => {
                let token = self.claim_task(address, session)?;
                self.correct_lease_token(&done.view, address, &expected, &token)?;
                task_of(done.view, &address.task)
            }
            (Err(failure), Some(pool)) => {
                self.leave_slot(pool, address, session)?;
                Err(failure)
            }
            (Err(failure), None) => Err(failure),
        }
    }

    /// Takes the first task of the queue that its pool admits, and starts it; of racing callers each gets another one.
    pub fn next_task(
        &self,
        run: Option<&RunId>,
        pool: Option<&PoolName>,
        session: Option<&SessionId>,
    ) -> Result<Task, Failure> {
        if let Some(session) = session {
            self.require_session(session)?.require_active()?;
        }
        for _ in 0..MOST_ROUNDS {
            let views = self.list_views(run)?;
            let queue = crate::app::pool::queue_of(&views.records, pool, self.now());
            match self.start_first(&queue, session)? {
                FirstOfQueue::Started(task) => return Ok(*task),
                FirstOfQueue::Raced => {}
                FirstOfQueue::NothingReady => {
                    let nothing = Failure::busy("nothing_ready", "no task is ready to start").hint(
                        "`git tether task list --state queued` shows what waits, and `git tether pool show` for what",
                    );
                    return Err(views.unreadable.iter().fold(nothing, |nothing, torn| {
                        nothing.hint(format!("{} cannot be read, and may hold more: {}", torn.name, torn.problem))
                    }));
                }
            }
        }
        Err(Failure::busy("contended", "others took the first task of the queue each time").hint("try again"))
    }

    fn start_first(&self, queue: &[&Task], session: Option<&SessionId>) -> Result<FirstOfQueue, Failure> {
        for task in queue {
            match self.start_task(&task.address(), session, Patience::Refuse) {
                Ok(task) => return Ok(FirstOfQueue::Started(Box::new(task))),
                Err(failure) => match failure.code {
                    // This one has to wait for its pool, or for who holds its environment; the next need not.
                    "pool_full" | "pool_backing_off" | "live_owner" => {}
                    // Somebody else was faster: what is first now has to be read anew.
                    "illegal_transition" | "gate_pending" | "dependency_open" | "task_backing_off" | "run_paused"
                    | "run_ended" | "unknown_run" | "contended" => return Ok(FirstOfQueue::Raced),
                    _ => return Err(failure),
                },
            }
        }
        Ok(FirstOfQueue::NothingReady)
    }

    /// The work of a task is done.
    pub fn finish_task(&self, address: &TaskAddress, end: &WorkEnd) -> Result<Task, Failure> {
        let done = self.end_task(address, |task| RunEvent::TaskDone { task, end: end.clone() })?;
        if let Some(pool) = done.pool.as_ref().filter(|_| done.state == TaskState::Completed) {
            self.note_pool_success(pool)?;
        }
        Ok(done)
    }

    /// The work of a task has failed; its pool backs off.
    pub fn fail_task(&self, address: &TaskAddress, end: &WorkEnd) -> Result<Task, Failure> {
        let failed = self.end_task(address, |task| RunEvent::TaskFailed { task, end: end.clone() })?;
        if let Some(pool) = &failed.pool {
            let said = end.summary.clone().unwrap_or_else(|| format!("task {address} failed"));
            self.note_pool_failure(pool, Some(&said))?;
        }
        Ok(failed)
    }

    /// A task is called off.
    pub fn cancel_task(&self, address: &TaskAddress, end: &WorkEnd) -> Result<Task, Failure> {
        self.end_task(address, |task| RunEvent::TaskCancelled { task, end: end.clone() })
    }

    /// A task cannot go on.
    pub fn block_task(&self, address: &TaskAddress, reason: &str) -> Result<Task, Failure> {
        self.end_task(address, |task| RunEvent::TaskBlocked { task, reason: reason.to_owned() })
    }

    /// A reason, or every reason, for which a task was blocked is gone.
    pub fn unblock_task(&self, address: &TaskAddress, reason: Option<&str>) -> Result<Task, Failure> {
        self.end_task(address, |task| RunEvent::TaskUnblocked { task, reason: reason.map(ToOwned::to_owned) })
    }

    /// Changes a task, and lets go of what it held if it does not run any more.
    pub(super) fn end_task(&self, address: &TaskAddress, event: impl Fn(TaskId) -> RunEvent) -> Result<Task, Failure> {
        let need = [crate::domain::task::Requirement::Review, crate::domain::task::Requirement::Test]
            .iter()
            .fold(Need::run().with_task(&address.task), |need, requirement| {
                need.with_gate(&requirement.gate_id(&address.task))
            });
        let mut before = None;
        let done: Result<Committed, Failure> = self.change_run(&address.run, &need, |view| {
            if !view.tasks.contains_key(&address.task) {
                return Err(self.unknown_task(address));
            }
            before = Some(view.clone());
            Ok(event(address.task.clone()).into())
        });
        let done = done?;
        if let Some(before) = before.filter(|_| done.changes.is_some()) {
            self.settle_after(&address.run, &before)?;
        }
        task_of(done.view, &address.task)
    }
}

/// Whether a refusal passes by itself, so that waiting makes sense.
fn is_passing(failure: &Failure) -> bool {
    failure.kind == FailureKind::Busy || matches!(failure.code, "dependency_open" | "gate_pending")
}

pub(super) fn task_of(mut view: RunView, id: &TaskId) -> Result<Task, Failure> {
    let run = view.run.id.clone();
    view.tasks.remove(id).ok_or_else(|| Failure::fatal("unknown_task", format!("run {run} has no task {id}")))
}
