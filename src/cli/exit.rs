//! Exit codes: the only place that knows their numbers.

use std::process::ExitCode;

use crate::app::FailureKind;

/// How the program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// Done, and nothing needs a person.
    Done,
    /// Findings that need a person remain.
    NeedsPerson,
    /// Held by a live owner, or fenced.
    Held,
    /// Busy; safe to try again.
    Busy,
    /// It could not be done.
    Fatal,
    /// The call makes no sense.
    Usage,
    /// A command's own code is passed on.
    Command(u8),
}

/// What tether answers in the place of a command that it did not run, or lost.
const UNRUN_COMMAND: u8 = 125;

impl Exit {
    /// How the program ends when it did not run the command whose exit code it would have passed on.
    pub(crate) fn of_unrun_command(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Usage => Self::Usage,
            FailureKind::Busy => Self::Busy,
            FailureKind::Held | FailureKind::Fatal => Self::Command(UNRUN_COMMAND),
        }
    }

    /// Whether findings remain that a person has to settle.
    pub(crate) fn for_findings(needs_person: usize) -> Self {
        if needs_person > 0 { Self::NeedsPerson } else { Self::Done }
    }

    /// Its number.
    pub fn code(self) -> u8 {
        match self {
            Self::Done => 0,
            Self::NeedsPerson => 1,
            Self::Held => 3,
            Self::Busy => 75,
            Self::Fatal => 128,
            Self::Usage => 129,
            Self::Command(code) => code,
        }
    }
}

impl From<FailureKind> for Exit {
    fn from(kind: FailureKind) -> Self {
        match kind {
            FailureKind::Usage => Self::Usage,
            FailureKind::Held => Self::Held,
            FailureKind::Busy => Self::Busy,
            FailureKind::Fatal => Self::Fatal,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}
