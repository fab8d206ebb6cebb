//! Signs of life that a session leaves in the repository: a lock that the kernel drops when its holders die, and heartbeats.
//!
//! Owns: `<common dir>/tether/live/` and `<common dir>/tether/heartbeat/`. Must not know: what a session is, or when one counts as
//! dead. Invariant: only the lock of a file that still stands under its name counts, so that clearing stale files and taking a lock
//! can race; an unlocked file proves nothing but that nobody holds it now.

use std::fs::{File, TryLockError};
use std::io::{ErrorKind, Write as _};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};

use super::processes;
use crate::git::shared_files;

/// Probes take the lock for a moment; a holder waits that out.
const PATIENCE_WITH_PROBES: Duration = Duration::from_millis(200);

/// The directory of these signs in one repository.
#[derive(Debug, Clone)]
pub struct SignsOfLife {
    tether_dir: PathBuf,
}

/// A held lock; it falls when this process and every child that inherited it have ended or closed it.
#[derive(Debug)]
pub struct LiveLock {
    file: File,
    path: PathBuf,
}

/// Whether children inherit a lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inheritance {
    /// Those started from now on hold it too, for as long as they live.
    ByChildren,
    /// None does.
    ByNobody,
}

/// What a session's lock file shows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockState {
    /// There is no file: the session never held one, or it was cleared away.
    NoFile,
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Held,
}

/// Why a sign of life could not be given or read.
#[derive(Debug, thiserror::Error)]
pub enum LiveError {
    /// The name cannot be a file name of its own.
    #[error("'{name}' cannot name a lock file")]
    BadName {
        /// The name.
        name: String,
    },
    /// Another process holds the lock.
    #[error("the lock {} is held", path.display())]
    Held {
        /// The lock file.
        path: PathBuf,
    },
    /// The file could not be made, opened, locked or read.
    #[error("could not {attempt} {}", path.display())]
    File {
        /// What was attempted.
        attempt: &'static str,
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// A heartbeat holds no time.
    #[error("the heartbeat {} holds no time: '{text}'", path.display())]
    NoTime {
        /// The file.
        path: PathBuf,
        /// What it holds.
        text: String,
    },
}

impl SignsOfLife {
    /// Those below `tether_dir`, a repository's `<common dir>/tether`.
    pub fn below(tether_dir: impl Into<PathBuf>) -> Self {
        Self { tether_dir: tether_dir.into() }
    }

    /// Takes the session's lock. Children inherit it only after [`LiveLock::set_inheritance`].
    pub fn hold(&self, session: &str) -> Result<LiveLock, LiveError> {
        let path = self.file("live", session)?;
        create_parent(&path)?;
        let patience_ends = Instant::now() + PATIENCE_WITH_PROBES;
        loop {
            let opened = shared_files::open_or_create(&path);
            let file = opened.map_err(failed("open", &path))?;
            match file.try_lock() {
                Ok(()) if is_still_named(&file, &path) => return Ok(LiveLock { file, path }),
                Ok(()) => {}
                Err(TryLockError::WouldBlock) if Instant::now() < patience_ends => {
                    std::thread::sleep(Duration::from_millis(2));
                }
                Err(TryLockError::WouldBlock) => return Err(LiveError::Held { path }),
                Err(TryLockError::Error(source)) => return Err(failed("lock", &path)(source)),
            }
        }
    }

    /// Whether somebody holds the session's lock.
    pub fn probe(&self, session: &str) -> Result<LockState, LiveError> {
        let path = self.file("live", session)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(LockState::NoFile),
            Err(source) => return Err(failed("open", &path)(source)),
        };
        match file.try_lock_shared() {
            Ok(()) => Ok(LockState::Free),
            Err(TryLockError::WouldBlock) => Ok(LockState::Held),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// The processes, of those that we may look at, that have the session's lock file open.
    pub fn find_holders(&self, session: &str) -> Result<Vec<u32>, LiveError> {
        let path = self.file("live", session)?;
        match std::fs::metadata(&path) {
            Ok(found) => Ok(processes::find_holders(found.dev(), found.ino())),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(failed("look at", &path)(source)),
        }
    }

    /// Records that the session was alive at `at`, replacing what was recorded before.
    pub fn beat(&self, session: &str, at: DateTime<Utc>) -> Result<(), LiveError> {
        let path = self.file("heartbeat", session)?;
        create_parent(&path)?;
        let scratch = path.with_file_name(format!(".{session}.tmp-{}", std::process::id()));
        let text = format!("{}\n", at.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true));
        let written = File::create(&scratch).and_then(|mut file| {
            shared_files::hand_on(&file, &scratch)?;
            file.write_all(text.as_bytes())
        });
        written.map_err(failed("write", &scratch))?;
        std::fs::rename(&scratch, &path).map_err(failed("replace", &path))
    }

