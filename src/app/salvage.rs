//! Saved work: listed, shown, compared, restored to a fresh directory, dropped.
//!
//! Owns how a person's id becomes a snapshot, and what a restore may write to. Must not know how a snapshot is made. Invariants: one
//! list that cannot be read hides no other; what is dropped is named by no record before it is let go of; a restore writes into a
//! directory that is empty or not there, never into a repository's own files, and through no symlink.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::saving::{object_id, put_on_disk};
use crate::app::tether::Tether;
use crate::domain::event::RunEvent;
use crate::domain::ids::{Oid, RunId};
use crate::domain::names::named;
use crate::domain::saved::{SavedEntry, SavedKind};
use crate::domain::view::RunView;
use crate::store::release::Released;
use crate::store::runs::Need;
use crate::world::paths::{self, Occupancy};
use crate::world::snapshot::{self, ContentStatus, Held};

named! {
    /// What the records say of saved work.
    Standing, "standing of saved work" {
        /// A record of the run names it.
        Named = "named",
        /// None does any more, but one names later work of the same place.
        Superseded = "superseded",
        /// No record names it.
        Unnamed = "unnamed",
        /// The run's records cannot be read.
        Unknown = "unknown",
    }
}

/// Saved work, and what the records say of it.
#[derive(Debug, Clone)]
pub struct ListedWork {
    /// The saved work.
    pub entry: SavedEntry,
    /// What the records say.
    pub standing: Standing,
}

/// What is saved.
#[derive(Debug, Clone, Default)]
pub struct WorkList {
    /// Oldest first in each run.
    pub saved: Vec<ListedWork>,
    /// Runs whose list cannot be read, each with the reason.
    pub unreadable: Vec<(String, String)>,
}

/// A file of saved work that differs from what it was based on.
#[derive(Debug, Clone)]
pub struct ChangedFile {
    /// Its path; bytes that are no text are replaced.
    pub path: String,
    /// `added`, `modified` or `deleted`.
    pub status: &'static str,
    /// `file`, `executable`, `symlink` or `submodule`.
    pub kind: &'static str,
    /// What git stores for it, in bytes.
    pub bytes: Option<u64>,
}

/// Whether a comparison is coloured.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Colour {
    /// With git's colours.
    On,
    /// Plain.
    Off,
}

impl Tether {
    /// Everything that is saved, or what is of one run.
    pub fn list_saved(&self, run: Option<&RunId>) -> Result<WorkList, Failure> {
        let runs = self.ledger().runs_with_saved_work()?;
        if let Some(run) = run.filter(|run| !runs.iter().any(|known| known == run.as_str())) {
            // A run without saved work is one; what is neither recorded nor saved is not.
            self.read_run(run, &Need::run())?;
        }
        let mut list = WorkList::default();
        for name in runs.into_iter().filter(|name| run.is_none_or(|run| run.as_str() == name)) {
            let (entries, errors) = self.ledger().readable_work(&name);
            list.saved.extend(self.with_standing(&name, entries));
            list.unreadable.extend(errors.iter().map(|error| (name.clone(), chain_of(error))));
        }
        Ok(list)
    }

    fn with_standing(&self, run: &str, entries: Vec<SavedEntry>) -> Vec<ListedWork> {
        let view = RunId::new(run)
            .map_err(Failure::from)
            .and_then(|run| Ok(self.ledger().read_run(&run, &Need::Everything)?.map(|read| read.view)));
        let Ok(view) = view else {
            return entries.into_iter().map(|entry| ListedWork { entry, standing: Standing::Unknown }).collect();
        };
        let named = view.as_ref().map(named_commits).unwrap_or_default();
        let mut later = BTreeSet::new();
        let mut listed = Vec::with_capacity(entries.len());
        for entry in entries.into_iter().rev() {
            let place = (entry.environment.clone(), entry.task.clone());
            let standing = if named.contains(&entry.commit) {
                later.insert(place);
                Standing::Named
            } else if entry.kind != SavedKind::BranchTip && later.contains(&place) {
                Standing::Superseded
            } else {
                Standing::Unnamed
            };
            listed.push(ListedWork { entry, standing });
        }
        listed.reverse();
        listed
    }

    /// The saved work that an id means: its short id, its commit, or the unique beginning of that.
    pub fn find_saved(&self, id: &str) -> Result<SavedEntry, Failure> {
        let list = self.list_saved(None)?;
        let mut found = matching(&list, id)?;
        match found.pop() {
            Some(entry) => Ok(entry),
            None => Err(unknown(&list, id)),
        }
    }

