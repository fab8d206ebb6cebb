#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::os::unix::fs::symlink;
use std::process::Command;

use super::*;
use crate::git::Surroundings;

fn place() -> (tempfile::TempDir, PathBuf) {
    let directory = tempfile::tempdir().unwrap();
    let path = std::fs::canonicalize(directory.path()).unwrap();
    (directory, path)
}

#[test]
fn what_is_missing_is_kept_behind_what_is_resolved() {
    let (_directory, top) = place();
    std::fs::create_dir(top.join("real")).unwrap();
    symlink("real", top.join("link")).unwrap();
    assert_eq!(resolve(&top.join("link/a/b")).unwrap(), top.join("real/a/b"));
    assert!(matches!(resolve(&top.join("nothing/../x")), Err(PathError::UpThroughNothing { .. })));
    assert_eq!(resolve(&top.join("link/../x")).unwrap(), top.join("x"));
}

#[test]
fn symlinks_are_not_followed_out() {
    let (_directory, top) = place();
    for name in ["root", "outside"] {
        std::fs::create_dir(top.join(name)).unwrap();
    }
    symlink(top.join("outside"), top.join("root/door")).unwrap();
    symlink(top.join("nowhere"), top.join("root/dangling")).unwrap();
    let root = top.join("root");
    assert_eq!(resolve_inside(&root.join("a"), &root).unwrap(), root.join("a"));
    assert!(matches!(resolve_inside(&root.join("door/a"), &root), Err(PathError::LeadsOut { .. })));
    assert!(resolve_inside(&root.join("dangling"), &root).is_err());
    assert!(resolve_inside(&root.join("dangling/a"), &root).is_err());
    assert!(matches!(resolve_inside(&root, &root), Err(PathError::LeadsOut { .. })));
    assert!(resolve_inside(&top.join("root2"), &root).is_err());
}

#[test]
fn occupancy() {
    let (_directory, top) = place();
    std::fs::create_dir_all(top.join("full/empty")).unwrap();
    std::fs::write(top.join("file"), "x").unwrap();
    symlink("full", top.join("link")).unwrap();
    assert!(matches!(look_at(&top.join("none")), Occupancy::Gone));
    assert!(matches!(look_at(&top.join("file/below")), Occupancy::Gone));
    assert!(matches!(look_at(&top.join("full/empty")), Occupancy::EmptyDirectory));
    assert!(matches!(look_at(&top.join("full")), Occupancy::FullDirectory));
    assert!(matches!(look_at(&top.join("link")), Occupancy::Symlink));
    assert!(matches!(look_at(&top.join("file")), Occupancy::Other));
    assert!(matches!(look_at(&top.join("x".repeat(300))), Occupancy::Unreadable(_)));
}

#[test]
fn a_removal_follows_no_symlink() {
    let (_directory, top) = place();
    std::fs::create_dir_all(top.join("keep")).unwrap();
    std::fs::write(top.join("keep/file"), "precious").unwrap();
    std::fs::create_dir_all(top.join("gone/deep")).unwrap();
    symlink(top.join("keep"), top.join("gone/deep/door")).unwrap();
    symlink(top.join("keep"), top.join("door")).unwrap();
    remove_directory(&top.join("gone")).unwrap();
    remove_directory(&top.join("gone")).unwrap();
    assert!(matches!(remove_directory(&top.join("door")), Err(PathError::Symlink { .. })));
    assert!(!top.join("gone").exists());
    assert_eq!(std::fs::read_to_string(top.join("keep/file")).unwrap(), "precious");
}

#[test]
fn a_removal_crosses_no_mount() {
    assert!(matches!(remove_directory(Path::new("/proc")), Err(PathError::MountPoint { .. })));
}

#[test]
fn mounts_are_found_by_path() {
    let text = b"1 0 8:1 / / rw - ext4 a rw\n2 1 8:2 / /mnt/with\\040space rw - ext4 b rw\n3 1 0:1 / /mnt rw - x y z\n";
    let mounts = Mounts::parse(text);
    assert_eq!(mounts.find_of(Path::new("/mnt/with space/a")), Some(Path::new("/mnt/with space")));
    assert_eq!(mounts.find_of(Path::new("/mnt/with")), Some(Path::new("/mnt")));
    assert_eq!(mounts.find_of(Path::new("/mntx")), Some(Path::new("/")));
    assert!(mounts.is_mounted(Path::new("/mnt")) && !mounts.is_mounted(Path::new("/mnt/with")));
    assert!(Mounts::read().unwrap().is_mounted(Path::new("/proc")));
}

#[test]
fn usage_counts_files_not_what_links_lead_to() {
    let (_directory, top) = place();
    std::fs::create_dir(top.join("d")).unwrap();
    std::fs::write(top.join("d/file"), "12345").unwrap();
    symlink("/usr", top.join("d/link")).unwrap();
    assert_eq!(measure(&top), Usage { files: 2, bytes: 9, unreadable: 0 });
}

#[test]
fn the_worktree_root_follows_the_repository() {
    let (_directory, top) = place();
    let git = |arguments: &[&str]| {
        assert!(Command::new("git").args(arguments).current_dir(&top).status().unwrap().success());
    };
    git(&["init", "-q", "r"]);
    git(&["init", "-q", "--bare", "b.git"]);
    let root = |name: &str| {
        find_worktree_root(&Repository::open_from(Surroundings::isolated(top.join(name))).unwrap()).unwrap()
    };
    assert_eq!(root("r"), top.join("r.worktrees"));
    assert_eq!(root("b.git"), top.join("b.git/tether/worktrees"));
    git(&["-C", "r", "config", "tether.worktreeRoot", "../w"]);
    assert_eq!(resolve(&root("r")).unwrap(), top.join("w"));
}
