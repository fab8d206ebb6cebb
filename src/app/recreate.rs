//! Putting missing environments back: made anew at their paths, with their saved work.
//!
//! Owns: the order. All that are put back together are written down as `recovering` in one commit, made one after the other, put on disk
//! with one wait, and only then written down as ready. Must not know: how a worktree is made or a snapshot restored.
//! Invariants: nothing is put where something is; what git still holds is saved before it is replaced; a kill in the middle leaves
//! environments `recovering`, and the same step goes on with each.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::app::environment::moved;
use crate::app::failure::Failure;
use crate::app::making::{PATIENCE, make_failure, task_in};
use crate::app::places::{PlaceOutcome, as_outcome, skipped};
use crate::app::removal::{Going, Unsaved, not_the_place};
use crate::app::rescue::{Return, WayBack};
use crate::app::saving::put_on_disk;
use crate::app::tether::Tether;
use crate::domain::environment::{Environment, EnvironmentState, ExecutionMode, Failure as Reason};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, RunId, TaskId};
use crate::domain::saved::SavedEntry;
use crate::domain::view::RunView;
use crate::git::Git;
use crate::git::settings::SETUP;
use crate::store::runs::Need;
use crate::world::making_lock::MakingLock;
use crate::world::paths::{self, Mounts, Occupancy};
use crate::world::snapshot::Held;
use crate::world::worktree_facts::PathFacts;
use crate::world::worktree_make::{Announced, How, Made, MakeError, OnDisk, Order, Vanished, make, make_each};
use crate::world::worktree_mark::{Mark, Stage};
use crate::world::worktrees::{Lock, Registration, WorktreeList};

/// Why a place is saved that a killed recovery had half put back: never what is put back itself.
pub(super) const HALF_PUT_BACK: &str = "found half put back";
/// At most so many are put back together: each holds a lock meanwhile.
const MOST_TOGETHER: usize = 64;

/// An environment that is put back, and what is known of it.
struct Missing<'a> {
    run: &'a RunId,
    environment: &'a Environment,
    task: Option<TaskId>,
}

/// What was looked at before anything is put back.
struct Seen<'a> {
    run: &'a RunId,
    view: &'a RunView,
    list: &'a WorktreeList,
    mounts: &'a Mounts,
}

/// How far one of several has come.
enum Progress<'a> {
    /// It ends here.
    Over(Result<PlaceOutcome, Failure>),
    /// It is found missing, and how it comes back is decided; nothing is made yet.
    Begun(Box<Begun<'a>>),
    /// Another one takes the branch that it may need: it has its turn after that.
    Later,
    /// It stands again, and is on disk once everything is; in words.
    Standing(PathBuf, Vec<String>),
}

/// How an environment comes back.
struct Begun<'a> {
    missing: Missing<'a>,
    entry: Option<SavedEntry>,
    what: What,
    words: Vec<String>,
}

enum What {
    Directory(PathBuf, Held),
    Worktree(Box<WayBack>),
}

/// Whether a registration is what a try of ours began and was killed at: it has never held anything.
fn is_our_beginning(found: &Registration) -> bool {
    found.lock == Lock::Initializing && found.mark.as_ref().is_some_and(|mark| mark.stage == Stage::Filling)
}

impl Tether {
    /// Makes a missing or half-made environment anew, with its saved work.
    pub fn recreate_environment(&self, run: &RunId, id: &EnvironmentId) -> Result<PlaceOutcome, Failure> {
        let mut outcomes = self.recreate_environments(run, std::slice::from_ref(id));
        outcomes.pop().unwrap_or_else(|| skipped("there is no such environment"))
    }

    /// The same for several of one run; an outcome for each, in their order.
    pub(super) fn recreate_environments(
        &self,
        run: &RunId,
        ids: &[EnvironmentId],
    ) -> Vec<Result<PlaceOutcome, Failure>> {
        // What is set up may take minutes: the next one's must not keep what is whole locked, or lose it to a kill.
        let is_set_up = matches!(self.repository().settings().read(&SETUP), Ok(Some(_)));
        let together = if is_set_up { 1 } else { MOST_TOGETHER };
        ids.chunks(together).flat_map(|ids| self.recreate_together(run, ids)).collect()
    }

