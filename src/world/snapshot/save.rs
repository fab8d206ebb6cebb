//! Saving a worktree: what differs from HEAD becomes a snapshot commit.
//!
//! Owns: putting survey, index and operation together. Must not know: where objects go, refs. Invariant: nothing is handed to the sink if
//! the snapshot would be the previous one; if the index or HEAD changes meanwhile all is looked at again.

use super::content::{Filtering, Held, Reading, Rest};
use super::conversion::Conversion;
use super::exact::add_inexact;
use super::index_lines::{self, IndexLine, IndexLines};
use super::large_file::stream;
use super::layout::StatRules;
use super::operation::{self, OperationFiles};
use super::patterns::Patterns;
use super::place::{FileMark, Head, WorktreePlace, open_repository, read_head, read_index};
use super::resolve_undo::read_resolved;
use super::staged::{StagedPaths, find_flagged, find_staged};
use super::state::{self, IndexPresence, Origin, SnapshotParts, StateFacts};
use super::submodule::look_at_submodule;
use super::survey::{Survey, find_moved, survey};
use super::tree::{Leaf, Pending, tree_of_commit, unreadable_object};
use super::walk::{Found, Ground};
use super::{NotSaved, ObjectSink, SaveError, SaveOptions, Saved, Warning};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::index::State;
use gix::objs::Kind;
use gix::objs::tree::EntryKind;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// How often all is looked at again when the index, HEAD or a file that was read changes meanwhile.
const ATTEMPTS: usize = 3;

/// Bytes of trees that are kept decoded while one snapshot is made.
const OBJECT_CACHE: usize = 8 << 20;

/// What a snapshot is made of, found but not yet written.
pub(super) struct Draft {
    pub(super) origin: Origin,
    pub(super) head: Head,
    pub(super) presence: IndexPresence,
    pub(super) staged: StagedPaths,
    pub(super) flagged: BTreeMap<BString, IndexLine>,
    pub(super) resolved: IndexLines,
    pub(super) operation: OperationFiles,
    /// What stands at a path in HEAD and in the worktree, where that may differ.
    pub(super) changes: Changes,
    pub(super) readings: BTreeMap<BString, Reading>,
    pub(super) warnings: Vec<Warning>,
    pub(super) not_saved: Vec<NotSaved>,
    pub(super) ignored: usize,
}

/// Old and new at a path.
pub(super) type Changes = BTreeMap<BString, (Option<Leaf>, Option<Leaf>)>;

/// Saves the worktree at `place`.
pub fn save(place: &WorktreePlace, options: &SaveOptions, sink: &mut dyn ObjectSink) -> Result<Saved, SaveError> {
    let shared = place.open()?;
    let mut repository = shared.to_thread_local();
    // The same trees are read for HEAD, for the previous snapshot and for the edits.
    repository.object_cache_size_if_unset(OBJECT_CACHE);
    let mut attempt = 1;
    loop {
        let marks = || Ok::<_, SaveError>((FileMark::at(&place.index_path()), read_head(&repository, &place.git_dir)?));
        let before = marks()?;
        let mut draft = draft_worktree(place, &shared, &repository, before.1.clone(), options)?;
        let settled = marks()? == before;
        let moved = find_moved(&place.path, &draft.readings);
        if attempt < ATTEMPTS && !(settled && moved.is_empty()) {
            attempt += 1;
            continue;
        }
        draft.warnings.extend(moved.into_iter().map(Warning::Unsettled));
        if !settled {
            draft.warnings.push(Warning::UnsettledIndex);
        }
        return finish(draft, &repository, &place.path, options, sink);
    }
}

