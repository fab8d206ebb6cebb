//! Unchanged files whose bytes a checkout would not give back: git calls them clean, since it compares after its filters.
//!
//! Owns: finding them, and remembering which are known to come back. Must not know: how they are kept. Invariant: a file is passed over
//! only if its bytes were compared, or where the worktree has no rules (any more) its size; or if they were under the same rules, content and
//! stat data before.

use super::SaveError;
use super::content::{Reader, Reading, converts_by_settings};
use super::survey::Survey;
use super::walk::Ground;
use gix::ObjectId;
use gix::index::Entry;
use gix::index::entry::{Flags, Mode};
use std::collections::BTreeSet;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Files of git-lfs beyond the size of a pointer are what its filter made, and are not read again.
const POINTER: u32 = 1024;
/// Bytes of a key in the cache.
const KEY: usize = 8;
/// How many files a thread takes at a time.
const BATCH: usize = 64;

/// What is compared of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Compare {
    /// Its bytes, as rules change them.
    Bytes,
    /// Its size first: there are no rules, but there may have been when it was checked out.
    Size,
}

/// All rules by which git changes content.
#[derive(Debug, Clone, Copy, Hash)]
struct Rules {
    compare: Compare,
    digest: u64,
}

/// Adds readings of unchanged files that need their bytes kept; `cache` names a file with what was found before, and `checksum` is that of
/// the index.
pub(super) fn add_inexact(
    ground: &Ground<'_>,
    shared: &gix::ThreadSafeRepository,
    raw_limit: u64,
    cache: Option<&Path>,
    checksum: Option<ObjectId>,
    survey: &mut Survey,
) -> Result<(), SaveError> {
    let rules = rules(ground, &shared.to_thread_local(), survey);
    let cached = cache.map(|cache| std::fs::read(cache).unwrap_or_default()).unwrap_or_default();
    let changed: BTreeSet<usize> = survey.found.changed.iter().chain(&survey.found.gone).copied().collect();
    let present: BTreeSet<usize> = survey.found.present.iter().copied().collect();
    // All that an index with this checksum calls unchanged, beside what has changed: that is not compared, and may be put back.
    let whole = checksum.map(|checksum| hash_of(&(rules, checksum, &changed, &present)));
    if whole.is_some_and(|whole| cached.chunks_exact(KEY).any(|key| key == whole.to_le_bytes())) {
        return Ok(());
    }
    let known = keys_in(&cached);
    let mut wanted = Vec::new();
    let mut exact = Vec::new();
    for (at, entry) in ground.index.entries().iter().enumerate() {
        let skipped = entry.flags.contains(Flags::SKIP_WORKTREE) && !present.contains(&at);
        if !matches!(entry.mode, Mode::FILE | Mode::FILE_EXECUTABLE) || skipped || changed.contains(&at) {
            continue;
        }
        let key = hash_of(&(rules, entry.path(ground.index), entry.id, entry.stat));
        if known.binary_search(&key).is_ok() { exact.push(key) } else { wanted.push((at, key)) }
    }
    let mut inexact = 0;
    for (at, key, reading) in read_batches(ground, shared, raw_limit, rules.compare, &wanted)? {
        match reading {
            Some(reading) => {
                inexact += 1;
                let entry = &ground.index.entries()[at];
                if reading.leaf.id != entry.id && git_looks_at_content(ground, entry) {
                    survey.found.changed.push(at);
                }
                survey.readings.insert(entry.path(ground.index).to_owned(), reading);
            }
            None => exact.push(key),
        }
    }
    survey.found.changed.sort_unstable();
    exact.extend(whole.filter(|_| inexact == 0));
    exact.sort_unstable();
    if let Some(cache) = cache.filter(|_| exact != known) {
        write_cache(cache, &exact);
    }
    Ok(())
}

/// Whether git believes its index of this file in spite of equal stat data: not if both are of one second, as it is built most often.
fn git_looks_at_content(ground: &Ground<'_>, entry: &Entry) -> bool {
    i64::from(entry.stat.mtime.secs) >= ground.index.timestamp().unix_seconds()
}

type Outcome = (usize, u64, Option<Reading>);

fn read_batches(
    ground: &Ground<'_>,
    shared: &gix::ThreadSafeRepository,
    raw_limit: u64,
    compare: Compare,
    wanted: &[(usize, u64)],
) -> Result<Vec<Outcome>, SaveError> {
    if wanted.is_empty() {
        return Ok(Vec::new());
    }
    let next = AtomicUsize::new(0);
    let work = || -> Result<Vec<Outcome>, SaveError> {
        let filtering = super::content::Filtering::AsGit;
        let mut reader =
            Reader::new(shared.to_thread_local(), ground.root, ground.index, ground.rules, raw_limit, filtering)?;
        let mut outcomes = Vec::new();
        loop {
            let start = next.fetch_add(BATCH, Ordering::Relaxed);
            let Some(batch) = wanted.get(start..).filter(|rest| !rest.is_empty()) else { return Ok(outcomes) };
            for &(at, key) in batch.iter().take(BATCH) {
                let entry = &ground.index.entries()[at];
                let large = entry.stat.size > POINTER;
                let reading = match compare {
                    Compare::Size if reader.is_of_blob_size(entry) => None,
                    _ => reader.read_inexact(entry.path(ground.index), entry.mode, entry.id, large)?,
                };
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

fn rules(ground: &Ground<'_>, repository: &gix::Repository, survey: &Survey) -> Rules {
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
        return Rules { compare: Compare::Size, digest: 0 };
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
    Rules { compare: Compare::Bytes, digest: hasher.finish() }
}

fn hash_of(what: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    what.hash(&mut hasher);
    hasher.finish()
}

fn keys_in(cache: &[u8]) -> Vec<u64> {
    let mut keys: Vec<u64> =
        cache.chunks_exact(KEY).filter_map(|chunk| Some(u64::from_le_bytes(chunk.try_into().ok()?))).collect();
    keys.sort_unstable();
    keys
}

/// A cache that cannot be written costs time, no more.
fn write_cache(path: &Path, keys: &[u64]) {
    let bytes: Vec<u8> = keys.iter().copied().flat_map(u64::to_le_bytes).collect();
    let beside = path.with_extension(format!("{}.tmp", std::process::id()));
    if std::fs::write(&beside, bytes).is_err() || std::fs::rename(&beside, path).is_err() {
        let _ = std::fs::remove_file(&beside);
    }
}
