//! Adopting: a worktree that somebody else made, moved or changed comes under care as it is.
//!
//! Invariant: the record is written before the worktree gets our mark, so that a kill in between never makes it look like one of ours
//! that nobody knows.

use std::path::Path;

use crate::app::failure::{Failure, chain_of};
use crate::app::making::{object_id, short_name};
use crate::app::tether::Tether;
use crate::domain::environment::{
    Environment, EnvironmentSpec, EnvironmentState, ExecutionMode, NewEnvironment, WorktreeSpec,
};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, Oid, RunId, TaskAddress};
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::world::paths::{self, Occupancy};
use crate::world::worktree_mark::{self, Mark};
use crate::world::worktrees::{
    Descent, Head, Lock, Place, Registration, WorktreeList, find_branch_of_operation, find_descent,
};

impl Tether {
    /// Takes a worktree into care: the record that names it follows what is there, or a new one is written for a task.
    pub fn adopt_environment(
        &self,
        typed: &Path,
        task: Option<&TaskAddress>,
    ) -> Result<(Environment, Vec<String>), Failure> {
        let path = self.typed_path(typed)?;
        if let Some(task) = task {
            self.require_task(task)?;
        }
        let list = self.worktrees()?;
        let found = find_adoptable(&list, &path)?;
        match (self.find_record_of(found, &path, &list)?, task) {
            (Some((run, known)), task) if task.is_none_or(|task| task.run == run) => {
                let followed = self.follow(&run, &known, found, &list)?;
                let followed = match task {
                    Some(task) => self.name_in_task(task, followed)?,
                    None => followed,
                };
                Ok((followed, vec![format!("the record of environment {run}/{} follows {}", known.id, path.display())]))
            }
            (Some((run, known)), _) => Err(Failure::fatal(
                "environment_exists",
                format!("{} is environment {run}/{} already", path.display(), known.id),
            )
            .hint(format!("`git tether env adopt {}` without --task brings its record up to date", path.display()))),
            (None, Some(task)) => self.adopt_new(task, found, &list).map(|environment| (environment, Vec::new())),
            (None, None) => Err(Failure::fatal("task_needed", format!("no record names {}", path.display()))
                .hint(format!("say for which task it is: git tether env adopt {} --task RUN/TASK", path.display()))),
        }
    }

    /// The environment of this machine that a worktree is: by its mark, its path, or the branch of one whose path is empty.
    fn find_record_of(
        &self,
        found: &Registration,
        path: &Path,
        list: &WorktreeList,
    ) -> Result<Option<(RunId, Environment)>, Failure> {
        let host = self.host_id();
        let (views, unreadable) = self.read_all_runs()?;
        if let Some(mark) = &found.mark
            && let Some((run, problem)) = unreadable.iter().find(|(run, _)| *run == mark.run)
        {
            let what = format!("{} belongs to run {run}, which cannot be read: {problem}", path.display());
            return Err(Failure::fatal("torn_record", what)
                .hint("`git tether doctor` shows the last good state of the run, and `doctor --fix` goes back to it"));
        }
        let ours = |known: &&Environment| {
            known.execution_mode == ExecutionMode::GitWorktree && !known.state.is_gone() && known.host == host
        };
        let all: Vec<(&RunView, &Environment)> = views
            .iter()
            .flat_map(|view| view.environments.values().filter(ours).map(move |known| (view, known)))
            .collect();
        let marked = |view: &RunView, known: &Environment| {
            let mark = Mark::of(view.run.id.as_str(), known.id.as_str());
            found.mark.as_ref().is_some_and(|own| own.names_same(&mark))
        };
        let stands_here = |known: &Environment| known.spec.path.as_deref() == Some(path);
        let has_left = |known: &Environment| {
            let branch = known.spec.git_worktree.as_ref().and_then(|spec| spec.branch.clone());
            let gone = known.spec.path.as_deref().is_some_and(|path| {
                list.find_at(path).is_none()
                    && matches!(paths::look_at(path), Occupancy::Gone | Occupancy::EmptyDirectory)
            });
            gone && branch.is_some() && branch == branch_of(found)
        };
        let choice = all
            .iter()
            .find(|(view, known)| marked(view, known))
            .or_else(|| all.iter().find(|(_, known)| stands_here(known)))
            .or_else(|| all.iter().find(|(_, known)| found.mark.is_none() && has_left(known)));
        Ok(choice.map(|(view, known)| (view.run.id.clone(), (*known).clone())))
    }

    /// Brings the record of an environment up to date with the worktree that it is.
    fn follow(
        &self,
        run: &RunId,
        known: &Environment,
        found: &Registration,
        list: &WorktreeList,
    ) -> Result<Environment, Failure> {
        let _making = self.take_making_lock(run, &known.id)?;
        let now = self.spec_of(found, list)?;
        let mut worktree = known.spec.git_worktree.clone().unwrap_or_default();
        let here = now.git_worktree.unwrap_or_default();
        if here.branch != worktree.branch {
            worktree.branch = here.branch;
            worktree.branch_created = false;
        }
        let base = worktree.base_commit.as_ref().map(object_id).transpose()?;
        let head = here.base_commit.as_ref().map(object_id).transpose()?;
        let descends = match (head, base) {
            (Some(head), Some(base)) => find_descent(self.repository(), head, base) != Some(Descent::Diverged),
            _ => false,
        };
        if !descends {
            worktree.base_commit = here.base_commit;
        }
        let spec = EnvironmentSpec {
            path: now.path,
            mount_point: now.mount_point,
            git_worktree: Some(worktree),
            ..known.spec.clone()
        };
        self.write_adopted(run, &known.id, &spec)?;
        let event = RunEvent::EnvironmentAdopted { environment: known.id.clone(), spec: Box::new(spec) };
        let followed = self.move_environment(run, None, &event)?;
        mark(run, &known.id, found)?;
        Ok(followed)
    }

