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

    /// The pool after the task gave back the place that was held for this session; another starter may have taken it over.
    #[must_use]
    pub fn without_slot_of(&self, task: &TaskAddress, session: Option<&SessionId>) -> Self {
        let mut next = self.clone();
        next.running.retain(|slot| slot.run != task.run || slot.task != task.task || slot.session.as_ref() != session);
        next
    }

    /// The pool after a starter that lost a race for a task passed the place on to the session that won it.
    #[must_use]
    pub fn with_slot_passed_on(&self, task: &TaskAddress, from: &SessionId, to: Option<&SessionId>) -> Self {
        let mut next = self.clone();
        for slot in &mut next.running {
            if slot.run == task.run && slot.task == task.task && slot.session.as_ref() == Some(from) {
                slot.session = to.cloned();
            }
        }
        next
    }

    /// Whether the task has a place.
    pub fn holds(&self, task: &TaskAddress) -> bool {
        self.running.iter().any(|slot| slot.run == task.run && slot.task == task.task)
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

    #[test]
    fn a_place_that_changed_hands_is_given_back_by_its_last_holder_only() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().expect("a time");
        let session = |id: &str| SessionId::new(id).expect("an id");
        let task = TaskAddress { run: RunId::new("r").expect("an id"), task: TaskId::new("t").expect("an id") };
        let slot = |id: &str| Slot { run: task.run.clone(), task: task.task.clone(), session: Some(session(id)) };
        let pool = Pool { max_running: Some(1), ..Pool::new(PoolName::new("codex").expect("a name")) };
        let pool = pool.with_slot(slot("a"), now).expect("there is room");
        let pool = pool.with_slot(slot("b"), now).expect("the task has a place already");
        assert!(pool.without_slot_of(&task, Some(&session("a"))).holds(&task));
        let passed_on = pool.with_slot_passed_on(&task, &session("b"), Some(&session("a")));
        assert_eq!(passed_on.running, [slot("a")]);
        assert_eq!(pool.with_slot_passed_on(&task, &session("c"), None), pool);
        assert!(!passed_on.without_slot_of(&task, Some(&session("a"))).holds(&task));
    }
}
