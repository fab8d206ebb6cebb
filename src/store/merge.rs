//! Chains whose histories parted: reading what each side holds, writing the commit that joins them.
//!
//! Owns which file of which side the joined tree takes. Must not know by which rules records were merged.
//! Invariants: two repositories that join the same two tips write the same tree; a file that one side alone changed is taken from
//! it byte for byte; nothing here moves a ref but [`Ledger::move_tip`], which names what it expects.

use std::collections::{BTreeMap, BTreeSet};

use super::backend::{Expected, New, RefValue, SwapError, WriteError};
use super::chain::{self, AppendError, Content};
use super::ledger::{Ledger, ReadError, WriteRecordError};
use super::names::{RefName, RefPrefix};
use super::runs::{Need, ReadRun};
use super::singles::Single;
use super::tree;
use crate::domain::time::Timestamp;
use crate::domain::view::RunView;
use crate::record::{InvalidRecord, Record, Written, encode, layout, merge_written, message};
use gix::ObjectId;
use gix::objs::Kind;

/// A run as one side has it.
#[derive(Debug, Clone)]
pub struct Side {
    /// Its tip.
    pub tip: ObjectId,
    /// All of its records.
    pub view: RunView,
    written: BTreeMap<String, Written>,
    files: BTreeMap<String, ObjectId>,
}

/// Where two sides come from, as one: what they have in common.
#[derive(Debug, Clone, Default)]
pub struct Common {
    /// The records; `None`: there is nothing in common.
    pub view: Option<RunView>,
    written: BTreeMap<String, Written>,
    files: BTreeMap<String, ObjectId>,
}

/// What a joining commit says.
#[derive(Debug, Clone)]
pub struct Joining<'a> {
    /// The run, or what else it is about, as the subject's first words.
    pub subject: String,
    /// Why.
    pub body: String,
    /// Trailer name and value.
    pub about: (&'static str, String),
    /// The event.
    pub event: &'static str,
    /// Other parents than the first.
    pub parents: &'a [ObjectId],
    /// When.
    pub at: Timestamp,
    /// What is to be done where nothing but the history would change.
    pub alike: Alike,
}

impl From<Side> for Common {
    fn from(side: Side) -> Self {
        Self { view: Some(side.view), written: side.written, files: side.files }
    }
}

impl Common {
    /// What several common ancestors, merged to `view`, have alike.
    #[must_use]
    pub fn with(mut self, other: Side, view: RunView) -> Self {
        self.files.retain(|path, id| other.files.get(path) == Some(id));
        self.written.extend(other.written);
        Self { view: Some(view), ..self }
    }
}

impl Ledger {
    /// All of a run at a commit; `name` ends in the id that its records hold.
    pub fn read_side(&self, name: &RefName, tip: ObjectId) -> Result<Side, ReadError> {
        let ReadRun { tip, view, written } = self.read_run_at(name, tip, &Need::Everything)?;
        let root = self.root(name, tip)?;
        let files = tree::walk(self.backend(), root);
        let files = files.map_err(|source| ReadError::Tree { name: name.clone(), source })?;
        Ok(Side { tip, view, written, files })
    }

    /// The refs below a prefix with what they hold.
    pub fn refs_below(&self, prefix: &RefPrefix) -> Result<BTreeMap<RefName, RefValue>, ReadError> {
        let failed = |source| ReadError::Ref { name: RefName::journal(), source };
        Ok(self.backend().list_refs(prefix).map_err(failed)?.into_iter().collect())
    }

