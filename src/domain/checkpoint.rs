//! A checkpoint: what is needed to go on with a task after its process is gone.

use std::path::PathBuf;

use super::environment::ExecutionMode;
use super::ids::{EnvironmentId, Oid, RunId, SessionId, TaskId};
use super::names::named;
use super::task::TaskState;
use super::time::Timestamp;

named! {
    /// How far the task was.
    Stage, "checkpoint stage" {
        /// Not begun, or to go on.
        Queued = "queued",
        /// Handed to an executor.
        Dispatched = "dispatched",
        /// At work.
        Running = "running",
        /// Held back.
        Blocked = "blocked",
        /// Ended well.
        Completed = "completed",
        /// Ended badly.
        Failed = "failed",
        /// Called off.
        Cancelled = "cancelled",
    }
}

impl Stage {
    /// The stage of a task in this state.
    pub fn of(state: TaskState) -> Self {
        match state {
            TaskState::Queued | TaskState::PendingApproval => Self::Queued,
            TaskState::Running | TaskState::ReviewPending | TaskState::TestPending => Self::Running,
            TaskState::Blocked => Self::Blocked,
            TaskState::Completed => Self::Completed,
            TaskState::Failed => Self::Failed,
            TaskState::Cancelled => Self::Cancelled,
        }
    }
}

named! {
    /// Whether what was begun may be done again.
    ReplaySafety, "replay safety" {
        /// It changes nothing.
        PureReadonly = "pure_readonly",
        /// Doing it twice is doing it once.
        IdempotentWrite = "idempotent_write",
        /// It can go on where it stopped.
        CheckpointResumable = "checkpoint_resumable",
        /// Only when a person says so.
        OperatorGated = "operator_gated",
        /// Never without a person: the world has seen it.
        NonReplayableSideEffect = "non_replayable_side_effect",
    }
}

named! {
    /// How the task goes on.
    ResumeDisposition, "resume disposition" {
        /// From the last boundary.
        RestartFromBoundary = "restart_from_boundary",
        /// From the checkpoint.
        ResumeFromCheckpoint = "resume_from_checkpoint",
        /// A person decides.
        OperatorInterventionRequired = "operator_intervention_required",
        /// It has ended.
        NotApplicable = "not_applicable",
    }
}

impl ReplaySafety {
    /// The disposition that follows unless one is given.
    pub fn disposition(self) -> ResumeDisposition {
        match self {
            Self::PureReadonly | Self::IdempotentWrite => ResumeDisposition::RestartFromBoundary,
            Self::CheckpointResumable => ResumeDisposition::ResumeFromCheckpoint,
            Self::OperatorGated | Self::NonReplayableSideEffect => ResumeDisposition::OperatorInterventionRequired,
        }
    }
}

named! {
    /// What can be done with a checkpoint.
    AvailableAction, "available action" {
        /// Go on from it.
        ResumeFromCheckpoint = "resume_from_checkpoint",
        /// Begin anew.
        RestartFromScratch = "restart_from_scratch",
        /// Leave it blocked, knowingly.
        AcknowledgeBlocked = "acknowledge_blocked",
    }
}

/// What is noted in the checkpoint of a task that is to go on.
pub const RESUME_NOTE: &str = "resume scheduled";

/// A step of the task that is done and need not be done again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CompletedStep {
    /// Its id in the task.
    pub id: String,
    /// Its name for people.
    pub name: Option<String>,
    /// What it made, as a digest.
    pub digest: Option<String>,
    /// When it was done.
    pub at: Option<Timestamp>,
}

/// Opaque bytes of the executor, kept in the run's tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ResumeState {
    /// Where in the run's tree.
    pub path: String,
    /// How many bytes.
    pub bytes: u64,
    /// Their blob.
    pub oid: Oid,
}

/// The saved work that belongs to a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedWork {
    /// The snapshot commit.
    pub commit: Oid,
    /// The commit that the worktree stood on.
    pub base: Option<Oid>,
    /// The branch that it was on.
    pub branch: Option<String>,
    /// How many files differ from the base.
    pub files: u64,
}

