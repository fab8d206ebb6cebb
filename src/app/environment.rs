//! Environments: added, listed, shown.
//!
//! Invariant: what is asked for is written down before anything is made, and a kill at any moment leaves a record with which the same
//! call, `recover --recreate` or `recover --clean` goes on. A call that is refused leaves neither a record nor anything on disk.

use std::path::PathBuf;

use crate::app::failure::{Failure, chain_of};
use crate::app::listing::Listing;
use crate::app::making::{make_failure, remove_failure};
use crate::app::tether::Tether;
use crate::domain::environment::{
    CleanupPolicy, Environment, EnvironmentSpec, EnvironmentState, ExecutionMode, Failure as Reason, NewEnvironment,
};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, RunId, TaskAddress, TaskId};
use crate::store::runs::Need;
use crate::world::worktree_make::{HookOutcome, make};
use crate::world::worktree_remove::undo;

/// What somebody asks for who adds an environment.
#[derive(Debug, Clone)]
pub struct AddEnvironment {
    /// What kind of place.
    pub mode: ExecutionMode,
    /// Its id; made from the task's if it is left out.
    pub id: Option<EnvironmentId>,
    /// Where; below the worktree root if it is left out.
    pub path: Option<PathBuf>,
    /// The branch of a worktree.
    pub branch: Option<String>,
    /// What a worktree starts from; HEAD if it is left out.
    pub base: Option<String>,
    /// What is done with it at the end.
    pub cleanup_policy: Option<CleanupPolicy>,
    /// Where a remote one is.
    pub remote_url: Option<String>,
    /// Whether the task may write there.
    pub write_access: bool,
}

/// The move of an environment to a state, nothing else said.
pub(super) fn moved(id: &EnvironmentId, state: EnvironmentState) -> RunEvent {
    RunEvent::EnvironmentMoved { environment: id.clone(), state, spec: None, failure: None, cleanup: None }
}

impl Tether {
    /// Makes an environment for a task; answers with it and what a person should know. One whose making was interrupted, or failed, is
    /// made under the same id.
    pub fn add_environment(
        &self,
        task: &TaskAddress,
        asked: &AddEnvironment,
    ) -> Result<(Environment, Vec<String>), Failure> {
        self.require_task(task)?;
        let made_up = || EnvironmentId::made_from(&format!("env-{}", task.task));
        let id = asked.id.clone().unwrap_or_else(made_up);
        let _making = self.take_making_lock(&task.run, &id)?;
        let need = Need::run().with_environment(&id);
        let known = self.read_run(&task.run, &need)?.view.environments.remove(&id);
        let begun = self.require_room(&task.run, known)?;
        let choosing = self.lock_paths()?;
        let spec = self.plan_spec(task, &id, asked, begun.as_ref())?;
        self.request_environment(task, &id, asked.mode, &spec)?;
        drop(choosing);
        let warnings = match asked.mode {
            ExecutionMode::GitWorktree => self.make_requested_worktree(task, &id, &spec)?,
            ExecutionMode::IsolatedWorkspace => self.make_requested_directory(task, &id, &spec)?,
            ExecutionMode::SharedWorkspace | ExecutionMode::Remote => Vec::new(),
        };
        Ok((self.show_environment(&task.run, &id)?, warnings))
    }

    /// Refuses an id that is taken; answers with the record of an earlier try that came to nothing.
    fn require_room(&self, run: &RunId, known: Option<Environment>) -> Result<Option<Environment>, Failure> {
        let Some(known) = known.filter(|known| !known.state.is_gone()) else { return Ok(None) };
        let id = &known.id;
        let again = matches!(
            known.state,
            EnvironmentState::Requested | EnvironmentState::Provisioning | EnvironmentState::Failed
        );
        if again && known.host == self.host_id() {
            return Ok(Some(known));
        }
        let failure = Failure::fatal("environment_exists", format!("environment {run}/{id} exists ({})", known.state));
        Err(match known.state {
            EnvironmentState::Recovering => failure.hint("`git tether recover --recreate` puts it back"),
            _ => failure.hint(format!(
                "look at it with `git tether env show {run}/{id}`, or give the new one a name with --id"
            )),
        })
    }

    /// Writes down what is asked for, and that this machine did so.
    fn request_environment(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        mode: ExecutionMode,
        spec: &EnvironmentSpec,
    ) -> Result<(), Failure> {
        let state = if mode.is_ours_to_remove() { EnvironmentState::Requested } else { EnvironmentState::Ready };
        let new =
            NewEnvironment { id: id.clone(), execution_mode: mode, spec: spec.clone(), state, host: self.host_id() };
        if let Some(path) = &spec.path {
            self.own_place(&task.run, id, path)?;
        }
        let need = Need::run().with_task(&task.task).with_environment(id);
        let event = RunEvent::EnvironmentRequested { task: Some(task.task.clone()), environment: Box::new(new) };
        self.change_run(&task.run, &need, |_| Ok(event.clone().into()))?;
        if mode.is_ours_to_remove() {
            self.move_environment(&task.run, Some(&task.task), &moved(id, EnvironmentState::Provisioning))?;
        }
        Ok(())
    }

