//! A temporary repository and the real program, in surroundings that hold nothing of the machine's user.

#![allow(dead_code, unreachable_pub, reason = "each test target uses a part of it")]
#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "tests start programs, and may panic")]

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

/// How long a test waits for what has to come.
const PATIENCE: Duration = Duration::from_secs(30);

/// A repository with one commit, in a directory of its own that also is the home.
pub struct Repository {
    directory: TempDir,
    /// The main checkout.
    pub path: PathBuf,
}

impl Repository {
    pub fn new() -> Self {
        let directory = tempfile::Builder::new().prefix("tether-").tempdir().unwrap();
        let path = directory.path().canonicalize().unwrap().join("repo");
        std::fs::create_dir(&path).unwrap();
        let repository = Self { directory, path };
        repository.git(&["init", "-q", "-b", "main"]);
        repository.git(&["config", "user.name", "Tester"]);
        repository.git(&["config", "user.email", "tester@example.org"]);
        repository.write("file.txt", "one\n");
        repository.git(&["add", "."]);
        repository.git(&["commit", "-q", "-m", "one"]);
        repository
    }

    /// The directory around the repository: the home of its programs.
    pub fn outside(&self) -> PathBuf {
        self.directory.path().canonicalize().unwrap()
    }

    /// The git directory.
    pub fn git_dir(&self) -> PathBuf {
        self.path.join(".git")
    }

    pub fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path.join(name), content).unwrap();
    }

    /// A program with hermetic surroundings, in the main checkout.
    pub fn program(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        let own = Path::new(env!("CARGO_BIN_EXE_git-tether")).parent().unwrap();
        let path = std::env::var_os("PATH").unwrap();
        let path = std::env::join_paths(std::iter::once(own.to_owned()).chain(std::env::split_paths(&path))).unwrap();
        command.env_clear().env("PATH", path).env("HOME", self.outside()).env("GIT_CONFIG_NOSYSTEM", "1");
        command.env("GIT_TETHER_HOST_ID", "here").current_dir(&self.path).stdin(Stdio::null());
        command
    }

    /// git, which has to do what it is asked; what it printed.
    pub fn git(&self, arguments: &[&str]) -> String {
        let output = self.program("git").args(arguments).output().unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    /// git-tether, ready to start.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.program(env!("CARGO_BIN_EXE_git-tether"));
        command.args(arguments);
        command
    }

    pub fn tether(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// The exit code of git-tether.
    pub fn code(&self, arguments: &[&str]) -> i32 {
        self.tether(arguments).status.code().unwrap()
    }

    /// What git-tether answers to a call that has to succeed.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let (answer, output) = self.answer(arguments);
        assert!(output.status.success(), "git tether {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        answer
    }

    /// What git-tether answers, and how it ended.
    pub fn answer(&self, arguments: &[&str]) -> (Value, Output) {
        let output = self.command(&["--json"]).args(arguments).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        let answer = serde_json::from_slice(&output.stdout);
        (answer.unwrap_or_else(|error| panic!("git tether {arguments:?}: {error}: {said}")), output)
    }

    /// A task as it is recorded now.
    pub fn task(&self, address: &str) -> Value {
        self.json(&["task", "show", address])["task"].clone()
    }

    /// The newest checkpoint of a task; null if there is none.
    pub fn checkpoint(&self, run: &str, task: &str) -> Value {
        let shown = self.json(&["show", run]);
        let all = shown["checkpoints"].as_array().unwrap();
        all.iter().find(|one| one["task"] == task).cloned().unwrap_or_default()
    }

    /// Every ref below `refs/tether` with what it names.
    pub fn refs(&self) -> String {
        self.git(&["for-each-ref", "refs/tether", "refs/tether-local"])
    }

    /// git-tether, started and not waited for.
    pub fn start(&self, arguments: &[&str]) -> Child {
        self.command(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    }
}

/// Waits until `look` finds something.
pub fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
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
pub fn pid_in(file: &Path) -> i32 {
    until(&file.display().to_string(), || std::fs::read_to_string(file).ok()?.trim().parse().ok())
}

/// Sends a signal to one process.
pub fn kill(pid: i32, signal: rustix::process::Signal) {
    rustix::process::kill_process(rustix::process::Pid::from_raw(pid).unwrap(), signal).unwrap();
}

/// Sends a signal to a started program.
pub fn signal(child: &Child, signal: rustix::process::Signal) {
    kill(i32::try_from(child.id()).unwrap(), signal);
}

/// What a program said on its standard error.
pub fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}
