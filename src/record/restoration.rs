//! The JSON of what a restoration came to.

use super::field::{named_fields, object_fields};
use crate::domain::restoration::RestorationReport;
use crate::domain::run::RestorationOutcome;

named_fields!(RestorationOutcome);
object_fields!(RestorationReport {
    outcome,
    previous_state,
    checkpoint,
    pending_questions,
    waiting_on,
    spawned_tasks,
    warnings,
    notice,
});
