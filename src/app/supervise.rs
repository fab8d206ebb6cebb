//! `run`: makes what is missing for a command, runs it, and records how it ended.
//!
//! Must not know: what supervision does (`execution`), how places are made. Invariants: what is refused is refused before anything
//! is made, where that can be known; a pool's place is taken before anything else; of two that run the same task one starts it.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use crate::app::checkpoint::Saving;
use crate::app::environment::AddEnvironment;
use crate::app::execution::{Attendance, Finished, NotExecuted, SavingPlan, Supervisor, Work};
use crate::app::failure::Failure;
use crate::app::run::StartRun;
use crate::app::task::Patience;
use crate::app::tether::Tether;
use crate::domain::checkpoint::ReplaySafety;
use crate::domain::environment::{Environment, ExecutionMode};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, PoolName, RunId, TaskAddress, TaskId};
use crate::domain::pool::Pool;
use crate::domain::session::Session;
use crate::domain::task::{NewTask, Task, TaskState};
use crate::domain::transition::startable;
use crate::domain::view::RunView;
use crate::store::runs::Need;

/// The task of a run that was made for one command.
const ONLY_TASK: &str = "main";

/// A command, and what is known of where it belongs.
#[derive(Debug, Clone)]
pub struct RunCommand {
    /// The run; made if it is not there, and its id made up if it is left out.
    pub run: Option<RunId>,
    /// The task; made if the run has none of that name.
    pub task: Option<TaskId>,
    /// What kind of place it works in; a worktree unless its task has one or its run says otherwise.
    pub mode: Option<ExecutionMode>,
    /// The branch of a worktree.
    pub branch: Option<String>,
    /// What a worktree starts from.
    pub base: Option<String>,
    /// Where.
    pub path: Option<PathBuf>,
    /// The pool whose limit it counts against.
    pub pool: Option<PoolName>,
    /// Whether it may be done again.
    pub replay_safety: Option<ReplaySafety>,
    /// How often its work is saved while it runs.
    pub checkpoint_every: Option<Duration>,
    /// Whether its work is saved at all.
    pub saving: Saving,
    /// The argument vector.
    pub command: Vec<OsString>,
}

/// What a refused start leaves to be undone.
struct Prepared {
    address: TaskAddress,
    pool: Option<PoolName>,
}

impl Tether {
    /// Makes what is missing, runs a command to its end, and answers with what a shell would say of it.
    pub fn run_command(&self, asked: &RunCommand) -> Result<Finished, Failure> {
        if asked.command.is_empty() {
            return Err(Failure::usage("no_command", "there is no command to run"));
        }
        let (address, view) = self.task_for_command(asked)?;
        let known = view.as_ref().and_then(|view| view.tasks.get(&address.task));
        if let (Some(view), Some(known)) = (&view, known) {
            self.require_startable(view, known)?;
        }
        self.check_place(view.as_ref(), &address, asked)?;
        let pool = known.map_or(asked.pool.clone(), |known| known.pool.clone().or_else(|| asked.pool.clone()));
        if let Some(pool) = &pool {
            let found = self.ledger().read_single::<Pool>(pool)?;
            found.map_or(Ok(()), |found| found.admits(self.now()))?;
        }
        let supervisor = self.begin_supervising(&address, None)?;
        let prepared = Prepared { address, pool };
        match self.prepare(&supervisor, &prepared, asked) {
            Ok((work, said)) => self.run_prepared(supervisor, &work, asked, said),
            Err(failure) => {
                if let Some(pool) = &prepared.pool {
                    self.leave_slot(pool, &prepared.address, &supervisor.session)?;
                }
                self.withdraw(supervisor, &prepared.address);
                Err(self.explain_lost_race(&prepared.address, failure))
            }
        }
    }

    /// The task that a command is for, and its run as far as it is there.
    fn task_for_command(&self, asked: &RunCommand) -> Result<(TaskAddress, Option<RunView>), Failure> {
        let run = asked.run.clone().unwrap_or_else(|| RunId::made_from(&self.made_up_id("run")));
        let wanted = asked.task.clone().unwrap_or_else(|| TaskId::made_from(ONLY_TASK));
        let view = self.ledger().read_run(&run, &Need::run().with_task(&wanted))?.map(|read| read.view);
        let taken = view.as_ref().is_some_and(|view| view.tasks.contains_key(&wanted));
        let task = match (&asked.task, taken) {
            (None, true) => TaskId::made_from(&self.made_up_id("task")),
            _ => wanted,
        };
        Ok((TaskAddress { run, task }, view))
    }

