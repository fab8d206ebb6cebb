//! What a running task holds: its session, its claim, its place in a pool, the lease on its environment; and letting go of it all.

use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind, NewClaim};
use crate::domain::environment::{Environment, Lease};
use crate::domain::event::RunEvent;
use crate::domain::ids::{RunId, SessionId, TaskAddress, TaskId, TaskPointer, Token};
use crate::domain::liveness::Verdict;
use crate::domain::run::Run;
use crate::domain::session::{Session, SessionStatus};
use crate::domain::task::{Task, TaskState};
use crate::domain::time::Timestamp;
use crate::domain::view::RunView;
use crate::git::settings::LEASE;
use crate::store::runs::Need;
use crate::store::singles::{Change, encoded_key};
use crate::world::processes::{Fingerprint, Observed};

/// Whether a session was made up for the start of this task and stands for nothing else.
fn is_made_for(session: &Session, address: &TaskAddress) -> bool {
    session.thread == thread_of_task(address) && session.process.pid.is_none() && !session.holds_lock
}

/// The thread of a session that is made up for the start of a task.
pub(super) fn thread_of_task(address: &TaskAddress) -> String {
    format!("task/{address}")
}

impl Tether {
    /// The session that is to start a task: the one that is named, else the one of the surroundings; it has to be active.
    pub(super) fn named_session(&self, named: Option<&SessionId>) -> Result<Option<SessionId>, Failure> {
        let of_surroundings = || {
            let value = self.repository().surroundings().variable("TETHER_SESSION")?;
            Some(value.to_string_lossy().into_owned()).filter(|value| !value.is_empty())
        };
        let named = match (named, of_surroundings()) {
            (Some(named), _) => Some(named.clone()),
            (None, Some(text)) => Some(SessionId::new(text)?),
            (None, None) => None,
        };
        if let Some(named) = &named {
            self.require_session(named)?.require_active()?;
        }
        Ok(named)
    }

    /// Takes back a session that was made up for a start that was refused; one that the task runs with stays.
    pub(super) fn drop_session_of_refused_start(
        &self,
        address: &TaskAddress,
        session: &SessionId,
    ) -> Result<(), Failure> {
        let view = self.read_run(&address.run, &Need::run().with_task(&address.task))?.view;
        let runs = view
            .tasks
            .get(&address.task)
            .is_some_and(|task| task.state == TaskState::Running && task.session.as_ref() == Some(session));
        if !runs {
            self.ledger().drop_single::<Session>(session, |_| true)?;
        }
        Ok(())
    }

    /// Ends the session that was made up for a task once the task does not run with it any more: nobody else would.
    fn end_made_session(&self, address: &TaskAddress, session: &SessionId, state: TaskState) -> Result<(), Failure> {
        let status = match state {
            TaskState::Cancelled | TaskState::Blocked => SessionStatus::Abandoned,
            _ => SessionStatus::Complete,
        };
        let now = self.now();
        self.ledger().change_single::<Session, std::convert::Infallible>(session, now, |found| {
            let made = found.filter(|found| is_made_for(found, address) && found.status == SessionStatus::Active);
            Ok(made.map(|made| Change {
                record: made.released(status, now),
                what: format!("{} → {status}", made.status),
                event: "session_released",
            }))
        })?;
        Ok(())
    }

    /// A session that exists.
    pub fn require_session(&self, id: &SessionId) -> Result<Session, Failure> {
        if let Some(session) = self.ledger().read_single::<Session>(id)? {
            Ok(session)
        } else {
            let known = self.ledger().list_singles::<Session>()?.0;
            Err(Failure::unknown("session", id.as_str(), known.iter().map(|session| session.id.as_str())))
        }
    }

    /// The lease that a task's start takes on its environment, fenced by `token`; refused while a live session has it.
    pub(super) fn lease_for_task(
        &self,
        view: &RunView,
        task: &TaskId,
        session: &SessionId,
        token: &Token,
    ) -> Result<Option<Lease>, Failure> {
        let Some(environment) = view.tasks.get(task).and_then(|task| view.environment_of(task)) else {
            return Ok(None);
        };
        if environment.state.is_gone() || environment.state.is_half_made() {
            return Ok(None);
        }
        if let Some(held) = environment.held_lease() {
            if held.session == *session {
                let token = held.token.clone().or_else(|| Some(token.clone()));
                return Ok(Some(Lease { task: Some(task.clone()), token, ..held.clone() }));
            }
            self.require_dead_holder(&held.session, &format!("environment {}/{}", view.run.id, environment.id))?;
        }
        Ok(Some(Lease {
            session: session.clone(),
            task: Some(task.clone()),
            token: Some(token.clone()),
            acquired_at: self.now(),
            expires_at: Some(self.now().plus(self.lease_length()?)),
            released_at: None,
            release_reason: None,
        }))
    }

