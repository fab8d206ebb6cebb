//! Trees of records: editing one, reading a path, listing a directory.
//!
//! Owns: the fan-out of large directories. Must not know: what a record says, or which commit will hold the tree.
//! Invariants: an entry that is not named by a change is kept as it is; only trees that change are written; callers speak of
//! `tasks/T.json` whether or not it lies in `tasks/<2 hex>/T.json`.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::BString;
use gix::objs::tree::{Entry, EntryKind, EntryMode};
use gix::objs::{Kind, TreeRef, WriteTo};

use super::backend::{Backend, BoxedError, ReadObjectError, WriteError};
use super::objects::Batch;

/// Directories of one record each `*.json` that fan out.
const FANNED: &[&str] = &["tasks", "environments", "checkpoints", "gates"];
/// So many records may lie in one of them side by side.
const WIDEST: usize = 256;
/// A tree above this is not ours.
const LARGEST_TREE: u64 = 16 << 20;

/// What shall become of a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Change {
    /// It holds this blob.
    Blob(ObjectId),
    /// It is this directory.
    Tree(ObjectId),
    /// It is not there.
    Remove,
}

/// Why a tree could not be read or edited.
#[derive(Debug, thiserror::Error)]
pub enum TreeError {
    /// A tree or blob could not be read.
    #[error("could not read `{}`", path.escape_debug())]
    Read {
        /// The path inside the tree; empty for its root.
        path: String,
        /// Why.
        source: ReadObjectError,
    },
    /// A tree is damaged.
    #[error("tree {id} is damaged")]
    Damaged {
        /// Its id.
        id: ObjectId,
        /// What is wrong with it.
        source: BoxedError,
    },
    /// A path that no tree may hold, or that is a file and a directory at once.
    #[error("`{}` is no path for a record", path.escape_debug())]
    Path {
        /// The path.
        path: String,
    },
    /// A new tree could not be added to the batch.
    #[error("could not write a tree")]
    Write(#[source] WriteError),
}

/// Changes, as the tree that they touch.
#[derive(Debug)]
enum Node {
    Leaf(Change),
    Directory(Nodes),
}

type Nodes = BTreeMap<BString, Node>;
type Entries = BTreeMap<BString, (EntryMode, ObjectId)>;

/// Applies changes to `base` (nothing: an empty tree), adds the new trees to the batch, and returns the new root.
pub fn edit(
    backend: &dyn Backend,
    batch: &mut Batch,
    base: Option<ObjectId>,
    changes: &BTreeMap<String, Change>,
) -> Result<ObjectId, TreeError> {
    let mut nodes = Nodes::new();
    for (path, change) in changes {
        add_change(&mut nodes, path, *change)?;
    }
    let mut entries = load(backend, base, "")?;
    for directory in FANNED {
        if let Some(Node::Directory(children)) = nodes.get_mut(&BString::from(*directory)) {
            let base = entries.get(&BString::from(*directory)).filter(|(mode, _)| mode.is_tree()).map(|(_, id)| *id);
            fan_out(backend, base, children)?;
        }
    }
    let outcome = apply(backend, batch, &mut entries, nodes, "")?;
    match base {
        Some(base) if outcome == Changed::No => Ok(base),
        // Unlike a directory, the root is written even if it is empty.
        _ => write(batch, entries),
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Changed {
    Yes,
    No,
}

fn add_change(nodes: &mut Nodes, path: &str, change: Change) -> Result<(), TreeError> {
    let wrong = || TreeError::Path { path: path.to_owned() };
    let (parents, leaf) = path.rsplit_once('/').map_or((None, path), |(parents, leaf)| (Some(parents), leaf));
    let mut directory = nodes;
    for name in parents.into_iter().flat_map(|parents| parents.split('/')) {
        if !is_valid_component(name) {
            return Err(wrong());
        }
        let node = directory.entry(BString::from(name)).or_insert_with(|| Node::Directory(Nodes::new()));
        let Node::Directory(children) = node else { return Err(wrong()) };
        directory = children;
    }
    if !is_valid_component(leaf) || directory.insert(BString::from(leaf), Node::Leaf(change)).is_some() {
        return Err(wrong());
    }
    Ok(())
}

/// What `git fsck --strict` lets pass in a tree, on any file system.
fn is_valid_component(name: &str) -> bool {
    // The check below takes a NUL for any other byte.
    if name.contains('\0') {
        return false;
    }
    gix::validate::path::component(
        name.as_bytes().into(),
        None,
        gix::validate::path::component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true },
    )
    .is_ok()
}

fn load(backend: &dyn Backend, id: Option<ObjectId>, path: &str) -> Result<Entries, TreeError> {
    let Some(id) = id else { return Ok(Entries::new()) };
    let failed = |source| TreeError::Read { path: path.to_owned(), source };
    let object = backend.read(&id, LARGEST_TREE).map_err(failed)?;
    if object.kind != Kind::Tree {
        return Err(failed(ReadObjectError::Kind { id, found: object.kind, wanted: Kind::Tree }));
    }
    let tree = TreeRef::from_bytes(&object.data, backend.object_format());
    let tree = tree.map_err(|source| TreeError::Damaged { id, source: source.into() })?;
    Ok(tree.entries.iter().map(|entry| (entry.filename.to_owned(), (entry.mode, entry.oid.to_owned()))).collect())
}

fn apply(
    backend: &dyn Backend,
    batch: &mut Batch,
    entries: &mut Entries,
    nodes: Nodes,
    path: &str,
) -> Result<Changed, TreeError> {
    let mut changed = Changed::No;
    for (name, node) in nodes {
        let before = entries.get(&name).copied();
        let after = match node {
            Node::Leaf(Change::Remove) => None,
            Node::Leaf(Change::Blob(id)) => Some((EntryKind::Blob.into(), id)),
            Node::Leaf(Change::Tree(id)) => Some((EntryKind::Tree.into(), id)),
            Node::Directory(children) => {
                let below = format!("{path}{name}/");
                let base = before.filter(|(mode, _)| mode.is_tree()).map(|(_, id)| id);
                let mut inner = load(backend, base, &below)?;
                match (apply(backend, batch, &mut inner, children, &below)?, inner.is_empty()) {
                    (Changed::No, _) => before,
                    (Changed::Yes, true) => None,
                    (Changed::Yes, false) => Some((EntryKind::Tree.into(), write(batch, inner)?)),
                }
            }
        };
        if before != after {
            changed = Changed::Yes;
            match after {
                Some(entry) => entries.insert(name, entry),
                None => entries.remove(&name),
            };
        }
    }
    Ok(changed)
}

fn write(batch: &mut Batch, entries: Entries) -> Result<ObjectId, TreeError> {
    let entries = entries.into_iter().map(|(filename, (mode, oid))| Entry { mode, filename, oid });
    let mut tree = gix::objs::Tree { entries: entries.collect() };
    tree.entries.sort();
    let mut bytes = Vec::new();
    tree.write_to(&mut bytes).map_err(|error| TreeError::Write(WriteError::Encode(error.into())))?;
    batch.add(Kind::Tree, &bytes).map_err(TreeError::Write)
}

/// Turns changes of records into changes of where they lie, and moves all of them once there are too many for one tree.
fn fan_out(backend: &dyn Backend, base: Option<ObjectId>, children: &mut Nodes) -> Result<(), TreeError> {
    let entries = load(backend, base, "")?;
    let records = || entries.iter().filter(|(name, (mode, _))| is_record(name) && mode.is_blob());
    let is_fanned = entries.iter().any(|(name, (mode, _))| is_bucket(name) && mode.is_tree());
    if !is_fanned {
        let added = children.iter().filter(|(name, node)| {
            is_record(name) && matches!(node, Node::Leaf(Change::Blob(_))) && !entries.contains_key(*name)
        });
        if records().count() + added.count() <= WIDEST {
            return Ok(());
        }
    }
    let mut placed = Nodes::new();
    for (name, (_, id)) in records() {
        place(&mut placed, name, Change::Blob(*id));
        placed.insert(name.clone(), Node::Leaf(Change::Remove));
    }
    for (name, node) in std::mem::take(children) {
        match node {
            Node::Leaf(change) if is_record(&name) => place(&mut placed, &name, change),
            other => {
                placed.insert(name, other);
            }
        }
    }
    *children = placed;
    Ok(())
}

fn place(nodes: &mut Nodes, name: &BString, change: Change) {
    let bucket = nodes.entry(bucket_of(name)).or_insert_with(|| Node::Directory(Nodes::new()));
    if let Node::Directory(children) = bucket {
        children.insert(name.clone(), Node::Leaf(change));
    }
}

fn is_record(name: &[u8]) -> bool {
    name.ends_with(b".json")
}

fn is_bucket(name: &[u8]) -> bool {
    name.len() == 2 && name.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
}

/// The first two digits of the SHA-1 of the file's name, in every repository: `printf T.json | sha1sum`.
fn bucket_of(name: &[u8]) -> BString {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha1);
    hasher.update(name);
    let first = hasher.try_finalize().map_or(0, |id| id.first_byte());
    BString::from(format!("{first:02x}"))
}

/// Where a record lies.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// The path in the tree as git sees it.
    pub path: String,
    /// The blob.
    pub id: ObjectId,
}

