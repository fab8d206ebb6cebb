//! Which environment has which path: a place that tether makes and removes is nobody else's, and holds nobody else's.
//!
//! Invariant: it is decided on what this machine itself wrote down, and on the records of just those environments; a record that came
//! from elsewhere keeps no path from anybody.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::path::{Path, PathBuf};

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::environment::{Environment, ExecutionMode};
use crate::domain::ids::{EnvironmentId, RunId};
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::world::paths_lock::PathsLock;

/// A path that this machine wrote down for an environment; whether that still has it, its record says.
#[derive(Debug)]
pub(super) struct WrittenPath {
    run: RunId,
    environment: EnvironmentId,
    path: PathBuf,
}

/// How a path stands in the way of another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Relation {
    Same,
    Inside,
    Around,
}

impl Relation {
    /// How `path` stands to one that is taken.
    fn of(path: &Path, taken: &Path) -> Option<Self> {
        match (path.starts_with(taken), taken.starts_with(path)) {
            (true, true) => Some(Self::Same),
            (true, false) => Some(Self::Inside),
            (false, true) => Some(Self::Around),
            (false, false) => None,
        }
    }

    /// Whether the two cannot both be: what tether removes at its end would take the other one with it.
    fn is_refused(self, new: ExecutionMode, taken: ExecutionMode) -> bool {
        // A shared workspace is what others have: it may be anywhere, and never goes.
        new.is_ours_to_remove()
            && match self {
                Self::Same | Self::Around => true,
                Self::Inside => taken.is_ours_to_remove(),
            }
    }

    fn words(self) -> &'static str {
        match self {
            Self::Same => "is",
            Self::Inside => "lies inside",
            Self::Around => "lies around",
        }
    }
}

impl Tether {
    /// Keeps others from taking a path until what is decided now is written down.
    pub(super) fn lock_paths(&self) -> Result<PathsLock, Failure> {
        match PathsLock::take(&self.repository().tether_dir()) {
            Ok(Some(lock)) => Ok(lock),
            Ok(None) => Err(Failure::busy("paths_busy", "others were choosing paths all the time").hint("try again")),
            Err(error) => Err(Failure::fatal("local_file", format!("could not lock the choice of paths: {error}"))),
        }
    }

    /// Every path that this machine wrote down, but that of `own`.
    pub(super) fn written_paths(&self, own: (&RunId, &EnvironmentId)) -> Result<Vec<WrittenPath>, Failure> {
        let top = self.repository().tether_dir().join("places");
        let mut written = Vec::new();
        for run in names_in(&top)? {
            let Ok(run) = RunId::new(run.as_str()) else { continue };
            for name in names_in(&top.join(run.as_str()))? {
                let Ok(environment) = EnvironmentId::new(name.as_str()) else { continue };
                if (&run, &environment) == own {
                    continue;
                }
                let file = top.join(run.as_str()).join(name);
                // One that has just been disowned names nothing any more.
                let Ok(path) = std::fs::read(&file) else { continue };
                let path = PathBuf::from(OsString::from_vec(path));
                written.push(WrittenPath { run: run.clone(), environment, path });
            }
        }
        Ok(written)
    }

    /// Refuses a path that a live environment has, or that would lie in or around the place of one.
    pub(super) fn require_free_path(
        &self,
        path: &Path,
        mode: ExecutionMode,
        written: &[WrittenPath],
    ) -> Result<(), Failure> {
        for taken in written {
            let Some(relation) = Relation::of(path, &taken.path) else { continue };
            let Some((_, known)) = self.still_there(taken) else { continue };
            if !relation.is_refused(mode, known.execution_mode) {
                continue;
            }
            let (run, id) = (&taken.run, &taken.environment);
            let shown = path.display();
            let message = match relation {
                Relation::Same => format!("{shown} is the place of environment {run}/{id} already"),
                _ => format!(
                    "{shown} {} {}, the place of environment {run}/{id}: the end of one would take the other with it",
                    relation.words(),
                    taken.path.display()
                ),
            };
            let failure = Failure::fatal("path_taken", message).hint(format!(
                "name another place with --path; if {run}/{id} is needed no more: git tether env remove {run}/{id}"
            ));
            return Err(match relation {
                Relation::Same if known.execution_mode == ExecutionMode::GitWorktree => failure.hint(format!(
                    "for another task of its run to work there: git tether env adopt {shown} --task {run}/TASK"
                )),
                _ => failure,
            });
        }
        Ok(())
    }

    /// Refuses to take a place away in which an open task works whose environment is another one.
    pub(super) fn require_no_other_place_inside(
        &self,
        run: &RunId,
        id: &EnvironmentId,
        path: &Path,
    ) -> Result<(), Failure> {
        for taken in self.written_paths((run, id))? {
            if !taken.path.starts_with(path) {
                continue;
            }
            let Some((view, known)) = self.still_there(&taken) else { continue };
            let over = view.run.status.is_terminal() && view.run.fixed_by.is_some();
            let works_there = |task: &&crate::domain::task::Task| {
                task.environment.as_ref() == Some(&known.id) && !task.state.is_terminal()
            };
            if let Some(task) = view.tasks.values().filter(|_| !over).find(works_there) {
                let (address, inner) = (task.address(), taken.path.display());
                return Err(Failure::fatal(
                    "contains_environment",
                    format!(
                        "task {address} ({}) works in {inner}, which is environment {}/{}",
                        task.state, taken.run, known.id
                    ),
                )
                .hint("let that task end first"));
            }
        }
        Ok(())
    }

    /// The record of the environment for which a path was written down, if it still has that path.
    fn still_there(&self, taken: &WrittenPath) -> Option<(RunView, Environment)> {
        let view = self.ledger().read_run(&taken.run, &Need::Everything).ok().flatten()?.view;
        let known = view.environments.get(&taken.environment)?.clone();
        let live = !known.state.is_gone() && known.host == self.host_id();
        (live && known.spec.path.as_deref() == Some(taken.path.as_path())).then_some((view, known))
    }
}

/// The names in a directory; none if there is no such directory.
fn names_in(directory: &Path) -> Result<Vec<String>, Failure> {
    let failed = |error: std::io::Error| {
        Failure::fatal("local_file", format!("could not list {}: {error}", directory.display()))
    };
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(failed(error)),
    };
    let mut names = Vec::new();
    for entry in entries {
        names.extend(entry.map_err(failed)?.file_name().into_string());
    }
    names.sort();
    Ok(names)
}
