//! `git tether resume`

use clap::Args;

use crate::app::Failure;
use crate::app::resume::{Resumed, Trust};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::ids::TaskAddress;
use crate::plan::resume::Wanted;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The task.
    #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
    task: TaskAddress,
    /// Begin it anew, whatever its checkpoint says.
    #[arg(long, conflicts_with = "acknowledge")]
    restart: bool,
    /// Leave it blocked, knowingly.
    #[arg(long)]
    acknowledge: bool,
    /// Run the recorded command although this machine did not record it.
    #[arg(long, conflicts_with = "acknowledge")]
    trust: bool,
}

/// Lets a task go on, and passes the exit code of its command on.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    if arguments.acknowledge {
        return Ok(Answer::Task(Box::new(tether.acknowledge_block(&arguments.task)?)).into());
    }
    let wanted = if arguments.restart { Wanted::FromScratch } else { Wanted::AsAllowed };
    let trust = if arguments.trust { Trust::ThisCommand } else { Trust::OwnCommands };
    match tether.resume(&arguments.task, wanted, trust)? {
        Resumed::Queued(task, said) => Ok(said.into_iter().fold(Answer::Task(task).into(), Outcome::saying)),
        Resumed::Ran(finished) => {
            // Standard output was the command's; only who asked for JSON finds the task behind it.
            let answer = json.map_or(Answer::Nothing, |_| Answer::Task(Box::new(finished.task.clone())));
            Ok(super::run::passed_on(*finished, answer))
        }
    }
}
