//! One file a command: its arguments, one call into `app`, the answer.

#![allow(
    clippy::needless_pass_by_value,
    reason = "a command takes its arguments whole, whether it uses them up or not"
)]
#![allow(clippy::struct_excessive_bools, reason = "a flag is a bool to the parser of arguments, and no further")]

pub(crate) mod abort;
pub(crate) mod activity;
pub(crate) mod answer;
pub(crate) mod approve;
pub(crate) mod ask;
pub(crate) mod cancel;
pub(crate) mod checkpoint;
pub(crate) mod claim;
pub(crate) mod completions;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod env;
pub(crate) mod fence;
pub(crate) mod finish;
pub(crate) mod gate;
pub(crate) mod gc;
pub(crate) mod log;
pub(crate) mod man;
pub(crate) mod pause;
pub(crate) mod pool;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod recover;
pub(crate) mod reject;
pub(crate) mod report;
pub(crate) mod restore;
pub(crate) mod resume;
pub(crate) mod run;
pub(crate) mod salvage;
pub(crate) mod session;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod unpause;
pub(crate) mod verify;
pub(crate) mod waiting;
pub(crate) mod watch;
