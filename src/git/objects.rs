//! The objects of a repository as one process knows them.
//!
//! Owns: handing them to whatever else is opened of the same repository, so that which packs there are is found out once. Must not know:
//! what any object says, or who opens what.

use std::io;
use std::path::Path;
use std::sync::Arc;

use gix::odb::store::init::{Options, Slots};

/// The library never makes more room than it has at the start, and fails once it is full: transitions of others add packs all the time.
pub(super) const ROOM_FOR_PACKS: Slots = Slots::AsNeededByDiskState { multiplier: 2.0, minimum: 512 };
/// For what is given the objects of another handle at once: nothing is looked for on disk.
pub(super) const NO_ROOM: Slots = Slots::Given(1);

/// The objects of a repository, shared by all that is opened of it.
#[derive(Clone)]
pub struct Objects(Arc<gix::odb::Store>);

impl std::fmt::Debug for Objects {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.debug_tuple("Objects").field(&self.0.path()).finish()
    }
}

impl Objects {
    /// Those that `repository` reads.
    pub(super) fn of(repository: &gix::Repository) -> Self {
        Self(repository.objects.store())
    }

    /// The same of one that several threads may use.
    pub(crate) fn of_opened(repository: &gix::ThreadSafeRepository) -> Self {
        Self(Arc::clone(&repository.objects))
    }

    /// Those in `directory`, looked for anew, with the same replacements. Neither the way by which these are found nor the directory that we
    /// are in has to last.
    pub(crate) fn at(&self, directory: &Path) -> io::Result<Self> {
        let options = Options { slots: ROOM_FOR_PACKS, current_dir: Some(directory.to_owned()), ..Options::default() };
        let (format, mut replacements) = (self.0.object_hash(), self.0.replacements());
        let store = gix::odb::Store::at_opts(directory.to_owned(), format, &mut replacements, options)?;
        Ok(Self(Arc::new(store)))
    }

    /// A handle of its own: what it reads it does not share, where packs are it does. An object is what its id says: replacements are for
    /// people's history.
    pub(crate) fn open_exactly(&self) -> gix::odb::HandleArc {
        let mut handle = self.0.to_cache_arc();
        handle.ignore_replacements = true;
        handle
    }

    /// Lets another handle of the same repository read them.
    pub(super) fn share_with(&self, mut opened: gix::ThreadSafeRepository) -> gix::ThreadSafeRepository {
        opened.objects = Arc::clone(&self.0);
        opened
    }
}
