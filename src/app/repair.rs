//! Repairs what a look at the namespace found: goes back to the last good state, and keeps what was there as evidence.
//!
//! Invariants: every ref is moved from the value that was judged; before it moves, what it held can be found elsewhere (under
//! `refs/tether-local/evidence/`, or in a file where no ref can hold it); no claim's generation is ever used again.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;

use crate::app::doctor::{NamedFault, Repair, claim_at, named_work};
use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::claim::Claim;
use crate::domain::ids::{Oid, RunId};
use crate::domain::saved::SavedKind;
use crate::store::backend::{Expected, New, RefValue, SwapError};
use crate::store::checkup::{FaultCode, GoodState};
use crate::store::journal::JournalLine;
use crate::store::names::encode;
use crate::store::runs::Need;
use crate::store::work::{SavedEntry, short_id};
use crate::store::{RefName, RefPrefix};
use crate::world::live::LockState;

impl Tether {
    /// Repairs each ref that has a fault, and notes at each fault what became of it. Answers with what a person should know.
    pub(super) fn repair(&self, faults: &mut [NamedFault]) -> Vec<String> {
        let mut by_ref: BTreeMap<RefName, Vec<&mut NamedFault>> = BTreeMap::new();
        for fault in faults.iter_mut() {
            by_ref.entry(fault.name.clone()).or_default().push(fault);
        }
        let mut lines = Vec::new();
        for (name, mut found) in by_ref {
            self.repair_ref(&name, &mut found);
            for fault in &found {
                if let Repair::Done(message) = &fault.repair {
                    lines.push(JournalLine {
                        step: format!("repair_{}", fault.fault.code.as_str()),
                        about: name.to_string(),
                        outcome: "done".to_owned(),
                        message: message.clone(),
                    });
                }
            }
        }
        if lines.is_empty() {
            return Vec::new();
        }
        match self.ledger().write_journal("doctor", &lines, self.now()) {
            Ok(()) => Vec::new(),
            Err(error) => vec![format!("the journal could not be written: {}", chain_of(&error))],
        }
    }

    fn repair_ref(&self, name: &RefName, found: &mut [&mut NamedFault]) {
        let codes: BTreeSet<FaultCode> = found.iter().map(|fault| fault.fault.code).collect();
        if codes.contains(&FaultCode::NewerSchema) {
            return note_all(found, &Repair::NotDone("a newer git-tether wrote it: update this one".to_owned()));
        }
        if let Some(first) = found.iter().find(|fault| fault.fault.code.is_undone_by_going_back()) {
            let (value, good) = (first.value.clone(), first.last_good.clone());
            let repaired = self.go_back(name, &value, good.as_ref(), &problems_of(found));
            return note_all(found, &as_repair(repaired));
        }
        for fault in found.iter_mut() {
            fault.repair = match fault.fault.code {
                FaultCode::WrongSummary => as_repair(self.count_again(name)),
                FaultCode::StaleClaim => as_repair(self.free_claim(name)),
                FaultCode::BrokenChain => as_repair(self.cut_history(name, &fault.value, &fault.fault.problem)),
                FaultCode::LostWork => as_repair(self.strike_lost_work(name, &fault.value, &fault.fault.problem)),
                FaultCode::IncompleteWork => Repair::NotDone(
                    "what is left of it stays: `git tether salvage show` it, then `git tether salvage drop` it"
                        .to_owned(),
                ),
                FaultCode::DanglingWork => as_repair(self.keep_named_work(name)),
                _ => Repair::NotDone("its state reads whole, and there is nothing to go back to".to_owned()),
            };
        }
    }

    /// Puts the last good state in the place of what is there now, which is kept as evidence.
    fn go_back(
        &self,
        name: &RefName,
        value: &RefValue,
        good: Option<&GoodState>,
        problems: &str,
    ) -> Result<String, Failure> {
        if good.is_none() {
            self.require_nobody_at_work(name)?;
        }
        let kept = self.keep_evidence(name, value, problems)?;
        let (new, done) = self.state_instead(name, value, good)?;
        let target = new.map_or(New::Delete, New::Id);
        let moved = match value {
            RefValue::Id(tip) => self.ledger().backend().swap(name, Expected::Id(*tip), target),
            unusable => self.ledger().backend().replace_unusable(name, unusable, target),
        };
        moved.map_err(|error| repair_failed(name, &error))?;
        Ok(format!("{done} is kept as {kept}"))
    }

    /// What the ref names from now on (`None`: it goes), and what is said of it, up to what was there.
    fn state_instead(
        &self,
        name: &RefName,
        value: &RefValue,
        good: Option<&GoodState>,
    ) -> Result<(Option<ObjectId>, String), Failure> {
        if let Some(together) = self.put_work_together(name, value, good)? {
            let done = "its list was put together from all that can be read of it; what was there";
            return Ok((Some(together), done.to_owned()));
        }
        if let Some(good) = good {
            let commit = good.commit.to_hex_with_len(12);
            let done = format!("went back to {commit} ({}); what was there", good.subject);
            return Ok((Some(self.state_to_go_back_to(name, good)?), done));
        }
        let free = self.state_of_the_lost(name)?;
        let done = match free {
            Some(_) => "it is given back, and no token of it is good any more; what was there",
            None => "it was taken away, and",
        };
        Ok((free, format!("no state of it reads whole: {done}")))
    }

