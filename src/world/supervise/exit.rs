//! How a command ended, and what a shell would say of it.
//!
//! Owns: the mapping of an end to an exit code. Must not know: how the end was seen.
//! Invariant: the numbers are those of sh: the command's own code, or 128 and the signal.

use nix::sys::signal::Signal;

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
