//! What a command answers: data, still without any form.

use serde_json::Value;

use super::exit::Exit;
use crate::app::listing::Listing;
use crate::app::pool::QueuedPool;
use crate::app::reserve::Reserved;
use crate::app::session::SeenSession;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::claim::Claim;
use crate::domain::environment::Environment;
use crate::domain::gate::Gate;
use crate::domain::pool::Pool;
use crate::domain::task::Task;
use crate::domain::view::RunView;

/// What a command answers.
#[derive(Debug)]
pub(crate) enum Answer {
    /// A run with all its records.
    Run(Box<RunView>),
    /// A task.
    Task(Box<Task>),
    /// Tasks.
    Tasks(Vec<Task>),
    /// An environment; `None`: there is none, which is no error here.
    Environment(Option<Box<Environment>>),
    /// Environments.
    Environments(Vec<Environment>),
    /// A checkpoint.
    Checkpoint(Box<Checkpoint>),
    /// A gate.
    Gate(Box<Gate>),
    /// Gates that wait for somebody.
    Waiting(Vec<Gate>),
    /// A session; `None`: there is none, which is no error here.
    Session(Option<Box<SeenSession>>),
    /// The answer to a reservation.
    Reserved(Box<Reserved>),
    /// Sessions.
    Sessions(Vec<SeenSession>),
    /// A claim.
    Claim(Box<Claim>),
    /// A claim that a token is good for.
    Fence(Box<Claim>),
    /// Claims.
    Claims(Vec<Claim>),
    /// A pool with its queue.
    Pool(Box<QueuedPool>),
    /// Pools.
    Pools(Vec<Pool>),
    /// Something with a form of its own: the name of its schema, the JSON object's other keys, and the same for people.
    Other {
        /// What stands in `tether.<name>/1`.
        name: &'static str,
        /// The keys beside `schema`.
        fields: Vec<(&'static str, Value)>,
        /// For people; already free of control characters.
        human: String,
    },
    /// Bytes that are the answer in any form: a script, a page, porcelain.
    Raw(Vec<u8>),
    /// Nothing: the command's own output was the answer.
    Nothing,
}

/// How a command ended that did what it was asked for.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What it answers.
    pub answer: Answer,
    /// How the program ends.
    pub exit: Exit,
    /// What is said beside the answer.
    pub narration: Vec<String>,
    /// The pager that the answer goes through on a terminal.
    pub pager: Option<String>,
}

impl From<Answer> for Outcome {
    fn from(answer: Answer) -> Self {
        Self { answer, exit: Exit::Done, narration: Vec::new(), pager: None }
    }
}

impl Outcome {
    /// The same, ending differently.
    #[must_use]
    pub(crate) fn exit(mut self, exit: Exit) -> Self {
        self.exit = exit;
        self
    }

    /// The same, through a pager on a terminal.
    #[must_use]
    pub(crate) fn paged_by(mut self, pager: Option<String>) -> Self {
        self.pager = pager;
        self
    }

    /// A list as an answer, with what could not be read said beside it.
    pub(crate) fn of_listing<T>(listing: Listing<T>, answer: impl FnOnce(Vec<T>) -> Answer) -> Self {
        let Listing { records, unreadable } = listing;
        let outcome = Self::from(answer(records));
        unreadable.into_iter().fold(outcome, |outcome, one| {
            outcome.saying(format!("warning: {} cannot be read: {}", one.name, one.problem))
        })
    }

    /// The same, with something said beside the answer.
    #[must_use]
    pub(crate) fn saying(mut self, text: impl Into<String>) -> Self {
        self.narration.push(text.into());
        self
    }
}
