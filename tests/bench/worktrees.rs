//! Worktrees made one after the other: does the last one cost what the first did?

use std::time::Duration;

use super::measure::{line, median, time};
use super::scene::{Scale, Scene};

pub(crate) fn run(scale: Scale) {
    let scene = Scene::new();
    let count = scale.pick(6, 60, 200);
    let edge = (count / 3).min(20);
    let (ours, theirs) = (scene.repository("ours", 100), scene.repository("theirs", 100));
    let mut there = scene.tether_all(&ours, &[&["start", "bench"]]);
    let (mut our_times, mut their_times) = (Vec::new(), Vec::new());
    for number in 0..count {
        let task = format!("bench/t{number}");
        let branch = format!("work{number}");
        if there.is_ok() {
            there = scene.tether_all(&ours, &[&["task", "add", &task]]).and_then(|()| {
                let path = scene.path(&format!("ours.worktrees/w{number}"));
                let path = path.to_str().expect("a plain path");
                let add = ["env", "add", &task, "--mode", "git_worktree", "--path", path, "--branch", &branch];
                our_times.push(time(&mut scene.tether(&ours, &add), &[0])?);
                Ok(())
            });
        }
        let path = scene.path(&format!("theirs.worktrees/w{number}"));
        let add = ["worktree", "add", "-q", "-b", &branch, path.to_str().expect("a plain path")];
        match time(&mut scene.git(&theirs, &add), &[0]) {
            Ok(took) => their_times.push(took),
            Err(why) => println!("  git worktree add was refused: {why}"),
        }
    }
    println!("\nworktrees: {count} of 100 files, one after the other (the first and the last {edge})");
    let first = |times: &[Duration]| times.iter().take(edge).copied().collect::<Vec<_>>();
    let last = |times: &[Duration]| times.iter().rev().take(edge).copied().collect::<Vec<_>>();
    let mut reference = None;
    match there {
        Ok(()) => {
            reference = Some(median(&first(&our_times)));
            line("git-tether env add, the first", &first(&our_times), reference);
            line("git-tether env add, the last", &last(&our_times), reference);
        }
        Err(why) => println!("  {:<52} not there ({why})", "git-tether env add"),
    }
    let reference = reference.or_else(|| Some(median(&first(&their_times))));
    line("git worktree add, the first", &first(&their_times), reference);
    line("git worktree add, the last", &last(&their_times), reference);
}