    /// Writes the commit that joins `first` with `other` (the same as `first`: it only renames) to the records in `merged`.
    /// `None`: its tree would be that of `first`, and such a commit is not wanted.
    pub fn write_joined(
        &self,
        name: &RefName,
        (common, first, other): (&Common, &Side, &Side),
        merged: &RunView,
        joining: &Joining<'_>,
    ) -> Result<Option<ObjectId>, WriteRecordError<std::convert::Infallible>> {
        let records = Records { common, first, other, files: BTreeMap::new() };
        let records = records.encode(merged).map_err(WriteRecordError::Encode)?;
        let mut changes = BTreeMap::new();
        let paths: BTreeSet<&String> = first.files.keys().chain(other.files.keys()).chain(records.keys()).collect();
        for path in paths {
            let content = match records.get(path) {
                Some(content) => content.clone(),
                None => match file_of(common, first, other, merged, path) {
                    Some(id) => Content::Blob(id),
                    None => Content::Remove,
                },
            };
            let id = self.blob_of(&content).map_err(|error| WriteRecordError::Append(error.at(name).into()))?;
            if first.files.get(path) != id.as_ref() {
                changes.insert(path.clone(), content);
            }
        }
        if changes.is_empty() && joining.alike == Alike::Leave {
            return Ok(None);
        }
        self.write_joining(name, first.tip, changes, joining).map(Some)
    }

    /// The object that a content is or would be.
    fn blob_of(&self, content: &Content) -> Result<Option<ObjectId>, Unhashed> {
        match content {
            Content::Blob(id) | Content::Tree(id) => Ok(Some(*id)),
            Content::Remove => Ok(None),
            // A batch that is dropped has written nothing.
            Content::Bytes(bytes) => self.backend().batch().add(Kind::Blob, bytes).map(Some).map_err(Unhashed),
        }
    }

    fn write_joining(
        &self,
        name: &RefName,
        first: ObjectId,
        changes: BTreeMap<String, Content>,
        joining: &Joining<'_>,
    ) -> Result<ObjectId, WriteRecordError<std::convert::Infallible>> {
        let trailers = [
            ("Event", Some(joining.event.to_owned())),
            (joining.about.0, Some(joining.about.1.clone())),
            ("Actor", Some(self.author().actor.clone())),
            ("Host", Some(self.author().host.to_string())),
        ];
        let text = message::message(&joining.subject, &joining.body, &trailers);
        let mut transition = self.transition(changes, text, joining.at);
        transition.extra_parents = joining.parents.to_vec();
        chain::write_on(self.backend(), name, first, &transition)
            .map_err(|error| WriteRecordError::Append(error.into()))
    }

    /// Writes the commit that joins two histories of a record with a ref of its own; answers with its id.
    pub fn write_joined_single<T: Single>(
        &self,
        name: &RefName,
        first: ObjectId,
        record: &T,
        joining: &Joining<'_>,
    ) -> Result<ObjectId, WriteRecordError<std::convert::Infallible>> {
        let mut written: Option<Written> = None;
        for tip in std::iter::once(&first).chain(joining.parents) {
            let root = self.root(name, *tip)?;
            if let Some(stored) = self.find_record::<T>(name, root, T::FILE)? {
                written =
                    Some(written.map_or(stored.written.clone(), |known| merge_written(None, &known, &stored.written)));
            }
        }
        let bytes = encode(record, written.as_ref()).map_err(WriteRecordError::Encode)?;
        self.write_joining(name, first, BTreeMap::from([(T::FILE.to_owned(), Content::Bytes(bytes))]), joining)
    }

    /// A record with a ref of its own as it was at a commit.
    pub fn read_single_at_commit<T: Single>(&self, name: &RefName, tip: ObjectId) -> Result<T, ReadError> {
        let root = self.root(name, tip)?;
        let stored = self.find_record::<T>(name, root, T::FILE)?;
        let missing = || ReadError::Incomplete { name: name.clone(), path: T::FILE.to_owned() };
        stored.map(|stored| stored.value).ok_or_else(missing)
    }

    /// Moves a ref that holds `expected` to a commit; whether it did (`No`: somebody was faster).
    pub fn move_tip(
        &self,
        name: &RefName,
        expected: Option<ObjectId>,
        new: ObjectId,
    ) -> Result<Moved, WriteRecordError<std::convert::Infallible>> {
        let expected = expected.map_or(Expected::Absent, Expected::Id);
        match self.backend().swap(name, expected, New::Id(new)) {
            Ok(()) => Ok(Moved::Yes),
            Err(SwapError::Lost { found: RefValue::Absent | RefValue::Id(_), .. }) => Ok(Moved::No),
            Err(error) => Err(WriteRecordError::Append(AppendError::Swap(error).into())),
        }
    }
}

