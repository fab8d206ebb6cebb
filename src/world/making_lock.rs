//! The lock that somebody holds who makes, puts back or removes one environment.
//!
//! Owns: `<common dir>/tether/making/<run>/<environment>`. Must not know: what is done under it.
//! Invariant: the kernel drops it when its holder dies, and no child inherits it, so that a live maker is told from a dead one even
//! if a hook or setup of the dead one goes on; only the lock of a file that still stands under its name counts.

use std::fs::File;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::named_lock;

/// Probes take the lock for a moment; a maker waits that out.
const PATIENCE_WITH_PROBES: Duration = Duration::from_millis(200);

/// A held lock; it falls, and its file goes, when this is dropped.
#[derive(Debug)]
pub struct MakingLock {
    path: PathBuf,
    _file: File,
}

/// What came of taking the lock.
#[derive(Debug)]
pub enum Taken {
    /// It is ours.
    Ours(MakingLock),
    /// Somebody who lives holds it.
    Held,
}

fn path_of(tether_dir: &Path, run: &str, environment: &str) -> PathBuf {
    tether_dir.join("making").join(run).join(environment)
}

impl MakingLock {
    /// Takes the lock of an environment; `run` and `environment` are ids, and so are plain file names.
    pub fn take(tether_dir: &Path, run: &str, environment: &str) -> std::io::Result<Taken> {
        let path = path_of(tether_dir, run, environment);
        let file = named_lock::take(&path, PATIENCE_WITH_PROBES)?;
        Ok(file.map_or(Taken::Held, |file| Taken::Ours(Self { path, _file: file })))
    }

    /// Whether somebody holds the lock of an environment. What cannot be told counts as held: nobody clears it away then.
    pub fn is_held(tether_dir: &Path, run: &str, environment: &str) -> bool {
        match File::open(path_of(tether_dir, run, environment)) {
            Ok(file) => !matches!(file.try_lock_shared(), Ok(())),
            Err(error) => error.kind() != ErrorKind::NotFound,
        }
    }
}

impl Drop for MakingLock {
    fn drop(&mut self) {
        // Still locked: whoever opened the file meanwhile sees that it has lost its name, and opens anew. What stays is harmless.
        let _ = std::fs::remove_file(&self.path);
        if let Some(parent) = self.path.parent() {
            let _ = std::fs::remove_dir(parent);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_holds_it_and_it_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let taken = MakingLock::take(dir.path(), "r", "e").unwrap();
        let Taken::Ours(lock) = taken else { panic!("nobody else is here") };
        assert!(MakingLock::is_held(dir.path(), "r", "e"));
        assert!(!MakingLock::is_held(dir.path(), "r", "other"));
        assert!(matches!(MakingLock::take(dir.path(), "r", "e").unwrap(), Taken::Held));
        drop(lock);
        assert!(!MakingLock::is_held(dir.path(), "r", "e"));
        assert!(!dir.path().join("making/r").exists());
        assert!(matches!(MakingLock::take(dir.path(), "r", "e").unwrap(), Taken::Ours(_)));
    }
}
