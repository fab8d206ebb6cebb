//! What happens to environments and the leases on them.

use super::draft::Draft;
use super::leasing::leads;
use super::refused::RefusedTransition;
use crate::domain::environment::{
    Cleanup, Environment, EnvironmentSpec, EnvironmentState, Failure, Health, NewEnvironment, RecoveryStatus,
};
use crate::domain::event::EnvironmentFinding;
use crate::domain::ids::{EnvironmentId, TaskId};
use crate::domain::task::TaskState;

/// Where an environment goes, and what is known of it then.
pub(super) struct Moved<'a> {
    pub(super) state: EnvironmentState,
    pub(super) spec: Option<&'a EnvironmentSpec>,
    pub(super) failure: &'a Option<Failure>,
    pub(super) cleanup: &'a Option<Cleanup>,
}

pub(super) fn request(
    draft: &mut Draft<'_>,
    task: Option<&TaskId>,
    new: &NewEnvironment,
) -> Result<(), RefusedTransition> {
    use EnvironmentState as State;
    // One that is being put back has work to come: it is finished, not asked for anew.
    let makes_room =
        |state: State| state.is_gone() || matches!(state, State::Requested | State::Provisioning | State::Failed);
    if draft.read_environment(&new.id).is_ok_and(|known| !makes_room(known.state)) {
        return Err(draft.exists("environment", &new.id));
    }
    if let Some(task) = task {
        draft.task(task)?.environment = Some(new.id.clone());
    }
    let environment = Environment::request(new.clone(), draft.at);
    draft.changes.environments.insert(new.id.clone(), environment);
    Ok(())
}

pub(super) fn move_to(draft: &mut Draft<'_>, id: &EnvironmentId, moved: &Moved<'_>) -> Result<(), RefusedTransition> {
    let from = draft.read_environment(id)?.state;
    if !leads(from, moved.state) {
        return Err(RefusedTransition::IllegalEnvironment { environment: id.clone(), from, to: moved.state });
    }
    let environment = draft.environment(id)?;
    environment.state = moved.state;
    environment.failure.clone_from(moved.failure);
    if moved.cleanup.is_some() {
        environment.cleanup.clone_from(moved.cleanup);
    }
    if let Some(spec) = moved.spec {
        environment.spec = spec.clone();
    }
    if moved.state == EnvironmentState::Ready {
        if environment.held_lease().is_some() {
            environment.state = EnvironmentState::InUse;
        }
        well_again(draft, id)?;
    }
    if moved.state.is_gone() {
        let environment = draft.environment(id)?;
        environment.recovery_action = None;
        let prefix = environment.blocking_prefix();
        draft.release_lease(id, "the environment is gone")?;
        lift_reasons(draft, id, &prefix)?;
    }
    Ok(())
}

pub(super) fn adopt(
    draft: &mut Draft<'_>,
    id: &EnvironmentId,
    spec: &EnvironmentSpec,
) -> Result<(), RefusedTransition> {
    let environment = draft.environment(id)?;
    environment.spec = spec.clone();
    if environment.state.is_unfinished() || environment.state.is_gone() {
        environment.state = EnvironmentState::Ready;
    }
    well_again(draft, id)
}

/// Takes back what a finding had left: the environment is as recorded again.
fn well_again(draft: &mut Draft<'_>, id: &EnvironmentId) -> Result<(), RefusedTransition> {
    let environment = draft.environment(id)?;
    environment.recovery_action = None;
    environment.failure = None;
    if environment.recovery_status != RecoveryStatus::NotRequired {
        environment.recovery_status = RecoveryStatus::Reconciled;
    }
    if matches!(environment.health, Health::Missing | Health::Drifted | Health::Orphaned) {
        environment.health = Health::Unknown;
    }
    let prefix = environment.blocking_prefix();
    lift_reasons(draft, id, &prefix)
}

/// Whether the environment with this prefix gave the reason.
fn is_reason_of(prefix: &str, reason: &str) -> bool {
    reason.strip_prefix(prefix).is_some_and(|rest| rest.starts_with([' ', ':']))
}

fn lift_reasons(draft: &mut Draft<'_>, id: &EnvironmentId, prefix: &str) -> Result<(), RefusedTransition> {
    // The tasks of a run that was ended by hand stay as they were then.
    if draft.run().fixed_by.is_some() {
        return Ok(());
    }
    let own_reason = |reason: &String| is_reason_of(prefix, reason);
    for task in draft.task_ids() {
        let known = draft.read_task(&task)?;
        let blocked_by_it = known.state == TaskState::Blocked
            && known.environment.as_ref() == Some(id)
            && known.blocked_reasons.iter().any(own_reason);
        if blocked_by_it {
            let known = draft.task(&task)?;
            known.blocked_reasons.retain(|reason| !own_reason(reason));
            if known.blocked_reasons.is_empty() {
                super::task::leave_block(draft, &task)?;
            }
        }
    }
    Ok(())
}

pub(super) fn verified(
    draft: &mut Draft<'_>,
    id: &EnvironmentId,
    finding: &EnvironmentFinding,
) -> Result<(), RefusedTransition> {
    let at = draft.at;
    let known = draft.read_environment(id)?;
    let prefix = known.blocking_prefix();
    let same = known.health == finding.health
        && known.recovery_status == finding.status
        && known.recovery_action == finding.action;
    if !same {
        let environment = draft.environment(id)?;
        environment.health = finding.health;
        environment.recovery_status = finding.status;
        environment.recovery_action = finding.action;
        environment.last_verified_at = Some(at);
    }
    let Some(reason) = &finding.blocks_task else { return lift_reasons(draft, id, &prefix) };
    for task in draft.task_ids() {
        let known = draft.read_task(&task)?;
        let named = known.environment.as_ref() == Some(id);
        let over = draft.changes.run.fixed_by.is_some();
        if named && !over && !known.state.is_terminal() && known.state != TaskState::Running {
            let told = known.blocked_reasons.iter().filter(|known| is_reason_of(&prefix, known));
            if told.collect::<Vec<_>>() != [reason] {
                // What was found of it before is not true any more.
                let known = draft.task(&task)?;
                known.blocked_reasons.retain(|told| told == reason || !is_reason_of(&prefix, told));
                super::task::block(draft, &task, reason)?;
            }
        }
    }
    Ok(())
}
