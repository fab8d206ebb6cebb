//! `git tether start`

use clap::Args;

use crate::app::Failure;
use crate::app::run::StartRun;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::ids::{RunId, TaskId};

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run's id: 1 to 64 of a-z 0-9 . _ -
    run: RunId,
    /// Its name for people.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The task that it is started for; the run is its child.
    #[arg(long, value_name = "RUN/TASK")]
    parent: Option<String>,
    /// The agent that leads it.
    #[arg(long)]
    agent: Option<String>,
    /// Your own data, a JSON object.
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// What each of its tasks needs: approval, review, test.
    #[arg(long, value_name = "WHAT,...")]
    require: Vec<String>,
}

/// Starts a run.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let parent = match arguments.parent.as_deref().map(|parent| (parent, parent.split_once('/'))) {
        None => None,
        Some((_, Some((run, task)))) => Some((RunId::new(run)?, Some(TaskId::new(task)?))),
        Some((run, None)) => Some((RunId::new(run)?, None)),
    };
    let asked = StartRun {
        name: arguments.name,
        parent,
        agent: arguments.agent,
        metadata: parse::metadata(arguments.meta.as_deref())?,
        requirements: parse::requirements(&arguments.require)?,
    };
    let view = repository::open()?.start_run(&arguments.run, asked)?;
    Ok(Answer::Run(Box::new(view)).into())
}
