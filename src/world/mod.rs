//! Looks at this machine, and acts on it: worktrees, processes, paths, clocks.
//!
//! Stands on `git` alone. It knows no record, no store and no plan: what a fact means is decided above.

pub mod cleanliness;
pub mod clock;
pub mod durable;
pub mod host;
pub mod live;
pub mod making_lock;
mod named_lock;
pub mod paths;
pub mod paths_lock;
pub mod processes;
pub mod remote;
pub mod reserving;
pub mod shell;
pub mod snapshot;
pub mod supervise;
pub mod worktree_facts;
mod worktree_lock;
pub mod worktree_make;
mod worktree_make_error;
pub mod worktree_mark;
mod worktree_register;
pub mod worktree_remove;
pub mod worktree_staging;
pub mod worktrees;

#[cfg(test)]
mod test_repository;
