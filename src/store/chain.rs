//! Chains: one ref, one commit for each transition.
//!
//! Owns: the form of a commit, appending one, walking history. Must not know: what a record says, nor what follows a lost race.
//! Invariants: a tip moves only from the commit that the decision was made on; all that a commit needs is on disk before the ref names it.

use std::collections::{BTreeMap, BinaryHeap, HashSet};

use gix::ObjectId;
use gix::actor::Signature;
use gix::date::Time;
use gix::objs::{Commit, Kind, WriteTo};

use super::backend::{Backend, Expected, New, ReadRefError, RefValue, SwapError, WriteError};
pub use super::commit::{ChainCommit, CommitError, Identity, read_at, read_commit};
use super::names::RefName;
use super::objects::Batch;
use super::tree::{self, Change, TreeError};

/// What a path shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Content {
    /// These bytes.
    Bytes(Vec<u8>),
    /// A blob that was written before, or that the tip's tree holds.
    Blob(ObjectId),
    /// A tree that was written before.
    Tree(ObjectId),
    /// Nothing.
    Remove,
}

/// All that one commit adds to a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transition {
    /// Logical paths and what they shall hold; every other path stays.
    pub changes: BTreeMap<String, Content>,
    /// For people: subject, body, trailers.
    pub message: String,
    /// Author and committer.
    pub identity: Identity,
    /// When, for both.
    pub time: Time,
    /// Parents besides the tip: what a keeper keeps, the other side of a merge.
    pub extra_parents: Vec<ObjectId>,
}

