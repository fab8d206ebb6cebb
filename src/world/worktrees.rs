//! The worktrees of a repository, as they really are.
//!
//! Owns: reading every registration once, without starting a process where refs are files. Must not know: what was recorded about
//! any of them, or what follows from a difference.
//! Invariant: a worktree counts as linked only if its directory names this registration and the registration names the directory;
//! an I/O error is never taken for absence.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering};

use gix::ObjectId;
use gix::bstr::ByteSlice;

use super::paths;
use super::worktree_mark::{self, Mark};
use crate::git::{GitError, RefStorage, Repository};

/// All worktrees of one repository, read once.
#[derive(Debug)]
pub struct WorktreeList {
    common_dir: PathBuf,
    main: MainCheckout,
    linked: Vec<Registration>,
    by_path: HashMap<PathBuf, usize>,
    heads_of_reftable: HashMap<PathBuf, (ObjectId, Head)>,
}

/// The main checkout, or the bare repository in its stead.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MainCheckout {
    /// Its directory; `None` for a bare repository.
    pub path: Option<PathBuf>,
    /// What its HEAD names.
    pub head: Head,
}

/// One linked worktree as it is registered, and what stands at its path.
#[derive(Debug)]
pub struct Registration {
    /// The name of its admin directory.
    pub name: OsString,
    /// `<common dir>/worktrees/<name>`.
    pub admin_dir: PathBuf,
    /// The directory that its `gitdir` file names, resolved; `None` where that file is missing, empty or unreadable.
    pub path: Option<PathBuf>,
    /// What stands at that path.
    pub place: Place,
    /// What its HEAD names.
    pub head: Head,
    /// Whether it is locked.
    pub lock: Lock,
    /// Which run and environment it was made for, if git-tether made it.
    pub mark: Option<Mark>,
}

/// What stands at the path of a registration.
#[derive(Debug)]
pub enum Place {
    /// A directory whose `.git` names this registration.
    Linked,
    /// No path is registered, or no readable one.
    NoPath,
    /// Nothing.
    Gone,
    /// It cannot be told.
    Unreadable(std::io::Error),
    /// Something else than a directory.
    NotADirectory,
    /// A directory without a `.git`.
    Unlinked,
    /// A directory whose `.git` names another registration of this repository, or one that is not there.
    LinkBroken {
        /// Where it leads.
        target: PathBuf,
    },
    /// A directory that belongs to another repository.
    OtherRepository {
        /// The git directory there.
        git_dir: PathBuf,
    },
}

/// What a HEAD names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Head {
    /// A branch, by its full ref name; it may be yet to be born.
    Branch(String),
    /// A commit.
    Detached(ObjectId),
    /// It cannot be read, or makes no sense.
    Unreadable(String),
}

/// Whether a worktree is locked against removal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Lock {
    /// It is not.
    Unlocked,
    /// It is, for this reason (often none).
    Locked(String),
    /// `git worktree add` is at work, or was killed there.
    Initializing,
}

