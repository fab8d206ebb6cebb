//! `git tether salvage`, through the program: what was saved survives what git does, comes back, and goes when it is dropped.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::Value;

use support::Repository;

/// A run `r` whose task `t` runs in a worktree.
fn in_worktree(repository: &Repository) -> PathBuf {
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t"]);
    let made = repository.json(&["env", "add", "r/t", "--mode", "git_worktree"]);
    repository.answer(&["session", "reserve", "line", "--id", "s"]);
    repository.answer(&["task", "start", "r/t", "--session", "s"]);
    PathBuf::from(made["environment"]["spec"]["path"].as_str().unwrap())
}

/// Changes a worktree, takes a checkpoint, and answers with the snapshot's commit.
fn save(repository: &Repository, path: &Path, text: &str) -> String {
    std::fs::write(path.join("README"), text).unwrap();
    std::fs::write(path.join("new"), format!("new {text}")).unwrap();
    let taken = repository.json(&["checkpoint", "r/t", "--boundary", "b"]);
    taken["checkpoint"]["work"]["commit"].as_str().unwrap().to_owned()
}

fn listed(repository: &Repository) -> Vec<Value> {
    let answer = repository.json(&["salvage", "list"]);
    assert_eq!(answer["schema"], "tether.salvage/1");
    answer["saved"].as_array().unwrap().clone()
}

fn is_there(repository: &Repository, commit: &str) -> bool {
    repository.command("git").args(["cat-file", "-e", commit]).stderr(Stdio::null()).status().unwrap().success()
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap()
}

#[test]
fn saved_work_is_listed_shown_compared_and_restored() {
    let repository = Repository::new();
    assert_eq!(repository.answer(&["salvage", "list"]), "nothing is saved\n");
    let path = in_worktree(&repository);
    std::fs::write(path.join("run.sh"), "#!/bin/sh\n").unwrap();
    std::fs::set_permissions(path.join("run.sh"), std::fs::Permissions::from_mode(0o755)).unwrap();
    symlink("README", path.join("link")).unwrap();
    std::fs::create_dir(path.join("empty")).unwrap();
    let commit = save(&repository, &path, "changed\n");

    let saved = listed(&repository);
    assert_eq!(saved.len(), 1);
    let entry = &saved[0];
    let id = entry["id"].as_str().unwrap();
    assert!(commit.starts_with(id));
    assert_eq!(entry["commit"].as_str().unwrap(), commit);
    let place = (entry["run"].as_str(), entry["task"].as_str(), entry["environment"].as_str());
    assert_eq!(place, (Some("r"), Some("t"), Some("env-t")));
    assert_eq!(entry["base"].as_str().unwrap(), repository.git(&["rev-parse", "main"]));
    assert_eq!(entry["branch"], "tether/r/t");
    assert_eq!((&entry["files"], &entry["kind"]), (&4.into(), &"worktree".into()));
    assert_eq!(entry["bytes"], "changed\nnew changed\n#!/bin/sh\nREADME".len());
    assert_eq!((&entry["reason"], &entry["standing"]), (&"checkpoint".into(), &"named".into()));

    let shown = repository.json(&["salvage", "show", id]);
    let files: Vec<_> = shown["files"]
        .as_array()
        .unwrap()
        .iter()
        .map(|file| format!("{} {} {}", file["path"], file["status"], file["kind"]))
        .collect();
    assert_eq!(
        files,
        [
            r#""README" "modified" "file""#,
            r#""link" "added" "symlink""#,
            r#""new" "added" "file""#,
            r#""run.sh" "added" "executable""#
        ]
    );
    assert!(repository.answer(&["salvage", "show", id]).contains("M README  8 bytes"));

    let diff = repository.answer(&["salvage", "diff", id]);
    let diff_file = repository.root.path().join("patch");
    std::fs::write(&diff_file, diff).unwrap();
    repository.git(&["apply", diff_file.to_str().unwrap()]);
    assert_eq!(read(&repository.path.join("new")), "new changed\n");

    let out = repository.root.path().join("some/where");
    let restored = repository.json(&["salvage", "restore", id, out.to_str().unwrap()]);
    assert_eq!(restored["saved"][0]["id"].as_str(), Some(id));
    assert_eq!(read(&out.join("README")), "changed\n");
    assert_eq!(std::fs::read_link(out.join("link")).unwrap(), Path::new("README"));
    assert_eq!(std::fs::metadata(out.join("run.sh")).unwrap().permissions().mode() & 0o111, 0o111);
    assert!(!out.join(".git").exists());
}

