//! Work at risk: what is nowhere else, and what speaks against removing its place.
//!
//! Invariant: nothing is changed by looking; what cannot be told is said, and never counts as nothing.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::making::short_name;
use crate::app::observe::dirt_of;
use crate::app::tether::Tether;
use crate::domain::ids::{EnvironmentId, RunId};
use crate::plan::observation::{Dirt, Observation, PlaceSeen, Records};
use crate::plan::step::Step;
use crate::store::runs::Need;
use crate::world::cleanliness::{Worktree, read_cleanliness};
use crate::world::worktrees::{Head, Lock, Place, Registration, WorktreeList};

/// What is at risk at one place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AtRisk {
    /// What is not committed.
    pub dirt: Dirt,
    /// How many commits are on no remote; without any remote, on no other branch or tag. `None`: nobody can tell.
    pub unpushed: Option<u64>,
    /// Whether git has it locked.
    pub locked: bool,
    /// Who stands there.
    pub processes: Vec<StandingProcess>,
}

/// A process whose current directory lies in a place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandingProcess {
    /// Its pid.
    pub pid: u32,
    /// The program's name, as the system shortens it.
    pub name: String,
    /// Where it stands.
    pub directory: PathBuf,
}

impl AtRisk {
    /// Whether anything would be lost if the place went without being saved.
    pub fn is_work(&self) -> bool {
        self.dirt != Dirt::Clean || self.unpushed != Some(0)
    }
}

/// Steps that take a place away, with what is at risk there.
#[derive(Debug, Default)]
pub(super) struct StepsAtRisk(Vec<(Step, AtRisk)>);

impl StepsAtRisk {
    /// What is at risk where `step` takes something away.
    pub(super) fn of(&self, step: &Step) -> Option<AtRisk> {
        self.0.iter().find(|(known, _)| known == step).map(|(_, at_risk)| at_risk.clone())
    }
}

/// A worktree whose work is nowhere else.
#[derive(Debug, Clone)]
pub struct RiskyWorktree {
    /// Where it is.
    pub path: PathBuf,
    /// What is at risk there.
    pub at_risk: AtRisk,
    /// Whether tether made it, or has taken it into care.
    pub ours: bool,
    /// Whether it is ours and no record names it.
    pub orphaned: bool,
}

/// Counts commits that are nowhere else; each HEAD is asked for once.
struct Unpushed<'t> {
    tether: &'t Tether,
    has_remote: bool,
    known: BTreeMap<(ObjectId, Option<String>), Option<u64>>,
}

impl<'t> Unpushed<'t> {
    fn new(tether: &'t Tether) -> Self {
        let words = ["for-each-ref", "--count=1", "--format=%(refname)", "refs/remotes"];
        let has_remote = tether.repository().git().run(words).is_ok_and(|output| !output.text().is_empty());
        Self { tether, has_remote, known: BTreeMap::new() }
    }

    fn count(&mut self, list: &WorktreeList, head: &Head) -> Option<u64> {
        let id = match (list.find_head_id(self.tether.repository(), head), head) {
            (Ok(Some(id)), _) => id,
            (Ok(None), Head::Branch(_)) => return Some(0),
            _ => return None,
        };
        let own = match head {
            Head::Branch(name) if !self.has_remote => Some(name.clone()),
            _ => None,
        };
        if let Some(known) = self.known.get(&(id, own.clone())) {
            return *known;
        }
        let counted = self.ask(id, own.as_deref());
        self.known.insert((id, own), counted);
        counted
    }

    fn ask(&self, id: ObjectId, own: Option<&str>) -> Option<u64> {
        let id = id.to_string();
        let except = own.map(|name| format!("--exclude={}", short_name(name)));
        let mut words = vec!["rev-list", "--count", id.as_str(), "--not"];
        if self.has_remote {
            words.push("--remotes");
        } else {
            words.extend(except.as_deref());
            words.extend(["--branches", "--tags"]);
        }
        self.tether.repository().git().run(words).ok()?.text().parse().ok()
    }
}

