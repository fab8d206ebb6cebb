//! The half-written or half-removed registration that a killed maker of worktrees leaves.
//!
//! Owns: telling one that is being written from one that was left. Must not know: records. Invariant: nothing is said of it, or done
//! to it, but under the lock of those who make worktrees.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::time::Duration;

use super::worktree_lock::{WorktreeLock, WorktreeLockError};
use crate::git::Repository;

/// Why it was not cleared.
#[derive(Debug, thiserror::Error)]
pub enum StagingError {
    /// Somebody makes worktrees now.
    #[error(transparent)]
    Lock(#[from] WorktreeLockError),
    /// It could not be removed.
    #[error("could not remove {}", path.display())]
    Remove {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where a registration stands before it is one, and after it was one.
pub(super) fn directory(repository: &Repository) -> PathBuf {
    repository.tether_dir().join("worktree-staging")
}

/// The directory, if nobody is at work in it.
pub fn find(repository: &Repository) -> Option<PathBuf> {
    let path = directory(repository);
    if !path.is_dir() {
        return None;
    }
    let _lock = WorktreeLock::take(&repository.tether_dir(), Duration::ZERO).ok()?;
    path.is_dir().then_some(path)
}

/// Removes it; that it is gone is no error.
pub fn clear(repository: &Repository) -> Result<(), StagingError> {
    let _lock = WorktreeLock::take(&repository.tether_dir(), Duration::from_secs(1))?;
    let path = directory(repository);
    match std::fs::remove_dir_all(&path) {
        Err(source) if source.kind() != ErrorKind::NotFound => Err(StagingError::Remove { path, source }),
        _ => Ok(()),
    }
}
