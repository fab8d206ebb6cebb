//! Ready-made records for tests: what a rule is tried on, spelled out once.
//!
//! Owns sample values and a small generator of cases. Must not know any rule: tests state those themselves.

#![allow(clippy::unwrap_used, reason = "a sample that is wrong stops the test")]

use super::checkpoint::{NewCheckpoint, ReplaySafety};
use super::claim::{Claim, ClaimKind};
use super::document::Document;
use super::environment::{
    CleanupPolicy, EnvironmentSpec, EnvironmentState, ExecutionMode, Lease, NewEnvironment, WorktreeSpec,
};
use super::event::RunEvent;
use super::gate::{Decision, GateAction, GateKind, NewGate};
use super::ids::{EnvironmentId, GateId, HostId, Oid, RunId, SessionId, TaskId, Token};
use super::run::{NewRun, Policy, Run};
use super::session::{Agent, Attach, ProcessFingerprint, Session, SessionStatus, Usage};
use super::task::{NewTask, Task, TaskState};
use super::time::Timestamp;
use super::transition::{RefusedTransition, apply};
use super::view::RunView;

/// So many seconds into the day on which tests play.
pub(crate) fn moment(seconds: i64) -> Timestamp {
    Timestamp::from_seconds(1_800_000_000 + seconds).unwrap()
}

pub(crate) fn task_id(text: &str) -> TaskId {
    TaskId::new(text).unwrap()
}

pub(crate) fn environment_id(text: &str) -> EnvironmentId {
    EnvironmentId::new(text).unwrap()
}

pub(crate) fn gate_id(text: &str) -> GateId {
    GateId::new(text).unwrap()
}

pub(crate) fn session_id(text: &str) -> SessionId {
    SessionId::new(text).unwrap()
}

pub(crate) fn host() -> HostId {
    HostId("m-here".to_owned())
}

pub(crate) fn oid(digit: char) -> Oid {
    Oid(digit.to_string().repeat(40))
}

pub(crate) fn new_run(id: &str) -> NewRun {
    NewRun {
        id: RunId::new(id).unwrap(),
        name: None,
        parent: None,
        depth: 0,
        lead_agent: None,
        policy: Policy::default(),
        metadata: Document::default(),
        host: host(),
    }
}

/// A run that has just been started, without any task.
pub(crate) fn empty_run(id: &str) -> RunView {
    RunView::of_run(Run::start(new_run(id), moment(0)))
}

/// Applies events that have to be legal, one second after the other.
pub(crate) fn after(view: &RunView, events: impl IntoIterator<Item = RunEvent>) -> RunView {
    let mut view = view.clone();
    for (second, event) in (1..).zip(events) {
        let changes = apply(&view, &event, moment(second)).unwrap_or_else(|refused| panic!("{event:?}: {refused}"));
        view.absorb(changes);
    }
    view
}

/// Why an event is refused; it has to be.
pub(crate) fn refusal(view: &RunView, event: &RunEvent) -> RefusedTransition {
    match apply(view, event, moment(100)) {
        Ok(_) => panic!("{event:?} was not refused"),
        Err(refused) => refused,
    }
}

pub(crate) fn add(task: &str) -> RunEvent {
    added(NewTask::named(task_id(task)))
}

pub(crate) fn added(new: NewTask) -> RunEvent {
    RunEvent::TaskAdded(Box::new(new))
}

pub(crate) fn start(task: &str) -> RunEvent {
    RunEvent::TaskStarted { task: task_id(task), session: session_id("s"), lease: None }
}

pub(crate) fn done(task: &str) -> RunEvent {
    RunEvent::TaskDone { task: task_id(task), end: super::event::WorkEnd::default() }
}

pub(crate) fn fail(task: &str) -> RunEvent {
    RunEvent::TaskFailed { task: task_id(task), end: super::event::WorkEnd::default() }
}

pub(crate) fn cancel(task: &str) -> RunEvent {
    RunEvent::TaskCancelled { task: task_id(task), end: super::event::WorkEnd::default() }
}

pub(crate) fn block(task: &str, reason: &str) -> RunEvent {
    RunEvent::TaskBlocked { task: task_id(task), reason: reason.to_owned() }
}

pub(crate) fn unblock(task: &str, reason: Option<&str>) -> RunEvent {
    RunEvent::TaskUnblocked { task: task_id(task), reason: reason.map(ToOwned::to_owned) }
}

pub(crate) fn interrupt(task: &str) -> RunEvent {
    RunEvent::ExecutionInterrupted { task: task_id(task) }
}

pub(crate) fn resume(task: &str) -> RunEvent {
    RunEvent::ResumeScheduled { task: task_id(task) }
}

pub(crate) fn acknowledge(task: &str) -> RunEvent {
    RunEvent::BlockAcknowledged { task: task_id(task) }
}

pub(crate) fn open_gate(id: &str, kind: GateKind, key: Option<&str>, task: Option<&str>) -> RunEvent {
    RunEvent::GateOpened(Box::new(NewGate {
        id: gate_id(id),
        kind,
        key: key.map(ToOwned::to_owned),
        task: task.map(task_id),
        prompt: None,
        choices: Vec::new(),
        context: None,
        question_type: None,
    }))
}

