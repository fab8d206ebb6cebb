//! The index of a restored worktree.
//!
//! Owns: writing git's index file from a snapshot. Must not know: how the files got there. Invariant: an entry gets stat data only if its
//! file was written from the entry's own content, so that git looks at all others.

use super::index_lines::{IndexLine, IndexLines};
use super::resolve_undo::add_resolved;
use super::restore_error::RestoreError;
use super::state::{IndexPresence, SnapshotParts, State};
use super::tree::{Leaf, leaves, tree_of_commit};
use super::{Cause, WorktreePlace};
use gix::bstr::{BString, ByteSlice};
use gix::index::entry::{Flags, Mode, Stat as IndexStat, stat::Time};
use gix::objs::tree::EntryKind;
use rustix::fs::Stat;
use std::collections::BTreeMap;

/// Writes the index: the base's entries, with the snapshot's lines over them. Stat data goes only to entries whose file was written from
/// the entry's own content.
pub(super) fn write_index(
    place: &WorktreePlace,
    repository: &gix::Repository,
    parts: &SnapshotParts,
    state: &State,
    files: &BTreeMap<BString, Leaf>,
    fresh: &BTreeMap<BString, IndexStat>,
) -> Result<(), RestoreError> {
    let path = place.index_path();
    let failed = |source: Cause| RestoreError::Index { path: path.clone(), source };
    if state.facts.index == IndexPresence::Absent {
        return match std::fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(failed(error.into())),
            _ => Ok(()),
        };
    }
    let mut base = BTreeMap::new();
    if let Some(commit) = parts.base {
        leaves(repository, tree_of_commit(repository, commit)?, b"".as_bstr(), &mut base)?;
    }
    let mut lines: IndexLines = base.into_iter().map(|(path, leaf)| (path, vec![IndexLine::plain(leaf)])).collect();
    lines.extend(state.lines.clone());
    let mut index = gix::index::State::new(repository.object_hash());
    for (path, line) in lines.iter().flat_map(|(path, lines)| lines.iter().map(move |line| (path, line))) {
        let is_own = line.stage == 0 && !line.intent_to_add && files.get(path) == Some(&line.leaf);
        let fresh = fresh.get(path).copied().filter(|_| is_own).unwrap_or_default();
        let stat = if line.other_size { of_other_size(fresh) } else { fresh };
        index.dangerously_push_entry(stat, line.leaf.id, line.flags(), mode_of(line.leaf.kind), path.as_bstr());
    }
    index.sort_entries();
    let mut file = gix::index::File::from_state(index, path.clone());
    file.write(gix::index::write::Options::default()).map_err(|source| failed(source.into()))?;
    add_resolved(&path, repository.object_hash(), &state.resolved)
}

impl IndexLine {
    fn flags(&self) -> Flags {
        let mut flags = Flags::from_bits_truncate(u32::from(self.stage) << 12);
        flags.set(Flags::ASSUME_VALID, self.assume_unchanged);
        flags.set(Flags::SKIP_WORKTREE | Flags::EXTENDED, self.skip_worktree);
        if self.intent_to_add {
            flags.insert(Flags::INTENT_TO_ADD | Flags::EXTENDED);
        }
        flags
    }
}

/// What makes git call a file modified without a look at its content: a size that it has not.
fn of_other_size(fresh: IndexStat) -> IndexStat {
    IndexStat { size: if fresh.size == 1 { 2 } else { 1 }, ..IndexStat::default() }
}

fn mode_of(kind: EntryKind) -> Mode {
    kind.into()
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the index keeps the low 32 bits")]
#[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
pub(super) fn index_stat(stat: &Stat) -> IndexStat {
    IndexStat {
        mtime: Time { secs: stat.st_mtime as u32, nsecs: stat.st_mtime_nsec as u32 },
        ctime: Time { secs: stat.st_ctime as u32, nsecs: stat.st_ctime_nsec as u32 },
        dev: stat.st_dev as u32,
        ino: stat.st_ino as u32,
        uid: stat.st_uid,
        gid: stat.st_gid,
        size: stat.st_size as u32,
    }
}
