//! A pool: a group of executors with a limit and a back-off.

use std::time::Duration;

use super::ids::{PoolName, RunId, SessionId, TaskAddress, TaskId};
use super::time::Timestamp;

/// The first back-off after a failure.
pub const FIRST_BACKOFF: Duration = Duration::from_secs(30);
/// The longest back-off.
pub const LONGEST_BACKOFF: Duration = Duration::from_hours(1);

/// A task that takes one of the pool's places.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    /// Its run.
    pub run: RunId,
    /// The task.
    pub task: TaskId,
    /// Who works on it.
    pub session: Option<SessionId>,
}

/// A group of executors with a limit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pool {
    /// Its name.
    pub id: PoolName,
    /// How many may run at once; `None`: any number, still counted.
    pub max_running: Option<u32>,
    /// What runs.
    pub running: Vec<Slot>,
    /// Nothing starts before this moment.
    pub backoff_until: Option<Timestamp>,
    /// How many failures came one after the other.
    pub failures: u32,
    /// What was said of the last.
    pub last_failure: Option<String>,
}

/// Why a pool gives no place now.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NoSlot {
    /// All places are taken.
    #[error("pool {pool} is full: {running} of {max} run")]
    Full {
        /// The pool.
        pool: PoolName,
        /// How many run.
        running: usize,
        /// How many may.
        max: u32,
    },
    /// It backs off after a failure.
    #[error("pool {pool} backs off until {until}")]
    BackingOff {
        /// The pool.
        pool: PoolName,
        /// Until when.
        until: Timestamp,
    },
}

impl Pool {
    /// A pool without limit in which nothing runs.
    pub fn new(id: PoolName) -> Self {
        Self { id, max_running: None, running: Vec::new(), backoff_until: None, failures: 0, last_failure: None }
    }

    /// Whether a task could start now.
    pub fn admits(&self, now: Timestamp) -> Result<(), NoSlot> {
        if let Some(until) = self.backoff_until.filter(|until| *until > now) {
            return Err(NoSlot::BackingOff { pool: self.id.clone(), until });
        }
        match self.max_running {
            Some(max) if self.running.len() >= max as usize => {
                Err(NoSlot::Full { pool: self.id.clone(), running: self.running.len(), max })
            }
            _ => Ok(()),
        }
    }

    /// The pool after the task took a place; one that it has already stays its own.
    pub fn with_slot(&self, slot: Slot, now: Timestamp) -> Result<Self, NoSlot> {
        let mut next = self.clone();
        if let Some(own) = next.running.iter_mut().find(|own| own.run == slot.run && own.task == slot.task) {
            own.session = slot.session;
            return Ok(next);
        }
        self.admits(now)?;
        next.running.push(slot);
        Ok(next)
    }

    /// The pool after the task gave its place back.
    #[must_use]
    pub fn without_slot(&self, task: &TaskAddress) -> Self {
        let mut next = self.clone();
        next.running.retain(|slot| slot.run != task.run || slot.task != task.task);
        next
    }

    /// The pool after a failure: the back-off doubles, from 30 s to 1 h.
    #[must_use]
    pub fn failed(&self, reason: Option<String>, now: Timestamp) -> Self {
        let doubled = FIRST_BACKOFF.saturating_mul(1 << self.failures.min(10));
        Self {
            failures: self.failures.saturating_add(1),
            backoff_until: Some(now.plus(doubled.min(LONGEST_BACKOFF))),
            last_failure: reason,
            ..self.clone()
        }
    }

    /// The pool after a success, or after somebody cleared it.
    #[must_use]
    pub fn cleared(&self) -> Self {
        Self { failures: 0, backoff_until: None, last_failure: None, ..self.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_back_off_doubles_from_half_a_minute_to_an_hour() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let mut pool = Pool::new(PoolName::new("codex").expect("a name"));
        for seconds in [30, 60, 120, 240, 480, 960, 1_920, 3_600, 3_600] {
            pool = pool.failed(None, now);
            assert_eq!(pool.backoff_until.map(|until| until.since(now).as_secs()), Some(seconds));
        }
        assert_eq!(pool.cleared(), Pool::new(pool.id.clone()));
    }
}
