//! What happens to records when saved work is dropped.

use super::draft::Draft;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::environment::Environment;
use crate::domain::ids::{EnvironmentId, Oid, TaskId};

/// Takes a snapshot off every record that names it.
pub(super) fn forget_work(draft: &mut Draft<'_>, commit: &Oid) {
    let names_it = |checkpoint: &Checkpoint| checkpoint.work.as_ref().is_some_and(|work| work.commit == *commit);
    let tasks: Vec<TaskId> =
        draft.view.checkpoints.values().filter(|known| names_it(known)).map(|known| known.task.clone()).collect();
    for checkpoint in &tasks {
        if let Some(checkpoint) = draft.checkpoint(checkpoint) {
            checkpoint.work = None;
            checkpoint.available_actions = checkpoint.derived_actions();
        }
    }
    let cleaned =
        |known: &Environment| known.cleanup.as_ref().is_some_and(|cleanup| cleanup.work.as_ref() == Some(commit));
    let environments: Vec<EnvironmentId> =
        draft.view.environments.values().filter(|known| cleaned(known)).map(|known| known.id.clone()).collect();
    for environment in &environments {
        if let Ok(Environment { cleanup: Some(cleanup), .. }) = draft.environment(environment) {
            cleanup.work = None;
        }
    }
}
