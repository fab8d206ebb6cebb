//! The worktree that is saved or restored, and what git says about it: repository, HEAD, index.
//!
//! Owns: opening a worktree for a snapshot. Must not know: contents. Invariant: variables of a hook's environment (`GIT_INDEX_FILE`,
//! `GIT_WORK_TREE`) have no effect, and a directory that answers for another git directory is refused.

use super::SaveError;
use crate::git::{Git, Objects, Repository, open_plainly};
use gix::ObjectId;
use gix::bstr::ByteSlice;
use rustix::fs::Stat;
use std::path::{Path, PathBuf};

/// A worktree: its directory and its two git directories.
#[derive(Debug, Clone)]
pub struct WorktreePlace {
    /// The directory with the files.
    pub path: PathBuf,
    /// Its own git directory: `<common>/worktrees/<name>` of a linked worktree, the common one of a main worktree.
    pub git_dir: PathBuf,
    /// The git directory that all worktrees share.
    pub common_dir: PathBuf,
    /// Its repository as it was opened just before, if it was, and as its own configuration says.
    pub opened: Option<Box<gix::ThreadSafeRepository>>,
}

/// Where a worktree stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) commit: Option<ObjectId>,
    pub(super) branch: Option<String>,
}

/// What the index file looked like: another one means that somebody wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct FileMark {
    inode: u64,
    size: i64,
    modified: (i64, i64),
    changed: (i64, i64),
    emptying: bool,
}

impl FileMark {
    #[allow(clippy::useless_conversion, reason = "the widths differ between systems")]
    #[allow(clippy::cast_possible_wrap, reason = "nanoseconds are few")]
    #[allow(clippy::unnecessary_cast, reason = "the widths differ between systems")]
    pub(super) fn of(stat: &Stat) -> Self {
        Self {
            inode: stat.st_ino.into(),
            size: stat.st_size.into(),
            modified: (stat.st_mtime as i64, stat.st_mtime_nsec as i64),
            changed: (stat.st_ctime as i64, stat.st_ctime_nsec as i64),
            emptying: stat.st_size == 0 && stat.st_blocks > 0,
        }
    }

    /// Whether it is empty and yet has room on disk: most likely somebody is writing it anew, and has to wait for the disk between emptying
    /// and filling it.
    pub(super) fn is_emptying(&self) -> bool {
        self.emptying
    }

    /// The file's size in bytes.
    pub(super) fn size(&self) -> u64 {
        u64::try_from(self.size).unwrap_or_default()
    }

    /// When the content was last modified: seconds and nanoseconds.
    pub(super) fn modified(&self) -> (i64, i64) {
        self.modified
    }

    /// When anything about the file was last changed, its content included: seconds and nanoseconds. Nobody can set this back.
    pub(super) fn changed(&self) -> (i64, i64) {
        self.changed
    }

    /// The mark of the file at `path` itself, `None` if there is none.
    pub(super) fn at(path: &Path) -> Option<Self> {
        rustix::fs::lstat(path).ok().map(|stat| Self::of(&stat))
    }
}

/// Opens the repository at `path` (a worktree or a git directory) as git would for its owner, and as if no hook had started us.
pub(super) fn open_repository(path: &Path) -> Result<gix::ThreadSafeRepository, SaveError> {
    open_with_objects(path, None)
}

fn open_with_objects(path: &Path, objects: Option<&Objects>) -> Result<gix::ThreadSafeRepository, SaveError> {
    open_plainly(path, objects).map_err(|source| SaveError::Open { path: path.to_owned(), source: source.into() })
}

impl WorktreePlace {
    /// The worktree that `repository` was opened at, if it has one.
    pub fn of(repository: &Repository) -> Option<Self> {
        // What `git -c` says is for once: a filter that is set that way is gone when the work is to come back.
        let as_configured = !repository.has_command_line_settings();
        Some(Self {
            path: repository.workdir()?.to_owned(),
            git_dir: repository.git_dir().to_owned(),
            common_dir: repository.common_dir().to_owned(),
            opened: as_configured.then(|| Box::new(repository.gix().clone().into_sync())),
        })
    }

