//! A repository with a linked worktree, and everything about it that a restore must bring back.

use git_tether::world::snapshot::{
    LooseSink, RestoreTarget, Restored, SaveOptions, Saved, Trust, WorktreePlace, restore, save,
};
use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub(crate) struct Fixture {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) main: PathBuf,
    pub(crate) work: PathBuf,
}

/// All that is to be the same before and after.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Capture {
    files: BTreeMap<OsString, (String, Vec<u8>)>,
    status: String,
    index: String,
    flags: String,
    /// Whatever else git can be asked about it.
    said: Vec<String>,
    operation: BTreeMap<OsString, Vec<u8>>,
}

pub(crate) fn run(directory: &Path, program: &str, arguments: &[&str]) -> Output {
    #[allow(clippy::disallowed_methods, reason = "git itself is the reference")]
    let mut command = Command::new(program);
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_bytes().starts_with(b"GIT_")) {
        command.env_remove(name);
    }
    let home = std::env::temp_dir().join("git-tether-no-home");
    command
        .current_dir(directory)
        .args(arguments)
        .env("HOME", home)
        .env("XDG_CONFIG_HOME", "/nonexistent")
        .env("GIT_CONFIG_NOSYSTEM", "1")
        .env("GIT_OPTIONAL_LOCKS", "0")
        .env("GIT_EDITOR", "true")
        .env("GIT_AUTHOR_NAME", "A")
        .env("GIT_AUTHOR_EMAIL", "a@example.com")
        .env("GIT_COMMITTER_NAME", "A")
        .env("GIT_COMMITTER_EMAIL", "a@example.com");
    command.output().unwrap()
}

