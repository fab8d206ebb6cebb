//! Putting saved work back: into a worktree that has just been made, or into a plain directory.
//!
//! Owns: the order of a restore, and what it refuses. Must not know: refs, branches, who asked. Invariant: what stands in the target and
//! is not a clean tracked file is never overwritten, and what came from elsewhere starts no program.

use super::content::{LARGE, any_set, converting_attributes, is_guess, pipeline, smudge};
use super::conversion::Conversion;
use super::index_lines::{IndexLine, IndexLines};
use super::layout::{StatRules, Symlinks};
use super::operation::is_operation_file;
use super::own_refs::write_own_refs;
use super::patterns::Patterns;
use super::place::{open_repository, read_head, read_index};
use super::regular_file::holds_nul;
use super::restore_error::RestoreError;
use super::restore_index::{index_stat, write_index};
use super::state::{self, Origin, SnapshotParts, State};
use super::tree::{Leaf, leaves};
use super::walk::{Ground, walk};
use super::write_files::{Destination, Existing, check_path};
use super::{SaveError, WorktreePlace};
use crate::git::Git;
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::filter::plumbing::Pipeline;
use gix::index::entry::{Flags, Mode, Stat as IndexStat};
use gix::objs::tree::EntryKind;
use rustix::fs::Stat;
use std::collections::{BTreeMap, BTreeSet};
use std::io::Seek;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// Where saved work is put.
#[derive(Debug, Clone)]
pub enum RestoreTarget {
    /// A worktree that has been made, checked out or not, whose HEAD is the snapshot's base. Index and operation come back too.
    Worktree(WorktreePlace),
    /// A directory: only the files.
    Directory {
        /// The directory.
        path: PathBuf,
        /// The git directory of the repository that holds the snapshot.
        common_dir: PathBuf,
        /// What it may hold already.
        held: Held,
    },
}

/// What a directory may hold to which saved work is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Nothing: it is empty or not there.
    Nothing,
    /// Files that are saved themselves: those of the snapshot's names give way, all others stay.
    Saved,
}

/// Whose snapshot it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// This machine saved it: its attributes may start content filters, and its operation files come back.
    Own,
    /// It came from elsewhere: neither.
    Foreign,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Restored {
    /// Files and links that were written.
    pub written: usize,
    /// Files and links that were removed.
    pub removed: usize,
    /// What is not as it was.
    pub warnings: Vec<RestoreWarning>,
}

/// What is not as it was.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RestoreWarning {
    /// The path's content filter was not run, since the snapshot came from elsewhere: the file is as git stores it.
    FilterNotRun(BString),
    /// The path's content filter failed with the message given: the file is as git stores it.
    FilterFailed(BString, String),
    /// The path's content filter had a program when it was saved and has none now: the file is as git stores it.
    FilterMissing(BString),
    /// The files of an operation in progress were left out, since the snapshot came from elsewhere.
    OperationLeftOut,
    /// A submodule is an empty directory now; it was at this commit.
    Submodule(BString, ObjectId),
}

/// Restores `snapshot` into `target`. Who tells somebody that the work is back puts it on disk first.
pub fn restore(target: &RestoreTarget, snapshot: ObjectId, trust: Trust) -> Result<Restored, RestoreError> {
    match target {
        RestoreTarget::Worktree(place) => restore_worktree(place, snapshot, trust),
        RestoreTarget::Directory { path, common_dir, held } => {
            restore_directory(path, common_dir, *held, snapshot, trust)
        }
    }
}

