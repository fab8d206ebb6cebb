//! Versioned JSON records: the schema in front, unknown fields kept.

use serde_json::{Map, Value};

use super::field::{Field, InvalidField, Place, kind_of};
use super::strict;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::claim::Claim;
use crate::domain::document::Document;
use crate::domain::environment::Environment;
use crate::domain::gate::Gate;
use crate::domain::pool::Pool;
use crate::domain::restoration::RestorationReport;
use crate::domain::run::Run;
use crate::domain::session::{Session, Usage};
use crate::domain::task::Task;

/// The most bytes of a record.
pub const LARGEST_RECORD: u64 = 4 << 20;
/// The deepest nesting of a record that the reader takes.
const DEEPEST_RECORD: usize = 127;
/// The major version of every schema that this program writes.
const MAJOR: u32 = 1;
/// Fields that hold the caller's own JSON: replaced as a whole, never merged.
const OPAQUE: [&str; 2] = ["metadata", "probe_confidence"];

/// A record: something that is kept as one JSON object with a schema.
pub trait Record: Sized {
    /// The name in its schema (`run` of `tether.run/1`).
    const NAME: &'static str;
    /// Its fields, without the schema.
    #[doc(hidden)]
    fn write_fields(&self) -> Value;
    /// The record with these fields.
    #[doc(hidden)]
    fn read_fields(value: &Value) -> Result<Self, InvalidField>;
}

macro_rules! records {
    ($($type:ty = $name:literal),+ $(,)?) => {$(
        impl Record for $type {
            const NAME: &'static str = $name;
            fn write_fields(&self) -> Value {
                Field::write(self)
            }
            fn read_fields(value: &Value) -> Result<Self, InvalidField> {
                Field::read(value, &Place::root($name))
            }
        }
    )+};
}
records!(
    Run = "run",
    Task = "task",
    Environment = "environment",
    Checkpoint = "checkpoint",
    Session = "session",
    Claim = "claim",
    Gate = "gate",
    Pool = "pool",
    RestorationReport = "restoration",
);

/// Everything that was written in a record, for what this version does not understand.
#[derive(Debug, Clone, PartialEq)]
pub struct Written(pub(super) Value);

/// A record as it was read: its value, and the whole of what was written.
#[derive(Debug, Clone, PartialEq)]
pub struct Stored<T> {
    /// What this version understands.
    pub value: T,
    /// Everything.
    pub written: Written,
}

/// Why bytes are no record.
#[derive(Debug, thiserror::Error)]
pub enum InvalidRecord {
    /// It is larger than any record.
    #[error("the {name} record has {bytes} bytes; {LARGEST_RECORD} are allowed")]
    TooLarge {
        /// Which record.
        name: &'static str,
        /// How large it is.
        bytes: u64,
    },
    /// It is nested deeper than any reader goes.
    #[error("the {name} record is nested deeper than {DEEPEST_RECORD} levels")]
    TooDeep {
        /// Which record.
        name: &'static str,
    },
    /// It is no JSON.
    #[error("the {name} record is not readable as JSON")]
    NotJson {
        /// Which record.
        name: &'static str,
        /// What the reader said.
        source: serde_json::Error,
    },
    /// It is another kind of record.
    #[error("expected a {name} record, found schema `{found}`")]
    OtherSchema {
        /// Which record was expected.
        name: &'static str,
        /// What it says of itself.
        found: String,
    },
    /// It was written by a newer version.
    #[error(
        "the {name} record has schema `{found}`; this version knows up to tether.{name}/{MAJOR}: update git-tether"
    )]
    NewerSchema {
        /// Which record.
        name: &'static str,
        /// What it says of itself.
        found: String,
    },
    /// A field is not what it should be.
    #[error(transparent)]
    Field(#[from] InvalidField),
}

/// The JSON of a record, schema first, as it is shown; unknown fields of `written` are kept.
pub fn to_json<T: Record>(value: &T, written: Option<&Written>) -> Value {
    let mut map = Map::new();
    let schema = format!("tether.{}/{MAJOR}", T::NAME);
    let later_minor = |found: &&str| found.strip_prefix(&schema).is_some_and(|rest| rest.starts_with('.'));
    let found = written.and_then(|written| written.0.get("schema")?.as_str()).filter(later_minor);
    map.insert("schema".to_owned(), Value::String(found.unwrap_or(&schema).to_owned()));
    if let Value::Object(fields) = value.write_fields() {
        map.extend(fields);
    }
    let mut json = Value::Object(map);
    if let Some(written) = written {
        keep_unknown(&written.0, &mut json);
    }
    json
}

/// The fields of a record, without its schema, for an answer that has one of its own.
pub fn fields<T: Record>(value: &T) -> Value {
    value.write_fields()
}