/// Why the worktrees could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    /// The directory of registrations could not be listed.
    #[error("could not list {}", path.display())]
    List {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// git could not list them (asked for reftable repositories only).
    #[error("could not read the heads of the worktrees")]
    Heads(#[source] GitError),
}

/// A branch or HEAD could not be looked up.
#[derive(Debug, thiserror::Error)]
#[error("could not look up {name}")]
pub struct LookUpError {
    /// The ref.
    pub name: String,
    /// Why.
    #[source]
    pub source: gix::Error,
}

/// Reads all worktrees of the repository.
pub fn read_worktrees(repository: &Repository) -> Result<WorktreeList, ListError> {
    let common_dir = repository.common_dir();
    let admin_dirs = list_admin_dirs(common_dir)?;
    let mut linked = in_parallel(&admin_dirs, |admin_dir| read_registration(admin_dir, common_dir));
    linked.sort_by(|one, other| one.name.cmp(&other.name));
    let mut main = MainCheckout { path: repository.main_checkout(), head: read_head(common_dir) };
    let mut heads_of_reftable = HashMap::new();
    if repository.ref_storage() == RefStorage::Reftable {
        heads_of_reftable = read_heads_through_git(repository)?;
        let main_path = main.path.as_deref().unwrap_or(common_dir);
        if let Some((_, head)) = heads_of_reftable.get(main_path) {
            main.head = head.clone();
        }
        for registration in &mut linked {
            if let Some((_, head)) = registration.path.as_ref().and_then(|path| heads_of_reftable.get(path)) {
                registration.head = head.clone();
            }
        }
    }
    let by_path = index_by_path(&linked);
    Ok(WorktreeList { common_dir: common_dir.to_owned(), main, linked, by_path, heads_of_reftable })
}

impl WorktreeList {
    /// The main checkout, or what stands in its stead.
    pub fn main(&self) -> &MainCheckout {
        &self.main
    }

    /// The linked worktrees, by name.
    pub fn linked(&self) -> &[Registration] {
        &self.linked
    }

    /// The directory that all of them share.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The registration of a resolved path; where several name it, the one that is linked.
    pub fn find_at(&self, path: &Path) -> Option<&Registration> {
        self.by_path.get(path).map(|index| &self.linked[*index])
    }

    /// The registration whose mark is this one; a linked one before others.
    pub fn find_marked(&self, mark: &Mark) -> Option<&Registration> {
        let bearing = || self.linked.iter().filter(|found| found.mark.as_ref().is_some_and(|own| own.names_same(mark)));
        bearing().find(|found| matches!(found.place, Place::Linked)).or_else(|| bearing().next())
    }

    /// Where a branch (full ref name) is checked out, or held by a rebase or bisect: the directory and, for linked ones, the
    /// registration. A vanished worktree holds its branch too, as it does for git.
    pub fn find_holder_of(&self, branch: &str) -> Option<BranchHolder<'_>> {
        // A rebase or bisect detaches HEAD: only there is it worth looking for one.
        let holds = |head: &Head, git_dir: &Path| match head {
            Head::Branch(name) => name == branch,
            _ => find_branch_of_operation(git_dir).is_some_and(|name| name == branch),
        };
        if let Some(path) = &self.main.path
            && holds(&self.main.head, &self.common_dir)
        {
            return Some(BranchHolder::MainCheckout(path));
        }
        self.linked.iter().find(|found| holds(&found.head, &found.admin_dir)).map(BranchHolder::Linked)
    }

    /// The commit that a worktree's HEAD stands on; `None` for an unborn branch.
    pub fn find_head_id(&self, repository: &Repository, head: &Head) -> Result<Option<ObjectId>, LookUpError> {
        match head {
            Head::Detached(id) => Ok(Some(*id)),
            Head::Unreadable(_) => Ok(None),
            Head::Branch(name) => {
                let known = self.heads_of_reftable.values().find(|(_, known)| known == head);
                match known {
                    Some((id, _)) => Ok(Some(*id).filter(|id| !id.is_null())),
                    None if repository.ref_storage() == RefStorage::Reftable => Ok(None),
                    None => find_branch_tip(repository, name),
                }
            }
        }
    }
}

/// Who holds a branch.
#[derive(Debug, Clone, Copy)]
pub enum BranchHolder<'a> {
    /// The main checkout, at this path.
    MainCheckout(&'a Path),
    /// A linked worktree.
    Linked(&'a Registration),
}

impl BranchHolder<'_> {
    /// Its directory, or where that was.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::MainCheckout(path) => Some(path),
            Self::Linked(registration) => registration.path.as_deref(),
        }
    }
}

impl Registration {
    /// Whether `git worktree prune` would take the registration away: not locked, and nothing to be found at its path.
    pub fn is_prunable(&self) -> bool {
        self.lock == Lock::Unlocked
            && matches!(self.place, Place::NoPath | Place::Gone | Place::Unlinked | Place::NotADirectory)
    }
}

/// The tip of a branch in a repository that keeps its refs in files.
pub(super) fn find_branch_tip(repository: &Repository, name: &str) -> Result<Option<ObjectId>, LookUpError> {
    let look = || {
        let found = repository.gix().try_find_reference(name);
        let failed = |source| LookUpError { name: name.to_owned(), source };
        match found.map_err(failed)? {
            Some(mut reference) => reference.peel_to_id().map(|id| Some(id.detach())).map_err(failed),
            None => Ok(None),
        }
    };
    // While somebody packs refs, one is for a moment in neither place that is looked at: only twice absent is absent.
    match look()? {
        None => look(),
        found => Ok(found),
    }
}

/// The branch (full ref name) that a rebase or bisect in progress will return to.
pub fn find_branch_of_operation(git_dir: &Path) -> Option<String> {
    find_branch_in_operation(|file| std::fs::read_to_string(git_dir.join(file)).ok())
}

