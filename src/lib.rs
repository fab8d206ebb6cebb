//! git-tether keeps work that runs in a git repository attached to that repository.

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests start what they test against"))]

pub mod app;
pub mod cli;
pub mod domain;
pub mod git;
pub mod plan;
pub mod record;
pub mod store;
pub mod world;