/// Saves what git still holds of a worktree whose directory is gone: its index, HEAD and an operation in progress, from its own git
/// directory `git_dir`. The tree is the index's content.
pub fn save_vanished(
    git_dir: &Path,
    common_dir: &Path,
    options: &SaveOptions,
    sink: &mut dyn ObjectSink,
) -> Result<Saved, SaveError> {
    let repository = open_repository(common_dir)?.to_thread_local();
    let head = read_head(&repository, git_dir)?;
    let index = read_index(&repository, &git_dir.join("index"))?;
    let presence = if index.is_some() { IndexPresence::Present } else { IndexPresence::Absent };
    let (staged, flagged) = match &index {
        Some(index) => index_differences(&repository, &head, index)?,
        None => Default::default(),
    };
    let changes = staged.iter().map(|(path, staged)| (path.clone(), (staged.head, staged.best()))).collect();
    let draft = Draft {
        origin: Origin::VanishedWorktree,
        head,
        presence,
        staged,
        flagged,
        resolved: index.as_ref().map_or_else(|| Ok(IndexLines::new()), |index| read_resolved(git_dir, index))?,
        operation: operation::read_operation(&repository, git_dir)?,
        changes,
        readings: BTreeMap::new(),
        warnings: Vec::new(),
        not_saved: Vec::new(),
        ignored: 0,
    };
    finish(draft, &repository, git_dir, options, sink)
}

fn index_differences(
    repository: &gix::Repository,
    head: &Head,
    index: &State,
) -> Result<(StagedPaths, BTreeMap<BString, IndexLine>), SaveError> {
    let tree = head.commit.map(|commit| tree_of_commit(repository, commit)).transpose()?;
    let staged = find_staged(repository, tree, index)?;
    let flagged = find_flagged(repository, index, &staged)?;
    Ok((staged, flagged))
}

fn draft_worktree(
    place: &WorktreePlace,
    shared: &gix::ThreadSafeRepository,
    repository: &gix::Repository,
    head: Head,
    options: &SaveOptions,
) -> Result<Draft, SaveError> {
    let read = read_index(repository, &place.index_path())?;
    let presence = if read.is_some() { IndexPresence::Present } else { IndexPresence::Absent };
    let index = read.map_or_else(|| State::new(repository.object_hash()), |file| file.into_parts().0);
    let (include, exclude) = (Patterns::new(&options.include), Patterns::new(&options.exclude));
    let ground = Ground {
        root: &place.path,
        repository: Some(shared),
        common_dir: &place.common_dir.canonicalize().unwrap_or_else(|_| place.common_dir.clone()),
        index: &index,
        rules: StatRules::new(repository, &index),
        include: &include,
        exclude: &exclude,
        case: case_of(repository),
        threads: std::thread::available_parallelism().map_or(1, |count| count.get().min(4)),
    };
    let (differences, survey) = std::thread::scope(|scope| {
        let differences = scope.spawn(|| match presence {
            IndexPresence::Present => index_differences(&shared.to_thread_local(), &head, &index),
            IndexPresence::Absent => Ok(Default::default()),
        });
        let survey = survey(&ground, shared, options.raw_limit, Filtering::AsGit).and_then(|mut survey| {
            let cache = options.exact_cache.as_deref();
            add_inexact(&ground, shared, options.raw_limit, cache, &mut survey)?;
            Ok(survey)
        });
        (differences.join(), survey)
    });
    let lost = |_| SaveError::Make { what: "the comparison with HEAD", source: "a thread ended early".into() };
    let (staged, flagged) = differences.map_err(lost)??;
    let Survey { found, readings } = survey?;
    let mut draft = Draft {
        origin: Origin::Worktree,
        head,
        presence,
        resolved: read_resolved(&place.git_dir, &index)?,
        operation: operation::read_operation(repository, &place.git_dir)?,
        changes: staged.iter().map(|(path, staged)| (path.clone(), (staged.head, staged.plain()))).collect(),
        staged,
        flagged,
        readings,
        warnings: Vec::new(),
        not_saved: Vec::new(),
        ignored: found.ignored,
    };
    draft.overlay(&index, &found);
    draft.overlay_submodules(&index, &found, &place.path);
    draft.warnings.extend(found.warnings);
    draft.not_saved.extend(found.not_saved);
    Ok(draft)
}

fn case_of(repository: &gix::Repository) -> gix::glob::pattern::Case {
    let folds = repository.config_snapshot().boolean("core.ignoreCase").unwrap_or(false);
    if folds { gix::glob::pattern::Case::Fold } else { gix::glob::pattern::Case::Sensitive }
}

