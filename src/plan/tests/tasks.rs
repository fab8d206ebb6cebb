//! SPEC §5, Tasks: each row.

use super::scene::{Scene, clean};
use crate::domain::checkpoint::{NewCheckpoint, ReplaySafety, SavedWork, Stage};
use crate::domain::environment::ExecutionMode;
use crate::domain::liveness::Verdict;
use crate::domain::run::RunStatus;
use crate::domain::samples::{
    add, after, block, checkpointed, empty_run, new_checkpoint, new_environment, oid, requested, start, task, task_id,
    with_task_in,
};
use crate::domain::session::SessionStatus;
use crate::domain::task::TaskState;
use crate::domain::view::RunView;
use crate::plan::finding::FindingCode;
use crate::plan::observation::PlaceSeen;
use crate::plan::recover::Permission;
use crate::plan::step::Step;

/// A running task in a worktree, with a checkpoint if there is one.
fn running(checkpoint: Option<NewCheckpoint>) -> RunView {
    let new = new_environment("e", ExecutionMode::GitWorktree);
    after(
        &empty_run("r"),
        [add("t"), requested(Some("t"), new), start("t")].into_iter().chain(checkpoint.map(checkpointed)),
    )
}

fn saved(safety: ReplaySafety) -> NewCheckpoint {
    let work = SavedWork { commit: oid('b'), base: None, branch: None, files: 3 };
    NewCheckpoint { work: Some(work), ..new_checkpoint("t", safety) }
}

fn scene(checkpoint: Option<NewCheckpoint>, verdict: Verdict) -> Scene {
    Scene::of(running(checkpoint)).session("s", verdict).place("e", clean())
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::name).collect()
}

#[test]
fn a_live_or_doubtful_session_keeps_its_task_running() {
    for (verdict, code) in [
        (Verdict::Alive, None),
        (Verdict::Unknown, Some(FindingCode::SessionUnknown)),
        (Verdict::Elsewhere, Some(FindingCode::SessionElsewhere)),
    ] {
        let scene = scene(None, verdict);
        assert_eq!(scene.codes(), Vec::from_iter(code));
        assert_eq!(names(&scene.plan(&[]).steps), ["note_environment"]);
        let after = scene.recovered();
        assert_eq!(task(after.view(), "t"), task(scene.view(), "t"));
        assert_eq!(after.records.sessions, scene.records.sessions);
    }
}

#[test]
fn a_dead_session_leaves_its_task_blocked_with_a_precise_reason() {
    let published = NewCheckpoint { result_published: true, ..saved(ReplaySafety::CheckpointResumable) };
    for (checkpoint, reason) in [
        (None, "execution interrupted"),
        (Some(saved(ReplaySafety::CheckpointResumable)), "execution interrupted: can resume from checkpoint at 'half'"),
        (Some(saved(ReplaySafety::PureReadonly)), "execution interrupted: can restart from boundary 'half'"),
        (Some(saved(ReplaySafety::IdempotentWrite)), "execution interrupted: can restart from boundary 'half'"),
        (
            Some(saved(ReplaySafety::OperatorGated)),
            "execution interrupted: operator action required: stopped at 'half'",
        ),
        (
            Some(saved(ReplaySafety::NonReplayableSideEffect)),
            "execution interrupted: operator action required: stopped at 'half'",
        ),
        // Neither resume state nor saved work, or a result that is out: a person has to look.
        (
            Some(new_checkpoint("t", ReplaySafety::CheckpointResumable)),
            "execution interrupted: operator action required: stopped at 'half'",
        ),
        (Some(published), "execution interrupted: operator action required: stopped at 'half'"),
    ] {
        let before = scene(checkpoint, Verdict::Dead);
        assert!(before.codes().contains(&FindingCode::ExecutionInterrupted));
        let after = before.recovered();
        let task = task(after.view(), "t");
        assert_eq!((task.state, task.attempts), (TaskState::Blocked, 1));
        assert_eq!(task.blocked_reasons, [reason]);
        assert_eq!(
            after.records.sessions.values().next().map(|session| session.status),
            Some(SessionStatus::Abandoned)
        );
        if let Some(checkpoint) = after.view().checkpoints.get(&task_id("t")) {
            assert_eq!((checkpoint.stage, checkpoint.note.as_deref()), (Stage::Blocked, Some("execution interrupted")));
        }
        assert_eq!(names(&after.plan(&[]).steps), [""; 0], "the law");
    }
}

#[test]
fn a_command_that_outlives_its_supervisor_keeps_its_task() {
    let mut scene = scene(None, Verdict::Alive);
    scene.seen.liveness.values_mut().for_each(|known| known.supervisor_gone = true);
    assert_eq!(scene.codes(), [FindingCode::SupervisorDead]);
    assert_eq!(scene.recovered().view().tasks, scene.view().tasks);
}

#[test]
fn a_session_without_record_is_dead_where_the_run_is_ours_and_elsewhere_otherwise() {
    let ours = Scene::of(running(None)).place("e", clean());
    assert_eq!(task(ours.recovered().view(), "t").state, TaskState::Blocked);
    let mut view = running(None);
    view.run.host = crate::domain::ids::HostId("m-other".to_owned());
    let theirs = Scene::of(view).place("e", clean());
    assert_eq!(theirs.codes(), [FindingCode::SessionElsewhere]);
    assert_eq!(task(theirs.recovered().view(), "t").state, TaskState::Running);
}

#[test]
fn an_unreadable_state_counts_as_interrupted() {
    let mut view = running(None);
    view.tasks.get_mut(&task_id("t")).expect("it").unreadable_state = Some("pondering".to_owned());
    let after = Scene::of(view).session("s", Verdict::Alive).place("e", clean()).recovered();
    assert_eq!((task(after.view(), "t").state, &task(after.view(), "t").unreadable_state), (TaskState::Blocked, &None));
}

