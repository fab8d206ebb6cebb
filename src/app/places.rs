//! What a recovery does on disk: makes missing environments anew, cleans what nobody needs.
//!
//! Invariants: nothing is put where something is; what git or a directory still holds is saved before it is replaced or removed; a kill
//! in the middle leaves the environment `recovering` or `cleaning`, and the same step goes on.

use std::path::Path;

use crate::app::environment::moved;
use crate::app::failure::{Failure, FailureKind};
use crate::app::making::{PATIENCE, make_failure, remove_failure, task_in};
use crate::app::removal::{Going, Unsaved, not_the_place};
use crate::app::rescue::Return;
use crate::app::tether::Tether;
use crate::domain::environment::{
    CleanupPolicy, Environment, EnvironmentSpec, EnvironmentState, ExecutionMode, Failure as Reason, WorktreeSpec,
};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, RunId, TaskId};
use crate::domain::saved::{SavedEntry, SavedKind};
use crate::domain::task::TaskState;
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::world::paths::{self, Occupancy};
use crate::world::worktree_facts::PathFacts;
use crate::world::worktree_make::{Announced, Order, OrderedHead, Vanished, make};
use crate::world::worktree_mark::{Mark, Stage};
use crate::world::worktree_remove::{remove, undo};
use crate::world::worktrees::{Lock, Registration, WorktreeList};

/// Why a place is saved that a killed recovery had half put back: never what is put back itself.
pub(super) const HALF_PUT_BACK: &str = "found half put back";

/// How a step on disk went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceOutcome {
    /// It was done; in words.
    Done(String),
    /// The world had moved on; in words.
    Skipped(String),
    /// It would have put work at risk; in words.
    Refused(String),
}

/// An environment that is put back, and what is known of it.
struct Missing<'a> {
    run: &'a RunId,
    environment: &'a Environment,
    task: Option<TaskId>,
}

/// Whether a registration is what a try of ours began and was killed at: it has never held anything.
fn is_our_beginning(found: &Registration) -> bool {
    found.lock == Lock::Initializing && found.mark.as_ref().is_some_and(|mark| mark.stage == Stage::Filling)
}

#[allow(clippy::unnecessary_wraps, reason = "it stands where steps answer")]
fn skipped(why: impl Into<String>) -> Result<PlaceOutcome, Failure> {
    Ok(PlaceOutcome::Skipped(why.into()))
}

/// A refusal is an outcome of a step; what went wrong otherwise is a failure.
fn as_outcome(failure: Failure) -> Result<PlaceOutcome, Failure> {
    let refusals = [
        "not_saved",
        "still_changing",
        "live_process",
        "worktree_locked",
        "worktree_moved",
        "not_the_place",
        "untrusted_path",
        "contains_repository",
        "contains_environment",
        "git_at_work",
        "worktree_contains",
        "path_occupied",
        "path_registered",
        "path_changed",
        "invalid_path",
        "save_failed",
        "environment_missing",
        "environment_unreadable",
        "not_a_worktree",
        "in_the_way",
    ];
    let told = || failure.hints.iter().fold(failure.message.clone(), |text, hint| format!("{text}; {hint}"));
    match failure.kind {
        FailureKind::Busy => Ok(PlaceOutcome::Skipped(told())),
        FailureKind::Held => Ok(PlaceOutcome::Refused(told())),
        _ if matches!(failure.code, "elsewhere" | "path_unreadable" | "not_mounted") => {
            Ok(PlaceOutcome::Skipped(told()))
        }
        _ if refusals.contains(&failure.code) => Ok(PlaceOutcome::Refused(told())),
        _ => Err(failure),
    }
}

impl Tether {
    /// Makes a missing or half-made environment anew, with its saved work.
    pub fn recreate_environment(&self, run: &RunId, id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        self.try_recreate(run, id).or_else(as_outcome)
    }

