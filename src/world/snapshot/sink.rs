//! Where the objects of a snapshot go.
//!
//! Owns: the seam between saving and storing. Must not know: what the objects mean. Invariant: saving hands over every object that a
//! ref must reach before it hands over one that names it, and never asks the sink to read.

use gix::ObjectId;
use gix::objs::{Kind, Write as _};
use std::io::Read;

/// Takes the objects of a snapshot: collects them, and makes them durable before a ref names the snapshot.
pub trait ObjectSink {
    /// Takes an object and answers its id.
    fn write(&mut self, kind: Kind, bytes: &[u8]) -> Result<ObjectId, SinkError>;

    /// Takes a large blob of exactly `size` bytes without holding it in memory; a reader that fails or ends early is an error, after
    /// which the sink is as it was before.
    fn write_stream(&mut self, size: u64, from: &mut dyn Read) -> Result<ObjectId, SinkError>;
}

/// The sink did not take an object.
#[derive(Debug, thiserror::Error)]
#[error("could not store an object of {size} bytes")]
pub struct SinkError {
    /// The object's size.
    pub size: u64,
    /// What failed.
    pub source: super::Cause,
}

/// A sink that writes loose objects at once; neither durable nor safe from a concurrent prune.
#[derive(Debug)]
pub struct LooseSink {
    repository: gix::Repository,
    /// How many objects it took.
    pub written: usize,
}

impl LooseSink {
    /// A sink into the object database of `repository`.
    pub fn new(repository: gix::Repository) -> Self {
        Self { repository, written: 0 }
    }
}

impl ObjectSink for LooseSink {
    fn write(&mut self, kind: Kind, bytes: &[u8]) -> Result<ObjectId, SinkError> {
        self.written += 1;
        let refused = |source: gix::Error| SinkError { size: bytes.len() as u64, source: source.into() };
        self.repository.objects.write_buf(kind, bytes).map_err(refused)
    }

    fn write_stream(&mut self, size: u64, from: &mut dyn Read) -> Result<ObjectId, SinkError> {
        self.written += 1;
        let refused = |source: gix::Error| SinkError { size, source: source.into() };
        self.repository.objects.write_stream(Kind::Blob, size, from).map_err(refused)
    }
}
