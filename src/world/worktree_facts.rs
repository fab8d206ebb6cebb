//! What is found where a worktree is expected.
//!
//! Owns: the comparison of one expected path with the list of worktrees. Must not know: what follows from it.
//! Invariant: "the path is there" never stands for "the worktree is there", and what cannot be looked at is not missing.

use std::path::{Path, PathBuf};

use super::paths::{self, Mounts, Occupancy};
use super::worktree_mark::Mark;
use super::worktrees::{Place, Registration, WorktreeList, find_common_dir, read_link_of};

/// Where a worktree is expected.
#[derive(Debug, Clone, Copy)]
pub struct Expected<'a> {
    /// The recorded path.
    pub path: &'a Path,
    /// The mount point that it lay on then.
    pub mount_point: Option<&'a Path>,
    /// The mark that it was given.
    pub mark: Option<&'a Mark>,
    /// The branch (full ref name) that it was on.
    pub branch: Option<&'a str>,
}

/// What was found there.
#[derive(Debug)]
pub enum PathFacts<'a> {
    /// Nothing; a registration may still name the path.
    Gone {
        /// The registration that still does.
        registration: Option<&'a Registration>,
    },
    /// An empty directory, which counts as gone.
    EmptyDirectory {
        /// The registration that still names the path.
        registration: Option<&'a Registration>,
    },
    /// Nothing, and the worktree stands at another path.
    MovedTo(&'a Registration),
    /// The worktree, linked both ways.
    Registered(&'a Registration),
    /// Registered, but its directory does not name the registration.
    LinkBroken(&'a Registration),
    /// A directory that is no worktree.
    NotAWorktree {
        /// Which repository git would find from there.
        answering: Answering,
    },
    /// Something that is no directory; in words.
    NotADirectory(&'static str),
    /// A directory of another repository.
    OtherRepository {
        /// Its git directory.
        git_dir: PathBuf,
    },
    /// The main checkout itself.
    MainCheckout,
    /// It cannot be told.
    Unreadable(String),
    /// The file system that it lay on is not mounted now.
    NotMounted {
        /// Where it was mounted.
        mount_point: PathBuf,
    },
}

/// Which repository git finds from a directory that is no worktree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answering {
    /// None.
    Nobody,
    /// The main checkout of this repository, which contains it: whatever is done there is done to the main checkout.
    MainCheckout,
    /// Another worktree of this repository, which contains it.
    Worktree(PathBuf),
    /// Another repository, which contains it.
    OtherRepository(PathBuf),
}

/// Compares what is expected with what is there.
pub fn look_at<'a>(expected: &Expected<'_>, list: &'a WorktreeList, mounts: &Mounts) -> PathFacts<'a> {
    if let Some(mount_point) = expected.mount_point
        && !mounts.is_mounted(mount_point)
    {
        return PathFacts::NotMounted { mount_point: mount_point.to_owned() };
    }
    let path = match paths::resolve(expected.path) {
        Ok(path) => path,
        // What was recorded was resolved: a symlink that stands at the very path, even into nowhere, has been put there since.
        Err(_) if matches!(paths::look_at(expected.path), Occupancy::Symlink) => {
            return PathFacts::NotADirectory("a symlink");
        }
        Err(error) => return PathFacts::Unreadable(with_source(&error)),
    };
    if list.main().path.as_deref() == Some(&path) {
        return PathFacts::MainCheckout;
    }
    let registration = list.find_at(&path);
    if let Some(found) = registration
        && let Some(facts) = facts_of_registered(found)
    {
        return facts;
    }
    let moved = || find_moved(expected, &path, list);
    match paths::look_at(&path) {
        Occupancy::Gone => moved().map_or(PathFacts::Gone { registration }, PathFacts::MovedTo),
        Occupancy::EmptyDirectory => moved().map_or(PathFacts::EmptyDirectory { registration }, PathFacts::MovedTo),
        Occupancy::FullDirectory => facts_of_directory(&path, registration, list),
        Occupancy::Symlink => PathFacts::NotADirectory("a symlink"),
        Occupancy::Other => PathFacts::NotADirectory("a file"),
        Occupancy::Unreadable(error) => PathFacts::Unreadable(error.to_string()),
    }
}

fn facts_of_registered(registration: &Registration) -> Option<PathFacts<'_>> {
    match &registration.place {
        Place::Linked => Some(PathFacts::Registered(registration)),
        Place::LinkBroken { .. } => Some(PathFacts::LinkBroken(registration)),
        Place::OtherRepository { git_dir } => Some(PathFacts::OtherRepository { git_dir: git_dir.clone() }),
        Place::Unreadable(error) => Some(PathFacts::Unreadable(error.to_string())),
        Place::NoPath | Place::Gone | Place::NotADirectory | Place::Unlinked => None,
    }
}

fn facts_of_directory<'a>(
    path: &Path,
    registration: Option<&'a Registration>,
    list: &'a WorktreeList,
) -> PathFacts<'a> {
    match read_link_of(path) {
        Err(error) => PathFacts::Unreadable(error.to_string()),
        Ok(Some(git_dir)) => match find_common_dir(&git_dir) {
            Some(common) if common == list.common_dir() => {
                registration.map_or(PathFacts::NotAWorktree { answering: Answering::Nobody }, PathFacts::LinkBroken)
            }
            _ => PathFacts::OtherRepository { git_dir },
        },
        Ok(None) => PathFacts::NotAWorktree { answering: find_answering(path, list) },
    }
}

/// Which repository git finds from below `directory`'s parents.
fn find_answering(directory: &Path, list: &WorktreeList) -> Answering {
    for above in directory.ancestors().skip(1) {
        let Ok(Some(git_dir)) = read_link_of(above) else { continue };
        return match find_common_dir(&git_dir) {
            Some(common) if common != list.common_dir() => Answering::OtherRepository(above.to_owned()),
            _ if list.main().path.as_deref() == Some(above) => Answering::MainCheckout,
            _ => Answering::Worktree(above.to_owned()),
        };
    }
    Answering::Nobody
}

/// The registration that stood at `path` and now stands elsewhere: the one with the mark, else the one on the branch.
fn find_moved<'a>(expected: &Expected<'_>, path: &Path, list: &'a WorktreeList) -> Option<&'a Registration> {
    let stands_elsewhere =
        |found: &&Registration| matches!(found.place, Place::Linked) && found.path.as_deref() != Some(path);
    if let Some(found) = expected.mark.and_then(|mark| list.find_marked(mark)) {
        return Some(found).filter(stands_elsewhere);
    }
    let branch = expected.branch?;
    let on_branch =
        |found: &&Registration| matches!(&found.head, super::worktrees::Head::Branch(name) if name == branch);
    list.linked().iter().filter(stands_elsewhere).find(on_branch)
}

fn with_source(error: &dyn std::error::Error) -> String {
    error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"))
}

#[cfg(test)]
#[path = "worktree_facts_tests.rs"]
mod tests;
