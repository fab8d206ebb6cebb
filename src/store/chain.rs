//! Chains: one ref, one commit for each transition.
//!
//! Owns: the form of a commit, appending one, trying again after a lost race, walking history. Must not know: what a record says.
//! Invariants: a tip moves only from the commit that the decision was made on; all that a commit needs is on disk before the ref names it.

use std::collections::{BTreeMap, BinaryHeap, HashSet};
use std::time::Duration;

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

/// Appends one commit to the chain at `name`, whose tip must be `expected`, and returns it: the new tip, on disk.
pub fn append(
    backend: &dyn Backend,
    name: &RefName,
    expected: Expected,
    transition: &Transition,
) -> Result<ObjectId, AppendError> {
    append_with(backend, name, expected, transition, &mut None)
}

/// The same; the objects in `with`, which the commit may name, are written in the same pack. What was written is taken out of it.
fn append_with(
    backend: &dyn Backend,
    name: &RefName,
    expected: Expected,
    transition: &Transition,
    with: &mut Option<Batch>,
) -> Result<ObjectId, AppendError> {
    refuse_lost_race(backend, name, expected)?;
    let tip = match expected {
        Expected::Absent => None,
        Expected::Id(id) => Some(id),
    };
    let batch = with.take().unwrap_or_else(|| backend.batch());
    let new = write_commit(backend, name, tip, transition, batch)?;
    backend.swap(name, expected, New::Id(new))?;
    // Folding is upkeep: whatever stops it stops it again after the next swap, and the transition is done.
    let _ = backend.fold();
    Ok(new)
}

/// Writes a commit that begins a chain of its own, for a ref that the caller moves to it.
pub fn write_root(backend: &dyn Backend, name: &RefName, transition: &Transition) -> Result<ObjectId, AppendError> {
    write_commit(backend, name, None, transition, backend.batch())
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
    write_commit(backend, name, Some(base), transition, backend.batch())
}

fn write_commit(
    backend: &dyn Backend,
    name: &RefName,
    tip: Option<ObjectId>,
    transition: &Transition,
    mut batch: Batch,
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
    let tree = tree::edit(backend, &mut batch, base.map(|commit| commit.tree), &changes);
    let tree = tree.map_err(|source| AppendError::Tree { name: name.clone(), source })?;
    let commit = commit_bytes(tree, tip, transition).map_err(write_failed)?;
    let new = batch.add(Kind::Commit, &commit).map_err(write_failed)?;
    backend.write(batch).map_err(write_failed)?;
    Ok(new)
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

/// How often, and how patiently, a lost race is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// At most so many attempts.
    pub attempts: u32,
    /// The pause after the first; it doubles from then on, with jitter.
    pub first_pause: Duration,
    /// It grows up to this.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 64, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(100) }
    }
}

impl Retry {
    fn pause(&self, lost: u32) {
        let grown = self.first_pause.saturating_mul(1 << lost.min(16));
        std::thread::sleep(grown.min(self.longest_pause).mul_f32(fastrand::f32()));
    }
}

/// What a decision comes to.
#[derive(Debug)]
pub enum Decision<T> {
    /// Append this, and hand the value back once it is there.
    Append(Transition, T),
    /// Nothing needs to change.
    Leave(T),
}

/// What [`transact`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transacted<T> {
    /// The tip now; `None` if there is no chain, and none was begun.
    pub tip: Option<ObjectId>,
    /// What the decision handed back.
    pub outcome: T,
    /// How many attempts it took.
    pub attempts: u32,
}

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E: std::error::Error + 'static> {
    /// The decision was not to.
    #[error(transparent)]
    Refused(E),
    /// The ref could not be read.
    #[error("could not read {name}")]
    Ref {
        /// The ref.
        name: RefName,
        /// Why.
        source: ReadRefError,
    },
    /// The ref names no commit.
    #[error("{name} is not usable: {}", show_value(found))]
    Unusable {
        /// The ref.
        name: RefName,
        /// What it holds.
        found: RefValue,
    },
    /// Others were faster each time.
    #[error("{name} changed under each of {attempts} attempts")]
    Contended {
        /// The ref.
        name: RefName,
        /// How many.
        attempts: u32,
        /// What the last one met.
        source: Box<AppendError>,
    },
    /// It was decided, and could not be done.
    #[error(transparent)]
    Append(Box<AppendError>),
}

fn show_value(value: &RefValue) -> String {
    match value {
        RefValue::Absent => "it is absent".to_owned(),
        RefValue::Id(id) => format!("it names {id}"),
        RefValue::Symbolic(target) => format!("it is a symbolic ref to `{}`", target.escape_debug()),
        RefValue::Broken(content) => format!("it holds `{}`", content.escape_debug()),
    }
}

/// So often a lock that somebody holds is waited for, each time for as long as the backend has patience.
const MOST_LOCKED: u32 = 4;

fn is_locked(error: &AppendError) -> bool {
    matches!(error, AppendError::Swap(SwapError::Busy { .. }))
}

/// Reads the tip, decides, appends; decides again on the new tip if somebody was faster. `decide` may run many times and must have no effect
/// of its own.
pub fn transact<T, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    name: &RefName,
    retry: Retry,
    decide: impl FnMut(Option<ObjectId>) -> Result<Decision<T>, E>,
) -> Result<Transacted<T>, TransactError<E>> {
    transact_with(backend, name, retry, None, decide)
}

/// The same; the objects in `with`, which a decision may name, are written together with the first commit, and not at all if nothing is
/// appended.
pub fn transact_with<T, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    name: &RefName,
    retry: Retry,
    mut with: Option<Batch>,
    mut decide: impl FnMut(Option<ObjectId>) -> Result<Decision<T>, E>,
) -> Result<Transacted<T>, TransactError<E>> {
    let _turn = backend.turn(name);
    let mut attempts = 0;
    let mut locked = 0;
    loop {
        attempts += 1;
        let found = backend.read_ref(name).map_err(|source| TransactError::Ref { name: name.clone(), source })?;
        let (tip, expected) = match found {
            RefValue::Absent => (None, Expected::Absent),
            RefValue::Id(id) => (Some(id), Expected::Id(id)),
            found => return Err(TransactError::Unusable { name: name.clone(), found }),
        };
        let (transition, outcome) = match decide(tip).map_err(TransactError::Refused)? {
            Decision::Leave(outcome) => return Ok(Transacted { tip, outcome, attempts }),
            Decision::Append(transition, outcome) => (transition, outcome),
        };
        let appended = append_with(backend, name, expected, &transition, &mut with);
        match appended {
            Ok(new) => return Ok(Transacted { tip: Some(new), outcome, attempts }),
            Err(error) if !error.is_lost_race() => return Err(TransactError::Append(Box::new(error))),
            // Each was waited for: who holds a lock for so long is no racer.
            Err(error) if is_locked(&error) && locked + 1 >= MOST_LOCKED => {
                return Err(TransactError::Append(Box::new(error)));
            }
            Err(source) if attempts >= retry.attempts => {
                return Err(TransactError::Contended { name: name.clone(), attempts, source: Box::new(source) });
            }
            Err(error) => {
                locked += u32::from(is_locked(&error));
                retry.pause(attempts - 1);
            }
        }
    }
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
