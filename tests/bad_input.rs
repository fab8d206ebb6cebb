//! Bad input: each kind is a one-line error that says what was attempted and found, with a hint, the documented exit code, the same
//! as JSON, and nothing half written.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use serde_json::Value;
use support::Repository;

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// What an error has to look like, in words and as JSON.
#[track_caller]
fn assert_error(output: &Output, json: &Output, exit: i32, code: &str, says: &[&str], case: &str) {
    let beside = text(&output.stderr);
    assert_eq!(output.status.code(), Some(exit), "{case}: {}{beside}", text(&output.stdout));
    let errors: Vec<_> =
        beside.lines().filter(|line| line.starts_with("fatal: ") || line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "{case}: {beside}");
    for word in says {
        assert!(beside.contains(word), "{case}: `{word}` is missing in {beside}");
    }
    assert!(output.stdout.is_empty(), "{case}: {}", text(&output.stdout));

    assert_eq!(json.status.code(), Some(exit), "{case} as JSON");
    let error: Value =
        serde_json::from_slice(&json.stdout).unwrap_or_else(|error| panic!("{case}: {error}: {}", text(&json.stdout)));
    assert_eq!(error["schema"], "tether.error/1", "{case}");
    assert_eq!(error["error"]["code"], code, "{case}: {error}");
    assert!(!error["error"]["message"].as_str().unwrap().contains('\n'), "{case}: {error}");
    assert!(error["error"]["hints"].is_array(), "{case}: {error}");
}

fn both(repository: &Repository, arguments: &[&str], prepare: impl Fn(&mut Command)) -> (Output, Output) {
    let at = arguments.iter().position(|word| *word == "--").unwrap_or(arguments.len());
    let with_json = [&arguments[..at], &["--json"], &arguments[at..]].concat();
    let run = |arguments: &[&str]| {
        let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
        prepare(&mut command);
        command.args(arguments).output().unwrap()
    };
    (run(arguments), run(&with_json))
}

#[track_caller]
fn refused(repository: &Repository, arguments: &[&str], exit: i32, code: &str, says: &[&str]) {
    let before = repository.git(&["for-each-ref"]);
    let (output, json) = both(repository, arguments, |_| {});
    assert_error(&output, &json, exit, code, says, &format!("{arguments:?}"));
    assert_eq!(repository.git(&["for-each-ref"]), before, "{arguments:?} wrote something");
    repository.git(&["fsck", "--strict"]);
}

fn scene() -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "build"]);
    repository.answer(&["task", "add", "build/compile"]);
    repository.answer(&["task", "add", "build/link", "--depends-on", "compile"]);
    repository
}

#[test]
fn no_repository() {
    let repository = scene();
    let elsewhere = repository.root.path().join("elsewhere");
    fs::create_dir(&elsewhere).unwrap();
    let (output, json) = both(&repository, &["status"], |command| {
        command.current_dir(&elsewhere).env("GIT_CEILING_DIRECTORIES", repository.root.path());
    });
    assert_error(&output, &json, 128, "not_a_repository", &["elsewhere", "hint: "], "no repository");
    assert_eq!(fs::read_dir(&elsewhere).unwrap().count(), 0);
}

