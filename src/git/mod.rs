//! Git as such: opening a repository, its settings, and the git program.
//!
//! Below `store` and `world`, which both stand on it; it knows nothing of runs, records or recovery.

mod program;

pub use program::{Git, GitError, GitOutput};
