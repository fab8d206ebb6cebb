//! The main commands wherever git works: bare repositories, linked worktrees, hooks, reftable, SHA-256, shallow clones, packed refs, shared
//! permissions, no identity; and nothing of what a hook's environment sets leaks into commits.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use support::{Repository, parsed, show};

/// A directory to call `git tether` in, with variables of its own.
struct Seat<'r> {
    repository: &'r Repository,
    directory: PathBuf,
    git_options: Vec<String>,
    variables: Vec<(&'static str, String)>,
}

impl<'r> Seat<'r> {
    fn at(repository: &'r Repository, directory: &Path) -> Self {
        Self { repository, directory: directory.to_owned(), git_options: Vec::new(), variables: Vec::new() }
    }

    fn git(&self) -> Command {
        let mut command = self.repository.command("git");
        command.current_dir(&self.directory).args(&self.git_options);
        command.envs(self.variables.iter().map(|(name, value)| (*name, value)));
        command
    }

    /// `git … tether …`, as a user types it.
    fn tether(&self, arguments: &[&str]) -> Output {
        self.git().arg("tether").args(arguments).output().unwrap()
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        let output = self.tether(&[arguments, &["--json"]].concat());
        assert!(matches!(output.status.code(), Some(0 | 1)), "{arguments:?}: {}", show(&output));
        parsed(&output)
    }

