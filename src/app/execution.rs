//! Runs the command of a task that has been started, and records how it ended.
//!
//! Owns: the session of a supervising process with its live lock, what the command is told in its environment, when work is saved,
//! and what each end means for the task. Must not know: how the task came to be started, nor how anything is shown.
//! Invariants: only the session that a task runs under ends it here; work is saved before the record that speaks of it; the session
//! ends after its task, so that a kill in between leaves a dead session for `recover` and never a live one.

use std::ffi::OsString;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::app::checkpoint::Saving;
use crate::app::failure::{Failure, chain_of};
use crate::app::held_work::{held_task, need_of};
use crate::app::reserve::{LockUse, Reservation};
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::event::{RunEvent, WorkEnd};
use crate::domain::ids::{EnvironmentId, SessionId, TaskAddress, TaskId};
use crate::domain::session::{ProcessFingerprint, Session, SessionStatus};
use crate::domain::task::{Requirement, Task, TaskState};
use crate::git::TIES_TO_A_REPOSITORY;
use crate::store::runs::Proposal;
use crate::world::live::LiveLock;
use crate::world::supervise::{
    Ended, Events, Exit, Leftover, Streams, SuperviseError, Supervised, Terminal, Tie, supervise,
};

/// The variable that names a file with the resume state.
pub const RESUME_STATE_VARIABLE: &str = "TETHER_RESUME_STATE";

/// How many heartbeats there are in a lease.
const BEATS_IN_A_LEASE: u32 = 3;

/// Whether somebody sits in front of the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attendance {
    /// Our standard streams and our terminal are the command's.
    Attended,
    /// It reads nothing, and what it says goes to our standard error.
    Unattended,
}

/// When the work of a task is saved while its command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SavingPlan {
    /// Whether it is saved at all.
    pub saving: Saving,
    /// How often it is saved without any reason.
    pub every: Option<Duration>,
}

/// A session of this process, held by its live lock.
pub(super) struct Supervisor {
    pub(super) session: SessionId,
    lock: LiveLock,
}

/// A started task, and how its command is run.
pub(super) struct Work {
    pub(super) address: TaskAddress,
    pub(super) command: Vec<OsString>,
    pub(super) directory: PathBuf,
    pub(super) environment: Option<EnvironmentId>,
    pub(super) resume_state: Option<PathBuf>,
    pub(super) plan: SavingPlan,
    pub(super) attendance: Attendance,
}

/// How a supervised command ended, and what became of its task.
#[derive(Debug, Clone)]
pub struct Finished {
    /// What a shell would say of the end.
    pub code: i32,
    /// The task as it is now.
    pub task: Task,
    /// What a person should know.
    pub said: Vec<String>,
}

/// What the end of a command means for its task.
enum Meaning {
    Done(WorkEnd),
    Failed(WorkEnd),
    Interrupted,
}

impl Meaning {
    fn of(exit: Exit, interrupted_by: Option<i32>) -> Self {
        let end = WorkEnd {
            exit_code: match exit {
                Exit::Code(code) => Some(code),
                Exit::Signal(_) => None,
            },
            signal: exit.signal_name(),
            summary: None,
        };
        match (exit, interrupted_by) {
            (Exit::Code(0), _) => Self::Done(end),
            (_, Some(_)) => Self::Interrupted,
            (_, None) => Self::Failed(end),
        }
    }

    fn event(&self, task: TaskId) -> RunEvent {
        match self {
            Self::Done(end) => RunEvent::TaskDone { task, end: end.clone() },
            Self::Failed(end) => RunEvent::TaskFailed { task, end: end.clone() },
            Self::Interrupted => RunEvent::ExecutionInterrupted { task },
        }
    }

    /// How the session ends that stood behind it.
    fn session_status(&self) -> SessionStatus {
        match self {
            Self::Done(_) | Self::Failed(_) => SessionStatus::Complete,
            Self::Interrupted => SessionStatus::Abandoned,
        }
    }
}

