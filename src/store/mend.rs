//! Writes that only a repair makes: a run counted again, a claim whose generation nobody has had, a history that begins anew.
//!
//! Must not know when they are called for. Invariant: a generation only grows.

use gix::ObjectId;

use super::chain::{self, Content};
use super::ledger::{Inner, Ledger, ReadError, WriteRecordError};
use super::names::{self, RefName, RefPrefix};
use super::runs::Need;
use super::transact::{self, Decision, Retry};
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::ids::{RunId, Token};
use crate::domain::run::{Run, RunStatus, TaskSummary};
use crate::domain::saved::SavedEntry;
use crate::domain::time::Timestamp;
use crate::domain::view::RunView;
use crate::record::{encode, layout, message};

type Never = std::convert::Infallible;

impl Ledger {
    /// Writes the counts of a run anew from its records, and the status that follows from them.
    pub fn count_again(&self, id: &RunId, at: Timestamp) -> Result<(), WriteRecordError<Never>> {
        let name = RefName::run(id.as_str()).map_err(ReadError::from)?;
        transact::transact(self.backend(), &name, Retry::default(), |tip| {
            let Some(tip) = tip else { return Ok(Decision::Leave(())) };
            let read = self.read_run_at(&name, tip, &Need::Everything).map_err(Inner::<Never>::Read)?;
            let run = counted(&read.view, at);
            if (Run { updated_at: read.view.run.updated_at, ..run.clone() }) == read.view.run {
                return Ok(Decision::Leave(()));
            }
            let bytes = encode(&run, read.written(layout::RUN)).map_err(Inner::Encode)?;
            let about = [("Run", Some(id.to_string()))];
            let text =
                message::record_changed(&format!("run {id}: counted again"), "run_counted", &about, self.author());
            Ok(Decision::Append(self.transition([(layout::RUN.to_owned(), Content::Bytes(bytes))], text, at), ()))
        })?;
        Ok(())
    }

    /// The highest generation that any of these commits gives the claim at `name`.
    pub fn highest_generation(&self, name: &RefName, objects: impl IntoIterator<Item = ObjectId>) -> u64 {
        let of = |id: ObjectId| {
            let is_commit = self.backend().header(&id).is_ok_and(|header| header.kind == gix::objs::Kind::Commit);
            let root = is_commit.then(|| self.root(name, id).ok()).flatten()?;
            Some(self.find_record::<Claim>(name, root, layout::CLAIM).ok()??.value.generation)
        };
        objects.into_iter().filter_map(of).max().unwrap_or_default()
    }

    /// Writes the state at `tip` as the beginning of a history, for a ref that the caller moves to it: what came before is lost.
    /// `kept` is what the chain holds as further parents.
    pub fn write_new_beginning(
        &self,
        name: &RefName,
        tip: ObjectId,
        kept: Vec<ObjectId>,
        at: Timestamp,
    ) -> Result<ObjectId, WriteRecordError<Never>> {
        let root = self.root(name, tip)?;
        let subject = format!("history begins anew: what came before {} is lost", tip.to_hex_with_len(12));
        let text = message::record_changed(&subject, "history_cut", &[], self.author());
        let mut transition = self.transition([], text, at);
        transition.extra_parents = kept;
        chain::write_beginning(self.backend(), name, root, &transition)
            .map_err(|error| WriteRecordError::Append(Box::new(error)))
    }

    /// Writes a list of saved work of all that can be read of the one at `tip` and of the last `good` one, for a ref that the caller moves
    /// to it: what was saved since a part of the list was lost stays. `None`: `good` has all of it.
    pub fn write_readable_work(
        &self,
        name: &RefName,
        tip: ObjectId,
        good: Option<ObjectId>,
        at: Timestamp,
    ) -> Result<Option<ObjectId>, WriteRecordError<Never>> {
        let known = good.map(|good| self.saved_work_at(name, good)).transpose()?.unwrap_or_default();
        let is_known = |entry: &SavedEntry| known.iter().any(|known| known.commit == entry.commit);
        let is_ours = |entry: &SavedEntry| RefName::work(&entry.run).is_ok_and(|keeper| keeper == *name);
        let (mut entries, _) = self.readable_saved_work(name, tip);
        entries.retain(|entry| !is_known(entry) && is_ours(entry) && self.has_saved(entry));
        if entries.is_empty() {
            return Ok(None);
        }
        entries.extend(known);
        entries.sort_by_key(|entry| entry.at);
        let text = message::record_changed("list of saved work put together again", "work_listed", &[], self.author());
        self.write_list(name, &entries, text, at).map(Some)
    }

