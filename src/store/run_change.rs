//! Changing a run: the caller's decision, what follows from it by the rules, and the commit for it.
//!
//! Owns: which files of a run's tree a transition writes, and that the saved work that it names is kept first. Must not know: how a run is
//! read, or why anybody changes it. Invariants: a transition writes `run.json` and the records that its events touch, nothing else, so that its cost does
//! not grow with the number of tasks; one that changes nothing writes nothing.

use std::collections::BTreeMap;

use gix::ObjectId;

use super::chain::Content;
use super::ledger::{Inner, Ledger, ReadError, WriteRecordError};
use super::names::RefName;
use super::objects::Batch;
use super::runs::{Committed, Need, Proposal, ReadRun, Refusal};
use super::transact::{self, Decision, Retry, TransactError, Transacted};
use super::work::{Kept, NewWork};
use crate::domain::event::RunEvent;
use crate::domain::ids::RunId;
use crate::domain::run::{NewRun, Run};
use crate::domain::time::Timestamp;
use crate::domain::transition::{RefusedTransition, apply};
use crate::domain::view::{Changes, RunView};
use crate::record::{Record, encode, layout, message};

/// A run as it is after a change, and what changed; `None`: nothing did.
type Changed = (RunView, Option<Changes>);

/// Which run is changed, how much of it is read, and when.
struct RunChange<'a> {
    name: RefName,
    id: &'a RunId,
    need: &'a Need,
    at: Timestamp,
}

impl Ledger {
    /// Starts a run.
    pub fn start_run<E: std::error::Error + 'static>(
        &self,
        new: &NewRun,
        at: Timestamp,
    ) -> Result<Committed, WriteRecordError<Refusal<E>>> {
        let name = RefName::run(new.id.as_str()).map_err(ReadError::from)?;
        let done = transact::transact(self.backend(), &name, Retry::default(), |tip| {
            if tip.is_some() {
                return Err(Inner::Refused(Refusal::RunExists(new.id.clone())));
            }
            let run = Run::start(new.clone(), at);
            let bytes = encode(&run, None).map_err(Inner::Encode)?;
            let text = message::run_started(&run.id, self.author());
            let transition = self.transition([(layout::RUN.to_owned(), Content::Bytes(bytes))], text, at);
            Ok(Decision::Append(transition, run))
        })?;
        let changes = Changes::none(done.outcome.clone());
        let Transacted { tip, outcome, attempts } = done;
        committed(Transacted { tip, outcome: (RunView::of_run(outcome), Some(changes)), attempts }, &name)
    }

    /// Reads a run, decides, writes what follows; decides again if somebody was faster. `decide` must have no effect of its own.
    pub fn change_run<E: std::error::Error + 'static>(
        &self,
        id: &RunId,
        need: &Need,
        at: Timestamp,
        decide: impl FnMut(&RunView) -> Result<Proposal, E>,
    ) -> Result<Committed, WriteRecordError<Refusal<E>>> {
        self.change_run_with(&mut None, id, need, at, decide)
    }

    /// The same; objects that the proposal's files name are written in the same pack, and not at all if it is refused.
    pub fn change_run_with<E: std::error::Error + 'static>(
        &self,
        objects: &mut Option<Batch>,
        id: &RunId,
        need: &Need,
        at: Timestamp,
        mut decide: impl FnMut(&RunView) -> Result<Proposal, E>,
    ) -> Result<Committed, WriteRecordError<Refusal<E>>> {
        let change = RunChange { name: RefName::run(id.as_str()).map_err(ReadError::from)?, id, need, at };
        let done = transact::transact_with(self.backend(), &change.name, Retry::default(), objects, |tip| {
            self.decide_change(&change, tip, &mut decide)
        })?;
        committed(done, &change.name)
    }

    /// Keeps a snapshot and changes the run that names it, in this order and with one pack for both. If what the snapshot was made without
    /// is kept no more, nothing is written: [`Refusal::PreviousDropped`], and the objects stay in `objects`.
    pub fn change_run_keeping<E: std::error::Error + 'static>(
        &self,
        objects: &mut Option<Batch>,
        work: &NewWork<'_>,
        id: &RunId,
        need: &Need,
        at: Timestamp,
        mut decide: impl FnMut(&RunView) -> Result<Proposal, E>,
    ) -> Result<Committed, WriteRecordError<Refusal<E>>> {
        let change = RunChange { name: RefName::run(id.as_str()).map_err(ReadError::from)?, id, need, at };
        let keeper = RefName::work(&work.entry.run).map_err(ReadError::from)?;
        let keep = |tip| match self.decide_keeping(&keeper, work, at, tip)? {
            Decision::Leave(Kept::Nothing) => Err(Inner::Refused(Refusal::PreviousDropped)),
            decision => Ok(decision),
        };
        let both = transact::transact_both(
            self.backend(),
            objects,
            (&keeper, keep),
            (&change.name, |tip| self.decide_change(&change, tip, &mut decide)),
        );
        match both {
            Err(TransactError::Append(error)) if error.is_lost_race() => {
                // Somebody was faster: one after the other, each as often as it takes.
                match self.keep_work_with(objects, work, at).map_err(WriteRecordError::never_refused)? {
                    Kept::Snapshot => self.change_run_with(objects, id, need, at, decide),
                    Kept::Nothing => Err(WriteRecordError::Refused(Refusal::PreviousDropped)),
                }
            }
            both => committed(both?, &change.name),
        }
    }

    fn decide_change<E: std::error::Error + 'static>(
        &self,
        change: &RunChange<'_>,
        tip: Option<ObjectId>,
        decide: &mut impl FnMut(&RunView) -> Result<Proposal, E>,
    ) -> Result<Decision<Changed>, Inner<Refusal<E>>> {
        let RunChange { name, id, need, at } = change;
        let tip = tip.ok_or_else(|| Inner::Refused(Refusal::NoSuchRun((*id).clone())))?;
        let read = self.read_run_at(name, tip, need).map_err(Inner::Read)?;
        let proposal = decide(&read.view).map_err(|error| Inner::Refused(Refusal::Decided(error)))?;
        let next = apply_all(&read.view, &proposal.events, *at)
            .map_err(|refused| Inner::Refused(Refusal::Transition(refused)))?;
        let Some((view, changes)) = next else {
            if proposal.files.is_empty() {
                return Ok(Decision::Leave((read.view, None)));
            }
            let text = message::message(
                &format!("run {id}: {}", proposal.files.keys().cloned().collect::<Vec<_>>().join(", ")),
                "",
                &message::trailers_of_files(id, self.author()),
            );
            let transition = self.transition(proposal.files, text, *at);
            let changes = Changes::none(read.view.run.clone());
            return Ok(Decision::Append(transition, (read.view, Some(changes))));
        };
        let text = message::run_changed(&read.view, &proposal.events, &changes, self.author());
        let mut files = files_of(&read, &changes).map_err(Inner::Encode)?;
        files.extend(self.report_of(&read, name, &changes));
        files.extend(proposal.files);
        Ok(Decision::Append(self.transition(files, text, *at), (view, Some(changes))))
    }

    /// A run that ends gets its report with it; one that is opened again has none any more.
    fn report_of(&self, read: &ReadRun, name: &RefName, changes: &Changes) -> Option<(String, Content)> {
        let (before, after) = (&read.view.run, &changes.run);
        let is_end = after.status.is_terminal();
        if before.status == after.status && before.completed_at == after.completed_at
            || !(is_end || before.status.is_terminal())
        {
            return None;
        }
        if !is_end {
            return Some((layout::REPORT.to_owned(), Content::Remove));
        }
        let mut whole = self.read_run_at(name, read.tip, &Need::Everything).ok()?.view;
        whole.absorb(changes.clone());
        Some((layout::REPORT.to_owned(), Content::Bytes(self.report(&whole)?)))
    }
}

