//! `git tether abort`

use crate::app::Failure;
use crate::cli::answer::Outcome;
use crate::cli::args::{DecisionArguments, JsonForm};
use crate::domain::gate::GateAction;

// What it takes.
pub(crate) type Arguments = DecisionArguments;

/// Calls the run of a gate off.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    arguments.decide(GateAction::Abort)
}
