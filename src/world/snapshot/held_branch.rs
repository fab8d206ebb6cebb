//! The branch that an operation in progress holds: HEAD is detached meanwhile, and goes back to it at the end.
//!
//! Owns: what a snapshot's operation files say of it. Must not know: whether the branch is still there. Invariant: only reads.

use super::SaveError;
use super::operation::OperationFiles;
use super::place::open_repository;
use super::state::{read_parts, read_state};
use gix::ObjectId;
use gix::bstr::{BStr, ByteSlice};
use std::path::Path;

/// A branch that waits for a rebase or bisection to end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeldBranch {
    /// Its full ref name.
    pub name: String,
    /// Where it has to be for the operation to go on; `None` if that does not matter.
    pub tip: Option<ObjectId>,
}

/// The branch that the operation in `snapshot` holds.
pub fn find_held_branch(common_dir: &Path, snapshot: ObjectId) -> Result<Option<HeldBranch>, SaveError> {
    let repository = open_repository(common_dir)?.to_thread_local();
    let parts = read_parts(&repository, snapshot)?;
    Ok(held_branch(&read_state(&repository, parts.state_tree)?.operation))
}

fn held_branch(files: &OperationFiles) -> Option<HeldBranch> {
    let line = |name: &str| {
        let bytes = files.get(BStr::new(name))?;
        Some(bytes.trim_end().to_str().ok()?.to_owned())
    };
    let rebased = ["rebase-merge", "rebase-apply"].into_iter().find_map(|directory| {
        let name = line(&format!("{directory}/head-name")).filter(|name| name.starts_with("refs/heads/"))?;
        let tip = line(&format!("{directory}/orig-head"))?;
        Some(HeldBranch { name, tip: Some(ObjectId::from_hex(tip.as_bytes()).ok()?) })
    });
    let bisected = || {
        line("BISECT_LOG")?;
        let name = line("BISECT_START").filter(|name| ObjectId::from_hex(name.as_bytes()).is_err())?;
        Some(HeldBranch { name: format!("refs/heads/{name}"), tip: None })
    };
    rebased.or_else(bisected)
}
