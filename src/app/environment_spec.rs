//! What an environment is to be: its path, branch and base, decided before anything is written down.
//!
//! Invariant: what cannot be made is refused here, as far as it can be seen, so that a refusal leaves no record; a try that is made
//! again after a kill gets exactly what the first one had decided.

use std::path::{Path, PathBuf};

use gix::ObjectId;

use crate::app::environment::AddEnvironment;
use crate::app::failure::Failure;
use crate::app::making::{full_name, make_failure, object_id, remove_failure, short_name};
use crate::app::tether::Tether;
use crate::domain::environment::{Environment, EnvironmentSpec, ExecutionMode, WorktreeSpec};
use crate::domain::ids::{EnvironmentId, Oid, RunId, TaskAddress};
use crate::world::paths::{self, Occupancy, find_worktree_root};
use crate::world::worktree_make::MakeError;
use crate::world::worktree_mark::Mark;
use crate::world::worktree_remove::undo;
use crate::world::worktrees::{Descent, Head, WorktreeList, find_descent};

/// How many paths are tried before somebody has to name one.
const MOST_NAMES: usize = 1_000;

impl Tether {
    /// What an environment is to be.
    pub(super) fn plan_spec(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        asked: &AddEnvironment,
        begun: Option<&Environment>,
    ) -> Result<EnvironmentSpec, Failure> {
        require_fitting_options(asked)?;
        if let Some(begun) = begun {
            if self.is_same_request(asked, begun)? {
                let mut spec = begun.spec.clone();
                spec.cleanup_policy = asked.cleanup_policy.unwrap_or(spec.cleanup_policy);
                spec.write_access = asked.write_access;
                return Ok(spec);
            }
            self.undo_begun(&task.run, begun)?;
        }
        let empty = EnvironmentSpec {
            workspace_root: None,
            path: None,
            mount_point: None,
            cleanup_policy: asked.cleanup_policy.unwrap_or_else(|| asked.mode.default_cleanup()),
            write_access: asked.write_access,
            git_worktree: None,
            remote_url: asked.remote_url.clone(),
        };
        match asked.mode {
            ExecutionMode::Remote => Ok(empty),
            ExecutionMode::SharedWorkspace => {
                let path = self.shared_path(asked.path.as_deref())?;
                Self::placed(empty, path, None)
            }
            ExecutionMode::IsolatedWorkspace => {
                let list = self.worktrees()?;
                let (path, root) = self.choose_path(task, id, asked, &list)?;
                Self::placed(empty, path, Some(root))
            }
            ExecutionMode::GitWorktree => {
                let list = self.worktrees()?;
                let worktree = self.plan_worktree(task, id, asked, &list)?;
                let (path, root) = self.choose_path(task, id, asked, &list)?;
                let placed = Self::placed(empty, path, Some(root))?;
                Ok(EnvironmentSpec { git_worktree: Some(worktree), ..placed })
            }
        }
    }

    fn placed(
        spec: EnvironmentSpec,
        path: PathBuf,
        workspace_root: Option<PathBuf>,
    ) -> Result<EnvironmentSpec, Failure> {
        let mount_point = Self::mounts()?.find_of(&path).map(Path::to_owned);
        Ok(EnvironmentSpec { path: Some(path), mount_point, workspace_root, ..spec })
    }

    /// Whether an earlier try that came to nothing was for the same thing.
    fn is_same_request(&self, asked: &AddEnvironment, begun: &Environment) -> Result<bool, Failure> {
        let path = asked.path.as_deref().map(|path| self.typed_path(path)).transpose()?;
        let worktree = begun.spec.git_worktree.as_ref();
        let same = |asked: &Option<String>, found: Option<&String>| asked.is_none() || asked.as_ref() == found;
        let branch = asked.branch.as_deref().map(|branch| short_name(branch).to_owned());
        Ok(asked.mode == begun.execution_mode
            && (path.is_none() || path == begun.spec.path)
            && same(&branch, worktree.and_then(|spec| spec.branch.as_ref()))
            && same(&asked.base, worktree.and_then(|spec| spec.base.as_ref()))
            && same(&asked.remote_url, begun.spec.remote_url.as_ref()))
    }

