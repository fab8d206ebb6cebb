//! A repository of its own for each test, and the real program in it, without anything of the machine's or the caller's settings.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "shared by tests, each of which uses a part of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

/// A repository below a temporary directory, with one commit on `main`.
pub(crate) struct Repository {
    /// The temporary directory around it, for worktrees and other things beside it.
    pub(crate) root: tempfile::TempDir,
    /// The repository's main checkout.
    pub(crate) path: PathBuf,
}

impl Repository {
    /// A repository with the file `README` in its first commit.
    pub(crate) fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("repository");
        std::fs::create_dir(&path).unwrap();
        let repository = Self { root, path };
        repository.git(&["init", "-q", "-b", "main"]);
        std::fs::write(repository.path.join("README"), "read me\n").unwrap();
        repository.git(&["add", "README"]);
        repository.git(&["commit", "-q", "-m", "First"]);
        repository
    }

    /// `program` in the repository, with a clean environment in which `git tether` is the program under test.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command.env_clear().current_dir(&self.path).env("PATH", path_with_tether());
        command.env("HOME", self.root.path()).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C").env("TZ", "UTC");
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
        }
        command
    }

    /// Runs git, which has to succeed, and answers with what it printed.
    #[track_caller]
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.command("git").args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// Runs git-tether.
    pub(crate) fn tether(&self, arguments: &[&str]) -> Output {
        self.command(env!("CARGO_BIN_EXE_git-tether")).args(arguments).output().unwrap()
    }

    /// Runs git-tether, which has to end with 0, and answers with what it printed.
    #[track_caller]
    pub(crate) fn answer(&self, arguments: &[&str]) -> String {
        let output = self.tether(arguments);
        assert!(output.status.success(), "git tether {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// Runs git-tether with `--json` and answers with its object, whatever it ended with.
    #[track_caller]
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let at = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
        let words: Vec<&str> = [&arguments[..at], &["--json"], &arguments[at..]].concat();
        let output = self.tether(&words);
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| {
            let beside = String::from_utf8_lossy(&output.stderr);
            panic!("git tether {arguments:?}: {error}: {text}{beside}")
        })
    }
}

/// A `PATH` on which `git tether` is the program under test.
pub(crate) fn path_with_tether() -> std::ffi::OsString {
    let ours = Path::new(env!("CARGO_BIN_EXE_git-tether")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&path))).unwrap()
}
