//! `git tether checkpoint`, through the program: what is recorded, what is saved, and what is never touched.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use serde_json::Value;

use support::Repository;

/// A run `r` whose task `t` runs in a worktree.
fn in_worktree() -> (Repository, PathBuf) {
    let repository = Repository::new();
    std::fs::write(repository.path.join("other"), "other\n").unwrap();
    repository.git(&["add", "other"]);
    repository.git(&["commit", "-q", "-m", "Second"]);
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t"]);
    let made = repository.json(&["env", "add", "r/t", "--mode", "git_worktree"]);
    let path = PathBuf::from(made["environment"]["spec"]["path"].as_str().unwrap());
    repository.answer(&["session", "reserve", "line", "--id", "s"]);
    repository.answer(&["task", "start", "r/t", "--session", "s"]);
    (repository, path)
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}

fn refs(repository: &Repository) -> String {
    repository.git(&["for-each-ref"])
}

fn checkpoint(repository: &Repository, more: &[&str]) -> Value {
    let answer = repository.json(&[&["checkpoint", "r/t", "--boundary", "here"], more].concat());
    assert_eq!(answer["schema"], "tether.checkpoint/1", "{answer}");
    answer["checkpoint"].clone()
}

#[test]
fn the_whole_worktree_is_saved_and_nothing_in_it_changes() {
    let (repository, path) = in_worktree();
    write(&path.join("README"), "changed\n");
    write(&path.join("a new one"), "new\n");
    std::fs::remove_file(path.join("other")).unwrap();
    std::os::unix::fs::symlink("README", path.join("link")).unwrap();
    write(&path.join("staged"), "staged\n");
    repository.git(&["-C", path.to_str().unwrap(), "add", "staged"]);
    write(&path.join("staged"), "staged, then changed\n");
    let status = || repository.git(&["-C", path.to_str().unwrap(), "status", "--porcelain=v2", "--branch"]);
    let index =
        repository.git(&["-C", path.to_str().unwrap(), "rev-parse", "--path-format=absolute", "--git-path", "index"]);
    let (status_before, index_before) = (status(), std::fs::read(&index).unwrap());

    let taken = checkpoint(&repository, &[]);
    assert_eq!(std::fs::read(&index).unwrap(), index_before, "the index is the user's");
    assert_eq!(status(), status_before);

    let commit = taken["work"]["commit"].as_str().unwrap();
    assert_eq!(taken["work"]["files"], 5);
    assert_eq!(taken["work"]["base"].as_str().unwrap(), repository.git(&["rev-parse", "main"]));
    assert_eq!(taken["workspace_dir"].as_str().unwrap(), path.to_str().unwrap());
    assert_eq!(taken["environment"], "env-t");
    assert_eq!(taken["execution_mode"], "git_worktree");
    assert_eq!(taken["session"], "s");
    let tree = repository.git(&["ls-tree", "-r", "--name-only", commit]);
    assert_eq!(tree.lines().collect::<Vec<_>>(), ["README", "a new one", "link", "staged"]);
    assert_eq!(repository.git(&["show", &format!("{commit}:staged")]), "staged, then changed");
    assert_eq!(repository.git(&["rev-parse", &format!("{commit}^1")]), repository.git(&["rev-parse", "main"]));
    repository.git(&["fsck", "--strict", "--full"]);
}

#[test]
fn what_did_not_change_is_not_saved_again() {
    let (repository, path) = in_worktree();
    write(&path.join("README"), "changed\n");
    let first = checkpoint(&repository, &[]);
    let work = repository.git(&["rev-parse", "refs/tether-local/work/r"]);
    let second = checkpoint(&repository, &[]);
    assert_eq!(second["work"], first["work"]);
    assert_eq!(second["seq"], 2);
    assert_eq!(repository.git(&["rev-parse", "refs/tether-local/work/r"]), work, "no new keeper");

    write(&path.join("README"), "changed again\n");
    assert_ne!(checkpoint(&repository, &[])["work"], first["work"]);
    let saved = repository.json(&["salvage", "list", "r"]);
    assert_eq!(saved["saved"].as_array().unwrap().len(), 2);
    assert_eq!(saved["saved"][0]["standing"], "superseded");
    assert_eq!(saved["saved"][1]["standing"], "named");
}

