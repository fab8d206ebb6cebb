#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::world::test_repository::TestRepository;

/// One worktree as git and we both show it: path, detached id or branch, locked, prunable.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Shown {
    path: PathBuf,
    head: String,
    locked: Option<String>,
    prunable: bool,
}

fn as_git_shows(repository: &TestRepository) -> Vec<Shown> {
    let output = repository.try_git(&repository.top, &["worktree", "list", "--porcelain", "-z"]);
    assert!(output.status.success());
    let mut shown = Vec::new();
    for record in output.stdout.split_str("\0\0").skip(1) {
        let mut one = Shown { path: PathBuf::new(), head: String::new(), locked: None, prunable: false };
        for line in record.split_str("\0") {
            let line = line.to_str_lossy();
            match line.split_once(' ').unwrap_or((&line, "")) {
                ("worktree", path) => one.path = PathBuf::from(path),
                ("HEAD", id) if one.head.is_empty() => id.clone_into(&mut one.head),
                ("branch", name) => name.clone_into(&mut one.head),
                ("locked", reason) => one.locked = Some(reason.to_owned()),
                ("prunable", _) => one.prunable = true,
                _ => {}
            }
        }
        if !one.path.as_os_str().is_empty() {
            shown.push(one);
        }
    }
    shown.sort();
    shown
}

fn as_we_see(list: &WorktreeList) -> Vec<Shown> {
    let mut shown: Vec<_> = list
        .linked()
        .iter()
        .filter_map(|found| {
            Some(Shown {
                path: found.path.clone()?,
                head: match &found.head {
                    Head::Branch(name) => name.clone(),
                    Head::Detached(id) => id.to_string(),
                    Head::Unreadable(_) => String::new(),
                },
                locked: match &found.lock {
                    Lock::Unlocked => None,
                    Lock::Locked(reason) => Some(reason.clone()),
                    Lock::Initializing => Some("initializing".to_owned()),
                },
                prunable: found.is_prunable(),
            })
        })
        .collect();
    shown.sort();
    shown
}

fn read(repository: &TestRepository) -> WorktreeList {
    read_worktrees(&repository.open()).unwrap()
}

fn same_as_git(repository: &TestRepository) -> WorktreeList {
    let list = read(repository);
    assert_eq!(as_we_see(&list), as_git_shows(repository));
    list
}

fn place_of<'a>(list: &'a WorktreeList, name: &str) -> &'a Place {
    &list.linked().iter().find(|found| found.name == name).unwrap().place
}

#[test]
fn every_ordinary_state_is_seen_as_git_sees_it() {
    let repository = TestRepository::new();
    assert_eq!(same_as_git(&repository).linked().len(), 0);
    for name in ["plain", "moved", "mv", "deleted", "locked", "locked-deleted", "emptied", "newline\nname"] {
        repository.git(&["worktree", "add", "-q", &format!("../{name}"), "-b", name.split('\n').next().unwrap()]);
    }
    repository.git(&["worktree", "add", "-q", "--detach", "../detached"]);
    repository.git(&["worktree", "add", "-q", "--orphan", "-b", "unborn", "../unborn"]);
    repository.git(&["worktree", "move", "../moved", "../moved-there"]);
    std::fs::rename(repository.path("mv"), repository.path("mv-there")).unwrap();
    repository.git(&["worktree", "repair", "../mv-there"]);
    repository.git(&["worktree", "lock", "--reason", "on a disk\nelsewhere", "../locked"]);
    repository.git(&["worktree", "lock", "../locked-deleted"]);
    for name in ["deleted", "locked-deleted", "emptied"] {
        std::fs::remove_dir_all(repository.path(name)).unwrap();
    }
    std::fs::create_dir(repository.path("emptied")).unwrap();
    std::fs::write(repository.path("r").join(".git/worktrees/plain/locked"), "initializing").unwrap();
    let list = same_as_git(&repository);
    assert_eq!(list.linked().len(), 10);
    assert!(matches!(place_of(&list, "moved"), Place::Linked));
    assert!(matches!(place_of(&list, "mv"), Place::Linked));
    assert!(matches!(place_of(&list, "deleted"), Place::Gone));
    assert!(matches!(place_of(&list, "emptied"), Place::Unlinked));
    assert_eq!(list.find_at(&repository.path("plain")).unwrap().lock, Lock::Initializing);
    assert!(list.find_at(&repository.path("newline\nname")).is_some());
    assert!(list.find_at(&repository.path("moved")).is_none());
    let opened = repository.open();
    let first = repository.git(&["rev-parse", "HEAD"]);
    let head_of = |name: &str| &list.find_at(&repository.path(name)).unwrap().head;
    let id_of = |name: &str| list.find_head_id(&opened, head_of(name)).unwrap().map(|id| id.to_string());
    assert_eq!(id_of("plain"), Some(first.clone()));
    assert_eq!(id_of("detached"), Some(first));
    assert_eq!(id_of("unborn"), None);
}

