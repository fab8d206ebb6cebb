//! Folding many small packs of ours into one.
//!
//! Owns: which packs are folded, and the order in which old ones go. Must not know: refs, or what objects say.
//! Invariants: an object of a pack of ours is in some pack of ours at every moment, on disk; a pack without a `.keep` of ours is not touched;
//! each object is copied a logarithmic number of times.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use gix::ObjectId;
use gix::hash::Kind;
use rustix::fs::FlockOperation;

use super::pack::{HEADER, IndexEntry, KEEP, Origin, PackDirectory, TEMPORARY, origin_of};
use super::reindex::{Haste, reindex, reindex_locked};
pub use super::upkeep::FoldError;
use super::upkeep::{file_names, git_collects_garbage, is_recent, take_lock};
use super::values::WriteError;

/// So many packs of one batch each set a fold off.
const MANY: usize = 8;
/// Packs above this are left as they are: copying them costs more than looking into them.
const LARGEST_FOLDED: u64 = 256 << 20;
/// A file of a pack without its fellows is left over from a killed process once it is this old.
const LEFT_OVER_AFTER: Duration = Duration::from_hours(24);

/// What a fold did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Folded {
    /// There was not enough to fold.
    Nothing,
    /// Another fold, or git's own garbage collection, is at work.
    Busy,
    /// Several packs became one.
    Packs {
        /// How many went.
        packs: usize,
        /// How many objects the new one has.
        objects: usize,
    },
}

/// A pack of ours that may go, its objects being elsewhere.
pub(super) struct OldPack {
    stem: PathBuf,
    size: u64,
}

impl OldPack {
    /// The pack that one of its files belongs to.
    pub(super) fn at(file: &Path) -> Self {
        Self { stem: file.with_extension(""), size: 0 }
    }

    /// The path of one of its files.
    pub(super) fn file(&self, extension: &str) -> PathBuf {
        self.stem.with_extension(extension)
    }

    /// The name of its index.
    pub(super) fn index_name(&self) -> String {
        self.file("idx").file_name().unwrap_or_default().to_string_lossy().into_owned()
    }
}

/// Folds if there is a reason to; `common` is the repository's common directory.
pub(super) fn fold(packs: &PackDirectory, common: &Path) -> Result<Folded, FoldError> {
    let names = file_names(&packs.path)?;
    reindex(packs, common, Some(&names), Haste::Upkeep)?;
    if count_fresh(&names) < MANY {
        return Ok(Folded::Nothing);
    }
    if git_collects_garbage(common) {
        return Ok(Folded::Busy);
    }
    let Some(_lock) = take_lock(packs, common)? else { return Ok(Folded::Busy) };
    reindex_locked(packs)?;
    remove_left_over(&packs.path)?;
    let chosen = choose(foldable(packs)?);
    if chosen.len() < 2 {
        return Ok(Folded::Nothing);
    }
    let objects = write_folded(packs, &chosen)?;
    // A garbage collection that has just begun has listed the kept packs and wants to find them again.
    if git_collects_garbage(common) {
        return Ok(Folded::Busy);
    }
    for old in &chosen {
        remove_pack(old)?;
    }
    Ok(Folded::Packs { packs: chosen.len(), objects })
}

fn has_extension(name: &str, extension: &str) -> bool {
    Path::new(name).extension().is_some_and(|found| found == extension)
}

fn count_fresh(names: &[String]) -> usize {
    names.iter().filter(|name| has_extension(name, "idx") && origin_of(name) == Some(Origin::Fresh)).count()
}

/// Every object in a pack of ours.
pub(super) fn list_written(packs: &PackDirectory) -> Result<Vec<ObjectId>, FoldError> {
    let mut objects = Vec::new();
    for name in file_names(&packs.path)? {
        if !has_extension(&name, "idx") || origin_of(&name).is_none() {
            continue;
        }
        let path = packs.path.join(&name);
        match gix::odb::pack::index::File::at(&path, packs.format) {
            Ok(index) => objects.extend(index.iter().map(|entry| entry.oid)),
            // It was folded away since it was listed: its objects are in another one of the list, or in a newer one.
            Err(_) if !path.exists() => {}
            Err(source) => return Err(FoldError::Index { path, source: source.into() }),
        }
    }
    objects.sort_unstable();
    objects.dedup();
    Ok(objects)
}