#[test]
fn a_clean_worktree_has_no_work_but_its_commits_are_kept() {
    let (repository, path) = in_worktree();
    assert_eq!(checkpoint(&repository, &[])["work"], Value::Null);
    assert!(!refs(&repository).contains("tether-local"));

    let inside = path.to_str().unwrap();
    repository.git(&["-C", inside, "commit", "-q", "--allow-empty", "-m", "Done here"]);
    let tip = repository.git(&["-C", inside, "rev-parse", "HEAD"]);
    let work = checkpoint(&repository, &[])["work"].clone();
    assert_eq!(work["base"].as_str().unwrap(), tip);
    assert_eq!(work["files"], 0);
    std::fs::remove_dir_all(&path).unwrap();
    repository.git(&["worktree", "prune"]);
    repository.git(&["branch", "-D", "tether/r/t"]);
    repository.git(&["gc", "--prune=now", "--quiet"]);
    assert_eq!(repository.git(&["log", "-1", "--format=%s", &tip]), "Done here");
}

#[test]
fn resume_state_is_kept_whole_and_stays_until_it_is_replaced() {
    let (repository, _) = in_worktree();
    let large: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let file = repository.root.path().join("state");
    std::fs::write(&file, &large).unwrap();
    let taken = checkpoint(&repository, &["--resume-state", file.to_str().unwrap()]);
    assert_eq!(taken["resume_state"]["bytes"], large.len());
    let path = taken["resume_state"]["path"].as_str().unwrap();
    let stored = repository.command("git").args(["show", &format!("refs/tether/runs/r:{path}")]).output().unwrap();
    assert!(stored.stdout == large, "byte for byte");

    let next = checkpoint(&repository, &["--no-snapshot"]);
    assert_eq!(next["resume_state"], taken["resume_state"], "a checkpoint without a state of its own leaves it");

    let mut child = repository.command("git");
    child.args(["tether", "checkpoint", "r/t", "--boundary", "b", "--resume-state", "-", "--json"]);
    let mut child = child.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(b"small\0\xff").unwrap();
    assert!(child.wait_with_output().unwrap().status.success());
    let small = repository.command("git").args(["show", &format!("refs/tether/runs/r:{path}")]).output().unwrap();
    assert_eq!(small.stdout, b"small\0\xff");
    repository.git(&["fsck", "--strict", "--full"]);
}

#[test]
fn what_cannot_be_read_leaves_nothing_behind() {
    let (repository, path) = in_worktree();
    write(&path.join("README"), "changed\n");
    let before = refs(&repository);
    let packs = || std::fs::read_dir(repository.path.join(".git/objects/pack")).unwrap().count();
    let packs_before = packs();
    for state in ["/nowhere/state", repository.path.to_str().unwrap()] {
        let output = repository.tether(&["checkpoint", "r/t", "--boundary", "b", "--resume-state", state]);
        assert_eq!(output.status.code(), Some(128), "{output:?}");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(said.contains("could not read the resume state") && said.contains("hint: "), "{said}");
    }
    assert_eq!(refs(&repository), before);
    assert_eq!(packs(), packs_before);
}

#[test]
fn bad_input_is_refused_with_the_right_code() {
    let (repository, _) = in_worktree();
    repository.answer(&["task", "add", "r/compile"]);
    let before = refs(&repository);
    let unknown = repository.tether(&["checkpoint", "r/compiel", "--boundary", "b", "--json"]);
    assert_eq!(unknown.status.code(), Some(128));
    let error: Value = serde_json::from_slice(&unknown.stdout).unwrap();
    assert_eq!(error["error"]["code"], "unknown_task");
    assert!(error["error"]["hints"].to_string().contains("did you mean compile?"), "{error}");
    for bad in [
        &["checkpoint", "r/t", "--boundary", "b", "--replay-safety", "nonsense"][..],
        &["checkpoint", "r/t", "--boundary", "b", "--disposition", "nonsense"],
        &["checkpoint", "r/t", "--boundary", "b", "--step", ":name"],
        &["checkpoint", "r/t"],
        &["checkpoint", "r", "--boundary", "b"],
    ] {
        assert_eq!(repository.tether(bad).status.code(), Some(129), "{bad:?}");
    }
    let mut setting = repository.command("git");
    setting.args(["-c", "tether.replaySafety=x", "tether", "checkpoint", "r/t", "--boundary", "b"]);
    assert_eq!(setting.output().unwrap().status.code(), Some(129));
    assert_eq!(refs(&repository), before);
}

