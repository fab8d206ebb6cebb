//! Identifiers of what is recorded, one type each.
//!
//! Owns the grammar of ids. Invariant: an id that exists is valid, so that it can become part of a ref and a path as it is.

use std::fmt;
use std::str::FromStr;

/// Why a text is no id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a valid {what} id: {why}")]
pub struct InvalidId {
    /// Which kind of id was asked for.
    pub what: &'static str,
    /// What was given.
    pub found: String,
    /// Which rule it breaks.
    pub why: &'static str,
}

/// The most characters of an id.
pub const LONGEST_ID: usize = 64;

#[allow(clippy::case_sensitive_file_extension_comparisons, reason = "an id is lower case")]
fn check(text: &str) -> Result<(), &'static str> {
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    match text.as_bytes() {
        [] => Err("it is empty"),
        bytes if bytes.len() > LONGEST_ID => Err("it is longer than 64 characters"),
        bytes if !bytes.iter().copied().all(allowed) => Err("only a-z, 0-9, '.', '_' and '-' may stand in it"),
        [b'.' | b'_' | b'-', ..] => Err("it starts with neither a letter nor a digit"),
        _ if text.contains("..") => Err("'..' stands in it"),
        _ if text.ends_with('.') => Err("it ends in '.'"),
        _ if text.ends_with(".lock") => Err("it ends in '.lock'"),
        _ => Ok(()),
    }
}

macro_rules! id {
    ($(#[$meta:meta])* $name:ident, $what:literal) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(String);

        impl $name {
            /// What this is the id of, in a word.
            pub const WHAT: &'static str = $what;

            /// Checks `text` against the grammar of ids.
            pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
                let text = text.into();
                match check(&text) {
                    Ok(()) => Ok(Self(text)),
                    Err(why) => Err(InvalidId { what: $what, found: text, why }),
                }
            }

            /// An id made from any text: what an id cannot hold becomes `-`.
            pub fn made_from(text: &str) -> Self {
                Self(nearest_id(text))
            }

            /// The id as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
    };
}

id!(
    /// A run.
    RunId,
    "run"
);
id!(
    /// A task within its run.
    TaskId,
    "task"
);
id!(
    /// An environment within its run.
    EnvironmentId,
    "environment"
);
id!(
    /// A gate within its run.
    GateId,
    "gate"
);
id!(
    /// A session.
    SessionId,
    "session"
);

#[allow(clippy::case_sensitive_file_extension_comparisons, reason = "an id is lower case")]
/// The id that is nearest to `text`: lower case, `-` for what an id cannot hold, at most 64 characters.
fn nearest_id(text: &str) -> String {
    let mut id = String::new();
    for character in text.chars().flat_map(char::to_lowercase) {
        let kept = if matches!(character, 'a'..='z' | '0'..='9' | '.' | '_' | '-') { character } else { '-' };
        if !(kept == '.' && id.ends_with('.')) {
            id.push(kept);
        }
    }
    let mut id = id.trim_start_matches(['.', '_', '-']).to_owned();
    id.truncate(LONGEST_ID);
    while id.ends_with('.') || id.ends_with(".lock") {
        id.truncate(id.rfind('.').unwrap_or(0));
    }
    if id.is_empty() { "x".to_owned() } else { id }
}

/// A task of a named run, written `RUN/TASK`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskAddress {
    /// Its run.
    pub run: RunId,
    /// The task in that run.
    pub task: TaskId,
}

impl fmt::Display for TaskAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.task)
    }
}

/// A gate of a named run, written `RUN/GATE`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GateAddress {
    /// Its run.
    pub run: RunId,
    /// The gate in that run.
    pub gate: GateId,
}

impl fmt::Display for GateAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.run, self.gate)
    }
}

/// A task as a run speaks of it: one of its own (`TASK`) or a child run's (`RUN/TASK`).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskPointer {
    /// The run, if it is not the one that speaks.
    pub run: Option<RunId>,
    /// The task.
    pub task: TaskId,
}

impl TaskPointer {
    /// The pointer as `run` itself writes it: without its own name.
    #[must_use]
    pub fn as_seen_from(self, run: &RunId) -> Self {
        Self { run: self.run.filter(|named| named != run), task: self.task }
    }
}

impl fmt::Display for TaskPointer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.run {
            Some(run) => write!(f, "{run}/{}", self.task),
            None => write!(f, "{}", self.task),
        }
    }
}

impl FromStr for TaskPointer {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match text.split_once('/') {
            Some((run, task)) => Ok(Self { run: Some(RunId::new(run)?), task: TaskId::new(task)? }),
            None => Ok(Self { run: None, task: TaskId::new(text)? }),
        }
    }
}

/// The pool of a group of executors.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PoolName(String);

impl PoolName {
    /// Checks `text` against the grammar of ids.
    pub fn new(text: impl Into<String>) -> Result<Self, InvalidId> {
        let text = text.into();
        match check(&text) {
            Ok(()) => Ok(Self(text)),
            Err(why) => Err(InvalidId { what: "pool", found: text, why }),
        }
    }

    /// The pool of an agent: what stands before the first colon of its name (`codex` for `codex:gpt-5.4`), made an id.
    pub fn of_agent(agent: &str) -> Option<Self> {
        let name = agent.split(':').next().unwrap_or_default().trim();
        (!name.is_empty()).then(|| Self(nearest_id(name)))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for PoolName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for PoolName {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

/// A machine, as records name it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostId(pub String);

impl fmt::Display for HostId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A fencing token, `<kind>/<encoded key>#<generation>`; opaque to everybody but the claims.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Token(pub String);

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// A git object id in hexadecimal, as records hold it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Oid(pub String);

impl fmt::Display for Oid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_follow_the_grammar() {
        let longest = "a".repeat(64);
        for good in ["0", "a", "0.a_b-c", "a.b", "lock", "a.locks", longest.as_str()] {
            assert!(RunId::new(good).is_ok(), "{good}");
        }
        let too_long = "a".repeat(65);
        for bad in ["", "A", "a..b", "a.lock", "a.", ".a", "_a", "-a", "a/b", "a b", "é", "a\n", too_long.as_str()] {
            assert!(RunId::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_text_has_a_nearest_id(text in "\\PC{0,90}|[a-c.]{0,70}|.*\\.lock") {
            let id = TaskId::made_from(&text);
            prop_assert_eq!(TaskId::new(id.as_str()).map(|id| id.to_string()), Ok(id.to_string()));
        }
    }
}
