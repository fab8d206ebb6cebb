//! `git tether pull`

use clap::Args;

use crate::app::Failure;
use crate::app::sync::{Direction, Urgency};
use crate::cli::answer::Outcome;
use crate::cli::args::JsonForm;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The remote, one of `git remote`; else that of tether.remote.
    remote: Option<String>,
}

/// Takes what others did; sends nothing.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    super::sync::exchange(arguments.remote.as_deref(), Direction::Pull, Urgency::Now)
}
