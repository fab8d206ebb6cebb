//! JSON that callers hand in and get back (`metadata`), opaque to every rule.

use std::fmt;

/// The text of one JSON value; checked where it comes in, never looked into here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document(String);

impl Document {
    /// Takes the text of a JSON value that the caller has checked.
    pub fn from_checked_json(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The JSON text.
    pub fn as_json(&self) -> &str {
        &self.0
    }
}

impl Default for Document {
    /// An empty object.
    fn default() -> Self {
        Self("{}".to_owned())
    }
}

impl fmt::Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}
