//! Environments through the real program: made, killed, made again, leased, removed, adopted, put back.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::Repository;

/// A run `r` with the tasks that are named.
fn with_tasks(tasks: &[&str]) -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    for task in tasks {
        repository.answer(&["task", "add", &format!("r/{task}")]);
    }
    repository
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[track_caller]
fn refused(repository: &Repository, expected: i32, error: &str, arguments: &[&str]) -> String {
    let output = repository.tether(&[arguments, &["--json"]].concat());
    assert_eq!(code(&output), expected, "{arguments:?}: {}", said(&output));
    let value: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(value["error"]["code"], error, "{value:#}");
    assert!(value["error"]["hints"].is_array());
    value["error"]["message"].as_str().unwrap().to_owned()
}

#[track_caller]
fn added(repository: &Repository, arguments: &[&str]) -> Value {
    let value = repository.json(&[&["env", "add"], arguments].concat());
    assert_eq!(value["environment"]["state"], "ready", "{value:#}");
    value["environment"].clone()
}

fn path_of(environment: &Value) -> PathBuf {
    PathBuf::from(environment["spec"]["path"].as_str().unwrap())
}

fn git_in(repository: &Repository, path: &Path, arguments: &[&str]) -> String {
    repository.git(&[&["-C", path.to_str().unwrap()], arguments].concat())
}

