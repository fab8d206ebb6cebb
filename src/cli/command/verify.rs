//! `git tether verify`

use clap::Args;

use crate::app::Failure;
use crate::app::observe::Scope;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::render::recovery::{recovery_entries, recovery_text};
use crate::cli::repository;
use crate::domain::ids::RunId;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this run.
    #[arg(long)]
    run: Vec<RunId>,
    /// Also say what work is at risk in every worktree of the repository, whoever made it.
    #[arg(long)]
    all_worktrees: bool,
}

/// Looks, and changes nothing.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let found = tether.verify(&Scope { runs: arguments.run, ..Scope::default() })?;
    let at_risk = if arguments.all_worktrees { Some(tether.work_at_risk()?) } else { None };
    let answer = Answer::Other {
        name: "recovery",
        fields: recovery_entries(&found, at_risk.as_deref()),
        human: recovery_text(&found, at_risk.as_deref()),
    };
    Ok(Outcome::from(answer).exit(Exit::for_findings(found.needs_person)))
}
