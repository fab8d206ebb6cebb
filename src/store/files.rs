//! The in-process backend for files ref storage.
//!
//! Owns: which part of a swap is done in process and which through git. Must not know: what any ref means.

use std::path::PathBuf;

use gix::hash::Kind;

use super::backend::{
    Backend, ClearedLock, Expected, New, Object, ObjectHeader, ReadObjectError, ReadRefError, RefValue, SwapError,
    WriteError,
};
use super::file_refs::FileRefs;
use super::fold::{FoldError, Folded, find_unfinished, fold, list_written};
use super::git_cli::GitRefs;
use super::locks::{LockError, StaleLock};
use super::names::{RefName, RefPrefix};
use super::objects::{Batch, ObjectStore};
use super::release::{ReleaseError, Released, release};
use super::turns::{self, Turn};

/// The backend for files storage: everything in process, but for deletions.
pub(super) struct FilesBackend {
    pub(super) common: PathBuf,
    pub(super) refs: FileRefs,
    pub(super) objects: ObjectStore,
    pub(super) git: GitRefs,
}

impl Backend for FilesBackend {
    fn object_format(&self) -> Kind {
        self.objects.packs.format
    }

    fn read_ref(&self, name: &RefName) -> Result<RefValue, ReadRefError> {
        self.refs.read(name)
    }

    fn list_refs(&self, prefix: &RefPrefix) -> Result<Vec<(RefName, RefValue)>, ReadRefError> {
        self.refs.list(prefix)
    }

    fn header(&self, id: &gix::oid) -> Result<ObjectHeader, ReadObjectError> {
        self.objects.header(id)
    }

    fn read(&self, id: &gix::oid, limit: u64) -> Result<Object, ReadObjectError> {
        self.objects.read(id, limit)
    }

    fn turn(&self, name: &RefName) -> Option<Turn> {
        turns::wait(&self.common, name)
    }

    fn batch(&self) -> Batch {
        self.objects.batch()
    }

    fn write(&self, batch: Batch) -> Result<(), WriteError> {
        batch.publish(&self.objects.packs)
    }

    fn swap(&self, name: &RefName, expected: Expected, new: New) -> Result<(), SwapError> {
        match new {
            New::Id(id) => self.refs.set(name, expected, id),
            // A deletion changes `packed-refs` too, under a lock of its own: rare enough to leave it to git.
            New::Delete => self.git.swap(name, expected, New::Delete),
        }
    }

    fn replace_unusable(&self, name: &RefName, found: &RefValue, new: New) -> Result<(), SwapError> {
        self.refs.replace_unusable(name, found, new)
    }

    fn list_written(&self) -> Result<Vec<gix::ObjectId>, FoldError> {
        list_written(&self.objects.packs)
    }

    fn find_unfinished_packs(&self) -> Result<Vec<PathBuf>, FoldError> {
        find_unfinished(&self.objects.packs)
    }

    fn fold(&self) -> Result<Folded, FoldError> {
        let folded = fold(&self.objects.packs, &self.common)?;
        if matches!(folded, Folded::Packs { .. }) {
            // Marks of killed processes harm nobody: not worth failing for.
            let _ = self.refs.sweep_marks();
        }
        Ok(folded)
    }

    fn release(&self, tip: Option<gix::ObjectId>) -> Result<Released, ReleaseError> {
        release(&self.objects.packs, &self.common, self.git.git(), tip)
    }

    fn find_stale_locks(&self) -> Result<Vec<StaleLock>, LockError> {
        self.refs.find_stale_locks()
    }

    fn clear_stale_lock(&self, lock: &StaleLock) -> Result<ClearedLock, LockError> {
        self.refs.clear_stale_lock(lock)
    }
}
