//! The order of the rules: lost tasks first, then the number of problems; what comes back, and what never does.

use super::*;
use crate::domain::event::ActivityReport;
use crate::domain::gate::GateState;
use crate::domain::run::{Activity, ActivityState, Message};
use crate::domain::samples::{after, empty_run, moment, open_gate, with_task_in};

const DAY: i64 = 24 * 3_600;

fn pointer(text: &str) -> TaskPointer {
    text.parse().unwrap()
}

fn pointers(texts: &[&str]) -> Vec<TaskPointer> {
    texts.iter().map(|text| pointer(text)).collect()
}

/// A run whose executor has spawned and waits on tasks, and has asked so many questions a moment ago.
fn run_with(spawned: &[&str], waiting_on: &[&str], questions: usize) -> RunView {
    let report = ActivityReport {
        state: Some(ActivityState::WaitingForTasks),
        phase: Some("build".to_owned()),
        spawned: pointers(spawned),
        waiting_on: Some(pointers(waiting_on)),
        ..ActivityReport::default()
    };
    let asked = (0..questions).map(|number| open_gate(&format!("q{number}"), GateKind::Question, None, None));
    let mut view = after(&empty_run("r"), asked.chain([RunEvent::ActivityReported(report)]));
    for gate in view.gates.values_mut() {
        gate.asked_at = moment(0);
    }
    view
}

fn knowing(entries: &[(&str, Known)]) -> Knowledge {
    entries.iter().map(|(text, known)| (pointer(text), known.clone())).collect()
}

fn running() -> Known {
    Known::Recorded(TaskState::Running)
}

fn earlier() -> Earlier {
    let activity = Activity {
        state: ActivityState::Working,
        text: None,
        progress: Some(10),
        phase: Some("plan".to_owned()),
        error: None,
        at: None,
    };
    let state = SupervisorState {
        activity,
        spawned_tasks: pointers(&["a"]),
        waiting_on: pointers(&["a", "done"]),
        messages: vec![Message { role: None, text: Some("hi".to_owned()), at: moment(0) }],
    };
    Earlier { commit: Oid("c".repeat(40)), state }
}

fn planned(view: &RunView, known: &Knowledge, earlier: Option<&Earlier>, now: i64) -> Restoration {
    let source = RestorationSource::Restart;
    plan_restoration(&Facts { view, known, earlier, source, now: moment(now) })
}

fn restored(plan: &Restoration) -> (&Option<Box<SupervisorState>>, &Option<String>) {
    match plan.events.last() {
        Some(RunEvent::RunRestored { from_checkpoint, manual_intervention, source: RestorationSource::Restart }) => {
            (from_checkpoint, manual_intervention)
        }
        other => panic!("not restored: {other:?}"),
    }
}

#[test]
fn every_combination_of_lost_tasks_and_problems_has_its_outcome() {
    let earlier = earlier();
    for lost in 0..3 {
        for old_questions in 0..7 {
            for found in [None, Some(&earlier)] {
                let names: Vec<String> = (0..lost).map(|number| format!("ghost{number}")).collect();
                let names: Vec<&str> = names.iter().map(String::as_str).collect();
                let view = run_with(&names, &[], old_questions);
                let entries: Vec<_> = names.iter().map(|name| (*name, Known::Unknown)).collect();
                let plan = planned(&view, &knowing(&entries), found.filter(|_| lost > 0), DAY + 1);
                let expected = match (lost, found, old_questions) {
                    (1.., Some(_), _) => RestorationOutcome::FromCheckpoint,
                    (1.., None, _) | (0, _, 4..) => RestorationOutcome::ManualIntervention,
                    _ => RestorationOutcome::Continued,
                };
                assert_eq!(plan.report.outcome, expected, "{lost} lost, {old_questions} old questions, {found:?}");
                assert_eq!(plan.report.warnings.len(), lost + old_questions);
                let (from_checkpoint, manual) = restored(&plan);
                assert_eq!(from_checkpoint.is_some(), expected == RestorationOutcome::FromCheckpoint);
                assert_eq!(plan.report.checkpoint.is_some(), expected == RestorationOutcome::FromCheckpoint);
                assert_eq!(manual.is_some(), expected == RestorationOutcome::ManualIntervention);
                assert_eq!(plan.report.pending_questions.len(), old_questions);
            }
        }
    }
}

#[test]
fn a_question_is_old_after_a_day_and_not_before() {
    let view = run_with(&[], &[], 4);
    for (now, outcome) in [
        (0, RestorationOutcome::Continued),
        (DAY, RestorationOutcome::Continued),
        (DAY + 1, RestorationOutcome::ManualIntervention),
    ] {
        assert_eq!(planned(&view, &Knowledge::new(), None, now).report.outcome, outcome, "after {now} s");
    }
}

