//! `git tether answer`

use clap::Args;

use crate::app::Failure;
use crate::app::gate::Decide;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::gate::GateAction;
use crate::domain::ids::GateAddress;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The question.
    #[arg(value_parser = parse::gate_address, value_name = "RUN/GATE")]
    gate: GateAddress,
    /// The answer.
    #[arg(value_name = "TEXT", allow_hyphen_values = true)]
    text: String,
    /// Your own key of this decision.
    #[arg(long)]
    token: Option<String>,
}

/// Answers a question.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let decide =
        Decide { action: GateAction::Answer, answer: Some(arguments.text), note: None, token: arguments.token };
    let gate = repository::open()?.decide(&arguments.gate, &decide)?;
    Ok(Answer::Gate(Box::new(gate)).into())
}
