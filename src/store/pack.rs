//! Packs of ours: their format, and the order in which their files come into being.
//!
//! Owns: `objects/pack/pack-<ours>.{pack,idx,keep}`. Must not know: what the objects are, or which ref will name them.
//! Invariant: a pack appears only whole, on disk, and with a `.keep` of ours beside it, so that no `git gc` takes its objects before a ref
//! names them.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;
use gix::hash::{Hasher, Kind};

use super::sharing::Sharing;
use super::values::WriteError;

/// What a `.keep` of ours says; a pack whose `.keep` says anything else is never touched.
pub(super) const KEEP: &[u8] = b"git-tether\n";
/// `tether` in hexadecimal: packs of ours are known by name before anything is read.
const MARK: &str = "746574686572";
/// How the names of files begin that are not complete; what a killed process leaves is removed by a later fold.
pub(super) const TEMPORARY: &str = "tether-tmp-";
/// Bytes of a pack before its first entry.
pub(super) const HEADER: u64 = 12;

/// How a pack came into being.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Origin {
    /// One batch.
    Fresh,
    /// Several packs, folded.
    Folded,
}

/// Where an object is in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct IndexEntry {
    pub(super) id: ObjectId,
    pub(super) crc: u32,
    pub(super) offset: u64,
}

/// The directory that holds the packs of a repository.
#[derive(Debug, Clone)]
pub(super) struct PackDirectory {
    pub(super) path: PathBuf,
    pub(super) format: Kind,
    pub(super) sharing: Sharing,
}

/// A file that is removed again unless it gets its final name.
#[derive(Debug)]
pub(super) struct Temporary {
    pub(super) file: File,
    pub(super) path: PathBuf,
}

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename it is not there any more, which is what is wanted.
        let _ = fs::remove_file(&self.path);
    }
}

/// The origin of a pack of ours, read from the name of any of its files.
pub(super) fn origin_of(file_name: &str) -> Option<Origin> {
    match file_name.strip_prefix("pack-")?.strip_prefix(MARK)?.as_bytes().first()? {
        b'0' => Some(Origin::Fresh),
        b'1' => Some(Origin::Folded),
        _ => None,
    }
}

/// The first bytes of a pack.
pub(super) fn pack_header(objects: usize) -> Result<[u8; 12], WriteError> {
    let count = u32::try_from(objects).map_err(|_| WriteError::TooMuch)?;
    let mut header = *b"PACK\0\0\0\x02\0\0\0\0";
    header[8..].copy_from_slice(&count.to_be_bytes());
    Ok(header)
}

/// Type and size of an entry, as they stand before its compressed content.
pub(super) fn entry_header(kind: gix::objs::Kind, size: u64) -> Vec<u8> {
    let kind: u8 = match kind {
        gix::objs::Kind::Commit => 1,
        gix::objs::Kind::Tree => 2,
        gix::objs::Kind::Blob => 3,
        gix::objs::Kind::Tag => 4,
    };
    let mut header = Vec::with_capacity(10);
    let mut byte = kind << 4 | low_bits(size, 0x0f);
    let mut rest = size >> 4;
    while rest != 0 {
        header.push(byte | 0x80);
        byte = low_bits(rest, 0x7f);
        rest >>= 7;
    }
    header.push(byte);
    header
}

fn low_bits(value: u64, mask: u8) -> u8 {
    value.to_le_bytes()[0] & mask
}

pub(super) fn finish(hasher: Hasher) -> Result<ObjectId, WriteError> {
    hasher.try_finalize().map_err(|error| WriteError::Encode(error.into()))
}

/// A hasher for an object, with what stands before its content.
pub(super) fn object_hasher(format: Kind, kind: gix::objs::Kind, size: u64) -> Hasher {
    let mut hasher = gix::hash::hasher(format);
    hasher.update(&gix::objs::encode::loose_header(kind, size));
    hasher
}

impl PackDirectory {
    /// A new file beside the packs, under a name that no reader looks at.
    pub(super) fn temporary(&self, what: &str) -> Result<Temporary, WriteError> {
        // Not `tmp_…`: `git gc --prune=now` removes such files while they are being written.
        let path = self.path.join(format!("{TEMPORARY}{what}-{}-{:016x}", std::process::id(), fastrand::u64(..)));
        self.sharing.create_directories(&self.path).map_err(WriteError::at("create", &self.path))?;
        let open = OpenOptions::new().read(true).write(true).create_new(true).mode(0o444).open(&path);
        let file = open.map_err(WriteError::at("create", &path))?;
        let temporary = Temporary { file, path };
        // Held until the file is complete or its maker is dead: what tells the two apart. Without it, age has to.
        let _ = rustix::fs::flock(&temporary.file, rustix::fs::FlockOperation::NonBlockingLockExclusive);
        self.sharing.adjust_file(&temporary.file).map_err(WriteError::at("set the mode of", &temporary.path))?;
        Ok(temporary)
    }

    /// Writes a pack whose entries are `body`, all at once.
    pub(super) fn publish_bytes(&self, entries: &[IndexEntry], body: &[u8]) -> Result<PathBuf, WriteError> {
        let mut bytes = Vec::with_capacity(body.len() + 64);
        bytes.extend_from_slice(&pack_header(entries.len())?);
        bytes.extend_from_slice(body);
        let mut hasher = gix::hash::hasher(self.format);
        hasher.update(&bytes);
        let checksum = finish(hasher)?;
        bytes.extend_from_slice(checksum.as_slice());
        let mut pack = self.temporary("pack")?;
        pack.file.write_all(&bytes).map_err(WriteError::at("write", &pack.path))?;
        self.publish(&pack, checksum, entries, Origin::Fresh)
    }

