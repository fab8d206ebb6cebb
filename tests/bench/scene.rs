//! Repositories to work in, programs to work with, and how much of it.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// How much is measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scale {
    /// Proves that it runs.
    Tiny,
    /// About a minute.
    Small,
    /// The sizes that docs/benchmarks.md shows.
    Full,
}

impl Scale {
    pub(crate) fn from_environment() -> Self {
        match std::env::var("TETHER_BENCH_SCALE").as_deref() {
            Ok("tiny") => Self::Tiny,
            Ok("full") => Self::Full,
            _ => Self::Small,
        }
    }

    pub(crate) fn pick<T>(self, tiny: T, small: T, full: T) -> T {
        match self {
            Self::Tiny => tiny,
            Self::Small => small,
            Self::Full => full,
        }
    }
}

/// The program under test.
pub(crate) fn program() -> PathBuf {
    let given = std::env::var_os("TETHER_BENCH_PROGRAM").filter(|given| !given.is_empty());
    given.map_or_else(|| PathBuf::from(env!("CARGO_BIN_EXE_git-tether")), PathBuf::from)
}

/// A scratch directory with a home of its own, in which no configuration of this machine counts.
pub(crate) struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a scratch directory");
        std::fs::create_dir(directory.path().join("home")).expect("a home");
        Self { directory }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn command(&self, program: impl AsRef<OsStr>, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        command.env("HOME", self.path("home")).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C.UTF-8");
        command.env("GIT_AUTHOR_NAME", "A").env("GIT_AUTHOR_EMAIL", "a@example.org");
        command.env("GIT_COMMITTER_NAME", "A").env("GIT_COMMITTER_EMAIL", "a@example.org");
        command.current_dir(directory).args(arguments);
        command
    }

    pub(crate) fn git(&self, directory: &Path, arguments: &[&str]) -> Command {
        self.command("git", directory, arguments)
    }

    pub(crate) fn tether(&self, directory: &Path, arguments: &[&str]) -> Command {
        self.command(program(), directory, arguments)
    }

    /// Sets the scene with git; must succeed.
    pub(crate) fn must(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = self.git(directory, arguments).output().expect("git starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.success(), "git {arguments:?}: {said}");
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }

    /// Sets the scene with git-tether, one command after the other; says which was refused.
    pub(crate) fn tether_all(&self, directory: &Path, commands: &[&[&str]]) -> Result<(), String> {
        let version = self.tether(directory, &["--version"]).output().map_err(|error| error.to_string())?;
        if version.stdout.is_empty() {
            return Err("this build of git-tether has no commands yet".to_owned());
        }
        for arguments in commands {
            let mut command = self.tether(directory, arguments);
            let output = command.stdin(Stdio::null()).output().map_err(|error| error.to_string())?;
            if !output.status.success() {
                let said = String::from_utf8_lossy(&output.stderr);
                let said = said.lines().next().unwrap_or_default();
                return Err(format!("`git-tether {}` {}: {said}", arguments.join(" "), output.status));
            }
        }
        Ok(())
    }

    /// A repository with `files` committed files of about 100 bytes, 100 in a directory.
    pub(crate) fn repository(&self, name: &str, files: usize) -> PathBuf {
        let path = self.path(name);
        std::fs::create_dir(&path).expect("a directory for the repository");
        self.must(&path, &["init", "-q", "-b", "main"]);
        for number in 0..files {
            write(&path.join(tracked(number)), &format!("file {number}\n{}\n", "x".repeat(80)));
        }
        self.must(&path, &["add", "-A"]);
        self.must(&path, &["commit", "-q", "--allow-empty", "-m", "first"]);
        path
    }
}

/// The path of a committed file.
pub(crate) fn tracked(number: usize) -> String {
    format!("d{:04}/f{:02}.txt", number / 100, number % 100)
}

/// Writes a file and the directories above it.
pub(crate) fn write(path: &Path, text: &str) {
    std::fs::create_dir_all(path.parent().expect("a path below the scene")).expect("directories");
    std::fs::write(path, text).expect("a file");
}

/// Whether a program can be started.
pub(crate) fn is_installed(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}
