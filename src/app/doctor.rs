//! Looks at the whole namespace, and names everything that is wrong with it.
//!
//! Must not change anything: what is done about a fault is in `repair`. Invariant: each ref is looked at on its own, so that no bad
//! record hides another.

use std::collections::HashSet;

use gix::ObjectId;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::ids::{HostId, Oid, RunId, SessionId};
use crate::domain::session::Session;
use crate::domain::view::RunView;
use crate::record::layout;
use crate::store::backend::RefValue;
use crate::store::checkup::{Fault, FaultCode, GoodState, fault_of_value};
use crate::store::names::is_valid_id;
use crate::store::runs::Need;
use crate::store::work::SavedEntry;
use crate::store::{RefName, RefPrefix};

/// How often it is looked again whether a repair has laid open more.
const MOST_ROUNDS: usize = 4;

/// Whether what is wrong is only named, or repaired as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Treatment {
    /// It is named.
    Look,
    /// It is repaired as far as that is possible.
    Fix,
}

/// What was done about a fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Repair {
    /// Nobody asked for it.
    NotAsked,
    /// It was repaired; in words.
    Done(String),
    /// It was not; why.
    NotDone(String),
}

/// One fault, and where it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NamedFault {
    /// The ref.
    pub name: RefName,
    /// What the ref holds.
    pub value: RefValue,
    /// What is wrong.
    pub fault: Fault,
    /// The newest state without a fault, if there is one.
    pub last_good: Option<GoodState>,
    /// What was done about it.
    pub repair: Repair,
}

impl NamedFault {
    fn is_same(&self, other: &Self) -> bool {
        (&self.name, &self.value, &self.fault) == (&other.name, &other.value, &other.fault)
    }

    /// The commit, or whatever object, that the ref names.
    pub fn commit(&self) -> Option<String> {
        match &self.value {
            RefValue::Id(id) => Some(id.to_string()),
            _ => None,
        }
    }
}

/// What a look at the whole namespace came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnosis {
    /// How many refs were looked at.
    pub refs: usize,
    /// Whether repairs were asked for.
    pub treatment: Treatment,
    /// Everything that is wrong, or was.
    pub faults: Vec<NamedFault>,
    /// How much is still wrong.
    pub remaining: usize,
    /// What a person should know beside the faults.
    pub warnings: Vec<String>,
}

impl Tether {
    /// Looks at everything below `refs/tether*`, and repairs what it can if asked to.
    pub fn doctor(&self, treatment: Treatment) -> Result<Diagnosis, Failure> {
        let (refs, mut faults) = self.examine()?;
        let mut diagnosis =
            Diagnosis { refs, treatment, remaining: faults.len(), faults: Vec::new(), warnings: Vec::new() };
        if treatment == Treatment::Look {
            diagnosis.faults = faults;
            return Ok(diagnosis);
        }
        for _ in 0..MOST_ROUNDS {
            if faults.is_empty() {
                break;
            }
            diagnosis.warnings.extend(self.repair(&mut faults));
            diagnosis.faults.append(&mut faults);
            faults = self.examine()?.1;
            diagnosis.remaining = faults.len();
            // What one repair laid open is repaired as well; what could not be repaired is not tried again.
            faults.retain(|fault| !diagnosis.faults.iter().any(|known| known.is_same(fault)));
        }
        Ok(diagnosis)
    }

    /// Every commit that the repository holds and no branch, tag or remote-tracking ref has: old states of ours are among them,
    /// wherever they lie. Asked for only when nothing nearer helps.
    fn find_commits_of_no_branch(&self) -> Vec<ObjectId> {
        self.find_commits_outside(&["--branches", "--tags", "--remotes"])
    }

    /// The same without what was fetched from anywhere, which others have written.
    pub(super) fn find_own_commits(&self) -> Vec<ObjectId> {
        self.find_commits_outside(&["--branches", "--tags", "--remotes", "--glob=refs/tether-remote/"])
    }

