//! Where the objects of a snapshot go: into a batch of the store, which is written as one durable pack.
//!
//! Owns the bridge between the two rooms that do not know each other. Invariant: nothing is on disk before the batch is written.

use std::io::Read;

use gix::ObjectId;

use crate::store::backend::WriteError;
use crate::store::objects::{Batch, StreamLength};
use crate::world::snapshot::{ObjectKind, ObjectSink, SinkError};

/// A sink into a batch.
pub(super) struct BatchSink<'b>(pub(super) &'b mut Batch);

fn refused(size: u64) -> impl FnOnce(WriteError) -> SinkError {
    move |source| SinkError { size, source: source.into() }
}

impl ObjectSink for BatchSink<'_> {
    fn write(&mut self, kind: ObjectKind, bytes: &[u8]) -> Result<ObjectId, SinkError> {
        self.0.add(kind, bytes).map_err(refused(bytes.len() as u64))
    }

    fn write_stream(&mut self, size: u64, from: &mut dyn Read) -> Result<ObjectId, SinkError> {
        self.0.add_blob_from(from, StreamLength::Known(size)).map_err(refused(size))
    }
}
