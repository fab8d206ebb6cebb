//! How one value becomes JSON and comes back.
//!
//! Owns the trait and its instances for plain values. Invariant: what was written reads back equal; what is absent reads as null.

use std::path::PathBuf;
use std::str::FromStr;

use serde_json::{Map, Number, Value};

use crate::domain::document::Document;
use crate::domain::ids::{EnvironmentId, GateId, HostId, Oid, PoolName, RunId, SessionId, TaskId, TaskPointer, Token};
use crate::domain::names::Named;
use crate::domain::time::Timestamp;

/// Where in a record a value stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    key: &'a str,
}

impl<'a> Place<'a> {
    pub(crate) fn root(name: &'a str) -> Self {
        Self { parent: None, key: name }
    }

    pub(crate) fn child(&'a self, key: &'a str) -> Self {
        Self { parent: Some(self), key }
    }
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.parent {
            Some(parent) => write!(f, "{parent}.{}", self.key),
            None => f.write_str(self.key),
        }
    }
}

/// A value that is not what its field holds.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{place}: {problem}")]
pub struct InvalidField {
    /// Where, as a path from the record's name.
    pub place: String,
    /// What is wrong there.
    pub problem: String,
}

pub(crate) fn invalid(place: &Place<'_>, problem: impl Into<String>) -> InvalidField {
    InvalidField { place: place.to_string(), problem: problem.into() }
}

/// A value that has a form in JSON.
pub(crate) trait Field: Sized {
    /// Its JSON.
    fn write(&self) -> Value;
    /// The value of this JSON; `Null` where there was none.
    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField>;
}

fn text<'v>(value: &'v Value, place: &Place<'_>) -> Result<&'v str, InvalidField> {
    value.as_str().ok_or_else(|| invalid(place, format!("expected a text, found {}", kind_of(value))))
}

pub(crate) fn object<'v>(value: &'v Value, place: &Place<'_>) -> Result<&'v Map<String, Value>, InvalidField> {
    value.as_object().ok_or_else(|| invalid(place, format!("expected an object, found {}", kind_of(value))))
}

pub(crate) fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "nothing",
        Value::Bool(_) => "true or false",
        Value::Number(_) => "a number",
        Value::String(_) => "a text",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

macro_rules! parsed_text {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn write(&self) -> Value {
                Value::String(self.to_string())
            }
            fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
                <$type>::from_str(text(value, place)?).map_err(|error| invalid(place, error.to_string()))
            }
        }
    )+};
}
parsed_text!(RunId, TaskId, EnvironmentId, GateId, SessionId, PoolName, TaskPointer, Timestamp);

macro_rules! plain_text {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn write(&self) -> Value {
                Value::String(self.0.clone())
            }
            fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
                Ok(Self(text(value, place)?.to_owned()))
            }
        }
    )+};
}
plain_text!(HostId, Token, Oid);

macro_rules! whole_number {
    ($($type:ty),+) => {$(
        impl Field for $type {
            fn write(&self) -> Value {
                Value::Number(Number::from(*self))
            }
            fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
                let number = value.as_i64().map(i128::from).or_else(|| value.as_u64().map(i128::from));
                number
                    .and_then(|number| Self::try_from(number).ok())
                    .ok_or_else(|| invalid(place, format!("expected a whole number that fits, found {}", kind_of(value))))
            }
        }
    )+};
}
whole_number!(u8, u32, u64, i32, i64);

impl Field for bool {
    fn write(&self) -> Value {
        Value::Bool(*self)
    }
    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        match value {
            Value::Null => Ok(false),
            Value::Bool(value) => Ok(*value),
            other => Err(invalid(place, format!("expected true or false, found {}", kind_of(other)))),
        }
    }
}

impl Field for String {
    fn write(&self) -> Value {
        Value::String(self.clone())
    }
    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        Ok(text(value, place)?.to_owned())
    }
}

impl Field for PathBuf {
    /// Paths that are not UTF-8 are refused where they come in, so that none reaches a record.
    fn write(&self) -> Value {
        Value::String(self.to_string_lossy().into_owned())
    }
    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        Ok(Self::from(text(value, place)?))
    }
}

impl Field for Document {
    fn write(&self) -> Value {
        serde_json::from_str(self.as_json()).unwrap_or(Value::Null)
    }
    fn read(value: &Value, _place: &Place<'_>) -> Result<Self, InvalidField> {
        Ok(Self::from_checked_json(value.to_string()))
    }
}

impl<T: Field> Field for Option<T> {
    fn write(&self) -> Value {
        self.as_ref().map_or(Value::Null, Field::write)
    }
    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        if value.is_null() { Ok(None) } else { T::read(value, place).map(Some) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn write(&self) -> Value {
        Value::Array(self.iter().map(Field::write).collect())
    }
    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        match value {
            Value::Null => Ok(Self::new()),
            Value::Array(items) => {
                items.iter().enumerate().map(|(index, item)| T::read(item, &place.child(&index.to_string()))).collect()
            }
            other => Err(invalid(place, format!("expected a list, found {}", kind_of(other)))),
        }
    }
}

pub(crate) fn read_named<T: Named>(value: &Value, place: &Place<'_>) -> Result<T, InvalidField> {
    T::from_name(text(value, place)?).map_err(|error| invalid(place, error.to_string()))
}

/// Fields that are enums of the domain.
macro_rules! named_fields {
    ($($type:ty),+ $(,)?) => {$(
        impl $crate::record::field::Field for $type {
            fn write(&self) -> serde_json::Value {
                serde_json::Value::String($crate::domain::names::Named::name(*self).to_owned())
            }
            fn read(value: &serde_json::Value, place: &$crate::record::field::Place<'_>) -> Result<Self, $crate::record::field::InvalidField> {
                $crate::record::field::read_named(value, place)
            }
        }
    )+};
}
pub(crate) use named_fields;

/// An object whose fields have the names of the struct's, in the order in which they stand here.
macro_rules! object_fields {
    ($type:ty { $($field:ident),+ $(,)? }) => {
        impl $crate::record::field::Field for $type {
            fn write(&self) -> serde_json::Value {
                let mut map = serde_json::Map::new();
                $( map.insert(stringify!($field).to_owned(), $crate::record::field::Field::write(&self.$field)); )+
                serde_json::Value::Object(map)
            }
            fn read(value: &serde_json::Value, place: &$crate::record::field::Place<'_>) -> Result<Self, $crate::record::field::InvalidField> {
                let map = $crate::record::field::object(value, place)?;
                Ok(Self { $(
                    $field: $crate::record::field::Field::read(
                        map.get(stringify!($field)).unwrap_or(&serde_json::Value::Null),
                        &place.child(stringify!($field)),
                    )?
                ),+ })
            }
        }
    };
}
pub(crate) use object_fields;
