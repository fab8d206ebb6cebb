//! Random worktrees: any mutation of a random repository comes back. `TETHER_CASES` sets how many (64).

use crate::fixture::{Fixture, git, make_executable, text, write};
use git_tether::world::snapshot::SaveOptions;
use proptest::prelude::*;
use std::path::Path;

const PATHS: &[&str] = &[
    "a.txt",
    "b.txt",
    "dir",
    "dir/c.txt",
    "dir/d.txt",
    "dir/sub",
    "dir/sub/e.txt",
    "link",
    "run.sh",
    "other/f.txt",
    "new",
    "new/x",
    "sp ace/\"q\"",
    "line\nbreak",
    "x.crlf",
    "other/y.crlf",
    "z.rot",
    "other/z.rot",
    ".gitattributes",
    "dir/.gitignore",
    "embedded/file",
];

#[derive(Debug, Clone)]
enum Mutation {
    Write(Vec<u8>),
    Link,
    Remove,
    Mode,
    Add,
    AddIntent,
    RemoveFromIndex,
    AssumeUnchanged,
    SkipWorktree,
    Commit,
    Conflict,
    /// `git mv` to a name of its own.
    Rename,
    /// Not executable any more.
    PlainMode,
    /// The same size, and the time that it had: only the change time tells.
    SameTime,
    Sparse(&'static [&'static str]),
    IndexFormat(&'static [&'static str]),
    /// An operation that meets a conflict, or does not.
    Operation(&'static [&'static str]),
    /// A setting by which content is converted.
    Setting(&'static str, &'static str),
}

const SPARSE: &[&[&str]] = &[
    &["set", "--cone", "other"],
    &["set", "--cone", "--sparse-index", "dir"],
    &["set", "--no-cone", "/*", "!/dir/"],
    &["disable"],
];
const INDEX_FORMATS: &[&[&str]] = &[&["--index-version", "4"], &["--split-index"], &["--untracked-cache"]];
const OPERATIONS: &[&[&str]] = &[
    &["merge", "theirs"],
    &["merge", "--squash", "theirs"],
    &["rebase", "theirs"],
    &["rebase", "--apply", "--autostash", "theirs"],
    &["cherry-pick", "theirs~1", "theirs"],
    &["revert", "--no-edit", "HEAD"],
    &["stash"],
    &["bisect", "start", "theirs", "main"],
    &["checkout", "--detach"],
];
const SETTINGS: &[(&str, &str)] = &[
    ("core.autocrlf", "true"),
    ("core.autocrlf", "input"),
    ("core.autocrlf", "false"),
    ("core.eol", "crlf"),
    ("core.ignoreCase", "true"),
];

fn content() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        Just(b"".to_vec()),
        Just(b"one\ntwo\n".to_vec()),
        Just(b"one\r\ntwo\r\n".to_vec()),
        Just(b"one\r\ntwo\n".to_vec()),
        Just(b"*.crlf text eol=crlf\n*.txt text=auto\n".to_vec()),
        Just(b"*.rot filter=rot\n*.crlf filter=lossy ident\n".to_vec()),
        Just(b"* text=auto eol=lf\n$Id$\n".to_vec()),
        proptest::collection::vec(any::<u8>(), 0..64),
    ]
}

fn mutation() -> impl Strategy<Value = Mutation> {
    prop_oneof![
        6 => content().prop_map(Mutation::Write),
        1 => Just(Mutation::Link),
        3 => Just(Mutation::Remove),
        1 => Just(Mutation::Mode),
        4 => Just(Mutation::Add),
        1 => Just(Mutation::AddIntent),
        1 => Just(Mutation::RemoveFromIndex),
        1 => Just(Mutation::AssumeUnchanged),
        1 => Just(Mutation::SkipWorktree),
        1 => Just(Mutation::Commit),
        1 => Just(Mutation::Conflict),
        1 => Just(Mutation::Rename),
        1 => Just(Mutation::PlainMode),
        1 => Just(Mutation::SameTime),
        1 => proptest::sample::select(SPARSE).prop_map(Mutation::Sparse),
        1 => proptest::sample::select(INDEX_FORMATS).prop_map(Mutation::IndexFormat),
        2 => proptest::sample::select(OPERATIONS).prop_map(Mutation::Operation),
        1 => proptest::sample::select(SETTINGS).prop_map(|(key, value)| Mutation::Setting(key, value)),
    ]
}

fn remove(path: &Path) {
    let _ =
        if path.is_dir() && !path.is_symlink() { std::fs::remove_dir_all(path) } else { std::fs::remove_file(path) };
}

fn is_sparse_index(fixture: &Fixture) -> bool {
    let asked = crate::fixture::run(&fixture.work, "git", &["config", "--bool", "index.sparse"]);
    asked.stdout.starts_with(b"true")
}

