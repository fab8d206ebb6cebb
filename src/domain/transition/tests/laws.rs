//! What holds after any sequence of events, legal or not.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::select;

use super::runs::derived;
use crate::domain::checkpoint::{Checkpoint, NewCheckpoint, ReplaySafety, ResumeDisposition, SavedWork, Stage};
use crate::domain::environment::{EnvironmentState, ExecutionMode, Health, RecoveryAction, RecoveryStatus};
use crate::domain::event::{ActivityReport, EnvironmentFinding, RunEvent};
use crate::domain::gate::{GateAction, GateKind, RECOVERY_REQUIRED};
use crate::domain::names::Named;
use crate::domain::run::{Outcome, RestorationSource, RunStatus};
use crate::domain::samples::{
    acknowledge, added, block, cancel, checkpointed, decide, done, empty_run, environment_id, fail, gate_id, interrupt,
    lease, moment, new_checkpoint, new_environment, oid, open_gate, requested, resume, session_id, task_id, unblock,
};
use crate::domain::task::{NewTask, Requirement, TaskState};
use crate::domain::transition::apply;
use crate::domain::view::RunView;

const TASKS: [&str; 3] = ["a", "b", "c"];
const ENVIRONMENTS: [&str; 2] = ["e", "f"];

fn any_named<T: Named + std::fmt::Debug>() -> impl Strategy<Value = T> {
    select(T::ALL)
}

fn any_task() -> impl Strategy<Value = &'static str> {
    select(&TASKS[..])
}

fn any_environment() -> impl Strategy<Value = &'static str> {
    select(&ENVIRONMENTS[..])
}

fn any_gate() -> impl Strategy<Value = &'static str> {
    select(&["g", "h", "approval-a", "review-a", "test-b", "review-b"][..])
}

fn new_task() -> impl Strategy<Value = RunEvent> {
    let requirements = proptest::collection::vec(any_named::<Requirement>(), 0..3);
    (any_task(), requirements, 0_u32..3, proptest::option::of(any_task())).prop_map(
        |(id, requirements, max, before)| {
            let mut new = NewTask::named(task_id(id));
            new.requirements = requirements;
            new.retry.max = max;
            new.depends_on = before.into_iter().map(task_id).collect();
            added(new)
        },
    )
}

fn task_event() -> impl Strategy<Value = RunEvent> {
    let reason = || select(&["one", "two"][..]);
    let with_lease = (any_task(), any::<bool>()).prop_map(|(task, leased)| RunEvent::TaskStarted {
        task: task_id(task),
        session: session_id("s"),
        lease: leased.then(|| lease("s", Some(task))),
    });
    prop_oneof![
        6 => with_lease,
        3 => any_task().prop_map(done),
        2 => any_task().prop_map(fail),
        1 => any_task().prop_map(cancel),
        2 => (any_task(), reason()).prop_map(|(task, reason)| block(task, reason)),
        2 => (any_task(), proptest::option::of(reason())).prop_map(|(task, reason)| unblock(task, reason)),
        3 => any_task().prop_map(interrupt),
        3 => any_task().prop_map(resume),
        1 => any_task().prop_map(acknowledge),
        2 => (any_task(), any_named::<ReplaySafety>(), any::<(bool, bool)>()).prop_map(checkpoint),
    ]
}

fn checkpoint((task, safety, (saved, published)): (&str, ReplaySafety, (bool, bool))) -> RunEvent {
    let work = saved.then(|| SavedWork { commit: oid('b'), base: None, branch: None, files: 1 });
    checkpointed(NewCheckpoint { work, result_published: published, ..new_checkpoint(task, safety) })
}

fn finding() -> impl Strategy<Value = EnvironmentFinding> {
    let blocks =
        select(&[None, Some("environment e: gone"), Some("environment e: moved"), Some("environment f: gone")][..]);
    (any_named::<Health>(), any_named::<RecoveryStatus>(), proptest::option::of(any_named::<RecoveryAction>()), blocks)
        .prop_map(|(health, status, action, blocks)| EnvironmentFinding {
            health,
            status,
            action,
            blocks_task: blocks.map(ToOwned::to_owned),
        })
}

