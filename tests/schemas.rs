//! The schemas of `docs/schema/` describe the real answers: every answer is valid, and holds nothing that its schema does not name.
//!
//! The checker knows the part of JSON Schema that our schemas use, and refuses any other keyword.

#![allow(clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use support::Repository;

fn schema_directory() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema")
}

/// Every schema by its path below `docs/schema` (`record/run.json`).
fn schemas() -> BTreeMap<String, Value> {
    let mut found = BTreeMap::new();
    for kind in ["record", "answer"] {
        for entry in std::fs::read_dir(schema_directory().join(kind)).unwrap() {
            let path = entry.unwrap().path();
            let name = format!("{kind}/{}", path.file_name().unwrap().to_str().unwrap());
            found.insert(name, serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap());
        }
    }
    found
}

/// What is wrong with `value` by `schema`, each with its place.
fn check(schemas: &BTreeMap<String, Value>, schema: &Value, value: &Value, place: &str, faults: &mut Vec<String>) {
    let Some(rules) = schema.as_object() else { return faults.push(format!("{place}: no schema: {schema}")) };
    for (keyword, rule) in rules {
        let fine = match keyword.as_str() {
            "$schema" | "$id" | "title" | "description" | "examples" => true,
            "$ref" => {
                let name = rule.as_str().unwrap().trim_start_matches("../");
                match schemas.get(name) {
                    Some(other) => check(schemas, other, value, place, faults),
                    None => faults.push(format!("{place}: no schema {name}")),
                }
                true
            }
            "type" => types_of(rule).iter().any(|one| has_type(value, one)),
            "const" => value == rule,
            "enum" => rule.as_array().unwrap().contains(value),
            "anyOf" => rule.as_array().unwrap().iter().any(|one| {
                let mut inner = Vec::new();
                check(schemas, one, value, place, &mut inner);
                inner.is_empty()
            }),
            "required" => {
                let missing = |key: &&Value| value.is_object() && value.get(key.as_str().unwrap()).is_none();
                let missing: Vec<_> = rule.as_array().unwrap().iter().filter(missing).collect();
                for key in missing {
                    faults.push(format!("{place}: {key} is missing"));
                }
                true
            }
            "properties" => {
                for (key, inner) in value.as_object().into_iter().flatten() {
                    match rule.get(key) {
                        Some(rule) => check(schemas, rule, inner, &format!("{place}.{key}"), faults),
                        None => faults.push(format!("{place}: {key} is not in the schema")),
                    }
                }
                true
            }
            "items" => {
                for (at, inner) in value.as_array().into_iter().flatten().enumerate() {
                    check(schemas, rule, inner, &format!("{place}[{at}]"), faults);
                }
                true
            }
            "minimum" => value.as_i64().is_none_or(|number| number >= rule.as_i64().unwrap()),
            "maximum" => value.as_i64().is_none_or(|number| number <= rule.as_i64().unwrap()),
            "pattern" => value.as_str().is_none_or(|text| matches_pattern(rule.as_str().unwrap(), text)),
            "format" => value.as_str().is_none_or(|text| text.parse::<git_tether::domain::time::Timestamp>().is_ok()),
            other => panic!("the checker does not know `{other}`"),
        };
        if !fine {
            faults.push(format!("{place}: {value} breaks {keyword} {rule}"));
        }
    }
}

fn types_of(rule: &Value) -> Vec<&str> {
    rule.as_array()
        .map_or_else(|| vec![rule.as_str().unwrap()], |types| types.iter().map(|one| one.as_str().unwrap()).collect())
}

fn has_type(value: &Value, name: &str) -> bool {
    match name {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("the checker does not know the type `{other}`"),
    }
}

