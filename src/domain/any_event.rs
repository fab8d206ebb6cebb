//! Any event, and any run that events lead to: what the laws are tried on.
//!
//! Must not know any law. Ids are few, so that events meet.

use proptest::prelude::*;
use proptest::sample::select;

use super::checkpoint::{NewCheckpoint, ReplaySafety, SavedWork};
use super::environment::{EnvironmentState, ExecutionMode, Health, RecoveryAction, RecoveryStatus};
use super::event::{ActivityReport, EnvironmentFinding, RunEvent};
use super::gate::{GateAction, GateKind, RECOVERY_REQUIRED};
use super::names::Named;
use super::run::{Outcome, RestorationSource};
use super::samples::{
    acknowledge, added, block, cancel, checkpointed, decide, done, empty_run, environment_id, fail, gate_id, interrupt,
    lease, moment, new_checkpoint, new_environment, oid, open_gate, requested, resume, session_id, task_id, unblock,
};
use super::task::{NewTask, Requirement, TaskState};
use super::transition::apply;
use super::view::RunView;

pub(crate) const TASKS: [&str; 3] = ["a", "b", "c"];
pub(crate) const ENVIRONMENTS: [&str; 2] = ["e", "f"];
pub(crate) const SESSIONS: [&str; 3] = ["s", "s2", "s3"];

pub(crate) fn any_named<T: Named + std::fmt::Debug>() -> impl Strategy<Value = T> {
    select(T::ALL)
}

pub(crate) fn any_task() -> impl Strategy<Value = &'static str> {
    select(&TASKS[..])
}

pub(crate) fn any_session() -> impl Strategy<Value = &'static str> {
    select(&SESSIONS[..])
}

pub(crate) fn any_environment() -> impl Strategy<Value = &'static str> {
    select(&ENVIRONMENTS[..])
}

pub(crate) fn any_gate() -> impl Strategy<Value = &'static str> {
    select(&["g", "h", "approval-a", "review-a", "test-b", "review-b"][..])
}

pub(crate) fn new_task() -> impl Strategy<Value = RunEvent> {
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

pub(crate) fn task_event() -> impl Strategy<Value = RunEvent> {
    let reason = || select(&["one", "two"][..]);
    let with_lease =
        (any_task(), any_session(), any::<bool>()).prop_map(|(task, session, leased)| RunEvent::TaskStarted {
            task: task_id(task),
            session: session_id(session),
            lease: leased.then(|| lease(session, Some(task))),
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

pub(crate) fn checkpoint((task, safety, (saved, published)): (&str, ReplaySafety, (bool, bool))) -> RunEvent {
    let work = saved.then(|| SavedWork { commit: oid('b'), base: None, branch: None, files: 1 });
    checkpointed(NewCheckpoint { work, result_published: published, ..new_checkpoint(task, safety) })
}

pub(crate) fn finding() -> impl Strategy<Value = EnvironmentFinding> {
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

pub(crate) fn environment_event() -> impl Strategy<Value = RunEvent> {
    let id = || any_environment().prop_map(environment_id);
    prop_oneof![
        3 => (proptest::option::of(any_task()), any_environment(), any_named::<ExecutionMode>())
            .prop_map(|(task, id, mode)| requested(task, new_environment(id, mode))),
        2 => (id(), any_named::<EnvironmentState>()).prop_map(|(environment, state)| RunEvent::EnvironmentMoved {
            environment, state, spec: None, failure: None, cleanup: None,
        }),
        3 => (id(), finding()).prop_map(|(environment, finding)| RunEvent::EnvironmentVerified { environment, finding }),
        1 => (id(), any_session()).prop_map(|(environment, session)| RunEvent::EnvironmentLeased {
            environment, lease: lease(session, None),
        }),
        1 => id().prop_map(|environment| RunEvent::LeaseReleased { environment, reason: "dead".to_owned() }),
        1 => any_environment().prop_map(|id| RunEvent::EnvironmentAdopted {
            environment: environment_id(id),
            spec: Box::new(new_environment(id, ExecutionMode::GitWorktree).spec),
        }),
    ]
}

pub(crate) fn run_event() -> impl Strategy<Value = RunEvent> {
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
pub(crate) fn repeatable_event() -> impl Strategy<Value = RunEvent> {
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

pub(crate) fn any_event() -> impl Strategy<Value = RunEvent> {
    prop_oneof![4 => new_task(), 12 => task_event(), 4 => environment_event(), 3 => run_event()]
}

/// Whether it happens: a running task keeps the environment that it was started in.
pub(crate) fn is_realistic(view: &RunView, event: &RunEvent) -> bool {
    let RunEvent::EnvironmentRequested { task: Some(task), .. } = event else { return true };
    view.tasks.get(task).is_none_or(|task| task.state != TaskState::Running)
}

/// Any run that events lead to; what is refused on the way is left out.
pub(crate) fn any_run() -> impl Strategy<Value = RunView> {
    proptest::collection::vec(any_event(), 1..40).prop_map(|events| {
        let mut view = empty_run("r");
        for (second, event) in (1..).zip(&events) {
            if is_realistic(&view, event)
                && let Ok(changes) = apply(&view, event, moment(second))
            {
                view.absorb(changes);
            }
        }
        view
    })
}
