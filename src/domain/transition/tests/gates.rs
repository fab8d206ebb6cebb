//! What waits at a gate, and what a decision sets free.

use crate::domain::event::RunEvent;
use crate::domain::gate::{GateAction, GateKind, GateState, RECOVERY_REQUIRED};
use crate::domain::run::{ActivityState, RunStatus};
use crate::domain::samples::{
    added, after, block, decide, done, empty_run, fail, gate_id, open_gate, refusal, start, task, task_id, unblock,
    with_task_in,
};
use crate::domain::task::{NewTask, Requirement, TaskState};
use crate::domain::transition::RefusedTransition;

#[test]
fn a_decision_leads_a_waiting_task_on_or_fails_it() {
    for (state, gate, approved) in [
        (TaskState::PendingApproval, "approval-t", TaskState::Queued),
        (TaskState::ReviewPending, "review-t", TaskState::Completed),
        (TaskState::TestPending, "test-t", TaskState::Completed),
    ] {
        let view = after(&with_task_in(state), [decide(gate, GateAction::Approve)]);
        assert_eq!(task(&view, "t").state, approved);
        let view = after(&with_task_in(state), [decide(gate, GateAction::Reject)]);
        assert_eq!((task(&view, "t").state, view.run.status), (TaskState::Failed, RunStatus::Failed));
        let view = after(&with_task_in(state), [decide(gate, GateAction::Abort)]);
        assert_eq!((task(&view, "t").state, view.run.status), (TaskState::Cancelled, RunStatus::Cancelled));
    }
}

#[test]
fn review_comes_before_test_and_both_before_the_end() {
    let mut new = NewTask::named(task_id("t"));
    new.requirements = vec![Requirement::Test, Requirement::Review];
    let view = after(&empty_run("r"), [added(new), start("t"), done("t")]);
    assert_eq!(task(&view, "t").state, TaskState::ReviewPending);
    let view = after(&view, [decide("review-t", GateAction::Approve)]);
    assert_eq!(task(&view, "t").state, TaskState::TestPending);
    let view = after(&view, [decide("test-t", GateAction::Approve)]);
    assert_eq!((task(&view, "t").state, view.run.status), (TaskState::Completed, RunStatus::Completed));
}

#[test]
fn the_policy_of_a_run_holds_for_each_of_its_tasks() {
    let mut run = empty_run("r");
    run.run.policy.requirements = vec![Requirement::Approval, Requirement::Review];
    let view = after(&run, [added(NewTask::named(task_id("t")))]);
    assert_eq!(task(&view, "t").state, TaskState::PendingApproval);
    let view = after(&view, [decide("approval-t", GateAction::Approve), start("t"), done("t")]);
    assert_eq!(task(&view, "t").state, TaskState::ReviewPending);
}

#[test]
fn a_gate_opened_by_hand_holds_back_what_waits_and_what_is_done() {
    let opened = open_gate("g", GateKind::Approval, Some("deploy"), Some("t"));
    let waits = after(&with_task_in(TaskState::Queued), [opened.clone()]);
    assert!(matches!(refusal(&waits, &start("t")), RefusedTransition::GatePending { .. }));
    let free = after(&waits, [decide("g", GateAction::Approve), start("t")]);
    assert_eq!(task(&free, "t").state, TaskState::Running);

    let held = after(&with_task_in(TaskState::Running), [opened, done("t")]);
    assert_eq!(task(&held, "t").state, TaskState::PendingApproval);
    let view = after(&held, [decide("g", GateAction::Approve)]);
    assert_eq!(task(&view, "t").state, TaskState::Completed);
}

#[test]
fn an_approval_never_completes_what_was_not_done() {
    let mut new = NewTask::named(task_id("t"));
    new.retry.max = 1;
    let opened = open_gate("g", GateKind::Approval, Some("deploy"), Some("t"));
    let view = after(&empty_run("r"), [added(new), start("t"), fail("t"), opened, decide("g", GateAction::Approve)]);
    assert_eq!(task(&view, "t").state, TaskState::Queued, "it failed once and is tried again");
}

