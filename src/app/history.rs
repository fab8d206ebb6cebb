//! What happened to a run, or to one of its tasks, as its commits tell it.

use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::ids::{Oid, RunId, TaskAddress, TaskId};
use crate::domain::time::Timestamp;
use crate::store::runs::Need;

/// One thing that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Happened {
    /// The commit that wrote it down.
    pub commit: Oid,
    /// When.
    pub at: Option<Timestamp>,
    /// Who wrote it, as git says it: name and address.
    pub author: String,
    /// What the commit says to people.
    pub message: String,
}

/// What happened, newest first.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunHistory {
    /// One after the other.
    pub happened: Vec<Happened>,
    /// Why there is nothing older, if that is not because the run begins there.
    pub ends_at: Option<String>,
}

impl Tether {
    /// What happened to a run, or to one of its tasks.
    pub fn history(&self, run: &RunId, task: Option<&TaskId>) -> Result<RunHistory, Failure> {
        if let Some(task) = task {
            let read = self.read_run(run, &Need::run().with_task(task))?;
            if !read.view.tasks.contains_key(task) {
                return Err(self.unknown_task(&TaskAddress { run: run.clone(), task: task.clone() }));
            }
        }
        let told = self.ledger().tell(run, task)?.ok_or_else(|| self.unknown_run(run))?;
        let happened = told.commits.into_iter().map(|commit| Happened {
            commit: Oid(commit.id.to_string()),
            at: Timestamp::from_seconds(commit.time.seconds),
            author: format!("{} <{}>", commit.author.name, commit.author.email),
            message: commit.message,
        });
        Ok(RunHistory { happened: happened.collect(), ends_at: told.ends_at.map(|error| chain_of(&error)) })
    }
}