    /// Refuses a place that cannot be made, as far as that is to be seen, before anything is written down.
    fn check_place(&self, view: Option<&RunView>, address: &TaskAddress, asked: &RunCommand) -> Result<(), Failure> {
        let task = view.and_then(|view| view.tasks.get(&address.task));
        let known = view.zip(task).and_then(|(view, task)| view.environment_of(task));
        match known {
            Some(known) if is_usable(known) => require_same_place(asked, known),
            // What an earlier try left is looked at, and perhaps undone, when it is made again.
            Some(_) => Ok(()),
            None => {
                let add = self.place_asked_for(view, None, asked);
                let id = EnvironmentId::made_from(&format!("env-{}", address.task));
                self.plan_spec(address, &id, &add, None).map(drop)
            }
        }
    }

    /// Refuses a task that cannot start now, in the words that fit its state.
    pub(super) fn require_startable(&self, view: &RunView, task: &Task) -> Result<(), Failure> {
        if task.state == TaskState::Running {
            return Err(self.refuse_running(task)?);
        }
        let address = task.address();
        startable(view, &task.id, self.now()).map_err(|refused| {
            let failure = Failure::from(refused);
            match task.state {
                TaskState::Blocked => failure
                    .hint(format!("it is blocked: {}", task.blocked_reasons.join("; ")))
                    .hint(format!("`git tether resume {address}` lets an interrupted task go on")),
                state if state.is_terminal() => {
                    failure.hint("a task that has ended does not start again; name another --task")
                }
                _ => failure,
            }
        })
    }

    /// Why a task that is recorded as running is not run a second time.
    pub(super) fn refuse_running(&self, task: &Task) -> Result<Failure, Failure> {
        let address = task.address();
        let session = task.session.as_ref().map(|id| self.ledger().read_single::<Session>(id)).transpose()?.flatten();
        let Some(session) = session else {
            return Ok(Failure::held(
                "live_owner",
                format!("task {address} runs, under a session that is not recorded"),
            )
            .hint("`git tether recover` writes down what is true"));
        };
        let seen = self.seen(session);
        let why = seen.liveness.evidence.join("; ");
        let said = format!("task {address} runs under session {} ({}: {why})", seen.session.id, seen.liveness.verdict);
        Ok(match seen.liveness.verdict {
            crate::domain::liveness::Verdict::Dead => Failure::fatal("owner_dead", said)
                .hint(format!("`git tether recover` writes that down; then `git tether resume {address}` goes on")),
            _ => Failure::held("live_owner", said)
                .hint(format!("if you know that it is gone: git tether recover --assume-dead {}", seen.session.id)),
        })
    }

    /// Whoever lost a race for a task is told who has it.
    pub(super) fn explain_lost_race(&self, address: &TaskAddress, failure: Failure) -> Failure {
        if !matches!(failure.code, "illegal_transition" | "environment_exists" | "live_owner") {
            return failure;
        }
        let running = self.show_task(address).ok().filter(|task| task.state == TaskState::Running);
        running.and_then(|task| self.refuse_running(&task).ok()).unwrap_or(failure)
    }

    /// Makes run, task and environment as far as they are missing, and starts the task.
    fn prepare(
        &self,
        supervisor: &Supervisor,
        prepared: &Prepared,
        asked: &RunCommand,
    ) -> Result<(Work, Vec<String>), Failure> {
        let address = &prepared.address;
        if let Some(pool) = &prepared.pool {
            self.take_slot(pool, address, &supervisor.session)?;
        }
        self.make_run_and_task(address, asked)?;
        let view = self.read_run(&address.run, &Need::run().with_task(&address.task))?.view;
        let Some(task) = view.tasks.get(&address.task) else { return Err(self.unknown_task(address)) };
        self.require_startable(&view, task)?;
        let (environment, said) = self.environment_for(&view, task, asked)?;
        if environment.execution_mode == ExecutionMode::Remote {
            return Err(Failure::fatal(
                "remote_environment",
                format!("environment {} of task {address} is remote: no command runs there from here", environment.id),
            ));
        }
        self.start_task(address, Some(&supervisor.session), Patience::Refuse)?;
        let work = Work {
            address: address.clone(),
            command: asked.command.clone(),
            directory: self.directory_of(Some(&environment)),
            environment: Some(environment.id),
            resume_state: None,
            plan: SavingPlan { saving: asked.saving, every: asked.checkpoint_every },
            attendance: Attendance::Attended,
        };
        Ok((work, said))
    }

    /// Where a command works; without an environment where we are.
    pub(super) fn directory_of(&self, environment: Option<&Environment>) -> PathBuf {
        let here = || match self.repository().workdir() {
            Some(workdir) => workdir.to_owned(),
            None => self.repository().surroundings().directory().to_owned(),
        };
        environment.and_then(|environment| environment.spec.path.clone()).unwrap_or_else(here)
    }