    /// Takes back what an earlier try for something else left on disk.
    fn undo_begun(&self, run: &RunId, begun: &Environment) -> Result<(), Failure> {
        if begun.execution_mode != ExecutionMode::GitWorktree {
            return Ok(());
        }
        let id = &begun.id;
        let list = self.worktrees()?;
        let order = self.order_for(run, id, &begun.spec, &list)?;
        undo(self.repository(), &order).map(drop).map_err(|error| {
            remove_failure(&error).hint(format!(
                "an earlier `env add` made it otherwise; `git tether env remove {run}/{id}` removes that"
            ))
        })
    }

    fn shared_path(&self, asked: Option<&Path>) -> Result<PathBuf, Failure> {
        let path = match asked {
            Some(path) => self.typed_path(path)?,
            None => self.repository().main_checkout().ok_or_else(|| {
                Failure::usage("path_needed", "a bare repository has no main checkout to share")
                    .hint("name one with --path")
            })?,
        };
        match paths::look_at(&path) {
            Occupancy::EmptyDirectory | Occupancy::FullDirectory => Ok(path),
            Occupancy::Gone => Err(Failure::fatal("path_missing", format!("{} does not exist", path.display()))
                .hint("a shared workspace is never made: name a directory that is there")),
            Occupancy::Unreadable(error) => {
                Err(Failure::fatal("path_unreadable", format!("could not look at {}: {error}", path.display())))
            }
            _ => Err(Failure::fatal("not_a_directory", format!("{} is not a directory", path.display()))),
        }
    }

    /// The path that somebody named, or a free one below the worktree root; and that root.
    fn choose_path(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        asked: &AddEnvironment,
        list: &WorktreeList,
    ) -> Result<(PathBuf, PathBuf), Failure> {
        let root = self.typed_path(&find_worktree_root(self.repository())?)?;
        let written = self.written_paths((&task.run, id))?;
        if let Some(typed) = &asked.path {
            let path = self.typed_path(typed)?;
            self.require_free_path(&path, asked.mode, &written)?;
            self.require_vacant(&path, list)?;
            return Ok((path, root));
        }
        let name = asked.id.as_ref().map_or_else(|| task.task.to_string(), ToString::to_string);
        let first = format!("{}-{name}", task.run);
        let mut names = std::iter::once(first.clone()).chain((2..MOST_NAMES).map(|number| format!("{first}-{number}")));
        let is_free = |path: &PathBuf| {
            list.find_at(path).is_none()
                && matches!(paths::look_at(path), Occupancy::Gone | Occupancy::EmptyDirectory)
                && self.require_free_path(path, asked.mode, &written).is_ok()
        };
        let path = names.by_ref().map(|name| root.join(name)).find(is_free);
        let path = path.unwrap_or_else(|| root.join(first));
        self.require_free_path(&path, asked.mode, &written)?;
        self.require_vacant(&path, list)?;
        Ok((path, root))
    }

    fn require_vacant(&self, path: &Path, list: &WorktreeList) -> Result<(), Failure> {
        if let Some(other) = list.find_at(path) {
            let (path, name) = (path.to_owned(), other.name.clone());
            return Err(make_failure(&MakeError::RegisteredForOthers { path, name }));
        }
        self.require_outside_of_git(path)?;
        match paths::look_at(path) {
            Occupancy::Gone | Occupancy::EmptyDirectory => Ok(()),
            Occupancy::Unreadable(source) => {
                let path = path.to_owned();
                Err(make_failure(&MakeError::File { attempt: "look at", path, source }))
            }
            _ => Err(make_failure(&MakeError::Occupied { path: path.to_owned() })),
        }
    }

    /// What git keeps its own things in is no place to work.
    fn require_outside_of_git(&self, path: &Path) -> Result<(), Failure> {
        let common = self.repository().common_dir();
        let Ok(inside) = path.strip_prefix(common) else { return Ok(()) };
        let first = inside.components().next().map(|part| part.as_os_str().to_owned()).unwrap_or_default();
        let ours = path.starts_with(self.repository().tether_dir().join("worktrees"));
        let gits = ["objects", "refs", "hooks", "info", "logs", "worktrees", "modules", "reftable", "tether"];
        let bare_room = self.repository().is_bare() && !gits.iter().any(|name| first == *name);
        if ours || bare_room {
            return Ok(());
        }
        let (path, common) = (path.display(), common.display());
        Err(Failure::fatal("path_in_git_directory", format!("{path} lies inside the git directory {common}"))
            .hint("name a place outside of it with --path"))
    }

