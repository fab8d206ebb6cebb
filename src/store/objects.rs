//! Objects: the batch that a transition writes, and the reader of what is there.
//!
//! Owns: hashing and compressing new objects, looking old ones up. Must not know: refs, or what an object says.
//! Invariants: no object is left out of a batch because it seems to be there already (it may be about to be pruned, or be an empty file
//! after a power cut), and no content of unbounded size is held in memory.

use std::cell::RefCell;
use std::collections::HashSet;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use flate2::write::ZlibEncoder;
use gix::ObjectId;
use gix::hash::Kind;
use gix::objs::Find as _;

use super::deflate::{COMPRESSION, Deflater};
use super::pack::{HEADER, IndexEntry, Origin, PackDirectory, Temporary, entry_header, finish, object_hasher};
use super::reindex::{Haste, reindex};
use super::sharing::Sharing;
use super::values::{BoxedError, Object, ObjectHeader, ReadObjectError, WriteError};
use crate::git::Objects;

/// Content above this goes straight into the pack's file.
const LARGEST_IN_MEMORY: u64 = 1 << 20;

/// How long a streamed blob is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamLength {
    /// Exactly this many bytes.
    Known(u64),
    /// Not known: it is spooled to disk first.
    Unknown,
}

/// Objects that will be written together. Dropped without being written, it leaves nothing behind.
#[derive(Debug)]
pub struct Batch {
    format: Kind,
    directory: Option<PackDirectory>,
    entries: Vec<Entry>,
    known: HashSet<ObjectId>,
    body: Body,
    deflater: Deflater,
}

#[derive(Debug)]
struct Entry {
    index: IndexEntry,
    kind: gix::objs::Kind,
    size: u64,
}

#[derive(Debug)]
enum Body {
    Memory(Vec<u8>),
    File { pack: Temporary, end: u64 },
}

impl Batch {
    pub(super) fn for_packs(directory: PackDirectory) -> Self {
        Self { format: directory.format, directory: Some(directory), ..Self::in_memory(Kind::Sha1) }
    }

    pub(super) fn in_memory(format: Kind) -> Self {
        let body = Body::Memory(Vec::new());
        let deflater = Deflater::default();
        Self { format, directory: None, entries: Vec::new(), known: HashSet::new(), body, deflater }
    }

    /// The hash that names its objects.
    pub fn object_format(&self) -> Kind {
        self.format
    }

    /// Whether there is nothing to write.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds a small object; one that is in the batch already is not added again.
    pub fn add(&mut self, kind: gix::objs::Kind, content: &[u8]) -> Result<ObjectId, WriteError> {
        let size = content.len() as u64;
        let mut hasher = object_hasher(self.format, kind, size);
        hasher.update(content);
        let id = finish(hasher)?;
        if self.known.contains(&id) {
            return Ok(id);
        }
        let mut raw = entry_header(kind, size);
        let compressed = self.deflater.append(content, &mut raw);
        compressed.map_err(|error| WriteError::Encode(error.into()))?;
        let entry = IndexEntry { id, crc: crc32fast::hash(&raw), offset: self.end() };
        self.append(&raw)?;
        self.keep_entry(Entry { index: entry, kind, size });
        Ok(id)
    }

    /// Adds a blob of any size, without holding it in memory.
    pub fn add_blob_from(&mut self, source: &mut dyn Read, length: StreamLength) -> Result<ObjectId, WriteError> {
        match (length, self.directory.clone()) {
            (StreamLength::Known(size), Some(directory)) if size > LARGEST_IN_MEMORY => {
                self.stream_to_file(&directory, source, size)
            }
            (StreamLength::Unknown, Some(directory)) => {
                let mut spool = directory.temporary("spool")?;
                let size = copy(source, &mut spool.file, &spool.path)?;
                spool.file.seek(SeekFrom::Start(0)).map_err(WriteError::at("read", &spool.path))?;
                self.add_blob_from(&mut spool.file, StreamLength::Known(size))
            }
            (length, _) => self.add_small_blob(source, length),
        }
    }

    fn add_small_blob(&mut self, source: &mut dyn Read, length: StreamLength) -> Result<ObjectId, WriteError> {
        let mut content = Vec::new();
        match length {
            StreamLength::Unknown => {
                source.read_to_end(&mut content).map_err(WriteError::Source)?;
            }
            StreamLength::Known(promised) => {
                // One byte more tells that the source is longer than promised.
                let mut limited = source.take(promised.saturating_add(1));
                let found = limited.read_to_end(&mut content).map_err(WriteError::Source)? as u64;
                if found != promised {
                    return Err(WriteError::Size { promised, found });
                }
            }
        }
        self.add(gix::objs::Kind::Blob, &content)
    }

