//! Taking the place of an environment away: saved first, looked at again, then removed.
//!
//! Invariants: nothing goes that could not be saved, unless somebody gave exactly that up; nothing goes in which a process stands, that
//! git has locked, or that is not the very place that was recorded; a branch goes only when its commits are to be found elsewhere.

use std::path::{Path, PathBuf};

use crate::app::failure::{Failure, chain_of};
use crate::app::making::{PATIENCE, remove_failure, task_in};
use crate::app::tether::Tether;
use crate::domain::environment::{Cleanup, CleanupPolicy, Environment, EnvironmentState, ExecutionMode};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, Oid, RunId, TaskId};
use crate::store::runs::Need;
use crate::world::paths::{self, Occupancy};
use crate::world::worktree_facts::PathFacts;
use crate::world::worktree_mark::{Mark, Stage};
use crate::world::worktree_remove::{RemoveError, remove, undo};
use crate::world::worktrees::{Lock, Registration, WorktreeList};

/// How often a place that changes while it is saved is saved again before it is left alone.
const MOST_SAVES: usize = 3;

/// What becomes of files that cannot be saved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unsaved {
    /// They keep the place from being removed.
    Refuse,
    /// Somebody gave them up.
    GiveUp,
}

/// What came of taking a place away.
#[derive(Debug, Default)]
pub(super) struct Taken {
    /// The saved work, if there was any.
    pub(super) work: Option<Oid>,
    /// What a person should know.
    pub(super) words: Vec<String>,
}

/// A place that is to be taken away, and for whom.
pub(super) struct Going<'a> {
    pub(super) run: &'a RunId,
    pub(super) environment: &'a Environment,
    pub(super) task: Option<TaskId>,
    pub(super) reason: &'a str,
    pub(super) unsaved: Unsaved,
}

impl Tether {
    /// Saves what an environment holds and removes it; answers with it and what a person should know. One that is not there is no
    /// error.
    pub fn remove_environment(
        &self,
        run: &RunId,
        id: &EnvironmentId,
        unsaved: Unsaved,
    ) -> Result<(Option<Environment>, Vec<String>), Failure> {
        if self.ledger().read_run(run, &Need::run().with_environment(id))?.is_none() {
            return Ok((None, Vec::new()));
        }
        let _making = self.take_making_lock(run, id)?;
        let view = self.read_run(run, &Need::Everything)?.view;
        let Some(environment) = view.environments.get(id).cloned() else { return Ok((None, Vec::new())) };
        if environment.state.is_gone() {
            return Ok((Some(environment), Vec::new()));
        }
        if let Some(lease) = environment.held_lease() {
            self.require_dead_holder(&lease.session, &format!("environment {run}/{id}"))?;
        }
        let (task, reason) = (task_in(&view, id), "removed by hand");
        let going = Going { run, environment: &environment, task, reason, unsaved };
        let taken = self.take_away(&going)?;
        let removed = self.record_gone(&going, taken.work)?;
        Ok((Some(removed), taken.words))
    }

    /// Writes down that an environment is gone, and lets go of what stood behind its lease.
    pub(super) fn record_gone(&self, going: &Going<'_>, work: Option<Oid>) -> Result<Environment, Failure> {
        let Going { run, environment, task, reason, .. } = going;
        let always = environment.spec.cleanup_policy == CleanupPolicy::ArchiveAlways;
        let state = if work.is_some() || always { EnvironmentState::Archived } else { EnvironmentState::Removed };
        let cleanup = Some(Cleanup { reason: (*reason).to_owned(), work, at: self.now() });
        let id = environment.id.clone();
        let gone = RunEvent::EnvironmentMoved { environment: id, state, spec: None, failure: None, cleanup };
        let gone = self.move_environment(run, task.as_ref(), &gone)?;
        self.give_place_back(run, environment)?;
        self.disown_place(run, &environment.id);
        Ok(gone)
    }

    /// Takes away the place of an environment; a shared or remote one is nobody's to take. The caller holds the making lock.
    pub(super) fn take_away(&self, going: &Going<'_>) -> Result<Taken, Failure> {
        match going.environment.execution_mode {
            ExecutionMode::SharedWorkspace | ExecutionMode::Remote => Ok(Taken::default()),
            ExecutionMode::IsolatedWorkspace => self.take_directory_away(going),
            ExecutionMode::GitWorktree => self.take_worktree_away(going),
        }
    }