    /// Writes a claim of which nothing could be read, given back and with a generation that nobody can have had, for a ref that the
    /// caller moves to it. `None`: its key cannot be told from the name of its ref.
    pub fn write_free_claim(
        &self,
        name: &RefName,
        known: u64,
        at: Timestamp,
    ) -> Result<Option<ObjectId>, WriteRecordError<Never>> {
        let Some((kind, encoded)) = claim_of(name) else { return Ok(None) };
        let Some(key) = names::decode(encoded).and_then(|key| String::from_utf8(key).ok()) else { return Ok(None) };
        // Nobody takes a claim once a second for as long as there are clocks.
        let generation = known.max(u64::try_from(at.seconds()).unwrap_or_default()).saturating_add(1);
        let claim = Claim {
            token: Token(format!("{kind}/{encoded}#{generation}")),
            kind,
            key,
            generation,
            session: None,
            host: None,
            acquired_at: at,
            expires_at: None,
            released_at: Some(at),
            remote_lease: false,
        };
        let bytes = encode(&claim, None).map_err(WriteRecordError::Encode)?;
        let subject = format!("claim {kind}/{}: lost, begun anew at generation {generation}", claim.key);
        let text = message::record_changed(&subject, "claim_restored", &[], self.author());
        let transition = self.transition([(layout::CLAIM.to_owned(), Content::Bytes(bytes))], text, at);
        let written = chain::write_root(self.backend(), name, &transition);
        written.map(Some).map_err(|error| WriteRecordError::Append(Box::new(error)))
    }

    /// Writes a commit on top of `good` with the claim that `raise` makes of it there, for a ref that the caller moves to it.
    pub fn write_raised_claim(
        &self,
        name: &RefName,
        good: ObjectId,
        raise: impl Fn(&Claim) -> Claim,
        at: Timestamp,
    ) -> Result<ObjectId, WriteRecordError<Never>> {
        let root = self.root(name, good)?;
        let stored = self.find_record::<Claim>(name, root, layout::CLAIM)?;
        let missing = || ReadError::Incomplete { name: name.clone(), path: layout::CLAIM.to_owned() };
        let stored = stored.ok_or_else(missing)?;
        let raised = raise(&stored.value);
        let bytes = encode(&raised, Some(&stored.written)).map_err(WriteRecordError::Encode)?;
        let subject = format!("claim {}/{}: restored at generation {}", raised.kind, raised.key, raised.generation);
        let text = message::record_changed(&subject, "claim_restored", &[], self.author());
        let transition = self.transition([(layout::CLAIM.to_owned(), Content::Bytes(bytes))], text, at);
        chain::write_on(self.backend(), name, good, &transition)
            .map_err(|error| WriteRecordError::Append(Box::new(error)))
    }
}

/// The kind of a claim and its key as it stands in the name of its ref.
fn claim_of(name: &RefName) -> Option<(ClaimKind, &str)> {
    let (kind, key) = name.as_str().strip_prefix(RefPrefix::claims().as_str())?.split_once('/')?;
    Some((kind.parse().ok()?, key))
}

fn counted(view: &RunView, at: Timestamp) -> Run {
    let mut summary = TaskSummary::default();
    for task in view.tasks.values() {
        summary.move_task(None, task.state);
    }
    let pending_gates = view.pending_gates().into_iter().map(|gate| gate.id.clone()).collect();
    let mut run = Run { task_summary: summary, pending_gates, updated_at: at, ..view.run.clone() };
    if run.fixed_by.is_none() && run.status != RunStatus::Paused {
        run.status = run.derived_status();
        run.completed_at = if run.status.is_terminal() { run.completed_at.or(Some(at)) } else { None };
    }
    run
}