    fn adopt_new(&self, task: &TaskAddress, found: &Registration, list: &WorktreeList) -> Result<Environment, Failure> {
        let view = self.read_run(&task.run, &Need::Everything)?.view;
        let first = format!("env-{}", task.task);
        let names = std::iter::once(first.clone()).chain((2..1_000).map(|number| format!("{first}-{number}")));
        let free = |id: &EnvironmentId| view.environments.get(id).is_none_or(|known| known.state.is_gone());
        let id = names.map(|name| EnvironmentId::made_from(&name)).find(free);
        let id =
            id.ok_or_else(|| Failure::fatal("environment_exists", format!("{first} and its like exist already")))?;
        let _making = self.take_making_lock(&task.run, &id)?;
        let spec = self.spec_of(found, list)?;
        self.write_adopted(&task.run, &id, &spec)?;
        let new = NewEnvironment {
            id: id.clone(),
            execution_mode: ExecutionMode::GitWorktree,
            spec,
            state: EnvironmentState::Ready,
            host: self.host_id(),
        };
        let need = Need::run().with_task(&task.task).with_environment(&id);
        let event = RunEvent::EnvironmentRequested { task: Some(task.task.clone()), environment: Box::new(new) };
        self.change_run(&task.run, &need, |_| Ok(event.clone().into()))?;
        mark(&task.run, &id, found)?;
        self.show_environment(&task.run, &id)
    }

    /// Lets a task name an environment of its run that it does not name yet.
    fn name_in_task(&self, task: &TaskAddress, known: Environment) -> Result<Environment, Failure> {
        let need = Need::run().with_task(&task.task).with_environment(&known.id);
        let view = self.read_run(&task.run, &need)?.view;
        if view.tasks.get(&task.task).and_then(|task| task.environment.as_ref()) == Some(&known.id) {
            return Ok(known);
        }
        let gone = crate::app::environment::moved(&known.id, EnvironmentState::Removed);
        let new = NewEnvironment {
            id: known.id.clone(),
            execution_mode: known.execution_mode,
            spec: known.spec,
            state: EnvironmentState::Ready,
            host: self.host_id(),
        };
        let named = RunEvent::EnvironmentRequested { task: Some(task.task.clone()), environment: Box::new(new) };
        self.change_run(&task.run, &need, |_| Ok(vec![gone.clone(), named.clone()].into()))?;
        self.show_environment(&task.run, &known.id)
    }

    fn write_adopted(&self, run: &RunId, id: &EnvironmentId, spec: &EnvironmentSpec) -> Result<(), Failure> {
        spec.path.as_deref().map_or(Ok(()), |path| self.own_place(run, id, path))
    }

    /// What a record says of a worktree as it stands.
    fn spec_of(&self, found: &Registration, list: &WorktreeList) -> Result<EnvironmentSpec, Failure> {
        let path = found.path.clone().ok_or_else(|| Failure::fatal("not_a_worktree", "it has no path"))?;
        let head = list.find_head_id(self.repository(), &found.head);
        let head = head.map_err(|error| Failure::fatal("head_unreadable", chain_of(&error)))?;
        Ok(EnvironmentSpec {
            workspace_root: path.parent().map(Path::to_owned),
            mount_point: Self::mounts()?.find_of(&path).map(Path::to_owned),
            path: Some(path),
            cleanup_policy: ExecutionMode::GitWorktree.default_cleanup(),
            write_access: true,
            git_worktree: Some(WorktreeSpec {
                branch: branch_of(found),
                base: None,
                base_commit: head.map(|id| Oid(id.to_string())),
                create_branch_if_missing: false,
                branch_created: false,
            }),
            remote_url: None,
        })
    }
}

/// The worktree at a path, if it may be taken over.
fn find_adoptable<'l>(list: &'l WorktreeList, path: &Path) -> Result<&'l Registration, Failure> {
    let shown = path.display();
    let refused =
        |why: &str| Failure::fatal("not_a_worktree", format!("{shown} is not a worktree of this repository: {why}"));
    if list.main().path.as_deref() == Some(path) {
        return Err(refused("it is the main checkout").hint(format!(
            "`git tether env add RUN/TASK --mode shared_workspace --path {shown}` records it as shared"
        )));
    }
    let Some(found) = list.find_at(path) else {
        return Err(match paths::look_at(path) {
            Occupancy::Gone => refused("nothing is there"),
            _ => refused("it is not registered").hint(format!("if it was moved by hand: git worktree repair {shown}")),
        });
    };
    match (&found.place, &found.lock) {
        (Place::Linked, Lock::Initializing) => Err(refused("it is still being made")),
        (Place::Linked, _) => Ok(found),
        _ => Err(refused("it is registered, but what stands there is something else")
            .hint(format!("if it is the worktree: git worktree repair {shown}"))),
    }
}

/// The branch that a worktree is on, or that an operation in progress goes back to.
fn branch_of(found: &Registration) -> Option<String> {
    match &found.head {
        Head::Branch(name) => Some(short_name(name).to_owned()),
        _ => find_branch_of_operation(&found.admin_dir).map(|name| short_name(&name).to_owned()),
    }
}

fn mark(run: &RunId, id: &EnvironmentId, found: &Registration) -> Result<(), Failure> {
    worktree_mark::write(&found.admin_dir, &Mark::of(run.as_str(), id.as_str())).map_err(|error| {
        Failure::fatal("mark_failed", format!("could not mark {}: {error}", found.admin_dir.display()))
    })
}
