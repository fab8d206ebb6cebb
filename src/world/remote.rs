//! Other repositories: fetching our refs aside, pushing them with a lease.
//!
//! Owns what is said to `git fetch` and `git push`, and what their answers mean. Must not know what any ref holds.
//! Invariants: a fetch writes below `refs/tether-remote/` only; a push names for every ref the value that the remote must have, and is
//! all or nothing; no hook of this repository runs.

use std::collections::BTreeMap;

use gix::ObjectId;
use gix::bstr::ByteSlice;

use crate::git::{Git, GitError, Repository};

/// So many refs go in one push: their names have to fit on a command line.
const REFS_AT_ONCE: usize = 500;

/// A remote of the repository's configuration.
#[derive(Debug, Clone)]
pub struct Remote {
    name: String,
    git: Git,
}

/// A ref that is to be set on a remote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Update {
    /// Its full name there.
    pub name: String,
    /// What it must hold there; `None`: it must not exist.
    pub expected: Option<ObjectId>,
    /// What it shall hold.
    pub new: ObjectId,
}

/// Why a remote did not take a ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Somebody was faster: it holds something else than was fetched.
    Stale,
    /// Another ref of the same push was refused.
    WithOthers,
    /// It said no, for this reason.
    Said(String),
}

/// How a push went, ref by ref.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pushed {
    /// The remote was reached: each ref was taken, or refused.
    Answered(BTreeMap<String, Result<(), Refusal>>),
    /// It was not, or does not understand us; what git said.
    Away(String),
}

impl Remote {
    /// The remote of this name; `None` if the configuration has none.
    pub fn find(repository: &Repository, name: &str) -> Option<Self> {
        if !Self::names(repository).iter().any(|known| known == name) {
            return None;
        }
        // A relative URL counts from the top of the checkout, as for people.
        let git = match repository.main_checkout().or_else(|| repository.workdir().map(ToOwned::to_owned)) {
            Some(top) if top.is_dir() => repository.git_in(&top),
            _ => repository.git(),
        };
        let git = git
            .with_variable("GIT_DIR", repository.common_dir())
            .with_setting(format!("remote.{name}.mirror=false"))
            .with_setting("fetch.writeCommitGraph=false")
            .with_setting("push.gpgSign=false");
        Some(Self { name: name.to_owned(), git })
    }

