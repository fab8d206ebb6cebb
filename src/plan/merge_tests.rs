//! Merging, held to its laws on histories that the transitions themselves made.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use proptest::prelude::*;

use super::*;
use crate::domain::event::{ActivityReport, RunEvent, WorkEnd};
use crate::domain::gate::{Decision, GateAction, GateState};
use crate::domain::ids::{HostId, SessionId, TaskPointer};
use crate::domain::run::{NewRun, RunStatus};
use crate::domain::task::{NewTask, Requirement};
use crate::domain::transition::apply;

fn at(second: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + second).unwrap()
}

fn task(id: &str) -> TaskId {
    TaskId::new(id).unwrap()
}

fn run() -> RunId {
    RunId::new("r").unwrap()
}

fn start() -> RunView {
    let new = NewRun {
        id: run(),
        name: None,
        parent: None,
        depth: 0,
        lead_agent: None,
        policy: crate::domain::run::Policy::default(),
        metadata: crate::domain::document::Document::default(),
        host: HostId("h".to_owned()),
    };
    RunView::of_run(Run::start(new, at(0)))
}

/// What a host does; what the rules refuse does not happen.
fn happen(view: &RunView, events: &[(i64, RunEvent)]) -> RunView {
    let mut view = view.clone();
    for (second, event) in events {
        if let Ok(changes) = apply(&view, event, at(*second)) {
            view.absorb(changes);
        }
    }
    view
}

fn added(id: &str) -> RunEvent {
    RunEvent::TaskAdded(Box::new(NewTask { prompt: Some("work".to_owned()), ..NewTask::named(task(id)) }))
}

fn started(id: &str, session: &str) -> RunEvent {
    RunEvent::TaskStarted { task: task(id), session: SessionId::new(session).unwrap(), lease: None }
}

fn done(id: &str) -> RunEvent {
    RunEvent::TaskDone { task: task(id), end: WorkEnd::default() }
}

fn failed(id: &str) -> RunEvent {
    RunEvent::TaskFailed { task: task(id), end: WorkEnd::default() }
}

fn blocked(id: &str, reason: &str) -> RunEvent {
    RunEvent::TaskBlocked { task: task(id), reason: reason.to_owned() }
}

fn decided(gate: &str, action: GateAction, second: i64) -> RunEvent {
    let decision = Decision { action, answer: None, note: None, actor: None, token: None, at: at(second) };
    RunEvent::GateDecided { gate: GateId::new(gate).unwrap(), decision }
}

fn spawned(id: &str) -> RunEvent {
    let pointer = TaskPointer { run: None, task: task(id) };
    let message = Some((Some("user".to_owned()), Some(format!("about {id}"))));
    RunEvent::ActivityReported(ActivityReport { spawned: vec![pointer], message, ..ActivityReport::default() })
}

/// Three tasks, one of which needs a review and a test.
fn base() -> RunView {
    let reviewed = NewTask { requirements: vec![Requirement::Review, Requirement::Test], ..NewTask::named(task("c")) };
    happen(&start(), &[(1, added("a")), (2, added("b")), (3, RunEvent::TaskAdded(Box::new(reviewed)))])
}

fn both_ways(base: &RunView, one: &RunView, other: &RunView) -> RunView {
    let merged = merge_runs(Some(base), one, other);
    assert_eq!(merged, merge_runs(Some(base), other, one));
    merged
}

#[test]
fn what_one_side_did_stands_whatever_the_other_did_elsewhere() {
    let base = base();
    let ours = happen(&base, &[(10, started("a", "s1")), (11, done("a")), (12, spawned("x"))]);
    let theirs = happen(&base, &[(20, started("b", "s2")), (21, added("d")), (22, spawned("y"))]);
    let merged = both_ways(&base, &ours, &theirs);
    let states: Vec<_> = merged.tasks.values().map(|task| task.state).collect();
    assert_eq!(states, [TaskState::Completed, TaskState::Running, TaskState::Queued, TaskState::Queued]);
    assert_eq!(merged.run.status, RunStatus::Running);
    assert_eq!(merged.run.task_summary.total(), 4);
    assert_eq!(merged.run.spawned_tasks.len(), 2);
    assert_eq!(merged.run.messages.len(), 2);
    assert!(merged.gates.is_empty());
}

#[test]
fn terminal_beats_not_terminal_even_if_it_is_older() {
    let base = happen(&base(), &[(5, started("a", "s1"))]);
    let ours = happen(&base, &[(10, done("a"))]);
    let theirs = happen(&base, &[(20, blocked("a", "no disk"))]);
    let merged = both_ways(&base, &ours, &theirs);
    assert_eq!(merged.tasks[&task("a")].state, TaskState::Completed);
    assert!(merged.gates.is_empty());
}