/// Finds the blob at a path; a link or a program in its place is not one.
pub fn find(backend: &dyn Backend, root: ObjectId, path: &str) -> Result<Option<Found>, TreeError> {
    let (parent, leaf) = path.rsplit_once('/').map_or(("", path), |(parent, leaf)| (parent, leaf));
    let Some(directory) = find_directory(backend, root, parent)? else { return Ok(None) };
    let entries = load(backend, Some(directory), parent)?;
    let blob_in = |entries: &Entries| match entries.get(&BString::from(leaf)) {
        Some((mode, id)) if mode.kind() == EntryKind::Blob => Some(*id),
        _ => None,
    };
    if let Some(id) = blob_in(&entries) {
        return Ok(Some(Found { path: path.to_owned(), id }));
    }
    if !FANNED.contains(&parent) || !is_record(leaf.as_bytes()) {
        return Ok(None);
    }
    let bucket = bucket_of(leaf.as_bytes());
    let real = format!("{parent}/{bucket}/{leaf}");
    match entries.get(&bucket) {
        Some((mode, id)) if mode.is_tree() => {
            Ok(blob_in(&load(backend, Some(*id), &real)?).map(|id| Found { path: real, id }))
        }
        _ => Ok(None),
    }
}

/// Reads the file at a path, of at most `limit` bytes.
pub fn read(backend: &dyn Backend, root: ObjectId, path: &str, limit: u64) -> Result<Option<Vec<u8>>, TreeError> {
    let Some(found) = find(backend, root, path)? else { return Ok(None) };
    let failed = |source| TreeError::Read { path: found.path.clone(), source };
    let object = backend.read(&found.id, limit).map_err(failed)?;
    if object.kind != Kind::Blob {
        return Err(failed(ReadObjectError::Kind { id: found.id, found: object.kind, wanted: Kind::Blob }));
    }
    Ok(Some(object.data))
}

