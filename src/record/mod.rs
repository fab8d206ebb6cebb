//! Domain values as bytes, and back: versioned JSON, the layout of a tree, commit messages.
//!
//! Must not know where bytes are kept. Invariants: a field that this version does not know survives every rewrite, at any depth;
//! a newer major schema is refused; the fields stand in the order of the specification, so that a diff of two states reads well.

mod environment;
mod field;
pub mod journal;
mod json;
pub mod layout;
mod merge;
pub mod message;
mod restoration;
mod run;
pub mod saved;
mod session;
mod strict;
mod task;

pub use field::InvalidField;
pub use json::{
    InvalidRecord, LARGEST_RECORD, Record, Stored, Written, attach, check_json, decode, document, encode, fields,
    to_json, usage,
};
pub use merge::merge_written;
pub use run::summary;

#[cfg(test)]
mod tests;