    fn find_commits_outside(&self, refs: &[&str]) -> Vec<ObjectId> {
        let git = self.repository().git().with_variable("GIT_NO_LAZY_FETCH", "1");
        let id = |line: &str| ObjectId::from_hex(line.as_bytes()).ok();
        let all =
            git.run(["cat-file", "--batch-all-objects", "--unordered", "--batch-check=%(objectname) %(objecttype)"]);
        let Ok(all) = all else { return Vec::new() };
        let known = git.run(["rev-list"].iter().chain(refs)).map(|known| known.text());
        let known: HashSet<ObjectId> = known.unwrap_or_default().lines().filter_map(id).collect();
        let all = all.text();
        let commits = all.lines().filter_map(|line| line.strip_suffix(" commit").and_then(id));
        commits.filter(|id| !known.contains(id)).collect()
    }

    /// How many refs there are, and what is wrong with them.
    fn examine(&self) -> Result<(usize, Vec<NamedFault>), Failure> {
        let mut refs = Vec::new();
        for prefix in RefPrefix::roots() {
            refs.extend(self.ledger().backend().list_refs(&prefix).map_err(|error| {
                let said = crate::app::failure::chain_of(&error);
                Failure::fatal("unreadable_refs", format!("could not list the refs below {}: {said}", prefix.as_str()))
                    .hint("git cannot read its refs either: `git for-each-ref` names the line that is wrong")
            })?);
        }
        let mut examiner =
            Examiner { tether: self, shallow: self.shallow_commits(), lost: None, loose: None, faults: Vec::new() };
        for (name, value) in &refs {
            examiner.look_at(name, value);
        }
        examiner.look_at_claims(&refs);
        examiner.look_at_work(&refs);
        examiner.look_into_work(&refs);
        Ok((refs.len(), examiner.faults))
    }

    /// Whether objects are left out on purpose, to be fetched when somebody asks for them.
    pub(super) fn is_partial_clone(&self) -> bool {
        self.repository().git().run(["config", "--get-regexp", r"^remote\..*\.promisor$"]).is_ok()
    }

    /// Commits whose parents are left out on purpose.
    fn shallow_commits(&self) -> HashSet<ObjectId> {
        let text = std::fs::read_to_string(self.repository().common_dir().join("shallow")).unwrap_or_default();
        text.lines().filter_map(|line| ObjectId::from_hex(line.trim().as_bytes()).ok()).collect()
    }
}

struct Examiner<'t> {
    tether: &'t Tether,
    shallow: HashSet<ObjectId>,
    /// What we wrote.
    lost: Option<Vec<ObjectId>>,
    /// What else may be a state of ours: fetched, or packed anew by git.
    loose: Option<Vec<ObjectId>>,
    faults: Vec<NamedFault>,
}

