//! Child runs, what a parent shows of them, what a run's executor says of itself, and the log.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use serde_json::json;
use support::Repository;

#[test]
fn children_inherit_the_policy_and_may_add_to_it() {
    let repository = Repository::new();
    repository.ok(&["start", "top", "--require", "approval,review"]);
    repository.ok(&["task", "add", "top/t"]);
    let kid = repository.json(&["start", "kid", "--parent", "top/t", "--require", "test"]);
    let policy = &kid["run"]["policy"];
    for requirement in ["approval_required", "reviewer_required", "test_required"] {
        assert_eq!(policy[requirement], true, "{requirement}");
    }
    assert_eq!((&kid["run"]["depth"], &kid["run"]["parent"]), (&json!(1), &json!({"run": "top", "task": "t"})));
    assert_eq!(repository.json(&["task", "add", "kid/a"])["task"]["state"], "pending_approval");
    repository.ok(&["approve", "kid/approval-a"]);
    repository.ok(&["task", "start", "kid/a"]);
    assert_eq!(repository.json(&["task", "done", "kid/a"])["task"]["state"], "review_pending");
    repository.ok(&["approve", "kid/review-a"]);
    assert_eq!(repository.json(&["task", "show", "kid/a"])["task"]["state"], "test_pending");
}

#[test]
fn runs_are_nested_so_deep_and_no_deeper() {
    let repository = Repository::new();
    repository.ok(&["start", "d0"]);
    for depth in 1..=3 {
        repository.ok(&["start", &format!("d{depth}"), "--parent", &format!("d{}", depth - 1)]);
    }
    assert_eq!(repository.error(128, &["start", "d4", "--parent", "d3"]), "too_deep");
    assert_eq!(repository.error(128, &["start", "x", "--parent", "nope"]), "unknown_run");
    assert_eq!(repository.error(128, &["start", "x", "--parent", "d0/nope"]), "unknown_task");
    let deeper = repository.command(&["start", "d4", "--parent", "d3"]).env("GIT_TETHER_MAX_DEPTH", "4").output();
    assert!(deeper.unwrap().status.success());
}

#[test]
fn a_parent_rolls_its_children_up() {
    let repository = Repository::new();
    repository.ok(&["start", "top"]);
    assert_eq!(repository.json(&["show", "top"]).get("children"), None);
    repository.ok(&["start", "kid", "--parent", "top"]);
    repository.ok(&["start", "well", "--parent", "top"]);
    repository.ok(&["start", "grandkid", "--parent", "kid"]);
    repository.ok(&["start", "stranger"]);
    for task in ["grandkid/a", "grandkid/b", "stranger/x", "well/w"] {
        repository.ok(&["task", "add", task]);
    }
    repository.ok(&["task", "block", "grandkid/a", "--reason", "no key"]);
    repository.ok(&["task", "block", "grandkid/b", "--reason", "no key"]);
    repository.ok(&["task", "block", "stranger/x", "--reason", "not ours"]);
    let shown = repository.json(&["show", "top"]);
    let children = shown["children"].as_array().unwrap();
    assert_eq!(children.len(), 2);
    assert_eq!((&children[0]["run"], &children[0]["requires_attention"]), (&json!("kid"), &json!(true)));
    assert_eq!((&children[1]["run"], &children[1]["requires_attention"]), (&json!("well"), &json!(false)));
    assert_eq!(children[1]["task_summary"]["queued"], 1);
    let grandkid = &children[0]["children"][0];
    assert_eq!((&grandkid["status"], &grandkid["task_summary"]["blocked"]), (&json!("blocked"), &json!(2)));
    assert_eq!(grandkid["blocked_reasons"], json!(["no key"]));
    assert_eq!(shown["run"]["requires_attention"], true);
    let words = repository.ok(&["show", "top"]);
    for told in ["child kid: draft", "child grandkid: blocked (2 blocked)", "blocked: no key", "child well: running"] {
        assert!(words.contains(told), "{told} in {words}");
    }
    assert!(!words.contains("not ours"));

    repository.git(&["update-ref", "refs/tether/runs/well", "HEAD"]);
    assert_eq!(repository.json(&["show", "top"])["children"].as_array().unwrap().len(), 1);
}

#[test]
fn a_task_that_ends_is_waited_on_no_more_in_a_child_too() {
    let repository = Repository::new();
    repository.ok(&["start", "top"]);
    repository.ok(&["start", "kid", "--parent", "top"]);
    for task in ["top/a", "top/b", "kid/c", "kid/d", "kid/e"] {
        repository.ok(&["task", "add", task]);
    }
    let waited = |repository: &Repository| repository.json(&["show", "top"])["run"]["waiting_on"].clone();
    repository.ok(&["activity", "top", "--waiting-on", "a", "--waiting-on", "top/b", "--waiting-on", "kid/c"]);
    assert_eq!(waited(&repository), json!(["a", "b", "kid/c"]));
    repository.ok(&["activity", "top", "--waiting-on", "a,b,kid/c,kid/d,kid/e"]);
    repository.ok(&["task", "start", "top/a"]);
    repository.ok(&["task", "done", "top/a"]);
    repository.ok(&["task", "cancel", "top/b"]);
    assert_eq!(waited(&repository), json!(["kid/c", "kid/d", "kid/e"]));
    repository.ok(&["task", "start", "kid/c"]);
    repository.ok(&["task", "fail", "kid/c"]);
    assert_eq!(waited(&repository), json!(["kid/d", "kid/e"]));
    repository.ok(&["gate", "open", "kid/d", "--key", "go", "--id", "g"]);
    repository.ok(&["reject", "kid/g"]);
    assert_eq!(waited(&repository), json!(["kid/e"]));
    repository.ok(&["cancel", "kid"]);
    assert_eq!(waited(&repository), json!([]));
}

