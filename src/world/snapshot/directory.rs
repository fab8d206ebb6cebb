//! Saving a plain directory that is no worktree.
//!
//! Owns: taking all files of a directory as they are. Must not know: indexes, HEAD, filters. Invariant: nothing is ignored but what the
//! exclude patterns name.

use super::compose::finish;
use super::content::Filtering;
use super::draft::Draft;
use super::layout::StatRules;
use super::patterns::Patterns;
use super::place::{Head, open_repository};
use super::state::{IndexPresence, Origin};
use super::survey::{Survey, survey};
use super::walk::Ground;
use super::{ObjectSink, SaveError, SaveOptions, Saved};
use gix::index::State;
use std::collections::BTreeMap;
use std::path::Path;

/// Saves all files of the directory `path` into the repository with the git directory `common_dir`: a snapshot without a base.
pub fn save_directory(
    path: &Path,
    common_dir: &Path,
    options: &SaveOptions,
    sink: &mut dyn ObjectSink,
) -> Result<Saved, SaveError> {
    let shared = open_repository(common_dir)?;
    let repository = shared.to_thread_local();
    let index = State::new(repository.object_hash());
    let (include, exclude) = (Patterns::default(), Patterns::new(&options.exclude));
    let ground = Ground {
        root: path,
        repository: None,
        common_dir: &common_dir.canonicalize().unwrap_or_else(|_| common_dir.to_owned()),
        index: &index,
        rules: StatRules::of_directory(),
        include: &include,
        exclude: &exclude,
        case: gix::glob::pattern::Case::Sensitive,
        threads: std::thread::available_parallelism().map_or(1, |count| count.get().min(4)),
    };
    let Survey { found, readings } = survey(&ground, &shared, options.raw_limit, Filtering::None)?;
    let mut draft = Draft {
        origin: Origin::Directory,
        head: Head { commit: None, branch: None },
        presence: IndexPresence::Absent,
        staged: BTreeMap::new(),
        flagged: BTreeMap::new(),
        resolved: BTreeMap::new(),
        operation: BTreeMap::new(),
        changes: readings.iter().map(|(path, reading)| (path.clone(), (None, Some(reading.leaf)))).collect(),
        readings,
        warnings: found.warnings,
        not_saved: found.not_saved,
        ignored: found.ignored,
    };
    draft.warn_of_readings();
    finish(draft, &repository, path, options, sink)
}