impl Examiner<'_> {
    fn look_at(&mut self, name: &RefName, value: &RefValue) {
        let (found, last_good) = match value {
            RefValue::Absent => return,
            RefValue::Id(tip) => {
                let found = self.faults_of(name, *tip);
                let reverts = found.iter().any(|fault| fault.code.is_undone_by_going_back());
                let good = if reverts { self.find_last_good(name, Some(*tip)) } else { None };
                (found, good)
            }
            unusable => (fault_of_value(unusable).into_iter().collect(), self.find_last_good(name, None)),
        };
        for fault in found {
            self.note(name, value, fault, last_good.clone());
        }
    }

    fn note(&mut self, name: &RefName, value: &RefValue, fault: Fault, last_good: Option<GoodState>) {
        let (name, value) = (name.clone(), value.clone());
        self.faults.push(NamedFault { name, value, fault, last_good, repair: Repair::NotAsked });
    }

    fn faults_of(&self, name: &RefName, tip: ObjectId) -> Vec<Fault> {
        if let Some(problem) = name_problem(name) {
            return vec![Fault::of_ref(FaultCode::InvalidName, problem)];
        }
        let ledger = self.tether.ledger();
        let found = ledger.faults_at(name, tip);
        // Evidence and what was fetched are other people's history, and not ours to judge.
        let ours = name.as_str().starts_with("refs/tether/") || name.as_str().starts_with("refs/tether-local/work/");
        if found.is_empty() && ours {
            let broken = ledger.fault_of_history(tip, &self.shallow);
            // What a partial clone lacks it was told to leave out.
            return broken.into_iter().filter(|_| !self.tether.is_partial_clone()).collect();
        }
        found
    }

    fn find_last_good(&mut self, name: &RefName, tip: Option<ObjectId>) -> Option<GoodState> {
        let ledger = self.tether.ledger();
        if name_problem(name).is_some() {
            return None;
        }
        if let Some(good) = tip.and_then(|tip| ledger.find_last_good(name, tip)) {
            return Some(good);
        }
        let ours = self.lost.get_or_insert_with(|| ledger.backend().list_written().unwrap_or_default());
        if let Some(good) = ledger.find_lost_state(name, ours.iter().copied()) {
            return Some(good);
        }
        let others = self.loose.get_or_insert_with(|| self.tether.find_commits_of_no_branch());
        ledger.find_lost_state(name, others.iter().copied())
    }

    /// Claims that nobody can hold: their session is not recorded, or has ended.
    fn look_at_claims(&mut self, refs: &[(RefName, RefValue)]) {
        let ledger = self.tether.ledger();
        for (name, value) in refs.iter().filter(|(name, _)| name.as_str().starts_with(RefPrefix::claims().as_str())) {
            let Some(claim) = claim_at(self.tether, name).filter(Claim::is_held) else { continue };
            let Some(holder) = &claim.session else { continue };
            let problem = match ledger.read_single::<Session>(holder) {
                Ok(Some(session)) if session.status.is_terminal() => {
                    format!("it is held by session {holder}, which has ended ({})", session.status)
                }
                Ok(None) => format!("it is held by session {holder}, which is not recorded"),
                // A session that cannot be read is a fault of its own, and may well hold what it says.
                _ => continue,
            };
            self.note(name, value, Fault::of_file(FaultCode::StaleClaim, layout::CLAIM, problem), None);
        }
    }

    /// Saved work that records of this machine name and nothing keeps.
    fn look_at_work(&mut self, refs: &[(RefName, RefValue)]) {
        let here = self.tether.host_id();
        for (name, value) in refs {
            let Some(run) = name.as_str().strip_prefix(RefPrefix::runs().as_str()) else { continue };
            let Ok(run) = RunId::new(run) else { continue };
            let Ok(Some(read)) = self.tether.ledger().read_run(&run, &Need::Everything) else { continue };
            let Ok(saved) = self.tether.ledger().saved_work(run.as_str()) else { continue };
            for (path, commit) in named_work(&read.view, &here) {
                if saved.iter().any(|entry| entry.commit == commit) {
                    continue;
                }
                let problem = format!("it names the saved work {commit}, which nothing keeps");
                self.note(name, value, Fault::of_file(FaultCode::DanglingWork, path, problem), None);
            }
        }
    }
}

impl Examiner<'_> {
    /// Snapshots of which something is missing or damaged.
    fn look_into_work(&mut self, refs: &[(RefName, RefValue)]) {
        let ledger = self.tether.ledger();
        let mut saved = Vec::new();
        for (name, value) in refs {
            let Some(run) = name.as_str().strip_prefix(RefPrefix::work().as_str()) else { continue };
            let entries = ledger.saved_work(run).unwrap_or_default();
            let there = |entry: &SavedEntry| {
                let id = ObjectId::from_hex(entry.commit.0.as_bytes());
                id.is_ok_and(|id| ledger.backend().header(&id).is_ok())
            };
            saved.extend(entries.into_iter().filter(there).map(|entry| (name, value, entry)));
        }
        let commits: Vec<&Oid> = saved.iter().map(|(_, _, entry)| &entry.commit).collect();
        // All of them at once, and one by one only if that finds anything.
        if self.tether.is_partial_clone() || self.tether.find_missing_below(&commits).is_empty() {
            return;
        }
        for (name, value, entry) in saved {
            if let Some(missing) = self.tether.find_missing_below(&[&entry.commit]).first() {
                let problem =
                    format!("the saved work {} lacks parts: object {missing} is missing or damaged", entry.id);
                self.note(name, value, Fault::of_file(FaultCode::IncompleteWork, "saved.json", problem), None);
            }
        }
    }
}

