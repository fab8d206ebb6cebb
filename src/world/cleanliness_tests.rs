#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::world::test_repository::TestRepository;
use crate::world::worktrees::read_worktrees;

fn look(repository: &TestRepository) -> Vec<(String, Cleanliness)> {
    let opened = repository.open();
    let list = read_worktrees(&opened).unwrap();
    let worktrees: Vec<_> = list.linked().iter().filter_map(Registration::as_worktree).collect();
    let found = read_cleanliness(&opened, &list, &worktrees);
    let names = worktrees.iter().map(|worktree| worktree.path.file_name().unwrap().to_str().unwrap().to_owned());
    names.zip(found).collect()
}

fn add(repository: &TestRepository, name: &str) -> PathBuf {
    repository.git(&["worktree", "add", "-q", "--detach", &format!("../{name}")]);
    repository.path(name)
}

/// Both the quick look and git say so.
fn assert_found(repository: &TestRepository, name: &str, expected: &Cleanliness) {
    let found = look(repository).into_iter().find(|(found, _)| found == name).unwrap().1;
    assert_eq!(found, *expected, "{name}");
    assert_eq!(status_of_git(&repository.open(), &repository.path(name)), *expected, "{name}, asked of git");
}

fn dirty(changed: usize, untracked: usize) -> Cleanliness {
    Cleanliness::Dirty { changed, untracked }
}

#[test]
#[allow(clippy::too_many_lines, reason = "a table")]
fn each_kind_of_change_is_seen() {
    type Change = fn(&TestRepository, &Path);
    let cases: [(&str, Change, Cleanliness); 17] = [
        ("nothing", |_, _| {}, Cleanliness::Clean),
        ("modified", |_, top| std::fs::write(top.join("file"), "changed\n").unwrap(), dirty(1, 0)),
        ("same-size", |_, top| std::fs::write(top.join("dir/other"), "owt\n").unwrap(), dirty(1, 0)),
        ("touched", |_, top| std::fs::write(top.join("file"), "one\n").unwrap(), Cleanliness::Clean),
        ("deleted", |_, top| std::fs::remove_file(top.join("dir/other")).unwrap(), dirty(1, 0)),
        ("untracked", |_, top| std::fs::write(top.join("dir/new"), "").unwrap(), dirty(0, 1)),
        ("empty-directory", |_, top| std::fs::create_dir(top.join("empty")).unwrap(), Cleanliness::Clean),
        (
            "ignored",
            |repository, top| {
                std::fs::create_dir_all(repository.top.join(".git/info")).unwrap();
                std::fs::write(repository.top.join(".git/info/exclude"), "target\n*.log\n").unwrap();
                std::fs::create_dir_all(top.join("target/deep")).unwrap();
                std::fs::write(top.join("target/deep/file"), "").unwrap();
                std::fs::write(top.join("dir/a.log"), "").unwrap();
            },
            Cleanliness::Clean,
        ),
        (
            "own-ignore-file",
            |_, top| {
                std::fs::write(top.join("dir/.gitignore"), "*.tmp\n!keep.tmp\n").unwrap();
                std::fs::write(top.join("dir/a.tmp"), "").unwrap();
                std::fs::write(top.join("dir/keep.tmp"), "").unwrap();
            },
            dirty(0, 2),
        ),
        (
            "staged",
            |repository, top| {
                std::fs::write(top.join("added"), "").unwrap();
                repository.git_at(top, &["add", "added"]);
            },
            dirty(1, 0),
        ),
        (
            "staged-and-taken-back",
            |repository, top| {
                std::fs::write(top.join("file"), "x\n").unwrap();
                repository.git_at(top, &["add", "file"]);
                std::fs::write(top.join("file"), "one\n").unwrap();
            },
            dirty(1, 0),
        ),
        (
            "executable",
            |_, top| {
                use std::os::unix::fs::PermissionsExt;
                std::fs::set_permissions(top.join("file"), std::fs::Permissions::from_mode(0o755)).unwrap();
            },
            dirty(1, 0),
        ),
        (
            "file-to-link",
            |_, top| {
                std::fs::remove_file(top.join("file")).unwrap();
                std::os::unix::fs::symlink("dir/other", top.join("file")).unwrap();
            },
            dirty(1, 0),
        ),
        (
            "directory-to-link",
            |_, top| {
                std::fs::rename(top.join("dir"), top.join("../elsewhere")).unwrap();
                std::os::unix::fs::symlink("../elsewhere", top.join("dir")).unwrap();
            },
            dirty(1, 1),
        ),
        (
            "intent",
            |repository, top| {
                std::fs::write(top.join("later"), "x").unwrap();
                repository.git_at(top, &["add", "-N", "later"]);
            },
            dirty(1, 0),
        ),
        (
            "committed",
            |repository, top| {
                std::fs::write(top.join("file"), "new\n").unwrap();
                repository.git_at(top, &["commit", "-q", "-am", "new"]);
            },
            Cleanliness::Clean,
        ),
        (
            "reset",
            |repository, top| {
                repository.git_at(top, &["commit", "-q", "--allow-empty", "-m", "empty"]);
                repository.git_at(top, &["read-tree", "--empty"]);
            },
            dirty(2, 2),
        ),
    ];
    for (name, change, expected) in cases {
        let repository = TestRepository::new();
        let top = add(&repository, name);
        change(&repository, &top);
        assert_found(&repository, name, &expected);
    }
}

