//! Pools and the queue: limits that hold between racing processes, back-off and retries that outlive them.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeSet;
use std::process::Output;
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use support::Repository;

const RACERS: usize = 16;

/// A run with so many tasks of the pool `codex`.
fn with_tasks(number: usize) -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    for task in 0..number {
        repository.answer(&["task", "add", &format!("r/t{task:02}"), "--agent", "codex:gpt-5.4"]);
    }
    repository
}

fn pool(repository: &Repository) -> Value {
    repository.ok_json(&["pool", "show", "codex"])["pool"].clone()
}

fn running(repository: &Repository) -> BTreeSet<String> {
    let tasks = repository.ok_json(&["task", "list", "--state", "running"]);
    tasks["tasks"].as_array().unwrap().iter().map(|task| task["id"].as_str().unwrap().to_owned()).collect()
}

fn slots(repository: &Repository) -> BTreeSet<String> {
    let pool = pool(repository);
    pool["running"].as_array().unwrap().iter().map(|slot| slot["task"].as_str().unwrap().to_owned()).collect()
}

/// Lets so many processes do the same at once.
fn race(repository: &Repository, calls: &[Vec<String>]) -> Vec<Output> {
    let racers: Vec<_> =
        calls.iter().map(|call| repository.spawn(&call.iter().map(String::as_str).collect::<Vec<_>>())).collect();
    racers.into_iter().map(|racer| racer.wait_with_output().unwrap()).collect()
}

fn codes(outputs: &[Output]) -> Vec<i32> {
    outputs.iter().map(|output| output.status.code().unwrap()).collect()
}

fn words(call: &str) -> Vec<String> {
    call.split(' ').map(ToOwned::to_owned).collect()
}

#[test]
fn sixteen_starters_never_exceed_the_limit() {
    let repository = with_tasks(RACERS);
    repository.answer(&["pool", "set", "codex", "--max", "3"]);
    let calls: Vec<_> = (0..RACERS).map(|task| words(&format!("task start r/t{task:02} --json"))).collect();
    let outputs = race(&repository, &calls);
    let codes = codes(&outputs);
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 3, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == 75).count(), RACERS - 3, "{codes:?}");
    for output in outputs.iter().filter(|output| !output.status.success()) {
        let error: Value = serde_json::from_slice(&output.stdout).unwrap();
        assert_eq!(error["error"]["code"], "pool_full");
    }
    assert_eq!((running(&repository).len(), slots(&repository)), (3, running(&repository)));
    let sessions = repository.ok_json(&["session", "list", "--all"]);
    assert_eq!(sessions["sessions"].as_array().unwrap().len(), 3, "a refused start leaves no session behind");
}

#[test]
fn sixteen_starters_of_one_task_start_it_once_and_keep_its_place() {
    let repository = with_tasks(1);
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    for round in 1..=3 {
        let calls: Vec<_> = (0..RACERS).map(|_| words("task start r/t00")).collect();
        let codes = codes(&race(&repository, &calls));
        assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
        let task = repository.ok_json(&["task", "show", "r/t00"])["task"].clone();
        assert_eq!(task["attempts"], round);
        assert_eq!(pool(&repository)["running"], json!([{"run": "r", "task": "t00", "session": task["session"]}]));
        repository.answer(&["task", "block", "r/t00", "--reason", "again"]);
        assert_eq!(pool(&repository)["running"], json!([]));
        repository.answer(&["task", "unblock", "r/t00"]);
    }
    let sessions = repository.ok_json(&["session", "list", "--active"]);
    assert_eq!(sessions["sessions"], json!([]), "sessions made up for a task end with its run");
}

