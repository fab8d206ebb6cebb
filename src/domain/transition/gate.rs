//! What happens at gates, and to the tasks behind them.

use super::draft::Draft;
use super::holding::{expire_of_task, has_pending_question, set_activity};
use super::refused::RefusedTransition;
use crate::domain::event::WorkEnd;
use crate::domain::gate::{Decision, Gate, GateAction, GateKind, RECOVERY_REQUIRED};
use crate::domain::ids::{GateId, TaskId};
use crate::domain::run::{ActivityState, RunStatus};
use crate::domain::task::{TaskOutcome, TaskResult, TaskState};

/// Whether the gate was decided this way already, so that saying it again changes nothing.
fn is_repeated(gate: &Gate, decision: &Decision) -> bool {
    gate.decision.as_ref().is_some_and(|known| {
        known.action == decision.action && (decision.action != GateAction::Answer || known.answer == decision.answer)
    })
}

pub(super) fn decide(draft: &mut Draft<'_>, id: &GateId, decision: &Decision) -> Result<(), RefusedTransition> {
    let gate = draft.read_gate(id)?;
    if is_repeated(gate, decision) {
        return Ok(());
    }
    if !gate.is_pending() {
        return Err(RefusedTransition::AlreadyDecided { gate: id.clone(), state: gate.state });
    }
    check_fits(gate, decision)?;
    let (task, key) = (gate.task.clone(), gate.key.clone());
    let gate = draft.gate(id)?;
    gate.state = decision.action.state();
    gate.decision = Some(decision.clone());
    match decision.action {
        GateAction::Answer => {
            if !has_pending_question(draft) {
                set_activity(draft, ActivityState::Working);
            }
            release_task(draft, task.as_ref())
        }
        GateAction::Approve if key.as_deref() == Some(RECOVERY_REQUIRED) => {
            super::run::unpause(draft);
            release_task(draft, task.as_ref())
        }
        GateAction::Approve => release_task(draft, task.as_ref()),
        GateAction::Reject => reject(draft, id, task.as_ref(), key.as_deref()),
        GateAction::Abort => super::run::cancel(draft),
    }
}

fn check_fits(gate: &Gate, decision: &Decision) -> Result<(), RefusedTransition> {
    let wrong = |kind, hint: String| Err(RefusedTransition::WrongDecision { gate: gate.id.clone(), kind, hint });
    match (gate.kind, decision.action) {
        (GateKind::Question, GateAction::Approve | GateAction::Reject) => {
            wrong("a question", format!("answer it with `git tether answer {}/{} TEXT`", gate.run, gate.id))
        }
        (GateKind::Approval, GateAction::Answer) => {
            let address = format!("{}/{}", gate.run, gate.id);
            wrong(
                "an approval",
                format!("decide it with `git tether approve {address}` or `git tether reject {address}`"),
            )
        }
        (GateKind::Question, GateAction::Answer) if !gate.choices.is_empty() => {
            let answer = decision.answer.as_deref().unwrap_or_default();
            if gate.choices.iter().any(|choice| choice == answer) {
                return Ok(());
            }
            Err(RefusedTransition::NotOffered {
                gate: gate.id.clone(),
                answer: answer.to_owned(),
                offered: gate.choices.join(", "),
            })
        }
        _ => Ok(()),
    }
}

/// Lets a task go on that waited at a gate, if no other gate holds it.
fn release_task(draft: &mut Draft<'_>, task: Option<&TaskId>) -> Result<(), RefusedTransition> {
    let Some(task) = task else { return Ok(()) };
    let state = draft.read_task(task)?.state;
    let waits = matches!(state, TaskState::PendingApproval | TaskState::ReviewPending | TaskState::TestPending);
    if !waits {
        return Ok(());
    }
    let next = super::task::waiting_state(draft, task)?;
    if next == state { Ok(()) } else { draft.set_task_state(task, next) }
}

fn reject(
    draft: &mut Draft<'_>,
    gate: &GateId,
    task: Option<&TaskId>,
    key: Option<&str>,
) -> Result<(), RefusedTransition> {
    if key == Some(RECOVERY_REQUIRED) && draft.run().status == RunStatus::Paused {
        super::run::unpause(draft);
    }
    let Some(task) = task else { return Ok(()) };
    if draft.read_task(task)?.state.is_terminal() || !draft.read_gate(gate)?.required {
        return Ok(());
    }
    let summary = format!("gate {gate} was rejected");
    let known = draft.task(task)?;
    known.result = Some(TaskResult {
        outcome: TaskOutcome::Failed,
        summary: Some(summary),
        ..super::task::result_of(TaskOutcome::Failed, &WorkEnd::default())
    });
    draft.set_task_state(task, TaskState::Failed)?;
    expire_of_task(draft, task)
}