/// What is to be done where the joined tree is that of the first side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Alike {
    /// The histories are joined all the same.
    Join,
    /// Nothing is written.
    Leave,
}

struct Unhashed(WriteError);

impl Unhashed {
    fn at(self, name: &RefName) -> AppendError {
        AppendError::Write { name: name.clone(), source: self.0 }
    }
}

/// Whether a ref was moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Moved {
    /// It was.
    Yes,
    /// It held something else.
    No,
}

/// The side's blob that three-way merging takes, where that needs no look inside.
fn settled(base: Option<&ObjectId>, one: Option<&ObjectId>, other: Option<&ObjectId>) -> Result<Option<ObjectId>, ()> {
    match () {
        () if one == other || base == other => Ok(one.copied()),
        () if base == one => Ok(other.copied()),
        () => Err(()),
    }
}

/// A file that is no record: what changed; of two that did the one that the merged records name, else the one that is there,
/// else the later run's.
fn file_of(common: &Common, first: &Side, other: &Side, merged: &RunView, path: &str) -> Option<ObjectId> {
    let (one, two) = (first.files.get(path), other.files.get(path));
    settled(common.files.get(path), one, two).unwrap_or_else(|()| {
        let named = merged.checkpoints.values().filter_map(|checkpoint| checkpoint.resume_state.as_ref());
        let named = named
            .filter(|state| state.path == path)
            .find_map(|state| [one, two].into_iter().flatten().find(|id| id.to_string() == state.oid.0));
        let by_time = |side: &Side, id: Option<&ObjectId>| id.map(|id| (side.view.run.updated_at, *id));
        named.copied().or_else(|| by_time(first, one).max(by_time(other, two)).map(|(_, id)| id))
    })
}

/// The merged records as files.
struct Records<'a> {
    common: &'a Common,
    first: &'a Side,
    other: &'a Side,
    files: BTreeMap<String, Content>,
}

impl Records<'_> {
    fn encode(mut self, merged: &RunView) -> Result<BTreeMap<String, Content>, InvalidRecord> {
        let (first, other) = (&self.first.view, &self.other.view);
        self.put(layout::RUN.to_owned(), &merged.run, Some(&first.run), Some(&other.run))?;
        for (id, record) in &merged.tasks {
            self.put(layout::task(id), record, first.tasks.get(id), other.tasks.get(id))?;
        }
        for (id, record) in &merged.environments {
            self.put(layout::environment(id), record, first.environments.get(id), other.environments.get(id))?;
        }
        for (id, record) in &merged.checkpoints {
            self.put(layout::checkpoint(id), record, first.checkpoints.get(id), other.checkpoints.get(id))?;
        }
        for (id, record) in &merged.gates {
            self.put(layout::gate(id), record, first.gates.get(id), other.gates.get(id))?;
        }
        Ok(self.files)
    }

    fn put<T: Record + PartialEq>(
        &mut self,
        path: String,
        record: &T,
        first: Option<&T>,
        other: Option<&T>,
    ) -> Result<(), InvalidRecord> {
        let (one, two) = (self.first.files.get(&path), self.other.files.get(&path));
        if let Ok(Some(id)) = settled(self.common.files.get(&path), one, two) {
            let of_one = one == Some(&id) && first == Some(record);
            if of_one || two == Some(&id) && other == Some(record) {
                self.files.insert(path, Content::Blob(id));
                return Ok(());
            }
        }
        let written = match (self.first.written.get(&path), self.other.written.get(&path)) {
            (Some(one), Some(two)) => Some(merge_written(self.common.written.get(&path), one, two)),
            (one, two) => one.or(two).cloned(),
        };
        let bytes = encode(record, written.as_ref())?;
        self.files.insert(path, Content::Bytes(bytes));
        Ok(())
    }
}
