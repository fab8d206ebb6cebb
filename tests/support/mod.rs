//! A repository of its own, and `git tether` called in it as a user calls it.
//!
//! Nothing of the machine's settings gets in: the environment is cleared, HOME is empty, there is no system configuration.

#![allow(dead_code, reason = "each test target uses its part")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use tempfile::TempDir;

pub(crate) struct Repository {
    home: TempDir,
    pub(crate) path: PathBuf,
}

/// The program's directory first, so that `git tether` finds it.
pub(crate) fn search_path() -> OsString {
    let program = Path::new(env!("CARGO_BIN_EXE_git-tether"));
    let own = program.parent().unwrap().to_owned();
    let others = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(own).chain(std::env::split_paths(&others))).unwrap()
}

pub(crate) fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

pub(crate) fn show(output: &Output) -> String {
    format!("{}\nstdout: {}\nstderr: {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// Fails the test unless the command did what it was asked for; its stdout.
pub(crate) fn succeeded(output: &Output) -> String {
    assert!(output.status.success(), "{}", show(output));
    text(&output.stdout)
}

pub(crate) fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", show(output)))
}

impl Repository {
    /// A repository with one commit.
    pub(crate) fn new() -> Self {
        Self::made_with(&[])
    }

    /// The same, with these arguments of `git init`.
    pub(crate) fn made_with(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().canonicalize().unwrap().join("project");
        let repository = Self { home, path };
        std::fs::create_dir(&repository.path).unwrap();
        let init: Vec<&str> = ["init", "--quiet", "--initial-branch=main"].iter().chain(arguments).copied().collect();
        repository.git(&init);
        if !arguments.contains(&"--bare") {
            std::fs::write(repository.path.join("README"), "read me\n").unwrap();
            repository.git(&["add", "README"]);
            repository.git(&["commit", "--quiet", "-m", "Begin"]);
        }
        repository
    }

    pub(crate) fn home(&self) -> PathBuf {
        self.home.path().canonicalize().unwrap()
    }

    /// A program with nothing of the surroundings but the search path, in this directory.
    pub(crate) fn command_in(&self, program: &str, directory: &Path) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", search_path()).env("HOME", self.home()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("LC_ALL", "C.UTF-8").env("GIT_CONFIG_GLOBAL", "/dev/null").current_dir(directory);
        command
    }

    pub(crate) fn try_git_in(&self, directory: &Path, arguments: &[&str]) -> Output {
        let mut command = self.command_in("git", directory);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
        }
        command.args(arguments).output().unwrap()
    }

    pub(crate) fn git_in(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = self.try_git_in(directory, arguments);
        assert!(output.status.success(), "git {arguments:?}: {}", show(&output));
        text(&output.stdout).trim_end().to_owned()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_in(&self.path, arguments)
    }

    /// The program itself, ready to be started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.command_in(env!("CARGO_BIN_EXE_git-tether"), &self.path);
        command.args(arguments);
        command
    }

    pub(crate) fn tether(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The same, which has to exit with 0; its stdout.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        let output = self.tether(arguments);
        assert!(output.status.success(), "git tether {arguments:?}: {}", show(&output));
        text(&output.stdout)
    }

    /// The answer as JSON, whatever the exit code.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let arguments: Vec<&str> = arguments.iter().chain(&["--json"]).copied().collect();
        parsed(&self.tether(&arguments))
    }

    /// Every ref below `refs/tether` and `refs/tether-local`, with what it names.
    pub(crate) fn tether_refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/tether", "refs/tether-local"])
    }

    /// That git reads everything and complains of nothing.
    pub(crate) fn assert_sound(&self) {
        let listed = self.try_git_in(&self.path, &["for-each-ref"]);
        assert!(listed.status.success() && listed.stderr.is_empty(), "{}", show(&listed));
        let checked = self.try_git_in(&self.path, &["fsck", "--strict", "--no-dangling", "--no-progress"]);
        assert!(checked.status.success(), "{}", show(&checked));
    }
}