/// What is needed to go on with a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Checkpoint {
    /// Its id: the task and the sequence number.
    pub id: String,
    /// The run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Who was at work.
    pub session: Option<SessionId>,
    /// Which agent.
    pub agent: Option<String>,
    /// Where.
    pub environment: Option<EnvironmentId>,
    /// In what kind of place.
    pub execution_mode: Option<ExecutionMode>,
    /// 1 for the task's first, one more each time.
    pub seq: u64,
    /// How far the task was.
    pub stage: Stage,
    /// Whether it may be done again.
    pub replay_safety: ReplaySafety,
    /// How it goes on.
    pub resume_disposition: ResumeDisposition,
    /// The boundary that was reached, for people.
    pub safe_boundary_label: Option<String>,
    /// The directory that it worked in.
    pub workspace_dir: Option<PathBuf>,
    /// What need not be done again.
    pub completed_steps: Vec<CompletedStep>,
    /// Whether the result is out in the world.
    pub result_published: bool,
    /// A word about it.
    pub note: Option<String>,
    /// The executor's own state.
    pub resume_state: Option<ResumeState>,
    /// The worktree's content.
    pub work: Option<SavedWork>,
    /// What can be done with it.
    pub available_actions: Vec<AvailableAction>,
    /// When it was taken.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
}

impl Checkpoint {
    /// Whether there is something to go on from.
    pub fn has_substance(&self) -> bool {
        self.resume_state.is_some() || self.work.is_some()
    }

    /// Whether the task may go on from here without a person.
    pub fn may_resume(&self) -> bool {
        self.resume_disposition == ResumeDisposition::ResumeFromCheckpoint
            && !self.result_published
            && self.has_substance()
    }

    /// What can be done with it, by the rules.
    pub fn derived_actions(&self) -> Vec<AvailableAction> {
        if self.resume_disposition == ResumeDisposition::NotApplicable {
            return Vec::new();
        }
        let resume = self.may_resume().then_some(AvailableAction::ResumeFromCheckpoint);
        resume.into_iter().chain([AvailableAction::RestartFromScratch, AvailableAction::AcknowledgeBlocked]).collect()
    }

    /// The reason that an interruption leaves on the task, made precise by this checkpoint.
    pub fn interruption_reason(&self) -> String {
        let label = self.safe_boundary_label.as_deref().unwrap_or("start");
        let precise = match self.resume_disposition {
            ResumeDisposition::ResumeFromCheckpoint if self.may_resume() => {
                format!("can resume from checkpoint at '{label}'")
            }
            ResumeDisposition::RestartFromBoundary => format!("can restart from boundary '{label}'"),
            _ => format!("operator action required: stopped at '{label}'"),
        };
        format!("{}: {precise}", super::task::INTERRUPTED)
    }
}

/// What somebody hands in who takes a checkpoint.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewCheckpoint {
    /// The task.
    pub task: TaskId,
    /// The boundary that was reached.
    pub boundary: Option<String>,
    /// Whether it may be done again.
    pub replay_safety: ReplaySafety,
    /// How it goes on, if it is not what follows from the replay safety.
    pub disposition: Option<ResumeDisposition>,
    /// Steps that are done; joined with those of earlier checkpoints.
    pub steps: Vec<CompletedStep>,
    /// A word about it.
    pub note: Option<String>,
    /// Whether the result is out in the world.
    pub result_published: bool,
    /// The executor's own state, already stored.
    pub resume_state: Option<ResumeState>,
    /// The worktree's content, already stored.
    pub work: Option<SavedWork>,
    /// The directory that it worked in.
    pub workspace_dir: Option<PathBuf>,
    /// Who takes it.
    pub by: TakenBy,
}

/// Who takes a checkpoint, and so whose word it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TakenBy {
    /// Somebody who knows how far the task is.
    #[default]
    Executor,
    /// Somebody who only saves work: what an earlier checkpoint says of replay, disposition, result and note stays.
    Supervisor,
}