/// The two patterns that our schemas use.
fn matches_pattern(pattern: &str, text: &str) -> bool {
    let hexadecimal = text.bytes().all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
    match pattern {
        "^[0-9a-f]{40}([0-9a-f]{24})?$" => hexadecimal && matches!(text.len(), 40 | 64),
        "^[a-z0-9][a-z0-9._-]{0,63}$" => git_tether::domain::ids::RunId::new(text).is_ok(),
        other => panic!("the checker does not know the pattern `{other}`"),
    }
}

#[track_caller]
fn assert_valid(name: &str, value: &Value) {
    let schemas = schemas();
    let mut faults = Vec::new();
    check(&schemas, &schemas[&format!("answer/{name}.json")], value, name, &mut faults);
    assert!(faults.is_empty(), "{}\n{value:#}", faults.join("\n"));
}

#[test]
fn the_checker_can_fail() {
    let schemas = schemas();
    let faults = |name: &str, value: Value| {
        let mut faults = Vec::new();
        check(&schemas, &schemas[name], &value, "x", &mut faults);
        faults.len()
    };
    let good = json!({"schema": "tether.error/1", "error": {"code": "a", "message": "b", "hints": []}});
    assert_eq!(faults("answer/error.json", good), 0);
    assert_eq!(faults("answer/error.json", json!({"schema": "tether.error/2", "error": {"code": 1, "hints": []}})), 3);
    let strange = json!({"schema": "tether.fence/1", "fence": {"kind": "thing", "what": 1}});
    assert!(faults("answer/fence.json", strange) > 3);
}

