#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::{PermissionsExt, symlink};
use std::process::Command;
use std::time::Instant;

use super::*;
use crate::git::Surroundings;
use crate::world::test_repository::TestRepository;
use crate::world::worktree_remove::{RemoveError, Removed, remove, undo};

const BRANCH: &str = "refs/heads/feature";

fn first(repository: &TestRepository) -> ObjectId {
    ObjectId::from_hex(repository.git(&["rev-parse", "main"]).as_bytes()).unwrap()
}

fn order(repository: &TestRepository, name: &str) -> Order {
    Order {
        path: repository.path(name),
        head: OrderedHead::NewBranch { name: BRANCH.to_owned(), start: first(repository) },
        mark: Mark::of("run", "env"),
        vanished: Vanished::Refuse,
        announced: Announced::ByHook,
        on_disk: OnDisk::WhenMade,
        patience: Duration::from_secs(20),
    }
}

/// The worktree is what `git worktree add -b feature` makes.
fn assert_complete(repository: &TestRepository, name: &str) {
    let path = repository.path(name);
    assert_eq!(repository.git_at(&path, &["symbolic-ref", "HEAD"]), BRANCH);
    assert_eq!(repository.git_at(&path, &["status", "--porcelain", "--ignored"]), "");
    assert_eq!(repository.git_at(&path, &["rev-parse", "HEAD"]), first(repository).to_string());
    assert_eq!(std::fs::read_to_string(path.join("dir/other")).unwrap(), "two\n");
    let listed = repository.git(&["worktree", "list", "--porcelain"]);
    assert!(!listed.contains("locked") && !listed.contains("prunable"), "{listed}");
    assert_eq!(repository.git(&["fsck", "--no-progress"]), "");
    assert!(!path.join(".git.tether-new").exists());
    let list = read_worktrees(&repository.open()).unwrap();
    assert_eq!(list.find_at(&path).unwrap().mark, Some(Mark::of("run", "env")));
}

fn assert_nothing_left(repository: &TestRepository, name: &str) {
    assert!(!repository.path(name).exists());
    assert_eq!(repository.git(&["worktree", "list"]).lines().count(), 1);
    assert_eq!(repository.git(&["branch", "--format=%(refname)"]), "refs/heads/main");
    let admin = repository.top.join(".git/worktrees");
    assert_eq!(std::fs::read_dir(admin).map_or(0, Iterator::count), 0);
}

#[test]
fn a_worktree_is_made_once_and_is_as_git_makes_it() {
    let repository = TestRepository::new();
    let made = make(&repository.open(), &order(&repository, "w")).unwrap();
    assert_eq!((made.how, made.commit), (How::Fresh, first(&repository)));
    assert_complete(&repository, "w");
    assert_eq!(make(&repository.open(), &order(&repository, "w")).unwrap().how, How::AlreadyThere);
    repository.git(&["worktree", "add", "-q", "-b", "gits", "../gits"]);
    let admin = |name: &str, file: &str| {
        let text = std::fs::read_to_string(repository.top.join(".git/worktrees").join(name).join(file)).unwrap();
        text.replace("/gits", "/w").replace("heads/gits", "heads/feature").replace("heads/w", "heads/feature")
    };
    for file in ["HEAD", "commondir", "gitdir", "ORIG_HEAD"] {
        assert_eq!(admin("w", file), admin("gits", file), "{file}");
    }
    let link = |name: &str| std::fs::read_to_string(repository.path(name).join(".git")).unwrap().replace("gits", "w");
    assert_eq!(link("w"), link("gits"));
}

#[test]
fn detached_and_existing_branches() {
    let repository = TestRepository::new();
    repository.git(&["branch", "feature"]);
    let opened = repository.open();
    let new = order(&repository, "w");
    assert!(matches!(make(&opened, &new), Err(MakeError::BranchExists { .. })));
    assert!(!repository.path("w").exists());
    make(&opened, &Order { head: OrderedHead::ExistingBranch(BRANCH.to_owned()), ..new.clone() }).unwrap();
    assert_complete(&repository, "w");
    let other = Order { path: repository.path("x"), mark: Mark::of("run", "other"), ..new };
    let held = Order { head: OrderedHead::ExistingBranch(BRANCH.to_owned()), ..other.clone() };
    let error = make(&opened, &held).unwrap_err();
    assert!(matches!(&error, MakeError::BranchHeld { path, .. } if *path == repository.path("w")), "{error:?}");
    let none = Order { head: OrderedHead::ExistingBranch("refs/heads/none".to_owned()), ..other.clone() };
    assert!(matches!(make(&opened, &none), Err(MakeError::NoSuchBranch { .. })));
    make(&opened, &Order { head: OrderedHead::Detached(first(&repository)), ..other }).unwrap();
    let list = read_worktrees(&opened).unwrap();
    assert_eq!(list.find_at(&repository.path("x")).unwrap().head, Head::Detached(first(&repository)));
}