    /// The branch and base of a new worktree. A branch that is there is taken as it is; one that is not is made, so that what is
    /// committed there can be reached.
    fn plan_worktree(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        asked: &AddEnvironment,
        list: &WorktreeList,
    ) -> Result<WorktreeSpec, Failure> {
        let branch = match &asked.branch {
            Some(branch) => self.valid_branch(branch)?,
            None => self.default_branch(task, id, asked.base.as_deref(), list)?,
        };
        let name = full_name(&branch);
        if let Some(holder) = list.find_holder_of(&name) {
            let mark = Mark::of(task.run.as_str(), id.as_str());
            let own = matches!(holder, crate::world::worktrees::BranchHolder::Linked(found)
                if found.mark.as_ref().is_some_and(|known| known.names_same(&mark)));
            if !own {
                let path = holder.path().map(Path::to_owned).unwrap_or_default();
                return Err(make_failure(&MakeError::BranchHeld { name, path }));
            }
        }
        let base = asked.base.as_deref().map(|base| self.resolve_commit(base)).transpose()?;
        let mut spec = WorktreeSpec {
            branch: Some(branch.clone()),
            base: asked.base.clone(),
            base_commit: None,
            create_branch_if_missing: true,
            branch_created: false,
        };
        if let Some(tip) = self.branch_tip(&name)? {
            spec.base_commit = Some(self.base_on(&branch, tip, base)?);
            return Ok(spec);
        }
        self.require_makeable(&branch)?;
        spec.branch_created = true;
        spec.base = spec.base.or_else(|| Some(self.branch_here(list).unwrap_or_else(|| "HEAD".to_owned())));
        spec.base_commit = Some(match base {
            Some(base) => base,
            None => self.resolve_commit("HEAD").map_err(|_| {
                Failure::fatal("no_commit", "there is no commit yet that a worktree could start from")
                    .hint("commit something first, or name a revision with --base")
            })?,
        });
        Ok(spec)
    }

    /// What a worktree on a branch that is there counts as based on: its tip, or the base that was named if it descends from that.
    fn base_on(&self, branch: &str, tip: ObjectId, base: Option<Oid>) -> Result<Oid, Failure> {
        let Some(base) = base else { return Ok(Oid(tip.to_string())) };
        match find_descent(self.repository(), tip, object_id(&base)?) {
            Some(Descent::Descends) => Ok(base),
            _ => Err(Failure::fatal(
                "branch_exists",
                format!("the branch {branch} exists already and does not descend from {base}"),
            )
            .hint("leave out --base to work on it as it is, or name another branch")),
        }
    }

    fn valid_branch(&self, typed: &str) -> Result<String, Failure> {
        let branch = short_name(typed);
        let checked = self.repository().git().run(["check-ref-format", &full_name(branch)]);
        if checked.is_ok() && !branch.starts_with('-') && branch != "HEAD" && !branch.starts_with("refs/") {
            return Ok(branch.to_owned());
        }
        Err(Failure::usage("invalid_branch", format!("`{typed}` is not a valid branch name")))
    }

    /// The branch that is checked out where the user stands.
    fn branch_here(&self, list: &WorktreeList) -> Option<String> {
        let repository = self.repository();
        let head = if repository.git_dir() == repository.common_dir() {
            &list.main().head
        } else {
            &list.linked().iter().find(|known| known.admin_dir == repository.git_dir())?.head
        };
        match head {
            Head::Branch(name) => Some(short_name(name).to_owned()),
            _ => None,
        }
    }
}

fn require_fitting_options(asked: &AddEnvironment) -> Result<(), Failure> {
    let refused = |option: &str| {
        Err(Failure::usage("option_not_for_mode", format!("{option} makes no sense for {}", asked.mode)))
    };
    let worktree = asked.mode == ExecutionMode::GitWorktree;
    let remote = asked.mode == ExecutionMode::Remote;
    match () {
        () if asked.branch.is_some() && !worktree => refused("--branch"),
        () if asked.base.is_some() && !worktree => refused("--base"),
        () if asked.remote_url.is_some() && !remote => refused("--remote-url"),
        () if asked.path.is_some() && remote => refused("--path"),
        () if remote && asked.remote_url.as_deref().is_none_or(str::is_empty) => {
            Err(Failure::usage("remote_url_needed", "a remote environment needs --remote-url"))
        }
        () => Ok(()),
    }
}
