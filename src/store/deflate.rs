//! Compressing small objects one after the other.
//!
//! Owns: the tables that a compressor works with, which cost more to make than most objects to compress. Must not know: packs.

use std::io;

use flate2::{Compress, Compression, FlushCompress, Status};

/// As git does for loose objects: a batch is written while somebody waits for it.
pub(super) const COMPRESSION: Compression = Compression::fast();

/// A compressor; its tables are made with the first object.
#[derive(Debug, Default)]
pub(super) struct Deflater(Option<Compress>);

impl Deflater {
    /// Appends `content` to `out`, compressed.
    pub(super) fn append(&mut self, content: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
        let stream = self.0.get_or_insert_with(|| Compress::new(COMPRESSION, true));
        stream.reset();
        let mut rest = content;
        loop {
            // Most objects fit at once; what does not compress needs a little more than itself.
            out.reserve(rest.len() + rest.len() / 1024 + 64);
            let before = stream.total_in();
            let status = stream.compress_vec(rest, out, FlushCompress::Finish).map_err(io::Error::other)?;
            let taken = usize::try_from(stream.total_in() - before).map_err(io::Error::other)?;
            rest = &rest[taken..];
            if status == Status::StreamEnd {
                return Ok(());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use std::io::Read;

    use super::*;

    #[test]
    fn one_compressor_does_for_many_contents() {
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(300_000).collect();
        let mut deflater = Deflater::default();
        let mut out = Vec::new();
        for content in [&b""[..], b"text", &vec![0; 200_000], &noise, b"text"] {
            let start = out.len();
            deflater.append(content, &mut out).unwrap();
            let mut back = Vec::new();
            flate2::read::ZlibDecoder::new(&out[start..]).read_to_end(&mut back).unwrap();
            assert!(back == content, "{} bytes", content.len());
        }
    }
}
