//! `git tether show`

use clap::Args;

use crate::app::{Failure, Tether};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::domain::ids::RunId;

/// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
}

/// Shows a run.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let view = Tether::open()?.show_run(&arguments.run)?;
    Ok(Answer::Run(Box::new(view)).into())
}
