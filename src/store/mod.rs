//! The store: refs and objects below `refs/tether/`, and chains of commits made of them.
//!
//! Owns: reading, compare-and-swap, durability, the layout of trees. Must not know: what a record says, what the world looks like, or who asks.
//! Invariant: one transition is one commit and one compare-and-swap of one ref, on disk when it is reported.

mod archive;
pub mod backend;
pub mod chain;
pub mod checkup;
mod commit;
mod deflate;
pub mod fold;
pub mod memory;
mod mend;
pub mod names;
pub mod objects;
mod saved_list;
pub mod sharing;
pub mod tree;
mod upkeep;

mod file_refs;
mod files;
mod git_cli;
pub mod history;
pub mod journal;
mod known_directories;
pub mod ledger;
mod locks;
pub mod merge;
mod open;
mod pack;
mod placed;
mod read_run;
mod reindex;
pub mod release;
mod run_change;
pub mod runs;
pub mod singles;
pub mod transact;
mod turns;
mod values;
pub mod work;

pub use backend::Backend;
pub use locks::{LockError, StaleLock};
pub use names::{NameError, RefName, RefPrefix};
pub use open::open;

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it fails")]
mod tests;
