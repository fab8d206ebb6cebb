//! What a resume of one task is answered.

use crate::domain::checkpoint::{NewCheckpoint, ReplaySafety, SavedWork, TakenBy};
use crate::domain::environment::ExecutionMode;
use crate::domain::event::RunEvent;
use crate::domain::gate::{GateAction, GateKind, RECOVERY_REQUIRED};
use crate::domain::run::RunStatus;
use crate::domain::samples::{
    add, after, block, checkpointed, decide as decided, empty_run, interrupt, new_checkpoint, new_environment, oid,
    open_gate, requested, resume, session_id, start, task, task_id, unblock, with_task_in,
};
use crate::domain::task::TaskState;
use crate::domain::transition::RefusedTransition;
use crate::domain::view::RunView;
use crate::plan::resume::{GoOn, Wanted, decide};

fn saved(safety: ReplaySafety) -> NewCheckpoint {
    let work = SavedWork { commit: oid('a'), base: None, branch: None, files: 1 };
    NewCheckpoint { work: Some(work), ..new_checkpoint("t", safety) }
}

fn interrupted(checkpoint: Option<NewCheckpoint>) -> RunView {
    let new = new_environment("e", ExecutionMode::GitWorktree);
    let begun = after(&empty_run("r"), [add("t"), requested(Some("t"), new), start("t")]);
    after(&begun, checkpoint.map(checkpointed).into_iter().chain([interrupt("t")]))
}

fn answer(view: &RunView, wanted: Wanted) -> Result<GoOn, RefusedTransition> {
    decide(view, &task_id("t"), wanted)
}

#[test]
fn an_interrupted_task_goes_on_as_its_checkpoint_or_a_person_says() {
    let resumable = ReplaySafety::CheckpointResumable;
    let published = NewCheckpoint { result_published: true, ..saved(resumable) };
    for (checkpoint, allowed) in [
        (None, false),
        (Some(saved(resumable)), true),
        (Some(new_checkpoint("t", resumable)), false),
        (Some(published), false),
        (Some(saved(ReplaySafety::PureReadonly)), false),
        (Some(saved(ReplaySafety::IdempotentWrite)), false),
        (Some(saved(ReplaySafety::OperatorGated)), false),
        (Some(saved(ReplaySafety::NonReplayableSideEffect)), false),
    ] {
        let view = interrupted(checkpoint.clone());
        match answer(&view, Wanted::AsAllowed) {
            Ok(goes_on) => assert!(allowed && goes_on == GoOn::FromCheckpoint, "{checkpoint:?}"),
            Err(refused) => {
                assert!(!allowed && matches!(refused, RefusedTransition::NotResumable { .. }), "{checkpoint:?}");
            }
        }
        assert_eq!(answer(&view, Wanted::FromScratch), Ok(GoOn::FromScratch), "{checkpoint:?}");
    }
}

#[test]
fn only_what_waits_can_go_on() {
    for state in [
        TaskState::Running,
        TaskState::ReviewPending,
        TaskState::TestPending,
        TaskState::Completed,
        TaskState::Failed,
        TaskState::Cancelled,
    ] {
        for wanted in [Wanted::AsAllowed, Wanted::FromScratch] {
            let refused = RefusedTransition::IllegalTask { task: task_id("t"), from: state, to: TaskState::Running };
            assert_eq!(answer(&with_task_in(state), wanted), Err(refused));
        }
    }
    assert_eq!(answer(&with_task_in(TaskState::Queued), Wanted::AsAllowed), Ok(GoOn::FromScratch));
    let gated = answer(&with_task_in(TaskState::PendingApproval), Wanted::FromScratch);
    assert!(matches!(gated, Err(RefusedTransition::GatePending { .. })));
    let queued = after(&interrupted(Some(saved(ReplaySafety::CheckpointResumable))), [resume("t")]);
    assert_eq!(answer(&queued, Wanted::AsAllowed), Ok(GoOn::FromCheckpoint));
    assert_eq!(answer(&queued, Wanted::FromScratch), Ok(GoOn::FromScratch));
}

