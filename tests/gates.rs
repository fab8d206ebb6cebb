//! Gates: questions and approvals, what they hold back, and decisions that are taken once.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::time::{Duration, Instant};

use serde_json::json;
use support::Repository;

fn task_state(repository: &Repository, task: &str) -> String {
    repository.ok_json(&["task", "show", task])["task"]["state"].as_str().unwrap().to_owned()
}

#[test]
fn a_question_is_answered_once_and_the_same_answer_changes_nothing() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    let asked =
        repository.ok_json(&["ask", "r", "--prompt", "Go on?", "--id", "g", "--choice", "yes", "--choice", "no"]);
    assert_eq!(asked["gate"]["state"], "pending");
    assert_eq!(asked["gate"]["question_type"], "general");
    let shown = repository.ok_json(&["show", "r"]);
    assert_eq!(shown["run"]["activity"]["state"], "waiting_for_user");
    assert_eq!(shown["run"]["requires_attention"], true);

    assert_eq!(repository.error(129, &["answer", "r/g", "maybe"]), "not_offered");
    let said = repository.tether(&["answer", "r/g", "maybe"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("yes, no"), "the choices are named");
    assert_eq!(repository.error(128, &["approve", "r/g"]), "wrong_decision");

    let answered = repository.ok_json(&["answer", "r/g", "yes", "--token", "k"]);
    assert_eq!(answered["gate"]["state"], "answered");
    assert_eq!(answered["gate"]["decision"]["answer"], "yes");
    assert_eq!(answered["gate"]["decision"]["action"], "answer");
    assert_eq!(answered["gate"]["decision"]["actor"], "Ada <ada@example.com>");
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["activity"]["state"], "working");

    let refs = repository.refs();
    assert_eq!(repository.ok_json(&["answer", "r/g", "yes", "--token", "other"]), answered);
    assert_eq!(repository.error(128, &["answer", "r/g", "no"]), "already_decided");
    assert_eq!(repository.error(128, &["abort", "r/g"]), "already_decided");
    assert_eq!(repository.refs(), refs);
}

#[test]
fn only_the_answer_to_the_last_question_sets_the_executor_to_work() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["ask", "r", "--prompt", "1?", "--id", "a"]);
    repository.answer(&["ask", "r", "--prompt", "2?", "--id", "b"]);
    repository.answer(&["answer", "r/a", "x"]);
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["activity"]["state"], "waiting_for_user");
    repository.answer(&["answer", "r/b", "-x"]);
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["activity"]["state"], "working");
}

#[test]
fn what_is_unknown_or_exists_is_named_and_changes_nothing() {
    let repository = Repository::new();
    repository.answer(&["start", "release"]);
    repository.answer(&["task", "add", "release/build"]);
    repository.answer(&["ask", "release", "--prompt", "?", "--id", "deploy"]);
    let refs = repository.refs();
    let near = repository.json_of(128, &["approve", "release/deplo"]);
    assert_eq!(near["error"]["code"], "unknown_gate");
    assert_eq!(near["error"]["hints"], json!(["did you mean deploy?"]));
    assert_eq!(repository.error(128, &["answer", "releas/deploy", "x"]), "unknown_run");
    let near = repository.json_of(128, &["ask", "release/buil", "--prompt", "?"]);
    assert_eq!(near["error"]["code"], "unknown_task");
    assert_eq!(near["error"]["hints"], json!(["did you mean build?"]));
    assert_eq!(repository.error(128, &["ask", "release", "--prompt", "?", "--id", "deploy"]), "gate_exists");
    repository.exits(129, &["ask", "release", "--prompt", "?", "--id", "Deploy"]);
    repository.exits(129, &["ask", "release", "--prompt", "?", "--for", "1s"]);
    repository.exits(129, &["approve", "release"]);
    assert_eq!(repository.refs(), refs);
}

#[test]
fn a_waiting_question_prints_its_answer() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    let waiting = repository.spawn(&["ask", "r", "--prompt", "Which?", "--id", "g", "--wait", "--for", "1m"]);
    let begun = Instant::now();
    while repository.ok_json(&["waiting"])["waiting"].as_array().unwrap().is_empty() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the question was never asked");
    }
    repository.answer(&["answer", "r/g", "the second"]);
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8_lossy(&output.stdout).as_ref()), (Some(0), "the second\n"));
}

#[test]
fn a_question_that_nobody_answers_in_time_expires() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    assert_eq!(repository.exits(75, &["ask", "r", "--prompt", "?", "--id", "g", "--wait", "--for", "1s"]), "");
    let gate = repository.ok_json(&["show", "r"])["gates"][0].clone();
    assert_eq!((&gate["state"], &gate["decision"]), (&json!("expired"), &json!(null)));
    assert_eq!(repository.error(128, &["answer", "r/g", "late"]), "already_decided");
    let late = repository.json_of(75, &["ask", "r", "--prompt", "?", "--wait", "--for", "0s"]);
    assert_eq!(late["gate"]["state"], "expired");
}

