//! Making a worktree, so that a kill at any moment leaves something that the same call finishes.
//!
//! Owns: the order of the steps. Must not know: records, saved work, who wants the worktree.
//! Invariant: registered (marked, locked) first, filled next, the branch last by compare-and-swap; nothing is done to a path that
//! holds anything, to a registration that does not bear the caller's mark, or to a branch that stands elsewhere.

use std::collections::VecDeque;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix::ObjectId;

use super::durable;
use super::paths::{self, Occupancy};
use super::worktree_lock::WorktreeLock;
pub use super::worktree_make_error::MakeError;
pub(super) use super::worktree_make_error::file_error;
use super::worktree_mark::{self, Mark, Stage};
use super::worktree_register::{self};
use super::worktrees::{
    BranchHolder, Head, Lock, Place, Registration, WorktreeList, read_registration, read_worktrees,
};
use crate::git::{GitError, Hooks, RefStorage, Repository, RunningGit};

/// How often a branch that moves while its files are written is followed.
const FOLLOWED_MOVES: usize = 5;

/// The worktree to make.
#[derive(Debug, Clone)]
pub struct Order {
    /// Where: as resolved and recorded.
    pub path: PathBuf,
    /// What its HEAD is to be.
    pub head: OrderedHead,
    /// For whom; its stage does not matter.
    pub mark: Mark,
    /// What to do with a registration of ours whose directory has vanished.
    pub vanished: Vanished,
    /// Whether the user's `post-checkout` hook hears of it.
    pub announced: Announced,
    /// Who puts the files on disk.
    pub on_disk: OnDisk,
    /// How long to wait for others that make worktrees.
    pub patience: Duration,
}

impl Order {
    /// The full ref name of the branch that HEAD is to be on.
    fn branch(&self) -> Option<&str> {
        match &self.head {
            OrderedHead::Detached(_) => None,
            OrderedHead::NewBranch { name, .. } | OrderedHead::ExistingBranch(name) => Some(name),
        }
    }
}

/// Who puts the files of a new worktree on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnDisk {
    /// They are there when it is made.
    WhenMade,
    /// The caller does, for many at once, before it reports any of them.
    ByCaller,
}

/// Whether the user's hook hears of a new worktree.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Announced {
    /// `post-checkout` is run, as `git worktree add` does.
    ByHook,
    /// Nothing of the user's is run.
    No,
}

/// What the HEAD of a new worktree is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrderedHead {
    /// This commit, on no branch.
    Detached(ObjectId),
    /// A new branch (full ref name) at this commit.
    NewBranch {
        /// The branch.
        name: String,
        /// Where it begins.
        start: ObjectId,
    },
    /// A branch (full ref name) that is there, at its tip.
    ExistingBranch(String),
}

/// What to do with a complete registration of ours whose directory has vanished.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vanished {
    /// Leave it: what git holds of it (index, operation in progress) has not been saved.
    Refuse,
    /// Replace it: the caller has saved what git holds of it.
    Replace,
}

/// A worktree that is complete.
#[derive(Debug)]
pub struct Made {
    /// Its directory.
    pub path: PathBuf,
    /// Its admin directory.
    pub admin_dir: PathBuf,
    /// The commit that it was filled from.
    pub commit: ObjectId,
    /// Whether there was anything to do.
    pub how: How,
    /// What became of the `post-checkout` hook.
    pub hook: HookOutcome,
}

/// What there was to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// All of it.
    Fresh,
    /// The rest of what an earlier call began.
    Finished,
    /// Nothing.
    AlreadyThere,
}

/// What became of the `post-checkout` hook.
#[derive(Debug)]
pub enum HookOutcome {
    /// There is none, or it was not its turn.
    NotRun,
    /// It ended with 0.
    Ran,
    /// It failed; the worktree is complete all the same, as with git.
    Failed(GitError),
}

/// Makes the worktree, or finishes what an earlier call began.
pub fn make(repository: &Repository, order: &Order) -> Result<Made, MakeError> {
    let lock = WorktreeLock::take(&repository.tether_dir(), order.patience)?;
    let list = read_worktrees(repository)?;
    match start(repository, &list, order)? {
        Started::Complete(made) => Ok(made),
        Started::Filling(filling) => filling.finish(repository, &lock),
    }
}

