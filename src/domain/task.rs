//! A task: one step of a run.

use super::ids::{EnvironmentId, GateId, PoolName, RunId, SessionId, TaskAddress, TaskId};
use super::names::{Named, named};
use super::time::Timestamp;

named! {
    /// Where a task stands.
    TaskState, "task state" {
        /// It waits for its turn.
        Queued = "queued",
        /// It waits for an approval.
        PendingApproval = "pending_approval",
        /// A session works on it.
        Running = "running",
        /// It cannot go on before its reasons are gone.
        Blocked = "blocked",
        /// Its work is done and waits for a review.
        ReviewPending = "review_pending",
        /// Its work is done and waits for a test.
        TestPending = "test_pending",
        /// Ended well.
        Completed = "completed",
        /// Ended badly.
        Failed = "failed",
        /// Called off.
        Cancelled = "cancelled",
    }
}

impl TaskState {
    /// How many states there are.
    pub const COUNT: usize = <Self as Named>::ALL.len();

    /// Whether the task has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

named! {
    /// A decision that a task needs before it starts or after its work is done.
    Requirement, "requirement" {
        /// An approval before it starts.
        Approval = "approval",
        /// A review of its work.
        Review = "review",
        /// A test of its work.
        Test = "test",
    }
}

named! {
    /// How the work of a task ended.
    TaskOutcome, "task outcome" {
        /// Well.
        Completed = "completed",
        /// Badly.
        Failed = "failed",
        /// It was called off.
        Cancelled = "cancelled",
    }
}

/// How often and after which pause a failed task is queued again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Retry {
    /// How often at most.
    pub max: u32,
    /// The pause, in seconds.
    pub backoff_seconds: u64,
    /// Not before this moment.
    pub not_before: Option<Timestamp>,
    /// How often it was queued again so far.
    pub used: u32,
}

/// How the work of a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TaskResult {
    /// In one word.
    pub outcome: TaskOutcome,
    /// What the command returned.
    pub exit_code: Option<i32>,
    /// The signal that ended the command (`SIGKILL`).
    pub signal: Option<String>,
    /// In the executor's words.
    pub summary: Option<String>,
    /// What was made.
    pub artifacts: Vec<String>,
}

/// The first words of every reason that an interruption leaves.
pub const INTERRUPTED: &str = "execution interrupted";

/// A step of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Its id in the run.
    pub id: TaskId,
    /// Its run.
    pub run: RunId,
    /// Its name for people.
    pub name: Option<String>,
    /// Who is to do it.
    pub agent: Option<String>,
    /// In which role.
    pub role: Option<String>,
    /// What is to be done, in words.
    pub prompt: Option<String>,
    /// What is to be done, as a command.
    pub command: Vec<String>,
    /// Where it stands.
    pub state: TaskState,
    /// Higher goes first.
    pub priority: i64,
    /// Tasks of the run that have to be completed first.
    pub depends_on: Vec<TaskId>,
    /// The pool whose limit it counts against.
    pub pool: Option<PoolName>,
    /// How often it was started.
    pub attempts: u32,
    /// Where it works.
    pub environment: Option<EnvironmentId>,
    /// Who works on it, or did last.
    pub session: Option<SessionId>,
    /// Why it is blocked: a set, in the order in which the reasons came.
    pub blocked_reasons: Vec<String>,
    /// Gates that hold it back or did.
    pub gates: Vec<GateId>,
    /// How often it is tried again.
    pub retry: Retry,
    /// How its work ended.
    pub result: Option<TaskResult>,
    /// Labels.
    pub tags: Vec<String>,
    /// When it was added.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it was started last.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// The decisions that it needs, the run's included.
    pub requirements: Vec<Requirement>,
    /// When its state last changed; histories of two hosts are compared by it.
    pub state_changed_at: Option<Timestamp>,
    /// The written state, if this version does not know it: such a task counts as interrupted.
    pub unreadable_state: Option<String>,
}

/// What somebody asks for who adds a task.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewTask {
    /// Its id in the run.
    pub id: TaskId,
    /// Its name for people.
    pub name: Option<String>,
    /// Who is to do it.
    pub agent: Option<String>,
    /// In which role.
    pub role: Option<String>,
    /// What is to be done, in words.
    pub prompt: Option<String>,
    /// What is to be done, as a command.
    pub command: Vec<String>,
    /// Higher goes first.
    pub priority: i64,
    /// Tasks of the run that have to be completed first.
    pub depends_on: Vec<TaskId>,
    /// The pool; that of the agent if there is none.
    pub pool: Option<PoolName>,
    /// How often it is tried again.
    pub retry: Retry,
    /// The decisions that it needs beside the run's.
    pub requirements: Vec<Requirement>,
    /// Labels.
    pub tags: Vec<String>,
}

impl NewTask {
    /// A task of which only the id is known.
    pub fn named(id: TaskId) -> Self {
        Self {
            id,
            name: None,
            agent: None,
            role: None,
            prompt: None,
            command: Vec::new(),
            priority: 0,
            depends_on: Vec::new(),
            pool: None,
            retry: Retry::default(),
            requirements: Vec::new(),
            tags: Vec::new(),
        }
    }
}

impl Task {
    /// Its run and id.
    pub fn address(&self) -> TaskAddress {
        TaskAddress { run: self.run.clone(), task: self.id.clone() }
    }

    /// Whether it is blocked because its executor died.
    pub fn is_interrupted(&self) -> bool {
        self.state == TaskState::Blocked && self.blocked_reasons.iter().any(|reason| reason.starts_with(INTERRUPTED))
    }
}