#[test]
fn unknown_and_unreadable_tasks_that_are_waited_on_are_problems_and_lose_nothing() {
    let view = run_with(&["kid/b"], &["kid/b", "x", "y", "z"], 0);
    let mut known = knowing(&[("kid/b", Known::Unreadable("torn".to_owned())), ("x", Known::Unknown)]);
    known.extend(knowing(&[("y", Known::Unknown), ("z", running())]));
    let plan = planned(&view, &known, None, 0);
    assert_eq!((plan.report.outcome, plan.report.warnings.len()), (RestorationOutcome::Continued, 3));
    known.extend(knowing(&[("z", Known::Unknown)]));
    let plan = planned(&view, &known, None, 0);
    assert_eq!((plan.report.outcome, plan.report.warnings.len()), (RestorationOutcome::ManualIntervention, 4));
}

#[test]
fn questions_are_delivered_again_as_they_were_asked() {
    let mut view = run_with(&[], &[], 2);
    view.gates.values_mut().for_each(|gate| gate.redelivered = 3);
    let plan = planned(&view, &Knowledge::new(), None, 10);
    for gate in &plan.report.pending_questions {
        assert_eq!((gate.redelivered, gate.asked_at, gate.state), (4, moment(0), GateState::Pending));
    }
    let view = after(&view, plan.events);
    assert!(view.gates.values().all(|gate| gate.redelivered == 4 && gate.asked_at == moment(0)));
}

#[test]
fn what_an_earlier_commit_gives_back_is_the_executors_part_alone() {
    let mut view = with_task_in(TaskState::Blocked);
    view.run.spawned_tasks = pointers(&["a", "ghost"]);
    let earlier = earlier();
    let known =
        knowing(&[("a", running()), ("ghost", Known::Unknown), ("done", Known::Recorded(TaskState::Completed))]);
    let plan = planned(&view, &known, Some(&earlier), 0);
    assert_eq!(plan.report.checkpoint.as_ref(), Some(&earlier.commit));
    let now = after(&view, plan.events.clone());
    assert_eq!(now.run.spawned_tasks, pointers(&["a"]));
    assert_eq!(now.run.waiting_on, pointers(&["a"]), "nobody waits on what has ended since");
    assert_eq!((&plan.report.spawned_tasks, &plan.report.waiting_on), (&now.run.spawned_tasks, &now.run.waiting_on));
    assert_eq!(now.run.messages, earlier.state.messages);
    assert_eq!(now.run.activity.state, ActivityState::Initializing);
    assert_eq!((now.run.activity.progress, now.run.activity.phase.as_deref()), (Some(10), Some("plan")));
    assert_eq!((now.tasks, now.environments, now.checkpoints), (view.tasks, view.environments, view.checkpoints));
    assert_eq!((now.run.status, now.run.task_summary), (view.run.status, view.run.task_summary));
}

#[test]
fn what_is_waited_on_and_has_ended_is_waited_on_no_more() {
    let view = run_with(&["kid/b", "kid/c"], &["kid/b", "kid/c"], 0);
    let known = knowing(&[("kid/b", Known::Recorded(TaskState::Failed)), ("kid/c", running())]);
    let plan = planned(&view, &known, None, 0);
    assert_eq!(plan.report.waiting_on, pointers(&["kid/c"]));
    assert_eq!(after(&view, plan.events).run.waiting_on, pointers(&["kid/c"]));
}

#[test]
fn a_manual_intervention_asks_for_attention_until_the_next_restoration_is_well() {
    let view = run_with(&[], &[], 4);
    let manual = after(&view, planned(&view, &Knowledge::new(), None, 2 * DAY).events);
    assert!(manual.run.attention_reason.is_some() && manual.run.requires_attention);
    let well = after(&manual, planned(&manual, &Knowledge::new(), None, 0).events);
    assert_eq!((well.run.attention_reason, well.run.restoration.count), (None, 2));
}

#[test]
fn the_notice_tells_everything() {
    let view = run_with(&["a"], &["a"], 1);
    let plan = planned(&view, &knowing(&[("a", running())]), None, 2 * DAY);
    let notice = plan.report.notice;
    for told in ["Run r was restored (restart)", "so far: 1", "waiting_for_tasks", "phase build", "r/q0", "a: running"]
    {
        assert!(notice.contains(told), "{told} in {notice}");
    }
    assert!(notice.contains("question r/q0 has waited since"), "{notice}");
    let fresh = fresh_start(&crate::domain::ids::RunId::new("relaese").unwrap(), &["release"]);
    assert!(fresh.warnings[0].contains("did you mean release?"), "{fresh:?}");
    assert_eq!(fresh.outcome, RestorationOutcome::Fresh);
}
