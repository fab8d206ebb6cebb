//! `git tether activity`

use std::io::Read;

use clap::Args;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;
use crate::domain::event::ActivityReport;
use crate::domain::ids::{RunId, TaskPointer};
use crate::domain::run::ActivityState;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
    /// In one word: initializing, idle, working, `waiting_for_user`, `waiting_for_tasks`, blocked, completed, failed, interrupted.
    #[arg(long)]
    state: Option<ActivityState>,
    /// In your own words.
    #[arg(long)]
    text: Option<String>,
    /// From 0 to 100.
    #[arg(long, value_name = "N")]
    progress: Option<i64>,
    /// The phase of work.
    #[arg(long)]
    phase: Option<String>,
    /// The error that was met.
    #[arg(long, value_name = "TEXT")]
    error: Option<String>,
    /// A task that was spawned; RUN/TASK for a child's.
    #[arg(long, value_name = "TASK")]
    spawned: Vec<TaskPointer>,
    /// A task that is waited on; in place of those known, '' for none.
    #[arg(long, value_name = "TASK")]
    waiting_on: Option<Vec<String>>,
    /// Something that was said: {"role": "...", "text": "..."}, or - to read it from stdin.
    #[arg(long, value_name = "JSON")]
    message: Option<String>,
}

/// Says what the executor of a run is doing.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let progress = arguments.progress.map(|progress| match u8::try_from(progress) {
        Ok(progress) if progress <= 100 => Ok(progress),
        _ => Err(Failure::usage("out_of_range", format!("progress {progress} is not within 0 to 100"))
            .hint("give a value within 0 to 100")),
    });
    let waiting_on = arguments.waiting_on.map(|words| {
        let words = words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty());
        words.map(str::parse).collect::<Result<Vec<TaskPointer>, _>>()
    });
    let report = ActivityReport {
        state: arguments.state,
        text: arguments.text,
        progress: progress.transpose()?,
        phase: arguments.phase,
        error: arguments.error,
        spawned: arguments.spawned,
        waiting_on: waiting_on.transpose()?,
        message: arguments.message.as_deref().map(message).transpose()?,
    };
    let view = repository::open()?.report_activity(&arguments.run, &report)?;
    Ok(Answer::Run(Box::new(view)).into())
}

/// The role and the text of a message.
type Said = (Option<String>, Option<String>);

fn message(given: &str) -> Result<Said, Failure> {
    let mut text = given.to_owned();
    if given == "-" {
        text.clear();
        let read = std::io::stdin().take(crate::record::LARGEST_RECORD).read_to_string(&mut text);
        read.map_err(|error| {
            Failure::fatal("unreadable_input", format!("could not read the message from stdin: {error}"))
        })?;
    }
    let refused =
        |why: String| Failure::usage("invalid_json", format!("--message takes an object with role and text: {why}"));
    let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| refused(error.to_string()))?;
    let field = |name: &str| match value.get(name) {
        None | Some(serde_json::Value::Null) => Ok(None),
        Some(serde_json::Value::String(text)) => Ok(Some(text.clone())),
        Some(_) => Err(refused(format!("`{name}` is no text"))),
    };
    if !value.is_object() {
        return Err(refused("it is no object".to_owned()));
    }
    Ok((field("role")?, field("text")?))
}
