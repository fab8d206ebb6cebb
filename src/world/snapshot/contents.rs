//! What a snapshot holds beyond its base, for lists and for people.
//!
//! Owns: comparing a snapshot's tree with its base's. Must not know: worktrees. Invariant: only reads.

use super::SaveError;
use super::place::open_repository;
use super::state::read_parts;
use super::tree::{compare, tree_of_commit};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::tree::EntryKind;
use std::path::Path;

/// A path at which a snapshot differs from its base.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The path.
    pub path: BString,
    /// How it differs.
    pub status: ContentStatus,
    /// What git stores for it, in bytes; `None` for what is deleted, and for submodules.
    pub size: Option<u64>,
    /// What it is now (before, if it is deleted).
    pub kind: EntryKind,
}

/// How a path differs from the base.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentStatus {
    /// The base has nothing there.
    Added,
    /// Other content, mode or kind.
    Modified,
    /// The snapshot has nothing there.
    Deleted,
}

impl Content {
    /// What it is, in a word.
    pub fn kind_name(&self) -> &'static str {
        match self.kind {
            EntryKind::Blob => "file",
            EntryKind::BlobExecutable => "executable",
            EntryKind::Link => "symlink",
            EntryKind::Commit => "submodule",
            EntryKind::Tree => "directory",
        }
    }
}

/// Lists what `snapshot` holds beyond its base, in the order of paths; all of it if it has no base.
pub fn contents(common_dir: &Path, snapshot: ObjectId) -> Result<Vec<Content>, SaveError> {
    let repository = open_repository(common_dir)?.to_thread_local();
    let parts = read_parts(&repository, snapshot)?;
    let base = parts.base.map(|commit| tree_of_commit(&repository, commit)).transpose()?;
    let mut list = Vec::new();
    compare(&repository, base, Some(parts.tree), b"".as_bstr(), &mut |path, old, new| {
        let (status, leaf) = match (old, new) {
            (Some(_), Some(new)) => (ContentStatus::Modified, new),
            (None, Some(new)) => (ContentStatus::Added, new),
            (Some(old), None) => (ContentStatus::Deleted, old),
            (None, None) => return,
        };
        let has_size = status != ContentStatus::Deleted && leaf.kind != EntryKind::Commit;
        let size = has_size.then(|| repository.find_header(leaf.id).ok().map(|header| header.size())).flatten();
        list.push(Content { path, status, size, kind: leaf.kind });
    })?;
    list.sort_by(|left, right| left.path.cmp(&right.path));
    Ok(list)
}
