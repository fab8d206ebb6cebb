//! The state commit: all of a worktree's state that its tree of files does not say.
//!
//! Owns: the names in a state commit's tree and `state.json`. Must not know: how the state was found or is put back. Invariant: the same
//! state gives the same tree, and what a newer version adds is no reason to refuse.

use super::conversion::Conversion;
use super::index_lines::{self, IndexLines};
use super::operation::OperationFiles;
use super::tree::{Leaf, leaves, read_tree, tree_of_commit, unreadable_object};
use super::{Cause, NotSaved, NotSavedReason, SaveError, Warning};
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::tree::EntryKind;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

pub(super) const SCHEMA: &str = "tether.snapshot/1";
pub(super) const STATE: &str = "state.json";
pub(super) const INDEX: &str = "index";
pub(super) const RESOLVED: &str = "resolved";
pub(super) const OBJECTS: &str = "objects/";
pub(super) const OPERATION: &str = "operation/";
pub(super) const RAW: &str = "raw/";

/// What a snapshot was made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Origin {
    /// A worktree.
    Worktree,
    /// What git still held of a worktree that was gone.
    VanishedWorktree,
    /// A plain directory.
    Directory,
}

/// Whether the worktree had an index file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum IndexPresence {
    /// It had.
    Present,
    /// It had none, as after `git worktree add --no-checkout`.
    Absent,
}

/// `state.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StateFacts {
    pub(super) schema: String,
    pub(super) origin: Origin,
    pub(super) base: Option<String>,
    pub(super) branch: Option<String>,
    pub(super) index: IndexPresence,
    pub(super) operation: Vec<String>,
    pub(super) sparse_patterns: Option<String>,
    /// Not there in what older versions saved, nor for a plain directory.
    #[serde(default)]
    pub(super) conversion: Option<Conversion>,
    /// A hash of all that differs from the base, so that the same state stands for the same tree. Not there in what older versions saved.
    #[serde(default)]
    pub(super) changes: Option<String>,
    pub(super) raw_files: usize,
    pub(super) not_saved: Vec<NotSavedFact>,
    pub(super) warnings: Vec<String>,
}

/// An entry of `not_saved`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct NotSavedFact {
    path: String,
    reason: String,
}

impl From<&NotSaved> for NotSavedFact {
    fn from(not_saved: &NotSaved) -> Self {
        let reason = match not_saved.reason {
            NotSavedReason::Excluded => "excluded",
            NotSavedReason::DirtySubmodule => "dirty_submodule",
            NotSavedReason::UnpushedSubmodule => "unpushed_submodule",
            NotSavedReason::UnreadableSubmodule => "unreadable_submodule",
            NotSavedReason::EmbeddedHistory => "embedded_history",
            NotSavedReason::NestedWorktree => "nested_worktree",
            NotSavedReason::RefusedName => "refused_name",
            NotSavedReason::RawTooLarge => "raw_too_large",
        };
        Self { path: not_saved.path.to_str_lossy().into_owned(), reason: reason.to_owned() }
    }
}

/// A warning as a word and what it is about.
pub(super) fn shown(warning: &Warning) -> String {
    match warning {
        Warning::Unsettled(path) => format!("unsettled: {path}"),
        Warning::UnsettledIndex => "unsettled index".to_owned(),
        Warning::SpecialFile(path) => format!("special file: {path}"),
        Warning::FilterFailed(path, _) => format!("filter failed: {path}"),
        Warning::MissingObject(path, id) => format!("missing object {id}: {path}"),
        Warning::Submodule(path) => format!("submodule: {path}"),
    }
}

impl StateFacts {
    /// The bytes of `state.json`.
    pub(super) fn encode(&self) -> Result<Vec<u8>, SaveError> {
        let mut bytes = serde_json::to_vec_pretty(self)
            .map_err(|source| SaveError::Make { what: "state.json", source: source.into() })?;
        bytes.push(b'\n');
        Ok(bytes)
    }
}

/// A snapshot commit, taken apart.
#[derive(Debug)]
pub(super) struct SnapshotParts {
    pub(super) tree: ObjectId,
    pub(super) base: Option<ObjectId>,
    pub(super) state_tree: ObjectId,
    pub(super) state_parents: Vec<ObjectId>,
}

