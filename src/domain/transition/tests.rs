//! The rules as tables and as laws, stated here from the specification and not from the code.
//!
//! The tables name every state and every event; the laws hold after each of any sequence of events.

mod gates;
mod laws;
mod runs;
mod tables;