    /// Saved work and the files at which it differs from what it was based on.
    pub fn show_saved(&self, id: &str) -> Result<(ListedWork, Vec<ChangedFile>), Failure> {
        let entry = self.find_saved(id)?;
        let listed = self.with_standing(&entry.run, self.ledger().readable_work(&entry.run).0);
        let standing = listed.iter().find(|known| known.entry.commit == entry.commit).map(|known| known.standing);
        let files = match entry.kind {
            SavedKind::BranchTip => Vec::new(),
            _ => self.changed_files(&entry)?,
        };
        Ok((ListedWork { entry, standing: standing.unwrap_or(Standing::Unnamed) }, files))
    }

    fn changed_files(&self, entry: &SavedEntry) -> Result<Vec<ChangedFile>, Failure> {
        let contents = snapshot::contents(self.repository().common_dir(), object_id(&entry.commit)?);
        let contents = contents.map_err(|error| {
            Failure::fatal("unreadable_work", format!("could not read saved work {}: {}", entry.id, chain_of(&error)))
        })?;
        let file = |content: &snapshot::Content| ChangedFile {
            path: content.path.to_string(),
            status: match content.status {
                ContentStatus::Added => "added",
                ContentStatus::Modified => "modified",
                ContentStatus::Deleted => "deleted",
            },
            kind: content.kind_name(),
            bytes: content.size,
        };
        Ok(contents.iter().map(file).collect())
    }

    /// A git that compares saved work with what it was based on, ready to be started. It runs no program that an attribute names.
    pub fn diff_of_saved(&self, id: &str, colour: Colour) -> Result<(SavedEntry, Command), Failure> {
        let entry = self.find_saved(id)?;
        let commit = object_id(&entry.commit)?;
        let base = match &entry.base {
            Some(base) => object_id(base)?,
            None => ObjectId::empty_tree(self.repository().object_hash()),
        };
        let colour = match colour {
            Colour::On => "--color=always",
            Colour::Off => "--color=never",
        };
        let (base, commit) = (base.to_string(), commit.to_string());
        let arguments = ["diff", "--no-ext-diff", "--no-textconv", colour, &base, &commit, "--"];
        Ok((entry, self.repository().git().command(arguments)))
    }

    /// Whether git would colour a comparison on a terminal.
    pub fn colours_diffs(&self) -> bool {
        self.repository().git().run(["config", "--get-colorbool", "color.diff", "true"]).is_ok()
    }

    /// Restores the files of saved work into a directory that is empty or not there; answers with where that is, and with what a
    /// person should know.
    pub fn restore_saved_to(&self, id: &str, path: &Path) -> Result<(SavedEntry, PathBuf, Vec<String>), Failure> {
        let entry = self.find_saved(id)?;
        if entry.kind == SavedKind::BranchTip {
            let branch = entry.branch.as_deref().unwrap_or("NAME");
            let what = format!("saved work {} is the tip of a branch, with its history: it is no directory", entry.id);
            return Err(Failure::fatal("not_a_snapshot", what)
                .hint(format!("`git branch {branch} {}` brings the branch back", entry.commit)));
        }
        let path = self.check_target(path)?;
        make_way(&path)?;
        let warnings = self.restore_saved(&self.directory_target(&path, Held::Nothing), &entry)?;
        // Who hears that the work is back may drop what it was saved as.
        put_on_disk(std::iter::once(path.as_path()))?;
        Ok((entry, path, warnings))
    }

