//! Refs through the git program: for reftable, for repositories with a `reference-transaction` hook, for shared ones, and for deletions.
//!
//! Owns: what is said to `git update-ref` and `git for-each-ref`, and what their answers mean. Must not know: what the refs' objects say.
//! Invariant: every update names the old value, no symbolic ref is followed, and an unsure outcome is settled by reading the ref.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use gix::ObjectId;
use gix::hash::Kind;

use super::backend::{
    Backend, ClearedLock, Expected, New, Object, ObjectHeader, ReadObjectError, ReadRefError, RefValue, SwapError,
    WriteError,
};
use super::file_refs::{FileRefs, is_expected};
use super::fold::{FoldError, Folded, find_unfinished, fold, list_written};
use super::locks::{LockError, StaleLock};
use super::names::{RefName, RefPrefix};
use super::objects::{Batch, ObjectStore};
use super::pack::sync_directory;
use super::release::{ReleaseError, Released, release};
use super::turns::{self, Turn};
use crate::git::{Git, GitError};

/// How long a lock that somebody holds is waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// How refs are kept, which decides how they are read and made durable.
#[derive(Debug, Clone)]
pub(super) enum Storage {
    Files(FileRefs),
    Reftable { common: PathBuf },
}

/// Refs of one repository, changed by git.
#[derive(Debug, Clone)]
pub(super) struct GitRefs {
    git: Git,
    storage: Storage,
    format: Kind,
}

/// What a failed `git update-ref` means, as far as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Refusal {
    OtherValue,
    Locked,
    NameConflict,
    ReadOnly,
    Full,
    Unknown,
}

impl GitRefs {
    pub(super) fn new(git: Git, storage: Storage, format: Kind) -> Self {
        let git = ["core.filesRefLockTimeout=500", "reftable.lockTimeout=500"].into_iter().fold(git, Git::with_setting);
        Self { git, storage, format }
    }

    /// The git program for this repository.
    pub(super) fn git(&self) -> &Git {
        &self.git
    }

    fn read(&self, name: &RefName) -> Result<RefValue, ReadRefError> {
        if let Storage::Files(files) = &self.storage {
            return files.read(name);
        }
        let found = self.for_each_ref(name.as_str())?.into_iter().find(|(found, _)| found == name);
        if let Some((_, value)) = found {
            return Ok(value);
        }
        // `for-each-ref` passes over a symbolic ref that leads nowhere.
        match self.git.run(["symbolic-ref", "--quiet", "--no-recurse", name.as_str()]) {
            Ok(output) => Ok(RefValue::Symbolic(output.text())),
            Err(GitError::Failed { status, .. }) if matches!(status.code(), Some(1 | 128)) => Ok(RefValue::Absent),
            Err(error) => Err(error.into()),
        }
    }

    fn list(&self, prefix: &RefPrefix) -> Result<Vec<(RefName, RefValue)>, ReadRefError> {
        match &self.storage {
            Storage::Files(files) => files.list(prefix),
            Storage::Reftable { .. } => self.for_each_ref(prefix.as_str()),
        }
    }

    fn for_each_ref(&self, pattern: &str) -> Result<Vec<(RefName, RefValue)>, ReadRefError> {
        let output =
            self.git.run(["for-each-ref", "--format=%(refname)%00%(objectname)%00%(symref)", "--", pattern])?;
        let text = String::from_utf8_lossy(&output.stdout);
        let mut found = Vec::new();
        for line in text.lines() {
            let unknown = || ReadRefError::Answer { line: line.to_owned() };
            let mut fields = line.splitn(3, '\0');
            let (Some(name), Some(id), Some(target)) = (fields.next(), fields.next(), fields.next()) else {
                return Err(unknown());
            };
            let Ok(name) = RefName::parse(name) else { continue };
            let value = if target.is_empty() {
                RefValue::Id(ObjectId::from_hex(id.as_bytes()).map_err(|_| unknown())?)
            } else {
                RefValue::Symbolic(target.to_owned())
            };
            found.push((name, value));
        }
        Ok(found)
    }

