//! What can happen to a run. Each event is one commit of its chain.

use super::checkpoint::NewCheckpoint;
use super::environment::{
    Cleanup, EnvironmentSpec, EnvironmentState, Failure, Health, Lease, NewEnvironment, RecoveryAction, RecoveryStatus,
};
use super::gate::{Decision, NewGate};
use super::ids::{EnvironmentId, GateId, Oid, SessionId, TaskId, TaskPointer};
use super::run::{Activity, ActivityState, Message, Outcome, RestorationSource};
use super::task::{NewTask, Retry};

/// What an executor reports of itself; what it leaves out stays.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct ActivityReport {
    /// In one word.
    pub state: Option<ActivityState>,
    /// In its own words.
    pub text: Option<String>,
    /// From 0 to 100.
    pub progress: Option<u8>,
    /// The phase of work.
    pub phase: Option<String>,
    /// The error it met.
    pub error: Option<String>,
    /// Tasks that it spawned, added to those known.
    pub spawned: Vec<TaskPointer>,
    /// Tasks that it waits on, in place of those known.
    pub waiting_on: Option<Vec<TaskPointer>>,
    /// Something that was said.
    pub message: Option<(Option<String>, Option<String>)>,
}

/// How the work of a task ended.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkEnd {
    /// What the command returned.
    pub exit_code: Option<i32>,
    /// The name of the signal that ended it.
    pub signal: Option<String>,
    /// In the executor's words.
    pub summary: Option<String>,
}

/// What was found when an environment was looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentFinding {
    /// Its health.
    pub health: Health,
    /// How far recovery is.
    pub status: RecoveryStatus,
    /// What would repair it.
    pub action: Option<RecoveryAction>,
    /// What its task is told, if it is held back by this.
    pub blocks_task: Option<String>,
}

/// The supervisor's part of a run at an earlier commit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SupervisorState {
    /// What the executor had said.
    pub activity: Activity,
    /// What it had spawned.
    pub spawned_tasks: Vec<TaskPointer>,
    /// What it waited on.
    pub waiting_on: Vec<TaskPointer>,
    /// What had been said.
    pub messages: Vec<Message>,
}

/// Something that happens to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RunEvent {
    /// Somebody ended it.
    RunFinished {
        /// How; `None`: as its tasks say.
        outcome: Option<Outcome>,
        /// A word about it.
        note: Option<String>,
    },
    /// Somebody stopped it for now.
    RunPaused,
    /// Somebody let it go on.
    RunUnpaused,
    /// Somebody called it off.
    RunCancelled,
    /// Its executor said something of itself.
    ActivityReported(ActivityReport),
    /// Its executor was put back on its feet.
    RunRestored {
        /// Why.
        source: RestorationSource,
        /// The state of an earlier commit that comes back.
        from_checkpoint: Option<Box<SupervisorState>>,
        /// Why a person has to look at it.
        manual_intervention: Option<String>,
    },
    /// Tasks that the executor waited on have ended, in another run say.
    WaitsEnded {
        /// Which.
        tasks: Vec<TaskPointer>,
    },
    /// A task came.
    TaskAdded(Box<NewTask>),
    /// A session took a task.
    TaskStarted {
        /// The task.
        task: TaskId,
        /// Who.
        session: SessionId,
        /// The hold on its environment, if it has one.
        lease: Option<Lease>,
    },
    /// The work of a task is done.
    TaskDone {
        /// The task.
        task: TaskId,
        /// How it ended.
        end: WorkEnd,
    },
    /// The work of a task has failed.
    TaskFailed {
        /// The task.
        task: TaskId,
        /// How it ended.
        end: WorkEnd,
    },
    /// A task was called off.
    TaskCancelled {
        /// The task.
        task: TaskId,
        /// How it ended.
        end: WorkEnd,
    },
    /// A task cannot go on.
    TaskBlocked {
        /// The task.
        task: TaskId,
        /// Why.
        reason: String,
    },
    /// Reasons are gone.
    TaskUnblocked {
        /// The task.
        task: TaskId,
        /// Which; `None`: all.
        reason: Option<String>,
    },
    /// The executor of a task is gone.
    ExecutionInterrupted {
        /// The task.
        task: TaskId,
    },
    /// A task that was interrupted is to go on.
    ResumeScheduled {
        /// The task.
        task: TaskId,
    },
    /// Who started a task says what it runs there.
    TaskCommandGiven {
        /// The task.
        task: TaskId,
        /// The session that runs it.
        session: SessionId,
        /// The argument vector.
        command: Vec<String>,
    },
    /// The settings of a task changed.
    TaskRetryChanged {
        /// The task.
        task: TaskId,
        /// The new settings.
        retry: Retry,
    },
    /// An environment was written down, for a task.
    EnvironmentRequested {
        /// The task that it is for.
        task: Option<TaskId>,
        /// What is asked for.
        environment: Box<NewEnvironment>,
    },
    /// An environment went from one state to another.
    EnvironmentMoved {
        /// Which.
        environment: EnvironmentId,
        /// Where to.
        state: EnvironmentState,
        /// What is known of the place now, if that changed.
        spec: Option<Box<EnvironmentSpec>>,
        /// Why it could not be made.
        failure: Option<Failure>,
        /// How its end is going.
        cleanup: Option<Cleanup>,
    },
    /// An environment was looked at.
    EnvironmentVerified {
        /// Which.
        environment: EnvironmentId,
        /// What was found.
        finding: EnvironmentFinding,
    },
    /// A session took an environment.
    EnvironmentLeased {
        /// Which.
        environment: EnvironmentId,
        /// The hold.
        lease: Lease,
    },
    /// An environment was given back.
    LeaseReleased {
        /// Which.
        environment: EnvironmentId,
        /// Why.
        reason: String,
    },
    /// The record of an environment follows a worktree that a person moved or changed.
    EnvironmentAdopted {
        /// Which.
        environment: EnvironmentId,
        /// What is there.
        spec: Box<EnvironmentSpec>,
    },
    /// A checkpoint was taken.
    CheckpointTaken(Box<NewCheckpoint>),
    /// Saved work is about to be dropped: no record names it from now on.
    SavedWorkForgotten {
        /// The snapshot commit.
        commit: Oid,
    },
    /// Somebody knows that a task is blocked, and leaves it so.
    BlockAcknowledged {
        /// The task.
        task: TaskId,
    },
    /// A decision is asked for.
    GateOpened(Box<NewGate>),
    /// A decision was taken.
    GateDecided {
        /// Which gate.
        gate: GateId,
        /// What was decided.
        decision: Decision,
    },
    /// Nobody decided in time.
    GateExpired {
        /// Which gate.
        gate: GateId,
    },
}

