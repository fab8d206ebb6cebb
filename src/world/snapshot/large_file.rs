//! Files that are too large to hold in memory, on their way to the sink.
//!
//! Owns: handing one over while somebody may be writing to it. Must not know: why it is saved.

use std::path::Path;

use gix::ObjectId;
use gix::objs::Kind;

use super::regular_file::open_file;
use super::{ObjectSink, SaveError, SinkError};

/// Hands a large file to the sink; answers its id, and whether that is the `expected` one.
pub(super) fn stream(
    path: &Path,
    size: u64,
    expected: ObjectId,
    sink: &mut dyn ObjectSink,
) -> Result<(ObjectId, bool), SaveError> {
    let unreadable = |source| SaveError::Unreadable { path: path.to_owned(), source };
    let mut file = open_file(path).map_err(unreadable)?;
    match sink.write_stream(size, &mut std::io::Read::take(&mut file, size)) {
        Ok(id) => Ok((id, id == expected)),
        // It became shorter: take it as it is now.
        Err(error) if file.metadata().is_ok_and(|metadata| metadata.len() < size) => {
            let bytes = std::fs::read(path).map_err(unreadable)?;
            let id = sink.write(Kind::Blob, &bytes).map_err(|_: SinkError| error)?;
            Ok((id, false))
        }
        Err(error) => Err(error.into()),
    }
}
