//! One directory of the index: its children, and whether a file's stat data says that it is unchanged.
//!
//! Owns: reading the sorted index as a tree. Must not know: what is on disk beyond one stat. Invariant: an entry is called unchanged
//! only if git itself would not look at the content either; the assume-unchanged flag is not believed.

use gix::bstr::{BStr, ByteSlice};
use gix::index::State;
use gix::index::entry::{Flags, Mode};
use rustix::fs::{FileType, Stat};
use std::ops::Range;

/// A child of a directory in the index.
#[derive(Debug, Clone)]
pub(super) enum Child {
    /// A file, link or submodule: the range of its entries (one for each stage).
    Leaf(Range<usize>),
    /// A directory: the range of the entries below it.
    Directory(Range<usize>),
    /// A directory that a sparse index holds as one entry.
    Sparse(usize),
}

/// The children of the directory `prefix` (empty, or with a slash at its end) whose entries are `range`, in the index's order.
pub(super) fn children<'i>(index: &'i State, prefix: &BStr, range: Range<usize>) -> Vec<(&'i BStr, Child)> {
    let (entries, backing) = (index.entries(), index.path_backing());
    let tail = |at: usize| &entries[at].path_in(backing)[prefix.len()..];
    let mut children = Vec::new();
    let mut at = range.start;
    while at < range.end {
        let name_and_more = tail(at);
        if let Some(slash) = name_and_more.find_byte(b'/') {
            let name = name_and_more[..slash].as_bstr();
            if slash + 1 == name_and_more.len() {
                children.push((name, Child::Sparse(at)));
                at += 1;
                continue;
            }
            let end = end_of_run(at, range.end, |other| tail(other).starts_with(&name_and_more[..=slash]));
            children.push((name, Child::Directory(at..end)));
            at = end;
        } else {
            let mut end = at + 1;
            while end < range.end && tail(end) == name_and_more {
                end += 1;
            }
            children.push((name_and_more.as_bstr(), Child::Leaf(at..end)));
            at = end;
        }
    }
    children
}

/// The first position after `start` at which `belongs` fails, found by doubling steps: entries that belong stand together.
fn end_of_run(start: usize, limit: usize, belongs: impl Fn(usize) -> bool) -> usize {
    let (mut inside, mut step) = (start, 1);
    while inside + step < limit && belongs(inside + step) {
        inside += step;
        step *= 2;
    }
    let (mut low, mut high) = (inside + 1, (inside + step).min(limit));
    while low < high {
        let middle = low.midpoint(high);
        if belongs(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The index, if it has a file called `name` anywhere: the library looks through all of it for such files, and once for each thread.
pub(super) fn index_with_rules<'i>(index: &'i State, name: &[u8]) -> Option<&'i State> {
    let backing = index.path_backing();
    let is_rules = |path: &BStr| {
        let start = path.len().checked_sub(name.len());
        start.is_some_and(|start| path[start..].eq_ignore_ascii_case(name))
    };
    index.entries().iter().any(|entry| is_rules(entry.path_in(backing))).then_some(index)
}

/// Which stat fields count, as the repository's settings say.
#[derive(Debug, Clone, Copy)]
pub(super) struct StatRules {
    /// The executable bit on disk means something.
    pub(super) file_mode: FileModes,
    /// Links are links on disk.
    pub(super) symlinks: Symlinks,
    trust_ctime: bool,
    check_identity: bool,
    index_time: (i64, u32),
}

/// Whether the executable bit on disk means something (`core.fileMode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum FileModes {
    /// It does.
    Trusted,
    /// It does not: the index decides.
    FromIndex,
}

/// How links are checked out (`core.symlinks`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Symlinks {
    /// As links.
    Real,
    /// As files that hold the target.
    AsFiles,
}

impl StatRules {
    /// The rules of `repository` for an index that was written at `index_time`.
    pub(super) fn new(repository: &gix::Repository, index: &State) -> Self {
        let config = repository.config_snapshot();
        let on = |key: &str| config.boolean(key).unwrap_or(true);
        let minimal = config.string("core.checkStat").is_some_and(|value| value.eq_ignore_ascii_case(b"minimal"));
        let time = index.timestamp();
        Self {
            file_mode: if on("core.fileMode") { FileModes::Trusted } else { FileModes::FromIndex },
            symlinks: if on("core.symlinks") { Symlinks::Real } else { Symlinks::AsFiles },
            trust_ctime: on("core.trustctime"),
            check_identity: !minimal,
            index_time: (time.unix_seconds(), time.nanoseconds()),
        }
    }

    /// The rules of a directory without an index or settings.
    pub(super) fn of_directory() -> Self {
        Self {
            file_mode: FileModes::Trusted,
            symlinks: Symlinks::Real,
            trust_ctime: true,
            check_identity: true,
            index_time: (0, 0),
        }
    }

    /// Whether `stat` proves that the file still is what `entry` was made from.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index keeps the low 32 bits")]
    #[allow(clippy::unnecessary_cast, clippy::useless_conversion, reason = "the widths differ between systems")]
    pub(super) fn prove_unchanged(&self, entry: &gix::index::Entry, stat: &Stat) -> bool {
        let known = &entry.stat;
        if entry.flags.contains(Flags::INTENT_TO_ADD) || entry.stage_raw() != 0 || !self.same_kind(entry.mode, stat) {
            return false;
        }
        // A size of 0 is git's mark for an entry whose time it does not trust.
        if known.size != stat.st_size as u32 || (known.size == 0 && !entry.id.is_empty_blob()) {
            return false;
        }
        if known.mtime.secs != stat.st_mtime as u32 || differs(known.mtime.nsecs, stat.st_mtime_nsec as u32) {
            return false;
        }
        let changed_since = known.ctime.secs != stat.st_ctime as u32
            || (self.check_identity && differs(known.ctime.nsecs, stat.st_ctime_nsec as u32));
        if self.trust_ctime && changed_since {
            return false;
        }
        let same_file = known.ino == stat.st_ino as u32 && known.uid == stat.st_uid && known.gid == stat.st_gid;
        if self.check_identity && !same_file {
            return false;
        }
        (i64::from(known.mtime.secs), known.mtime.nsecs) < self.index_time
    }

    fn same_kind(&self, mode: Mode, stat: &Stat) -> bool {
        match (FileType::from_raw_mode(stat.st_mode), mode) {
            (FileType::Symlink, Mode::SYMLINK) => true,
            (FileType::RegularFile, Mode::SYMLINK) => self.symlinks == Symlinks::AsFiles,
            (FileType::RegularFile, Mode::FILE | Mode::FILE_EXECUTABLE) => {
                self.file_mode == FileModes::FromIndex || (mode == Mode::FILE_EXECUTABLE) == is_executable(stat)
            }
            _ => false,
        }
    }
}

/// Whether the owner may execute it.
pub(super) fn is_executable(stat: &Stat) -> bool {
    stat.st_mode & 0o100 != 0
}

/// Nanoseconds count where both sides have them: not every writer of an index, and not every file system, does.
fn differs(known: u32, seen: u32) -> bool {
    known != 0 && seen != 0 && known != seen
}
