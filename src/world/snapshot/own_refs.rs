//! Refs of a worktree's own, where only the git program finds them: with reftable no file says what a cherry-pick in progress picks.
//!
//! Owns: which refs belong to a worktree's state, as the files that they are where refs are files. Must not know: what git does with
//! them. Invariant: no other ref is read or written.

use super::place::refs_need_git;
use super::{RestoreError, SaveError};
use crate::git::Git;
use gix::bstr::{BString, ByteSlice};
use std::collections::BTreeMap;
use std::path::Path;

/// Files of a git directory by their path in it.
type Files = BTreeMap<BString, Vec<u8>>;

/// Refs that stand beside HEAD.
const BESIDE_HEAD: &[&str] = &[
    "AUTO_MERGE",
    "BISECT_EXPECTED_REV",
    "BISECT_HEAD",
    "CHERRY_PICK_HEAD",
    "MERGE_AUTOSTASH",
    "ORIG_HEAD",
    "REBASE_HEAD",
    "REVERT_HEAD",
];
/// Refs below `refs/` that each worktree has its own of.
const BELOW: &[&str] = &["refs/bisect", "refs/rewritten", "refs/worktree"];

fn is_own_ref(name: &[u8]) -> bool {
    let below = |root: &&str| name.strip_prefix(root.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
    BESIDE_HEAD.iter().any(|known| known.as_bytes() == name) || BELOW.iter().any(below)
}

/// Adds the refs of the worktree with the git directory `git_dir`, each as its file would be.
pub(super) fn read_own_refs(repository: &gix::Repository, git_dir: &Path, into: &mut Files) -> Result<(), SaveError> {
    if !refs_need_git(repository) {
        return Ok(());
    }
    let asked = ["for-each-ref", "--include-root-refs", "--format=%(refname) %(objectname)", "--"];
    let asked = asked.iter().chain(BESIDE_HEAD).chain(BELOW);
    let listed = Git::in_git_dir(git_dir).run(asked).map_err(|source| {
        let path = git_dir.to_owned();
        SaveError::OwnRefs { path, source: source.into() }
    })?;
    for line in listed.stdout.lines() {
        let Some((name, id)) = line.split_once_str(" ") else { continue };
        if is_own_ref(name) {
            into.insert(BString::from(name), [id, b"\n"].concat());
        }
    }
    Ok(())
}

/// Writes those of `files` that are refs here; answers with the others, which are files.
pub(super) fn write_own_refs<'f>(
    repository: &gix::Repository,
    git_dir: &Path,
    files: &'f Files,
) -> Result<Vec<(&'f BString, &'f Vec<u8>)>, RestoreError> {
    if !refs_need_git(repository) {
        return Ok(files.iter().collect());
    }
    let (refs, others): (Vec<_>, Vec<_>) = files.iter().partition(|(name, _)| is_own_ref(name));
    let mut wanted = Vec::new();
    for (name, id) in refs {
        let fields: [&[u8]; 5] = [b"update ", name, b"\0", id.trim_end(), b"\0\0"];
        wanted.extend(fields.concat());
    }
    if !wanted.is_empty() {
        let git = Git::in_git_dir(git_dir);
        git.run_with_input(["update-ref", "--no-deref", "--stdin", "-z"], &wanted).map_err(|source| {
            let path = git_dir.to_owned();
            RestoreError::OwnRefs { path, source: source.into() }
        })?;
    }
    Ok(others)
}
