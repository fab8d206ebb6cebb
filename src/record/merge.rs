//! What this version does not know of two forms of one record, brought together.
//!
//! Must not know any record. Invariants: the outcome does not depend on which form is ours; nothing unknown that either form
//! holds is lost, unless the other took it away.

use serde_json::{Map, Value};

use super::json::Written;

/// What either form holds, as the source of unknown fields for [`encode`](super::encode).
pub fn merge_written(base: Option<&Written>, ours: &Written, theirs: &Written) -> Written {
    Written(merge_forms(base.map(|base| &base.0), &ours.0, &theirs.0))
}

fn merge_forms(base: Option<&Value>, ours: &Value, theirs: &Value) -> Value {
    if ours == theirs || base == Some(theirs) {
        return ours.clone();
    }
    if base == Some(ours) {
        return theirs.clone();
    }
    // The later form goes first; of two of one time the one whose text is greater, which is the same here and there.
    let key = |value: &Value| {
        let time = value.get("updated_at").and_then(Value::as_str).unwrap_or_default();
        (time.to_owned(), value.to_string())
    };
    let (first, second) = if key(ours) >= key(theirs) { (ours, theirs) } else { (theirs, ours) };
    merge(base, first, second)
}

fn merge(base: Option<&Value>, first: &Value, second: &Value) -> Value {
    if base == Some(first) {
        return second.clone();
    }
    match (first, second) {
        (Value::Object(one), Value::Object(other)) => Value::Object(merge_objects(base, one, other)),
        (Value::Array(one), Value::Array(other)) => {
            let before = base.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
            let kept = |item: &&Value| !before.contains(item) || (one.contains(item) && other.contains(item));
            let more = other.iter().filter(|item| !one.contains(item));
            Value::Array(one.iter().chain(more).filter(kept).cloned().collect())
        }
        _ => first.clone(),
    }
}

fn merge_objects(base: Option<&Value>, one: &Map<String, Value>, other: &Map<String, Value>) -> Map<String, Value> {
    let before = |key: &str| base.and_then(|base| base.get(key));
    let mut merged = Map::new();
    for (key, value) in one {
        match other.get(key) {
            Some(second) => merged.insert(key.clone(), merge(before(key), value, second)),
            None if before(key) == Some(value) => None,
            None => merged.insert(key.clone(), value.clone()),
        };
    }
    for (key, value) in other {
        if !one.contains_key(key) && before(key) != Some(value) {
            merged.insert(key.clone(), value.clone());
        }
    }
    merged
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_fields_of_both_forms_are_kept_in_either_order() {
        let value = |text: &str| serde_json::from_str::<Value>(text).unwrap_or_default();
        let base = value(r#"{"updated_at":"1","x":1,"gone":1,"list":[1,2]}"#);
        let ours = value(r#"{"updated_at":"2","x":1,"ours":{"a":1},"list":[1,2,3]}"#);
        let theirs = value(r#"{"updated_at":"3","x":2,"gone":1,"theirs":true,"list":[2,4]}"#);
        let merged = merge_forms(Some(&base), &ours, &theirs);
        assert_eq!(merged, merge_forms(Some(&base), &theirs, &ours));
        assert_eq!(merged, value(r#"{"updated_at":"3","x":2,"theirs":true,"list":[2,4,3],"ours":{"a":1}}"#));
        assert_eq!(merge_forms(Some(&base), &base, &ours), ours);
    }
}
