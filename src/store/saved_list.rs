//! The list of saved work in a keeper's tree.
//!
//! Owns: `saved.json`, which holds the newest entries, and `saved/`, whose files hold the older ones and do not change. Must not know: refs,
//! snapshots. Invariant: what one more entry costs does not grow with the number of entries.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;
use gix::objs::Kind;

use super::backend::Backend;
use super::chain::Content;
use super::ledger::{Ledger, ReadError};
use super::names::RefName;
use super::tree;
use crate::domain::saved::SavedEntry;
use crate::record::saved::{decode_saved, encode_saved};

/// The file with the newest entries.
pub(super) const NEWEST: &str = "saved.json";
/// The directory with the older ones, in files that are named by number.
pub(super) const OLDER: &str = "saved";
/// The most bytes of one file: older versions kept all entries in one.
pub(super) const LARGEST_LIST: u64 = 64 << 20;
/// The newest file holds at most so many entries.
const MOST_NEWEST: usize = 32;
/// So many files that are lost are named.
const MOST_NAMED: usize = 16;
/// So many go from it to a file of their own at once.
const PIECE: usize = 16;

impl Ledger {
    /// What a keeper lists, oldest first.
    pub(super) fn saved_work_at(&self, name: &RefName, tip: ObjectId) -> Result<Vec<SavedEntry>, ReadError> {
        let root = self.root(name, tip)?;
        let mut entries = self.older_saved_work(name, root)?;
        entries.extend(self.newest_saved_work(name, root)?);
        Ok(entries)
    }

    /// The newest of it, oldest first; at least one.
    pub(super) fn newest_saved_work(&self, name: &RefName, root: ObjectId) -> Result<Vec<SavedEntry>, ReadError> {
        self.read_saved(name, root, NEWEST)
    }

    /// All but the newest.
    pub(super) fn older_saved_work(&self, name: &RefName, root: ObjectId) -> Result<Vec<SavedEntry>, ReadError> {
        let mut entries = Vec::new();
        for file in older_files(self.backend(), name, root)? {
            entries.extend(self.read_saved(name, root, &file)?);
        }
        Ok(entries)
    }

    /// What of a keeper's list can be read, oldest first, and why the rest cannot.
    pub(super) fn readable_saved_work(&self, name: &RefName, tip: ObjectId) -> (Vec<SavedEntry>, Vec<ReadError>) {
        let (mut entries, mut errors) = (Vec::new(), Vec::new());
        let older = self.root(name, tip).and_then(|root| Ok((root, older_files(self.backend(), name, root)?)));
        match older {
            Ok((root, older)) => {
                for file in older.iter().map(String::as_str).chain([NEWEST]) {
                    match self.read_saved(name, root, file) {
                        Ok(read) => entries.extend(read),
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
        (entries, errors)
    }

    /// Whether the commit that an entry lists is in the repository.
    pub(super) fn has_saved(&self, entry: &SavedEntry) -> bool {
        let header = ObjectId::from_hex(entry.commit.0.as_bytes()).ok().map(|id| self.backend().header(&id));
        matches!(header, Some(Ok(header)) if header.kind == Kind::Commit)
    }

    fn read_saved(&self, name: &RefName, root: ObjectId, path: &str) -> Result<Vec<SavedEntry>, ReadError> {
        let bytes = tree::read(self.backend(), root, path, LARGEST_LIST);
        let bytes = bytes.map_err(|source| ReadError::Tree { name: name.clone(), source })?;
        let bytes = bytes.ok_or_else(|| ReadError::Incomplete { name: name.clone(), path: path.to_owned() })?;
        decode_saved(&bytes).map_err(|source| ReadError::Record { name: name.clone(), path: path.to_owned(), source })
    }
}

/// The paths of the files with older entries, oldest first.
pub(super) fn older_files(backend: &dyn Backend, name: &RefName, root: ObjectId) -> Result<Vec<String>, ReadError> {
    Ok(older_numbers(backend, name, root)?.into_iter().map(older_file).collect())
}

/// The paths of such files that must have been there before the last one.
pub(super) fn lost_files(backend: &dyn Backend, name: &RefName, root: ObjectId) -> Result<Vec<String>, ReadError> {
    let numbers = older_numbers(backend, name, root)?;
    let last = numbers.last().copied().unwrap_or_default();
    Ok((0..last).filter(|number| !numbers.contains(number)).take(MOST_NAMED).map(older_file).collect())
}

/// The number of the next such file: one is never written over, even if another one before it is gone.
pub(super) fn next_number(backend: &dyn Backend, name: &RefName, root: ObjectId) -> Result<u64, ReadError> {
    Ok(older_numbers(backend, name, root)?.last().map_or(0, |last| last.saturating_add(1)))
}

fn older_numbers(backend: &dyn Backend, name: &RefName, root: ObjectId) -> Result<BTreeSet<u64>, ReadError> {
    let listed = tree::list(backend, root, OLDER).map_err(|source| ReadError::Tree { name: name.clone(), source })?;
    let number = |file: &String| file.strip_suffix(".json")?.parse().ok().filter(|&number| file_of(number) == *file);
    Ok(listed.keys().filter_map(number).collect())
}

fn older_file(number: u64) -> String {
    format!("{OLDER}/{}", file_of(number))
}

fn file_of(number: u64) -> String {
    format!("{number:08}.json")
}

/// The files that change if `newest` are the newest entries; older ones go to a file with the number `next`, or several.
pub(super) fn changed_files(
    mut newest: Vec<SavedEntry>,
    next: impl FnOnce() -> Result<u64, ReadError>,
) -> Result<BTreeMap<String, Content>, ReadError> {
    let mut files = BTreeMap::new();
    if newest.len() > MOST_NEWEST {
        // All whole pieces go but the last: one piece stays, and what has begun after it.
        let keep = newest.split_off((newest.len() - 1) / PIECE * PIECE - PIECE);
        for (number, piece) in (next()?..).zip(newest.chunks(PIECE)) {
            files.insert(older_file(number), Content::Bytes(encode_saved(piece)));
        }
        newest = keep;
    }
    files.insert(NEWEST.to_owned(), Content::Bytes(encode_saved(&newest)));
    Ok(files)
}
