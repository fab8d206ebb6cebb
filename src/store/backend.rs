//! The seam between chains and the place where refs and objects are kept.
//!
//! Owns: the trait, its values and its errors. Must not know: runs, records, trees, or how any storage works.
//! Invariant: no ref changes without the value that it is expected to have, and what `write` accepted is on disk when it returns.

use std::path::PathBuf;

use gix::ObjectId;

use super::fold::{FoldError, Folded};
use super::locks::{LockError, StaleLock};
use super::names::{RefName, RefPrefix};
use super::objects::Batch;
use super::release::{ReleaseError, Released};
pub use super::turns::Turn;
pub use super::values::{
    BoxedError, ClearedLock, Expected, New, Object, ObjectHeader, ReadObjectError, ReadRefError, RefValue, SwapError,
    WriteError,
};

/// Where refs and objects are kept. One value serves one thread; open another for each further one.
pub trait Backend: Send {
    /// The hash that names objects here.
    fn object_format(&self) -> gix::hash::Kind;

    /// What the ref holds now.
    fn read_ref(&self, name: &RefName) -> Result<RefValue, ReadRefError>;

    /// Every ref below `prefix`, sorted by name. Names that no `RefName` can have are left out.
    fn list_refs(&self, prefix: &RefPrefix) -> Result<Vec<(RefName, RefValue)>, ReadRefError>;

    /// Kind and size of an object, without loading it.
    fn header(&self, id: &gix::oid) -> Result<ObjectHeader, ReadObjectError>;

    /// An object of at most `limit` bytes; a larger one is an error before it is loaded.
    fn read(&self, id: &gix::oid, limit: u64) -> Result<Object, ReadObjectError>;

    /// Waits for a turn among our own writers of a ref; without one, more races are lost.
    fn turn(&self, name: &RefName) -> Option<Turn>;

    /// An empty batch, for objects of this repository.
    fn batch(&self) -> Batch;

    /// Puts every object of the batch on disk, durably, and keeps it from `git gc` from then on.
    fn write(&self, batch: Batch) -> Result<(), WriteError>;

    /// Sets or deletes a ref that holds what is expected; durable when it returns.
    fn swap(&self, name: &RefName, expected: Expected, new: New) -> Result<(), SwapError>;

    /// Sets or deletes a ref that still holds `found`, which no swap can expect: a symbolic ref, or what is no id. For repairs.
    fn replace_unusable(&self, name: &RefName, found: &RefValue, new: New) -> Result<(), SwapError>;

    /// The ids of all objects that were written through this seam and have not been taken away since, whether or not a ref names
    /// them.
    fn list_written(&self) -> Result<Vec<ObjectId>, FoldError>;

    /// Unfinished packs of ours whose maker is gone.
    fn find_unfinished_packs(&self) -> Result<Vec<PathBuf>, FoldError>;

    /// Folds many small packs of ours into one, if there are many and nobody else is at it. To be called after a swap.
    fn fold(&self) -> Result<Folded, FoldError>;

    /// Stops keeping from `git gc` what `tip` reaches and no ref does (a ref has stopped naming it just before), and what earlier
    /// calls had to leave.
    fn release(&self, tip: Option<gix::ObjectId>) -> Result<Released, ReleaseError>;

    /// Ref locks that a process of ours took and did not live to give back.
    fn find_stale_locks(&self) -> Result<Vec<StaleLock>, LockError>;

    /// Removes such a lock, after looking again that it is one.
    fn clear_stale_lock(&self, lock: &StaleLock) -> Result<ClearedLock, LockError>;
}
