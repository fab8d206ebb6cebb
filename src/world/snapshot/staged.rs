//! What the index says beyond HEAD.
//!
//! Owns: comparing HEAD's tree with the index. Must not know: the worktree. Invariant: where the index's cached trees are valid and equal
//! to HEAD's nothing is read, so that the cost grows with what is staged.

use super::SaveError;
use super::index_lines::IndexLine;
use super::layout::{Child, children};
use super::tree::{Leaf, compare, join, leaves, read_tree};
use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::State;
use gix::index::entry::{Flags, Mode};
use gix::index::extension::Tree as CachedTree;
use gix::objs::tree::EntryKind;
use std::collections::BTreeMap;
use std::ops::Range;

/// A path that stands differently in HEAD and in the index.
#[derive(Debug, Clone)]
pub(super) struct Staged {
    /// What HEAD has.
    pub(super) head: Option<Leaf>,
    /// What the index has, one line a stage; nothing if it was removed.
    pub(super) lines: Vec<IndexLine>,
}

/// All paths that differ.
pub(super) type StagedPaths = BTreeMap<BString, Staged>;

/// Compares the tree `head` with `index`.
pub(super) fn find_staged(
    repository: &gix::Repository,
    head: Option<ObjectId>,
    index: &State,
) -> Result<StagedPaths, SaveError> {
    let mut comparison = Comparison { repository, index, staged: BTreeMap::new() };
    let cached = index.tree();
    comparison.directory(b"".as_bstr(), head, 0..index.entries().len(), cached)?;
    Ok(comparison.staged)
}

struct Comparison<'a> {
    repository: &'a gix::Repository,
    index: &'a State,
    staged: StagedPaths,
}

/// A name at one level: in HEAD, in the index as a leaf, and in the index as a directory.
#[derive(Default)]
struct Level {
    head: Option<Leaf>,
    leaf: Option<Range<usize>>,
    directory: Option<Range<usize>>,
    sparse: Option<usize>,
}

impl Comparison<'_> {
    fn directory(
        &mut self,
        prefix: &BStr,
        head: Option<ObjectId>,
        range: Range<usize>,
        cached: Option<&CachedTree>,
    ) -> Result<(), SaveError> {
        let valid = cached.filter(|tree| tree.num_entries.is_some_and(|count| count as usize == range.len()));
        if head.is_some() && valid.map(|tree| tree.id) == head {
            return Ok(());
        }
        let mut levels: BTreeMap<BString, Level> = BTreeMap::new();
        if let Some(id) = head {
            for entry in read_tree(self.repository, id)?.entries {
                levels.entry(entry.filename).or_default().head = Some(Leaf { kind: entry.mode.kind(), id: entry.oid });
            }
        }
        let slashed = if prefix.is_empty() { BString::default() } else { join(prefix, b"".as_bstr()) };
        for (name, child) in children(self.index, slashed.as_bstr(), range) {
            let level = levels.entry(name.to_owned()).or_default();
            match child {
                Child::Leaf(range) => level.leaf = Some(range),
                Child::Directory(range) => level.directory = Some(range),
                Child::Sparse(at) => level.sparse = Some(at),
            }
        }
        for (name, level) in levels {
            let below = cached.and_then(|tree| tree.children.iter().find(|child| child.name[..] == name[..]));
            self.level(&join(prefix, name.as_bstr()), level, below)?;
        }
        Ok(())
    }

    fn level(&mut self, path: &BString, level: Level, cached: Option<&CachedTree>) -> Result<(), SaveError> {
        let head_tree = level.head.filter(|leaf| leaf.kind == EntryKind::Tree).map(|leaf| leaf.id);
        let head_leaf = level.head.filter(|leaf| leaf.kind != EntryKind::Tree);
        let lines: Vec<_> = level.leaf.into_iter().flatten().map(|at| self.line(at)).collect();
        let same = match (&lines[..], head_leaf) {
            ([], None) => true,
            ([line], Some(head)) => line.stage == 0 && !line.intent_to_add && line.leaf == head,
            _ => false,
        };
        if !same {
            self.staged.insert(path.clone(), Staged { head: head_leaf, lines });
        }
        if let Some(at) = level.sparse {
            return self.sparse_directory(path, head_tree, at);
        }
        if head_tree.is_some() || level.directory.is_some() {
            self.directory(path.as_bstr(), head_tree, level.directory.unwrap_or(0..0), cached)?;
        }
        Ok(())
    }

    /// A directory that the index holds as one tree: its files are taken one by one where that tree is not HEAD's.
    fn sparse_directory(&mut self, path: &BString, head: Option<ObjectId>, at: usize) -> Result<(), SaveError> {
        let tree = self.index.entries()[at].id;
        let staged = &mut self.staged;
        compare(self.repository, head, Some(tree), path.as_bstr(), &mut |path, old, new| {
            let lines =
                new.into_iter().map(|leaf| IndexLine { skip_worktree: true, ..IndexLine::plain(leaf) }).collect();
            staged.insert(path, Staged { head: old, lines });
        })
    }

    fn line(&self, at: usize) -> IndexLine {
        index_line(&self.index.entries()[at])
    }
}

/// The entry as a line, without its stat data.
pub(super) fn index_line(entry: &gix::index::Entry) -> IndexLine {
    let kind = entry.mode.to_tree_entry_mode().map_or(EntryKind::Blob, |mode| mode.kind());
    IndexLine {
        leaf: Leaf { kind, id: entry.id },
        stage: u8::try_from(entry.stage_raw()).unwrap_or_default(),
        assume_unchanged: entry.flags.contains(Flags::ASSUME_VALID),
        skip_worktree: entry.flags.contains(Flags::SKIP_WORKTREE),
        intent_to_add: entry.flags.contains(Flags::INTENT_TO_ADD),
        on_disk: false,
        other_size: false,
    }
}

/// The lines of entries that differ from HEAD by a flag only, by path; the entries of a sparse directory are taken one by one.
pub(super) fn find_flagged(
    repository: &gix::Repository,
    index: &State,
    staged: &StagedPaths,
) -> Result<BTreeMap<BString, IndexLine>, SaveError> {
    let flags = Flags::ASSUME_VALID | Flags::SKIP_WORKTREE;
    let mut flagged = BTreeMap::new();
    for entry in index.entries().iter().filter(|entry| entry.flags.intersects(flags)) {
        let path = entry.path(index);
        if entry.mode == Mode::DIR {
            let mut below = BTreeMap::new();
            leaves(repository, entry.id, path.trim_end_with(|c| c == '/').as_bstr(), &mut below)?;
            let line = |leaf| IndexLine { skip_worktree: true, ..IndexLine::plain(leaf) };
            flagged.extend(below.into_iter().map(|(path, leaf)| (path, line(leaf))));
        } else {
            flagged.insert(path.to_owned(), index_line(entry));
        }
    }
    flagged.retain(|path, _| !staged.contains_key(path));
    Ok(flagged)
}

impl Staged {
    /// What the index has there without a conflict; an entry that is only meant to be added has no content.
    pub(super) fn plain(&self) -> Option<Leaf> {
        self.lines.iter().find(|line| line.stage == 0 && !line.intent_to_add).map(|line| line.leaf)
    }

    /// What the index has there, our side of a conflict before theirs.
    pub(super) fn best(&self) -> Option<Leaf> {
        let at = |stage| self.lines.iter().find(|line| line.stage == stage).map(|line| line.leaf);
        self.plain().or_else(|| at(2)).or_else(|| at(3)).or_else(|| at(1))
    }
}
