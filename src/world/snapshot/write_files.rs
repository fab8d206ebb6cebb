//! Names and files as a restore may write them.
//!
//! Owns: the check of path components and the writing of files below one directory. Must not know: where contents come from. Invariant:
//! nothing is written outside the directory, through a link, or under any name that is `.git` to some file system.

use super::place::FileMark;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::objs::tree::EntryKind;
use gix::validate::path::component;
use rustix::fs::{AtFlags, Mode, OFlags, Stat, Timespec, Timestamps, UTIME_OMIT};
use rustix::io::Errno;
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

/// Refuses what no tree may hold: empty and relative names, and all forms of `.git`.
pub(super) fn check_name(name: &BStr) -> Result<(), component::Error> {
    let options = component::Options { protect_windows: false, protect_hfs: true, protect_ntfs: true };
    gix::validate::path::component(name, None, options).map(|_| ())
}

/// Whether each component of `path` may be written.
pub(super) fn check_path(path: &BStr) -> Result<(), component::Error> {
    path.split(|&byte| byte == b'/').try_for_each(|name| check_name(name.as_bstr()))
}

/// What may stand where a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Existing {
    /// Nothing: whatever is there is an error.
    None,
    /// A file or link that may go.
    Replace,
}

/// A directory that files are written below.
#[derive(Debug)]
pub(super) struct Destination {
    root: OwnedFd,
    /// The directory of the last file, to open each directory once.
    last: Option<(BString, OwnedFd)>,
}

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

impl Destination {
    /// The directory `path`, which must be there.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { root: rustix::fs::open(path, flags, Mode::empty())?, last: None })
    }

    /// Writes a file or link, with the directories on the way; answers its stat data.
    pub(super) fn write(&mut self, path: &BStr, kind: EntryKind, bytes: &[u8], existing: Existing) -> io::Result<Stat> {
        if kind == EntryKind::Link {
            self.make_way(path, existing)?;
            let (directory, name) = self.parent(path)?;
            rustix::fs::symlinkat(bytes, directory, name.as_bytes())?;
        } else {
            self.create(path, kind, existing)?.write_all(bytes)?;
        }
        self.stat(path)
    }

    /// Makes an empty file, with the directories on the way.
    pub(super) fn create(&mut self, path: &BStr, kind: EntryKind, existing: Existing) -> io::Result<File> {
        self.make_way(path, existing)?;
        let (directory, name) = self.parent(path)?;
        let mode = if kind == EntryKind::BlobExecutable { 0o777 } else { 0o666 };
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(File::from(rustix::fs::openat(directory, name.as_bytes(), flags, Mode::from_raw_mode(mode))?))
    }

    fn make_way(&mut self, path: &BStr, existing: Existing) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        if existing == Existing::Replace {
            match rustix::fs::unlinkat(directory, name.as_bytes(), AtFlags::empty()) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(error) => return Err(error.into()),
            }
        } else if remove_empty_directory(directory, name).is_err() {
            return Err(Errno::EXIST.into());
        }
        Ok(())
    }

    /// The stat data of the file or link at `path`.
    pub(super) fn stat(&mut self, path: &BStr) -> io::Result<Stat> {
        let (directory, name) = self.parent(path)?;
        Ok(rustix::fs::statat(directory, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Makes the file at `path` two seconds older, so that git trusts its stat data at once; answers that data.
    pub(super) fn age(&mut self, path: &BStr) -> io::Result<Stat> {
        let (directory, name) = self.parent(path)?;
        let stat = rustix::fs::statat(directory, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?;
        let unchanged = Timespec { tv_sec: 0, tv_nsec: UTIME_OMIT };
        let modified = Timespec { tv_sec: FileMark::of(&stat).modified().0 - 2, tv_nsec: 0 };
        let times = Timestamps { last_access: unchanged, last_modification: modified };
        rustix::fs::utimensat(directory, name.as_bytes(), &times, AtFlags::SYMLINK_NOFOLLOW)?;
        Ok(rustix::fs::statat(directory, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW)?)
    }

    /// Removes the file or link at `path`, and the directories above it that are empty then.
    pub(super) fn remove(&mut self, path: &BStr) -> io::Result<()> {
        let Some((directory, name)) = self.existing_parent(path)? else { return Ok(()) };
        match rustix::fs::unlinkat(&directory, name.as_bytes(), AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            Err(error) => return Err(error.into()),
        }
        self.last = None;
        let mut above = path;
        while let Some(slash) = above.rfind_byte(b'/') {
            above = above[..slash].as_bstr();
            let Some((directory, name)) = self.existing_parent(above)? else { break };
            if rustix::fs::unlinkat(&directory, name.as_bytes(), AtFlags::REMOVEDIR).is_err() {
                break;
            }
        }
        Ok(())
    }

    /// Makes the directory `path`.
    pub(super) fn make_directory(&mut self, path: &BStr) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        enter(directory, name)?;
        Ok(())
    }

    fn parent<'p>(&mut self, path: &'p BStr) -> io::Result<(BorrowedFd<'_>, &'p BStr)> {
        check_path(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let Some(slash) = path.rfind_byte(b'/') else { return Ok((self.root.as_fd(), path)) };
        let (above, name) = (path[..slash].as_bstr(), path[slash + 1..].as_bstr());
        if self.last.as_ref().is_none_or(|(known, _)| known != above) {
            let mut directory: Option<OwnedFd> = None;
            for component in above.split(|&byte| byte == b'/') {
                let here = directory.as_ref().map_or(self.root.as_fd(), AsFd::as_fd);
                directory = Some(enter(here, component.as_bstr())?);
            }
            self.last = directory.map(|directory| (above.to_owned(), directory));
        }
        let directory = self.last.as_ref().map_or(self.root.as_fd(), |(_, directory)| directory.as_fd());
        Ok((directory, name))
    }

    fn existing_parent<'p>(&self, path: &'p BStr) -> io::Result<Option<(OwnedFd, &'p BStr)>> {
        check_path(path).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error.to_string()))?;
        let mut directory = rustix::fs::openat(&self.root, ".", DIRECTORY, Mode::empty())?;
        let Some(slash) = path.rfind_byte(b'/') else { return Ok(Some((directory, path))) };
        for component in path[..slash].split(|&byte| byte == b'/') {
            directory = match rustix::fs::openat(&directory, component, DIRECTORY, Mode::empty()) {
                Ok(directory) => directory,
                Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(None),
                Err(error) => return Err(error.into()),
            };
        }
        Ok(Some((directory, path[slash + 1..].as_bstr())))
    }
}

