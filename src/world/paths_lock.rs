//! The lock under which it is decided which environment gets which path.
//!
//! Owns: `<common dir>/tether/paths.lock`. Must not know: what is decided under it.
//! Invariant: it is held from the look at the paths that are taken until the new one is written down, and no child inherits it.

use std::fs::{File, TryLockError};
use std::path::Path;
use std::time::{Duration, Instant};

use crate::git::shared_files;

/// How long somebody waits for others: each of them holds it for some milliseconds.
const PATIENCE: Duration = Duration::from_secs(30);

/// The lock, held until it is dropped.
#[derive(Debug)]
pub struct PathsLock {
    _file: File,
}

impl PathsLock {
    /// Waits for the lock; `None` if others held it all the time.
    pub fn take(tether_dir: &Path) -> std::io::Result<Option<Self>> {
        let file = shared_files::open_or_create(&tether_dir.join("paths.lock"))?;
        let patience_ends = Instant::now() + PATIENCE;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(Self { _file: file })),
                Err(TryLockError::WouldBlock) if Instant::now() < patience_ends => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }
}