    fn recreate_together(&self, run: &RunId, ids: &[EnvironmentId]) -> Vec<Result<PlaceOutcome, Failure>> {
        let outcomes = self.try_recreate_together(run, ids);
        let outcomes = outcomes.unwrap_or_else(|failure| ids.iter().map(|_| Err(failure.clone())).collect());
        outcomes.into_iter().map(|outcome| outcome.or_else(as_outcome)).collect()
    }

    fn try_recreate_together(
        &self,
        run: &RunId,
        ids: &[EnvironmentId],
    ) -> Result<Vec<Result<PlaceOutcome, Failure>>, Failure> {
        let locks: Vec<Result<MakingLock, Failure>> = ids.iter().map(|id| self.take_making_lock(run, id)).collect();
        let view = self.read_run(run, &Need::Everything)?.view;
        let (list, mounts) = (self.worktrees()?, Self::mounts()?);
        let seen = Seen { run, view: &view, list: &list, mounts: &mounts };
        let mut branches = BTreeSet::new();
        let look = |(id, lock): (&EnvironmentId, &Result<MakingLock, Failure>)| match lock {
            Ok(_) => self.begin(&seen, id, &mut branches).unwrap_or_else(|failure| Progress::Over(Err(failure))),
            Err(failure) => Progress::Over(Err(failure.clone())),
        };
        let mut all: Vec<Progress<'_>> = ids.iter().zip(&locks).map(look).collect();
        self.note_recovering(run, &all)?;
        self.carry_out_all(&mut all)?;
        self.note_ready(run, ids, &all)?;
        drop(locks);
        let outcomes = ids.iter().zip(all).map(|(id, progress)| match progress {
            Progress::Over(outcome) => outcome,
            Progress::Standing(_, words) => Ok(PlaceOutcome::Done(words.join("; "))),
            Progress::Later => self.recreate_environment(run, id),
            Progress::Begun(begun) => skipped(format!("{} was not carried out", begun.missing.environment.id)),
        });
        Ok(outcomes.collect())
    }

