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
use crate::store::{RefName, RefPrefix};

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
        if treatment == Treatment::Fix && !faults.is_empty() {
            diagnosis.warnings = self.repair(&mut faults);
            diagnosis.remaining = self.examine()?.1.len();
        }
        diagnosis.faults = faults;
        Ok(diagnosis)
    }

    /// How many refs there are, and what is wrong with them.
    fn examine(&self) -> Result<(usize, Vec<NamedFault>), Failure> {
        let mut refs = Vec::new();
        for prefix in RefPrefix::roots() {
            refs.extend(self.ledger().backend().list_refs(&prefix).map_err(|error| {
                let said = crate::app::failure::chain_of(&error);
                Failure::fatal("unreadable_refs", format!("could not list the refs below {}: {said}", prefix.as_str()))
            })?);
        }
        let mut examiner = Examiner { tether: self, shallow: self.shallow_commits(), lost: None, faults: Vec::new() };
        for (name, value) in &refs {
            examiner.look_at(name, value);
        }
        examiner.look_at_claims(&refs);
        examiner.look_at_work(&refs);
        Ok((refs.len(), examiner.faults))
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
    lost: Option<Vec<ObjectId>>,
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
            return ledger.fault_of_history(tip, &self.shallow).into_iter().collect();
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
        ledger.find_lost_state(name, ours.iter().copied())
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
