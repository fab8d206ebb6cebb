//! The machine: looks at it, and acts on it.
//!
//! Stands on `git` and `domain`; knows neither how records are kept nor what is decided about them.

pub mod supervise;
