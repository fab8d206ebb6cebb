//! `git tether task`

use std::time::Duration;

use clap::{Args, Subcommand};

use crate::app::task::Patience;
use crate::app::{Failure, Tether};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::event::WorkEnd;
use crate::domain::ids::{PoolName, RunId, SessionId, TaskAddress, TaskId};
use crate::domain::task::{NewTask, Retry, TaskState};

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Add a task to a run.
    Add(Box<Add>),
    /// Start a task.
    Start(Start),
    /// Take the first task of the queue, and start it.
    Next(Next),
    /// Say that the work of a task is done.
    Done(End),
    /// Say that the work of a task has failed.
    Fail(End),
    /// Call a task off.
    Cancel(End),
    /// Say that a task cannot go on.
    Block {
        /// The task.
        #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
        task: TaskAddress,
        /// Why.
        #[arg(long, value_name = "TEXT")]
        reason: String,
    },
    /// Say that a task can go on.
    Unblock {
        /// The task.
        #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
        task: TaskAddress,
        /// The reason that is gone; all if it is left out.
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
    },
    /// List tasks.
    List {
        /// Only this run's.
        run: Option<RunId>,
        /// Only those in this state.
        #[arg(long)]
        state: Option<TaskState>,
    },
    /// Show a task.
    Show {
        /// The task.
        #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
        task: TaskAddress,
    },
}

#[derive(Debug, Args)]
struct Add {
    /// The task.
    #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
    task: TaskAddress,
    /// Its name for people.
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// Who is to do it.
    #[arg(long)]
    agent: Option<String>,
    /// In which role.
    #[arg(long)]
    role: Option<String>,
    /// What is to be done, in words.
    #[arg(long, value_name = "TEXT")]
    prompt: Option<String>,
    /// Higher goes first.
    #[arg(long, value_name = "N", default_value_t = 0, allow_negative_numbers = true)]
    priority: i64,
    /// The pool whose limit it counts against; its agent's if it is left out.
    #[arg(long)]
    pool: Option<PoolName>,
    /// A task that has to be completed first.
    #[arg(long, value_name = "TASK")]
    depends_on: Vec<String>,
    /// What it needs: approval, review, test.
    #[arg(long, value_name = "WHAT,...")]
    require: Vec<String>,
    /// How often it is tried again after a failure.
    #[arg(long, value_name = "N", default_value_t = 0)]
    retries: u32,
    /// The pause before it is tried again (30s, 5m).
    #[arg(long, value_name = "TIME", value_parser = parse::duration, default_value = "0s")]
    retry_backoff: Duration,
    /// What is to be done, as a command.
    #[arg(last = true, value_name = "CMD")]
    command: Vec<String>,
}

#[derive(Debug, Args)]
struct Start {
    /// The task.
    #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
    task: TaskAddress,
    /// Who works on it; else `TETHER_SESSION`, else a new session.
    #[arg(long)]
    session: Option<SessionId>,
    /// Wait until it may start.
    #[arg(long)]
    wait: bool,
}

#[derive(Debug, Args)]
struct Next {
    /// Only of this run.
    run: Option<RunId>,
    /// Only of this pool.
    #[arg(long)]
    pool: Option<PoolName>,
    /// Who works on it; else `TETHER_SESSION`, else a new session.
    #[arg(long)]
    session: Option<SessionId>,
}

#[derive(Debug, Args)]
struct End {
    /// The task.
    #[arg(value_parser = parse::task_address, value_name = "RUN/TASK")]
    task: TaskAddress,
    /// What the command returned.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    exit_code: Option<i32>,
    /// What came of it, in words.
    #[arg(long, value_name = "TEXT")]
    summary: Option<String>,
}

impl End {
    fn work_end(&self) -> WorkEnd {
        WorkEnd { exit_code: self.exit_code, signal: None, summary: self.summary.clone() }
    }
}

/// Adds, starts and ends tasks.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let task = match arguments.action {
        Action::Add(add) => self::add(tether, *add)?,
        Action::Start(start) => {
            let patience = if start.wait { Patience::Wait } else { Patience::Refuse };
            tether.start_task(&start.task, start.session.as_ref(), patience)?
        }
        Action::Next(next) => tether.next_task(next.run.as_ref(), next.pool.as_ref(), next.session.as_ref())?,
        Action::Done(end) => tether.finish_task(&end.task, &end.work_end())?,
        Action::Fail(end) => tether.fail_task(&end.task, &end.work_end())?,
        Action::Cancel(end) => tether.cancel_task(&end.task, &end.work_end())?,
        Action::Block { task, reason } => tether.block_task(&task, &reason)?,
        Action::Unblock { task, reason } => tether.unblock_task(&task, reason.as_deref())?,
        Action::Show { task } => tether.show_task(&task)?,
        Action::List { run, state } => {
            return Ok(Outcome::of_listing(tether.list_tasks(run.as_ref(), state)?, Answer::Tasks));
        }
    };
    Ok(Answer::Task(Box::new(task)).into())
}

fn add(tether: &Tether, add: Add) -> Result<crate::domain::task::Task, Failure> {
    let depends_on = add.depends_on.iter().flat_map(|word| word.split(',')).map(TaskId::new);
    let new = NewTask {
        name: add.name,
        agent: add.agent,
        role: add.role,
        prompt: add.prompt,
        command: add.command,
        priority: add.priority,
        depends_on: depends_on.collect::<Result<_, _>>()?,
        pool: add.pool,
        retry: Retry { max: add.retries, backoff_seconds: add.retry_backoff.as_secs(), not_before: None, used: 0 },
        requirements: parse::requirements(&add.require)?,
        ..NewTask::named(add.task.task)
    };
    tether.add_task(&add.task.run, &new)
}
