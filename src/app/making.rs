//! What it takes to make the place of an environment: its lock, the order for its worktree, `tether.setup`, and what this machine
//! wrote down itself.
//!
//! Invariant: a path is acted on only if this machine wrote it down for that environment: below the common directory, or in the mark
//! of the worktree itself; never because a record says so.

use std::ffi::{OsStr, OsString};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::environment::{Environment, EnvironmentSpec, WorktreeSpec};
use crate::domain::ids::{EnvironmentId, Oid, RunId, TaskId};
use crate::git::TIES_TO_A_REPOSITORY;
use crate::git::settings::SETUP;
use crate::world::making_lock::{MakingLock, Taken};
use crate::world::paths::{self, Mounts};
use crate::world::supervise::run_setup;
use crate::world::worktree_facts::{Expected, PathFacts, look_at};
use crate::world::worktree_make::{self, Announced, MakeError, OnDisk, Order, OrderedHead, Vanished};
use crate::world::worktree_mark::Mark;
use crate::world::worktree_remove::RemoveError;
use crate::world::worktrees::{Registration, WorktreeList, read_worktrees};

/// How long somebody who makes a worktree waits for others who do.
pub(super) const PATIENCE: Duration = Duration::from_mins(10);

/// The full ref name of a branch.
pub(super) fn full_name(branch: &str) -> String {
    if branch.starts_with("refs/") { branch.to_owned() } else { format!("refs/heads/{branch}") }
}

/// A branch as people name it.
pub(super) fn short_name(branch: &str) -> &str {
    branch.strip_prefix("refs/heads/").unwrap_or(branch)
}

/// The object id in a record.
pub(super) fn object_id(oid: &Oid) -> Result<ObjectId, Failure> {
    ObjectId::from_hex(oid.0.as_bytes())
        .map_err(|_| Failure::fatal("invalid_record", format!("`{oid}` is no object id")))
}

/// An object id as records hold it.
pub(super) fn oid(id: ObjectId) -> Oid {
    Oid(id.to_string())
}

impl Tether {
    /// Whether somebody who lives is making, putting back or removing an environment now.
    pub fn is_being_made(&self, run: &RunId, id: &EnvironmentId) -> bool {
        MakingLock::is_held(&self.repository().tether_dir(), run.as_str(), id.as_str())
    }

    /// Takes the lock under which an environment is made, put back or removed.
    pub(super) fn take_making_lock(&self, run: &RunId, id: &EnvironmentId) -> Result<MakingLock, Failure> {
        match MakingLock::take(&self.repository().tether_dir(), run.as_str(), id.as_str()) {
            Ok(Taken::Ours(lock)) => Ok(lock),
            Ok(Taken::Held) => {
                Err(Failure::busy("environment_busy", format!("somebody is making or removing environment {run}/{id}"))
                    .hint("wait until that is done, then try again"))
            }
            Err(error) => Err(Failure::fatal("local_file", format!("could not lock environment {run}/{id}: {error}"))),
        }
    }

    fn own_place_file(&self, run: &RunId, id: &EnvironmentId) -> PathBuf {
        self.repository().tether_dir().join("places").join(run.as_str()).join(id.as_str())
    }

    /// Writes down that this machine itself put an environment there.
    pub(super) fn own_place(&self, run: &RunId, id: &EnvironmentId, path: &Path) -> Result<(), Failure> {
        self.write_local(&self.own_place_file(run, id), path.as_os_str().as_encoded_bytes())
    }

    /// Forgets what was written down of an environment that is gone.
    pub(super) fn disown_place(&self, run: &RunId, id: &EnvironmentId) {
        // What stays behind says nothing: its record is gone, and a new one is written down anew.
        let _ = std::fs::remove_file(self.own_place_file(run, id));
    }

    /// Whether this machine itself put the environment where its record says.
    pub(super) fn owns_place(&self, run: &RunId, environment: &Environment, list: &WorktreeList) -> bool {
        let Some(path) = &environment.spec.path else { return false };
        let written = std::fs::read(self.own_place_file(run, &environment.id));
        if written.is_ok_and(|written| written == path.as_os_str().as_encoded_bytes()) {
            return true;
        }
        let marked = list.find_marked(&Mark::of(run.as_str(), environment.id.as_str()));
        marked.is_some_and(|found| found.path.as_deref() == Some(path.as_path()))
    }

