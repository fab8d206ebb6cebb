//! The index as a snapshot keeps it: what it says beyond the base commit, without stat data.
//!
//! Owns: the text form of `index` in a state commit. Must not know: git's own index format. Invariant: the same index gives the same bytes.
//!
//! Records end with a NUL. `-\t<path>`: the base has it, the index has not. `<mode> <id> <stage> <flags>\t<path>`: an entry, with flags out
//! of `a` (assume unchanged), `s` (skip worktree), `w` (skipped, but in the worktree all the same), `i` (intent to add), `m` (git calls it
//! modified by its size alone), or `.` for none.

use super::tree::Leaf;
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::tree::{EntryKind, EntryMode};
use std::collections::BTreeMap;
use std::io::Write;

/// One entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "these are the index's own flags, free of each other")]
pub(super) struct IndexLine {
    pub(super) leaf: Leaf,
    pub(super) stage: u8,
    pub(super) assume_unchanged: bool,
    pub(super) skip_worktree: bool,
    pub(super) intent_to_add: bool,
    /// Though skipped, the file is in the worktree.
    pub(super) on_disk: bool,
    /// Git calls the file modified since its size is another one, though its content comes to the same after the filters.
    pub(super) other_size: bool,
}

/// What the index says at a path: nothing (it was removed), or one line a stage.
pub(super) type IndexLines = BTreeMap<BString, Vec<IndexLine>>;

impl IndexLine {
    /// An entry without any flag.
    pub(super) fn plain(leaf: Leaf) -> Self {
        let (assume_unchanged, skip_worktree, intent_to_add) = (false, false, false);
        Self { leaf, stage: 0, assume_unchanged, skip_worktree, intent_to_add, on_disk: false, other_size: false }
    }
}

/// The bytes of `lines`.
pub(super) fn encode(lines: &IndexLines) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, entries) in lines {
        if entries.is_empty() {
            bytes.extend_from_slice(b"-\t");
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
        for line in entries {
            let letters = [
                (line.assume_unchanged, 'a'),
                (line.skip_worktree, 's'),
                (line.on_disk, 'w'),
                (line.intent_to_add, 'i'),
                (line.other_size, 'm'),
            ];
            let mut flags: String = letters.iter().filter(|(set, _)| *set).map(|(_, letter)| letter).collect();
            if flags.is_empty() {
                flags.push('.');
            }
            // Writing into memory does not fail.
            let mode = EntryMode::from(line.leaf.kind).value();
            let _ = write!(bytes, "{mode:06o} {} {} {flags}\t", line.leaf.id, line.stage);
            bytes.extend_from_slice(path);
            bytes.push(0);
        }
    }
    bytes
}

/// The lines in `bytes`; `None` if they are not what [`encode`] writes.
pub(super) fn decode(bytes: &[u8]) -> Option<IndexLines> {
    let mut lines = IndexLines::new();
    for record in bytes.split(|&byte| byte == 0).filter(|record| !record.is_empty()) {
        let (head, path) = record.split_once_str("\t")?;
        let slot = lines.entry(BString::from(path)).or_default();
        if head == b"-" {
            continue;
        }
        let mut words = head.to_str().ok()?.split(' ');
        let mode = u16::from_str_radix(words.next()?, 8).ok()?;
        let id = ObjectId::from_hex(words.next()?.as_bytes()).ok()?;
        let stage = words.next()?.parse().ok().filter(|stage| *stage <= 3)?;
        let flags = words.next()?;
        let kind = kind_of(mode)?;
        slot.push(IndexLine {
            leaf: Leaf { kind, id },
            stage,
            assume_unchanged: flags.contains('a'),
            skip_worktree: flags.contains('s'),
            intent_to_add: flags.contains('i'),
            on_disk: flags.contains('w'),
            other_size: flags.contains('m'),
        });
    }
    Some(lines)
}

/// The kind of thing that a mode of the index stands for.
pub(super) fn kind_of(mode: u16) -> Option<EntryKind> {
    [EntryKind::Blob, EntryKind::BlobExecutable, EntryKind::Link, EntryKind::Commit]
        .into_iter()
        .find(|kind| EntryMode::from(*kind).value() == mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn leaf(kind: EntryKind, digit: u8) -> Leaf {
        Leaf { kind, id: ObjectId::from([digit; 20]) }
    }

    #[test]
    fn lines_survive_encoding() {
        let mut lines = IndexLines::new();
        lines.insert("gone\nname".into(), Vec::new());
        let conflict = |stage| IndexLine { stage, ..IndexLine::plain(leaf(EntryKind::BlobExecutable, stage)) };
        lines.insert(BString::from(b"conf\tlict \xff".to_vec()), vec![conflict(1), conflict(2), conflict(3)]);
        let flagged = IndexLine {
            assume_unchanged: true,
            skip_worktree: true,
            intent_to_add: true,
            on_disk: true,
            other_size: true,
            ..IndexLine::plain(leaf(EntryKind::Link, 9))
        };
        lines.insert("flagged".into(), vec![flagged]);
        lines.insert("module".into(), vec![IndexLine::plain(leaf(EntryKind::Commit, 7))]);
        assert_eq!(decode(&encode(&lines)), Some(lines));
    }

    #[test]
    fn other_bytes_are_refused() {
        for bytes in
            [&b"nonsense"[..], b"040000 0101010101010101010101010101010101010101 0 .\tx\0", b"100644 01 0 .\tx\0"]
        {
            assert_eq!(decode(bytes), None);
        }
    }
}
