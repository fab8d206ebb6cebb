//! One pass over a worktree's directories: what differs from the index, by stat data and names alone.
//!
//! Owns: reading directories in parallel, beside the index and the ignore rules. Must not know: contents of files. Invariant: every name
//! in every directory that is not ignored ends up as unchanged, changed, untracked or named as not saved; what cannot be read is an error.

use super::layout::{Child, StatRules, children, index_with_rules};
use super::patterns::Patterns;
use super::{NotSaved, NotSavedReason, SaveError, Warning};
use gix::bstr::{BStr, BString, ByteSlice, ByteVec};
use gix::index::State;
use gix::index::entry::{Flags, Mode};
use rustix::fs::{AtFlags, Dir, FileType, OFlags};
use std::ops::Range;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::{Condvar, Mutex, PoisonError};

/// What the walk found; positions are those of the index.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Entries whose file must be read; the first stage's position.
    pub(super) changed: Vec<usize>,
    /// Entries whose file is not there; the first stage's position.
    pub(super) gone: Vec<usize>,
    /// Entries with the skip-worktree flag whose file is there all the same.
    pub(super) present: Vec<usize>,
    /// Files and links that the index does not name.
    pub(super) untracked: Vec<BString>,
    /// Submodules that have a directory.
    pub(super) submodules: Vec<usize>,
    /// What is passed by, and named.
    pub(super) not_saved: Vec<NotSaved>,
    /// What is passed by since it has no content.
    pub(super) warnings: Vec<Warning>,
    /// How many ignored files and directories were passed by.
    pub(super) ignored: usize,
}

impl Found {
    fn merge(&mut self, other: Self) {
        self.changed.extend(other.changed);
        self.gone.extend(other.gone);
        self.present.extend(other.present);
        self.untracked.extend(other.untracked);
        self.submodules.extend(other.submodules);
        self.not_saved.extend(other.not_saved);
        self.warnings.extend(other.warnings);
        self.ignored += other.ignored;
    }

    fn sort(&mut self) {
        self.changed.sort_unstable();
        self.gone.sort_unstable();
        self.present.sort_unstable();
        self.untracked.sort();
        self.submodules.sort_unstable();
        self.not_saved.sort();
        self.warnings.sort();
    }
}

/// What a walk goes by.
pub(super) struct Ground<'a> {
    /// The directory.
    pub(super) root: &'a Path,
    /// The repository whose ignore rules hold; without one, everything is taken.
    pub(super) repository: Option<&'a gix::ThreadSafeRepository>,
    /// The git directory that all worktrees share, to know a worktree of the same repository.
    pub(super) common_dir: &'a Path,
    /// The index.
    pub(super) index: &'a State,
    /// How stat data is compared.
    pub(super) rules: StatRules,
    /// Ignored files to take.
    pub(super) include: &'a Patterns,
    /// Untracked files not to take.
    pub(super) exclude: &'a Patterns,
    /// Whether names that differ in case are one name on disk.
    pub(super) case: gix::glob::pattern::Case,
    /// How many threads may walk.
    pub(super) threads: usize,
}

/// Why the files of a directory are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// The index has entries below it.
    Tracked,
    /// It is untracked.
    Untracked,
    /// It is ignored, and some file below it may be included.
    Ignored,
    /// It is ignored, and included as a whole.
    Included,
}

#[derive(Debug)]
struct Job {
    /// Relative, with a slash at its end; empty for the root.
    path: BString,
    range: Range<usize>,
    standing: Standing,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: Vec<Job>,
    busy: usize,
    failed: bool,
}

