//! Trees read and compared, and objects put together before they are written.
//!
//! Owns: the differences between two trees, and the list of objects that a snapshot still needs. Must not know: worktrees, indexes.
//! Invariant: an object is handed over once, and only if it is not known to be reachable already.

use super::{Cause, ObjectSink, SaveError, SaveOptions};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::tree::EntryKind;
use gix::objs::{Kind, Tree, WriteTo};
use std::collections::{BTreeMap, HashSet};

/// What stands at a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Leaf {
    pub(super) kind: EntryKind,
    pub(super) id: ObjectId,
}

/// An error about the object `id`.
pub(super) fn unreadable_object(id: ObjectId) -> impl FnOnce(gix::Error) -> SaveError {
    move |source| SaveError::Object { id, source: source.into() }
}

/// The tree `id`, decoded.
pub(super) fn read_tree(repository: &gix::Repository, id: ObjectId) -> Result<Tree, SaveError> {
    if id.is_empty_tree() {
        return Ok(Tree::empty());
    }
    let object = repository.find_tree(id).map_err(unreadable_object(id))?;
    let decoded = object.decode().map_err(|source| SaveError::Object { id, source: Cause::from(source) })?;
    Ok(decoded.into())
}

/// The tree of the commit `id`.
pub(super) fn tree_of_commit(repository: &gix::Repository, id: ObjectId) -> Result<ObjectId, SaveError> {
    let commit = repository.find_commit(id).map_err(unreadable_object(id))?;
    Ok(commit.tree_id().map_err(unreadable_object(id))?.detach())
}

/// All that is not a tree below the tree `id`, by path.
pub(super) fn leaves(
    repository: &gix::Repository,
    id: ObjectId,
    prefix: &BStr,
    into: &mut BTreeMap<BString, Leaf>,
) -> Result<(), SaveError> {
    for entry in read_tree(repository, id)?.entries {
        let path = join(prefix, entry.filename.as_bstr());
        match entry.mode.kind() {
            EntryKind::Tree => leaves(repository, entry.oid, path.as_bstr(), into)?,
            kind => {
                into.insert(path, Leaf { kind, id: entry.oid });
            }
        }
    }
    Ok(())
}

/// `name` below `prefix` (without a slash at its end; empty is the root).
pub(super) fn join(prefix: &BStr, name: &BStr) -> BString {
    if prefix.is_empty() {
        return name.to_owned();
    }
    let mut path = BString::from(Vec::with_capacity(prefix.len() + 1 + name.len()));
    path.extend_from_slice(prefix);
    path.push(b'/');
    path.extend_from_slice(name);
    path
}

/// Calls `found(path, old, new)` for each path at which two trees differ; whole subtrees that are equal are not read.
pub(super) fn compare(
    repository: &gix::Repository,
    old: Option<ObjectId>,
    new: Option<ObjectId>,
    prefix: &BStr,
    found: &mut dyn FnMut(BString, Option<Leaf>, Option<Leaf>),
) -> Result<(), SaveError> {
    if old == new {
        return Ok(());
    }
    let mut names: BTreeMap<BString, (Option<Leaf>, Option<Leaf>)> = BTreeMap::new();
    for (id, is_new) in [(old, false), (new, true)] {
        let Some(id) = id else { continue };
        for entry in read_tree(repository, id)?.entries {
            let leaf = Some(Leaf { kind: entry.mode.kind(), id: entry.oid });
            let slot = names.entry(entry.filename).or_default();
            if is_new { slot.1 = leaf } else { slot.0 = leaf }
        }
    }
    for (name, (old, new)) in names.into_iter().filter(|(_, (old, new))| old != new) {
        let path = join(prefix, name.as_bstr());
        let subtree = |leaf: Option<Leaf>| leaf.filter(|leaf| leaf.kind == EntryKind::Tree).map(|leaf| leaf.id);
        let file = |leaf: Option<Leaf>| leaf.filter(|leaf| leaf.kind != EntryKind::Tree);
        if file(old).is_some() || file(new).is_some() {
            found(path.clone(), file(old), file(new));
        }
        compare(repository, subtree(old), subtree(new), path.as_bstr(), found)?;
    }
    Ok(())
}

