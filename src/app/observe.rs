//! One pass over the records and one look at the world: the facts that verify and recover decide on.
//!
//! Invariant: nothing is changed by looking; what cannot be told is unknown, never missing or dead.

use std::collections::BTreeSet;
use std::path::Path;

use gix::ObjectId;

use crate::app::evidence::AssumedDead;
use crate::app::failure::{Failure, chain_of};
use crate::app::making::{full_name, short_name};
use crate::app::tether::Tether;
use crate::domain::claim::Claim;
use crate::domain::environment::{Environment, ExecutionMode, WorktreeSpec};
use crate::domain::ids::{EnvironmentId, RunId, SessionId};
use crate::domain::liveness::{Liveness, Verdict};
use crate::domain::session::Session;
use crate::plan::observation::{Dirt, Observation, PlaceSeen, Records, UnnamedWorktree, UnreadableSingle};
use crate::store::RefPrefix;
use crate::store::runs::Need;
use crate::store::singles::Single;
use crate::world::cleanliness::{Cleanliness, Worktree, read_cleanliness};
use crate::world::live::LockState;
use crate::world::paths::{self, Mounts, Occupancy};
use crate::world::worktree_facts::{Answering, PathFacts};
use crate::world::worktrees::{
    Descent, Head, Lock, Registration, WorktreeList, find_branch_of_operation, find_descent, read_worktrees,
};

/// What is looked at.
#[derive(Debug, Clone, Default)]
pub struct Scope {
    /// Only these runs; all if there is none.
    pub runs: Vec<RunId>,
    /// Who is known to be dead by somebody who knows better.
    pub assumed_dead: AssumedDead,
}

/// What was found at an environment's path before its content was looked at.
enum FirstLook<'l> {
    Told(PlaceSeen),
    Worktree(&'l Registration),
}

impl Tether {
    /// Reads the records of a scope; a run that is asked for by name and does not exist is an error, one that cannot be read is not.
    pub fn read_records(&self, scope: &Scope) -> Result<Records, Failure> {
        let mut records = Records::default();
        if scope.runs.is_empty() {
            let (views, unreadable) = self.read_all_runs()?;
            records.runs = views.into_iter().map(|view| (view.run.id.clone(), view)).collect();
            records.unreadable = unreadable;
        }
        for run in &scope.runs {
            match self.ledger().read_run(run, &Need::Everything) {
                Ok(Some(read)) => drop(records.runs.insert(run.clone(), read.view)),
                Ok(None) => return Err(self.unknown_run(run)),
                Err(error) => records.unreadable.push((run.to_string(), chain_of(&error))),
            }
        }
        // What names a session is read before the sessions are: one that was recorded in between is in the list.
        records.claims = self.read_singles(&mut records.unreadable_singles)?;
        records.pools = self.read_singles(&mut records.unreadable_singles)?;
        let all_sessions = self.read_singles::<Session>(&mut records.unreadable_singles)?;
        let named: BTreeSet<_> = records.runs.values().flat_map(sessions_of).collect();
        let asked = |session: &Session| scope.runs.is_empty() || named.contains(&session.id);
        records.sessions =
            all_sessions.into_iter().filter(asked).map(|session| (session.id.clone(), session)).collect();
        if !scope.runs.is_empty() {
            let ours = |claim: &Claim| claim.session.as_ref().is_some_and(|session| named.contains(session));
            records.claims.retain(ours);
            records.unreadable_singles.retain(|single| single.session.as_ref().is_some_and(|id| named.contains(id)));
            let sessions = &records.sessions;
            records.claims.retain(|claim| claim.session.as_ref().is_some_and(|session| sessions.contains_key(session)));
        }
        for view in records.runs.values() {
            if self.lacks_report(view)? {
                records.without_report.insert(view.run.id.clone());
            }
        }
        Ok(records)
    }

    /// Every record of a kind that can be read; those that cannot are added to `unreadable`.
    fn read_singles<T: Single>(&self, unreadable: &mut Vec<UnreadableSingle>) -> Result<Vec<T>, Failure> {
        let (records, bad) = self.ledger().list_singles::<T>()?;
        unreadable.extend(bad.into_iter().map(|(name, error)| UnreadableSingle {
            session: name.as_str().strip_prefix(RefPrefix::sessions().as_str()).and_then(|id| SessionId::new(id).ok()),
            name: name.to_string(),
            problem: chain_of(&error),
        }));
        Ok(records)
    }