    /// What stands where the worktree of an environment is recorded.
    pub(super) fn look_for<'l>(
        &self,
        run: &RunId,
        environment: &Environment,
        path: &Path,
        list: &'l WorktreeList,
        mounts: &Mounts,
    ) -> PathFacts<'l> {
        let mark = Mark::of(run.as_str(), environment.id.as_str());
        let branch = environment.spec.git_worktree.as_ref().and_then(|spec| spec.branch.as_deref()).map(full_name);
        let mount_point = environment.spec.mount_point.as_deref();
        let expected = Expected { path, mount_point, mark: Some(&mark), branch: branch.as_deref() };
        match look_at(&expected, list, mounts) {
            // What this machine made bears its mark wherever it is moved to: another worktree on its branch is not it.
            PathFacts::MovedTo(found)
                if found.mark.as_ref().is_none_or(|own| !own.names_same(&mark))
                    && self.owns_place(run, environment, list) =>
            {
                look_at(&Expected { branch: None, ..expected }, list, mounts)
            }
            facts => facts,
        }
    }

    /// Refuses to act on a path that came with a record of somebody else.
    pub(super) fn require_own_place(
        &self,
        run: &RunId,
        environment: &Environment,
        list: &WorktreeList,
    ) -> Result<PathBuf, Failure> {
        let id = &environment.id;
        if environment.host != self.host_id() {
            let host = &environment.host;
            return Err(Failure::fatal("elsewhere", format!("environment {run}/{id} is on another machine, {host}"))
                .hint("do it there"));
        }
        let path = environment
            .spec
            .path
            .clone()
            .ok_or_else(|| Failure::fatal("no_path", format!("environment {run}/{id} has no path")))?;
        if self.owns_place(run, environment, list) {
            return Ok(path);
        }
        let shown = path.display();
        Err(Failure::fatal(
            "untrusted_path",
            format!("{shown} stands in the record of environment {run}/{id}, but this machine did not write it there"),
        )
        .hint(format!("look at it; `git tether env adopt {shown}` takes a worktree over")))
    }

    /// The worktrees as they are.
    pub(super) fn worktrees(&self) -> Result<WorktreeList, Failure> {
        read_worktrees(self.repository()).map_err(|error| Failure::fatal("worktrees_unreadable", chain_of(&error)))
    }

    /// The file systems that are mounted.
    pub(super) fn mounts() -> Result<Mounts, Failure> {
        Mounts::read().map_err(|error| Failure::fatal("mounts_unreadable", chain_of(&error)))
    }

    /// Where a path that somebody typed leads: absolute, resolved, and such that a record can hold it.
    pub(super) fn typed_path(&self, typed: &Path) -> Result<PathBuf, Failure> {
        let absolute = self.repository().surroundings().directory().join(typed);
        let resolved = paths::resolve(&absolute).map_err(|error| Failure::fatal("invalid_path", chain_of(&error)))?;
        match resolved.to_str() {
            Some(text) if !text.chars().any(char::is_control) => Ok(resolved),
            Some(text) => Err(Failure::fatal(
                "invalid_path",
                format!("{} holds control characters, which no environment's path may", text.escape_debug()),
            )),
            None => {
                Err(Failure::fatal("invalid_path", format!("{} is not UTF-8, which records need", resolved.display())))
            }
        }
    }

    /// The tip of a branch (full ref name), if it is there.
    pub(super) fn branch_tip(&self, branch: &str) -> Result<Option<ObjectId>, Failure> {
        worktree_make::find_tip(self.repository(), branch).map_err(|error| make_failure(&error))
    }

    /// The worktree to make for an environment as its record describes it.
    pub(super) fn order_for(
        &self,
        run: &RunId,
        id: &EnvironmentId,
        spec: &EnvironmentSpec,
        list: &WorktreeList,
    ) -> Result<Order, Failure> {
        let incomplete = || Failure::fatal("invalid_record", format!("environment {run}/{id} is no complete worktree"));
        let worktree = spec.git_worktree.as_ref().ok_or_else(incomplete)?;
        let mark = Mark::of(run.as_str(), id.as_str());
        Ok(Order {
            path: spec.path.clone().ok_or_else(incomplete)?,
            head: self.ordered_head(worktree, list.find_marked(&mark))?.ok_or_else(incomplete)?,
            mark,
            vanished: Vanished::Refuse,
            announced: Announced::ByHook,
            on_disk: OnDisk::WhenMade,
            patience: PATIENCE,
        })
    }

    /// What HEAD is to be: a branch that was there or that a worktree already begun has made, or one yet to be made.
    fn ordered_head(
        &self,
        worktree: &WorktreeSpec,
        begun: Option<&Registration>,
    ) -> Result<Option<OrderedHead>, Failure> {
        let base = worktree.base_commit.as_ref().map(object_id).transpose()?;
        let Some(branch) = &worktree.branch else { return Ok(base.map(OrderedHead::Detached)) };
        let name = full_name(branch);
        let is_there = self.branch_tip(&name)?.is_some();
        Ok(match base {
            Some(start) if worktree.branch_created && (begun.is_some() || !is_there) => {
                Some(OrderedHead::NewBranch { name, start })
            }
            _ => Some(OrderedHead::ExistingBranch(name)),
        })
    }

    /// Runs `tether.setup` in a worktree that has just been made.
    pub(super) fn set_up(
        &self,
        run: &RunId,
        task: Option<&TaskId>,
        id: &EnvironmentId,
        path: &Path,
    ) -> Result<(), Failure> {
        let Some(command) = self.repository().settings().read(&SETUP)? else { return Ok(()) };
        let text = |name: &str, value: &OsStr| (OsString::from(name), value.to_owned());
        let mut set = vec![
            text("TETHER_RUN", OsStr::new(run.as_str())),
            text("TETHER_ENVIRONMENT", OsStr::new(id.as_str())),
            text("TETHER_GIT_DIR", self.repository().common_dir().as_os_str()),
        ];
        set.extend(task.map(|task| text("TETHER_TASK", OsStr::new(task.as_str()))));
        let failed = |how: String| {
            Failure::fatal("setup_failed", format!("tether.setup (`{command}`) failed in {}: {how}", path.display()))
                .hint("repair it, then do the same again: it is run anew")
        };
        match run_setup(OsStr::new(&command), path, &set, TIES_TO_A_REPOSITORY) {
            Ok(status) if status.success() => Ok(()),
            Ok(status) => Err(failed(status.to_string())),
            Err(error) => Err(failed(error.to_string())),
        }
    }
}

