//! Saves what an environment holds, and puts it back.
//!
//! Owns which place is saved how, and the order: objects on disk, then the keeper that names them, then whatever record names the
//! snapshot. Must not know how a snapshot is made, nor why somebody saves. Invariants: saving changes nothing in the place; a place
//! that holds what its last snapshot holds writes nothing; what only git's committed history holds is not saved again.

use std::path::{Path, PathBuf};

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::snapshot_sink::BatchSink;
use crate::app::snapshot_words::{not_saved, restore_failure, restore_warning, save_failure, save_warning};
use crate::app::tether::Tether;
use crate::domain::checkpoint::SavedWork;
use crate::domain::environment::{Environment, ExecutionMode};
use crate::domain::ids::{EnvironmentId, Oid, RunId, TaskId};
use crate::domain::saved::{SavedEntry, SavedKind};
use crate::git::settings::{SNAPSHOT_EXCLUDE, SNAPSHOT_INCLUDE};
use crate::git::{OpenError, Role};
use crate::store::objects::Batch;
use crate::store::work::{Kept, NewWork, short_id};
use crate::world::durable;
use crate::world::paths::{self, Occupancy};
use crate::world::snapshot::{self, Held, RestoreTarget, SaveOptions, Saved, Trust, WorktreePlace};

/// What came of saving a place.
#[derive(Debug, Clone, Default)]
pub struct SavedPlace {
    /// The saved work; `None`: there was nothing that is not committed.
    pub entry: Option<SavedEntry>,
    /// The same, as a checkpoint names it.
    pub work: Option<SavedWork>,
    /// What a person should know.
    pub warnings: Vec<String>,
    /// Files that were not saved, each with the reason.
    pub not_saved: Vec<(String, String)>,
    /// How many ignored files there are.
    pub ignored: usize,
}

/// What a place without uncommitted work is to its saving.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Committed {
    /// Nothing to save.
    IsSafe,
    /// Worth keeping if a fresh checkout would not be the same.
    ComesBack,
    /// The same, or if HEAD is not this commit, from which the worktree was made: its commits may be on no other branch.
    IsKept {
        /// Where the worktree began.
        beyond: Option<Oid>,
    },
}

/// For whom and why something is saved.
#[derive(Debug, Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) run: &'a RunId,
    pub(super) environment: Option<&'a EnvironmentId>,
    pub(super) task: Option<&'a TaskId>,
    pub(super) reason: &'a str,
}

/// A place, as it is saved.
#[derive(Debug, Clone)]
pub(super) enum Source {
    /// A worktree of this repository.
    Worktree(WorktreePlace),
    /// A directory that is none.
    Directory(PathBuf),
    /// The git directory of a worktree that is gone.
    Vanished(PathBuf),
}

/// A snapshot whose objects are in a batch, not yet written.
pub(super) struct Prepared {
    saved: Saved,
    kind: SavedKind,
    previous: Option<SavedEntry>,
}

/// Whether a place can be saved, and where it is.
pub(super) enum Found {
    /// It can.
    Place(Source),
    /// There is nothing that could be saved; in words, if a person should know.
    Nothing(Option<String>),
}

impl Tether {
    /// Saves what an environment holds. What is not there, or is not the place that the record means, is an error.
    pub fn save_environment(
        &self,
        run: &RunId,
        environment: &Environment,
        task: Option<&TaskId>,
        reason: &str,
    ) -> Result<SavedPlace, Failure> {
        let about = About { run, environment: Some(&environment.id), task, reason };
        match self.find_place(environment)? {
            Found::Place(source) => self.save_place(&source, about, &Committed::IsSafe),
            Found::Nothing(warning) => {
                Ok(SavedPlace { warnings: warning.into_iter().collect(), ..SavedPlace::default() })
            }
        }
    }

    /// Saves what git still holds of a worktree whose directory is gone.
    pub fn save_vanished(
        &self,
        run: &RunId,
        environment: &EnvironmentId,
        task: Option<&TaskId>,
        admin_dir: &Path,
    ) -> Result<SavedPlace, Failure> {
        let about = About { run, environment: Some(environment), task, reason: "held by git for a vanished worktree" };
        self.save_place(&Source::Vanished(admin_dir.to_owned()), about, &Committed::ComesBack)
    }

    /// Saves what still stands of a worktree whose removal was interrupted. It is nobody's newest work: what was saved before it is whole.
    pub(super) fn save_remains(&self, run: &RunId, task: Option<&TaskId>, path: &Path) -> Result<SavedPlace, Failure> {
        let about = About { run, environment: None, task, reason: "left by a removal that was interrupted" };
        self.save_place(&Source::Directory(resolved(path)?), about, &Committed::IsSafe)
    }

