//! Letting go of objects that nothing names any more: packs of ours hold theirs from `git gc` for good, unless they are told not to.
//!
//! Owns: which packs lose their `.keep`, and how a pack is parted. Must not know: why the objects are not wanted any more.
//! Invariants: nothing is deleted here: what is let go of lies in a pack without a `.keep`, where git decides by its own rules whether
//! anything still needs it; an object that was not named stays kept at every moment.

use std::collections::{BTreeSet, HashSet};
use std::fs::{self, File};
use std::io::{self, BufWriter, Write as _};
use std::path::Path;
use std::time::Duration;

use gix::ObjectId;

use super::fold::{OldPack, copy_entries, in_multi_pack_index, index_of, kept_packs, remove_pack};
use super::pack::{HEADER, IndexEntry, Origin, PackDirectory, sync_directory};
use super::upkeep::{FoldError, git_collects_garbage, take_lock};
use super::values::WriteError;
use crate::git::{Git, GitError};

/// How often the lock of a fold is tried, and how long each pause is.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// What became of objects that were to be let go of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Released {
    /// The next `git gc` takes so many of them, unless something else needs them.
    Objects(usize),
    /// A fold or a garbage collection is at work: they stay until the next call.
    Busy,
}

/// Why objects were not let go of. All of them are where they were.
#[derive(Debug, thiserror::Error)]
pub enum ReleaseError {
    /// Git could not say what nothing names any more.
    #[error("could not find out what nothing names any more")]
    Reachability(#[source] GitError),
    /// A pack could not be parted.
    #[error("could not part a pack")]
    Pack(#[from] FoldError),
}

/// Tips whose objects could not be let go of at once: one line each, below `<common>/tether/`.
const PENDING: &str = "let-go";

/// Lets go of what `tip` reaches and no ref does, and of what earlier calls could not.
pub(super) fn release(
    packs: &PackDirectory,
    common: &Path,
    git: &Git,
    tip: Option<ObjectId>,
) -> Result<Released, ReleaseError> {
    let pending = common.join("tether").join(PENDING);
    let mut tips = read_pending(&pending);
    tips.extend(tip);
    if tips.is_empty() {
        return Ok(Released::Objects(0));
    }
    // Written down first: a kill in between leaves nothing that nobody knows of.
    write_pending(packs, &pending, &tips)?;
    let released = release_now(packs, common, git, &tips)?;
    if released != Released::Busy {
        fs::remove_file(&pending).map_err(FoldError::at("remove", &pending))?;
    }
    Ok(released)
}

fn read_pending(path: &Path) -> BTreeSet<ObjectId> {
    let text = fs::read(path).unwrap_or_default();
    text.split(|byte| *byte == b'\n').filter_map(|line| ObjectId::from_hex(line).ok()).collect()
}

fn write_pending(packs: &PackDirectory, path: &Path, tips: &BTreeSet<ObjectId>) -> Result<(), FoldError> {
    let directory = path.parent().unwrap_or(path);
    packs.sharing.create_directories(directory).map_err(FoldError::at("create", directory))?;
    let mut text = String::new();
    for tip in tips {
        text.push_str(&tip.to_string());
        text.push('\n');
    }
    fs::write(path, text).map_err(FoldError::at("write", path))
}

fn release_now(
    packs: &PackDirectory,
    common: &Path,
    git: &Git,
    tips: &BTreeSet<ObjectId>,
) -> Result<Released, ReleaseError> {
    let unwanted = find_unreachable(git, tips).map_err(ReleaseError::Reachability)?;
    if unwanted.is_empty() {
        return Ok(Released::Objects(0));
    }
    if git_collects_garbage(common) {
        return Ok(Released::Busy);
    }
    let Some(_lock) = wait_for_lock(packs, common)? else { return Ok(Released::Busy) };
    let indexed = in_multi_pack_index(&packs.path)?;
    let mut released = 0;
    for old in kept_packs(packs)? {
        let ids: Vec<ObjectId> = index_of(&old, packs.format)?.iter().map(|entry| entry.oid).collect();
        let found = ids.iter().filter(|id| unwanted.contains(*id)).count();
        released += found;
        // A pack that git has listed must stay as it is. Git listed it long after the refs that its objects were written for moved.
        let listed = indexed.as_ref().is_none_or(|indexed| indexed.contains(&old.index_name()));
        match found {
            0 => {}
            _ if found == ids.len() || listed => stop_keeping(&old)?,
            _ => part(packs, &old, &unwanted)?,
        }
    }
    sync_directory(&packs.path).map_err(FoldError::at("sync", &packs.path))?;
    Ok(Released::Objects(released))
}

fn wait_for_lock(packs: &PackDirectory, common: &Path) -> Result<Option<File>, FoldError> {
    for _ in 1..TRIES {
        if let Some(lock) = take_lock(packs, common)? {
            return Ok(Some(lock));
        }
        std::thread::sleep(PAUSE);
    }
    take_lock(packs, common)
}

/// All objects that one of `tips` reaches and no ref does. A tip that is gone reaches nothing.
fn find_unreachable(git: &Git, tips: &BTreeSet<ObjectId>) -> Result<HashSet<ObjectId>, GitError> {
    let tips: Vec<String> = tips.iter().map(ToString::to_string).collect();
    let mut arguments = vec!["rev-list", "--objects", "--no-object-names", "--missing=allow-any", "--ignore-missing"];
    arguments.extend(tips.iter().map(String::as_str));
    arguments.extend(["--not", "--all"]);
    let output = git.clone().with_variable("GIT_NO_LAZY_FETCH", "1").run(arguments)?;
    let lines = output.stdout.split(|byte| *byte == b'\n');
    Ok(lines.filter_map(|line| ObjectId::from_hex(line).ok()).collect())
}

/// The pack is git's to collect from now on.
fn stop_keeping(old: &OldPack) -> Result<(), FoldError> {
    let keep = old.file("keep");
    match fs::remove_file(&keep) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(FoldError::at("remove", keep)(error)),
        _ => Ok(()),
    }
}

/// Puts the unwanted objects of a pack into one that is not kept, the others into one that is.
fn part(packs: &PackDirectory, old: &OldPack, unwanted: &HashSet<ObjectId>) -> Result<(), FoldError> {
    write_part(packs, old, |id| !unwanted.contains(id))?;
    let let_go = write_part(packs, old, |id| unwanted.contains(id))?;
    remove_pack(old)?;
    stop_keeping(&let_go)
}

fn write_part(packs: &PackDirectory, old: &OldPack, goes: impl Fn(&ObjectId) -> bool) -> Result<OldPack, FoldError> {
    let pack = packs.temporary("pack")?;
    let mut sink = BufWriter::with_capacity(1 << 16, &pack.file);
    sink.write_all(&[0; 12]).map_err(WriteError::at("write", &pack.path))?;
    let mut entries = Vec::new();
    let mut end = HEADER;
    copy_entries(old, packs.format, |id, crc, raw| {
        if goes(&id) {
            sink.write_all(raw).map_err(WriteError::at("write", &pack.path))?;
            entries.push(IndexEntry { id, crc, offset: end });
            end += raw.len() as u64;
        }
        Ok(())
    })?;
    sink.flush().map_err(WriteError::at("write", &pack.path))?;
    drop(sink);
    Ok(OldPack::at(&packs.publish_file(pack, &entries, Origin::Folded)?))
}
