//! What time it is.
//!
//! Owns: the only question to the system's clock. Must not know: what any time is compared with.
//! Invariant: one command sees one clock; `GIT_TETHER_NOW` (RFC 3339) stops it, so that tests and documentation can be exact.
//! Nothing is safer with a true clock than with a stopped one: no verdict of death follows from time alone.

use std::path::Path;
use std::time::SystemTime;

use chrono::{DateTime, SubsecRound, Utc};

use crate::git::Surroundings;

/// The variable that stops the clock.
pub const VARIABLE: &str = "GIT_TETHER_NOW";

/// A clock, which runs or stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Clock {
    /// The system's.
    Running,
    /// One that always tells the same time.
    Stopped(DateTime<Utc>),
}

/// `GIT_TETHER_NOW` is no time.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad value '{value}' for {VARIABLE}: it must be a time like 2026-01-31T12:00:00Z")]
pub struct ClockError {
    /// What it holds.
    pub value: String,
    /// What is wrong with it.
    source: chrono::ParseError,
}

impl Clock {
    /// The clock that these surroundings ask for.
    pub fn of(surroundings: &Surroundings) -> Result<Self, ClockError> {
        let Some(value) = surroundings.variable(VARIABLE) else { return Ok(Self::Running) };
        let value = value.to_string_lossy();
        match DateTime::parse_from_rfc3339(&value) {
            Ok(time) => Ok(Self::Stopped(time.with_timezone(&Utc))),
            Err(source) => Err(ClockError { value: value.into_owned(), source }),
        }
    }

    /// Now, to the microsecond.
    pub fn now(self) -> DateTime<Utc> {
        match self {
            #[allow(clippy::disallowed_methods, reason = "this is the home of the clock")]
            Self::Running => Utc::now().trunc_subsecs(6),
            Self::Stopped(time) => time,
        }
    }
}

/// Seconds and nanoseconds of the clock that the kernel stamps files with. It moves in ticks of some milliseconds: a change made now gets
/// this stamp or a later one, never an earlier one.
pub fn read_stamping_clock() -> (i64, i64) {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::RealtimeCoarse);
    (now.tv_sec, now.tv_nsec)
}

/// When the file at `path` was last written, by its file system's clock; `None` if there is none to be seen.
pub fn find_time_written(path: &Path) -> Option<DateTime<Utc>> {
    let written: SystemTime = std::fs::symlink_metadata(path).and_then(|found| found.modified()).ok()?;
    Some(DateTime::from(written))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test may panic")]

    use super::*;

    #[test]
    fn a_variable_stops_the_clock() {
        let here = Surroundings::isolated("/");
        assert_eq!(Clock::of(&here).unwrap(), Clock::Running);
        let stopped = Clock::of(&here.clone().with_variable(VARIABLE, "2026-01-31T13:00:00+01:00")).unwrap();
        assert_eq!(stopped.now().to_rfc3339(), "2026-01-31T12:00:00+00:00");
        assert!(Clock::of(&here.with_variable(VARIABLE, "soon")).is_err());
    }
}
