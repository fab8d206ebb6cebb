//! The one place that starts the git program.
//!
//! Owns: the environment that git gets from us, how its failure becomes an error. Must not know: what any caller wants from git.
//! Invariant: nothing that a hook's environment sets (`GIT_INDEX_FILE`, `GIT_WORK_TREE`, `GIT_AUTHOR_DATE`, ...) reaches a git that we
//! start, no optional lock is taken in somebody's repository, neither fsmonitor nor an editor nor a prompt is ever started,
//! and a hook only where a caller asks for it; what it writes (a ref, an index, an object) is on disk when it ends.

use std::ffi::{OsStr, OsString};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

/// Variables by which a hook's git ties what it starts to one repository, index and moment. A command that works in an
/// environment of its own does not get them; who commits stays the user's to say.
pub const TIES_TO_A_REPOSITORY: &[&str] = &[
    "GIT_DIR",
    "GIT_WORK_TREE",
    "GIT_INDEX_FILE",
    "GIT_INDEX_VERSION",
    "GIT_COMMON_DIR",
    "GIT_NAMESPACE",
    "GIT_PREFIX",
    "GIT_OBJECT_DIRECTORY",
    "GIT_ALTERNATE_OBJECT_DIRECTORIES",
    "GIT_QUARANTINE_PATH",
    "GIT_AUTHOR_DATE",
    "GIT_COMMITTER_DATE",
    "GIT_REFLOG_ACTION",
    "GIT_INTERNAL_SUPER_PREFIX",
    "GIT_SHALLOW_FILE",
    "GIT_GRAFT_FILE",
    "GIT_IMPLICIT_WORK_TREE",
];

/// What a git of ours does not get either: the caller's identity and manners, which are none of its business.
const MANNERS: &[&str] = &[
    "GIT_AUTHOR_NAME",
    "GIT_AUTHOR_EMAIL",
    "GIT_COMMITTER_NAME",
    "GIT_COMMITTER_EMAIL",
    "GIT_LITERAL_PATHSPECS",
    "GIT_GLOB_PATHSPECS",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_EXTERNAL_DIFF",
    "GIT_DIFF_OPTS",
    "GIT_NO_REPLACE_OBJECTS",
    "GIT_REPLACE_REF_BASE",
];

/// A git program that works in one directory.
#[derive(Debug, Clone)]
#[allow(clippy::struct_field_names, reason = "a git directory is called so")]
pub struct Git {
    directory: PathBuf,
    git_dir: Option<PathBuf>,
    settings: Vec<OsString>,
    environment: Vec<(OsString, OsString)>,
    hooks: Hooks,
}

/// Whether a git that we start may run the hooks of the repository.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hooks {
    /// None runs: the rule.
    Off,
    /// As configured: for `post-checkout` of a new worktree, and `reference-transaction` of a ref update.
    AsConfigured,
}

/// What a git process that ended with 0 left behind.
#[derive(Debug)]
pub struct GitOutput {
    /// Its standard output, byte for byte.
    pub stdout: Vec<u8>,
    /// Its standard error, byte for byte.
    pub stderr: Vec<u8>,
}

/// Why a git process did not do what it was started for.
#[derive(Debug, thiserror::Error)]
pub enum GitError {
    /// The program could not be started, or its pipes broke.
    #[error("could not run `git {arguments}` in {}", directory.display())]
    Start {
        /// The arguments, joined for people.
        arguments: String,
        /// Where it was to run.
        directory: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The program ended with something else than 0.
    #[error("`git {arguments}` ended with {status}: {said}")]
    Failed {
        /// The arguments, joined for people.
        arguments: String,
        /// How it ended.
        status: ExitStatus,
        /// The end of its standard error, trimmed.
        said: String,
    },
}

impl GitError {
    /// The exit code of a git that ran and failed; `None` if it did not run or a signal ended it.
    pub fn exit_code(&self) -> Option<i32> {
        match self {
            Self::Failed { status, .. } => status.code(),
            Self::Start { .. } => None,
        }
    }
}

impl Git {
    /// A git for the worktree or plain directory at `directory`; git finds the repository from there.
    pub fn in_directory(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            git_dir: None,
            settings: Vec::new(),
            environment: Vec::new(),
            hooks: Hooks::Off,
        }
    }

    /// A git for the repository whose git directory (common or of a worktree) is `git_dir`, without a worktree of its own.
    pub fn in_git_dir(git_dir: impl Into<PathBuf>) -> Self {
        let git_dir = git_dir.into();
        Self {
            directory: git_dir.clone(),
            git_dir: Some(git_dir),
            settings: Vec::new(),
            environment: Vec::new(),
            hooks: Hooks::Off,
        }
    }

    /// The same git with one more `-c key=value`.
    #[must_use]
    pub fn with_setting(mut self, setting: impl Into<OsString>) -> Self {
        self.settings.push(setting.into());
        self
    }

