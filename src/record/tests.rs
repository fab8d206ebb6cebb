//! Records as bytes: what is written reads back, what is not known stays, what is too new or too large is refused.

#![allow(clippy::unwrap_used, reason = "a test stops where it fails")]

use proptest::prelude::*;
use serde_json::{Value, json};

use super::*;
use crate::domain::any_event::{any_named, any_run};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::environment::Environment;
use crate::domain::gate::Gate;
use crate::domain::ids::PoolName;
use crate::domain::pool::{Pool, Slot};
use crate::domain::run::{Message, Run};
use crate::domain::samples::{claim, empty_run, moment, session, session_id, task_id, with_task_in};
use crate::domain::session::{Session, SessionStatus};
use crate::domain::task::{Task, TaskState};

fn round_trips<T: Record + PartialEq + std::fmt::Debug>(record: &T) {
    let bytes = encode(record, None).unwrap();
    let stored = decode::<T>(&bytes).unwrap();
    assert_eq!(stored.value, *record);
    assert_eq!(encode(&stored.value, Some(&stored.written)).unwrap(), bytes, "writing it again changes nothing");
    keeps_unknown_fields(record);
}

/// Puts a field that nobody knows into every object, at any depth.
fn with_later_fields(value: &Value, key: &str) -> Value {
    match value {
        _ if ["metadata", "probe_confidence"].contains(&key) => value.clone(),
        Value::Object(map) => {
            let known = map.iter().map(|(key, value)| (key.clone(), with_later_fields(value, key)));
            known.chain([("x_later".to_owned(), json!([1, { "a": map.len() }]))]).collect()
        }
        Value::Array(items) => items.iter().map(|item| with_later_fields(item, "")).collect(),
        plain => plain.clone(),
    }
}

fn keeps_unknown_fields<T: Record + PartialEq + std::fmt::Debug>(record: &T) {
    let later = with_later_fields(&to_json(record, None), "");
    let stored = decode::<T>(&serde_json::to_vec(&later).unwrap()).unwrap();
    assert_eq!(stored.value, *record, "they change nothing that is known");
    let again: Value = serde_json::from_slice(&encode(&stored.value, Some(&stored.written)).unwrap()).unwrap();
    assert_eq!(again, later);
}

proptest! {
    #[test]
    fn every_record_of_a_run_round_trips(view in any_run()) {
        round_trips(&view.run);
        view.tasks.values().for_each(round_trips);
        view.environments.values().for_each(round_trips);
        view.checkpoints.values().for_each(round_trips);
        view.gates.values().for_each(round_trips);
    }

    #[test]
    fn sessions_claims_and_pools_round_trip(
        text in proptest::option::of("\\PC{0,20}"), number in proptest::option::of(any::<i64>()), pid in any::<Option<u32>>(),
        status in any_named::<SessionStatus>(), kind in any_named::<ClaimKind>(), generation in any::<u64>(),
    ) {
        let mut one = session("s");
        one.status = status;
        one.thread = text.clone().unwrap_or_default();
        one.group.clone_from(&text);
        one.process.pid = pid;
        one.process.start_time = Some(generation);
        one.usage.cost_micros_usd = number;
        one.attach.probe_confidence = Some(document("0.750", "confidence").unwrap());
        one.metadata = document(r#"{"big": 123456789012345678901234567890, "exact": 1.10}"#, "metadata").unwrap();
        round_trips(&one);
        round_trips(&Claim { generation, ..claim(kind, &one.thread, "s") });
        let mut pool = Pool::new(PoolName::new("codex").unwrap());
        pool.max_running = pid;
        pool.last_failure = text;
        pool.running.push(Slot { run: empty_run("r").run.id, task: task_id("t"), session: Some(session_id("s")) });
        round_trips(&pool);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), text in "\\PC{0,200}") {
        let _ = (decode::<Run>(&bytes).is_ok(), decode::<Task>(text.as_bytes()).is_ok());
    }
}

/// A record of schema 1 as it was written once and for all: it is read, and written again byte by byte.
fn frozen<T: Record>(bytes: &str) -> T {
    let stored = decode::<T>(bytes.as_bytes()).unwrap();
    let again = encode(&stored.value, Some(&stored.written)).unwrap();
    assert_eq!(String::from_utf8(again).unwrap(), bytes);
    stored.value
}

macro_rules! fixture {
    ($name:literal) => {
        include_str!(concat!("../../fixtures/records/", $name, ".json"))
    };
}

