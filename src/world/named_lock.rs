//! Locks on files that their holders remove: only the lock of a file that still stands under its name counts.
//!
//! Must not know: what is done under a lock. Invariant: the kernel drops a lock when its holder dies, and no child inherits it.

use std::fs::{File, TryLockError};
use std::io::{self, ErrorKind};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::git::shared_files;

/// Takes the lock of the file at `path`, made with the directories above it if it is not there; `None`: somebody who lives held it all the
/// time.
pub(super) fn take(path: &Path, patience: Duration) -> io::Result<Option<File>> {
    let patience_ends = Instant::now() + patience;
    loop {
        let file = match shared_files::open_or_create(path) {
            // The last holder took the empty directory with it.
            Err(error) if error.kind() == ErrorKind::NotFound && Instant::now() < patience_ends => continue,
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) if is_still_named(&file, path) => return Ok(Some(file)),
            Ok(()) => {}
            Err(TryLockError::WouldBlock) if Instant::now() < patience_ends => {
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(TryLockError::WouldBlock) => return Ok(None),
            Err(TryLockError::Error(error)) => return Err(error),
        }
    }
}

/// Whether the file that was opened is the one that stands at `path` now.
pub(super) fn is_still_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}