#[test]
fn reftable_sha256_and_bare_repositories() {
    for arguments in [&["--ref-format=reftable"][..], &["--object-format=sha256"][..]] {
        let repository = TestRepository::initialised(arguments);
        make(&repository.open(), &order(&repository, "w")).unwrap();
        assert_complete(&repository, "w");
    }
    let repository = TestRepository::new();
    repository.git(&["clone", "-q", "--bare", ".", "../b.git"]);
    let bare = Repository::open_from(Surroundings::isolated(repository.path("b.git"))).unwrap();
    make(&bare, &order(&repository, "b.git/tether/worktrees/w")).unwrap();
    let path = repository.path("b.git/tether/worktrees/w");
    assert_eq!(repository.git_at(&path, &["status", "--porcelain"]), "");
}

#[test]
fn nothing_that_is_there_is_touched() {
    let repository = TestRepository::new();
    let opened = repository.open();
    std::fs::create_dir(repository.path("full")).unwrap();
    std::fs::write(repository.path("full/file"), "mine").unwrap();
    assert!(matches!(make(&opened, &order(&repository, "full")), Err(MakeError::Occupied { .. })));
    std::fs::create_dir(repository.path("outside")).unwrap();
    symlink("outside", repository.path("door")).unwrap();
    assert!(matches!(make(&opened, &order(&repository, "door/w")), Err(MakeError::PathChanged { .. })));
    repository.git(&["worktree", "add", "-q", "--detach", "../others"]);
    assert!(matches!(make(&opened, &order(&repository, "others")), Err(MakeError::RegisteredForOthers { .. })));
    std::fs::remove_dir_all(repository.path("others")).unwrap();
    assert!(matches!(make(&opened, &order(&repository, "others")), Err(MakeError::RegisteredForOthers { .. })));
    assert_eq!(std::fs::read_dir(repository.path("outside")).unwrap().count(), 0);
    assert_eq!(repository.git(&["branch", "--format=%(refname)"]), "refs/heads/main");
}

#[test]
fn a_vanished_worktree_is_made_anew_only_when_told_so() {
    let repository = TestRepository::new();
    let opened = repository.open();
    let mut wanted = order(&repository, "w");
    make(&opened, &wanted).unwrap();
    std::fs::remove_dir_all(repository.path("w")).unwrap();
    wanted.head = OrderedHead::ExistingBranch(BRANCH.to_owned());
    assert!(matches!(make(&opened, &wanted), Err(MakeError::Vanished { .. })));
    wanted.vanished = Vanished::Replace;
    let admin = repository.top.join(".git/worktrees/w");
    std::fs::write(admin.join("locked"), "on a disk elsewhere").unwrap();
    assert!(matches!(make(&opened, &wanted), Err(MakeError::Locked { .. })));
    std::fs::remove_file(admin.join("locked")).unwrap();
    assert_eq!(make(&opened, &wanted).unwrap().how, How::Fresh);
    assert_complete(&repository, "w");
    repository.git(&["worktree", "move", "../w", "../there"]);
    assert!(matches!(make(&opened, &wanted), Err(MakeError::Moved { path }) if path == repository.path("there")));
}

fn filling(repository: &TestRepository) {
    let admin = repository.top.join(".git/worktrees/w");
    worktree_mark::write(&admin, &Mark::of("run", "env").at(Stage::Filling)).unwrap();
    std::fs::write(admin.join("locked"), "initializing").unwrap();
}

fn detached(repository: &TestRepository) {
    filling(repository);
    let head = format!("{}\n", first(repository));
    std::fs::write(repository.top.join(".git/worktrees/w/HEAD"), head).unwrap();
}

fn without_branch(repository: &TestRepository) {
    detached(repository);
    repository.git(&["update-ref", "-d", BRANCH]);
}