#[test]
fn resume_queues_what_its_checkpoint_allows_and_nothing_else() {
    for safety in <ReplaySafety as crate::domain::names::Named>::ALL {
        let interrupted = scene(Some(saved(*safety)), Verdict::Dead).recovered();
        for (allowed, expected) in [
            (vec![], false),
            (vec![Permission::Resume], *safety == ReplaySafety::CheckpointResumable),
            (
                vec![Permission::Resume, Permission::Restart],
                !matches!(safety, ReplaySafety::OperatorGated | ReplaySafety::NonReplayableSideEffect),
            ),
        ] {
            let plan = interrupted.plan(&allowed);
            let after = interrupted.after(&plan.steps);
            let queued = task(after.view(), "t").state == TaskState::Queued;
            assert_eq!(queued, expected, "{safety} {allowed:?}");
            if queued {
                let checkpoint = &after.view().checkpoints[&task_id("t")];
                assert_eq!((checkpoint.stage, checkpoint.note.as_deref()), (Stage::Queued, Some("resume scheduled")));
            }
            assert_eq!(names(&after.plan(&allowed).steps), [""; 0], "the law");
        }
    }
}

#[test]
fn other_reasons_keep_a_resumed_task_blocked() {
    let interrupted = scene(Some(saved(ReplaySafety::CheckpointResumable)), Verdict::Dead).recovered();
    let mut scene = interrupted.clone();
    let view = after(scene.view(), [block("t", "somebody said so")]);
    scene.records.runs.insert(view.run.id.clone(), view);
    let plan = scene.plan(&[Permission::Resume]);
    let resumed = scene.after(&plan.steps);
    assert_eq!(task(resumed.view(), "t").state, TaskState::Blocked);
    assert_eq!(task(resumed.view(), "t").blocked_reasons, ["somebody said so"]);
}

#[test]
fn nothing_resumes_without_its_place_or_in_a_paused_run() {
    let dead = scene(Some(saved(ReplaySafety::CheckpointResumable)), Verdict::Dead);
    for place in [PlaceSeen::Gone, PlaceSeen::OffCourse("branch x".to_owned()), PlaceSeen::Unknown("EIO".to_owned())] {
        let plan = dead.clone().place("e", place).plan(&[Permission::Resume]);
        assert!(!names(&plan.steps).contains(&"schedule_resume"), "{:?}", plan.steps);
        assert!(plan.resumable.is_empty());
    }
    let mut paused = dead.recovered();
    paused.records.runs.values_mut().for_each(|view| view.run.status = RunStatus::Paused);
    assert!(paused.plan(&[Permission::Resume]).steps.is_empty());
    let gone = dead.place("e", PlaceSeen::Gone).plan(&[Permission::Resume, Permission::Recreate]);
    let order = names(&gone.steps);
    let at = |name| order.iter().position(|step| *step == name).unwrap_or_else(|| panic!("{name} in {order:?}"));
    assert!(at("recreate_environment") < at("schedule_resume"));
}

#[test]
fn a_command_is_run_only_where_this_machine_recorded_it() {
    let mut interrupted = scene(Some(saved(ReplaySafety::CheckpointResumable)), Verdict::Dead).recovered();
    assert!(!names(&interrupted.plan(&[Permission::Resume]).steps).contains(&"run_task"));
    interrupted.seen.runnable.insert("r/t".to_owned());
    assert_eq!(names(&interrupted.plan(&[Permission::Resume]).steps), ["schedule_resume", "run_task"]);
    assert!(interrupted.plan(&[]).steps.is_empty());
    // Queued by a recovery that died before it ran the command: the next one runs it.
    let queued = interrupted.after(&interrupted.plan(&[Permission::Resume]).steps[..1]);
    assert_eq!(names(&queued.plan(&[Permission::Resume]).steps), ["run_task"]);
}

#[test]
fn ended_runs_keep_their_tasks_and_sessions() {
    use crate::domain::event::RunEvent;
    let finished = after(&running(None), [RunEvent::RunFinished { outcome: None, note: None }]);
    let scene = Scene::of(finished).session("s", Verdict::Dead).place("e", PlaceSeen::Gone);
    let after = scene.recovered();
    assert_eq!(after.view().tasks, scene.view().tasks);
    assert_eq!(after.records.sessions, scene.records.sessions);
    for state in [TaskState::Completed, TaskState::Failed] {
        let ended = Scene::of(with_task_in(state)).session("s", Verdict::Dead);
        assert_eq!(ended.recovered().view().tasks, ended.view().tasks);
        assert_eq!(ended.recovered().records.sessions, ended.records.sessions);
    }
}

#[test]
fn a_started_task_without_environment_is_given_one() {
    let mut view = after(&empty_run("r"), [add("t"), start("t")]);
    view.tasks.get_mut(&task_id("t")).expect("it").agent = Some("codex:GPT 5".to_owned());
    let scene = Scene::of(view).session("s", Verdict::Alive);
    assert_eq!(scene.codes(), [FindingCode::EnvironmentNotNamed]);
    let after = scene.recovered();
    let environment = task(after.view(), "t").environment.clone().expect("one");
    assert_eq!(environment.as_str(), "env_r_t_codex-gpt-5");
    assert_eq!(after.view().environments[&environment].execution_mode, ExecutionMode::SharedWorkspace);
    assert_eq!(task(after.view(), "t").state, TaskState::Running);
    let second = after.recovered();
    assert!(second.plan(&[]).steps.is_empty());
    let ended = Scene::of(with_task_in(TaskState::Completed));
    assert!(ended.plan(&[]).steps.is_empty(), "not an ended one");
}
