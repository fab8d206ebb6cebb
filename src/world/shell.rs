//! Command lines as a person would type them into a shell, in one directory.
//!
//! Owns: the environment that they get and what they leave running. Must not know: what is typed, or why.
//! Invariant: nothing of the caller's own repository or session reaches a command line; what was started in the background is
//! ended, at the latest, when this is dropped.

#![allow(
    clippy::disallowed_methods,
    reason = "the home of command lines: a demonstration types them as a person would"
)]

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};

/// A shell in one directory.
#[derive(Debug)]
pub struct Shell {
    directory: PathBuf,
    first_on_path: PathBuf,
    running: Vec<Child>,
}

/// What a command line printed, on both outputs as they came, and how it ended.
#[derive(Debug, Clone)]
pub struct Printed {
    /// What it printed.
    pub text: String,
    /// How it ended: its code, or 128 and the signal.
    pub code: i32,
}

impl Shell {
    /// A shell that works in `directory` and finds programs in `first_on_path` before any other.
    pub fn new(directory: &Path, first_on_path: &Path) -> Self {
        Self { directory: directory.to_owned(), first_on_path: first_on_path.to_owned(), running: Vec::new() }
    }

    /// Goes to a directory below.
    pub fn enter(&mut self, below: &str) {
        self.directory.push(below);
    }

    /// Where it works.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// Types a line and waits for its end.
    pub fn type_line(&self, line: &str) -> io::Result<Printed> {
        let (reader, writer) = io::pipe()?;
        let mut command = self.command(line);
        command.stdout(writer.try_clone()?).stderr(writer);
        let mut child = command.spawn()?;
        // Our own copies of the writing end have to go, or the reading never ends.
        drop(command);
        let text = io::read_to_string(reader)?;
        Ok(Printed { text, code: code_of(child.wait()?) })
    }

    /// Types a line that goes on in the background; what it prints goes to a file.
    pub fn start_line(&mut self, line: &str, prints_to: &Path) -> io::Result<()> {
        let output = File::create(prints_to)?;
        // `exec`: the shell must not stand between us and what it starts.
        let child = self.command(&format!("exec {line}")).stdout(output.try_clone()?).stderr(output).spawn()?;
        self.running.push(child);
        Ok(())
    }

    /// Waits until all that was started in the background has ended.
    pub fn wait_for_all(&mut self) -> io::Result<()> {
        for child in &mut self.running {
            child.wait()?;
        }
        self.running.clear();
        Ok(())
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.arg("-c").arg(line).current_dir(&self.directory).stdin(Stdio::null());
        for (name, _) in std::env::vars_os() {
            let shown = name.to_string_lossy();
            if shown.starts_with("GIT_") || shown.starts_with("TETHER_") {
                command.env_remove(&name);
            }
        }
        let path = std::env::var_os("PATH").unwrap_or_default();
        let directories = std::iter::once(self.first_on_path.clone()).chain(std::env::split_paths(&path));
        if let Ok(path) = std::env::join_paths(directories) {
            command.env("PATH", path);
        }
        // A person's own settings (signing, hooks, templates) are not part of the story.
        command.env("GIT_CONFIG_GLOBAL", "/dev/null").env("GIT_CONFIG_NOSYSTEM", "1").env("GIT_PAGER", "cat");
        command
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        for child in &mut self.running {
            // One that has ended already is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn code_of(status: ExitStatus) -> i32 {
    use std::os::unix::process::ExitStatusExt;
    status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap_or(128)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn a_line_prints_and_ends() {
        let here = tempfile::tempdir().unwrap();
        let mut shell = Shell::new(here.path(), Path::new("/nowhere"));
        std::fs::create_dir(here.path().join("below")).unwrap();
        shell.enter("below");
        let printed = shell.type_line("pwd; echo aside >&2; echo ${PATH%%:*}; exit 7").unwrap();
        assert_eq!(printed.code, 7);
        assert!(printed.text.ends_with("/below\naside\n/nowhere\n"), "{}", printed.text);
        assert_eq!(shell.type_line("kill -9 $$").unwrap().code, 137);
    }

    #[test]
    fn what_runs_in_the_background_ends_with_the_shell() {
        let here = tempfile::tempdir().unwrap();
        let mut shell = Shell::new(here.path(), Path::new("/nowhere"));
        shell.start_line("sleep 600", &here.path().join("log")).unwrap();
        let pid = shell.running[0].id();
        drop(shell);
        assert!(!Path::new(&format!("/proc/{pid}")).exists());
    }
}
