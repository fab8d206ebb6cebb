//! Plants what no git-tether would write, with git's own plumbing.

#![allow(
    dead_code,
    clippy::disallowed_methods,
    clippy::unwrap_used,
    reason = "shared by tests, each of which uses a part of it"
)]

use std::fmt::Write as _;
use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};

use crate::support::Repository;

fn run(mut command: Command, input: &[u8]) -> String {
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(input).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{command:?}");
    String::from_utf8(output.stdout).unwrap().trim().to_owned()
}

/// Runs git with something on its standard input.
pub(crate) fn feed(repository: &Repository, arguments: &[&str], input: &[u8]) -> String {
    let mut command = repository.command("git");
    command.args(arguments);
    run(command, input)
}

/// Points a ref at a new commit with these files, on top of `parent` or of nothing.
pub(crate) fn plant(repository: &Repository, name: &str, files: &[(&str, &[u8])], parent: Option<&str>) -> String {
    let mut entries = String::new();
    for (path, content) in files {
        let blob = feed(repository, &["hash-object", "-w", "--stdin"], content);
        let _ = writeln!(entries, "100644 {blob}\t{path}");
    }
    plant_entries(repository, name, &entries, parent)
}

/// The same with entries as `git update-index --index-info` takes them.
pub(crate) fn plant_entries(repository: &Repository, name: &str, entries: &str, parent: Option<&str>) -> String {
    let index = repository.root.path().join("planted-index");
    let _ = fs::remove_file(&index);
    let git = |arguments: &[&str], input: &str| {
        let mut command = repository.command("git");
        command.env("GIT_INDEX_FILE", &index).args(arguments);
        run(command, input.as_bytes())
    };
    git(&["update-index", "--add", "--index-info"], entries);
    let tree = git(&["write-tree"], "");
    let mut words = vec!["commit-tree", tree.as_str(), "-m", "planted"];
    words.extend(parent.iter().flat_map(|parent| ["-p", parent]));
    let commit = git(&words, "");
    repository.git(&["update-ref", name, &commit]);
    commit
}
