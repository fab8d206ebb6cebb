//! The lock under which worktrees are made and removed.
//!
//! Owns: `<common dir>/tether/worktree.lock`. Must not know: what is done under it.
//! Invariant: a git program that we started under it holds it too, so that one which outlives us is waited for, not raced.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::git::shared_files;

#[derive(Debug)]
pub(super) struct WorktreeLock {
    file: File,
}

/// Why the lock was not taken.
#[derive(Debug, thiserror::Error)]
pub enum WorktreeLockError {
    /// Somebody held it all the time.
    #[error("another git-tether has been making or removing worktrees for {} s (it holds {})", waited.as_secs(), path.display())]
    Busy {
        /// The lock file.
        path: PathBuf,
        /// How long we waited.
        waited: Duration,
    },
    /// The file could not be made or locked.
    #[error("could not lock {}", path.display())]
    File {
        /// The lock file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

impl WorktreeLock {
    pub(super) fn take(tether_dir: &Path, patience: Duration) -> Result<Self, WorktreeLockError> {
        let path = tether_dir.join("worktree.lock");
        let failed = |source| WorktreeLockError::File { path: path.clone(), source };
        let file = shared_files::open_or_create(&path).map_err(failed)?;
        let start = Instant::now();
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if start.elapsed() < patience => {
                    std::thread::sleep(Duration::from_millis(3));
                }
                Err(TryLockError::WouldBlock) => return Err(WorktreeLockError::Busy { path, waited: patience }),
                Err(TryLockError::Error(source)) => return Err(failed(source)),
            }
        }
        let lock = Self { file };
        lock.set_flags(rustix::io::FdFlags::empty()).map_err(failed)?;
        Ok(lock)
    }

    /// From now on programs that are started do not hold the lock: for hooks, which may leave something running.
    pub(super) fn keep_from_children(&self) -> std::io::Result<()> {
        self.set_flags(rustix::io::FdFlags::CLOEXEC)
    }

    fn set_flags(&self, flags: rustix::io::FdFlags) -> std::io::Result<()> {
        Ok(rustix::io::fcntl_setfd(&self.file, flags)?)
    }
}
