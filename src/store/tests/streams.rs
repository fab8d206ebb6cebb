//! Large blobs: streamed, whole, and never held in memory.

use std::io::{self, Read};

use gix::objs::Kind;

use super::{Fixture, run, transition};
use crate::store::backend::{Expected, WriteError};
use crate::store::chain::{self, Content};
use crate::store::objects::StreamLength;

/// Bytes that do not compress, the same each time.
struct Noise {
    left: u64,
    state: u64,
}

impl Noise {
    fn of(size: u64) -> Self {
        Self { left: size, state: 0x9e37_79b9_7f4a_7c15 }
    }
}

impl Read for Noise {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = buffer.len().min(usize::try_from(self.left).unwrap());
        for byte in &mut buffer[..count] {
            self.state ^= self.state << 13;
            self.state ^= self.state >> 7;
            self.state ^= self.state << 17;
            *byte = self.state.to_le_bytes()[0];
        }
        self.left -= count as u64;
        Ok(count)
    }
}

fn temporaries(fixture: &Fixture) -> usize {
    let entries = std::fs::read_dir(fixture.git_dir().join("objects/pack")).unwrap();
    entries.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("tmp")).count()
}

#[test]
fn streams_of_known_and_unknown_length_are_stored() {
    for init in [&[][..], &["--object-format=sha256"][..]] {
        let fixture = Fixture::new(init);
        let backend = fixture.open();
        let size = 5 << 20;
        let mut batch = backend.batch();
        let before = batch.add(Kind::Blob, b"before").unwrap();
        let known = batch.add_blob_from(&mut Noise::of(size), StreamLength::Known(size)).unwrap();
        let between = batch.add(Kind::Blob, b"between").unwrap();
        let again = batch.add_blob_from(&mut Noise::of(size), StreamLength::Unknown).unwrap();
        assert_eq!(known, again, "the same content is there once");
        let other = batch.add_blob_from(&mut Noise::of(size + 1), StreamLength::Unknown).unwrap();
        let small = batch.add_blob_from(&mut Noise::of(9), StreamLength::Known(9)).unwrap();
        backend.write(batch).unwrap();
        assert_eq!(temporaries(&fixture), 0);

        let mut paths = transition("payload", &[]);
        for (path, id) in [("a", before), ("b", known), ("c", between), ("d", other), ("e", small)] {
            paths.changes.insert(format!("payload/t/{path}"), Content::Blob(id));
        }
        chain::append(&*backend, &run("r"), Expected::Absent, &paths).unwrap();
        assert_eq!(fixture.git(&["cat-file", "-s", "refs/tether/runs/r:payload/t/d"]), (size + 1).to_string());
        fixture.git(&["fsck", "--strict", "--full"]);
        fixture.git(&["gc", "--prune=now", "--quiet"]);
        let mut expected = Vec::new();
        Noise::of(size).read_to_end(&mut expected).unwrap();
        assert!(backend.read(&known, size).unwrap().data == expected);
    }
}

#[test]
fn a_source_of_another_length_or_that_fails_spoils_nothing() {
    struct Fails(Noise);
    impl Read for Fails {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            match self.0.read(buffer)? {
                0 => Err(io::Error::other("the source broke")),
                count => Ok(count),
            }
        }
    }
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let size = 3 << 20;
    let mut batch = backend.batch();
    for (given, promised) in [(size, size + 1), (size, size - 1), (5, 6), (6, 5)] {
        let error = batch.add_blob_from(&mut Noise::of(given), StreamLength::Known(promised)).unwrap_err();
        assert!(matches!(error, WriteError::Size { .. }), "{error:?}");
    }
    for length in [StreamLength::Unknown, StreamLength::Known(size + 9)] {
        let error = batch.add_blob_from(&mut Fails(Noise::of(size)), length).unwrap_err();
        assert!(matches!(error, WriteError::Source(_)), "{error:?}");
    }
    let good = batch.add_blob_from(&mut Noise::of(size), StreamLength::Known(size)).unwrap();
    let small = batch.add(Kind::Blob, b"small").unwrap();
    backend.write(batch).unwrap();
    assert_eq!(backend.read(&good, size).unwrap().data.len() as u64, size);
    assert_eq!(backend.read(&small, size).unwrap().data, b"small");
    fixture.git(&["verify-pack", fixture.pack_files("idx")[0].to_str().unwrap()]);

    let mut dropped = backend.batch();
    dropped.add_blob_from(&mut Noise::of(size), StreamLength::Known(size)).unwrap();
    drop(dropped);
    assert_eq!(temporaries(&fixture), 0, "a batch that is not written leaves nothing");
}

#[test]
fn a_large_blob_needs_little_memory() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let size = 200 << 20;
    let before = highest_memory();
    let mut batch = backend.batch();
    let mut zeros = io::repeat(0).take(size);
    let id = batch.add_blob_from(&mut zeros, StreamLength::Known(size)).unwrap();
    backend.write(batch).unwrap();
    assert_eq!(backend.header(&id).unwrap().size, size);
    // Other tests run in this process too: less than the blob is all that can be said.
    let grown = highest_memory().saturating_sub(before);
    assert!(grown < 150 << 10, "{grown} KiB");
}

fn highest_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}
