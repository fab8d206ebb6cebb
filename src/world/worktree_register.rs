//! Registering a worktree: its admin directory and the `.git` file that names it.
//!
//! Owns: the bytes of both, the same as git's. Must not know: branches, contents.
//! Invariant: a registration appears with our mark and its lock in it, or not at all; whose time it takes does not depend on how
//! many there are (`git worktree add` looks at each).

use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use gix::ObjectId;

use super::clock::read_stamping_clock;
use super::durable;
use super::worktree_mark::{self, Mark};
use crate::git::{GitError, RefStorage, Repository, Role};

/// Registers `path` as a detached worktree at `id`, locked and marked, and returns its admin directory.
pub(super) fn register(
    repository: &Repository,
    path: &Path,
    id: ObjectId,
    mark: &Mark,
) -> Result<PathBuf, RegisterError> {
    if needs_git(repository) {
        return register_through_git(repository, path, id, mark);
    }
    let staging = super::worktree_staging::directory(repository);
    let staged = || -> std::io::Result<()> {
        match std::fs::remove_dir_all(&staging) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => std::fs::create_dir_all(staging.join("refs"))?,
        }
        let mut gitdir = path.join(".git").as_os_str().as_bytes().to_vec();
        gitdir.push(b'\n');
        // What has the registration's name holds our mark and its path, whatever a power cut takes.
        durable::write(&staging.join("locked"), b"initializing")?;
        durable::write(&staging.join("gitdir"), &gitdir)?;
        durable::write(&staging.join("commondir"), b"../..\n")?;
        durable::write(&staging.join("HEAD"), format!("{id}\n").as_bytes())?;
        worktree_mark::write(&staging, mark)?;
        std::fs::create_dir_all(repository.common_dir().join("worktrees"))
    };
    staged().map_err(|source| RegisterError::Write { path: staging.clone(), source })?;
    let wanted = repository.common_dir().join("worktrees").join(admin_name(path));
    move_to_free_name(&staging, &wanted).map_err(|source| RegisterError::Write { path: wanted, source })
}

/// Why a worktree was not registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// A file of the registration could not be written.
    #[error("could not write the registration {}", path.display())]
    Write {
        /// Where.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// git refused.
    #[error("git did not register the worktree")]
    Git(#[from] GitError),
    /// git said it did, and nothing is there.
    #[error("git registered {}, but no registration names it", path.display())]
    NotFound {
        /// The worktree's path.
        path: PathBuf,
    },
}

/// Writes the `.git` file that names `admin_dir`, as git does.
pub(super) fn write_link(path: &Path, admin_dir: &Path) -> std::io::Result<()> {
    let mut text = b"gitdir: ".to_vec();
    text.extend(admin_dir.as_os_str().as_bytes());
    text.push(b'\n');
    let scratch = path.join(".git.tether-new");
    durable::replace(&path.join(".git"), &scratch, &text)
}

/// Puts HEAD of a worktree, which stands at `commit`, on the branch `name` (full ref name) there.
pub(super) fn attach(
    repository: &Repository,
    path: &Path,
    admin_dir: &Path,
    name: &str,
    commit: ObjectId,
) -> Result<(), AttachError> {
    const REASON: &str = "worktree: on its branch";
    if repository.ref_storage() != RefStorage::Files || repository.has_hook("reference-transaction") {
        let attached = repository.git_in(path).run(["symbolic-ref", "-m", REASON, "HEAD", name]);
        return Ok(attached.map(drop)?);
    }
    // As git does it: what somebody else has locked is waited for by nobody.
    let lock = admin_dir.join("HEAD.lock");
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| AttachError::Write { path, source }
    };
    let mut file = File::create_new(&lock).map_err(failed(&lock))?;
    let written = file.write_all(format!("ref: {name}\n").as_bytes()).and_then(|()| file.sync_all());
    written.map_err(failed(&lock))?;
    if repository.gix().config_snapshot().boolean("core.logAllRefUpdates") != Some(false) {
        let log = admin_dir.join("logs").join("HEAD");
        append_to_log(repository, &log, commit, REASON).map_err(failed(&log))?;
    }
    std::fs::rename(&lock, admin_dir.join("HEAD")).map_err(failed(&lock))?;
    durable::sync_directory(admin_dir).map_err(failed(admin_dir))
}

