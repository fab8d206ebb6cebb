//! Tests of the store on real repositories: one contract for every backend, races with git itself, folds, and the time that a transition takes.

#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]

mod contract;
mod folds;
mod formats;
mod indexes;
mod races;
mod releases;
mod saved;
mod stops;
mod streams;
mod times;
mod trees;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use gix::ObjectId;
use gix::date::Time;
use tempfile::TempDir;

use super::backend::{Backend, Expected};
use super::chain::{self, Content, Identity, Transition};
use super::names::RefName;
use crate::git::{Repository, Surroundings};

/// A repository of its own, away from everybody's settings.
pub(super) struct Fixture {
    pub(super) home: TempDir,
    pub(super) directory: PathBuf,
}

pub(super) fn open_at(directory: &Path) -> Box<dyn Backend> {
    super::open(&repository_at(directory))
}

fn repository_at(directory: &Path) -> Repository {
    Repository::open_from(Surroundings::isolated(directory)).unwrap()
}

impl Fixture {
    pub(super) fn new(arguments: &[&str]) -> Self {
        let home = tempfile::tempdir().unwrap();
        let directory = home.path().join("repository");
        let fixture = Self { home, directory };
        let mut init = vec!["init", "--quiet", "--initial-branch=main"];
        init.extend(arguments);
        let path = fixture.directory.to_str().unwrap().to_owned();
        init.push(&path);
        let output = fixture.command(fixture.home.path(), &init).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        fixture
    }

    pub(super) fn command(&self, directory: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new("git");
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap());
        command.env("HOME", self.home.path()).env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C.UTF-8");
        command.env("GIT_AUTHOR_NAME", "a").env("GIT_AUTHOR_EMAIL", "a@b");
        command.env("GIT_COMMITTER_NAME", "a").env("GIT_COMMITTER_EMAIL", "a@b");
        command.current_dir(directory).args(arguments);
        command
    }

    pub(super) fn try_git(&self, arguments: &[&str]) -> Output {
        self.command(&self.directory, arguments).output().unwrap()
    }

    pub(super) fn git(&self, arguments: &[&str]) -> String {
        let output = self.try_git(arguments);
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    pub(super) fn open(&self) -> Box<dyn Backend> {
        open_at(&self.directory)
    }

    pub(super) fn git_dir(&self) -> PathBuf {
        repository_at(&self.directory).common_dir().to_owned()
    }

    pub(super) fn pack_files(&self, extension: &str) -> Vec<PathBuf> {
        let entries = std::fs::read_dir(self.git_dir().join("objects/pack")).unwrap();
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.extension().is_some_and(|found| found == extension));
        paths.sort();
        paths
    }
}

/// A transition that sets files, by paths and contents.
pub(super) fn transition(message: &str, files: &[(&str, &str)]) -> Transition {
    let set = files.iter().map(|(path, content)| ((*path).to_owned(), Content::Bytes(content.as_bytes().to_vec())));
    Transition {
        changes: set.collect::<BTreeMap<_, _>>(),
        message: message.to_owned(),
        identity: Identity { name: "git-tether".to_owned(), email: "tether@localhost".to_owned() },
        time: Time { seconds: 1_700_000_000, offset: 0 },
        extra_parents: Vec::new(),
    }
}

pub(super) fn run(name: &str) -> RefName {
    RefName::run(name).unwrap()
}

/// Appends `count` commits to a run's chain; the tip.
pub(super) fn grow(backend: &dyn Backend, name: &RefName, tip: Option<ObjectId>, count: usize) -> ObjectId {
    let mut tip = tip;
    for number in 0..count {
        let expected = tip.map_or(Expected::Absent, Expected::Id);
        let content = format!("{number} {tip:?}");
        tip = Some(chain::append(backend, name, expected, &transition("grow", &[("run.json", &content)])).unwrap());
    }
    tip.unwrap()
}