pub(crate) fn decide(id: &str, action: GateAction) -> RunEvent {
    let answer = (action == GateAction::Answer).then(|| "yes".to_owned());
    let decision = Decision { action, answer, note: None, actor: None, token: None, at: moment(50) };
    RunEvent::GateDecided { gate: gate_id(id), decision }
}

pub(crate) fn new_checkpoint(task: &str, replay_safety: ReplaySafety) -> NewCheckpoint {
    NewCheckpoint {
        task: task_id(task),
        boundary: Some("half".to_owned()),
        replay_safety,
        disposition: None,
        steps: Vec::new(),
        note: None,
        result_published: false,
        resume_state: None,
        work: None,
        workspace_dir: None,
        by: crate::domain::checkpoint::TakenBy::Executor,
    }
}

pub(crate) fn checkpointed(new: NewCheckpoint) -> RunEvent {
    RunEvent::CheckpointTaken(Box::new(new))
}

/// A free environment of a mode, at `/place/<id>`.
pub(crate) fn new_environment(id: &str, mode: ExecutionMode) -> NewEnvironment {
    let worktree = (mode == ExecutionMode::GitWorktree).then(|| WorktreeSpec {
        branch: Some(format!("branch-{id}")),
        base: Some("HEAD".to_owned()),
        base_commit: Some(oid('a')),
        create_branch_if_missing: true,
        branch_created: true,
    });
    NewEnvironment {
        id: environment_id(id),
        execution_mode: mode,
        spec: EnvironmentSpec {
            workspace_root: None,
            path: Some(format!("/place/{id}").into()),
            mount_point: Some("/".into()),
            cleanup_policy: CleanupPolicy::RemoveWhenCleanOtherwiseArchive,
            write_access: true,
            git_worktree: worktree,
            remote_url: None,
        },
        state: EnvironmentState::Ready,
        host: host(),
    }
}

pub(crate) fn requested(task: Option<&str>, new: NewEnvironment) -> RunEvent {
    RunEvent::EnvironmentRequested { task: task.map(task_id), environment: Box::new(new) }
}

pub(crate) fn lease(session: &str, task: Option<&str>) -> Lease {
    Lease {
        session: session_id(session),
        task: task.map(task_id),
        token: None,
        acquired_at: moment(0),
        expires_at: Some(moment(600)),
        released_at: None,
        release_reason: None,
    }
}

/// An active session of this machine, with a process.
pub(crate) fn session(id: &str) -> Session {
    Session {
        id: session_id(id),
        thread: "main".to_owned(),
        status: SessionStatus::Active,
        agent: Agent::default(),
        actor_key: None,
        parent_actor_key: None,
        client_key: None,
        native_key: None,
        group: None,
        path: None,
        process: ProcessFingerprint {
            host: host(),
            boot: Some("boot".to_owned()),
            pid_namespace: Some(1),
            pid: Some(4_711),
            start_time: Some(9),
        },
        heartbeat_at: Some(moment(0)),
        usage: Usage::default(),
        attach: Attach::default(),
        context_queries: Vec::new(),
        recovery_attempts: 0,
        last_progress_at: None,
        base_commit: None,
        metadata: Document::default(),
        started_at: moment(0),
        completed_at: None,
        lease_seconds: 600,
        holds_lock: false,
    }
}

/// A claim that a session of this machine holds.
pub(crate) fn claim(kind: ClaimKind, key: &str, session: &str) -> Claim {
    Claim {
        kind,
        key: key.to_owned(),
        generation: 1,
        token: Token(format!("{kind}/{key}#1")),
        session: Some(session_id(session)),
        host: Some(host()),
        acquired_at: moment(0),
        expires_at: Some(moment(600)),
        released_at: None,
        remote_lease: false,
    }
}

/// The run of one task `t`, in each state to which legal events lead.
pub(crate) fn with_task_in(state: TaskState) -> RunView {
    let mut new = NewTask::named(task_id("t"));
    new.requirements = match state {
        TaskState::PendingApproval => vec![super::task::Requirement::Approval],
        TaskState::ReviewPending => vec![super::task::Requirement::Review],
        TaskState::TestPending => vec![super::task::Requirement::Test],
        _ => Vec::new(),
    };
    let queued = after(&empty_run("r"), [added(new)]);
    let way = match state {
        TaskState::Queued | TaskState::PendingApproval => vec![],
        TaskState::Running => vec![start("t")],
        TaskState::Blocked => vec![start("t"), block("t", "a reason")],
        TaskState::ReviewPending | TaskState::TestPending | TaskState::Completed => vec![start("t"), done("t")],
        TaskState::Failed => vec![start("t"), fail("t")],
        TaskState::Cancelled => vec![cancel("t")],
    };
    let view = after(&queued, way);
    assert_eq!(task(&view, "t").state, state);
    view
}

pub(crate) fn task<'v>(view: &'v RunView, id: &str) -> &'v Task {
    &view.tasks[&task_id(id)]
}