    fn take_worktree_away(&self, going: &Going<'_>) -> Result<Taken, Failure> {
        let Going { run, environment, .. } = going;
        let list = self.worktrees()?;
        let path = self.require_own_place(run, environment, &list)?;
        if environment.state.is_unfinished() && self.undo_half_made(run, environment, &list)? {
            return Ok(Taken::default());
        }
        let mark = Mark::of(run.as_str(), environment.id.as_str());
        let spec = environment.spec.git_worktree.clone().unwrap_or_default();
        let mounts = Self::mounts()?;
        let (mut taken, registration) = match self.look_for(run, environment, &path, &list, &mounts) {
            PathFacts::Registered(found) => (self.empty_worktree(going, &path, found, &list)?, Some(found)),
            PathFacts::Gone { registration } | PathFacts::EmptyDirectory { registration } => {
                let found = list.find_marked(&mark).or(registration);
                let taken = self.empty_vanished(going, found, &list)?;
                (Taken { work: known_work(environment).or(taken.work), ..taken }, found)
            }
            facts => match list.find_marked(&mark).filter(|found| is_being_removed(environment, found)) {
                Some(found) => (self.empty_remains(going, &path)?, Some(found)),
                None => return Err(not_the_place(&path, &facts)),
            },
        };
        if let Some(found) = registration {
            remove(self.repository(), &found.name, &path, &mark, PATIENCE).map_err(|error| remove_failure(&error))?;
        }
        if matches!(paths::look_at(&path), Occupancy::EmptyDirectory) {
            // It was empty a moment ago; if that has changed, this fails and the directory stays.
            let _ = std::fs::remove_dir(&path);
        }
        if spec.branch_created {
            taken.words.extend(self.let_branch_go(run, &environment.id, &spec)?);
        }
        Ok(taken)
    }

    /// Undoes a making that never came to its end; answers whether there is nothing left then.
    fn undo_half_made(&self, run: &RunId, environment: &Environment, list: &WorktreeList) -> Result<bool, Failure> {
        let order = self.order_for(run, &environment.id, &environment.spec, list)?;
        match undo(self.repository(), &order) {
            Ok(_) => Ok(matches!(paths::look_at(&order.path), Occupancy::Gone)),
            Err(RemoveError::Complete { .. }) => Ok(false),
            Err(error) => Err(remove_failure(&error)),
        }
    }

    /// Saves what a worktree holds, and makes sure that nobody minds its going.
    pub(super) fn empty_worktree(
        &self,
        going: &Going<'_>,
        path: &Path,
        found: &Registration,
        list: &WorktreeList,
    ) -> Result<Taken, Failure> {
        require_unlocked(path, found)?;
        require_no_git_at_work(path, found)?;
        self.require_no_other_place_inside(going.run, &going.environment.id, path)?;
        self.require_nobody_inside(path)?;
        let taken = self.save_until_it_holds_still(going)?;
        self.keep_loose_head(going.run, &going.environment.id, &found.head, list)?;
        self.require_nobody_inside(path)?;
        require_no_git_at_work(path, found)?;
        self.note_cleaning(going, taken.work.as_ref())?;
        Ok(taken)
    }

    /// Saves what git still holds of a worktree whose directory has vanished.
    pub(super) fn empty_vanished(
        &self,
        going: &Going<'_>,
        found: Option<&Registration>,
        list: &WorktreeList,
    ) -> Result<Taken, Failure> {
        let Some(found) = found else { return Ok(Taken::default()) };
        require_unlocked(found.path.as_deref().unwrap_or(&found.admin_dir), found)?;
        let id = &going.environment.id;
        let saved = self.save_vanished(going.run, id, going.task.as_ref(), &found.admin_dir)?;
        self.keep_loose_head(going.run, id, &found.head, list)?;
        Ok(Taken { work: saved.entry.map(|entry| entry.commit), words: saved.warnings })
    }

    /// Saves what a removal that was killed has left of a worktree; its work was saved before that removal began.
    fn empty_remains(&self, going: &Going<'_>, path: &Path) -> Result<Taken, Failure> {
        self.require_nobody_inside(path)?;
        let remains = self.save_remains(going.run, going.task.as_ref(), path)?;
        let taken = Self::require_all_saved(going, remains)?;
        Ok(Taken { work: known_work(going.environment).or(taken.work), ..taken })
    }