fn write(path: impl AsRef<Path>, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn hook(repository: &Repository, name: &str, script: &str) {
    let path = repository.path.join(".git/hooks").join(name);
    std::fs::create_dir_all(path.parent().unwrap()).unwrap();
    write(&path, &format!("#!/bin/sh\n{script}\n"));
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}

/// Starts the program and waits until `sign` is there.
fn started(repository: &Repository, arguments: &[&str], sign: &Path) -> Child {
    let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
    let child = command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    wait_for(|| sign.exists(), "the sign that it has got there");
    child
}

#[track_caller]
fn wait_for(what: impl Fn() -> bool, name: &str) {
    let patience_ends = Instant::now() + Duration::from_secs(20);
    while !what() {
        assert!(Instant::now() < patience_ends, "waited in vain for {name}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn kill(mut child: Child) {
    child.kill().unwrap();
    child.wait().unwrap();
}

fn worktrees(repository: &Repository) -> usize {
    repository.git(&["worktree", "list", "--porcelain"]).lines().filter(|line| line.starts_with("worktree ")).count()
}

fn saved(repository: &Repository) -> Vec<Value> {
    let list = repository.git(&["show", "refs/tether-local/work/r:saved.json"]);
    serde_json::from_str::<Value>(&list).unwrap()["saved"].as_array().unwrap().clone()
}

// ---- add ----

#[test]
fn a_worktree_is_made_on_a_branch_of_its_own() {
    let repository = with_tasks(&["t"]);
    let made = added(&repository, &["r/t", "--mode", "git_worktree"]);
    assert_eq!(made["id"], "env-t");
    assert_eq!(made["spec"]["git_worktree"]["branch"], "tether/r/t");
    assert_eq!(made["spec"]["git_worktree"]["branch_created"], true);
    assert_eq!(made["spec"]["git_worktree"]["base_commit"], repository.git(&["rev-parse", "HEAD"]).as_str());
    assert_eq!(made["spec"]["cleanup_policy"], "remove_when_clean_otherwise_archive");
    assert!(made["spec"]["mount_point"].is_string());
    let path = path_of(&made);
    assert_eq!(path, repository.path.with_file_name("repository.worktrees").join("r-t"));
    assert_eq!(git_in(&repository, &path, &["status", "--porcelain=v1", "-b"]), "## tether/r/t");
    assert_eq!(repository.json(&["task", "show", "r/t"])["task"]["environment"], "env-t");
    assert_eq!(repository.json(&["env", "list", "r"])["environments"][0]["id"], "env-t");
    assert_eq!(repository.json(&["verify"])["needs_person"], 0);
    refused(&repository, 128, "environment_exists", &["env", "add", "r/t", "--mode", "git_worktree"]);
}

#[test]
fn what_cannot_be_made_leaves_no_record_and_nothing_on_disk() {
    let repository = with_tasks(&["t"]);
    let before = repository.git(&["rev-parse", "refs/tether/runs/r"]);
    let occupied = repository.root.path().join("full");
    std::fs::create_dir(&occupied).unwrap();
    write(occupied.join("mine"), "mine");
    let full = occupied.to_str().unwrap();
    let add = |more: &[&'static str]| [&["env", "add", "r/t", "--id", "e", "--mode", "git_worktree"], more].concat();
    let at_full: Vec<&str> = ["env", "add", "r/t", "--id", "e", "--mode", "git_worktree", "--path", full].to_vec();
    refused(&repository, 128, "path_occupied", &at_full);
    refused(&repository, 128, "path_occupied", &add(&["--path", "."]));
    refused(&repository, 128, "path_in_git_directory", &add(&["--path", ".git/here"]));
    refused(&repository, 128, "branch_checked_out", &add(&["--branch", "main"]));
    refused(&repository, 129, "invalid_branch", &add(&["--branch", "a..b"]));
    refused(&repository, 128, "unknown_revision", &add(&["--base", "nope"]));
    refused(&repository, 129, "option_not_for_mode", &add(&["--remote-url", "ssh://x/y"]));
    refused(&repository, 128, "unknown_task", &["env", "add", "r/no", "--mode", "git_worktree"]);
    refused(&repository, 128, "path_missing", &["env", "add", "r/t", "--mode", "shared_workspace", "--path", "no"]);
    refused(&repository, 129, "remote_url_needed", &["env", "add", "r/t", "--mode", "remote"]);
    assert_eq!(repository.git(&["rev-parse", "refs/tether/runs/r"]), before);
    assert_eq!(worktrees(&repository), 1);
    assert_eq!(repository.git(&["branch", "--format=%(refname)"]), "refs/heads/main");
    assert_eq!(std::fs::read_to_string(occupied.join("mine")).unwrap(), "mine");
}

#[test]
fn a_path_that_is_not_utf8_is_refused() {
    use std::os::unix::ffi::OsStrExt as _;
    let repository = with_tasks(&["t"]);
    let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
    command.args(["env", "add", "r/t", "--mode", "git_worktree", "--path"]);
    let output = command.arg(std::ffi::OsStr::from_bytes(b"/tmp/\xff\xfe")).output().unwrap();
    assert_eq!(code(&output), 128);
    assert!(said(&output).contains("UTF-8"), "{}", said(&output));
    assert_eq!(worktrees(&repository), 1);
}

#[test]
fn a_branch_that_is_there_is_taken_as_it_is() {
    let repository = with_tasks(&["t", "u"]);
    repository.git(&["branch", "mine"]);
    let made = added(&repository, &["r/t", "--mode", "git_worktree", "--branch", "mine"]);
    assert_eq!(made["spec"]["git_worktree"]["branch_created"], false);
    repository.answer(&["env", "remove", "r/env-t"]);
    assert!(repository.git(&["branch"]).contains("mine"), "a branch of somebody else never goes");
    repository.git(&["commit", "-q", "--allow-empty", "-m", "Second"]);
    let arguments = ["env", "add", "r/u", "--mode", "git_worktree", "--branch", "mine", "--base", "main"];
    refused(&repository, 128, "branch_exists", &arguments);
}

#[test]
fn the_path_is_the_one_that_a_symlinked_parent_leads_to() {
    let repository = with_tasks(&["t"]);
    let real = repository.path.with_file_name("real");
    std::fs::create_dir(&real).unwrap();
    let link = repository.path.with_file_name("link");
    std::os::unix::fs::symlink(&real, &link).unwrap();
    let typed = link.join("wt");
    let made = added(&repository, &["r/t", "--mode", "git_worktree", "--path", typed.to_str().unwrap()]);
    assert_eq!(path_of(&made), real.join("wt"));
    // The parent of the recorded path becomes a symlink to elsewhere: nothing there is followed.
    let elsewhere = repository.path.with_file_name("elsewhere");
    std::fs::create_dir_all(elsewhere.join("wt")).unwrap();
    write(elsewhere.join("wt/precious"), "precious");
    std::fs::rename(&real, repository.path.with_file_name("away")).unwrap();
    std::os::unix::fs::symlink(&elsewhere, &real).unwrap();
    assert_eq!(code(&repository.tether(&["env", "remove", "r/env-t"])), 128);
    repository.json(&["recover", "--recreate", "--clean"]);
    assert_eq!(std::fs::read_to_string(elsewhere.join("wt/precious")).unwrap(), "precious");
    assert!(!elsewhere.join("wt/.git").exists());
}

#[test]
fn hooks_and_setup_run_in_a_new_worktree_and_stdout_stays_the_answers() {
    let repository = with_tasks(&["t"]);
    let log = repository.root.path().join("log");
    hook(&repository, "post-checkout", &format!("echo hook $1 $3 in $PWD >> {}", log.display()));
    let setup = format!(
        "echo noise; echo setup $TETHER_RUN $TETHER_TASK $TETHER_ENVIRONMENT in $PWD >> {}; test -z \"$GIT_DIR\"",
        log.display()
    );
    repository.git(&["config", "tether.setup", &setup]);
    let made = added(&repository, &["r/t", "--mode", "git_worktree"]);
    let path = path_of(&made);
    let null = "0".repeat(40);
    let expected = format!("hook {null} 1 in {0}\nsetup r t env-t in {0}\n", path.display());
    assert_eq!(std::fs::read_to_string(log).unwrap(), expected);
}

#[test]
fn a_failing_setup_keeps_the_worktree_and_is_run_anew() {
    let repository = with_tasks(&["t"]);
    repository.git(&["config", "tether.setup", "exit 7"]);
    let message = refused(&repository, 128, "setup_failed", &["env", "add", "r/t", "--mode", "git_worktree"]);
    assert!(message.contains("exit 7"), "{message}");
    let failed = repository.json(&["env", "show", "r/env-t"])["environment"].clone();
    assert_eq!(failed["state"], "failed");
    assert!(failed["failure"]["message"].as_str().unwrap().contains("tether.setup"));
    repository.git(&["config", "tether.setup", "true"]);
    let made = added(&repository, &["r/t", "--mode", "git_worktree"]);
    assert_eq!(made["failure"], Value::Null);
    assert_eq!(worktrees(&repository), 2);
}

#[test]
fn eight_at_once_are_all_made() {
    let tasks: Vec<String> = (0..8).map(|number| format!("t{number}")).collect();
    let names: Vec<&str> = tasks.iter().map(String::as_str).collect();
    let repository = with_tasks(&names);
    let children: Vec<Child> = tasks
        .iter()
        .map(|task| {
            let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
            command.args(["env", "add", &format!("r/{task}"), "--mode", "git_worktree"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", said(&output));
    }
    assert_eq!(worktrees(&repository), 9);
    let environments = repository.json(&["env", "list", "r"])["environments"].clone();
    assert!(environments.as_array().unwrap().iter().all(|known| known["state"] == "ready"));
    assert_eq!(repository.json(&["verify"])["findings"], Value::Array(Vec::new()));
}

// ---- killed ----

/// `env add` killed while the hook or the setup sleeps; then what `after` does has to make it whole.
fn killed_while(place: &str, after: impl Fn(&Repository)) {
    let repository = with_tasks(&["t"]);
    let sign = repository.root.path().join("sign");
    let script = format!("touch {}; exec sleep 2", sign.display());
    match place {
        "hook" => hook(&repository, "post-checkout", &script),
        _ => drop(repository.git(&["config", "tether.setup", &script])),
    }
    let child = started(&repository, &["env", "add", "r/t", "--mode", "git_worktree", "--branch", "work"], &sign);
    let alive = repository.json(&["recover"]);
    assert_eq!(alive["findings"], Value::Array(Vec::new()), "a live maker is left alone: {alive:#}");
    refused(&repository, 75, "environment_busy", &["env", "add", "r/t", "--mode", "git_worktree", "--branch", "work"]);
    kill(child);
    match place {
        "hook" => std::fs::remove_file(repository.path.join(".git/hooks/post-checkout")).unwrap(),
        _ => drop(repository.git(&["config", "--unset", "tether.setup"])),
    }
    after(&repository);
    assert_eq!(repository.json(&["recover"])["steps"], Value::Array(Vec::new()), "a second recovery has nothing to do");
    repository.git(&["fsck", "--no-dangling"]);
}

fn is_whole(repository: &Repository) {
    let made = repository.json(&["env", "show", "r/env-t"])["environment"].clone();
    assert_eq!(made["state"], "ready", "{made:#}");
    assert_eq!(git_in(repository, &path_of(&made), &["status", "--porcelain=v1", "-b"]), "## work");
    assert_eq!(worktrees(repository), 2);
}

#[test]
fn killed_in_the_hook_and_made_again() {
    killed_while("hook", |repository| {
        added(repository, &["r/t", "--mode", "git_worktree", "--branch", "work"]);
        repository.json(&["recover"]);
        is_whole(repository);
    });
}

#[test]
fn killed_in_the_hook_and_finished_by_a_recovery() {
    killed_while("hook", |repository| {
        let plain = repository.json(&["recover"]);
        assert_eq!(plain["findings"][0]["code"], "environment_half_made", "{plain:#}");
        repository.json(&["recover", "--recreate"]);
        is_whole(repository);
    });
}

#[test]
fn killed_in_the_setup_and_made_again() {
    killed_while("setup", |repository| {
        added(repository, &["r/t", "--mode", "git_worktree", "--branch", "work"]);
        repository.json(&["recover"]);
        is_whole(repository);
    });
}

#[test]
fn killed_in_the_setup_and_finished_by_a_recovery() {
    killed_while("setup", |repository| {
        repository.json(&["recover", "--recreate"]);
        is_whole(repository);
    });
}

#[test]
fn killed_in_the_hook_and_undone_once_nobody_needs_it() {
    killed_while("hook", |repository| {
        repository.answer(&["task", "cancel", "r/t"]);
        repository.json(&["recover", "--clean"]);
        assert_eq!(repository.json(&["env", "show", "r/env-t"])["environment"]["state"], "removed");
        assert_eq!(worktrees(repository), 1);
        assert_eq!(repository.git(&["branch", "--format=%(refname)"]), "refs/heads/main");
    });
}

#[test]
fn killed_and_made_otherwise() {
    killed_while("hook", |repository| {
        let made = added(repository, &["r/t", "--mode", "git_worktree", "--branch", "other", "--path", "../there"]);
        assert_eq!(path_of(&made), repository.path.with_file_name("there"));
        assert!(!repository.git(&["branch"]).contains("work"), "what the first try made is taken back");
        assert_eq!(worktrees(repository), 2);
        repository.json(&["recover"]);
    });
}

// ---- lease ----

#[test]
fn a_live_session_keeps_its_lease_and_a_dead_one_loses_it() {
    let repository = with_tasks(&["t"]);
    added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e"]);
    let mut sleeper = repository.command("sleep").arg("60").spawn().unwrap();
    let pid = sleeper.id().to_string();
    repository.answer(&["session", "reserve", "one", "--id", "s1", "--pid", &pid]);
    repository.answer(&["session", "reserve", "two", "--id", "s2"]);
    let leased = repository.json(&["env", "lease", "r/e", "--session", "s1", "--for", "10m"])["environment"].clone();
    assert_eq!(leased["state"], "in_use");
    assert_eq!(leased["lease"]["task"], "t");
    let token = leased["lease"]["token"].as_str().unwrap().to_owned();
    assert!(token.starts_with("place/"), "{token}");
    repository.answer(&["fence", &token]);
    refused(&repository, 3, "live_owner", &["env", "lease", "r/e", "--session", "s2"]);
    refused(&repository, 3, "live_owner", &["env", "remove", "r/e", "--force"]);
    refused(&repository, 128, "unknown_session", &["env", "lease", "r/e", "--session", "s3"]);
    refused(&repository, 128, "unknown_environment", &["env", "lease", "r/x", "--session", "s2"]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let second = repository.json(&["env", "lease", "r/e", "--session", "s2"])["environment"].clone();
    assert_eq!(second["lease"]["session"], "s2");
    assert_ne!(second["lease"]["token"], token.as_str());
    assert_eq!(code(&repository.tether(&["fence", &token])), 3);
    let released = repository.json(&["env", "release", "r/e"])["environment"].clone();
    assert_eq!(released["state"], "ready");
    assert!(released["lease"]["released_at"].is_string());
    let again = repository.json(&["env", "release", "r/e"])["environment"].clone();
    assert_eq!(again["lease"]["released_at"], released["lease"]["released_at"]);
    assert_eq!(repository.json(&["env", "release", "r/nothing"])["environment"], Value::Null);
}

#[test]
fn of_eight_sessions_one_gets_the_lease() {
    let repository = with_tasks(&["t"]);
    added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e"]);
    for number in 0..8 {
        repository.answer(&["session", "reserve", &format!("line{number}"), "--id", &format!("s{number}")]);
    }
    let children: Vec<Child> = (0..8)
        .map(|number| {
            let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
            command.args(["env", "lease", "r/e", "--session", &format!("s{number}")]);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .collect();
    let codes: Vec<i32> = children.into_iter().map(|child| code(&child.wait_with_output().unwrap())).collect();
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert!(codes.iter().all(|code| matches!(code, 0 | 3)), "{codes:?}");
}

// ---- remove ----

#[test]
fn removing_a_dirty_worktree_saves_it_first() {
    let repository = with_tasks(&["t"]);
    let made = added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]);
    let path = path_of(&made);
    write(path.join("README"), "changed\n");
    write(path.join("new"), "new\n");
    let removed = repository.json(&["env", "remove", "r/e"])["environment"].clone();
    assert_eq!(removed["state"], "archived");
    let work = removed["cleanup"]["work"].as_str().unwrap();
    assert!(!path.exists());
    assert_eq!(repository.git(&["show", &format!("{work}:new")]), "new");
    assert_eq!(repository.git(&["show", &format!("{work}:README")]), "changed");
    repository.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(repository.git(&["show", &format!("{work}:new")]), "new");
    assert_eq!(repository.json(&["env", "remove", "r/e"])["environment"]["state"], "archived");
    assert_eq!(repository.json(&["env", "remove", "r/none"])["environment"], Value::Null);
    assert_eq!(worktrees(&repository), 1);
    added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]);
}

#[test]
fn a_branch_with_commits_that_are_nowhere_else_stays() {
    let repository = with_tasks(&["t", "u", "v", "w"]);
    let commit = |path: &Path, file: &str| {
        write(path.join(file), file);
        git_in(&repository, path, &["add", "."]);
        git_in(&repository, path, &["commit", "-q", "-m", file]);
    };
    let add = |task: &str, branch: &str| {
        path_of(&added(&repository, &[&format!("r/{task}"), "--mode", "git_worktree", "--branch", branch]))
    };
    let (kept, squashed, rebased, pushed) =
        (add("t", "kept"), add("u", "squashed"), add("v", "rebased"), add("w", "pushed"));
    commit(&kept, "kept");
    for file in ["one", "two"] {
        commit(&squashed, file);
    }
    commit(&rebased, "three");
    commit(&pushed, "four");
    repository.git(&["update-ref", "refs/remotes/origin/pushed", "pushed"]);
    repository.git(&["merge", "-q", "--squash", "squashed"]);
    repository.git(&["commit", "-q", "-m", "Squashed"]);
    repository.git(&["cherry-pick", "rebased"]);
    write(repository.path.join("one"), "changed since\n");
    repository.git(&["commit", "-q", "-a", "-m", "Later"]);
    let tip = repository.git(&["rev-parse", "squashed"]);
    for task in ["t", "u", "v", "w"] {
        let removed = repository.json(&["env", "remove", &format!("r/env-{task}")])["environment"].clone();
        assert_eq!(removed["state"], "removed");
    }
    assert_eq!(repository.git(&["branch", "--format=%(refname:short)"]), "kept\nmain");
    repository.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(repository.git(&["cat-file", "-t", &tip]), "commit", "the tip of what went is kept");
}

#[test]
fn commits_of_a_detached_head_are_kept() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]));
    git_in(&repository, &path, &["checkout", "-q", "--detach"]);
    git_in(&repository, &path, &["commit", "-q", "--allow-empty", "-m", "On no branch"]);
    let loose = git_in(&repository, &path, &["rev-parse", "HEAD"]);
    repository.answer(&["env", "remove", "r/e"]);
    assert!(!path.exists());
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(repository.git(&["cat-file", "-t", &loose]), "commit");
}

#[test]
fn what_must_not_go_stays() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]));
    repository.git(&["worktree", "lock", "--reason", "mine", path.to_str().unwrap()]);
    assert!(refused(&repository, 128, "worktree_locked", &["env", "remove", "r/e", "--force"]).contains("mine"));
    repository.git(&["worktree", "unlock", path.to_str().unwrap()]);
    let mut inside = repository.command("sleep").arg("60").current_dir(&path).spawn().unwrap();
    let message = refused(&repository, 128, "live_process", &["env", "remove", "r/e", "--force"]);
    assert!(message.contains(&inside.id().to_string()), "{message}");
    inside.kill().unwrap();
    inside.wait().unwrap();
    write(path.join(".env"), "SECRET=1\n");
    assert!(refused(&repository, 128, "not_saved", &["env", "remove", "r/e"]).contains(".env"));
    assert!(path.join(".env").exists());
    let output = repository.tether(&["env", "remove", "r/e", "--force"]);
    assert_eq!(code(&output), 0);
    assert!(said(&output).contains(".env"), "{}", said(&output));
    assert!(!path.exists());
}