#[test]
fn it_survives_whatever_git_does() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    std::fs::write(path.join("staged"), "staged\n").unwrap();
    repository.git(&["-C", path.to_str().unwrap(), "add", "staged"]);
    let commit = save(&repository, &path, "changed\n");
    std::fs::remove_dir_all(&path).unwrap();
    repository.git(&["worktree", "prune"]);
    std::fs::remove_dir_all(repository.path.join(".git/worktrees")).unwrap_or_default();
    repository.git(&["branch", "-D", "tether/r/t"]);
    repository.git(&["reflog", "expire", "--expire=now", "--all"]);
    repository.git(&["gc", "--prune=now", "--quiet"]);
    repository.git(&["repack", "-a", "-d", "-q"]);
    repository.git(&["pack-refs", "--all", "--prune"]);
    repository.git(&["fsck", "--strict", "--full"]);
    assert_eq!(listed(&repository)[0]["commit"].as_str().unwrap(), commit);
    let out = repository.root.path().join("out");
    repository.answer(&["salvage", "restore", &commit, out.to_str().unwrap()]);
    assert_eq!((read(&out.join("README")), read(&out.join("staged"))), ("changed\n".to_owned(), "staged\n".to_owned()));
}

#[test]
fn a_worktree_that_is_made_anew_gets_it_back() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    std::fs::write(path.join("staged"), "staged\n").unwrap();
    repository.git(&["-C", path.to_str().unwrap(), "add", "staged"]);
    save(&repository, &path, "changed\n");
    let status = || repository.git(&["-C", path.to_str().unwrap(), "status", "--porcelain=v2", "--branch"]);
    let before = status();
    std::fs::remove_dir_all(&path).unwrap();
    repository.tether(&["recover", "--recreate"]);
    assert_eq!(status(), before);
    assert_eq!(read(&path.join("new")), "new changed\n");
}

#[test]
fn what_is_dropped_is_gone_after_a_gc_and_nothing_else_is() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    // Many packs: they are folded together, so that what goes and what stays lie in one.
    let commits: Vec<_> = (0..24).map(|number| save(&repository, &path, &format!("state {number}\n"))).collect();
    let named = commits.last().unwrap();
    for commit in [&commits[3], named] {
        let dropped = repository.json(&["salvage", "drop", &commit[..10]]);
        assert_eq!(dropped["saved"][0]["commit"].as_str(), Some(commit.as_str()));
    }
    let checkpoint = repository.json(&["show", "r"])["checkpoints"][0].clone();
    assert_eq!(checkpoint["work"], Value::Null, "no record names what is gone");
    assert!(!checkpoint["available_actions"].to_string().contains("resume"));
    assert_eq!(listed(&repository).len(), 22);

    repository.git(&["gc", "--prune=now", "--quiet"]);
    repository.git(&["fsck", "--strict", "--full"]);
    for (number, commit) in commits.iter().enumerate() {
        assert_eq!(is_there(&repository, commit), number != 3 && commit != named, "{number}");
    }
    let blob =
        repository.command("git").args(["hash-object", "--stdin"]).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn();
    let mut blob = blob.unwrap();
    std::io::Write::write_all(&mut blob.stdin.take().unwrap(), b"new state 3\n").unwrap();
    let blob = String::from_utf8(blob.wait_with_output().unwrap().stdout).unwrap();
    assert!(!is_there(&repository, blob.trim()), "its contents are gone too");

    for commit in commits.iter().filter(|commit| is_there(&repository, commit)) {
        repository.answer(&["salvage", "drop", commit]);
    }
    assert!(listed(&repository).is_empty());
    assert_eq!(repository.git(&["for-each-ref", "refs/tether-local"]), "");
    repository.git(&["gc", "--prune=now", "--quiet"]);
    repository.git(&["fsck", "--strict", "--full"]);
    assert!(commits.iter().all(|commit| !is_there(&repository, commit)));
    save(&repository, &path, "and on it goes\n");
    assert_eq!(listed(&repository).len(), 1);
}