impl Tether {
    /// What is at risk where the steps of a plan would take something away, by the text of the step.
    pub(super) fn find_at_risk(&self, steps: &[Step], records: &Records, seen: &Observation) -> StepsAtRisk {
        let mut found = StepsAtRisk::default();
        let mut look = None;
        for step in steps {
            let (path, place) = match step {
                Step::CleanEnvironment { run, environment } => {
                    let known = records.runs.get(run).and_then(|view| view.environments.get(environment));
                    let place = seen.places.get(&(run.clone(), environment.clone()));
                    (known.and_then(|known| known.spec.path.clone()), place)
                }
                Step::CleanUnnamed { path, admin_dir, .. } => {
                    let unnamed = seen.unnamed.iter().find(|known| known.admin_dir == *admin_dir);
                    (Some(path.clone()), unnamed.map(|known| &known.seen))
                }
                _ => continue,
            };
            let (Some(path), Some(PlaceSeen::There { dirt, locked, .. })) = (path, place) else { continue };
            let (list, unpushed) = match &mut look {
                Some(look) => look,
                None => match self.worktrees() {
                    Ok(list) => look.insert((list, Unpushed::new(self))),
                    Err(_) => return found,
                },
            };
            let unpushed = list.find_at(&path).map_or(Some(0), |known| unpushed.count(list, &known.head));
            let at_risk =
                AtRisk { dirt: dirt.clone(), unpushed, locked: *locked, processes: self.find_standing(&path) };
            found.0.push((step.clone(), at_risk));
        }
        found
    }

    /// Work at risk in every worktree of the repository, the main checkout too, whoever made it.
    pub fn work_at_risk(&self) -> Result<Vec<RiskyWorktree>, Failure> {
        let list = self.worktrees()?;
        let mut unpushed = Unpushed::new(self);
        let mut risky = Vec::new();
        if let Some(path) = &list.main().path {
            let dirt = self.read_dirt_of_main(path, &list);
            let unpushed = unpushed.count(&list, &list.main().head);
            let at_risk = AtRisk { dirt, unpushed, locked: false, processes: Vec::new() };
            risky.push(RiskyWorktree { path: path.clone(), at_risk, ours: false, orphaned: false });
        }
        let looked = self.read_dirt(&list, list.linked().iter());
        for (found, dirt) in list.linked().iter().zip(looked) {
            let dirt = what_stands_there(found).unwrap_or(dirt);
            let at_risk = AtRisk {
                dirt,
                unpushed: unpushed.count(&list, &found.head),
                locked: matches!(found.lock, Lock::Locked(_)),
                processes: Vec::new(),
            };
            let path = found.path.clone().unwrap_or_else(|| found.admin_dir.clone());
            let orphaned = self.is_orphaned(found);
            risky.push(RiskyWorktree { path, at_risk, ours: found.mark.is_some(), orphaned });
        }
        risky.retain(|one| one.orphaned || one.at_risk.is_work());
        for one in &mut risky {
            one.at_risk.processes = self.find_standing(&one.path);
        }
        Ok(risky)
    }

    fn find_standing(&self, path: &Path) -> Vec<StandingProcess> {
        let inside = self.processes().find_standing_in(path).inside.into_iter();
        inside.map(|one| StandingProcess { pid: one.pid, name: one.name, directory: one.directory }).collect()
    }

    fn read_dirt_of_main(&self, path: &Path, list: &WorktreeList) -> Dirt {
        let main = Worktree { path, git_dir: list.common_dir(), head: &list.main().head };
        let mut looked = read_cleanliness(self.repository(), list, &[main]);
        looked.pop().map_or_else(|| Dirt::Unreadable("it was not looked at".to_owned()), dirt_of)
    }

    /// Whether a worktree bears our mark and no record names it; a run that cannot be read may name anything.
    fn is_orphaned(&self, found: &Registration) -> bool {
        let Some(mark) = &found.mark else { return false };
        let (Ok(run), Ok(id)) = (RunId::new(mark.run.as_str()), EnvironmentId::new(mark.environment.as_str())) else {
            return true;
        };
        let need = Need::run().with_environment(&id);
        let Ok(read) = self.ledger().read_run(&run, &need) else { return false };
        let named = read.and_then(|read| read.view.environments.get(&id).map(|known| !known.state.is_gone()));
        named != Some(true)
    }
}

/// What keeps git from saying how much is not committed, if anything does. Nothing at all at its path is no uncommitted work.
fn what_stands_there(found: &Registration) -> Option<Dirt> {
    let unreadable = |why: &str| Some(Dirt::Unreadable(why.to_owned()));
    match &found.place {
        Place::Linked => None,
        Place::Gone | Place::NoPath => Some(Dirt::Clean),
        Place::Unlinked => unreadable("its directory has no `.git`"),
        Place::LinkBroken { .. } => unreadable("its `.git` does not name its registration"),
        Place::OtherRepository { .. } => unreadable("its directory belongs to another repository"),
        Place::NotADirectory => unreadable("what stands there is no directory"),
        Place::Unreadable(error) => unreadable(&chain_of(error)),
    }
}
