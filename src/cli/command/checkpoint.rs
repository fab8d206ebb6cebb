//! `git tether checkpoint`

use std::io::Read;
use std::path::{Path, PathBuf};

use clap::Args;

use crate::app::Failure;
use crate::app::checkpoint::{Saving, TakeCheckpoint};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::checkpoint::{CompletedStep, ReplaySafety, ResumeDisposition, TakenBy};
use crate::domain::ids::TaskAddress;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The task.
    #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
    task: TaskAddress,
    /// The boundary that was reached, in words.
    #[arg(long, value_name = "TEXT")]
    boundary: String,
    /// Whether what comes after it may be done again; `tether.replaySafety` if it is left out.
    #[arg(long, value_name = "SAFETY")]
    replay_safety: Option<ReplaySafety>,
    /// How the task goes on after an interruption; follows from the replay safety if it is left out.
    #[arg(long)]
    disposition: Option<ResumeDisposition>,
    /// The executor's own state, kept as it is; - for stdin. Left out, the last one stays.
    #[arg(long, value_name = "FILE")]
    resume_state: Option<PathBuf>,
    /// A step that is done and need not be done again.
    #[arg(long = "step", value_name = "ID:NAME", value_parser = step)]
    steps: Vec<CompletedStep>,
    /// A word about it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
    /// The result is out in the world: the task is never resumed by itself.
    #[arg(long)]
    published: bool,
    /// Do not save the worktree's content.
    #[arg(long)]
    no_snapshot: bool,
}

/// Takes a checkpoint.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let at = tether.now();
    let steps = arguments.steps.into_iter().map(|step| CompletedStep { at: Some(at), ..step });
    let asked = TakeCheckpoint {
        boundary: Some(arguments.boundary),
        replay_safety: arguments.replay_safety,
        disposition: arguments.disposition,
        resume_state: arguments.resume_state.as_deref().map(open_state).transpose()?,
        steps: steps.collect(),
        note: arguments.note,
        published: arguments.published,
        saving: if arguments.no_snapshot { Saving::Nothing } else { Saving::Work },
        by: TakenBy::Executor,
    };
    let (checkpoint, warnings) = tether.checkpoint(&arguments.task, asked)?;
    let outcome = Outcome::from(Answer::Checkpoint(Box::new(checkpoint)));
    Ok(warnings.into_iter().fold(outcome, |outcome, warning| outcome.saying(format!("warning: {warning}"))))
}

fn step(text: &str) -> Result<CompletedStep, String> {
    let (id, name) = text.split_once(':').map_or((text, None), |(id, name)| (id, Some(name)));
    if id.is_empty() {
        return Err(format!("`{text}` is not of the form ID:NAME"));
    }
    let name = name.filter(|name| !name.is_empty()).map(ToOwned::to_owned);
    Ok(CompletedStep { id: id.to_owned(), name, digest: None, at: None })
}

fn open_state(path: &Path) -> Result<Box<dyn Read>, Failure> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(std::io::stdin()));
    }
    match std::fs::File::open(path) {
        Ok(file) => Ok(Box::new(file)),
        Err(error) => {
            let message = format!("could not read the resume state {}: {error}", path.display());
            Err(Failure::fatal("unreadable_input", message).hint("nothing was changed"))
        }
    }
}
