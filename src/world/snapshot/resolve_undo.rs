//! What an index remembers of conflicts that were resolved, so that `git checkout -m` can bring them back.
//!
//! Owns: reading that from an index and adding it to one that has just been written. Must not know: the index's entries. Invariant: an
//! index file is replaced as a whole.

use super::index_lines::{IndexLine, IndexLines, kind_of};
use super::restore_error::RestoreError;
use super::tree::Leaf;
use super::{Cause, SaveError};
use crate::git::Git;
use gix::ObjectId;
use gix::bstr::{BString, ByteSlice};
use gix::index::State;
use gix::objs::tree::EntryMode;
use std::path::Path;

/// The resolved conflicts that the index of the worktree with the git directory `git_dir` remembers.
pub(super) fn read_resolved(git_dir: &Path, index: &State) -> Result<IndexLines, SaveError> {
    let mut resolved = IndexLines::new();
    if index.resolve_undo().is_none_or(Vec::is_empty) {
        return Ok(resolved);
    }
    let failed = |source: Cause| SaveError::Index { path: git_dir.join("index"), source };
    // The library that reads the index keeps them to itself.
    let listed = Git::in_git_dir(git_dir).run(["ls-files", "--resolve-undo", "--full-name", "-z"]);
    let listed = listed.map_err(|source| failed(source.into()))?.stdout;
    for record in listed.split(|&byte| byte == 0).filter(|record| !record.is_empty()) {
        let line = decode(record).ok_or_else(|| failed("its resolved conflicts are not readable".into()))?;
        resolved.entry(line.0).or_default().push(line.1);
    }
    Ok(resolved)
}

/// `<mode> <id> <stage>\t<path>`.
fn decode(record: &[u8]) -> Option<(BString, IndexLine)> {
    let (head, path) = record.split_once_str("\t")?;
    let mut words = head.to_str().ok()?.split(' ');
    let kind = kind_of(u16::from_str_radix(words.next()?, 8).ok()?)?;
    let id = ObjectId::from_hex(words.next()?.as_bytes()).ok()?;
    let stage = words.next()?.parse().ok().filter(|stage| (1..=3).contains(stage))?;
    Some((path.into(), IndexLine { stage, ..IndexLine::plain(Leaf { kind, id }) }))
}

/// Adds resolved conflicts to the index file at `path`.
pub(super) fn add_resolved(path: &Path, hash: gix::hash::Kind, resolved: &IndexLines) -> Result<(), RestoreError> {
    if resolved.is_empty() {
        return Ok(());
    }
    let failed = |source: Cause| RestoreError::Index { path: path.to_owned(), source };
    let io = |source: std::io::Error| failed(source.into());
    let mut bytes = std::fs::read(path).map_err(io)?;
    bytes.truncate(bytes.len().saturating_sub(hash.len_in_bytes()));
    let extension = encode(resolved);
    let size = u32::try_from(extension.len()).map_err(|source| failed(source.into()))?;
    bytes.extend_from_slice(b"REUC");
    bytes.extend_from_slice(&size.to_be_bytes());
    bytes.extend_from_slice(&extension);
    let mut hasher = gix::hash::hasher(hash);
    hasher.update(&bytes);
    let digest = hasher.try_finalize().map_err(|source| failed(source.into()))?;
    bytes.extend_from_slice(digest.as_slice());
    // Not under `index.lock`: a kill would leave it, and the worktree is not anybody's yet.
    let scratch = path.with_extension("tether-new");
    std::fs::write(&scratch, &bytes).and_then(|()| std::fs::rename(&scratch, path)).map_err(io)
}

/// As git's index keeps them: the path, the modes of the three stages as text, and the ids of those that are there.
fn encode(resolved: &IndexLines) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (path, lines) in resolved {
        let stages = [1, 2, 3].map(|stage| lines.iter().find(|line| line.stage == stage));
        bytes.extend_from_slice(path);
        bytes.push(0);
        for stage in stages {
            let mode = stage.map_or(0, |line| EntryMode::from(line.leaf.kind).value());
            bytes.extend_from_slice(format!("{mode:o}\0").as_bytes());
        }
        for line in stages.into_iter().flatten() {
            bytes.extend_from_slice(line.leaf.id.as_slice());
        }
    }
    bytes
}
