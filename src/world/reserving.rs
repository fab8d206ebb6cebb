//! The word that a session is being recorded, from before it is until it holds what it was recorded for.
//!
//! Owns: `<common dir>/tether/reserving/<session>`. Must not know: what a session is, or what it is to hold.
//! Invariant: the file is there while its session may be half made; the kernel drops its lock when its maker dies, in whatever pid
//! namespace, so that one which was cut off is told from one that is at work.

use std::fs::{self, File, TryLockError};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::named_lock;

/// Who records a session needs a moment; who wants the same id waits that out.
const PATIENCE: Duration = Duration::from_secs(2);

/// The word that is held; dropped, it is taken back.
#[derive(Debug)]
pub struct Reserving {
    path: PathBuf,
    _file: File,
}

/// What came of giving, or taking over, the word.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(Reserving),
    /// Somebody who lives holds it.
    Held,
    /// There is none to take over.
    Nothing,
}

fn directory(tether_dir: &Path) -> PathBuf {
    tether_dir.join("reserving")
}

impl Reserving {
    /// Says that `session` is being recorded; its id is a plain file name.
    pub fn begin(tether_dir: &Path, session: &str) -> io::Result<Taken> {
        let path = directory(tether_dir).join(session);
        let file = named_lock::take(&path, PATIENCE)?;
        Ok(file.map_or(Taken::Held, |file| Taken::Ours(Self { path, _file: file })))
    }

    /// Takes over the word of somebody who was cut off.
    pub fn take_over(tether_dir: &Path, session: &str) -> io::Result<Taken> {
        let path = directory(tether_dir).join(session);
        let file = match File::options().read(true).write(true).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Taken::Nothing),
            opened => opened?,
        };
        match file.try_lock() {
            Ok(()) if named_lock::is_still_named(&file, &path) => Ok(Taken::Ours(Self { path, _file: file })),
            Ok(()) => Ok(Taken::Nothing),
            Err(TryLockError::WouldBlock) => Ok(Taken::Held),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    /// The sessions that somebody said were being recorded and who holds that word no more. Looking changes nothing.
    pub fn find_cut_off(tether_dir: &Path) -> io::Result<Vec<String>> {
        let entries = match fs::read_dir(directory(tether_dir)) {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries?,
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry?;
            let free = File::open(entry.path()).is_ok_and(|file| file.try_lock_shared().is_ok());
            if let (true, Ok(name)) = (free, entry.file_name().into_string()) {
                found.push(name);
            }
        }
        Ok(found)
    }

    /// Leaves the word for whoever looks next: what it is about is not settled.
    pub fn leave(self) {
        std::mem::forget(self);
    }
}

impl Drop for Reserving {
    fn drop(&mut self) {
        // Still locked: whoever opened the file meanwhile sees that it has lost its name.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_cut_off_is_found_and_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path();
        let Taken::Ours(word) = Reserving::begin(at, "s").unwrap() else { panic!("nobody else is here") };
        assert!(Reserving::find_cut_off(at).unwrap().is_empty());
        assert!(matches!(Reserving::take_over(at, "s").unwrap(), Taken::Held));
        drop(word);
        assert!(matches!(Reserving::take_over(at, "s").unwrap(), Taken::Nothing));
        std::fs::write(at.join("reserving/s"), "").unwrap();
        assert_eq!(Reserving::find_cut_off(at).unwrap(), ["s"]);
        assert!(matches!(Reserving::take_over(at, "s").unwrap(), Taken::Ours(_)));
        assert!(!at.join("reserving/s").exists());
    }
}