    /// How long a lease holds without a sign of life, by default.
    pub fn lease_length(&self) -> Result<Duration, Failure> {
        Ok(self.repository().settings().read(&LEASE)?)
    }

    /// Refuses unless the holder of `what` is proven to be gone.
    pub(super) fn require_dead_holder(&self, holder: &SessionId, what: &str) -> Result<(), Failure> {
        let Some(session) = self.ledger().read_single::<Session>(holder)? else { return Ok(()) };
        let liveness = self.liveness(&session);
        if session.status.is_terminal() || liveness.verdict == Verdict::Dead {
            return Ok(());
        }
        let why = liveness.evidence.join("; ");
        let mut failure =
            Failure::held("live_owner", format!("{what} is held by session {holder} ({}: {why})", liveness.verdict));
        if let Some(falls_at) = liveness.falls_at {
            failure = failure.hint(format!("without a sign of life it falls at {falls_at}"));
        }
        Err(failure.hint(format!("if you know that it is gone: git tether session reap --assume-dead {holder}")))
    }

    /// Takes a claim for a session. Who may take it has been decided: by the run's own ref, or by the caller.
    pub(super) fn take_claim(
        &self,
        kind: ClaimKind,
        key: &str,
        session: &SessionId,
        length: Duration,
    ) -> Result<Claim, Failure> {
        let now = self.now();
        let taken =
            self.ledger().change_single::<Claim, std::convert::Infallible>(&(kind, key.to_owned()), now, |before| {
                let record = self.claim_after(before, kind, key, session, now.plus(length));
                Ok(Some(Change { record, what: format!("taken by {session}"), event: "claim_taken" }))
            })?;
        taken.ok_or_else(|| Failure::fatal("claim_lost", format!("the claim {kind} {key} was not kept")))
    }

    /// A claim once a session has taken it, given what stood there before; its own stays as it is.
    fn claim_after(
        &self,
        before: Option<&Claim>,
        kind: ClaimKind,
        key: &str,
        session: &SessionId,
        expires_at: Timestamp,
    ) -> Claim {
        if let Some(mine) = before.filter(|claim| claim.is_held() && claim.session.as_ref() == Some(session)) {
            return mine.clone();
        }
        let new = NewClaim {
            kind,
            key: key.to_owned(),
            encoded_key: encoded_key(key),
            session: session.clone(),
            host: self.host_id(),
            expires_at: Some(expires_at),
            remote_lease: false,
        };
        Claim::taken(before, new, self.now())
    }

    /// Gives a claim back if this session still has it.
    pub(super) fn give_claim_back(
        &self,
        kind: ClaimKind,
        key: &str,
        holds: impl Fn(&Claim) -> bool,
    ) -> Result<(), Failure> {
        let now = self.now();
        self.ledger().change_single::<Claim, std::convert::Infallible>(&(kind, key.to_owned()), now, |before| {
            let mine = before.filter(|claim| claim.is_held() && holds(claim));
            Ok(mine.map(|claim| Change {
                record: claim.given_back(now),
                what: "given back".to_owned(),
                event: "claim_given_back",
            }))
        })?;
        Ok(())
    }

    /// The claim that a running task is; its token fences the executor.
    pub(super) fn claim_task(&self, address: &TaskAddress, session: &SessionId) -> Result<Token, Failure> {
        let length = self.lease_length()?;
        Ok(self.take_claim(ClaimKind::Task, &address.to_string(), session, length)?.token)
    }

    /// The token that the claim on a task will have for a session, if nobody else takes it before.
    pub(super) fn expected_task_token(&self, address: &TaskAddress, session: &SessionId) -> Result<Token, Failure> {
        let key = address.to_string();
        let before = self.ledger().read_single::<Claim>(&(ClaimKind::Task, key.clone()))?;
        Ok(self.claim_after(before.as_ref(), ClaimKind::Task, &key, session, self.now()).token)
    }