/// Unfinished packs that nobody writes any more.
pub(super) fn find_unfinished(packs: &PackDirectory) -> Result<Vec<PathBuf>, FoldError> {
    let names = file_names(&packs.path)?.into_iter().filter(|name| name.starts_with(TEMPORARY));
    Ok(names.map(|name| packs.path.join(name)).filter(|path| is_abandoned(path)).collect())
}

/// Whether an unfinished file's maker is gone: it holds a lock on the file for as long as it lives.
pub(super) fn is_abandoned(path: &Path) -> bool {
    // The moment between making a file and locking it is not to be mistaken for a death.
    if is_recent(path, Duration::from_millis(500)) && maker_of(path).is_some_and(runs_here) {
        return false;
    }
    // A lock that cannot be asked for says nothing.
    File::open(path).is_ok_and(|file| rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared).is_ok())
}

fn maker_of(path: &Path) -> Option<u32> {
    path.file_name()?.to_str()?.strip_prefix(TEMPORARY)?.split('-').nth(1)?.parse().ok()
}

fn runs_here(pid: u32) -> bool {
    let stat = fs::read_to_string(Path::new("/proc").join(pid.to_string()).join("stat"));
    // One that is dead and was not waited for writes nothing any more.
    stat.is_ok_and(|stat| !stat.rsplit(')').next().unwrap_or_default().trim_start().starts_with(['Z', 'X']))
}

/// Packs of ours that may be folded, smallest first.
fn foldable(packs: &PackDirectory) -> Result<Vec<OldPack>, FoldError> {
    let Some(indexed) = in_multi_pack_index(&packs.path)? else { return Ok(Vec::new()) };
    let mut found = kept_packs(packs)?;
    found.retain(|old| old.size <= LARGEST_FOLDED && !indexed.contains(&old.index_name()));
    Ok(found)
}

/// Every pack that we keep, smallest first.
pub(super) fn kept_packs(packs: &PackDirectory) -> Result<Vec<OldPack>, FoldError> {
    let mut found = Vec::new();
    for name in file_names(&packs.path)? {
        if !has_extension(&name, "idx") || origin_of(&name).is_none() {
            continue;
        }
        let old = OldPack::at(&packs.path.join(&name));
        let ours = fs::read(old.file("keep")).is_ok_and(|content| content == KEEP);
        if let (true, Ok(metadata)) = (ours, fs::metadata(old.file("pack"))) {
            found.push(OldPack { size: metadata.len(), ..old });
        }
    }
    found.sort_unstable_by(|a, b| (a.size, &a.stem).cmp(&(b.size, &b.stem)));
    Ok(found)
}

/// The packs that git has listed in an index over several; `None` if that cannot be known.
pub(super) fn in_multi_pack_index(directory: &Path) -> Result<Option<HashSet<String>>, FoldError> {
    if directory.join("multi-pack-index.d").exists() {
        return Ok(None);
    }
    let path = directory.join("multi-pack-index");
    if !path.exists() {
        return Ok(Some(HashSet::new()));
    }
    let index = gix::odb::pack::multi_index::File::at(&path, None);
    let index = index.map_err(|source| FoldError::Index { path, source: source.into() })?;
    Ok(Some(index.index_names().iter().map(|name| name.to_string_lossy().into_owned()).collect()))
}

/// All packs up to the largest one that is not more than twice what is smaller than it: what stays grows at least threefold from one to
/// the next, so there are few of them, and an object that is copied lands in a pack half as large again at least.
fn choose(mut packs: Vec<OldPack>) -> Vec<OldPack> {
    let mut before = 0;
    let mut last = 0;
    for (at, pack) in packs.iter().enumerate() {
        if pack.size <= 2 * before {
            last = at + 1;
        }
        before += pack.size;
    }
    packs.truncate(last);
    packs
}

