//! (a run, one of its tasks, what somebody wants) → how the task goes on, or why it does not.
//!
//! Invariant: nothing runs twice unless its checkpoint or the person who asks says that it may.

use crate::domain::checkpoint::{Checkpoint, ResumeDisposition};
use crate::domain::gate::GateKind;
use crate::domain::ids::TaskId;
use crate::domain::run::RunStatus;
use crate::domain::task::{INTERRUPTED, Task, TaskState};
use crate::domain::transition::RefusedTransition;
use crate::domain::view::RunView;

/// What somebody wants who resumes a task.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wanted {
    /// That it goes on as its checkpoint allows.
    AsAllowed,
    /// That it begins anew, knowing what that may mean.
    FromScratch,
}

/// Where a task goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoOn {
    /// At its checkpoint.
    FromCheckpoint,
    /// At its beginning.
    FromScratch,
}

/// Decides whether and where a task goes on. Whether its executor lives is for the caller to know.
pub fn decide(view: &RunView, id: &TaskId, wanted: Wanted) -> Result<GoOn, RefusedTransition> {
    let run = view.run.id.to_string();
    let Some(task) = view.tasks.get(id) else {
        return Err(RefusedTransition::Unknown { run, what: "task", id: id.to_string() });
    };
    let can_start = matches!(task.state, TaskState::Queued | TaskState::Blocked | TaskState::PendingApproval);
    if !can_start {
        return Err(RefusedTransition::IllegalTask { task: id.clone(), from: task.state, to: TaskState::Running });
    }
    if view.run.status == RunStatus::Paused {
        return Err(RefusedTransition::RunPaused { run });
    }
    if view.run.fixed_by.is_some() {
        return Err(RefusedTransition::RunEnded { run, status: view.run.status });
    }
    let holds = |gate: &&&crate::domain::gate::Gate| gate.kind == GateKind::Approval && gate.task.as_ref() == Some(id);
    if let Some(gate) = view.pending_gates().iter().find(holds) {
        return Err(RefusedTransition::GatePending { task: id.clone(), gate: gate.id.clone() });
    }
    let checkpoint = view.checkpoints.get(id);
    if task.state == TaskState::Blocked {
        require_only_lifted_reasons(view, task)?;
        if task.is_interrupted() && wanted == Wanted::AsAllowed {
            require_allowed(id, checkpoint)?;
        }
    }
    let resumes = wanted == Wanted::AsAllowed && checkpoint.is_some_and(Checkpoint::may_resume);
    Ok(if resumes { GoOn::FromCheckpoint } else { GoOn::FromScratch })
}

/// Refuses a task that is blocked for a reason that neither resuming it nor putting its environment back takes away.
fn require_only_lifted_reasons(view: &RunView, task: &Task) -> Result<(), RefusedTransition> {
    let prefix = view.environment_of(task).map(crate::domain::environment::Environment::blocking_prefix);
    let lifted = |reason: &&String| {
        let rest = prefix.as_ref().and_then(|prefix| reason.strip_prefix(prefix.as_str()));
        reason.starts_with(INTERRUPTED) || rest.is_some_and(|rest| rest.starts_with([' ', ':']))
    };
    match task.blocked_reasons.iter().find(|reason| !lifted(reason)) {
        None => Ok(()),
        Some(reason) => Err(refused(&task.id, format!("it is blocked for another reason: {reason}"))),
    }
}

fn require_allowed(task: &TaskId, checkpoint: Option<&Checkpoint>) -> Result<(), RefusedTransition> {
    let Some(checkpoint) = checkpoint else {
        return Err(refused(task, "operator action required: it has no checkpoint".to_owned()));
    };
    if checkpoint.may_resume() {
        return Ok(());
    }
    let label = checkpoint.safe_boundary_label.as_deref().unwrap_or("start");
    Err(refused(
        task,
        match checkpoint.resume_disposition {
            _ if checkpoint.result_published => format!("its result is published already (at '{label}')"),
            ResumeDisposition::RestartFromBoundary => {
                format!("its checkpoint allows a restart from boundary '{label}', not a resume")
            }
            ResumeDisposition::ResumeFromCheckpoint => {
                format!("operator action required: at '{label}' neither resume state nor work was saved")
            }
            ResumeDisposition::OperatorInterventionRequired | ResumeDisposition::NotApplicable => {
                format!("operator action required: stopped at '{label}'")
            }
        },
    ))
}

fn refused(task: &TaskId, why: String) -> RefusedTransition {
    RefusedTransition::NotResumable { task: task.clone(), why }
}
