//! Leases: which session has an environment, and the claim on its place that stands behind that.
//!
//! Invariants: of two sessions never both have a place, because the claim's one swap decides, before the lease is written; only proof
//! of death takes it from its holder.

use std::path::Path;
use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::making::task_in;
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind, NewClaim};
use crate::domain::environment::{Environment, ExecutionMode, Lease};
use crate::domain::event::RunEvent;
use crate::domain::ids::{EnvironmentId, RunId, SessionId};
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::store::singles::{Change, encoded_key};

/// How often a lease that meets racers looks again.
const MOST_ROUNDS: usize = 32;

#[derive(Debug, thiserror::Error)]
#[error("somebody else took the claim")]
struct Raced;

impl From<Raced> for Failure {
    fn from(raced: Raced) -> Self {
        Self::busy("contended", raced.to_string())
    }
}

/// What the claim on the place of an environment is keyed by.
pub(super) fn place_key(run: &RunId, environment: &Environment) -> String {
    let path = environment.spec.path.as_deref().and_then(Path::to_str);
    match (environment.execution_mode, path) {
        (ExecutionMode::Remote, _) | (_, None) => format!("{run}/{}", environment.id),
        (_, Some(path)) => path.to_owned(),
    }
}

impl Tether {
    /// Leases an environment to a session; one that has it already gets it for longer.
    pub fn lease_environment(
        &self,
        run: &RunId,
        id: &EnvironmentId,
        session: &SessionId,
        length: Option<Duration>,
    ) -> Result<Environment, Failure> {
        let view = self.read_run(run, &Need::Everything)?.view;
        let environment = view.environments.get(id).ok_or_else(|| self.unknown_environment(run, id))?;
        self.require_session(session)?.require_active()?;
        require_leasable(run, environment)?;
        let what = format!("environment {run}/{id}");
        let former = environment.held_lease().filter(|held| held.session != *session).cloned();
        if let Some(former) = &former {
            self.require_dead_holder(&former.session, &what)?;
        }
        let length = match length {
            Some(length) => length,
            None => self.lease_length()?,
        };
        let claim = self.take_place(run, environment, session, length, &what)?;
        let written = self.write_lease(&view, id, session, &claim);
        if written.is_err() {
            self.give_claim_back(ClaimKind::Place, &claim.key, |found| found.token == claim.token)?;
        }
        written
    }

    fn write_lease(
        &self,
        judged: &RunView,
        id: &EnvironmentId,
        session: &SessionId,
        claim: &Claim,
    ) -> Result<Environment, Failure> {
        let run = &judged.run.id;
        let task = task_in(judged, id);
        let need = Need::run().with_environment(id);
        let judged = judged.environments.get(id).and_then(Environment::held_lease).map(|held| held.session.clone());
        let done = self.change_run(run, &need, |view| {
            let held = view.environments.get(id).and_then(Environment::held_lease);
            let mut events = Vec::new();
            if let Some(other) = held.filter(|held| held.session != *session) {
                if judged.as_ref() != Some(&other.session) {
                    return Err(Failure::held(
                        "live_owner",
                        format!("environment {run}/{id} has just been leased by session {}", other.session),
                    ));
                }
                let reason = format!("its session {} is dead; taken over by {session}", other.session);
                events.push(RunEvent::LeaseReleased { environment: id.clone(), reason });
            }
            let lease = Lease {
                session: session.clone(),
                task: held.and_then(|held| held.task.clone()).or_else(|| task.clone()),
                token: Some(claim.token.clone()),
                acquired_at: claim.acquired_at,
                expires_at: claim.expires_at,
                released_at: None,
                release_reason: None,
            };
            events.push(RunEvent::EnvironmentLeased { environment: id.clone(), lease });
            Ok(events.into())
        })?;
        done.view.environments.get(id).cloned().ok_or_else(|| self.unknown_environment(run, id))
    }

