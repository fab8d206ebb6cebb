//! `git tether pause`

use crate::app::{Failure, Tether};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{JsonForm, RunArgument};

/// What it takes.
pub(crate) type Arguments = RunArgument;

/// Stop a run for now.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let view = Tether::open()?.pause_run(&arguments.run)?;
    Ok(Answer::Run(Box::new(view)).into())
}