/// The same, where `read` answers with the text of a file of the git directory.
pub(super) fn find_branch_in_operation(read: impl Fn(&str) -> Option<String>) -> Option<String> {
    let rebased = ["rebase-merge/head-name", "rebase-apply/head-name"].into_iter().find_map(|file| {
        let text = read(file)?;
        Some(text.trim_end().to_owned()).filter(|name| name.starts_with("refs/"))
    });
    rebased.or_else(|| {
        let text = read("BISECT_START")?;
        Some(format!("refs/heads/{}", text.trim_end())).filter(|_| read("BISECT_LOG").is_some())
    })
}

/// Whether `commit` is `ancestor` or has it among its ancestors. `None` if that cannot be told (a commit is missing: shallow, say).
pub fn find_descent(repository: &Repository, commit: ObjectId, ancestor: ObjectId) -> Option<Descent> {
    if commit == ancestor {
        return Some(Descent::Descends);
    }
    match repository.gix().merge_base(commit, ancestor) {
        Ok(Some(base)) if base.detach() == ancestor => Some(Descent::Descends),
        Ok(_) => Some(Descent::Diverged),
        Err(_) => None,
    }
}

/// How a commit stands to another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Descent {
    /// It has it among its ancestors.
    Descends,
    /// It has not.
    Diverged,
}

fn index_by_path(linked: &[Registration]) -> HashMap<PathBuf, usize> {
    let mut by_path: HashMap<PathBuf, usize> = HashMap::with_capacity(linked.len());
    for (index, registration) in linked.iter().enumerate() {
        let Some(path) = &registration.path else { continue };
        let first = by_path.entry(path.clone()).or_insert(index);
        if matches!(registration.place, Place::Linked) {
            *first = index;
        }
    }
    by_path
}

fn list_admin_dirs(common_dir: &Path) -> Result<Vec<PathBuf>, ListError> {
    let path = common_dir.join("worktrees");
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => return Err(ListError::List { path, source }),
    };
    let mut admin_dirs = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|source| ListError::List { path: path.clone(), source })?;
        if entry.file_type().is_ok_and(|found| found.is_dir()) {
            admin_dirs.push(entry.path());
        }
    }
    Ok(admin_dirs)
}

/// Maps on all cores, in order; each item costs some system calls, so that threads pay off early.
pub(super) fn in_parallel<T: Sync, R: Send>(items: &[T], map: impl Fn(&T) -> R + Sync) -> Vec<R> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let threads = cores.min(items.len() / 16);
    if threads < 2 {
        return items.iter().map(map).collect();
    }
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(item) = items.get(index) else { return done };
            done.push((index, map(item)));
        }
    };
    let mut done = std::thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut done = work();
        for other in others {
            match other.join() {
                Ok(part) => done.extend(part),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        done
    });
    done.sort_unstable_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, result)| result).collect()
}

pub(super) fn read_registration(admin_dir: &Path, common_dir: &Path) -> Registration {
    let path = read_registered_path(admin_dir);
    let place = path.as_deref().map_or(Place::NoPath, |path| look_at_place(path, admin_dir, common_dir));
    Registration {
        name: admin_dir.file_name().unwrap_or_default().to_owned(),
        admin_dir: admin_dir.to_owned(),
        path,
        place,
        head: read_head(admin_dir),
        lock: read_lock(admin_dir),
        mark: worktree_mark::find(admin_dir),
    }
}

fn read_registered_path(admin_dir: &Path) -> Option<PathBuf> {
    let mut text = std::fs::read(admin_dir.join("gitdir")).ok()?;
    text.truncate(text.trim_end().len());
    if text.is_empty() {
        return None;
    }
    let written = admin_dir.join(OsString::from_vec(text));
    let directory = if written.file_name() == Some(OsStr::new(".git")) { written.parent()? } else { &written };
    // A path that cannot be resolved (an error, a symlink into nowhere) is kept as it is written: looking at it will tell.
    Some(paths::resolve(directory).unwrap_or_else(|_| directory.to_owned()))
}

fn look_at_place(path: &Path, admin_dir: &Path, common_dir: &Path) -> Place {
    match std::fs::symlink_metadata(path) {
        Err(error) if paths::is_nothing_there(&error) => return Place::Gone,
        Err(error) => return Place::Unreadable(error),
        Ok(found) if !found.is_dir() => return Place::NotADirectory,
        Ok(_) => {}
    }
    match read_link_of(path) {
        Ok(None) => Place::Unlinked,
        Ok(Some(target)) if target == admin_dir => Place::Linked,
        Ok(Some(target)) => judge_target(target, admin_dir, common_dir),
        Err(error) => Place::Unreadable(error),
    }
}