/// The files right in a directory (empty: the root), by name, wherever they lie. Names that are not UTF-8 are left out.
pub fn list(backend: &dyn Backend, root: ObjectId, directory: &str) -> Result<BTreeMap<String, ObjectId>, TreeError> {
    let mut files = BTreeMap::new();
    let Some(tree) = find_directory(backend, root, directory)? else { return Ok(files) };
    let entries = load(backend, Some(tree), directory)?;
    if FANNED.contains(&directory) {
        for (name, (_, id)) in entries.iter().filter(|(name, (mode, _))| is_bucket(name) && mode.is_tree()) {
            let mut bucket = load(backend, Some(*id), directory)?;
            bucket.retain(|file, _| is_record(file) && bucket_of(file) == *name);
            add_files(&mut files, bucket);
        }
    }
    // After those of the buckets: `find` too prefers what lies right in the directory.
    add_files(&mut files, entries);
    Ok(files)
}

fn add_files(files: &mut BTreeMap<String, ObjectId>, entries: Entries) {
    for (name, (mode, id)) in entries {
        if let (EntryKind::Blob, Ok(name)) = (mode.kind(), String::from_utf8(name.into())) {
            files.insert(name, id);
        }
    }
}

/// The names of the directories right in a directory: the tasks that have payload, say.
pub fn list_directories(backend: &dyn Backend, root: ObjectId, directory: &str) -> Result<Vec<String>, TreeError> {
    let Some(tree) = find_directory(backend, root, directory)? else { return Ok(Vec::new()) };
    let entries = load(backend, Some(tree), directory)?;
    let directories = entries.into_iter().filter(|(_, (mode, _))| mode.is_tree());
    Ok(directories.filter_map(|(name, _)| String::from_utf8(name.into()).ok()).collect())
}

/// So deep may a tree of records be.
const DEEPEST: usize = 16;

/// Every file of a tree, by its logical path: a record that was fanned out stands where callers look for it.
pub fn walk(backend: &dyn Backend, root: ObjectId) -> Result<BTreeMap<String, ObjectId>, TreeError> {
    let mut files = BTreeMap::new();
    let mut waiting = vec![(String::new(), 0)];
    while let Some((directory, depth)) = waiting.pop() {
        let below = |name: &str| if directory.is_empty() { name.to_owned() } else { format!("{directory}/{name}") };
        if depth > DEEPEST {
            return Err(TreeError::Path { path: directory });
        }
        for (name, id) in list(backend, root, &directory)? {
            files.insert(below(&name), id);
        }
        for name in list_directories(backend, root, &directory)? {
            if !(FANNED.contains(&directory.as_str()) && is_bucket(name.as_bytes())) {
                waiting.push((below(&name), depth + 1));
            }
        }
    }
    Ok(files)
}

/// The directory at a path.
pub(super) fn find_directory(backend: &dyn Backend, root: ObjectId, path: &str) -> Result<Option<ObjectId>, TreeError> {
    let mut at = root;
    for name in path.split('/').filter(|name| !name.is_empty()) {
        match load(backend, Some(at), path)?.get(&BString::from(name)) {
            Some((mode, id)) if mode.is_tree() => at = *id,
            // Something else in the place of a directory must not read as an empty one.
            Some(_) => return Err(TreeError::Path { path: path.to_owned() }),
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}
