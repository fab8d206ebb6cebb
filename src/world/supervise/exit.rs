//! How a command ended, and what a shell would say of it.
//!
//! Owns: the mapping of an end, or of a failure to start, to an exit code. Must not know: how the end was seen.
//! Invariant: the numbers are those of sh: the command's own code, 128 and the signal, 126, 127; 125 is ours.

use nix::sys::signal::Signal;

use super::{Ended, SuperviseError};

/// The end of a process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Exit {
    /// It ended by itself with this code.
    Code(i32),
    /// This signal ended it.
    Signal(i32),
}

impl Exit {
    /// The signal that ended it, if one did.
    pub fn signal(self) -> Option<i32> {
        match self {
            Self::Code(_) => None,
            Self::Signal(number) => Some(number),
        }
    }

    /// The name of that signal, `SIGTERM` say; `SIG` and its number where it has none.
    pub fn signal_name(self) -> Option<String> {
        self.signal().map(|number| {
            Signal::try_from(number).map_or_else(|_| format!("SIG{number}"), |signal| signal.as_str().to_owned())
        })
    }

    /// What a shell's `$?` would be.
    pub fn code(self) -> i32 {
        match self {
            Self::Code(code) => code,
            Self::Signal(number) => 128 + number,
        }
    }
}

/// What a shell's `$?` would be after this end.
pub fn exit_code(ended: &Ended) -> i32 {
    ended.exit.code()
}

impl SuperviseError {
    /// What stands for it as an exit code: 127 not found, 126 found but not executable, 125 anything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}