pub(crate) fn git(directory: &Path, arguments: &[&str]) -> Vec<u8> {
    let output = run(directory, "git", arguments);
    assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

pub(crate) fn text(directory: &Path, arguments: &[&str]) -> String {
    String::from_utf8_lossy(&git(directory, arguments)).trim_end().to_owned()
}

pub(crate) fn write(root: &Path, path: impl AsRef<OsStr>, bytes: impl AsRef<[u8]>) {
    let path = root.join(path.as_ref());
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    std::fs::write(path, bytes).unwrap();
}

pub(crate) fn make_executable(path: &Path, mode: u32) {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

impl Fixture {
    /// A repository with a few commits and a linked worktree on the branch `work`.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    pub(crate) fn with(init: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let main = directory.path().join("main");
        std::fs::create_dir(&main).unwrap();
        git(&main, &[&["init", "-q", "-b", "main"], init].concat());
        for setting in ["core.autocrlf=false", "core.excludesFile=/dev/null", "core.attributesFile=/dev/null"] {
            let (key, value) = setting.split_once('=').unwrap();
            git(&main, &["config", key, value]);
        }
        for name in ["a.txt", "b.txt", "dir/c.txt", "dir/d.txt", "dir/sub/e.txt", "other/f.txt"] {
            write(&main, name, format!("content of {name}\n"));
        }
        write(&main, "run.sh", "#!/bin/sh\n");
        make_executable(&main.join("run.sh"), 0o755);
        std::os::unix::fs::symlink("a.txt", main.join("link")).unwrap();
        git(&main, &["add", "-A"]);
        git(&main, &["commit", "-qm", "first"]);
        let work = directory.path().join("work");
        git(&main, &["worktree", "add", "-q", "-b", "work", work.to_str().unwrap()]);
        Self { directory, main, work }
    }

    /// Adds what is in the worktree and commits it there.
    pub(crate) fn commit(&self, message: &str) {
        git(&self.work, &["add", "-A"]);
        git(&self.work, &["commit", "-qm", message]);
    }

    pub(crate) fn place(&self) -> WorktreePlace {
        place_of(&self.work)
    }

    pub(crate) fn save(&self) -> Saved {
        self.save_with(&SaveOptions::default())
    }

    pub(crate) fn save_with(&self, options: &SaveOptions) -> Saved {
        let before = untouchable(&self.work);
        let saved = save(&self.place(), options, &mut self.sink()).unwrap();
        assert_eq!(untouchable(&self.work), before, "saving changed the repository");
        saved
    }

    pub(crate) fn sink(&self) -> LooseSink {
        LooseSink::new(gix::open(&self.main).unwrap())
    }

    /// Saves, prunes, destroys, makes the worktree anew and restores; all must be as before.
    pub(crate) fn round_trip(&self) -> (Saved, Restored) {
        self.round_trip_with(&SaveOptions::default(), "--no-checkout")
    }

    pub(crate) fn round_trip_with(&self, options: &SaveOptions, checkout: &str) -> (Saved, Restored) {
        let before = capture(&self.work);
        let saved = self.save_with(options);
        let again = self.save_with(&SaveOptions { previous: Some(saved.commit), seconds: 99, ..options.clone() });
        assert!(again.unchanged && again.commit == saved.commit, "an unchanged save wrote something: {again:?}");
        self.destroy_and_recreate(&saved, checkout);
        let restored = restore(&RestoreTarget::Worktree(self.place()), saved.commit, Trust::Own)
            .unwrap_or_else(|error| panic!("{error:?}"));
        let after = capture(&self.work);
        assert_eq!(only_in(&before, &after), only_in(&after, &before), "what was, and what came back");
        assert_eq!(after, before);
        (saved, restored)
    }

    pub(crate) fn destroy_and_recreate(&self, saved: &Saved, checkout: &str) {
        let id = saved.commit.to_string();
        git(&self.main, &["update-ref", "refs/tether-local/work/test", &id]);
        std::fs::remove_dir_all(&self.work).unwrap();
        git(&self.main, &["worktree", "prune"]);
        git(&self.main, &["reflog", "expire", "--expire=now", "--all"]);
        git(&self.main, &["gc", "-q", "--prune=now"]);
        git(&self.main, &["fsck", "--strict", "--no-dangling"]);
        let base = saved.base.map_or_else(|| "main".to_owned(), |id| id.to_string());
        let work = self.work.to_str().unwrap();
        git(&self.main, &["worktree", "add", "-q", "--detach", checkout, work, &base]);
        if let Some(branch) = &saved.branch {
            git(&self.work, &["symbolic-ref", "HEAD", branch]);
        }
    }
}

pub(crate) fn place_of(work: &Path) -> WorktreePlace {
    let absolute = |what: &str| PathBuf::from(text(work, &["rev-parse", "--path-format=absolute", what]));
    let (git_dir, common_dir) = (absolute("--git-dir"), absolute("--git-common-dir"));
    WorktreePlace { path: work.to_owned(), git_dir, common_dir, opened: None }
}

fn untouchable(work: &Path) -> (Option<Vec<u8>>, String, String, String) {
    let place = place_of(work);
    let index = std::fs::read(place.git_dir.join("index")).ok();
    let head = std::fs::read_to_string(place.git_dir.join("HEAD")).unwrap();
    let refs = text(work, &["for-each-ref"]);
    let names = String::from_utf8_lossy(&run(work, "find", &[".", "-newermt", "@0", "-ls"]).stdout).into_owned();
    (index, head, refs, names)
}

const QUESTIONS: &[&[&str]] = &[
    &["symbolic-ref", "-q", "HEAD"],
    &["ls-files", "--eol", "-z"],
    &["ls-files", "--resolve-undo", "-z"],
    &["diff", "--raw", "--abbrev=40"],
    &["diff", "--cached", "--raw", "--abbrev=40"],
    &["sparse-checkout", "list"],
];

/// The lines that the other has not.
fn only_in(one: &Capture, other: &Capture) -> Vec<String> {
    let (one, other) = (show(one), show(other));
    let known: BTreeSet<_> = other.lines().collect();
    one.lines().filter(|line| !known.contains(line)).map(str::to_owned).collect()
}

/// Readable differences: names and modes, and status; contents are compared on their own.
fn show(capture: &Capture) -> String {
    let files: Vec<_> = capture
        .files
        .iter()
        .map(|(path, (kind, bytes))| format!("{kind} {} {}", bytes.len(), path.display()))
        .collect();
    let operation: Vec<_> = capture.operation.keys().collect();
    let Capture { status, index, flags, said, .. } = capture;
    format!("{}\n{status}\n{index}\n{flags}\n{}\n{operation:?}", files.join("\n"), said.join("\n"))
}

pub(crate) fn capture(work: &Path) -> Capture {
    let ignored = git(work, &["ls-files", "-o", "-i", "--exclude-standard", "-z"]);
    let ignored: BTreeSet<OsString> =
        ignored.split(|&byte| byte == 0).map(|name| OsString::from_vec(name.to_vec())).collect();
    let mut files = BTreeMap::new();
    read_files(work, work, &ignored, &mut files);
    let git_dir = place_of(work).git_dir;
    let mut operation = BTreeMap::new();
    for name in [
        "MERGE_HEAD",
        "MERGE_MSG",
        "MERGE_MODE",
        "CHERRY_PICK_HEAD",
        "REVERT_HEAD",
        "REBASE_HEAD",
        "ORIG_HEAD",
        "BISECT_LOG",
        "AUTO_MERGE",
        "SQUASH_MSG",
        "config.worktree",
        "info/sparse-checkout",
    ] {
        if let Ok(bytes) = std::fs::read(git_dir.join(name)) {
            operation.insert(name.into(), bytes);
        }
    }
    for name in ["rebase-merge", "rebase-apply", "sequencer", "refs/bisect", "refs/worktree"] {
        let mut below = BTreeMap::new();
        if git_dir.join(name).is_dir() {
            read_files(&git_dir, &git_dir.join(name), &BTreeSet::new(), &mut below);
        }
        operation.extend(below.into_iter().map(|(path, (_, bytes))| (path, bytes)));
    }
    let lossy = |bytes: Vec<u8>| String::from_utf8_lossy(&bytes).replace('\0', "\n");
    Capture {
        files,
        status: lossy(git(work, &["status", "--porcelain=v2", "--branch", "-z", "-uall", "--ignore-submodules=none"])),
        index: lossy(git(work, &["ls-files", "--stage", "-z"])),
        flags: lossy(git(work, &["ls-files", "-v", "-z"])),
        said: QUESTIONS.iter().map(|question| lossy(run(work, "git", question).stdout)).collect(),
        operation,
    }
}

fn read_files(
    root: &Path,
    directory: &Path,
    ignored: &BTreeSet<OsString>,
    into: &mut BTreeMap<OsString, (String, Vec<u8>)>,
) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(root).unwrap().as_os_str().to_owned();
        if path.file_name() == Some(OsStr::new(".git")) || ignored.contains(&name) {
            continue;
        }
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        if metadata.is_dir() {
            read_files(root, &path, ignored, into);
        } else if metadata.is_symlink() {
            into.insert(name, ("link".to_owned(), std::fs::read_link(&path).unwrap().into_os_string().into_vec()));
        } else if metadata.is_file() {
            let executable = metadata.permissions().mode() & 0o100 != 0;
            let kind = if executable { "executable" } else { "file" };
            into.insert(name, (kind.to_owned(), std::fs::read(&path).unwrap()));
        }
    }
}

impl Fixture {
    /// Makes the worktree anew after its directory vanished.
    pub(crate) fn destroy_and_recreate_vanished(&self, saved: &Saved) {
        std::fs::create_dir(&self.work).unwrap();
        self.destroy_and_recreate(saved, "--no-checkout");
    }
}