#[test]
fn what_else_holds_a_task_back_is_not_overridden() {
    let view = interrupted(Some(saved(ReplaySafety::CheckpointResumable)));
    for reason in ["needs a key", "environment e2 is missing"] {
        let held = after(&view, [block("t", reason)]);
        assert!(matches!(answer(&held, Wanted::FromScratch), Err(RefusedTransition::NotResumable { .. })), "{reason}");
    }
    for reason in ["environment e is missing", "environment e: recreate it"] {
        let held = after(&view, [block("t", reason)]);
        assert_eq!(answer(&held, Wanted::AsAllowed), Ok(GoOn::FromCheckpoint), "{reason}");
    }
    let paused = after(&view, [RunEvent::RunPaused]);
    assert!(matches!(answer(&paused, Wanted::FromScratch), Err(RefusedTransition::RunPaused { .. })));
    let ended = after(&view, [RunEvent::RunFinished { outcome: None, note: None }]);
    assert!(matches!(answer(&ended, Wanted::FromScratch), Err(RefusedTransition::RunEnded { .. })));
}

#[test]
fn an_approved_recovery_sets_free_what_it_held() {
    let view = interrupted(Some(saved(ReplaySafety::CheckpointResumable)));
    let gate = open_gate("g", GateKind::Approval, Some(RECOVERY_REQUIRED), Some("t"));
    let asked = after(&view, [RunEvent::RunPaused, gate]);
    assert_eq!(asked.run.paused_from, Some(RunStatus::Blocked));
    let approved = after(&asked, [decided("g", GateAction::Approve)]);
    assert_eq!((approved.run.status, task(&approved, "t").state), (RunStatus::Blocked, TaskState::Blocked));
    assert_eq!(answer(&approved, Wanted::AsAllowed), Ok(GoOn::FromCheckpoint));
    let rejected = after(&asked, [decided("g", GateAction::Reject)]);
    assert_eq!((rejected.run.status, task(&rejected, "t").state), (RunStatus::Failed, TaskState::Failed));
    // Somebody unblocked it meanwhile: it waits at the gate, and is free with it.
    let waits = after(&asked, [unblock("t", None)]);
    assert_eq!(task(&waits, "t").state, TaskState::PendingApproval);
    let freed = after(&waits, [decided("g", GateAction::Approve)]);
    assert_eq!(task(&freed, "t").state, TaskState::Queued);
}

#[test]
fn a_supervisor_that_saves_work_leaves_the_word_of_the_executor() {
    let said = NewCheckpoint {
        result_published: true,
        note: Some("pushed".to_owned()),
        ..new_checkpoint("t", ReplaySafety::NonReplayableSideEffect)
    };
    let running = after(&with_task_in(TaskState::Running), [checkpointed(said)]);
    let work = saved(ReplaySafety::PureReadonly);
    let saving = NewCheckpoint { by: TakenBy::Supervisor, boundary: None, ..work.clone() };
    let view = after(&running, [checkpointed(saving.clone())]);
    let (before, now) = (&running.checkpoints[&task_id("t")], &view.checkpoints[&task_id("t")]);
    assert_eq!((now.seq, &now.work), (2, &work.work));
    assert_eq!(
        (now.replay_safety, now.resume_disposition, now.result_published, &now.note, &now.safe_boundary_label),
        (before.replay_safety, before.resume_disposition, true, &before.note, &before.safe_boundary_label)
    );
    // Without any word of an executor it is the supervisor's own.
    let first = after(&with_task_in(TaskState::Running), [checkpointed(saving)]);
    assert_eq!(first.checkpoints[&task_id("t")].replay_safety, ReplaySafety::PureReadonly);
}

#[test]
fn only_the_session_that_runs_a_task_says_what_it_runs() {
    let given = |session: &str| RunEvent::TaskCommandGiven {
        task: task_id("t"),
        session: session_id(session),
        command: vec!["make".to_owned()],
    };
    let running = with_task_in(TaskState::Running);
    assert_eq!(task(&after(&running, [given("s")]), "t").command, ["make"]);
    assert!(task(&after(&running, [given("other")]), "t").command.is_empty());
    assert!(decide(&running, &task_id("t"), Wanted::AsAllowed).is_err());
}
