//! Turns: our own writers of one ref queue up instead of losing races to each other.
//!
//! Owns: a small set of lock files below `<common dir>/tether/turns/`, one for many refs. Must not know what is written.
//! Invariant: a turn is courtesy. What keeps a ref right is its compare-and-swap, which holds against everybody, turn or not; so
//! whoever cannot have one goes on without.

use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};

use super::names::RefName;
use crate::git::shared_files;

/// How many lock files there are; refs share them.
const STRIPES: u32 = 64;
/// A holder works for milliseconds. One that is stopped in the middle must not hold up the others for long.
const PATIENCE: Duration = Duration::from_secs(2);
/// How often somebody who waits looks.
const PAUSE: Duration = Duration::from_micros(500);

/// A turn; it ends when it is dropped, or when its holder dies.
#[derive(Debug)]
pub struct Turn {
    _file: File,
}

/// Waits for a turn at a ref. `None`: there is none to be had here, or not in time.
pub(super) fn wait(common: &Path, name: &RefName) -> Option<Turn> {
    let directory = common.join("tether/turns");
    let path = directory.join(format!("{:02x}", crc32fast::hash(name.as_str().as_bytes()) % STRIPES));
    let file = shared_files::open_or_create(&path).ok()?;
    let ends = Instant::now() + PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Some(Turn { _file: file }),
            Err(std::fs::TryLockError::WouldBlock) if Instant::now() < ends => std::thread::sleep(PAUSE),
            Err(_) => return None,
        }
    }
}