    fn stream_to_file(
        &mut self,
        directory: &PackDirectory,
        source: &mut dyn Read,
        size: u64,
    ) -> Result<ObjectId, WriteError> {
        self.move_to_file(directory)?;
        let format = self.format;
        let Body::File { pack, end } = &mut self.body else { return Err(WriteError::TooMuch) };
        let start = *end;
        let streamed = deflate_stream(format, source, size, pack);
        let (id, crc, written) = match streamed {
            Ok(streamed) if !self.known.contains(&streamed.0) => streamed,
            other => {
                let cut = pack.file.set_len(start).and_then(|()| pack.file.seek(SeekFrom::Start(start)));
                cut.map_err(WriteError::at("write", &pack.path))?;
                return other.map(|(id, ..)| id);
            }
        };
        *end = start + written;
        let index = IndexEntry { id, crc, offset: start };
        self.keep_entry(Entry { index, kind: gix::objs::Kind::Blob, size });
        Ok(id)
    }

    fn move_to_file(&mut self, directory: &PackDirectory) -> Result<(), WriteError> {
        if let Body::Memory(bytes) = &self.body {
            let mut pack = directory.temporary("pack")?;
            let room = [0; 12];
            let moved = pack.file.write_all(&room).and_then(|()| pack.file.write_all(bytes));
            moved.map_err(WriteError::at("write", &pack.path))?;
            let end = HEADER + bytes.len() as u64;
            self.body = Body::File { pack, end };
        }
        Ok(())
    }

    fn end(&self) -> u64 {
        match &self.body {
            Body::Memory(bytes) => HEADER + bytes.len() as u64,
            Body::File { end, .. } => *end,
        }
    }

    fn append(&mut self, raw: &[u8]) -> Result<(), WriteError> {
        match &mut self.body {
            Body::Memory(bytes) => bytes.extend_from_slice(raw),
            Body::File { pack, end } => {
                pack.file.write_all(raw).map_err(WriteError::at("write", &pack.path))?;
                *end += raw.len() as u64;
            }
        }
        Ok(())
    }

    fn keep_entry(&mut self, entry: Entry) {
        self.known.insert(entry.index.id);
        self.entries.push(entry);
    }

    pub(super) fn publish(self, directory: &PackDirectory) -> Result<(), WriteError> {
        if self.is_empty() {
            return Ok(());
        }
        let entries: Vec<_> = self.entries.iter().map(|entry| entry.index).collect();
        match self.body {
            Body::Memory(body) => directory.publish_bytes(&entries, &body)?,
            Body::File { pack, .. } => directory.publish_file(pack, &entries, Origin::Fresh)?,
        };
        Ok(())
    }

    /// Its objects, for a backend without packs; only a batch that is all in memory has them.
    pub(super) fn into_objects(self) -> Result<Vec<(ObjectId, Object)>, WriteError> {
        let Body::Memory(body) = &self.body else { return Err(WriteError::TooMuch) };
        let mut objects = Vec::with_capacity(self.entries.len());
        for Entry { index, kind, size } in &self.entries {
            let start = usize::try_from(index.offset - HEADER).map_err(|_| WriteError::TooMuch)?;
            let raw = &body[start + entry_header(*kind, *size).len()..];
            let mut data = Vec::new();
            flate2::read::ZlibDecoder::new(raw)
                .read_to_end(&mut data)
                .map_err(|error| WriteError::Encode(error.into()))?;
            objects.push((index.id, Object { kind: *kind, data }));
        }
        Ok(objects)
    }
}

fn copy(source: &mut dyn Read, sink: &mut dyn Write, path: &Path) -> Result<u64, WriteError> {
    let mut buffer = vec![0; 1 << 16];
    let mut total = 0;
    loop {
        let count = read_some(source, &mut buffer)?;
        if count == 0 {
            return Ok(total);
        }
        sink.write_all(&buffer[..count]).map_err(WriteError::at("write", path))?;
        total += count as u64;
    }
}

fn read_some(source: &mut dyn Read, buffer: &mut [u8]) -> Result<usize, WriteError> {
    loop {
        match source.read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other.map_err(WriteError::Source),
        }
    }
}