#[test]
fn a_shared_place_is_never_removed() {
    let repository = with_tasks(&["t"]);
    added(&repository, &["r/t", "--mode", "shared_workspace", "--id", "s"]);
    let removed = repository.json(&["env", "remove", "r/s", "--force"])["environment"].clone();
    assert_eq!(removed["state"], "removed");
    assert_eq!(std::fs::read_to_string(repository.path.join("README")).unwrap(), "read me\n");
    added(&repository, &["r/t", "--mode", "remote", "--id", "m", "--remote-url", "ssh://host/x"]);
    assert_eq!(repository.json(&["env", "remove", "r/m"])["environment"]["state"], "removed");
}

#[test]
fn an_isolated_workspace_is_saved_and_comes_back() {
    let repository = with_tasks(&["t"]);
    let made = added(&repository, &["r/t", "--mode", "isolated_workspace", "--id", "i"]);
    let path = path_of(&made);
    write(path.join("file"), "content\n");
    let removed = repository.json(&["env", "remove", "r/i"])["environment"].clone();
    assert_eq!(removed["state"], "archived");
    assert!(!path.exists());
    let work = removed["cleanup"]["work"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{work}:file")]), "content");
    let made = added(&repository, &["r/t", "--mode", "isolated_workspace", "--id", "j"]);
    write(path_of(&made).join("file"), "again\n");
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(path_of(&made)).unwrap();
    repository.json(&["recover", "--recreate"]);
    assert_eq!(std::fs::read_to_string(path_of(&made).join("file")).unwrap(), "again\n");
}

#[test]
fn a_record_that_came_from_elsewhere_moves_nobody_to_remove_anything() {
    let repository = with_tasks(&["t"]);
    added(&repository, &["r/t", "--mode", "isolated_workspace", "--id", "i"]);
    let victim = repository.path.with_file_name("victim");
    std::fs::create_dir(&victim).unwrap();
    write(victim.join("file"), "mine\n");
    // The same record as it would come with a fetch: this machine wrote down another path.
    let file = repository.path.join(".git/tether/places/r/i");
    assert!(file.exists());
    write(&file, victim.to_str().unwrap());
    refused(&repository, 128, "untrusted_path", &["env", "remove", "r/i", "--force"]);
    assert_eq!(std::fs::read_to_string(victim.join("file")).unwrap(), "mine\n");
}

// ---- recreate ----

#[test]
fn a_missing_worktree_comes_back_as_it_was_saved() {
    let repository = with_tasks(&["t"]);
    let log = repository.root.path().join("setup");
    repository.git(&["config", "tether.setup", &format!("ls >> {}; echo theirs > untracked", log.display())]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]));
    write(path.join("README"), "changed\n");
    write(path.join("staged"), "staged\n");
    git_in(&repository, &path, &["add", "staged"]);
    write(path.join("untracked"), "untracked\n");
    let before = git_in(&repository, &path, &["status", "--porcelain=v1", "-b"]);
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(&path).unwrap();
    let recovered = repository.json(&["recover", "--recreate"]);
    let step =
        recovered["steps"].as_array().unwrap().iter().find(|step| step["step"] == "recreate_environment").unwrap();
    assert_eq!(step["outcome"], "done", "{step:#}");
    assert_eq!(git_in(&repository, &path, &["status", "--porcelain=v1", "-b"]), before);
    assert_eq!(std::fs::read_to_string(path.join("untracked")).unwrap(), "untracked\n");
    assert_eq!(std::fs::read_to_string(&log).unwrap(), "README\nREADME\n", "the setup ran first, both times");
    assert_eq!(repository.json(&["recover", "--recreate"])["steps"], Value::Array(Vec::new()));
}

