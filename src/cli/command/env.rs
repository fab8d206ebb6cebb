//! `git tether env`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand};

use crate::app::Failure;
use crate::app::environment::AddEnvironment;
use crate::app::removal::Unsaved;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::environment::{CleanupPolicy, Environment, ExecutionMode};
use crate::domain::ids::{EnvironmentId, RunId, SessionId, TaskAddress};

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

/// `RUN/ENV`.
type Address = (RunId, EnvironmentId);

fn address(text: &str) -> Result<Address, String> {
    let (run, id) = parse::pair(text, "ENV")?;
    let run = RunId::new(run).map_err(|error| error.to_string())?;
    let id = EnvironmentId::new(id).map_err(|error| error.to_string())?;
    Ok((run, id))
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Make an environment for a task.
    Add(Box<Add>),
    /// Take a worktree that somebody else made, or moved, into care.
    Adopt {
        /// The worktree.
        path: PathBuf,
        /// The task that it is for; needed for one that no record names.
        #[arg(long, value_parser = parse::task_address, value_name = "RUN/TASK")]
        task: Option<TaskAddress>,
    },
    /// List environments.
    List {
        /// Only this run's.
        run: Option<RunId>,
    },
    /// Show an environment.
    Show {
        /// The environment.
        #[arg(value_parser = address, value_name = "RUN/ENV")]
        environment: Address,
    },
    /// Give an environment to a session.
    Lease {
        /// The environment.
        #[arg(value_parser = address, value_name = "RUN/ENV")]
        environment: Address,
        /// The session.
        #[arg(long)]
        session: SessionId,
        /// For how long without a sign of life (10m).
        #[arg(long = "for", value_name = "TIME", value_parser = parse::duration)]
        length: Option<Duration>,
    },
    /// Take an environment back from its session.
    Release {
        /// The environment.
        #[arg(value_parser = address, value_name = "RUN/ENV")]
        environment: Address,
    },
    /// Save what an environment holds, then remove it.
    Remove {
        /// The environment.
        #[arg(value_parser = address, value_name = "RUN/ENV")]
        environment: Address,
        /// Give up files that cannot be saved; everything else is saved all the same.
        #[arg(long)]
        force: bool,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// The task that it is for.
    #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
    task: TaskAddress,
    /// What kind of place: `git_worktree`, `isolated_workspace`, `shared_workspace` or remote.
    #[arg(long)]
    mode: ExecutionMode,
    /// Its id; env-TASK if it is left out.
    #[arg(long)]
    id: Option<EnvironmentId>,
    /// Where it is; below the worktree root if it is left out.
    #[arg(long)]
    path: Option<PathBuf>,
    /// The branch of a worktree, made if it is not there; tether/RUN/TASK if it is left out.
    #[arg(long)]
    branch: Option<String>,
    /// What a new branch starts from; HEAD if it is left out.
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// What is done with it at the end.
    #[arg(long, value_name = "POLICY")]
    cleanup_policy: Option<CleanupPolicy>,
    /// Where a remote one is.
    #[arg(long, value_name = "URL")]
    remote_url: Option<String>,
    /// The task may only read there.
    #[arg(long)]
    read_only: bool,
}

/// Carries it out.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    match arguments.action {
        Action::Add(add) => {
            let task = add.task.clone();
            let (environment, warnings) = tether.add_environment(&task, &asked(*add))?;
            Ok(said(Some(environment), warnings))
        }
        Action::Adopt { path, task } => {
            let (environment, words) = tether.adopt_environment(&path, task.as_ref())?;
            Ok(said(Some(environment), words))
        }
        Action::List { run } => Ok(Outcome::of_listing(tether.list_environments(run.as_ref())?, Answer::Environments)),
        Action::Show { environment: (run, id) } => Ok(said(Some(tether.show_environment(&run, &id)?), Vec::new())),
        Action::Lease { environment: (run, id), session, length } => {
            Ok(said(Some(tether.lease_environment(&run, &id, &session, length)?), Vec::new()))
        }
        Action::Release { environment: (run, id) } => Ok(said(tether.release_environment(&run, &id)?, Vec::new())),
        Action::Remove { environment: (run, id), force } => {
            let unsaved = if force { Unsaved::GiveUp } else { Unsaved::Refuse };
            let (environment, words) = tether.remove_environment(&run, &id, unsaved)?;
            Ok(said(environment, words))
        }
    }
}

fn asked(add: Add) -> AddEnvironment {
    AddEnvironment {
        mode: add.mode,
        id: add.id,
        path: add.path,
        branch: add.branch,
        base: add.base,
        cleanup_policy: add.cleanup_policy,
        remote_url: add.remote_url,
        write_access: !add.read_only,
    }
}

fn said(environment: Option<Environment>, words: Vec<String>) -> Outcome {
    words.into_iter().fold(Answer::Environment(environment.map(Box::new)).into(), Outcome::saying)
}