#[test]
fn a_bare_repository_without_worktrees_works() {
    let repository = scene();
    let bare = repository.root.path().join("bare.git");
    repository.git(&["init", "-q", "--bare", bare.to_str().unwrap()]);
    let run = |arguments: &[&str]| {
        repository.command(env!("CARGO_BIN_EXE_git-tether")).current_dir(&bare).args(arguments).output().unwrap()
    };
    for arguments in
        [&["start", "r"][..], &["task", "add", "r/t"], &["status"], &["verify"], &["recover"], &["doctor"], &["gc"]]
    {
        let output = run(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", text(&output.stderr));
    }
    // There is no commit yet that a worktree could begin at.
    let output = run(&["env", "add", "r/t", "--mode", "git_worktree"]);
    assert_eq!(output.status.code(), Some(128), "{}", text(&output.stderr));
}

#[test]
fn unknown_ids_name_near_matches() {
    let repository = scene();
    refused(&repository, &["show", "biuld"], 128, "unknown_run", &["biuld", "did you mean build?"]);
    refused(&repository, &["task", "show", "build/compil"], 128, "unknown_task", &["compil", "did you mean compile?"]);
    refused(&repository, &["task", "done", "build/nothing-like-it"], 128, "unknown_task", &["nothing-like-it"]);
    refused(&repository, &["task", "add", "nope/x"], 128, "unknown_run", &["nope"]);
    refused(&repository, &["task", "add", "build/x", "--depends-on", "compiler"], 128, "unknown_task", &["compiler"]);
    refused(&repository, &["session", "heartbeat", "nobody"], 128, "unknown_session", &["nobody"]);
    refused(&repository, &["claim", "show", "thread", "nothing"], 128, "unknown_claim", &["nothing"]);
    refused(&repository, &["start", "build"], 128, "run_exists", &["exists already", "hint: "]);
    refused(&repository, &["checkpoint", "build/compiler", "--boundary", "x"], 128, "unknown_task", &["compiler"]);
}

#[test]
fn invalid_ids_are_usage_errors() {
    let repository = scene();
    for id in ["UPPER", "a..b", "a.lock", "-a", ".a", "a/b/c", "é", "a b", ""] {
        let before = repository.git(&["for-each-ref"]);
        let output = repository.tether(&["start", "--", id]);
        assert_eq!(output.status.code(), Some(129), "{id:?}: {}", text(&output.stderr));
        assert_eq!(repository.git(&["for-each-ref"]), before, "{id:?}");
    }
    let long = "a".repeat(65);
    assert_eq!(repository.tether(&["start", &long]).status.code(), Some(129));
    assert_eq!(repository.tether(&["task", "add", "build"]).status.code(), Some(129));
    let json = repository.json(&["start", "UPPER"]);
    assert_eq!(json["schema"], "tether.error/1");
    assert!(json["error"]["message"].as_str().unwrap().contains("UPPER"), "{json}");
}

#[test]
fn values_out_of_range() {
    let repository = scene();
    for progress in ["101", "-1", "many"] {
        let output = repository.tether(&["activity", "build", &format!("--progress={progress}")]);
        assert_eq!(output.status.code(), Some(129), "{progress}: {}", text(&output.stderr));
    }
    refused(&repository, &["activity", "build", "--progress", "101"], 129, "out_of_range", &["101", "0"]);
    refused(&repository, &["start", "x", "--meta", "{\"a\":"], 129, "invalid_json", &["--meta"]);
    refused(&repository, &["start", "x", "--meta", "[1]"], 129, "invalid_json", &["--meta"]);
    refused(&repository, &["session", "reserve", "t", "--pid", "0"], 129, "invalid_pid", &["0"]);
    assert_eq!(repository.json(&["show", "build"])["run"]["activity"]["progress"], 0);
}

#[test]
fn cyclic_dependencies() {
    let repository = scene();
    let output = repository.tether(&["task", "add", "build/me", "--depends-on", "me"]);
    assert_eq!(output.status.code(), Some(128), "{}", text(&output.stderr));
    let error = repository.json(&["task", "add", "build/me", "--depends-on", "me"]);
    assert_eq!(error["error"]["code"], "dependency_cycle", "{error}");
    assert_eq!(repository.json(&["task", "list", "build"])["tasks"].as_array().unwrap().len(), 2);
}

#[test]
fn a_resume_state_file_that_is_not_there() {
    let repository = scene();
    let before = repository.git(&["for-each-ref"]);
    let arguments = ["checkpoint", "build/compile", "--boundary", "x", "--resume-state", "/nowhere/state"];
    let (output, json) = both(&repository, &arguments, |_| {});
    let beside = text(&output.stderr);
    assert_eq!(output.status.code(), Some(128), "{beside}");
    assert!(beside.contains("/nowhere/state"), "{beside}");
    let error: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!(error["schema"], "tether.error/1");
    assert_eq!(repository.git(&["for-each-ref"]), before);
}

#[test]
fn a_path_outside() {
    let repository = scene();
    let before = repository.git(&["for-each-ref"]);
    for path in ["/proc/tether", "/nowhere/\u{0}x"].iter().take(1) {
        let output = repository.tether(&["env", "add", "build/compile", "--mode", "git_worktree", "--path", path]);
        assert_ne!(output.status.code(), Some(0), "{path}");
        assert_ne!(output.status.code(), Some(101), "{path}: {}", text(&output.stderr));
    }
    let occupied = repository.root.path().join("occupied");
    fs::create_dir(&occupied).unwrap();
    fs::write(occupied.join("mine"), "mine").unwrap();
    let output = repository.tether(&[
        "env",
        "add",
        "build/link",
        "--mode",
        "git_worktree",
        "--path",
        occupied.to_str().unwrap(),
    ]);
    assert_eq!(output.status.code(), Some(128), "{}", text(&output.stderr));
    assert_eq!(fs::read_to_string(occupied.join("mine")).unwrap(), "mine");
    assert_eq!(fs::read_dir(&occupied).unwrap().count(), 1);
    assert_eq!(repository.git(&["branch", "--list"]).lines().count(), 1, "no branch is left behind");
    let _ = before;
}

#[test]
fn a_torn_record() {
    let repository = scene();
    let file = repository.path.join(".git/refs/tether/runs/build");
    let tip = fs::read(&file).unwrap();
    fs::write(&file, "").unwrap();
    for arguments in [&["show", "build"][..], &["task", "done", "build/compile"], &["start", "build"]] {
        let (output, json) = both(&repository, arguments, |_| {});
        assert_error(&output, &json, 128, "unusable_ref", &["refs/tether/runs/build", "git tether doctor"], "torn");
        assert_eq!(fs::read(&file).unwrap(), b"", "{arguments:?} wrote something");
    }
    assert_eq!(repository.tether(&["status"]).status.code(), Some(0), "listed as unreadable");
    fs::write(&file, tip).unwrap();
    repository.answer(&["show", "build"]);
}

/// What changes something, each a single transition.
const WRITERS: &[&[&str]] = &[
    &["start", "second"],
    &["task", "add", "build/more"],
    &["task", "start", "build/compile"],
    &["activity", "build", "--text", "x"],
    &["session", "reserve", "topic"],
    &["pool", "set", "lanes", "--max", "1"],
    &["finish", "build"],
];

fn mount(arguments: &[&str]) -> bool {
    Command::new("mount").args(arguments).output().is_ok_and(|output| output.status.success())
}

struct Mounted(std::path::PathBuf);

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).output();
    }
}