#[test]
fn what_is_dropped_beside_a_garbage_collection_goes_later() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    let commit = save(&repository, &path, "secret\n");
    let at_work = repository.path.join(".git/gc.pid");
    std::fs::write(&at_work, "1 somewhere\n").unwrap();
    let output = repository.tether(&["salvage", "drop", &commit]);
    assert!(output.status.success());
    assert!(String::from_utf8_lossy(&output.stderr).contains("a garbage collection is at work"), "{output:?}");
    assert!(listed(&repository).is_empty());
    std::fs::remove_file(&at_work).unwrap();
    repository.git(&["gc", "--prune=now", "--quiet"]);
    assert!(is_there(&repository, &commit));

    repository.answer(&["gc"]);
    repository.git(&["gc", "--prune=now", "--quiet"]);
    assert!(!is_there(&repository, &commit));
    repository.git(&["fsck", "--strict", "--full"]);
}

#[test]
fn ids_may_be_short_and_unknown_ones_name_near_matches() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    let (one, two) = (save(&repository, &path, "one\n"), save(&repository, &path, "two\n"));
    for id in [&one[..12], &one[..], &one[..8], &one[..8].to_uppercase()] {
        assert_eq!(
            repository.json(&["salvage", "show", id])["saved"][0]["commit"].as_str(),
            Some(one.as_str()),
            "{id}"
        );
    }
    let mut near = one[..12].to_owned();
    near.replace_range(11..12, if near.ends_with('0') { "1" } else { "0" });
    for action in ["show", "diff"] {
        let output = repository.tether(&["salvage", action, &near]);
        assert_eq!(output.status.code(), Some(128));
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains(&format!("did you mean {}", &one[..12])), "{said}");
    }
    let error = repository.json(&["salvage", "restore", "nope", "out"]);
    assert_eq!(error["error"]["code"], "unknown_saved_work");
    assert!(!repository.path.join("out").exists());
    let nothing = repository.json(&["salvage", "drop", "nope"]);
    assert_eq!(nothing["saved"], serde_json::json!([]));
    assert_eq!(repository.tether(&["salvage", "drop", "nope"]).status.code(), Some(0));
    let common: String = one.chars().zip(two.chars()).take_while(|(a, b)| a == b).map(|(a, _)| a).collect();
    if !common.is_empty() {
        assert_eq!(repository.json(&["salvage", "drop", &common])["error"]["code"], "ambiguous_id");
    }
    assert_eq!(repository.json(&["salvage", "drop", ""])["saved"], serde_json::json!([]), "nothing is not everything");
    assert_eq!(listed(&repository).len(), 2);
    assert_eq!(repository.tether(&["salvage", "list", "nope"]).status.code(), Some(128));
}