    /// The names of all remotes that have a URL.
    pub fn names(repository: &Repository) -> Vec<String> {
        let config = repository.gix().config_snapshot();
        let sections = config.plumbing().sections_by_name("remote");
        let mut names: Vec<String> = sections
            .into_iter()
            .flatten()
            .filter(|section| section.body().value_names().any(|key: String| key.eq_ignore_ascii_case("url")))
            .filter_map(|section| section.header().subsection_name().map(|name| name.to_str_lossy().into_owned()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Fetches with these `(there, here)` patterns; refs that are gone there go here too.
    pub fn fetch(&self, patterns: &[(String, String)]) -> Result<(), GitError> {
        let mut arguments: Vec<String> = [
            "fetch",
            "--quiet",
            "--prune",
            "--no-tags",
            "--no-write-fetch-head",
            "--no-auto-maintenance",
            "--no-recurse-submodules",
            "--no-filter",
            "--refmap=",
            "--",
        ]
        .map(str::to_owned)
        .to_vec();
        arguments.push(self.name.clone());
        arguments.extend(patterns.iter().map(|(there, here)| format!("+{there}:{here}")));
        self.git.run(arguments).map(drop)
    }

    /// What a ref holds on the remote; `None`: it is not there.
    pub fn read_ref(&self, name: &str) -> Result<Option<ObjectId>, GitError> {
        let answer = self.git.run(["ls-remote", "--quiet", "--refs", "--", &self.name, name])?.text();
        let found = answer.lines().filter_map(|line| line.split_once('\t')).find(|(_, found)| *found == name);
        Ok(found.and_then(|(id, _)| ObjectId::from_hex(id.as_bytes()).ok()))
    }

    /// Sets refs, all or none of up to some hundreds at a time.
    pub fn push(&self, updates: &[Update]) -> Result<Pushed, GitError> {
        let mut answers = BTreeMap::new();
        for chunk in updates.chunks(REFS_AT_ONCE) {
            match self.push_once(chunk)? {
                Pushed::Answered(more) => answers.extend(more),
                away @ Pushed::Away(_) => return Ok(if answers.is_empty() { away } else { Pushed::Answered(answers) }),
            }
        }
        Ok(Pushed::Answered(answers))
    }

    fn push_once(&self, updates: &[Update]) -> Result<Pushed, GitError> {
        let options = ["push", "--porcelain", "--atomic", "--no-verify", "--no-follow-tags", "--recurse-submodules=no"];
        let mut arguments: Vec<String> = options.map(str::to_owned).to_vec();
        for update in updates {
            let expected = update.expected.map(|id| id.to_string()).unwrap_or_default();
            arguments.push(format!("--force-with-lease={}:{expected}", update.name));
        }
        arguments.extend(["--".to_owned(), self.name.clone()]);
        arguments.extend(updates.iter().map(|update| format!("{}:{}", update.new, update.name)));
        let output = self.git.command(&arguments).output().map_err(|source| GitError::Start {
            arguments: "push".to_owned(),
            directory: self.git.directory().to_owned(),
            source,
        })?;
        let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
        let mut answers = read_answers(&String::from_utf8_lossy(&output.stdout), &said);
        if answers.is_empty() && !output.status.success() {
            return Ok(Pushed::Away(said));
        }
        for update in updates {
            // A ref that already held the value is not always named.
            let taken = output.status.success();
            let unnamed = || if taken { Ok(()) } else { Err(Refusal::WithOthers) };
            answers.entry(update.name.clone()).or_insert_with(unnamed);
        }
        Ok(Pushed::Answered(answers))
    }

    /// The ids in both histories from which no other such id is reachable: where they parted.
    pub fn merge_bases(repository: &Repository, one: ObjectId, other: ObjectId) -> Result<Vec<ObjectId>, GitError> {
        match repository.git().run(["merge-base", "--all", &one.to_string(), &other.to_string()]) {
            Ok(output) => {
                let mut bases: Vec<_> =
                    output.text().lines().filter_map(|line| ObjectId::from_hex(line.as_bytes()).ok()).collect();
                bases.sort();
                Ok(bases)
            }
            Err(error) if error.exit_code() == Some(1) => Ok(Vec::new()),
            Err(error) => Err(error),
        }
    }

    /// Every object that a push of `tip` would send to this remote, as far as its tracking refs tell, with its path.
    pub fn outgoing(&self, tip: ObjectId, known: &[ObjectId]) -> Result<Vec<(ObjectId, String)>, GitError> {
        let mut arguments = vec!["rev-list".to_owned(), "--objects".to_owned(), tip.to_string(), "--not".to_owned()];
        arguments.push(format!("--remotes={}", self.name));
        arguments.extend(known.iter().map(ToString::to_string));
        let output = self.git.run(arguments)?;
        let text = String::from_utf8_lossy(&output.stdout);
        let line = |line: &str| {
            let (id, path) = line.split_once(' ').unwrap_or((line, ""));
            Some((ObjectId::from_hex(id.as_bytes()).ok()?, path.to_owned()))
        };
        Ok(text.lines().filter_map(line).collect())
    }
}

/// The lines of `git push --porcelain`: a flag, from and to, what happened.
fn read_answers(stdout: &str, stderr: &str) -> BTreeMap<String, Result<(), Refusal>> {
    let mut answers = BTreeMap::new();
    for line in stdout.lines() {
        let mut fields = line.splitn(3, '\t');
        let (Some(flag), Some(pair), Some(summary)) = (fields.next(), fields.next(), fields.next()) else { continue };
        let Some((_, name)) = pair.rsplit_once(':') else { continue };
        let answer = if flag == "!" { Err(refusal(summary, stderr)) } else { Ok(()) };
        answers.insert(name.to_owned(), answer);
    }
    answers
}

fn refusal(summary: &str, stderr: &str) -> Refusal {
    let reason = summary.rsplit_once('(').map_or(summary, |(_, reason)| reason.trim_end_matches(')'));
    if ["stale info", "fetch first", "non-fast-forward", "reference already exists", "incorrect old value"]
        .contains(&reason)
        || reason.contains("cannot lock ref")
        || reason.contains("failed to update ref")
        || reason.contains("failed to lock")
    {
        return Refusal::Stale;
    }
    if reason.starts_with("atomic ") {
        return Refusal::WithOthers;
    }
    let of_the_server: Vec<_> = stderr
        .lines()
        .filter_map(|line| line.strip_prefix("remote:"))
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .take(3)
        .collect();
    let more = if of_the_server.is_empty() { String::new() } else { format!(": {}", of_the_server.join(" ")) };
    Refusal::Said(format!("{reason}{more}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_of_a_push_are_told_apart() {
        let stdout = "To x\n*\tabc:refs/tether/runs/a\t[new reference]\n!\tabc:refs/tether/runs/b\t[rejected] (stale info)\n\
                      !\tabc:refs/tether/runs/c\t[rejected] (atomic push failed)\n!\tabc:refs/tether/runs/d\t[remote rejected] (hook declined)\n";
        let answers = read_answers(stdout, "remote: not here \nerror: failed\n");
        let of = |name: &str| answers.get(&format!("refs/tether/runs/{name}")).cloned();
        assert_eq!(of("a"), Some(Ok(())));
        assert_eq!(of("b"), Some(Err(Refusal::Stale)));
        assert_eq!(of("c"), Some(Err(Refusal::WithOthers)));
        assert_eq!(of("d"), Some(Err(Refusal::Said("hook declined: not here".to_owned()))));
    }
}