    fn make_run_and_task(&self, address: &TaskAddress, asked: &RunCommand) -> Result<(), Failure> {
        match self.start_run(&address.run, StartRun::default()) {
            Err(failure) if failure.code != "run_exists" => return Err(failure),
            _ => {}
        }
        let text: Option<Vec<String>> = asked.command.iter().map(|word| word.to_str().map(ToOwned::to_owned)).collect();
        let new = NewTask {
            // Records hold text. What is no text is said by its own session later, and never trusted to be run again.
            command: text.unwrap_or_default(),
            pool: asked.pool.clone(),
            ..NewTask::named(address.task.clone())
        };
        match self.add_task(&address.run, &new) {
            Err(failure) if failure.code == "task_exists" && asked.task.is_some() => Ok(()),
            added => added.map(|_| ()),
        }
    }

    /// The environment of a task: the one that it has, made again where that is needed, or a new one.
    fn environment_for(
        &self,
        view: &RunView,
        task: &Task,
        asked: &RunCommand,
    ) -> Result<(Environment, Vec<String>), Failure> {
        let known = view.environment_of(task);
        if let Some(known) = known.filter(|known| is_usable(known)) {
            if known.spec.path.is_some() {
                self.require_own_place(&view.run.id, known, &self.worktrees()?)?;
            }
            let said = self.put_environment_back(&view.run.id, known).map_err(Failure::from)?;
            return Ok((known.clone(), said));
        }
        self.add_environment(&task.address(), &self.place_asked_for(Some(view), known, asked))
    }

    /// The environment that a command asks for; `begun` is what an earlier try for the same task did not finish.
    fn place_asked_for(
        &self,
        view: Option<&RunView>,
        begun: Option<&Environment>,
        asked: &RunCommand,
    ) -> AddEnvironment {
        let of_run = view.and_then(|view| view.run.policy.execution_mode);
        let mode = asked.mode.or_else(|| begun.map(|begun| begun.execution_mode)).or(of_run);
        let mode = mode.unwrap_or(ExecutionMode::GitWorktree);
        let path = match (&asked.path, mode) {
            (None, ExecutionMode::SharedWorkspace) => Some(self.directory_of(None)),
            (path, _) => path.clone(),
        };
        AddEnvironment {
            mode,
            id: begun.map(|begun| begun.id.clone()),
            path,
            branch: asked.branch.clone(),
            base: asked.base.clone(),
            cleanup_policy: None,
            remote_url: None,
            write_access: true,
        }
    }

    fn run_prepared(
        &self,
        supervisor: Supervisor,
        work: &Work,
        asked: &RunCommand,
        mut said: Vec<String>,
    ) -> Result<Finished, Failure> {
        self.record_command(&supervisor, work)?;
        said.extend(self.take_first_checkpoint(&work.address, asked.replay_safety));
        let mut finished = match self.execute(&supervisor, work) {
            Ok(ended) => self.conclude(supervisor, work, ended)?,
            Err(NotExecuted::Ours(failure)) => {
                self.withdraw(supervisor, &work.address);
                return Err(failure);
            }
            Err(NotExecuted::ByTheSystem(error)) => {
                let task = self.conclude_unrun(supervisor, work, &error)?;
                let words = crate::app::failure::chain_of(&error);
                Finished { code: error.exit_code(), task, said: vec![words] }
            }
        };
        said.append(&mut finished.said);
        Ok(Finished { said, ..finished })
    }

    /// Records what a started task runs, where its record says something else, and that this machine wrote it down.
    fn record_command(&self, supervisor: &Supervisor, work: &Work) -> Result<(), Failure> {
        let (run, task) = (&work.address.run, &work.address.task);
        let command: Vec<String> = work.command.iter().map(|word| word.to_string_lossy().into_owned()).collect();
        let event = RunEvent::TaskCommandGiven {
            task: task.clone(),
            session: supervisor.session.clone(),
            command: command.clone(),
        };
        self.change_run(run, &Need::run().with_task(task), |_| Ok(event.clone().into()))?;
        if work.command.iter().all(|word| word.to_str().is_some()) {
            self.trust_command(run, task, &command)?;
        }
        Ok(())
    }
}

/// Whether an environment was made and is to be found somewhere.
fn is_usable(environment: &Environment) -> bool {
    let state = environment.state;
    !state.is_gone() && !state.is_unfinished()
}

/// Refuses to run a task in another place than the one that it has.
fn require_same_place(asked: &RunCommand, known: &Environment) -> Result<(), Failure> {
    let id = &known.id;
    let differs = |what: &str, has: String| {
        Failure::fatal("environment_exists", format!("the task works in environment {id} already, {what} {has}"))
            .hint("leave out --env, --path and --branch, or name another --task")
    };
    if asked.mode.is_some_and(|mode| mode != known.execution_mode) {
        return Err(differs("whose mode is", known.execution_mode.to_string()));
    }
    let branch = known.spec.git_worktree.as_ref().and_then(|spec| spec.branch.as_ref());
    match (&asked.branch, branch) {
        (Some(asked), Some(known)) if asked != known => Err(differs("on branch", known.clone())),
        _ => Ok(()),
    }
}
