//! Child runs, what a parent shows of them, what a run's executor says of itself, and the log.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use serde_json::json;
use support::Repository;

#[test]
fn children_inherit_the_policy_and_may_add_to_it() {
    let repository = Repository::new();
    repository.answer(&["start", "top", "--require", "approval,review"]);
    repository.answer(&["task", "add", "top/t"]);
    let kid = repository.ok_json(&["start", "kid", "--parent", "top/t", "--require", "test"]);
    let policy = &kid["run"]["policy"];
    for requirement in ["approval_required", "reviewer_required", "test_required"] {
        assert_eq!(policy[requirement], true, "{requirement}");
    }
    assert_eq!((&kid["run"]["depth"], &kid["run"]["parent"]), (&json!(1), &json!({"run": "top", "task": "t"})));
    assert_eq!(repository.ok_json(&["task", "add", "kid/a"])["task"]["state"], "pending_approval");
    repository.answer(&["approve", "kid/approval-a"]);
    repository.answer(&["task", "start", "kid/a"]);
    assert_eq!(repository.ok_json(&["task", "done", "kid/a"])["task"]["state"], "review_pending");
    repository.answer(&["approve", "kid/review-a"]);
    assert_eq!(repository.ok_json(&["task", "show", "kid/a"])["task"]["state"], "test_pending");
}

#[test]
fn runs_are_nested_so_deep_and_no_deeper() {
    let repository = Repository::new();
    repository.answer(&["start", "d0"]);
    for depth in 1..=3 {
        repository.answer(&["start", &format!("d{depth}"), "--parent", &format!("d{}", depth - 1)]);
    }
    assert_eq!(repository.error(128, &["start", "d4", "--parent", "d3"]), "too_deep");
    assert_eq!(repository.error(128, &["start", "x", "--parent", "nope"]), "unknown_run");
    assert_eq!(repository.error(128, &["start", "x", "--parent", "d0/nope"]), "unknown_task");
    let deeper = repository
        .command("git-tether")
        .args(["start", "d4", "--parent", "d3"])
        .env("GIT_TETHER_MAX_DEPTH", "4")
        .output();
    assert!(deeper.unwrap().status.success());
}

#[test]
fn a_parent_rolls_its_children_up() {
    let repository = Repository::new();
    repository.answer(&["start", "top"]);
    assert_eq!(repository.ok_json(&["show", "top"]).get("children"), None);
    repository.answer(&["start", "kid", "--parent", "top"]);
    repository.answer(&["start", "well", "--parent", "top"]);
    repository.answer(&["start", "grandkid", "--parent", "kid"]);
    repository.answer(&["start", "stranger"]);
    for task in ["grandkid/a", "grandkid/b", "stranger/x", "well/w"] {
        repository.answer(&["task", "add", task]);
    }
    repository.answer(&["task", "block", "grandkid/a", "--reason", "no key"]);
    repository.answer(&["task", "block", "grandkid/b", "--reason", "no key"]);
    repository.answer(&["task", "block", "stranger/x", "--reason", "not ours"]);
    let shown = repository.ok_json(&["show", "top"]);
    let children = shown["children"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!((&children[0]["run"], &children[0]["requires_attention"]), (&json!("kid"), &json!(true)));
    assert_eq!((&children[1]["run"], &children[1]["requires_attention"]), (&json!("well"), &json!(false)));
    assert_eq!(children[1]["task_summary"]["queued"], 1);
    let grandkid = &children[0]["children"][0];
    assert_eq!((&grandkid["status"], &grandkid["task_summary"]["blocked"]), (&json!("blocked"), &json!(2)));
    assert_eq!(grandkid["blocked_reasons"], json!(["no key"]));
    assert_eq!(shown["run"]["requires_attention"], true);
    let words = repository.answer(&["show", "top"]);
    for told in ["child kid: draft", "child grandkid: blocked (2 blocked)", "blocked: no key", "child well: running"] {
        assert!(words.contains(told), "{told} in {words}");
    }
    assert!(!words.contains("not ours"));

    repository.git(&["update-ref", "refs/tether/runs/well", "HEAD"]);
    assert_eq!(repository.ok_json(&["show", "top"])["children"].as_array().unwrap().len(), 1);
}

#[test]
fn a_task_that_ends_is_waited_on_no_more_in_a_child_too() {
    let repository = Repository::new();
    repository.answer(&["start", "top"]);
    repository.answer(&["start", "kid", "--parent", "top"]);
    for task in ["top/a", "top/b", "kid/c", "kid/d", "kid/e"] {
        repository.answer(&["task", "add", task]);
    }
    let waited = |repository: &Repository| repository.ok_json(&["show", "top"])["run"]["waiting_on"].clone();
    repository.answer(&["activity", "top", "--waiting-on", "a", "--waiting-on", "top/b", "--waiting-on", "kid/c"]);
    assert_eq!(waited(&repository), json!(["a", "b", "kid/c"]));
    repository.answer(&["activity", "top", "--waiting-on", "a,b,kid/c,kid/d,kid/e"]);
    repository.answer(&["task", "start", "top/a"]);
    repository.answer(&["task", "done", "top/a"]);
    repository.answer(&["task", "cancel", "top/b"]);
    assert_eq!(waited(&repository), json!(["kid/c", "kid/d", "kid/e"]));
    repository.answer(&["task", "start", "kid/c"]);
    repository.answer(&["task", "fail", "kid/c"]);
    assert_eq!(waited(&repository), json!(["kid/d", "kid/e"]));
    repository.answer(&["gate", "open", "kid/d", "--key", "go", "--id", "g"]);
    repository.answer(&["reject", "kid/g"]);
    assert_eq!(waited(&repository), json!(["kid/e"]));
    repository.answer(&["cancel", "kid"]);
    assert_eq!(waited(&repository), json!([]));
}

#[test]
fn activity_follows_what_happens() {
    let repository = Repository::new();
    let activity = |repository: &Repository| repository.ok_json(&["show", "r"])["run"]["activity"].clone();
    let started = repository.ok_json(&["start", "r"])["run"]["activity"].clone();
    assert_eq!((&started["state"], &started["progress"]), (&json!("initializing"), &json!(0)));

    repository.answer(&["activity", "r", "--state", "idle", "--text", "hm", "--progress", "40", "--error", "boom"]);
    repository.answer(&["activity", "r", "--progress", "100"]);
    let kept = activity(&repository);
    assert_eq!((&kept["state"], &kept["text"], &kept["progress"]), (&json!("idle"), &json!("hm"), &json!(100)));
    assert_eq!(kept["error"], "boom");

    repository.answer(&["activity", "r", "--phase", "build"]);
    assert_eq!(activity(&repository)["state"], "working", "a phase without a state is work");
    repository.answer(&["activity", "r", "--phase", "wait", "--state", "waiting_for_tasks"]);
    assert_eq!(activity(&repository)["state"], "waiting_for_tasks");
    repository.answer(&["task", "add", "r/t"]);
    repository.answer(&["activity", "r", "--spawned", "t"]);
    assert_eq!(activity(&repository)["state"], "working", "so is a task that was spawned");
    repository.answer(&["activity", "r", "--spawned", "t", "--spawned", "u"]);
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["spawned_tasks"], json!(["t", "u"]), "a set");
    repository.answer(&["activity", "r", "--waiting-on", "t"]);
    repository.answer(&["activity", "r", "--waiting-on", "u"]);
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["waiting_on"], json!(["u"]), "replaced");
    repository.answer(&["activity", "r", "--waiting-on", ""]);
    assert_eq!(repository.ok_json(&["show", "r"])["run"]["waiting_on"], json!([]));

    repository.answer(&["ask", "r", "--prompt", "?", "--id", "g"]);
    assert_eq!(activity(&repository)["state"], "waiting_for_user");
    repository.answer(&["answer", "r/g", "x"]);
    assert_eq!(activity(&repository)["state"], "working");
    repository.answer(&["gate", "open", "r", "--key", "k"]);
    assert_eq!(activity(&repository)["state"], "working", "an approval is not asked of the executor's user");

    for refused in ["101", "-1", "1000000000000"] {
        repository.exits(129, &["activity", "r", &format!("--progress={refused}")]);
    }
    for refused in ["{", "[]", r#"{"text": 1}"#] {
        repository.exits(129, &["activity", "r", "--message", refused]);
    }
    let run = repository.ok_json(&["show", "r"])["run"].clone();
    assert_eq!((&run["messages"], &run["activity"]["progress"]), (&json!([]), &json!(100)));
}