fn partly_filled(repository: &TestRepository) {
    without_branch(repository);
    std::fs::remove_file(repository.path("w/dir/other")).unwrap();
    std::fs::write(repository.path("w/file"), "to").unwrap();
    std::fs::write(repository.top.join(".git/worktrees/w/index.lock"), "").unwrap();
    std::fs::remove_file(repository.top.join(".git/worktrees/w/index")).unwrap();
}

fn registered(repository: &TestRepository) {
    without_branch(repository);
    std::fs::remove_dir_all(repository.path("w")).unwrap();
    std::fs::create_dir(repository.path("w")).unwrap();
    std::fs::write(repository.path("w/.git.tether-new"), "gitd").unwrap();
    for file in ["index", "ORIG_HEAD", "logs/HEAD"] {
        std::fs::remove_file(repository.top.join(".git/worktrees/w").join(file)).unwrap();
    }
}

fn empty_directory(repository: &TestRepository) {
    registered(repository);
    std::fs::remove_dir_all(repository.top.join(".git/worktrees/w")).unwrap();
    std::fs::remove_file(repository.path("w/.git.tether-new")).unwrap();
}

/// Every state that a kill leaves, made by taking a complete worktree back.
#[test]
fn every_half_made_state_is_finished_or_undone() {
    type Take = fn(&TestRepository);
    let admin = |repository: &TestRepository| repository.top.join(".git/worktrees/w");
    let states: [Take; 6] = [filling, detached, without_branch, partly_filled, registered, empty_directory];
    for (index, take_back) in states.into_iter().enumerate() {
        for finish in [How::Finished, How::Fresh] {
            let repository = TestRepository::new();
            let wanted = order(&repository, "w");
            make(&repository.open(), &wanted).unwrap();
            take_back(&repository);
            if finish == How::Finished {
                make(&repository.open(), &wanted).unwrap_or_else(|error| panic!("state {index}: {error:?}"));
                assert_complete(&repository, "w");
            } else {
                undo(&repository.open(), &wanted).unwrap_or_else(|error| panic!("state {index}: {error:?}"));
                assert_nothing_left(&repository, "w");
                assert_eq!(undo(&repository.open(), &wanted).unwrap(), Removed::Nothing);
            }
            assert!(finish == How::Fresh || admin(&repository).exists());
        }
    }
}

#[test]
#[ignore = "the child of the next test"]
fn a_child_that_makes() {
    let Some(top) = std::env::var_os("TETHER_TEST_TOP") else { return };
    let opened = Repository::open_from(Surroundings::isolated(&top)).unwrap();
    let start = opened.gix().head_id().unwrap().detach();
    let order = Order {
        path: Path::new(&top).with_file_name("w"),
        head: OrderedHead::NewBranch { name: BRANCH.to_owned(), start },
        mark: Mark::of("run", "env"),
        vanished: Vanished::Refuse,
        announced: Announced::ByHook,
        on_disk: OnDisk::WhenMade,
        patience: Duration::from_secs(20),
    };
    make(&opened, &order).unwrap();
}

#[test]
fn a_kill_at_any_moment_is_finished_or_undone() {
    for round in 0..24_u64 {
        let repository = TestRepository::new();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "world::worktree_make::tests::a_child_that_makes", "--ignored", "-q"])
            .env("TETHER_TEST_TOP", &repository.top)
            .stdout(std::process::Stdio::null())
            .spawn()
            .unwrap();
        std::thread::sleep(Duration::from_micros(2_000 + round * 700));
        child.kill().unwrap();
        child.wait().unwrap();
        let wanted = order(&repository, "w");
        let finish = round % 2 == 1;
        if finish {
            make(&repository.open(), &wanted).unwrap();
        }
        match undo(&repository.open(), &wanted) {
            Ok(_) if !finish => assert_nothing_left(&repository, "w"),
            Err(RemoveError::Complete { .. }) => assert_complete(&repository, "w"),
            other => panic!("round {round}: {other:?}"),
        }
    }
}