impl Draft {
    /// Lays what was found in the worktree over what the index says.
    fn overlay(&mut self, index: &State, found: &Found) {
        let entry_leaf = |at: usize| super::staged::index_line(&index.entries()[at]).leaf;
        let path = |at: usize| index.entries()[at].path(index).to_owned();
        for &at in &found.gone {
            self.change(path(at), Some(entry_leaf(at)), None);
        }
        for &at in &found.changed {
            let reading = self.readings.get(&path(at));
            let now = reading.map(|reading| reading.leaf);
            if reading.is_some_and(|reading| reading.differs_by_size_alone(&index.entries()[at])) {
                let plain = super::staged::index_line(&index.entries()[at]);
                let staged = self.staged.get_mut(&path(at)).and_then(|staged| staged.lines.first_mut());
                staged.unwrap_or_else(|| self.flagged.entry(path(at)).or_insert(plain)).other_size = true;
            }
            self.change(path(at), Some(entry_leaf(at)), now);
        }
        for path in &found.untracked {
            if let Some(now) = self.readings.get(path).map(|reading| reading.leaf) {
                self.change(path.clone(), None, Some(now));
                // What the index has below a file (a sparse checkout left it out) cannot stand there too.
                let below = [path.as_slice(), b"/"].concat();
                let hidden = self.changes.range_mut(BString::from(below.as_slice())..);
                hidden.take_while(|(path, _)| path.starts_with(&below)).for_each(|(_, (_, now))| *now = None);
            }
        }
        let present = found.present.iter().map(|&at| path(at));
        // What a sparse index holds as one directory is walked as if it were untracked.
        for path in present.chain(found.untracked.iter().cloned()) {
            let staged = self.staged.get_mut(&path).into_iter().flat_map(|staged| staged.lines.iter_mut());
            for line in staged.chain(self.flagged.get_mut(&path)).filter(|line| line.skip_worktree) {
                line.on_disk = true;
            }
        }
        self.warn_of_readings();
    }

    /// Takes over what is to be said about the files that were read.
    pub(super) fn warn_of_readings(&mut self) {
        for (path, reading) in &self.readings {
            if reading.rest == Rest::Unsettled {
                self.warnings.push(Warning::Unsettled(path.clone()));
            }
            if let Some(said) = &reading.filter_failure {
                self.warnings.push(Warning::FilterFailed(path.clone(), said.clone()));
            }
            if let Some(reason) = reading.not_exact {
                self.not_saved.push(NotSaved { path: path.clone(), reason });
            }
        }
    }

    /// Notes what stands at `path` now; `in_index` is what HEAD has there too unless something is staged.
    fn change(&mut self, path: BString, in_index: Option<Leaf>, now: Option<Leaf>) {
        let flagged = self.flagged.get(&path).map(|line| line.leaf);
        let head = self.staged.get(&path).map_or(in_index.or(flagged), |staged| staged.head);
        self.changes.insert(path, (head, now));
    }

    fn overlay_submodules(&mut self, index: &State, found: &Found, root: &Path) {
        for &at in &found.submodules {
            let entry = &index.entries()[at];
            let path = entry.path(index).to_owned();
            let look = look_at_submodule(&root.join(std::ffi::OsStr::from_bytes(&path)));
            self.not_saved.extend(look.not_saved.iter().map(|&reason| NotSaved { path: path.clone(), reason }));
            let Some(commit) = look.commit else { continue };
            self.warnings.push(Warning::Submodule(path.clone()));
            if commit != entry.id {
                let leaf = |id| Leaf { kind: EntryKind::Commit, id };
                self.change(path, Some(leaf(entry.id)), Some(leaf(commit)));
            }
        }
    }