    /// Going back over a part of the list that is lost would let go of the work that was saved since.
    fn put_work_together(
        &self,
        name: &RefName,
        value: &RefValue,
        good: Option<&GoodState>,
    ) -> Result<Option<ObjectId>, Failure> {
        match value {
            RefValue::Id(tip) if name.as_str().starts_with(RefPrefix::work().as_str()) => {
                Ok(self.ledger().write_readable_work(name, *tip, good.map(|good| good.commit), self.now())?)
            }
            _ => Ok(None),
        }
    }

    /// Refuses to take the record of a session away while somebody holds its lock: without one it would count as dead.
    fn require_nobody_at_work(&self, name: &RefName) -> Result<(), Failure> {
        let Some(session) = name.as_str().strip_prefix(RefPrefix::sessions().as_str()) else { return Ok(()) };
        match self.signs_of_life().probe(session) {
            Ok(LockState::Held) => {
                let what = format!("no state of it reads whole, and session {session} is at work: its lock is held");
                Err(Failure::held("live_owner", what).hint("wait until its command has ended"))
            }
            _ => Ok(()),
        }
    }

    /// A claim goes back with a generation that nobody has had; anything else goes back as it was.
    fn state_to_go_back_to(&self, name: &RefName, good: &GoodState) -> Result<ObjectId, Failure> {
        if !is_claim(name) {
            return Ok(good.commit);
        }
        let highest = self.highest_generation(name)?;
        let raise =
            |claim: &Claim| Claim { generation: highest.max(claim.generation).saturating_add(1), ..claim.clone() };
        Ok(self.ledger().write_raised_claim(name, good.commit, raise, self.now())?)
    }

    /// What takes the place of a ref of which no state reads whole: nothing, but for a claim, whose tokens must not come back.
    fn state_of_the_lost(&self, name: &RefName) -> Result<Option<ObjectId>, Failure> {
        if !is_claim(name) {
            return Ok(None);
        }
        let highest = self.highest_generation(name)?;
        Ok(self.ledger().write_free_claim(name, highest, self.now())?)
    }

    fn highest_generation(&self, name: &RefName) -> Result<u64, Failure> {
        let mut objects = self.ledger().backend().list_written().map_err(|error| repair_failed(name, &error))?;
        objects.extend(self.find_own_commits());
        Ok(self.ledger().highest_generation(name, objects))
    }

    /// Lets the history of a ref whose state reads whole begin with that state: git itself cannot pack what leads to nothing.
    fn cut_history(&self, name: &RefName, value: &RefValue, problem: &str) -> Result<String, Failure> {
        let RefValue::Id(tip) = value else { return Ok("it is gone".to_owned()) };
        if self.is_partial_clone() {
            return Err(Failure::fatal("partial_clone", "what is missing may be fetched: `git fetch --refetch`"));
        }
        let saved = match name.as_str().strip_prefix(RefPrefix::work().as_str()) {
            Some(run) => self.ledger().saved_work(run)?,
            None => Vec::new(),
        };
        let kept = saved.iter().filter_map(|entry| ObjectId::from_hex(entry.commit.0.as_bytes()).ok());
        let new = self.ledger().write_new_beginning(name, *tip, kept.collect(), self.now())?;
        let evidence = self.keep_evidence(name, value, problem)?;
        let moved = self.ledger().backend().swap(name, Expected::Id(*tip), New::Id(new));
        moved.map_err(|error| repair_failed(name, &error))?;
        Ok(format!("its state is whole, and its history begins with it now; what was there is kept as {evidence}"))
    }

    /// Takes snapshots that are gone off the list of saved work; going back would let go of what was saved after them.
    fn strike_lost_work(&self, name: &RefName, value: &RefValue, problem: &str) -> Result<String, Failure> {
        let run = run_of(name)?;
        let evidence = self.keep_evidence(name, value, problem)?;
        let is_gone = |entry: &SavedEntry| {
            let id = ObjectId::from_hex(entry.commit.0.as_bytes());
            id.map_or(true, |id| self.ledger().backend().header(&id).is_err())
        };
        let struck = self.ledger().drop_work(run.as_str(), self.now(), is_gone)?.entries;
        let ids: Vec<_> = struck.into_iter().map(|entry| entry.id).collect();
        let what = if ids.is_empty() { "nothing more".to_owned() } else { ids.join(", ") };
        Ok(format!("{what} was struck off the list, all else stays; what was there is kept as {evidence}"))
    }

