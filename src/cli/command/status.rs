//! `git tether status`

use clap::{Args, ValueEnum};

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::render::recovery::{Detail, status_entries, status_porcelain, status_text};
use crate::cli::repository;
use crate::domain::ids::RunId;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this run.
    run: Option<RunId>,
    /// Say each problem.
    #[arg(long)]
    problems: bool,
    /// Exit with 1 if a person has to do something.
    #[arg(long)]
    exit_code: bool,
    /// A form for scripts that stays as it is.
    #[arg(long, value_name = "VERSION", num_args = 0..=1, require_equals = true, default_missing_value = "v1")]
    porcelain: Option<Porcelain>,
    /// End each record with NUL.
    #[arg(short = 'z', requires = "porcelain")]
    nul: bool,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Porcelain {
    V1,
}

/// Shows every run at a glance.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let status = repository::open()?.status(arguments.run.as_ref())?;
    let exit = if arguments.exit_code { Exit::for_findings(status.needs_person()) } else { Exit::Done };
    let answer = match arguments.porcelain {
        Some(Porcelain::V1) => Answer::Raw(status_porcelain(&status, if arguments.nul { 0 } else { b'\n' })),
        None => Answer::Other {
            name: "status",
            fields: status_entries(&status),
            human: status_text(&status, if arguments.problems { Detail::Problems } else { Detail::Overview }),
        },
    };
    Ok(Outcome::from(answer).exit(exit))
}