#[test]
fn a_dead_executor_that_recover_finds_is_interrupted() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t"]);
    let mut owner = repository.command("sleep").args(["600"]).spawn().unwrap();
    repository.answer(&["session", "reserve", "main", "--id", "s", "--pid", &owner.id().to_string()]);
    repository.answer(&["task", "start", "r/t", "--session", "s"]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    repository.tether(&["recover"]);
    let shown = repository.ok_json(&["show", "r"]);
    assert_eq!(shown["run"]["activity"]["state"], "interrupted");
    assert_eq!(shown["tasks"][0]["state"], "blocked");
    assert_eq!(repository.ok_json(&["session", "show", "s"])["session"]["status"], "abandoned");
}

#[test]
fn the_log_tells_a_run_and_a_task() {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/a"]);
    repository.answer(&["task", "add", "r/b"]);
    repository.answer(&["task", "start", "r/a"]);
    repository.answer(&["task", "block", "r/a", "--reason", "no \u{1b}[31mdisk"]);
    repository.answer(&["activity", "r", "--text", "unrelated"]);
    let log = repository.ok_json(&["log", "r"]);
    let entries = log["log"].as_array().unwrap();
    assert_eq!(log["schema"], "tether.log/1");
    assert_eq!(entries.len().to_string(), repository.git(&["rev-list", "--count", "refs/tether/runs/r"]));
    assert_eq!(entries[0]["commit"], json!(repository.git(&["rev-parse", "refs/tether/runs/r"])));
    assert_eq!(entries.last().unwrap()["event"], "run_started");
    let of_task = repository.ok_json(&["log", "r", "a"]);
    let events: Vec<_> = of_task["log"].as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect();
    assert_eq!(events, [json!("task_blocked"), json!("task_started"), json!("task_added")]);
    assert_eq!(of_task["log"][0]["author"], "Ada <ada@example.com>");
    let words = repository.answer(&["log", "r", "a"]);
    assert!(words.contains("task a: running → blocked") && words.contains("disk"), "{words}");
    assert!(!words.contains('\u{1b}'));
    assert_eq!(repository.error(128, &["log", "nope"]), "unknown_run");
    assert_eq!(repository.error(128, &["log", "r", "nope"]), "unknown_task");
}
