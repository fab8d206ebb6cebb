//! git-tether keeps work that runs in a git repository attached to that repository.

pub mod git;
pub mod world;
