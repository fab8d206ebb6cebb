//! Use cases: load, decide, store, act.
//!
//! The public API of the library: every command of the program is a method of [`tether::Tether`]. Must not know how anything is
//! shown, nor any exit code.

mod adopt;
pub mod at_risk;
mod branch_names;
pub mod checkpoint;
mod claims;
mod cut_off;
pub mod demo;
pub mod doctor;
pub mod environment;
mod environment_spec;
pub mod evidence;
pub mod execution;
pub mod failure;
pub mod gate;
pub mod gc;
mod held_paths;
mod held_work;
pub mod hierarchy;
pub mod history;
mod holds;
mod landed;
mod lease;
mod leftovers;
pub mod listing;
mod local;
mod making;
pub mod observe;
mod perform;
mod places;
pub mod pool;
mod recheck;
pub mod recover;
mod recovery_hook;
mod recreate;
mod remote_lease;
pub mod removal;
mod repair;
mod report;
mod report_text;
mod rescue;
pub mod reserve;
pub mod restore;
pub mod resume;
pub mod run;
pub mod salvage;
pub mod saving;
pub mod session;
mod snapshot_sink;
mod snapshot_words;
pub mod status;
pub mod supervise;
pub mod sync;
pub mod task;
pub mod tether;
pub mod watch;

pub use failure::{Failure, FailureKind};
pub use tether::Tether;
