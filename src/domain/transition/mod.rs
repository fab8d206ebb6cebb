//! `apply(state, event)`: the only way a state changes.
//!
//! Owns which transitions are legal and what follows from each. Must not know where records are kept or what time it is.
//! Invariants: a refused event changes nothing; after every event the run's summary, status and attention agree with its tasks
//! and gates; nothing leaves a terminal state.

mod environment;
mod gate;
mod merged;
mod run;
mod task;

pub use merged::settle_merged;
pub use task::startable;

use std::collections::BTreeSet;

use super::checkpoint::{Checkpoint, ResumeDisposition, Stage};
use super::environment::{Environment, EnvironmentState};
use super::event::RunEvent;
use super::gate::{Gate, GateState};
use super::ids::{EnvironmentId, GateId, TaskId};
use super::run::{FixedBy, Run, RunStatus};
use super::task::{Task, TaskState};
use super::time::Timestamp;
use super::view::{Changes, RunView};

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedTransition {
    /// The run has no such record, or it was not asked for.
    #[error("run {run} has no {what} {id}")]
    Unknown {
        /// The run.
        run: String,
        /// What kind of record.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is such a record already.
    #[error("run {run} has {what} {id} already")]
    Exists {
        /// The run.
        run: String,
        /// What kind of record.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A task does not go from the one state to the other.
    #[error("task {task} cannot go from {from} to {to}")]
    IllegalTask {
        /// The task.
        task: TaskId,
        /// Where it is.
        from: TaskState,
        /// Where it was to go.
        to: TaskState,
    },
    /// A run does not go from the one status to the other.
    #[error("run {run} cannot go from {from} to {to}")]
    IllegalRun {
        /// The run.
        run: String,
        /// Where it is.
        from: RunStatus,
        /// Where it was to go.
        to: RunStatus,
    },
    /// An environment does not go from the one state to the other.
    #[error("environment {environment} cannot go from {from} to {to}")]
    IllegalEnvironment {
        /// The environment.
        environment: EnvironmentId,
        /// Where it is.
        from: EnvironmentState,
        /// Where it was to go.
        to: EnvironmentState,
    },
    /// The run has been ended by hand, or called off.
    #[error("run {run} has ended ({status}) and takes no more tasks")]
    RunEnded {
        /// The run.
        run: String,
        /// How.
        status: RunStatus,
    },
    /// Nothing starts in a paused run.
    #[error("run {run} is paused: nothing starts or resumes in it")]
    RunPaused {
        /// The run.
        run: String,
    },
    /// A task would wait for itself.
    #[error("task {task} would depend on itself: {path}")]
    Cycle {
        /// The task.
        task: TaskId,
        /// The way round.
        path: String,
    },
    /// What it depends on is not done.
    #[error("task {task} waits for {missing}, which is {state}")]
    DependencyOpen {
        /// The task.
        task: TaskId,
        /// What it waits for.
        missing: TaskId,
        /// Where that is.
        state: TaskState,
    },
    /// A gate holds it back.
    #[error("task {task} waits at gate {gate}, which is pending")]
    GatePending {
        /// The task.
        task: TaskId,
        /// The gate.
        gate: GateId,
    },
    /// It is to be tried again later.
    #[error("task {task} is not tried again before {until}")]
    BackingOff {
        /// The task.
        task: TaskId,
        /// When.
        until: Timestamp,
    },
    /// Its checkpoint does not allow it.
    #[error("task {task} cannot go on by itself: {why}")]
    NotResumable {
        /// The task.
        task: TaskId,
        /// Why not.
        why: String,
    },
    /// Somebody decided otherwise.
    #[error("gate {gate} has been decided: {state}")]
    AlreadyDecided {
        /// The gate.
        gate: GateId,
        /// How.
        state: GateState,
    },
    /// It is not that kind of gate.
    #[error("gate {gate} is {kind}: {hint}")]
    WrongDecision {
        /// The gate.
        gate: GateId,
        /// What it is (`a question`).
        kind: &'static str,
        /// What fits it.
        hint: String,
    },
    /// A value is outside of what is allowed.
    #[error("{what} {value} is not within {allowed}")]
    OutOfRange {
        /// Which value.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}

/// Applies an event to a run: the changed records, or why it is refused. `view` holds every record that the event touches.
pub fn apply(view: &RunView, event: &RunEvent, at: Timestamp) -> Result<Changes, RefusedTransition> {
    let mut draft = Draft::new(view, at);
    match event {
        RunEvent::RunFinished { outcome, note } => run::finish(&mut draft, *outcome, note.as_deref())?,
        RunEvent::RunPaused => run::pause(&mut draft)?,
        RunEvent::RunUnpaused => run::unpause(&mut draft),
        RunEvent::RunCancelled => run::cancel(&mut draft)?,
        RunEvent::ActivityReported(report) => run::report_activity(&mut draft, report)?,
        RunEvent::RunRestored { source, from_checkpoint, manual_intervention } => {
            run::restore(&mut draft, *source, from_checkpoint.as_deref(), manual_intervention.as_deref());
        }
        RunEvent::TaskAdded(new) => task::add(&mut draft, new)?,
        RunEvent::TaskStarted { task, session, lease } => task::start(&mut draft, task, session, lease.as_ref())?,
        RunEvent::TaskDone { task, end } => task::finish_work(&mut draft, task, end)?,
        RunEvent::TaskFailed { task, end } => task::fail(&mut draft, task, end)?,
        RunEvent::TaskCancelled { task, end } => task::cancel(&mut draft, task, end)?,
        RunEvent::TaskBlocked { task, reason } => task::block(&mut draft, task, reason)?,
        RunEvent::TaskUnblocked { task, reason } => task::unblock(&mut draft, task, reason.as_deref())?,
        RunEvent::ExecutionInterrupted { task } => task::interrupt(&mut draft, task)?,
        RunEvent::ResumeScheduled { task } => task::schedule_resume(&mut draft, task)?,
        RunEvent::TaskRetryChanged { task, retry } => draft.task(task)?.retry = *retry,
        RunEvent::BlockAcknowledged { task } => task::acknowledge(&mut draft, task)?,
        RunEvent::EnvironmentRequested { task, environment } => {
            environment::request(&mut draft, task.as_ref(), environment)?;
        }
        RunEvent::EnvironmentMoved { environment, state, spec, failure, cleanup } => {
            let moved = environment::Moved { state: *state, spec: spec.as_deref(), failure, cleanup };
            environment::move_to(&mut draft, environment, &moved)?;
        }
        RunEvent::EnvironmentVerified { environment, finding } => {
            environment::verified(&mut draft, environment, finding)?;
        }
        RunEvent::EnvironmentLeased { environment, lease } => environment::lease(&mut draft, environment, lease)?,
        RunEvent::LeaseReleased { environment, reason } => environment::release(&mut draft, environment, reason)?,
        RunEvent::EnvironmentAdopted { environment, spec } => environment::adopt(&mut draft, environment, spec)?,
        RunEvent::CheckpointTaken(new) => task::take_checkpoint(&mut draft, new)?,
        RunEvent::GateOpened(new) => gate::open(&mut draft, new)?,
        RunEvent::GateDecided { gate, decision } => gate::decide(&mut draft, gate, decision)?,
        RunEvent::GateExpired { gate } => gate::expire(&mut draft, gate)?,
    }
    Ok(draft.settle())
}

/// The records of a view as they are being changed.
struct Draft<'a> {
    view: &'a RunView,
    changes: Changes,
    at: Timestamp,
}

impl<'a> Draft<'a> {
    fn new(view: &'a RunView, at: Timestamp) -> Self {
        Self { view, changes: Changes::none(view.run.clone()), at }
    }

    fn unknown(&self, what: &'static str, id: &impl ToString) -> RefusedTransition {
        RefusedTransition::Unknown { run: self.view.run.id.to_string(), what, id: id.to_string() }
    }

    fn exists(&self, what: &'static str, id: &impl ToString) -> RefusedTransition {
        RefusedTransition::Exists { run: self.view.run.id.to_string(), what, id: id.to_string() }
    }

    fn run(&mut self) -> &mut Run {
        &mut self.changes.run
    }

    fn read_task(&self, id: &TaskId) -> Result<&Task, RefusedTransition> {
        self.changes.tasks.get(id).or_else(|| self.view.tasks.get(id)).ok_or_else(|| self.unknown("task", id))
    }

    fn task(&mut self, id: &TaskId) -> Result<&mut Task, RefusedTransition> {
        let mut next = self.read_task(id)?.clone();
        next.updated_at = self.at;
        Ok(self.changes.tasks.entry(id.clone()).insert_entry(next).into_mut())
    }

    fn read_environment(&self, id: &EnvironmentId) -> Result<&Environment, RefusedTransition> {
        let changed = self.changes.environments.get(id);
        changed.or_else(|| self.view.environments.get(id)).ok_or_else(|| self.unknown("environment", id))
    }

    fn environment(&mut self, id: &EnvironmentId) -> Result<&mut Environment, RefusedTransition> {
        let mut next = self.read_environment(id)?.clone();
        next.updated_at = self.at;
        Ok(self.changes.environments.entry(id.clone()).insert_entry(next).into_mut())
    }

    fn checkpoint(&mut self, task: &TaskId) -> Option<&mut Checkpoint> {
        let mut next = self.read_checkpoint(task)?.clone();
        next.updated_at = self.at;
        Some(self.changes.checkpoints.entry(task.clone()).insert_entry(next).into_mut())
    }

    fn read_checkpoint(&self, task: &TaskId) -> Option<&Checkpoint> {
        self.changes.checkpoints.get(task).or_else(|| self.view.checkpoints.get(task))
    }

    fn read_gate(&self, id: &GateId) -> Result<&Gate, RefusedTransition> {
        self.changes.gates.get(id).or_else(|| self.view.gates.get(id)).ok_or_else(|| self.unknown("gate", id))
    }

    fn gate(&mut self, id: &GateId) -> Result<&mut Gate, RefusedTransition> {
        let next = self.read_gate(id)?.clone();
        Ok(self.changes.gates.entry(id.clone()).insert_entry(next).into_mut())
    }

    fn gate_ids(&self) -> BTreeSet<GateId> {
        self.view.gates.keys().chain(self.changes.gates.keys()).cloned().collect()
    }

    fn task_ids(&self) -> BTreeSet<TaskId> {
        self.view.tasks.keys().chain(self.changes.tasks.keys()).cloned().collect()
    }

    /// Sets the state of a task, and with it what a state implies: its end, its checkpoint's stage, its environment's lease.
    fn set_task_state(&mut self, id: &TaskId, state: TaskState) -> Result<(), RefusedTransition> {
        let at = self.at;
        let task = self.task(id)?;
        let before = task.state;
        task.state = state;
        task.unreadable_state = None;
        task.completed_at = state.is_terminal().then_some(at);
        if state != TaskState::Blocked {
            task.blocked_reasons.clear();
        }
        let environment = task.environment.clone();
        if before == TaskState::Running && state != TaskState::Running {
            if let Some(environment) = environment.filter(|environment| self.read_environment(environment).is_ok()) {
                environment::release(self, &environment, &format!("task {id} is {state}"))?;
            }
        }
        if state.is_terminal() {
            let own = |pointer: &super::ids::TaskPointer| pointer.run.is_none() && pointer.task == *id;
            self.run().waiting_on.retain(|pointer| !own(pointer));
        }
        self.set_checkpoint_stage(id, Stage::of(state));
        Ok(())
    }

    fn set_checkpoint_stage(&mut self, task: &TaskId, stage: Stage) {
        let ended = matches!(stage, Stage::Completed | Stage::Failed | Stage::Cancelled);
        if self.read_checkpoint(task).is_none_or(|checkpoint| checkpoint.stage == stage) {
            return;
        }
        if let Some(checkpoint) = self.checkpoint(task) {
            checkpoint.stage = stage;
            if ended {
                checkpoint.resume_disposition = ResumeDisposition::NotApplicable;
            }
            checkpoint.available_actions = checkpoint.derived_actions();
        }
    }

    /// Makes the run agree with its tasks and gates.
    fn settle(mut self) -> Changes {
        for (id, task) in &self.changes.tasks {
            let before = self.view.tasks.get(id).map(|task| task.state);
            self.changes.run.task_summary.move_task(before, task.state);
        }
        for (id, gate) in &self.changes.gates {
            let pending = &mut self.changes.run.pending_gates;
            pending.retain(|known| known != id);
            if gate.is_pending() {
                pending.push(id.clone());
            }
        }
        let at = self.at;
        let run = &mut self.changes.run;
        if run.status != RunStatus::Paused && run.fixed_by.is_none() {
            run.status = run.derived_status();
        }
        run.completed_at = match (run.status.is_terminal(), run.completed_at) {
            (true, ended) => ended.or(Some(at)),
            (false, _) => None,
        };
        run.requires_attention = run.needs_attention();
        run.updated_at = at;
        self.changes
    }
}

impl Run {
    fn is_fixed(&self) -> bool {
        self.fixed_by.is_some()
    }

    fn fix(&mut self, status: RunStatus, by: FixedBy) {
        self.status = status;
        self.fixed_by = Some(by);
    }
}

#[cfg(test)]
mod tests;