#[test]
fn every_decision_that_was_taken_stays_and_saying_it_again_changes_nothing() {
    let actions = [GateAction::Approve, GateAction::Reject, GateAction::Abort];
    for first in actions {
        let opened = open_gate("g", GateKind::Approval, Some("go"), None);
        let view = after(&with_task_in(TaskState::Queued), [opened, decide("g", first)]);
        for second in actions {
            if first == second {
                let again = after(&view, [decide("g", second)]);
                assert_eq!((&again.gates, &again.tasks), (&view.gates, &view.tasks));
            } else {
                let refused = refusal(&view, &decide("g", second));
                assert_eq!(refused, RefusedTransition::AlreadyDecided { gate: gate_id("g"), state: first.state() });
            }
        }
    }
}

#[test]
fn questions_are_answered_and_approvals_decided() {
    let asked = after(&with_task_in(TaskState::Running), [open_gate("q", GateKind::Question, None, None)]);
    assert_eq!(asked.run.activity.state, ActivityState::WaitingForUser);
    assert_eq!(asked.gates[&gate_id("q")].question_type.as_deref(), Some("general"));
    for action in [GateAction::Approve, GateAction::Reject] {
        assert!(matches!(refusal(&asked, &decide("q", action)), RefusedTransition::WrongDecision { .. }));
    }
    let another = after(&asked, [open_gate("q2", GateKind::Question, None, None), decide("q", GateAction::Answer)]);
    assert_eq!(another.run.activity.state, ActivityState::WaitingForUser, "one question is left");
    let answered = after(&another, [decide("q2", GateAction::Answer)]);
    assert_eq!(answered.run.activity.state, ActivityState::Working);
    let mut other = decide("q", GateAction::Answer);
    if let RunEvent::GateDecided { decision, .. } = &mut other {
        decision.answer = Some("no".to_owned());
    }
    assert!(matches!(refusal(&answered, &other), RefusedTransition::AlreadyDecided { .. }));
    let approval = after(&empty_run("r"), [open_gate("g", GateKind::Approval, None, None)]);
    assert!(matches!(refusal(&approval, &decide("g", GateAction::Answer)), RefusedTransition::WrongDecision { .. }));
}

#[test]
fn ending_a_run_expires_what_nobody_decided() {
    let opened = open_gate("g", GateKind::Approval, Some("go"), None);
    let view = after(
        &with_task_in(TaskState::Completed),
        [
            RunEvent::TaskAdded(Box::new(NewTask::named(task_id("u")))),
            opened,
            RunEvent::RunFinished { outcome: None, note: None },
        ],
    );
    assert_eq!(view.gates[&gate_id("g")].state, GateState::Expired);
    assert!(matches!(refusal(&view, &decide("g", GateAction::Approve)), RefusedTransition::AlreadyDecided { .. }));
    assert!(matches!(
        refusal(&view, &open_gate("h", GateKind::Question, None, None)),
        RefusedTransition::RunEnded { .. }
    ));
}

#[test]
fn the_gate_of_a_failed_recovery_brings_the_run_back_or_fails_its_task() {
    let required = open_gate("rec", GateKind::Approval, Some(RECOVERY_REQUIRED), Some("t"));
    let stuck = after(&with_task_in(TaskState::Blocked), [RunEvent::RunPaused, required]);
    assert_eq!((stuck.run.status, task(&stuck, "t").state), (RunStatus::Paused, TaskState::Blocked));
    let back = after(&stuck, [decide("rec", GateAction::Approve)]);
    assert_eq!((back.run.status, task(&back, "t").state), (RunStatus::Blocked, TaskState::Blocked));
    let over = after(&stuck, [decide("rec", GateAction::Reject)]);
    assert_eq!((over.run.status, task(&over, "t").state), (RunStatus::Failed, TaskState::Failed));
    // Unblocked meanwhile, it waits at that gate, and the approval has to set it free.
    let free = after(&stuck, [unblock("t", None), decide("rec", GateAction::Approve)]);
    assert_eq!((free.run.status, task(&free, "t").state), (RunStatus::Running, TaskState::Queued));
}

#[test]
fn a_blocked_task_comes_back_to_where_it_waited() {
    for state in [TaskState::PendingApproval, TaskState::ReviewPending, TaskState::TestPending, TaskState::Queued] {
        let view = after(&with_task_in(state), [block("t", "odd"), unblock("t", Some("odd"))]);
        assert_eq!(task(&view, "t").state, state);
    }
}