/// Saves an untracked file in a worktree, takes its directory and, by `change`, its branch; answers with what came back.
fn recreated_after(change: impl Fn(&Repository)) -> (Repository, PathBuf, Value) {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]));
    write(path.join("untracked"), "precious\n");
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(&path).unwrap();
    change(&repository);
    let recovered = repository.json(&["recover", "--recreate"]);
    let step = recovered["steps"].as_array().unwrap().iter().find(|step| step["step"] == "recreate_environment");
    let step = step.unwrap().clone();
    assert_eq!(step["outcome"], "done", "{step:#}");
    assert!(step["message"].as_str().unwrap().contains("tether/rescue/r-e"), "{step:#}");
    assert_eq!(repository.git(&["show", "tether/rescue/r-e:untracked"]), "precious");
    assert_eq!(repository.json(&["recover", "--recreate"])["steps"], Value::Array(Vec::new()));
    let environment = repository.json(&["env", "show", "r/e"])["environment"].clone();
    (repository, path, environment)
}

#[test]
fn work_of_a_branch_that_is_gone_is_rescued() {
    let (repository, path, environment) =
        recreated_after(|repository| drop(repository.git(&["update-ref", "-d", "refs/heads/work"])));
    assert_eq!(environment["spec"]["git_worktree"]["branch"], "tether/rescue/r-e");
    assert_eq!(git_in(&repository, &path, &["branch", "--show-current"]), "tether/rescue/r-e");
    assert_eq!(std::fs::read_to_string(path.join("untracked")).unwrap(), "precious\n");
}

