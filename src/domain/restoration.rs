//! What a restoration of a run's executor came to: what it is told, now and when it asks again.

use super::gate::Gate;
use super::ids::{Oid, TaskPointer};
use super::run::{ActivityState, RestorationOutcome};

/// What a restoration came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RestorationReport {
    /// In one word.
    pub outcome: RestorationOutcome,
    /// What the executor said of itself last; `None`: there was no such run.
    pub previous_state: Option<ActivityState>,
    /// The commit of the run that its executor's part came back from.
    pub checkpoint: Option<Oid>,
    /// Questions that are delivered again.
    pub pending_questions: Vec<Gate>,
    /// Tasks that the executor waits on.
    pub waiting_on: Vec<TaskPointer>,
    /// Tasks that the executor has spawned.
    pub spawned_tasks: Vec<TaskPointer>,
    /// What is not as it should be.
    pub warnings: Vec<String>,
    /// The same in words, for the executor.
    pub notice: String,
}
