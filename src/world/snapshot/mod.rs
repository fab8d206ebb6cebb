//! Saved work: the full content of a worktree at a moment as a commit, and putting it back.
//!
//! Owns: what a snapshot commit holds, how it is made from a worktree and how a worktree is made from it. Must not know: runs, tasks,
//! refs, and who asked. Invariant: saving never writes into the worktree, the user's index, stash, HEAD or branches; restoring writes
//! nothing outside the target, nothing named `.git`, and nothing through a symlink.
//!
//! A snapshot commit's tree is the worktree's content as git would store it. Its parents are the HEAD it stood on (if there is one) and
//! a *state* commit, whose tree holds `state.json`, `index` (what the index says beyond HEAD), `resolved` (conflicts that
//! it remembers), `objects/` (what the index names and HEAD
//! does not reach), `operation/` (the files of a merge, rebase, ... in progress) and `raw/` (bytes that would not survive the path's
//! filters). Limits: empty directories and permission bits other than "executable" are not kept, and submodules only by their commit.

mod compose;
mod content;
mod contents;
mod conversion;

mod directory;
mod draft;
mod exact;
mod index_lines;
mod interrupted;
mod large_file;
mod layout;
mod operation;
mod own_refs;
mod patterns;
mod place;
mod regular_file;
mod resolve_undo;
mod restore;
mod restore_error;
mod restore_index;

mod save;
mod sink;
mod staged;
mod state;
mod submodule;
mod survey;
mod tree;
mod walk;
mod write_files;

use gix::ObjectId;
use gix::bstr::BString;
/// What an object is: commit, tree, blob or tag.
pub use gix::objs::Kind as ObjectKind;
use std::path::PathBuf;

pub use contents::{Content, ContentStatus, contents};
pub use directory::save_directory;
pub use interrupted::{Interrupted, find_interrupted};
pub use patterns::DEFAULT_EXCLUDES;
pub use place::WorktreePlace;

pub use restore::{Held, RestoreTarget, RestoreWarning, Restored, Trust, restore};
pub use restore_error::RestoreError;
pub use save::{save, save_vanished};
pub use sink::{LooseSink, ObjectSink, SinkError};

/// An error of a library below, boxed: what failed is said by the variant around it.
pub type Cause = Box<dyn std::error::Error + Send + Sync + 'static>;

/// Who saves, when, and what is taken along.
#[derive(Debug, Clone)]
pub struct SaveOptions {
    /// Patterns (as in `.gitignore`) of ignored files that are saved all the same.
    pub include: Vec<String>,
    /// Patterns (as in `.gitignore`) of untracked files that are never saved; see [`DEFAULT_EXCLUDES`].
    pub exclude: Vec<String>,
    /// The snapshot before this one, which must be reachable from a ref: what it holds is not written again, and if nothing has
    /// changed since, it is the answer and nothing is written at all.
    pub previous: Option<ObjectId>,
    /// Raw bytes of one file beyond this many are not kept beside the filtered content; the file then counts as not saved.
    pub raw_limit: u64,
    /// A file of our own (in the worktree's git directory, say) that remembers which unchanged files a checkout gives back exactly.
    /// Without it, each save compares all files that content filters apply to.
    pub exact_cache: Option<PathBuf>,
    /// The name of author and committer.
    pub name: String,
    /// The mail address of author and committer.
    pub email: String,
    /// Seconds since 1970 of the commits that are written.
    pub seconds: i64,
    /// The moment in full: work that is as it was a second ago, and was not meanwhile, is saved once more, as newer than that.
    pub moment: String,
}

impl Default for SaveOptions {
    fn default() -> Self {
        Self {
            include: Vec::new(),
            exclude: DEFAULT_EXCLUDES.iter().map(|&pattern| pattern.to_owned()).collect(),
            previous: None,
            raw_limit: 256 << 20,
            exact_cache: None,
            name: "git-tether".to_owned(),
            email: "tether@localhost".to_owned(),
            seconds: 0,
            moment: String::new(),
        }
    }
}

