//! Saves what an environment holds, and puts it back. (stub: being built)

use std::path::Path;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::checkpoint::SavedWork;
use crate::domain::environment::Environment;
use crate::domain::ids::{EnvironmentId, RunId, TaskId};
use crate::store::work::SavedEntry;

/// What came of saving a place.
#[derive(Debug, Clone, Default)]
pub struct SavedPlace {
    /// The saved work; `None`: there was nothing that is not committed.
    pub entry: Option<SavedEntry>,
    /// The same, as a checkpoint names it.
    pub work: Option<SavedWork>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Files that were not saved, each with the reason.
    pub not_saved: Vec<(String, String)>,
    /// How many ignored files there are.
    pub ignored: usize,
}

fn not_there<T>() -> Result<T, Failure> {
    Err(Failure::fatal("not_there", "not built yet"))
}

impl Tether {
    /// Saves what an environment holds.
    pub fn save_environment(
        &self,
        _run: &RunId,
        _environment: &Environment,
        _task: Option<&TaskId>,
        _reason: &str,
    ) -> Result<SavedPlace, Failure> {
        not_there()
    }

    /// Saves what git still holds of a worktree whose directory is gone.
    pub fn save_vanished(
        &self,
        _run: &RunId,
        _environment: &EnvironmentId,
        _task: Option<&TaskId>,
        _admin_dir: &Path,
    ) -> Result<SavedPlace, Failure> {
        not_there()
    }

    /// The newest saved work of an environment.
    pub fn newest_saved(&self, _run: &RunId, _environment: &EnvironmentId) -> Result<Option<SavedEntry>, Failure> {
        not_there()
    }

    /// Puts saved work into an environment that has just been made anew and holds nothing else; answers with what to tell a person.
    pub fn put_work_back(
        &self,
        _run: &RunId,
        _environment: &Environment,
        _entry: &SavedEntry,
    ) -> Result<Vec<String>, Failure> {
        not_there()
    }
}
