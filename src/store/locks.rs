//! Ref locks as git knows them, with a mark that tells which are ours and whether their holder lives.
//!
//! Owns: `<ref>.lock` files that we make, and `<common>/tether/locks/`. Must not know: what a ref holds, or who may change it.
//! Invariants: a lock is taken by one process at most; a lock of git's, or of a process of ours that lives, is never removed.
//!
//! How: the lock's file is first made under `tether/locks/` and flocked, then linked to `<ref>.lock`, which succeeds for one only. So a lock is
//! ours if it is the same file as one of our marks, and stale if its flock is free: true across pid namespaces and after a reboot, with no
//! pid to be reused.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::io::Errno;

use super::names::{RefName, RefPrefix};
use super::sharing::Sharing;
use super::values::{ClearedLock, SwapError};
use crate::git::shared_files;

/// How long a lock that somebody holds is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// From which pause on it is asked whether the holder lives.
const LOOKS_AFTER: Duration = Duration::from_millis(4);

/// Where the marks of our locks are.
#[derive(Debug, Clone)]
pub(super) struct Locks {
    common: PathBuf,
    sharing: Sharing,
}

/// A ref lock of ours whose holder is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StaleLock {
    /// The ref that cannot be changed because of it.
    pub name: String,
    /// The file whose existence is the lock.
    pub lock: PathBuf,
    /// The process that took it, as it called itself in its own pid namespace.
    pub pid: Option<u32>,
    mark: PathBuf,
    file: FileIdentity,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct FileIdentity {
    device: u64,
    inode: u64,
}

impl FileIdentity {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), inode: metadata.ino() }
    }

    fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().map(|metadata| Self::of(&metadata))
    }
}

/// Why locks could not be looked at or cleared.
#[derive(Debug, thiserror::Error)]
#[error("could not {attempted} {}", path.display())]
pub struct LockError {
    /// What was attempted, as a verb.
    pub attempted: &'static str,
    /// On what.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl LockError {
    fn at(attempted: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self { attempted, path, source }
    }
}

/// A lock that is held; dropped, it is given back.
#[derive(Debug)]
pub(super) struct HeldLock {
    file: File,
    lock: PathBuf,
    mark: Option<PathBuf>,
    committed: bool,
}

impl Drop for HeldLock {
    fn drop(&mut self) {
        if !self.committed {
            let _ = fs::remove_file(&self.lock);
        }
        // Last: until then, the lock can be told to be ours.
        if let Some(mark) = &self.mark {
            let _ = fs::remove_file(mark);
        }
    }
}

impl HeldLock {
    /// Puts the new content of the ref on disk, not yet in its place.
    pub(super) fn write(&mut self, content: &[u8]) -> io::Result<()> {
        self.file.write_all(content)?;
        self.file.sync_data()
    }

    /// Puts it in its place, which gives the lock back.
    pub(super) fn rename_to(&mut self, target: &Path) -> io::Result<()> {
        fs::rename(&self.lock, target)?;
        self.committed = true;
        Ok(())
    }
}

/// What trying to take a lock once came to.
enum Attempt {
    Taken(HeldLock),
    Held,
    Vanished,
}

impl Locks {
    pub(super) fn new(common: PathBuf, sharing: Sharing) -> Self {
        Self { common, sharing }
    }

    fn directory(&self) -> PathBuf {
        self.common.join("tether").join("locks")
    }

    /// Takes the lock of a ref, and waits a moment if somebody has it.
    pub(super) fn take(&self, name: &RefName) -> Result<HeldLock, SwapError> {
        let lock = self.common.join(format!("{name}.lock"));
        let deadline = Instant::now() + PATIENCE;
        let mut pause = Duration::from_micros(500);
        loop {
            self.make_parent(name, &lock)?;
            match self.attempt(&lock).map_err(SwapError::at("lock", name))? {
                Attempt::Taken(held) => return Ok(held),
                _ if Instant::now() >= deadline => return Err(SwapError::Busy { name: name.clone(), lock }),
                Attempt::Vanished => {}
                // A holder that is gone never gives it back; clearing it is as safe here as in a recovery.
                Attempt::Held if pause >= LOOKS_AFTER && self.clear_if_stale(&lock) => {}
                Attempt::Held => {
                    std::thread::sleep(pause.mul_f32(0.5 + fastrand::f32()));
                    pause = (pause * 2).min(Duration::from_millis(20));
                }
            }
        }
    }

