//! Paths: where they really lead, what lies there, and how it is removed.
//!
//! Owns: resolving, mount points, disk usage, the removal of a directory. Must not know: worktrees or records.
//! Invariant: containment is decided on resolved paths only, and a removal follows no symlink and crosses no mount.

use std::ffi::OsString;
use std::io::ErrorKind;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

use crate::git::Repository;
use crate::git::settings::{SettingError, WORKTREE_ROOT};

/// What a path holds, itself never followed.
#[derive(Debug)]
pub enum Occupancy {
    /// Nothing.
    Gone,
    /// A directory without entries.
    EmptyDirectory,
    /// A directory with entries.
    FullDirectory,
    /// A symlink.
    Symlink,
    /// A file, or something stranger.
    Other,
    /// It cannot be told.
    Unreadable(std::io::Error),
}

/// How much a directory holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Usage {
    /// Files and symlinks.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Entries that could not be looked at.
    pub unreadable: u64,
}

/// Why a path cannot be used or removed.
#[derive(Debug, thiserror::Error)]
pub enum PathError {
    /// It cannot be resolved.
    #[error("could not resolve {}", path.display())]
    Resolve {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It goes up through something that is not there.
    #[error("{} goes up through a directory that does not exist", path.display())]
    UpThroughNothing {
        /// The path.
        path: PathBuf,
    },
    /// It leads out of where it has to stay.
    #[error("{} leads out of {}", path.display(), root.display())]
    LeadsOut {
        /// Where it leads.
        path: PathBuf,
        /// Where it has to stay.
        root: PathBuf,
    },
    /// Another file system is mounted in it.
    #[error("{} is a mount point", mount_point.display())]
    MountPoint {
        /// The mount point.
        mount_point: PathBuf,
    },
    /// It is a symlink.
    #[error("{} is a symlink", path.display())]
    Symlink {
        /// The path.
        path: PathBuf,
    },
    /// It could not be removed.
    #[error("could not remove {}", path.display())]
    Remove {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The list of mounts could not be read.
    #[error("could not read the list of mounts")]
    Mounts {
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where `path` leads: absolute, every symlink resolved. What does not exist yet is kept as written, behind what does.
pub fn resolve(path: &Path) -> Result<PathBuf, PathError> {
    let failed = |source| PathError::Resolve { path: path.to_owned(), source };
    let absolute = std::path::absolute(path).map_err(failed)?;
    let mut missing: Vec<OsString> = Vec::new();
    let mut existing = absolute.as_path();
    loop {
        match std::fs::canonicalize(existing) {
            Ok(real) => return Ok(missing.into_iter().rev().fold(real, |path, name| path.join(name))),
            // A dangling symlink is there: what is made at its path lands where it points, so it must not pass as missing.
            Err(source) if source.kind() == ErrorKind::NotFound && std::fs::symlink_metadata(existing).is_err() => {
                match (existing.components().next_back(), existing.parent()) {
                    (Some(Component::Normal(name)), Some(parent)) => {
                        missing.push(name.to_owned());
                        existing = parent;
                    }
                    _ => return Err(PathError::UpThroughNothing { path: path.to_owned() }),
                }
            }
            Err(source) => return Err(failed(source)),
        }
    }
}

/// Resolves `path` and makes sure that it lies inside `root` (which it must not be itself). For use right before acting on it.
pub fn resolve_inside(path: &Path, root: &Path) -> Result<PathBuf, PathError> {
    let (path, root) = (resolve(path)?, resolve(root)?);
    if path != root && path.starts_with(&root) { Ok(path) } else { Err(PathError::LeadsOut { path, root }) }
}

/// Where worktrees are made: `tether.worktreeRoot` (relative to the main checkout, or to a bare repository), else
/// `../<repository>.worktrees`, else, in a bare repository, `<common dir>/tether/worktrees`.
pub fn find_worktree_root(repository: &Repository) -> Result<PathBuf, SettingError> {
    let main = repository.main_checkout();
    let home = std::env::home_dir();
    if let Some(configured) = repository.settings().read(&WORKTREE_ROOT)? {
        let base = main.as_deref().unwrap_or_else(|| repository.common_dir());
        return Ok(match (configured.strip_prefix("~/"), home) {
            (Some(below_home), Some(home)) => home.join(below_home),
            _ => base.join(configured),
        });
    }
    let of_main = main.as_deref().and_then(|main| {
        let mut name = main.file_name()?.to_owned();
        name.push(".worktrees");
        Some(main.with_file_name(name))
    });
    Ok(of_main.unwrap_or_else(|| repository.tether_dir().join("worktrees")))
}

/// What lies at `path`.
pub fn look_at(path: &Path) -> Occupancy {
    let found = match std::fs::symlink_metadata(path) {
        Ok(found) => found.file_type(),
        Err(error) if is_nothing_there(&error) => return Occupancy::Gone,
        Err(error) => return Occupancy::Unreadable(error),
    };
    if found.is_symlink() {
        return Occupancy::Symlink;
    }
    if !found.is_dir() {
        return Occupancy::Other;
    }
    match std::fs::read_dir(path).map(|mut entries| entries.next()) {
        Ok(None) => Occupancy::EmptyDirectory,
        Ok(Some(Ok(_))) => Occupancy::FullDirectory,
        Ok(Some(Err(error))) | Err(error) => Occupancy::Unreadable(error),
    }
}

/// The first component of an absolute path that is a symlink. One that stands in the root directory does not count: it belongs to the
/// system (`/tmp`, `/var`).
pub fn find_symlink_on(path: &Path) -> Option<PathBuf> {
    let mut walked: Vec<&Path> = path.ancestors().collect();
    walked.reverse();
    let is_symlink = |path: &Path| std::fs::symlink_metadata(path).is_ok_and(|found| found.is_symlink());
    walked.into_iter().skip(2).find(|path| is_symlink(path)).map(Path::to_owned)
}

/// Whether an error says that nothing is at a path, as opposed to that nobody can tell.
pub(super) fn is_nothing_there(error: &std::io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// How much lies below `path`, on its own file system, symlinks not followed.
pub fn measure(path: &Path) -> Usage {
    let mut usage = Usage::default();
    for entry in walkdir::WalkDir::new(path).same_file_system(true).follow_root_links(false) {
        match entry.and_then(|entry| if entry.file_type().is_dir() { Ok(None) } else { entry.metadata().map(Some) }) {
            Ok(Some(found)) => {
                usage.files += 1;
                usage.bytes += found.len();
            }
            Ok(None) => {}
            Err(_) => usage.unreadable += 1,
        }
    }
    usage
}

/// Removes the directory `path` and all below it. `path` is resolved; nothing there is no error.
pub fn remove_directory(path: &Path) -> Result<(), PathError> {
    match std::fs::symlink_metadata(path) {
        Err(error) if is_nothing_there(&error) => return Ok(()),
        Ok(found) if found.is_symlink() => return Err(PathError::Symlink { path: path.to_owned() }),
        _ => {}
    }
    if let Some(mount_point) = Mounts::read()?.find_at_or_below(path) {
        return Err(PathError::MountPoint { mount_point: mount_point.to_owned() });
    }
    match std::fs::remove_dir_all(path) {
        Err(source) if !is_nothing_there(&source) => Err(PathError::Remove { path: path.to_owned(), source }),
        _ => Ok(()),
    }
}

/// The file systems that are mounted, as this process sees them.
#[derive(Debug, Clone)]
pub struct Mounts {
    points: Vec<PathBuf>,
}

impl Mounts {
    /// Those of now.
    pub fn read() -> Result<Self, PathError> {
        let text = std::fs::read("/proc/self/mountinfo").map_err(|source| PathError::Mounts { source })?;
        Ok(Self::parse(&text))
    }

    fn parse(text: &[u8]) -> Self {
        let point = |line: &[u8]| line.split(|byte| *byte == b' ').nth(4).map(unescape);
        Self { points: text.split(|byte| *byte == b'\n').filter_map(point).collect() }
    }

    /// The mount point that the resolved `path` lies on.
    pub fn find_of(&self, path: &Path) -> Option<&Path> {
        let holding = self.points.iter().filter(|point| path.starts_with(point));
        holding.max_by_key(|point| point.as_os_str().len()).map(PathBuf::as_path)
    }

    /// Whether something is mounted exactly there.
    pub fn is_mounted(&self, mount_point: &Path) -> bool {
        self.points.iter().any(|point| point == mount_point)
    }

    fn find_at_or_below(&self, path: &Path) -> Option<&Path> {
        self.points.iter().find(|point| point.starts_with(path)).map(PathBuf::as_path)
    }
}

/// The kernel writes space, tab, newline and backslash as three octal digits behind a backslash.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, after)) = rest.split_first() {
        let octal = after.get(..3).filter(|_| *first == b'\\');
        let value = octal.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 8).ok());
        bytes.push(value.unwrap_or(*first));
        rest = if value.is_some() { &after[3..] } else { after };
    }
    PathBuf::from(OsString::from_vec(bytes))
}

#[cfg(test)]
#[path = "paths_tests.rs"]
mod tests;