fn restore_directory(
    path: &Path,
    common_dir: &Path,
    held: Held,
    snapshot: ObjectId,
    trust: Trust,
) -> Result<Restored, RestoreError> {
    let repository = open_repository(common_dir)?.to_thread_local();
    let parts = state::read_parts(&repository, snapshot)?;
    let state = state::read_state(&repository, parts.state_tree)?;
    let files = read_target(&repository, &parts, &state)?;
    let unwritable = |source| RestoreError::Write { path: path.as_os_str().as_bytes().into(), source };
    match std::fs::read_dir(path) {
        Ok(entries) => {
            if held == Held::Nothing && entries.count() > 0 {
                return Err(RestoreError::InTheWay { path: ".".into() });
            }
        }
        Err(_) => std::fs::create_dir_all(path).map_err(unwritable)?,
    }
    let destination = Destination::open(path).map_err(unwritable)?;
    let filters = if state.facts.origin == Origin::Directory {
        Filters::Off
    } else {
        filters(&repository, &parts, &state, trust)?
    };
    let endings = Endings::AsSaved;
    let mut writer =
        Writer { repository: &repository, raw: &state.raw, destination, filters, endings, done: Restored::default() };
    for (path, leaf) in &files {
        let gives_way = held == Held::Saved && writer.destination.stat(path.as_bstr()).is_ok();
        let existing = if gives_way { Existing::Replace } else { Existing::None };
        writer.write(path.as_bstr(), *leaf, existing)?;
    }
    Ok(writer.done)
}

fn restore_worktree(place: &WorktreePlace, snapshot: ObjectId, trust: Trust) -> Result<Restored, RestoreError> {
    let shared = place.open()?;
    let repository = shared.to_thread_local();
    let parts = state::read_parts(&repository, snapshot)?;
    let state = state::read_state(&repository, parts.state_tree)?;
    if state.facts.origin == Origin::Directory {
        return Err(RestoreError::NotAWorktree);
    }
    let found = read_head(&repository, &place.git_dir)?.commit;
    if found != parts.base {
        return Err(RestoreError::OtherBase { expected: parts.base, found });
    }
    let files = read_target(&repository, &parts, &state)?;
    let absent = paths_not_on_disk(&state.lines);
    let mut present = Present::read(place, &shared, &repository)?;
    if state.facts.conversion.as_ref().is_some_and(|saved| saved.has_other_line_endings(&repository)) {
        present.endings = Endings::Others;
    }
    let mut plan = present.plan(&files, &absent, &state.raw)?;
    let destination =
        Destination::open(&place.path).map_err(|source| RestoreError::Write { path: BString::from("."), source })?;
    let filters = filters(&repository, &parts, &state, trust)?;
    let endings = present.endings;
    let mut writer =
        Writer { repository: &repository, raw: &state.raw, destination, filters, endings, done: Restored::default() };
    for path in &plan.remove {
        writer.remove(path.as_bstr())?;
    }
    for (path, existing) in &plan.write {
        if let Some(stat) = writer.write(path.as_bstr(), files[path], *existing)? {
            plan.stats.insert(path.clone(), index_stat(&stat));
        }
    }
    match trust {
        Trust::Own => write_operation(place, &repository, &state)?,
        Trust::Foreign if state.operation.is_empty() => {}
        Trust::Foreign => writer.done.warnings.push(RestoreWarning::OperationLeftOut),
    }
    write_index(place, &repository, &parts, &state, &files, &plan.stats)?;
    Ok(writer.done)
}

/// All files of the snapshot, with names that may be written.
fn read_target(
    repository: &gix::Repository,
    parts: &SnapshotParts,
    state: &State,
) -> Result<BTreeMap<BString, Leaf>, RestoreError> {
    let mut files = BTreeMap::new();
    leaves(repository, parts.tree, b"".as_bstr(), &mut files)?;
    let names = files
        .keys()
        .chain(state.lines.keys())
        .chain(state.resolved.keys())
        .chain(state.raw.keys())
        .chain(state.operation.keys());
    match names.into_iter().find(|path| check_path(path.as_bstr()).is_err()) {
        Some(path) => Err(RestoreError::RefusedName { path: path.clone() }),
        None => Ok(files),
    }
}

/// Paths that the index names but that a sparse checkout leaves out.
fn paths_not_on_disk(lines: &IndexLines) -> BTreeSet<&BStr> {
    let skipped = |lines: &Vec<IndexLine>| lines.iter().any(|line| line.skip_worktree && !line.on_disk);
    lines.iter().filter(|(_, lines)| skipped(lines)).map(|(path, _)| path.as_bstr()).collect()
}

