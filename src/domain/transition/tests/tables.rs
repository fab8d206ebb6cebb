//! Every task state × every task event, every environment state × every target.

use crate::domain::environment::{EnvironmentState, ExecutionMode};
use crate::domain::event::RunEvent;
use crate::domain::names::Named;
use crate::domain::samples::{
    acknowledge, add, after, block, cancel, done, empty_run, environment_id, fail, interrupt, lease, moment,
    new_environment, refusal, requested, resume, start, task, task_id, unblock, with_task_in,
};
use crate::domain::task::TaskState;
use crate::domain::transition::{RefusedTransition, apply};

/// What becomes of a task without retries and without a gate but the one that its state stands for; `-`: refused.
const TASKS: &str = "
from             | start   | done      | fail   | cancel    | block   | unblock | interrupt | resume | acknowledge
queued           | running | -         | -      | cancelled | blocked | -       | -         | -      | -
pending_approval | -       | -         | failed | cancelled | blocked | -       | -         | -      | -
running          | -       | completed | failed | cancelled | blocked | -       | blocked   | -      | -
blocked          | -       | -         | failed | cancelled | blocked | queued  | -         | *      | blocked
review_pending   | -       | -         | failed | cancelled | blocked | -       | -         | -      | -
test_pending     | -       | -         | failed | cancelled | blocked | -       | -         | -      | -
completed        | -       | -         | -      | -         | -       | -       | -         | -      | -
failed           | -       | -         | -      | -         | -       | -       | -         | -      | -
cancelled        | -       | -         | -      | -         | -       | -       | -         | -      | -
";

/// A resume takes away the interruption's reason alone: a task that is blocked by something else stays blocked.
const STAYS: &str = "*";

fn event(name: &str) -> (RunEvent, TaskState) {
    match name {
        "start" => (start("t"), TaskState::Running),
        "done" => (done("t"), TaskState::Completed),
        "fail" => (fail("t"), TaskState::Failed),
        "cancel" => (cancel("t"), TaskState::Cancelled),
        "block" => (block("t", "another reason"), TaskState::Blocked),
        "unblock" => (unblock("t", None), TaskState::Queued),
        "interrupt" => (interrupt("t"), TaskState::Blocked),
        "resume" => (resume("t"), TaskState::Queued),
        "acknowledge" => (acknowledge("t"), TaskState::Blocked),
        other => panic!("{other}"),
    }
}

fn rows(table: &str) -> impl Iterator<Item = Vec<&str>> {
    table.lines().filter(|line| !line.is_empty()).map(|line| line.split('|').map(str::trim).collect())
}

#[test]
fn every_task_state_meets_every_event() {
    let mut rows = rows(TASKS);
    let head = rows.next().expect("a head");
    let mut met = Vec::new();
    for row in rows {
        let from: TaskState = row[0].parse().expect("a state");
        met.push(from);
        for (name, expected) in head.iter().zip(&row).skip(1) {
            let view = with_task_in(from);
            let (event, to) = event(name);
            let mut next = view.clone();
            match (*expected, apply(&view, &event, moment(99)).map(|changes| next.absorb(changes))) {
                ("-", Err(refused)) => assert_names_both(&refused, from, to, name),
                (STAYS, Ok(())) => assert_eq!(task(&next, "t").state, from, "{from} {name}"),
                (expected, Ok(())) => assert_eq!(task(&next, "t").state.to_string(), expected, "{from} {name}"),
                (expected, Err(refused)) => panic!("{from} {name}: expected {expected}, found: {refused}"),
            }
        }
    }
    assert_eq!(met, TaskState::ALL, "a row for every state");
}

fn assert_names_both(refused: &RefusedTransition, from: TaskState, to: TaskState, name: &str) {
    // The one state that is refused for what it waits for: the gate says more than the state.
    if from == TaskState::PendingApproval && name == "start" {
        assert!(matches!(refused, RefusedTransition::GatePending { .. }), "{refused}");
        return;
    }
    let expected = RefusedTransition::IllegalTask { task: task_id("t"), from, to };
    assert_eq!(*refused, expected, "{from} {name}");
    let said = refused.to_string();
    assert!(said.contains(from.name()) && said.contains(to.name()), "{said}");
}

#[test]
fn an_unknown_task_is_refused_by_every_event() {
    let view = empty_run("r");
    for name in ["start", "done", "fail", "cancel", "block", "unblock", "interrupt", "resume", "acknowledge"] {
        let refused = refusal(&view, &event(name).0);
        assert!(matches!(refused, RefusedTransition::Unknown { what: "task", .. }), "{name}: {refused}");
    }
}