/// The same for several, which have neither a path nor a branch in common, under one lock: while git writes the files of one, the next is
/// begun. `done` hears of each, by its place in `orders`, and must not make worktrees itself.
pub fn make_each(
    repository: &Repository,
    orders: &[Order],
    done: &mut dyn FnMut(usize, Result<Made, MakeError>),
) -> Result<(), MakeError> {
    let Some(patience) = orders.iter().map(|order| order.patience).max() else { return Ok(()) };
    let lock = WorktreeLock::take(&repository.tether_dir(), patience)?;
    let list = read_worktrees(repository)?;
    let at_once = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let mut at_work: VecDeque<(usize, Filling<'_>)> = VecDeque::new();
    for (at, order) in orders.iter().enumerate() {
        if at_work.len() >= at_once
            && let Some((earlier, filling)) = at_work.pop_front()
        {
            done(earlier, filling.finish(repository, &lock));
        }
        match start(repository, &list, order) {
            Ok(Started::Complete(made)) => done(at, Ok(made)),
            Ok(Started::Filling(filling)) => at_work.push_back((at, filling)),
            Err(error) => done(at, Err(error)),
        }
    }
    for (at, filling) in at_work {
        done(at, filling.finish(repository, &lock));
    }
    Ok(())
}

/// How far the first part of a making led.
enum Started<'o> {
    Complete(Made),
    Filling(Filling<'o>),
}

/// Registers the worktree, unless that is done already, and starts filling it.
fn start<'o>(repository: &Repository, list: &WorktreeList, order: &'o Order) -> Result<Started<'o>, MakeError> {
    check_path(&order.path)?;
    let (admin_dir, how) = match find_begun(list, order)? {
        Begun::Complete(found) => {
            let commit = list.find_head_id(repository, &found.head)?;
            let commit = commit.unwrap_or_else(|| ObjectId::null(repository.object_hash()));
            let (path, admin_dir) = (order.path.clone(), found.admin_dir.clone());
            let made = Made { path, admin_dir, commit, how: How::AlreadyThere, hook: HookOutcome::NotRun };
            return Ok(Started::Complete(made));
        }
        Begun::Partly(found) => {
            let _ = find_start(repository, list, order, Some(found))?;
            (found.admin_dir.clone(), How::Finished)
        }
        Begun::NotYet { vanished } => {
            check_vacant(&order.path)?;
            let start = find_start(repository, list, order, vanished)?;
            if let Some(vanished) = vanished {
                remove_admin_dir(repository, &vanished.admin_dir)?;
            }
            let mark = order.mark.at(Stage::Filling);
            create_directory(&order.path)?;
            (worktree_register::register(repository, &order.path, start, &mark)?, How::Fresh)
        }
    };
    Filling::start(repository, order, admin_dir, how).map(Started::Filling)
}

enum Begun<'a> {
    NotYet { vanished: Option<&'a Registration> },
    Partly(&'a Registration),
    Complete(&'a Registration),
}

/// How far earlier calls got.
fn find_begun<'a>(list: &'a WorktreeList, order: &Order) -> Result<Begun<'a>, MakeError> {
    let at_path = list.find_at(&order.path);
    let Some(found) = list.find_marked(&order.mark) else {
        return match at_path {
            Some(other) => Err(MakeError::RegisteredForOthers { path: order.path.clone(), name: other.name.clone() }),
            None => Ok(Begun::NotYet { vanished: None }),
        };
    };
    if let Lock::Locked(reason) = &found.lock {
        return Err(MakeError::Locked { name: found.name.clone(), reason: reason.clone() });
    }
    if let Some(other) = at_path.filter(|other| other.name != found.name) {
        return Err(MakeError::RegisteredForOthers { path: order.path.clone(), name: other.name.clone() });
    }
    let here = found.path.as_ref() == Some(&order.path);
    let stage = found.mark.as_ref().map_or(Stage::Made, |mark| mark.stage);
    match (&found.place, stage) {
        (Place::Linked, _) if !here => {
            Err(MakeError::Moved { path: found.path.clone().unwrap_or_else(|| order.path.clone()) })
        }
        (Place::Linked, Stage::Made) => Ok(Begun::Complete(found)),
        (Place::Linked, Stage::Filling) => Ok(Begun::Partly(found)),
        (Place::Gone | Place::Unlinked, Stage::Filling) if here && holds_nothing_but_our_scratch(&order.path) => {
            Ok(Begun::Partly(found))
        }
        (Place::Gone | Place::NoPath, Stage::Removing | Stage::Filling) => Ok(Begun::NotYet { vanished: Some(found) }),
        (Place::Gone | Place::NoPath | Place::Unlinked, _) => match order.vanished {
            Vanished::Replace => Ok(Begun::NotYet { vanished: Some(found) }),
            Vanished::Refuse => Err(MakeError::Vanished { name: found.name.clone() }),
        },
        _ => Err(MakeError::Occupied { path: order.path.clone() }),
    }
}

fn check_path(path: &Path) -> Result<(), MakeError> {
    let leads_to = paths::resolve(path)?;
    if leads_to == path { Ok(()) } else { Err(MakeError::PathChanged { path: path.to_owned(), leads_to }) }
}