/// The task of a run that works in an environment.
pub(super) fn task_in(view: &crate::domain::view::RunView, id: &EnvironmentId) -> Option<TaskId> {
    view.tasks.values().find(|task| task.environment.as_ref() == Some(id)).map(|task| task.id.clone())
}

/// Why a worktree was not made, for people.
pub(super) fn make_failure(error: &MakeError) -> Failure {
    let message = match error {
        MakeError::BranchHeld { name, path } => {
            format!("the branch {} is checked out at {}", short_name(name), path.display())
        }
        MakeError::BranchExists { name } => format!("the branch {} exists already", short_name(name)),
        MakeError::NoSuchBranch { name } => format!("there is no branch {}", short_name(name)),
        error => chain_of(error),
    };
    match error {
        error if error.is_busy() => Failure::busy("worktrees_busy", message).hint("try again"),
        MakeError::Occupied { .. } => Failure::fatal("path_occupied", message)
            .hint("nothing that is there is ever overwritten: move it away, or name another place with --path"),
        MakeError::RegisteredForOthers { .. } => Failure::fatal("path_registered", message)
            .hint("`git worktree list` shows it; `git tether env adopt PATH` takes it over"),
        MakeError::PathChanged { .. } | MakeError::Path(_) => Failure::fatal("invalid_path", message),
        MakeError::Moved { path } => {
            Failure::fatal("worktree_moved", message).hint(format!("`git tether env adopt {}`", path.display()))
        }
        MakeError::Vanished { .. } => Failure::fatal("worktree_vanished", message)
            .hint("`git tether recover --recreate` saves what git holds of it and makes it anew"),
        MakeError::Locked { .. } => Failure::fatal("worktree_locked", message).hint("`git worktree unlock` it first"),
        MakeError::BranchExists { .. } => {
            Failure::fatal("branch_exists", message).hint("name another one with --branch")
        }
        MakeError::NoSuchBranch { .. } => Failure::fatal("unknown_branch", message),
        MakeError::BranchHeld { .. } => {
            Failure::fatal("branch_checked_out", message).hint("name another branch with --branch")
        }
        _ => Failure::fatal("worktree_failed", message),
    }
}

/// Why a worktree was not removed, for people.
pub(super) fn remove_failure(error: &RemoveError) -> Failure {
    match error {
        RemoveError::Make(error) => make_failure(error),
        RemoveError::Complete { .. } => Failure::fatal("worktree_complete", chain_of(error)),
        RemoveError::Contains { .. } => Failure::fatal("worktree_contains", chain_of(error)),
        RemoveError::Elsewhere { .. } => Failure::fatal("worktree_moved", chain_of(error)),
        RemoveError::Branch { .. } => Failure::fatal("branch_not_deleted", chain_of(error)),
    }
}
