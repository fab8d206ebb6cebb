//! Processes that race for one thing, beside git that packs and prunes: one wins, nothing is lost.
//!
//! `TETHER_RACE_ROUNDS` says how many rounds (20 unless it is set).

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::process::Output;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use serde_json::Value;
use support::{Repository, parsed, show};

const RACERS: usize = 16;

fn rounds() -> usize {
    std::env::var("TETHER_RACE_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(20)
}

/// Starts one process for each racer at the same moment, and waits for all.
fn race(repository: &Repository, arguments: impl Fn(usize) -> Vec<String> + Sync) -> Vec<Output> {
    let barrier = Barrier::new(RACERS);
    let run = |number| {
        let words = arguments(number);
        let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
        command.args(words);
        barrier.wait();
        command.output().unwrap()
    };
    let run = &run;
    std::thread::scope(|scope| {
        let racers: Vec<_> = (0..RACERS).map(|number| scope.spawn(move || run(number))).collect();
        racers.into_iter().map(|racer| racer.join().unwrap()).collect()
    })
}

fn words(text: &str) -> Vec<String> {
    text.split(' ').map(str::to_owned).collect()
}

/// Does `work` while git packs refs and prunes objects, over and over; how often it did.
fn beside_git(repository: &Repository, work: impl FnOnce()) -> usize {
    let (over, times) = (AtomicBool::new(false), AtomicUsize::new(0));
    std::thread::scope(|scope| {
        for upkeep in [&["pack-refs", "--all"][..], &["gc", "--quiet", "--prune=now"]] {
            let (over, times) = (&over, &times);
            scope.spawn(move || {
                while !over.load(Ordering::Relaxed) {
                    // One of the two may find the other's lock: that is git's to say.
                    let _ = repository.command("git").args(upkeep).output();
                    times.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        let done = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work));
        over.store(true, Ordering::Relaxed);
        if let Err(panic) = done {
            std::panic::resume_unwind(panic);
        }
    });
    times.load(Ordering::Relaxed)
}

/// One got it with 0, all others were told who.
fn assert_one_reserved(outputs: &[Output]) -> String {
    let answers: Vec<(Option<i32>, Value)> =
        outputs.iter().map(|output| (output.status.code(), parsed(output))).collect();
    let reserved: Vec<_> = answers.iter().filter(|(_, answer)| answer["outcome"] == "reserved").collect();
    assert_eq!(reserved.len(), 1, "{answers:#?}");
    assert_eq!(reserved[0].0, Some(0));
    let winner = reserved[0].1["session"]["id"].as_str().unwrap().to_owned();
    for (code, answer) in answers.iter().filter(|(_, answer)| answer["outcome"] != "reserved") {
        assert_eq!(answer["outcome"], "live_owner", "{answer:#}");
        assert_eq!((*code, &answer["token"]), (Some(3), &Value::Null));
        assert_eq!(answer["session"]["id"], winner.as_str(), "the loser is told who won");
    }
    winner
}

#[test]
fn of_racing_reservations_one_wins_and_the_others_learn_who() {
    let repository = Repository::new();
    let mut tokens = std::collections::BTreeSet::new();
    for round in 0..rounds() {
        let outputs = race(&repository, |_| words("session reserve feature/x --lease 10m --json"));
        let winner = assert_one_reserved(&outputs);
        let won = outputs.iter().map(parsed).find(|answer| answer["outcome"] == "reserved").unwrap();
        assert!(tokens.insert(won["token"].as_str().unwrap().to_owned()), "round {round}: a token came twice");
        repository.answer(&["session", "release", &winner]);
    }
    repository.assert_sound();
}

#[test]
fn races_beside_packing_and_pruning_have_one_winner_too() {
    let repository = Repository::new();
    let upkeep = beside_git(&repository, || {
        for round in 0..rounds().div_ceil(4) {
            let winner = assert_one_reserved(&race(&repository, |_| words("session reserve t --json")));
            repository.answer(&["session", "release", &winner]);
            let run = format!("r{round}");
            repository.answer(&["start", &run]);
            add_together(&repository, &run);
        }
    });
    assert!(upkeep > 0);
    repository.assert_sound();
}

fn add_together(repository: &Repository, run: &str) {
    let outputs = race(repository, |number| words(&format!("task add {run}/t{number} --json")));
    for output in &outputs {
        assert!(output.status.success(), "{}", show(output));
    }
    let shown = repository.json(&["show", run]);
    assert_eq!(shown["tasks"].as_array().unwrap().len(), RACERS);
    assert_eq!(shown["run"]["task_summary"]["total"], RACERS);
    let count = repository.git(&["rev-list", "--count", &format!("refs/tether/runs/{run}")]);
    assert_eq!(count, (RACERS + 1).to_string(), "one transition, one commit");
}

#[test]
fn of_tasks_that_are_added_together_none_is_lost() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    add_together(&repository, "r");
    repository.assert_sound();
}

#[test]
fn of_racing_starts_of_one_task_one_wins() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    for round in 0..rounds().div_ceil(4) {
        let task = format!("r/t{round}");
        repository.answer(&["task", "add", &task]);
        let outputs = race(&repository, |_| words(&format!("task start {task} --json")));
        let won = outputs.iter().filter(|output| output.status.success()).count();
        assert_eq!(won, 1, "{}", outputs.iter().map(show).collect::<String>());
        for lost in outputs.iter().filter(|output| !output.status.success()) {
            let error = parsed(lost);
            assert_eq!(error["schema"], "tether.error/1", "{}", show(lost));
            let said = error["error"]["message"].as_str().unwrap();
            assert!(said.contains("running"), "{said}");
        }
        let shown = repository.json(&["task", "show", &task]);
        assert_eq!((&shown["task"]["state"], &shown["task"]["attempts"]), (&"running".into(), &1.into()));
        let winner = outputs.iter().find(|output| output.status.success()).map(parsed).unwrap();
        assert_eq!(shown["task"]["session"], winner["task"]["session"]);
    }
}

#[test]
fn of_workers_that_take_the_next_task_each_gets_another_one() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    add_together(&repository, "r");
    let outputs = race(&repository, |_| words("task next r --json"));
    let taken: std::collections::BTreeSet<String> =
        outputs.iter().map(|output| parsed(output)["task"]["id"].to_string()).collect();
    assert_eq!(taken.len(), RACERS, "{}", outputs.iter().map(show).collect::<String>());
    assert_eq!(repository.tether(&["task", "next", "r"]).status.code(), Some(75));
}

#[test]
fn a_pool_is_never_over_its_limit() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["pool", "set", "codex", "--max", "3"]);
    for number in 0..RACERS {
        repository.answer(&["task", "add", &format!("r/t{number}"), "--pool", "codex"]);
    }
    let outputs = race(&repository, |number| words(&format!("task start r/t{number} --json")));
    let started = outputs.iter().filter(|output| output.status.success()).count();
    assert_eq!(started, 3, "{}", outputs.iter().map(show).collect::<String>());
    for refused in outputs.iter().filter(|output| !output.status.success()) {
        assert_eq!(refused.status.code(), Some(75), "{}", show(refused));
        assert_eq!(parsed(refused)["error"]["code"], "pool_full");
    }
    assert_eq!(repository.json(&["pool", "show", "codex"])["pool"]["running"].as_array().unwrap().len(), 3);
}