    /// Saves a worktree of this repository that no environment's record names.
    pub fn save_worktree_at(
        &self,
        run: &RunId,
        environment: Option<&EnvironmentId>,
        path: &Path,
        reason: &str,
    ) -> Result<SavedPlace, Failure> {
        let about = About { run, environment, task: None, reason };
        match self.worktree_at(path)? {
            Some(place) => self.save_place(&Source::Worktree(place), about, &Committed::IsSafe),
            None => Err(not_a_worktree(path)),
        }
    }

    /// Keeps the tip of a branch that is about to be deleted.
    pub fn keep_branch_tip(
        &self,
        run: &RunId,
        environment: Option<&EnvironmentId>,
        branch: &str,
        tip: ObjectId,
        reason: &str,
    ) -> Result<SavedEntry, Failure> {
        let entry = SavedEntry {
            id: short_id(&tip),
            kind: SavedKind::BranchTip,
            run: run.to_string(),
            task: None,
            environment: environment.cloned(),
            commit: Oid(tip.to_string()),
            base: None,
            branch: Some(short_branch(branch)),
            files: 0,
            bytes: 0,
            reason: reason.to_owned(),
            at: self.now(),
        };
        self.ledger().keep_work(tip, &entry, self.now())?;
        Ok(entry)
    }

    /// The saved work of an environment that is to be put back: the newest of the place itself, and what git held of it after it had
    /// vanished only where there is none.
    pub fn newest_saved(&self, run: &RunId, environment: &EnvironmentId) -> Result<Option<SavedEntry>, Failure> {
        self.newest_work(run, |entry| entry.environment.as_ref() == Some(environment))
    }

    /// The same of those that `is_meant` picks.
    pub(super) fn newest_work(
        &self,
        run: &RunId,
        is_meant: impl Fn(&SavedEntry) -> bool,
    ) -> Result<Option<SavedEntry>, Failure> {
        let of_kind = |kinds: &[SavedKind]| {
            self.ledger().find_saved_work(run.as_str(), |entry| is_meant(entry) && kinds.contains(&entry.kind))
        };
        Ok(match of_kind(&[SavedKind::Worktree, SavedKind::Directory])? {
            None => of_kind(&[SavedKind::VanishedWorktree])?,
            found => found,
        })
    }

    /// Puts saved work into an environment that has just been made anew and holds nothing else; answers with what to tell a person.
    pub fn put_work_back(
        &self,
        _run: &RunId,
        environment: &Environment,
        entry: &SavedEntry,
    ) -> Result<Vec<String>, Failure> {
        let path = path_of(environment)?;
        let target = match environment.execution_mode {
            ExecutionMode::GitWorktree => match self.worktree_at(path)? {
                Some(place) if place.path == resolved(path)? => RestoreTarget::Worktree(place),
                _ => return Err(not_a_worktree(path)),
            },
            ExecutionMode::IsolatedWorkspace => self.directory_target(path, Held::Nothing),
            ExecutionMode::SharedWorkspace | ExecutionMode::Remote => {
                return Err(Failure::fatal(
                    "not_restored",
                    format!("environment {} is used by others too: saved work is not put into it", environment.id),
                )
                .hint(format!("`git tether salvage restore {} PATH` puts it elsewhere", entry.id)));
            }
        };
        self.restore_saved(&target, entry)
    }

    pub(super) fn directory_target(&self, path: &Path, held: Held) -> RestoreTarget {
        let common_dir = self.repository().common_dir().to_owned();
        RestoreTarget::Directory { path: path.to_owned(), common_dir, held }
    }

    /// Restores saved work; answers with what to tell a person.
    pub(super) fn restore_saved(&self, target: &RestoreTarget, entry: &SavedEntry) -> Result<Vec<String>, Failure> {
        let commit = object_id(&entry.commit)?;
        let trust = if self.saved_here(&entry.run, &entry.commit) { Trust::Own } else { Trust::Foreign };
        let restored = snapshot::restore(target, commit, trust).map_err(|error| restore_failure(&entry.id, &error))?;
        Ok(restored.warnings.iter().map(restore_warning).collect())
    }