#[test]
fn sixteen_workers_get_sixteen_tasks_in_order() {
    let repository = with_tasks(RACERS + 2);
    repository.answer(&["task", "add", "r/urgent", "--agent", "codex", "--priority", "9"]);
    assert_eq!(repository.ok_json(&["task", "next"])["task"]["id"], "urgent", "higher priority first");
    assert_eq!(repository.ok_json(&["task", "next", "r", "--pool", "codex"])["task"]["id"], "t00", "then older");
    assert_eq!(repository.error(75, &["task", "next", "r", "--pool", "other"]), "nothing_ready");
    let outputs = race(&repository, &vec![words("task next --json"); RACERS]);
    let started: Vec<String> = outputs
        .iter()
        .map(|output| {
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            answer["task"]["id"].as_str().unwrap().to_owned()
        })
        .collect();
    let expected: BTreeSet<String> = (1..=RACERS).map(|task| format!("t{task:02}")).collect();
    assert_eq!(started.iter().cloned().collect::<BTreeSet<_>>(), expected);
    assert_eq!(started.len(), RACERS, "each got one of its own");
    assert_eq!(pool(&repository)["queue"], json!(["r/t17"]), "what was started left the queue");
    repository.answer(&["pool", "set", "codex", "--max", "18"]);
    assert_eq!(repository.error(75, &["task", "next"]), "nothing_ready");
    assert_eq!(pool(&repository)["queue"], json!(["r/t17"]), "the limit itself does not count for the queue");
}

#[test]
fn a_start_may_wait_for_a_place() {
    let repository = with_tasks(2);
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    repository.answer(&["task", "start", "r/t00"]);
    let mut waiting = repository.spawn(&["task", "start", "r/t01", "--wait"]);
    std::thread::sleep(Duration::from_millis(600));
    assert!(waiting.try_wait().unwrap().is_none(), "it waits");
    assert_eq!(running(&repository).len(), 1);
    repository.answer(&["task", "done", "r/t00"]);
    let begun = Instant::now();
    assert!(waiting.wait_with_output().unwrap().status.success());
    assert!(begun.elapsed() < Duration::from_secs(10));
    assert_eq!(slots(&repository), BTreeSet::from(["t01".to_owned()]));
}

#[test]
fn a_start_does_not_wait_for_what_will_never_be() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/a"]);
    repository.answer(&["task", "add", "r/b", "--depends-on", "a"]);
    repository.answer(&["task", "cancel", "r/a"]);
    assert_eq!(repository.error(128, &["task", "start", "r/b", "--wait"]), "dependency_ended");
}

#[test]
fn a_refused_start_changes_nothing() {
    let repository = with_tasks(2);
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    repository.answer(&["task", "start", "r/t00"]);
    repository.answer(&["task", "add", "r/held", "--require", "approval"]);
    repository.answer(&["task", "add", "r/later", "--depends-on", "t00"]);
    repository.answer(&["session", "reserve", "main", "--id", "ended"]);
    repository.answer(&["session", "release", "ended"]);
    let refs = repository.refs();
    assert_eq!(repository.error(75, &["task", "start", "r/t01"]), "pool_full");
    assert_eq!(repository.error(75, &["task", "next"]), "nothing_ready");
    assert_eq!(repository.error(128, &["task", "start", "r/t00"]), "illegal_transition");
    assert_eq!(repository.error(128, &["task", "start", "r/held"]), "gate_pending");
    assert_eq!(repository.error(128, &["task", "start", "r/later"]), "dependency_open");
    repository.answer(&["pool", "fail", "codex"]);
    let refs_after_failure = repository.refs();
    assert_eq!(repository.error(75, &["task", "start", "r/t01"]), "pool_backing_off");
    assert_eq!(repository.error(3, &["task", "start", "r/later", "--session", "ended"]), "session_ended");
    assert_eq!(repository.refs(), refs_after_failure);
    let without_pool = |refs: &str| refs.lines().filter(|line| !line.contains("pools")).count();
    assert_eq!(without_pool(&refs), without_pool(&refs_after_failure));
}

#[test]
fn agents_of_one_family_share_a_pool() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/a", "--agent", "codex:gpt-5.4"]);
    repository.answer(&["task", "add", "r/b", "--agent", "codex:gpt-5.4-mini"]);
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    repository.answer(&["task", "start", "r/a"]);
    assert_eq!(repository.error(75, &["task", "start", "r/b"]), "pool_full");
    assert_eq!(repository.ok_json(&["task", "show", "r/b"])["task"]["pool"], "codex");
}