/// Where the life of an environment leads. `request` makes one anew under the same id.
const ENVIRONMENTS: &str = "
from           | request | provisioning | ready | in_use | cleanup_queued | cleaning | archived | removed | recovering | failed
requested      | yes     | yes          | yes   | -      | yes            | yes      | yes      | yes     | yes        | yes
provisioning   | yes     | yes          | yes   | -      | yes            | yes      | yes      | yes     | yes        | yes
ready          | -       | -            | yes   | yes    | yes            | yes      | yes      | yes     | yes        | yes
in_use         | -       | -            | yes   | yes    | yes            | yes      | yes      | yes     | yes        | yes
cleanup_queued | -       | -            | yes   | -      | yes            | yes      | yes      | yes     | yes        | yes
cleaning       | -       | -            | yes   | -      | yes            | yes      | yes      | yes     | yes        | yes
archived       | yes     | -            | -     | -      | -              | -        | yes      | yes     | -          | -
removed        | yes     | -            | -     | -      | -              | -        | yes      | yes     | -          | -
recovering     | -       | -            | yes   | yes    | yes            | yes      | yes      | yes     | yes        | yes
failed         | yes     | yes          | yes   | -      | yes            | yes      | yes      | yes     | yes        | yes
";

fn moved(state: EnvironmentState) -> RunEvent {
    RunEvent::EnvironmentMoved { environment: environment_id("e"), state, spec: None, failure: None, cleanup: None }
}

#[test]
fn every_environment_state_meets_every_target() {
    let mut rows = rows(ENVIRONMENTS);
    let head = rows.next().expect("a head");
    let mut met = Vec::new();
    for row in rows {
        let from: EnvironmentState = row[0].parse().expect("a state");
        met.push(from);
        let mut new = new_environment("e", ExecutionMode::GitWorktree);
        new.state = from;
        let view = after(&empty_run("r"), [add("t"), requested(Some("t"), new)]);
        for (target, expected) in head.iter().zip(&row).skip(1) {
            let event = match *target {
                "request" => requested(None, new_environment("e", ExecutionMode::GitWorktree)),
                state => moved(state.parse().expect("a state")),
            };
            match (*expected, apply(&view, &event, moment(99))) {
                ("yes", Ok(changes)) => {
                    let state = changes.environments[&environment_id("e")].state;
                    let wanted = if *target == "request" { "ready" } else { target };
                    assert_eq!(state.to_string(), wanted, "{from} {target}");
                }
                ("-", Err(refused)) => {
                    let said = refused.to_string();
                    let named = said.contains(from.name()) && said.contains(target);
                    assert!(named || *target == "request", "{from} {target}: {said}");
                }
                (expected, result) => panic!("{from} {target}: expected {expected}, found {result:?}"),
            }
        }
    }
    assert_eq!(met, EnvironmentState::ALL, "a row for every state");
}

#[test]
fn a_lease_is_taken_only_on_what_is_there() {
    for state in EnvironmentState::ALL {
        let mut new = new_environment("e", ExecutionMode::SharedWorkspace);
        new.state = *state;
        let view = after(&empty_run("r"), [requested(None, new)]);
        let event = RunEvent::EnvironmentLeased { environment: environment_id("e"), lease: lease("s", None) };
        let taken = apply(&view, &event, moment(9)).is_ok();
        let there = [EnvironmentState::Ready, EnvironmentState::InUse, EnvironmentState::Recovering].contains(state);
        assert_eq!(taken, there, "{state}");
    }
}

#[test]
fn a_released_lease_leaves_the_environment_ready_unless_it_has_ended_or_is_half_done() {
    for state in EnvironmentState::ALL {
        let leased = RunEvent::EnvironmentLeased { environment: environment_id("e"), lease: lease("s", None) };
        let new = new_environment("e", ExecutionMode::GitWorktree);
        let mut view = after(&empty_run("r"), [requested(None, new), leased]);
        view.environments.get_mut(&environment_id("e")).expect("it").state = *state;
        let released = RunEvent::LeaseReleased { environment: environment_id("e"), reason: "dead".to_owned() };
        let view = after(&view, [released]);
        let environment = &view.environments[&environment_id("e")];
        let stays = ["archived", "removed", "failed", "recovering", "cleaning"].contains(&state.name());
        assert_eq!(environment.state, if stays { *state } else { EnvironmentState::Ready });
        assert_eq!(environment.lease.as_ref().and_then(|lease| lease.release_reason.as_deref()), Some("dead"));
        assert!(environment.held_lease().is_none());
    }
}

