//! What a use case answers when it did not do what it was asked for.
//!
//! Owns the classes of failure and their stable codes. Must not know exit codes, nor how anything is shown.

use std::error::Error;

use crate::domain::ids::InvalidId;
use crate::domain::names::UnknownName;
use crate::domain::pool::NoSlot;
use crate::domain::session::RefusedSessionChange;
use crate::domain::time::{InvalidDuration, InvalidTime};
use crate::domain::transition::RefusedTransition;
use crate::git::settings::SettingError;
use crate::git::{GitError, OpenError};
use crate::record::InvalidRecord;
use crate::store::backend::{SwapError, WriteError};
use crate::store::chain::AppendError;
use crate::store::ledger::{ReadError, WriteRecordError};
use crate::store::runs::Refusal;

/// What kind of failure it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// The caller asked for something that makes no sense.
    Usage,
    /// A live owner holds it, or a token is not valid any more.
    Held,
    /// It may work later.
    Busy,
    /// It cannot be done.
    Fatal,
}

/// Why something was not done.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: FailureKind,
    /// Its stable name, for scripts.
    pub code: &'static str,
    /// What was attempted and what was found, in one line.
    pub message: String,
    /// What to do about it.
    pub hints: Vec<String>,
}

impl Failure {
    /// Something that cannot be done.
    pub fn fatal(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Fatal, code, message: message.into(), hints: Vec::new() }
    }

    /// Something that makes no sense.
    pub fn usage(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Usage, ..Self::fatal(code, message) }
    }

    /// Something that somebody else holds.
    pub fn held(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Held, ..Self::fatal(code, message) }
    }

    /// Something that may work later.
    pub fn busy(code: &'static str, message: impl Into<String>) -> Self {
        Self { kind: FailureKind::Busy, ..Self::fatal(code, message) }
    }

    /// The same, with one more hint.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hints.push(hint.into());
        self
    }

    /// Something that does not exist; `known` are the names that do, of which the nearest are named.
    pub fn unknown<'a>(what: &'static str, id: &str, known: impl IntoIterator<Item = &'a str>) -> Self {
        let failure = Self::fatal(unknown_code(what), format!("there is no {what} {id}"));
        let near = near_matches(id, known);
        if near.is_empty() {
            return failure.hint(where_listed(what));
        }
        failure.hint(format!("did you mean {}?", near.join(" or ")))
    }
}

/// The names that somebody who wrote `id` may have meant, nearest first.
pub fn near_matches<'a>(id: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let mut near: Vec<_> = known
        .into_iter()
        .map(|name| (strsim::damerau_levenshtein(name, id), name))
        .filter(|(distance, name)| {
            let alike = *distance <= 1.max(id.len() / 3) && *distance < id.len().min(name.len());
            alike || name.starts_with(id) || id.starts_with(name)
        })
        .collect();
    near.sort_unstable();
    near.dedup();
    near.into_iter().take(3).map(|(_, name)| name).collect()
}

/// Where the things of a kind are listed.
fn where_listed(what: &str) -> &'static str {
    match what {
        "task" => "`git tether task list` lists the tasks",
        "environment" => "`git tether env list` lists the environments",
        "session" => "`git tether session list --all` lists the sessions",
        "gate" => "`git tether waiting` lists the gates that wait",
        "pool" => "`git tether pool show` lists the pools",
        "claim" => "`git tether claim list` lists the claims",
        "saved work" => "`git tether salvage list` lists what is saved",
        _ => "`git tether status` lists the runs",
    }
}

fn unknown_code(what: &str) -> &'static str {
    match what {
        "run" => "unknown_run",
        "task" => "unknown_task",
        "environment" => "unknown_environment",
        "session" => "unknown_session",
        "gate" => "unknown_gate",
        "pool" => "unknown_pool",
        "claim" => "unknown_claim",
        "saved work" => "unknown_saved_work",
        _ => "unknown",
    }
}

/// An error with everything that led to it, in one line.
pub fn chain_of(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text.push_str(": ");
            text.push_str(&said);
        }
        source = error.source();
    }
    text
}

