//! An environment: the place where a task works.

use std::path::PathBuf;

use super::document::Document;
use super::ids::{EnvironmentId, HostId, Oid, RunId, SessionId, TaskId, Token};
use super::names::named;
use super::time::Timestamp;

named! {
    /// What kind of place it is.
    ExecutionMode, "execution mode" {
        /// A linked worktree of the repository.
        GitWorktree = "git_worktree",
        /// A plain directory of its own.
        IsolatedWorkspace = "isolated_workspace",
        /// A directory that others use too.
        SharedWorkspace = "shared_workspace",
        /// A place on another machine.
        Remote = "remote",
    }
}

impl ExecutionMode {
    /// What is done with such a place at the end unless somebody says otherwise.
    pub fn default_cleanup(self) -> CleanupPolicy {
        match self {
            Self::GitWorktree | Self::IsolatedWorkspace => CleanupPolicy::RemoveWhenCleanOtherwiseArchive,
            Self::SharedWorkspace | Self::Remote => CleanupPolicy::KeepAlways,
        }
    }

    /// Whether tether makes and removes such places.
    pub fn is_ours_to_remove(self) -> bool {
        matches!(self, Self::GitWorktree | Self::IsolatedWorkspace)
    }
}

named! {
    /// Where an environment stands.
    EnvironmentState, "environment state" {
        /// Written down, not begun.
        Requested = "requested",
        /// Being made.
        Provisioning = "provisioning",
        /// There, and free.
        Ready = "ready",
        /// There, and leased.
        InUse = "in_use",
        /// To be cleaned up.
        CleanupQueued = "cleanup_queued",
        /// Being cleaned up.
        Cleaning = "cleaning",
        /// Gone, its work saved.
        Archived = "archived",
        /// Gone.
        Removed = "removed",
        /// Being put back.
        Recovering = "recovering",
        /// Could not be made.
        Failed = "failed",
    }
}

impl EnvironmentState {
    /// Whether nothing is to be found there any more.
    pub fn is_gone(self) -> bool {
        matches!(self, Self::Archived | Self::Removed)
    }

    /// Whether its making has not come to its end, by a kill or by a failure: it can be finished, or undone.
    pub fn is_unfinished(self) -> bool {
        self.is_half_made() || self == Self::Failed
    }

    /// Whether a kill while it is made or put back leaves it in this state.
    pub fn is_half_made(self) -> bool {
        matches!(self, Self::Requested | Self::Provisioning | Self::Recovering)
    }
}

named! {
    /// What was found when it was last looked at.
    Health, "health" {
        /// Not looked at, or it could not be.
        Unknown = "unknown",
        /// Nothing that is not committed.
        Clean = "clean",
        /// Changed, staged or untracked files.
        Dirty = "dirty",
        /// Not there.
        Missing = "missing",
        /// There, but not what was recorded.
        Drifted = "drifted",
        /// There, but nobody's.
        Orphaned = "orphaned",
    }
}

named! {
    /// How far recovery is with it.
    RecoveryStatus, "recovery status" {
        /// Nothing was ever amiss.
        NotRequired = "not_required",
        /// A repair is possible and not done yet.
        Pending = "pending",
        /// Record and reality agree.
        Reconciled = "reconciled",
        /// A person has to decide.
        NeedsOperatorAction = "needs_operator_action",
    }
}

named! {
    /// What would repair it.
    RecoveryAction, "recovery action" {
        /// Make it anew and put its work back.
        RecreateMissingEnvironment = "recreate_missing_environment",
        /// Take the lease from a dead holder.
        ReleaseStaleLease = "release_stale_lease",
        /// Save its work, then remove it.
        ArchiveDirtyEnvironment = "archive_dirty_environment",
        /// Remove it by its policy.
        QueueCleanup = "queue_cleanup",
        /// Hold its task back until somebody has looked.
        MarkTaskBlocked = "mark_task_blocked",
    }
}

named! {
    /// What is done with it at the end.
    CleanupPolicy, "cleanup policy" {
        /// Nothing.
        KeepAlways = "keep_always",
        /// Removed if its task was completed.
        RemoveOnSuccess = "remove_on_success",
        /// Saved and removed if its task failed.
        ArchiveOnFailure = "archive_on_failure",
        /// Saved and removed.
        ArchiveAlways = "archive_always",
        /// Removed if nothing is uncommitted, saved and removed otherwise.
        RemoveWhenCleanOtherwiseArchive = "remove_when_clean_otherwise_archive",
    }
}