    pub(super) fn swap(&self, name: &RefName, expected: Expected, new: New) -> Result<(), SwapError> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.swap_once(name, expected, new) {
                Err(SwapError::Busy { .. }) if Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(2 + fastrand::u64(..20)));
                }
                other => return other,
            }
        }
    }

    fn swap_once(&self, name: &RefName, expected: Expected, new: New) -> Result<(), SwapError> {
        let unreadable = |source| SwapError::Unreadable { name: name.clone(), source };
        // Git compares what a symbolic ref leads to: that it is one is seen here only.
        let found = self.read(name).map_err(unreadable)?;
        if !is_expected(&found, expected) {
            return Err(SwapError::Lost { name: name.clone(), found });
        }
        if (expected, new) == (Expected::Absent, New::Delete) {
            return Ok(());
        }
        let input = self.instruction(name, expected, new);
        if let Err(error) = self.git.run_with_input(["update-ref", "--no-deref", "--stdin"], input.as_bytes()) {
            self.settle(name, expected, new, error)?;
        }
        self.make_durable(name, new)
    }

    /// What a failed update came to: git's words where they are sure, the ref's value where they are not.
    fn settle(&self, name: &RefName, expected: Expected, new: New, error: GitError) -> Result<(), SwapError> {
        let refusal = refusal(&error);
        // Another process may have made the very same commit: that the ref holds it does not tell that it was us who moved it.
        if matches!(refusal, Refusal::Locked | Refusal::NameConflict) {
            return Err(self.refused(name, refusal, error));
        }
        let found = self.read(name).map_err(|source| SwapError::Unreadable { name: name.clone(), source })?;
        if refusal == Refusal::OtherValue {
            return Err(SwapError::Lost { name: name.clone(), found });
        }
        if is_expected(&found, new.as_expected()) {
            return Ok(());
        }
        if is_expected(&found, expected) {
            return Err(self.refused(name, refusal, error));
        }
        Err(SwapError::Lost { name: name.clone(), found })
    }

    /// What is no id is replaced in its file; reftable can hold nothing of the kind but a symbolic ref, which git takes away first.
    fn replace_unusable(&self, name: &RefName, found: &RefValue, new: New) -> Result<(), SwapError> {
        if let Storage::Files(files) = &self.storage {
            return files.replace_unusable(name, found, new);
        }
        let now = self.read(name).map_err(|source| SwapError::Unreadable { name: name.clone(), source })?;
        if now != *found || !matches!(now, RefValue::Symbolic(_)) {
            return Err(SwapError::Lost { name: name.clone(), found: now });
        }
        let deleted = self.git.run(["symbolic-ref", "--delete", name.as_str()]);
        deleted.map_err(|source| SwapError::Git { name: name.clone(), source })?;
        match new {
            New::Id(_) => self.swap(name, Expected::Absent, new),
            New::Delete => self.make_durable(name, New::Delete),
        }
    }

    fn instruction(&self, name: &RefName, expected: Expected, new: New) -> String {
        let old = match expected {
            Expected::Absent => ObjectId::null(self.format),
            Expected::Id(id) => id,
        };
        match new {
            New::Id(id) => format!("update {name} {id} {old}\n"),
            New::Delete => format!("delete {name} {old}\n"),
        }
    }

    fn refused(&self, name: &RefName, refusal: Refusal, source: GitError) -> SwapError {
        let name = name.clone();
        match refusal {
            Refusal::Locked => {
                let lock = match &self.storage {
                    Storage::Files(_) => self.git.directory().join(format!("{name}.lock")),
                    Storage::Reftable { common } => common.join("reftable/tables.list.lock"),
                };
                SwapError::Busy { name, lock }
            }
            Refusal::NameConflict => SwapError::NameConflict { name, with: conflicting_name(&source) },
            Refusal::ReadOnly => SwapError::ReadOnly { name, source: source.into() },
            Refusal::Full => SwapError::Full { name, source: source.into() },
            Refusal::OtherValue | Refusal::Unknown => SwapError::Git { name, source },
        }
    }

    /// Git syncs files, but no directory.
    fn make_durable(&self, name: &RefName, new: New) -> Result<(), SwapError> {
        let not_durable = |source| SwapError::NotDurable { name: name.clone(), source };
        match &self.storage {
            Storage::Reftable { common } => sync_directory(&common.join("reftable")).map_err(not_durable),
            Storage::Files(files) => {
                if new == New::Delete {
                    files.sync_packed().map_err(not_durable)?;
                }
                files.make_durable(name)
            }
        }
    }
}