#[test]
fn contradictions_keep_the_later_and_ask_a_person() {
    let running = happen(&base(), &[(5, started("a", "s1"))]);
    let merged = both_ways(&running, &happen(&running, &[(10, done("a"))]), &happen(&running, &[(20, failed("a"))]));
    assert_eq!(merged.tasks[&task("a")].state, TaskState::Failed);
    let gate = merged.gates.values().next().unwrap();
    assert_eq!((gate.key.as_deref(), gate.state), (Some(SYNC_CONFLICT), GateState::Pending));
    assert_eq!(merged.run.pending_gates, std::slice::from_ref(&gate.id));
    assert!(merged.run.requires_attention);
    assert!(
        gate.context.as_deref().unwrap().contains("completed") && gate.context.as_deref().unwrap().contains("failed")
    );

    let base = base();
    let merged =
        both_ways(&base, &happen(&base, &[(10, started("b", "s1"))]), &happen(&base, &[(20, started("b", "s2"))]));
    assert_eq!(merged.tasks[&task("b")].session, Some(SessionId::new("s2").unwrap()));
    assert_eq!(merged.gates.len(), 1 + base.gates.len());

    let cancelled = happen(&base, &[(30, RunEvent::RunCancelled)]);
    let merged = both_ways(&base, &cancelled, &happen(&base, &[(40, added("e"))]));
    assert_eq!(merged.run.status, RunStatus::Cancelled);
    assert_eq!(merged.tasks[&task("e")].state, TaskState::Cancelled);
}

#[test]
fn the_same_moment_is_settled_alike_on_both_sides_and_shown() {
    let base = base();
    let merged =
        both_ways(&base, &happen(&base, &[(10, blocked("a", "x"))]), &happen(&base, &[(10, started("a", "s"))]));
    assert_eq!(merged.pending_gates().len(), 1);
}

#[test]
fn a_touch_elsewhere_does_not_undo_work() {
    let base = base();
    let ours = happen(&base, &[(10, started("a", "s1"))]);
    let mut theirs = happen(&base, &[(20, spawned("x"))]);
    let touched = theirs.tasks.get_mut(&task("a")).unwrap();
    (touched.priority, touched.updated_at) = (7, at(20));
    let merged = both_ways(&base, &ours, &theirs);
    assert_eq!(merged.tasks[&task("a")].state, TaskState::Running);
    assert_eq!(merged.tasks[&task("a")].priority, 7);
}

#[test]
fn reasons_are_joined_and_gates_that_each_side_decided_let_go() {
    let one = base();
    let merged = both_ways(&one, &happen(&one, &[(10, blocked("a", "x"))]), &happen(&one, &[(20, blocked("a", "y"))]));
    assert_eq!(merged.tasks[&task("a")].blocked_reasons, ["x", "y"]);

    let waiting = happen(&one, &[(5, started("c", "s")), (6, done("c"))]);
    let pending: Vec<_> = waiting.pending_gates().iter().map(|gate| gate.id.to_string()).collect();
    assert_eq!(pending.len(), 2, "{pending:?}");
    let ours = happen(&waiting, &[(10, decided(&pending[0], GateAction::Approve, 10))]);
    let theirs = happen(&waiting, &[(11, decided(&pending[1], GateAction::Approve, 11))]);
    assert_eq!(both_ways(&waiting, &ours, &theirs).tasks[&task("c")].state, TaskState::Completed);

    let theirs = happen(&waiting, &[(11, decided(&pending[0], GateAction::Reject, 11))]);
    let merged = both_ways(&waiting, &ours, &theirs);
    assert!(merged.pending_gates().iter().any(|gate| gate.key.as_deref() == Some(SYNC_CONFLICT)));
}

#[test]
fn the_first_end_of_a_session_stays_and_merged_follows_complete() {
    let session = |status, completed: Option<i64>| {
        let mut session = crate::plan::merge::tests::session();
        (session.status, session.completed_at) = (status, completed.map(at));
        session
    };
    let base = session(SessionStatus::Active, None);
    let complete = session(SessionStatus::Complete, Some(10));
    let abandoned = session(SessionStatus::Abandoned, Some(20));
    let merged = session(SessionStatus::Merged, Some(10));
    for (one, other, wins) in
        [(&base, &complete, &complete), (&complete, &abandoned, &complete), (&complete, &merged, &merged)]
    {
        assert_eq!(merge_sessions(Some(&base), one, other), *wins);
        assert_eq!(merge_sessions(Some(&base), other, one), *wins);
    }
}