/// Walks the whole worktree.
pub(super) fn walk(ground: &Ground<'_>) -> Result<Found, SaveError> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = rustix::fs::open(ground.root, flags, rustix::fs::Mode::empty())
        .map_err(|source| SaveError::Unreadable { path: ground.root.to_owned(), source: source.into() })?;
    let first = Job { path: BString::default(), range: 0..ground.index.entries().len(), standing: Standing::Tracked };
    let queue = (Mutex::new(Queue { jobs: vec![first], ..Queue::default() }), Condvar::new());
    let threads = if ground.index.entries().len() < 512 { 1 } else { ground.threads.max(1) };
    let results: Vec<_> = std::thread::scope(|scope| {
        let others: Vec<_> =
            (1..threads).map(|_| scope.spawn(|| Worker::new(ground, root.as_fd()).run(&queue))).collect();
        let mine = Worker::new(ground, root.as_fd()).run(&queue);
        let joined = others.into_iter().filter_map(|other| other.join().ok());
        std::iter::once(mine).chain(joined.collect::<Vec<_>>()).collect()
    });
    let mut all = Found::default();
    for result in results {
        all.merge(result?);
    }
    all.sort();
    Ok(all)
}

struct Worker<'a> {
    ground: &'a Ground<'a>,
    root: BorrowedFd<'a>,
    ignore: Option<(gix::Repository, gix::worktree::Stack)>,
    found: Found,
    deeper: Vec<Job>,
}

impl<'a> Worker<'a> {
    fn new(ground: &'a Ground<'a>, root: BorrowedFd<'a>) -> Self {
        Self { ground, root, ignore: None, found: Found::default(), deeper: Vec::new() }
    }

    fn run(mut self, queue: &(Mutex<Queue>, Condvar)) -> Result<Found, SaveError> {
        while let Some(job) = take(queue) {
            let done = self.look_at(&job);
            let mut state = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
            state.busy -= 1;
            state.failed |= done.is_err();
            state.jobs.append(&mut self.deeper);
            drop(state);
            queue.1.notify_all();
            done?;
        }
        Ok(self.found)
    }

    fn look_at(&mut self, job: &Job) -> Result<(), SaveError> {
        let Some((directory, names)) = self.read_names(job)? else {
            self.all_gone(job.range.clone());
            return Ok(());
        };
        if !job.path.is_empty() && names.iter().any(|(name, _)| name == ".git") && self.is_another_worktree(job) {
            self.all_gone(job.range.clone());
            return Ok(());
        }
        let mut tracked = children(self.ground.index, job.path.as_bstr(), job.range.clone());
        tracked.sort_by(|left, right| left.0.cmp(right.0));
        let mut seen = vec![false; tracked.len()];
        let directory = directory.fd().map_err(|source| self.unreadable(&job.path, source))?;
        for (name, kind) in names {
            if name == ".git" {
                continue;
            }
            let found = self.positions(&tracked, name.as_bstr());
            let mut known = false;
            for at in found {
                if self.compare(&tracked[at].1, directory, job, tracked[at].0, kind)? {
                    seen[at] = true;
                    known = true;
                }
            }
            if !known {
                self.untracked(job, name.as_bstr(), kind)?;
            }
        }
        for (_, (_, child)) in tracked.iter().enumerate().filter(|(at, _)| !seen[*at]) {
            match child {
                Child::Leaf(range) => self.all_gone(range.start..range.start + 1),
                Child::Directory(range) => self.all_gone(range.clone()),
                Child::Sparse(_) => {}
            }
        }
        Ok(())
    }

    fn positions(&self, tracked: &[(&BStr, Child)], name: &BStr) -> Range<usize> {
        let start = tracked.partition_point(|(known, _)| *known < name);
        let end = start + tracked[start..].iter().take_while(|(known, _)| *known == name).count();
        if start < end || self.ground.case == gix::glob::pattern::Case::Sensitive {
            return start..end;
        }
        let folded = tracked.iter().position(|(known, _)| known.eq_ignore_ascii_case(name));
        folded.map_or(0..0, |at| at..at + 1)
    }