#[test]
fn a_restore_writes_only_where_nothing_is() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    let commit = save(&repository, &path, "changed\n");
    let root = repository.root.path().canonicalize().unwrap();
    let outside = root.join("outside");
    std::fs::create_dir(&outside).unwrap();
    std::fs::create_dir(root.join("full")).unwrap();
    std::fs::write(root.join("full/file"), "mine").unwrap();
    std::fs::write(root.join("file"), "mine").unwrap();
    repository.git(&["init", "-q", "--bare", root.join("other.git").to_str().unwrap()]);
    symlink(&outside, repository.path.join("way-out")).unwrap();
    symlink(root.join("nowhere"), root.join("dangling")).unwrap();
    let text = |path: PathBuf| path.to_str().unwrap().to_owned();
    for (target, code) in [
        (text(root.join("full")), "in_the_way"),
        (text(root.join("file")), "in_the_way"),
        (text(root.join("full/file/below")), "invalid_path"),
        (".git".to_owned(), "invalid_path"),
        (".git/objects/new".to_owned(), "invalid_path"),
        (text(root.join("x/.GIT/y")), "invalid_path"),
        (text(repository.path.join(".git/../.git/tether/x")), "invalid_path"),
        (text(root.join("other.git/hooks/new")), "invalid_path"),
        ("way-out".to_owned(), "through_symlink"),
        ("way-out/new".to_owned(), "through_symlink"),
        (text(root.join("dangling")), "through_symlink"),
    ] {
        let output = repository.tether(&["salvage", "restore", &commit, &target, "--json"]);
        assert_eq!(output.status.code(), Some(128), "{target}: {output:?}");
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["code"], code, "{target}: {error}");
    }
    assert_eq!(read(&root.join("full/file")), "mine");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 0);
    assert!(!root.join("x").exists() && !root.join("nowhere").exists());

    std::fs::write(root.join("empty-file"), "").unwrap();
    std::fs::create_dir(root.join("empty")).unwrap();
    for target in ["empty", "empty-file", "not/there/yet"] {
        repository.answer(&["salvage", "restore", &commit, &text(root.join(target))]);
        assert_eq!(read(&root.join(target).join("README")), "changed\n", "{target}");
    }
}

#[test]
fn content_filters_run_only_for_what_this_machine_saved() {
    let repository = Repository::new();
    std::fs::write(repository.path.join(".gitattributes"), "*.up filter=up\n").unwrap();
    std::fs::write(repository.path.join("a.up"), "lower\n").unwrap();
    repository.git(&["add", "."]);
    repository.git(&["commit", "-q", "-m", "Attributes"]);
    let mark = repository.root.path().join("ran");
    repository.git(&["config", "filter.up.clean", "tr A-Z a-z"]);
    repository.git(&["config", "filter.up.smudge", &format!("touch {}; tr a-z A-Z", mark.display())]);
    let path = in_worktree(&repository);
    std::fs::write(path.join("b.up"), "UPPER\n").unwrap();
    let commit = save(&repository, &path, "changed\n");
    assert_eq!(repository.git(&["show", &format!("{commit}:b.up")]), "upper");

    let _ = std::fs::remove_file(&mark);
    let out = repository.root.path().join("own");
    repository.answer(&["salvage", "restore", &commit, out.to_str().unwrap()]);
    assert_eq!(read(&out.join("b.up")), "UPPER\n");
    assert!(mark.exists());

    std::fs::remove_file(&mark).unwrap();
    std::fs::remove_dir_all(repository.path.join(".git/tether/saved")).unwrap();
    let out = repository.root.path().join("foreign");
    let output = repository.tether(&["salvage", "restore", &commit, out.to_str().unwrap()]);
    assert!(output.status.success());
    assert_eq!(read(&out.join("b.up")), "upper\n");
    assert!(!mark.exists(), "no program ran");
    assert!(String::from_utf8_lossy(&output.stderr).contains("b.up is as git stores it"));
}

