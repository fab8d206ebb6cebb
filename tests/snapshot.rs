//! Saved work comes back exactly: save, prune, destroy, make anew, restore, compare everything.

#![allow(clippy::unwrap_used, reason = "a test ends where something is not as it should be")]

#[path = "recovery/snapshot_cases.rs"]
mod cases;
#[path = "recovery/snapshot_fixture.rs"]
mod fixture;
#[path = "recovery/snapshot_property.rs"]
mod property;
#[path = "recovery/snapshot_shapes.rs"]
mod shapes;
#[path = "recovery/snapshot_speed.rs"]
mod speed;
