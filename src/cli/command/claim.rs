//! `git tether claim`

use clap::{Args, Subcommand};

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;
use crate::domain::claim::ClaimKind;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List every claim.
    List,
    /// Show a claim.
    Show {
        /// What is held: thread, place or task.
        kind: ClaimKind,
        /// Which one: the thread's name, the path, RUN/TASK.
        key: String,
    },
}

/// Lists claims, or shows one.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    Ok(match arguments.action {
        Action::List => Outcome::of_listing(tether.list_claims()?, Answer::Claims),
        Action::Show { kind, key } => Answer::Claim(Box::new(tether.show_claim(kind, &key)?)).into(),
    })
}