/// Why a commit was not appended.
#[derive(Debug, thiserror::Error)]
pub enum AppendError {
    /// The tip could not be read.
    #[error("could not read the tip of {name}")]
    Tip {
        /// The ref.
        name: RefName,
        /// Why.
        source: CommitError,
    },
    /// The ref could not be read.
    #[error("could not read {name}")]
    Ref {
        /// The ref.
        name: RefName,
        /// Why.
        source: ReadRefError,
    },
    /// The new tree could not be made.
    #[error("could not make the new tree for {name}")]
    Tree {
        /// The ref.
        name: RefName,
        /// Why.
        source: TreeError,
    },
    /// The new objects could not be written.
    #[error("could not write the objects for {name}")]
    Write {
        /// The ref.
        name: RefName,
        /// Why.
        source: WriteError,
    },
    /// The ref was not moved.
    #[error(transparent)]
    Swap(#[from] SwapError),
}

impl AppendError {
    /// Whether deciding again, on the tip as it is then, may succeed.
    pub fn is_lost_race(&self) -> bool {
        matches!(
            self,
            Self::Swap(SwapError::Lost { found: RefValue::Absent | RefValue::Id(_), .. } | SwapError::Busy { .. })
        )
    }
}

/// A commit that is in a batch, for a ref that will name it once the batch is written.
#[derive(Debug)]
pub(super) struct Staged {
    name: RefName,
    expected: Expected,
    new: ObjectId,
}

impl Staged {
    /// Lets the ref name the commit, which is on disk by now.
    pub(super) fn land(self, backend: &dyn Backend) -> Result<ObjectId, AppendError> {
        backend.swap(&self.name, self.expected, New::Id(self.new))?;
        Ok(self.new)
    }
}

/// Appends one commit to the chain at `name`, whose tip must be `expected`, and returns it: the new tip, on disk.
pub fn append(
    backend: &dyn Backend,
    name: &RefName,
    expected: Expected,
    transition: &Transition,
) -> Result<ObjectId, AppendError> {
    let mut batch = backend.batch();
    let staged = stage(backend, name, expected, transition, &mut batch)?;
    write(backend, name, batch)?;
    let new = staged.land(backend)?;
    keep_house(backend);
    Ok(new)
}

/// Folding is upkeep: whatever stops it stops it again after the next swap, and the transition is done.
pub(super) fn keep_house(backend: &dyn Backend) {
    let _ = backend.fold();
}

/// Puts one commit for the chain at `name`, whose tip must be `expected`, into `batch`; it may name what is in there already.
pub(super) fn stage(
    backend: &dyn Backend,
    name: &RefName,
    expected: Expected,
    transition: &Transition,
    batch: &mut Batch,
) -> Result<Staged, AppendError> {
    refuse_lost_race(backend, name, expected)?;
    let tip = match expected {
        Expected::Absent => None,
        Expected::Id(id) => Some(id),
    };
    let new = add_commit(backend, name, tip, transition, batch)?;
    Ok(Staged { name: name.clone(), expected, new })
}

/// Puts the objects that the ref `name` is about to need on disk.
pub(super) fn write(backend: &dyn Backend, name: &RefName, batch: Batch) -> Result<(), AppendError> {
    backend.write(batch).map_err(|source| AppendError::Write { name: name.clone(), source })
}

/// Writes a commit that begins a chain of its own, for a ref that the caller moves to it.
pub fn write_root(backend: &dyn Backend, name: &RefName, transition: &Transition) -> Result<ObjectId, AppendError> {
    write_commit(backend, name, None, transition)
}

/// Writes a commit that begins a chain of its own with a tree that is there, for a ref that the caller moves to it. What the
/// transition changes is not looked at.
pub fn write_beginning(
    backend: &dyn Backend,
    name: &RefName,
    tree: ObjectId,
    transition: &Transition,
) -> Result<ObjectId, AppendError> {
    let write_failed = |source| AppendError::Write { name: name.clone(), source };
    let mut batch = backend.batch();
    let commit = commit_bytes(tree, None, transition).map_err(write_failed)?;
    let new = batch.add(Kind::Commit, &commit).map_err(write_failed)?;
    backend.write(batch).map_err(write_failed)?;
    Ok(new)
}

/// Writes a commit on top of another, for a ref that the caller moves to it.
pub fn write_on(
    backend: &dyn Backend,
    name: &RefName,
    base: ObjectId,
    transition: &Transition,
) -> Result<ObjectId, AppendError> {
    write_commit(backend, name, Some(base), transition)
}

fn write_commit(
    backend: &dyn Backend,
    name: &RefName,
    tip: Option<ObjectId>,
    transition: &Transition,
) -> Result<ObjectId, AppendError> {
    let mut batch = backend.batch();
    let new = add_commit(backend, name, tip, transition, &mut batch)?;
    write(backend, name, batch)?;
    Ok(new)
}

fn add_commit(
    backend: &dyn Backend,
    name: &RefName,
    tip: Option<ObjectId>,
    transition: &Transition,
    batch: &mut Batch,
) -> Result<ObjectId, AppendError> {
    let base = tip.map(|tip| read_commit(backend, tip)).transpose();
    let base = base.map_err(|source| AppendError::Tip { name: name.clone(), source })?;

    let write_failed = |source| AppendError::Write { name: name.clone(), source };
    let mut changes = BTreeMap::new();
    for (path, content) in &transition.changes {
        let change = match content {
            Content::Bytes(bytes) => Change::Blob(batch.add(Kind::Blob, bytes).map_err(write_failed)?),
            Content::Blob(id) => Change::Blob(*id),
            Content::Tree(id) => Change::Tree(*id),
            Content::Remove => Change::Remove,
        };
        changes.insert(path.clone(), change);
    }
    let tree = tree::edit(backend, batch, base.map(|commit| commit.tree), &changes);
    let tree = tree.map_err(|source| AppendError::Tree { name: name.clone(), source })?;
    let commit = commit_bytes(tree, tip, transition).map_err(write_failed)?;
    batch.add(Kind::Commit, &commit).map_err(write_failed)
}

/// A look before anything is written: most lost races end here, and leave no objects behind.
fn refuse_lost_race(backend: &dyn Backend, name: &RefName, expected: Expected) -> Result<(), AppendError> {
    let found = backend.read_ref(name).map_err(|source| AppendError::Ref { name: name.clone(), source })?;
    match (&found, expected) {
        (RefValue::Absent, Expected::Absent) => Ok(()),
        (RefValue::Id(found), Expected::Id(id)) if *found == id => Ok(()),
        _ => Err(SwapError::Lost { name: name.clone(), found }.into()),
    }
}

fn commit_bytes(tree: ObjectId, tip: Option<ObjectId>, transition: &Transition) -> Result<Vec<u8>, WriteError> {
    let signature = Signature {
        name: header_text(&transition.identity.name, "git-tether").into(),
        email: header_text(&transition.identity.email, "tether@localhost").into(),
        time: transition.time,
    };
    let mut parents: Vec<ObjectId> = tip.into_iter().collect();
    for parent in &transition.extra_parents {
        if !parents.contains(parent) {
            parents.push(*parent);
        }
    }
    let mut message = transition.message.replace('\0', "");
    if !message.ends_with('\n') {
        message.push('\n');
    }
    let commit = Commit {
        tree,
        parents: parents.into_iter().collect(),
        author: signature.clone(),
        committer: signature,
        encoding: None,
        message: message.into(),
        extra_headers: Vec::new(),
    };
    let mut bytes = Vec::new();
    commit.write_to(&mut bytes).map_err(|error| WriteError::Encode(error.into()))?;
    Ok(bytes)
}

/// What git leaves of a name or address: nothing that would end it.
fn header_text(text: &str, fallback: &str) -> String {
    let kept: String = text.chars().filter(|letter| !matches!(letter, '<' | '>') && !letter.is_control()).collect();
    // Git strips the same from both ends.
    let kept = kept.trim_matches(|letter: char| letter.is_whitespace() || ".,:;\"\\'".contains(letter));
    if kept.is_empty() { fallback.to_owned() } else { kept.to_owned() }
}

/// Which parents history follows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Follow {
    /// The first: the chain itself, whatever else its commits keep.
    First,
    /// All: both sides of a merged chain, newest first by time.
    All,
}