    /// Completes a pack whose file holds room for the header, then the entries.
    pub(super) fn publish_file(
        &self,
        mut pack: Temporary,
        entries: &[IndexEntry],
        origin: Origin,
    ) -> Result<PathBuf, WriteError> {
        let header = pack_header(entries.len())?;
        let checksum = (|| {
            pack.file.seek(SeekFrom::Start(0))?;
            pack.file.write_all(&header)?;
            pack.file.seek(SeekFrom::Start(0))?;
            hash_to_end(&pack.file, self.format)
        })();
        let checksum = finish(checksum.map_err(WriteError::at("write", &pack.path))?)?;
        let append = pack.file.seek(SeekFrom::End(0)).and_then(|_| pack.file.write_all(checksum.as_slice()));
        append.map_err(WriteError::at("write", &pack.path))?;
        self.publish(&pack, checksum, entries, origin)
    }

    fn publish(
        &self,
        pack: &Temporary,
        checksum: ObjectId,
        entries: &[IndexEntry],
        origin: Origin,
    ) -> Result<PathBuf, WriteError> {
        pack.file.sync_data().map_err(WriteError::at("sync", &pack.path))?;
        let stem = self.new_name(origin);
        let named = |extension: &str| self.path.join(format!("{stem}.{extension}"));
        let published = self.name_pack(pack, &named).and_then(|()| {
            // Written only now: the longer the pack was there before its index, the less likely is a `git gc` that lists the directory
            // meanwhile, and has seen the index but not the pack, to take the index for garbage. See `reindex`.
            self.publish_index(&named("idx"), entries, checksum)
        });
        if published.is_err() {
            // Nobody can know of a pack without an index yet.
            let _ = fs::remove_file(named("pack"));
            let _ = fs::remove_file(named("keep"));
        }
        published?;
        if !named("idx").exists() {
            self.publish_index(&named("idx"), entries, checksum)?;
        }
        Ok(named("pack"))
    }

    fn name_pack(&self, pack: &Temporary, named: &dyn Fn(&str) -> PathBuf) -> Result<(), WriteError> {
        self.write_keep(&named("keep"))?;
        fs::rename(&pack.path, named("pack")).map_err(WriteError::at("create", named("pack")))
    }

    /// Writes the file that keeps a pack from `git gc`; it must not be there.
    pub(super) fn write_keep(&self, path: &Path) -> Result<(), WriteError> {
        let file = OpenOptions::new().write(true).create_new(true).open(path);
        let written = file.and_then(|mut file| file.write_all(KEEP).and_then(|()| self.sharing.adjust_file(&file)));
        written.map_err(WriteError::at("write", path))
    }

    /// Writes the index of a pack that is there, durably, and the pack's own name with it.
    pub(super) fn publish_index(
        &self,
        path: &Path,
        entries: &[IndexEntry],
        checksum: ObjectId,
    ) -> Result<(), WriteError> {
        let mut index = self.temporary("idx")?;
        let bytes = index_bytes(entries, checksum, self.format)?;
        index.file.write_all(&bytes).map_err(WriteError::at("write", &index.path))?;
        index.file.sync_data().map_err(WriteError::at("sync", &index.path))?;
        fs::rename(&index.path, path).map_err(WriteError::at("create", path))?;
        sync_directory(&self.path).map_err(WriteError::at("sync", &self.path))
    }

    /// Unique, and not the checksum that git takes: two processes that write the same objects get a pack each.
    fn new_name(&self, origin: Origin) -> String {
        let origin = match origin {
            Origin::Fresh => '0',
            Origin::Folded => '1',
        };
        let digits = self.format.len_in_hex() - MARK.len() - 1;
        let random: String = (0..digits).map(|_| char::from(b"0123456789abcdef"[fastrand::usize(..16)])).collect();
        format!("pack-{MARK}{origin}{random}")
    }
}

fn hash_to_end(file: &File, format: Kind) -> io::Result<Hasher> {
    let mut hasher = gix::hash::hasher(format);
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut buffer = vec![0; 1 << 16];
    loop {
        match reader.read(&mut buffer)? {
            0 => return Ok(hasher),
            count => hasher.update(&buffer[..count]),
        }
    }
}

/// Makes the names in a directory durable.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// An index of version 2.
fn index_bytes(entries: &[IndexEntry], pack_checksum: ObjectId, format: Kind) -> Result<Vec<u8>, WriteError> {
    let mut sorted = entries.to_vec();
    sorted.sort_unstable_by_key(|entry| entry.id);
    let mut bytes = b"\xfftOc\0\0\0\x02".to_vec();
    let mut counts = [0_u32; 256];
    for entry in &sorted {
        counts[usize::from(entry.id.first_byte())] += 1;
    }
    let mut total = 0;
    for count in counts {
        total += count;
        bytes.extend_from_slice(&total.to_be_bytes());
    }
    for entry in &sorted {
        bytes.extend_from_slice(entry.id.as_slice());
    }
    for entry in &sorted {
        bytes.extend_from_slice(&entry.crc.to_be_bytes());
    }
    let mut far = Vec::new();
    for entry in &sorted {
        let near = u32::try_from(entry.offset).ok().filter(|offset| offset & 0x8000_0000 == 0);
        let word = if let Some(offset) = near {
            offset
        } else {
            far.push(entry.offset);
            u32::try_from(far.len() - 1).map_err(|_| WriteError::TooMuch)? | 0x8000_0000
        };
        bytes.extend_from_slice(&word.to_be_bytes());
    }
    for offset in far {
        bytes.extend_from_slice(&offset.to_be_bytes());
    }
    bytes.extend_from_slice(pack_checksum.as_slice());
    let mut hasher = gix::hash::hasher(format);
    hasher.update(&bytes);
    bytes.extend_from_slice(finish(hasher)?.as_slice());
    Ok(bytes)
}