fn write_folded(packs: &PackDirectory, chosen: &[OldPack]) -> Result<usize, FoldError> {
    let folded = packs.temporary("pack")?;
    let mut sink = BufWriter::with_capacity(1 << 16, &folded.file);
    sink.write_all(&[0; 12]).map_err(WriteError::at("write", &folded.path))?;
    let mut entries = Vec::new();
    let mut known = HashSet::new();
    let mut end = HEADER;
    for old in chosen {
        copy_entries(old, packs.format, |id, crc, raw| {
            if known.insert(id) {
                sink.write_all(raw).map_err(WriteError::at("write", &folded.path))?;
                entries.push(IndexEntry { id, crc, offset: end });
                end += raw.len() as u64;
            }
            Ok(())
        })?;
    }
    sink.flush().map_err(WriteError::at("write", &folded.path))?;
    drop(sink);
    packs.publish_file(folded, &entries, Origin::Folded)?;
    Ok(entries.len())
}

/// The index of a pack.
pub(super) fn index_of(old: &OldPack, format: Kind) -> Result<gix::odb::pack::index::File, FoldError> {
    let path = old.file("idx");
    let index = gix::odb::pack::index::File::at(&path, format);
    index.map_err(|source| FoldError::Index { path, source: source.into() })
}

/// Hands every entry of a pack on as it lies there, after checking it against the index.
pub(super) fn copy_entries(
    old: &OldPack,
    format: Kind,
    mut hand_on: impl FnMut(ObjectId, u32, &[u8]) -> Result<(), FoldError>,
) -> Result<(), FoldError> {
    let mut entries: Vec<_> = index_of(old, format)?.iter().collect();
    entries.sort_unstable_by_key(|entry| entry.pack_offset);

    let path = old.file("pack");
    let file = File::open(&path).map_err(FoldError::at("open", &path))?;
    let end = file.metadata().map_err(FoldError::at("read", &path))?.len().saturating_sub(format.len_in_bytes() as u64);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    reader.seek(SeekFrom::Start(HEADER)).map_err(FoldError::at("read", &path))?;
    let damaged = |what: &str| FoldError::Damaged { path: path.clone(), what: what.to_owned() };
    let mut raw = Vec::new();
    let mut at = HEADER;
    for (number, entry) in entries.iter().enumerate() {
        let next = entries.get(number + 1).map_or(end, |next| next.pack_offset);
        if entry.pack_offset != at || next <= at {
            return Err(damaged("its index names other places"));
        }
        raw.resize(usize::try_from(next - at).map_err(|_| damaged("an entry is too large"))?, 0);
        reader.read_exact(&mut raw).map_err(FoldError::at("read", &path))?;
        let crc = crc32fast::hash(&raw);
        if entry.crc32 != Some(crc) {
            return Err(damaged("an entry does not have the checksum that its index names"));
        }
        if !(1..=4).contains(&(raw[0] >> 4 & 7)) {
            return Err(damaged("an entry is a delta, which we do not write"));
        }
        hand_on(entry.oid, crc, &raw)?;
        at = next;
    }
    Ok(())
}

/// In git's own order: a reader that has the index open and misses the pack looks at the directory again.
pub(super) fn remove_pack(old: &OldPack) -> Result<(), FoldError> {
    for extension in ["idx", "pack", "rev", "keep"] {
        let path = old.file(extension);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(FoldError::at("remove", path)(error)),
            _ => {}
        }
    }
    Ok(())
}

/// What a process that was killed between two steps left: an unfinished file, a `.keep` of ours that no pack goes with. A pack without
/// an index is no such thing: it got its index back before.
fn remove_left_over(directory: &Path) -> Result<(), FoldError> {
    for name in file_names(directory)? {
        let path = directory.join(&name);
        if name.starts_with(TEMPORARY) && !is_recent(&path, LEFT_OVER_AFTER) {
            // Whoever else removes it first is welcome.
            let _ = fs::remove_file(&path);
            continue;
        }
        let alone = origin_of(&name).is_some()
            && has_extension(&name, "keep")
            && !["pack", "idx"].iter().any(|extension| path.with_extension(extension).exists());
        if alone && !is_recent(&path, LEFT_OVER_AFTER) && fs::read(&path).is_ok_and(|content| content == KEEP) {
            let _ = fs::remove_file(&path);
        }
    }
    Ok(())
}