    /// Opens its repository with the settings of now, and refuses a directory that belongs to another one.
    pub(super) fn open(&self) -> Result<gix::ThreadSafeRepository, SaveError> {
        let objects = self.opened.as_deref().map(Objects::of_opened);
        let repository = open_with_objects(&self.path, objects.as_ref())?;
        let (found, expected) = (real(repository.to_thread_local().git_dir()), real(&self.git_dir));
        if found == expected {
            return Ok(repository);
        }
        Err(SaveError::OtherRepository { path: self.path.clone(), expected, found })
    }

    /// The same, unless it has been opened just before.
    pub(super) fn open_unless_opened(&self) -> Result<gix::ThreadSafeRepository, SaveError> {
        self.opened.as_deref().map_or_else(|| self.open(), |opened| Ok(opened.clone()))
    }

    /// Its index file, which may not be there.
    pub(super) fn index_path(&self) -> PathBuf {
        self.git_dir.join("index")
    }
}

fn real(path: &Path) -> PathBuf {
    path.canonicalize().unwrap_or_else(|_| path.to_owned())
}

/// Whether refs are kept where only the git program finds them.
pub(super) fn refs_need_git(repository: &gix::Repository) -> bool {
    let storage = repository.config_snapshot().string("extensions.refStorage");
    storage.is_some_and(|format| !format.eq_ignore_ascii_case(b"files"))
}

/// Where the worktree with the git directory `git_dir` stands.
pub(super) fn read_head(repository: &gix::Repository, git_dir: &Path) -> Result<Head, SaveError> {
    let failed = |source: super::Cause| SaveError::Head { path: git_dir.to_owned(), source };
    if refs_need_git(repository) {
        return read_head_with_git(git_dir);
    }
    // The worktree's own HEAD file: the repository may have been opened elsewhere, its directory being gone.
    let text = std::fs::read(git_dir.join("HEAD")).map_err(|source| failed(source.into()))?;
    let text = text.trim_end();
    let Some(name) = text.strip_prefix(b"ref:") else {
        let id = ObjectId::from_hex(text).map_err(|source| failed(source.into()))?;
        return Ok(Head { commit: Some(id), branch: None });
    };
    let name = name.trim().as_bstr();
    let find = || repository.try_find_reference(name).map_err(|source| failed(source.into()));
    // A ref that is being packed may be missed once.
    let found = match find()? {
        None => find()?,
        found => found,
    };
    let commit = found.map(|mut found| found.peel_to_commit()).transpose().map_err(|source| failed(source.into()))?;
    Ok(Head { commit: commit.map(|commit| commit.id), branch: Some(name.to_str_lossy().into_owned()) })
}

fn read_head_with_git(git_dir: &Path) -> Result<Head, SaveError> {
    let git = Git::in_git_dir(git_dir);
    let failed = |source: crate::git::GitError| SaveError::Head { path: git_dir.to_owned(), source: source.into() };
    let asked = |arguments: &[&str]| match git.run(arguments) {
        Ok(output) => Ok(Some(output.text())),
        Err(error) if error.exit_code() == Some(1) => Ok(None),
        Err(error) => Err(failed(error)),
    };
    let branch = asked(&["symbolic-ref", "-q", "HEAD"])?;
    let commit = asked(&["rev-parse", "--verify", "-q", "HEAD^{commit}"])?;
    Ok(Head { commit: commit.and_then(|text| ObjectId::from_hex(text.as_bytes()).ok()), branch })
}

/// The index file `path`, or `None` if there is none. Its checksum is not verified, as in git itself.
pub(super) fn read_index(repository: &gix::Repository, path: &Path) -> Result<Option<gix::index::File>, SaveError> {
    if !path.exists() {
        return Ok(None);
    }
    gix::index::File::at(path, repository.object_hash(), true, gix::index::decode::Options::default())
        .map(Some)
        .map_err(|source| SaveError::Index { path: path.to_owned(), source: source.into() })
}
