//! What follows when two histories of a run have been brought together.
//!
//! Must not know how they were brought together. Invariant: the run agrees with its tasks and gates afterwards, as after any event;
//! the outcome depends on the records alone, never on which side they came from.

use crate::domain::checkpoint::{ResumeDisposition, Stage};
use crate::domain::gate::{Gate, GateKind, GateState, SYNC_CONFLICT};
use crate::domain::run::{FixedBy, RunStatus, TaskSummary};
use crate::domain::task::{Task, TaskState};
use crate::domain::view::RunView;

/// Makes a run whose records were merged agree with them.
pub fn settle_merged(view: &mut RunView) {
    if view.run.fixed_by.is_some() {
        close(view);
    }
    let released: Vec<(Task, TaskState)> =
        view.tasks.values().filter_map(|task| Some((task.clone(), released_to(view, task)?))).collect();
    for (mut task, state) in released {
        task.state = state;
        task.completed_at = state.is_terminal().then_some(task.updated_at);
        view.tasks.insert(task.id.clone(), task);
    }
    settle_checkpoints(view);
    settle_run(view);
}

/// A run that was ended has no pending gates, and no open tasks if it was called off; what a person has to know stays open.
fn close(view: &mut RunView) {
    let ended = view.run.completed_at.unwrap_or(view.run.updated_at);
    for gate in view.gates.values_mut().filter(|gate| gate.is_pending() && gate.key.as_deref() != Some(SYNC_CONFLICT)) {
        gate.state = GateState::Expired;
    }
    if view.run.fixed_by == Some(FixedBy::Cancel) {
        for task in view.tasks.values_mut().filter(|task| !task.state.is_terminal()) {
            task.state = TaskState::Cancelled;
            task.blocked_reasons.clear();
            task.completed_at = Some(ended);
        }
    }
}

/// Where a task goes that waits at gates of which none holds it any more: each side may have decided one of two.
fn released_to(view: &RunView, task: &Task) -> Option<TaskState> {
    if !matches!(task.state, TaskState::PendingApproval | TaskState::ReviewPending | TaskState::TestPending) {
        return None;
    }
    let rank = |gate: &&Gate| match gate.holding_state() {
        TaskState::ReviewPending => 0,
        TaskState::TestPending => 1,
        _ => 2,
    };
    let gates = task.gates.iter().filter_map(|id| view.gates.get(id));
    let holding = gates.filter(|gate| gate.is_pending() && gate.kind == GateKind::Approval).min_by_key(rank);
    let next = match (holding.map(Gate::holding_state), task.result.is_some()) {
        (Some(holding), true) => holding,
        (Some(_), false) => TaskState::PendingApproval,
        (None, true) => TaskState::Completed,
        (None, false) => TaskState::Queued,
    };
    (next != task.state).then_some(next)
}

fn settle_checkpoints(view: &mut RunView) {
    for checkpoint in view.checkpoints.values_mut() {
        let Some(task) = view.tasks.get(&checkpoint.task).filter(|task| task.state.is_terminal()) else { continue };
        checkpoint.stage = Stage::of(task.state);
        checkpoint.resume_disposition = ResumeDisposition::NotApplicable;
        checkpoint.available_actions = checkpoint.derived_actions();
    }
}

fn settle_run(view: &mut RunView) {
    let mut summary = TaskSummary::default();
    for task in view.tasks.values() {
        summary.move_task(None, task.state);
    }
    let pending = view.pending_gates().into_iter().map(|gate| gate.id.clone()).collect();
    let ended = view.tasks.values().filter_map(|task| task.completed_at).max();
    let open = |pointer: &crate::domain::ids::TaskPointer| {
        pointer.run.is_some() || view.tasks.get(&pointer.task).is_none_or(|task| !task.state.is_terminal())
    };
    view.run.waiting_on.retain(open);
    let run = &mut view.run;
    run.task_summary = summary;
    run.pending_gates = pending;
    if run.status != RunStatus::Paused && run.fixed_by.is_none() {
        run.status = run.derived_status();
    }
    run.completed_at = match (run.status.is_terminal(), run.completed_at) {
        (true, recorded) => recorded.or(ended).or(Some(run.updated_at)),
        (false, _) => None,
    };
    run.requires_attention = run.needs_attention();
}