#[test]
fn dispositions_follow_the_replay_safety_unless_one_is_given() {
    let (repository, _) = in_worktree();
    for (safety, disposition) in [
        ("pure_readonly", "restart_from_boundary"),
        ("idempotent_write", "restart_from_boundary"),
        ("checkpoint_resumable", "resume_from_checkpoint"),
        ("operator_gated", "operator_intervention_required"),
        ("non_replayable_side_effect", "operator_intervention_required"),
    ] {
        let taken = checkpoint(&repository, &["--replay-safety", safety, "--no-snapshot"]);
        assert_eq!(taken["resume_disposition"], disposition, "{safety}");
        assert!(
            !taken["available_actions"].to_string().contains("resume_from_checkpoint"),
            "there is nothing to resume"
        );
    }
    let given = checkpoint(&repository, &["--disposition", "restart_from_boundary", "--no-snapshot"]);
    assert_eq!(given["replay_safety"], "operator_gated", "the default");
    assert_eq!(given["resume_disposition"], "restart_from_boundary");
    repository.answer(&["task", "done", "r/t"]);
    let ended = checkpoint(&repository, &["--disposition", "resume_from_checkpoint", "--no-snapshot"]);
    assert_eq!(ended["resume_disposition"], "not_applicable");
    assert_eq!(ended["stage"], "completed");
}

#[test]
fn steps_are_joined_and_a_published_result_stays_published() {
    let (repository, path) = in_worktree();
    write(&path.join("README"), "changed\n");
    let resumable = ["--replay-safety", "checkpoint_resumable"];
    let first = checkpoint(&repository, &[&resumable[..], &["--step", "one:First", "--step", "two"]].concat());
    assert_eq!(first["available_actions"][0], "resume_from_checkpoint");
    let second = checkpoint(
        &repository,
        &[&resumable[..], &["--step", "two:Second", "--step", "three:a:b", "--published"]].concat(),
    );
    let steps: Vec<_> = second["completed_steps"]
        .as_array()
        .unwrap()
        .iter()
        .map(|step| (step["id"].as_str(), step["name"].as_str()))
        .collect();
    assert_eq!(steps, [(Some("one"), Some("First")), (Some("two"), Some("Second")), (Some("three"), Some("a:b"))]);
    let third = checkpoint(&repository, &resumable);
    assert_eq!(third["result_published"], true, "what this session put out stays out");
    assert!(!third["available_actions"].to_string().contains("resume_from_checkpoint"));
    assert_eq!(third["completed_steps"].as_array().unwrap().len(), 3);
}

#[test]
fn secrets_and_ignored_files_are_left_out_as_the_settings_say() {
    let (repository, path) = in_worktree();
    write(&path.join(".gitignore"), "*.log\n");
    for name in [".env", "server.key", "build.log", "keep.log", "plain"] {
        write(&path.join(name), "content\n");
    }
    let output = repository.tether(&["checkpoint", "r/t", "--boundary", "b", "--json"]);
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains(".env was not saved") && said.contains("server.key was not saved"), "{said}");
    let names = |answer: &[u8]| {
        let answer: Value = serde_json::from_slice(answer).unwrap();
        repository.git(&["ls-tree", "-r", "--name-only", answer["checkpoint"]["work"]["commit"].as_str().unwrap()])
    };
    assert_eq!(names(&output.stdout).lines().collect::<Vec<_>>(), [".gitignore", "README", "other", "plain"]);

    repository.git(&["config", "tether.snapshot.include", "keep.log"]);
    repository.git(&["config", "tether.snapshot.exclude", "plain"]);
    let output = repository.tether(&["checkpoint", "r/t", "--boundary", "b", "--json"]);
    let expected = [".env", ".gitignore", "README", "keep.log", "other", "server.key"];
    assert_eq!(names(&output.stdout).lines().collect::<Vec<_>>(), expected);
}

