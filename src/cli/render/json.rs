//! Answers as JSON: one object, its schema first.

use std::fmt::Write as _;

use serde_json::{Map, Value};

use crate::app::reserve::ReserveOutcome;
use crate::app::session::SeenSession;
use crate::cli::answer::Answer;
use crate::domain::view::RunView;
use crate::record::{Record, fields};

fn bytes(value: &Value) -> Vec<u8> {
    let mut text = escaped(&format!("{value:#}"));
    text.push('\n');
    text.into_bytes()
}

/// The same JSON, in which no text can steer a terminal: what the writer leaves as it is (DEL, C1 and bidirectional controls, all of
/// which can only stand within a text) is escaped as JSON does it.
pub(crate) fn escaped(json: &str) -> String {
    let mut safe = String::with_capacity(json.len());
    for character in json.chars() {
        if character != '\n' && super::human::steers_terminal(character) {
            let _ = write!(safe, "\\u{:04x}", u32::from(character));
        } else {
            safe.push(character);
        }
    }
    safe
}

/// An object with its schema first.
pub(crate) fn object(name: &str, entries: impl IntoIterator<Item = (&'static str, Value)>) -> Value {
    let mut map = Map::new();
    map.insert("schema".to_owned(), Value::String(format!("tether.{name}/1")));
    map.extend(entries.into_iter().map(|(key, value)| (key.to_owned(), value)));
    Value::Object(map)
}

/// A list of records.
pub(crate) fn list<'r, T: Record + 'r>(records: impl IntoIterator<Item = &'r T>) -> Value {
    Value::Array(records.into_iter().map(fields).collect())
}

/// The keys of a run's envelope.
pub(crate) fn run_entries(view: &RunView) -> Vec<(&'static str, Value)> {
    vec![
        ("run", fields(&view.run)),
        ("tasks", list(view.tasks.values())),
        ("environments", list(view.environments.values())),
        ("checkpoints", list(view.checkpoints.values())),
        ("gates", list(view.gates.values())),
    ]
}

fn session(seen: &SeenSession) -> Value {
    let mut value = fields(&seen.session);
    if let Value::Object(map) = &mut value {
        let evidence = seen.liveness.evidence.iter().cloned().map(Value::String).collect();
        let mut liveness = Map::new();
        liveness.insert("verdict".to_owned(), Value::String(seen.liveness.verdict.to_string()));
        liveness.insert("evidence".to_owned(), Value::Array(evidence));
        map.insert("liveness".to_owned(), Value::Object(liveness));
    }
    value
}

fn text(value: &impl ToString) -> Value {
    Value::String(value.to_string())
}

/// An answer as JSON.
pub(crate) fn answer(answer: &Answer) -> Vec<u8> {
    let value = match answer {
        Answer::Run(view) => object("run", run_entries(view)),
        Answer::Task(task) => object("task", [("task", fields(task.as_ref()))]),
        Answer::Tasks(tasks) => object("tasks", [("tasks", list(tasks))]),
        Answer::Environment(found) => {
            object("environment", [("environment", found.as_deref().map_or(Value::Null, fields))])
        }
        Answer::Environments(found) => object("environments", [("environments", list(found))]),
        Answer::Checkpoint(checkpoint) => object("checkpoint", [("checkpoint", fields(checkpoint.as_ref()))]),
        Answer::Gate(gate) => object("gate", [("gate", fields(gate.as_ref()))]),
        Answer::Waiting(gates) => object("waiting", [("waiting", list(gates))]),
        Answer::Session(seen) => object("session", [("session", seen.as_deref().map_or(Value::Null, session))]),
        Answer::Reserved(reserved) => {
            let (outcome, token) = match &reserved.outcome {
                ReserveOutcome::Reserved(token) => ("reserved", text(token)),
                ReserveOutcome::Attached(token) => ("attached", token.as_ref().map_or(Value::Null, text)),
                ReserveOutcome::LiveOwner => ("live_owner", Value::Null),
            };
            let entries = [("session", session(&reserved.seen)), ("outcome", Value::from(outcome)), ("token", token)];
            object("session", entries)
        }
        Answer::Sessions(seen) => object("sessions", [("sessions", Value::Array(seen.iter().map(session).collect()))]),
        Answer::Claim(claim) => object("claim", [("claim", fields(claim.as_ref()))]),
        Answer::Fence(claim) => object("fence", [("fence", fields(claim.as_ref()))]),
        Answer::Claims(claims) => object("claims", [("claims", list(claims))]),
        Answer::Pool(queued) => {
            let mut pool = fields(&queued.pool);
            if let Value::Object(map) = &mut pool {
                map.insert("queue".to_owned(), Value::Array(queued.queue.iter().map(text).collect()));
            }
            object("pool", [("pool", pool)])
        }
        Answer::Pools(pools) => object("pools", [("pools", list(pools))]),
        Answer::Other { name, fields, .. } => object(name, fields.clone()),
        Answer::Raw(raw) => return raw.clone(),
        Answer::Nothing => return Vec::new(),
    };
    bytes(&value)
}

/// An error as JSON.
pub(crate) fn error(code: &str, message: &str, hints: &[String]) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("code".to_owned(), Value::from(code));
    map.insert("message".to_owned(), Value::from(message));
    map.insert("hints".to_owned(), hints.iter().map(String::as_str).map(Value::from).collect());
    bytes(&object("error", [("error", Value::Object(map))]))
}