#[test]
fn conversion_sparse_checkouts_and_submodules_are_left_to_git() {
    let repository = TestRepository::new();
    std::fs::write(repository.top.join(".gitattributes"), "*.txt text eol=crlf\n").unwrap();
    std::fs::write(repository.top.join("a.txt"), "a\nb\n").unwrap();
    repository.git(&["add", "."]);
    repository.git(&["commit", "-q", "-m", "text"]);
    let top = add(&repository, "crlf");
    assert_eq!(std::fs::read_to_string(top.join("a.txt")).unwrap(), "a\r\nb\r\n");
    std::fs::write(top.join("a.txt"), "a\r\nb\r\n").unwrap();
    assert_found(&repository, "crlf", &Cleanliness::Clean);
    let sparse = add(&repository, "sparse");
    repository.git_at(&sparse, &["sparse-checkout", "set", "--sparse-index", "nothing"]);
    assert_found(&repository, "sparse", &Cleanliness::Clean);
    repository.git(&["init", "-q", "../other"]);
    repository.git_at(&repository.path("other"), &["commit", "-q", "--allow-empty", "-m", "x"]);
    let with_gitlink = add(&repository, "gitlink");
    repository.git_at(&with_gitlink, &["clone", "-q", "../other", "inner"]);
    assert_found(&repository, "gitlink", &dirty(0, 1));
    repository.git_at(&with_gitlink, &["add", "inner"]);
    repository.git_at(&with_gitlink, &["commit", "-q", "-m", "inner"]);
    assert_found(&repository, "gitlink", &Cleanliness::Clean);
    std::fs::write(with_gitlink.join("inner/new"), "").unwrap();
    assert_found(&repository, "gitlink", &dirty(1, 0));
}

#[test]
fn conflicts_are_changes_and_errors_are_unknown() {
    let repository = TestRepository::new();
    let top = add(&repository, "conflict");
    std::fs::write(top.join("file"), "theirs\n").unwrap();
    repository.git_at(&top, &["commit", "-q", "-am", "theirs"]);
    std::fs::write(repository.top.join("file"), "ours\n").unwrap();
    repository.git(&["commit", "-q", "-am", "ours"]);
    assert!(!repository.try_git(&top, &["merge", "main"]).status.success());
    assert_found(&repository, "conflict", &dirty(1, 0));
    let torn = add(&repository, "torn");
    std::fs::write(repository.top.join(".git/worktrees/torn/index"), "DIRC").unwrap();
    let found = look(&repository).into_iter().find(|(name, _)| name == "torn").unwrap().1;
    assert!(matches!(found, Cleanliness::Unknown(_)), "{found:?} {}", torn.display());
}

#[test]
#[ignore = "measures"]
fn many_worktrees_of_a_hundred_files() {
    const COUNT: usize = 400;
    let repository = TestRepository::new();
    for number in 0..98 {
        std::fs::write(repository.top.join(format!("dir/f{number}")), format!("{number}\n")).unwrap();
    }
    repository.git(&["add", "."]);
    repository.git(&["commit", "-q", "-m", "hundred"]);
    for number in 0..COUNT {
        add(&repository, &format!("w{number}"));
    }
    let measure = || {
        let mut times: Vec<_> = (0..7)
            .map(|_| {
                let start = std::time::Instant::now();
                assert!(look(&repository).iter().all(|(_, found)| *found == Cleanliness::Clean));
                start.elapsed()
            })
            .collect();
        times.sort();
        times[3]
    };
    let racy = measure();
    let start = std::time::Instant::now();
    for number in 0..COUNT {
        repository.git_at(&repository.path(&format!("w{number}")), &["status", "--porcelain"]);
    }
    let status = start.elapsed();
    // Files written in the same tick as the index are compared by content, by git too: an older checkout has none.
    for number in 0..COUNT {
        let index = repository.top.join(format!(".git/worktrees/w{number}/index"));
        std::fs::File::options().write(true).open(index).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    }
    panic!("{COUNT} worktrees: just made {racy:?}, older {:?}, git status in each (just made): {status:?}", measure());
}