/// The git side of a `git_worktree`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorktreeSpec {
    /// The branch that it is on; `None`: detached.
    pub branch: Option<String>,
    /// The revision that it was made from, as it was typed.
    pub base: Option<String>,
    /// The commit which that revision was.
    pub base_commit: Option<Oid>,
    /// Whether the branch is made if it is not there.
    pub create_branch_if_missing: bool,
    /// Whether tether made the branch.
    pub branch_created: bool,
}

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EnvironmentSpec {
    /// The directory below which such places are made.
    pub workspace_root: Option<PathBuf>,
    /// The place itself.
    pub path: Option<PathBuf>,
    /// The mount point that the path stood on when it was made.
    pub mount_point: Option<PathBuf>,
    /// What is done with it at the end.
    pub cleanup_policy: CleanupPolicy,
    /// Whether the task may write there.
    pub write_access: bool,
    /// The git side, for a `git_worktree`.
    pub git_worktree: Option<WorktreeSpec>,
    /// Where a `remote` one is.
    pub remote_url: Option<String>,
}

/// The hold of a session on an environment, as its record shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Who holds it.
    pub session: SessionId,
    /// For which task.
    pub task: Option<TaskId>,
    /// The fencing token of the claim.
    pub token: Option<Token>,
    /// Since when.
    pub acquired_at: Timestamp,
    /// Until when, unless it is renewed.
    pub expires_at: Option<Timestamp>,
    /// When it was given back.
    pub released_at: Option<Timestamp>,
    /// Why.
    pub release_reason: Option<String>,
}

/// How its end is going.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cleanup {
    /// Why it is cleaned up.
    pub reason: String,
    /// The saved work, if there was any.
    pub work: Option<Oid>,
    /// When.
    pub at: Timestamp,
}

/// Why it could not be made or put back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// In words.
    pub message: String,
    /// When.
    pub at: Timestamp,
}

/// The place where a task works.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Environment {
    /// Its id in the run.
    pub id: EnvironmentId,
    /// What kind of place it is.
    pub execution_mode: ExecutionMode,
    /// What was asked for.
    pub spec: EnvironmentSpec,
    /// Where it stands.
    pub state: EnvironmentState,
    /// What was found last.
    pub health: Health,
    /// Who has it, or had it last.
    pub lease: Option<Lease>,
    /// How its end is going.
    pub cleanup: Option<Cleanup>,
    /// How far recovery is with it.
    pub recovery_status: RecoveryStatus,
    /// What would repair it.
    pub recovery_action: Option<RecoveryAction>,
    /// Why it could not be made.
    pub failure: Option<Failure>,
    /// The machine whose paths these are.
    pub host: HostId,
    /// When it was written down.
    pub created_at: Timestamp,
    /// When it last changed.
    pub updated_at: Timestamp,
    /// When a look at it last changed something here.
    pub last_verified_at: Option<Timestamp>,
    /// The caller's own data.
    pub metadata: Document,
}

/// What somebody asks for who adds an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewEnvironment {
    /// Its id in the run.
    pub id: EnvironmentId,
    /// What kind of place it is.
    pub execution_mode: ExecutionMode,
    /// What is asked for.
    pub spec: EnvironmentSpec,
    /// `requested` where something has to be made first, `ready` where it is there.
    pub state: EnvironmentState,
    /// The machine whose paths these are.
    pub host: HostId,
}

impl Environment {
    /// Whether it is still there, and its policy lets it go some day.
    pub fn waits_for_cleanup(&self) -> bool {
        !self.state.is_gone()
            && self.execution_mode.is_ours_to_remove()
            && self.spec.cleanup_policy != CleanupPolicy::KeepAlways
    }

    /// An environment as it is first written down.
    pub fn request(new: NewEnvironment, at: Timestamp) -> Self {
        Self {
            id: new.id,
            execution_mode: new.execution_mode,
            spec: new.spec,
            state: new.state,
            health: Health::Unknown,
            lease: None,
            cleanup: None,
            recovery_status: RecoveryStatus::NotRequired,
            recovery_action: None,
            failure: None,
            host: new.host,
            created_at: at,
            updated_at: at,
            last_verified_at: None,
            metadata: Document::default(),
        }
    }

    /// The lease, if somebody has it now.
    pub fn held_lease(&self) -> Option<&Lease> {
        self.lease.as_ref().filter(|lease| lease.released_at.is_none())
    }

    /// The first words of every reason that this environment gives its task for being blocked.
    pub fn blocking_prefix(&self) -> String {
        format!("environment {}", self.id)
    }

    /// The id of an environment that is derived for a task of older data.
    pub fn derived_id(run: &RunId, task: &TaskId, agent: Option<&str>) -> EnvironmentId {
        EnvironmentId::made_from(&format!("env_{run}_{task}_{}", agent.unwrap_or("agent")))
    }
}
