//! Why a command was not run, or not watched to its end.
//!
//! Owns: what the system's refusal to start a program means. Must not know: how programs are started.
//! Invariant: the exit codes are those of sh, 126 and 127; 125 is ours.

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;

use rustix::io::Errno;

/// Why a command did not run, or could not be watched to its end.
#[derive(Debug, thiserror::Error)]
pub enum SuperviseError {
    /// The argument vector is empty.
    #[error("there is no command to run")]
    NoCommand,
    /// The directory is not there, or is none.
    #[error("cannot run `{}` in {}: no such directory", program.to_string_lossy(), directory.display())]
    Directory {
        /// What was to be run.
        program: OsString,
        /// Where.
        directory: PathBuf,
    },
    /// There is no such program.
    #[error("cannot run `{}`: not found", program.to_string_lossy())]
    NotFound {
        /// What was looked for.
        program: OsString,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program is there, but cannot be executed.
    #[error("cannot run `{}`: it cannot be executed", program.to_string_lossy())]
    NotExecutable {
        /// What was found.
        program: OsString,
        /// What the system said.
        source: std::io::Error,
    },
    /// The system could not start it for a reason of its own.
    #[error("could not start `{}`", program.to_string_lossy())]
    Start {
        /// What was to be run.
        program: OsString,
        /// What the system said.
        source: std::io::Error,
    },
    /// Signals could not be caught, so nothing was started.
    #[error("could not catch signals to forward them")]
    Signals {
        /// What the system said.
        source: std::io::Error,
    },
    /// A lock could not be made inheritable, so nothing was started.
    #[error("could not hand the lock on to the command")]
    Inherit {
        /// What the system said.
        source: std::io::Error,
    },
    /// The command was started, but its end could not be seen.
    #[error("could not wait for process {pid}")]
    Wait {
        /// The command's process.
        pid: i32,
        /// What the system said.
        source: std::io::Error,
    },
}

impl SuperviseError {
    /// What it means that `program` could not be started.
    pub(super) fn starting(program: &OsStr, source: std::io::Error) -> Self {
        let program = program.to_owned();
        match Errno::from_io_error(&source) {
            Some(Errno::NOENT | Errno::NOTDIR) => Self::NotFound { program, source },
            Some(
                Errno::ACCESS
                | Errno::PERM
                | Errno::NOEXEC
                | Errno::ISDIR
                | Errno::TXTBSY
                | Errno::LOOP
                | Errno::TOOBIG,
            ) => Self::NotExecutable { program, source },
            _ => Self::Start { program, source },
        }
    }

    /// What stands for it as an exit code: 127 not found, 126 found but not executable, 125 anything else.
    pub fn exit_code(&self) -> i32 {
        match self {
            Self::NotFound { .. } => 127,
            Self::NotExecutable { .. } => 126,
            _ => 125,
        }
    }
}
