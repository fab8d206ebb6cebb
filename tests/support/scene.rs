//! A repository with commands that run in it: started, signalled, killed, waited for.

#![allow(dead_code, reason = "each test target uses a part of it")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests start programs, and may panic")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::Repository;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository with one commit; the directory around it is the home of its programs.
pub(crate) struct Scene {
    repository: Repository,
    /// The main checkout.
    pub(crate) path: PathBuf,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let repository = Repository::new();
        repository.git(&["config", "user.name", "Tester"]);
        repository.git(&["config", "user.email", "tester@example.org"]);
        Self { path: repository.path.clone(), repository }
    }

    /// The directory around the repository.
    pub(crate) fn outside(&self) -> PathBuf {
        self.repository.root.path().canonicalize().unwrap()
    }

    /// The git directory.
    pub(crate) fn git_dir(&self) -> PathBuf {
        self.path.join(".git")
    }

    /// git, which has to do what it is asked; what it printed.
    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.repository.git(arguments)
    }

    /// git-tether, ready to start.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.repository.command(env!("CARGO_BIN_EXE_git-tether"));
        command.args(arguments).stdin(Stdio::null());
        command
    }

    pub(crate) fn tether(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path.join(name), content).unwrap();
    }

    /// The exit code of git-tether.
    pub(crate) fn code(&self, arguments: &[&str]) -> i32 {
        self.tether(arguments).status.code().unwrap()
    }

    /// What git-tether answers to a call that has to succeed.
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        let (answer, output) = self.answer(arguments);
        assert!(output.status.success(), "git tether {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        answer
    }

    /// What git-tether answers, and how it ended.
    pub(crate) fn answer(&self, arguments: &[&str]) -> (Value, Output) {
        let output = self.command(&["--json"]).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = serde_json::from_slice(&output.stdout);
        (answer.unwrap_or_else(|error| panic!("git tether {arguments:?}: {error}: {said}")), output)
    }

    /// A task as it is recorded now.
    pub(crate) fn task(&self, address: &str) -> Value {
        self.json(&["task", "show", address])["task"].clone()
    }

    /// The newest checkpoint of a task; null if there is none.
    pub(crate) fn checkpoint(&self, run: &str, task: &str) -> Value {
        let shown = self.json(&["show", run]);
        let all = shown["checkpoints"].as_array().unwrap();
        all.iter().find(|one| one["task"] == task).cloned().unwrap_or_default()
    }

    /// Every ref below `refs/tether` with what it names.
    pub(crate) fn refs(&self) -> String {
        self.git(&["for-each-ref", "refs/tether", "refs/tether-local"])
    }

    /// git-tether, started and not waited for.
    pub(crate) fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Waits until `look` finds something.
pub(crate) fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Waits for a file with a number in it, as `echo $$ > file` writes one.
pub(crate) fn pid_in(file: &Path) -> i32 {
    until(&file.display().to_string(), || std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Sends a signal to one process.
pub(crate) fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Sends a signal to a started program.
pub(crate) fn signal(child: &Child, signal: rustix::process::Signal) {
    kill(i32::try_from(child.id()).unwrap(), signal);
}

/// What a program said on its standard error.
pub(crate) fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
