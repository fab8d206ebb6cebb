//! Whether a worktree holds changes: as `git status` would say, many at a time and without a process for the ordinary ones.
//!
//! Owns: the comparison of HEAD, index and files. Must not know: what follows from a change.
//! Invariant: whatever is not certain goes to the git program, and what git cannot tell is unknown: an error is never clean.

use std::collections::{BTreeSet, HashMap};
use std::ffi::{OsStr, OsString};
use std::fs::DirEntry;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use gix::ObjectId;
use gix::bstr::{BStr, BString, ByteSlice};
use gix::index::entry::{Flags, Mode, Stage, Stat};
use gix::index::{Entry, State};
use gix::worktree::stack::state::ignore::Source as IgnoreSource;

use super::worktrees::{Head, Place, Registration, WorktreeList, in_parallel};
use crate::git::Repository;

/// A worktree to look at.
#[derive(Debug, Clone, Copy)]
pub struct Worktree<'a> {
    /// Its directory.
    pub path: &'a Path,
    /// Its git directory: the admin directory, or the common one for the main checkout.
    pub git_dir: &'a Path,
    /// What its HEAD names.
    pub head: &'a Head,
}

/// What was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Cleanliness {
    /// HEAD, index and files are the same, and no file is untracked, ignored ones apart.
    Clean,
    /// They are not.
    Dirty {
        /// Paths changed, staged or not.
        changed: usize,
        /// Files neither tracked nor ignored; an embedded repository counts as one.
        untracked: usize,
    },
    /// It cannot be told.
    Unknown(String),
}

impl Registration {
    /// The worktree to look at, if it is linked.
    pub fn as_worktree(&self) -> Option<Worktree<'_>> {
        let path = self.path.as_deref().filter(|_| matches!(self.place, Place::Linked))?;
        Some(Worktree { path, git_dir: &self.admin_dir, head: &self.head })
    }
}

/// Looks at all of `worktrees`, on all cores, and answers in their order.
pub fn read_cleanliness(repository: &Repository, list: &WorktreeList, worktrees: &[Worktree<'_>]) -> Vec<Cleanliness> {
    let shared = repository.gix().clone().into_sync();
    let context = Context {
        shared: &shared,
        object_hash: repository.object_hash(),
        options: repository.gix().stat_options().unwrap_or_default(),
        trusts_mode: repository.gix().config_snapshot().boolean("core.fileMode").unwrap_or(true),
        converts: may_convert(repository),
        trees: Mutex::new(HashMap::new()),
        heads: worktrees
            .iter()
            .map(|worktree| match list.find_head_id(repository, worktree.head) {
                Ok(id) => Ok(id),
                Err(error) => Err(error.to_string()),
            })
            .collect(),
    };
    let numbered: Vec<_> = worktrees.iter().zip(&context.heads).collect();
    let quick = in_parallel(&numbered, |(worktree, head)| context.look(worktree, head));
    let ask_git = |(found, worktree): (Result<Cleanliness, Doubt>, &Worktree<'_>)| match found {
        Ok(found) => found,
        Err(Doubt::AskGit) => status_of_git(repository, worktree.path),
        Err(Doubt::Failed(said)) => Cleanliness::Unknown(said),
    };
    quick.into_iter().zip(worktrees).map(ask_git).collect()
}

struct Context<'a> {
    shared: &'a gix::ThreadSafeRepository,
    object_hash: gix::hash::Kind,
    options: gix::index::entry::stat::Options,
    trusts_mode: bool,
    converts: bool,
    trees: Mutex<HashMap<ObjectId, ObjectId>>,
    heads: Vec<Result<Option<ObjectId>, String>>,
}

/// Why the quick look has no answer.
enum Doubt {
    AskGit,
    Failed(String),
}