/// Whether the trees on the way to `paths` in the tree `root` are there; only those that name further ones are read.
pub(super) fn are_trees_there<'p>(
    repository: &gix::Repository,
    root: ObjectId,
    paths: impl Iterator<Item = &'p BStr>,
) -> bool {
    let Ok(tree) = read_tree(repository, root) else { return false };
    let mut below: BTreeMap<&BStr, Vec<&BStr>> = BTreeMap::new();
    for (name, rest) in paths.filter_map(|path| path.split_once_str("/")) {
        below.entry(name.as_bstr()).or_default().extend(Some(rest.as_bstr()).filter(|rest| rest.contains(&b'/')));
    }
    let named = tree.entries.iter().filter(|entry| entry.mode.is_tree());
    let mut named = named.filter_map(|entry| Some((entry.oid, below.get(entry.filename.as_bstr())?)));
    named.all(|(id, deeper)| {
        if deeper.is_empty() {
            repository.has_object(id)
        } else {
            are_trees_there(repository, id, deeper.iter().copied())
        }
    })
}

/// The trees on the way to `paths` in the tree `root`, and what stands at them. Each tree is read once, however many of the paths are below
/// it.
pub(super) fn objects_at<'p>(
    repository: &gix::Repository,
    root: ObjectId,
    paths: impl Iterator<Item = &'p BStr>,
    found: &mut HashSet<ObjectId>,
) -> Result<(), SaveError> {
    found.insert(root);
    let mut below: BTreeMap<&BStr, Vec<&BStr>> = BTreeMap::new();
    for path in paths {
        let (name, rest) = path.split_once_str("/").unwrap_or((path, b""));
        below.entry(name.as_bstr()).or_default().extend(Some(rest.as_bstr()).filter(|rest| !rest.is_empty()));
    }
    for entry in read_tree(repository, root)?.entries {
        let Some(rest) = below.get(entry.filename.as_bstr()) else { continue };
        found.insert(entry.oid);
        if entry.mode.is_tree() && !rest.is_empty() {
            objects_at(repository, entry.oid, rest.iter().copied(), found)?;
        }
    }
    Ok(())
}

/// All of the tree `root`.
pub(super) fn objects_in(
    repository: &gix::Repository,
    root: ObjectId,
    found: &mut HashSet<ObjectId>,
) -> Result<(), SaveError> {
    found.insert(root);
    for entry in read_tree(repository, root)?.entries {
        if entry.mode.is_tree() {
            objects_in(repository, entry.oid, found)?;
        }
        found.insert(entry.oid);
    }
    Ok(())
}

/// Objects that a snapshot names, in the order in which they may be written.
pub(super) struct Pending {
    hash: gix::hash::Kind,
    known: HashSet<ObjectId>,
    added: HashSet<ObjectId>,
    objects: Vec<(Kind, ObjectId, Vec<u8>)>,
    /// Bytes that were already handed to the sink.
    pub(super) streamed: u64,
}

impl Pending {
    /// Nothing yet.
    pub(super) fn new(hash: gix::hash::Kind) -> Self {
        Self { hash, known: HashSet::new(), added: HashSet::new(), objects: Vec::new(), streamed: 0 }
    }

    /// Says that these are reachable already and need no writing, those that were added among them.
    pub(super) fn know(&mut self, ids: impl IntoIterator<Item = ObjectId>) {
        self.known.extend(ids);
    }

    /// Whether `id` is reachable already, or about to be.
    pub(super) fn is_known(&self, id: ObjectId) -> bool {
        self.known.contains(&id) || self.added.contains(&id)
    }

