//! Pure decisions over facts: what differs between record and reality, and what is to be done about it.
//!
//! Must not know how facts are gathered, records kept or steps carried out. Invariants: planning changes nothing; planning again
//! over what a plan leaves behind yields nothing.

pub mod finding;
pub mod merge;
mod merge_rules;
pub mod observation;
pub mod recover;
pub mod restore;
pub mod resume;
pub mod step;
pub mod verify;

#[cfg(test)]
mod tests;
