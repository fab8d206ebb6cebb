//! Unchanged files whose bytes a checkout would not give back: git calls them clean, since it compares after its filters.
//!
//! Owns: finding them, and remembering which are known to come back. Must not know: how they are kept. Invariant: a file is passed over
//! only if the worktree has no rules at all, if its bytes were compared, or if they were under the same rules, content and stat data before.

use super::SaveError;
use super::content::{Reader, Reading, converts_by_settings};
use super::survey::Survey;
use super::walk::Ground;
use gix::bstr::{BString, ByteSlice};
use gix::index::entry::{Flags, Mode};
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files of git-lfs beyond the size of a pointer are what its filter made, and are not read again.
const POINTER: u32 = 1024;
/// How many files a thread takes at a time.
const BATCH: usize = 64;

/// Adds readings of unchanged files that need their bytes kept; `cache` names a file with what was found before.
pub(super) fn add_inexact(
    ground: &Ground<'_>,
    shared: &gix::ThreadSafeRepository,
    raw_limit: u64,
    cache: Option<&Path>,
    survey: &mut Survey,
) -> Result<(), SaveError> {
    let repository = shared.to_thread_local();
    let Some(rules) = rules(ground, &repository, survey) else { return Ok(()) };
    let known = cache.map(read_cache).unwrap_or_default();
    let changed: BTreeSet<usize> = survey.found.changed.iter().chain(&survey.found.gone).copied().collect();
    let present: BTreeSet<usize> = survey.found.present.iter().copied().collect();
    let mut wanted = Vec::new();
    let mut exact = Vec::new();
    for (at, entry) in ground.index.entries().iter().enumerate() {
        let skipped = entry.flags.contains(Flags::SKIP_WORKTREE) && !present.contains(&at);
        if !matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE) || skipped || changed.contains(&at) {
            continue;
        }
        let key = key(rules, ground, entry);
        if known.binary_search(&key).is_ok() { exact.push(key) } else { wanted.push((at, key)) }
    }
    if wanted.is_empty() {
        return Ok(());
    }
    let before = exact.len();
    for (at, key, reading) in read_batches(ground, shared, raw_limit, &wanted)? {
        match reading {
            Some(reading) => {
                let path = ground.index.entries()[at].path(ground.index).to_owned();
                survey.readings.insert(path, reading);
            }
            None => exact.push(key),
        }
    }
    if let Some(cache) = cache.filter(|_| exact.len() > before) {
        write_cache(cache, exact);
    }
    Ok(())
}

type Outcome = (usize, u64, Option<Reading>);

fn read_batches(
    ground: &Ground<'_>,
    shared: &gix::ThreadSafeRepository,
    raw_limit: u64,
    wanted: &[(usize, u64)],
) -> Result<Vec<Outcome>, SaveError> {
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Outcome>, SaveError> {
        let filtering = super::content::Filtering::AsGit;
        let repository = shared.to_thread_local();
        let mut reader = Reader::new(repository, ground.root, ground.index, ground.rules, raw_limit, filtering)?;
        let mut outcomes = Vec::new();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = wanted.get(start..).filter(|rest| !rest.is_empty()) else { return Ok(outcomes) };
            for &(at, key) in batch.iter().take(BATCH) {
                let entry = &ground.index.entries()[at];
                let large = entry.stat.size > POINTER;
                let reading = reader.read_inexact(entry.path(ground.index), entry.mode, entry.id, large)?;
                outcomes.push((at, key, reading));
            }
        }
    };
    let threads = if wanted.len() < 2 * BATCH { 1 } else { ground.threads.max(1) };
    let results: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let joined: Vec<_> = others.into_iter().filter_map(|other| other.join().ok()).collect();
        std::iter::once(mine).chain(joined).collect()
    });
    let mut all = Vec::new();
    for result in results {
        all.extend(result?);
    }
    Ok(all)
}

/// A digest of all rules by which git changes content; `None` if there are none.
fn rules(ground: &Ground<'_>, repository: &gix::Repository, survey: &Survey) -> Option<u64> {
    let mut hasher = DefaultHasher::new();
    let mut any = converts_by_settings(repository);
    let is_rule = |path: &[u8]| path.ends_with(b".gitattributes");
    for entry in ground.index.entries() {
        let path = entry.path(ground.index);
        if is_rule(path) {
            any = true;
            (path, entry.id).hash(&mut hasher);
        }
    }
    for (path, reading) in survey.readings.iter().filter(|(path, _)| is_rule(path)) {
        any = true;
        (path, reading.leaf.id).hash(&mut hasher);
    }
    let outside = repository.attribute_global_paths().unwrap_or_default();
    for path in outside.into_iter().chain([repository.common_dir().join("info/attributes")]) {
        if let Ok(bytes) = std::fs::read(&path) {
            any |= !bytes.is_empty();
            (path, bytes).hash(&mut hasher);
        }
    }
    if !any {
        return None;
    }
    let config = repository.config_snapshot();
    for name in ["core.autocrlf", "core.eol"] {
        config.string(name).hash(&mut hasher);
    }
    for section in config.plumbing().sections_by_name("filter").into_iter().flatten() {
        section.header().subsection_name().hash(&mut hasher);
        for name in ["clean", "smudge", "process", "required"] {
            section.value(name).hash(&mut hasher);
        }
    }
    Some(hasher.finish())
}

fn key(rules: u64, ground: &Ground<'_>, entry: &gix::index::Entry) -> u64 {
    let mut hasher = DefaultHasher::new();
    let path: BString = entry.path(ground.index).as_bstr().to_owned();
    (rules, path, entry.id, entry.stat).hash(&mut hasher);
    hasher.finish()
}

fn read_cache(path: &Path) -> Vec<u64> {
    let bytes = std::fs::read(path).unwrap_or_default();
    let mut keys: Vec<u64> =
        bytes.chunks_exact(8).filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?))).collect();
    keys.sort_unstable();
    keys
}

/// A cache that cannot be written costs time, no more.
fn write_cache(path: &Path, mut keys: Vec<u64>) {
    keys.sort_unstable();
    let bytes: Vec<u8> = keys.into_iter().flat_map(u64::to_le_bytes).collect();
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    if std::fs::write(&beside, bytes).is_err() || std::fs::rename(&beside, path).is_err() {
        let _ = std::fs::remove_file(&beside);
    }
}