impl Tether {
    /// Records a session of this process and takes its lock.
    pub(super) fn begin_supervising(&self, address: &TaskAddress, path: Option<&Path>) -> Result<Supervisor, Failure> {
        let asked = Reservation {
            pid: Some(std::process::id()),
            path: path.map(Path::to_owned),
            lock: LockUse::BySupervisor,
            ..Reservation::default()
        };
        let session = self.record_session(&format!("task/{address}"), &asked, &mut Vec::new())?.session.id;
        match self.signs_of_life().hold(session.as_str()) {
            Ok(lock) => Ok(Supervisor { session, lock }),
            Err(error) => {
                self.drop_session(&session);
                Err(Failure::fatal("lock_failed", chain_of(&error)))
            }
        }
    }

    /// Takes a session back whose task was not started, or only just.
    pub(super) fn withdraw(&self, supervisor: Supervisor, address: &TaskAddress) {
        let session = &supervisor.session;
        let read = self.read_run(&address.run, &need_of(address));
        let held = read.is_ok_and(|read| held_task(&read.view, &address.task, session).is_some());
        // What cannot be taken back now belongs to a dead process soon, which a recovery sees.
        if held {
            let _ = self.interrupt_held_task(session, address);
            let _ = self.end_session(session, SessionStatus::Abandoned);
        }
        let _ = supervisor.lock.clear();
        if !held {
            self.drop_session(session);
        }
    }

    fn drop_session(&self, session: &SessionId) {
        let _ = self.ledger().drop_single::<Session>(session, |known| !known.status.is_terminal());
        let _ = self.signs_of_life().clear(session.as_str());
    }

    /// Ends the session of a supervisor that has done its part, and clears its signs of life away.
    pub(super) fn end_supervising(&self, supervisor: Supervisor, status: SessionStatus) -> Result<(), Failure> {
        self.end_session(&supervisor.session, status)?;
        let cleared = supervisor.lock.clear().and_then(|()| self.signs_of_life().clear(supervisor.session.as_str()));
        cleared.map_err(|error| Failure::fatal("lock_failed", chain_of(&error)))
    }

    /// Runs the command of a task that was started under the supervisor's session.
    pub(super) fn execute(&self, supervisor: &Supervisor, work: &Work) -> Result<(Ended, Vec<String>), NotExecuted> {
        let inherited = [supervisor
            .lock
            .share()
            .map_err(|error| NotExecuted::Ours(Failure::fatal("lock_failed", chain_of(&error))))?];
        let beat_every = self.lease_length().map_err(NotExecuted::Ours)? / BEATS_IN_A_LEASE;
        let mut watch = Watch {
            tether: self,
            supervisor,
            work,
            next_beat: Due::every(beat_every),
            next_save: None,
            said: Vec::new(),
        };
        watch.next_save = work.plan.every.filter(|_| work.plan.saving == Saving::Work).map(Due::every);
        let supervised = self.supervised(supervisor, work, &inherited, watch.shortest()).map_err(NotExecuted::Ours)?;
        watch.beat();
        let ended = supervise(&supervised, &mut watch).map_err(NotExecuted::ByTheSystem)?;
        Ok((ended, watch.said))
    }

