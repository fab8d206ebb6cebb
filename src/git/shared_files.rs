//! Files and directories of ours beside git's own, as `core.sharedRepository` wants them.
//!
//! Owns: handing the directory's openness on to what is made in it. Must not know: what the files are for.
//! Invariant: where the directory may be written by its group, so may everything that is made in it; elsewhere the umask decides. So
//! only the first directory of ours needs to be told of the setting.

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

const GROUP_WRITES: u32 = 0o020;

/// Makes a directory and its parents.
pub fn create_directories(directory: &Path) -> io::Result<()> {
    if directory.is_dir() {
        return Ok(());
    }
    if let Some(parent) = directory.parent() {
        create_directories(parent)?;
    }
    match fs::create_dir(directory) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists && directory.is_dir() => return Ok(()),
        other => other?,
    }
    if let Some(open) = openness_around(directory) {
        let mode = fs::metadata(directory)?.permissions().mode();
        fs::set_permissions(directory, Permissions::from_mode(mode | 0o2070 | open & 0o005))?;
    }
    Ok(())
}

/// Opens a file for reading and writing, and makes it and its directories if they are not there: for locks.
pub fn open_or_create(path: &Path) -> io::Result<File> {
    match OpenOptions::new().read(true).write(true).open(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => {}
        other => return other,
    }
    if let Some(parent) = path.parent() {
        create_directories(parent)?;
    }
    match OpenOptions::new().read(true).write(true).create_new(true).open(path) {
        Ok(file) => {
            hand_on(&file, path)?;
            Ok(file)
        }
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path)
        }
        Err(error) => Err(error),
    }
}

/// Lets those use a new file who may use its directory.
pub fn hand_on(file: &File, path: &Path) -> io::Result<()> {
    let Some(open) = openness_around(path) else { return Ok(()) };
    let mode = file.metadata()?.permissions().mode();
    file.set_permissions(Permissions::from_mode(mode | 0o060 | open & 0o004))
}

/// The mode of the directory around a path, if its group may write there.
fn openness_around(path: &Path) -> Option<u32> {
    let mode = fs::metadata(path.parent()?).ok()?.permissions().mode();
    (mode & GROUP_WRITES != 0).then_some(mode)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it fails")]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn what_is_made_is_as_open_as_what_it_is_made_in() {
        let root = tempfile::tempdir().unwrap();
        for (around, directory, file) in [(0o2770, 0o2070, 0o060), (0o2775, 0o2075, 0o064)] {
            let shared = root.path().join(format!("{around:o}"));
            fs::create_dir(&shared).unwrap();
            fs::set_permissions(&shared, Permissions::from_mode(around)).unwrap();
            let lock = shared.join("a/b/lock");
            open_or_create(&lock).unwrap();
            open_or_create(&lock).unwrap();
            assert_eq!(mode(&shared.join("a/b")) & directory, directory);
            assert_eq!(mode(&lock) & file, file);
        }
        let private = root.path().join("private");
        fs::create_dir(&private).unwrap();
        fs::set_permissions(&private, Permissions::from_mode(0o700)).unwrap();
        open_or_create(&private.join("a/lock")).unwrap();
        assert_eq!(mode(&private.join("a/lock")) & 0o020, 0);
    }
}
