//! `git tether ask`

use std::time::Duration;

use clap::Args;

use crate::app::Failure;
use crate::app::gate::AskQuestion;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::parse::{self, RunOrTask};
use crate::cli::repository;
use crate::domain::gate::{Gate, GateState};
use crate::domain::ids::{GateAddress, GateId};
use crate::record::fields;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run, or one of its tasks.
    #[arg(value_parser = parse::run_or_task, value_name = "RUN[/TASK]")]
    about: RunOrTask,
    /// The question.
    #[arg(long, value_name = "TEXT")]
    prompt: String,
    /// The gate's id; made up if it is left out.
    #[arg(long)]
    id: Option<GateId>,
    /// An answer to choose from; free text if there is none.
    #[arg(long, value_name = "TEXT")]
    choice: Vec<String>,
    /// What one should know to answer.
    #[arg(long, value_name = "TEXT")]
    context: Option<String>,
    /// What sort of question it is.
    #[arg(long = "type", value_name = "TYPE", default_value = "general")]
    question_type: String,
    /// Wait for the answer, and print it.
    #[arg(long)]
    wait: bool,
    /// Wait this long at most (30s, 10m); then the question expires.
    #[arg(long = "for", value_name = "TIME", value_parser = parse::duration, requires = "wait")]
    limit: Option<Duration>,
}

/// Asks a question.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let RunOrTask { run, task } = arguments.about;
    let asked = AskQuestion {
        id: arguments.id,
        prompt: arguments.prompt,
        choices: arguments.choice,
        context: arguments.context,
        question_type: Some(arguments.question_type),
    };
    let gate = tether.ask(&run, task.as_ref(), asked)?;
    let address = GateAddress { run, gate: gate.id.clone() };
    if !arguments.wait {
        return Ok(Outcome::from(Answer::Gate(Box::new(gate)))
            .saying(format!("answer it with: git tether answer {address} TEXT")));
    }
    crate::cli::narrate(&format!("waiting for: git tether answer {address} TEXT"));
    let gate = tether.await_decision(&address, arguments.limit)?;
    let answer = gate.decision.as_ref().and_then(|decision| decision.answer.clone());
    match (gate.state, answer) {
        (GateState::Answered, Some(answer)) => Ok(waited_for(&gate, answer)),
        (GateState::Aborted, _) => {
            Err(Failure::fatal("gate_aborted", format!("gate {address} was aborted, and run {} with it", address.run)))
        }
        _ => Ok(waited_for(&gate, String::new())
            .exit(Exit::Busy)
            .saying(format!("nobody answered {address}: it has expired"))),
    }
}

/// For people and scripts the answer alone.
fn waited_for(gate: &Gate, answer: String) -> Outcome {
    Answer::Other { name: "gate", fields: vec![("gate", fields(gate))], human: answer }.into()
}
