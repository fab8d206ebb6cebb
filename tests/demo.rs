//! The demonstration ends as it says, leaves nothing behind, and completes under git's own completion.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::path::Path;

use support::Repository;

#[test]
fn the_demonstration_brings_all_work_back() {
    let elsewhere = Repository::new();
    let scratch = elsewhere.root.path().join("scratch");
    std::fs::create_dir(&scratch).unwrap();
    let program = env!("CARGO_BIN_EXE_git-tether");
    let output = elsewhere.command(program).env("TMPDIR", &scratch).args(["demo", "--json"]).output().unwrap();
    let story = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{story}");
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let tasks = answer["demo"]["tasks"].as_object().unwrap();
    assert_eq!(tasks.len(), 4, "{answer}");
    assert!(tasks.values().all(|state| state == "completed"), "{answer}");
    for typed in ["$ git tether recover\n", "$ git tether recover --resume --recreate\n", "$ kill -9 "] {
        assert!(story.contains(typed), "{typed} in {story}");
    }
    // Each of the three was interrupted; the fourth never was.
    for build in ["compile", "docs", "package"] {
        assert!(story.contains(&format!("task nightly/{build}: running → blocked")), "{build}: {story}");
        assert!(story.contains(&format!("{build}: part 2 is there already")), "{build}: {story}");
    }
    assert!(!story.contains("task nightly/test: running → blocked"), "{story}");
    assert_eq!(std::fs::read_dir(&scratch).unwrap().count(), 0, "the demonstration left something behind");
}

/// `docs/format.md` names every local file that the whole story leaves.
#[test]
fn local_files_are_described() {
    let elsewhere = Repository::new();
    let program = env!("CARGO_BIN_EXE_git-tether");
    let mut demo = elsewhere.command(program);
    let output = demo.env("TMPDIR", elsewhere.root.path()).args(["demo", "--keep", "--json"]).output().unwrap();
    let answer: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let local = Path::new(answer["demo"]["repository"].as_str().unwrap()).join(".git/tether");
    let format = include_str!("../docs/format.md");
    let names: Vec<_> = std::fs::read_dir(local).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(names.len() > 5, "{names:?}");
    for name in names {
        let name = name.into_string().unwrap();
        let described = format.lines().any(|line| {
            let cell = line.strip_prefix("| `").and_then(|rest| rest.strip_prefix(&name));
            cell.is_some_and(|rest| rest.starts_with(['`', '/']))
        });
        assert!(described, "docs/format.md does not say what <common dir>/tether/{name} is");
    }
}

#[test]
fn bash_completes_under_git() {
    let git_completion = Path::new("/usr/share/bash-completion/completions/git");
    if !git_completion.exists() {
        eprintln!("skipped: git's own completion for bash is not installed here");
        return;
    }
    let repository = Repository::new();
    let ours = repository.root.path().join("ours.bash");
    std::fs::write(&ours, repository.answer(&["completions", "bash"])).unwrap();
    let completed = |line: &str| {
        let script = format!(
            "source {git}; source {ours}; line='{line}'; read -ra COMP_WORDS <<<\"$line\"; \
             [[ $line == *' ' ]] && COMP_WORDS+=(''); COMP_CWORD=$((${{#COMP_WORDS[@]}}-1)); COMP_LINE=$line; \
             COMP_POINT=${{#line}}; __git_wrap__git_main git; echo ${{COMPREPLY[*]}}",
            git = git_completion.display(),
            ours = ours.display(),
        );
        let output = repository.command("bash").args(["--norc", "-c", &script]).output().unwrap();
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    };
    assert_eq!(completed("git tether recov"), "recover");
    assert_eq!(completed("git tether task unb"), "unblock");
    assert_eq!(completed("git -C . tether recover --recr"), "--recreate");
    assert!(completed("git tet").contains("tether"));
}

#[test]
fn the_page_is_installed_where_man_looks() {
    let repository = Repository::new();
    let pages = repository.root.path().join("man");
    let installed = repository.json(&["man", "--install", pages.to_str().unwrap()]);
    let page = pages.join("man1/git-tether.1");
    assert_eq!(installed["man"], page.to_str().unwrap());
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains(".TH git-tether 1"), "{text}");
    let refused = repository.json(&["man", "--install", "/proc/nowhere"]);
    assert_eq!(refused["error"]["code"], "man");
}
