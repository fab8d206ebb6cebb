//! Removing exactly one worktree, and undoing one that was never completed.
//!
//! Owns: the order of the steps. Must not know: whether its work is saved; the caller has seen to that.
//! Invariant: never more than one registration and its own directory go; a kill in between leaves a mark that says so, and the same
//! call goes on. What somebody has locked stays.

use std::ffi::OsStr;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::paths;
use super::worktree_lock::WorktreeLock;
use super::worktree_make::{
    MakeError, Order, OrderedHead, file_error, find_tip, holds_nothing_but_our_scratch, remove_admin_dir,
    remove_scratch,
};
use super::worktree_mark::{self, Mark, Stage};
use super::worktrees::{Lock, Place, Registration, WorktreeList, read_worktrees};
use crate::git::{Hooks, Repository};

/// What was there to remove.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Removed {
    /// The worktree.
    Worktree,
    /// Its registration only; the directory was gone, or is no longer its own and was left.
    Registration,
    /// Nothing.
    Nothing,
}

/// Why nothing (more) was removed.
#[derive(Debug, thiserror::Error)]
pub enum RemoveError {
    /// The same reasons as in making one.
    #[error(transparent)]
    Make(#[from] MakeError),
    /// The worktree is complete: it may hold work.
    #[error("the worktree {} is complete", path.display())]
    Complete {
        /// Where it stands.
        path: PathBuf,
    },
    /// Another worktree, or the repository itself, lies inside.
    #[error("{} lies inside {}", inner.display(), path.display())]
    Contains {
        /// What was to be removed.
        path: PathBuf,
        /// What lies inside.
        inner: PathBuf,
    },
    /// The registration at the path is another one than the caller means.
    #[error("the worktree {} does not stand at {}", name.display(), path.display())]
    Elsewhere {
        /// The registration.
        name: PathBuf,
        /// Where the caller expected it.
        path: PathBuf,
    },
    /// git could not delete the branch.
    #[error("git could not delete the branch {name}")]
    Branch {
        /// Its full ref name.
        name: String,
        /// What git said.
        source: crate::git::GitError,
    },
}

/// Removes the worktree `name` that stands at `path` (resolved), for the environment that `mark` names. Its work must be saved.
pub fn remove(
    repository: &Repository,
    name: &OsStr,
    path: &Path,
    mark: &Mark,
    patience: Duration,
) -> Result<Removed, RemoveError> {
    let _lock = WorktreeLock::take(&repository.tether_dir(), patience).map_err(MakeError::from)?;
    let list = read_worktrees(repository).map_err(MakeError::from)?;
    let Some(found) = list.linked().iter().find(|found| found.name == name) else { return Ok(Removed::Nothing) };
    if found.path.as_deref().is_some_and(|registered| registered != path) {
        return Err(RemoveError::Elsewhere { name: PathBuf::from(name), path: path.to_owned() });
    }
    if let Lock::Locked(reason) = &found.lock {
        return Err(MakeError::Locked { name: found.name.clone(), reason: reason.clone() }.into());
    }
    remove_found(repository, &list, found, mark)
}

/// Takes away what an unfinished [`super::worktree_make::make`] of this order left: directory, registration, branch.
pub fn undo(repository: &Repository, order: &Order) -> Result<Removed, RemoveError> {
    let _lock = WorktreeLock::take(&repository.tether_dir(), order.patience).map_err(MakeError::from)?;
    let list = read_worktrees(repository).map_err(MakeError::from)?;
    let removed = match list.find_marked(&order.mark) {
        Some(found) if found.mark.as_ref().is_some_and(|mark| mark.stage == Stage::Made) => {
            return Err(RemoveError::Complete { path: found.path.clone().unwrap_or_else(|| order.path.clone()) });
        }
        Some(found) => remove_found(repository, &list, found, &order.mark)?,
        None => Removed::Nothing,
    };
    remove_if_empty(&order.path)?;
    if let OrderedHead::NewBranch { name, start } = &order.head {
        let list = read_worktrees(repository).map_err(MakeError::from)?;
        let untouched = find_tip(repository, name)? == Some(*start) && list.find_holder_of(name).is_none();
        if untouched {
            let git = repository.git().with_hooks(Hooks::AsConfigured);
            let deleted = git.run(["update-ref", "-d", "--", name, &start.to_string()]);
            deleted.map_err(|source| RemoveError::Branch { name: name.clone(), source })?;
        }
    }
    Ok(removed)
}

fn remove_found(
    repository: &Repository,
    list: &WorktreeList,
    found: &Registration,
    mark: &Mark,
) -> Result<Removed, RemoveError> {
    let removal = found.admin_dir.join("tether-removing");
    let own_directory = match (&found.path, &found.place) {
        (Some(path), Place::Linked) => Some(path),
        // A removal that was killed, with `.git` the first to go: only the very directory that it began with.
        (Some(path), Place::Unlinked) if is_recorded(&removal, path) => Some(path),
        _ => None,
    };
    if let Some(path) = own_directory {
        check_contains_nothing_else(repository, list, found, path)?;
        let recorded = read_nature(path).and_then(|nature| std::fs::write(&removal, nature));
        recorded.map_err(file_error("write", &removal))?;
        worktree_mark::write(&found.admin_dir, &mark.at(Stage::Removing))
            .map_err(file_error("mark", &found.admin_dir))?;
        paths::remove_directory(path).map_err(MakeError::from)?;
    }
    remove_admin_dir(repository, &found.admin_dir)?;
    Ok(if own_directory.is_some() { Removed::Worktree } else { Removed::Registration })
}

/// What tells a directory from one that is made at its path later, even with the same inode.
fn read_nature(path: &Path) -> std::io::Result<String> {
    let found = std::fs::symlink_metadata(path)?;
    let born = found.created().ok().and_then(|time| time.duration_since(std::time::UNIX_EPOCH).ok());
    Ok(format!("{} {} {:?}\n", found.dev(), found.ino(), born))
}

fn is_recorded(removal: &Path, path: &Path) -> bool {
    matches!((std::fs::read_to_string(removal), read_nature(path)), (Ok(recorded), Ok(nature)) if recorded == nature)
}

fn check_contains_nothing_else(
    repository: &Repository,
    list: &WorktreeList,
    found: &Registration,
    path: &Path,
) -> Result<(), RemoveError> {
    let others = list.linked().iter().filter(|other| other.name != found.name && !matches!(other.place, Place::Gone));
    let others = others.filter_map(|other| other.path.as_deref());
    let home = list.main().path.as_deref().into_iter().chain([repository.common_dir()]);
    match others.chain(home).find(|inner| inner.starts_with(path)) {
        Some(inner) => Err(RemoveError::Contains { path: path.to_owned(), inner: inner.to_owned() }),
        None => Ok(()),
    }
}

fn remove_if_empty(path: &Path) -> Result<(), RemoveError> {
    if matches!(paths::look_at(path), paths::Occupancy::FullDirectory) && holds_nothing_but_our_scratch(path) {
        remove_scratch(path)?;
    }
    if matches!(paths::look_at(path), paths::Occupancy::EmptyDirectory) {
        std::fs::remove_dir(path).map_err(file_error("remove", path))?;
    }
    Ok(())
}