fn check_vacant(path: &Path) -> Result<(), MakeError> {
    match paths::look_at(path) {
        Occupancy::Gone | Occupancy::EmptyDirectory => Ok(()),
        Occupancy::Unreadable(source) => Err(MakeError::File { attempt: "look at", path: path.to_owned(), source }),
        _ if holds_nothing_but_our_scratch(path) => remove_scratch(path),
        _ => Err(MakeError::Occupied { path: path.to_owned() }),
    }
}

fn create_directory(path: &Path) -> Result<(), MakeError> {
    std::fs::create_dir_all(path).map_err(file_error("create", path))?;
    // A parent that was swapped for a symlink between the check and now.
    check_path(path)
}

pub(super) fn holds_nothing_but_our_scratch(path: &Path) -> bool {
    match std::fs::read_dir(path) {
        Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| entry.file_name() == ".git.tether-new")),
        Err(error) => paths::is_nothing_there(&error),
    }
}

pub(super) fn remove_scratch(path: &Path) -> Result<(), MakeError> {
    remove_file(&path.join(".git.tether-new"))
}

fn remove_file(path: &Path) -> Result<(), MakeError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    }
}

/// The commit to begin at; checks that the branch can be had.
fn find_start(
    repository: &Repository,
    list: &WorktreeList,
    order: &Order,
    own: Option<&Registration>,
) -> Result<ObjectId, MakeError> {
    let (name, start) = match &order.head {
        OrderedHead::Detached(id) => return Ok(*id),
        OrderedHead::NewBranch { name, start } => (name, Some(*start)),
        OrderedHead::ExistingBranch(name) => (name, None),
    };
    let is_own = |holder: &BranchHolder<'_>| matches!((holder, own), (BranchHolder::Linked(found), Some(own)) if found.name == own.name);
    if let Some(holder) = list.find_holder_of(name).filter(|holder| !is_own(holder)) {
        let path = holder.path().map(Path::to_owned).unwrap_or_default();
        return Err(MakeError::BranchHeld { name: name.clone(), path });
    }
    match (find_tip(repository, name)?, start) {
        (None, Some(start)) => Ok(start),
        // Killed between the branch and the HEAD on it: the branch is ours, still where it began.
        (Some(tip), Some(start)) if own.is_some() && (tip == start || attached(own, name)) => Ok(tip),
        (Some(_), Some(_)) => Err(MakeError::BranchExists { name: name.clone() }),
        (Some(tip), None) => Ok(tip),
        (None, None) => Err(MakeError::NoSuchBranch { name: name.clone() }),
    }
}

fn attached(own: Option<&Registration>, branch: &str) -> bool {
    own.is_some_and(|own| matches!(&own.head, Head::Branch(name) if name == branch))
}

/// The tip of a branch, asked of whoever keeps the refs.
pub fn find_tip(repository: &Repository, name: &str) -> Result<Option<ObjectId>, MakeError> {
    if repository.ref_storage() == RefStorage::Files {
        return Ok(super::worktrees::find_branch_tip(repository, name)?);
    }
    match repository.git().run(["rev-parse", "--verify", "-q", "--end-of-options", name]) {
        Ok(output) => Ok(ObjectId::from_hex(output.text().as_bytes()).ok()),
        Err(error) if error.exit_code() == Some(1) => Ok(None),
        Err(source) => Err(MakeError::Git { attempt: "look up the branch", source }),
    }
}

/// A worktree whose files git is writing.
struct Filling<'o> {
    order: &'o Order,
    admin_dir: PathBuf,
    how: How,
    git: RunningGit,
    /// What it is filled with.
    commit: ObjectId,
    /// Whether HEAD is on its branch already.
    attached: bool,
}

impl<'o> Filling<'o> {
    /// Links the worktree, and lets git fill it.
    fn start(repository: &Repository, order: &'o Order, admin_dir: PathBuf, how: How) -> Result<Self, MakeError> {
        create_directory(&order.path)?;
        remove_scratch(&order.path)?;
        // We hold the lock, and so would a git that a killed call left behind: these are nobody's any more.
        for stale in ["index.lock", "HEAD.lock"] {
            remove_file(&admin_dir.join(stale))?;
        }
        let registration = read_registration(&admin_dir, repository.common_dir());
        if !matches!(registration.place, Place::Linked) {
            worktree_register::write_link(&order.path, &admin_dir).map_err(file_error("link", &order.path))?;
        }
        let commit = commit_to_fill(repository, order)?;
        let attached = order.branch().is_some_and(|name| attached(Some(&registration), name));
        let git = repository.git_in(&order.path).start(reset_to(commit)).map_err(not_filled)?;
        Ok(Self { order, admin_dir, how, git, commit, attached })
    }

