//! The checkpoints that a supervisor takes of the task it holds: at the start, now and then, and when it is told to end.
//!
//! Must not know: when that is (`execution`). Invariants: only a task that runs under the supervisor's own session is saved; what the
//! executor itself said of replay, boundary, result and note stays as it said it.

use crate::app::checkpoint::{Saving, TakeCheckpoint};
use crate::app::tether::Tether;
use crate::domain::checkpoint::{ReplaySafety, TakenBy};
use crate::domain::ids::{SessionId, TaskAddress, TaskId};
use crate::domain::task::{Task, TaskState};
use crate::domain::view::RunView;
use crate::store::runs::Need;

impl Tether {
    /// Takes the first checkpoint of a task, so that a kill finds written down whether the task may run again.
    pub(super) fn take_first_checkpoint(&self, address: &TaskAddress, safety: Option<ReplaySafety>) -> Vec<String> {
        let taken = self.read_run(&address.run, &need_of(address)).and_then(|read| {
            let known = read.view.checkpoints.get(&address.task);
            if known.is_some_and(|known| safety.is_none_or(|safety| safety == known.replay_safety)) {
                return Ok(Vec::new());
            }
            let boundary = known.is_none().then(|| "start".to_owned());
            // Work that the last checkpoint names is to be named by this one too.
            let saving = match known.and_then(|known| known.work.as_ref()) {
                Some(_) => Saving::Work,
                None => Saving::Nothing,
            };
            let asked = TakeCheckpoint { boundary, replay_safety: safety, saving, ..TakeCheckpoint::default() };
            self.checkpoint(address, asked).map(|(_, said)| said)
        });
        taken.unwrap_or_else(|failure| vec![format!("no checkpoint was taken at the start: {}", failure.message)])
    }

    /// Saves the work of a task at once, in a checkpoint that leaves all else as the last one had it.
    pub(super) fn save_now(&self, session: &SessionId, address: &TaskAddress) -> Vec<String> {
        let saved = self.read_run(&address.run, &need_of(address)).and_then(|read| {
            if held_task(&read.view, &address.task, session).is_none() {
                return Ok(Vec::new());
            }
            let asked = TakeCheckpoint { by: TakenBy::Supervisor, ..TakeCheckpoint::default() };
            self.checkpoint(address, asked).map(|(_, said)| said)
        });
        saved.unwrap_or_else(|failure| vec![format!("the work could not be saved: {}", failure.message)])
    }

    /// The same, unless what is there is what the last checkpoint names already.
    pub(super) fn save_if_changed(&self, session: &SessionId, address: &TaskAddress, reason: &str) -> Vec<String> {
        let (run, task) = (&address.run, &address.task);
        let changed = self.read_run(run, &need_of(address)).and_then(|read| {
            let Some(held) = held_task(&read.view, task, session) else { return Ok(false) };
            let Some(environment) = read.view.environment_of(held) else { return Ok(false) };
            let place = self.save_environment(run, environment, Some(task), reason)?;
            Ok(place.work.as_ref() != read.view.checkpoints.get(task).and_then(|known| known.work.as_ref()))
        });
        match changed {
            Ok(true) => self.save_now(session, address),
            Ok(false) => Vec::new(),
            Err(failure) => vec![format!("the work could not be saved: {}", failure.message)],
        }
    }
}

/// A task with what hangs on it.
pub(super) fn need_of(address: &TaskAddress) -> Need {
    Need::run().with_task(&address.task)
}

/// The task, if it runs under this session.
pub(super) fn held_task<'v>(view: &'v RunView, task: &TaskId, session: &SessionId) -> Option<&'v Task> {
    view.tasks.get(task).filter(|task| task.state == TaskState::Running && task.session.as_ref() == Some(session))
}
