//! The README keeps its word: its commands exist, and its settings are those that the program knows.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use git_tether::git::settings::{AcceptedFrom, KNOWN};
use support::Repository;

const README: &str = include_str!("../README.md");

/// The rows that the settings deserve.
fn settings() -> String {
    let row = |known: &git_tether::git::settings::Description| {
        let executed = if known.accepted_from == AcceptedFrom::Configuration { " *" } else { "" };
        let variable = if executed.is_empty() { format!("`{}`", known.variable()) } else { "–".to_owned() };
        let default = known.default.map_or("–".to_owned(), |value| {
            value.lines().map(|one| format!("`{one}`")).collect::<Vec<_>>().join(" ")
        });
        format!("| `tether.{}`{executed} | {variable} | {default} | {} |\n", known.name, known.meaning)
    };
    KNOWN.iter().map(row).collect()
}

#[test]
fn the_settings_are_all_there() {
    let table = settings();
    assert!(README.contains(&table), "the README's table of settings should be:\n{table}");
}

#[test]
fn what_it_names_as_daily_commands_exists() {
    let repository = Repository::new();
    let line = README.lines().find(|line| line.starts_with("What you will use:")).unwrap();
    let paragraph = &README[README.find(line).unwrap()..];
    let paragraph = &paragraph[..paragraph.find("```").unwrap()];
    let commands: Vec<&str> = paragraph.split('`').skip(1).step_by(2).collect();
    assert!(commands.len() > 5, "{commands:?}");
    for command in commands {
        let output = repository.tether(&[command, "-h"]);
        assert!(output.status.success(), "`git tether {command} -h` is refused");
    }
}

#[test]
fn removing_it_all_leaves_a_repository_as_it_was() {
    let repository = Repository::new();
    repository.answer(&["start", "build"]);
    repository.answer(&["task", "add", "build/compile"]);
    repository.answer(&["task", "start", "build/compile"]);
    let block = README.split("## Uninstall").nth(1).unwrap().split("```sh\n").nth(2).unwrap();
    let script = block.split("```").next().unwrap();
    let output = repository.command("sh").args(["-ec", script]).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(repository.git(&["for-each-ref", "--format=%(refname)"]), "refs/heads/main");
    assert!(!repository.path.join(".git/tether").exists());
    repository.git(&["fsck", "--strict"]);
}
