//! What stands in a worktree beyond its index: the walk, and the contents of what it found.
//!
//! Owns: reading in parallel, and reading again what did not hold still. Must not know: HEAD, objects, commits. Invariant: each content was
//! still the file's when all had been read, or is named as unsettled.

use super::SaveError;
use super::content::{Filtering, Reader, Reading, Rest};
use super::layout::StatRules;
use super::place::FileMark;
use super::walk::{Found, Ground, walk};
use crate::world::clock::read_stamping_clock;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::entry::Mode;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::PoisonError;
use std::time::Duration;

/// How often everything is looked at again for files that changed meanwhile.
const ROUNDS: usize = 4;
/// The longest tick of the kernel's clock: a write this soon after another may leave the same time stamp.
const LONGEST_TICK: Duration = Duration::from_millis(10);
/// So long after its last change a file is looked at once more: whoever has begun to write it (emptied it, say) goes on soon.
const QUIET: Duration = Duration::from_millis(10);
/// The same for one that is being emptied: a busy disk may hold its writer up.
const QUIET_WHILE_EMPTYING: Duration = Duration::from_millis(250);
/// So often the clock is asked whether it has moved on.
const LOOK_AT_CLOCK: Duration = Duration::from_micros(500);

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
        for _ in 0..ROUNDS {
            let restless = self.restless(wanted, readings);
            if restless.is_empty() {
                return Ok(());
            }
            wait_for_next_tick();
            let mut again = self.read_all(&restless)?;
            for (path, _) in restless {
                match again.remove(&path) {
                    Some(reading) => readings.insert(path, reading),
                    None => readings.remove(&path),
                };
            }
        }
        for (path, _) in self.restless(wanted, readings) {
            readings.entry(path).and_modify(|reading| reading.rest = Rest::Unsettled);
        }
        Ok(())
    }

    fn restless(&self, wanted: &[Wanted], readings: &BTreeMap<BString, Reading>) -> Vec<Wanted> {
        let holds = |path: &BString| self.holds(path.as_bstr(), readings.get(path));
        wanted.iter().filter(|(path, _)| !holds(path)).cloned().collect()
    }

    fn holds(&self, path: &BStr, reading: Option<&Reading>) -> bool {
        let absolute: PathBuf = self.ground.root.join(std::ffi::OsStr::from_bytes(path));
        match reading {
            Some(reading) => {
                let settled = reading.rest == Rest::Settled && !is_hot(reading);
                settled && FileMark::at(&absolute) == Some(reading.mark)
            }
            // Gone when it was read: still so, or come back as a file?
            None => rustix::fs::lstat(&absolute).map_or(true, |stat| {
                let kind = rustix::fs::FileType::from_raw_mode(stat.st_mode);
                !matches!(kind, rustix::fs::FileType::RegularFile | rustix::fs::FileType::Symlink)
            }),
        }
    }
}

/// The files that have changed since they were read, having held still while they were. Those that were written just before get time to
/// change.
pub(super) fn find_moved(root: &Path, readings: &BTreeMap<BString, Reading>) -> Vec<BString> {
    let settled = || readings.iter().filter(|(_, reading)| reading.rest == Rest::Settled);
    let still = |path: &BString, reading: &Reading| {
        FileMark::at(&root.join(std::ffi::OsStr::from_bytes(path))) == Some(reading.mark)
    };
    while settled().any(|(path, reading)| !is_quiet(reading) && still(path, reading)) {
        std::thread::sleep(LOOK_AT_CLOCK);
    }
    settled().filter(|(path, reading)| !still(path, reading)).map(|(path, _)| path.clone()).collect()
}

/// Whether the file has been left alone for so long that nobody seems to be in the middle of writing it.
fn is_quiet(reading: &Reading) -> bool {
    let quiet = if reading.mark.is_emptying() { QUIET_WHILE_EMPTYING } else { QUIET };
    let age = nanoseconds(read_stamping_clock()) - nanoseconds(reading.mark.changed());
    // A stamp far ahead of the clock is another clock's.
    age >= quiet.as_nanos().cast_signed() || -age >= quiet.as_nanos().cast_signed()
}

/// Waits until what is written gets another stamp than what was written before.
fn wait_for_next_tick() {
    let before = read_stamping_clock();
    let mut waited = Duration::ZERO;
    while waited < LONGEST_TICK && read_stamping_clock() <= before {
        std::thread::sleep(LOOK_AT_CLOCK);
        waited += LOOK_AT_CLOCK;
    }
}

/// Whether the file was changed so shortly before it was read that one more write would not show: within the tick that was not over yet.
fn is_hot(reading: &Reading) -> bool {
    let (changed, seen) = (nanoseconds(reading.mark.changed()), nanoseconds(reading.seen_at));
    // A stamp further ahead comes from another clock, of which ours says nothing.
    changed >= seen && changed - seen < LONGEST_TICK.as_nanos().cast_signed()
}

fn nanoseconds((seconds, nanoseconds): (i64, i64)) -> i128 {
    i128::from(seconds) * 1_000_000_000 + i128::from(nanoseconds)
}
