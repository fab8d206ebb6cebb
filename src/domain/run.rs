//! A run: one supervised piece of work, and the unit of consistency.

use std::time::Duration;

use super::document::Document;
use super::environment::ExecutionMode;
use super::ids::{GateId, HostId, RunId, TaskId, TaskPointer};
use super::names::named;
use super::task::{Requirement, TaskState};
use super::time::Timestamp;

named! {
    /// Where a run stands; derived from its tasks unless somebody decided it.
    RunStatus, "run status" {
        /// No task yet.
        Draft = "draft",
        /// Something runs, or could start.
        Running = "running",
        /// A gate, a review or a test is awaited.
        Waiting = "waiting",
        /// A task is blocked and nothing runs.
        Blocked = "blocked",
        /// Somebody stopped it for now; nothing starts or resumes.
        Paused = "paused",
        /// Ended well.
        Completed = "completed",
        /// Ended with a failed task.
        Failed = "failed",
        /// Ended because somebody called it off.
        Cancelled = "cancelled",
    }
}

impl RunStatus {
    /// Whether the run has ended.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled)
    }
}

named! {
    /// How a run may be ended by hand.
    Outcome, "outcome" {
        /// It did what it was for.
        Completed = "completed",
        /// It did not.
        Failed = "failed",
        /// It was called off.
        Cancelled = "cancelled",
    }
}

impl Outcome {
    /// The status of a run that was ended so.
    pub fn status(self) -> RunStatus {
        match self {
            Self::Completed => RunStatus::Completed,
            Self::Failed => RunStatus::Failed,
            Self::Cancelled => RunStatus::Cancelled,
        }
    }
}

named! {
    /// What the executor of a run says that it does.
    ActivityState, "activity state" {
        /// Getting ready.
        Initializing = "initializing",
        /// Nothing to do.
        Idle = "idle",
        /// At work.
        Working = "working",
        /// A person's answer is awaited.
        WaitingForUser = "waiting_for_user",
        /// Spawned tasks are awaited.
        WaitingForTasks = "waiting_for_tasks",
        /// It cannot go on.
        Blocked = "blocked",
        /// Done.
        Completed = "completed",
        /// Given up.
        Failed = "failed",
        /// The executor died.
        Interrupted = "interrupted",
    }
}

named! {
    /// What made somebody restore a run.
    RestorationSource, "restoration source" {
        /// The executor was started again.
        Restart = "restart",
        /// Another executor took over.
        Reassignment = "reassignment",
        /// A person asked for it.
        Manual = "manual",
    }
}

named! {
    /// What a restoration came to.
    RestorationOutcome, "restoration outcome" {
        /// There was no such run: a new one was started.
        Fresh = "fresh",
        /// Its executor goes on from where it was.
        Continued = "continued",
        /// Its executor goes on from an earlier commit of the run.
        FromCheckpoint = "from_checkpoint",
        /// A person has to look first.
        ManualIntervention = "manual_intervention",
    }
}

named! {
    /// Who fixed the end of a run, so that no task opens it again.
    FixedBy, "end" {
        /// `finish`.
        Finish = "finish",
        /// `cancel`, or an aborted gate.
        Cancel = "cancel",
    }
}

/// The task that a run was started for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// The parent run.
    pub run: RunId,
    /// The task in it.
    pub task: Option<TaskId>,
}

/// What every task of a run, and every child run, has to respect.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// Approval, review and test that each task needs.
    pub requirements: Vec<Requirement>,
    /// The environment mode that tasks get unless they ask for another.
    pub execution_mode: Option<ExecutionMode>,
    /// Labels for people and scripts.
    pub tags: Vec<String>,
}

/// What the executor said last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Activity {
    /// In one word.
    pub state: ActivityState,
    /// In its own words.
    pub text: Option<String>,
    /// From 0 to 100.
    pub progress: Option<u8>,
    /// The phase of work it is in.
    pub phase: Option<String>,
    /// The error it met last.
    pub error: Option<String>,
    /// When it said so.
    pub at: Option<Timestamp>,
}

/// Something said in the course of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// Who spoke (`user`, `assistant`, ...).
    pub role: Option<String>,
    /// What was said.
    pub text: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// How often, when and why a run was restored.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Restoration {
    /// How often.
    pub count: u32,
    /// When last.
    pub last_at: Option<Timestamp>,
    /// Why last.
    pub source: Option<RestorationSource>,
}

/// How many tasks are in each state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TaskSummary {
    counts: [u64; TaskState::COUNT],
}

impl TaskSummary {
    /// The number of tasks in `state`.
    pub fn count(&self, state: TaskState) -> u64 {
        self.counts[state as usize]
    }

    /// The number of tasks.
    pub fn total(&self) -> u64 {
        self.counts.iter().sum()
    }

    /// The number of tasks that have not ended.
    pub fn open(&self) -> u64 {
        self.total()
            - self.count(TaskState::Completed)
            - self.count(TaskState::Failed)
            - self.count(TaskState::Cancelled)
    }