    /// Waits for git, then makes the branch and puts HEAD on it.
    fn finish(self, repository: &Repository, lock: &WorktreeLock) -> Result<Made, MakeError> {
        let Self { order, admin_dir, how, git, mut commit, attached } = self;
        git.finish().map_err(not_filled)?;
        if let Some(name) = order.branch() {
            let mut moves = 0;
            loop {
                if let OrderedHead::NewBranch { start, .. } = &order.head
                    && !attached
                {
                    create_branch(repository, name, *start)?;
                }
                let now = commit_to_fill(repository, order)?;
                if now == commit {
                    break;
                }
                moves += 1;
                if moves == FOLLOWED_MOVES {
                    return Err(MakeError::BranchMoves { name: name.to_owned() });
                }
                repository.git_in(&order.path).run(reset_to(now)).map_err(not_filled)?;
                commit = now;
            }
            if !attached {
                worktree_register::attach(repository, &order.path, &admin_dir, name, commit)
                    .map_err(|source| MakeError::Attach { name: name.to_owned(), source })?;
            }
        }
        let hook = complete(repository, order, &admin_dir, commit, lock)?;
        Ok(Made { path: order.path.clone(), admin_dir, commit, how, hook })
    }
}

/// Where HEAD is to stand: at the tip of its branch, as that is now.
fn commit_to_fill(repository: &Repository, order: &Order) -> Result<ObjectId, MakeError> {
    let name = match &order.head {
        OrderedHead::Detached(id) => return Ok(*id),
        OrderedHead::NewBranch { name, .. } | OrderedHead::ExistingBranch(name) => name,
    };
    match (find_tip(repository, name)?, &order.head) {
        (Some(tip), _) => Ok(tip),
        (None, OrderedHead::NewBranch { start, .. }) => Ok(*start),
        (None, _) => Err(MakeError::NoSuchBranch { name: name.clone() }),
    }
}

fn reset_to(commit: ObjectId) -> [String; 6] {
    let commit = commit.to_string();
    ["reset", "--hard", "-q", "--no-recurse-submodules", &commit, "--"].map(str::to_owned)
}

fn not_filled(source: GitError) -> MakeError {
    MakeError::Git { attempt: "fill the worktree", source }
}

fn create_branch(repository: &Repository, name: &str, start: ObjectId) -> Result<(), MakeError> {
    let null = ObjectId::null(repository.object_hash()).to_string();
    let git = repository.git().with_hooks(Hooks::AsConfigured);
    match git.run(["update-ref", "-m", "branch: made for a worktree", "--", name, &start.to_string(), &null]) {
        Ok(_) => Ok(()),
        Err(source) => match find_tip(repository, name)? {
            Some(tip) if tip == start => Ok(()),
            Some(_) => Err(MakeError::BranchExists { name: name.to_owned() }),
            None => Err(MakeError::Git { attempt: "make the branch", source }),
        },
    }
}

fn complete(
    repository: &Repository,
    order: &Order,
    admin_dir: &Path,
    commit: ObjectId,
    lock: &WorktreeLock,
) -> Result<HookOutcome, MakeError> {
    if order.on_disk == OnDisk::WhenMade {
        durable::sync_everything_at(&order.path).map_err(file_error("put on disk", &order.path))?;
    }
    remove_file(&admin_dir.join("locked"))?;
    let hook = if order.announced == Announced::ByHook && repository.has_hook("post-checkout") {
        lock.keep_from_children().map_err(file_error("keep the lock of", admin_dir))?;
        let null = ObjectId::null(repository.object_hash()).to_string();
        let git = repository.git_in(&order.path).with_hooks(Hooks::AsConfigured);
        let words = ["hook", "run", "--ignore-missing", "post-checkout", "--", &null, &commit.to_string(), "1"];
        git.run(words).map_or_else(HookOutcome::Failed, |_| HookOutcome::Ran)
    } else {
        HookOutcome::NotRun
    };
    worktree_mark::write(admin_dir, &order.mark.at(Stage::Made)).map_err(file_error("mark", admin_dir))?;
    Ok(hook)
}

/// Removes one admin directory, which must be one: directly below `worktrees` of a common directory. It is no registration any more in one
/// step: half of one, without its mark say, would be nobody's. The caller holds the lock of those who make worktrees.
pub(super) fn remove_admin_dir(repository: &Repository, admin_dir: &Path) -> Result<(), MakeError> {
    let remove = |path: &Path| match std::fs::remove_dir_all(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(file_error("remove", path)(error)),
        _ => Ok(()),
    };
    let aside = super::worktree_staging::directory(repository);
    remove(&aside)?;
    match std::fs::rename(admin_dir, &aside) {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        Err(error) => Err(file_error("remove", admin_dir)(error)),
        Ok(()) => remove(&aside),
    }
}

#[cfg(test)]
#[path = "worktree_make_tests.rs"]
mod tests;
