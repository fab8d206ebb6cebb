//! Values and rules: what a run is, and how it may change.
//!
//! No I/O, no clock, no git. Everything here can be tested without a file system, and is.

#[cfg(test)]
pub(crate) mod any_event;
pub mod checkpoint;
pub mod claim;
pub mod document;
pub mod environment;
pub mod event;
pub mod gate;
pub mod ids;
pub mod liveness;
pub mod names;
pub mod pool;
pub mod restoration;
pub mod run;
#[cfg(test)]
pub(crate) mod samples;
pub mod saved;
pub mod secrets;
pub mod session;
pub mod task;
pub mod time;
pub mod transition;
pub mod view;
