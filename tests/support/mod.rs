//! A repository of its own for each test, and the real program in it, without anything of the machine's or the caller's settings.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "shared by tests, each of which uses a part of it"
)]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

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
        Self::pinned(&[])
    }

    /// The same, its first commit made with these variables.
    pub(crate) fn pinned(variables: &[(&str, &str)]) -> Self {
        Self::made(&[], variables)
    }

    /// The same, with these arguments of `git init`; a bare one has no commit.
    pub(crate) fn made_with(arguments: &[&str]) -> Self {
        Self::made(arguments, &[])
    }

    fn made(arguments: &[&str], variables: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        let path = root.path().canonicalize().unwrap().join("repository");
        std::fs::create_dir(&path).unwrap();
        let repository = Self { root, path };
        repository.git(&[&["init", "-q", "-b", "main"], arguments].concat());
        if arguments.contains(&"--bare") {
            return repository;
        }
        std::fs::write(repository.path.join("README"), "read me\n").unwrap();
        repository.git(&["add", "README"]);
        let mut commit = repository.command("git");
        commit.args(["commit", "-q", "-m", "First"]).envs(variables.iter().copied());
        assert!(commit.status().unwrap().success());
        repository
    }

    /// The temporary directory, resolved.
    pub(crate) fn home(&self) -> PathBuf {
        self.root.path().canonicalize().unwrap()
    }

    /// Every ref of ours, with what it names.
    #[track_caller]
    pub(crate) fn tether_refs(&self) -> String {
        self.git(&["for-each-ref", "--format=%(refname) %(objectname)", "refs/tether", "refs/tether-local"])
    }

    /// That git reads everything and complains of nothing.
    #[track_caller]
    pub(crate) fn assert_sound(&self) {
        for check in [&["for-each-ref"][..], &["fsck", "--strict", "--no-dangling", "--no-progress"]] {
            let checked = self.command("git").args(check).output().unwrap();
            let complaint = String::from_utf8_lossy(&checked.stderr);
            let quiet = complaint.lines().all(|line| line.starts_with("notice: "));
            assert!(checked.status.success() && quiet, "{check:?}: {}", show(&checked));
        }
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
        let output = self.tether(&with_json(arguments));
        let text = String::from_utf8_lossy(&output.stdout);
        serde_json::from_str(&text).unwrap_or_else(|error| {
            let beside = String::from_utf8_lossy(&output.stderr);
            panic!("git tether {arguments:?}: {error}: {text}{beside}")
        })
    }

    /// Starts git-tether, its output kept.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        let mut command = self.command(env!("CARGO_BIN_EXE_git-tether"));
        command.args(arguments).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// Runs git-tether, which has to end with `code`, and answers with what it printed.
    #[track_caller]
    pub(crate) fn exits(&self, code: i32, arguments: &[&str]) -> String {
        self.exits_at(None, code, arguments)
    }

    /// Runs git-tether with `--json`, which has to end with 0, and answers with its object.
    #[track_caller]
    pub(crate) fn ok_json(&self, arguments: &[&str]) -> Value {
        self.json_of(0, arguments)
    }

    /// Runs git-tether with `--json`, which has to end with `code`, and answers with its object.
    #[track_caller]
    pub(crate) fn json_of(&self, code: i32, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.exits(code, &with_json(arguments))).unwrap()
    }

    /// The same at another time.
    #[track_caller]
    pub(crate) fn json_at(&self, time: &str, code: i32, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.exits_at(Some(time), code, &with_json(arguments))).unwrap()
    }

    /// The code of the error that a call ends with.
    #[track_caller]
    pub(crate) fn error(&self, code: i32, arguments: &[&str]) -> String {
        self.json_of(code, arguments)["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Every ref with what it names.
    pub(crate) fn refs(&self) -> String {
        self.git(&["for-each-ref"])
    }

    #[track_caller]
    fn exits_at(&self, time: Option<&str>, code: i32, arguments: &[&str]) -> String {
        let mut command = self.command(env!("CARGO_BIN_EXE_git-tether"));
        let output = command.args(arguments).envs(time.map(|time| ("GIT_TETHER_NOW", time))).output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout).into_owned();
        let beside = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "git tether {arguments:?}\n{said}\n{beside}");
        said
    }
}

fn with_json<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let at = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    [&arguments[..at], &["--json"], &arguments[at..]].concat()
}

/// What a command ended with and said, for the message of a failed test.
pub(crate) fn show(output: &Output) -> String {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    format!("{}\nstdout: {}\nstderr: {}", output.status, text(&output.stdout), text(&output.stderr))
}

/// The JSON that a command answered with.
#[track_caller]
pub(crate) fn parsed(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {}", show(output)))
}

/// A `PATH` on which `git tether` is the program under test.
pub(crate) fn path_with_tether() -> std::ffi::OsString {
    let ours = Path::new(env!("CARGO_BIN_EXE_git-tether")).parent().unwrap().to_owned();
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::join_paths(std::iter::once(ours).chain(std::env::split_paths(&path))).unwrap()
}