    /// Refuses a task that is not there.
    pub(super) fn require_task(&self, task: &TaskAddress) -> Result<(), Failure> {
        let view = self.read_run(&task.run, &Need::run().with_task(&task.task))?.view;
        if view.tasks.contains_key(&task.task) { Ok(()) } else { Err(self.unknown_task(task)) }
    }

    /// Writes one change of an environment. The task that works there is told: a place that is well again takes its reasons off it;
    /// without a task, whichever names it.
    pub(super) fn move_environment(
        &self,
        run: &RunId,
        task: Option<&TaskId>,
        event: &RunEvent,
    ) -> Result<Environment, Failure> {
        let Some(id) = event.environment().cloned() else {
            return Err(Failure::fatal("unknown_environment", "the change names no environment"));
        };
        let need = task.map_or(Need::Everything, |task| Need::run().with_task(task).with_environment(&id));
        let done = self.change_run(run, &need, |_| Ok(event.clone().into()))?;
        let known = done.view.environments.get(&id).cloned();
        known.ok_or_else(|| Failure::fatal("unknown_environment", format!("run {run} has no environment {id}")))
    }

    fn make_requested_worktree(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        spec: &EnvironmentSpec,
    ) -> Result<Vec<String>, Failure> {
        let list = self.worktrees()?;
        let order = self.order_for(&task.run, id, spec, &list)?;
        let made = match make(self.repository(), &order) {
            Ok(made) => made,
            Err(error) => {
                let mut failure = make_failure(&error);
                // Busy or not: what this call began it takes back, so that the record says all there is.
                if let Err(left) = undo(self.repository(), &order) {
                    failure = failure.hint(format!("something was left behind: {}", remove_failure(&left).message));
                }
                self.fail_environment(task, id, &failure.message)?;
                return Err(failure);
            }
        };
        let mut warnings = Vec::new();
        if let HookOutcome::Failed(error) = &made.hook {
            warnings.push(format!("the post-checkout hook failed, the worktree is complete: {}", chain_of(error)));
        }
        if let Err(failure) = self.set_up(&task.run, Some(&task.task), id, &made.path) {
            self.fail_environment(task, id, &failure.message)?;
            return Err(failure);
        }
        self.move_environment(&task.run, Some(&task.task), &moved(id, EnvironmentState::Ready))?;
        Ok(warnings)
    }

    fn make_requested_directory(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        spec: &EnvironmentSpec,
    ) -> Result<Vec<String>, Failure> {
        let made = spec.path.as_deref().map(std::fs::create_dir_all).transpose();
        if let Err(error) = made {
            let path = spec.path.as_deref().unwrap_or(std::path::Path::new("")).display();
            let message = format!("could not make the directory {path}: {error}");
            self.fail_environment(task, id, &message)?;
            return Err(Failure::fatal("directory_failed", message));
        }
        self.move_environment(&task.run, Some(&task.task), &moved(id, EnvironmentState::Ready))?;
        Ok(Vec::new())
    }

    fn fail_environment(&self, task: &TaskAddress, id: &EnvironmentId, message: &str) -> Result<(), Failure> {
        let failure = Some(Reason { message: message.to_owned(), at: self.now() });
        let state = EnvironmentState::Failed;
        let event = RunEvent::EnvironmentMoved { environment: id.clone(), state, spec: None, failure, cleanup: None };
        self.move_environment(&task.run, Some(&task.task), &event).map(drop)
    }

    /// An environment.
    pub fn show_environment(&self, run: &RunId, id: &EnvironmentId) -> Result<Environment, Failure> {
        let found = self.read_run(run, &Need::run().with_environment(id))?.view.environments.remove(id);
        found.ok_or_else(|| self.unknown_environment(run, id))
    }

    /// That a run has no such environment, with the names that are near.
    pub(super) fn unknown_environment(&self, run: &RunId, id: &EnvironmentId) -> Failure {
        let read = self.ledger().read_run(run, &Need::Everything).ok().flatten();
        let known: Vec<String> =
            read.map(|read| read.view.environments.keys().map(ToString::to_string).collect()).unwrap_or_default();
        let mut failure = Failure::unknown("environment", id.as_str(), known.iter().map(String::as_str));
        failure.message = format!("run {run} has no environment {id}");
        failure
    }

    /// The environments of a run, or of all; oldest first.
    pub fn list_environments(&self, run: Option<&RunId>) -> Result<Listing<Environment>, Failure> {
        Ok(self.list_views(run)?.map(|runs| {
            let mut found: Vec<Environment> =
                runs.into_iter().flat_map(|view| view.environments.into_values()).collect();
            found.sort_by(|a, b| (a.created_at, &a.id).cmp(&(b.created_at, &b.id)));
            found
        }))
    }
}