#[test]
fn an_abort_wakes_who_waits() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    let waiting = repository.spawn(&["ask", "r", "--prompt", "?", "--id", "g", "--wait"]);
    let begun = Instant::now();
    while !repository.tether(&["abort", "r/g"]).status.success() {
        assert!(begun.elapsed() < Duration::from_secs(20), "the question was never asked");
    }
    let output = waiting.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.stdout.len()), (Some(128), 0));
}

#[test]
fn requirements_open_their_gates_before_and_after_the_work() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    let added = repository.ok_json(&["task", "add", "r/t", "--require", "approval,review,test"]);
    assert_eq!(added["task"]["state"], "pending_approval");
    assert_eq!(repository.error(128, &["task", "start", "r/t"]), "gate_pending");
    let gate = |key: &str| {
        let waiting = repository.ok_json(&["waiting"]);
        let gates = waiting["waiting"].as_array().unwrap().clone();
        assert_eq!(gates.len(), usize::from(key != "none"), "{gates:?}");
        gates.first().map(|gate| {
            assert_eq!((&gate["key"], &gate["kind"]), (&json!(key), &json!("approval")));
            format!("r/{}", gate["id"].as_str().unwrap())
        })
    };
    repository.answer(&["approve", &gate("approval").unwrap()]);
    assert_eq!(task_state(&repository, "r/t"), "queued");
    repository.answer(&["task", "start", "r/t"]);
    assert_eq!(repository.ok_json(&["task", "done", "r/t"])["task"]["state"], "review_pending");
    let waiting = repository.ok_json(&["waiting"]);
    let ids: Vec<_> = waiting["waiting"].as_array().unwrap().iter().map(|gate| gate["key"].clone()).collect();
    assert_eq!(ids, [json!("review"), json!("test")]);
    repository.answer(&["approve", "r/review-t"]);
    assert_eq!(task_state(&repository, "r/t"), "test_pending");
    repository.answer(&["approve", "r/test-t"]);
    assert_eq!(task_state(&repository, "r/t"), "completed");
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["status"], "completed");
    gate("none");
    assert!(repository.git(&["show", "refs/tether/runs/r:report.md"]).contains("| status | completed |"));
}

#[test]
fn a_gate_opened_by_hand_holds_a_task_back_where_it_is() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    for task in ["r/waits", "r/runs"] {
        repository.answer(&["task", "add", task]);
    }
    repository.answer(&["gate", "open", "r/waits", "--key", "deploy", "--id", "w"]);
    assert_eq!(task_state(&repository, "r/waits"), "pending_approval");
    assert_eq!(repository.error(128, &["task", "start", "r/waits"]), "gate_pending");
    assert_eq!(repository.ok_json(&["task", "next"])["task"]["id"], "runs");
    repository.answer(&["gate", "open", "r/runs", "--key", "review", "--id", "h"]);
    assert_eq!(task_state(&repository, "r/runs"), "running");
    assert_eq!(repository.ok_json(&["task", "done", "r/runs"])["task"]["state"], "review_pending");
    repository.answer(&["approve", "r/h"]);
    assert_eq!(task_state(&repository, "r/runs"), "completed");
    repository.answer(&["approve", "r/w"]);
    assert_eq!(repository.ok_json(&["task", "next"])["task"]["id"], "waits");
}

#[test]
fn a_rejected_approval_fails_its_task_and_lets_go_of_what_it_held() {
    let repository = Repository::new();
    repository.answer(&["pool", "set", "codex", "--max", "1"]);
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t", "--agent", "codex"]);
    repository.answer(&["task", "start", "r/t"]);
    repository.answer(&["gate", "open", "r/t", "--key", "deploy", "--id", "g"]);
    repository.answer(&["ask", "r/t", "--prompt", "?", "--id", "q"]);
    let rejected = repository.ok_json(&["reject", "r/g", "--note", "not now"]);
    assert_eq!(rejected["gate"]["decision"]["note"], "not now");
    let shown = repository.ok_json(&["show", "r"]);
    assert_eq!((&shown["tasks"][0]["state"], &shown["run"]["status"]), (&json!("failed"), &json!("failed")));
    assert_eq!(shown["gates"][1]["state"], "expired", "nobody asks about a task that has ended");
    assert_eq!(repository.ok_json(&["pool", "show", "codex"])["pool"]["running"], json!([]));
    assert!(repository.ok_json(&["claim", "list"])["claims"][0]["released_at"].is_string());
    repository.git(&["show", "refs/tether/runs/r:report.md"]);
}