    /// The same git with one more environment variable (a private `GIT_INDEX_FILE`, say).
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.environment.push((name.into(), value.into()));
        self
    }

    /// The same git, which may run hooks or not.
    #[must_use]
    pub fn with_hooks(mut self, hooks: Hooks) -> Self {
        self.hooks = hooks;
        self
    }

    /// The directory that it works in.
    pub fn directory(&self) -> &Path {
        &self.directory
    }

    /// The command, ready to start: scrubbed environment, no fsmonitor, no prompt, standard input closed.
    #[allow(clippy::disallowed_methods, reason = "the home of starting git")]
    pub fn command<I, A>(&self, arguments: I) -> Command
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = Command::new("git");
        for name in TIES_TO_A_REPOSITORY.iter().chain(MANNERS) {
            command.env_remove(name);
        }
        command.current_dir(&self.directory).stdin(Stdio::null());
        command.env("GIT_OPTIONAL_LOCKS", "0").env("GIT_TERMINAL_PROMPT", "0").env("GIT_EDITOR", ":");
        command.env("LC_ALL", "C.UTF-8");
        command.args(["-c", "core.fsmonitor=false", "-c", "gc.auto=0", "-c", "maintenance.auto=false"]);
        command.args(["-c", "core.fsync=all"]);
        if self.hooks == Hooks::Off {
            command.args(["-c", "core.hooksPath=/dev/null"]);
        }
        for setting in &self.settings {
            command.arg("-c").arg(setting);
        }
        if let Some(git_dir) = &self.git_dir {
            command.env("GIT_DIR", git_dir);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments);
        command
    }

    /// Runs it to its end and returns what it printed; another end than 0 is an error.
    pub fn run<I, A>(&self, arguments: I) -> Result<GitOutput, GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        self.run_with_input(arguments, &[])
    }

    /// Like [`Git::run`], with its standard output going into `file`, however much that is.
    pub fn run_into<I, A>(&self, arguments: I, file: std::fs::File) -> Result<(), GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = self.command(arguments);
        command.stdout(file).stderr(Stdio::piped());
        let shown = shown_arguments(&command);
        let output = command.spawn().and_then(std::process::Child::wait_with_output).map_err(|source| {
            GitError::Start { arguments: shown.clone(), directory: self.directory.clone(), source }
        })?;
        if output.status.success() {
            return Ok(());
        }
        Err(GitError::Failed { arguments: shown, status: output.status, said: last_words(&output.stderr) })
    }

    /// Like [`Git::run`], with `input` on its standard input.
    pub fn run_with_input<I, A>(&self, arguments: I, input: &[u8]) -> Result<GitOutput, GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let stdin = if input.is_empty() { Stdio::null() } else { Stdio::piped() };
        let mut running = self.spawn(arguments, stdin)?;
        let feeder = running.child.stdin.take().map(|mut stdin| {
            let input = input.to_vec();
            std::thread::spawn(move || match stdin.write_all(&input) {
                // A git that has seen enough closes its input: its exit status tells what it thought of it.
                Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error),
                _ => Ok(()),
            })
        });
        let (shown, directory) = (running.arguments.clone(), running.directory.clone());
        let finished = running.finish();
        if let Some(Ok(Err(source))) = feeder.map(std::thread::JoinHandle::join) {
            return Err(GitError::Start { arguments: shown, directory, source });
        }
        finished
    }

    /// Starts it, for a caller that has something else to do meanwhile.
    pub fn start<I, A>(&self, arguments: I) -> Result<RunningGit, GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        self.spawn(arguments, Stdio::null())
    }

    fn spawn<I, A>(&self, arguments: I, stdin: Stdio) -> Result<RunningGit, GitError>
    where
        I: IntoIterator<Item = A>,
        A: AsRef<OsStr>,
    {
        let mut command = self.command(arguments);
        command.stdin(stdin).stdout(Stdio::piped()).stderr(Stdio::piped());
        let (arguments, directory) = (shown_arguments(&command), self.directory.clone());
        match command.spawn() {
            Ok(child) => Ok(RunningGit { child, arguments, directory }),
            Err(source) => Err(GitError::Start { arguments, directory, source }),
        }
    }
}

/// A git process that was started and not waited for yet.
#[derive(Debug)]
pub struct RunningGit {
    child: std::process::Child,
    arguments: String,
    directory: PathBuf,
}

impl RunningGit {
    /// Waits for its end and returns what it printed; another end than 0 is an error.
    pub fn finish(self) -> Result<GitOutput, GitError> {
        let Self { child, arguments, directory } = self;
        match child.wait_with_output() {
            Ok(output) if output.status.success() => Ok(GitOutput { stdout: output.stdout, stderr: output.stderr }),
            Ok(output) => Err(GitError::Failed { arguments, status: output.status, said: last_words(&output.stderr) }),
            Err(source) => Err(GitError::Start { arguments, directory, source }),
        }
    }
}

impl GitOutput {
    /// Standard output as text, without the newline at its end.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.stdout).trim_end_matches(['\n', '\r']).to_owned()
    }
}

fn shown_arguments(command: &Command) -> String {
    let words: Vec<_> = command.get_args().map(|word| word.to_string_lossy().into_owned()).collect();
    let start = words.chunks(2).take_while(|pair| pair[0] == "-c").count() * 2;
    words.get(start..).unwrap_or_default().join(" ")
}

fn last_words(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let text = text.trim();
    let start = text.char_indices().rev().nth(1_999).map_or(0, |(at, _)| at);
    text[start..].to_owned()
}
