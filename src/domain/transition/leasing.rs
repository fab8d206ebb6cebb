//! The life of an environment, and who may lease it when.

use super::draft::Draft;
use super::refused::RefusedTransition;
use crate::domain::environment::{EnvironmentState, Lease};
use crate::domain::ids::EnvironmentId;

/// Whether the life of an environment leads from the one state to the other.
pub(super) fn leads(from: EnvironmentState, to: EnvironmentState) -> bool {
    use EnvironmentState as State;
    match to {
        State::Requested => false,
        State::Provisioning => matches!(from, State::Requested | State::Provisioning | State::Failed),
        State::Ready => !matches!(from, State::Archived | State::Removed),
        State::InUse => matches!(from, State::Ready | State::InUse | State::Recovering),
        State::CleanupQueued | State::Cleaning | State::Failed | State::Recovering => {
            !matches!(from, State::Archived | State::Removed)
        }
        State::Archived | State::Removed => true,
    }
}

pub(super) fn lease(draft: &mut Draft<'_>, id: &EnvironmentId, lease: &Lease) -> Result<(), RefusedTransition> {
    let from = draft.read_environment(id)?.state;
    if !leads(from, EnvironmentState::InUse) {
        let to = EnvironmentState::InUse;
        return Err(RefusedTransition::IllegalEnvironment { environment: id.clone(), from, to });
    }
    let environment = draft.environment(id)?;
    environment.state = EnvironmentState::InUse;
    environment.lease = Some(lease.clone());
    Ok(())
}
