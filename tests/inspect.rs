//! `docs/inspect.md` shows real output: each line that starts with `$` is typed into a repository of its own, and what it prints has to
//! be what the page says. With `TETHER_DOCS=write` the page is written anew.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::fmt::Write as _;
use std::path::Path;

use support::Repository;

/// Everything that would make an object id differ from one machine to the next.
const PINNED: [(&str, &str); 3] = [
    ("GIT_TETHER_HOST_ID", "builder"),
    ("GIT_AUTHOR_DATE", "2026-01-31T11:59:00Z"),
    ("GIT_COMMITTER_DATE", "2026-01-31T11:59:00Z"),
];

fn type_line(repository: &Repository, line: &str, minute: usize) -> String {
    let mut command = repository.command("sh");
    command.args(["-c", &format!("{line} 2>&1")]).envs(PINNED);
    let output = command.env("GIT_TETHER_NOW", format!("2026-01-31T12:{minute:02}:00Z")).output().unwrap();
    String::from_utf8(output.stdout).unwrap()
}

/// The page with the output that its lines really have. Lines that only change records are shown without what they print.
fn page_as_it_is(page: &str) -> String {
    let repository = Repository::pinned(&PINNED);
    let (mut made, mut inside, mut minute) = (String::new(), false, 0);
    for line in page.lines() {
        if line.starts_with("```") {
            inside = line == "```console";
        }
        match line.strip_prefix("$ ") {
            Some(typed) if inside => {
                minute += 1;
                let printed = type_line(&repository, typed, minute);
                let _ = writeln!(made, "{line}");
                if !typed.starts_with("git tether") || typed.starts_with("git tether doctor") {
                    for one in printed.lines() {
                        let _ = writeln!(made, "{}", one.trim_end());
                    }
                }
                assert!(!printed.contains("fatal:") && !printed.contains("error:"), "{typed}: {printed}");
            }
            None if inside && !line.starts_with("```") => {}
            _ => {
                let _ = writeln!(made, "{line}");
            }
        }
    }
    made
}

#[test]
fn the_page_shows_what_git_prints() {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/inspect.md");
    let page = std::fs::read_to_string(&file).unwrap();
    let real = page_as_it_is(&page);
    if std::env::var_os("TETHER_DOCS").is_some_and(|wish| wish == "write") {
        std::fs::write(&file, &real).unwrap();
    }
    let first = page.lines().zip(real.lines()).find(|(shown, printed)| shown != printed);
    let written = std::fs::read_to_string(&file).unwrap();
    assert!(written == real, "docs/inspect.md is not what git prints; the first difference: {first:#?}");
}
