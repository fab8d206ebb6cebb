//! `git tether finish`

use clap::Args;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;
use crate::domain::ids::RunId;
use crate::domain::run::Outcome as RunOutcome;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
    /// How it ended: completed, failed or cancelled; as its tasks say if it is left out.
    #[arg(long)]
    outcome: Option<RunOutcome>,
    /// A word about it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

/// Ends a run.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let view = repository::open()?.finish_run(&arguments.run, arguments.outcome, arguments.note)?;
    let left = view.environments.values().filter(|known| known.waits_for_cleanup()).count();
    let outcome = Outcome::from(Answer::Run(Box::new(view)));
    Ok(match left {
        0 => outcome,
        left => outcome.saying(format!(
            "environments that are still there: {left}; `git tether recover --clean --run {}` saves and removes them by their policies \
             (--dry-run shows what is at risk)",
            arguments.run
        )),
    })
}