    /// Makes sure that a path may be restored to; the path, absolute.
    fn check_target(&self, path: &Path) -> Result<PathBuf, Failure> {
        let shown = path.display();
        let refused = |code: &'static str, why: &str| {
            Failure::fatal(code, format!("could not restore to {shown}: {why}"))
                .hint("name a directory that is empty or not there")
        };
        if path.as_os_str().is_empty() {
            return Err(refused("invalid_path", "it is empty"));
        }
        let is_git = |name: &OsStr| name.to_string_lossy().trim_end_matches(['.', ' ']).eq_ignore_ascii_case(".git");
        if path.iter().any(is_git) {
            return Err(refused("invalid_path", "nothing is restored into a `.git`"));
        }
        let absolute = self.repository().surroundings().directory().join(path);
        if let Some(link) = paths::find_symlink_on(&absolute) {
            let refusal = refused("through_symlink", &format!("{} is a symlink", link.display()));
            return Err(match paths::resolve(&absolute) {
                Ok(real) => refusal.hint(format!("its real path is {}", real.display())),
                Err(_) => refusal,
            });
        }
        let real = paths::resolve(&absolute).map_err(|error| refused("invalid_path", &chain_of(&error)))?;
        if real.starts_with(self.repository().common_dir()) {
            return Err(refused("invalid_path", "it lies in the repository's git directory"));
        }
        if let Some(git_dir) = real.ancestors().skip(1).find(|above| is_git_dir(above)) {
            return Err(refused("invalid_path", &format!("it lies in the git directory {}", git_dir.display())));
        }
        match paths::look_at(&real) {
            Occupancy::Gone | Occupancy::EmptyDirectory => Ok(real),
            Occupancy::Other if is_empty_file(&real) => Ok(real),
            Occupancy::FullDirectory => Err(refused("in_the_way", "it holds something")),
            Occupancy::Symlink => Err(refused("through_symlink", "it is a symlink")),
            Occupancy::Other => Err(refused("in_the_way", "it is not a directory")),
            Occupancy::Unreadable(error) => Err(refused("invalid_path", &error.to_string())),
        }
    }

    /// Drops saved work: records that name it forget it, and `git gc` may take it. Answers with what went (nothing, if there is none),
    /// and with what a person should know.
    pub fn drop_saved(&self, id: &str) -> Result<(Vec<SavedEntry>, Vec<String>), Failure> {
        let list = self.list_saved(None)?;
        let found = matching(&list, id)?;
        let Some(commit) = found.first().map(|entry| entry.commit.clone()) else { return Ok(Default::default()) };
        let (mut gone, mut warnings) = (Vec::new(), Vec::new());
        for entry in found {
            self.forget_in_records(&entry.run, &commit)?;
            let dropped = self.ledger().drop_work(&entry.run, self.now(), |known| known.commit == commit)?;
            gone.extend(dropped.entries);
            warnings.extend(match dropped.released {
                Some(Ok(Released::Busy)) => Some(
                    "its objects stay until the next drop or `git tether gc`: a garbage collection is at work now"
                        .to_owned(),
                ),
                Some(Err(error)) => Some(format!("its objects stay for now: {}", chain_of(&error))),
                Some(Ok(Released::Objects(_))) | None => None,
            });
        }
        Ok((gone, warnings))
    }

    /// No record of the run names the snapshot after this.
    fn forget_in_records(&self, run: &str, commit: &Oid) -> Result<(), Failure> {
        let Ok(run) = RunId::new(run) else { return Ok(()) };
        let Some(read) = self.ledger().read_run(&run, &Need::Everything)? else { return Ok(()) };
        if !named_commits(&read.view).contains(commit) {
            return Ok(());
        }
        self.change_run(&run, &Need::Everything, |_| {
            Ok(RunEvent::SavedWorkForgotten { commit: commit.clone() }.into())
        })?;
        Ok(())
    }
}

/// Whether git would take the directory for a repository's own: a bare one's, say.
fn is_git_dir(path: &Path) -> bool {
    path.join("HEAD").is_file() && path.join("objects").is_dir() && path.join("refs").is_dir()
}

/// A file without content is an empty path as well: what `mktemp` makes, say.
fn is_empty_file(path: &Path) -> bool {
    std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() == 0)
}

fn make_way(path: &Path) -> Result<(), Failure> {
    if !is_empty_file(path) {
        return Ok(());
    }
    std::fs::remove_file(path).map_err(|error| {
        Failure::fatal("in_the_way", format!("could not put a directory where the file {} is: {error}", path.display()))
    })
}

/// Every snapshot that a record of the run names.
fn named_commits(view: &RunView) -> BTreeSet<Oid> {
    let of_checkpoints = view.checkpoints.values().filter_map(|known| Some(known.work.as_ref()?.commit.clone()));
    let of_environments = view.environments.values().filter_map(|known| known.cleanup.as_ref()?.work.clone());
    of_checkpoints.chain(of_environments).collect()
}

/// What an id means: entries of one commit, in each run that keeps it.
fn matching(list: &WorkList, id: &str) -> Result<Vec<SavedEntry>, Failure> {
    let id = id.to_ascii_lowercase();
    let fits = |entry: &SavedEntry| !id.is_empty() && (entry.id == id || entry.commit.0.starts_with(&id));
    let mut by_commit: BTreeMap<&Oid, Vec<SavedEntry>> = BTreeMap::new();
    for listed in list.saved.iter().filter(|listed| fits(&listed.entry)) {
        by_commit.entry(&listed.entry.commit).or_default().push(listed.entry.clone());
    }
    if by_commit.len() > 1 {
        let known: Vec<_> = by_commit.values().flatten().map(|entry| entry.id.as_str()).take(5).collect();
        return Err(Failure::fatal("ambiguous_id", format!("{id} is the beginning of several: {}", known.join(", ")))
            .hint("type more of it"));
    }
    Ok(by_commit.into_values().next().unwrap_or_default())
}

fn unknown(list: &WorkList, id: &str) -> Failure {
    let failure = Failure::unknown("saved work", id, list.saved.iter().map(|listed| listed.entry.id.as_str()));
    let mut failure = failure.hint("`git tether salvage list` shows what there is");
    for (run, why) in &list.unreadable {
        failure = failure.hint(format!("what is saved of run {run} cannot be read: {why}"));
    }
    failure
}
