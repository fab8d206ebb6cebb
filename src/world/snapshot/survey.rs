//! What stands in a worktree beyond its index: the walk, and the contents of what it found.
//!
//! Owns: reading in parallel, and reading again what did not hold still. Must not know: HEAD, objects, commits. Invariant: each content was
//! still the file's when all had been read, or is named as unsettled.

use super::SaveError;
use super::content::{Filtering, Reader, Reading, Rest};
use super::layout::StatRules;
use super::place::FileMark;
use super::walk::{Found, Ground, walk};
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::entry::Mode;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How often everything is looked at again for files that changed meanwhile.
const ROUNDS: usize = 4;
/// A write this soon after another may leave the same time stamp: the kernel's clock ticks this coarsely.
const TICK: Duration = Duration::from_millis(10);

/// What was found and read.
pub(super) struct Survey {
    /// What the walk found.
    pub(super) found: Found,
    /// The contents of files that may differ from the index; a file that is gone by now is not in it.
    pub(super) readings: BTreeMap<BString, Reading>,
}

/// Walks and reads.
pub(super) fn survey(
    ground: &Ground<'_>,
    shared: &gix::ThreadSafeRepository,
    raw_limit: u64,
    filtering: Filtering,
) -> Result<Survey, SaveError> {
    let found = walk(ground)?;
    let entries = ground.index.entries();
    let tracked = found.changed.iter().map(|&at| (entries[at].path(ground.index).to_owned(), Some(entries[at].mode)));
    let untracked = found.untracked.iter().map(|path| (path.clone(), None));
    let wanted: Vec<_> = tracked.chain(untracked).collect();
    let reading = Desk { ground, shared, raw_limit, filtering, rules: ground.rules };
    let mut readings = reading.read_all(&wanted)?;
    reading.settle(&wanted, &mut readings)?;
    Ok(Survey { found, readings })
}

type Wanted = (BString, Option<Mode>);

struct Desk<'a> {
    ground: &'a Ground<'a>,
    shared: &'a gix::ThreadSafeRepository,
    raw_limit: u64,
    filtering: Filtering,
    rules: StatRules,
}

impl Desk<'_> {
    fn read_all(&self, wanted: &[Wanted]) -> Result<BTreeMap<BString, Reading>, SaveError> {
        if wanted.is_empty() {
            return Ok(BTreeMap::new());
        }
        let threads = if wanted.len() < 16 { 1 } else { self.ground.threads.max(1) };
        let queue = Mutex::new(wanted.iter());
        let results: Vec<_> = std::thread::scope(|scope| {
            let others: Vec<_> = (1..threads).map(|_| scope.spawn(|| self.read_from(&queue))).collect();
            let mine = self.read_from(&queue);
            let joined: Vec<_> = others.into_iter().filter_map(|other| other.join().ok()).collect();
            std::iter::once(mine).chain(joined).collect()
        });
        let mut all = BTreeMap::new();
        for result in results {
            all.extend(result?);
        }
        Ok(all)
    }

    fn read_from(&self, queue: &Mutex<std::slice::Iter<'_, Wanted>>) -> Result<Vec<(BString, Reading)>, SaveError> {
        let repository = self.shared.to_thread_local();
        let (root, index) = (self.ground.root, self.ground.index);
        let mut reader = Reader::new(repository, root, index, self.rules, self.raw_limit, self.filtering)?;
        let mut readings = Vec::new();
        loop {
            let Some((path, mode)) = queue.lock().unwrap_or_else(PoisonError::into_inner).next() else { break };
            if let Some(reading) = reader.read(path.as_bstr(), *mode)? {
                readings.push((path.clone(), reading));
            }
        }
        Ok(readings)
    }

    /// Reads again what changed since it was read, or may have within the clock's tick, until all holds still.
    fn settle(&self, wanted: &[Wanted], readings: &mut BTreeMap<BString, Reading>) -> Result<(), SaveError> {
        let mut hot = wait_for_tick(readings);
        for round in 0..ROUNDS {
            let restless: Vec<Wanted> = wanted
                .iter()
                .filter(|(path, _)| hot.contains(path) || !self.holds(path.as_bstr(), readings.get(path)))
                .cloned()
                .collect();
            if restless.is_empty() {
                return Ok(());
            }
            let mut again = self.read_all(&restless)?;
            for (path, _) in &restless {
                let reading = again.remove(path);
                let last = round + 1 == ROUNDS;
                let unsettled = last && !hot.contains(path);
                let reading = reading
                    .map(|reading| if unsettled { Reading { rest: Rest::Unsettled, ..reading } } else { reading });
                match reading {
                    Some(reading) => readings.insert(path.clone(), reading),
                    None => readings.remove(path),
                };
            }
            hot.clear();
        }
        Ok(())
    }

    fn holds(&self, path: &BStr, reading: Option<&Reading>) -> bool {
        let absolute: PathBuf = self.ground.root.join(std::ffi::OsStr::from_bytes(path));
        match reading {
            Some(reading) => reading.rest == Rest::Settled && FileMark::at(&absolute) == Some(reading.mark),
            // Gone when it was read: still so, or come back as a file?
            None => rustix::fs::lstat(&absolute).map_or(true, |stat| {
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                !matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Symlink)
            }),
        }
    }
}

/// The files that were written within the clock's last tick; returns once that tick is over.
fn wait_for_tick(readings: &BTreeMap<BString, Reading>) -> std::collections::BTreeSet<BString> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let age = |reading: &Reading| {
        let (seconds, nanoseconds) = reading.mark.modified();
        let seconds = u64::try_from(seconds).unwrap_or_default();
        let written = Duration::new(seconds, u32::try_from(nanoseconds).unwrap_or_default());
        now.checked_sub(written).unwrap_or_default()
    };
    let hot: std::collections::BTreeSet<_> =
        readings.iter().filter(|(_, reading)| age(reading) < TICK).map(|(path, _)| path.clone()).collect();
    if !hot.is_empty() {
        std::thread::sleep(TICK);
    }
    hot
}