#[test]
fn activity_follows_what_happens() {
    let repository = Repository::new();
    let activity = |repository: &Repository| repository.json(&["show", "r"])["run"]["activity"].clone();
    let started = repository.json(&["start", "r"])["run"]["activity"].clone();
    assert_eq!((&started["state"], &started["progress"]), (&json!("initializing"), &json!(0)));

    repository.ok(&["activity", "r", "--state", "idle", "--text", "hm", "--progress", "40", "--error", "boom"]);
    repository.ok(&["activity", "r", "--progress", "100"]);
    let kept = activity(&repository);
    assert_eq!((&kept["state"], &kept["text"], &kept["progress"]), (&json!("idle"), &json!("hm"), &json!(100)));
    assert_eq!(kept["error"], "boom");

    repository.ok(&["activity", "r", "--phase", "build"]);
    assert_eq!(activity(&repository)["state"], "working", "a phase without a state is work");
    repository.ok(&["activity", "r", "--phase", "wait", "--state", "waiting_for_tasks"]);
    assert_eq!(activity(&repository)["state"], "waiting_for_tasks");
    repository.ok(&["task", "add", "r/t"]);
    repository.ok(&["activity", "r", "--spawned", "t"]);
    assert_eq!(activity(&repository)["state"], "working", "so is a task that was spawned");
    repository.ok(&["activity", "r", "--spawned", "t", "--spawned", "u"]);
    assert_eq!(repository.json(&["show", "r"])["run"]["spawned_tasks"], json!(["t", "u"]), "a set");
    repository.ok(&["activity", "r", "--waiting-on", "t"]);
    repository.ok(&["activity", "r", "--waiting-on", "u"]);
    assert_eq!(repository.json(&["show", "r"])["run"]["waiting_on"], json!(["u"]), "replaced");
    repository.ok(&["activity", "r", "--waiting-on", ""]);
    assert_eq!(repository.json(&["show", "r"])["run"]["waiting_on"], json!([]));

    repository.ok(&["ask", "r", "--prompt", "?", "--id", "g"]);
    assert_eq!(activity(&repository)["state"], "waiting_for_user");
    repository.ok(&["answer", "r/g", "x"]);
    assert_eq!(activity(&repository)["state"], "working");
    repository.ok(&["gate", "open", "r", "--key", "k"]);
    assert_eq!(activity(&repository)["state"], "working", "an approval is not asked of the executor's user");

    for refused in ["101", "-1", "1000000000000"] {
        repository.exits(129, &["activity", "r", &format!("--progress={refused}")]);
    }
    for refused in ["{", "[]", r#"{"text": 1}"#] {
        repository.exits(129, &["activity", "r", "--message", refused]);
    }
    let run = repository.json(&["show", "r"])["run"].clone();
    assert_eq!((&run["messages"], &run["activity"]["progress"]), (&json!([]), &json!(100)));
}

#[test]
fn a_dead_executor_that_recover_finds_is_interrupted() {
    let repository = Repository::new();
    repository.ok(&["start", "r"]);
    repository.ok(&["task", "add", "r/t"]);
    let mut owner = repository.program("sleep", &["600"]).spawn().unwrap();
    repository.ok(&["session", "reserve", "main", "--id", "s", "--pid", &owner.id().to_string()]);
    repository.ok(&["task", "start", "r/t", "--session", "s"]);
    owner.kill().unwrap();
    owner.wait().unwrap();
    repository.tether(&["recover"]);
    let shown = repository.json(&["show", "r"]);
    assert_eq!(shown["run"]["activity"]["state"], "interrupted");
    assert_eq!(shown["tasks"][0]["state"], "blocked");
    assert_eq!(repository.json(&["session", "show", "s"])["session"]["status"], "abandoned");
}

#[test]
fn the_log_tells_a_run_and_a_task() {
    let repository = Repository::new();
    repository.ok(&["start", "r"]);
    repository.ok(&["task", "add", "r/a"]);
    repository.ok(&["task", "add", "r/b"]);
    repository.ok(&["task", "start", "r/a"]);
    repository.ok(&["task", "block", "r/a", "--reason", "no \u{1b}[31mdisk"]);
    repository.ok(&["activity", "r", "--text", "unrelated"]);
    let log = repository.json(&["log", "r"]);
    let entries = log["log"].as_array().unwrap();
    assert_eq!(log["schema"], "tether.log/1");
    assert_eq!(entries.len().to_string(), repository.git(&["rev-list", "--count", "refs/tether/runs/r"]));
    assert_eq!(entries[0]["commit"], json!(repository.git(&["rev-parse", "refs/tether/runs/r"])));
    assert_eq!(entries.last().unwrap()["event"], "run_started");
    let of_task = repository.json(&["log", "r", "a"]);
    let events: Vec<_> = of_task["log"].as_array().unwrap().iter().map(|entry| entry["event"].clone()).collect();
    assert_eq!(events, [json!("task_blocked"), json!("task_started"), json!("task_added")]);
    assert_eq!(of_task["log"][0]["author"], "Ada <ada@example.com>");
    let words = repository.ok(&["log", "r", "a"]);
    assert!(words.contains("task a: running → blocked") && words.contains("disk"), "{words}");
    assert!(!words.contains('\u{1b}'));
    assert_eq!(repository.error(128, &["log", "nope"]), "unknown_run");
    assert_eq!(repository.error(128, &["log", "r", "nope"]), "unknown_task");
}