impl New {
    fn as_expected(self) -> Expected {
        match self {
            Self::Id(id) => Expected::Id(id),
            Self::Delete => Expected::Absent,
        }
    }
}

/// Reads git's words, which are in English as `Git` asks for them.
fn refusal(error: &GitError) -> Refusal {
    let GitError::Failed { said, .. } = error else { return Refusal::Unknown };
    let says = |words: &[&str]| words.iter().any(|word| said.contains(word));
    if says(&["but expected", "reference already exists", "unable to resolve reference", "reference is missing"]) {
        Refusal::OtherValue
    } else if says(&["exists; cannot create", "cannot process '"]) {
        Refusal::NameConflict
    } else if says(&["Read-only file system", "Permission denied"]) {
        Refusal::ReadOnly
    } else if says(&["No space left", "Disk quota exceeded"]) {
        Refusal::Full
    } else if says(&[".lock': File exists", "cannot lock references", "data is locked", "is locked"]) {
        Refusal::Locked
    } else {
        Refusal::Unknown
    }
}

fn conflicting_name(error: &GitError) -> String {
    let GitError::Failed { said, .. } = error else { return String::new() };
    let quoted = said.split('\'').collect::<Vec<_>>();
    let before = quoted.windows(2).find(|pair| pair[1].contains("exists; cannot create"));
    before.map_or_else(|| "another ref".to_owned(), |pair| pair[0].to_owned())
}

/// The backend that leaves refs to git; objects are still packs of ours.
pub(super) struct GitBackend {
    pub(super) common: PathBuf,
    pub(super) refs: GitRefs,
    pub(super) objects: ObjectStore,
}

impl Backend for GitBackend {
    fn object_format(&self) -> Kind {
        self.objects.packs.format
    }

    fn read_ref(&self, name: &RefName) -> Result<RefValue, ReadRefError> {
        self.refs.read(name)
    }

    fn list_refs(&self, prefix: &RefPrefix) -> Result<Vec<(RefName, RefValue)>, ReadRefError> {
        self.refs.list(prefix)
    }

    fn header(&self, id: &gix::oid) -> Result<ObjectHeader, ReadObjectError> {
        self.objects.header(id)
    }

    fn read(&self, id: &gix::oid, limit: u64) -> Result<Object, ReadObjectError> {
        self.objects.read(id, limit)
    }

    fn turn(&self, name: &RefName) -> Option<Turn> {
        turns::wait(&self.common, name)
    }

    fn batch(&self) -> Batch {
        self.objects.batch()
    }

    fn write(&self, batch: Batch) -> Result<(), WriteError> {
        batch.publish(&self.objects.packs)
    }

    fn swap(&self, name: &RefName, expected: Expected, new: New) -> Result<(), SwapError> {
        self.refs.swap(name, expected, new)
    }

    fn replace_unusable(&self, name: &RefName, found: &RefValue, new: New) -> Result<(), SwapError> {
        self.refs.replace_unusable(name, found, new)
    }

    fn list_written(&self) -> Result<Vec<ObjectId>, FoldError> {
        list_written(&self.objects.packs)
    }

    fn find_unfinished_packs(&self) -> Result<Vec<PathBuf>, FoldError> {
        find_unfinished(&self.objects.packs)
    }

    fn fold(&self) -> Result<Folded, FoldError> {
        fold(&self.objects.packs, &self.common)
    }

    fn release(&self, tip: Option<gix::ObjectId>) -> Result<Released, ReleaseError> {
        release(&self.objects.packs, &self.common, self.refs.git(), tip)
    }

    /// Git's own locks cannot be told from those of a git that lives.
    fn find_stale_locks(&self) -> Result<Vec<StaleLock>, LockError> {
        match &self.refs.storage {
            Storage::Files(files) => files.find_stale_locks(),
            Storage::Reftable { .. } => Ok(Vec::new()),
        }
    }

    fn clear_stale_lock(&self, lock: &StaleLock) -> Result<ClearedLock, LockError> {
        match &self.refs.storage {
            Storage::Files(files) => files.clear_stale_lock(lock),
            Storage::Reftable { .. } => Ok(ClearedLock::Gone),
        }
    }
}
