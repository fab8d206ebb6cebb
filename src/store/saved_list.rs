//! The list of saved work in a keeper's tree.
//!
//! Owns: `saved.json`, which holds the newest entries, and `saved/`, whose files hold the older ones and do not change. Must not know: refs,
//! snapshots. Invariant: what one more entry costs does not grow with the number of entries.

use std::collections::BTreeMap;

use gix::ObjectId;

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

    fn read_saved(&self, name: &RefName, root: ObjectId, path: &str) -> Result<Vec<SavedEntry>, ReadError> {
        let bytes = tree::read(self.backend(), root, path, LARGEST_LIST);
        let bytes = bytes.map_err(|source| ReadError::Tree { name: name.clone(), source })?;
        let bytes = bytes.ok_or_else(|| ReadError::Incomplete { name: name.clone(), path: path.to_owned() })?;
        decode_saved(&bytes).map_err(|source| ReadError::Record { name: name.clone(), path: path.to_owned(), source })
    }
}

/// The paths of the files with older entries, oldest first.
pub(super) fn older_files(backend: &dyn Backend, name: &RefName, root: ObjectId) -> Result<Vec<String>, ReadError> {
    let listed = tree::list(backend, root, OLDER).map_err(|source| ReadError::Tree { name: name.clone(), source })?;
    Ok(listed.into_keys().map(|file| format!("{OLDER}/{file}")).collect())
}

/// The files that change if `newest` are the newest entries; `older` counts the files with older ones.
pub(super) fn changed_files(
    mut newest: Vec<SavedEntry>,
    older: impl FnOnce() -> Result<usize, ReadError>,
) -> Result<BTreeMap<String, Content>, ReadError> {
    let mut files = BTreeMap::new();
    if newest.len() > MOST_NEWEST {
        let keep = newest.split_off((newest.len() - 1) / PIECE * PIECE - PIECE);
        let first = older()?;
        for (number, piece) in newest.chunks(PIECE).enumerate() {
            let path = format!("{OLDER}/{:08}.json", first + number);
            files.insert(path, Content::Bytes(encode_saved(piece)));
        }
        newest = keep;
    }
    files.insert(NEWEST.to_owned(), Content::Bytes(encode_saved(&newest)));
    Ok(files)
}
