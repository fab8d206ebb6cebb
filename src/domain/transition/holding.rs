//! How gates hold tasks back: opened, expired, and which one holds a task now.

use super::draft::Draft;
use super::refused::RefusedTransition;
use crate::domain::gate::{Gate, GateKind, GateState, NewGate, RECOVERY_REQUIRED};
use crate::domain::ids::{GateId, TaskId};
use crate::domain::run::ActivityState;
use crate::domain::task::TaskState;

pub(super) fn open(draft: &mut Draft<'_>, new: &NewGate) -> Result<(), RefusedTransition> {
    if draft.run().status.is_terminal() {
        let run = draft.run();
        return Err(RefusedTransition::RunEnded { run: run.id.to_string(), status: run.status });
    }
    open_for_task(draft, new)
}

/// Opens a gate whatever the run's status was: a new task brings a run that had ended by itself back.
pub(super) fn open_for_task(draft: &mut Draft<'_>, new: &NewGate) -> Result<(), RefusedTransition> {
    if draft.read_gate(&new.id).is_ok() {
        return Err(draft.exists("gate", &new.id));
    }
    let (at, run) = (draft.at, draft.run().id.clone());
    if let Some(task) = &new.task {
        let known = draft.task(task)?;
        known.gates.push(new.id.clone());
        let waits = new.kind == GateKind::Approval
            && new.key.as_deref() != Some(RECOVERY_REQUIRED)
            && known.state == TaskState::Queued;
        if waits {
            draft.set_task_state(task, TaskState::PendingApproval)?;
        }
    }
    if new.kind == GateKind::Question {
        set_activity(draft, ActivityState::WaitingForUser);
    }
    draft.changes.gates.insert(new.id.clone(), Gate::open(new.clone(), run, at));
    Ok(())
}

/// The pending approval that holds a task back: review first, then test, then any other.
pub(super) fn holding_gate<'d>(draft: &'d Draft<'_>, task: &TaskId) -> Result<Option<&'d Gate>, RefusedTransition> {
    let known = draft.read_task(task)?;
    let rank = |gate: &&Gate| match gate.holding_state() {
        TaskState::ReviewPending => 0,
        TaskState::TestPending => 1,
        _ => 2,
    };
    let holding = known.gates.iter().filter_map(|id| draft.read_gate(id).ok());
    Ok(holding.filter(|gate| gate.is_pending() && gate.kind == GateKind::Approval).min_by_key(rank))
}

pub(super) fn set_activity(draft: &mut Draft<'_>, state: ActivityState) {
    let at = draft.at;
    draft.run().activity.state = state;
    draft.run().activity.at = Some(at);
}

pub(super) fn has_pending_question(draft: &Draft<'_>) -> bool {
    let pending =
        |id: &GateId| draft.read_gate(id).is_ok_and(|gate| gate.is_pending() && gate.kind == GateKind::Question);
    draft.gate_ids().iter().any(pending)
}

pub(super) fn expire(draft: &mut Draft<'_>, id: &GateId) -> Result<(), RefusedTransition> {
    if draft.read_gate(id)?.is_pending() {
        draft.gate(id)?.state = GateState::Expired;
        if !has_pending_question(draft) && draft.run().activity.state == ActivityState::WaitingForUser {
            set_activity(draft, ActivityState::Working);
        }
    }
    Ok(())
}

/// Expires every pending gate of the run.
pub(super) fn expire_all(draft: &mut Draft<'_>) -> Result<(), RefusedTransition> {
    draft.gate_ids().iter().try_for_each(|id| expire(draft, id))
}

/// Expires every pending gate of a task that has ended.
pub(super) fn expire_of_task(draft: &mut Draft<'_>, task: &TaskId) -> Result<(), RefusedTransition> {
    let of_task =
        |draft: &Draft<'_>, id: &GateId| draft.read_gate(id).is_ok_and(|gate| gate.task.as_ref() == Some(task));
    let gates: Vec<_> = draft.gate_ids().into_iter().filter(|id| of_task(draft, id)).collect();
    gates.iter().try_for_each(|id| expire(draft, id))
}