    /// Whether the lock was left behind by a process of ours, and is gone now.
    fn clear_if_stale(&self, lock: &Path) -> bool {
        let Some(file) = FileIdentity::at(lock) else { return true };
        let abandoned = |mark: &PathBuf| {
            FileIdentity::at(mark) == Some(file) && abandoned_mark(mark).is_ok_and(|found| found.is_some())
        };
        let Some(mark) = self.marks().unwrap_or_default().into_iter().find(abandoned) else { return false };
        let stale =
            StaleLock { name: ref_of(lock, &self.common), pid: pid_of(&mark), lock: lock.to_owned(), mark, file };
        matches!(self.clear(&stale), Ok(ClearedLock::Removed))
    }

    fn make_parent(&self, name: &RefName, lock: &Path) -> Result<(), SwapError> {
        let Some(parent) = lock.parent() else { return Ok(()) };
        self.sharing.create_directories(parent).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists | io::ErrorKind::NotADirectory => {
                SwapError::NameConflict { name: name.clone(), with: parent_ref(parent, &self.common) }
            }
            _ => SwapError::at("make the directory of", name)(error),
        })
    }

    fn attempt(&self, lock: &Path) -> io::Result<Attempt> {
        let directory = self.directory();
        self.sharing.create_directories(&directory)?;
        let mark = directory.join(format!("{}-{:016x}", std::process::id(), fastrand::u64(..)));
        let file = File::options().write(true).create_new(true).open(&mark)?;
        // From here on, dropping removes the mark; the lock is not ours to remove yet.
        let mut held = HeldLock { file, lock: lock.to_owned(), mark: Some(mark.clone()), committed: true };
        self.sharing.adjust_file(&held.file)?;
        match rustix::fs::flock(&held.file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            // Somebody who clears marks looks at it this moment.
            Err(Errno::WOULDBLOCK) => return Ok(Attempt::Vanished),
            Err(_) => return self.attempt_without_mark(lock),
        }
        match fs::hard_link(&mark, lock) {
            Ok(()) => {
                held.committed = false;
                Ok(Attempt::Taken(held))
            }
            Err(error) => match error.kind() {
                io::ErrorKind::AlreadyExists => Ok(Attempt::Held),
                io::ErrorKind::NotFound => Ok(Attempt::Vanished),
                io::ErrorKind::Unsupported
                | io::ErrorKind::PermissionDenied
                | io::ErrorKind::TooManyLinks
                | io::ErrorKind::CrossesDevices => self.attempt_without_mark(lock),
                _ => Err(error),
            },
        }
    }

    /// For file systems without links or flocks: a lock like git's own, which nobody can tell to be stale.
    fn attempt_without_mark(&self, lock: &Path) -> io::Result<Attempt> {
        match File::options().write(true).create_new(true).open(lock) {
            Ok(file) => {
                let held = HeldLock { file, lock: lock.to_owned(), mark: None, committed: false };
                self.sharing.adjust_file(&held.file)?;
                Ok(Attempt::Taken(held))
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Attempt::Held),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Attempt::Vanished),
            Err(error) => Err(error),
        }
    }

    /// Locks of ours that nobody holds any more. Changes nothing.
    pub(super) fn find_stale(&self) -> Result<Vec<StaleLock>, LockError> {
        let mut abandoned = Vec::new();
        for mark in self.marks()? {
            if let Some((file, _flock)) = abandoned_mark(&mark)? {
                abandoned.push((mark, file));
            }
        }
        let mut stale = Vec::new();
        if abandoned.is_empty() {
            return Ok(stale);
        }
        for prefix in RefPrefix::roots() {
            for lock in lock_files(&self.common.join(prefix.as_str())) {
                let Some(file) = FileIdentity::at(&lock) else { continue };
                if let Some((mark, _)) = abandoned.iter().find(|(_, marked)| *marked == file) {
                    let name = ref_of(&lock, &self.common);
                    stale.push(StaleLock { name, pid: pid_of(mark), lock, mark: mark.clone(), file });
                }
            }
        }
        Ok(stale)
    }

    /// Removes a stale lock, and what marks it.
    pub(super) fn clear(&self, stale: &StaleLock) -> Result<ClearedLock, LockError> {
        let path = self.directory().join(".clearing");
        let guard = shared_files::open_or_create(&path).map_err(LockError::at("open", &path))?;
        // One at a time: between the look and the removal, nobody else can have freed the name for a new lock.
        rustix::fs::flock(&guard, FlockOperation::LockExclusive)
            .map_err(|error| LockError::at("lock", &path)(error.into()))?;
        let Some((file, _flock)) = abandoned_mark(&stale.mark)? else { return Ok(ClearedLock::Gone) };
        if file != stale.file || FileIdentity::at(&stale.lock) != Some(file) {
            return Ok(ClearedLock::Gone);
        }
        fs::remove_file(&stale.lock).map_err(LockError::at("remove", &stale.lock))?;
        fs::remove_file(&stale.mark).map_err(LockError::at("remove", &stale.mark))?;
        Ok(ClearedLock::Removed)
    }

    /// Removes marks that go with no lock (any more); failing at it harms nobody.
    pub(super) fn sweep_marks(&self) -> Result<(), LockError> {
        let stale = self.find_stale()?;
        for mark in self.marks()? {
            if stale.iter().any(|lock| lock.mark == mark) {
                continue;
            }
            if let Some((_, _flock)) = abandoned_mark(&mark)? {
                let _ = fs::remove_file(&mark);
            }
        }
        Ok(())
    }

    fn marks(&self) -> Result<Vec<PathBuf>, LockError> {
        let directory = self.directory();
        let entries = match fs::read_dir(&directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            other => other.map_err(LockError::at("list", &directory))?,
        };
        let paths = entries.map(|entry| entry.map(|entry| entry.path()));
        let paths: Vec<_> = paths.collect::<io::Result<_>>().map_err(LockError::at("list", &directory))?;
        Ok(paths.into_iter().filter(|path| pid_of(path).is_some()).collect())
    }
}