fn environment_event() -> impl Strategy<Value = RunEvent> {
    let id = || any_environment().prop_map(environment_id);
    prop_oneof![
        3 => (proptest::option::of(any_task()), any_environment(), any_named::<ExecutionMode>())
            .prop_map(|(task, id, mode)| requested(task, new_environment(id, mode))),
        2 => (id(), any_named::<EnvironmentState>()).prop_map(|(environment, state)| RunEvent::EnvironmentMoved {
            environment, state, spec: None, failure: None, cleanup: None,
        }),
        3 => (id(), finding()).prop_map(|(environment, finding)| RunEvent::EnvironmentVerified { environment, finding }),
        1 => id().prop_map(|environment| RunEvent::EnvironmentLeased { environment, lease: lease("s", None) }),
        1 => id().prop_map(|environment| RunEvent::LeaseReleased { environment, reason: "dead".to_owned() }),
        1 => any_environment().prop_map(|id| RunEvent::EnvironmentAdopted {
            environment: environment_id(id),
            spec: Box::new(new_environment(id, ExecutionMode::GitWorktree).spec),
        }),
    ]
}

fn run_event() -> impl Strategy<Value = RunEvent> {
    let key = select(&["approval", "review", "test", "deploy", RECOVERY_REQUIRED][..]);
    prop_oneof![
        3 => (any_gate(), any_named::<GateKind>(), key, proptest::option::of(any_task()))
            .prop_map(|(id, kind, key, task)| open_gate(id, kind, Some(key), task)),
        6 => (any_gate(), any_named::<GateAction>()).prop_map(|(gate, action)| decide(gate, action)),
        1 => any_gate().prop_map(|gate| RunEvent::GateExpired { gate: gate_id(gate) }),
        1 => proptest::option::of(any_named::<Outcome>())
            .prop_map(|outcome| RunEvent::RunFinished { outcome, note: None }),
        2 => Just(RunEvent::RunPaused),
        2 => Just(RunEvent::RunUnpaused),
        1 => Just(RunEvent::RunCancelled),
        1 => (0_u8..=110).prop_map(|progress| RunEvent::ActivityReported(ActivityReport {
            progress: Some(progress),
            spawned: vec!["a".parse().expect("a pointer")],
            ..ActivityReport::default()
        })),
        1 => any_named::<RestorationSource>().prop_map(|source| RunEvent::RunRestored {
            source, from_checkpoint: None, manual_intervention: None,
        }),
    ]
}

/// What changes nothing when it is said again at once.
fn repeatable_event() -> impl Strategy<Value = RunEvent> {
    let id = || any_environment().prop_map(environment_id);
    prop_oneof![
        Just(RunEvent::RunPaused),
        Just(RunEvent::RunUnpaused),
        Just(RunEvent::RunCancelled),
        proptest::option::of(any_named::<Outcome>()).prop_map(|outcome| RunEvent::RunFinished { outcome, note: None }),
        (any_gate(), any_named::<GateAction>()).prop_map(|(gate, action)| decide(gate, action)),
        id().prop_map(|environment| RunEvent::LeaseReleased { environment, reason: "dead".to_owned() }),
        (id(), finding()).prop_map(|(environment, finding)| RunEvent::EnvironmentVerified { environment, finding }),
    ]
}

fn any_event() -> impl Strategy<Value = RunEvent> {
    prop_oneof![4 => new_task(), 12 => task_event(), 4 => environment_event(), 3 => run_event()]
}

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
            let runs = |task| {
                view.tasks.get(task).is_some_and(|task: &crate::domain::task::Task| task.state == TaskState::Running)
            };
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

/// A running task keeps the environment that it was started in: whoever adds another one does so before or after.
fn is_realistic(view: &RunView, event: &RunEvent) -> bool {
    let RunEvent::EnvironmentRequested { task: Some(task), .. } = event else { return true };
    view.tasks.get(task).is_none_or(|task| task.state != TaskState::Running)
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
