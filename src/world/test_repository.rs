//! A real repository in a directory of its own, for tests: nobody's configuration but its own counts.

#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::git::{Repository, Surroundings};

pub(crate) struct TestRepository {
    pub(crate) top: PathBuf,
    directory: tempfile::TempDir,
}

impl TestRepository {
    /// A repository `r` with one commit of `file` and `dir/other` on `main`.
    pub(crate) fn new() -> Self {
        Self::initialised(&[])
    }

    pub(crate) fn initialised(arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let root = std::fs::canonicalize(directory.path()).unwrap();
        let repository = Self { top: root.join("r"), directory };
        let mut words = vec!["init", "-q", "-b", "main", "r"];
        words.extend(arguments);
        repository.git_at(&root, &words);
        std::fs::create_dir(repository.top.join("dir")).unwrap();
        std::fs::write(repository.top.join("file"), "one\n").unwrap();
        std::fs::write(repository.top.join("dir/other"), "two\n").unwrap();
        repository.git(&["add", "."]);
        repository.git(&["commit", "-q", "-m", "first"]);
        repository
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.top.with_file_name(name)
    }

    pub(crate) fn open(&self) -> Repository {
        Repository::open_from(Surroundings::isolated(&self.top)).unwrap()
    }

    pub(crate) fn git(&self, arguments: &[&str]) -> String {
        self.git_at(&self.top, arguments)
    }

    pub(crate) fn git_at(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = self.try_git(directory, arguments);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(crate) fn try_git(&self, directory: &Path, arguments: &[&str]) -> Output {
        Command::new("git")
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b")])
            .envs([("GIT_COMMITTER_NAME", "A"), ("GIT_COMMITTER_EMAIL", "a@b")])
            .output()
            .unwrap()
    }
}
