//! `git tether run`

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, ValueEnum};

use crate::app::Failure;
use crate::app::checkpoint::Saving;
use crate::app::execution::Finished;
use crate::app::supervise::RunCommand;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::checkpoint::ReplaySafety;
use crate::domain::environment::ExecutionMode;
use crate::domain::ids::{PoolName, RunId, TaskId};

/// What kind of place a command works in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Place {
    /// A linked worktree of its own.
    Worktree,
    /// A plain directory of its own.
    Isolated,
    /// The checkout that we are in, or --path.
    Shared,
}

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run; started if it is not there, made up if it is left out.
    #[arg(long)]
    run: Option<RunId>,
    /// The task; added if the run has none of that name.
    #[arg(long)]
    task: Option<TaskId>,
    /// What kind of place it works in; a worktree if nothing else is known.
    #[arg(long)]
    env: Option<Place>,
    /// The branch of the worktree.
    #[arg(long)]
    branch: Option<String>,
    /// What the worktree starts from; HEAD if it is left out.
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// Where it works.
    #[arg(long)]
    path: Option<PathBuf>,
    /// The pool whose limit it counts against.
    #[arg(long)]
    pool: Option<PoolName>,
    /// Whether it may be done again after an interruption.
    #[arg(long, value_name = "SAFETY")]
    replay_safety: Option<ReplaySafety>,
    /// How often its work is saved while it runs (30s, 5m).
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    checkpoint_every: Option<Duration>,
    /// Save no work.
    #[arg(long, conflicts_with = "checkpoint_every")]
    no_snapshot: bool,
    /// What is to be run, after `--`.
    #[arg(last = true, required = true, value_name = "CMD")]
    command: Vec<OsString>,
}

/// Runs a command under supervision and passes its exit code on.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    if json.is_some() {
        return Err(Failure::usage("json_refused", "--json makes no sense here: standard output is the command's")
            .hint("`git tether show RUN --json` tells how it went"));
    }
    let mode = arguments.env.map(|place| match place {
        Place::Worktree => ExecutionMode::GitWorktree,
        Place::Isolated => ExecutionMode::IsolatedWorkspace,
        Place::Shared => ExecutionMode::SharedWorkspace,
    });
    let for_worktrees = arguments.branch.is_some() || arguments.base.is_some();
    if for_worktrees && mode.is_some_and(|mode| mode != ExecutionMode::GitWorktree) {
        return Err(Failure::usage(
            "not_a_worktree",
            "--branch and --base are for worktrees; --env names something else",
        ));
    }
    if arguments.checkpoint_every == Some(Duration::ZERO) {
        return Err(Failure::usage("out_of_range", "--checkpoint-every takes a time longer than 0"));
    }
    let asked = RunCommand {
        run: arguments.run,
        task: arguments.task,
        mode,
        branch: arguments.branch,
        base: arguments.base,
        path: arguments.path,
        pool: arguments.pool,
        replay_safety: arguments.replay_safety,
        checkpoint_every: arguments.checkpoint_every,
        saving: if arguments.no_snapshot { Saving::Nothing } else { Saving::Work },
        command: arguments.command,
    };
    Ok(passed_on(repository::open()?.run_command(&asked)?, Answer::Nothing))
}

/// An outcome that ends as a supervised command did.
pub(super) fn passed_on(finished: Finished, answer: Answer) -> Outcome {
    let code = u8::try_from(finished.code).unwrap_or(u8::MAX);
    let outcome = Outcome::from(answer).exit(Exit::Command(code));
    finished.said.into_iter().fold(outcome, Outcome::saying)
}