#[test]
fn a_list_that_cannot_be_read_hides_no_other() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    let commit = save(&repository, &path, "changed\n");
    let blob = repository.git(&["rev-parse", "main:README"]);
    std::fs::write(repository.path.join(".git/refs/tether-local/work/torn"), format!("{blob}\n")).unwrap();
    let output = repository.tether(&["salvage", "list", "--json"]);
    assert!(output.status.success());
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["saved"][0]["commit"].as_str(), Some(commit.as_str()));
    assert_eq!(answer["unreadable"][0]["run"], "torn");
    assert!(String::from_utf8_lossy(&output.stderr).contains("torn cannot be read"));
    let out = repository.root.path().join("out");
    repository.answer(&["salvage", "restore", &commit, out.to_str().unwrap()]);
}

#[test]
fn what_no_record_names_is_shown_as_unnamed() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    let before = repository.git(&["rev-parse", "refs/tether/runs/r"]);
    let commit = save(&repository, &path, "changed\n");
    // As if the process had been killed before the record: saved work is written first.
    repository.git(&["update-ref", "refs/tether/runs/r", &before]);
    assert_eq!(listed(&repository)[0]["standing"], "unnamed");
    assert!(repository.answer(&["salvage", "list"]).contains("(unnamed)"));
    repository.git(&["gc", "--prune=now", "--quiet"]);
    assert!(is_there(&repository, &commit));
}

#[test]
fn killed_checkpoints_lose_nothing_and_stop_nobody() {
    let repository = Repository::new();
    let path = in_worktree(&repository);
    let first = save(&repository, &path, "first\n");
    let mut killed = 0;
    for round in 0..40_u64 {
        std::fs::write(path.join("README"), format!("round {round}\n")).unwrap();
        let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
        command.args(["checkpoint", "r/t", "--boundary", "b"]).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.spawn().unwrap();
        std::thread::sleep(Duration::from_micros(1_500 * round));
        child.kill().unwrap();
        killed += u32::from(!child.wait().unwrap().success());
    }
    assert!(killed > 5, "{killed} were killed");
    for entry in listed(&repository) {
        assert!(is_there(&repository, entry["commit"].as_str().unwrap()));
    }
    repository.git(&["fsck", "--strict", "--full"]);
    repository.git(&["gc", "--prune=now", "--quiet"]);
    let last = save(&repository, &path, "last\n");
    assert!(is_there(&repository, &first) && is_there(&repository, &last));
    let named = repository.json(&["show", "r"])["checkpoints"][0]["work"]["commit"].clone();
    assert_eq!(named.as_str(), Some(last.as_str()));
    assert_eq!(repository.json(&["doctor"])["schema"], "tether.doctor/1");
    assert!(repository.tether(&["doctor"]).status.success());
}

#[test]
fn other_formats_and_bare_repositories_are_no_different() {
    for init in [&["--object-format=sha256"][..], &["--ref-format=reftable"], &["--bare"]] {
        let mut repository = Repository::new();
        let other = repository.path.with_file_name("other");
        let words = [&["init", "-q", "-b", "main"], init, &[other.to_str().unwrap()]].concat();
        repository.git(&words);
        let git = |words: &[&str]| repository.git(&[&["-C", other.to_str().unwrap()], words].concat());
        let tree = git(&["hash-object", "-w", "-t", "tree", "/dev/null"]);
        let commit = git(&["commit-tree", "-m", "First", &tree]);
        git(&["update-ref", "refs/heads/main", &commit]);
        repository.path = other;

        let path = in_worktree(&repository);
        let commit = save(&repository, &path, "changed\n");
        assert!(!repository.answer(&["salvage", "diff", &commit]).is_empty(), "{init:?}");
        let out = repository.root.path().join("out");
        repository.answer(&["salvage", "restore", &commit, out.to_str().unwrap()]);
        assert_eq!(read(&out.join("new")), "new changed\n", "{init:?}");
        repository.answer(&["salvage", "drop", &commit]);
        repository.git(&["gc", "--prune=now", "--quiet"]);
        assert!(!is_there(&repository, &commit), "{init:?}");
        repository.git(&["fsck", "--strict", "--full"]);
    }
}