    fn try_recreate(&self, run: &RunId, id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        let _making = self.take_making_lock(run, id)?;
        let view = self.read_run(run, &Need::Everything)?.view;
        let Some(environment) = view.environments.get(id) else { return skipped("there is no such environment") };
        if environment.state.is_gone() {
            return skipped(format!("it is {}", environment.state));
        }
        let missing = Missing { run, environment, task: task_in(&view, id) };
        match environment.execution_mode {
            ExecutionMode::SharedWorkspace | ExecutionMode::Remote => skipped("it is not tether's to make"),
            ExecutionMode::IsolatedWorkspace => self.recreate_directory(&missing),
            ExecutionMode::GitWorktree => self.recreate_worktree(&missing),
        }
    }

    fn recreate_directory(&self, missing: &Missing<'_>) -> Result<PlaceOutcome, Failure> {
        let Missing { run, environment, .. } = missing;
        let path = self.require_own_place(run, environment, &self.worktrees()?)?;
        let mount_point = environment.spec.mount_point.as_deref();
        if mount_point.is_some_and(|point| Self::mounts().is_ok_and(|mounts| !mounts.is_mounted(point))) {
            return skipped(format!("the file system of {} is not mounted now", path.display()));
        }
        let half = environment.state == EnvironmentState::Recovering;
        match paths::look_at(&path) {
            Occupancy::Gone | Occupancy::EmptyDirectory => {}
            Occupancy::FullDirectory if environment.state.is_unfinished() => {
                self.move_environment(run, None, &moved(&environment.id, EnvironmentState::Ready))?;
                let how = if half {
                    "it holds files already; saved work stays in `git tether salvage`"
                } else {
                    "it is there"
                };
                return Ok(PlaceOutcome::Done(format!("{}: {how}", path.display())));
            }
            Occupancy::FullDirectory => return skipped(format!("{} is there", path.display())),
            _ => return Ok(PlaceOutcome::Refused(format!("{} is not a directory", path.display()))),
        }
        let entry = self.work_to_put_back(run, &environment.id)?;
        self.note_recovering(missing, None)?;
        let made = std::fs::create_dir_all(&path);
        made.map_err(|error| {
            Failure::fatal("directory_failed", format!("could not make {}: {error}", path.display()))
        })?;
        let mut words = vec![format!("{} is made anew", path.display())];
        if let Some(entry) = &entry {
            words.extend(self.put_work_back(run, environment, entry)?);
            words.push(format!("saved work {} is back", entry.id));
        }
        self.move_environment(run, None, &moved(&environment.id, EnvironmentState::Ready))?;
        Ok(PlaceOutcome::Done(words.join("; ")))
    }

    fn recreate_worktree(&self, missing: &Missing<'_>) -> Result<PlaceOutcome, Failure> {
        let Missing { run, environment, .. } = missing;
        let list = self.worktrees()?;
        let path = self.require_own_place(run, environment, &list)?;
        if environment.state.is_unfinished() && environment.state != EnvironmentState::Recovering {
            return self.finish_making(missing, &list);
        }
        let mark = Mark::of(run.as_str(), environment.id.as_str());
        let mounts = Self::mounts()?;
        let recovering = environment.state == EnvironmentState::Recovering;
        match self.look_for(run, environment, &path, &list, &mounts) {
            PathFacts::Gone { registration } | PathFacts::EmptyDirectory { registration } => {
                let found = list.find_marked(&mark).or(registration);
                self.put_back(missing, found, &list)
            }
            PathFacts::Registered(found) if recovering => self.put_back(missing, Some(found), &list),
            PathFacts::NotAWorktree { .. } | PathFacts::LinkBroken(_) if recovering => {
                self.put_back(missing, list.find_marked(&mark), &list)
            }
            PathFacts::Registered(_) => skipped(format!("{} is there", path.display())),
            facts => Err(not_the_place(&path, &facts)),
        }
    }

    /// Goes on with a making that was interrupted.
    fn finish_making(&self, missing: &Missing<'_>, list: &WorktreeList) -> Result<PlaceOutcome, Failure> {
        let Missing { run, environment, task } = missing;
        let order = self.order_for(run, &environment.id, &environment.spec, list)?;
        let made = make(self.repository(), &order).map_err(|error| make_failure(&error))?;
        self.set_up(run, task.as_ref(), &environment.id, &made.path)?;
        self.move_environment(run, None, &moved(&environment.id, EnvironmentState::Ready))?;
        Ok(PlaceOutcome::Done(format!("the making of {} is finished", made.path.display())))
    }

