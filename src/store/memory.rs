//! A backend in memory, for tests: shared between clones, and able to fail or to stop.
//!
//! Owns: refs and objects that live as long as the last clone. Must not know: files.
//! Invariant: it keeps the contract of the real ones, name conflicts included, so that what passes here fails there only for reasons of disks.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gix::ObjectId;
use gix::hash::Kind;

use super::backend::{
    Backend, ClearedLock, Expected, New, Object, ObjectHeader, ReadObjectError, ReadRefError, RefValue, SwapError,
    WriteError,
};
use super::file_refs::is_expected;
use super::fold::{FoldError, Folded};
use super::locks::{LockError, StaleLock};
use super::names::{RefName, RefPrefix};
use super::objects::Batch;
use super::release::{ReleaseError, Released};
use super::turns::Turn;

/// What shall go wrong. Writes are counted from 1: each batch and each swap is one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Failure {
    /// Nothing.
    #[default]
    Never,
    /// The write with this number fails and stores nothing; later ones succeed.
    At(u64),
    /// As if the process had died after this many writes: each later one fails and stores nothing.
    StopAfter(u64),
}

/// The backend; a clone is another handle on the same refs and objects.
#[derive(Debug, Clone)]
pub struct MemoryBackend {
    format: Kind,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    refs: BTreeMap<RefName, RefValue>,
    objects: HashMap<ObjectId, Object>,
    writes: u64,
    failure: Failure,
}

impl MemoryBackend {
    /// An empty one, whose objects are named by SHA-1 or SHA-256.
    pub fn new(format: Kind) -> Self {
        Self { format, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Starts counting writes anew, and says what shall go wrong from now on.
    pub fn fail(&self, failure: Failure) {
        let mut state = self.state();
        state.writes = 0;
        state.failure = failure;
    }

    /// How many writes were asked for since the last [`MemoryBackend::fail`].
    pub fn writes(&self) -> u64 {
        self.state().writes
    }

    /// Puts a value into a ref that no swap would put there (symbolic, broken).
    pub fn plant(&self, name: RefName, value: RefValue) {
        self.state().refs.insert(name, value);
    }

    /// Takes an object away, as a wrong `git prune` would.
    pub fn lose(&self, id: &gix::oid) {
        self.state().objects.remove(id);
    }
}

impl State {
    fn count_write(&mut self) -> io::Result<()> {
        self.writes += 1;
        let fails = match self.failure {
            Failure::Never => false,
            Failure::At(number) => self.writes == number,
            Failure::StopAfter(number) => self.writes > number,
        };
        if fails { Err(io::Error::other(format!("write {} was to fail", self.writes))) } else { Ok(()) }
    }

    fn conflict(&self, name: &RefName) -> Option<String> {
        let below = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('/'));
        let conflicts = |other: &&RefName| below(other.as_str(), name.as_str()) || below(name.as_str(), other.as_str());
        self.refs.keys().find(conflicts).map(ToString::to_string)
    }
}

impl Backend for MemoryBackend {
    fn object_format(&self) -> Kind {
        self.format
    }

    fn read_ref(&self, name: &RefName) -> Result<RefValue, ReadRefError> {
        Ok(self.state().refs.get(name).cloned().unwrap_or(RefValue::Absent))
    }

    fn list_refs(&self, prefix: &RefPrefix) -> Result<Vec<(RefName, RefValue)>, ReadRefError> {
        let state = self.state();
        let below = state.refs.iter().filter(|(name, _)| name.as_str().starts_with(prefix.as_str()));
        Ok(below.map(|(name, value)| (name.clone(), value.clone())).collect())
    }

    fn header(&self, id: &gix::oid) -> Result<ObjectHeader, ReadObjectError> {
        let state = self.state();
        let found = state.objects.get(id).ok_or_else(|| ReadObjectError::Missing { id: id.to_owned() })?;
        Ok(ObjectHeader { kind: found.kind, size: found.data.len() as u64 })
    }

    fn read(&self, id: &gix::oid, limit: u64) -> Result<Object, ReadObjectError> {
        let ObjectHeader { size, .. } = self.header(id)?;
        if size > limit {
            return Err(ReadObjectError::TooLarge { id: id.to_owned(), size, limit });
        }
        self.state().objects.get(id).cloned().ok_or_else(|| ReadObjectError::Missing { id: id.to_owned() })
    }

    fn turn(&self, _name: &RefName) -> Option<Turn> {
        None
    }

    fn batch(&self) -> Batch {
        Batch::in_memory(self.format)
    }

    fn write(&self, batch: Batch) -> Result<(), WriteError> {
        if batch.is_empty() {
            return Ok(());
        }
        let objects = batch.into_objects()?;
        let mut state = self.state();
        state.count_write().map_err(WriteError::at("write", PathBuf::from("memory")))?;
        state.objects.extend(objects);
        Ok(())
    }

    fn swap(&self, name: &RefName, expected: Expected, new: New) -> Result<(), SwapError> {
        let mut state = self.state();
        state.count_write().map_err(SwapError::at("write", name))?;
        let found = state.refs.get(name).cloned().unwrap_or(RefValue::Absent);
        if !is_expected(&found, expected) {
            return Err(SwapError::Lost { name: name.clone(), found });
        }
        match new {
            New::Delete => {
                state.refs.remove(name);
            }
            New::Id(id) => {
                if let Some(with) = state.conflict(name) {
                    return Err(SwapError::NameConflict { name: name.clone(), with });
                }
                state.refs.insert(name.clone(), RefValue::Id(id));
            }
        }
        Ok(())
    }

    fn replace_unusable(&self, name: &RefName, found: &RefValue, new: New) -> Result<(), SwapError> {
        let mut state = self.state();
        state.count_write().map_err(SwapError::at("write", name))?;
        let held = state.refs.get(name).cloned().unwrap_or(RefValue::Absent);
        if held != *found || !matches!(held, RefValue::Symbolic(_) | RefValue::Broken(_)) {
            return Err(SwapError::Lost { name: name.clone(), found: held });
        }
        match new {
            New::Delete => state.refs.remove(name),
            New::Id(id) => state.refs.insert(name.clone(), RefValue::Id(id)),
        };
        Ok(())
    }

    fn list_written(&self) -> Result<Vec<ObjectId>, FoldError> {
        Ok(self.state().objects.keys().copied().collect())
    }

    fn find_unfinished_packs(&self) -> Result<Vec<PathBuf>, FoldError> {
        Ok(Vec::new())
    }

    fn fold(&self) -> Result<Folded, FoldError> {
        Ok(Folded::Nothing)
    }

    fn release(&self, _tip: Option<gix::ObjectId>) -> Result<Released, ReleaseError> {
        Ok(Released::Objects(0))
    }

    fn find_stale_locks(&self) -> Result<Vec<StaleLock>, LockError> {
        Ok(Vec::new())
    }

    fn clear_stale_lock(&self, _lock: &StaleLock) -> Result<ClearedLock, LockError> {
        Ok(ClearedLock::Gone)
    }
}
