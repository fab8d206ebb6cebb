//! `apply(state, event)`: the only way a state changes.
//!
//! Owns which transitions are legal and what follows from each. Must not know where records are kept or what time it is.
//! Invariants: a refused event changes nothing; after every event the run's summary, status and attention agree with its tasks
//! and gates; nothing leaves a terminal state.

mod draft;
mod environment;
mod gate;
mod holding;
mod leasing;
mod merged;
mod refused;
mod run;
mod saved;
mod task;

pub use merged::settle_merged;
pub use refused::RefusedTransition;
pub use task::startable;

use self::draft::Draft;
use super::event::RunEvent;
use super::time::Timestamp;
use super::view::{Changes, RunView};

/// Applies an event to a run: the changed records, or why it is refused. `view` holds every record that the event touches.
pub fn apply(view: &RunView, event: &RunEvent, at: Timestamp) -> Result<Changes, RefusedTransition> {
    let mut draft = Draft::new(view, at);
    match event {
        RunEvent::RunFinished { outcome, note } => run::finish(&mut draft, *outcome, note.as_deref())?,
        RunEvent::RunPaused => run::pause(&mut draft)?,
        RunEvent::RunUnpaused => run::unpause(&mut draft),
        RunEvent::RunCancelled => run::cancel(&mut draft)?,
        RunEvent::ActivityReported(report) => run::report_activity(&mut draft, report)?,
        RunEvent::RunRestored { source, from_checkpoint, manual_intervention } => {
            run::restore(&mut draft, *source, from_checkpoint.as_deref(), manual_intervention.as_deref());
        }
        RunEvent::WaitsEnded { tasks } => draft.run().waiting_on.retain(|waited| !tasks.contains(waited)),
        RunEvent::TaskAdded(new) => task::add(&mut draft, new)?,
        RunEvent::TaskStarted { task, session, lease } => task::start(&mut draft, task, session, lease.as_ref())?,
        RunEvent::TaskDone { task, end } => task::finish_work(&mut draft, task, end)?,
        RunEvent::TaskFailed { task, end } => task::fail(&mut draft, task, end)?,
        RunEvent::TaskCancelled { task, end } => task::cancel(&mut draft, task, end)?,
        RunEvent::TaskBlocked { task, reason } => task::block(&mut draft, task, reason)?,
        RunEvent::TaskUnblocked { task, reason } => task::unblock(&mut draft, task, reason.as_deref())?,
        RunEvent::ExecutionInterrupted { task } => task::interrupt(&mut draft, task)?,
        RunEvent::ResumeScheduled { task } => task::schedule_resume(&mut draft, task)?,
        RunEvent::TaskCommandGiven { task, session, command } => {
            task::give_command(&mut draft, task, session, command)?;
        }
        RunEvent::TaskRetryChanged { task, retry } => draft.task(task)?.retry = *retry,
        RunEvent::BlockAcknowledged { task } => task::acknowledge(&mut draft, task)?,
        RunEvent::EnvironmentRequested { task, environment } => {
            environment::request(&mut draft, task.as_ref(), environment)?;
        }
        RunEvent::EnvironmentMoved { environment, state, spec, failure, cleanup } => {
            let moved = environment::Moved { state: *state, spec: spec.as_deref(), failure, cleanup };
            environment::move_to(&mut draft, environment, &moved)?;
        }
        RunEvent::EnvironmentVerified { environment, finding } => {
            environment::verified(&mut draft, environment, finding)?;
        }
        RunEvent::EnvironmentLeased { environment, lease } => leasing::lease(&mut draft, environment, lease)?,
        RunEvent::LeaseReleased { environment, reason } => draft.release_lease(environment, reason)?,
        RunEvent::EnvironmentAdopted { environment, spec } => environment::adopt(&mut draft, environment, spec)?,
        RunEvent::CheckpointTaken(new) => task::take_checkpoint(&mut draft, new)?,
        RunEvent::SavedWorkForgotten { commit } => saved::forget_work(&mut draft, commit),
        RunEvent::GateOpened(new) => holding::open(&mut draft, new)?,
        RunEvent::GateDecided { gate, decision } => gate::decide(&mut draft, gate, decision)?,
        RunEvent::GateExpired { gate } => holding::expire(&mut draft, gate)?,
    }
    Ok(draft.settle())
}

#[cfg(test)]
mod tests;