impl From<std::io::Error> for Doubt {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<gix::Error> for Doubt {
    fn from(error: gix::Error) -> Self {
        Self::Failed(error.to_string())
    }
}

/// Whether a file's bytes may differ from those of its blob though nobody changed it, by settings alone.
fn may_convert(repository: &Repository) -> bool {
    let config = repository.gix().config_snapshot();
    let autocrlf = config.string("core.autocrlf").is_some_and(|value| value != "false");
    let home = std::env::home_dir().unwrap_or_default();
    autocrlf
        || config.string("core.attributesFile").is_some()
        || config.boolean("core.symlinks") == Some(false)
        || repository.common_dir().join("info/attributes").exists()
        || home.join(".config/git/attributes").exists()
        || std::env::var_os("XDG_CONFIG_HOME").is_some()
        || Path::new("/etc/gitattributes").exists()
}

impl Context<'_> {
    fn look(&self, worktree: &Worktree<'_>, head: &Result<Option<ObjectId>, String>) -> Result<Cleanliness, Doubt> {
        let head = head.as_ref().map_err(|said| Doubt::Failed(said.clone()))?;
        if let Head::Unreadable(said) = worktree.head {
            return Err(Doubt::Failed(format!("its HEAD cannot be read: {said}")));
        }
        let index_path = worktree.git_dir.join("index");
        if !index_path.exists() {
            // Half made, or emptied on purpose: rare enough to leave to git.
            return Err(Doubt::AskGit);
        }
        let decoding = gix::index::decode::Options { thread_limit: Some(1), ..Default::default() };
        let index = gix::index::File::at(index_path, self.object_hash, true, decoding)?;
        if index.is_sparse() || index.link().is_some() {
            return Err(Doubt::AskGit);
        }
        let converts =
            self.converts || index.entries().iter().any(|entry| entry.path(&index).ends_with(b".gitattributes"));
        let mut look = Look {
            context: self,
            index: &index,
            root: worktree.path,
            converts,
            changed: BTreeSet::new(),
            unknown: Vec::new(),
        };
        self.find_staged(&mut look, *head)?;
        look.compare_directory(&mut worktree.path.to_owned(), 0, index.entries())?;
        let untracked = look.count_untracked()?;
        let changed = look.changed.len();
        Ok(if changed + untracked == 0 { Cleanliness::Clean } else { Cleanliness::Dirty { changed, untracked } })
    }

    fn find_staged(&self, look: &mut Look<'_>, head: Option<ObjectId>) -> Result<(), Doubt> {
        let Some(head) = head else {
            look.changed.extend(look.index.entries().iter().map(|entry| entry.path(look.index).to_owned()));
            return Ok(());
        };
        let tree = self.find_tree(head)?;
        let cached = look.index.tree().filter(|root| root.num_entries.is_some());
        if cached.is_some_and(|root| root.id == tree) {
            return Ok(());
        }
        let of_head = self.shared.to_thread_local().index_from_tree(&tree)?;
        let facts = |state: &State| -> BTreeSet<(BString, ObjectId, Mode, u32)> {
            let fact = |entry: &Entry| (entry.path(state).to_owned(), entry.id, entry.mode, entry.stage_raw());
            state.entries().iter().map(fact).collect()
        };
        let differing =
            facts(&of_head).symmetric_difference(&facts(look.index)).map(|fact| fact.0.clone()).collect::<Vec<_>>();
        look.changed.extend(differing);
        Ok(())
    }

    fn find_tree(&self, commit: ObjectId) -> Result<ObjectId, Doubt> {
        let known = |trees: &HashMap<ObjectId, ObjectId>| trees.get(&commit).copied();
        if let Some(tree) = known(&self.trees.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(tree);
        }
        let local = self.shared.to_thread_local();
        let tree = local.find_commit(commit)?.tree_id()?.detach();
        self.trees.lock().unwrap_or_else(PoisonError::into_inner).insert(commit, tree);
        Ok(tree)
    }
}

struct Look<'a> {
    context: &'a Context<'a>,
    index: &'a State,
    root: &'a Path,
    converts: bool,
    changed: BTreeSet<BString>,
    unknown: Vec<Unknown>,
}

struct Unknown {
    path: PathBuf,
    kind: Kind,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    File,
}