#[test]
fn removing_takes_exactly_one() {
    let repository = TestRepository::new();
    let opened = repository.open();
    let patience = Duration::from_secs(5);
    let wanted = order(&repository, "w");
    make(&opened, &wanted).unwrap();
    repository.git(&["worktree", "add", "-q", "--detach", "../vanished"]);
    std::fs::remove_dir_all(repository.path("vanished")).unwrap();
    let mark = Mark::of("run", "env");
    let path = repository.path("w");
    let gone = |path: &Path| remove(&opened, std::ffi::OsStr::new("w"), path, &mark, patience);
    assert!(matches!(gone(&repository.path("x")), Err(RemoveError::Elsewhere { .. })));
    assert!(matches!(undo(&opened, &wanted), Err(RemoveError::Complete { .. })));
    repository.git(&["worktree", "lock", "../w"]);
    assert!(matches!(gone(&path), Err(RemoveError::Make(MakeError::Locked { .. }))));
    repository.git(&["worktree", "unlock", "../w"]);
    repository.git(&["worktree", "add", "-q", "--detach", "../w/nested"]);
    assert!(matches!(gone(&path), Err(RemoveError::Contains { .. })));
    repository.git(&["worktree", "remove", "../w/nested"]);
    assert_eq!(gone(&path).unwrap(), Removed::Worktree);
    assert_eq!(gone(&path).unwrap(), Removed::Nothing);
    assert!(!path.exists());
    assert!(repository.top.join(".git/worktrees/vanished").exists(), "no other registration is pruned");
    assert!(repository.git(&["branch", "--list", "feature"]).contains("feature"));
}

#[test]
fn a_killed_removal_goes_on_but_spares_a_directory_made_since() {
    let repository = TestRepository::new();
    let opened = repository.open();
    make(&opened, &order(&repository, "w")).unwrap();
    let (path, mark) = (repository.path("w"), Mark::of("run", "env"));
    let admin = repository.top.join(".git/worktrees/w");
    worktree_mark::write(&admin, &mark.at(Stage::Removing)).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("new"), "somebody's").unwrap();
    let removed = remove(&opened, std::ffi::OsStr::new("w"), &path, &mark, Duration::from_secs(5)).unwrap();
    assert_eq!(removed, Removed::Registration);
    assert!(path.join("new").exists() && !admin.exists());
}

#[test]
fn the_post_checkout_hook_runs_once_as_git_runs_it() {
    let repository = TestRepository::new();
    let hook = repository.top.join(".git/hooks/post-checkout");
    std::fs::create_dir_all(hook.parent().unwrap()).unwrap();
    std::fs::write(&hook, "#!/bin/sh\necho \"$PWD $*\" >>\"$(git rev-parse --git-common-dir)/ran\"\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let made = make(&repository.open(), &order(&repository, "w")).unwrap();
    assert!(matches!(made.hook, HookOutcome::Ran), "{:?}", made.hook);
    repository.git(&["worktree", "add", "-q", "-b", "gits", "../gits"]);
    let ran = std::fs::read_to_string(repository.top.join(".git/ran")).unwrap();
    let (ours, gits) = ran.split_once('\n').unwrap();
    assert_eq!(ours, gits.trim_end().replace("/gits ", "/w "));
}

#[test]
fn side_by_side() {
    let repository = TestRepository::new();
    std::thread::scope(|scope| {
        for number in 0..8 {
            let repository = &repository;
            scope.spawn(move || {
                let head = OrderedHead::NewBranch { name: format!("refs/heads/b{number}"), start: first(repository) };
                let mark = Mark::of("run", format!("env{number}"));
                let wanted = Order { head, mark, ..order(repository, &format!("w{number}")) };
                make(&repository.open(), &wanted).unwrap();
            });
        }
    });
    assert_eq!(repository.git(&["worktree", "list"]).lines().count(), 9);
    assert_eq!(repository.git(&["for-each-ref", "--format=x", "refs/heads/b*"]).lines().count(), 8);
}

#[test]
#[ignore = "measures"]
fn making_two_hundred() {
    let repository = TestRepository::new();
    for number in 0..100 {
        std::fs::write(repository.top.join(format!("dir/f{number}")), format!("{number}\n")).unwrap();
    }
    repository.git(&["add", "."]);
    repository.git(&["commit", "-q", "-m", "hundred"]);
    let opened = repository.open();
    let mut times = Vec::new();
    for number in 0..400 {
        let head = OrderedHead::NewBranch { name: format!("refs/heads/b{number}"), start: first(&repository) };
        let mark = Mark::of("run", format!("env{number}"));
        let wanted = Order { head, mark, ..order(&repository, &format!("all/w{number}")) };
        let start = Instant::now();
        make(&opened, &wanted).unwrap();
        times.push(start.elapsed());
    }
    let median = |from: usize| {
        let mut part = times[from..from + 20].to_vec();
        part.sort();
        part[10]
    };
    panic!("medians at 0, 100, 180, 380: {:?}", [0, 100, 180, 380].map(median));
}