    /// Lets the lease that a started task took say the token that it did get, where somebody had been at the claim in between.
    pub(super) fn correct_lease_token(
        &self,
        view: &RunView,
        address: &TaskAddress,
        expected: &Token,
        token: &Token,
    ) -> Result<(), Failure> {
        let Some(environment) = view.tasks.get(&address.task).and_then(|task| view.environment_of(task)) else {
            return Ok(());
        };
        let is_wrong = |lease: &&Lease| {
            lease.token.as_ref() == Some(expected) && lease.task.as_ref() == Some(&address.task) && token != expected
        };
        let Some(lease) = environment.held_lease().filter(is_wrong).cloned() else { return Ok(()) };
        let need = Need::run().with_environment(&environment.id);
        self.change_run(&address.run, &need, |now| {
            let same = now.environments.get(&environment.id).and_then(Environment::held_lease) == Some(&lease);
            let right = Lease { token: Some(token.clone()), ..lease.clone() };
            let event = RunEvent::EnvironmentLeased { environment: environment.id.clone(), lease: right };
            Ok(if same { vec![event] } else { Vec::new() }.into())
        })?;
        Ok(())
    }

    /// Lets go of what tasks held that ran in `before` and do not run any more, tells the parent run of tasks that have ended, and
    /// writes the report of a run that has ended.
    pub(super) fn settle_after(&self, run: &RunId, before: &RunView) -> Result<(), Failure> {
        let need = before.tasks.keys().fold(Need::run(), Need::with_task);
        let Some(now) = self.ledger().read_run(run, &need)?.map(|read| read.view) else { return Ok(()) };
        let state_of = |task: &TaskId| now.tasks.get(task).map(|task| task.state);
        let stopped = |task: &&Task| {
            let found = now.tasks.get(&task.id);
            found.is_some_and(|found| found.state != TaskState::Running || found.session != task.session)
        };
        for task in before.tasks.values().filter(|task| task.state == TaskState::Running).filter(stopped) {
            self.let_go(task, state_of(&task.id).unwrap_or(task.state))?;
            if let Some(environment) = now.environment_of(task).filter(|known| known.held_lease().is_none()) {
                self.give_place_back(run, environment)?;
            }
        }
        let ended = |task: &&Task| !task.state.is_terminal() && state_of(&task.id).is_some_and(TaskState::is_terminal);
        self.tell_parent(&now.run, before.tasks.values().filter(ended))?;
        if now.run.status.is_terminal() {
            self.ensure_report(run)?;
        }
        Ok(())
    }

    /// Lets go of what a task held while it ran as `task` says; it is in `state` now.
    fn let_go(&self, task: &Task, state: TaskState) -> Result<(), Failure> {
        let address = task.address();
        let session = task.session.as_ref();
        self.give_claim_back(ClaimKind::Task, &address.to_string(), |claim| claim.session.as_ref() == session)?;
        if let Some(pool) = &task.pool {
            self.give_slot_back(pool, &address, session)?;
        }
        session.map_or(Ok(()), |session| self.end_made_session(&address, session, state))
    }

    /// Takes tasks that have ended out of what the parent run waits on.
    fn tell_parent<'t>(&self, run: &Run, ended: impl Iterator<Item = &'t Task>) -> Result<(), Failure> {
        let Some(parent) = &run.parent else { return Ok(()) };
        let pointer = |task: &Task| TaskPointer { run: Some(run.id.clone()), task: task.id.clone() };
        let tasks: Vec<_> = ended.map(pointer).collect();
        // A parent that cannot be read is named by `verify`; its child goes on.
        let Ok(Some(read)) = self.ledger().read_run(&parent.run, &Need::run()) else { return Ok(()) };
        if read.view.run.waiting_on.iter().any(|waited| tasks.contains(waited)) {
            self.change_run(&parent.run, &Need::run(), |_| Ok(RunEvent::WaitsEnded { tasks: tasks.clone() }.into()))?;
        }
        Ok(())
    }

    /// Asks the process of a session to end, if it is one of this machine that still is what was recorded.
    pub(super) fn end_command_of(&self, session: &SessionId) -> Result<Option<String>, Failure> {
        let Some(recorded) = self.ledger().read_single::<Session>(session)? else { return Ok(None) };
        let target = match self.command_process(session) {
            Some(command) => command,
            None if recorded.status.is_terminal() => return Ok(None),
            None => recorded.process,
        };
        let (Some(pid), Some(start_time)) = (target.pid, target.start_time) else { return Ok(None) };
        let fingerprint = Fingerprint {
            host: target.host.0,
            boot: target.boot,
            pid_namespace: target.pid_namespace,
            pid,
            start_time,
        };
        if !matches!(self.processes().observe(&fingerprint), Observed::Running | Observed::Stopped) {
            return Ok(None);
        }
        let Some(process) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return Ok(None) };
        let ended = rustix::process::kill_process(process, rustix::process::Signal::TERM);
        Ok(Some(match ended {
            Ok(()) => format!("sent SIGTERM to process {pid}"),
            Err(error) => format!("could not end process {pid}: {error}"),
        }))
    }
}
