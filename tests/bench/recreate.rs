//! Worktrees that somebody deleted, made anew with their work, against git making the same ones without it.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::measure::{Candidate, side_by_side, time};
use super::scene::{Scale, Scene, tracked, write};

/// Files of each worktree.
const FILES: usize = 100;

pub(crate) fn run(scale: Scale) {
    let scene = Scene::new();
    let count = scale.pick(3, 20, 100);
    let (ours, theirs) = (scene.repository("ours", FILES), scene.repository("theirs", FILES));
    let set = scene.tether_all(&ours, &[&["start", "bench"]]);
    let our_places: Vec<_> = (0..count).map(|number| scene.path(&format!("ours.worktrees/w{number}"))).collect();
    let their_places: Vec<_> = (0..count).map(|number| scene.path(&format!("theirs.worktrees/w{number}"))).collect();
    let set = set.and_then(|()| {
        our_places.iter().enumerate().try_for_each(|(number, place)| record_with_work(&scene, &ours, number, place))
    });
    for (number, place) in their_places.iter().enumerate() {
        add(&scene, &theirs, place, &["-b", &format!("work{number}")]);
    }
    let again = |settings: &[&'static str]| {
        delete(&their_places);
        scene.must(&theirs, &["worktree", "prune"]);
        let each = their_places.iter().enumerate().map(|(number, place)| {
            let branch = format!("work{number}");
            let words = ["worktree", "add", "-q", text(place), &branch];
            time(&mut scene.git(&theirs, &[settings, &words].concat()), &[0])
        });
        each.sum::<Result<Duration, String>>()
    };
    let candidates = vec![
        match set {
            Ok(()) => Candidate::timed("git-tether recover --recreate, work put back (durable)", |_| {
                delete(&our_places);
                let took = time(&mut scene.tether(&ours, &["recover", "--recreate"]), &[0, 1])?;
                let back = our_places.iter().filter(|place| place.join("new/0.txt").is_file()).count();
                if back == count { Ok(took) } else { Err(format!("{back} of {count} came back")) }
            }),
            Err(why) => Candidate::absent("git-tether recover --recreate", why),
        },
        Candidate::timed("git worktree add for each, committed files only", |_| again(&[])),
        Candidate::timed("the same with core.fsync=all", |_| again(&["-c", "core.fsync=all"])),
    ];
    side_by_side(
        &format!("recreate: {count} deleted worktrees of {FILES} files, 5 changed and 2 new in each"),
        scale.pick(1, 5, 7),
        candidates,
    );
}

fn record_with_work(scene: &Scene, repository: &Path, number: usize, place: &Path) -> Result<(), String> {
    let task = format!("bench/t{number}");
    let add =
        ["env", "add", &task, "--mode", "git_worktree", "--path", text(place), "--branch", &format!("work{number}")];
    scene.tether_all(repository, &[&["task", "add", &task], &add])?;
    for file in 0..5 {
        write(&place.join(tracked(file * 7)), &format!("changed {file} in {number}\n"));
    }
    for file in 0..2 {
        write(&place.join(format!("new/{file}.txt")), &format!("new {file} in {number}\n"));
    }
    scene.tether_all(repository, &[&["checkpoint", &task, "--boundary", "changed"]])
}

fn add(scene: &Scene, repository: &Path, place: &Path, more: &[&str]) {
    scene.must(repository, &[&["worktree", "add", "-q", text(place)], more].concat());
}

fn delete(places: &[PathBuf]) {
    for place in places {
        if place.exists() {
            std::fs::remove_dir_all(place).expect("a worktree that can be deleted");
        }
    }
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