#[test]
fn records_of_schema_1_are_read_and_written_byte_by_byte() {
    let run = frozen::<Run>(fixture!("run"));
    assert_eq!((run.depth, run.activity.progress, run.messages.len()), (1, Some(40), 2));
    assert!(run.metadata.as_json().contains("1.10"), "numbers stay as they were written");
    let task = frozen::<Task>(fixture!("task"));
    assert_eq!((task.state, task.priority, task.attempts), (TaskState::Blocked, -3, 2));
    let environment = frozen::<Environment>(fixture!("environment"));
    assert!(environment.held_lease().is_some());
    let checkpoint = frozen::<Checkpoint>(fixture!("checkpoint"));
    assert_eq!(checkpoint.resume_state.as_ref().map(|state| state.bytes), Some(5_000_000_000));
    assert_eq!(checkpoint.available_actions, checkpoint.derived_actions());
    assert_eq!(frozen::<Session>(fixture!("session")).process.pid, Some(4_711));
    assert_eq!(frozen::<Claim>(fixture!("claim")).generation, 7);
    assert_eq!(frozen::<Gate>(fixture!("gate")).redelivered, 1);
    assert_eq!(frozen::<Pool>(fixture!("pool")).running.len(), 2);
}

#[test]
fn fields_of_later_versions_survive_byte_by_byte() {
    frozen::<Run>(fixture!("run-with-later-fields"));
    frozen::<Task>(fixture!("task-with-later-fields"));
    frozen::<Environment>(fixture!("environment-with-later-fields"));
    frozen::<Checkpoint>(fixture!("checkpoint-with-later-fields"));
    frozen::<Session>(fixture!("session-with-later-fields"));
    frozen::<Claim>(fixture!("claim-with-later-fields"));
    frozen::<Gate>(fixture!("gate-with-later-fields"));
    frozen::<Pool>(fixture!("pool-with-later-fields"));
}

/// SPEC §3, in its order.
const FIELDS: [(&str, &str); 8] = [
    (
        "run",
        "id, name, status, paused_from, parent, depth, lead_agent, policy, activity, spawned_tasks, waiting_on, messages, \
         restoration, task_summary, requires_attention, metadata, host, created_at, updated_at, completed_at",
    ),
    (
        "task",
        "id, run, name, agent, role, prompt, command, state, priority, depends_on, pool, attempts, environment, session, \
         blocked_reasons, gates, retry, result, tags, created_at, updated_at, started_at, completed_at",
    ),
    (
        "environment",
        "id, execution_mode, spec, state, health, lease, cleanup, recovery_status, recovery_action, failure, host, \
         created_at, updated_at, last_verified_at, metadata",
    ),
    (
        "checkpoint",
        "id, run, task, session, agent, environment, execution_mode, seq, stage, replay_safety, resume_disposition, \
         safe_boundary_label, workspace_dir, completed_steps, result_published, note, resume_state, work, \
         available_actions, created_at, updated_at",
    ),
    (
        "session",
        "id, thread, status, agent, actor_key, parent_actor_key, client_key, native_key, group, path, process, \
         heartbeat_at, usage, attach, context_queries, recovery_attempts, last_progress_at, base_commit, metadata, \
         started_at, completed_at",
    ),
    ("claim", "kind, key, generation, token, session, host, acquired_at, expires_at, released_at"),
    (
        "gate",
        "id, kind, key, state, run, task, prompt, choices, context, question_type, required, asked_at, redelivered, \
         decision",
    ),
    ("pool", "id, max_running, running, backoff_until, failures, last_failure"),
];

#[test]
fn fields_stand_in_the_order_of_the_specification_schema_first() {
    let texts = [
        fixture!("run"),
        fixture!("task"),
        fixture!("environment"),
        fixture!("checkpoint"),
        fixture!("session"),
        fixture!("claim"),
        fixture!("gate"),
        fixture!("pool"),
    ];
    for ((name, fields), text) in FIELDS.iter().zip(texts) {
        let value: Value = serde_json::from_str(text).unwrap();
        let found: Vec<_> = value.as_object().unwrap().keys().map(String::as_str).collect();
        let wanted: Vec<_> = std::iter::once("schema").chain(fields.split(", ")).collect();
        assert_eq!(found[..wanted.len()], wanted[..], "{name}");
        assert_eq!(value["schema"], format!("tether.{name}/1"));
    }
}

#[test]
fn what_is_absent_is_null_or_empty_and_reads_back_from_nothing() {
    let run = empty_run("r").run;
    let mut json = to_json(&run, None);
    assert_eq!((&json["parent"], &json["messages"]), (&Value::Null, &json!([])));
    for key in ["name", "parent", "messages", "waiting_on", "paused_from", "pending_gates"] {
        json.as_object_mut().unwrap().remove(key);
    }
    assert_eq!(decode::<Run>(&serde_json::to_vec(&json).unwrap()).unwrap().value, run);
}

fn with_schema(schema: &str) -> Vec<u8> {
    let mut json = to_json(&empty_run("r").run, None);
    json["schema"] = schema.into();
    serde_json::to_vec(&json).unwrap()
}

