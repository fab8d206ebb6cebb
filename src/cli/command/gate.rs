//! `git tether gate`

use clap::{Args, Subcommand};

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse::{self, RunOrTask};
use crate::cli::repository;
use crate::domain::ids::GateId;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Open a gate: its task does not start, or is held when its work is done, before somebody approves.
    Open {
        /// The run, or the task that is held back.
        #[arg(value_parser = parse::run_or_task, value_name = "RUN[/TASK]")]
        about: RunOrTask,
        /// What the decision is about (deploy, say).
        #[arg(long)]
        key: String,
        /// The gate's id; made up if it is left out.
        #[arg(long)]
        id: Option<GateId>,
    },
}

/// Opens a gate.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let Action::Open { about, key, id } = arguments.action;
    let gate = repository::open()?.open_gate(&about.run, about.task.as_ref(), &key, id)?;
    let address = format!("{}/{}", gate.run, gate.id);
    Ok(Outcome::from(Answer::Gate(Box::new(gate)))
        .saying(format!("decide it with: git tether approve {address}, or reject")))
}