    fn ask_git(&self, arguments: &[&str]) -> String {
        let output = self.git().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", show(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    /// A run from its start to its report, with a worktree, a checkpoint, a killed executor, its recovery and a claim.
    fn tell_the_story(&self) {
        assert_eq!(self.json(&["start", "r"])["run"]["status"], "draft");
        assert_eq!(self.json(&["task", "add", "r/t"])["task"]["state"], "queued");
        let made = self.json(&["env", "add", "r/t", "--mode", "git_worktree", "--id", "e", "--branch", "topic"]);
        assert_eq!(made["environment"]["state"], "ready");
        let place = PathBuf::from(made["environment"]["spec"]["path"].as_str().unwrap());
        assert!(place.join("README").is_file());

        let mut sleeper = self.repository.command("sleep").arg("600").spawn().unwrap();
        let pid = sleeper.id().to_string();
        let reserved = self.json(&["session", "reserve", "feature/x", "--id", "s", "--pid", &pid]);
        assert_eq!(reserved["outcome"], "reserved");
        assert_eq!(self.json(&["task", "start", "r/t", "--session", "s"])["task"]["state"], "running");
        std::fs::write(place.join("new"), "not committed\n").unwrap();
        let safety = ["--replay-safety", "checkpoint_resumable"];
        let taken = self.json(&[&["checkpoint", "r/t", "--boundary", "half"][..], &safety].concat());
        let work = taken["checkpoint"]["work"]["commit"].as_str().unwrap().to_owned();
        assert_eq!(self.ask_git(&["show", &format!("{work}:new")]), "not committed");

        sleeper.kill().unwrap();
        sleeper.wait().unwrap();
        std::fs::remove_dir_all(&place).unwrap();
        let recovered = self.json(&["recover", "--recreate"]);
        assert_eq!(recovered["applied"], true, "{recovered:#}");
        assert_eq!(self.json(&["task", "show", "r/t"])["task"]["state"], "blocked");
        assert_eq!(std::fs::read_to_string(place.join("new")).unwrap(), "not committed\n");
        let before = self.ask_git(&["for-each-ref", "refs/tether", "refs/tether-local"]);
        self.json(&["recover"]);
        assert_eq!(self.ask_git(&["for-each-ref", "refs/tether", "refs/tether-local"]), before, "the law");

        self.json(&["recover", "--resume"]);
        assert_eq!(self.json(&["task", "start", "r/t"])["task"]["attempts"], 2);
        assert_eq!(self.json(&["task", "done", "r/t"])["task"]["state"], "completed");
        assert_eq!(self.json(&["finish", "r"])["run"]["status"], "completed");
        assert!(self.tether(&["report", "r"]).status.success());
        assert!(matches!(self.tether(&["verify"]).status.code(), Some(0 | 1)));
        assert_eq!(self.json(&["status"])["schema"], "tether.status/1");
        assert!(self.ask_git(&["log", "--format=%s", "refs/tether/runs/r"]).contains("task t: running → blocked"));
        self.assert_sound();
    }

    fn assert_sound(&self) {
        let checked = self.git().args(["fsck", "--strict", "--no-dangling", "--no-progress"]).output().unwrap();
        assert!(checked.status.success(), "{}", show(&checked));
    }
}

#[test]
fn an_ordinary_repository() {
    let repository = Repository::new();
    let index = std::fs::read(repository.path.join(".git/index")).unwrap();
    Seat::at(&repository, &repository.path).tell_the_story();
    assert_eq!(std::fs::read(repository.path.join(".git/index")).unwrap(), index, "the user's index is not touched");
    assert_eq!(repository.git(&["status", "--porcelain"]), "");
    assert_eq!(repository.git(&["rev-parse", "--abbrev-ref", "HEAD"]), "main");
}

#[test]
fn a_bare_repository_with_worktrees() {
    let repository = Repository::new();
    let bare = repository.home().join("bare.git");
    repository.git(&["clone", "--quiet", "--bare", ".", bare.to_str().unwrap()]);
    Seat::at(&repository, &bare).tell_the_story();
}

#[test]
fn a_linked_worktree_as_the_current_directory() {
    let repository = Repository::new();
    let linked = repository.home().join("linked");
    repository.git(&["worktree", "add", "--quiet", "-b", "other", linked.to_str().unwrap()]);
    let below = linked.join("deep/er");
    std::fs::create_dir_all(&below).unwrap();
    Seat::at(&repository, &below).tell_the_story();
    assert!(repository.git(&["worktree", "list"]).contains("linked"), "a worktree that is not ours stays");
}

#[test]
fn reftable_and_sha256() {
    for arguments in [
        &["--ref-format=reftable"][..],
        &["--object-format=sha256"],
        &["--ref-format=reftable", "--object-format=sha256"],
    ] {
        let repository = Repository::made_with(arguments);
        Seat::at(&repository, &repository.path).tell_the_story();
        if arguments.contains(&"--ref-format=reftable") {
            assert!(!repository.path.join(".git/refs/tether").exists(), "no loose ref that git cannot see");
        }
    }
}

#[test]
fn a_shallow_clone() {
    let repository = Repository::new();
    repository.git(&["commit", "--quiet", "--allow-empty", "-m", "Second"]);
    let clone = repository.home().join("shallow");
    let url = format!("file://{}", repository.path.display());
    repository.git(&["clone", "--quiet", "--depth=1", &url, clone.to_str().unwrap()]);
    Seat::at(&repository, &clone).tell_the_story();
    assert!(clone.join(".git/shallow").exists());
}

#[test]
fn packed_refs() {
    let repository = Repository::new();
    let seat = Seat::at(&repository, &repository.path);
    assert_eq!(seat.json(&["start", "old"])["run"]["status"], "draft");
    repository.git(&["pack-refs", "--all", "--prune"]);
    assert_eq!(seat.json(&["task", "add", "old/t"])["task"]["state"], "queued");
    repository.git(&["gc", "--quiet", "--prune=now"]);
    seat.tell_the_story();
    assert_eq!(seat.json(&["show", "old"])["tasks"].as_array().unwrap().len(), 1);
}

#[test]
fn a_hook_of_gits_own_calls_it() {
    let repository = Repository::new();
    let seat = Seat::at(&repository, &repository.path);
    seat.json(&["start", "hooked"]);
    let hook = repository.path.join(".git/hooks/post-commit");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\ngit tether task add hooked/\"$(git rev-parse --short=10 HEAD)\" || exit 1\n")
        .unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let linked = repository.home().join("linked");
    repository.git(&["worktree", "add", "--quiet", "-b", "other", linked.to_str().unwrap()]);
    for (place, file) in [(&repository.path, "one"), (&linked, "two")] {
        std::fs::write(place.join(file), file).unwrap();
        let here = Seat::at(&repository, place);
        here.ask_git(&["add", file]);
        here.ask_git(&["commit", "--quiet", "-m", file, "--date=2001-01-01T00:00:00Z"]);
        let id = here.ask_git(&["rev-parse", "--short=10", "HEAD"]);
        assert_eq!(seat.json(&["task", "show", &format!("hooked/{id}")])["task"]["state"], "queued");
    }
    let dates = seat.ask_git(&["log", "--format=%ad", "--date=format:%Y", "refs/tether/runs/hooked"]);
    assert!(!dates.contains("2001"), "the commit's date is not ours: {dates}");
    seat.assert_sound();
}