/// Opens the directory `name`, made if it is not there; a link or file there is an error.
fn enter(directory: BorrowedFd<'_>, name: &BStr) -> io::Result<OwnedFd> {
    match rustix::fs::openat(directory, name.as_bytes(), DIRECTORY, Mode::empty()) {
        Err(Errno::NOENT) => {
            rustix::fs::mkdirat(directory, name.as_bytes(), Mode::from_raw_mode(0o777))?;
            Ok(rustix::fs::openat(directory, name.as_bytes(), DIRECTORY, Mode::empty())?)
        }
        opened => Ok(opened?),
    }
}

/// An empty directory where a file belongs is no loss; anything else stays.
fn remove_empty_directory(directory: BorrowedFd<'_>, name: &BStr) -> Result<(), Errno> {
    match rustix::fs::unlinkat(directory, name.as_bytes(), AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(()),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_dot_git_somewhere_are_refused() {
        for name in [
            ".git",
            ".GIT",
            "git~1",
            "GIT~1",
            ".git ",
            ".git.",
            ".g\u{200c}it",
            ".git::$INDEX_ALLOCATION",
            "",
            ".",
            "..",
        ] {
            assert!(check_name(name.into()).is_err(), "{name:?}");
        }
        for name in [".gitignore", ".github", "git", "a b", "con", "aux.c", "x:y", "back\\slash", "\u{7f}"] {
            assert!(check_name(name.into()).is_ok(), "{name:?}");
        }
        assert!(check_name(b"\xff\xfe".as_bstr()).is_ok());
    }

    #[test]
    fn nothing_is_written_through_a_link_or_over_what_stands_there() {
        let outer = tempfile::tempdir().unwrap();
        let (root, outside) = (outer.path().join("root"), outer.path().join("outside"));
        std::fs::create_dir_all(&root).unwrap();
        std::fs::create_dir_all(&outside).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("link")).unwrap();
        std::fs::write(root.join("file"), "mine").unwrap();
        let mut destination = Destination::open(&root).unwrap();
        for path in ["link/x", "../outside/x", "file/x", "a/../../outside/x", ".git/x"] {
            assert!(destination.write(path.into(), EntryKind::Blob, b"", Existing::Replace).is_err(), "{path}");
        }
        assert!(destination.write("file".into(), EntryKind::Blob, b"", Existing::None).is_err());
        assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
        assert_eq!(std::fs::read(root.join("file")).unwrap(), b"mine");
        destination.remove("link/x".into()).unwrap();
        destination.write("a/b/c".into(), EntryKind::Blob, b"new", Existing::None).unwrap();
        assert_eq!(std::fs::read(root.join("a/b/c")).unwrap(), b"new");
        destination.remove("a/b/c".into()).unwrap();
        assert!(!root.join("a").exists());
    }
}
