//! Packs of ours that lost their index, and get it back.
//!
//! Owns: finding them, and making an index from a pack. Must not know: refs, or what the objects say.
//!
//! `git gc` lists the pack directory at its end, and removes every index whose pack it has not seen. It reads the directory while others
//! write to it: of a pack that is just being published it may see the index and not the pack, and then takes that index away for good,
//! and the `.keep` if it has seen that too. The pack itself stays. Invariant: what a pack of ours holds is never lost that way: whoever misses an object, and
//! whoever adds one, looks for such packs first.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::time::Duration;

use flate2::{Decompress, FlushDecompress, Status};
use gix::ObjectId;
use gix::hash::Kind;

use super::pack::{IndexEntry, KEEP, PackDirectory, finish, object_hasher, origin_of};
use super::upkeep::{FoldError, file_names, is_recent, take_lock};

/// A pack is without an index for less than this while it is being published.
const PUBLISHED_WITHIN: Duration = Duration::from_secs(1);
/// How often a fold that is at work is waited for, and how long each time.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(50);

/// Whether packs count that may be just about to get their index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Haste {
    /// They do: an object is missing.
    Missing,
    /// They do not: nobody misses anything yet.
    Upkeep,
}

/// Gives every pack of ours that has lost its index a new one; how many that were. `names` is what is in the pack directory, if that is known.
pub(super) fn reindex(
    packs: &PackDirectory,
    common: &Path,
    names: Option<&[String]>,
    haste: Haste,
) -> Result<usize, FoldError> {
    let found = match names {
        Some(names) => find_without_index(packs, names, haste),
        None => find_without_index(packs, &file_names(&packs.path)?, haste),
    };
    if found.is_empty() {
        return Ok(0);
    }
    // A fold takes the index of a pack first, and then the pack: that is not to be mended.
    let mut lock = take_lock(packs, common)?;
    for _ in 0..TRIES {
        if lock.is_none() {
            std::thread::sleep(PAUSE);
            lock = take_lock(packs, common)?;
        }
    }
    if lock.is_none() {
        return Ok(0);
    }
    mend(packs, &found, haste)
}

/// The same for who holds the lock of a fold already.
pub(super) fn reindex_locked(packs: &PackDirectory) -> Result<usize, FoldError> {
    mend(packs, &find_without_index(packs, &file_names(&packs.path)?, Haste::Upkeep), Haste::Upkeep)
}

fn find_without_index(packs: &PackDirectory, names: &[String], haste: Haste) -> Vec<PathBuf> {
    let indexed: HashSet<&str> = names.iter().filter_map(|name| name.strip_suffix(".idx")).collect();
    let stems = names.iter().filter_map(|name| name.strip_suffix(".pack"));
    let lost = stems.filter(|stem| origin_of(stem).is_some() && !indexed.contains(stem));
    let paths = lost.map(|stem| packs.path.join(format!("{stem}.pack")));
    paths.filter(|path| haste == Haste::Missing || !is_recent(path, PUBLISHED_WITHIN)).collect()
}

fn mend(packs: &PackDirectory, found: &[PathBuf], haste: Haste) -> Result<usize, FoldError> {
    let mut mended = 0;
    for pack in found {
        if !pack.exists() || pack.with_extension("idx").exists() {
            continue;
        }
        let keep = pack.with_extension("keep");
        let kept = match std::fs::read(&keep) {
            Ok(content) if content == KEEP => true,
            // It may have gone together with the index, or with what was let go of: only the former is missed by anybody.
            Err(error) if error.kind() == io::ErrorKind::NotFound && haste == Haste::Missing => false,
            _ => continue,
        };
        let (entries, checksum) = read_entries(pack, packs.format)?;
        if !kept {
            packs.write_keep(&keep)?;
        }
        packs.publish_index(&pack.with_extension("idx"), &entries, checksum)?;
        mended += 1;
    }
    Ok(mended)
}