/// What stands in the worktree before the restore.
struct Present {
    /// Clean tracked files, with stat data unless that is not to be trusted.
    clean: BTreeMap<BString, (Leaf, Option<IndexStat>)>,
    /// Files that are not: they must not be in the way.
    other: BTreeSet<BString>,
    /// Whether line endings are what they were.
    endings: Endings,
}

/// Line endings in the worktree as it was made anew.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endings {
    /// As they were saved.
    AsSaved,
    /// Other settings have made others.
    Others,
}

/// What a restore will do, and the stat data of files that it leaves alone.
struct Plan {
    remove: Vec<BString>,
    write: Vec<(BString, Existing)>,
    stats: BTreeMap<BString, IndexStat>,
}

impl Present {
    fn read(
        place: &WorktreePlace,
        shared: &gix::ThreadSafeRepository,
        repository: &gix::Repository,
    ) -> Result<Self, SaveError> {
        let index = read_index(repository, &place.index_path())?;
        let index = index.map_or_else(|| gix::index::State::new(repository.object_hash()), |file| file.into_parts().0);
        let none = Patterns::default();
        let ground = Ground {
            root: &place.path,
            repository: Some(shared),
            common_dir: &place.common_dir,
            index: &index,
            rules: StatRules::new(repository, &index),
            include: &none,
            exclude: &none,
            case: gix::glob::pattern::Case::Sensitive,
            threads: 2,
        };
        let found = walk(&ground)?;
        let (changed, gone): (BTreeSet<_>, BTreeSet<_>) =
            (found.changed.iter().copied().collect(), found.gone.iter().copied().collect());
        let other = found.untracked.iter().cloned().collect();
        let mut present = Self { clean: BTreeMap::new(), other, endings: Endings::AsSaved };
        let mut reader = super::content::Reader::new(
            shared.to_thread_local(),
            &place.path,
            &index,
            ground.rules,
            0,
            super::content::Filtering::AsGit,
        )?;
        for (at, entry) in index.entries().iter().enumerate() {
            let path = entry.path(&index).to_owned();
            let skipped = entry.flags.contains(Flags::SKIP_WORKTREE) && !found.present.contains(&at);
            if gone.contains(&at) || skipped || entry.mode == Mode::COMMIT || entry.mode == Mode::DIR {
                continue;
            }
            let leaf = super::staged::index_line(entry).leaf;
            if !changed.contains(&at) {
                present.clean.insert(path, (leaf, Some(entry.stat)));
            } else if reader.read(path.as_bstr(), Some(entry.mode))?.is_some_and(|reading| reading.leaf == leaf) {
                present.clean.insert(path, (leaf, None));
            } else {
                present.other.insert(path);
            }
        }
        Ok(present)
    }

    fn plan(
        &self,
        files: &BTreeMap<BString, Leaf>,
        absent: &BTreeSet<&BStr>,
        raw: &BTreeMap<BString, Leaf>,
    ) -> Result<Plan, RestoreError> {
        let wanted = |path: &BString| files.contains_key(path) && !absent.contains(path.as_bstr());
        // Other attributes or settings, other bytes: then nothing that stands there can stay.
        let attributes = |path: &BString| path.ends_with(b".gitattributes");
        let same_attributes = self
            .clean
            .iter()
            .filter(|(path, _)| attributes(path))
            .map(|(path, (leaf, _))| (path, leaf))
            .eq(files.iter().filter(|(path, _)| attributes(path) && !absent.contains(path.as_bstr())));
        let same_rules = same_attributes && self.endings == Endings::AsSaved;
        let remove = self.clean.keys().filter(|path| !wanted(path)).cloned().collect();
        let mut plan = Plan { remove, write: Vec::new(), stats: BTreeMap::new() };
        for (path, leaf) in files.iter().filter(|(path, _)| wanted(path)) {
            if self.other.contains(path) {
                return Err(RestoreError::InTheWay { path: path.clone() });
            }
            match self.clean.get(path) {
                Some((known, stat)) if known == leaf && same_rules && !raw.contains_key(path) => {
                    plan.stats.extend(stat.map(|stat| (path.clone(), stat)));
                }
                Some(_) => plan.write.push((path.clone(), Existing::Replace)),
                None => plan.write.push((path.clone(), Existing::None)),
            }
        }
        Ok(plan)
    }
}