impl Tether {
    /// Objects that commits lead to, not counting what branches and tags have, and that are missing or damaged.
    fn find_missing_below(&self, commits: &[&Oid]) -> Vec<String> {
        if commits.is_empty() {
            return Vec::new();
        }
        let git = self.repository().git();
        let commits: Vec<String> = commits.iter().map(ToString::to_string).collect();
        let words = ["rev-list", "--objects", "--no-object-names", "--missing=print", "--stdin"];
        let words = words.iter().chain(&["--not", "--branches", "--tags", "--remotes"]);
        let listed = match git.run_with_input(words, (commits.join("\n") + "\n").as_bytes()) {
            Ok(listed) => listed.text(),
            // A damaged tree ends the walk; git names it.
            Err(error) => return vec![first_id_in(&error.to_string()).unwrap_or_else(|| "of a tree".to_owned())],
        };
        let (missing, there): (Vec<&str>, Vec<&str>) = listed.lines().partition(|line| line.starts_with('?'));
        let mut missing: Vec<String> = missing.iter().map(|line| line.trim_start_matches('?').to_owned()).collect();
        let checked =
            git.run_with_input(["cat-file", "--batch-check=%(objectname)"], (there.join("\n") + "\n").as_bytes());
        let checked = checked.map(|checked| checked.text()).unwrap_or_default();
        missing.extend(checked.lines().filter_map(|line| line.strip_suffix(" missing")).map(ToOwned::to_owned));
        missing
    }
}

fn first_id_in(text: &str) -> Option<String> {
    let words = text.split(|letter: char| !letter.is_ascii_hexdigit());
    words.into_iter().find(|word| word.len() >= 40).map(ToOwned::to_owned)
}

/// The saved work that the records of a run name which this machine made: the file of each record, and the snapshot.
pub(super) fn named_work(view: &RunView, here: &HostId) -> Vec<(String, Oid)> {
    let is_here = |host: Option<&HostId>| host.unwrap_or(&view.run.host) == here;
    let mut named = Vec::new();
    for checkpoint in view.checkpoints.values() {
        let environment = checkpoint.environment.as_ref().and_then(|id| view.environments.get(id));
        if let Some(work) = checkpoint.work.as_ref().filter(|_| is_here(environment.map(|known| &known.host))) {
            named.push((layout::checkpoint(&checkpoint.task), work.commit.clone()));
        }
    }
    for environment in view.environments.values().filter(|known| is_here(Some(&known.host))) {
        if let Some(work) = environment.cleanup.as_ref().and_then(|cleanup| cleanup.work.clone()) {
            named.push((layout::environment(&environment.id), work));
        }
    }
    named
}

/// The claim at a ref, if its name and its record agree.
pub(super) fn claim_at(tether: &Tether, name: &RefName) -> Option<Claim> {
    let kind = name.as_str().strip_prefix(RefPrefix::claims().as_str())?.split('/').next()?;
    let kind: ClaimKind = kind.parse().ok()?;
    tether.ledger().read_single_named::<Claim>(name).ok().flatten().filter(|claim| claim.kind == kind)
}

/// What is wrong with the name of a ref, whatever it holds.
fn name_problem(name: &RefName) -> Option<String> {
    let rest =
        name.as_str().strip_prefix("refs/tether/").or_else(|| name.as_str().strip_prefix("refs/tether-local/"))?;
    let parts: Vec<&str> = rest.split('/').collect();
    let no_id = |what: &str, id: &str| Some(format!("`{}` is not a valid {what} id", id.escape_debug()));
    match parts.as_slice() {
        ["runs" | "work", id] if !is_valid_id(id) => no_id("run", id),
        ["sessions", id] if SessionId::new(*id).is_err() => no_id("session", id),
        ["claims", kind, _] if kind.parse::<ClaimKind>().is_err() => {
            Some(format!("`{}` is no kind of claim", kind.escape_debug()))
        }
        ["runs" | "work" | "sessions" | "pools", _, _, ..] | ["claims", _] | ["claims", _, _, _, ..] => {
            Some("no record has a ref of this depth".to_owned())
        }
        _ => None,
    }
}
