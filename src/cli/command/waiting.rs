//! `git tether waiting`

use clap::Args;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::repository;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Exit with 1 if anything waits.
    #[arg(long)]
    exit_code: bool,
}

/// Lists what waits for a decision, in all runs.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let waiting = repository::open()?.waiting()?;
    let exit = if arguments.exit_code && !waiting.gates.is_empty() { Exit::NeedsPerson } else { Exit::Done };
    let outcome = Outcome::from(Answer::Waiting(waiting.gates)).exit(exit);
    Ok(waiting
        .unreadable
        .into_iter()
        .fold(outcome, |outcome, (run, why)| outcome.saying(format!("warning: run {run} cannot be read: {why}"))))
}
