//! Pools: places, limits, back-off, and the queue that is derived from tasks.

use crate::app::failure::Failure;
use crate::app::listing::Listing;
use crate::app::tether::Tether;
use crate::domain::ids::{PoolName, SessionId, TaskAddress};
use crate::domain::pool::{NoSlot, Pool, Slot};
use crate::domain::task::{Task, TaskState};
use crate::domain::time::Timestamp;
use crate::domain::transition::startable;
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::store::singles::Change;

/// A pool with the tasks that wait for a place in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QueuedPool {
    /// The pool.
    pub pool: Pool,
    /// The tasks that could start, next first.
    pub queue: Vec<TaskAddress>,
}

impl Tether {
    fn change_pool(
        &self,
        name: &PoolName,
        what: &str,
        event: &'static str,
        decide: impl Fn(&Pool, Timestamp) -> Result<Pool, NoSlot>,
    ) -> Result<Pool, Failure> {
        let now = self.now();
        let changed = self.ledger().change_single::<Pool, NoSlot>(name, now, |known| {
            let before = known.cloned().unwrap_or_else(|| Pool::new(name.clone()));
            let record = decide(&before, now)?;
            Ok((known.is_some() || record != before).then(|| Change { record, what: what.to_owned(), event }))
        })?;
        Ok(changed.unwrap_or_else(|| Pool::new(name.clone())))
    }

    pub(super) fn take_slot(&self, pool: &PoolName, task: &TaskAddress, session: &SessionId) -> Result<(), Failure> {
        let slot = Slot { run: task.run.clone(), task: task.task.clone(), session: Some(session.clone()) };
        self.change_pool(pool, &format!("{task} starts"), "slot_taken", |pool, now| pool.with_slot(slot.clone(), now))?;
        Ok(())
    }

    /// Refuses unless the pool has a place for the task now. Whether it still has when the place is taken is decided there.
    pub(super) fn require_place(&self, pool: &PoolName, task: &TaskAddress) -> Result<(), Failure> {
        match self.ledger().read_single::<Pool>(pool)? {
            Some(known) if !known.holds(task) => Ok(known.admits(self.now())?),
            _ => Ok(()),
        }
    }

    /// Gives the place of a task back that is held for this session; one that is not there is no error.
    pub fn give_slot_back(
        &self,
        pool: &PoolName,
        task: &TaskAddress,
        session: Option<&SessionId>,
    ) -> Result<(), Failure> {
        let freed = |pool: &Pool, _: Timestamp| Ok(pool.without_slot_of(task, session));
        self.change_pool(pool, &format!("{task} has stopped"), "slot_freed", freed)?;
        Ok(())
    }

    /// Leaves the place of a start that was refused: to whoever started the task instead, else to the pool.
    pub(super) fn leave_slot(&self, pool: &PoolName, task: &TaskAddress, session: &SessionId) -> Result<(), Failure> {
        let read = self.ledger().read_run(&task.run, &Need::run().with_task(&task.task))?;
        let started = read.and_then(|read| read.view.tasks.get(&task.task).cloned());
        match started.filter(|task| task.state == TaskState::Running) {
            Some(running) => {
                let to = running.session.as_ref();
                let passed_on = |pool: &Pool, _: Timestamp| Ok(pool.with_slot_passed_on(task, session, to));
                self.change_pool(pool, &format!("{task} was started by another"), "slot_passed_on", passed_on)?;
                Ok(())
            }
            None => self.give_slot_back(pool, task, Some(session)),
        }
    }

    pub(super) fn note_pool_success(&self, pool: &PoolName) -> Result<(), Failure> {
        self.change_pool(pool, "back-off cleared", "pool_cleared", |pool, _| Ok(pool.cleared()))?;
        Ok(())
    }

    pub(super) fn note_pool_failure(&self, pool: &PoolName, reason: Option<&str>) -> Result<(), Failure> {
        let fail = |pool: &Pool, now| Ok(pool.failed(reason.map(ToOwned::to_owned), now));
        self.change_pool(pool, "backs off", "pool_failed", fail)?;
        Ok(())
    }

    /// Sets how many tasks of a pool may run at once.
    pub fn set_pool(&self, pool: &PoolName, max: u32) -> Result<QueuedPool, Failure> {
        let set = |pool: &Pool, _: Timestamp| Ok(Pool { max_running: Some(max), ..pool.clone() });
        let pool = self.change_pool(pool, &format!("at most {max} run"), "pool_set", set)?;
        self.with_queue(pool)
    }

    /// Says that a pool has failed: it backs off.
    pub fn fail_pool(&self, pool: &PoolName, reason: Option<&str>) -> Result<QueuedPool, Failure> {
        self.note_pool_failure(pool, reason)?;
        self.show_pool(pool)
    }

    /// Ends the back-off of a pool; one that does not exist is no error.
    pub fn clear_pool(&self, pool: &PoolName) -> Result<QueuedPool, Failure> {
        let cleared = self.change_pool(pool, "back-off cleared", "pool_cleared", |pool, _| Ok(pool.cleared()))?;
        self.with_queue(cleared)
    }

    /// A pool with its queue; any that a task names exists.
    pub fn show_pool(&self, name: &PoolName) -> Result<QueuedPool, Failure> {
        let known = self.ledger().read_single::<Pool>(name)?;
        let queued = self.with_queue(known.clone().unwrap_or_else(|| Pool::new(name.clone())))?;
        if known.is_none() && queued.queue.is_empty() && !self.is_pool_named(name)? {
            let pools = self.ledger().list_singles::<Pool>()?.0;
            return Err(Failure::unknown("pool", name.as_str(), pools.iter().map(|pool| pool.id.as_str())));
        }
        Ok(queued)
    }

    fn is_pool_named(&self, name: &PoolName) -> Result<bool, Failure> {
        let (views, _) = self.read_all_runs()?;
        Ok(views.iter().any(|view| view.tasks.values().any(|task| task.pool.as_ref() == Some(name))))
    }

    /// Every pool that is recorded.
    pub fn list_pools(&self) -> Result<Listing<Pool>, Failure> {
        self.list_all::<Pool>()
    }

    fn with_queue(&self, pool: Pool) -> Result<QueuedPool, Failure> {
        let (views, _) = self.read_all_runs()?;
        let queue = queue_of(&views, Some(&pool.id), self.now());
        Ok(QueuedPool { pool, queue: queue.into_iter().map(super::super::domain::task::Task::address).collect() })
    }
}

/// Tasks that could start but for their pool, next first: higher priority, then older.
pub fn queue_of<'v>(views: &'v [RunView], pool: Option<&PoolName>, now: Timestamp) -> Vec<&'v Task> {
    let mut queue: Vec<&Task> = views
        .iter()
        .flat_map(|view| view.tasks.values().map(move |task| (view, task)))
        .filter(|(_, task)| task.state == TaskState::Queued && (pool.is_none() || task.pool.as_ref() == pool))
        .filter(|(view, task)| startable(view, &task.id, now).is_ok())
        .map(|(_, task)| task)
        .collect();
    queue.sort_by(|a, b| (-a.priority, a.created_at, &a.run, &a.id).cmp(&(-b.priority, b.created_at, &b.run, &b.id)));
    queue
}