#[test]
fn what_a_hook_sets_stays_with_the_hook() {
    let repository = Repository::new();
    let index = repository.home().join("index-of-a-hook");
    std::fs::copy(repository.path.join(".git/index"), &index).unwrap();
    let bytes = std::fs::read(&index).unwrap();
    let mut seat = Seat::at(&repository, &repository.path);
    seat.variables = vec![
        ("GIT_INDEX_FILE", index.display().to_string()),
        ("GIT_WORK_TREE", repository.path.display().to_string()),
        ("GIT_DIR", repository.path.join(".git").display().to_string()),
        ("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z".to_owned()),
        ("GIT_COMMITTER_DATE", "2001-01-01T00:00:00Z".to_owned()),
    ];
    let made = seat.tether(&["start", "r"]);
    assert!(made.status.success(), "{}", show(&made));
    seat.json(&["task", "add", "r/t"]);
    let environment = seat.json(&["env", "add", "r/t", "--mode", "git_worktree", "--branch", "topic"]);
    let place = PathBuf::from(environment["environment"]["spec"]["path"].as_str().unwrap());
    std::fs::write(place.join("new"), "of the worktree\n").unwrap();
    let taken = seat.json(&["checkpoint", "r/t", "--boundary", "half"]);
    let work = taken["checkpoint"]["work"]["commit"].as_str().unwrap().to_owned();
    assert_eq!(repository.git(&["show", &format!("{work}:new")]), "of the worktree");
    assert_eq!(std::fs::read(&index).unwrap(), bytes, "the hook's index is not ours");
    let years = repository.git(&["log", "--format=%ad %cd", "--date=format:%Y", "refs/tether/runs/r"]);
    assert!(!years.contains("2001"), "{years}");
    assert_eq!(Seat::at(&repository, &place).ask_git(&["status", "--porcelain"]), "?? new");
}

#[test]
fn settings_come_from_the_command_line_too() {
    let repository = Repository::new();
    let mut seat = Seat::at(&repository, &repository.path);
    seat.json(&["start", "a"]);
    seat.json(&["task", "add", "a/t"]);
    seat.git_options =
        vec!["-c".to_owned(), "tether.maxDepth=0".to_owned(), "-c".to_owned(), "tether.hostId=m-set".to_owned()];
    let refused = seat.tether(&["start", "b", "--parent", "a/t", "--json"]);
    assert_eq!(refused.status.code(), Some(128), "{}", show(&refused));
    assert_eq!(seat.json(&["start", "c"])["run"]["host"], "m-set");
    seat.variables = vec![("GIT_TETHER_MAX_DEPTH", "1".to_owned())];
    assert_eq!(seat.json(&["start", "b", "--parent", "a/t"])["run"]["depth"], 1, "a variable stands over the setting");
}

#[test]
fn without_an_identity_we_sign_ourselves() {
    let repository = Repository::new();
    let mut command = repository.command("git");
    for role in ["AUTHOR", "COMMITTER"] {
        command.env_remove(format!("GIT_{role}_NAME")).env_remove(format!("GIT_{role}_EMAIL"));
    }
    let made = command.args(["tether", "start", "r"]).output().unwrap();
    assert!(made.status.success(), "{}", show(&made));
    let signed = repository.git(&["log", "-1", "--format=%an <%ae>|%cn <%ce>", "refs/tether/runs/r"]);
    assert_eq!(signed, "git-tether <tether@localhost>|git-tether <tether@localhost>");
}

#[test]
fn a_reference_transaction_hook_sees_our_refs_and_may_refuse() {
    let repository = Repository::new();
    let seen = repository.home().join("seen");
    let hook = repository.path.join(".git/hooks/reference-transaction");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, format!("#!/bin/sh\n(echo \"$1\"; cat) >> '{}'\n", seen.display())).unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    Seat::at(&repository, &repository.path).tell_the_story();
    let told = std::fs::read_to_string(&seen).unwrap();
    assert!(told.contains("committed") && told.contains("refs/tether/runs/r"), "{told}");
    std::fs::write(&hook, "#!/bin/sh\ncase \"$1\" in prepared) grep -q refs/tether && exit 1;; esac\nexit 0\n")
        .unwrap();
    let refused = Seat::at(&repository, &repository.path).tether(&["start", "other", "--json"]);
    assert_eq!(refused.status.code(), Some(128), "{}", show(&refused));
    assert_eq!(parsed(&refused)["schema"], "tether.error/1");
    assert_eq!(repository.git(&["for-each-ref", "refs/tether/runs/other"]), "");
}

#[test]
fn a_shared_repository_stays_writable_for_the_group() {
    let repository = Repository::made_with(&["--shared=group"]);
    Seat::at(&repository, &repository.path).tell_the_story();
    let git_dir = repository.path.join(".git");
    let mut looked_at = 0;
    let mut waiting: Vec<PathBuf> =
        ["refs/tether", "objects/pack", "refs/tether-local"].map(|below| git_dir.join(below)).into();
    while let Some(path) = waiting.pop() {
        let metadata = std::fs::symlink_metadata(&path).unwrap();
        let mode = metadata.permissions().mode();
        if metadata.is_dir() {
            assert_eq!(mode & 0o070, 0o070, "{}: {mode:o}", path.display());
            waiting.extend(std::fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        } else {
            assert_eq!(mode & 0o040, 0o040, "{}: {mode:o}", path.display());
        }
        looked_at += 1;
    }
    assert!(looked_at > 5);
}
