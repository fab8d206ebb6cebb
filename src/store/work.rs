//! Saved work: for each run a chain of keepers, each naming one snapshot commit.
//!
//! Owns the list of what is saved and what keeps it from `git gc`. Must not know how a snapshot is made or put back.
//! Invariants: no snapshot is another's parent, so that dropping one never changes another's id; the list at a keeper names
//! exactly the snapshots that it keeps.

use super::backend::{Expected, New, RefValue};
use super::chain::{self, Content};
use super::ledger::{Inner, Ledger, ReadError, WriteRecordError};
use super::names::{RefName, RefPrefix};
use super::objects::Batch;
use super::release::{ReleaseError, Released};
use super::transact::{self, Decision, Retry};
use super::tree;
use crate::domain::ids::Oid;
pub use crate::domain::saved::SavedEntry;
use crate::domain::time::Timestamp;
use crate::record::message;
use crate::record::saved::{decode_saved, encode_saved};
use gix::ObjectId;

/// The list of what a keeper's chain keeps.
const LIST: &str = "saved.json";
/// The most bytes of such a list.
const LARGEST_LIST: u64 = 64 << 20;

/// Whether a snapshot is kept now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    /// It is.
    Snapshot,
    /// It is not: what it leans on was dropped.
    Nothing,
}

impl Kept {
    /// Whether it is.
    pub fn is_kept(self) -> bool {
        self == Self::Snapshot
    }
}

/// A snapshot that is to be kept.
#[derive(Debug, Clone, Copy)]
pub struct NewWork<'a> {
    /// Its commit.
    pub snapshot: ObjectId,
    /// How it is listed.
    pub entry: &'a SavedEntry,
    /// The one whose objects it was made without.
    pub previous: Option<&'a SavedEntry>,
}

/// What was dropped.
#[derive(Debug, Default)]
pub struct Dropped {
    /// What is not kept any more.
    pub entries: Vec<SavedEntry>,
    /// Whether its objects are left to `git gc`; `None` if nothing was dropped.
    pub released: Option<Result<Released, ReleaseError>>,
}

/// The id under which people know a snapshot.
pub fn short_id(commit: &ObjectId) -> String {
    commit.to_hex_with_len(12).to_string()
}

impl Ledger {
    /// What a keeper lists, oldest first.
    pub(super) fn saved_work_at(&self, name: &RefName, tip: ObjectId) -> Result<Vec<SavedEntry>, ReadError> {
        let root = self.root(name, tip)?;
        let bytes = tree::read(self.backend(), root, LIST, LARGEST_LIST);
        let bytes = bytes.map_err(|source| ReadError::Tree { name: name.clone(), source })?;
        let bytes = bytes.ok_or_else(|| ReadError::Incomplete { name: name.clone(), path: LIST.to_owned() })?;
        decode_saved(&bytes).map_err(|source| ReadError::Record { name: name.clone(), path: LIST.to_owned(), source })
    }

    /// What is saved of a run, oldest first.
    pub fn saved_work(&self, run: &str) -> Result<Vec<SavedEntry>, ReadError> {
        let name = RefName::work(run)?;
        match self.tip(&name)? {
            Some(tip) => self.saved_work_at(&name, tip),
            None => Ok(Vec::new()),
        }
    }

    /// The names of the runs that have saved work.
    pub fn runs_with_saved_work(&self) -> Result<Vec<String>, ReadError> {
        let listed = self.backend().list_refs(&RefPrefix::work());
        let listed = listed.map_err(|source| ReadError::Ref { name: RefName::journal(), source })?;
        let name = |name: RefName| name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        // A ref that is torn holds work as well: who reads it learns what is wrong.
        let there = listed.into_iter().filter(|(_, value)| *value != RefValue::Absent);
        Ok(there.map(|(found, _)| name(found)).collect())
    }

    /// Keeps a snapshot whose objects are written already; one that is kept already stays as it is.
    pub fn keep_work(
        &self,
        snapshot: ObjectId,
        entry: &SavedEntry,
        at: Timestamp,
    ) -> Result<(), WriteRecordError<std::convert::Infallible>> {
        let new = NewWork { snapshot, entry, previous: None };
        self.keep_work_with(&mut None, &new, at).map(|_| ())
    }