fn apply(fixture: &Fixture, name: &str, mutation: &Mutation) {
    let path = fixture.work.join(name);
    // Git refuses many combinations: what it refuses has no effect.
    let try_git = |arguments: &[&str]| drop(crate::fixture::run(&fixture.work, "git", arguments));
    match mutation {
        Mutation::Write(bytes) => {
            for above in path.ancestors().skip(1).take_while(|above| *above != fixture.work) {
                if above.is_symlink() || above.is_file() {
                    remove(above);
                }
            }
            remove(&path);
            write(&fixture.work, name, bytes);
        }
        Mutation::Link => {
            remove(&path);
            let _ = std::os::unix::fs::symlink("a.txt", &path);
        }
        Mutation::Remove => remove(&path),
        Mutation::Mode if path.is_file() && !path.is_symlink() => make_executable(&path, 0o755),
        Mutation::Add => try_git(&["add", "-A", "--", name]),
        // Git loses entries of an index that is sparse and has such entries.
        Mutation::AddIntent if !is_sparse_index(fixture) => try_git(&["add", "-N", "--", name]),
        Mutation::RemoveFromIndex => try_git(&["rm", "-rq", "--cached", "--", name]),
        Mutation::AssumeUnchanged => try_git(&["update-index", "--assume-unchanged", "--", name]),
        Mutation::SkipWorktree => try_git(&["update-index", "--skip-worktree", "--", name]),
        Mutation::Commit => try_git(&["commit", "-qm", "more"]),
        Mutation::Rename => try_git(&["mv", "--", name, "moved"]),
        Mutation::PlainMode if path.is_file() && !path.is_symlink() => make_executable(&path, 0o644),
        Mutation::Mode | Mutation::PlainMode | Mutation::AddIntent => {}
        Mutation::SameTime => {
            let Ok(bytes) = std::fs::read(&path) else { return };
            let stamp = std::fs::metadata(&path).and_then(|found| found.modified()).unwrap();
            std::fs::write(&path, bytes.iter().map(|byte| byte ^ 1).collect::<Vec<_>>()).unwrap();
            std::fs::File::options().write(true).open(&path).unwrap().set_modified(stamp).unwrap();
        }
        Mutation::Sparse(arguments) => {
            try_git(&["update-index", "--no-split-index"]);
            let intended = text(&fixture.work, &["diff", "--name-only", "--diff-filter=A"]);
            if intended.is_empty() || !arguments.contains(&"--sparse-index") {
                try_git(&[&["sparse-checkout"], *arguments].concat());
            }
        }
        // Git itself gives up (`BUG: sparse-index.c`) on an index that is sparse and split.
        Mutation::IndexFormat(_) if is_sparse_index(fixture) => {}
        Mutation::IndexFormat(arguments) => try_git(&[&["update-index"], *arguments].concat()),
        Mutation::Operation(arguments) => try_git(arguments),
        Mutation::Setting(key, value) => try_git(&["config", key, value]),
        Mutation::Conflict => {
            let blob = String::from_utf8(git(&fixture.work, &["rev-parse", "main:a.txt", "main:b.txt"])).unwrap();
            let ids: Vec<_> = blob.lines().collect();
            let lines =
                format!("0 {} 0\t{name}\n100644 {} 1\t{name}\n100755 {} 3\t{name}\n", "0".repeat(40), ids[0], ids[1]);
            if name.contains(['\n', '"']) || name == "dir" || name == "new" || name == "dir/sub" {
                return;
            }
            std::fs::write(fixture.directory.path().join("lines"), lines).unwrap();
            let script = "git update-index --index-info < ../lines";
            crate::fixture::run(&fixture.work, "sh", &["-c", script]);
        }
    }
}

/// A branch to meet conflicts with, and content filters: one that leads back, one that does not.
fn with_another_side(fixture: &Fixture) {
    let work = &fixture.work;
    git(work, &["checkout", "-q", "-b", "theirs"]);
    for (name, bytes) in [("a.txt", "theirs\n"), ("new/x", "theirs\n"), ("dir/c.txt", "their second\n")] {
        write(work, name, bytes);
        fixture.commit(name);
    }
    git(work, &["checkout", "-q", "work"]);
    for (key, value) in [
        ("filter.rot.clean", "tr a-z b-za"),
        ("filter.rot.smudge", "tr b-za a-z"),
        ("filter.lossy.clean", "tr -d x"),
        ("filter.lossy.smudge", "cat"),
    ] {
        git(work, &["config", key, value]);
    }
}

fn cases() -> u32 {
    std::env::var("TETHER_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(64)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), max_shrink_iters: 200, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_worktree_comes_back(steps in proptest::collection::vec((proptest::sample::select(PATHS), mutation()), 1..24), checked_out in any::<bool>()) {
        let fixture = Fixture::new();
        with_another_side(&fixture);
        for (name, mutation) in &steps {
            apply(&fixture, name, mutation);
        }
        let checkout = if checked_out { "--checkout" } else { "--no-checkout" };
        fixture.round_trip_with(&SaveOptions::default(), checkout);
    }
}