impl RunEvent {
    /// The name of the event, for commits and scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::RunFinished { .. } => "run_finished",
            Self::RunPaused => "run_paused",
            Self::RunUnpaused => "run_unpaused",
            Self::RunCancelled => "run_cancelled",
            Self::ActivityReported(_) => "activity_reported",
            Self::RunRestored { .. } => "run_restored",
            Self::WaitsEnded { .. } => "waits_ended",
            Self::TaskAdded(_) => "task_added",
            Self::TaskStarted { .. } => "task_started",
            Self::TaskDone { .. } => "task_done",
            Self::TaskFailed { .. } => "task_failed",
            Self::TaskCancelled { .. } => "task_cancelled",
            Self::TaskBlocked { .. } => "task_blocked",
            Self::TaskUnblocked { .. } => "task_unblocked",
            Self::ExecutionInterrupted { .. } => "execution_interrupted",
            Self::ResumeScheduled { .. } => "resume_scheduled",
            Self::TaskCommandGiven { .. } => "task_command_given",
            Self::TaskRetryChanged { .. } => "task_retry_changed",
            Self::EnvironmentRequested { .. } => "environment_requested",
            Self::EnvironmentMoved { .. } => "environment_moved",
            Self::EnvironmentVerified { .. } => "environment_verified",
            Self::EnvironmentLeased { .. } => "environment_leased",
            Self::LeaseReleased { .. } => "lease_released",
            Self::EnvironmentAdopted { .. } => "environment_adopted",
            Self::CheckpointTaken(_) => "checkpoint_taken",
            Self::SavedWorkForgotten { .. } => "saved_work_forgotten",
            Self::BlockAcknowledged { .. } => "block_acknowledged",
            Self::GateOpened(_) => "gate_opened",
            Self::GateDecided { .. } => "gate_decided",
            Self::GateExpired { .. } => "gate_expired",
        }
    }

    /// The task that it is about.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::TaskAdded(new) => Some(&new.id),
            Self::CheckpointTaken(new) => Some(&new.task),
            Self::GateOpened(new) => new.task.as_ref(),
            Self::EnvironmentRequested { task, .. } => task.as_ref(),
            Self::TaskStarted { task, .. }
            | Self::TaskDone { task, .. }
            | Self::TaskFailed { task, .. }
            | Self::TaskCancelled { task, .. }
            | Self::TaskBlocked { task, .. }
            | Self::TaskUnblocked { task, .. }
            | Self::ExecutionInterrupted { task }
            | Self::ResumeScheduled { task }
            | Self::TaskCommandGiven { task, .. }
            | Self::TaskRetryChanged { task, .. }
            | Self::BlockAcknowledged { task } => Some(task),
            _ => None,
        }
    }

    /// The environment that it is about.
    pub fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Self::EnvironmentRequested { environment, .. } => Some(&environment.id),
            Self::EnvironmentMoved { environment, .. }
            | Self::EnvironmentVerified { environment, .. }
            | Self::EnvironmentLeased { environment, .. }
            | Self::LeaseReleased { environment, .. }
            | Self::EnvironmentAdopted { environment, .. } => Some(environment),
            _ => None,
        }
    }

    /// The session that it is about.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::TaskStarted { session, .. } | Self::TaskCommandGiven { session, .. } => Some(session),
            Self::EnvironmentLeased { lease, .. } => Some(&lease.session),
            _ => None,
        }
    }
}
