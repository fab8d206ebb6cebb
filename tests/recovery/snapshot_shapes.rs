//! Worktrees of the shapes that real repositories have: many files, deep trees, farms of links, few huge directories.

use crate::fixture::{Fixture, git, make_executable, write};
use git_tether::world::snapshot::SaveOptions;
use std::path::Path;

/// Changes a bit of everything below `root`, and leaves most as it is.
fn touch_some(work: &Path, names: &[String]) {
    for (at, name) in names.iter().enumerate() {
        let path = work.join(name);
        match at % 97 {
            0 => std::fs::write(&path, format!("changed {at}\n")).unwrap(),
            1 => std::fs::remove_file(&path).unwrap(),
            2 => make_executable(&path, 0o755),
            3 => {
                std::fs::remove_file(&path).unwrap();
                std::os::unix::fs::symlink("elsewhere", &path).unwrap();
            }
            4 => write(work, format!("{name}.new"), "untracked\n"),
            _ => {}
        }
    }
    git(work, &["add", "-A", "--", &names[0], &names[97]]);
}

fn comes_back(names: &[String], content: impl Fn(usize) -> String) {
    let fixture = Fixture::new();
    for (at, name) in names.iter().enumerate() {
        write(&fixture.work, name, content(at));
    }
    fixture.commit("all of it");
    touch_some(&fixture.work, names);
    let (saved, _) = fixture.round_trip_with(&SaveOptions::default(), "--checkout");
    assert!(saved.files >= names.len() / 97 * 5, "{}", saved.files);
}

#[test]
fn thousands_of_files_in_many_directories() {
    let names: Vec<_> =
        (0..3000).map(|at| format!("src/part{}/module{}/file{at}.rs", at / 500, at / 20 % 25)).collect();
    comes_back(&names, |at| format!("//! File {at}.\n").repeat(at % 9));
}

#[test]
fn one_directory_with_thousands_of_files() {
    let names: Vec<_> = (0..2000).map(|at| format!("assets/{at:05}.svg")).collect();
    comes_back(&names, |at| format!("<svg id=\"{at}\"/>\n"));
}

#[test]
fn deep_trees() {
    let names: Vec<_> = (0..200)
        .map(|at| {
            let levels: Vec<_> = (0..=at % 60).map(|level| format!("level{level}-{}", at / 60)).collect();
            format!("{}/leaf{at}", levels.join("/"))
        })
        .collect();
    comes_back(&names, |at| format!("{at}\n"));
}

#[test]
fn a_farm_of_links() {
    let fixture = Fixture::new();
    let work = &fixture.work;
    let link = |target: &str, name: String| {
        let path = work.join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let _ = std::fs::remove_file(&path);
        std::os::unix::fs::symlink(target, path).unwrap();
    };
    for at in 0..300 {
        write(work, format!("store/{at}/package.json"), format!("{{\"id\": {at}}}\n"));
        link(&format!("../store/{at}"), format!("modules/package{at}"));
        link(&format!("../../store/{}", (at + 1) % 300), format!("store/{at}/modules/next"));
    }
    link("loop", "loop".to_owned());
    fixture.commit("the farm");
    for at in (0..300).step_by(30) {
        link("../store/gone", format!("modules/package{at}"));
        link("package1", format!("modules/alias{at}"));
        std::fs::remove_file(work.join(format!("modules/package{}", at + 1))).unwrap();
        std::fs::create_dir(work.join(format!("modules/package{}", at + 1))).unwrap();
        write(work, format!("modules/package{}/own", at + 1), "a directory where a link was\n");
        std::fs::remove_dir_all(work.join(format!("store/{}", at + 2))).unwrap();
        link("0", format!("store/{}", at + 2));
    }
    fixture.round_trip_with(&SaveOptions::default(), "--checkout");
}

#[test]
fn thousands_of_files_that_nobody_has_added_yet() {
    let fixture = Fixture::new();
    for at in 0..2000 {
        write(&fixture.work, format!("generated/{at}.json"), format!("{at}\n"));
    }
    let (saved, _) = fixture.round_trip();
    assert_eq!(saved.files, 2000);
}