/// What saving came to.
#[derive(Debug, Clone)]
pub struct Saved {
    /// The snapshot commit.
    pub commit: ObjectId,
    /// The commit that the worktree stood on.
    pub base: Option<ObjectId>,
    /// The full name of the branch that it stood on; `None` if HEAD is detached.
    pub branch: Option<String>,
    /// Files that differ from the base: changed, new and deleted ones.
    pub files: usize,
    /// Bytes of the objects handed to the sink.
    pub bytes: u64,
    /// Bytes of those files that are there, as git stores them.
    pub content_bytes: u64,
    /// What somebody should know though it was saved.
    pub warnings: Vec<Warning>,
    /// What was not saved, or not all of it.
    pub not_saved: Vec<NotSaved>,
    /// Ignored files and directories that were passed by; a directory counts as one.
    pub ignored: usize,
    /// Whether `commit` is the previous snapshot and nothing was written.
    pub unchanged: bool,
    /// Whether nothing differs from the base: not a file, not the index, nothing that was not saved, no operation in progress.
    pub clean: bool,
    /// Whether a fresh checkout of the base would be the same: clean, and without flags in the index, sparse patterns, settings or refs
    /// of the worktree's own, or bytes that a checkout would not give.
    pub as_checked_out: bool,
}

/// What somebody should know about a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Warning {
    /// The file changed each time it was read: the snapshot may hold a torn state of it.
    Unsettled(BString),
    /// The index or HEAD changed each time the worktree was saved.
    UnsettledIndex,
    /// A named pipe, socket or device: it has no content to save.
    SpecialFile(BString),
    /// The path's content filter failed with the message given: the bytes were saved as they are.
    FilterFailed(BString, String),
    /// An object that the index names is not in the repository.
    MissingObject(BString, ObjectId),
    /// A submodule is saved by its commit only.
    Submodule(BString),
}

/// Something that was not saved.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct NotSaved {
    /// Its path in the worktree.
    pub path: BString,
    /// Why.
    pub reason: NotSavedReason,
}

/// Why something was not saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NotSavedReason {
    /// An exclude pattern names it.
    Excluded,
    /// A submodule with changes of its own.
    DirtySubmodule,
    /// A submodule with commits that its remote lacks.
    UnpushedSubmodule,
    /// A submodule that could not be looked at.
    UnreadableSubmodule,
    /// An untracked repository: its files are saved, its history is not.
    EmbeddedHistory,
    /// Another worktree of the same repository: neither its files nor its index.
    NestedWorktree,
    /// A name that no git tree may hold (a form of `.git`).
    RefusedName,
    /// Its filtered content is saved; its exact bytes are more than the limit allows.
    RawTooLarge,
}

/// Why saving failed. Nothing was changed; what the sink got may be thrown away.
#[derive(Debug, thiserror::Error)]
pub enum SaveError {
    /// The repository could not be opened.
    #[error("could not open the repository at {}", path.display())]
    Open {
        /// The worktree or git directory.
        path: PathBuf,
        /// What failed.
        source: Cause,
    },
    /// The directory belongs to another git directory than was said.
    #[error("{} belongs to {}, not to {}", path.display(), found.display(), expected.display())]
    OtherRepository {
        /// The worktree.
        path: PathBuf,
        /// The git directory that was named.
        expected: PathBuf,
        /// The git directory that answers there.
        found: PathBuf,
    },
    /// HEAD could not be read.
    #[error("could not read HEAD of {}", path.display())]
    Head {
        /// The git directory.
        path: PathBuf,
        /// What failed.
        source: Cause,
    },
    /// The refs of the worktree's own (of an operation in progress, say) could not be read.
    #[error("could not read the refs of {}", path.display())]
    OwnRefs {
        /// The git directory.
        path: PathBuf,
        /// What failed.
        source: Cause,
    },
    /// The index could not be read.
    #[error("could not read the index {}", path.display())]
    Index {
        /// The index file.
        path: PathBuf,
        /// What failed.
        source: Cause,
    },
    /// A file or directory could not be read: it would be missing in the snapshot.
    #[error("could not read {}", path.display())]
    Unreadable {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The ignore or attribute rules of a path could not be read.
    #[error("could not read the ignore or attribute rules for {path}")]
    Rules {
        /// The path in the worktree.
        path: BString,
        /// What failed.
        source: Cause,
    },
    /// A git object could not be read.
    #[error("could not read object {id}")]
    Object {
        /// The object.
        id: ObjectId,
        /// What failed.
        source: Cause,
    },
    /// An object could not be put together.
    #[error("could not make {what}")]
    Make {
        /// What was to be made.
        what: &'static str,
        /// What failed.
        source: Cause,
    },
    /// The sink did not take an object.
    #[error("could not write saved work")]
    Sink(#[from] SinkError),
}