impl Look<'_> {
    /// Compares the entries below `directory`, whose index paths all begin with the same `prefix` bytes.
    fn compare_directory(&mut self, directory: &mut PathBuf, prefix: usize, entries: &[Entry]) -> Result<(), Doubt> {
        let mut listed = Listing::read(directory, if prefix == 0 { Level::Root } else { Level::Below })?;
        let mut rest = entries;
        while let Some(first) = rest.first() {
            let path: &[u8] = &first.path(self.index)[prefix..];
            let Some(slash) = path.find_byte(b'/') else {
                // A conflicted path stands in the index several times: what was taken before is still there.
                let found = listed.take(path.as_bstr()).is_some()
                    || std::fs::symlink_metadata(directory.join(OsStr::from_bytes(path))).is_ok();
                directory.push(OsStr::from_bytes(path));
                self.compare_file(first, directory, found)?;
                directory.pop();
                rest = &rest[1..];
                continue;
            };
            let name = &path[..slash];
            let same = |entry: &Entry| {
                let path: &[u8] = &entry.path(self.index)[prefix..];
                path.strip_prefix(name).is_some_and(|left| left.starts_with(b"/"))
            };
            let (group, others) = rest.split_at(rest.partition_point(same));
            rest = others;
            match listed.take(name.as_bstr()) {
                Some(found) if found.file_type()?.is_dir() => {
                    directory.push(OsStr::from_bytes(name));
                    self.compare_directory(directory, prefix + slash + 1, group)?;
                    directory.pop();
                }
                found => {
                    for entry in group.iter().filter(|entry| !entry.flags.contains(Flags::SKIP_WORKTREE)) {
                        self.changed.insert(entry.path(self.index).to_owned());
                    }
                    self.unknown.extend(found.map(|found| Unknown { path: found.path(), kind: Kind::File }));
                }
            }
        }
        for found in listed.0.into_values() {
            let kind = if found.file_type()?.is_dir() { Kind::Directory } else { Kind::File };
            self.unknown.push(Unknown { path: found.path(), kind });
        }
        Ok(())
    }

    fn compare_file(&mut self, entry: &Entry, path: &Path, listed: bool) -> Result<(), Doubt> {
        if entry.mode == Mode::COMMIT {
            return Err(Doubt::AskGit);
        }
        if entry.flags.contains(Flags::SKIP_WORKTREE) {
            return if listed { Err(Doubt::AskGit) } else { Ok(()) };
        }
        let conflicted = entry.stage() != Stage::Unconflicted || entry.flags.contains(Flags::INTENT_TO_ADD);
        if conflicted || !listed || self.differs(entry, path)? {
            self.changed.insert(entry.path(self.index).to_owned());
        }
        Ok(())
    }

    fn differs(&self, entry: &Entry, path: &Path) -> Result<bool, Doubt> {
        let found = gix::index::fs::Metadata::from_path_no_follow(path)?;
        let kind_fits = if entry.mode == Mode::SYMLINK { found.is_symlink() } else { found.is_file() };
        let executable = entry.mode == Mode::FILE_EXECUTABLE;
        if !kind_fits || (self.context.trusts_mode && found.is_file() && executable != found.is_executable()) {
            return Ok(true);
        }
        let stat = Stat::from_fs(&found).map_err(|_| Doubt::AskGit)?;
        let options = self.context.options;
        if entry.stat.matches(&stat, options) && !entry.stat.is_racy(self.index.timestamp(), options) {
            return Ok(false);
        }
        let bytes = if found.is_symlink() {
            std::fs::read_link(path)?.into_os_string().as_bytes().to_vec()
        } else {
            std::fs::read(path)?
        };
        let id = gix::objs::compute_hash(entry.id.kind(), gix::objs::Kind::Blob, &bytes)?;
        if id == entry.id {
            return Ok(false);
        }
        // With conversion in play other bytes may still be the same content.
        if self.converts { Err(Doubt::AskGit) } else { Ok(true) }
    }

    fn count_untracked(&mut self) -> Result<usize, Doubt> {
        if self.unknown.is_empty() {
            return Ok(0);
        }
        let mut local = self.context.shared.to_thread_local();
        local.set_workdir(self.root.to_owned())?;
        let mut excludes = local.excludes(self.index, None, IgnoreSource::default())?;
        let mut untracked = 0;
        while let Some(Unknown { path, kind }) = self.unknown.pop() {
            let relative = path.strip_prefix(self.root).map_err(|_| Doubt::AskGit)?;
            let mode = if kind == Kind::Directory { Mode::DIR } else { Mode::FILE };
            if excludes.at_path(relative, Some(mode))?.is_excluded() {
                continue;
            }
            if kind == Kind::File || path.join(".git").exists() {
                untracked += 1;
                continue;
            }
            for found in std::fs::read_dir(&path)? {
                let found = found?;
                let kind = if found.file_type()?.is_dir() { Kind::Directory } else { Kind::File };
                self.unknown.push(Unknown { path: found.path(), kind });
            }
        }
        Ok(untracked)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Level {
    Root,
    Below,
}

/// The entries of a directory by name, not yet asked for; the `.git` of the root is nobody's.
struct Listing(HashMap<OsString, DirEntry>);

impl Listing {
    fn read(directory: &Path, level: Level) -> std::io::Result<Self> {
        let mut entries = HashMap::new();
        for found in std::fs::read_dir(directory)? {
            let found = found?;
            entries.insert(found.file_name(), found);
        }
        if level == Level::Root {
            entries.remove(OsStr::new(".git"));
        }
        Ok(Self(entries))
    }

    fn take(&mut self, name: &BStr) -> Option<DirEntry> {
        self.0.remove(OsStr::from_bytes(name))
    }
}

fn status_of_git(repository: &Repository, path: &Path) -> Cleanliness {
    let words = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all", "--ignore-submodules=none"];
    match repository.git_in(path).run(words) {
        Ok(output) => {
            let lines = output.stdout.split_str("\0").filter(|line| !line.is_empty());
            let (untracked, changed): (Vec<_>, Vec<_>) = lines.partition(|line| line.starts_with(b"??"));
            match (changed.len(), untracked.len()) {
                (0, 0) => Cleanliness::Clean,
                (changed, untracked) => Cleanliness::Dirty { changed, untracked },
            }
        }
        Err(error) => Cleanliness::Unknown(error.to_string()),
    }
}

#[cfg(test)]
#[path = "cleanliness_tests.rs"]
mod tests;