    /// Saves a place again and again until two saves in a row find the same.
    fn save_until_it_holds_still(&self, going: &Going<'_>) -> Result<Taken, Failure> {
        let save = || self.save_environment(going.run, going.environment, going.task.as_ref(), going.reason);
        let mut last = save()?;
        for _ in 0..MOST_SAVES {
            let again = save()?;
            let commit =
                |saved: &crate::app::saving::SavedPlace| saved.entry.as_ref().map(|entry| entry.commit.clone());
            if commit(&last) == commit(&again) {
                return Self::require_all_saved(going, again);
            }
            last = again;
        }
        Err(Failure::fatal(
            "still_changing",
            format!("environment {}/{} changes while it is saved: it stays", going.run, going.environment.id),
        )
        .hint("somebody is at work there; end that, then try again"))
    }

    fn require_all_saved(going: &Going<'_>, saved: crate::app::saving::SavedPlace) -> Result<Taken, Failure> {
        let (run, id) = (going.run, &going.environment.id);
        let names: Vec<String> = saved.not_saved.iter().map(|(name, why)| format!("{name} ({why})")).collect();
        let mut words = saved.warnings;
        if !names.is_empty() {
            let names = names.join(", ");
            if going.unsaved == Unsaved::Refuse {
                return Err(Failure::fatal(
                    "not_saved",
                    format!("environment {run}/{id} holds files that are not saved: {names}"),
                )
                .hint(format!(
                    "take them elsewhere, or give them up with `git tether env remove {run}/{id} --force`"
                )));
            }
            words.push(format!("given up without being saved: {names}"));
        }
        if saved.ignored > 0 {
            words.push(format!("{} ignored files and directories go with it", saved.ignored));
        }
        let work = saved.entry.map(|entry| {
            words.push(format!("its work is saved: git tether salvage show {}", entry.id));
            entry.commit
        });
        Ok(Taken { work, words })
    }

    /// Writes down that the removal begins, and what was saved before it: whoever goes on with it cannot save that again.
    fn note_cleaning(&self, going: &Going<'_>, work: Option<&Oid>) -> Result<(), Failure> {
        let Going { run, environment, task, reason, .. } = going;
        let id = &environment.id;
        let named = self.ledger().read_run(run, &Need::run().with_environment(id))?;
        let known = named.is_some_and(|read| read.view.environments.contains_key(id));
        if !known || environment.state == EnvironmentState::Cleaning && known_work(environment).as_ref() == work {
            return Ok(());
        }
        let cleanup = Some(Cleanup { reason: (*reason).to_owned(), work: work.cloned(), at: self.now() });
        let state = EnvironmentState::Cleaning;
        let begun = RunEvent::EnvironmentMoved { environment: id.clone(), state, spec: None, failure: None, cleanup };
        self.move_environment(run, task.as_ref(), &begun).map(drop)
    }

    fn require_nobody_inside(&self, path: &Path) -> Result<(), Failure> {
        let inside = self.processes().find_standing_in(path).inside;
        if inside.is_empty() {
            return Ok(());
        }
        let own = std::process::id();
        let named = inside.iter().map(|one| match one.pid {
            pid if pid == own => "this command itself".to_owned(),
            pid => format!("process {pid} ({}) in {}", one.name, one.directory.display()),
        });
        let named: Vec<_> = named.take(8).collect();
        Err(Failure::fatal("live_process", format!("somebody stands in {}: {}", path.display(), named.join(", ")))
            .hint("end it, or let it go elsewhere; then try again"))
    }

    fn take_directory_away(&self, going: &Going<'_>) -> Result<Taken, Failure> {
        let list = self.worktrees()?;
        let path = self.require_own_place(going.run, going.environment, &list)?;
        let mounts = Self::mounts()?;
        if let Some(away) = going.environment.spec.mount_point.as_deref().filter(|point| !mounts.is_mounted(point)) {
            return Err(Failure::fatal("not_mounted", format!("{} is not mounted now", away.display())));
        }
        match paths::look_at(&path) {
            Occupancy::Gone => return Ok(Taken { work: known_work(going.environment), words: Vec::new() }),
            Occupancy::EmptyDirectory | Occupancy::FullDirectory => {}
            _ => return Err(Failure::fatal("not_the_place", format!("{} is not a directory", path.display()))),
        }
        let resolved = paths::resolve(&path).map_err(|error| Failure::fatal("invalid_path", chain_of(&error)))?;
        if resolved != path {
            let (path, resolved) = (path.display(), resolved.display());
            return Err(Failure::fatal("path_changed", format!("{path} now leads to {resolved}")));
        }
        self.require_nothing_of_git_inside(&path, &list)?;
        self.require_no_other_place_inside(going.run, &going.environment.id, &path)?;
        self.require_nobody_inside(&path)?;
        let taken = self.save_until_it_holds_still(going)?;
        self.require_nobody_inside(&path)?;
        let taken = Taken { work: known_work(going.environment).or(taken.work), ..taken };
        self.note_cleaning(going, taken.work.as_ref())?;
        paths::remove_directory(&path).map_err(|error| Failure::fatal("not_removed", chain_of(&error)))?;
        Ok(taken)
    }

