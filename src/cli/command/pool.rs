//! `git tether pool`

use clap::{Args, Subcommand};

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;
use crate::domain::ids::PoolName;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Show a pool with its queue, or list all pools.
    Show {
        /// The pool.
        pool: Option<PoolName>,
    },
    /// Limit how many tasks of a pool run at once.
    Set {
        /// The pool.
        pool: PoolName,
        /// How many.
        #[arg(long, value_name = "N")]
        max: u32,
    },
    /// Say that a pool failed: it backs off.
    Fail {
        /// The pool.
        pool: PoolName,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// End the back-off of a pool.
    Clear {
        /// The pool.
        pool: PoolName,
    },
}

/// Shows and limits pools.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let queued = match arguments.action {
        Action::Show { pool: None } => return Ok(Outcome::of_listing(tether.list_pools()?, Answer::Pools)),
        Action::Show { pool: Some(pool) } => tether.show_pool(&pool)?,
        Action::Set { pool, max } => tether.set_pool(&pool, max)?,
        Action::Fail { pool, reason } => tether.fail_pool(&pool, reason.as_deref())?,
        Action::Clear { pool } => tether.clear_pool(&pool)?,
    };
    Ok(Answer::Pool(Box::new(queued)).into())
}