#[test]
fn an_abort_cancels_the_run_and_a_replay_repairs_a_missing_report() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/open"]);
    repository.answer(&["session", "reserve", "main", "--id", "s"]);
    repository.answer(&["task", "add", "r/runs"]);
    repository.answer(&["task", "start", "r/runs", "--session", "s"]);
    repository.answer(&["ask", "r", "--prompt", "?", "--id", "q"]);
    repository.answer(&["gate", "open", "r", "--key", "deploy", "--id", "g"]);
    repository.answer(&["abort", "r/g"]);
    let shown = repository.ok_json(&["show", "r"]);
    assert_eq!(shown["run"]["status"], "cancelled");
    assert!(shown["tasks"].as_array().unwrap().iter().all(|task| task["state"] == "cancelled"));
    assert_eq!((&shown["gates"][0]["state"], &shown["gates"][1]["state"]), (&json!("aborted"), &json!("expired")));
    assert_eq!(repository.ok_json(&["session", "show", "s"])["session"]["status"], "active");

    let without_report = repository.git(&["commit-tree", "-p", "refs/tether/runs/r", "-m", "lose the report", &{
        let listed = repository.git(&["ls-tree", "refs/tether/runs/r"]);
        let kept: Vec<&str> = listed.lines().filter(|line| !line.ends_with("report.md")).collect();
        std::fs::write(repository.root.path().join("tree"), kept.join("\n") + "\n").unwrap();
        let made = repository
            .command("git")
            .args(["mktree"])
            .stdin(std::fs::File::open(repository.root.path().join("tree")).unwrap())
            .output()
            .unwrap();
        String::from_utf8(made.stdout).unwrap().trim().to_owned()
    }]);
    repository.git(&["update-ref", "refs/tether/runs/r", &without_report]);
    let others = |repository: &Repository| {
        repository.refs().lines().filter(|line| !line.ends_with("runs/r")).collect::<Vec<_>>().join("\n")
    };
    let (before, gate) = (others(&repository), repository.ok_json(&["show", "r"])["gates"][0].clone());
    repository.answer(&["abort", "r/g", "--token", "again"]);
    assert!(repository.git(&["show", "refs/tether/runs/r:report.md"]).contains("| status | cancelled |"));
    assert_eq!(others(&repository), before, "no session is touched");
    assert_eq!(repository.ok_json(&["show", "r"])["gates"][0], gate, "nor the decision");
}

#[test]
fn what_waits_is_listed_for_all_runs_whatever_state_one_is_in() {
    let repository = Repository::new();
    repository.exits(0, &["waiting", "--exit-code"]);
    for run in ["a", "b", "c"] {
        repository.answer(&["start", run]);
    }
    repository.answer(&["ask", "b", "--prompt", "?", "--id", "q"]);
    repository.answer(&["gate", "open", "a", "--key", "deploy", "--id", "g"]);
    repository.answer(&["ask", "c", "--prompt", "?", "--id", "q"]);
    repository.git(&["update-ref", "refs/tether/runs/c", "HEAD"]);
    let listed = repository.json_of(1, &["waiting", "--exit-code"]);
    let ids: Vec<String> =
        listed["waiting"].as_array().unwrap().iter().map(|gate| format!("{}/{}", gate["run"], gate["id"])).collect();
    assert_eq!(ids, ["\"b\"/\"q\"", "\"a\"/\"g\""], "oldest first; the unreadable run hides none");
    let said = repository.tether(&["waiting"]);
    assert!(String::from_utf8_lossy(&said.stderr).contains("run c cannot be read"));
    repository.answer(&["finish", "a"]);
    repository.answer(&["answer", "b/q", "x"]);
    repository.exits(0, &["waiting", "--exit-code"]);
}

#[test]
fn of_sixteen_racing_decisions_one_is_taken() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["ask", "r", "--prompt", "?", "--id", "g"]);
    let answers: Vec<String> = (0..16).map(|number| format!("answer {number}")).collect();
    let racers: Vec<_> = answers.iter().map(|answer| repository.spawn(&["answer", "r/g", answer])).collect();
    let codes: Vec<_> = racers.into_iter().map(|racer| racer.wait_with_output().unwrap().status.code()).collect();
    assert_eq!(codes.iter().filter(|code| **code == Some(0)).count(), 1, "{codes:?}");
    assert_eq!(codes.iter().filter(|code| **code == Some(128)).count(), 15, "{codes:?}");
    let winner = codes.iter().position(|code| *code == Some(0)).unwrap();
    let decision = repository.ok_json(&["show", "r"])["gates"][0]["decision"].clone();
    assert_eq!(decision["answer"], json!(answers[winner]));
}

#[test]
fn a_run_that_needs_recovery_goes_on_when_approved_and_fails_its_task_when_rejected() {
    for (decision, status) in [("approve", "running"), ("reject", "failed")] {
        let repository = Repository::new();
        repository.answer(&["start", "r"]);
        repository.answer(&["task", "add", "r/t"]);
        repository.answer(&["pause", "r"]);
        repository.answer(&["gate", "open", "r/t", "--key", "recovery_required", "--id", "g"]);
        assert_eq!(repository.error(128, &["task", "start", "r/t"]), "run_paused");
        repository.answer(&[decision, "r/g"]);
        let run = repository.ok_json(&["show", "r"])["run"].clone();
        assert_eq!((&run["status"], &run["paused_from"]), (&json!(status), &json!("running")));
    }
}
