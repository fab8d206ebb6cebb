//! Where in a tree each record stands.

use crate::domain::ids::{EnvironmentId, GateId, TaskId};

/// The run itself.
pub const RUN: &str = "run.json";
/// The report of a run that has ended.
pub const REPORT: &str = "report.md";
/// What a run's executor was told when it was restored last.
pub const RESTORATION: &str = "restoration.json";
/// A session's record in its own tree.
pub const SESSION: &str = "session.json";
/// A claim's record in its own tree.
pub const CLAIM: &str = "claim.json";
/// A pool's record in its own tree.
pub const POOL: &str = "pool.json";
/// The directory of tasks.
pub const TASKS: &str = "tasks";
/// The directory of environments.
pub const ENVIRONMENTS: &str = "environments";
/// The directory of each task's newest checkpoint.
pub const CHECKPOINTS: &str = "checkpoints";
/// The directory of gates.
pub const GATES: &str = "gates";

/// Whether a file of a directory of records is one.
#[allow(clippy::case_sensitive_file_extension_comparisons, reason = "records are named by this program")]
pub fn is_record(file: &str) -> bool {
    file.ends_with(".json")
}

/// The file of a task.
pub fn task(id: &TaskId) -> String {
    format!("{TASKS}/{id}.json")
}

/// The file of an environment.
pub fn environment(id: &EnvironmentId) -> String {
    format!("{ENVIRONMENTS}/{id}.json")
}

/// The file of a task's newest checkpoint.
pub fn checkpoint(task: &TaskId) -> String {
    format!("{CHECKPOINTS}/{task}.json")
}

/// The file of a gate.
pub fn gate(id: &GateId) -> String {
    format!("{GATES}/{id}.json")
}

/// The file of a task's resume state.
pub fn payload(task: &TaskId, name: &str) -> String {
    format!("payload/{task}/{name}")
}