    /// Finds out how an environment comes back; what git still holds of it is saved on the way.
    fn begin<'a>(
        &self,
        seen: &Seen<'a>,
        id: &EnvironmentId,
        branches: &mut BTreeSet<String>,
    ) -> Result<Progress<'a>, Failure> {
        let over = |outcome| Ok(Progress::Over(Ok(outcome)));
        let Some(environment) = seen.view.environments.get(id) else {
            return over(PlaceOutcome::Skipped("there is no such environment".to_owned()));
        };
        if environment.state.is_gone() {
            return over(PlaceOutcome::Skipped(format!("it is {}", environment.state)));
        }
        let missing = Missing { run: seen.run, environment, task: task_in(seen.view, id) };
        match environment.execution_mode {
            ExecutionMode::SharedWorkspace | ExecutionMode::Remote => {
                over(PlaceOutcome::Skipped("it is not tether's to make".to_owned()))
            }
            ExecutionMode::IsolatedWorkspace => self.begin_directory(missing, seen),
            ExecutionMode::GitWorktree => {
                let branch = environment.spec.git_worktree.as_ref().and_then(|spec| spec.branch.clone());
                if branch.is_some_and(|branch| !branches.insert(branch)) {
                    return Ok(Progress::Later);
                }
                self.begin_worktree(missing, seen)
            }
        }
    }

    fn begin_directory<'a>(&self, missing: Missing<'a>, seen: &Seen<'a>) -> Result<Progress<'a>, Failure> {
        let over = |outcome| Ok(Progress::Over(Ok(outcome)));
        let Missing { run, environment, .. } = missing;
        let path = self.require_own_place(run, environment, seen.list)?;
        if environment.spec.mount_point.as_deref().is_some_and(|point| !seen.mounts.is_mounted(point)) {
            return over(PlaceOutcome::Skipped(format!("the file system of {} is not mounted now", path.display())));
        }
        let entry = self.work_to_put_back(run, &environment.id)?;
        let (held, words) = match (paths::look_at(&path), &entry) {
            (Occupancy::Gone | Occupancy::EmptyDirectory, _) => (Held::Nothing, Vec::new()),
            (Occupancy::FullDirectory, Some(entry)) if environment.state == EnvironmentState::Recovering => {
                (Held::Saved, self.save_half_put_back(&missing, entry)?)
            }
            (Occupancy::FullDirectory, _) if environment.state.is_unfinished() => {
                self.move_environment(run, None, &moved(&environment.id, EnvironmentState::Ready))?;
                return over(PlaceOutcome::Done(format!("{}: it is there", path.display())));
            }
            (Occupancy::FullDirectory, _) => {
                return over(PlaceOutcome::Skipped(format!("{} is there", path.display())));
            }
            _ => return over(PlaceOutcome::Refused(format!("{} is not a directory", path.display()))),
        };
        let what = What::Directory(path, held);
        Ok(Progress::Begun(Box::new(Begun { missing, entry, what, words })))
    }

    /// Saves what stands in a directory that a killed recovery had begun to fill: its own half, or what somebody has done there since.
    fn save_half_put_back(&self, missing: &Missing<'_>, entry: &SavedEntry) -> Result<Vec<String>, Failure> {
        let Missing { run, environment, task } = missing;
        let saved = self.save_environment(run, environment, task.as_ref(), HALF_PUT_BACK)?;
        let names = saved_names(&self.repository().git(), entry)?;
        if let Some((path, why)) = saved.not_saved.iter().find(|(path, _)| names.contains(path.as_bytes())) {
            let what = format!("{path} stands where saved work {} goes, and cannot be saved: {why}", entry.id);
            return Err(Failure::fatal("not_put_back", what).hint("look at it, then move it away"));
        }
        let other = saved.entry.filter(|saved| saved.commit != entry.commit);
        Ok(other.map(|saved| format!("what stood there is saved as {}", saved.id)).into_iter().collect())
    }

    fn begin_worktree<'a>(&self, missing: Missing<'a>, seen: &Seen<'a>) -> Result<Progress<'a>, Failure> {
        let Missing { run, environment, .. } = missing;
        let list = seen.list;
        let path = self.require_own_place(run, environment, list)?;
        if environment.state.is_unfinished() && environment.state != EnvironmentState::Recovering {
            return Ok(Progress::Over(self.finish_making(&missing, list)));
        }
        let mark = Mark::of(run.as_str(), environment.id.as_str());
        let recovering = environment.state == EnvironmentState::Recovering;
        let found = match self.look_for(run, environment, &path, list, seen.mounts) {
            PathFacts::Gone { registration } | PathFacts::EmptyDirectory { registration } => {
                list.find_marked(&mark).or(registration)
            }
            PathFacts::Registered(found) if recovering => Some(found),
            PathFacts::NotAWorktree { .. } | PathFacts::LinkBroken(_) if recovering => list.find_marked(&mark),
            PathFacts::Registered(_) => {
                return Ok(Progress::Over(Ok(PlaceOutcome::Skipped(format!("{} is there", path.display())))));
            }
            facts => return Err(not_the_place(&path, &facts)),
        };
        let words = self.save_what_is_held(&missing, found, list)?;
        let entry = self.work_to_put_back(run, &environment.id)?;
        let back = self.way_back(run, environment, entry.as_ref(), found, list)?;
        Ok(Progress::Begun(Box::new(Begun { missing, entry, what: What::Worktree(Box::new(back)), words })))
    }

    /// Saves what stands at the path or what git still holds of a worktree that is to be made anew; answers with what to tell a person.
    fn save_what_is_held(
        &self,
        missing: &Missing<'_>,
        found: Option<&Registration>,
        list: &WorktreeList,
    ) -> Result<Vec<String>, Failure> {
        let Missing { run, environment, task } = missing;
        let linked = found.is_some_and(|found| found.as_worktree().is_some());
        let made_before = found.and_then(|found| found.mark.as_ref()).is_some_and(|mark| mark.stage == Stage::Made);
        if linked && made_before {
            // Our own half of an earlier try, or what somebody has done there since: saved, as everything is that is written over.
            self.save_environment(run, environment, task.as_ref(), HALF_PUT_BACK)?;
            return Ok(Vec::new());
        }
        if linked || found.is_some_and(is_our_beginning) {
            return Ok(Vec::new());
        }
        let reason = "its directory was gone";
        let going = Going { run, environment, task: task.clone(), reason, unsaved: Unsaved::GiveUp };
        Ok(self.empty_vanished(&going, found, list)?.words)
    }

    /// Writes down, in one commit, which environments are about to be made anew.
    fn note_recovering(&self, run: &RunId, all: &[Progress<'_>]) -> Result<(), Failure> {
        let note = |progress: &Progress<'_>| {
            let Progress::Begun(begun) = progress else { return None };
            let known = begun.missing.environment;
            let spec = match &begun.what {
                What::Directory(..) => None,
                What::Worktree(back) => Some(&back.spec),
            };
            if known.state == EnvironmentState::Recovering && spec.is_none_or(|spec| *spec == known.spec) {
                return None;
            }
            Some(RunEvent::EnvironmentMoved {
                environment: known.id.clone(),
                state: EnvironmentState::Recovering,
                spec: spec.cloned().map(Box::new),
                failure: None,
                cleanup: None,
            })
        };
        self.note_all(run, &all.iter().filter_map(note).collect::<Vec<_>>())
    }

    /// Puts all that stands again on disk, and then writes down, in one commit, that it does.
    fn note_ready(&self, run: &RunId, ids: &[EnvironmentId], all: &[Progress<'_>]) -> Result<(), Failure> {
        let standing = || {
            ids.iter().zip(all).filter_map(|(id, progress)| match progress {
                Progress::Standing(path, _) => Some((id, path.as_path())),
                _ => None,
            })
        };
        put_on_disk(standing().map(|(_, path)| path))?;
        let ready: Vec<_> = standing().map(|(id, _)| moved(id, EnvironmentState::Ready)).collect();
        self.note_all(run, &ready)
    }

    fn note_all(&self, run: &RunId, events: &[RunEvent]) -> Result<(), Failure> {
        if events.is_empty() {
            return Ok(());
        }
        self.change_run(run, &Need::Everything, |_| Ok(events.to_vec().into())).map(drop)
    }

    /// Goes on with a making that was interrupted.
    fn finish_making(&self, missing: &Missing<'_>, list: &WorktreeList) -> Result<PlaceOutcome, Failure> {
        let Missing { run, environment, task } = missing;
        let order = self.order_for(run, &environment.id, &environment.spec, list)?;
        let made = make(self.repository(), &order).map_err(|error| make_failure(&error))?;
        self.set_up(run, task.as_ref(), &environment.id, &made.path)?;
        self.move_environment(run, None, &moved(&environment.id, EnvironmentState::Ready))?;
        Ok(PlaceOutcome::Done(format!("the making of {} is finished", made.path.display())))
    }

    /// Makes all anew, sets them up, and puts their saved work back; not on disk yet.
    fn carry_out_all(&self, all: &mut [Progress<'_>]) -> Result<(), Failure> {
        let mut orders = Vec::new();
        let mut places = Vec::new();
        for (at, progress) in all.iter_mut().enumerate() {
            let Progress::Begun(begun) = progress else { continue };
            match &begun.what {
                What::Worktree(back) => {
                    orders.push(order_to_make_anew(&begun.missing, back));
                    places.push(at);
                }
                What::Directory(path, held) => *progress = stands(self.make_directory(begun, path, *held)),
            }
        }
        if self.repository().settings().read(&SETUP)?.is_none() {
            let mut made_one = |at: usize, made| {
                let progress = &mut all[places[at]];
                if let Progress::Begun(begun) = progress {
                    *progress = stands(self.fill_again(begun, made));
                }
            };
            return make_each(self.repository(), &orders, &mut made_one).map_err(|error| make_failure(&error));
        }
        // What is set up may make worktrees itself: the lock of those who do is let go of for it.
        for (order, at) in orders.iter().zip(places) {
            let progress = &mut all[at];
            if let Progress::Begun(begun) = progress {
                *progress = stands(self.fill_again(begun, make(self.repository(), order)));
            }
        }
        Ok(())
    }

    fn make_directory(&self, begun: &Begun<'_>, path: &Path, held: Held) -> Result<(PathBuf, Vec<String>), Failure> {
        let made = std::fs::create_dir_all(path);
        made.map_err(|error| {
            Failure::fatal("directory_failed", format!("could not make {}: {error}", path.display()))
        })?;
        let mut words = vec![match held {
            Held::Nothing => format!("{} is made anew", path.display()),
            Held::Saved => format!("putting {} back is finished", path.display()),
        }];
        words.extend(begun.words.iter().cloned());
        if let Some(entry) = &begun.entry {
            words.extend(self.restore_saved(&self.directory_target(path, held), entry)?);
            words.push(format!("saved work {} is back", entry.id));
        }
        Ok((path.to_owned(), words))
    }

    /// Sets a worktree up that has been made anew, and puts its saved work back.
    fn fill_again(&self, begun: &Begun<'_>, made: Result<Made, MakeError>) -> Result<(PathBuf, Vec<String>), Failure> {
        let Missing { run, environment, task } = &begun.missing;
        let made = made.map_err(|error| make_failure(&error))?;
        let What::Worktree(back) = &begun.what else { return Ok((made.path, Vec::new())) };
        let mut words = vec![format!("{} is made anew{}", made.path.display(), back.words)];
        words.extend(begun.words.iter().cloned());
        if let Err(failure) = self.set_up(run, task.as_ref(), &environment.id, &made.path) {
            self.note_failed(&begun.missing, &failure.message)?;
            return Err(failure);
        }
        if let (Some(entry), Return::InPlace) = (&begun.entry, back.work) {
            // Just as git made it, there is nothing in the way.
            if made.how != How::Fresh || self.repository().settings().read(&SETUP)?.is_some() {
                self.clear_for(&made.path, entry)?;
            }
            let as_made = Environment { spec: back.spec.clone(), ..(*environment).clone() };
            words.extend(self.put_work_back(run, &as_made, entry)?);
            words.push(format!("saved work {} is back", entry.id));
        }
        Ok((made.path, words))
    }

    /// The newest saved work of an environment that a recovery did not save on its own way.
    fn work_to_put_back(&self, run: &RunId, id: &EnvironmentId) -> Result<Option<SavedEntry>, Failure> {
        match self.newest_saved(run, id)? {
            Some(newest) if newest.reason == HALF_PUT_BACK => {
                let is_meant =
                    |entry: &SavedEntry| entry.environment.as_ref() == Some(id) && entry.reason != HALF_PUT_BACK;
                self.newest_work(run, is_meant)
            }
            newest => Ok(newest),
        }
    }

    /// Makes way for saved work in a worktree that has just been made: what `tether.setup` changed gives way to what was saved.
    fn clear_for(&self, path: &Path, entry: &SavedEntry) -> Result<(), Failure> {
        let git = self.repository().git_in(path);
        git.run(["reset", "--hard", "-q", "--no-recurse-submodules", "HEAD", "--"])?;
        let untracked = git.run(["ls-files", "--others", "-z"])?.stdout;
        if untracked.is_empty() {
            return Ok(());
        }
        let saved = saved_names(&git, entry)?;
        for name in untracked.split(|byte| *byte == 0).filter(|name| saved.contains(*name)) {
            use std::os::unix::ffi::OsStrExt as _;
            let file = path.join(std::ffi::OsStr::from_bytes(name));
            std::fs::remove_file(&file).map_err(|error| {
                Failure::fatal("not_put_back", format!("could not replace {}: {error}", file.display()))
            })?;
        }
        Ok(())
    }

    /// Writes down why a try came to nothing, once: the next one that fails alike has nothing to add.
    fn note_failed(&self, missing: &Missing<'_>, message: &str) -> Result<(), Failure> {
        let id = &missing.environment.id;
        let known = self.show_environment(missing.run, id)?;
        if known.failure.is_some_and(|failure| failure.message == message) {
            return Ok(());
        }
        let event = RunEvent::EnvironmentMoved {
            environment: missing.environment.id.clone(),
            state: EnvironmentState::Recovering,
            spec: None,
            failure: Some(Reason { message: message.to_owned(), at: self.now() }),
            cleanup: None,
        };
        self.move_environment(missing.run, None, &event).map(drop)
    }
}

/// The paths of what was saved.
fn saved_names(git: &Git, entry: &SavedEntry) -> Result<BTreeSet<Vec<u8>>, Failure> {
    let listed = git.run(["ls-tree", "-r", "-z", "--name-only", "--full-tree", entry.commit.0.as_str()])?.stdout;
    Ok(listed.split(|byte| *byte == 0).filter(|name| !name.is_empty()).map(<[u8]>::to_vec).collect())
}

fn stands<'a>(done: Result<(PathBuf, Vec<String>), Failure>) -> Progress<'a> {
    match done {
        Ok((path, words)) => Progress::Standing(path, words),
        Err(failure) => Progress::Over(Err(failure)),
    }
}

fn order_to_make_anew(missing: &Missing<'_>, back: &WayBack) -> Order {
    Order {
        path: missing.environment.spec.path.clone().unwrap_or_default(),
        head: back.head.clone(),
        mark: Mark::of(missing.run.as_str(), missing.environment.id.as_str()),
        vanished: Vanished::Replace,
        announced: Announced::No,
        on_disk: OnDisk::ByCaller,
        patience: PATIENCE,
    }
}