#[test]
fn runs_and_tasks_answer_as_their_schemas_say() {
    let repository = Repository::new();
    let start = ["start", "build", "--name", "Build", "--meta", r#"{"ci": {"job": 7}}"#, "--require", "approval"];
    assert_valid("run", &repository.json(&start));
    let add = ["task", "add", "build/compile", "--agent", "codex:gpt-5.4", "--retries", "2", "--", "make", "all"];
    assert_valid("task", &repository.json(&add));
    assert_valid("run", &repository.json(&["start", "free"]));
    assert_valid("task", &repository.json(&["task", "add", "free/one"]));
    assert_valid("task", &repository.json(&["task", "start", "free/one"]));
    assert_valid("tasks", &repository.json(&["task", "list"]));
    assert_valid("pools", &repository.json(&["pool", "show"]));
    assert_valid("pool", &repository.json(&["pool", "set", "codex", "--max", "2"]));
    assert_valid("claims", &repository.json(&["claim", "list"]));
    assert_valid("claim", &repository.json(&["claim", "show", "task", "free/one"]));
    assert_valid("task", &repository.json(&["task", "done", "free/one", "--exit-code", "0", "--summary", "good"]));
    let activity =
        ["activity", "build", "--state", "working", "--progress", "40", "--message", r#"{"role":"user","text":"hi"}"#];
    assert_valid("run", &repository.json(&activity));
    assert_valid("run", &repository.json(&["show", "free"]));
    assert_valid("status", &repository.json(&["status"]));
    assert_valid("error", &repository.json(&["show", "bulid"]));
    assert_valid("error", &repository.json(&["activity", "build", "--progress", "101"]));
}

#[test]
fn environments_and_checkpoints_answer_as_their_schemas_say() {
    let repository = Repository::new();
    repository.json(&["start", "build"]);
    repository.json(&["task", "add", "build/compile"]);
    let add = ["env", "add", "build/compile", "--mode", "git_worktree", "--id", "tree", "--branch", "work"];
    assert_valid("environment", &repository.json(&add));
    assert_valid("task", &repository.json(&["task", "start", "build/compile"]));
    let environment = repository.json(&["env", "show", "build/tree"]);
    assert_valid("environment", &environment);
    let place = environment["environment"]["spec"]["path"].as_str().unwrap().to_owned();
    std::fs::write(Path::new(&place).join("new"), "new\n").unwrap();
    let take = ["checkpoint", "build/compile", "--boundary", "half", "--replay-safety", "checkpoint_resumable"];
    let taken = repository.json(&[&take[..], &["--step", "one:First"]].concat());
    assert_valid("checkpoint", &taken);
    assert_eq!(taken["checkpoint"]["work"]["files"], 1);
    assert_valid("environments", &repository.json(&["env", "list"]));
    std::fs::remove_dir_all(&place).unwrap();
    assert_valid("recovery", &repository.json(&["verify"]));
    assert_valid("run", &repository.json(&["show", "build"]));
    assert_valid("doctor", &repository.json(&["doctor"]));
    assert_valid("gc", &repository.json(&["gc"]));
    let watching =
        repository.command("sh").args(["-c", "timeout 10 git-tether watch --json | head -n 1"]).output().unwrap();
    assert_valid("watch", &serde_json::from_slice(&watching.stdout).unwrap());
    let stream = repository.answer(&["recover", "--json=stream"]);
    assert!(stream.lines().count() > 0, "no environment was recovered");
    for line in stream.lines() {
        assert_valid("recovery_event", &serde_json::from_str(line).unwrap());
    }
    assert_valid("task", &repository.json(&["task", "cancel", "build/compile"]));
    assert_valid("environment", &repository.json(&["env", "remove", "build/tree"]));
    assert_valid("report", &repository.json(&["report", "build"]));
}

#[test]
fn gates_restorations_and_saved_work_answer_as_their_schemas_say() {
    let repository = Repository::new();
    repository.json(&["start", "build"]);
    repository.json(&["task", "add", "build/compile", "--require", "approval"]);
    let ask = ["ask", "build", "--prompt", "Which one?", "--id", "which", "--choice", "a", "--choice", "b"];
    assert_valid("gate", &repository.json(&ask));
    let waiting = repository.json(&["waiting"]);
    assert_eq!(waiting["waiting"].as_array().unwrap().len(), 2, "{waiting}");
    assert_valid("waiting", &waiting);
    assert_valid("run", &repository.json(&["restore", "build"]));
    assert_valid("run", &repository.json(&["show", "build", "--restoration"]));
    assert_valid("gate", &repository.json(&["answer", "build/which", "a", "--token", "k"]));
    assert_valid("gate", &repository.json(&["approve", "build/approval-compile", "--note", "fine"]));
    repository.json(&["env", "add", "build/compile", "--mode", "git_worktree", "--id", "tree"]);
    let environment = repository.json(&["env", "show", "build/tree"]);
    std::fs::write(Path::new(environment["environment"]["spec"]["path"].as_str().unwrap()).join("new"), "new\n")
        .unwrap();
    repository.json(&["task", "start", "build/compile"]);
    repository.json(&["checkpoint", "build/compile", "--boundary", "half"]);
    let saved = repository.json(&["salvage", "list"]);
    assert_eq!(saved["saved"].as_array().unwrap().len(), 1, "{saved}");
    assert_valid("salvage", &saved);
}

#[test]
fn sessions_answer_as_their_schemas_say() {
    let repository = Repository::new();
    let attach = r#"{"reason": "it was there", "precedence": ["a", "b"], "winning_rule": "a"}"#;
    let reserved = repository.json(&[
        "session",
        "reserve",
        "feature/x",
        "--provider",
        "p",
        "--model",
        "m",
        "--path",
        ".",
        "--attach",
        attach,
    ]);
    assert_valid("session", &reserved);
    assert_eq!(reserved["outcome"], "reserved");
    let owned = repository.json(&["session", "reserve", "feature/x"]);
    assert_eq!(owned["outcome"], "live_owner");
    assert_valid("session", &owned);
    assert_valid("fence", &repository.json(&["fence", reserved["token"].as_str().unwrap()]));
    let id = reserved["session"]["id"].as_str().unwrap().to_owned();
    assert_valid("session", &repository.json(&["session", "update", &id, "--usage", r#"{"input_tokens": 3}"#]));
    assert_valid("session", &repository.json(&["session", "log-query", &id, "src/lib.rs"]));
    assert_valid("session", &repository.json(&["session", "show", &id]));
    assert_valid("sessions", &repository.json(&["session", "list", "--all"]));
    assert_valid("session", &repository.json(&["session", "release", &id]));
    assert_valid("session", &repository.json(&["session", "release", "nobody"]));
}

#[test]
fn recoveries_answer_as_their_schemas_say() {
    let repository = Repository::new();
    repository.json(&["start", "build"]);
    repository.json(&["task", "add", "build/compile"]);
    // A process that is gone by the time anybody looks.
    let pid = {
        let mut child = repository.command("true").spawn().unwrap();
        let pid = child.id();
        child.wait().unwrap();
        pid.to_string()
    };
    let session = repository.json(&["session", "reserve", "build/compile", "--pid", &pid]);
    let session = session["session"]["id"].as_str().unwrap().to_owned();
    repository.json(&["task", "start", "build/compile", "--session", &session]);
    let found = repository.json(&["verify", "--all-worktrees"]);
    assert_valid("recovery", &found);
    let codes: Vec<_> = found["findings"].as_array().unwrap().iter().map(|finding| finding["code"].clone()).collect();
    assert!(codes.contains(&json!("execution_interrupted")), "{codes:?}");
    assert_valid("recovery", &repository.json(&["recover", "--dry-run"]));
    assert_valid("status", &repository.json(&["status"]));
    assert_valid("recovery", &repository.json(&["recover"]));
    assert_valid("run", &repository.json(&["show", "build"]));
}

#[test]
fn gates_and_restorations_answer_as_their_schemas_say() {
    let repository = Repository::new();
    repository.json(&["start", "build"]);
    repository.json(&["task", "add", "build/compile", "--require", "approval"]);
    assert_valid("gate", &repository.json(&["ask", "build/compile", "--prompt", "Which?", "--id", "q"]));
    assert_valid("gate", &repository.json(&["gate", "open", "build", "--key", "deploy", "--id", "g"]));
    assert_valid("waiting", &repository.json(&["waiting"]));
    let restored = repository.json(&["restore", "build"]);
    assert_eq!(restored["restoration"]["pending_questions"].as_array().unwrap().len(), 1);
    assert_valid("run", &restored);
    assert_valid("run", &repository.json(&["restore", "fresh"]));
    assert_valid("gate", &repository.json(&["answer", "build/q", "this", "--token", "k"]));
    assert_valid("gate", &repository.json(&["approve", "build/approval-compile", "--note", "fine"]));
    repository.json(&["start", "child", "--parent", "build"]);
    let parent = repository.json(&["show", "build"]);
    assert_eq!(parent["children"][0]["run"], "child");
    assert_valid("run", &parent);
    assert_valid("run", &repository.json(&["show", "child", "--restoration"]));
    assert_valid("log", &repository.json(&["log", "build"]));
    let stored: Value =
        serde_json::from_str(&repository.git(&["show", "refs/tether/runs/build:restoration.json"])).unwrap();
    let mut faults = Vec::new();
    check(&schemas(), &schemas()["record/restoration.json"], &stored, "restoration", &mut faults);
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    assert_eq!(stored["schema"], "tether.restoration/1");
}

#[test]
fn pages_and_scripts_answer_as_their_schemas_say() {
    let repository = Repository::new();
    assert_valid("man", &repository.json(&["man"]));
    assert_valid("completions", &repository.json(&["completions", "bash"]));
}

/// What is stored is what the record's schema says, under the schema's own title.
#[test]
fn stored_records_are_as_their_schemas_say() {
    let repository = Repository::new();
    repository.json(&["start", "build"]);
    repository.json(&["task", "add", "build/compile"]);
    repository.json(&["task", "start", "build/compile"]);
    let schemas = schemas();
    let stored = |name: &str, at: &str| {
        let value: Value = serde_json::from_str(&repository.git(&["show", at])).unwrap();
        let schema = &schemas[&format!("record/{name}.json")];
        let mut faults = Vec::new();
        check(&schemas, schema, &value, name, &mut faults);
        assert!(faults.is_empty(), "{}", faults.join("\n"));
        assert_eq!(value["schema"], schema["title"]);
    };
    stored("run", "refs/tether/runs/build:run.json");
    stored("task", "refs/tether/runs/build:tasks/compile.json");
    let session = repository.git(&["for-each-ref", "--format=%(refname)", "refs/tether/sessions"]);
    stored("session", &format!("{session}:session.json"));
    let claim = repository.git(&["for-each-ref", "--format=%(refname)", "refs/tether/claims/task"]);
    stored("claim", &format!("{claim}:claim.json"));
}

/// The names of all fields of a schema, at any depth.
fn fields(schema: &Value, found: &mut Vec<String>) {
    for (name, inner) in schema["properties"].as_object().into_iter().flatten() {
        found.push(name.clone());
        fields(inner, found);
        fields(&inner["items"], found);
    }
}

/// `docs/format.md` names every field that a record has.
#[test]
fn the_format_is_described_whole() {
    let format = std::fs::read_to_string(schema_directory().join("../format.md")).unwrap();
    for (name, schema) in schemas().iter().filter(|(name, _)| name.starts_with("record/") && !name.contains("finding"))
    {
        let mut named = Vec::new();
        fields(schema, &mut named);
        for field in named {
            assert!(format.contains(&format!("`{field}`")), "docs/format.md does not name {field} of {name}");
        }
    }
}

/// The values of an enum are those that the program knows.
#[test]
fn enums_are_those_of_the_program() {
    use git_tether::domain::names::Named;
    fn names<T: Named + Copy + 'static>() -> Vec<Value> {
        T::ALL.iter().map(|one| json!(one.name())).collect()
    }
    let schemas = schemas();
    let listed = |record: &str, pointer: &str| {
        let found = schemas[&format!("record/{record}.json")].pointer(&format!("/properties/{pointer}")).cloned();
        let mut found = found.unwrap()["enum"].as_array().unwrap().clone();
        found.retain(|value| !value.is_null());
        found
    };
    assert_eq!(listed("run", "status"), names::<git_tether::domain::run::RunStatus>());
    assert_eq!(listed("run", "activity/properties/state"), names::<git_tether::domain::run::ActivityState>());
    assert_eq!(listed("environment", "state"), names::<git_tether::domain::environment::EnvironmentState>());
    assert_eq!(listed("environment", "health"), names::<git_tether::domain::environment::Health>());
    assert_eq!(listed("environment", "recovery_action"), names::<git_tether::domain::environment::RecoveryAction>());
    assert_eq!(listed("environment", "execution_mode"), names::<git_tether::domain::environment::ExecutionMode>());
    assert_eq!(listed("checkpoint", "stage"), names::<git_tether::domain::checkpoint::Stage>());
    assert_eq!(listed("checkpoint", "replay_safety"), names::<git_tether::domain::checkpoint::ReplaySafety>());
    assert_eq!(listed("gate", "state"), names::<git_tether::domain::gate::GateState>());
    assert_eq!(listed("session", "status"), names::<git_tether::domain::session::SessionStatus>());
    assert_eq!(listed("claim", "kind"), names::<git_tether::domain::claim::ClaimKind>());
    assert_eq!(listed("saved", "kind"), names::<git_tether::domain::saved::SavedKind>());
    assert_eq!(listed("finding", "code"), names::<git_tether::plan::finding::FindingCode>());
    let states = &schemas["record/task.json"]["properties"]["state"]["examples"];
    assert_eq!(states.as_array().unwrap(), &names::<git_tether::domain::task::TaskState>());
}