    /// Writes the objects of a snapshot and keeps it. If it was made without what `previous` holds, it is kept only while that is.
    pub fn keep_work_with(
        &self,
        objects: &mut Option<Batch>,
        new: &NewWork<'_>,
        at: Timestamp,
    ) -> Result<Kept, WriteRecordError<std::convert::Infallible>> {
        let name = RefName::work(&new.entry.run).map_err(ReadError::from)?;
        let decide = |tip| self.decide_keeping(&name, new, at, tip);
        let done = transact::transact_with(self.backend(), &name, Retry::default(), objects, decide)?;
        Ok(done.outcome)
    }

    pub(super) fn decide_keeping<E: std::error::Error + 'static>(
        &self,
        name: &RefName,
        new: &NewWork<'_>,
        at: Timestamp,
        tip: Option<ObjectId>,
    ) -> Result<Decision<Kept>, Inner<E>> {
        let entry = new.entry;
        let mut entries = match tip {
            Some(tip) => self.saved_work_at(name, tip).map_err(Inner::Read)?,
            None => Vec::new(),
        };
        let is_kept = |commit: &Oid| entries.iter().any(|known| known.commit == *commit);
        if is_kept(&entry.commit) {
            return Ok(Decision::Leave(Kept::Snapshot));
        }
        if new.previous.is_some_and(|previous| !is_kept(&previous.commit)) {
            return Ok(Decision::Leave(Kept::Nothing));
        }
        entries.push(entry.clone());
        let what = entry.task.as_ref().map_or_else(|| entry.run.clone(), |task| format!("{}/{task}", entry.run));
        let text = message::record_changed(
            &format!("work of {what}: {} files saved", entry.files),
            "work_saved",
            &[
                ("Run", Some(entry.run.clone())),
                ("Task", entry.task.as_ref().map(ToString::to_string)),
                ("Environment", entry.environment.as_ref().map(ToString::to_string)),
            ],
            self.author(),
        );
        let mut transition = self.transition([(LIST.to_owned(), Content::Bytes(encode_saved(&entries)))], text, at);
        transition.extra_parents = vec![new.snapshot];
        Ok(Decision::Append(transition, Kept::Snapshot))
    }

    /// Stops keeping the snapshots that `goes` picks; the chain is written anew without them, and what only they held is left to
    /// `git gc`. Answers with what went.
    pub fn drop_work(
        &self,
        run: &str,
        at: Timestamp,
        goes: impl Fn(&SavedEntry) -> bool,
    ) -> Result<Dropped, WriteRecordError<std::convert::Infallible>> {
        let name = RefName::work(run).map_err(ReadError::from)?;
        for attempt in 1.. {
            let Some(tip) = self.tip(&name)? else { break };
            let (gone, kept): (Vec<_>, Vec<_>) = self.saved_work_at(&name, tip)?.into_iter().partition(&goes);
            if gone.is_empty() {
                break;
            }
            match self.rewrite_work(&name, tip, &kept, at) {
                Ok(()) => return Ok(Dropped { entries: gone, released: Some(self.backend().release(Some(tip))) }),
                Err(WriteRecordError::Append(error)) if error.is_lost_race() && attempt < 16 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(Dropped::default())
    }

    fn rewrite_work(
        &self,
        name: &RefName,
        tip: ObjectId,
        kept: &[SavedEntry],
        at: Timestamp,
    ) -> Result<(), WriteRecordError<std::convert::Infallible>> {
        let new = if kept.is_empty() {
            New::Delete
        } else {
            let text = message::record_changed("saved work dropped", "work_dropped", &[], self.author());
            let mut transition = self.transition([(LIST.to_owned(), Content::Bytes(encode_saved(kept)))], text, at);
            transition.extra_parents =
                kept.iter().filter_map(|entry| ObjectId::from_hex(entry.commit.0.as_bytes()).ok()).collect();
            New::Id(
                chain::write_root(self.backend(), name, &transition)
                    .map_err(|error| WriteRecordError::Append(Box::new(error)))?,
            )
        };
        self.backend()
            .swap(name, Expected::Id(tip), new)
            .map_err(|error| WriteRecordError::Append(Box::new(error.into())))
    }
}
