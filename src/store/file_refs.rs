//! Refs in files: `<common>/refs/…` and `packed-refs`, read and swapped in process.
//!
//! Owns: the protocol that git follows with these files. Must not know: what the refs' objects say.
//! Invariants: a ref's value is compared under its lock, with `packed-refs` read after the lock was taken (a `git pack-refs` beside us moves
//! values from file to file); a symbolic ref is never followed; a swap is on disk, names included, when it is reported.

use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::bstr::ByteSlice;
use gix::hash::Kind;

use super::known_directories::{KnownDirectories, Standing};
use super::locks::{HeldLock, LockError, Locks, StaleLock};
use super::names::{RefName, RefPrefix};
use super::pack::sync_directory;
use super::sharing::Sharing;
use super::values::{ClearedLock, Expected, New, ReadRefError, RefValue, SwapError};

/// `packed-refs` above this is mapped instead of read.
const MAPPED_ABOVE: u64 = 32 << 10;
/// A loose ref is one line; what is longer is none.
const LONGEST_REF: u64 = 4096;

/// Refs as files in a common directory.
#[derive(Debug, Clone)]
pub(super) struct FileRefs {
    common: PathBuf,
    format: Kind,
    locks: Locks,
    known: KnownDirectories,
}

impl FileRefs {
    pub(super) fn new(common: PathBuf, format: Kind, sharing: Sharing) -> Self {
        let known = KnownDirectories::below(&common, sharing);
        Self { locks: Locks::new(common.clone(), sharing), common, format, known }
    }

    fn path(&self, name: &RefName) -> PathBuf {
        self.common.join(name.as_str())
    }

    /// Loose, then packed, then loose again: a ref may move from one to the other between two looks.
    pub(super) fn read(&self, name: &RefName) -> Result<RefValue, ReadRefError> {
        if let Some(value) = self.read_loose(&self.path(name))? {
            return Ok(value);
        }
        if let Some(id) = self.find_packed(name)? {
            return Ok(RefValue::Id(id));
        }
        Ok(self.read_loose(&self.path(name))?.unwrap_or(RefValue::Absent))
    }

    fn read_loose(&self, path: &Path) -> Result<Option<RefValue>, ReadRefError> {
        // A pipe in the place of a ref must not hold us.
        let flags = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
        let open = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(path);
        let mut content = Vec::new();
        let read = open.and_then(|file| file.take(LONGEST_REF).read_to_end(&mut content));
        match read {
            Ok(_) => Ok(Some(self.parse(&content))),
            Err(error) if error.raw_os_error() == Some(rustix::io::Errno::LOOP.raw_os_error()) => {
                Ok(Some(RefValue::Symbolic(link_target(path))))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => Ok(None),
                _ => Err(ReadRefError::Io { path: path.to_owned(), source: error }),
            },
        }
    }

    fn parse(&self, content: &[u8]) -> RefValue {
        let line = content.trim_end();
        if let Some(target) = line.strip_prefix(b"ref:") {
            return RefValue::Symbolic(target.trim().to_str_lossy().into_owned());
        }
        match ObjectId::from_hex(line) {
            Ok(id) if id.kind() == self.format && !id.is_null() => RefValue::Id(id),
            _ => RefValue::Broken(line.to_str_lossy().into_owned()),
        }
    }

    /// `packed-refs` as it is now; `None` if there is none.
    fn packed(&self) -> Result<Option<gix::refs::packed::Buffer>, ReadRefError> {
        let path = self.common.join("packed-refs");
        match fs::metadata(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(source) => return Err(ReadRefError::Io { path, source }),
            Ok(_) => {}
        }
        let buffer = gix::refs::packed::Buffer::open(path.clone(), MAPPED_ABOVE, self.format);
        buffer.map(Some).map_err(|source| ReadRefError::Packed { path, source: source.into() })
    }

    fn find_packed(&self, name: &RefName) -> Result<Option<ObjectId>, ReadRefError> {
        let Some(buffer) = self.packed()? else { return Ok(None) };
        let found = buffer.try_find(name.as_str());
        let found = found.map_err(|source| self.packed_error(source.into()))?;
        Ok(found.map(|reference| reference.target()))
    }