#[test]
fn every_state_but_running_gives_the_place_back() {
    let repository = with_tasks(1);
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    let ends: [&[&str]; 5] = [
        &["task", "block", "r/t00", "--reason", "x"],
        &["task", "done", "r/t00"],
        &["task", "fail", "r/t00"],
        &["task", "cancel", "r/t00"],
        &["cancel", "r"],
    ];
    for end in ends {
        let repository = with_tasks(1);
        repository.answer(&["pool", "set", "codex", "--max", "1"]);
        repository.answer(&["task", "start", "r/t00"]);
        assert_eq!(slots(&repository).len(), 1);
        repository.answer(end);
        assert_eq!(slots(&repository).len(), 0, "{end:?}");
    }
    repository.answer(&["task", "start", "r/t00"]);
    repository.answer(&["gate", "open", "r", "--key", "k", "--id", "g"]);
    repository.answer(&["abort", "r/g"]);
    assert_eq!(slots(&repository).len(), 0);
}

#[test]
fn the_back_off_doubles_outlives_processes_and_is_cleared_by_a_success() {
    let repository = with_tasks(4);
    let at = |minute: u32| format!("2026-01-01T00:{minute:02}:00Z");
    let call = |time: &str, code: i32, arguments: &[&str]| repository.json_at(time, code, arguments);
    call(&at(0), 0, &["task", "start", "r/t00"]);
    call(&at(0), 0, &["task", "fail", "r/t00", "--summary", "limit reached"]);
    assert_eq!(pool(&repository)["backoff_until"], "2026-01-01T00:00:30Z");
    assert_eq!(
        (&pool(&repository)["failures"], &pool(&repository)["last_failure"]),
        (&json!(1), &json!("limit reached"))
    );
    let refused = call("2026-01-01T00:00:29Z", 75, &["task", "start", "r/t01"]);
    assert_eq!(refused["error"]["code"], "pool_backing_off");
    call(&at(1), 0, &["task", "start", "r/t01"]);
    call(&at(1), 0, &["pool", "fail", "codex", "--reason", "again"]);
    assert_eq!(pool(&repository)["backoff_until"], "2026-01-01T00:02:00Z", "60 s");
    call(&at(1), 0, &["task", "block", "r/t01", "--reason", "no failure"]);
    assert_eq!(pool(&repository)["failures"], 2);
    call(&at(3), 0, &["task", "start", "r/t02"]);
    call(&at(3), 0, &["task", "done", "r/t02"]);
    let cleared = pool(&repository);
    assert_eq!((&cleared["failures"], &cleared["backoff_until"]), (&json!(0), &json!(null)));
    for expected in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
        let failed = call(&at(4), 0, &["pool", "fail", "codex"])["pool"]["backoff_until"].clone();
        let hour = 4 * 60 + expected;
        assert_eq!(failed, json!(format!("2026-01-01T{:02}:{:02}:{:02}Z", hour / 3_600, hour % 3_600 / 60, hour % 60)));
    }
    call(&at(4), 0, &["pool", "clear", "codex"]);
    assert_eq!(pool(&repository)["failures"], 0);
}

