//! Saved work as it is listed: one snapshot, and what it is of.

use super::ids::{EnvironmentId, Oid, TaskId};
use super::names::named;
use super::time::Timestamp;

named! {
    /// What a piece of saved work was.
    SavedKind, "kind of saved work" {
        /// A worktree, with its index.
        Worktree = "worktree",
        /// A plain directory.
        Directory = "directory",
        /// What git still held of a worktree whose directory was gone: its index, its HEAD, an operation in progress.
        VanishedWorktree = "vanished_worktree",
        /// The tip of a branch that was deleted: a commit of somebody's, not a snapshot.
        BranchTip = "branch_tip",
    }
}

/// One snapshot that is kept, and what it is of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedEntry {
    /// Its id: the start of the snapshot's object id.
    pub id: String,
    /// What it was.
    pub kind: SavedKind,
    /// The run, or what stands for one where no record names it.
    pub run: String,
    /// The task.
    pub task: Option<TaskId>,
    /// The environment.
    pub environment: Option<EnvironmentId>,
    /// The snapshot commit.
    pub commit: Oid,
    /// The commit that the worktree stood on.
    pub base: Option<Oid>,
    /// The branch that it was on, by its short name.
    pub branch: Option<String>,
    /// How many files differ from the base.
    pub files: u64,
    /// How many bytes those have.
    pub bytes: u64,
    /// Why it was saved.
    pub reason: String,
    /// When.
    pub at: Timestamp,
}