macro_rules! usage_errors {
    ($($type:ty => $code:literal),+ $(,)?) => {$(
        impl From<$type> for Failure {
            fn from(error: $type) -> Self {
                Self::usage($code, chain_of(&error))
            }
        }
    )+};
}
usage_errors!(
    InvalidId => "invalid_id",
    UnknownName => "invalid_value",
    InvalidDuration => "invalid_duration",
    InvalidTime => "invalid_time",
    SettingError => "invalid_setting",
    crate::world::clock::ClockError => "invalid_time",
);

impl From<InvalidRecord> for Failure {
    fn from(error: InvalidRecord) -> Self {
        let code = match &error {
            InvalidRecord::TooLarge { .. } | InvalidRecord::TooDeep { .. } => "record_too_large",
            InvalidRecord::NewerSchema { .. } => "newer_schema",
            InvalidRecord::NotJson { .. } => "invalid_json",
            InvalidRecord::OtherSchema { .. } | InvalidRecord::Field(_) => "invalid_record",
        };
        Self::fatal(code, chain_of(&error))
    }
}

impl From<OpenError> for Failure {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::NotARepository { .. } => "not_a_repository",
            OpenError::NotOurs { .. } => "unsafe_repository",
            _ => "repository_unusable",
        };
        let message = match &error {
            OpenError::NotARepository { .. } => error.to_string(),
            _ => chain_of(&error),
        };
        Self { hints: error.hint().into_iter().collect(), ..Self::fatal(code, message) }
    }
}

impl From<GitError> for Failure {
    fn from(error: GitError) -> Self {
        Self::fatal("git_failed", chain_of(&error))
    }
}

impl From<NoSlot> for Failure {
    fn from(error: NoSlot) -> Self {
        let code = match &error {
            NoSlot::Full { .. } => "pool_full",
            NoSlot::BackingOff { .. } => "pool_backing_off",
        };
        Self::busy(code, error.to_string()).hint("try again later, or wait for it with --wait")
    }
}

impl From<RefusedSessionChange> for Failure {
    fn from(error: RefusedSessionChange) -> Self {
        Self::held("session_ended", error.to_string()).hint("reserve a new session with `git tether session reserve`")
    }
}

impl From<ReadError> for Failure {
    fn from(error: ReadError) -> Self {
        let code = match &error {
            ReadError::Name(_) => return Self::usage("invalid_id", error.to_string()),
            ReadError::Record { source: InvalidRecord::NewerSchema { .. }, .. } => "newer_schema",
            ReadError::Record { source: InvalidRecord::TooLarge { .. }, .. } => "record_too_large",
            ReadError::Record { .. } | ReadError::Misnamed { .. } => "invalid_record",
            ReadError::Ref { .. } => "unreadable_ref",
            ReadError::Unusable { .. } => "unusable_ref",
            ReadError::Commit { .. } | ReadError::Tree { .. } | ReadError::Incomplete { .. } => "torn_record",
        };
        let failure = Self::fatal(code, chain_of(&error));
        match code {
            "newer_schema" => failure,
            _ => failure.hint("`git tether doctor` names what is torn and shows the last good state"),
        }
    }
}

impl From<WriteError> for Failure {
    fn from(error: WriteError) -> Self {
        let message = chain_of(&error);
        Self::unwritten(&error, message)
    }
}

impl Failure {
    fn unwritten(error: &WriteError, message: String) -> Self {
        match error {
            WriteError::Full { .. } => Self::storage_full(message),
            WriteError::ReadOnly { .. } => Self::read_only(message),
            _ => Self::fatal("write_failed", message).hint("nothing was changed"),
        }
    }

    /// That there is no room.
    pub fn storage_full(message: impl Into<String>) -> Self {
        Self::fatal("storage_full", message).hint("nothing was changed; make room and try again")
    }

    /// That the repository cannot be written to.
    pub fn read_only(message: impl Into<String>) -> Self {
        Self::fatal("read_only", message).hint("nothing was changed; the repository cannot be written to")
    }
}