    /// What can be told of a session whose record cannot be read: somebody who holds its lock lives.
    fn look_at_unreadable(&self, session: &SessionId, problem: &str) -> Liveness {
        let held = matches!(self.signs_of_life().probe(session.as_str()), Ok(LockState::Held));
        let (verdict, why) = if held {
            (Verdict::Alive, "its lock is held".to_owned())
        } else {
            (Verdict::Unknown, "nothing is known of its process".to_owned())
        };
        let torn =
            format!("its record cannot be read ({problem}): `git tether doctor --fix` goes back to the last good one");
        Liveness { verdict, evidence: vec![why, torn], supervisor_gone: false, falls_at: None }
    }

    /// Looks at everything that the records speak of.
    pub fn observe(&self, records: &Records, scope: &Scope) -> Result<Observation, Failure> {
        let mut seen = Observation::nothing(self.host_id());
        let observer = self.observer(scope.assumed_dead.clone());
        for session in records.sessions.values() {
            seen.liveness.insert(session.id.clone(), observer.look_at(session));
        }
        for single in &records.unreadable_singles {
            if let Some(session) = &single.session {
                seen.liveness.insert(session.clone(), self.look_at_unreadable(session, &single.problem));
            }
        }
        let list = read_worktrees(self.repository())
            .map_err(|error| Failure::fatal("worktrees_unreadable", chain_of(&error)))?;
        let mounts = Mounts::read().map_err(|error| Failure::fatal("mounts_unreadable", chain_of(&error)))?;
        self.observe_places(records, &list, &mounts, &mut seen);
        self.observe_unnamed(records, scope, &list, &mut seen);
        for view in records.runs.values() {
            for task in view.tasks.values().filter(|task| !task.command.is_empty()) {
                if self.trusts_command(&view.run.id, &task.id, &task.command) {
                    seen.runnable.insert(task.address().to_string());
                }
            }
            for environment in view.environments.values().filter(|environment| environment.state.is_unfinished()) {
                if self.is_being_made(&view.run.id, &environment.id) {
                    seen.being_made.insert((view.run.id.clone(), environment.id.clone()));
                }
            }
        }
        if scope.runs.is_empty() {
            seen.leftovers = self.find_leftovers(records)?;
        }
        Ok(seen)
    }

    /// What stands where an environment is recorded; how much of it is not committed is not looked at.
    pub(super) fn see_place(&self, run: &RunId, environment: &Environment) -> Result<PlaceSeen, Failure> {
        let list = read_worktrees(self.repository())
            .map_err(|error| Failure::fatal("worktrees_unreadable", chain_of(&error)))?;
        let mounts = Mounts::read().map_err(|error| Failure::fatal("mounts_unreadable", chain_of(&error)))?;
        Ok(match self.look_first(run, environment, &list, &mounts) {
            FirstLook::Told(place) => place,
            FirstLook::Worktree(found) => there(Dirt::Unreadable("it was not looked at".to_owned()), found),
        })
    }

    fn observe_places(&self, records: &Records, list: &WorktreeList, mounts: &Mounts, seen: &mut Observation) {
        let mut worktrees: Vec<((RunId, EnvironmentId), &Registration)> = Vec::new();
        for view in records.runs.values() {
            for environment in view.environments.values().filter(|environment| !environment.state.is_gone()) {
                let key = (view.run.id.clone(), environment.id.clone());
                match self.look_first(&view.run.id, environment, list, mounts) {
                    FirstLook::Told(place) => drop(seen.places.insert(key, place)),
                    FirstLook::Worktree(registration) => worktrees.push((key, registration)),
                }
            }
        }
        let looked = self.read_dirt(list, worktrees.iter().map(|(_, registration)| *registration));
        for ((key, registration), dirt) in worktrees.into_iter().zip(looked) {
            seen.places.insert(key, there(dirt, registration));
        }
    }

