//! What we write beside git's own, on disk before anything says that it is there: small files, and whole worktrees.
//!
//! Must not know: what they hold. Invariant: a power cut leaves the old content or the new one, never an empty file.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// Writes a file that nobody reads yet; its name is on disk once its directory is synced.
pub(super) fn write(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Puts a file in its place as a whole, through `scratch` beside it.
pub(super) fn replace(path: &Path, scratch: &Path, content: &[u8]) -> io::Result<()> {
    write(scratch, content)?;
    fs::rename(scratch, path)?;
    sync_directory(path.parent().unwrap_or(path))
}

/// Puts what others wrote into a directory on disk: its plain files, and their names.
pub(super) fn sync_files_in(directory: &Path) -> io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_file() {
            File::open(entry.path())?.sync_all()?;
        }
    }
    sync_directory(directory)
}

/// Puts the names in a directory on disk.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

/// Puts everything below a directory on disk, by its whole file system: one wait, however many files there are.
pub fn sync_everything_at(directory: &Path) -> io::Result<()> {
    Ok(rustix::fs::syncfs(File::open(directory)?)?)
}

/// The same for many directories: one wait for each file system that they lie on. With an error comes the directory that it was met at.
pub fn sync_everything_at_each<'p>(directories: impl Iterator<Item = &'p Path>) -> Result<(), (PathBuf, io::Error)> {
    let mut synced = BTreeSet::new();
    for directory in directories {
        let failed = |error| (directory.to_owned(), error);
        let found = match fs::metadata(directory) {
            // Somebody took it away meanwhile: nothing of it is to be put on disk, and all else is.
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            found => found.map_err(failed)?,
        };
        if synced.insert(found.dev()) {
            sync_everything_at(directory).map_err(failed)?;
        }
    }
    Ok(())
}
