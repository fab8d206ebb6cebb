//! Restoring the executor of a run: what it is told, what comes back, and what is never touched.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use serde_json::{Value, json};
use support::Repository;

fn with_run() -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository
}

#[test]
fn an_executor_goes_on_from_where_it_was() {
    let repository = with_run();
    repository.answer(&["task", "add", "r/a"]);
    repository.answer(&["activity", "r", "--spawned", "a", "--waiting-on", "a", "--phase", "build", "--error", "boom"]);
    repository.answer(&["activity", "r", "--progress", "40", "--message", r#"{"role": "user", "text": "hi"}"#]);
    let asked = repository.ok_json(&["ask", "r", "--prompt", "Go on?", "--id", "g"])["gate"].clone();
    let before = repository.ok_json(&["show", "r"]);

    let restored = repository.ok_json(&["restore", "r", "--source", "restart"]);
    let told = &restored["restoration"];
    assert_eq!((&told["outcome"], &told["previous_state"]), (&json!("continued"), &json!("waiting_for_user")));
    assert_eq!((&told["spawned_tasks"], &told["waiting_on"]), (&json!(["a"]), &json!(["a"])));
    assert_eq!((&told["checkpoint"], &told["warnings"]), (&json!(null), &json!([])));
    assert_eq!(told["pending_questions"], restored["gates"]);
    let run = &restored["run"];
    assert_eq!((&run["activity"]["state"], &run["activity"]["error"]), (&json!("initializing"), &json!(null)));
    assert_eq!((&run["activity"]["progress"], &run["activity"]["phase"]), (&json!(40), &json!("build")));
    assert_eq!((&run["messages"], &restored["tasks"]), (&before["run"]["messages"], &before["tasks"]));
    assert_eq!((&run["restoration"]["count"], &run["restoration"]["source"]), (&json!(1), &json!("restart")));
    assert!(run["restoration"]["last_at"].is_string());
    let mut again = asked;
    again["redelivered"] = json!(1);
    assert_eq!(restored["gates"], json!([again]), "same gate, same id, asked when it was asked");

    let notice = told["notice"].as_str().unwrap();
    assert_eq!(repository.answer(&["show", "r", "--restoration"]), notice);
    assert_eq!(repository.ok_json(&["show", "r", "--restoration"]), restored);
    repository.answer(&["answer", "r/g", "yes"]);
    assert_eq!(repository.ok_json(&["show", "r", "--restoration"])["restoration"], *told, "it is told again as it was");

    let second = repository.ok_json(&["restore", "r"]);
    assert_eq!(second["run"]["restoration"]["count"], 2);
    assert_eq!(second["run"]["restoration"]["source"], "manual");
    assert_eq!(second["gates"][0]["redelivered"], 1, "what is answered is not delivered again");
}

#[test]
fn a_run_that_was_never_restored_says_so() {
    let repository = with_run();
    assert_eq!(repository.ok_json(&["show", "r", "--restoration"])["restoration"], json!(null));
    assert_eq!(repository.error(128, &["show", "x", "--restoration"]), "unknown_run");
    repository.exits(129, &["restore", "r", "--source", "nonsense"]);
}

#[test]
fn an_unknown_run_is_started_fresh_with_a_warning() {
    let repository = Repository::new();
    repository.answer(&["start", "release"]);
    let restored = repository.ok_json(&["restore", "relaese", "--source", "restart"]);
    let told = &restored["restoration"];
    assert_eq!((&told["outcome"], &told["previous_state"]), (&json!("fresh"), &json!(null)));
    assert!(told["warnings"][0].as_str().unwrap().contains("did you mean release?"), "{told}");
    assert_eq!((&restored["run"]["restoration"]["count"], &restored["run"]["status"]), (&json!(0), &json!("draft")));
    assert_eq!(repository.ok_json(&["show", "relaese", "--restoration"]), restored);
    assert_eq!(repository.ok_json(&["restore", "relaese"])["restoration"]["outcome"], "continued");
}

#[test]
fn a_torn_record_is_not_no_record() {
    let repository = with_run();
    repository.git(&["update-ref", "refs/tether/runs/r", "HEAD"]);
    assert_eq!(repository.error(128, &["restore", "r"]), "torn_record");
    assert_eq!(repository.git(&["rev-parse", "refs/tether/runs/r"]), repository.git(&["rev-parse", "HEAD"]));
    std::fs::write(repository.path.join(".git/refs/tether/runs/r"), "").unwrap();
    repository.exits(128, &["restore", "r"]);
    repository.exits(128, &["show", "r"]);
}

#[test]
fn a_spawned_task_that_nothing_knows_brings_the_executor_back_to_where_all_were_known() {
    let repository = with_run();
    repository.answer(&["task", "add", "r/a"]);
    repository.answer(&[
        "activity",
        "r",
        "--state",
        "working",
        "--spawned",
        "a",
        "--waiting-on",
        "a",
        "--phase",
        "one",
    ]);
    repository.answer(&["activity", "r", "--message", r#"{"role": "user", "text": "kept"}"#]);
    let whole = repository.git(&["rev-parse", "refs/tether/runs/r"]);
    repository.answer(&["activity", "r", "--spawned", "ghost", "--waiting-on", "ghost", "--phase", "two"]);
    repository.answer(&["activity", "r", "--message", r#"{"role": "user", "text": "rolled back"}"#]);
    repository.answer(&["task", "add", "r/later"]);
    repository.answer(&["task", "start", "r/later"]);
    repository.answer(&["ask", "r", "--prompt", "?", "--id", "g"]);
    let before = repository.ok_json(&["show", "r"]);
    let length = repository.git(&["rev-list", "--count", "refs/tether/runs/r"]).parse::<u32>().unwrap();

    let restored = repository.ok_json(&["restore", "r", "--source", "reassignment"]);
    let told = &restored["restoration"];
    assert_eq!((&told["outcome"], &told["checkpoint"]), (&json!("from_checkpoint"), &json!(whole)));
    assert_eq!(told["warnings"], json!(["spawned task ghost has no record"]));
    let run = &restored["run"];
    assert_eq!((&run["spawned_tasks"], &run["waiting_on"]), (&json!(["a"]), &json!(["a"])));
    assert_eq!((&run["activity"]["phase"], &run["activity"]["state"]), (&json!("one"), &json!("initializing")));
    assert_eq!(run["messages"].as_array().unwrap().len(), 1);
    assert_eq!(run["messages"][0]["text"], "kept");
    assert_eq!(restored["tasks"], before["tasks"], "no task is rolled back");
    assert_eq!((&run["status"], &run["task_summary"]), (&before["run"]["status"], &before["run"]["task_summary"]));
    assert_eq!(restored["gates"][0]["redelivered"], 1);
    assert_eq!(restored["run"]["restoration"]["count"], 1);
    let now = repository.git(&["rev-list", "--count", "refs/tether/runs/r"]).parse::<u32>().unwrap();
    assert_eq!(now, length + 1, "it is one new commit");
    repository.git(&["merge-base", "--is-ancestor", &whole, "refs/tether/runs/r"]);
    assert_eq!(repository.ok_json(&["restore", "r"])["restoration"]["outcome"], "continued");
}

#[test]
fn tasks_of_other_runs_are_known_if_that_run_has_them() {
    let repository = with_run();
    repository.answer(&["start", "kid", "--parent", "r"]);
    repository.answer(&["task", "add", "kid/b"]);
    repository.answer(&["activity", "r", "--spawned", "kid/b", "--spawned", "r/own"]);
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["spawned_tasks"], json!(["kid/b", "own"]));
    assert_eq!(repository.ok_json(&["restore", "r"])["restoration"]["outcome"], "from_checkpoint");
    repository.answer(&["activity", "r", "--spawned", "kid/b"]);
    assert_eq!(repository.ok_json(&["restore", "r"])["restoration"]["outcome"], "continued");
    repository.answer(&["activity", "r", "--spawned", "kid/nope"]);
    let told = repository.ok_json(&["restore", "r"]);
    assert_eq!(told["restoration"]["outcome"], "from_checkpoint");
    assert_eq!(told["run"]["spawned_tasks"], json!(["kid/b"]));
    repository.answer(&["activity", "r", "--spawned", "nobody/x"]);
    assert_eq!(repository.ok_json(&["restore", "r"])["restoration"]["outcome"], "from_checkpoint");
}

/// A run with so many questions that were asked on the first of January.
fn with_old_questions(number: usize) -> Repository {
    let repository = with_run();
    for question in 0..number {
        let id = format!("q{question}");
        repository.json_at("2026-01-01T00:00:00Z", 0, &["ask", "r", "--prompt", "?", "--id", &id]);
    }
    repository
}

#[test]
fn old_questions_are_warned_of_and_more_than_three_need_a_person() {
    let repository = with_old_questions(3);
    let young = repository.json_at("2026-01-02T00:00:00Z", 0, &["restore", "r"]);
    assert_eq!(young["restoration"]["warnings"], json!([]));
    let old = repository.json_at("2026-01-02T00:00:01Z", 0, &["restore", "r"]);
    assert_eq!(old["restoration"]["outcome"], "continued");
    assert_eq!(old["restoration"]["warnings"].as_array().unwrap().len(), 3);

    let repository = with_old_questions(4);
    let old = repository.json_at("2026-01-02T00:00:01Z", 1, &["restore", "r"]);
    assert_eq!(old["restoration"]["outcome"], "manual_intervention");
    assert_eq!((&old["run"]["requires_attention"], &old["run"]["restoration"]["count"]), (&json!(true), &json!(1)));
    assert_eq!(old["run"]["activity"]["state"], "initializing", "it is restored all the same");
    assert!(old["gates"].as_array().unwrap().iter().all(|gate| gate["redelivered"] == 1));
    assert!(old["gates"].as_array().unwrap().iter().all(|gate| gate["asked_at"] == "2026-01-01T00:00:00Z"));

    repository.answer(&["activity", "r", "--spawned", "ghost"]);
    let lost = repository.json_at("2026-01-02T00:00:01Z", 0, &["restore", "r"]);
    assert_eq!(lost["restoration"]["outcome"], "from_checkpoint", "a lost task decides first");
}

#[test]
fn no_session_is_touched() {
    let repository = with_run();
    let mut owner = repository.command("sleep").args(["600"]).spawn().unwrap();
    let pid = owner.id().to_string();
    repository.answer(&["session", "reserve", "main", "--id", "s", "--pid", &pid]);
    repository.answer(&["task", "add", "r/t"]);
    repository.answer(&["task", "start", "r/t", "--session", "s"]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    let others = |repository: &Repository| -> Vec<String> {
        repository.refs().lines().filter(|line| !line.ends_with("runs/r")).map(ToOwned::to_owned).collect()
    };
    let before = others(&repository);
    let restored = repository.ok_json(&["restore", "r"]);
    assert_eq!((others(&repository), &restored["tasks"][0]["state"]), (before, &json!("running")));
}

#[test]
fn racing_restorations_are_each_counted() {
    let repository = with_run();
    repository.answer(&["ask", "r", "--prompt", "?", "--id", "g"]);
    let racers: Vec<_> = (0..8).map(|_| repository.spawn(&["restore", "r"])).collect();
    for racer in racers {
        assert!(racer.wait_with_output().unwrap().status.success());
    }
    let shown = repository.ok_json(&["show", "r"]);
    assert_eq!((&shown["run"]["restoration"]["count"], &shown["gates"][0]["redelivered"]), (&json!(8), &json!(8)));
    let fresh: Vec<_> = (0..8).map(|_| repository.spawn(&["restore", "new", "--json"])).collect();
    let outcomes: Vec<Value> = fresh
        .into_iter()
        .map(|racer| {
            let output = racer.wait_with_output().unwrap();
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
            serde_json::from_slice::<Value>(&output.stdout).unwrap()["restoration"]["outcome"].clone()
        })
        .collect();
    assert_eq!(outcomes.iter().filter(|outcome| **outcome == "fresh").count(), 1, "{outcomes:?}");
}
