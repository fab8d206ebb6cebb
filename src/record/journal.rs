//! The journal's entries as JSON.

use serde_json::json;

use crate::domain::time::Timestamp;

/// One line of a journal entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JournalLine {
    /// The step's name.
    pub step: String,
    /// What it was about (`RUN/TASK`, a path).
    pub about: String,
    /// How it went.
    pub outcome: String,
    /// In words.
    pub message: String,
}

/// The bytes of an entry.
pub fn encode_journal(what: &str, lines: &[JournalLine], at: Timestamp) -> Vec<u8> {
    let lines: Vec<_> = lines
        .iter()
        .map(|line| json!({"step": line.step, "about": line.about, "outcome": line.outcome, "message": line.message}))
        .collect();
    let entry = json!({"schema": "tether.journal/1", "what": what, "at": at.to_string(), "lines": lines});
    format!("{entry:#}\n").into_bytes()
}
