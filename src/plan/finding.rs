//! A finding: one difference between record and reality, with its evidence.

use crate::domain::environment::{Health, RecoveryAction, RecoveryStatus};
use crate::domain::ids::{EnvironmentId, RunId, SessionId, TaskId};
use crate::domain::names::named;

named! {
    /// What kind of difference it is; stable, for scripts.
    FindingCode, "finding" {
        /// A task is recorded as running and its session is dead.
        ExecutionInterrupted = "execution_interrupted",
        /// A supervisor is dead while its command lives.
        SupervisorDead = "supervisor_dead",
        /// Nobody here can tell whether the session of a running task lives.
        SessionUnknown = "session_unknown",
        /// The session of a running task is on another machine.
        SessionElsewhere = "session_elsewhere",
        /// A session is recorded as active and is dead.
        SessionDead = "session_dead",
        /// A started task names no environment.
        EnvironmentNotNamed = "environment_not_named",
        /// A place is gone.
        EnvironmentMissing = "environment_missing",
        /// The making of a place was interrupted.
        EnvironmentHalfMade = "environment_half_made",
        /// A worktree was moved.
        EnvironmentMoved = "environment_moved",
        /// A place is there, but not what was recorded.
        EnvironmentDrifted = "environment_drifted",
        /// A place holds uncommitted work.
        EnvironmentDirty = "environment_dirty",
        /// A place cannot be looked at now.
        EnvironmentUnknown = "environment_unknown",
        /// A place is on another machine.
        EnvironmentElsewhere = "environment_elsewhere",
        /// A place is nobody's.
        EnvironmentOrphaned = "environment_orphaned",
        /// A lease is held by a dead session.
        LeaseStale = "lease_stale",
        /// A claim is held by a dead session, or by none.
        ClaimStale = "claim_stale",
        /// A pool counts a task that does not run.
        SlotStale = "slot_stale",
        /// A task is blocked and can go on.
        TaskResumable = "task_resumable",
        /// A task is blocked and needs a person.
        OperatorRequired = "operator_required",
        /// A gate is pending.
        GatePending = "gate_pending",
        /// A run asked for a person.
        AttentionRequired = "attention_required",
        /// A run that has ended has no report.
        ReportMissing = "report_missing",
        /// A run cannot be read.
        RunUnreadable = "run_unreadable",
        /// A session, a claim or a pool cannot be read.
        RecordUnreadable = "record_unreadable",
        /// Something half made was left behind.
        Leftover = "leftover",
    }
}

/// One difference between record and reality.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What kind.
    pub code: FindingCode,
    /// The run that it concerns.
    pub run: Option<RunId>,
    /// The task.
    pub task: Option<TaskId>,
    /// The environment.
    pub environment: Option<EnvironmentId>,
    /// The session.
    pub session: Option<SessionId>,
    /// The health of the environment.
    pub health: Option<Health>,
    /// How far recovery is with it.
    pub recovery_status: Option<RecoveryStatus>,
    /// What would repair it.
    pub recovery_action: Option<RecoveryAction>,
    /// In words.
    pub message: String,
    /// What it rests on: name and value.
    pub evidence: Vec<(String, String)>,
    /// Whether a person has to act before it goes away.
    pub needs_person: bool,
}

impl Finding {
    /// A finding of which only kind and words are known.
    pub fn new(code: FindingCode, message: impl Into<String>) -> Self {
        Self {
            code,
            run: None,
            task: None,
            environment: None,
            session: None,
            health: None,
            recovery_status: None,
            recovery_action: None,
            message: message.into(),
            evidence: Vec::new(),
            needs_person: false,
        }
    }

    /// The same, about this run.
    #[must_use]
    pub fn in_run(mut self, run: &RunId) -> Self {
        self.run = Some(run.clone());
        self
    }

    /// The same, about this task.
    #[must_use]
    pub fn of_task(mut self, task: &TaskId) -> Self {
        self.task = Some(task.clone());
        self
    }

    /// The same, about this session.
    #[must_use]
    pub fn of_session(mut self, session: &SessionId) -> Self {
        self.session = Some(session.clone());
        self
    }

    /// The same, with one more piece of evidence.
    #[must_use]
    #[allow(clippy::needless_pass_by_value, reason = "what is shown is often made for the occasion")]
    pub fn because(mut self, name: &str, value: impl ToString) -> Self {
        self.evidence.push((name.to_owned(), value.to_string()));
        self
    }

    /// The same, to be settled by a person.
    #[must_use]
    pub fn for_a_person(mut self) -> Self {
        self.needs_person = true;
        self
    }
}
