//! Regular files, opened so that nobody can lead us elsewhere, and the sign by which git knows that one is no text.
//!
//! Owns: how a file is opened to be read. Must not know: which, and why. Invariant: neither a link at the end of a path is followed nor a
//! pipe waited for.

use rustix::fs::OFlags;
use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

/// Opens a regular file: not through a link at its end, and without waiting for a pipe.
pub(super) fn open_file(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    Ok(File::from(rustix::fs::open(path, flags, rustix::fs::Mode::empty())?))
}

/// Whether the regular file at `path` is larger than `limit` and no text.
pub(super) fn is_large_binary(path: &Path, limit: u64) -> bool {
    let is_large = std::fs::symlink_metadata(path).is_ok_and(|found| found.is_file() && found.len() > limit);
    is_large && open_file(path).is_ok_and(|file| holds_nul(file).unwrap_or(false))
}

/// Whether there is a NUL byte, which to git no text holds.
pub(super) fn holds_nul(mut from: impl Read) -> io::Result<bool> {
    let mut bytes = vec![0; 64 << 10];
    loop {
        match from.read(&mut bytes)? {
            0 => return Ok(false),
            count if bytes[..count].contains(&0) => return Ok(true),
            _ => {}
        }
    }
}
