//! What everybody needs who tends the pack directory: its names, the lock of a fold, whether git is at work.
//!
//! Owns: what can go wrong there. Must not know: what is done with packs.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use rustix::fs::FlockOperation;

use super::pack::PackDirectory;
use super::values::{BoxedError, WriteError};
use crate::git::shared_files;

/// As long as git itself believes a `gc.pid`.
const GC_BELIEVED_FOR: Duration = Duration::from_hours(12);

/// Why packs were not folded. Every object is where it was, or in the new pack too.
#[derive(Debug, thiserror::Error)]
pub enum FoldError {
    /// A file could not be looked at or removed.
    #[error("could not {attempted} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        attempted: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A pack of ours is not what we wrote.
    #[error("{} is damaged: {what}", path.display())]
    Damaged {
        /// The pack.
        path: PathBuf,
        /// What is wrong.
        what: String,
    },
    /// An index could not be read.
    #[error("could not understand {}", path.display())]
    Index {
        /// The index.
        path: PathBuf,
        /// What is wrong.
        source: BoxedError,
    },
    /// The new pack could not be written.
    #[error("could not write the folded pack")]
    Write(#[from] WriteError),
}

impl FoldError {
    pub(super) fn at(attempted: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { attempted, path, source }
    }
}

/// What is in a directory; nothing if it is not there.
pub(super) fn file_names(directory: &Path) -> Result<Vec<String>, FoldError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        other => other.map_err(FoldError::at("list", directory))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(FoldError::at("list", directory))?;
        if let Ok(name) = entry.file_name().into_string() {
            names.push(name);
        }
    }
    Ok(names)
}

/// Whether a file was last written within this time.
pub(super) fn is_recent(path: &Path, within: Duration) -> bool {
    let modified = fs::symlink_metadata(path).and_then(|metadata| metadata.modified());
    // A time in the future is recent as well.
    modified
        .is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age <= within) || at > SystemTime::now())
}

/// Whether git's own garbage collection is at work, or was killed not long ago.
pub(super) fn git_collects_garbage(common: &Path) -> bool {
    ["gc.pid", "gc.pid.lock", "objects/maintenance.lock"]
        .iter()
        .any(|name| is_recent(&common.join(name), GC_BELIEVED_FOR))
}

/// The lock that one fold at a time holds; `None` if another does. It is free once its file is closed, however the process ends.
pub(super) fn take_lock(packs: &PackDirectory, common: &Path) -> Result<Option<File>, FoldError> {
    let directory = common.join("tether");
    packs.sharing.create_directories(&directory).map_err(FoldError::at("create", &directory))?;
    let path = directory.join("fold.lock");
    let file = shared_files::open_or_create(&path).map_err(FoldError::at("open", &path))?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(Some(file)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(None),
        Err(error) => Err(FoldError::at("lock", path)(error.into())),
    }
}