    /// Where an environment is, and how it is saved.
    pub(super) fn find_place(&self, environment: &Environment) -> Result<Found, Failure> {
        let id = &environment.id;
        if environment.execution_mode == ExecutionMode::Remote {
            return Ok(Found::Nothing(None));
        }
        if environment.host != self.host_id() {
            let said = format!("environment {id} is on another machine ({}): nothing was saved", environment.host);
            return Ok(Found::Nothing(Some(said)));
        }
        let path = path_of(environment)?;
        match paths::look_at(path) {
            Occupancy::Gone => {
                let what = format!("environment {id} is not there: nothing is at {}", path.display());
                return Err(Failure::fatal("environment_missing", what)
                    .hint("`git tether recover --recreate` makes it anew, with its saved work"));
            }
            Occupancy::Unreadable(error) => {
                let what = format!("environment {id} cannot be looked at: {}: {error}", path.display());
                return Err(Failure::fatal("environment_unreadable", what));
            }
            _ => {}
        }
        match environment.execution_mode {
            ExecutionMode::IsolatedWorkspace => Ok(Found::Place(Source::Directory(resolved(path)?))),
            ExecutionMode::GitWorktree => match self.worktree_at(path)? {
                Some(place) if place.path == resolved(path)? => Ok(Found::Place(Source::Worktree(place))),
                _ => Err(not_a_worktree(path)),
            },
            ExecutionMode::SharedWorkspace | ExecutionMode::Remote => Ok(match self.worktree_at(path)? {
                Some(place) => Found::Place(Source::Worktree(place)),
                None => Found::Nothing(Some(format!(
                    "environment {id} is shared and no part of this repository: what {} holds was not saved",
                    path.display()
                ))),
            }),
        }
    }

    /// The worktree of this repository that `path` is in.
    pub(super) fn worktree_at(&self, path: &Path) -> Result<Option<WorktreePlace>, Failure> {
        let found = match self.repository().open_at(path) {
            Ok(found) => found,
            Err(OpenError::NotARepository { .. }) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let ours = found.common_dir() == self.repository().common_dir();
        Ok(WorktreePlace::of(&found).filter(|_| ours))
    }

    fn save_place(&self, source: &Source, about: About<'_>, committed: &Committed) -> Result<SavedPlace, Failure> {
        let mut objects = Some(self.ledger().backend().batch());
        let prepared = self.prepare_saving(source, about, &mut objects)?;
        let place = prepared.said();
        if !prepared.is_worth_keeping(committed) {
            return Ok(place);
        }
        let keep = |objects: &mut Option<Batch>, work: Option<&NewWork<'_>>, entry: &SavedEntry| {
            let kept = work.map(|work| self.ledger().keep_work_with(objects, work, self.now())).transpose()?;
            Ok(kept.is_none_or(Kept::is_kept).then(|| entry.clone()))
        };
        let entry = self.keep_prepared(prepared, source, about, &mut objects, keep)?;
        Ok(SavedPlace { work: Some(work_of(&entry)), entry: Some(entry), ..place })
    }

    /// Makes the snapshot of a place; its objects go to `objects`, and nothing is written yet.
    pub(super) fn prepare_saving(
        &self,
        source: &Source,
        about: About<'_>,
        objects: &mut Option<Batch>,
    ) -> Result<Prepared, Failure> {
        let kind = match source {
            Source::Worktree(_) => SavedKind::Worktree,
            Source::Directory(_) => SavedKind::Directory,
            Source::Vanished(_) => SavedKind::VanishedWorktree,
        };
        let same_place = |entry: &SavedEntry| entry.environment.as_ref() == about.environment && entry.kind == kind;
        let previous = self.ledger().find_saved_work(about.run.as_str(), same_place)?;
        self.prepare_after(source, kind, previous, objects)
    }

    fn prepare_after(
        &self,
        source: &Source,
        kind: SavedKind,
        previous: Option<SavedEntry>,
        objects: &mut Option<Batch>,
    ) -> Result<Prepared, Failure> {
        let mut options = self.save_options()?;
        options.previous = previous.as_ref().and_then(|entry| object_id(&entry.commit).ok());
        let mut sink = BatchSink(objects.get_or_insert_with(|| self.ledger().backend().batch()));
        let common_dir = self.repository().common_dir();
        let saved = match source {
            Source::Worktree(place) => {
                options.exact_cache = Some(exact_cache(place));
                snapshot::save(place, &options, &mut sink)
            }
            Source::Directory(path) => snapshot::save_directory(path, common_dir, &options, &mut sink),
            Source::Vanished(admin_dir) => snapshot::save_vanished(admin_dir, common_dir, &options, &mut sink),
        };
        let saved = saved.map_err(|error| save_failure(&error))?;
        Ok(Prepared { saved, kind, previous })
    }