#[test]
fn a_newer_major_schema_is_refused_and_a_newer_minor_one_is_not() {
    for schema in ["tether.run/2", "tether.run/2.1", "tether.run/10"] {
        let refused = decode::<Run>(&with_schema(schema)).unwrap_err();
        assert!(matches!(refused, InvalidRecord::NewerSchema { .. }), "{refused}");
        assert!(refused.to_string().contains("update git-tether"));
    }
    assert!(decode::<Run>(&with_schema("tether.run/1.7")).is_ok());
    for schema in ["tether.task/1", "tether.run", "tether.run/x", "run/1", ""] {
        let refused = decode::<Run>(&with_schema(schema)).unwrap_err();
        assert!(matches!(refused, InvalidRecord::OtherSchema { .. }), "{schema}: {refused}");
    }
}

#[test]
fn a_later_minor_version_is_kept() {
    let stored = decode::<Run>(&with_schema("tether.run/1.7")).unwrap();
    let again = encode(&stored.value, Some(&stored.written)).unwrap();
    assert!(String::from_utf8(again).unwrap().contains("\"tether.run/1.7\""));
}

#[test]
fn what_is_too_large_or_too_deep_is_refused_before_it_is_written() {
    let mut run = empty_run("r").run;
    run.name = Some("x".repeat(usize::try_from(LARGEST_RECORD).unwrap()));
    assert!(matches!(encode(&run, None), Err(InvalidRecord::TooLarge { .. })));
    let mut large = with_schema("tether.run/1");
    large.resize(usize::try_from(LARGEST_RECORD).unwrap() + 1, b' ');
    assert!(matches!(decode::<Run>(&large), Err(InvalidRecord::TooLarge { .. })));
    large.pop();
    assert!(decode::<Run>(&large).is_ok(), "as large as may be");

    for depth in 1..=200 {
        let nested = format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let Ok(metadata) = document(&nested, "metadata") else {
            assert!(depth > 100, "{depth} is not deep");
            continue;
        };
        let mut run = empty_run("r").run;
        run.metadata = metadata;
        if let Ok(bytes) = encode(&run, None) {
            assert!(decode::<Run>(&bytes).is_ok(), "what was written is read: depth {depth}");
        }
        let bottomless = format!("{{\"schema\": \"tether.run/1\", \"x\": {}", "[".repeat(100_000));
        assert!(decode::<Run>(bottomless.as_bytes()).is_err());
    }
}

#[test]
fn a_wrong_field_is_named_with_its_place() {
    for (key, value, place) in [
        ("depth", json!(-1), "run.depth"),
        ("status", json!("pondering"), "run.status"),
        ("waiting_on", json!(["A B"]), "run.waiting_on.0"),
        ("activity", json!({"state": 7}), "run.activity.state"),
        ("created_at", json!("yesterday"), "run.created_at"),
        ("policy", json!("none"), "run.policy"),
    ] {
        let mut json = to_json(&empty_run("r").run, None);
        json[key] = value;
        let refused = decode::<Run>(&serde_json::to_vec(&json).unwrap()).unwrap_err().to_string();
        assert!(refused.starts_with(place), "{refused}");
    }
}

#[test]
fn a_state_of_a_later_version_is_kept_and_counts_as_running() {
    let view = with_task_in(TaskState::Running);
    let mut json = to_json(&view.tasks[&task_id("t")], None);
    json["state"] = "pondering".into();
    let stored = decode::<Task>(&serde_json::to_vec(&json).unwrap()).unwrap();
    assert_eq!((stored.value.state, stored.value.unreadable_state.as_deref()), (TaskState::Running, Some("pondering")));
    let again: Value = serde_json::from_slice(&encode(&stored.value, Some(&stored.written)).unwrap()).unwrap();
    assert_eq!(again, json);
}

#[test]
fn items_of_a_list_that_look_alike_keep_each_their_own() {
    let mut run = empty_run("r").run;
    let said = Message { role: Some("user".to_owned()), text: Some("again".to_owned()), at: moment(1) };
    run.messages = vec![said.clone(), said];
    let mut json = to_json(&run, None);
    json["messages"][0]["x"] = 1.into();
    json["messages"][1]["x"] = 2.into();
    let stored = decode::<Run>(&serde_json::to_vec(&json).unwrap()).unwrap();
    let again: Value = serde_json::from_slice(&encode(&stored.value, Some(&stored.written)).unwrap()).unwrap();
    assert_eq!(again, json);
}

#[test]
fn an_item_keeps_its_own_when_a_known_field_of_it_changes_or_others_go() {
    let text = fixture!("pool-with-later-fields");
    let stored = decode::<Pool>(text.as_bytes()).unwrap();
    let mut pool = stored.value;
    pool.running[1].session = Some(session_id("s-2"));
    pool.running.remove(0);
    let again: Value = serde_json::from_slice(&encode(&pool, Some(&stored.written)).unwrap()).unwrap();
    let before: Value = serde_json::from_str(text).unwrap();
    assert_eq!(again["running"].as_array().unwrap().len(), 1);
    assert_eq!(again["running"][0]["x_from_a_later_version"], before["running"][1]["x_from_a_later_version"]);
}