    /// Compares the name with what the index has there; false if it is another kind of thing.
    fn compare(
        &mut self,
        child: &Child,
        directory: BorrowedFd<'_>,
        job: &Job,
        name: &BStr,
        kind: FileType,
    ) -> Result<bool, SaveError> {
        let entries = self.ground.index.entries();
        match (child, kind) {
            (Child::Directory(range), FileType::Directory) => {
                self.deeper.push(Job { path: below(job, name), range: range.clone(), standing: Standing::Tracked });
                Ok(true)
            }
            (Child::Sparse(at), FileType::Directory) => {
                self.deeper.push(Job { path: below(job, name), range: *at..*at, standing: Standing::Untracked });
                Ok(true)
            }
            (Child::Leaf(range), FileType::Directory) if entries[range.start].mode == Mode::COMMIT => {
                self.found.submodules.push(range.start);
                Ok(true)
            }
            (Child::Leaf(range), FileType::RegularFile | FileType::Symlink)
                if entries[range.start].mode != Mode::COMMIT =>
            {
                let entry = &entries[range.start];
                match rustix::fs::statat(directory, name.as_bytes(), AtFlags::SYMLINK_NOFOLLOW) {
                    Ok(stat) if self.ground.rules.prove_unchanged(entry, &stat) => {}
                    Ok(_) => self.found.changed.push(range.start),
                    Err(rustix::io::Errno::NOENT) => return Ok(false),
                    Err(source) => return Err(self.unreadable(&below(job, name), source)),
                }
                if entry.flags.contains(Flags::SKIP_WORKTREE) {
                    self.found.present.push(range.start);
                }
                Ok(true)
            }
            _ => Ok(false),
        }
    }

    fn untracked(&mut self, job: &Job, name: &BStr, kind: FileType) -> Result<(), SaveError> {
        let mut path = below(job, name);
        path.pop();
        if super::write_files::check_name(name).is_err() {
            self.found.not_saved.push(NotSaved { path, reason: NotSavedReason::RefusedName });
            return Ok(());
        }
        let is_directory = kind == FileType::Directory;
        let standing = match job.standing {
            Standing::Tracked | Standing::Untracked if self.is_ignored(path.as_bstr(), kind)? => {
                self.standing_of_ignored(path.as_bstr(), kind)
            }
            Standing::Tracked | Standing::Untracked => Some(Standing::Untracked),
            Standing::Ignored => self.standing_of_ignored(path.as_bstr(), kind),
            Standing::Included => Some(Standing::Included),
        };
        let Some(standing) = standing else {
            self.found.ignored += 1;
            return Ok(());
        };
        let exclude = self.ground.exclude;
        let excluded =
            if is_directory { exclude.name_directory(path.as_bstr()) } else { exclude.name_file(path.as_bstr()) };
        if excluded && standing != Standing::Ignored {
            self.found.not_saved.push(NotSaved { path, reason: NotSavedReason::Excluded });
            return Ok(());
        }
        match kind {
            FileType::Directory => self.deeper.push(Job { path: below(job, name), range: 0..0, standing }),
            FileType::RegularFile | FileType::Symlink => self.found.untracked.push(path),
            _ => self.found.warnings.push(Warning::SpecialFile(path)),
        }
        Ok(())
    }

    /// What an ignored thing is to us: included, to be searched for what is included, or passed by.
    fn standing_of_ignored(&self, path: &BStr, kind: FileType) -> Option<Standing> {
        let include = self.ground.include;
        match kind {
            FileType::Directory if include.name_directory(path) => Some(Standing::Included),
            FileType::Directory if !include.is_empty() => Some(Standing::Ignored),
            FileType::Directory => None,
            _ => include.name_file(path).then_some(Standing::Included),
        }
    }

    fn is_ignored(&mut self, path: &BStr, kind: FileType) -> Result<bool, SaveError> {
        let Some(shared) = self.ground.repository else { return Ok(false) };
        let failed = |source: super::Cause| SaveError::Rules { path: path.to_owned(), source };
        if self.ignore.is_none() {
            let repository = shared.to_thread_local();
            let source = gix::worktree::stack::state::ignore::Source::default();
            let none = State::new(repository.object_hash());
            let index = index_with_rules(self.ground.index, b".gitignore").unwrap_or(&none);
            let stack = repository.excludes(index, None, source).map_err(|source| failed(source.into()))?;
            let stack = stack.detach();
            self.ignore = Some((repository, stack));
        }
        let Some((repository, stack)) = self.ignore.as_mut() else { return Ok(false) };
        let mode = if kind == FileType::Directory { Mode::DIR } else { Mode::FILE };
        let platform = stack.at_entry(path, Some(mode), &repository.objects).map_err(|source| failed(source.into()))?;
        Ok(platform.is_excluded())
    }

