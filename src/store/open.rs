//! Choosing the backend for a repository.
//!
//! Owns: which repositories are served in process, and which through git. Must not know: what any backend does, or which repositories are
//! refused.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::backend::Backend;
use super::file_refs::FileRefs;
use super::files::FilesBackend;
use super::git_cli::{GitBackend, GitRefs, Storage};
use super::objects::ObjectStore;
use super::sharing::Sharing;
use crate::git::{Git, RefStorage, Repository};

/// Opens the store of a repository, whose objects it shares.
pub fn open(repository: &Repository) -> Box<dyn Backend> {
    // Free of symlinks and of any worktree's name: from a linked worktree git says `worktrees/<name>/../..`, which breaks once that is removed.
    let common = repository.common_dir().to_owned();
    let format = repository.object_hash();
    let sharing = sharing_of(repository.gix());
    if sharing != Sharing::Umask {
        // What is made in it is as open as it is. Where it cannot be made, whoever writes will say so.
        let _ = sharing.create_directories(&repository.tether_dir());
    }
    let objects = ObjectStore::open(repository.objects(), common.join("objects"), format, sharing);

    let hooks = hooks_directory(repository.gix(), &common);
    let mut setting = std::ffi::OsString::from("core.hooksPath=");
    setting.push(&hooks);
    // Absolute, as git would take a relative path from the directory that it runs in.
    let git = Git::in_git_dir(&common).with_setting(setting);
    if repository.ref_storage() == RefStorage::Reftable {
        let refs = GitRefs::new(git, Storage::Reftable { common: common.clone() }, format);
        return Box::new(GitBackend { common, refs, objects });
    }
    let files = FileRefs::new(common.clone(), format, sharing);
    let refs = GitRefs::new(git, Storage::Files(files.clone()), format);
    if sharing != Sharing::Umask || is_program(&hooks.join("reference-transaction")) {
        return Box::new(GitBackend { common, refs, objects });
    }
    Box::new(FilesBackend { common, refs: files, objects, git: refs })
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
