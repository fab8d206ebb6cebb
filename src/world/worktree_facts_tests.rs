#![allow(clippy::unwrap_used, reason = "a test may panic")]

use super::*;
use crate::world::test_repository::TestRepository;
use crate::world::worktree_mark;
use crate::world::worktrees::read_worktrees;

struct Case {
    repository: TestRepository,
    mark: Mark,
}

impl Case {
    /// A marked worktree on `feature` at `path`.
    fn new(path: &str) -> Self {
        let repository = TestRepository::new();
        repository.git(&["worktree", "add", "-q", "-b", "feature", &format!("../{path}")]);
        let case = Self { repository, mark: Mark::of("run", "env") };
        worktree_mark::write(&case.admin(), &case.mark).unwrap();
        case
    }

    fn admin(&self) -> PathBuf {
        let name = std::fs::read_dir(self.repository.top.join(".git/worktrees")).unwrap().next().unwrap().unwrap();
        name.path()
    }

    fn sees(&self, path: &str, mark: Option<&Mark>, check: impl Fn(&PathFacts<'_>) -> bool) {
        let path = self.repository.path(path);
        let expected = Expected { path: &path, mount_point: None, mark, branch: Some("refs/heads/feature") };
        let list = read_worktrees(&self.repository.open()).unwrap();
        let facts = look_at(&expected, &list, &Mounts::read().unwrap());
        assert!(check(&facts), "{facts:?}");
    }
}

#[test]
fn the_worktree_is_recognised_and_its_absence_too() {
    let case = Case::new("w");
    case.sees("w", Some(&case.mark), |facts| matches!(facts, PathFacts::Registered(_)));
    std::fs::remove_dir_all(case.repository.path("w")).unwrap();
    case.sees("w", Some(&case.mark), |facts| matches!(facts, PathFacts::Gone { registration: Some(_) }));
    std::fs::create_dir(case.repository.path("w")).unwrap();
    case.sees("w", Some(&case.mark), |facts| matches!(facts, PathFacts::EmptyDirectory { registration: Some(_) }));
    case.repository.git(&["worktree", "prune"]);
    case.sees("w", Some(&case.mark), |facts| matches!(facts, PathFacts::EmptyDirectory { registration: None }));
}

#[test]
fn a_move_is_followed_by_mark_then_by_branch() {
    let case = Case::new("w");
    case.repository.git(&["worktree", "move", "../w", "../there"]);
    let there = case.repository.path("there");
    let moved =
        |facts: &PathFacts<'_>| matches!(facts, PathFacts::MovedTo(found) if found.path.as_ref() == Some(&there));
    case.sees("w", Some(&case.mark), moved);
    case.sees("w", None, moved);
    case.repository.git_at(&there, &["checkout", "-q", "--detach"]);
    case.sees("w", Some(&case.mark), moved);
    case.sees("w", None, |facts| matches!(facts, PathFacts::Gone { .. }));
}

#[test]
fn a_directory_made_anew_inside_the_main_checkout_is_no_worktree() {
    let case = Case::new("r/nested");
    let path = case.repository.path("r/nested");
    std::fs::remove_dir_all(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("file"), "x").unwrap();
    let answered =
        |facts: &PathFacts<'_>| matches!(facts, PathFacts::NotAWorktree { answering: Answering::MainCheckout });
    case.sees("r/nested", Some(&case.mark), answered);
    case.repository.git(&["worktree", "prune"]);
    case.sees("r/nested", Some(&case.mark), answered);
    assert_eq!(case.repository.git_at(&path, &["rev-parse", "--show-toplevel"]), case.repository.top.to_str().unwrap());
}

#[test]
fn plain_directories_and_other_repositories() {
    let case = Case::new("w");
    std::fs::create_dir(case.repository.path("plain")).unwrap();
    std::fs::write(case.repository.path("plain/file"), "x").unwrap();
    let nobody = |facts: &PathFacts<'_>| matches!(facts, PathFacts::NotAWorktree { answering: Answering::Nobody });
    case.sees("plain", None, nobody);
    case.sees("plain/file", None, |facts| matches!(facts, PathFacts::NotADirectory("a file")));
    std::os::unix::fs::symlink("nowhere", case.repository.path("dangling")).unwrap();
    case.sees("dangling", None, |facts| matches!(facts, PathFacts::NotADirectory("a symlink")));
    std::fs::remove_dir_all(case.repository.path("w")).unwrap();
    case.repository.git(&["init", "-q", "../w"]);
    case.sees("w", Some(&case.mark), |facts| matches!(facts, PathFacts::OtherRepository { .. }));
    std::fs::create_dir_all(case.repository.path("w/below")).unwrap();
    std::fs::write(case.repository.path("w/below/file"), "x").unwrap();
    case.sees("w/below", None, |facts| {
        matches!(facts, PathFacts::NotAWorktree { answering: Answering::OtherRepository(_) })
    });
    case.sees("r", None, |facts| matches!(facts, PathFacts::MainCheckout));
}

#[test]
fn broken_links() {
    let case = Case::new("w");
    std::fs::write(case.repository.path("w/.git"), "gitdir: /nowhere\n").unwrap();
    case.sees("w", Some(&case.mark), |facts| matches!(facts, PathFacts::LinkBroken(_)));
}

#[test]
fn a_disk_that_is_not_mounted_is_not_a_missing_worktree() {
    let case = Case::new("w");
    let path = case.repository.path("w");
    let list = read_worktrees(&case.repository.open()).unwrap();
    let mounts = Mounts::read().unwrap();
    let look = |mount_point: &Path| {
        let expected = Expected { path: &path, mount_point: Some(mount_point), mark: None, branch: None };
        matches!(look_at(&expected, &list, &mounts), PathFacts::NotMounted { .. })
    };
    assert!(look(&path));
    assert!(!look(mounts.find_of(&path).unwrap()));
}
