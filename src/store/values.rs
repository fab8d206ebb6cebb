//! The values and errors of the seam: what refs and objects are, and why one could not be read, written or swapped.

use std::io;
use std::path::PathBuf;

use gix::ObjectId;
use gix::objs::Kind;

use super::names::RefName;
use crate::git::GitError;

/// What a ref holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RefValue {
    /// There is no such ref.
    Absent,
    /// It names an object.
    Id(ObjectId),
    /// It names another ref: a finding, never followed.
    Symbolic(String),
    /// It holds something else (nothing, after a power cut, say): a finding.
    Broken(String),
}

/// What a ref must hold for a swap to happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    /// Nothing: the swap creates it.
    Absent,
    /// This id.
    Id(ObjectId),
}

/// What a ref shall hold after a swap.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum New {
    /// This id.
    Id(ObjectId),
    /// Nothing: the ref is deleted.
    Delete,
}

/// What is known of an object before it is loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ObjectHeader {
    /// Commit, tree, blob or tag.
    pub kind: Kind,
    /// Bytes of its content.
    pub size: u64,
}

/// An object, loaded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Object {
    /// Commit, tree, blob or tag.
    pub kind: Kind,
    /// Its content.
    pub data: Vec<u8>,
}

/// What became of a stale lock that was to be cleared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ClearedLock {
    /// It was removed.
    Removed,
    /// It was not there any more, or had become somebody else's.
    Gone,
}

/// Why a ref could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadRefError {
    /// A file could not be read.
    #[error("could not read {}", path.display())]
    Io {
        /// The loose ref, its directory or `packed-refs`.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// `packed-refs` is damaged.
    #[error("could not understand {}", path.display())]
    Packed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: BoxedError,
    },
    /// The git program could not say.
    #[error("could not read refs through git")]
    Git(#[from] GitError),
    /// The git program said something that is not understood.
    #[error("git answered with a line that is no ref: `{}`", line.escape_debug())]
    Answer {
        /// The line.
        line: String,
    },
}

/// An error of a library whose type is not part of this seam.
pub type BoxedError = Box<dyn std::error::Error + Send + Sync>;

/// Why an object could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadObjectError {
    /// It is not there.
    #[error("object {id} is missing")]
    Missing {
        /// Its id.
        id: ObjectId,
    },
    /// It is larger than the caller wants to load.
    #[error("object {id} has {size} bytes, more than the {limit} allowed")]
    TooLarge {
        /// Its id.
        id: ObjectId,
        /// Its size in bytes.
        size: u64,
        /// The largest size allowed.
        limit: u64,
    },
    /// It is another kind of object.
    #[error("object {id} is a {found}, not a {wanted}")]
    Kind {
        /// Its id.
        id: ObjectId,
        /// What it is.
        found: Kind,
        /// What it should be.
        wanted: Kind,
    },
    /// It, or the storage around it, is damaged.
    #[error("could not read object {id}")]
    Damaged {
        /// Its id.
        id: ObjectId,
        /// What is wrong.
        source: BoxedError,
    },
}

/// Why objects could not be written. None of them is named by any ref then.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// The storage is full, or a quota is used up.
    #[error("no space left for objects in {}", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The repository cannot be written to.
    #[error("{} cannot be written to", path.display())]
    ReadOnly {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// Anything else that the system refused.
    #[error("could not {attempted} {}", path.display())]
    Io {
        /// What was attempted, as a verb.
        attempted: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The source of a large object failed.
    #[error("could not read what was to be stored")]
    Source(#[source] io::Error),
    /// The source of a large object had another length than was promised.
    #[error("{promised} bytes were promised, but {found} came")]
    Size {
        /// Bytes promised.
        promised: u64,
        /// Bytes that came before the end, or before the source was left.
        found: u64,
    },
    /// The content cannot be hashed (a collision attack) or encoded.
    #[error("could not encode an object")]
    Encode(#[source] BoxedError),
    /// More objects or bytes than a pack can hold.
    #[error("too much for one pack")]
    TooMuch,
}

/// Why a ref was not swapped. But for the last variant, it does not hold the new value because of this call.
#[derive(Debug, thiserror::Error)]
pub enum SwapError {
    /// It holds something else than expected: somebody was faster.
    #[error("{name} does not hold what was expected")]
    Lost {
        /// The ref.
        name: RefName,
        /// What it holds.
        found: RefValue,
    },
    /// Another process holds its lock, and kept it while we waited.
    #[error("{name} is locked by another process ({})", lock.display())]
    Busy {
        /// The ref.
        name: RefName,
        /// The file whose existence is the lock.
        lock: PathBuf,
    },
    /// A ref exists whose name is a directory of this one, or the other way round.
    #[error("{name} cannot exist beside {with}")]
    NameConflict {
        /// The ref.
        name: RefName,
        /// The other, or `refs below it`.
        with: String,
    },
    /// The repository cannot be written to.
    #[error("{name} cannot be written")]
    ReadOnly {
        /// The ref.
        name: RefName,
        /// What was said.
        source: BoxedError,
    },
    /// The storage is full, or a quota is used up.
    #[error("no space left to write {name}")]
    Full {
        /// The ref.
        name: RefName,
        /// What was said.
        source: BoxedError,
    },
    /// Anything else that the system refused.
    #[error("could not {attempted} {name}")]
    Io {
        /// The ref.
        name: RefName,
        /// What was attempted, as a verb.
        attempted: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// Its present value could not be read.
    #[error("could not read {name} before changing it")]
    Unreadable {
        /// The ref.
        name: RefName,
        /// Why.
        source: ReadRefError,
    },
    /// The git program refused.
    #[error("git did not update {name}")]
    Git {
        /// The ref.
        name: RefName,
        /// What it said.
        source: GitError,
    },
    /// It holds the new value, but may not do so after a power cut.
    #[error("{name} was updated, but could not be made durable")]
    NotDurable {
        /// The ref.
        name: RefName,
        /// What the system said.
        source: io::Error,
    },
}

/// Which of the ways in which writing fails an error of the system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum WriteFailure {
    Full,
    ReadOnly,
    Other,
}

pub(super) fn classify(source: &io::Error) -> WriteFailure {
    match source.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => WriteFailure::Full,
        io::ErrorKind::ReadOnlyFilesystem | io::ErrorKind::PermissionDenied => WriteFailure::ReadOnly,
        _ => WriteFailure::Other,
    }
}

impl WriteError {
    pub(super) fn at(attempted: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| match classify(&source) {
            WriteFailure::Full => Self::Full { path, source },
            WriteFailure::ReadOnly => Self::ReadOnly { path, source },
            WriteFailure::Other => Self::Io { attempted, path, source },
        }
    }
}

impl SwapError {
    pub(super) fn at<'a>(attempted: &'static str, name: &'a RefName) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| {
            let name = name.clone();
            match classify(&source) {
                WriteFailure::Full => Self::Full { name, source: source.into() },
                WriteFailure::ReadOnly => Self::ReadOnly { name, source: source.into() },
                WriteFailure::Other => Self::Io { name, attempted, source },
            }
        }
    }
}