impl From<AppendError> for Failure {
    fn from(error: AppendError) -> Self {
        let message = chain_of(&error);
        match error {
            AppendError::Swap(SwapError::Lost { .. } | SwapError::Busy { .. }) => {
                Self::busy("busy", message).hint("somebody else is writing; try again")
            }
            AppendError::Swap(SwapError::Full { .. }) => Self::storage_full(message),
            AppendError::Swap(SwapError::ReadOnly { .. }) => Self::read_only(message),
            AppendError::Write { source, .. } => Self::unwritten(&source, message),
            _ => Self::fatal("write_failed", message),
        }
    }
}

impl From<std::convert::Infallible> for Failure {
    fn from(never: std::convert::Infallible) -> Self {
        match never {}
    }
}

impl<E: Error + Into<Self> + 'static> From<WriteRecordError<E>> for Failure {
    fn from(error: WriteRecordError<E>) -> Self {
        match error {
            WriteRecordError::Refused(refused) => refused.into(),
            WriteRecordError::Read(read) => read.into(),
            WriteRecordError::Encode(record) => record.into(),
            WriteRecordError::Contended { .. } => {
                Self::busy("contended", chain_of(&error)).hint("many are writing at once; try again")
            }
            WriteRecordError::Append(append) => (*append).into(),
        }
    }
}

impl<E: Error + Into<Self> + 'static> From<Refusal<E>> for Failure {
    fn from(refusal: Refusal<E>) -> Self {
        match refusal {
            Refusal::NoSuchRun(run) => Self::fatal("unknown_run", format!("there is no run {run}")),
            Refusal::RunExists(run) => Self::fatal("run_exists", format!("run {run} exists already"))
                .hint(format!("look at it with `git tether show {run}`")),
            Refusal::Transition(refused) => refused.into(),
            Refusal::Decided(decided) => decided.into(),
            dropped @ Refusal::PreviousDropped => Self::busy("contended", dropped.to_string()).hint("try again"),
        }
    }
}

impl From<RefusedTransition> for Failure {
    fn from(refused: RefusedTransition) -> Self {
        let message = refused.to_string();
        match refused {
            RefusedTransition::Unknown { what, .. } => {
                Self::fatal(unknown_code(what), message).hint(where_listed(what))
            }
            RefusedTransition::Exists { what, .. } => Self::fatal(
                match what {
                    "task" => "task_exists",
                    "gate" => "gate_exists",
                    "environment" => "environment_exists",
                    _ => "exists",
                },
                message,
            ),
            RefusedTransition::IllegalTask { .. }
            | RefusedTransition::IllegalRun { .. }
            | RefusedTransition::IllegalEnvironment { .. } => {
                Self::fatal("illegal_transition", message).hint("`git tether show RUN` shows how things stand")
            }
            RefusedTransition::RunEnded { .. } => Self::fatal("run_ended", message),
            RefusedTransition::RunPaused { run } => {
                Self::fatal("run_paused", message).hint(format!("let it go on with `git tether unpause {run}`"))
            }
            RefusedTransition::Cycle { .. } => Self::fatal("dependency_cycle", message),
            RefusedTransition::DependencyOpen { state, .. } if state.is_terminal() => {
                Self::fatal("dependency_ended", message).hint("what it depends on will not complete: cancel the task")
            }
            RefusedTransition::DependencyOpen { .. } => Self::fatal("dependency_open", message),
            RefusedTransition::GatePending { .. } => {
                Self::fatal("gate_pending", message).hint("`git tether waiting` lists what has to be decided")
            }
            RefusedTransition::BackingOff { .. } => Self::busy("task_backing_off", message),
            RefusedTransition::NotResumable { .. } => Self::fatal("not_resumable", message),
            RefusedTransition::AlreadyDecided { .. } => {
                Self::fatal("already_decided", message).hint("what was decided stays; open a new gate to decide anew")
            }
            RefusedTransition::WrongDecision { hint, .. } => Self::fatal("wrong_decision", message).hint(hint),
            RefusedTransition::NotOffered { .. } => Self::usage("not_offered", message),
            RefusedTransition::OutOfRange { allowed, .. } => {
                Self::usage("out_of_range", message).hint(format!("give a value within {allowed}"))
            }
        }
    }
}