    /// How many bytes the files have that differ from the base and are there.
    fn content_bytes(&self, repository: &gix::Repository) -> u64 {
        let present = self.changes.iter().filter_map(|(path, (_, now))| Some((path, (*now)?)));
        let size = |(path, leaf): (&BString, Leaf)| match self.readings.get(path) {
            Some(Reading { held: Held::Bytes(bytes), .. }) => bytes.len() as u64,
            Some(Reading { held: Held::File, mark, .. }) => mark.size(),
            None => repository.find_header(leaf.id).map_or(0, |header| header.size()),
        };
        present.map(size).sum()
    }

    fn is_as_checked_out(&self) -> bool {
        let exact = self.readings.values().all(|reading| reading.raw.is_none());
        self.is_clean() && self.flagged.is_empty() && exact && !operation::is_arranged(&self.operation)
    }

    fn is_clean(&self) -> bool {
        let same = self.changes.values().all(|(head, now)| head == now);
        same && self.staged.is_empty() && self.not_saved.is_empty() && !operation::is_in_progress(&self.operation)
    }
}

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
    let previous = options.previous.and_then(|id| Some((id, know_previous(repository, id, &draft.changes).ok()?)));
    let (previous, mut pending) = match previous {
        Some((id, (parts, pending))) => (Some((id, parts)), pending),
        None => (None, Pending::new(repository.object_hash())),
    };
    let content_bytes = draft.content_bytes(repository);
    let raw = add_contents(&mut draft, &mut pending, root, sink)?;
    let (tree, state_tree, state_parents) = add_trees(&mut draft, &mut pending, repository, raw)?;
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
    let parts = SnapshotParts { tree, base: draft.head.commit, state_tree, state_parents };
    if let Some((id, _)) = previous.filter(|(_, previous)| previous.same_as(&parts)) {
        return Ok(Saved { commit: id, unchanged: true, ..saved });
    }
    let subject = subject(&draft, saved.files);
    let state = pending.add_commit(parts.state_tree, &parts.state_parents, "worktree state\n", options)?;
    let parents: Vec<_> = parts.base.into_iter().chain([state]).collect();
    saved.commit = pending.add_commit(parts.tree, &parents, &subject, options)?;
    saved.bytes = pending.write(sink)?;
    Ok(saved)
}

/// Takes the previous snapshot apart, and notes what of it need not be written again.
fn know_previous(
    repository: &gix::Repository,
    id: ObjectId,
    changes: &Changes,
) -> Result<(SnapshotParts, Pending), SaveError> {
    let parts = state::read_parts(repository, id)?;
    let mut pending = Pending::new(repository.object_hash());
    pending.know_all(repository, parts.state_tree)?;
    pending.know_paths(repository, parts.tree, changes.keys().map(|path| path.as_bstr()))?;
    Ok((parts, pending))
}

impl SnapshotParts {
    fn same_as(&self, other: &Self) -> bool {
        (self.tree, self.base, self.state_tree) == (other.tree, other.base, other.state_tree)
            && self.state_parents == other.state_parents
    }
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
                    pending.know(id);
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

/// Adds the snapshot's tree and the state's; answers both and the commits that the state must keep alive.
fn add_trees(
    draft: &mut Draft,
    pending: &mut Pending,
    repository: &gix::Repository,
    raw: BTreeMap<BString, Leaf>,
) -> Result<(ObjectId, ObjectId, Vec<ObjectId>), SaveError> {
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
    let facts = pending.add(Kind::Blob, draft.facts(repository, raw_files).encode()?)?;
    state_files.insert(state::STATE.into(), blob(facts));
    let state_tree = pending.edit(repository, None, state_files.into_iter())?;
    let head = draft.head.commit.map(|commit| tree_of_commit(repository, commit)).transpose()?;
    let edits = draft.changes.iter().map(|(path, (_, now))| (path.clone(), *now));
    let tree = pending.edit(repository, head, edits)?;
    Ok((tree, state_tree, commits))
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
        repository.try_find_object(id).map_err(unreadable_object(id))?.map(|object| object.detach().data)
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

    fn facts(&self, repository: &gix::Repository, raw_files: usize) -> StateFacts {
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
            raw_files,
            not_saved: self.not_saved.iter().map(Into::into).collect(),
            warnings: self.warnings.iter().map(state::shown).collect(),
        }
    }
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