#[test]
fn a_bare_repository_has_no_main_checkout() {
    let repository = TestRepository::new();
    repository.git(&["clone", "-q", "--bare", ".", "../b.git"]);
    repository.git_at(&repository.path("b.git"), &["worktree", "add", "-q", "../w"]);
    let bare = Repository::open_from(crate::git::Surroundings::isolated(repository.path("w"))).unwrap();
    let list = read_worktrees(&bare).unwrap();
    assert_eq!(list.main().path, None);
    assert_eq!(list.main().head, Head::Branch("refs/heads/main".to_owned()));
    assert!(matches!(place_of(&list, "w"), Place::Linked));
}

#[test]
fn registrations_without_a_path_are_listed_by_us() {
    let repository = TestRepository::new();
    for name in ["empty", "missing", "directory"] {
        repository.git(&["worktree", "add", "-q", &format!("../{name}")]);
    }
    let admin = repository.top.join(".git/worktrees");
    std::fs::write(admin.join("empty/gitdir"), "").unwrap();
    std::fs::remove_file(admin.join("missing/gitdir")).unwrap();
    let list = read(&repository);
    assert_eq!(list.linked().len(), 3);
    for name in ["empty", "missing"] {
        assert!(matches!(place_of(&list, name), Place::NoPath), "{name}");
    }
    std::fs::remove_dir_all(repository.path("directory")).unwrap();
    std::fs::write(repository.path("directory"), "a file now").unwrap();
    let list = read(&repository);
    assert!(matches!(place_of(&list, "directory"), Place::NotADirectory));
    assert!(list.linked().iter().all(Registration::is_prunable));
}

#[test]
fn relative_links_are_links() {
    let repository = TestRepository::new();
    repository.git(&["worktree", "add", "-q", "../w"]);
    std::fs::write(repository.path("w").join(".git"), "gitdir: ../r/.git/worktrees/w\n").unwrap();
    std::fs::write(repository.top.join(".git/worktrees/w/gitdir"), "../../../../w/.git\n").unwrap();
    let list = read(&repository);
    assert!(matches!(place_of(&list, "w"), Place::Linked));
    assert!(list.find_at(&repository.path("w")).is_some());
}

#[test]
fn links_that_do_not_name_each_other_are_seen() {
    let repository = TestRepository::new();
    for name in ["other", "anew", "crossed", "crossing", "torn"] {
        repository.git(&["worktree", "add", "-q", &format!("../{name}")]);
    }
    for name in ["other", "anew"] {
        std::fs::remove_dir_all(repository.path(name)).unwrap();
    }
    repository.git(&["init", "-q", "../other"]);
    repository.git(&["clone", "-q", "--bare", ".", "../elsewhere.git"]);
    repository.git_at(&repository.path("elsewhere.git"), &["worktree", "add", "-q", "../anew"]);
    std::fs::copy(repository.path("crossing").join(".git"), repository.path("crossed").join(".git")).unwrap();
    std::fs::write(repository.path("torn").join(".git"), "gitdir: /nowhere/at/all\n").unwrap();
    let list = read(&repository);
    assert!(matches!(place_of(&list, "other"), Place::OtherRepository { .. }));
    assert!(matches!(place_of(&list, "anew"), Place::OtherRepository { .. }));
    assert!(matches!(place_of(&list, "crossed"), Place::LinkBroken { .. }));
    assert!(matches!(place_of(&list, "crossing"), Place::Linked));
    assert!(matches!(place_of(&list, "torn"), Place::LinkBroken { .. }));
}

#[test]
fn a_symlinked_parent_is_resolved() {
    let repository = TestRepository::new();
    std::fs::create_dir(repository.path("real")).unwrap();
    std::os::unix::fs::symlink("real", repository.path("link")).unwrap();
    repository.git(&["worktree", "add", "-q", "../link/w"]);
    let list = read(&repository);
    assert!(list.find_at(&repository.path("real/w")).is_some_and(|found| matches!(found.place, Place::Linked)));
}

#[test]
fn an_error_is_not_absence() {
    let repository = TestRepository::new();
    repository.git(&["worktree", "add", "-q", "../w"]);
    std::fs::remove_dir_all(repository.path("w")).unwrap();
    std::os::unix::fs::symlink("w", repository.path("w")).unwrap();
    let list = read(&repository);
    assert!(matches!(place_of(&list, "w"), Place::NotADirectory | Place::Unreadable(_)));
    let too_long = format!("{}/.git\n", repository.path(&"x".repeat(300)).display());
    std::fs::write(repository.top.join(".git/worktrees/w/gitdir"), too_long).unwrap();
    assert!(matches!(place_of(&read(&repository), "w"), Place::Unreadable(_)));
}

