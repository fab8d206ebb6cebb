//! Choosing the backend for a repository.
//!
//! Owns: which repositories are refused, and which are served in process or through git. Must not know: what any backend does.
//! Invariant: nothing is written to a repository whose format this version does not know (gix would open it, and write refs that git cannot
//! see).

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::backend::{Backend, BoxedError};
use super::file_refs::FileRefs;
use super::files::FilesBackend;
use super::git_cli::{GitBackend, GitRefs, Storage};
use super::objects::ObjectStore;
use super::sharing::Sharing;
use crate::git::Git;

/// The extensions of the repository format whose meaning is known here; none but the last two concerns refs or objects.
const KNOWN_EXTENSIONS: &[&str] = &[
    "noop",
    "noop-v1",
    "partialclone",
    "preciousobjects",
    "worktreeconfig",
    "relativeworktrees",
    "compatobjectformat",
    "objectformat",
    "refstorage",
];

/// Why a repository cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Its configuration could not be read.
    #[error("could not read {}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// Why.
        source: BoxedError,
    },
    /// Its common directory could not be found.
    #[error("could not find {}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its format is newer than any that is known.
    #[error("repository format version {version} is not supported")]
    FormatVersion {
        /// `core.repositoryformatversion`, as written.
        version: String,
    },
    /// It uses an extension that is not known.
    #[error("the repository uses extensions.{name}, which is not supported")]
    Extension {
        /// Its name.
        name: String,
    },
    /// Its refs are kept in a way that is not known.
    #[error("the repository keeps its refs as `{value}`, which is not supported")]
    RefStorage {
        /// `extensions.refStorage`, as written.
        value: String,
    },
    /// Its objects could not be opened.
    #[error("could not open the objects in {}", path.display())]
    Objects {
        /// The directory.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
}

/// How refs are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RefStorage {
    Files,
    Reftable,
}

/// Opens the store of a repository.
pub fn open(repository: &gix::Repository) -> Result<Box<dyn Backend>, OpenError> {
    let common = repository.common_dir();
    // From a linked worktree it is `worktrees/<name>/../..`, which breaks once that worktree is removed.
    let common =
        std::fs::canonicalize(common).map_err(|source| OpenError::Directory { path: common.to_owned(), source })?;
    let format = repository.object_hash();
    let ref_storage = check_format(&common.join("config"))?;
    let sharing = sharing_of(repository);
    if sharing != Sharing::Umask {
        // What is made in it is as open as it is. Where it cannot be made, whoever writes will say so.
        let _ = sharing.create_directories(&common.join("tether"));
    }
    let directory = common.join("objects");
    let objects = ObjectStore::open(directory.clone(), format, sharing)
        .map_err(|source| OpenError::Objects { path: directory, source })?;

    let hooks = hooks_directory(repository, &common);
    let mut setting = std::ffi::OsString::from("core.hooksPath=");
    setting.push(&hooks);
    // Absolute, as git would take a relative path from the directory that it runs in.
    let git = Git::in_git_dir(&common).with_setting(setting);
    if ref_storage == RefStorage::Reftable {
        let refs = GitRefs::new(git, Storage::Reftable { common: common.clone() }, format);
        return Ok(Box::new(GitBackend { common, refs, objects }));
    }
    let files = FileRefs::new(common.clone(), format, sharing);
    let refs = GitRefs::new(git, Storage::Files(files.clone()), format);
    if sharing != Sharing::Umask || is_program(&hooks.join("reference-transaction")) {
        return Ok(Box::new(GitBackend { common, refs, objects }));
    }
    Ok(Box::new(FilesBackend { common, refs: files, objects, git: refs }))
}

/// Reads the repository's own configuration only, as git does for its format.
fn check_format(path: &Path) -> Result<RefStorage, OpenError> {
    let configuration = gix::config::File::from_path_no_includes(path.to_owned(), gix::config::Source::Local);
    let configuration =
        configuration.map_err(|source| OpenError::Configuration { path: path.to_owned(), source: source.into() })?;
    if let Some(version) = configuration.string("core.repositoryformatversion")
        && !matches!(version.as_slice(), b"0" | b"1")
    {
        return Err(OpenError::FormatVersion { version: version.to_string() });
    }
    for section in configuration.sections_by_name("extensions").into_iter().flatten() {
        for name in section.body().value_names() {
            let name: String = name.clone();
            if !KNOWN_EXTENSIONS.contains(&name.to_ascii_lowercase().as_str()) {
                return Err(OpenError::Extension { name });
            }
        }
    }
    match configuration.string("extensions.refStorage") {
        None => Ok(RefStorage::Files),
        Some(value) => match value.as_slice() {
            b"files" => Ok(RefStorage::Files),
            b"reftable" => Ok(RefStorage::Reftable),
            _ => Err(OpenError::RefStorage { value: value.to_string() }),
        },
    }
}

fn sharing_of(repository: &gix::Repository) -> Sharing {
    let configuration = repository.config_snapshot();
    match configuration.string("core.sharedRepository") {
        Some(value) => Sharing::from_setting(&value.to_string()),
        // A key without a value means `true`.
        None if configuration.boolean("core.sharedRepository") == Some(true) => Sharing::from_setting("true"),
        None => Sharing::Umask,
    }
}

fn hooks_directory(repository: &gix::Repository, common: &Path) -> PathBuf {
    let configured = repository.config_snapshot().trusted_path("core.hooksPath");
    match configured {
        Ok(Some(path)) if path.is_absolute() => path,
        Ok(Some(path)) => {
            let base = repository.workdir().unwrap_or(common);
            std::path::absolute(base.join(&path)).unwrap_or(path)
        }
        _ => common.join("hooks"),
    }
}

fn is_program(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}
