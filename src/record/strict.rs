//! JSON as records may hold it: whole, in UTF-8, of bounded depth, and without a key that stands twice in one object.
//!
//! Must not know what any record means. Invariant: two readers of the same bytes never see two different records (of a key that
//! stands twice one takes the first value, the other the last).

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

/// Reads a JSON value; a key that stands twice is an error, as is anything nested deeper than 128.
pub(super) fn read(bytes: &[u8]) -> Result<Value, serde_json::Error> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    Checked.deserialize(&mut reader)?;
    reader.end()?;
    serde_json::from_slice(bytes)
}

/// Walks a value and keeps nothing of it but the keys of the objects that it is in.
struct Checked;

impl<'de> DeserializeSeed<'de> for Checked {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<(), D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Checked {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Checked)?.is_some() {}
        Ok(())
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<(), A::Error> {
        let mut keys = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            entries.next_value_seed(Checked)?;
            if let Some(twice) = keys.replace(key) {
                return Err(A::Error::custom(format_args!("the key `{}` stands twice", twice.escape_debug())));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_stands_once_at_every_depth() {
        for good in [r#"{"a":1,"b":{"a":2}}"#, r#"[{"a":1},{"a":-1.5e300}]"#, "12345678901234567890123", "null"] {
            assert!(read(good.as_bytes()).is_ok(), "{good}");
        }
        for bad in [r#"{"a":1,"a":1}"#, r#"[{"x":{"b":1,"c":2,"b":3}}]"#, "{\"a\":1,\"\\u0061\":2}", "{} {}", "{", ""] {
            assert!(read(bad.as_bytes()).is_err(), "{bad}");
        }
        assert!(read(b"{\"a\":\"\xff\"}").is_err(), "not UTF-8");
        assert!(read(format!("{}1{}", "[".repeat(127), "]".repeat(127)).as_bytes()).is_ok());
        assert!(read(format!("{}1{}", "[".repeat(129), "]".repeat(129)).as_bytes()).is_err());
    }

    #[test]
    fn a_number_keeps_its_digits() {
        let text = r#"{"cost":123456789012345678901234567890.5}"#;
        assert_eq!(read(text.as_bytes()).map(|value| value.to_string()).ok().as_deref(), Some(text));
    }
}