    fn supervised<'f>(
        &self,
        supervisor: &Supervisor,
        work: &Work,
        inherited: &'f [File],
        every: Duration,
    ) -> Result<Supervised<'f>, Failure> {
        let claim = self.ledger().read_single::<Claim>(&(ClaimKind::Task, work.address.to_string()))?;
        let token = claim.filter(|claim| claim.session.as_ref() == Some(&supervisor.session)).map(|claim| claim.token);
        let mut set: Vec<(OsString, OsString)> = vec![
            ("TETHER_RUN".into(), work.address.run.as_str().into()),
            ("TETHER_TASK".into(), work.address.task.as_str().into()),
            ("TETHER_SESSION".into(), supervisor.session.as_str().into()),
            ("TETHER_GIT_DIR".into(), self.repository().common_dir().into()),
        ];
        // What is not there for this command must not come from a supervisor around us.
        let mut removed: Vec<OsString> = TIES_TO_A_REPOSITORY.iter().map(OsString::from).collect();
        let optional: [(&str, Option<OsString>); 3] = [
            ("TETHER_TOKEN", token.map(|token| token.0.into())),
            ("TETHER_ENVIRONMENT", work.environment.as_ref().map(|id| id.as_str().into())),
            (RESUME_STATE_VARIABLE, work.resume_state.as_ref().map(|path| path.as_os_str().to_owned())),
        ];
        for (name, value) in optional {
            match value {
                Some(value) => set.push((name.into(), value)),
                None => removed.push(name.into()),
            }
        }
        let (terminal, streams) = match work.attendance {
            Attendance::Attended => (Terminal::HandOver, Streams::Ours),
            Attendance::Unattended => (Terminal::LeaveAlone, Streams::Aside),
        };
        let (command, directory) = (work.command.clone(), work.directory.clone());
        Ok(Supervised { command, directory, set, removed, inherited, every: Some(every), terminal, streams })
    }

    /// Records how the command of a task ended, lets go of what it held and ends the session.
    pub(super) fn conclude(
        &self,
        supervisor: Supervisor,
        work: &Work,
        (ended, mut said): (Ended, Vec<String>),
    ) -> Result<Finished, Failure> {
        let meaning = Meaning::of(ended.exit, ended.interrupted_by);
        // Once more, whatever its end: the command may have been gone before its signal was seen.
        if ended.interrupted_by.is_some() && work.plan.saving == Saving::Work {
            said.extend(self.save_if_changed(&supervisor.session, &work.address, "interrupted"));
        }
        let task = self.end_held_task(&supervisor.session, &work.address, &meaning)?;
        if let Some(task) = task.as_ref().filter(|task| task.state == TaskState::Blocked) {
            said.push(words_of_interruption(task));
        }
        said.extend(words_of_leftovers(&work.address, &ended.left_behind));
        let task = match task {
            Some(task) => task,
            None => self.show_task(&work.address)?,
        };
        self.end_supervising(supervisor, meaning.session_status())?;
        Ok(Finished { code: ended.exit.code(), task, said })
    }

    /// Records that the command of a task never ran, or was lost sight of.
    pub(super) fn conclude_unrun(
        &self,
        supervisor: Supervisor,
        work: &Work,
        error: &SuperviseError,
    ) -> Result<Task, Failure> {
        let code = error.exit_code();
        let meaning = match error {
            SuperviseError::NotFound { .. } | SuperviseError::NotExecutable { .. } | SuperviseError::NoCommand => {
                Meaning::Failed(WorkEnd { exit_code: Some(code), signal: None, summary: Some(error.to_string()) })
            }
            _ => Meaning::Interrupted,
        };
        let task = self.end_held_task(&supervisor.session, &work.address, &meaning)?;
        self.end_supervising(supervisor, meaning.session_status())?;
        match task {
            Some(task) => Ok(task),
            None => self.show_task(&work.address),
        }
    }

    /// Interrupts a task that this session runs; one that it does not run any more stays as it is.
    pub(super) fn interrupt_held_task(&self, session: &SessionId, address: &TaskAddress) -> Result<(), Failure> {
        self.end_held_task(session, address, &Meaning::Interrupted).map(|_| ())
    }

    /// Ends a task if it still runs under this session; `None`: it does not, because the command ended it itself, say.
    fn end_held_task(
        &self,
        session: &SessionId,
        address: &TaskAddress,
        meaning: &Meaning,
    ) -> Result<Option<Task>, Failure> {
        let need = [Requirement::Review, Requirement::Test]
            .iter()
            .fold(need_of(address), |need, requirement| need.with_gate(&requirement.gate_id(&address.task)));
        let before = self.read_run(&address.run, &need)?.view;
        let done = self.change_run(&address.run, &need, |view| {
            Ok(match held_task(view, &address.task, session) {
                Some(_) => meaning.event(address.task.clone()).into(),
                None => Proposal::default(),
            })
        })?;
        if done.changes.is_none() {
            return Ok(None);
        }
        self.settle_after(&address.run, &before)?;
        let Some(task) = done.view.tasks.get(&address.task).cloned() else { return Ok(None) };
        if let Some(pool) = &task.pool {
            match meaning {
                Meaning::Done(_) if task.state == TaskState::Completed => self.note_pool_success(pool)?,
                Meaning::Failed(end) => self.note_pool_failure(pool, Some(&words_of_end(address, end)))?,
                Meaning::Done(_) | Meaning::Interrupted => {}
            }
        }
        Ok(Some(task))
    }
}