/// Walks history from `tip`, newest first. After an error there is nothing more on that way.
pub fn history(backend: &dyn Backend, tip: ObjectId, follow: Follow) -> History<'_> {
    let mut history = History { backend, follow, seen: HashSet::new(), waiting: BinaryHeap::new(), failed: None };
    history.visit(tip);
    history
}

/// The commits of a chain; see [`history`].
pub struct History<'a> {
    backend: &'a dyn Backend,
    follow: Follow,
    seen: HashSet<ObjectId>,
    waiting: BinaryHeap<Waiting>,
    failed: Option<CommitError>,
}

struct Waiting(ChainCommit);

impl Waiting {
    fn key(&self) -> (i64, ObjectId) {
        (self.0.time.seconds, self.0.id)
    }
}

impl PartialEq for Waiting {
    fn eq(&self, other: &Self) -> bool {
        self.key() == other.key()
    }
}

impl Eq for Waiting {}

impl PartialOrd for Waiting {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Waiting {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        self.key().cmp(&other.key())
    }
}

impl History<'_> {
    fn visit(&mut self, id: ObjectId) {
        if !self.seen.insert(id) {
            return;
        }
        match read_commit(self.backend, id) {
            Ok(commit) => self.waiting.push(Waiting(commit)),
            Err(error) => self.failed = Some(error),
        }
    }
}

impl Iterator for History<'_> {
    type Item = Result<ChainCommit, CommitError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(error) = self.failed.take() {
            return Some(Err(error));
        }
        let Waiting(commit) = self.waiting.pop()?;
        let parents = match self.follow {
            Follow::First => commit.parents.get(..1).unwrap_or_default(),
            Follow::All => &commit.parents,
        };
        for parent in parents {
            self.visit(*parent);
        }
        Some(Ok(commit))
    }
}
