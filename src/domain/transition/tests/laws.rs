//! What holds after any sequence of events, legal or not.

use std::collections::BTreeSet;

use proptest::prelude::*;

use super::runs::derived;
use crate::domain::any_event::{any_event, is_realistic, repeatable_event};
use crate::domain::checkpoint::{Checkpoint, ResumeDisposition, Stage};
use crate::domain::names::Named;
use crate::domain::run::RunStatus;
use crate::domain::samples::{empty_run, moment};
use crate::domain::task::{Task, TaskState};
use crate::domain::transition::apply;
use crate::domain::view::RunView;

/// SPEC §3: what can be done with a checkpoint.
fn actions(checkpoint: &Checkpoint) -> Vec<&'static str> {
    let ended = checkpoint.resume_disposition == ResumeDisposition::NotApplicable;
    let substance = checkpoint.resume_state.is_some() || checkpoint.work.is_some();
    let resumable = checkpoint.resume_disposition.name() == "resume_from_checkpoint";
    let mut actions = Vec::new();
    if substance && resumable && !checkpoint.result_published {
        actions.push("resume_from_checkpoint");
    }
    if !ended {
        actions.extend(["restart_from_scratch", "acknowledge_blocked"]);
    }
    actions
}

fn check_run(view: &RunView) {
    let run = &view.run;
    let counts: Vec<u64> = TaskState::ALL
        .iter()
        .map(|state| view.tasks.values().filter(|task| task.state == *state).count() as u64)
        .collect();
    for (state, count) in TaskState::ALL.iter().zip(&counts) {
        assert_eq!(run.task_summary.count(*state), *count, "the summary of {state}");
    }
    let pending: BTreeSet<_> = view.gates.values().filter(|gate| gate.is_pending()).map(|gate| &gate.id).collect();
    assert_eq!(run.pending_gates.iter().collect::<BTreeSet<_>>(), pending);
    assert_eq!(run.pending_gates.len(), pending.len(), "none twice");
    if run.fixed_by.is_some() {
        assert!(run.status.is_terminal() && pending.is_empty());
    } else if run.status != RunStatus::Paused {
        assert_eq!(run.status, derived(&counts, !pending.is_empty()));
    }
    assert_eq!(run.completed_at.is_some(), run.status.is_terminal());
    let blocked = run.task_summary.count(TaskState::Blocked) > 0;
    assert_eq!(run.requires_attention, !run.status.is_terminal() && (blocked || !pending.is_empty()));
    assert!(run.activity.progress.is_none_or(|progress| progress <= 100));
    assert!(run.spawned_tasks.len() <= 1, "a set");
}

fn check_tasks(view: &RunView) {
    for task in view.tasks.values() {
        assert_eq!(task.completed_at.is_some(), task.state.is_terminal(), "{}", task.id);
        assert_eq!(task.blocked_reasons.is_empty(), task.state != TaskState::Blocked, "{}", task.id);
        let set: BTreeSet<_> = task.blocked_reasons.iter().collect();
        assert_eq!(set.len(), task.blocked_reasons.len(), "no reason twice");
        assert!(task.retry.used <= task.retry.max);
        assert!(task.state != TaskState::Running || task.session.is_some() && task.attempts > 0);
        let waits = matches!(task.state, TaskState::ReviewPending | TaskState::TestPending);
        assert!(!waits || task.result.is_some(), "its work is done");
    }
    for environment in view.environments.values() {
        if let Some(lease) = environment.held_lease() {
            assert!(!environment.state.is_gone());
            let runs = |task| view.tasks.get(task).is_some_and(|task: &Task| task.state == TaskState::Running);
            assert!(lease.task.as_ref().is_none_or(runs), "a lease outlives its task: {lease:?}");
        }
    }
    for checkpoint in view.checkpoints.values() {
        let state = view.tasks[&checkpoint.task].state;
        let scheduled = state == TaskState::Blocked && checkpoint.stage == Stage::Queued;
        assert!(scheduled || checkpoint.stage == Stage::of(state), "{} of {state}", checkpoint.stage);
        assert_eq!(checkpoint.resume_disposition == ResumeDisposition::NotApplicable, state.is_terminal());
        let found: Vec<_> = checkpoint.available_actions.iter().map(|action| action.name()).collect();
        assert_eq!(found, actions(checkpoint));
    }
}

fn check_step(before: &RunView, after: &RunView) {
    for (id, task) in &before.tasks {
        let next = &after.tasks[id];
        assert!(!task.state.is_terminal() || next.state == task.state, "{id} left its end");
        assert!(next.attempts >= task.attempts);
        let starts = task.state != TaskState::Running && next.state == TaskState::Running;
        assert!(!starts || before.run.status != RunStatus::Paused && before.run.fixed_by.is_none(), "{id} started");
    }
    for (id, gate) in &before.gates {
        assert!(gate.is_pending() || after.gates[id] == *gate, "gate {id} was decided twice");
    }
    if before.run.fixed_by.is_some() {
        assert_eq!((before.run.status, before.run.fixed_by), (after.run.status, after.run.fixed_by));
        assert_eq!(before.run.completed_at, after.run.completed_at);
    }
}

proptest! {
    #[test]
    fn the_run_agrees_with_its_records_after_any_events(events in proptest::collection::vec(any_event(), 1..60)) {
        let mut view = empty_run("r");
        for (second, event) in (1..).zip(&events) {
            if !is_realistic(&view, event) {
                continue;
            }
            let before = view.clone();
            if let Ok(changes) = apply(&view, event, moment(second)) {
                view.absorb(changes);
            }
            check_run(&view);
            check_tasks(&view);
            check_step(&before, &view);
        }
    }

    #[test]
    fn what_was_said_twice_is_said_once(events in proptest::collection::vec(any_event(), 1..40), repeated in repeatable_event()) {
        let mut view = empty_run("r");
        for event in events.iter().chain([&repeated]) {
            if let Ok(changes) = apply(&view, event, moment(1)) {
                view.absorb(changes);
            }
        }
        if let Ok(first) = apply(&view, &repeated, moment(1)) {
            view.absorb(first);
            let again = apply(&view, &repeated, moment(1)).expect("it was legal");
            let mut next = view.clone();
            next.absorb(again);
            prop_assert_eq!(next, view);
        }
    }
}
