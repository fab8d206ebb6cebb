//! `git tether cancel`

use clap::Args;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;
use crate::domain::ids::RunId;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
    /// Also end the commands of its tasks that live on this machine.
    #[arg(long)]
    kill: bool,
}

/// Calls a run off.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let before = tether.show_run(&arguments.run)?;
    let view = tether.cancel_run(&arguments.run)?;
    let mut outcome = Outcome::from(Answer::Run(Box::new(view)));
    if arguments.kill {
        for line in tether.end_commands(&before)? {
            outcome = outcome.saying(line);
        }
    }
    Ok(outcome)
}
