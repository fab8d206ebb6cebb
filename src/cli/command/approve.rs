//! `git tether approve`

use crate::app::Failure;
use crate::cli::answer::Outcome;
use crate::cli::args::{DecisionArguments, JsonForm};
use crate::domain::gate::GateAction;

// What it takes.
pub(crate) type Arguments = DecisionArguments;

/// Says yes at a gate.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    arguments.decide(GateAction::Approve)
}
