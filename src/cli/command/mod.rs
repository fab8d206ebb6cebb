//! One file a command: its arguments, one call into `app`, the answer.

pub(crate) mod activity;
pub(crate) mod cancel;
pub(crate) mod claim;
pub(crate) mod fence;
pub(crate) mod finish;
pub(crate) mod pause;
pub(crate) mod pool;
pub(crate) mod pull;
pub(crate) mod push;
pub(crate) mod recover;
pub(crate) mod report;
pub(crate) mod session;
pub(crate) mod show;
pub(crate) mod start;
pub(crate) mod status;
pub(crate) mod sync;
pub(crate) mod task;
pub(crate) mod unpause;
pub(crate) mod verify;
