//! Runs `tether.setup` in a place that has just been made.
//!
//! Owns: its start and its streams. Must not know: why, or what follows from its end.
//! Invariant: standard output stays the answer's: what the command prints goes to standard error; it reads nothing.

use std::ffi::{OsStr, OsString};
use std::os::fd::AsFd;
use std::path::Path;
use std::process::{Command, ExitStatus, Stdio};

/// Runs `command` with `sh -c` in `directory` and waits for its end. `set` is put on top of our environment, `removed` taken from it.
#[allow(clippy::disallowed_methods, reason = "the home of starting commands that are not git")]
pub fn run_setup(
    command: &OsStr,
    directory: &Path,
    set: &[(OsString, OsString)],
    removed: &[&str],
) -> std::io::Result<ExitStatus> {
    let said = std::io::stderr().as_fd().try_clone_to_owned()?;
    let mut shell = Command::new("sh");
    for name in removed {
        shell.env_remove(name);
    }
    shell.arg("-c").arg(command).current_dir(directory).envs(set.iter().map(|(name, value)| (name, value)));
    shell.stdin(Stdio::null()).stdout(Stdio::from(said)).stderr(Stdio::inherit()).status()
}