    pub(super) fn read_dirt<'l>(
        &self,
        list: &'l WorktreeList,
        registrations: impl Iterator<Item = &'l Registration>,
    ) -> Vec<Dirt> {
        let registrations: Vec<_> = registrations.collect();
        let worktrees: Vec<Worktree<'_>> = registrations.iter().filter_map(|known| known.as_worktree()).collect();
        let mut looked = read_cleanliness(self.repository(), list, &worktrees).into_iter();
        let unseen = || Dirt::Unreadable("it was not looked at".to_owned());
        registrations
            .iter()
            .map(|known| match known.as_worktree() {
                Some(_) => looked.next().map_or_else(unseen, dirt_of),
                None => unseen(),
            })
            .collect()
    }

    fn look_first<'l>(
        &self,
        run: &RunId,
        environment: &Environment,
        list: &'l WorktreeList,
        mounts: &Mounts,
    ) -> FirstLook<'l> {
        if environment.host != self.host_id() {
            return FirstLook::Told(PlaceSeen::Elsewhere(environment.host.clone()));
        }
        let Some(path) = environment.spec.path.as_deref() else { return FirstLook::Told(PlaceSeen::NoPlace) };
        let mount_point = environment.spec.mount_point.as_deref();
        match environment.execution_mode {
            ExecutionMode::Remote => FirstLook::Told(PlaceSeen::NoPlace),
            ExecutionMode::IsolatedWorkspace | ExecutionMode::SharedWorkspace => {
                FirstLook::Told(look_at_directory(path, mount_point, mounts))
            }
            ExecutionMode::GitWorktree => {
                let facts = self.look_for(run, environment, path, list, mounts);
                self.judge_worktree(facts, environment.spec.git_worktree.as_ref(), list)
            }
        }
    }

    fn judge_worktree<'l>(
        &self,
        facts: PathFacts<'l>,
        spec: Option<&WorktreeSpec>,
        list: &'l WorktreeList,
    ) -> FirstLook<'l> {
        FirstLook::Told(match facts {
            PathFacts::Gone { .. } | PathFacts::EmptyDirectory { .. } => PlaceSeen::Gone,
            PathFacts::MovedTo(registration) => match &registration.path {
                Some(path) => PlaceSeen::MovedTo(path.clone()),
                None => PlaceSeen::Gone,
            },
            PathFacts::Registered(registration) => {
                return match spec.and_then(|spec| self.off_course(registration, spec, list)) {
                    Some(why) => FirstLook::Told(PlaceSeen::OffCourse(why)),
                    None => FirstLook::Worktree(registration),
                };
            }
            PathFacts::LinkBroken(_) => {
                PlaceSeen::NotThisWorktree("it is registered, but its `.git` does not name its registration".to_owned())
            }
            PathFacts::NotAWorktree { answering } => PlaceSeen::NotThisWorktree(words_for(&answering)),
            PathFacts::OtherRepository { git_dir } if git_dir.starts_with(list.common_dir()) => {
                PlaceSeen::NotThisWorktree("it is not registered in this repository any more".to_owned())
            }
            PathFacts::OtherRepository { git_dir } => {
                PlaceSeen::NotThisWorktree(format!("it belongs to another repository, {}", git_dir.display()))
            }
            PathFacts::NotADirectory(what) => PlaceSeen::NotThisWorktree(format!("{what} stands there")),
            PathFacts::MainCheckout => PlaceSeen::NotThisWorktree("it is the main checkout".to_owned()),
            PathFacts::Unreadable(why) => PlaceSeen::Unknown(why),
            PathFacts::NotMounted { mount_point } => {
                PlaceSeen::Unknown(format!("{} is not mounted", mount_point.display()))
            }
        })
    }

    /// Why a worktree is not on the course that was recorded, if it is not.
    fn off_course(&self, registration: &Registration, spec: &WorktreeSpec, list: &WorktreeList) -> Option<String> {
        let operating = find_branch_of_operation(&registration.admin_dir);
        if let Some(branch) = spec.branch.as_deref().map(full_name) {
            match &registration.head {
                Head::Branch(found) if *found == branch => {}
                Head::Detached(_) if operating.as_ref() == Some(&branch) => return None,
                Head::Branch(found) => {
                    return Some(format!("it is on branch {}, not {}", short_name(found), short_name(&branch)));
                }
                Head::Detached(found) => {
                    return Some(format!(
                        "its HEAD is detached at {}, not on branch {}",
                        found.to_hex_with_len(10),
                        short_name(&branch)
                    ));
                }
                Head::Unreadable(why) => return Some(format!("its HEAD cannot be read: {why}")),
            }
        }
        let base = ObjectId::from_hex(spec.base_commit.as_ref()?.0.as_bytes()).ok()?;
        let head = list.find_head_id(self.repository(), &registration.head).ok()??;
        match find_descent(self.repository(), head, base) {
            Some(Descent::Diverged) => Some(format!(
                "its HEAD {} does not descend from its base {}",
                head.to_hex_with_len(10),
                base.to_hex_with_len(10)
            )),
            Some(Descent::Descends) | None => None,
        }
    }

    /// Worktrees that bear our mark and that no record names.
    fn observe_unnamed(&self, records: &Records, scope: &Scope, list: &WorktreeList, seen: &mut Observation) {
        let mut unnamed = Vec::new();
        for registration in list.linked() {
            let Some(mark) = &registration.mark else { continue };
            let (run, environment) =
                (RunId::new(mark.run.as_str()).ok(), EnvironmentId::new(mark.environment.as_str()).ok());
            let in_scope = scope.runs.is_empty() || run.as_ref().is_some_and(|run| scope.runs.contains(run));
            if in_scope && !is_named(records, run.as_ref(), environment.as_ref()) {
                if let (Some(run), Some(environment)) = (&run, &environment)
                    && self.is_being_made(run, environment)
                {
                    continue;
                }
                unnamed.push((registration, run, environment));
            }
        }
        let looked = self.read_dirt(list, unnamed.iter().map(|(registration, ..)| *registration));
        for ((registration, run, environment), dirt) in unnamed.into_iter().zip(looked) {
            let path = registration.path.clone().unwrap_or_else(|| registration.admin_dir.clone());
            let seen_there =
                if registration.as_worktree().is_some() { there(dirt, registration) } else { PlaceSeen::Gone };
            seen.unnamed.push(UnnamedWorktree {
                path,
                admin_dir: registration.admin_dir.clone(),
                run,
                environment,
                seen: seen_there,
            });
        }
    }
}