    /// Takes the claim on an environment's place, from a dead holder if need be.
    fn take_place(
        &self,
        run: &RunId,
        environment: &Environment,
        session: &SessionId,
        length: Duration,
        what: &str,
    ) -> Result<Claim, Failure> {
        let key = (ClaimKind::Place, place_key(run, environment));
        for _ in 0..MOST_ROUNDS {
            let judged = self.ledger().read_single::<Claim>(&key)?;
            let holder = judged.as_ref().filter(|claim| claim.is_held()).and_then(|claim| claim.session.clone());
            let other = holder.filter(|holder| holder != session);
            if let Some(other) = other.filter(|_| !is_given_back(judged.as_ref(), environment)) {
                self.require_dead_holder(&other, what)?;
            }
            let now = self.now();
            let expires_at = Some(now.plus(length));
            let taken = self.ledger().change_single::<Claim, Raced>(&key, now, |found| {
                if found != judged.as_ref() {
                    return Err(Raced);
                }
                let mine = found.filter(|claim| claim.is_held() && claim.session.as_ref() == Some(session));
                if let Some(mine) = mine {
                    let record = Claim { expires_at, ..mine.clone() };
                    return Ok(Some(Change { record, what: format!("renewed by {session}"), event: "claim_renewed" }));
                }
                let new = NewClaim {
                    kind: ClaimKind::Place,
                    key: key.1.clone(),
                    encoded_key: encoded_key(&key.1),
                    session: session.clone(),
                    host: self.host_id(),
                    expires_at,
                    remote_lease: false,
                };
                let record = Claim::taken(found, new, now);
                Ok(Some(Change { record, what: format!("taken by {session}"), event: "claim_taken" }))
            });
            match taken.map_err(Failure::from) {
                Ok(Some(claim)) => return Ok(claim),
                Err(failure) if failure.code == "contended" => {}
                Ok(None) => {}
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::busy("contended", format!("many take {what} at once")).hint("try again"))
    }

    /// Takes the lease of an environment back; what is not there, or not leased, is no error.
    pub fn release_environment(&self, run: &RunId, id: &EnvironmentId) -> Result<Option<Environment>, Failure> {
        let need = Need::run().with_environment(id);
        let Some(read) = self.ledger().read_run(run, &need)? else { return Ok(None) };
        let Some(environment) = read.view.environments.get(id) else { return Ok(None) };
        if let Some(lease) = environment.held_lease().cloned() {
            let event = RunEvent::LeaseReleased { environment: id.clone(), reason: "given back".to_owned() };
            self.change_run(run, &need, |view| {
                let same = view.environments.get(id).and_then(Environment::held_lease) == Some(&lease);
                Ok(if same { vec![event.clone()] } else { Vec::new() }.into())
            })?;
        }
        self.give_place_back(run, environment)?;
        self.show_environment(run, id).map(Some)
    }

    /// Gives back the claim that stood behind a lease.
    pub(super) fn give_place_back(&self, run: &RunId, environment: &Environment) -> Result<(), Failure> {
        let Some(token) = environment.lease.as_ref().and_then(|lease| lease.token.clone()) else { return Ok(()) };
        self.give_claim_back(ClaimKind::Place, &place_key(run, environment), |claim| claim.token == token)
    }
}

/// Whether a claim is what is left of a lease that has been released.
fn is_given_back(claim: Option<&Claim>, environment: &Environment) -> bool {
    let token = claim.map(|claim| &claim.token);
    environment.lease.as_ref().is_some_and(|lease| lease.released_at.is_some() && lease.token.as_ref() == token)
}

fn require_leasable(run: &RunId, environment: &Environment) -> Result<(), Failure> {
    let (id, state) = (&environment.id, environment.state);
    let refused =
        || Failure::fatal("illegal_transition", format!("environment {run}/{id} cannot be leased: it is {state}"));
    if state.is_gone() {
        return Err(refused());
    }
    if state.is_unfinished() {
        return Err(refused().hint("`git tether recover --recreate` finishes it"));
    }
    Ok(())
}