#[test]
fn every_kind_of_place_is_saved_as_it_can_be() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    for task in ["none", "isolated", "shared", "outside", "remote"] {
        repository.answer(&["task", "add", &format!("r/{task}")]);
    }
    let outside = repository.root.path().join("outside");
    std::fs::create_dir(&outside).unwrap();
    let add = |task: &str, mode: &str, more: &[&str]| {
        let task = format!("r/{task}");
        repository.json(&[&["env", "add", task.as_str(), "--mode", mode], more].concat())
    };
    let isolated = add("isolated", "isolated_workspace", &[]);
    let isolated = PathBuf::from(isolated["environment"]["spec"]["path"].as_str().unwrap());
    add("shared", "shared_workspace", &[]);
    add("outside", "shared_workspace", &["--path", outside.to_str().unwrap()]);
    add("remote", "remote", &["--remote-url", "ssh://nowhere/x"]);
    let take = |task: &str| {
        let output = repository.tether(&["checkpoint", &format!("r/{task}"), "--boundary", "b", "--json"]);
        assert!(output.status.success(), "{task}: {output:?}");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
        (answer["checkpoint"].clone(), String::from_utf8_lossy(&output.stderr).into_owned())
    };

    assert_eq!(take("none").0["work"], Value::Null);
    assert_eq!(take("isolated").0["work"], Value::Null, "it is empty");
    write(&isolated.join("file"), "in there\n");
    let (taken, _) = take("isolated");
    assert_eq!(repository.git(&["show", &format!("{}:file", taken["work"]["commit"].as_str().unwrap())]), "in there");
    assert_eq!(taken["work"]["base"], Value::Null);

    assert_eq!(take("shared").0["work"], Value::Null, "the main checkout is clean");
    write(&repository.path.join("README"), "changed\n");
    let index = std::fs::read(repository.path.join(".git/index")).unwrap();
    assert_eq!(take("shared").0["work"]["files"], 1);
    assert_eq!(std::fs::read(repository.path.join(".git/index")).unwrap(), index);

    write(&outside.join("file"), "somebody's\n");
    let (taken, said) = take("outside");
    assert_eq!(taken["work"], Value::Null);
    assert!(said.contains("was not saved"), "{said}");
    assert_eq!(take("remote").0["work"], Value::Null);
}

#[test]
fn a_place_that_is_gone_or_is_another_one_is_not_taken_for_the_worktree() {
    let (repository, path) = in_worktree();
    std::fs::remove_dir_all(&path).unwrap();
    let output = repository.tether(&["checkpoint", "r/t", "--boundary", "b", "--json"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("without saved work"));

    // Made anew inside the repository it would answer for the main checkout, outside it is no worktree at all.
    std::fs::create_dir(&path).unwrap();
    write(&path.join("file"), "not a worktree\n");
    let before = refs(&repository);
    let output = repository.tether(&["checkpoint", "r/t", "--boundary", "b"]);
    assert_eq!(output.status.code(), Some(128));
    assert!(String::from_utf8_lossy(&output.stderr).contains("--no-snapshot"));
    assert_eq!(refs(&repository), before);
    repository.answer(&["checkpoint", "r/t", "--boundary", "b", "--no-snapshot"]);
}

#[test]
fn a_hooks_environment_and_other_directories_do_not_matter() {
    let (repository, path) = in_worktree();
    write(&path.join("README"), "changed\n");
    let decoy = repository.root.path().join("decoy");
    let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
    command.args(["checkpoint", "r/t", "--boundary", "b", "--json"]).current_dir("/");
    command.env("GIT_DIR", repository.path.join(".git")).env("GIT_INDEX_FILE", &decoy).env("GIT_WORK_TREE", "/");
    command.env("GIT_AUTHOR_DATE", "2001-01-01T00:00:00Z");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let commit = answer["checkpoint"]["work"]["commit"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{commit}:README")]), "changed");
    assert!(!decoy.exists());
    assert_ne!(repository.git(&["log", "-1", "--format=%as", commit]), "2001-01-01");

    write(&path.join("README"), "from within\n");
    let mut inside = repository.command("git");
    let output =
        inside.args(["tether", "checkpoint", "r/t", "--boundary", "b", "--json"]).current_dir(&path).output().unwrap();
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    let commit = answer["checkpoint"]["work"]["commit"].as_str().unwrap();
    assert_eq!(repository.git(&["show", &format!("{commit}:README")]), "from within");
}

#[test]
fn checkpoints_of_many_processes_at_once_are_all_there() {
    let (repository, path) = in_worktree();
    write(&path.join("README"), "changed\n");
    let children: Vec<_> = (0..8)
        .map(|number| {
            let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
            command.args(["checkpoint", "r/t", "--boundary", "b", "--step", &format!("s{number}")]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    for child in children {
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{output:?}");
    }
    let run = repository.json(&["show", "r"]);
    assert_eq!(run["checkpoints"][0]["seq"], 8);
    assert_eq!(run["checkpoints"][0]["completed_steps"].as_array().unwrap().len(), 8);
    repository.git(&["fsck", "--strict", "--full"]);
    let commit = run["checkpoints"][0]["work"]["commit"].as_str().unwrap();
    repository.git(&["gc", "--prune=now", "--quiet"]);
    assert_eq!(repository.git(&["show", &format!("{commit}:README")]), "changed");
}