fn session() -> Session {
    Session {
        id: SessionId::new("s").unwrap(),
        thread: "t".to_owned(),
        status: SessionStatus::Active,
        agent: crate::domain::session::Agent::default(),
        actor_key: None,
        parent_actor_key: None,
        client_key: None,
        native_key: None,
        group: None,
        path: None,
        process: crate::domain::session::ProcessFingerprint {
            host: HostId("h".to_owned()),
            boot: None,
            pid_namespace: None,
            pid: None,
            start_time: None,
        },
        heartbeat_at: None,
        usage: crate::domain::session::Usage::default(),
        attach: crate::domain::session::Attach::default(),
        context_queries: Vec::new(),
        recovery_attempts: 0,
        last_progress_at: None,
        base_commit: None,
        metadata: crate::domain::document::Document::default(),
        started_at: at(0),
        completed_at: None,
        lease_seconds: 600,
        holds_lock: false,
    }
}

fn any_event() -> impl Strategy<Value = RunEvent> {
    let name = prop_oneof![Just("a"), Just("b"), Just("c"), Just("d")];
    let word = prop_oneof![Just("x"), Just("y"), Just("z")];
    (0..12u8, name, word).prop_map(|(kind, id, word)| match kind {
        0 => added(id),
        1 | 2 => started(id, word),
        3 => done(id),
        4 => failed(id),
        5 => blocked(id, word),
        6 => RunEvent::TaskUnblocked { task: task(id), reason: None },
        7 => spawned(word),
        8 => RunEvent::RunPaused,
        9 => RunEvent::RunUnpaused,
        10 => decided(&format!("review-{id}"), GateAction::Approve, 1_000),
        _ => RunEvent::TaskCancelled { task: task(id), end: WorkEnd::default() },
    })
}

/// Histories of one host: no two things on any two hosts happen at one moment.
fn history(host: i64) -> impl Strategy<Value = Vec<(i64, RunEvent)>> {
    prop::collection::vec((0..40i64, any_event()), 0..8).prop_map(move |mut events| {
        events.sort_by_key(|(second, _)| *second);
        events.iter_mut().enumerate().for_each(|(number, (second, _))| {
            *second = 10 + (*second * 8 + i64::try_from(number).unwrap()) * 3 + host;
        });
        events
    })
}

/// What merging in another order may not change: all but the gates at which pairs of hosts contradicted each other, what follows
/// from those, and the reasons of tasks (they go with the state that wins).
fn comparable(mut view: RunView) -> RunView {
    view.gates.retain(|_, gate| gate.key.as_deref() != Some(SYNC_CONFLICT));
    for task in view.tasks.values_mut() {
        task.gates.retain(|gate| view.gates.contains_key(gate));
        task.blocked_reasons.clear();
    }
    view.run.pending_gates.clear();
    view.run.status = RunStatus::Draft;
    view.run.completed_at = None;
    view.run.requires_attention = false;
    view
}

proptest! {
    #[test]
    fn merging_is_commutative_and_idempotent(common in history(0), one in history(1), other in history(2)) {
        let base = happen(&base(), &common);
        let (one, other) = (happen(&base, &one), happen(&base, &other));
        let merged = merge_runs(Some(&base), &one, &other);
        prop_assert_eq!(&merged, &merge_runs(Some(&base), &other, &one));
        prop_assert_eq!(&merge_runs(None, &one, &other), &merge_runs(None, &other, &one));
        prop_assert_eq!(&merged, &merge_runs(Some(&base), &merged, &merged));
        // A side that has it all takes nothing more from what went into it.
        prop_assert_eq!(&merged, &merge_runs(Some(&one), &merged, &one));
        prop_assert_eq!(&merged, &merge_runs(Some(&other), &other, &merged));
        prop_assert_eq!(merge_runs(Some(&base), &one, &base), one);
    }

    #[test]
    fn merging_is_associative(one in history(0), two in history(1), three in history(2)) {
        let base = base();
        let [one, two, three] = [one, two, three].map(|events| happen(&base, &events));
        let left = merge_runs(Some(&base), &merge_runs(Some(&base), &one, &two), &three);
        let right = merge_runs(Some(&base), &one, &merge_runs(Some(&base), &two, &three));
        prop_assert_eq!(comparable(left), comparable(right));
    }

    #[test]
    fn a_merged_run_agrees_with_its_tasks(one in history(1), other in history(2)) {
        let base = base();
        let merged = merge_runs(Some(&base), &happen(&base, &one), &happen(&base, &other));
        let count = |state| merged.tasks.values().filter(|task| task.state == state).count() as u64;
        for state in [TaskState::Queued, TaskState::Running, TaskState::Blocked, TaskState::Completed, TaskState::Failed] {
            prop_assert_eq!(merged.run.task_summary.count(state), count(state));
        }
        let pending: Vec<_> = merged.pending_gates().iter().map(|gate| gate.id.clone()).collect();
        prop_assert_eq!(&merged.run.pending_gates, &pending);
        if merged.run.status != RunStatus::Paused {
            prop_assert_eq!(merged.run.status, merged.run.derived_status());
        }
    }
}