    /// Whether the repository has all that was added.
    pub(super) fn is_there(&self, repository: &gix::Repository) -> bool {
        self.added.iter().all(|id| self.known.contains(id) || repository.has_object(id))
    }

    /// Adds an object whose id is computed here.
    pub(super) fn add(&mut self, kind: Kind, bytes: Vec<u8>) -> Result<ObjectId, SaveError> {
        let id = gix::objs::compute_hash(self.hash, kind, &bytes)
            .map_err(|source| SaveError::Make { what: "an object id", source: source.into() })?;
        self.add_hashed(kind, id, bytes);
        Ok(id)
    }

    /// Adds an object with its id.
    pub(super) fn add_hashed(&mut self, kind: Kind, id: ObjectId, bytes: Vec<u8>) {
        if !self.is_known(id) {
            self.added.insert(id);
            self.objects.push((kind, id, bytes));
        }
    }

    /// The id of `root` with `edits`: what is `None` goes, what is `Some` comes. Changed trees are added.
    pub(super) fn edit(
        &mut self,
        repository: &gix::Repository,
        root: Option<ObjectId>,
        edits: impl Iterator<Item = (BString, Option<Leaf>)>,
    ) -> Result<ObjectId, SaveError> {
        let failed = |source: gix::Error| SaveError::Make { what: "a tree", source: source.into() };
        let start = root.map_or_else(|| Ok(Tree::empty()), |id| read_tree(repository, id))?;
        let mut editor = gix::objs::tree::Editor::new(start, &repository.objects, self.hash);
        let mut additions = Vec::new();
        // Removals first: what becomes a directory must not take what comes below it along.
        for (path, leaf) in edits {
            match leaf {
                Some(leaf) => additions.push((path, leaf)),
                None => {
                    editor.remove_if_leaf(path.split(|&byte| byte == b'/').map(ByteSlice::as_bstr)).map_err(failed)?;
                }
            }
        }
        for (path, leaf) in additions {
            let components = path.split(|&byte| byte == b'/').map(ByteSlice::as_bstr);
            editor.upsert(components, leaf.kind, leaf.id).map_err(failed)?;
        }
        editor.write(|tree| self.add_encoded(Kind::Tree, tree))
    }

    /// Adds a tree or commit.
    pub(super) fn add_encoded(&mut self, kind: Kind, object: &dyn WriteTo) -> Result<ObjectId, SaveError> {
        let mut bytes = Vec::new();
        object
            .write_to(&mut bytes)
            .map_err(|source| SaveError::Make { what: "a tree or commit", source: source.into() })?;
        self.add(kind, bytes)
    }

    /// Adds a commit by the one who saves.
    pub(super) fn add_commit(
        &mut self,
        tree: ObjectId,
        parents: &[ObjectId],
        message: &str,
        options: &SaveOptions,
    ) -> Result<ObjectId, SaveError> {
        let who = gix::actor::Signature {
            name: options.name.as_str().into(),
            email: options.email.as_str().into(),
            time: gix::date::Time { seconds: options.seconds, offset: 0 },
        };
        let commit = gix::objs::Commit {
            tree,
            parents: parents.iter().copied().collect(),
            author: who.clone(),
            committer: who,
            encoding: None,
            message: message.into(),
            extra_headers: Vec::new(),
        };
        self.add_encoded(Kind::Commit, &commit)
    }

    /// Hands everything to `sink`; answers how many bytes that were.
    pub(super) fn write(self, sink: &mut dyn ObjectSink) -> Result<u64, SaveError> {
        let mut bytes = self.streamed;
        for (kind, id, object) in self.objects.into_iter().filter(|(_, id, _)| !self.known.contains(id)) {
            bytes += object.len() as u64;
            let written = sink.write(kind, &object)?;
            if written != id {
                let source = Cause::from(format!("the store answered {written}"));
                return Err(SaveError::Object { id, source });
            }
        }
        Ok(bytes)
    }
}
