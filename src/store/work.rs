//! Saved work: for each run a chain of keepers, each naming one snapshot commit.
//!
//! Owns the list of what is saved and what keeps it from `git gc`. Must not know how a snapshot is made or put back.
//! Invariants: no snapshot is another's parent, so that dropping one never changes another's id; the list at a keeper names
//! exactly the snapshots that it keeps.

use super::backend::{Expected, New, RefValue};
use super::chain;
use super::ledger::{Inner, Ledger, ReadError, WriteRecordError};
use super::names::{RefName, RefPrefix};
use super::objects::Batch;
use super::release::{ReleaseError, Released};
use super::saved_list::{changed_files, next_number};
use super::transact::{self, Decision, Retry};
use crate::domain::ids::Oid;
pub use crate::domain::saved::SavedEntry;
use crate::domain::time::Timestamp;
use crate::record::message;
use gix::ObjectId;

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
    /// What is saved of a run, oldest first.
    pub fn saved_work(&self, run: &str) -> Result<Vec<SavedEntry>, ReadError> {
        let name = RefName::work(run)?;
        match self.tip(&name)? {
            Some(tip) => self.saved_work_at(&name, tip),
            None => Ok(Vec::new()),
        }
    }

    /// What can be read of the list of a run, oldest first, and why the rest of it cannot.
    pub fn readable_work(&self, run: &str) -> (Vec<SavedEntry>, Vec<ReadError>) {
        let found = RefName::work(run).map_err(ReadError::from).and_then(|name| Ok((self.tip(&name)?, name)));
        match found {
            Ok((Some(tip), name)) => self.readable_saved_work(&name, tip),
            Ok((None, _)) => (Vec::new(), Vec::new()),
            Err(error) => (Vec::new(), vec![error]),
        }
    }

    /// The newest saved work of a run that `is_meant` picks. A lost part of the list hides only what is older.
    pub fn find_saved_work(
        &self,
        run: &str,
        is_meant: impl Fn(&SavedEntry) -> bool,
    ) -> Result<Option<SavedEntry>, ReadError> {
        let name = RefName::work(run)?;
        let Some(tip) = self.tip(&name)? else { return Ok(None) };
        let root = self.root(&name, tip)?;
        match self.newest_saved_work(&name, root)?.into_iter().rfind(&is_meant) {
            Some(found) => Ok(Some(found)),
            None => Ok(self.older_saved_work(&name, root)?.into_iter().rfind(is_meant)),
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
        let root = tip.map(|tip| self.root(name, tip)).transpose().map_err(Inner::Read)?;
        let newest = root.map(|root| self.newest_saved_work(name, root)).transpose().map_err(Inner::Read)?;
        let mut newest = newest.unwrap_or_default();
        let in_newest = |commit: &Oid| newest.iter().any(|known| known.commit == *commit);
        let in_older = |commit: &Oid| {
            let older = root.map_or_else(|| Ok(Vec::new()), |root| self.older_saved_work(name, root));
            older.map(|older| older.iter().any(|known| known.commit == *commit)).map_err(Inner::Read)
        };
        // A snapshot that leans on another one was made just now: it is not among the older.
        if in_newest(&entry.commit) || (new.previous.is_none() && in_older(&entry.commit)?) {
            return Ok(Decision::Leave(Kept::Snapshot));
        }
        if let Some(previous) = new.previous
            && !in_newest(&previous.commit)
            && !in_older(&previous.commit)?
        {
            return Ok(Decision::Leave(Kept::Nothing));
        }
        newest.push(entry.clone());
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
        let next = || root.map_or(Ok(0), |root| next_number(self.backend(), name, root));
        let files = changed_files(newest, next).map_err(Inner::Read)?;
        let mut transition = self.transition(files, text, at);
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
            New::Id(self.write_list(name, kept, text, at)?)
        };
        self.backend()
            .swap(name, Expected::Id(tip), new)
            .map_err(|error| WriteRecordError::Append(Box::new(error.into())))
    }

    /// Writes a chain of one keeper that lists and keeps `entries`, for a ref that the caller moves to it.
    pub(super) fn write_list(
        &self,
        name: &RefName,
        entries: &[SavedEntry],
        text: String,
        at: Timestamp,
    ) -> Result<ObjectId, WriteRecordError<std::convert::Infallible>> {
        let mut transition = self.transition(changed_files(entries.to_vec(), || Ok(0))?, text, at);
        transition.extra_parents =
            entries.iter().filter_map(|entry| ObjectId::from_hex(entry.commit.0.as_bytes()).ok()).collect();
        chain::write_root(self.backend(), name, &transition).map_err(|error| WriteRecordError::Append(Box::new(error)))
    }
}