/// What the index of a pack of ours says, read from the pack, and the checksum at the pack's end.
fn read_entries(path: &Path, format: Kind) -> Result<(Vec<IndexEntry>, ObjectId), FoldError> {
    let file = File::open(path).map_err(FoldError::at("open", path))?;
    let mut reader = Counted { inner: BufReader::with_capacity(1 << 16, file), at: 0, crc: crc32fast::Hasher::new() };
    let damaged = |what: &str| FoldError::Damaged { path: path.to_owned(), what: what.to_owned() };
    let mut header = [0; 12];
    reader.read_exact(&mut header).map_err(FoldError::at("read", path))?;
    let Some(count) = header.strip_prefix(b"PACK\0\0\0\x02") else {
        return Err(damaged("it does not begin as a pack"));
    };
    let count = u32::from_be_bytes([count[0], count[1], count[2], count[3]]);
    let mut entries = Vec::new();
    for _ in 0..count {
        let offset = reader.at;
        reader.crc = crc32fast::Hasher::new();
        let id = read_entry(&mut reader, format).map_err(FoldError::at("read", path))?;
        entries.push(IndexEntry { id, crc: reader.crc.clone().finalize(), offset });
    }
    let mut checksum = vec![0; format.len_in_bytes()];
    reader.read_exact(&mut checksum).map_err(FoldError::at("read", path))?;
    let checksum = ObjectId::try_from(checksum.as_slice()).map_err(|_| damaged("it has no checksum"))?;
    let end = std::fs::metadata(path).map_err(FoldError::at("read", path))?.len();
    if reader.at == end { Ok((entries, checksum)) } else { Err(damaged("it goes on after its last object")) }
}

fn read_entry(reader: &mut Counted, format: Kind) -> io::Result<ObjectId> {
    let invalid = |what: &str| io::Error::new(io::ErrorKind::InvalidData, what.to_owned());
    let mut byte = [0];
    reader.read_exact(&mut byte)?;
    let kind = match byte[0] >> 4 & 7 {
        1 => gix::objs::Kind::Commit,
        2 => gix::objs::Kind::Tree,
        3 => gix::objs::Kind::Blob,
        4 => gix::objs::Kind::Tag,
        _ => return Err(invalid("an entry is a delta, which we do not write")),
    };
    let mut size = u64::from(byte[0] & 0x0f);
    let mut shift = 4;
    while byte[0] & 0x80 != 0 {
        reader.read_exact(&mut byte)?;
        let part = u64::from(byte[0] & 0x7f);
        size |= part.checked_shl(shift).ok_or_else(|| invalid("an entry has no sensible size"))?;
        shift += 7;
    }
    let mut hasher = object_hasher(format, kind, size);
    let mut inflate = Decompress::new(true);
    let mut buffer = vec![0; 1 << 16];
    loop {
        let input = reader.inner.fill_buf()?;
        if input.is_empty() {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let (read_before, made_before) = (inflate.total_in(), inflate.total_out());
        let status = inflate.decompress(input, &mut buffer, FlushDecompress::None).map_err(io::Error::other)?;
        let (read, made) = (inflate.total_in() - read_before, inflate.total_out() - made_before);
        let read = usize::try_from(read).map_err(io::Error::other)?;
        hasher.update(&buffer[..usize::try_from(made).map_err(io::Error::other)?]);
        reader.consumed(read);
        match status {
            Status::StreamEnd => break,
            _ if read == 0 && made == 0 => return Err(invalid("an entry does not go on")),
            _ => {}
        }
    }
    if inflate.total_out() != size {
        return Err(invalid("an entry does not have its size"));
    }
    finish(hasher).map_err(io::Error::other)
}

/// A reader that knows where it is, and the checksum of what was read since somebody last asked.
struct Counted {
    inner: BufReader<File>,
    at: u64,
    crc: crc32fast::Hasher,
}

impl Counted {
    fn read_exact(&mut self, into: &mut [u8]) -> io::Result<()> {
        self.inner.read_exact(into)?;
        self.crc.update(into);
        self.at += into.len() as u64;
        Ok(())
    }

    fn consumed(&mut self, count: usize) {
        self.crc.update(&self.inner.buffer()[..count]);
        self.inner.consume(count);
        self.at += count as u64;
    }
}