    /// Sets the number of tasks in `state`.
    pub fn set(&mut self, state: TaskState, count: u64) {
        self.counts[state as usize] = count;
    }

    /// Moves one task from a state (none: it is new) to another.
    pub fn move_task(&mut self, from: Option<TaskState>, to: TaskState) {
        if let Some(from) = from {
            self.counts[from as usize] = self.counts[from as usize].saturating_sub(1);
        }
        self.counts[to as usize] += 1;
    }
}

/// One supervised piece of work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    /// Its id.
    pub id: RunId,
    /// Its name for people.
    pub name: Option<String>,
    /// Where it stands.
    pub status: RunStatus,
    /// The status that it was paused from; kept as history.
    pub paused_from: Option<RunStatus>,
    /// The task that it was started for.
    pub parent: Option<Parent>,
    /// 0 for a run without parent, its parent's plus one otherwise.
    pub depth: u32,
    /// The agent that leads it.
    pub lead_agent: Option<String>,
    /// What its tasks have to respect.
    pub policy: Policy,
    /// What its executor said last.
    pub activity: Activity,
    /// The tasks that its executor says it has spawned.
    pub spawned_tasks: Vec<TaskPointer>,
    /// The tasks that its executor waits on.
    pub waiting_on: Vec<TaskPointer>,
    /// What was said.
    pub messages: Vec<Message>,
    /// How often it was restored.
    pub restoration: Restoration,
    /// How many of its tasks are in which state.
    pub task_summary: TaskSummary,
    /// Whether a person should look.
    pub requires_attention: bool,
    /// The caller's own data.
    pub metadata: Document,
    /// The machine that started it.
    pub host: HostId,
    /// When it was started.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// Its pending gates, so that its status needs no other record.
    pub pending_gates: Vec<GateId>,
    /// Who fixed its end; `None` while it is open or ended by itself.
    pub fixed_by: Option<FixedBy>,
    /// What was said when it was ended.
    pub outcome_note: Option<String>,
    /// Why a restoration asked for a person.
    pub attention_reason: Option<String>,
}

/// What somebody asks for who starts a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewRun {
    /// Its id.
    pub id: RunId,
    /// Its name for people.
    pub name: Option<String>,
    /// The task that it is started for.
    pub parent: Option<Parent>,
    /// Its depth below its root run.
    pub depth: u32,
    /// The agent that leads it.
    pub lead_agent: Option<String>,
    /// What its tasks have to respect, the parent's requirements included.
    pub policy: Policy,
    /// The caller's own data.
    pub metadata: Document,
    /// The machine that starts it.
    pub host: HostId,
}

impl Run {
    /// A run that has just been started.
    pub fn start(new: NewRun, at: Timestamp) -> Self {
        Self {
            id: new.id,
            name: new.name,
            status: RunStatus::Draft,
            paused_from: None,
            parent: new.parent,
            depth: new.depth,
            lead_agent: new.lead_agent,
            policy: new.policy,
            activity: Activity {
                state: ActivityState::Initializing,
                text: None,
                progress: Some(0),
                phase: None,
                error: None,
                at: Some(at),
            },
            spawned_tasks: Vec::new(),
            waiting_on: Vec::new(),
            messages: Vec::new(),
            restoration: Restoration::default(),
            task_summary: TaskSummary::default(),
            requires_attention: false,
            metadata: new.metadata,
            host: new.host,
            created_at: at,
            updated_at: at,
            completed_at: None,
            pending_gates: Vec::new(),
            fixed_by: None,
            outcome_note: None,
            attention_reason: None,
        }
    }

    /// The status that the tasks and gates of the run give it when nobody has decided otherwise.
    pub fn derived_status(&self) -> RunStatus {
        let count = |state| self.task_summary.count(state);
        let total = self.task_summary.total();
        let awaited =
            count(TaskState::PendingApproval) + count(TaskState::ReviewPending) + count(TaskState::TestPending);
        match () {
            () if total == 0 => RunStatus::Draft,
            () if count(TaskState::Running) > 0 => RunStatus::Running,
            () if count(TaskState::Blocked) > 0 => RunStatus::Blocked,
            () if awaited > 0 || !self.pending_gates.is_empty() => RunStatus::Waiting,
            () if self.task_summary.open() > 0 => RunStatus::Running,
            () if count(TaskState::Failed) > 0 => RunStatus::Failed,
            () if count(TaskState::Cancelled) == total => RunStatus::Cancelled,
            () => RunStatus::Completed,
        }
    }
}

impl Run {
    /// Whether a person should look, by the tasks and gates that the run knows of.
    pub fn needs_attention(&self) -> bool {
        let open = self.task_summary.count(TaskState::Blocked) > 0 || !self.pending_gates.is_empty();
        (!self.status.is_terminal() && open) || self.attention_reason.is_some()
    }
}

/// How long a pending question may be before a restoration warns of it.
pub const STALE_QUESTION: Duration = Duration::from_hours(24);
