//! The content of a worktree with 20 changed and 10 new files, saved.

use std::path::Path;

use super::floor::FLOOR;
use super::measure::{Candidate, side_by_side};
use super::saving::SAVE;
use super::scene::{Scale, Scene, is_installed, tracked, write};

const COPIED_INDEX: &str = r#"
    index=$(git rev-parse --git-path index) && cp -p "$index" "$1" && export GIT_INDEX_FILE="$1" &&
    git add -A && git write-tree"#;

pub(crate) fn run(scale: Scale) {
    for &files in scale.pick::<&[usize]>(&[100], &[5_000], &[5_000, 50_000]) {
        one_size(scale, files);
    }
}

fn one_size(scale: Scale, files: usize) {
    let scene = Scene::new();
    let repository = scene.repository("repository", files);
    let worktree = scene.path("worktree");
    let place = worktree.to_str().expect("a plain path");
    let environment = ["env", "add", "bench/one", "--mode", "git_worktree", "--path", place, "--branch", "work"];
    let set = scene.tether_all(
        &repository,
        &[&["start", "bench"], &["task", "add", "bench/one"], &environment, &["task", "start", "bench/one"]],
    );
    if !worktree.is_dir() {
        scene.must(&repository, &["worktree", "add", "-q", "-b", "plain", place]);
    }
    let fresh = |who: usize, round: usize| disturb(&worktree, files, who, round);
    let ours = match set {
        Ok(()) => Candidate::new("git-tether checkpoint (durable)", |round| {
            fresh(0, round);
            scene.tether(&repository, &["checkpoint", "bench/one", "--boundary", &format!("round {round}")])
        }),
        Err(why) => Candidate::absent("git-tether checkpoint", why),
    };
    // jj works in a repository of its own: what it keeps there must not cost the others.
    let jj = scene.repository("jj", if is_installed("jj") { files } else { 1 });
    let mut candidates = vec![
        ours,
        Candidate::new("git stash create (tracked files only)", |round| {
            fresh(1, round);
            scene.git(&worktree, &["stash", "create"])
        }),
        Candidate::new("copied index, git add -A, git write-tree", |round| {
            fresh(2, round);
            let index = scene.path("index");
            scene.command("sh", &worktree, &["-c", COPIED_INDEX, "sh", index.to_str().expect("a plain path")])
        }),
        Candidate::new("git status --porcelain (saves nothing)", |round| {
            fresh(3, round);
            scene.git(&worktree, &["--no-optional-locks", "status", "--porcelain"])
        }),
    ];
    let made = is_installed("jj").then(|| scene.command("jj", &jj, &["git", "init", "--colocate"]).output());
    candidates.push(match made {
        Some(Ok(output)) if output.status.success() => Candidate::new("jj, snapshot by `jj debug snapshot`", |round| {
            disturb(&jj, files, 4, round);
            scene.command("jj", &jj, &["debug", "snapshot"])
        }),
        Some(_) => Candidate::absent("jj", "`jj git init` failed"),
        None => Candidate::absent("jj", "not installed"),
    });
    candidates.push(at_least(&scene, &worktree));
    let title = format!("save: a worktree of {files} files, 20 changed and 10 new");
    side_by_side(&title, scale.pick(2, 15, 31), candidates);
    unchanged(&scene, scale, files, &repository, &worktree);
}

/// The same when nothing has changed since the last time: no snapshot is written, but a checkpoint is recorded.
fn unchanged(scene: &Scene, scale: Scale, files: usize, repository: &Path, worktree: &Path) {
    // What the last of the others changed is saved.
    let settled = scene.tether_all(repository, &[&["checkpoint", "bench/one", "--boundary", "settled"]]);
    let save_alone = match settled {
        Ok(()) => {
            let last = scene.must(repository, &["rev-parse", "refs/tether-local/work/bench^2"]);
            let itself = std::env::current_exe().expect("the path of this program");
            Candidate::new("the save alone, which writes nothing", move |_| {
                let place = worktree.to_str().expect("a plain path");
                scene.command(&itself, repository, &[SAVE, place, &last])
            })
        }
        Err(why) => Candidate::absent("the save alone", why),
    };
    let candidates = vec![
        Candidate::new("git-tether checkpoint (durable)", |round| {
            scene.tether(repository, &["checkpoint", "bench/one", "--boundary", &format!("again {round}")])
        }),
        save_alone,
        Candidate::new("git-tether activity (the record alone, durable)", |round| {
            scene.tether(repository, &["activity", "bench", "--progress", &(round % 100).to_string()])
        }),
        Candidate::new("git status --porcelain", |_| {
            scene.git(worktree, &["--no-optional-locks", "status", "--porcelain"])
        }),
        at_least(scene, worktree),
    ];
    let title = format!("save: a worktree of {files} files, unchanged since the last save");
    side_by_side(&title, scale.pick(2, 15, 31), candidates);
}

fn at_least<'a>(scene: &'a Scene, worktree: &'a Path) -> Candidate<'a> {
    let index = scene.must(worktree, &["rev-parse", "--path-format=absolute", "--git-path", "index"]);
    Candidate::new("floor: read index, lstat all, list all directories", move |_| {
        let itself = std::env::current_exe().expect("the path of this program");
        scene.command(itself, worktree, &[FLOOR, &index, worktree.to_str().expect("a plain path")])
    })
}

/// Changes 20 files and makes 10 new, with content that was never there, so that nobody finds it already saved.
fn disturb(worktree: &Path, files: usize, who: usize, round: usize) {
    for number in 0..20 {
        let place = number * (files / 20).max(1) % files;
        write(&worktree.join(tracked(place)), &format!("changed {place} in round {round} for {who}\n"));
    }
    for number in 0..10 {
        write(&worktree.join(format!("new/{number}.txt")), &format!("new {number} in round {round} for {who}\n"));
    }
}
