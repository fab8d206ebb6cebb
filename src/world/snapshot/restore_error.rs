//! Why nothing, or not all, of a snapshot was put back.

use std::path::PathBuf;

use gix::ObjectId;
use gix::bstr::BString;

use super::{Cause, SaveError};

/// Why nothing, or not all, was restored.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The snapshot or the target could not be read.
    #[error("could not read what is to be restored or where to")]
    Read(#[from] SaveError),
    /// The worktree stands on another commit than the snapshot's base.
    #[error("the worktree stands on {found:?}, the saved work on {expected:?}")]
    OtherBase {
        /// The snapshot's base.
        expected: Option<ObjectId>,
        /// The worktree's HEAD.
        found: Option<ObjectId>,
    },
    /// A plain directory was saved: it cannot become a worktree.
    #[error("a saved directory is restored to a directory")]
    NotAWorktree,
    /// Something stands where a file is to be written.
    #[error("{path} is in the way")]
    InTheWay {
        /// The path in the target.
        path: BString,
    },
    /// The snapshot holds a name that is never written.
    #[error("the name {path} is refused")]
    RefusedName {
        /// The path in the snapshot.
        path: BString,
    },
    /// A file could not be written or removed.
    #[error("could not write {path}")]
    Write {
        /// The path in the target.
        path: BString,
        /// What the system said.
        source: std::io::Error,
    },
    /// The refs of the worktree's own could not be written.
    #[error("could not write the refs of {}", path.display())]
    OwnRefs {
        /// The git directory.
        path: PathBuf,
        /// What failed.
        source: Cause,
    },
    /// The index could not be written.
    #[error("could not write the index {}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What failed.
        source: Cause,
    },
}