#[test]
fn an_interruption_frees_the_place_and_is_no_failure() {
    let repository = with_tasks(1);
    let mut owner = repository.command("sleep").args(["600"]).spawn().unwrap();
    repository.answer(&["session", "reserve", "main", "--id", "s", "--pid", &owner.id().to_string()]);
    repository.answer(&["task", "start", "r/t00", "--session", "s"]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    repository.tether(&["recover"]);
    let pool = pool(&repository);
    assert_eq!((&pool["running"], &pool["failures"]), (&json!([]), &json!(0)));
}

#[test]
fn a_place_whose_starter_died_between_its_two_swaps_is_found_by_recovery() {
    let repository = with_tasks(1);
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    let mut owner = repository.command("sleep").args(["600"]).spawn().unwrap();
    repository.answer(&["session", "reserve", "main", "--id", "s", "--pid", &owner.id().to_string()]);
    let before = repository.git(&["rev-parse", "refs/tether/runs/r"]);
    repository.answer(&["task", "start", "r/t00", "--session", "s"]);
    repository.git(&["update-ref", "refs/tether/runs/r", &before]);
    repository.tether(&["recover"]);
    assert_eq!(slots(&repository).len(), 1, "its starter lives: it may be about to start the task");
    owner.kill().unwrap();
    owner.wait().unwrap();
    repository.tether(&["recover"]);
    assert_eq!(slots(&repository).len(), 0);
    repository.answer(&["task", "start", "r/t00"]);
}

#[test]
fn a_failed_task_is_tried_again_after_its_pause_so_often_and_no_more() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t", "--retries", "2", "--retry-backoff", "1m"]);
    let at = |minute: u32| format!("2030-01-01T00:{minute:02}:00Z");
    for (minute, state) in [(0, "queued"), (1, "queued"), (2, "failed")] {
        repository.json_at(&at(minute), 0, &["task", "start", "r/t"]);
        let failed = repository.json_at(&at(minute), 0, &["task", "fail", "r/t"])["task"].clone();
        assert_eq!(failed["state"], state);
        if state == "queued" {
            assert_eq!(failed["retry"]["not_before"], json!(at(minute + 1)));
            let refused = repository.json_at("2030-01-01T00:00:30Z", 75, &["task", "start", "r/t"]);
            assert_eq!(refused["error"]["code"], "task_backing_off");
            let next = repository.json_at("2030-01-01T00:00:30Z", 75, &["task", "next"]);
            assert_eq!(next["error"]["code"], "nothing_ready");
        }
    }
    let run = repository.ok_json(&["show", "r"]);
    assert_eq!((&run["run"]["status"], &run["tasks"][0]["attempts"]), (&json!("failed"), &json!(3)));
}

#[test]
fn a_success_that_was_reviewed_clears_the_back_off() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t", "--pool", "p", "--require", "review"]);
    repository.answer(&["task", "start", "r/t"]);
    repository.answer(&["task", "done", "r/t"]);
    repository.answer(&["pool", "fail", "p"]);
    repository.answer(&["approve", "r/review-t"]);
    assert_eq!(repository.ok_json(&["pool", "show", "p"])["pool"]["failures"], 0);
}

#[test]
fn what_is_not_there_can_be_cleared_and_is_not_shown() {
    let repository = Repository::new();
    repository.answer(&["pool", "clear", "nope"]);
    assert_eq!(repository.refs().lines().filter(|line| line.contains("tether")).count(), 0);
    assert_eq!(repository.error(128, &["pool", "show", "nope"]), "unknown_pool");
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t", "--pool", "p"]);
    assert_eq!(repository.ok_json(&["pool", "show", "p"])["pool"]["queue"], json!(["r/t"]));
    repository.exits(129, &["pool", "set", "p", "--max", "-1"]);
    repository.exits(129, &["pool", "set", "p", "--max", "many"]);
}

#[test]
fn the_queue_holds_what_may_start() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["start", "still"]);
    repository.answer(&["task", "add", "r/a", "--pool", "p"]);
    repository.answer(&["task", "add", "r/b", "--pool", "p", "--depends-on", "a", "--priority", "5"]);
    repository.answer(&["task", "add", "r/c", "--pool", "p", "--require", "approval"]);
    repository.answer(&["task", "add", "still/d", "--pool", "p", "--priority", "9"]);
    let queue = |repository: &Repository| repository.ok_json(&["pool", "show", "p"])["pool"]["queue"].clone();
    assert_eq!(queue(&repository), json!(["still/d", "r/a"]));
    repository.answer(&["pause", "still"]);
    assert_eq!(queue(&repository), json!(["r/a"]));
    repository.answer(&["approve", "r/approval-c"]);
    assert_eq!(queue(&repository), json!(["r/a", "r/c"]));
    repository.answer(&["task", "start", "r/a"]);
    repository.answer(&["task", "done", "r/a"]);
    assert_eq!(queue(&repository), json!(["r/b", "r/c"]));
}