/// The bytes of a record; unknown fields of `written`, what was there before, are kept.
pub fn encode<T: Record>(value: &T, written: Option<&Written>) -> Result<Vec<u8>, InvalidRecord> {
    let json = to_json(value, written);
    if depth_of(&json) > DEEPEST_RECORD {
        return Err(InvalidRecord::TooDeep { name: T::NAME });
    }
    let mut bytes =
        serde_json::to_vec_pretty(&json).map_err(|source| InvalidRecord::NotJson { name: T::NAME, source })?;
    bytes.push(b'\n');
    if bytes.len() as u64 > LARGEST_RECORD {
        return Err(InvalidRecord::TooLarge { name: T::NAME, bytes: bytes.len() as u64 });
    }
    Ok(bytes)
}

fn depth_of(value: &Value) -> usize {
    match value {
        Value::Object(map) => 1 + map.values().map(depth_of).max().unwrap_or_default(),
        Value::Array(items) => 1 + items.iter().map(depth_of).max().unwrap_or_default(),
        _ => 0,
    }
}

/// Reads a record.
pub fn decode<T: Record>(bytes: &[u8]) -> Result<Stored<T>, InvalidRecord> {
    let name = T::NAME;
    if bytes.len() as u64 > LARGEST_RECORD {
        return Err(InvalidRecord::TooLarge { name, bytes: bytes.len() as u64 });
    }
    let written = strict::read(bytes).map_err(|source| InvalidRecord::NotJson { name, source })?;
    check_schema(&written, name)?;
    Ok(Stored { value: T::read_fields(&written)?, written: Written(written) })
}

/// Checks that bytes are JSON as records may hold it, with the schema of `name` in front; for what has no type of its own.
pub fn check_json(bytes: &[u8], name: &'static str) -> Result<(), InvalidRecord> {
    let written = strict::read(bytes).map_err(|source| InvalidRecord::NotJson { name, source })?;
    check_schema(&written, name)
}

fn check_schema(written: &Value, name: &'static str) -> Result<(), InvalidRecord> {
    let found = match written.get("schema") {
        Some(Value::String(schema)) => schema.clone(),
        Some(other) => kind_of(other).to_owned(),
        None => "nothing".to_owned(),
    };
    let version = found.strip_prefix("tether.").and_then(|rest| rest.strip_prefix(name)?.strip_prefix('/'));
    let major = version.and_then(|version| version.split('.').next()?.parse::<u32>().ok());
    match major {
        Some(major) if major > MAJOR => Err(InvalidRecord::NewerSchema { name, found }),
        Some(_) => Ok(()),
        None => Err(InvalidRecord::OtherSchema { name, found }),
    }
}

/// Puts into `new` what `old` holds and this version does not know.
fn keep_unknown(old: &Value, new: &mut Value) {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                match new.get_mut(key) {
                    Some(_) if OPAQUE.contains(&key.as_str()) => {}
                    Some(known) => keep_unknown(value, known),
                    None => {
                        new.insert(key.clone(), value.clone());
                    }
                }
            }
        }
        (Value::Array(old), Value::Array(new)) => keep_unknown_in_items(old, new),
        _ => {}
    }
}

/// Pairs each item with the one that it was, none twice: by identity first, then by what they have in common.
fn keep_unknown_in_items(old: &[Value], new: &mut [Value]) {
    let mut left: Vec<&Value> = old.iter().collect();
    let mut changed: Vec<&mut Value> = Vec::new();
    for item in new {
        match left.iter().position(|before| is_same_item(before, item)) {
            Some(at) => keep_unknown(left.remove(at), item),
            None => changed.push(item),
        }
    }
    for item in changed {
        if let Some(at) = left.iter().position(|before| is_same_slot(before, item)) {
            keep_unknown(left.remove(at), item);
        }
    }
}

/// Whether two items are places of the same task: who works there may have changed.
fn is_same_slot(old: &Value, new: &Value) -> bool {
    let of = |item: &Value| Some((item.get("run")?.clone(), item.get("task")?.clone()));
    of(old).is_some_and(|slot| of(new) == Some(slot))
}

/// Whether two items of a list are one thing: the same id, or alike in everything that this version knows.
fn is_same_item(old: &Value, new: &Value) -> bool {
    let (Some(old), Some(new)) = (old.as_object(), new.as_object()) else { return false };
    match (old.get("id"), new.get("id")) {
        (Some(old), Some(new)) => old == new,
        _ => new.iter().all(|(key, value)| old.get(key) == Some(value) || value.is_null() && !old.contains_key(key)),
    }
}

/// Checks a text that a caller hands in as JSON of its own; `what` names it in errors.
pub fn document(text: &str, what: &'static str) -> Result<Document, InvalidRecord> {
    let value = strict::read(text.as_bytes()).map_err(|source| InvalidRecord::NotJson { name: what, source })?;
    Ok(Document::from_checked_json(value.to_string()))
}

/// Reads usage figures that a caller hands in as JSON.
pub fn usage(text: &str) -> Result<Usage, InvalidRecord> {
    let value: Value = serde_json::from_str(text).map_err(|source| InvalidRecord::NotJson { name: "usage", source })?;
    Ok(Usage::read(&value, &Place::root("usage"))?)
}

/// Reads how an executor came to its session, from what a caller hands in.
pub fn attach(value: &Value) -> Result<crate::domain::session::Attach, InvalidField> {
    Field::read(value, &Place::root("attach"))
}
