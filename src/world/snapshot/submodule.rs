//! A submodule's commit, and whether it holds work that no snapshot of its superproject keeps.
//!
//! Owns: looking into checked-out submodules with the git program. Must not know: the superproject's snapshot. Invariant: only looks, and
//! starts neither hooks nor fsmonitor.

use super::NotSavedReason;
use crate::git::Git;
use gix::ObjectId;
use std::path::Path;

/// What a submodule's directory holds.
#[derive(Debug)]
pub(super) struct SubmoduleLook {
    /// Its HEAD; `None` if it is not checked out.
    pub(super) commit: Option<ObjectId>,
    /// What is not saved of it.
    pub(super) not_saved: Vec<NotSavedReason>,
}

/// Looks at the submodule in the directory `path`.
pub(super) fn look_at_submodule(path: &Path) -> SubmoduleLook {
    if !path.join(".git").exists() {
        return SubmoduleLook { commit: None, not_saved: Vec::new() };
    }
    let git = Git::in_directory(path).with_setting("core.hooksPath=/dev/null");
    let commit = git.run(["rev-parse", "--verify", "-q", "HEAD^{commit}"]).ok();
    let commit = commit.and_then(|output| ObjectId::from_hex(output.text().as_bytes()).ok());
    let Some(commit) = commit else {
        return SubmoduleLook { commit: None, not_saved: vec![NotSavedReason::UnreadableSubmodule] };
    };
    let mut not_saved = Vec::new();
    let questions = [
        (&["status", "--porcelain", "-z", "--ignore-submodules=none"][..], NotSavedReason::DirtySubmodule),
        (&["rev-list", "-n1", "HEAD", "--branches", "--not", "--remotes"][..], NotSavedReason::UnpushedSubmodule),
    ];
    for (arguments, reason) in questions {
        match git.run(arguments) {
            Ok(output) if output.stdout.is_empty() => {}
            Ok(_) => not_saved.push(reason),
            Err(_) => not_saved.push(NotSavedReason::UnreadableSubmodule),
        }
    }
    not_saved.sort_unstable();
    not_saved.dedup();
    SubmoduleLook { commit: Some(commit), not_saved }
}
