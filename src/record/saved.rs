//! The list of saved work that a keeper's tree holds.

use serde_json::{Map, Value};

use super::field::{Field, Place, named_fields, object, object_fields};
use super::json::InvalidRecord;
use crate::domain::saved::{SavedEntry, SavedKind};

named_fields!(SavedKind);
object_fields!(SavedEntry { id, kind, run, task, environment, commit, base, branch, files, bytes, reason, at });

const NAME: &str = "saved";

/// The bytes of a list.
pub fn encode_saved(entries: &[SavedEntry]) -> Vec<u8> {
    let mut map = Map::new();
    map.insert("schema".to_owned(), Value::from("tether.saved/1"));
    map.insert(NAME.to_owned(), entries.iter().map(Field::write).collect());
    let mut text = format!("{:#}", Value::Object(map));
    text.push('\n');
    text.into_bytes()
}

/// Reads a list.
pub fn decode_saved(bytes: &[u8]) -> Result<Vec<SavedEntry>, InvalidRecord> {
    let value: Value = serde_json::from_slice(bytes).map_err(|source| InvalidRecord::NotJson { name: NAME, source })?;
    let place = Place::root(NAME);
    let entries = object(&value, &place)?.get(NAME).unwrap_or(&Value::Null);
    Ok(Field::read(entries, &place)?)
}

/// One entry as JSON, for an answer.
pub fn saved_json(entry: &SavedEntry) -> Value {
    entry.write()
}