/// How contents become files.
enum Filters {
    /// As they are.
    Off,
    /// As in a checkout, with the programs of the settings or without.
    On(Box<Smudger>),
}

struct Smudger {
    pipeline: Pipeline,
    stack: gix::worktree::Stack,
    outcome: gix::attrs::search::Outcome,
    conversion: Conversion,
    symlinks: Symlinks,
    trust: Trust,
}

fn filters(
    repository: &gix::Repository,
    parts: &SnapshotParts,
    state: &State,
    trust: Trust,
) -> Result<Filters, SaveError> {
    let failed = |source: gix::Error| SaveError::Rules { path: ".gitattributes".into(), source: source.into() };
    let index = repository.index_from_tree(&parts.tree).map_err(failed)?;
    let source = gix::worktree::stack::state::attributes::Source::IdMapping;
    let stack = repository.attributes_only(&index, source).map_err(failed)?.detach();
    let mut pipeline = pipeline(repository).map_err(failed)?;
    if trust == Trust::Foreign {
        pipeline.options_mut().drivers.clear();
    }
    let conversion = state.facts.conversion.clone().unwrap_or_else(|| Conversion::of(repository));
    conversion.set_line_endings(pipeline.options_mut());
    let outcome = converting_attributes(&stack);
    let symlinks = StatRules::new(repository, &index).symlinks;
    Ok(Filters::On(Box::new(Smudger { pipeline, stack, outcome, conversion, symlinks, trust })))
}

struct Writer<'a> {
    repository: &'a gix::Repository,
    raw: &'a BTreeMap<BString, Leaf>,
    destination: Destination,
    filters: Filters,
    endings: Endings,
    done: Restored,
}

