//! Makes a snapshot's objects of what was found.
//!
//! Owns: the snapshot's commits and trees, and the comparison with the previous snapshot. Must not know: where objects go, refs, how anything
//! was found. Invariant: nothing is handed to the sink if the snapshot would be the previous one.

use super::content::Held;
use super::conversion::Conversion;
use super::draft::{Changes, Draft};
use super::index_lines::{self, IndexLines};
use super::large_file::stream;
use super::operation;
use super::state::{self, Origin, SnapshotParts, StateFacts};
use super::tree::{Leaf, Pending, are_trees_there, objects_at, objects_in, tree_of_commit, unreadable_object};
use super::{ObjectSink, SaveError, SaveOptions, Saved, Warning};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::tree::EntryKind;
use gix::objs::{Find as _, Kind};
use std::collections::{BTreeMap, HashSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Makes the objects of `draft`, and hands them to `sink` unless the previous snapshot is the same.
pub(super) fn finish(
    mut draft: Draft,
    repository: &gix::Repository,
    root: &Path,
    options: &SaveOptions,
    sink: &mut dyn ObjectSink,
) -> Result<Saved, SaveError> {
    draft.warnings.sort();
    draft.warnings.dedup();
    draft.not_saved.sort();
    draft.not_saved.dedup();
    let (clean, as_checked_out) = (draft.is_clean(), draft.is_as_checked_out());
    draft.changes.retain(|_, (head, now)| head != now);
    // A previous snapshot that cannot be read is no reason not to save.
    let previous = options.previous.and_then(|id| Some((id, state::read_parts(repository, id).ok()?)));
    let mut pending = Pending::new(repository.object_hash());
    // A large file is handed over as it is read: what is there of it must be known by then.
    let has_large = draft.readings.values().any(|reading| matches!(reading.held, Held::File));
    if let Some((_, parts)) = &previous {
        pending.know(known_state(repository, parts));
        if has_large {
            pending.know(known_changes(repository, parts, &draft.changes));
        }
    }
    let content_bytes = draft.content_bytes(repository);
    let raw = add_contents(&mut draft, &mut pending, root, sink)?;
    let (state_tree, state_parents) = add_state(&mut draft, &mut pending, repository, raw)?;
    let mut saved = Saved {
        commit: repository.object_hash().null(),
        base: draft.head.commit,
        branch: draft.head.branch.clone(),
        files: draft.changes.len(),
        bytes: 0,
        content_bytes,
        ignored: draft.ignored,
        unchanged: false,
        clean,
        as_checked_out,
        warnings: std::mem::take(&mut draft.warnings),
        not_saved: std::mem::take(&mut draft.not_saved),
    };
    if let Some((id, parts)) = &previous {
        // The state names the base and, by a hash, all that differs from it.
        let same = parts.state_tree == state_tree && parts.state_parents == state_parents;
        if same && pending.is_there(repository) && is_tree_there(repository, parts, &draft.changes) {
            return Ok(Saved { commit: *id, unchanged: true, ..saved });
        }
    }
    let unknown = previous.filter(|_| !has_large).map(|(_, parts)| parts);
    let tree = add_tree(&draft, &mut pending, repository, unknown)?;
    let message = message(&draft, saved.files, &options.moment);
    let state = pending.add_commit(state_tree, &state_parents, "worktree state\n", options)?;
    let parents: Vec<_> = draft.head.commit.into_iter().chain([state]).collect();
    saved.commit = pending.add_commit(tree, &parents, &message, options)?;
    saved.bytes = pending.write(sink)?;
    Ok(saved)
}

/// What of the previous snapshot's state need not be written again.
fn known_state(repository: &gix::Repository, parts: &SnapshotParts) -> HashSet<ObjectId> {
    let mut found = HashSet::new();
    only_those_there(repository, objects_in(repository, parts.state_tree, &mut found).map(|()| found))
}

/// What of it need not be written again of all that differs from the base.
fn known_changes(repository: &gix::Repository, parts: &SnapshotParts, changes: &Changes) -> HashSet<ObjectId> {
    let mut found = HashSet::new();
    let paths = changes.keys().map(|path| path.as_bstr());
    only_those_there(repository, objects_at(repository, parts.tree, paths, &mut found).map(|()| found))
}

/// Damage to the last snapshot must not make the next one as bad: what cannot be read, or is not there, is written again.
fn only_those_there(repository: &gix::Repository, named: Result<HashSet<ObjectId>, SaveError>) -> HashSet<ObjectId> {
    let mut named = named.unwrap_or_default();
    named.retain(|id| repository.has_object(id));
    named
}

/// Adds the snapshot's tree; what the previous one has of it is looked up meanwhile, unless that is known.
fn add_tree(
    draft: &Draft,
    pending: &mut Pending,
    repository: &gix::Repository,
    previous: Option<SnapshotParts>,
) -> Result<ObjectId, SaveError> {
    let head = draft.head.commit.map(|commit| tree_of_commit(repository, commit)).transpose()?;
    let edits = draft.changes.iter().map(|(path, (_, now))| (path.clone(), *now));
    let Some(previous) = previous else { return pending.edit(repository, head, edits) };
    let shared = repository.clone().into_sync();
    std::thread::scope(|scope| {
        let known = scope.spawn(|| known_changes(&shared.to_thread_local(), &previous, &draft.changes));
        let tree = pending.edit(repository, head, edits);
        // If that ended early, more is written than need be.
        pending.know(known.join().unwrap_or_default());
        tree
    })
}

/// A hash of what stands at each path that differs.
fn hash_of(changes: &Changes, kind: gix::hash::Kind) -> Result<ObjectId, SaveError> {
    let mut hasher = gix::hash::hasher(kind);
    for (path, (_, now)) in changes {
        let now = now.map_or_else(String::new, |leaf| format!("{:o} {}", leaf.kind as u16, leaf.id));
        for part in [now.as_bytes(), path] {
            hasher.update(part);
            hasher.update(b"\0");
        }
    }
    hasher.try_finalize().map_err(|source| SaveError::Make { what: "a hash of what differs", source: source.into() })
}

/// Whether the repository has what differs: the trees on the way to it, and the contents.
fn is_tree_there(repository: &gix::Repository, parts: &SnapshotParts, changes: &Changes) -> bool {
    let contents = changes.values().filter_map(|(_, now)| *now).filter(|leaf| leaf.kind != EntryKind::Commit);
    are_trees_there(repository, parts.tree, changes.keys().map(|path| path.as_bstr()))
        && contents.map(|leaf| leaf.id).all(|id| repository.has_object(id))
}

/// Adds what was read; answers the raw files.
fn add_contents(
    draft: &mut Draft,
    pending: &mut Pending,
    root: &Path,
    sink: &mut dyn ObjectSink,
) -> Result<BTreeMap<BString, Leaf>, SaveError> {
    let mut raw = BTreeMap::new();
    for (path, reading) in std::mem::take(&mut draft.readings) {
        let mut leaf = reading.leaf;
        if draft.changes.contains_key(&path) {
            match reading.held {
                Held::Bytes(bytes) => pending.add_hashed(Kind::Blob, leaf.id, bytes),
                Held::File if pending.is_known(leaf.id) => {}
                Held::File => {
                    let size = reading.mark.size();
                    let (id, held_still) = stream(&root.join(std::ffi::OsStr::from_bytes(&path)), size, leaf.id, sink)?;
                    leaf.id = id;
                    pending.know([id]);
                    pending.streamed += size;
                    if !held_still {
                        draft.warnings.push(Warning::Unsettled(path.clone()));
                    }
                }
            }
            draft.changes.entry(path.clone()).and_modify(|change| change.1 = Some(leaf));
        }
        if let Some(bytes) = reading.raw {
            let id = pending.add(Kind::Blob, bytes)?;
            raw.insert(path, Leaf { kind: leaf.kind, id });
        }
    }
    Ok(raw)
}

/// Adds the state's tree; answers it and the commits that the state must keep alive.
fn add_state(
    draft: &mut Draft,
    pending: &mut Pending,
    repository: &gix::Repository,
    raw: BTreeMap<BString, Leaf>,
) -> Result<(ObjectId, Vec<ObjectId>), SaveError> {
    let mut state_files: BTreeMap<BString, Option<Leaf>> = BTreeMap::new();
    let raw_files = raw.len();
    for (path, leaf) in raw {
        state_files.insert([state::RAW.as_bytes(), &path].concat().into(), Some(leaf));
    }
    let named = draft.staged.iter().flat_map(|(path, staged)| {
        staged.lines.iter().filter(|line| Some(line.leaf) != staged.head).map(move |line| (path.clone(), line.leaf))
    });
    let remembered = draft.resolved.iter().flat_map(|(path, lines)| lines.iter().map(|line| (path.clone(), line.leaf)));
    for (path, leaf) in named.chain(remembered).collect::<Vec<_>>() {
        if leaf.kind != EntryKind::Commit && !keep_object(repository, pending, leaf.id, Kind::Blob, &mut state_files)? {
            draft.warnings.push(Warning::MissingObject(path, leaf.id));
        }
    }
    let (commits, others) = operation::named_objects(repository, &draft.operation);
    for (id, kind) in others {
        keep_object(repository, pending, id, kind, &mut state_files)?;
    }
    for (name, bytes) in &draft.operation {
        let id = pending.add(Kind::Blob, bytes.clone())?;
        let path = [state::OPERATION.as_bytes(), name].concat().into();
        state_files.insert(path, Some(Leaf { kind: EntryKind::Blob, id }));
    }
    let blob = |id| Some(Leaf { kind: EntryKind::Blob, id });
    let index = pending.add(Kind::Blob, index_lines::encode(&draft.lines()))?;
    state_files.insert(state::INDEX.into(), blob(index));
    if !draft.resolved.is_empty() {
        let resolved = pending.add(Kind::Blob, index_lines::encode(&draft.resolved))?;
        state_files.insert(state::RESOLVED.into(), blob(resolved));
    }
    let facts = draft.facts(repository, raw_files, hash_of(&draft.changes, repository.object_hash())?);
    let facts = pending.add(Kind::Blob, facts.encode()?)?;
    state_files.insert(state::STATE.into(), blob(facts));
    let state_tree = pending.edit(repository, None, state_files.into_iter())?;
    Ok((state_tree, commits))
}

/// The bytes of the object with this very id, whatever `git replace` shows people in its place.
fn find_itself(repository: &gix::Repository, id: ObjectId) -> Result<Option<Vec<u8>>, SaveError> {
    let (mut objects, mut bytes) = (repository.objects.clone(), Vec::new());
    objects.ignore_replacements = true;
    let found = objects.try_find(&id, &mut bytes).map_err(unreadable_object(id))?.is_some();
    Ok(found.then_some(bytes))
}

/// Makes an object that the repository has reachable from the state, writing it anew: nobody made it durable, and nothing else may hold
/// it. False if it is not there.
fn keep_object(
    repository: &gix::Repository,
    pending: &mut Pending,
    id: ObjectId,
    kind: Kind,
    files: &mut BTreeMap<BString, Option<Leaf>>,
) -> Result<bool, SaveError> {
    let object = if id.is_empty_blob() || (kind == Kind::Blob && pending.is_known(id)) {
        Some(Vec::new())
    } else {
        find_itself(repository, id)?
    };
    let Some(bytes) = object else { return Ok(false) };
    // A tree's own objects stay where they are.
    if kind == Kind::Blob {
        pending.add_hashed(kind, id, bytes);
    }
    let entry = if kind == Kind::Tree { EntryKind::Tree } else { EntryKind::Blob };
    files.insert(format!("{}{id}", state::OBJECTS).into(), Some(Leaf { kind: entry, id }));
    Ok(true)
}

impl Draft {
    fn lines(&self) -> IndexLines {
        let staged = self.staged.iter().map(|(path, staged)| (path.clone(), staged.lines.clone()));
        staged.chain(self.flagged.iter().map(|(path, line)| (path.clone(), vec![*line]))).collect()
    }

    fn facts(&self, repository: &gix::Repository, raw_files: usize, changes: ObjectId) -> StateFacts {
        let patterns = self.operation.get(b"info/sparse-checkout".as_bstr());
        let in_progress = |name: &&BString| !name.contains(&b'/') && name.ends_with(b"_HEAD") && *name != "ORIG_HEAD";
        StateFacts {
            schema: state::SCHEMA.to_owned(),
            origin: self.origin,
            base: self.head.commit.map(|id| id.to_string()),
            branch: self.head.branch.clone(),
            index: self.presence,
            operation: self.operation.keys().filter(in_progress).map(ToString::to_string).collect(),
            sparse_patterns: patterns.map(|bytes| bytes.to_str_lossy().into_owned()),
            conversion: (self.origin != Origin::Directory).then(|| Conversion::of(repository)),
            changes: Some(changes.to_string()),
            raw_files,
            not_saved: self.not_saved.iter().map(Into::into).collect(),
            warnings: self.warnings.iter().map(state::shown).collect(),
        }
    }
}

fn message(draft: &Draft, files: usize, moment: &str) -> String {
    let subject = subject(draft, files);
    if moment.is_empty() { subject } else { format!("{subject}\nSaved-At: {moment}\n") }
}

fn subject(draft: &Draft, files: usize) -> String {
    let branch = draft.head.branch.as_deref().map(|name| name.trim_start_matches("refs/heads/"));
    let stood_on = branch.map_or_else(|| "a detached HEAD".to_owned(), str::to_owned);
    let files = if files == 1 { "1 file".to_owned() } else { format!("{files} files") };
    match draft.origin {
        Origin::Worktree => format!("saved work on {stood_on}: {files}\n"),
        Origin::VanishedWorktree => format!("what git held of a vanished worktree on {stood_on}: {files}\n"),
        Origin::Directory => format!("saved directory: {files}\n"),
    }
}
