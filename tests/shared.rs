//! `core.sharedRepository`: two users of one group work in one repository, each on what the other one made.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

use support::Repository;

const GROUP: &str = "54321";

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Runs git-tether as another user of the group, with a umask that hides everything from others.
fn as_user(repository: &Repository, program: &Path, user: &str, arguments: &[&str]) -> Output {
    let mut command = repository.command("setpriv");
    command.args([
        "--reuid",
        user,
        "--regid",
        GROUP,
        "--clear-groups",
        "--",
        "sh",
        "-c",
        "umask 077; exec \"$@\"",
        "sh",
    ]);
    command.arg(program).args(arguments).env("HOME", "/nonexistent").env("GIT_CONFIG_COUNT", "1");
    command.env("GIT_CONFIG_KEY_0", "safe.directory").env("GIT_CONFIG_VALUE_0", "*").output().unwrap()
}

fn modes_below(directory: &Path, found: &mut Vec<(String, u32, bool)>) {
    for entry in fs::read_dir(directory).unwrap().flatten() {
        let metadata = entry.metadata().unwrap();
        found.push((entry.path().display().to_string(), metadata.permissions().mode(), metadata.is_dir()));
        if metadata.is_dir() {
            modes_below(&entry.path(), found);
        }
    }
}

#[test]
fn two_users_work_in_one_repository() {
    let probe = Command::new("setpriv").args(["--reuid", "54001", "--regid", GROUP, "--clear-groups", "true"]).output();
    if !probe.is_ok_and(|output| output.status.success()) {
        eprintln!("SKIPPED: setpriv may not become another user here");
        return;
    }
    let repository = Repository::new();
    repository.git(&["config", "core.sharedRepository", "group"]);
    let root = repository.root.path();
    fs::set_permissions(root, fs::Permissions::from_mode(0o755)).unwrap();
    let program = root.join("git-tether");
    fs::copy(env!("CARGO_BIN_EXE_git-tether"), &program).unwrap();
    let path = repository.path.to_str().unwrap();
    for words in [&["chgrp", "-R", GROUP, path][..], &["chmod", "-R", "g+rwX", path]] {
        assert!(repository.command(words[0]).args(&words[1..]).status().unwrap().success());
    }
    let found = repository.command("find").args([path, "-type", "d", "-exec", "chmod", "g+s", "{}", "+"]).status();
    assert!(found.unwrap().success());

    let (ada, bob) = ("54001", "54002");
    for (user, arguments) in [
        (ada, &["start", "r"][..]),
        (ada, &["task", "add", "r/a", "--", "true"]),
        (ada, &["session", "reserve", "topic", "--id", "s1"]),
        (ada, &["session", "heartbeat", "s1"]),
        (ada, &["recover"]),
        (bob, &["task", "add", "r/b", "--", "true"]),
        (bob, &["session", "heartbeat", "s1"]),
        (bob, &["session", "release", "s1"]),
        (bob, &["task", "start", "r/a"]),
        (bob, &["recover"]),
        (bob, &["gc"]),
        (ada, &["task", "done", "r/a"]),
        (ada, &["recover"]),
        (ada, &["doctor"]),
    ] {
        let output = as_user(&repository, &program, user, arguments);
        assert_eq!(
            output.status.code(),
            Some(0),
            "{user} {arguments:?}: {}{}",
            text(&output.stdout),
            text(&output.stderr)
        );
    }
    let mut found = Vec::new();
    modes_below(&repository.path.join(".git/tether"), &mut found);
    modes_below(&repository.path.join(".git/refs/tether"), &mut found);
    modes_below(&repository.path.join(".git/objects/pack"), &mut found);
    assert!(found.len() > 10);
    for (path, mode, is_directory) in found {
        let wanted = if is_directory { 0o070 } else { 0o040 };
        assert_eq!(mode & wanted, wanted, "{path}: {mode:o}");
    }
}
