//! Looks again at what a step of a recovery rests on, just before it is taken.
//!
//! Must not know how a step is carried out. Invariant: who has shown signs of life since the plan was made loses nothing by it.

use crate::app::evidence::AssumedDead;
use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::claim::Claim;
use crate::domain::ids::SessionId;
use crate::domain::liveness::Verdict;
use crate::domain::session::Session;
use crate::domain::view::RunView;
use crate::plan::step::Step;

impl Tether {
    /// What speaks against a step that rests on the death of a session, if anything does by now.
    pub(super) fn find_sign_of_life(&self, step: &Step, assumed: &AssumedDead) -> Result<Option<String>, Failure> {
        match step {
            Step::ReleaseLease { session, .. } | Step::AbandonSession { session, .. } => self.life_of(session, assumed),
            Step::ReleaseClaim { kind, key, generation } => {
                let claim = self.ledger().read_single::<Claim>(&(*kind, key.clone()))?;
                let holder = claim.filter(|claim| claim.generation == *generation).and_then(|claim| claim.session);
                holder.map_or(Ok(None), |holder| self.life_of(&holder, assumed))
            }
            _ => Ok(None),
        }
    }

    /// The same for the interruption of a task; one whose state this version cannot read counts as interrupted whoever lives.
    pub(super) fn find_sign_of_executor(
        &self,
        step: &Step,
        view: &RunView,
        assumed: &AssumedDead,
    ) -> Result<Option<String>, Failure> {
        let Step::InterruptTask { task, session: Some(session), .. } = step else { return Ok(None) };
        match view.tasks.get(task) {
            Some(known) if known.unreadable_state.is_none() => self.life_of(session, assumed),
            _ => Ok(None),
        }
    }

    fn life_of(&self, session: &SessionId, assumed: &AssumedDead) -> Result<Option<String>, Failure> {
        let Some(known) = self.ledger().read_single::<Session>(session)? else { return Ok(None) };
        let liveness = self.observer(assumed.clone()).look_at(&known);
        let dead = liveness.verdict == Verdict::Dead;
        Ok((!dead).then(|| format!("session {session} is {} ({})", liveness.verdict, liveness.evidence.join("; "))))
    }
}
