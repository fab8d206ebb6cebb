//! A gate: a decision that somebody must take.

use super::ids::{GateId, RunId, TaskId};
use super::names::named;
use super::task::{Requirement, TaskState};
use super::time::Timestamp;

named! {
    /// What is asked.
    GateKind, "gate kind" {
        /// Yes or no.
        Approval = "approval",
        /// A choice or a text.
        Question = "question",
    }
}

named! {
    /// Where a gate stands.
    GateState, "gate state" {
        /// Not decided.
        Pending = "pending",
        /// Yes.
        Approved = "approved",
        /// No.
        Rejected = "rejected",
        /// Answered.
        Answered = "answered",
        /// The run was called off here.
        Aborted = "aborted",
        /// Nobody decided in time.
        Expired = "expired",
    }
}

named! {
    /// What somebody decided.
    GateAction, "gate action" {
        /// Yes.
        Approve = "approve",
        /// No.
        Reject = "reject",
        /// Call the run off.
        Abort = "abort",
        /// An answer to a question.
        Answer = "answer",
    }
}

impl GateAction {
    /// The state of a gate that was decided so.
    pub fn state(self) -> GateState {
        match self {
            Self::Approve => GateState::Approved,
            Self::Reject => GateState::Rejected,
            Self::Abort => GateState::Aborted,
            Self::Answer => GateState::Answered,
        }
    }
}

/// The key of the gate that a run which cannot be resumed waits at.
pub const RECOVERY_REQUIRED: &str = "recovery_required";

/// The key of the gates at which contradictions wait that hosts brought about and no rule settles.
pub const SYNC_CONFLICT: &str = "sync_conflict";

/// A decision that was taken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// What was decided.
    pub action: GateAction,
    /// The answer to a question.
    pub answer: Option<String>,
    /// A word about it.
    pub note: Option<String>,
    /// Who decided.
    pub actor: Option<String>,
    /// The caller's own key of this decision.
    pub token: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// A decision that somebody must take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Gate {
    /// Its id in the run.
    pub id: GateId,
    /// What is asked.
    pub kind: GateKind,
    /// What it is about (`approval`, `review`, `deploy`).
    pub key: Option<String>,
    /// Where it stands.
    pub state: GateState,
    /// The run.
    pub run: RunId,
    /// The task that it holds back.
    pub task: Option<TaskId>,
    /// The question.
    pub prompt: Option<String>,
    /// The answers to choose from; none: free text.
    pub choices: Vec<String>,
    /// What one should know to decide.
    pub context: Option<String>,
    /// What sort of question it is.
    pub question_type: Option<String>,
    /// Whether a rejection fails the task.
    pub required: bool,
    /// When it was asked.
    pub asked_at: Timestamp,
    /// How often it was delivered again.
    pub redelivered: u32,
    /// What was decided.
    pub decision: Option<Decision>,
}

/// What somebody asks for who opens a gate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewGate {
    /// Its id in the run.
    pub id: GateId,
    /// What is asked.
    pub kind: GateKind,
    /// What it is about.
    pub key: Option<String>,
    /// The task that it holds back.
    pub task: Option<TaskId>,
    /// The question.
    pub prompt: Option<String>,
    /// The answers to choose from.
    pub choices: Vec<String>,
    /// What one should know to decide.
    pub context: Option<String>,
    /// What sort of question it is; `None`: general.
    pub question_type: Option<String>,
}

impl Gate {
    /// A gate that has just been opened.
    pub fn open(new: NewGate, run: RunId, at: Timestamp) -> Self {
        let question_type = match (new.kind, new.question_type) {
            (GateKind::Question, given) => Some(given.unwrap_or_else(|| "general".to_owned())),
            (GateKind::Approval, given) => given,
        };
        Self {
            id: new.id,
            kind: new.kind,
            key: new.key,
            state: GateState::Pending,
            run,
            task: new.task,
            prompt: new.prompt,
            choices: new.choices,
            context: new.context,
            question_type,
            required: true,
            asked_at: at,
            redelivered: 0,
            decision: None,
        }
    }

    /// Whether nobody has decided yet.
    pub fn is_pending(&self) -> bool {
        self.state == GateState::Pending
    }

    /// The state in which a pending approval holds a task whose work is done.
    pub fn holding_state(&self) -> TaskState {
        match self.key.as_deref() {
            Some("review") => TaskState::ReviewPending,
            Some("test") => TaskState::TestPending,
            _ => TaskState::PendingApproval,
        }
    }
}

impl Requirement {
    /// The id of the gate that this requirement opens for a task.
    pub fn gate_id(self, task: &TaskId) -> GateId {
        GateId::made_from(&format!("{self}-{task}"))
    }
}