    fn packed_error(&self, source: super::values::BoxedError) -> ReadRefError {
        ReadRefError::Packed { path: self.common.join("packed-refs"), source }
    }

    pub(super) fn list(&self, prefix: &RefPrefix) -> Result<Vec<(RefName, RefValue)>, ReadRefError> {
        // Loose before packed: a ref that is packed in between is seen at least once.
        let mut found = BTreeMap::new();
        self.list_loose(prefix, &mut found)?;
        if let Some(buffer) = self.packed()? {
            let iter = buffer.iter_prefixed(prefix.as_str().into());
            for reference in iter.map_err(|source| self.packed_error(source.into()))? {
                let reference = reference.map_err(|source| self.packed_error(source.into()))?;
                let name = reference.name.as_bstr().to_str().ok().and_then(|name| RefName::parse(name).ok());
                if let Some(name) = name {
                    found.entry(name).or_insert_with(|| RefValue::Id(reference.target()));
                }
            }
        }
        Ok(found.into_iter().collect())
    }

    fn list_loose(&self, prefix: &RefPrefix, found: &mut BTreeMap<RefName, RefValue>) -> Result<(), ReadRefError> {
        let root = self.common.join(prefix.as_str());
        for entry in walkdir::WalkDir::new(&root) {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) if error.io_error().is_some_and(|error| error.kind() == io::ErrorKind::NotFound) => continue,
                Err(error) => return Err(ReadRefError::Io { path: root, source: error.into() }),
            };
            if entry.file_type().is_dir() {
                continue;
            }
            // Locks and other files that no ref can be are left out by the name's own rules.
            let name = entry.path().strip_prefix(&self.common).ok().and_then(Path::to_str);
            let Some(name) = name.and_then(|name| RefName::parse(name).ok()) else { continue };
            match self.read_loose(entry.path()) {
                Ok(Some(value)) => drop(found.insert(name, value)),
                Ok(None) => {}
                // One file that cannot be read must not hide the others, nor count as absent.
                Err(error) => drop(found.insert(name, RefValue::Broken(unreadable(&error)))),
            }
        }
        Ok(())
    }

    /// Sets a ref that holds what is expected.
    pub(super) fn set(&self, name: &RefName, expected: Expected, id: ObjectId) -> Result<(), SwapError> {
        let mut lock = self.locks.take(name)?;
        let unreadable = |source| SwapError::Unreadable { name: name.clone(), source };
        let found = self.read(name).map_err(unreadable)?;
        if !is_expected(&found, expected) {
            return Err(SwapError::Lost { name: name.clone(), found });
        }
        if expected == Expected::Absent {
            self.refuse_conflict(name)?;
        }
        lock.write(format!("{id}\n").as_bytes()).map_err(SwapError::at("write the lock of", name))?;
        self.commit(name, &mut lock, id)
    }

    fn commit(&self, name: &RefName, lock: &mut HeldLock, id: ObjectId) -> Result<(), SwapError> {
        let path = self.path(name);
        if let Err(error) = lock.rename_to(&path) {
            // The rename may have happened all the same (over a network, say): what is there decides.
            if !matches!(self.read_loose(&path), Ok(Some(RefValue::Id(found))) if found == id) {
                return Err(SwapError::at("replace", name)(error));
            }
        }
        self.make_durable(name)
    }

    /// Makes the names on the way to a ref durable: any of the directories may be new, made by us or just before us.
    pub(super) fn make_durable(&self, name: &RefName) -> Result<(), SwapError> {
        let path = self.path(name);
        let mut directories = path.ancestors().skip(1).take_while(|parent| *parent != self.common);
        let not_durable = |source| SwapError::NotDurable { name: name.clone(), source };
        let Some(mut below) = directories.next() else { return Ok(()) };
        self.sync_names_in(below).map_err(not_durable)?;
        let known = self.known.read();
        let mut synced = Vec::new();
        for directory in directories {
            let standing = Standing::at(below);
            if !standing.as_ref().is_some_and(|standing| known.contains(standing)) {
                self.sync_names_in(directory).map_err(not_durable)?;
                synced.extend(standing);
            }
            below = directory;
        }
        self.known.add(&synced);
        Ok(())
    }

    fn sync_names_in(&self, directory: &Path) -> io::Result<()> {
        match sync_directory(directory) {
            // `git pack-refs` removes directories that have become empty; the value is in `packed-refs` then.
            Err(error) if error.kind() == io::ErrorKind::NotFound => self.sync_packed(),
            other => other,
        }
    }

    /// `packed-refs` with a ref of ours in it that nobody has made durable.
    pub(super) fn sync_packed(&self) -> io::Result<()> {
        match File::open(self.common.join("packed-refs")) {
            Ok(file) => file.sync_data()?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        sync_directory(&self.common)
    }

    /// Replaces what is no id, under the ref's lock: nobody else can have a use for such a value.
    pub(super) fn replace_unusable(&self, name: &RefName, expected: &RefValue, new: New) -> Result<(), SwapError> {
        let mut lock = self.locks.take(name)?;
        let found = self.read(name).map_err(|source| SwapError::Unreadable { name: name.clone(), source })?;
        if found != *expected || !matches!(found, RefValue::Symbolic(_) | RefValue::Broken(_)) {
            return Err(SwapError::Lost { name: name.clone(), found });
        }
        match new {
            New::Id(id) => {
                lock.write(format!("{id}\n").as_bytes()).map_err(SwapError::at("write the lock of", name))?;
                self.commit(name, &mut lock, id)
            }
            New::Delete => {
                fs::remove_file(self.path(name)).map_err(SwapError::at("remove", name))?;
                self.make_durable(name)
            }
        }
    }

    fn refuse_conflict(&self, name: &RefName) -> Result<(), SwapError> {
        let conflict = |with: String| SwapError::NameConflict { name: name.clone(), with };
        match remove_empty_directories(&self.path(name)) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(conflict("refs below it".to_owned()));
            }
            Err(error) => return Err(SwapError::at("make room for", name)(error)),
        }
        let unreadable = |source| SwapError::Unreadable { name: name.clone(), source };
        let Some(buffer) = self.packed().map_err(unreadable)? else { return Ok(()) };
        let damaged = |source: gix::Error| unreadable(self.packed_error(source.into()));
        for (at, _) in name.as_str().match_indices('/').skip(2) {
            let parent = &name.as_str()[..at];
            if buffer.try_find(parent).map_err(damaged)?.is_some() {
                return Err(conflict(parent.to_owned()));
            }
        }
        let below = buffer.iter_prefixed(format!("{name}/").into()).map_err(damaged)?.next();
        if let Some(below) = below {
            return Err(conflict(below.map_err(damaged)?.name.as_bstr().to_string()));
        }
        Ok(())
    }
}