/// Why a command did not run to an end that was seen.
pub(super) enum NotExecuted {
    /// Something of ours failed first.
    Ours(Failure),
    /// The system did not start it, or lost it.
    ByTheSystem(SuperviseError),
}

fn words_of_end(address: &TaskAddress, end: &WorkEnd) -> String {
    match (&end.summary, &end.signal, end.exit_code) {
        (Some(summary), _, _) => format!("{address}: {summary}"),
        (None, Some(signal), _) => format!("{address}: {signal}"),
        (None, None, Some(code)) => format!("{address}: exit code {code}"),
        (None, None, None) => format!("{address} failed"),
    }
}

fn words_of_interruption(task: &Task) -> String {
    let address = task.address();
    format!("task {address}: {}; `git tether resume {address}` goes on with it", task.blocked_reasons.join("; "))
}

fn words_of_leftovers(address: &TaskAddress, left: &[Leftover]) -> Vec<String> {
    let words = |left: &Leftover| {
        let tie = match left.tie {
            Tie::Lock | Tie::Group => "",
            Tie::Environment => ", in a process group of its own",
        };
        format!("task {address}: process {} ({}) outlives its command{tie}", left.pid, left.name)
    };
    left.iter().map(words).collect()
}

/// Something that is done again and again.
struct Due {
    every: Duration,
    next: Instant,
}

impl Due {
    fn every(every: Duration) -> Self {
        let every = every.max(Duration::from_millis(100));
        Self { every, next: Instant::now() + every }
    }

    fn is_now(&mut self) -> bool {
        let now = Instant::now();
        let due = now >= self.next;
        if due {
            self.next = now + self.every;
        }
        due
    }
}

/// What is done while the command runs.
struct Watch<'w> {
    tether: &'w Tether,
    supervisor: &'w Supervisor,
    work: &'w Work,
    next_beat: Due,
    next_save: Option<Due>,
    said: Vec<String>,
}

impl Watch<'_> {
    fn shortest(&self) -> Duration {
        self.next_save.as_ref().map_or(self.next_beat.every, |save| save.every.min(self.next_beat.every))
    }

    fn beat(&mut self) {
        if let Err(failure) = self.tether.beat(&self.supervisor.session) {
            self.say(failure.message);
        }
    }

    /// Says a thing once, however often it happens.
    fn say(&mut self, words: String) {
        if !self.said.contains(&words) {
            self.said.push(words);
        }
    }
}

impl Events for Watch<'_> {
    fn spawned(&mut self, pid: i32, start_time: Option<u64>) {
        let own = self.tether.processes().fingerprint(std::process::id()).ok();
        let process = ProcessFingerprint {
            host: self.tether.host_id(),
            boot: self.tether.host().boot.clone(),
            pid_namespace: own.and_then(|own| own.pid_namespace),
            pid: u32::try_from(pid).ok(),
            start_time,
        };
        if let Err(failure) = self.tether.note_command_process(&self.supervisor.session, &process) {
            self.say(failure.message);
        }
    }

    fn interrupted(&mut self, _signal: i32) {
        if self.work.plan.saving == Saving::Work {
            let said = self.tether.save_now(&self.supervisor.session, &self.work.address);
            self.said.extend(said);
        }
    }

    fn tick(&mut self) {
        if self.next_beat.is_now() {
            self.beat();
        }
        if self.next_save.as_mut().is_some_and(Due::is_now) {
            let said = self.tether.save_if_changed(&self.supervisor.session, &self.work.address, "saved while it ran");
            for words in said {
                self.say(words);
            }
        }
    }
}