    /// Keeps a snapshot that was prepared: `keep` writes its objects and lists it, or answers `None` if what it was made without is kept no
    /// more. A snapshot that is kept already is handed over as an entry only.
    pub(super) fn keep_prepared<T>(
        &self,
        mut prepared: Prepared,
        source: &Source,
        about: About<'_>,
        objects: &mut Option<Batch>,
        mut keep: impl FnMut(&mut Option<Batch>, Option<&NewWork<'_>>, &SavedEntry) -> Result<Option<T>, Failure>,
    ) -> Result<T, Failure> {
        loop {
            let entry = self.saved_entry(&prepared, about);
            let new = NewWork { snapshot: prepared.saved.commit, entry: &entry, previous: prepared.previous.as_ref() };
            let new = Some(&new).filter(|_| !prepared.saved.unchanged);
            if new.is_some() {
                // Before it is kept: what is kept and not known as our own would come back without its content filters.
                self.note_saved_here(&entry.run, &entry.commit)?;
            }
            if let Some(done) = keep(objects, new, &entry)? {
                return Ok(done);
            }
            prepared = self.prepare_after(source, prepared.kind, None, objects)?;
        }
    }

    fn saved_entry(&self, prepared: &Prepared, about: About<'_>) -> SavedEntry {
        let Prepared { saved, kind, previous } = prepared;
        if let Some(known) = previous.as_ref().filter(|_| saved.unchanged) {
            return known.clone();
        }
        SavedEntry {
            id: short_id(&saved.commit),
            kind: *kind,
            run: about.run.to_string(),
            task: about.task.cloned(),
            environment: about.environment.cloned(),
            commit: Oid(saved.commit.to_string()),
            base: saved.base.map(|base| Oid(base.to_string())),
            branch: saved.branch.as_deref().map(short_branch),
            files: saved.files as u64,
            bytes: saved.content_bytes,
            reason: about.reason.to_owned(),
            at: self.now(),
        }
    }

    fn save_options(&self) -> Result<SaveOptions, Failure> {
        let settings = self.repository().settings();
        let identity = self.repository().identity(Role::Committer);
        let now = self.now();
        Ok(SaveOptions {
            include: settings.read(&SNAPSHOT_INCLUDE)?,
            exclude: settings.read(&SNAPSHOT_EXCLUDE)?,
            name: identity.name,
            email: identity.email,
            seconds: now.seconds(),
            moment: now.to_string(),
            ..SaveOptions::default()
        })
    }
}

impl Prepared {
    /// What a person should know of it, kept or not.
    pub(super) fn said(&self) -> SavedPlace {
        SavedPlace {
            warnings: self.saved.warnings.iter().map(save_warning).collect(),
            not_saved: self.saved.not_saved.iter().map(not_saved).collect(),
            ignored: self.saved.ignored,
            ..SavedPlace::default()
        }
    }

    /// Whether the snapshot holds anything that is nowhere else.
    pub(super) fn is_worth_keeping(&self, committed: &Committed) -> bool {
        if !self.saved.clean {
            return true;
        }
        match committed {
            Committed::IsSafe => false,
            _ if !self.saved.as_checked_out => true,
            Committed::ComesBack => false,
            Committed::IsKept { beyond } => {
                self.saved.base.is_some_and(|base| beyond.as_ref().is_none_or(|beyond| beyond.0 != base))
            }
        }
    }
}

/// Beside the worktree's own git files, or in our own directory for the main checkout.
fn exact_cache(place: &WorktreePlace) -> PathBuf {
    if place.git_dir == place.common_dir {
        return place.common_dir.join("tether").join("exact");
    }
    place.git_dir.join("tether-exact")
}

pub(super) fn work_of(entry: &SavedEntry) -> SavedWork {
    SavedWork {
        commit: entry.commit.clone(),
        base: entry.base.clone(),
        branch: entry.branch.clone(),
        files: entry.files,
    }
}

pub(super) fn object_id(oid: &Oid) -> Result<ObjectId, Failure> {
    ObjectId::from_hex(oid.0.as_bytes())
        .map_err(|error| Failure::fatal("invalid_record", format!("`{oid}` is no object id: {error}")))
}

/// Puts everything in these directories on disk.
pub(super) fn put_on_disk<'p>(directories: impl Iterator<Item = &'p Path>) -> Result<(), Failure> {
    durable::sync_everything_at_each(directories).map_err(|(path, error)| {
        Failure::fatal("not_durable", format!("could not put {} on disk: {error}", path.display()))
    })
}

fn short_branch(name: &str) -> String {
    name.strip_prefix("refs/heads/").unwrap_or(name).to_owned()
}

fn path_of(environment: &Environment) -> Result<&Path, Failure> {
    let path = environment.spec.path.as_deref();
    path.ok_or_else(|| Failure::fatal("no_path", format!("environment {} has no path", environment.id)))
}

fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    paths::resolve(path).map_err(|error| Failure::fatal("environment_unreadable", chain_of(&error)))
}

fn not_a_worktree(path: &Path) -> Failure {
    Failure::fatal("not_a_worktree", format!("{} is not a worktree of this repository", path.display()))
        .hint("`git tether verify` says what stands there")
}
