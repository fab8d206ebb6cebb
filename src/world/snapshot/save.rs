//! Saving a worktree: what differs from HEAD becomes a snapshot commit.
//!
//! Owns: putting survey, index and operation together. Must not know: what objects are made of it, refs. Invariant: if the index or HEAD
//! changes meanwhile all is looked at again.

use super::compose::finish;
use super::content::Filtering;
use super::draft::Draft;
use super::exact::add_inexact;
use super::index_lines::{IndexLine, IndexLines};
use super::layout::StatRules;
use super::operation;
use super::patterns::Patterns;
use super::place::{FileMark, Head, WorktreePlace, open_repository, read_head, read_index};
use super::resolve_undo::read_resolved;
use super::staged::{StagedPaths, find_flagged, find_staged};
use super::state::{IndexPresence, Origin};
use super::survey::{Survey, find_moved, survey};
use super::tree::tree_of_commit;
use super::walk::Ground;
use super::{ObjectSink, SaveError, SaveOptions, Saved, Warning};
use gix::bstr::BString;
use gix::index::State;
use std::collections::BTreeMap;
use std::path::Path;

/// How often all is looked at again when the index, HEAD or a file that was read changes meanwhile.
const ATTEMPTS: usize = 3;

/// Bytes of trees that are kept decoded while one snapshot is made.
const OBJECT_CACHE: usize = 8 << 20;

/// Saves the worktree at `place`.
pub fn save(place: &WorktreePlace, options: &SaveOptions, sink: &mut dyn ObjectSink) -> Result<Saved, SaveError> {
    let shared = place.open_unless_opened()?;
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
    let checksum = read.as_ref().and_then(gix::index::File::checksum);
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
            add_inexact(&ground, shared, options.raw_limit, cache, checksum, &mut survey)?;
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
