//! Why a worktree was not made.
//!
//! Must not know: what is to be done about it. Invariant: each case says what was attempted, and keeps its cause.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use super::paths::PathError;
use super::worktree_lock::WorktreeLockError;
use super::worktree_register::{AttachError, RegisterError};
use super::worktrees::{ListError, LookUpError};
use crate::git::GitError;

/// Why no worktree was made.
#[derive(Debug, thiserror::Error)]
pub enum MakeError {
    /// The lock was not to be had.
    #[error(transparent)]
    Lock(#[from] WorktreeLockError),
    /// The list of worktrees could not be read.
    #[error("could not read the worktrees")]
    List(#[from] ListError),
    /// The path does not lead where it was recorded.
    #[error("could not use the path of the worktree")]
    Path(#[from] PathError),
    /// The path now leads elsewhere: one of its parents has become a symlink.
    #[error("{} now leads to {}", path.display(), leads_to.display())]
    PathChanged {
        /// The path as recorded.
        path: PathBuf,
        /// Where it leads.
        leads_to: PathBuf,
    },
    /// Something is at the path.
    #[error("{} is not empty", path.display())]
    Occupied {
        /// The path.
        path: PathBuf,
    },
    /// The path is registered for somebody else.
    #[error("{} is registered for another worktree, {}", path.display(), name.to_string_lossy())]
    RegisteredForOthers {
        /// The path.
        path: PathBuf,
        /// The registration.
        name: OsString,
    },
    /// The worktree stands at another path.
    #[error("the worktree stands at {}", path.display())]
    Moved {
        /// Where.
        path: PathBuf,
    },
    /// The directory of a complete worktree has vanished, and what git holds of it is not known to be saved.
    #[error("the directory of the worktree {} has vanished", name.to_string_lossy())]
    Vanished {
        /// The registration.
        name: OsString,
    },
    /// Somebody has locked it.
    #[error("the worktree {} is locked: {reason}", name.to_string_lossy())]
    Locked {
        /// The registration.
        name: OsString,
        /// The reason given.
        reason: String,
    },
    /// The new branch exists.
    #[error("the branch {name} exists")]
    BranchExists {
        /// Its full ref name.
        name: String,
    },
    /// The branch does not exist.
    #[error("the branch {name} does not exist")]
    NoSuchBranch {
        /// Its full ref name.
        name: String,
    },
    /// The branch is checked out, or held by a rebase or bisect.
    #[error("the branch {name} is checked out at {}", path.display())]
    BranchHeld {
        /// Its full ref name.
        name: String,
        /// Where.
        path: PathBuf,
    },
    /// The branch kept moving.
    #[error("the branch {name} moved while it was checked out")]
    BranchMoves {
        /// Its full ref name.
        name: String,
    },
    /// HEAD could not be put on the branch.
    #[error("could not put HEAD on the branch {name}")]
    Attach {
        /// Its full ref name.
        name: String,
        /// Why.
        source: AttachError,
    },
    /// The branch could not be looked up.
    #[error(transparent)]
    LookUp(#[from] LookUpError),
    /// The registration could not be written.
    #[error("could not register the worktree")]
    Register(#[from] RegisterError),
    /// A file could not be written or removed.
    #[error("could not {attempt} {}", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// git could not fill the worktree or make the branch.
    #[error("git could not {attempt}")]
    Git {
        /// What was attempted.
        attempt: &'static str,
        /// What git said.
        source: GitError,
    },
}

impl MakeError {
    /// Whether it is only that somebody else was at work all the time.
    pub fn is_busy(&self) -> bool {
        matches!(self, Self::Lock(WorktreeLockError::Busy { .. }))
    }
}

pub(super) fn file_error(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> MakeError {
    let path = path.to_owned();
    move |source| MakeError::File { attempt, path, source }
}
