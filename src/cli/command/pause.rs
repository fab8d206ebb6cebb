//! `git tether pause`

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{JsonForm, RunArgument};
use crate::cli::repository;

// What it takes.
pub(crate) type Arguments = RunArgument;

/// Stop a run for now.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let view = repository::open()?.pause_run(&arguments.run)?;
    Ok(Answer::Run(Box::new(view)).into())
}