    fn all_gone(&mut self, range: Range<usize>) {
        let mut last: Option<&BStr> = None;
        for at in range {
            let entry = &self.ground.index.entries()[at];
            let path = entry.path(self.ground.index);
            // Of several stages the first stands for all.
            if last == Some(path) || entry.flags.contains(Flags::SKIP_WORKTREE) {
                continue;
            }
            last = Some(path);
            self.found.gone.push(at);
        }
    }

    /// A `.git` here means an embedded repository, or a worktree of ours; only the latter is passed by.
    fn is_another_worktree(&mut self, job: &Job) -> bool {
        let mut path = job.path.clone();
        path.pop();
        let ours = git_dir_behind(&self.absolute(path.as_bstr()).join(".git"))
            .is_some_and(|target| target.starts_with(self.ground.common_dir));
        let reason = if ours { NotSavedReason::NestedWorktree } else { NotSavedReason::EmbeddedHistory };
        self.found.not_saved.push(NotSaved { path, reason });
        ours
    }

    #[allow(clippy::type_complexity, reason = "a directory and what is in it")]
    fn read_names(&self, job: &Job) -> Result<Option<(Dir, Vec<(BString, FileType)>)>, SaveError> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let name = if job.path.is_empty() { b".".as_bstr() } else { job.path[..job.path.len() - 1].as_bstr() };
        let failed = |source| self.unreadable(&job.path, source);
        let opened = rustix::fs::openat(self.root, name.as_bytes(), flags, rustix::fs::Mode::empty());
        let mut directory = match opened {
            Ok(directory) => Dir::new(directory).map_err(failed)?,
            Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR | rustix::io::Errno::LOOP) => return Ok(None),
            Err(source) => return Err(failed(source)),
        };
        let mut names = Vec::with_capacity(64);
        while let Some(entry) = directory.read() {
            let entry = entry.map_err(failed)?;
            let name = entry.file_name().to_bytes();
            if name == b"." || name == b".." {
                continue;
            }
            let mut kind = entry.file_type();
            if kind == FileType::Unknown {
                match directory
                    .fd()
                    .and_then(|directory| rustix::fs::statat(directory, name, AtFlags::SYMLINK_NOFOLLOW))
                {
                    Ok(stat) => kind = FileType::from_raw_mode(stat.st_mode),
                    Err(rustix::io::Errno::NOENT) => continue,
                    Err(source) => return Err(failed(source)),
                }
            }
            names.push((BString::from(name), kind));
        }
        Ok(Some((directory, names)))
    }

    fn absolute(&self, path: &BStr) -> PathBuf {
        self.ground.root.join(std::ffi::OsStr::from_bytes(path))
    }

    fn unreadable(&self, path: &BString, source: rustix::io::Errno) -> SaveError {
        SaveError::Unreadable { path: self.absolute(path.as_bstr()), source: source.into() }
    }
}

/// The next directory, or none once all is done or somebody has failed.
fn take(queue: &(Mutex<Queue>, Condvar)) -> Option<Job> {
    let mut state = queue.0.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if state.failed || (state.jobs.is_empty() && state.busy == 0) {
            return None;
        }
        if let Some(job) = state.jobs.pop() {
            state.busy += 1;
            return Some(job);
        }
        state = queue.1.wait(state).unwrap_or_else(PoisonError::into_inner);
    }
}

fn below(job: &Job, name: &BStr) -> BString {
    let mut path = BString::from(Vec::with_capacity(job.path.len() + name.len() + 1));
    path.push_str(&job.path);
    path.push_str(name);
    path.push(b'/');
    path
}

/// Where the `.git` file of a worktree or submodule points to, resolved.
fn git_dir_behind(dot_git: &Path) -> Option<PathBuf> {
    let text = std::fs::read(dot_git).ok()?;
    let target = text.strip_prefix(b"gitdir: ")?.trim_end();
    let target = Path::new(std::ffi::OsStr::from_bytes(target));
    dot_git.parent()?.join(target).canonicalize().ok()
}