impl Writer<'_> {
    fn remove(&mut self, path: &BStr) -> Result<(), RestoreError> {
        let failed = |source| RestoreError::Write { path: path.to_owned(), source };
        self.destination.remove(path).map_err(failed)?;
        self.done.removed += 1;
        Ok(())
    }

    fn write(&mut self, path: &BStr, leaf: Leaf, existing: Existing) -> Result<Option<Stat>, RestoreError> {
        let failed = |source: std::io::Error| match source.kind() {
            std::io::ErrorKind::AlreadyExists | std::io::ErrorKind::NotADirectory => {
                RestoreError::InTheWay { path: path.to_owned() }
            }
            _ => RestoreError::Write { path: path.to_owned(), source },
        };
        if leaf.kind == EntryKind::Commit {
            self.destination.make_directory(path).map_err(failed)?;
            self.done.warnings.push(RestoreWarning::Submodule(path.to_owned(), leaf.id));
            return Ok(None);
        }
        let mut kind = leaf.kind;
        if let (Filters::On(smudger), EntryKind::Link) = (&self.filters, kind) {
            kind = if smudger.symlinks == Symlinks::AsFiles { EntryKind::Blob } else { kind };
        }
        self.done.written += 1;
        let mut existing = existing;
        if kind != EntryKind::Link && self.is_large(path, leaf) {
            if self.stream(path, leaf, existing)? {
                return self.destination.stat(path).map(Some).map_err(failed);
            }
            existing = Existing::Replace;
        }
        let bytes = self.bytes(path, leaf)?;
        let written = self.destination.write(path, kind, &bytes, existing);
        // Git may call such bytes clean by their stat data alone: it must not look at them just since they are new.
        let by_stat_alone = self.raw.contains_key(path) || self.endings == Endings::Others;
        let stat = if by_stat_alone { written.and_then(|_| self.destination.age(path)) } else { written };
        stat.map(Some).map_err(failed)
    }

    /// Whether a content is too large to hold in memory and need not be, as far as the rules of its path tell.
    fn is_large(&mut self, path: &BStr, leaf: Leaf) -> bool {
        let large = self.repository.find_header(leaf.id).is_ok_and(|header| header.size() > LARGE);
        large
            && !self.raw.contains_key(path)
            && match &mut self.filters {
                Filters::Off => true,
                Filters::On(smudger) => !smudger.converts(path, self.repository) || is_guess(&smudger.outcome),
            }
    }

    /// Writes a content without holding it; false if it turned out to be one that the rules of its path convert.
    fn stream(&mut self, path: &BStr, leaf: Leaf, existing: Existing) -> Result<bool, RestoreError> {
        let failed = |source| RestoreError::Write { path: path.to_owned(), source };
        let file = self.destination.create(path, leaf.kind, existing).map_err(failed)?;
        let mut written = file.try_clone().map_err(failed)?;
        let git = Git::in_git_dir(self.repository.common_dir()).with_setting("core.bigFileThreshold=1m");
        git.run_into(["cat-file", "blob", &leaf.id.to_string()], file)
            .map_err(|error| failed(std::io::Error::other(error)))?;
        let converts = match &mut self.filters {
            Filters::Off => false,
            Filters::On(smudger) => smudger.converts(path, self.repository),
        };
        if !converts {
            return Ok(true);
        }
        written.rewind().and_then(|()| holds_nul(written)).map_err(failed)
    }

    fn bytes(&mut self, path: &BStr, leaf: Leaf) -> Result<Vec<u8>, RestoreError> {
        let read = |id| -> Result<Vec<u8>, SaveError> {
            Ok(self.repository.find_blob(id).map_err(super::tree::unreadable_object(id))?.take_data())
        };
        if let Some(raw) = self.raw.get(path) {
            return Ok(read(raw.id)?);
        }
        let stored = read(leaf.id)?;
        let Filters::On(smudger) = &mut self.filters else { return Ok(stored) };
        if leaf.kind == EntryKind::Link || !smudger.converts(path, self.repository) {
            return Ok(stored);
        }
        if let Some(driver) = smudger.driver() {
            if smudger.trust == Trust::Foreign {
                self.done.warnings.push(RestoreWarning::FilterNotRun(path.to_owned()));
            } else if smudger.conversion.misses(driver.as_bstr(), smudger.pipeline.options_mut()) {
                self.done.warnings.push(RestoreWarning::FilterMissing(path.to_owned()));
            }
        }
        match smudge(&mut smudger.pipeline, &mut smudger.stack, path, &stored, self.repository) {
            Ok(bytes) => Ok(bytes),
            Err(said) => {
                self.done.warnings.push(RestoreWarning::FilterFailed(path.to_owned(), said));
                Ok(stored)
            }
        }
    }
}

impl Smudger {
    fn converts(&mut self, path: &BStr, repository: &gix::Repository) -> bool {
        let Ok(platform) = self.stack.at_entry(path, None, &repository.objects) else {
            return self.conversion.converts_by_settings();
        };
        platform.matching_attributes(&mut self.outcome);
        self.conversion.converts_by_settings() || any_set(&self.outcome)
    }

    /// The content filter of the path that was last asked for.
    fn driver(&self) -> Option<BString> {
        let found = self.outcome.iter_selected().find(|found| found.assignment.name.as_str() == "filter")?;
        match found.assignment.state {
            gix::attrs::StateRef::Value(name) => Some(name.as_bstr().to_owned()),
            _ => None,
        }
    }
}

fn write_operation(place: &WorktreePlace, repository: &gix::Repository, state: &State) -> Result<(), RestoreError> {
    let failed = |path: &BString| {
        let path = path.clone();
        move |source| RestoreError::Write { path, source }
    };
    if let Some(path) = state.operation.keys().find(|path| !is_operation_file(path)) {
        return Err(RestoreError::RefusedName { path: path.clone() });
    }
    let files = write_own_refs(repository, &place.git_dir, &state.operation)?;
    let mut destination = Destination::open(&place.git_dir).map_err(failed(&".git".into()))?;
    for (path, bytes) in files {
        destination.write(path.as_bstr(), EntryKind::Blob, bytes, Existing::Replace).map_err(failed(path))?;
    }
    Ok(())
}