#[test]
fn a_task_that_stops_gives_back_its_own_lease_and_nobody_elses() {
    for (holder, kept) in [("s", false), ("another", true)] {
        for (stopped, _) in [event("done"), event("fail"), event("interrupt")] {
            let new = new_environment("e", ExecutionMode::GitWorktree);
            let leased = RunEvent::EnvironmentLeased { environment: environment_id("e"), lease: lease(holder, None) };
            let view = after(&empty_run("r"), [add("t"), requested(Some("t"), new), start("t"), leased, stopped]);
            let held = view.environments[&environment_id("e")].held_lease();
            assert_eq!(held.is_some(), kept, "{holder}: {held:?}");
        }
    }
}

#[test]
fn a_task_with_retries_is_queued_again_as_often_as_it_may_then_failed() {
    let mut new = crate::domain::task::NewTask::named(task_id("t"));
    new.retry.max = 2;
    new.retry.backoff_seconds = 10;
    let mut view = after(&empty_run("r"), [crate::domain::samples::added(new)]);
    for used in 1..=2 {
        let at = moment(1_000 * i64::from(used));
        view.absorb(apply(&view, &start("t"), at).expect("it starts"));
        view.absorb(apply(&view, &fail("t"), at).expect("it fails"));
        assert_eq!((task(&view, "t").state, task(&view, "t").retry.used), (TaskState::Queued, used));
        let early = apply(&view, &start("t"), moment(1_000 * i64::from(used) + 9));
        assert!(matches!(early, Err(RefusedTransition::BackingOff { .. })), "{early:?}");
    }
    view.absorb(apply(&view, &start("t"), moment(5_000)).expect("it starts"));
    view.absorb(apply(&view, &fail("t"), moment(5_000)).expect("it fails"));
    assert_eq!((task(&view, "t").state, task(&view, "t").attempts), (TaskState::Failed, 3));
}

#[test]
fn what_is_not_completed_holds_back_what_depends_on_it() {
    for state in TaskState::ALL {
        let mut new = crate::domain::task::NewTask::named(task_id("later"));
        new.depends_on = vec![task_id("t")];
        let view = after(&with_task_in(*state), [crate::domain::samples::added(new)]);
        match apply(&view, &start("later"), moment(99)) {
            Ok(_) => assert_eq!(*state, TaskState::Completed),
            Err(refused) => {
                let said = refused.to_string();
                assert!(said.contains("waits for t") && said.contains(state.name()), "{said}");
                assert_ne!(*state, TaskState::Completed);
            }
        }
    }
}

#[test]
fn blocked_reasons_are_a_set() {
    let view = after(&with_task_in(TaskState::Queued), ["a", "b", "a", "b", "a"].map(|reason| block("t", reason)));
    assert_eq!(task(&view, "t").blocked_reasons, ["a", "b"]);
    let view = after(&view, [unblock("t", Some("a"))]);
    assert_eq!((task(&view, "t").state, task(&view, "t").blocked_reasons.len()), (TaskState::Blocked, 1));
    let view = after(&view, [unblock("t", Some("b"))]);
    assert_eq!((task(&view, "t").state, task(&view, "t").blocked_reasons.len()), (TaskState::Queued, 0));
}

#[test]
fn work_that_is_done_is_not_done_again_because_it_was_blocked() {
    let view = after(&with_task_in(TaskState::ReviewPending), [block("t", "odd"), unblock("t", None)]);
    assert_eq!(task(&view, "t").state, TaskState::ReviewPending);
    let approved = crate::domain::samples::decide("review-t", crate::domain::gate::GateAction::Approve);
    let view = after(&with_task_in(TaskState::ReviewPending), [block("t", "odd"), approved, unblock("t", None)]);
    assert_eq!(task(&view, "t").state, TaskState::Completed);
}

#[test]
fn a_second_interruption_is_noted_over_our_own_word_but_not_over_the_executors() {
    use crate::domain::checkpoint::{ReplaySafety, SavedWork};
    use crate::domain::samples::{checkpointed, new_checkpoint, oid};
    let mut new = new_checkpoint("t", ReplaySafety::CheckpointResumable);
    new.work = Some(SavedWork { commit: oid('b'), base: None, branch: None, files: 1 });
    let own_word = |note: Option<&str>| {
        let mut new = new.clone();
        new.note = note.map(ToOwned::to_owned);
        let view = after(&with_task_in(TaskState::Running), [checkpointed(new), interrupt("t")]);
        view.checkpoints[&task_id("t")].note.clone()
    };
    assert_eq!(own_word(None).as_deref(), Some("execution interrupted"));
    assert_eq!(own_word(Some("mine")).as_deref(), Some("mine"));
    let again = [checkpointed(new), interrupt("t"), resume("t"), start("t"), interrupt("t")];
    let view = after(&with_task_in(TaskState::Running), again);
    assert_eq!(view.checkpoints[&task_id("t")].note.as_deref(), Some("execution interrupted"));
}
