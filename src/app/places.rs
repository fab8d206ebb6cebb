//! What a recovery does on disk: makes missing environments anew, cleans what nobody needs. (stub: being built)

use std::path::Path;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::ids::{EnvironmentId, RunId};

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

fn not_there<T>() -> Result<T, Failure> {
    Err(Failure::fatal("not_there", "not built yet"))
}

impl Tether {
    /// Whether somebody who lives is making this environment right now.
    pub fn is_being_made(&self, _run: &RunId, _id: &EnvironmentId) -> bool {
        false
    }

    /// Makes a missing or half-made environment anew, with its saved work.
    pub fn recreate_environment(&self, _run: &RunId, _id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        not_there()
    }

    /// Saves and removes an environment by its policy.
    pub fn clean_environment(&self, _run: &RunId, _id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        not_there()
    }

    /// Saves and removes a worktree of ours that no record names.
    pub fn clean_unnamed(
        &self,
        _path: &Path,
        _admin_dir: &Path,
        _run: Option<&RunId>,
        _id: Option<&EnvironmentId>,
    ) -> Result<PlaceOutcome, Failure> {
        not_there()
    }
}
