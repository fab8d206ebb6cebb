//! The files of a merge, rebase, cherry-pick, revert or bisection in progress, and of a sparse checkout.
//!
//! Owns: which files of a worktree's git directory belong to its state. Must not know: what git does with them. Invariant: nothing but the
//! names listed here is ever read from or written to a git directory.

use super::SaveError;
use super::own_refs::read_own_refs;
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::objs::Kind;
use std::collections::{BTreeMap, BTreeSet};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

/// Files directly in the git directory.
const FILES: &[&str] = &[
    "AUTO_MERGE",
    "BISECT_ANCESTORS_OK",
    "BISECT_EXPECTED_REV",
    "BISECT_FIRST_PARENT",
    "BISECT_HEAD",
    "BISECT_LOG",
    "BISECT_NAMES",
    "BISECT_RUN",
    "BISECT_START",
    "BISECT_TERMS",
    "CHERRY_PICK_HEAD",
    "MERGE_AUTOSTASH",
    "MERGE_HEAD",
    "MERGE_MODE",
    "MERGE_MSG",
    "MERGE_RR",
    "ORIG_HEAD",
    "REBASE_HEAD",
    "REVERT_HEAD",
    "SQUASH_MSG",
    "config.worktree",
    "info/sparse-checkout",
];
/// Directories, with all below them.
const DIRECTORIES: &[&str] =
    &["rebase-merge", "rebase-apply", "sequencer", "refs/bisect", "refs/rewritten", "refs/worktree"];
/// What is there though no operation is in progress.
const AT_REST: &[&str] =
    &["ORIG_HEAD", "config.worktree", "info/sparse-checkout", "refs/worktree", "AUTO_MERGE", "MERGE_RR"];
/// What of that is kept until somebody changes it.
const ARRANGED: &[&str] = &["config.worktree", "info/sparse-checkout", "refs/worktree"];
/// Lists of steps and of commits: most are reachable from others of them.
const LISTS: &[&str] =
    &["git-rebase-todo", "git-rebase-todo.backup", "done", "rewritten-list", "rewritten-pending", "sequencer/todo"];

/// The files by their path in the git directory.
pub(super) type OperationFiles = BTreeMap<BString, Vec<u8>>;

/// Reads what is there.
pub(super) fn read_operation(repository: &gix::Repository, git_dir: &Path) -> Result<OperationFiles, SaveError> {
    let mut files = OperationFiles::new();
    read_own_refs(repository, git_dir, &mut files)?;
    for name in FILES {
        read_file(git_dir, BString::from(*name), &mut files)?;
    }
    for name in DIRECTORIES {
        read_directory(git_dir, &BString::from(*name), &mut files)?;
    }
    Ok(files)
}

fn read_file(git_dir: &Path, name: BString, into: &mut OperationFiles) -> Result<(), SaveError> {
    let path = git_dir.join(std::ffi::OsStr::from_bytes(&name));
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if metadata.is_file() => {}
        _ => return Ok(()),
    }
    match std::fs::read(&path) {
        Ok(bytes) => into.insert(name, bytes),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => None,
        Err(source) => return Err(SaveError::Unreadable { path, source }),
    };
    Ok(())
}

fn read_directory(git_dir: &Path, name: &BString, into: &mut OperationFiles) -> Result<(), SaveError> {
    let path = git_dir.join(std::ffi::OsStr::from_bytes(name));
    let unreadable = |source| SaveError::Unreadable { path: path.clone(), source };
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if matches!(error.kind(), std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory) => {
            return Ok(());
        }
        Err(source) => return Err(unreadable(source)),
    };
    for entry in entries {
        let entry = entry.map_err(unreadable)?;
        let file_name = entry.file_name();
        if file_name.as_bytes().ends_with(b".lock") {
            continue;
        }
        let below = super::tree::join(name.as_bstr(), file_name.as_bytes().as_bstr());
        match entry.file_type().map_err(unreadable)? {
            kind if kind.is_dir() => read_directory(git_dir, &below, into)?,
            _ => read_file(git_dir, below, into)?,
        }
    }
    Ok(())
}

/// Whether `name` may be written into a git directory.
pub(super) fn is_operation_file(name: &[u8]) -> bool {
    let below = |directory: &str| name.strip_prefix(directory.as_bytes()).is_some_and(|rest| rest.starts_with(b"/"));
    FILES.iter().any(|file| file.as_bytes() == name) || DIRECTORIES.iter().any(|directory| below(directory))
}

/// Whether the files mean that something is in progress.
pub(super) fn is_in_progress(files: &OperationFiles) -> bool {
    files.keys().any(|name| !AT_REST.iter().any(|rest| name.starts_with(rest.as_bytes())))
}

/// Whether the files hold what somebody arranged in the worktree for good.
pub(super) fn is_arranged(files: &OperationFiles) -> bool {
    files.keys().any(|name| ARRANGED.iter().any(|arranged| name.starts_with(arranged.as_bytes())))
}

/// Objects that the files name and the repository has: commits, and trees or blobs. What only such a file names dies with it.
pub(super) fn named_objects(
    repository: &gix::Repository,
    files: &OperationFiles,
) -> (Vec<ObjectId>, Vec<(ObjectId, Kind)>) {
    let (mut commits, mut listed, mut others) = (Vec::new(), Vec::new(), Vec::new());
    for (name, bytes) in files {
        let is_list = LISTS.iter().any(|list| name.ends_with(list.as_bytes()));
        let full = bytes.split(|byte| !byte.is_ascii_alphanumeric()).filter_map(|word| resolve(repository, word));
        let short = bytes.lines().filter(|_| is_list).filter_map(|line| resolve_step(repository, line));
        for id in full.chain(short) {
            match repository.find_header(id).map(|header| header.kind()) {
                Ok(Kind::Commit) if is_list => listed.push(id),
                Ok(Kind::Commit) => commits.push(id),
                Ok(kind @ (Kind::Tree | Kind::Blob)) => others.push((id, kind)),
                _ => {}
            }
        }
    }
    commits.extend(heads_of(repository, &listed));
    commits.sort_unstable();
    commits.dedup();
    others.sort_unstable_by_key(|(id, _)| *id);
    others.dedup();
    (commits, others)
}

/// Those of the commits that are no other's parent: of a long list of steps, few.
fn heads_of(repository: &gix::Repository, listed: &[ObjectId]) -> BTreeSet<ObjectId> {
    let mut heads: BTreeSet<_> = listed.iter().copied().collect();
    for commit in listed.iter().filter_map(|id| repository.find_commit(*id).ok()) {
        for parent in commit.parent_ids() {
            heads.remove(&parent.detach());
        }
    }
    heads
}

fn resolve(repository: &gix::Repository, word: &[u8]) -> Option<ObjectId> {
    if word.len() != repository.object_hash().len_in_hex() {
        return None;
    }
    ObjectId::from_hex(word).ok()
}

/// The commit of a step (`pick 1a2b3c4 subject`) that names it by the beginning of its id.
fn resolve_step(repository: &gix::Repository, line: &[u8]) -> Option<ObjectId> {
    let beginning = line.split(|byte| *byte == b' ').nth(1)?.to_str().ok()?;
    let prefix = gix::hash::Prefix::from_hex(beginning).ok()?;
    repository.objects.lookup_prefix(prefix, None).ok()??.ok()
}
