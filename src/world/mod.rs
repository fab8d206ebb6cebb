//! Looks at the machine, and acts on it.

pub mod snapshot;