    /// Makes a worktree anew at its path, sets it up, and puts its saved work back.
    fn put_back(
        &self,
        missing: &Missing<'_>,
        found: Option<&Registration>,
        list: &WorktreeList,
    ) -> Result<PlaceOutcome, Failure> {
        let Missing { run, environment, task } = missing;
        let mut words = Vec::new();
        let linked = found.is_some_and(|found| found.as_worktree().is_some());
        let made_before = found.and_then(|found| found.mark.as_ref()).is_some_and(|mark| mark.stage == Stage::Made);
        let going = Going {
            run,
            environment,
            task: task.clone(),
            reason: if linked { HALF_PUT_BACK } else { "its directory was gone" },
            unsaved: Unsaved::GiveUp,
        };
        if linked && made_before {
            // Our own half of an earlier try, or what somebody has done there since: saved, as everything is that is written over.
            self.save_environment(run, environment, task.as_ref(), HALF_PUT_BACK)?;
        } else if !linked && !found.is_some_and(is_our_beginning) {
            words.extend(self.empty_vanished(&going, found, list)?.words);
        }
        let entry = self.work_to_put_back(run, &environment.id)?;
        let back = self.way_back(run, environment, entry.as_ref(), found, list)?;
        self.note_recovering(missing, Some(&back.spec))?;
        let order = Order {
            path: environment.spec.path.clone().unwrap_or_default(),
            head: back.head.clone(),
            mark: Mark::of(run.as_str(), environment.id.as_str()),
            vanished: Vanished::Replace,
            announced: Announced::No,
            patience: PATIENCE,
        };
        let made = make(self.repository(), &order).map_err(|error| make_failure(&error))?;
        words.insert(0, format!("{} is made anew{}", made.path.display(), back.words));
        if let Err(failure) = self.set_up(run, task.as_ref(), &environment.id, &made.path) {
            self.note_failed(missing, &failure.message)?;
            return Err(failure);
        }
        if let (Some(entry), Return::InPlace) = (&entry, back.work) {
            self.clear_for(&made.path, entry)?;
            let as_made = Environment { spec: back.spec.clone(), ..(*environment).clone() };
            words.extend(self.put_work_back(run, &as_made, entry)?);
            words.push(format!("saved work {} is back", entry.id));
        }
        self.move_environment(run, None, &moved(&environment.id, EnvironmentState::Ready))?;
        Ok(PlaceOutcome::Done(words.join("; ")))
    }

    /// The newest saved work of an environment that a recovery did not save on its own way.
    fn work_to_put_back(&self, run: &RunId, id: &EnvironmentId) -> Result<Option<SavedEntry>, Failure> {
        match self.newest_saved(run, id)? {
            Some(newest) if newest.reason == HALF_PUT_BACK => {
                let mut all = self.ledger().saved_work(run.as_str())?;
                all.retain(|entry| entry.environment.as_ref() == Some(id) && entry.reason != HALF_PUT_BACK);
                let vanished = all.iter().rposition(|entry| entry.kind == SavedKind::VanishedWorktree);
                let own = all.iter().rposition(|entry| entry.kind == SavedKind::Worktree);
                Ok(own.or(vanished).map(|at| all.swap_remove(at)))
            }
            newest => Ok(newest),
        }
    }