#[test]
fn work_of_a_branch_that_is_checked_out_elsewhere_is_rescued() {
    let (repository, path, environment) = recreated_after(|repository| {
        repository.git(&["worktree", "prune"]);
        repository.git(&["checkout", "-q", "work"]);
    });
    assert_eq!(environment["spec"]["git_worktree"]["branch"], "tether/rescue/r-e");
    assert_eq!(repository.git(&["branch", "--show-current"]), "work");
    assert_eq!(std::fs::read_to_string(path.join("untracked")).unwrap(), "precious\n");
}

#[test]
fn a_worktree_whose_branch_has_moved_comes_back_at_its_tip() {
    let (repository, path, environment) = recreated_after(|repository| {
        repository.git(&["commit", "-q", "--allow-empty", "-m", "Further"]);
        repository.git(&["update-ref", "refs/heads/work", "main"]);
    });
    assert_eq!(environment["spec"]["git_worktree"]["branch"], "work");
    assert_eq!(git_in(&repository, &path, &["rev-parse", "HEAD"]), repository.git(&["rev-parse", "main"]));
    assert!(!path.join("untracked").exists());
}

#[test]
fn nothing_is_put_where_something_is() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e"]));
    std::fs::remove_dir_all(&path).unwrap();
    repository.json(&["recover"]);
    std::fs::create_dir(&path).unwrap();
    write(path.join("mine"), "mine\n");
    repository.json(&["recover", "--recreate"]);
    assert_eq!(std::fs::read_to_string(path.join("mine")).unwrap(), "mine\n");
    assert_eq!(std::fs::read_dir(&path).unwrap().count(), 1);
}

#[test]
fn a_recreation_that_was_killed_is_finished() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]));
    write(path.join("untracked"), "precious\n");
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(&path).unwrap();
    let sign = repository.root.path().join("sign");
    repository.git(&["config", "tether.setup", &format!("touch {}; exec sleep 2", sign.display())]);
    kill(started(&repository, &["recover", "--recreate"], &sign));
    assert!(path.join(".git").exists() && !path.join("untracked").exists(), "it died before the work was back");
    repository.git(&["config", "--unset", "tether.setup"]);
    // Somebody has looked in meanwhile: what they left is not lost either.
    write(path.join("untracked"), "somebody's\n");
    write(path.join("note"), "somebody's\n");
    repository.json(&["recover"]);
    let recovered = repository.json(&["recover", "--recreate"]);
    assert_eq!(std::fs::read_to_string(path.join("untracked")).unwrap(), "precious\n", "{recovered:#}");
    let kept = saved(&repository).iter().any(|entry| {
        let commit = entry["commit"].as_str().unwrap();
        repository.git(&["show", &format!("{commit}:untracked")]) == "somebody's"
    });
    assert!(kept, "what stood there is saved");
    assert_eq!(repository.json(&["env", "show", "r/e"])["environment"]["state"], "ready");
    assert_eq!(repository.json(&["recover", "--recreate"])["steps"], Value::Array(Vec::new()));
}

// ---- clean ----

#[test]
fn cleaning_follows_the_policies() {
    let tasks = ["keep", "success", "failure", "always", "clean", "dirty"];
    let policies = [
        "keep_always",
        "remove_on_success",
        "archive_on_failure",
        "archive_always",
        "remove_when_clean_otherwise_archive",
        "remove_when_clean_otherwise_archive",
    ];
    let repository = with_tasks(&tasks);
    for (task, policy) in tasks.iter().zip(policies) {
        let made = added(&repository, &[&format!("r/{task}"), "--mode", "git_worktree", "--cleanup-policy", policy]);
        if *task == "dirty" {
            write(path_of(&made).join("new"), "new\n");
        }
        repository.answer(&["task", "start", &format!("r/{task}")]);
    }
    let before = repository.json(&["recover", "--clean"]);
    assert!(before["steps"].as_array().unwrap().iter().all(|step| step["step"] != "clean_environment"), "{before:#}");
    for task in tasks {
        repository.answer(&["task", "done", &format!("r/{task}")]);
    }
    repository.json(&["recover", "--clean"]);
    let state = |task: &str| repository.json(&["env", "show", &format!("r/env-{task}")])["environment"].clone();
    for (task, expected) in tasks.iter().zip(["ready", "removed", "ready", "archived", "removed", "archived"]) {
        let found = state(task);
        assert_eq!(found["state"], expected, "{task}: {found:#}");
        assert_eq!(path_of(&found).exists(), expected == "ready", "{task}");
    }
    assert!(state("dirty")["cleanup"]["work"].is_string());
    assert_eq!(repository.json(&["recover", "--clean"])["steps"], Value::Array(Vec::new()));
}

#[test]
fn a_worktree_of_ours_that_no_record_names_is_saved_and_removed() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e"]));
    write(path.join("new"), "new\n");
    repository.git(&["update-ref", "-d", "refs/tether/runs/r"]);
    let seen = repository.json(&["recover"]);
    assert!(path.exists(), "{seen:#}");
    let recovered = repository.json(&["recover", "--clean"]);
    assert!(!path.exists(), "{recovered:#}");
    let entry = &saved(&repository)[0];
    assert_eq!(repository.git(&["show", &format!("{}:new", entry["commit"].as_str().unwrap())]), "new");
    assert_eq!(repository.json(&["recover", "--clean"])["steps"], Value::Array(Vec::new()));
}

// ---- adopt ----

#[test]
fn a_worktree_of_somebody_else_is_adopted() {
    let repository = with_tasks(&["t"]);
    repository.git(&["worktree", "add", "-q", "-b", "theirs", "../theirs"]);
    refused(&repository, 128, "task_needed", &["env", "adopt", "../theirs"]);
    refused(&repository, 128, "not_a_worktree", &["env", "adopt", ".", "--task", "r/t"]);
    refused(&repository, 128, "not_a_worktree", &["env", "adopt", "..", "--task", "r/t"]);
    refused(&repository, 128, "unknown_task", &["env", "adopt", "../theirs", "--task", "r/no"]);
    let adopted = repository.json(&["env", "adopt", "../theirs", "--task", "r/t"])["environment"].clone();
    assert_eq!(adopted["state"], "ready");
    assert_eq!(adopted["spec"]["git_worktree"]["branch"], "theirs");
    assert_eq!(adopted["spec"]["git_worktree"]["branch_created"], false);
    assert_eq!(repository.json(&["task", "show", "r/t"])["task"]["environment"], adopted["id"]);
    let again = repository.json(&["env", "adopt", "../theirs", "--task", "r/t"])["environment"].clone();
    assert_eq!(again["id"], adopted["id"]);
    assert_eq!(repository.json(&["verify"])["findings"], Value::Array(Vec::new()));
    repository.answer(&["env", "remove", "r/env-t"]);
    assert!(repository.git(&["branch"]).contains("theirs"));
}