impl FileRefs {
    pub(super) fn sweep_marks(&self) -> Result<(), LockError> {
        self.locks.sweep_marks()
    }

    pub(super) fn find_stale_locks(&self) -> Result<Vec<StaleLock>, LockError> {
        self.locks.find_stale()
    }

    pub(super) fn clear_stale_lock(&self, lock: &StaleLock) -> Result<ClearedLock, LockError> {
        self.locks.clear(lock)
    }
}

pub(super) fn is_expected(found: &RefValue, expected: Expected) -> bool {
    match (found, expected) {
        (RefValue::Absent, Expected::Absent) => true,
        (RefValue::Id(found), Expected::Id(expected)) => *found == expected,
        _ => false,
    }
}

fn unreadable(error: &ReadRefError) -> String {
    match error {
        ReadRefError::Io { source, .. } => format!("unreadable: {source}"),
        other => other.to_string(),
    }
}

fn link_target(path: &Path) -> String {
    fs::read_link(path).map(|target| target.to_string_lossy().into_owned()).unwrap_or_default()
}

/// Git leaves directories behind where refs were deleted; empty ones do not stand in a new ref's way.
fn remove_empty_directories(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.is_dir() => {}
        _ => return Ok(()),
    }
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        if !entry.file_type()?.is_dir() {
            return Err(io::ErrorKind::DirectoryNotEmpty.into());
        }
        remove_empty_directories(&entry.path())?;
    }
    match fs::remove_dir(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}