    fn keep_evidence(&self, name: &RefName, value: &RefValue, problems: &str) -> Result<String, Failure> {
        if let RefValue::Id(tip) = value
            && self.is_complete(*tip)
        {
            let evidence = name.evidence(tip).map_err(|error| repair_failed(name, &error))?;
            return match self.ledger().backend().swap(&evidence, Expected::Absent, New::Id(*tip)) {
                Ok(()) => Ok(evidence.to_string()),
                Err(SwapError::Lost { found: RefValue::Id(there), .. }) if there == *tip => Ok(evidence.to_string()),
                Err(error) => Err(repair_failed(&evidence, &error)),
            };
        }
        let file = format!("{}.{:016x}", encode(name.as_str().as_bytes()), fastrand::u64(..));
        let path = self.repository().tether_dir().join("evidence").join(file);
        let held = match value {
            RefValue::Id(id) => id.to_string(),
            RefValue::Symbolic(target) => format!("ref: {target}"),
            RefValue::Broken(content) => content.clone(),
            RefValue::Absent => String::new(),
        };
        self.write_local(
            &path,
            format!("ref {name}\nat {}\nproblem {problems}\nheld {held}\n", self.now()).as_bytes(),
        )?;
        Ok(path.display().to_string())
    }

    /// Whether a ref to this object would leave git content: nothing that it leads to is missing.
    fn is_complete(&self, id: ObjectId) -> bool {
        let words = ["rev-list", "--objects", "--quiet"].map(str::to_owned);
        let rest = [id.to_string(), "--not".to_owned(), "--branches".to_owned(), "--tags".to_owned()];
        self.repository().git().run(words.into_iter().chain(rest)).is_ok()
    }

    fn count_again(&self, name: &RefName) -> Result<String, Failure> {
        let run = run_of(name)?;
        self.ledger().count_again(&run, self.now())?;
        Ok("its tasks and gates were counted again".to_owned())
    }

    fn free_claim(&self, name: &RefName) -> Result<String, Failure> {
        let Some(claim) = claim_at(self, name) else { return Ok("it is gone".to_owned()) };
        self.give_claim_back(claim.kind, &claim.key, |found| found.generation == claim.generation)?;
        Ok("it was given back".to_owned())
    }

    /// Keeps every snapshot that the records of a run name and that is still there.
    fn keep_named_work(&self, name: &RefName) -> Result<String, Failure> {
        let run = run_of(name)?;
        let view = self.read_run(&run, &Need::Everything)?.view;
        let mut kept = 0;
        for (path, commit) in named_work(&view, &self.host_id()) {
            let id = ObjectId::from_hex(commit.0.as_bytes()).ok().filter(|id| self.is_complete(*id));
            let Some(id) = id else {
                return Err(Failure::fatal(
                    "work_lost",
                    format!("the saved work {commit}, which {path} names, is lost"),
                ));
            };
            self.ledger().keep_work(id, &self.entry_of(&run, &view, &commit, id), self.now())?;
            kept += 1;
        }
        Ok(format!("{kept} snapshots that its records name are kept again"))
    }

    fn entry_of(&self, run: &RunId, view: &crate::domain::view::RunView, commit: &Oid, id: ObjectId) -> SavedEntry {
        let checkpoint =
            view.checkpoints.values().find(|known| known.work.as_ref().is_some_and(|work| work.commit == *commit));
        let cleaned = view
            .environments
            .values()
            .find(|known| known.cleanup.as_ref().is_some_and(|cleanup| cleanup.work.as_ref() == Some(commit)));
        let work = checkpoint.and_then(|checkpoint| checkpoint.work.as_ref());
        SavedEntry {
            id: short_id(&id),
            kind: SavedKind::Worktree,
            run: run.to_string(),
            task: checkpoint.map(|checkpoint| checkpoint.task.clone()),
            environment: checkpoint
                .and_then(|checkpoint| checkpoint.environment.clone())
                .or_else(|| cleaned.map(|environment| environment.id.clone())),
            commit: commit.clone(),
            base: work.and_then(|work| work.base.clone()),
            branch: work.and_then(|work| work.branch.clone()),
            files: work.map_or(0, |work| work.files),
            bytes: 0,
            reason: "kept again by doctor".to_owned(),
            at: self.now(),
        }
    }
}

fn is_claim(name: &RefName) -> bool {
    name.as_str().starts_with(RefPrefix::claims().as_str())
}

fn run_of(name: &RefName) -> Result<RunId, Failure> {
    Ok(RunId::new(name.as_str().rsplit('/').next().unwrap_or_default())?)
}

fn problems_of(found: &[&mut NamedFault]) -> String {
    let problems: Vec<_> = found.iter().map(|fault| fault.fault.problem.clone()).collect();
    problems.join("; ")
}

fn note_all(found: &mut [&mut NamedFault], repair: &Repair) {
    for fault in found {
        fault.repair = repair.clone();
    }
}

fn as_repair(done: Result<String, Failure>) -> Repair {
    match done {
        Ok(message) => Repair::Done(message),
        Err(failure) => Repair::NotDone(failure.message),
    }
}

fn repair_failed(name: &RefName, error: &dyn std::error::Error) -> Failure {
    Failure::fatal("repair_failed", format!("could not repair {name}: {}", chain_of(error)))
}