    fn require_nothing_of_git_inside(&self, path: &Path, list: &WorktreeList) -> Result<(), Failure> {
        let linked = list.linked().iter().filter_map(|known| known.path.clone());
        let home = list.main().path.clone().into_iter().chain([self.repository().common_dir().to_owned()]);
        let inner: Option<PathBuf> = linked.chain(home).find(|inner| inner.starts_with(path) && inner.exists());
        match inner {
            None => Ok(()),
            Some(inner) => Err(Failure::fatal(
                "contains_repository",
                format!("{} lies inside {}: it stays", inner.display(), path.display()),
            )),
        }
    }
}

/// What a removal that was killed had saved before it began to remove anything.
fn known_work(environment: &Environment) -> Option<Oid> {
    let cleanup = environment.cleanup.as_ref().filter(|_| environment.state == EnvironmentState::Cleaning)?;
    cleanup.work.clone()
}

/// Whether we began to remove the worktree, and were killed: both the record and the mark say so.
fn is_being_removed(environment: &Environment, found: &Registration) -> bool {
    environment.state == EnvironmentState::Cleaning
        && found.mark.as_ref().is_some_and(|mark| mark.stage == Stage::Removing)
}

fn require_unlocked(path: &Path, found: &Registration) -> Result<(), Failure> {
    match &found.lock {
        Lock::Unlocked => Ok(()),
        Lock::Initializing => Err(Failure::fatal(
            "worktree_locked",
            format!("the worktree {} is still being made, or its making was interrupted", path.display()),
        )),
        Lock::Locked(reason) => {
            let why = if reason.is_empty() { String::new() } else { format!(": {reason}") };
            Err(Failure::fatal("worktree_locked", format!("the worktree {} is locked{why}", path.display()))
                .hint(format!("if it may go: git worktree unlock {}", path.display())))
        }
    }
}

/// Refuses while a git program holds one of the worktree's own locks: it may stand anywhere and still write there.
fn require_no_git_at_work(path: &Path, found: &Registration) -> Result<(), Failure> {
    let locks = ["index.lock", "HEAD.lock"].map(|name| found.admin_dir.join(name));
    match locks.iter().find(|lock| std::fs::symlink_metadata(lock).is_ok()) {
        None => Ok(()),
        Some(lock) => Err(Failure::fatal(
            "git_at_work",
            format!("a git program is at work in {}, or was killed there: {} is there", path.display(), lock.display()),
        )
        .hint(format!("wait for it; if no git runs there any more: rm {}", lock.display()))),
    }
}

/// That what stands at a path is not the place that was recorded.
pub(super) fn not_the_place(path: &Path, facts: &PathFacts<'_>) -> Failure {
    let shown = path.display();
    let (code, what) = match facts {
        PathFacts::MovedTo(found) => {
            let to = found.path.as_deref().unwrap_or(&found.admin_dir).display();
            let message = format!("the worktree of {shown} stands at {to} now");
            return Failure::fatal("worktree_moved", message)
                .hint(format!("take it over there first: git tether env adopt {to}"));
        }
        PathFacts::Unreadable(why) => ("path_unreadable", format!("it cannot be looked at: {why}")),
        PathFacts::NotMounted { mount_point } => {
            ("not_mounted", format!("{} is not mounted now", mount_point.display()))
        }
        PathFacts::LinkBroken(_) => ("not_the_place", "its `.git` does not name its registration".to_owned()),
        PathFacts::OtherRepository { git_dir } => {
            ("not_the_place", format!("it belongs to another repository, {}", git_dir.display()))
        }
        PathFacts::MainCheckout => ("not_the_place", "it is the main checkout".to_owned()),
        PathFacts::NotADirectory(what) => ("not_the_place", format!("{what} stands there")),
        _ => ("not_the_place", "it is not a worktree of this repository".to_owned()),
    };
    Failure::fatal(code, format!("{shown} is not the recorded worktree: {what}"))
        .hint("nothing there was touched; look at it, and move it away if it is not needed")
}