    /// When the session last gave a heartbeat.
    pub fn find_beat(&self, session: &str) -> Result<Option<DateTime<Utc>>, LiveError> {
        let path = self.file("heartbeat", session)?;
        let text = match std::fs::read_to_string(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(failed("read", &path)(source)),
        };
        match DateTime::parse_from_rfc3339(text.trim()) {
            Ok(time) => Ok(Some(time.with_timezone(&Utc))),
            Err(_) => Err(LiveError::NoTime { path, text: text.chars().take(80).collect() }),
        }
    }

    /// Clears away a session's heartbeat, and its lock file if nobody holds it. Doing so twice is no error.
    pub fn clear(&self, session: &str) -> Result<(), LiveError> {
        remove_if_there(&self.file("heartbeat", session)?)?;
        match self.hold(session) {
            Ok(lock) => lock.clear(),
            Err(LiveError::Held { .. }) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Clears away a session's lock file if nobody holds it now. Doing so twice is no error.
    pub fn clear_lock(&self, session: &str) -> Result<(), LiveError> {
        let path = self.file("live", session)?;
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            Err(source) => return Err(failed("open", &path)(source)),
        };
        match file.try_lock() {
            Ok(()) if is_still_named(&file, &path) => remove_if_there(&path),
            Ok(()) | Err(TryLockError::WouldBlock) => Ok(()),
            Err(TryLockError::Error(source)) => Err(failed("lock", &path)(source)),
        }
    }

    /// The sessions that have left a lock file.
    pub fn list_sessions(&self) -> Result<Vec<String>, LiveError> {
        let directory = self.tether_dir.join("live");
        match std::fs::read_dir(&directory) {
            Ok(entries) => {
                let mut names: Vec<_> =
                    entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect();
                names.sort_unstable();
                Ok(names)
            }
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            Err(source) => Err(failed("list", &directory)(source)),
        }
    }

    fn file(&self, kind: &str, session: &str) -> Result<PathBuf, LiveError> {
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
        if session.is_empty() || session.starts_with('.') || !session.bytes().all(plain) {
            return Err(LiveError::BadName { name: session.to_owned() });
        }
        Ok(self.tether_dir.join(kind).join(session))
    }
}

impl LiveLock {
    /// Says whether children started from now on hold the lock too.
    pub fn set_inheritance(&self, inheritance: Inheritance) -> Result<(), LiveError> {
        let flags = match inheritance {
            Inheritance::ByChildren => rustix::io::FdFlags::empty(),
            Inheritance::ByNobody => rustix::io::FdFlags::CLOEXEC,
        };
        rustix::io::fcntl_setfd(&self.file, flags)
            .map_err(|error| failed("change the inheritance of", &self.path)(error.into()))
    }

    /// Another handle on the held lock, to hand on to a command: the lock lasts until the last handle is gone.
    pub fn share(&self) -> Result<File, LiveError> {
        self.file.try_clone().map_err(failed("hand on", &self.path))
    }

    /// Gives the lock up and clears its file away. A child that inherited it still holds the old file, which nobody sees any more:
    /// only for the end of a session.
    pub fn clear(self) -> Result<(), LiveError> {
        remove_if_there(&self.path)
    }
}

fn is_still_named(file: &File, path: &Path) -> bool {
    match (file.metadata(), std::fs::metadata(path)) {
        (Ok(held), Ok(named)) => held.ino() == named.ino() && held.dev() == named.dev(),
        _ => false,
    }
}

fn create_parent(path: &Path) -> Result<(), LiveError> {
    let parent = path.parent().unwrap_or(path);
    shared_files::create_directories(parent).map_err(failed("create", parent))
}

fn remove_if_there(path: &Path) -> Result<(), LiveError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(failed("remove", path)(error)),
        _ => Ok(()),
    }
}

fn failed(attempt: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> LiveError {
    let path = path.to_owned();
    move |source| LiveError::File { attempt, path, source }
}

#[cfg(test)]
#[path = "live_tests.rs"]
mod tests;