/// The mark's file if nobody holds it, with the flock that keeps it so.
fn abandoned_mark(mark: &Path) -> Result<Option<(FileIdentity, File)>, LockError> {
    let file = match File::options().write(true).open(mark) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        other => other.map_err(LockError::at("open", mark))?,
    };
    if rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive).is_err() {
        return Ok(None);
    }
    let metadata = file.metadata().map_err(LockError::at("look at", mark))?;
    Ok(Some((FileIdentity::of(&metadata), file)))
}

fn lock_files(directory: &Path) -> Vec<PathBuf> {
    let entries = walkdir::WalkDir::new(directory).into_iter().filter_map(Result::ok);
    let locks = entries.filter(|entry| entry.path().extension().is_some_and(|extension| extension == "lock"));
    locks.map(walkdir::DirEntry::into_path).collect()
}

fn pid_of(mark: &Path) -> Option<u32> {
    mark.file_name()?.to_str()?.split_once('-')?.0.parse().ok()
}

fn ref_of(lock: &Path, common: &Path) -> String {
    lock.strip_prefix(common).unwrap_or(lock).with_extension("").to_string_lossy().into_owned()
}

/// The first of the parents that is a file, which is a ref then.
fn parent_ref(directory: &Path, common: &Path) -> String {
    let blocking = directory.ancestors().find(|parent| parent.is_file()).unwrap_or(directory);
    blocking.strip_prefix(common).unwrap_or(blocking).to_string_lossy().into_owned()
}