    /// Makes way for saved work in a worktree that has just been made: what `tether.setup` changed gives way to what was saved.
    fn clear_for(&self, path: &Path, entry: &SavedEntry) -> Result<(), Failure> {
        let git = self.repository().git_in(path);
        git.run(["reset", "--hard", "-q", "--no-recurse-submodules", "HEAD", "--"])?;
        let untracked = git.run(["ls-files", "--others", "-z"])?.stdout;
        if untracked.is_empty() {
            return Ok(());
        }
        let saved = git.run(["ls-tree", "-r", "-z", "--name-only", "--full-tree", entry.commit.0.as_str()])?.stdout;
        let saved: std::collections::BTreeSet<&[u8]> = saved.split(|byte| *byte == 0).collect();
        for name in untracked.split(|byte| *byte == 0).filter(|name| !name.is_empty() && saved.contains(name)) {
            use std::os::unix::ffi::OsStrExt as _;
            let file = path.join(std::ffi::OsStr::from_bytes(name));
            std::fs::remove_file(&file).map_err(|error| {
                Failure::fatal("not_put_back", format!("could not replace {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }

    fn note_recovering(&self, missing: &Missing<'_>, spec: Option<&EnvironmentSpec>) -> Result<(), Failure> {
        let known = missing.environment;
        if known.state == EnvironmentState::Recovering && spec.is_none_or(|spec| *spec == known.spec) {
            return Ok(());
        }
        let event = RunEvent::EnvironmentMoved {
            environment: missing.environment.id.clone(),
            state: EnvironmentState::Recovering,
            spec: spec.cloned().map(Box::new),
            failure: None,
            cleanup: None,
        };
        self.move_environment(missing.run, None, &event).map(drop)
    }

    /// Writes down why a try came to nothing, once: the next one that fails alike has nothing to add.
    fn note_failed(&self, missing: &Missing<'_>, message: &str) -> Result<(), Failure> {
        let id = &missing.environment.id;
        let known = self.show_environment(missing.run, id)?;
        if known.failure.is_some_and(|failure| failure.message == message) {
            return Ok(());
        }
        let event = RunEvent::EnvironmentMoved {
            environment: missing.environment.id.clone(),
            state: EnvironmentState::Recovering,
            spec: None,
            failure: Some(Reason { message: message.to_owned(), at: self.now() }),
            cleanup: None,
        };
        self.move_environment(missing.run, None, &event).map(drop)
    }

    /// Saves and removes an environment by its policy.
    pub fn clean_environment(&self, run: &RunId, id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        self.try_clean(run, id).or_else(as_outcome)
    }

    fn try_clean(&self, run: &RunId, id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        let _making = self.take_making_lock(run, id)?;
        let view = self.read_run(run, &Need::Everything)?.view;
        let Some(environment) = view.environments.get(id) else { return skipped("there is no such environment") };
        if environment.state.is_gone() || !environment.execution_mode.is_ours_to_remove() {
            return skipped(format!("it is {} and not to be removed", environment.state));
        }
        if let Some(lease) = environment.held_lease() {
            return Ok(PlaceOutcome::Refused(format!("session {} has it", lease.session)));
        }
        let reason = match reason_to_clean(&view, environment) {
            Ok(reason) => reason,
            Err(why) => return skipped(why),
        };
        if environment.spec.cleanup_policy == CleanupPolicy::KeepAlways && !environment.state.is_unfinished() {
            let gone = environment
                .spec
                .path
                .as_deref()
                .is_some_and(|path| matches!(paths::look_at(path), Occupancy::Gone | Occupancy::EmptyDirectory));
            if !gone {
                return skipped("its policy is to keep it");
            }
        }
        let task = task_in(&view, id);
        let going = Going { run, environment, task, reason: &reason, unsaved: Unsaved::Refuse };
        let taken = self.take_away(&going)?;
        let gone = self.record_gone(&going, taken.work)?;
        let path = environment.spec.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
        let mut words = vec![format!("{path} is {} ({reason})", gone.state)];
        words.extend(taken.words);
        Ok(PlaceOutcome::Done(words.join("; ")))
    }

    /// Saves and removes a worktree of ours that no record names.
    pub fn clean_unnamed(
        &self,
        path: &Path,
        admin_dir: &Path,
        run: Option<&RunId>,
        id: Option<&EnvironmentId>,
    ) -> Result<PlaceOutcome, Failure> {
        self.try_clean_unnamed(path, admin_dir, run, id).or_else(as_outcome)
    }

    fn try_clean_unnamed(
        &self,
        path: &Path,
        admin_dir: &Path,
        run: Option<&RunId>,
        id: Option<&EnvironmentId>,
    ) -> Result<PlaceOutcome, Failure> {
        let run = run.cloned().unwrap_or_else(|| RunId::made_from("unnamed"));
        let id = id.cloned().unwrap_or_else(|| EnvironmentId::made_from("unnamed"));
        let _making = self.take_making_lock(&run, &id)?;
        let list = self.worktrees()?;
        let Some(found) = list.linked().iter().find(|known| known.admin_dir == admin_dir) else {
            return skipped("it is registered no more");
        };
        let Some(mark) = &found.mark else { return skipped("it bears no mark of ours") };
        if found.path.as_deref().is_some_and(|registered| registered != path) {
            return skipped("it stands elsewhere now");
        }
        if self.is_recorded(&run, &id, path)? {
            return skipped("a record names it");
        }
        let order = Order {
            path: path.to_owned(),
            head: OrderedHead::Detached(gix::ObjectId::null(self.repository().object_hash())),
            mark: mark.clone(),
            vanished: Vanished::Refuse,
            announced: Announced::No,
            patience: PATIENCE,
        };
        if mark.stage == Stage::Filling {
            undo(self.repository(), &order).map_err(|error| remove_failure(&error))?;
            return Ok(PlaceOutcome::Done(format!("the half-made worktree {} is undone", path.display())));
        }
        let environment = self.environment_of_unnamed(&id, found);
        let reason = "no record names it";
        let going = Going { run: &run, environment: &environment, task: None, reason, unsaved: Unsaved::Refuse };
        let taken = if found.as_worktree().is_some() {
            self.empty_worktree(&going, path, found, &list)?
        } else {
            self.empty_vanished(&going, Some(found), &list)?
        };
        remove(self.repository(), &found.name, path, mark, PATIENCE).map_err(|error| remove_failure(&error))?;
        let mut words = vec![format!("{} is removed: {reason}", path.display())];
        words.extend(taken.words);
        Ok(PlaceOutcome::Done(words.join("; ")))
    }

    /// Whether a record that counts names a worktree, by its mark or by its path. What cannot be read may name anything.
    fn is_recorded(&self, run: &RunId, id: &EnvironmentId, path: &Path) -> Result<bool, Failure> {
        let (views, unreadable) = self.read_all_runs()?;
        let names = |view: &RunView, known: &Environment| {
            !known.state.is_gone()
                && (view.run.id == *run && known.id == *id
                    || known.host == self.host_id() && known.spec.path.as_deref() == Some(path))
        };
        let recorded = views.iter().any(|view| view.environments.values().any(|known| names(view, known)));
        Ok(recorded || unreadable.iter().any(|(name, _)| name == run.as_str()))
    }

    fn environment_of_unnamed(&self, id: &EnvironmentId, found: &Registration) -> Environment {
        let spec = EnvironmentSpec {
            workspace_root: None,
            path: found.path.clone(),
            mount_point: None,
            cleanup_policy: ExecutionMode::GitWorktree.default_cleanup(),
            write_access: true,
            git_worktree: Some(WorktreeSpec::default()),
            remote_url: None,
        };
        let new = crate::domain::environment::NewEnvironment {
            id: id.clone(),
            execution_mode: ExecutionMode::GitWorktree,
            spec,
            state: EnvironmentState::Ready,
            host: self.host_id(),
        };
        Environment::request(new, self.now())
    }
}

/// Why an environment may be cleaned up now; `Err`: why not.
fn reason_to_clean(view: &RunView, environment: &Environment) -> Result<String, String> {
    let tasks: Vec<_> = view.tasks.values().filter(|task| task.environment.as_ref() == Some(&environment.id)).collect();
    let over = view.run.status.is_terminal() && view.run.fixed_by.is_some();
    // What was never finished holds nothing that a task could need: it is undone, and can be made again.
    let half_made = environment.state.is_unfinished();
    if let Some(open) = tasks.iter().find(|task| !over && !half_made && !task.state.is_terminal()) {
        return Err(format!("task {} needs it ({})", open.id, open.state));
    }
    let all = |state: TaskState| tasks.iter().all(|task| task.state == state);
    let policy = environment.spec.cleanup_policy;
    match policy {
        CleanupPolicy::RemoveOnSuccess if !all(TaskState::Completed) => {
            return Err("its task was not completed, and its policy keeps it then".to_owned());
        }
        CleanupPolicy::ArchiveOnFailure if !tasks.is_empty() && !all(TaskState::Failed) => {
            return Err("its task did not fail, and its policy keeps it then".to_owned());
        }
        _ => {}
    }
    Ok(match tasks.first() {
        None => "no task names it".to_owned(),
        Some(task) => format!("task {} is {}; policy {policy}", task.id, task.state),
    })
}