fn judge_target(target: PathBuf, admin_dir: &Path, common_dir: &Path) -> Place {
    let real = |path: &Path| std::fs::canonicalize(path);
    match (real(&target), real(admin_dir)) {
        (Ok(target), Ok(own)) if target == own => return Place::Linked,
        (Err(error), _) if !paths::is_nothing_there(&error) => return Place::Unreadable(error),
        _ => {}
    }
    if target.parent().and_then(Path::parent) == Some(common_dir) || !target.exists() {
        return Place::LinkBroken { target };
    }
    match find_common_dir(&target) {
        Some(common) if common == common_dir => Place::LinkBroken { target },
        _ => Place::OtherRepository { git_dir: target },
    }
}

/// The git directory that `directory/.git` is or names; `None` if there is no `.git`.
pub(super) fn read_link_of(directory: &Path) -> std::io::Result<Option<PathBuf>> {
    let dot_git = directory.join(".git");
    let text = match std::fs::read(&dot_git) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::IsADirectory => return Ok(Some(dot_git)),
        Err(error) if paths::is_nothing_there(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let target =
        text.strip_prefix(b"gitdir: ").unwrap_or_default().trim_end_with(|letter| matches!(letter, '\n' | '\r'));
    Ok(Some(directory.join(OsStr::from_bytes(target))))
}

/// The common directory of a git directory, resolved.
pub(super) fn find_common_dir(git_dir: &Path) -> Option<PathBuf> {
    match std::fs::read(git_dir.join("commondir")) {
        Ok(text) => std::fs::canonicalize(git_dir.join(OsStr::from_bytes(text.trim_end()))).ok(),
        Err(_) => std::fs::canonicalize(git_dir).ok(),
    }
}

pub(super) fn read_head(git_dir: &Path) -> Head {
    let text = match std::fs::read(git_dir.join("HEAD")) {
        Ok(text) => text,
        Err(error) => return Head::Unreadable(error.to_string()),
    };
    let text = text.trim_end();
    if let Some(name) = text.strip_prefix(b"ref:") {
        return Head::Branch(name.trim().to_str_lossy().into_owned());
    }
    match ObjectId::from_hex(text) {
        Ok(id) => Head::Detached(id),
        Err(_) => Head::Unreadable(format!("it holds '{}'", text[..text.len().min(60)].to_str_lossy())),
    }
}

fn read_lock(admin_dir: &Path) -> Lock {
    match std::fs::read(admin_dir.join("locked")) {
        Ok(text) => match text.trim().to_str_lossy().as_ref() {
            "initializing" => Lock::Initializing,
            reason if reason.starts_with(worktree_mark::LOCK_PREFIX) => Lock::Initializing,
            reason => Lock::Locked(reason.to_owned()),
        },
        Err(error) if error.kind() == ErrorKind::NotFound => Lock::Unlocked,
        // What cannot be read may well be a lock: taking it for none could remove what somebody protects.
        Err(error) => Lock::Locked(format!("unreadable: {error}")),
    }
}

fn read_heads_through_git(repository: &Repository) -> Result<HashMap<PathBuf, (ObjectId, Head)>, ListError> {
    let output = repository.git().run(["worktree", "list", "--porcelain", "-z"]).map_err(ListError::Heads)?;
    let mut heads = HashMap::new();
    for record in output.stdout.split_str("\0\0") {
        let mut path = None;
        let mut id = ObjectId::null(repository.object_hash());
        let mut branch = None;
        for line in record.split_str("\0") {
            if let Some(text) = line.strip_prefix(b"worktree ") {
                path = Some(PathBuf::from(OsStr::from_bytes(text)));
            } else if let Some(text) = line.strip_prefix(b"HEAD ") {
                id = ObjectId::from_hex(text).unwrap_or(id);
            } else if let Some(text) = line.strip_prefix(b"branch ") {
                branch = Some(text.to_str_lossy().into_owned());
            }
        }
        if let Some(path) = path {
            heads.insert(path, (id, branch.map_or(Head::Detached(id), Head::Branch)));
        }
    }
    Ok(heads)
}

#[cfg(test)]
#[path = "worktrees_tests.rs"]
mod tests;
