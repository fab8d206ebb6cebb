//! A repository to type `git tether` in: temporary, hermetic, with the real program.

#![allow(dead_code, reason = "each test target uses its part")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

/// A repository with one commit.
pub(crate) struct Repository {
    directory: tempfile::TempDir,
}

impl Default for Repository {
    fn default() -> Self {
        Self::new()
    }
}

impl Repository {
    /// A new one, with branch `main`.
    pub(crate) fn new() -> Self {
        let repository = Self { directory: tempfile::tempdir().unwrap() };
        std::fs::create_dir(repository.path()).unwrap();
        repository.git(&["init", "-q", "-b", "main"]);
        repository.git(&["commit", "-q", "--allow-empty", "-m", "first"]);
        repository
    }

    /// Its worktree.
    pub(crate) fn path(&self) -> PathBuf {
        self.directory.path().join("repo")
    }

    /// The directory around it: a home, scratch files.
    pub(crate) fn around(&self) -> &Path {
        self.directory.path()
    }

    /// A program in it, with an environment of its own.
    pub(crate) fn program(&self, program: &str, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).current_dir(self.path()).stdin(Stdio::null()).env_clear();
        command.env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.directory.path()).env("LC_ALL", "C.UTF-8").env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_CEILING_DIRECTORIES", self.directory.path());
        for who in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{who}_NAME"), "Ada").env(format!("GIT_{who}_EMAIL"), "ada@example.com");
        }
        command
    }

    /// `git tether`, not yet started.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(env!("CARGO_BIN_EXE_git-tether"), arguments)
    }

    /// `git`; it has to work. Answers with what it printed.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        let output = self.program("git", arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// `git tether`, to its end.
    pub(crate) fn tether(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// `git tether`, started.
    pub(crate) fn spawn(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }

    /// `git tether`; it has to end with `code`. Answers with what it printed.
    pub(crate) fn exits(&self, code: i32, arguments: &[&str]) -> String {
        checked(code, arguments, &self.tether(arguments))
    }

    /// The same with exit code 0.
    pub(crate) fn ok(&self, arguments: &[&str]) -> String {
        self.exits(0, arguments)
    }

    /// The JSON answer of a call that ends with 0.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        self.json_of(0, arguments)
    }

    /// The JSON answer of a call that ends with `code`.
    pub(crate) fn json_of(&self, code: i32, arguments: &[&str]) -> Value {
        parsed(&self.exits(code, &with_json(arguments)))
    }

    /// The JSON answer of a call at another time.
    pub(crate) fn json_at(&self, time: &str, code: i32, arguments: &[&str]) -> Value {
        let arguments = with_json(arguments);
        let output = self.command(&arguments).env("GIT_TETHER_NOW", time).output().unwrap();
        parsed(&checked(code, &arguments, &output))
    }

    /// The code of the error that a call ends with.
    pub(crate) fn error(&self, code: i32, arguments: &[&str]) -> String {
        self.json_of(code, arguments)["error"]["code"].as_str().unwrap_or_default().to_owned()
    }

    /// Every ref with what it names.
    pub(crate) fn refs(&self) -> String {
        self.git(&["for-each-ref"])
    }
}

fn with_json<'a>(arguments: &[&'a str]) -> Vec<&'a str> {
    let end = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let mut words = arguments.to_vec();
    words.insert(end, "--json");
    words
}

fn parsed(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn checked(code: i32, arguments: &[&str], output: &Output) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr);
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(code), "git tether {arguments:?}\n{stdout}\n{stderr}");
    stdout
}
