//! Where a run stands: derived from its tasks, or fixed by somebody.

use crate::domain::event::{ActivityReport, RunEvent};
use crate::domain::gate::GateKind;
use crate::domain::names::Named;
use crate::domain::run::{ActivityState, Outcome, RunStatus};
use crate::domain::samples::{
    add, added, after, block, cancel, done, empty_run, fail, open_gate, refusal, start, task_id, with_task_in,
};
use crate::domain::task::{NewTask, Requirement, TaskState};
use crate::domain::transition::RefusedTransition;

/// SPEC §3, said again: the status of a run that has so many tasks in each state, and a pending gate or none.
pub(super) fn derived(counts: &[u64], pending_gate: bool) -> RunStatus {
    let count = |name: &str| {
        let at = TaskState::ALL.iter().position(|state| state.name() == name).expect("a state");
        counts[at]
    };
    let total: u64 = counts.iter().sum();
    if total == 0 {
        return RunStatus::Draft;
    }
    if count("running") > 0 {
        return RunStatus::Running;
    }
    if count("blocked") > 0 {
        return RunStatus::Blocked;
    }
    if pending_gate || count("pending_approval") > 0 || count("review_pending") > 0 || count("test_pending") > 0 {
        return RunStatus::Waiting;
    }
    if count("completed") + count("failed") + count("cancelled") < total {
        return RunStatus::Running;
    }
    if count("failed") > 0 {
        return RunStatus::Failed;
    }
    if count("cancelled") == total { RunStatus::Cancelled } else { RunStatus::Completed }
}

#[test]
fn the_status_is_what_the_tasks_say() {
    let mut counts = vec![0_u64; TaskState::COUNT];
    let mut tried = 0;
    loop {
        for pending in [false, true] {
            let mut run = empty_run("r").run;
            for (state, count) in TaskState::ALL.iter().zip(&counts) {
                run.task_summary.set(*state, *count);
            }
            if pending {
                run.pending_gates.push(crate::domain::samples::gate_id("g"));
            }
            assert_eq!(run.derived_status(), derived(&counts, pending), "{counts:?} {pending}");
            tried += 1;
        }
        let Some(place) = counts.iter().position(|count| *count < 2) else { break };
        counts[..place].fill(0);
        counts[place] += 1;
    }
    assert_eq!(tried, 2 * 3_i32.pow(9));
}

#[test]
fn a_derived_end_is_opened_again_by_a_new_task_a_fixed_one_is_not() {
    let ended = with_task_in(TaskState::Completed);
    assert_eq!(ended.run.status, RunStatus::Completed);
    let again = after(&ended, [add("u")]);
    assert_eq!((again.run.status, again.run.completed_at), (RunStatus::Running, None));

    let mut new = NewTask::named(task_id("u"));
    new.requirements = vec![Requirement::Approval];
    assert_eq!(after(&ended, [added(new)]).run.status, RunStatus::Waiting);

    let finish = RunEvent::RunFinished { outcome: None, note: None };
    let fixed = after(&ended, [finish.clone(), finish]);
    assert_eq!(fixed.run.status, RunStatus::Completed);
    let refused = refusal(&fixed, &add("u"));
    assert!(matches!(refused, RefusedTransition::RunEnded { .. }), "{refused}");
    let other = refusal(&fixed, &RunEvent::RunFinished { outcome: Some(Outcome::Failed), note: None });
    assert_eq!(other.to_string(), "run r cannot go from completed to failed");
}

#[test]
fn a_paused_run_starts_nothing_and_comes_back_as_its_tasks_say() {
    let queued = after(&with_task_in(TaskState::Running), [add("u")]);
    let paused = after(&queued, [RunEvent::RunPaused]);
    assert_eq!((paused.run.status, paused.run.paused_from), (RunStatus::Paused, Some(RunStatus::Running)));
    let refused = refusal(&paused, &start("u"));
    assert!(matches!(refused, RefusedTransition::RunPaused { .. }), "{refused}");
    let blocked = after(&paused, [block("t", "odd")]);
    assert_eq!(blocked.run.status, RunStatus::Paused, "what happens meanwhile does not wake it");
    let refused = refusal(&blocked, &crate::domain::samples::resume("t"));
    assert!(matches!(refused, RefusedTransition::RunPaused { .. }), "{refused}");
    let back = after(&blocked, [RunEvent::RunUnpaused]);
    assert_eq!((back.run.status, back.run.paused_from), (RunStatus::Blocked, Some(RunStatus::Running)));
}

#[test]
fn an_ended_run_is_not_paused() {
    for state in [TaskState::Completed, TaskState::Failed, TaskState::Cancelled] {
        let refused = refusal(&with_task_in(state), &RunEvent::RunPaused).to_string();
        assert!(refused.contains(state.name()) && refused.contains("paused"), "{refused}");
    }
}

#[test]
fn cancelling_a_run_ends_what_is_open_and_expires_its_gates() {
    for state in TaskState::ALL.iter().filter(|state| !state.is_terminal()) {
        let asked = open_gate("q", GateKind::Question, None, None);
        let view = after(&with_task_in(*state), [asked, RunEvent::RunCancelled, RunEvent::RunCancelled]);
        assert_eq!(crate::domain::samples::task(&view, "t").state, TaskState::Cancelled);
        assert_eq!(view.run.status, RunStatus::Cancelled);
        assert!(view.pending_gates().is_empty() && view.run.pending_gates.is_empty() && !view.run.requires_attention);
        assert!(view.gates.values().all(|gate| gate.state == crate::domain::gate::GateState::Expired));
    }
}

#[test]
fn a_task_that_ends_leaves_what_the_run_waits_on() {
    let waiting = ["t", "r/t", "u", "other/t"].map(|text| text.parse().expect("a pointer"));
    let report = ActivityReport { waiting_on: Some(waiting.to_vec()), ..ActivityReport::default() };
    for end in [done("t"), fail("t"), cancel("t")] {
        let waits = after(&with_task_in(TaskState::Running), [RunEvent::ActivityReported(report.clone()), end]);
        let left: Vec<_> = waits.run.waiting_on.iter().map(ToString::to_string).collect();
        assert_eq!(left, ["u", "other/t"]);
    }
}

#[test]
fn activity_keeps_what_is_not_said_and_refuses_what_cannot_be() {
    let said = ActivityReport {
        text: Some("on it".to_owned()),
        progress: Some(100),
        phase: Some("build".to_owned()),
        ..ActivityReport::default()
    };
    let view = after(
        &empty_run("r"),
        [RunEvent::ActivityReported(said), RunEvent::ActivityReported(ActivityReport::default())],
    );
    let activity = &view.run.activity;
    assert_eq!(
        (activity.state, activity.progress, activity.text.as_deref()),
        (ActivityState::Working, Some(100), Some("on it"))
    );
    let beyond = ActivityReport { progress: Some(101), ..ActivityReport::default() };
    let refused = refusal(&view, &RunEvent::ActivityReported(beyond));
    assert_eq!(refused.to_string(), "progress 101 is not within 0 to 100");
}