#[test]
fn a_moved_or_changed_worktree_is_followed() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree", "--id", "e", "--branch", "work"]));
    repository.git(&["worktree", "move", path.to_str().unwrap(), "../moved"]);
    let found = repository.json(&["recover"]);
    assert_eq!(found["findings"][0]["health"], "drifted", "{found:#}");
    assert_eq!(repository.json(&["task", "show", "r/t"])["task"]["state"], "blocked");
    refused(&repository, 128, "worktree_moved", &["env", "remove", "r/e"]);
    let adopted = repository.json(&["env", "adopt", "../moved"])["environment"].clone();
    assert_eq!(path_of(&adopted), repository.path.with_file_name("moved"));
    assert_eq!(repository.json(&["task", "show", "r/t"])["task"]["state"], "queued");
    git_in(&repository, &path_of(&adopted), &["checkout", "-q", "-b", "another"]);
    assert_eq!(repository.json(&["recover"])["findings"][0]["health"], "drifted");
    let adopted = repository.json(&["env", "adopt", "../moved"])["environment"].clone();
    assert_eq!(adopted["spec"]["git_worktree"]["branch"], "another");
    repository.json(&["recover"]);
    assert_eq!(repository.json(&["verify"])["findings"], Value::Array(Vec::new()));
    assert_eq!(repository.json(&["task", "show", "r/t"])["task"]["state"], "queued");
}

// ---- repositories of other kinds ----