#[test]
fn who_holds_a_branch() {
    let repository = TestRepository::new();
    repository.git(&["worktree", "add", "-q", "../w", "-b", "feature"]);
    let list = read(&repository);
    let holder = |name: &str| list.find_holder_of(name).and_then(|holder| holder.path().map(Path::to_owned));
    assert_eq!(holder("refs/heads/feature"), Some(repository.path("w")));
    assert_eq!(holder("refs/heads/main"), Some(repository.top.clone()));
    assert_eq!(holder("refs/heads/none"), None);
}

#[test]
fn a_rebase_in_progress_holds_its_branch() {
    let repository = TestRepository::new();
    repository.git(&["worktree", "add", "-q", "../w", "-b", "feature"]);
    let worktree = repository.path("w");
    std::fs::write(worktree.join("file"), "feature\n").unwrap();
    repository.git_at(&worktree, &["commit", "-q", "-am", "feature"]);
    std::fs::write(repository.top.join("file"), "main\n").unwrap();
    repository.git(&["commit", "-q", "-am", "main"]);
    assert!(!repository.try_git(&worktree, &["rebase", "-q", "main"]).status.success());
    let list = read(&repository);
    let found = list.find_at(&worktree).unwrap();
    assert!(matches!(found.head, Head::Detached(_)));
    assert_eq!(find_branch_of_operation(&found.admin_dir).as_deref(), Some("refs/heads/feature"));
    assert!(list.find_holder_of("refs/heads/feature").is_some());
}

#[test]
fn descent() {
    let repository = TestRepository::new();
    let id = |name: &str| ObjectId::from_hex(repository.git(&["rev-parse", name]).as_bytes()).unwrap();
    let first = id("HEAD");
    repository.git(&["commit", "-q", "--allow-empty", "-m", "second"]);
    let second = id("HEAD");
    repository.git(&["checkout", "-q", "--orphan", "apart"]);
    repository.git(&["commit", "-q", "-m", "apart"]);
    let apart = id("HEAD");
    let opened = repository.open();
    assert_eq!(find_descent(&opened, second, first), Some(Descent::Descends));
    assert_eq!(find_descent(&opened, first, first), Some(Descent::Descends));
    assert_eq!(find_descent(&opened, first, second), Some(Descent::Diverged));
    assert_eq!(find_descent(&opened, apart, first), Some(Descent::Diverged));
    let missing = ObjectId::from_hex(b"1234567890123456789012345678901234567890").unwrap();
    assert_eq!(find_descent(&opened, first, missing), None);
}

#[test]
fn reftable_heads_come_from_git() {
    let repository = TestRepository::initialised(&["--ref-format=reftable"]);
    repository.git(&["worktree", "add", "-q", "../w", "-b", "feature"]);
    repository.git(&["worktree", "add", "-q", "--detach", "../d"]);
    let list = same_as_git(&repository);
    assert_eq!(list.main().head, Head::Branch("refs/heads/main".to_owned()));
    let first = repository.git(&["rev-parse", "HEAD"]);
    let head = &list.find_at(&repository.path("w")).unwrap().head;
    let id = list.find_head_id(&repository.open(), head).unwrap();
    assert_eq!(id.map(|id| id.to_string()), Some(first));
}

#[test]
#[ignore = "measures"]
fn reading_a_thousand() {
    let repository = TestRepository::new();
    let admin = repository.top.join(".git/worktrees");
    let head = repository.git(&["rev-parse", "HEAD"]);
    for number in 0..1000 {
        let (admin, path) = (admin.join(format!("w{number}")), repository.path(&format!("w{number}")));
        std::fs::create_dir_all(&admin).unwrap();
        std::fs::create_dir(&path).unwrap();
        std::fs::write(admin.join("HEAD"), format!("{head}\n")).unwrap();
        std::fs::write(admin.join("commondir"), "../..\n").unwrap();
        std::fs::write(admin.join("gitdir"), format!("{}/.git\n", path.display())).unwrap();
        std::fs::write(path.join(".git"), format!("gitdir: {}\n", admin.display())).unwrap();
    }
    same_as_git(&repository);
    let opened = repository.open();
    let mut times: Vec<_> = (0..21)
        .map(|_| {
            let start = std::time::Instant::now();
            assert_eq!(read_worktrees(&opened).unwrap().linked().len(), 1000);
            start.elapsed()
        })
        .collect();
    times.sort();
    let start = std::time::Instant::now();
    repository.git(&["worktree", "list", "--porcelain"]);
    panic!("1,000 registrations: {:?}, git worktree list: {:?}", times[10], start.elapsed());
}