/// Writes a blob's entry at the end of the pack's file: its id, checksum and length there.
fn deflate_stream(
    format: Kind,
    source: &mut dyn Read,
    promised: u64,
    pack: &mut Temporary,
) -> Result<(ObjectId, u32, u64), WriteError> {
    let failed = |path: &PathBuf| WriteError::at("write", path.clone());
    let path = pack.path.clone();
    let mut hasher = object_hasher(format, gix::objs::Kind::Blob, promised);
    let mut sink = Measured { inner: io::BufWriter::new(&pack.file), crc: crc32fast::Hasher::new(), written: 0 };
    sink.write_all(&entry_header(gix::objs::Kind::Blob, promised)).map_err(failed(&path))?;
    let mut encoder = ZlibEncoder::new(sink, COMPRESSION);
    let mut buffer = vec![0; 1 << 16];
    let mut found = 0;
    loop {
        let count = read_some(source, &mut buffer)?;
        found += count as u64;
        if found > promised || (count == 0 && found < promised) {
            return Err(WriteError::Size { promised, found });
        }
        if count == 0 {
            break;
        }
        hasher.update(&buffer[..count]);
        encoder.write_all(&buffer[..count]).map_err(failed(&path))?;
    }
    let mut sink = encoder.finish().map_err(failed(&path))?;
    sink.flush().map_err(failed(&path))?;
    Ok((finish(hasher)?, sink.crc.finalize(), sink.written))
}

struct Measured<W> {
    inner: W,
    crc: crc32fast::Hasher,
    written: u64,
}

impl<W: Write> Write for Measured<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.inner.write(bytes)?;
        self.crc.update(&bytes[..count]);
        self.written += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

type Database = gix::odb::HandleArc;

/// The objects of a repository on disk.
pub(super) struct ObjectStore {
    directory: PathBuf,
    pub(super) packs: PackDirectory,
    known: Objects,
    database: RefCell<Database>,
}

impl ObjectStore {
    /// Those in `directory`, which are `known` already.
    pub(super) fn open(known: Objects, directory: PathBuf, format: Kind, sharing: Sharing) -> Self {
        let packs = PackDirectory { path: directory.join("pack"), format, sharing };
        let database = RefCell::new(known.open_exactly());
        Self { directory, packs, known, database }
    }

    pub(super) fn batch(&self) -> Batch {
        Batch::for_packs(self.packs.clone())
    }

    pub(super) fn header(&self, id: &gix::oid) -> Result<ObjectHeader, ReadObjectError> {
        let found = self.believed(id, |database| {
            let header = gix::odb::Header::try_header(database, id)?;
            Ok(header.map(|header| ObjectHeader { kind: header.kind(), size: header.size() }))
        });
        found?.ok_or_else(|| ReadObjectError::Missing { id: id.to_owned() })
    }

    pub(super) fn read(&self, id: &gix::oid, limit: u64) -> Result<Object, ReadObjectError> {
        let ObjectHeader { size, .. } = self.header(id)?;
        if size > limit {
            return Err(ReadObjectError::TooLarge { id: id.to_owned(), size, limit });
        }
        let found = self.believed(id, |database| {
            let mut data = Vec::new();
            let kind = database.try_find(id, &mut data)?.map(|found| found.kind);
            Ok(kind.map(|kind| Object { kind, data }))
        });
        found?.ok_or_else(|| ReadObjectError::Missing { id: id.to_owned() })
    }

    /// Neither "missing" nor an error is believed before a fresh look at the directory: packs come and go beside us.
    fn believed<T>(
        &self,
        id: &gix::oid,
        look: impl Fn(&Database) -> Result<Option<T>, BoxedError>,
    ) -> Result<Option<T>, ReadObjectError> {
        if let Ok(Some(found)) = look(&self.database.borrow()) {
            return Ok(Some(found));
        }
        if let Some(found) = self.look_afresh(id, &look)? {
            return Ok(Some(found));
        }
        let common = self.directory.parent().unwrap_or(&self.directory);
        match reindex(&self.packs, common, None, Haste::Missing) {
            Ok(1..) => self.look_afresh(id, &look),
            // Who may only read has to do with what there is.
            Ok(0) | Err(_) => Ok(None),
        }
    }

    fn look_afresh<T>(
        &self,
        id: &gix::oid,
        look: impl Fn(&Database) -> Result<Option<T>, BoxedError>,
    ) -> Result<Option<T>, ReadObjectError> {
        let damaged = |source| ReadObjectError::Damaged { id: id.to_owned(), source };
        let fresh = self.known.at(&self.directory).map_err(|error| damaged(error.into()))?.open_exactly();
        // All packs before any loose object: an empty file in its place (after a power cut) must not hide it.
        fresh.packed_object_count().map_err(|error| damaged(error.into()))?;
        let found = look(&fresh).map_err(damaged)?;
        self.database.replace(fresh);
        Ok(found)
    }
}