#[test]
fn a_bare_repository_makes_its_worktrees_inside() {
    let repository = Repository::new();
    repository.git(&["clone", "-q", "--bare", ".", "../bare.git"]);
    let bare = repository.path.with_file_name("bare.git");
    let run = |arguments: &[&str]| {
        let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
        let output = command.current_dir(&bare).args(arguments).arg("--json").output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    run(&["start", "r"]);
    run(&["task", "add", "r/t"]);
    let made = run(&["env", "add", "r/t", "--mode", "git_worktree"])["environment"].clone();
    assert_eq!(path_of(&made), bare.join("tether/worktrees/r-t"));
    write(path_of(&made).join("new"), "new\n");
    assert_eq!(run(&["env", "remove", "r/env-t"])["environment"]["state"], "archived");
    assert!(!path_of(&made).exists());
}

#[test]
fn a_hooks_environment_is_not_handed_on() {
    let repository = with_tasks(&["t"]);
    repository.git(&["config", "tether.setup", "test -z \"$GIT_INDEX_FILE$GIT_DIR$GIT_WORK_TREE\""]);
    let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
    command.env("GIT_DIR", repository.path.join(".git")).env("GIT_INDEX_FILE", "/nowhere/index");
    command.env("GIT_WORK_TREE", &repository.path);
    let output = command.args(["env", "add", "r/t", "--mode", "git_worktree"]).output().unwrap();
    assert!(output.status.success(), "{}", said(&output));
    let made = repository.json(&["env", "show", "r/env-t"])["environment"].clone();
    assert_eq!(git_in(&repository, &path_of(&made), &["status", "--porcelain=v1"]), "");
}

#[test]
fn a_place_of_tethers_own_is_nobody_elses() {
    let repository = with_tasks(&["t", "u", "v"]);
    let first = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    let first = first.to_str().unwrap();
    let add = |mode, path: &str| ["env", "add", "r/u", "--mode", mode, "--path", path].map(ToOwned::to_owned);
    let refuses = |mode, path: &str| {
        let words = add(mode, path);
        let message = refused(&repository, 128, "path_taken", &words.iter().map(String::as_str).collect::<Vec<_>>());
        assert!(message.contains("r/env-t"), "{message}");
    };
    for mode in ["git_worktree", "isolated_workspace"] {
        refuses(mode, first);
        refuses(mode, &format!("{first}/inside"));
        refuses(mode, Path::new(first).parent().unwrap().to_str().unwrap());
    }
    // Also one that is gone at the moment: it comes back there.
    std::fs::remove_dir_all(first).unwrap();
    repository.git(&["worktree", "prune"]);
    refuses("isolated_workspace", first);
    assert_eq!(repository.json(&["env", "list", "r"])["environments"].as_array().unwrap().len(), 1);
    repository.answer(&["env", "remove", "r/env-t"]);
    added(&repository, &["r/u", "--mode", "isolated_workspace", "--path", first]);
    refused(&repository, 128, "path_taken", &["env", "add", "r/v", "--mode", "isolated_workspace", "--path", first]);
}

#[test]
fn a_place_that_is_shared_with_an_open_task_stays_until_that_ends() {
    let repository = with_tasks(&["t", "u"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    let shared = path.to_str().unwrap();
    added(&repository, &["r/u", "--mode", "shared_workspace", "--path", shared]);
    refused(&repository, 128, "contains_environment", &["env", "remove", "r/env-t", "--force"]);
    assert!(path.join("file").exists() || path.join(".git").exists());
    repository.answer(&["task", "cancel", "r/u"]);
    repository.answer(&["env", "remove", "r/env-t"]);
    assert!(!path.exists());
}

#[test]
fn of_racers_for_one_directory_one_gets_it() {
    let repository = with_tasks(&["a", "b", "c", "d", "e", "f"]);
    let path = repository.path.parent().unwrap().join("wanted");
    let children: Vec<Child> = ["a", "b", "c", "d", "e", "f"]
        .map(|task| {
            let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
            command.args(["env", "add", &format!("r/{task}"), "--mode", "isolated_workspace", "--path"]).arg(&path);
            command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        })
        .into();
    let made =
        children.into_iter().map(|mut child| child.wait().unwrap()).filter(std::process::ExitStatus::success).count();
    assert_eq!(made, 1);
    assert_eq!(repository.json(&["env", "list", "r"])["environments"].as_array().unwrap().len(), 1);
}

#[test]
fn a_started_tasks_lease_names_the_token_that_fences_it() {
    let repository = with_tasks(&["t"]);
    added(&repository, &["r/t", "--mode", "git_worktree"]);
    let token = || {
        repository.answer(&["task", "start", "r/t"]);
        let lease = repository.json(&["env", "show", "r/env-t"])["environment"]["lease"].clone();
        assert_eq!(lease["task"], "t");
        lease["token"].as_str().unwrap().to_owned()
    };
    let first = token();
    repository.answer(&["fence", &first]);
    repository.answer(&["task", "block", "r/t", "--reason", "later"]);
    assert_eq!(code(&repository.tether(&["fence", &first])), 3);
    repository.answer(&["task", "unblock", "r/t"]);
    let second = token();
    assert_ne!(first, second);
    repository.answer(&["fence", &second]);
}

#[test]
fn branches_that_git_cannot_make_are_gone_around_or_refused_by_name() {
    let repository = with_tasks(&["t", "u", "v"]);
    let branch = |environment: &Value| environment["spec"]["git_worktree"]["branch"].as_str().unwrap().to_owned();
    repository.git(&["branch", "tether/r/t/deeper"]);
    assert_eq!(branch(&added(&repository, &["r/t", "--mode", "git_worktree"])), "tether/r/t-2");
    let named = |branch| {
        refused(&repository, 128, "branch_exists", &["env", "add", "r/u", "--mode", "git_worktree", "--branch", branch])
    };
    assert!(named("tether/r").contains("tether/r/t"));
    assert!(named("main/mine").contains("main"));
    assert!(repository.json(&["task", "show", "r/u"])["task"]["environment"].is_null());
    let repository = with_tasks(&["t"]);
    repository.git(&["branch", "tether"]);
    let environment = added(&repository, &["r/t", "--mode", "git_worktree"]);
    assert_eq!(branch(&environment), "tether-r-t");
    // The rescue branch finds its way too.
    write(path_of(&environment).join("note"), "worth keeping");
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(path_of(&environment)).unwrap();
    repository.git(&["worktree", "prune"]);
    repository.git(&["branch", "-D", "tether-r-t"]);
    repository.tether(&["recover", "--recreate"]);
    assert_eq!(repository.git(&["show", "tether-rescue-r-env-t:note"]).trim(), "worth keeping");
}

#[test]
fn a_rebase_in_progress_comes_back() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    let git = |arguments: &[&str]| git_in(&repository, &path, arguments);
    let commit = |text: &str| {
        write(path.join("both"), text);
        git(&["add", "both"]);
        git(&["commit", "-qm", text]);
    };
    git(&["branch", "theirs"]);
    commit("ours");
    git(&["checkout", "-q", "theirs"]);
    commit("theirs");
    git(&["checkout", "-q", "-"]);
    let rebase = repository.command("git").arg("-C").arg(&path).args(["rebase", "-q", "theirs"]).output().unwrap();
    assert!(!rebase.status.success());
    let before = git(&["status"]);
    assert!(before.contains("rebase in progress"), "{before}");
    repository.answer(&["checkpoint", "r/t", "--boundary", "in the middle"]);
    std::fs::remove_dir_all(&path).unwrap();
    repository.tether(&["recover", "--recreate"]);
    assert_eq!(git(&["status"]), before);
    assert_eq!(repository.json(&["recover", "--recreate"])["steps"], Value::Array(Vec::new()));
    git(&["rebase", "--abort"]);
    assert_eq!(git(&["show", "HEAD:both"]), "ours");
    assert_eq!(git(&["branch", "--show-current"]), "tether/r/t");
    assert_eq!(repository.git(&["branch", "--list", "tether/rescue/*"]), "");
    // A branch that has moved meanwhile is nowhere to go back to: the work is rescued.
    let _ = repository.command("git").arg("-C").arg(&path).args(["rebase", "-q", "theirs"]).output().unwrap();
    repository.answer(&["checkpoint", "r/t", "--boundary", "again"]);
    std::fs::remove_dir_all(&path).unwrap();
    repository.git(&["update-ref", "refs/heads/tether/r/t", "tether/r/t~1"]);
    repository.tether(&["recover", "--recreate"]);
    assert_eq!(git(&["branch", "--show-current"]), "tether/r/t");
    assert!(repository.git(&["branch", "--list", "tether/rescue/*"]).contains("r-env-t"));
}

#[test]
fn a_setup_that_fails_when_a_worktree_is_put_back_loses_nothing_whoever_lets_go_of_it() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    write(path.join("note"), "worth keeping");
    let session = repository.json(&["session", "reserve", "th"])["session"]["id"].as_str().unwrap().to_owned();
    repository.answer(&["env", "lease", "r/env-t", "--session", &session]);
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(&path).unwrap();
    repository.git(&["config", "tether.setup", "test -e ../allowed"]);
    repository.tether(&["recover", "--recreate"]);
    // The lease of a place that is half put back is given up; the place is not whole for that.
    repository.answer(&["env", "release", "r/env-t"]);
    assert_eq!(repository.json(&["env", "show", "r/env-t"])["environment"]["state"], "recovering");
    let refs = repository.git(&["for-each-ref"]);
    repository.tether(&["recover", "--recreate"]);
    repository.tether(&["recover", "--recreate"]);
    let again = repository.git(&["for-each-ref"]);
    repository.tether(&["recover", "--recreate"]);
    assert_eq!(repository.git(&["for-each-ref"]), again, "a failure like the last one has nothing to add\n{refs}");
    write(path.parent().unwrap().join("allowed"), "");
    repository.tether(&["recover", "--recreate"]);
    assert_eq!(std::fs::read_to_string(path.join("note")).unwrap(), "worth keeping");
}

#[test]
fn what_is_set_up_and_back_is_ready_before_the_next_is_set_up() {
    let repository = with_tasks(&["a", "b"]);
    let paths = ["a", "b"].map(|task| {
        let path = path_of(&added(&repository, &[&format!("r/{task}"), "--mode", "git_worktree"]));
        std::fs::remove_dir_all(&path).unwrap();
        path
    });
    let states = repository.home().join("states");
    let show = "git show refs/tether/runs/r:environments/env-a.json | grep -w state";
    repository.git(&["config", "tether.setup", &format!("{show} >> '{}'", states.display())]);
    repository.tether(&["recover", "--recreate"]);
    assert!(paths.iter().all(|path| path.join(".git").is_file()));
    let states = std::fs::read_to_string(states).unwrap();
    let states: Vec<&str> = states.lines().map(|line| line.trim().trim_end_matches(',')).collect();
    assert_eq!(states, [r#""state": "recovering""#, r#""state": "ready""#]);
}

#[test]
fn a_making_that_failed_is_finished_by_a_recovery() {
    let repository = with_tasks(&["t"]);
    repository.git(&["config", "tether.setup", "test -e ../allowed && touch set-up"]);
    refused(&repository, 128, "setup_failed", &["env", "add", "r/t", "--mode", "git_worktree"]);
    let environment = repository.json(&["env", "show", "r/env-t"])["environment"].clone();
    assert_eq!(environment["state"], "failed");
    repository.tether(&["recover"]);
    let blocked = repository.json(&["task", "show", "r/t"])["task"].clone();
    assert!(blocked["blocked_reasons"][0].as_str().unwrap().contains("its making failed"), "{blocked:#}");
    write(path_of(&environment).parent().unwrap().join("allowed"), "");
    repository.tether(&["recover", "--recreate"]);
    assert!(path_of(&environment).join("set-up").exists());
    assert_eq!(repository.json(&["env", "show", "r/env-t"])["environment"]["state"], "ready");
    assert_eq!(repository.json(&["task", "show", "r/t"])["task"]["state"], "queued");
}

#[test]
fn another_worktree_on_the_branch_is_not_the_one_that_is_gone() {
    let (repository, path, environment) = recreated_after(|repository| {
        repository.git(&["worktree", "prune"]);
        repository.git(&["worktree", "add", "-q", "../other", "work"]);
    });
    assert_eq!(environment["spec"]["git_worktree"]["branch"], "tether/rescue/r-e");
    // Made anew again, it says where its work is.
    std::fs::remove_dir_all(&path).unwrap();
    let recovered = repository.json(&["recover", "--recreate"]);
    let step = recovered["steps"].as_array().unwrap().iter().find(|step| step["step"] == "recreate_environment");
    assert!(step.unwrap()["message"].as_str().unwrap().contains("which holds its saved work"), "{recovered:#}");
}

#[test]
fn an_end_says_what_is_still_there_and_how_it_goes() {
    let repository = with_tasks(&["t", "kept"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    let kept = path_of(&added(&repository, &["r/kept", "--mode", "git_worktree", "--cleanup-policy", "keep_always"]));
    write(path.join("note"), "new");
    let ended = repository.tether(&["finish", "r"]);
    assert_eq!(code(&ended), 0);
    assert!(said(&ended).contains("still there: 1; `git tether recover --clean --run r`"), "{}", said(&ended));
    assert!(path.join("note").exists(), "an end touches nothing on disk");
    repository.answer(&["recover", "--clean", "--run", "r"]);
    assert!(!path.exists() && kept.exists());
    assert_eq!(repository.json(&["salvage", "list", "r"])["saved"][0]["files"], 1);
    assert_eq!(said(&repository.tether(&["finish", "r"])), "");
}

#[test]
fn a_plan_to_clean_says_what_is_at_risk() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    git_in(&repository, &path, &["commit", "-q", "--allow-empty", "-m", "nowhere else"]);
    write(path.join("note"), "new");
    write(path.join(".gitignore"), "nothing");
    repository.answer(&["task", "cancel", "r/t"]);
    let mut sleeper = repository.command("sleep").arg("60").current_dir(&path).spawn().unwrap();
    let planned = repository.json(&["recover", "--clean", "--dry-run"]);
    let step = planned["steps"].as_array().unwrap().iter().find(|step| step["step"] == "clean_environment").unwrap();
    let at_risk = &step["at_risk"];
    assert_eq!(
        (&at_risk["untracked"], &at_risk["unpushed"], &at_risk["locked"]),
        (&2.into(), &1.into(), &false.into())
    );
    assert_eq!(at_risk["processes"][0]["pid"], sleeper.id(), "{at_risk:#}");
    let words = repository.answer(&["recover", "--clean", "--dry-run"]);
    assert!(words.contains("2 untracked; 1 commit on no remote; process"), "{words}");
    assert!(words.contains("    would   save and remove"), "{words}");
    let refused = repository.json(&["recover", "--clean"]);
    let step = refused["steps"].as_array().unwrap().iter().find(|step| step["step"] == "clean_environment").unwrap();
    assert_eq!((&step["outcome"], &step["at_risk"]["untracked"]), (&"refused".into(), &2.into()));
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    // A git program that works there from elsewhere counts too.
    let lock =
        PathBuf::from(git_in(&repository, &path, &["rev-parse", "--absolute-git-dir"]).trim()).join("index.lock");
    write(&lock, "");
    self::refused(&repository, 128, "git_at_work", &["env", "remove", "r/env-t", "--force"]);
    std::fs::remove_file(lock).unwrap();
    repository.answer(&["env", "remove", "r/env-t"]);
    assert!(!path.exists());
}

#[test]
fn work_at_risk_is_named_wherever_it_is() {
    let repository = with_tasks(&["t"]);
    let at_risk = || {
        let found = repository.json(&["verify", "--all-worktrees"])["worktrees_at_risk"].clone();
        let list = found.as_array().unwrap().clone();
        move |name: &str| list.iter().find(|one| one["path"].as_str().unwrap().ends_with(name)).cloned()
    };
    let top = repository.path.clone();
    let main = top.file_name().unwrap().to_str().unwrap();
    repository.git(&["worktree", "add", "-q", "../plain"]);
    assert!(at_risk()(main).is_none() && at_risk()("plain").is_none(), "what is on another branch is at no risk");
    let plain = top.parent().unwrap().join("plain");
    git_in(&repository, &plain, &["commit", "-q", "--allow-empty", "-m", "nowhere else"]);
    write(top.join("new"), "x");
    assert_eq!(at_risk()("plain").unwrap()["unpushed"], 1);
    assert_eq!(at_risk()(main).unwrap()["untracked"], 1);
    std::fs::remove_file(plain.join(".git")).unwrap();
    let torn = at_risk()("plain").unwrap();
    assert!(torn["problem"].as_str().unwrap().contains(".git"), "{torn:#}");
    // Ours, and no record names it.
    let ours = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    repository.git(&["update-ref", "-d", "refs/tether/runs/r"]);
    assert_eq!(at_risk()(ours.file_name().unwrap().to_str().unwrap()).unwrap()["orphaned"], true);
    let advice = "next    git tether recover --clean saves it";
    assert!(repository.answer(&["recover"]).contains(advice), "its run is not there to be asked for");
    assert!(!repository.answer(&["recover", "--clean"]).contains(advice), "that has been done");
}

#[test]
fn a_removal_that_was_killed_once_all_was_gone_names_what_it_had_saved() {
    let repository = with_tasks(&["t"]);
    let path = path_of(&added(&repository, &["r/t", "--mode", "git_worktree"]));
    write(path.join("note"), "worth keeping");
    repository.answer(&["task", "cancel", "r/t"]);
    let sign = repository.path.join(".git/sign");
    // The branch goes last of all.
    let stopped = format!(
        "test \"$1\" = prepared && grep -q refs/heads/tether && {{ touch '{}'; sleep 2; exit 1; }}; exit 0",
        sign.display()
    );
    hook(&repository, "reference-transaction", &stopped);
    kill(started(&repository, &["env", "remove", "r/env-t"], &sign));
    assert!(!path.exists());
    let lock = repository.path.join(".git/refs/heads/tether/r/t.lock");
    wait_for(|| !lock.exists(), "git to have given up");
    std::fs::remove_file(repository.path.join(".git/hooks/reference-transaction")).unwrap();
    repository.tether(&["recover", "--clean"]);
    let environment = repository.json(&["env", "show", "r/env-t"])["environment"].clone();
    assert_eq!(environment["state"], "archived", "{environment:#}");
    let work = environment["cleanup"]["work"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{work}:note")]), "worth keeping");
}
