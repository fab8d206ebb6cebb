//! All recorded worktrees at once, against git in each of them.

use std::path::Path;
use std::time::Duration;

use super::measure::{Candidate, peak_memory, side_by_side, time};
use super::scene::{Scale, Scene};

pub(crate) fn run(scale: Scale) {
    let scene = Scene::new();
    let count = scale.pick(4, 100, 1_000);
    let repository = scene.repository("repository", 100);
    let mut recorded = scene.tether_all(&repository, &[&["start", "bench"]]);
    let mut places = Vec::new();
    for number in 0..count {
        let place = scene.path(&format!("worktrees/w{number:04}"));
        if recorded.is_ok() {
            recorded = record(&scene, &repository, number, &place);
        }
        if !place.is_dir() {
            let path = place.to_str().expect("a plain path");
            scene.must(&repository, &["worktree", "add", "-q", "-b", &format!("plain{number}"), path]);
        }
        places.push(place);
    }
    let verify = || scene.tether(&repository, &["verify", "--json"]);
    let ours = match &recorded {
        // Tasks that nobody runs may be findings; to have looked at everything is what counts.
        Ok(()) => Candidate::timed("git-tether verify", |_| time(&mut verify(), &[0, 1])),
        Err(why) => Candidate::absent("git-tether verify", why.clone()),
    };
    let candidates = vec![
        ours,
        Candidate::timed("git status --porcelain in each, one after the other", |_| {
            let status = ["--no-optional-locks", "status", "--porcelain"];
            places.iter().map(|place| time(&mut scene.git(place, &status), &[0])).sum::<Result<Duration, String>>()
        }),
        Candidate::new("git worktree list (looks into none)", |_| {
            scene.git(&repository, &["worktree", "list", "--porcelain"])
        }),
    ];
    side_by_side(&format!("verify: {count} worktrees of 100 files"), scale.pick(1, 7, 15), candidates);
    let memory = recorded.and_then(|()| peak_memory(&verify()));
    match memory {
        Ok(most) => println!("  {:<52} {most:>7.1} MiB", "peak memory of git-tether verify"),
        Err(why) => println!("  {:<52} not there ({why})", "peak memory of git-tether verify"),
    }
    match peak_memory(&scene.git(&places[0], &["status", "--porcelain"])) {
        Ok(most) => println!("  {:<52} {most:>7.1} MiB", "peak memory of one git status"),
        Err(why) => println!("  {:<52} not there ({why})", "peak memory of one git status"),
    }
}

fn record(scene: &Scene, repository: &Path, number: usize, place: &Path) -> Result<(), String> {
    let (task, branch) = (format!("bench/t{number}"), format!("work{number}"));
    let path = place.to_str().expect("a plain path");
    let environment = ["env", "add", &task, "--mode", "git_worktree", "--path", path, "--branch", &branch];
    scene.tether_all(repository, &[&["task", "add", &task], &environment])
}