fn append_to_log(repository: &Repository, log: &Path, commit: ObjectId, reason: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(log.parent().unwrap_or(log))?;
    let who = repository.identity(Role::Committer);
    let (seconds, _) = read_stamping_clock();
    let line = format!("{commit} {commit} {} <{}> {seconds} +0000\t{reason}\n", who.name, who.email);
    File::options().create(true).append(true).open(log)?.write_all(line.as_bytes())
}

/// Why HEAD was not put on a branch.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// A file could not be written.
    #[error("could not write {}", path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// git refused.
    #[error(transparent)]
    Git(#[from] GitError),
}

/// Whether the registration needs more than files: refs in tables, settings or links of a kind that git copies or makes itself.
fn needs_git(repository: &Repository) -> bool {
    let config = repository.gix().config_snapshot();
    repository.ref_storage() == RefStorage::Reftable
        || config.boolean("extensions.worktreeConfig").unwrap_or(false)
        || config.boolean("extensions.relativeWorktrees").unwrap_or(false)
        || config.boolean("worktree.useRelativePaths").unwrap_or(false)
        || repository.git_dir().join("info/sparse-checkout").exists()
}

fn register_through_git(
    repository: &Repository,
    path: &Path,
    id: ObjectId,
    mark: &Mark,
) -> Result<PathBuf, RegisterError> {
    let id = id.to_string();
    let reason = worktree_mark::lock_reason(mark);
    let words = ["worktree", "add", "-q", "--detach", "--no-checkout", "--lock", "--reason", &reason, "--"];
    let words = words.iter().map(AsRef::as_ref).chain([path.as_os_str(), id.as_ref()]);
    // From the worktree that was opened: git copies its sparse patterns and its own settings.
    let git = repository.workdir().map_or_else(|| repository.git(), |workdir| repository.git_in(workdir));
    git.run(words)?;
    let admin_dir = super::worktrees::read_link_of(path).ok().flatten();
    let admin_dir = admin_dir.and_then(|found| std::fs::canonicalize(found).ok());
    let admin_dir = admin_dir.ok_or_else(|| RegisterError::NotFound { path: path.to_owned() })?;
    worktree_mark::write(&admin_dir, mark)
        .and_then(|()| durable::sync_files_in(&admin_dir))
        .map_err(|source| RegisterError::Write { path: admin_dir.clone(), source })?;
    Ok(admin_dir)
}

/// The last part of the path, without what a ref name cannot hold: the admin directory is part of one (`worktrees/<name>/HEAD`).
fn admin_name(path: &Path) -> String {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let fits = |letter: char| letter.is_alphanumeric() || matches!(letter, '_' | '-' | '+' | '=' | '%' | ',');
    let mut kept: String =
        name.chars().map(|letter| if fits(letter) || letter == '.' { letter } else { '-' }).collect();
    while kept.contains("..") {
        kept = kept.replace("..", ".");
    }
    let kept = kept.trim_matches('.').trim_end_matches(".lock");
    if kept.is_empty() { "worktree".to_owned() } else { kept.to_owned() }
}

fn move_to_free_name(staging: &Path, wanted: &Path) -> std::io::Result<PathBuf> {
    let mut target = wanted.to_owned();
    let mut number = 0_u64;
    loop {
        let flags = rustix::fs::RenameFlags::NOREPLACE;
        match rustix::fs::renameat_with(rustix::fs::CWD, staging, rustix::fs::CWD, &target, flags) {
            Ok(()) => return Ok(target),
            Err(rustix::io::Errno::EXIST) => {
                number += 1;
                let mut name = wanted.as_os_str().to_owned();
                name.push(number.to_string());
                target = PathBuf::from(name);
            }
            Err(error) => return Err(error.into()),
        }
    }
}
