//! Cleaning up: environments that nobody needs, and worktrees of ours that no record names.
//!
//! Invariants: what git or a directory still holds is saved before it is removed; a kill in the middle leaves the environment `cleaning`,
//! and the same step goes on.

use std::path::Path;

use crate::app::failure::{Failure, FailureKind};
use crate::app::making::{PATIENCE, remove_failure, task_in};
use crate::app::removal::{Going, Unsaved};
use crate::app::tether::Tether;
use crate::domain::environment::{
    CleanupPolicy, Environment, EnvironmentSpec, EnvironmentState, ExecutionMode, WorktreeSpec,
};
use crate::domain::ids::{EnvironmentId, RunId};
use crate::domain::task::TaskState;
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::world::paths::{self, Occupancy};
use crate::world::worktree_make::{Announced, OnDisk, Order, OrderedHead, Vanished};
use crate::world::worktree_mark::Stage;
use crate::world::worktree_remove::{remove, undo};
use crate::world::worktrees::Registration;

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

#[allow(clippy::unnecessary_wraps, reason = "it stands where steps answer")]
pub(super) fn skipped(why: impl Into<String>) -> Result<PlaceOutcome, Failure> {
    Ok(PlaceOutcome::Skipped(why.into()))
}

/// A refusal is an outcome of a step; what went wrong otherwise is a failure.
pub(super) fn as_outcome(failure: Failure) -> Result<PlaceOutcome, Failure> {
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
            on_disk: OnDisk::WhenMade,
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