/// Whether a record names the environment of a mark; a run that cannot be read may name anything.
fn is_named(records: &Records, run: Option<&RunId>, environment: Option<&EnvironmentId>) -> bool {
    let (Some(run), Some(environment)) = (run, environment) else { return false };
    if records.unreadable.iter().any(|(name, _)| name == run.as_str()) {
        return true;
    }
    let view = records.runs.get(run);
    view.and_then(|view| view.environments.get(environment)).is_some_and(|known| !known.state.is_gone())
}

fn sessions_of(view: &crate::domain::view::RunView) -> BTreeSet<crate::domain::ids::SessionId> {
    let of_tasks = view.tasks.values().filter_map(|task| task.session.clone());
    let of_leases =
        view.environments.values().filter_map(|known| known.held_lease().map(|lease| lease.session.clone()));
    of_tasks.chain(of_leases).collect()
}

fn there(dirt: Dirt, registration: &Registration) -> PlaceSeen {
    PlaceSeen::There { dirt, locked: registration.lock != Lock::Unlocked, holds_files: true }
}

pub(super) fn dirt_of(looked: Cleanliness) -> Dirt {
    match looked {
        Cleanliness::Clean => Dirt::Clean,
        Cleanliness::Dirty { changed, untracked } => Dirt::Dirty { changed, untracked },
        Cleanliness::Unknown(why) => Dirt::Unreadable(why),
    }
}

fn words_for(answering: &Answering) -> String {
    match answering {
        Answering::Nobody => "a directory stands there that is no worktree of this repository".to_owned(),
        Answering::MainCheckout => "it is no worktree any more: git there answers for the main checkout".to_owned(),
        Answering::Worktree(path) => format!("it is no worktree any more: git there answers for {}", path.display()),
        Answering::OtherRepository(path) => format!("git there answers for another repository, {}", path.display()),
    }
}

fn look_at_directory(path: &Path, mount_point: Option<&Path>, mounts: &Mounts) -> PlaceSeen {
    if let Some(mount_point) = mount_point.filter(|mount_point| !mounts.is_mounted(mount_point)) {
        return PlaceSeen::Unknown(format!("{} is not mounted", mount_point.display()));
    }
    let there = |holds_files| PlaceSeen::There { dirt: Dirt::Clean, locked: false, holds_files };
    match paths::look_at(path) {
        Occupancy::Gone => PlaceSeen::Gone,
        Occupancy::EmptyDirectory => there(false),
        Occupancy::FullDirectory => there(true),
        Occupancy::Symlink | Occupancy::Other => PlaceSeen::NotThisWorktree("it is no directory".to_owned()),
        Occupancy::Unreadable(error) => PlaceSeen::Unknown(error.to_string()),
    }
}
