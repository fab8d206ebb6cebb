//! What a snapshot is made of, as it was found.
//!
//! Owns: laying what stands in a worktree over what its index says. Must not know: objects that are yet to be made, or how anything was
//! found. Invariant: a path at which nothing was found to differ stands as the index has it.

use super::content::{Held, Reading, Rest};
use super::index_lines::{IndexLine, IndexLines};
use super::operation::{self, OperationFiles};
use super::place::Head;
use super::staged::StagedPaths;
use super::state::{IndexPresence, Origin};
use super::submodule::look_at_submodule;
use super::tree::Leaf;
use super::walk::Found;
use super::{NotSaved, Warning};
use gix::bstr::BString;
use gix::index::State;
use gix::objs::tree::EntryKind;
use std::collections::BTreeMap;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// What a snapshot is made of, found but not yet written.
pub(super) struct Draft {
    pub(super) origin: Origin,
    pub(super) head: Head,
    pub(super) presence: IndexPresence,
    pub(super) staged: StagedPaths,
    pub(super) flagged: BTreeMap<BString, IndexLine>,
    pub(super) resolved: IndexLines,
    pub(super) operation: OperationFiles,
    /// What stands at a path in HEAD and in the worktree, where that may differ.
    pub(super) changes: Changes,
    pub(super) readings: BTreeMap<BString, Reading>,
    pub(super) warnings: Vec<Warning>,
    pub(super) not_saved: Vec<NotSaved>,
    pub(super) ignored: usize,
}

/// Old and new at a path.
pub(super) type Changes = BTreeMap<BString, (Option<Leaf>, Option<Leaf>)>;

impl Draft {
    /// Lays what was found in the worktree over what the index says.
    pub(super) fn overlay(&mut self, index: &State, found: &Found) {
        let entry_leaf = |at: usize| super::staged::index_line(&index.entries()[at]).leaf;
        let path = |at: usize| index.entries()[at].path(index).to_owned();
        for &at in &found.gone {
            self.change(path(at), Some(entry_leaf(at)), None);
        }
        for &at in &found.changed {
            let reading = self.readings.get(&path(at));
            let now = reading.map(|reading| reading.leaf);
            if reading.is_some_and(|reading| reading.differs_by_size_alone(&index.entries()[at])) {
                let plain = super::staged::index_line(&index.entries()[at]);
                let staged = self.staged.get_mut(&path(at)).and_then(|staged| staged.lines.first_mut());
                staged.unwrap_or_else(|| self.flagged.entry(path(at)).or_insert(plain)).other_size = true;
            }
            self.change(path(at), Some(entry_leaf(at)), now);
        }
        for path in &found.untracked {
            if let Some(now) = self.readings.get(path).map(|reading| reading.leaf) {
                self.change(path.clone(), None, Some(now));
                // What the index has below a file (a sparse checkout left it out) cannot stand there too.
                let below = [path.as_slice(), b"/"].concat();
                let hidden = self.changes.range_mut(BString::from(below.as_slice())..);
                hidden.take_while(|(path, _)| path.starts_with(&below)).for_each(|(_, (_, now))| *now = None);
            }
        }
        let present = found.present.iter().map(|&at| path(at));
        // What a sparse index holds as one directory is walked as if it were untracked.
        for path in present.chain(found.untracked.iter().cloned()) {
            let staged = self.staged.get_mut(&path).into_iter().flat_map(|staged| staged.lines.iter_mut());
            for line in staged.chain(self.flagged.get_mut(&path)).filter(|line| line.skip_worktree) {
                line.on_disk = true;
            }
        }
        self.warn_of_readings();
    }

    /// Takes over what is to be said about the files that were read.
    pub(super) fn warn_of_readings(&mut self) {
        for (path, reading) in &self.readings {
            if reading.rest == Rest::Unsettled {
                self.warnings.push(Warning::Unsettled(path.clone()));
            }
            if let Some(said) = &reading.filter_failure {
                self.warnings.push(Warning::FilterFailed(path.clone(), said.clone()));
            }
            if let Some(reason) = reading.not_exact {
                self.not_saved.push(NotSaved { path: path.clone(), reason });
            }
        }
    }

    /// Notes what stands at `path` now; `in_index` is what HEAD has there too unless something is staged.
    fn change(&mut self, path: BString, in_index: Option<Leaf>, now: Option<Leaf>) {
        let flagged = self.flagged.get(&path).map(|line| line.leaf);
        let head = self.staged.get(&path).map_or(in_index.or(flagged), |staged| staged.head);
        self.changes.insert(path, (head, now));
    }

    pub(super) fn overlay_submodules(&mut self, index: &State, found: &Found, root: &Path) {
        for &at in &found.submodules {
            let entry = &index.entries()[at];
            let path = entry.path(index).to_owned();
            let look = look_at_submodule(&root.join(std::ffi::OsStr::from_bytes(&path)));
            self.not_saved.extend(look.not_saved.iter().map(|&reason| NotSaved { path: path.clone(), reason }));
            let Some(commit) = look.commit else { continue };
            self.warnings.push(Warning::Submodule(path.clone()));
            if commit != entry.id {
                let leaf = |id| Leaf { kind: EntryKind::Commit, id };
                self.change(path, Some(leaf(entry.id)), Some(leaf(commit)));
            }
        }
    }

    /// How many bytes the files have that differ from the base and are there.
    pub(super) fn content_bytes(&self, repository: &gix::Repository) -> u64 {
        let present = self.changes.iter().filter_map(|(path, (_, now))| Some((path, (*now)?)));
        let size = |(path, leaf): (&BString, Leaf)| match self.readings.get(path) {
            Some(Reading { held: Held::Bytes(bytes), .. }) => bytes.len() as u64,
            Some(Reading { held: Held::File, mark, .. }) => mark.size(),
            None => repository.find_header(leaf.id).map_or(0, |header| header.size()),
        };
        present.map(size).sum()
    }

    pub(super) fn is_as_checked_out(&self) -> bool {
        let exact = self.readings.values().all(|reading| reading.raw.is_none());
        self.is_clean() && self.flagged.is_empty() && exact && !operation::is_arranged(&self.operation)
    }

    pub(super) fn is_clean(&self) -> bool {
        let same = self.changes.values().all(|(head, now)| head == now);
        same && self.staged.is_empty() && self.not_saved.is_empty() && !operation::is_in_progress(&self.operation)
    }
}