/// Reads the snapshot commit `id` as far as its commits.
pub(super) fn read_parts(repository: &gix::Repository, id: ObjectId) -> Result<SnapshotParts, SaveError> {
    let parents = |id| -> Result<Vec<ObjectId>, SaveError> {
        let commit = repository.find_commit(id).map_err(unreadable_object(id))?;
        Ok(commit.parent_ids().map(gix::Id::detach).collect())
    };
    let mut own = parents(id)?;
    let not_a_snapshot = || SaveError::Object { id, source: Cause::from("it is not a snapshot commit") };
    let state = own.pop().ok_or_else(not_a_snapshot)?;
    if own.len() > 1 {
        return Err(not_a_snapshot());
    }
    let state_tree = tree_of_commit(repository, state)?;
    if !read_tree(repository, state_tree)?.entries.iter().any(|entry| entry.filename == STATE) {
        return Err(not_a_snapshot());
    }
    let (tree, base) = (tree_of_commit(repository, id)?, own.pop());
    Ok(SnapshotParts { tree, base, state_tree, state_parents: parents(state)? })
}

/// What a state commit's tree says.
#[derive(Debug)]
pub(super) struct State {
    pub(super) facts: StateFacts,
    pub(super) lines: IndexLines,
    pub(super) resolved: IndexLines,
    pub(super) operation: OperationFiles,
    pub(super) raw: BTreeMap<BString, Leaf>,
}

/// The files of a state commit's tree, but for `objects/`.
fn read_files(repository: &gix::Repository, tree: ObjectId) -> Result<BTreeMap<BString, Leaf>, SaveError> {
    let mut files = BTreeMap::new();
    for entry in read_tree(repository, tree)?.entries {
        let below = match entry.mode.kind() {
            EntryKind::Tree if entry.filename != OBJECTS.trim_end_matches('/') => entry.oid,
            EntryKind::Tree => continue,
            kind => {
                files.insert(entry.filename, Leaf { kind, id: entry.oid });
                continue;
            }
        };
        leaves(repository, below, entry.filename.as_bstr(), &mut files)?;
    }
    Ok(files)
}

fn read_blob(repository: &gix::Repository, leaf: Leaf) -> Result<Vec<u8>, SaveError> {
    Ok(repository.find_blob(leaf.id).map_err(unreadable_object(leaf.id))?.take_data())
}

fn operation_among(repository: &gix::Repository, files: &BTreeMap<BString, Leaf>) -> Result<OperationFiles, SaveError> {
    let named = files.iter().filter_map(|(path, leaf)| Some((path.strip_prefix(OPERATION.as_bytes())?, *leaf)));
    named.map(|(name, leaf)| Ok((name.into(), read_blob(repository, leaf)?))).collect()
}

/// The files of an operation in progress in the tree of a state commit.
pub(super) fn read_operation_files(repository: &gix::Repository, tree: ObjectId) -> Result<OperationFiles, SaveError> {
    operation_among(repository, &read_files(repository, tree)?)
}

/// Reads the tree of a state commit.
pub(super) fn read_state(repository: &gix::Repository, tree: ObjectId) -> Result<State, SaveError> {
    let files = read_files(repository, tree)?;
    let invalid =
        |what: &str| SaveError::Object { id: tree, source: Cause::from(format!("its {what} is not readable")) };
    let named = |name: &str| files.get(name.as_bytes().as_bstr()).copied().ok_or_else(|| invalid(name));
    let blob = |name: &str| read_blob(repository, named(name)?);
    let facts: StateFacts = serde_json::from_slice(&blob(STATE)?).map_err(|_| invalid(STATE))?;
    if facts.schema.split('/').nth(1) != SCHEMA.split('/').nth(1) {
        return Err(invalid("schema"));
    }
    let lines = index_lines::decode(&blob(INDEX)?).ok_or_else(|| invalid(INDEX))?;
    let resolved = match files.get(RESOLVED.as_bytes().as_bstr()) {
        Some(leaf) => index_lines::decode(&read_blob(repository, *leaf)?).ok_or_else(|| invalid(RESOLVED))?,
        None => IndexLines::new(),
    };
    let raw = files.iter().filter_map(|(path, leaf)| Some((path.strip_prefix(RAW.as_bytes())?.into(), *leaf)));
    Ok(State { facts, lines, resolved, operation: operation_among(repository, &files)?, raw: raw.collect() })
}