fn committed<E: std::error::Error + 'static>(
    done: Transacted<Changed>,
    name: &RefName,
) -> Result<Committed, WriteRecordError<E>> {
    let found_nothing = || ReadError::Unusable { name: name.clone(), found: "nothing".to_owned() };
    let (view, changes) = done.outcome;
    Ok(Committed { tip: done.tip.ok_or_else(found_nothing)?, view, changes })
}

/// Applies events one after the other; `None` if nothing but times would change.
fn apply_all(
    before: &RunView,
    events: &[RunEvent],
    at: Timestamp,
) -> Result<Option<(RunView, Changes)>, RefusedTransition> {
    let mut view = before.clone();
    let mut all: Option<Changes> = None;
    for event in events {
        let changes = apply(&view, event, at)?;
        view.absorb(changes.clone());
        match &mut all {
            Some(all) => all.then(changes),
            None => all = Some(changes),
        }
    }
    let mut compared = view.run.clone();
    compared.updated_at = before.run.updated_at;
    Ok(all.filter(|all| compared != before.run || differs(before, all)).map(|all| (view, all)))
}

fn differs(before: &RunView, changes: &Changes) -> bool {
    !changes.tasks.is_empty()
        || !changes.environments.is_empty()
        || !changes.checkpoints.is_empty()
        || changes.gates.iter().any(|(id, gate)| before.gates.get(id) != Some(gate))
}

fn files_of(read: &ReadRun, changes: &Changes) -> Result<BTreeMap<String, Content>, crate::record::InvalidRecord> {
    fn put<T: Record>(
        files: &mut BTreeMap<String, Content>,
        read: &ReadRun,
        path: String,
        record: &T,
    ) -> Result<(), crate::record::InvalidRecord> {
        let bytes = encode(record, read.written.get(&path))?;
        files.insert(path, Content::Bytes(bytes));
        Ok(())
    }
    let mut files = BTreeMap::new();
    put(&mut files, read, layout::RUN.to_owned(), &changes.run)?;
    changes.tasks.values().try_for_each(|task| put(&mut files, read, layout::task(&task.id), task))?;
    changes.environments.values().try_for_each(|known| put(&mut files, read, layout::environment(&known.id), known))?;
    changes.checkpoints.values().try_for_each(|known| put(&mut files, read, layout::checkpoint(&known.task), known))?;
    changes.gates.values().try_for_each(|gate| put(&mut files, read, layout::gate(&gate.id), gate))?;
    Ok(files)
}
