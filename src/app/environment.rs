//! Environments: made, leased, released, removed, adopted. (stub: being built)

use std::path::PathBuf;
use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::environment::{CleanupPolicy, Environment, ExecutionMode};
use crate::domain::ids::{EnvironmentId, RunId, SessionId, TaskAddress};

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

fn not_there<T>() -> Result<T, Failure> {
    Err(Failure::fatal("not_there", "not built yet"))
}

impl Tether {
    /// Makes an environment for a task; answers with it and what a person should know.
    pub fn add_environment(
        &self,
        _task: &TaskAddress,
        _asked: &AddEnvironment,
    ) -> Result<(Environment, Vec<String>), Failure> {
        not_there()
    }

    /// Leases an environment to a session.
    pub fn lease_environment(
        &self,
        _run: &RunId,
        _id: &EnvironmentId,
        _session: &SessionId,
        _length: Option<Duration>,
    ) -> Result<Environment, Failure> {
        not_there()
    }
}
