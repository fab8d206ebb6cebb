//! `git tether fence`

use clap::Args;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The fencing token, as `session reserve`, `env lease` or `TETHER_TOKEN` gave it.
    token: String,
}

/// Checks a fencing token.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let claim = repository::open()?.fence(&arguments.token)?;
    Ok(Answer::Fence(Box::new(claim)).into())
}