#[track_caller]
fn assert_fails_whole(repository: &Repository, codes: &[&str], before: &str) {
    for arguments in WRITERS {
        let (output, json) = both(repository, arguments, |_| {});
        let beside = text(&output.stderr);
        assert_eq!(output.status.code(), Some(128), "{arguments:?}: {beside}");
        assert_eq!(beside.lines().filter(|line| line.starts_with("fatal: ")).count(), 1, "{arguments:?}: {beside}");
        assert!(beside.contains("hint: "), "{arguments:?}: {beside}");
        let error: Value =
            serde_json::from_slice(&json.stdout).unwrap_or_else(|_| panic!("{arguments:?}: {}", text(&json.stdout)));
        let code = error["error"]["code"].as_str().unwrap();
        assert!(codes.contains(&code), "{arguments:?}: {error}");
        assert_eq!(repository.git(&["for-each-ref"]), before, "{arguments:?}");
    }
    for reader in [&["status"][..], &["show", "build"], &["task", "list"], &["doctor"], &["verify"]] {
        let output = repository.tether(reader);
        assert_eq!(output.status.code(), Some(0), "{reader:?} only reads: {}", text(&output.stderr));
    }
    repository.git(&["fsck", "--strict"]);
}

#[test]
fn a_read_only_repository() {
    let repository = scene();
    let git_dir = repository.path.join(".git");
    let git_dir = git_dir.to_str().unwrap();
    let before = repository.git(&["for-each-ref"]);
    if !mount(&["--bind", git_dir, git_dir]) {
        eprintln!("SKIPPED: mounting is not permitted here");
        return;
    }
    let mounted = Mounted(Path::new(git_dir).to_owned());
    assert!(mount(&["-o", "remount,bind,ro", git_dir]), "a bind mount can be made read-only");
    assert_fails_whole(&repository, &["read_only"], &before);
    drop(mounted);
    repository.answer(&["start", "second"]);
}

#[test]
fn a_full_disk() {
    let root = tempfile::tempdir().unwrap();
    let path = root.path().canonicalize().unwrap().join("small");
    fs::create_dir(&path).unwrap();
    if !mount(&["-t", "tmpfs", "-o", "size=1m", "tmpfs", path.to_str().unwrap()]) {
        eprintln!("SKIPPED: mounting is not permitted here");
        return;
    }
    let mounted = Mounted(path.clone());
    let repository = Repository { root, path: path.clone() };
    repository.git(&["init", "-q", "-b", "main"]);
    repository.git(&["commit", "-q", "--allow-empty", "-m", "First"]);
    repository.answer(&["start", "build"]);
    repository.answer(&["task", "add", "build/compile"]);
    let before = repository.git(&["for-each-ref"]);
    let fill = path.join("fill");
    let mut size = 1 << 20;
    while size >= 4096 {
        use std::io::Write as _;
        let written = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(&fill)
            .and_then(|mut file| file.write_all(&vec![1; size]));
        if written.is_err() {
            size /= 2;
        }
    }
    assert_fails_whole(&repository, &["storage_full"], &before);
    fs::remove_file(&fill).unwrap();
    repository.answer(&["start", "second"]);
    drop(mounted);
}
