//! A run while it is being changed: what every rule reads and writes, and what follows from any change.
//!
//! Invariant: when it is settled, summary, status and attention agree with the tasks and gates.

use std::collections::BTreeSet;

use super::refused::RefusedTransition;
use crate::domain::checkpoint::{Checkpoint, ResumeDisposition, Stage};
use crate::domain::environment::{Environment, EnvironmentState};
use crate::domain::gate::Gate;
use crate::domain::ids::{EnvironmentId, GateId, SessionId, TaskId};
use crate::domain::run::{FixedBy, Run, RunStatus};
use crate::domain::task::{Task, TaskState};
use crate::domain::time::Timestamp;
use crate::domain::view::{Changes, RunView};

/// The records of a view as they are being changed.
pub(super) struct Draft<'a> {
    pub(super) view: &'a RunView,
    pub(super) changes: Changes,
    pub(super) at: Timestamp,
}

impl<'a> Draft<'a> {
    pub(super) fn new(view: &'a RunView, at: Timestamp) -> Self {
        Self { view, changes: Changes::none(view.run.clone()), at }
    }

    pub(super) fn unknown(&self, what: &'static str, id: &impl ToString) -> RefusedTransition {
        RefusedTransition::Unknown { run: self.view.run.id.to_string(), what, id: id.to_string() }
    }

    pub(super) fn exists(&self, what: &'static str, id: &impl ToString) -> RefusedTransition {
        RefusedTransition::Exists { run: self.view.run.id.to_string(), what, id: id.to_string() }
    }

    pub(super) fn run(&mut self) -> &mut Run {
        &mut self.changes.run
    }

    pub(super) fn read_task(&self, id: &TaskId) -> Result<&Task, RefusedTransition> {
        self.changes.tasks.get(id).or_else(|| self.view.tasks.get(id)).ok_or_else(|| self.unknown("task", id))
    }

    pub(super) fn task(&mut self, id: &TaskId) -> Result<&mut Task, RefusedTransition> {
        let mut next = self.read_task(id)?.clone();
        next.updated_at = self.at;
        Ok(self.changes.tasks.entry(id.clone()).insert_entry(next).into_mut())
    }

    pub(super) fn read_environment(&self, id: &EnvironmentId) -> Result<&Environment, RefusedTransition> {
        let changed = self.changes.environments.get(id);
        changed.or_else(|| self.view.environments.get(id)).ok_or_else(|| self.unknown("environment", id))
    }

    pub(super) fn environment(&mut self, id: &EnvironmentId) -> Result<&mut Environment, RefusedTransition> {
        let mut next = self.read_environment(id)?.clone();
        next.updated_at = self.at;
        Ok(self.changes.environments.entry(id.clone()).insert_entry(next).into_mut())
    }

    pub(super) fn checkpoint(&mut self, task: &TaskId) -> Option<&mut Checkpoint> {
        let mut next = self.read_checkpoint(task)?.clone();
        next.updated_at = self.at;
        Some(self.changes.checkpoints.entry(task.clone()).insert_entry(next).into_mut())
    }

    pub(super) fn read_checkpoint(&self, task: &TaskId) -> Option<&Checkpoint> {
        self.changes.checkpoints.get(task).or_else(|| self.view.checkpoints.get(task))
    }

    pub(super) fn read_gate(&self, id: &GateId) -> Result<&Gate, RefusedTransition> {
        self.changes.gates.get(id).or_else(|| self.view.gates.get(id)).ok_or_else(|| self.unknown("gate", id))
    }

    pub(super) fn gate(&mut self, id: &GateId) -> Result<&mut Gate, RefusedTransition> {
        let next = self.read_gate(id)?.clone();
        Ok(self.changes.gates.entry(id.clone()).insert_entry(next).into_mut())
    }

    pub(super) fn gate_ids(&self) -> BTreeSet<GateId> {
        self.view.gates.keys().chain(self.changes.gates.keys()).cloned().collect()
    }

    pub(super) fn task_ids(&self) -> BTreeSet<TaskId> {
        self.view.tasks.keys().chain(self.changes.tasks.keys()).cloned().collect()
    }

    /// Sets the state of a task, and with it what a state implies: its end, its checkpoint's stage, its environment's lease.
    pub(super) fn set_task_state(&mut self, id: &TaskId, state: TaskState) -> Result<(), RefusedTransition> {
        let at = self.at;
        let task = self.task(id)?;
        let before = task.state;
        task.state = state;
        task.unreadable_state = None;
        task.state_changed_at = Some(at);
        task.completed_at = state.is_terminal().then_some(at);
        if state != TaskState::Blocked {
            task.blocked_reasons.clear();
        }
        let (environment, session) = (task.environment.clone(), task.session.clone());
        if before == TaskState::Running
            && state != TaskState::Running
            && let Some(environment) = environment.filter(|it| self.is_leased_for(it, id, session.as_ref()))
        {
            self.release_lease(&environment, &format!("task {id} is {state}"))?;
        }
        if state.is_terminal() {
            let run = self.view.run.id.clone();
            let own = |pointer: &crate::domain::ids::TaskPointer| {
                pointer.run.as_ref().is_none_or(|named| *named == run) && pointer.task == *id
            };
            self.run().waiting_on.retain(|pointer| !own(pointer));
        }
        self.set_checkpoint_stage(id, Stage::of(state));
        Ok(())
    }

    /// Takes a lease back, with the reason; the environment is ready again unless its life is over. One that is being put back or
    /// taken away stays so: its place is not whole, whoever held it, and only whoever finishes that may say otherwise.
    pub(super) fn release_lease(&mut self, id: &EnvironmentId, reason: &str) -> Result<(), RefusedTransition> {
        if self.read_environment(id)?.held_lease().is_none() {
            return Ok(());
        }
        let at = self.at;
        let environment = self.environment(id)?;
        if let Some(lease) = &mut environment.lease {
            lease.released_at = Some(at);
            lease.release_reason = Some(reason.to_owned());
        }
        let stays = environment.state.is_gone()
            || matches!(
                environment.state,
                EnvironmentState::Failed | EnvironmentState::Recovering | EnvironmentState::Cleaning
            );
        if !stays {
            environment.state = EnvironmentState::Ready;
        }
        Ok(())
    }

    /// Whether the lease on an environment is that of a task and of the session that ran it: what another session has leased for itself is
    /// its own to give back.
    fn is_leased_for(&self, environment: &EnvironmentId, task: &TaskId, session: Option<&SessionId>) -> bool {
        let lease = self.read_environment(environment).ok().and_then(Environment::held_lease);
        lease.is_some_and(|lease| {
            let names_no_other = lease.task.as_ref().is_none_or(|named| named == task);
            names_no_other && session.is_none_or(|session| lease.session == *session)
        })
    }

    pub(super) fn set_checkpoint_stage(&mut self, task: &TaskId, stage: Stage) {
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
    pub(super) fn settle(mut self) -> Changes {
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
    pub(super) fn is_fixed(&self) -> bool {
        self.fixed_by.is_some()
    }

    pub(super) fn fix(&mut self, status: RunStatus, by: FixedBy) {
        self.status = status;
        self.fixed_by = Some(by);
    }
}
