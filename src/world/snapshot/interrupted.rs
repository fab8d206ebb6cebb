//! A rebase or bisection that saved work was in the middle of.
//!
//! Owns: which branch it belongs to, and whether it can go on from there. Must not know: worktrees, who asks. Invariant: only reads.

use super::SaveError;
use super::place::open_repository;
use super::state::{read_operation_files, read_parts};
use crate::world::worktrees::find_branch_in_operation;
use gix::ObjectId;
use gix::bstr::ByteSlice;
use std::path::Path;

/// An operation that moves HEAD off its branch until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interrupted {
    /// The branch that it returns to: its full ref name.
    pub branch: String,
    /// Where that branch stood when it began, if git compares that at its end.
    pub began_at: Option<ObjectId>,
}

/// What `snapshot` was in the middle of, if HEAD was off its branch for that.
pub fn find_interrupted(common_dir: &Path, snapshot: ObjectId) -> Result<Option<Interrupted>, SaveError> {
    let repository = open_repository(common_dir)?.to_thread_local();
    let parts = read_parts(&repository, snapshot)?;
    let files = read_operation_files(&repository, parts.state_tree)?;
    let text = |name: &str| Some(files.get(name.as_bytes().as_bstr())?.to_str_lossy().into_owned());
    let Some(branch) = find_branch_in_operation(text) else { return Ok(None) };
    let began_at = ["rebase-merge/orig-head", "rebase-apply/orig-head"].into_iter().find_map(text);
    let began_at = began_at.and_then(|id| ObjectId::from_hex(id.trim().as_bytes()).ok());
    Ok(Some(Interrupted { branch, began_at }))
}
