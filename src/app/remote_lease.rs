//! Claims with a remote lease: taken on a remote as well, so that two hosts never hold one thread, and fallen when not renewed.
//!
//! Invariants: no token is handed out before the remote has the claim; of two hosts that take one at once the remote's answer
//! decides, and the other gives its own back.

use crate::app::failure::Failure;
use crate::app::reserve::{AttachBy, Reach, Reservation, ReserveOutcome, Reserved};
use crate::app::session::SeenSession;
use crate::app::sync::{Direction, Scope, Synced, Urgency};
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::ids::SessionId;
use crate::domain::session::{Session, SessionStatus};
use crate::store::names::RefName;
use crate::store::singles::{Change, Single};

/// How often a reservation that lost on the remote looks again.
const MOST_ROUNDS: usize = 3;

impl Tether {
    /// Reserves a thread here and on a remote, or says who has it.
    pub fn reserve_on_remote(
        &self,
        thread: &str,
        asked: &Reservation,
        attach_by: Option<AttachBy>,
        remote: Option<&str>,
    ) -> Result<Reserved, Failure> {
        let remote = self.find_remote(remote)?.name().to_owned();
        let asked = Reservation { reach: Reach::Remotes, ..asked.clone() };
        let mut lost = None;
        for _ in 0..MOST_ROUNDS {
            let pulled = self.sync(Some(&remote), Direction::Pull, Urgency::Now)?;
            require_reached(&pulled, &format!("could not ask {remote} who has {thread}"))?;
            let reserved = self.reserve(thread, &asked, attach_by)?;
            if !matches!(reserved.outcome, ReserveOutcome::Reserved(_)) {
                return Ok(reserved);
            }
            match self.publish_claim(&reserved.seen.session, &remote) {
                Ok(()) => return Ok(reserved),
                Err(failure) => {
                    self.unreserve(&reserved.seen.session)?;
                    lost = Some(failure);
                }
            }
        }
        Err(lost.unwrap_or_else(|| Failure::busy("contended", format!("many reserve {thread} at once"))))
    }

    /// Sends a session and its claim; an error unless the remote has both then.
    fn publish_claim(&self, session: &Session, remote: &str) -> Result<(), Failure> {
        let claim = <Claim as Single>::ref_name(&(ClaimKind::Thread, session.thread.clone()))?;
        let own = <Session as Single>::ref_name(&session.id)?;
        let scope = Scope::Only([&claim, &own].map(RefName::to_string).to_vec());
        let sent = self.sync_part(Some(remote), Direction::Push, &scope)?;
        require_reached(&sent, &format!("could not tell {remote} of {}", session.thread))?;
        match sent.refused.first() {
            None => Ok(()),
            Some(refused) => {
                let message = format!("{remote} did not take {}: {}", refused.name, refused.reason);
                Err(Failure::busy("lease_refused", message).hint("try again"))
            }
        }
    }

    /// Takes back what nobody was told of.
    fn unreserve(&self, session: &Session) -> Result<(), Failure> {
        self.end_session(&session.id, SessionStatus::Abandoned)?;
        self.ledger().drop_single::<Session>(&session.id, |known| known.id == session.id)?;
        Ok(())
    }

    /// Makes the remote lease of a session, if it has one, run from now on, there too.
    pub(super) fn renew_remote_lease(&self, id: &SessionId) -> Result<(), Failure> {
        let session = self.require_session(id)?;
        if self.remote_lease_of(&session).is_none() {
            return Ok(());
        }
        let now = self.now();
        let until = now.plus(std::time::Duration::from_secs(session.lease_seconds));
        let key = (ClaimKind::Thread, session.thread.clone());
        self.ledger().change_single::<Claim, std::convert::Infallible>(&key, now, |found| {
            let mine = found.filter(|claim| claim.is_held() && claim.session.as_ref() == Some(id));
            let renewed = mine.map(|claim| Claim { expires_at: Some(until), ..claim.clone() });
            Ok(renewed.map(|record| Change { record, what: format!("renewed until {until}"), event: "claim_renewed" }))
        })?;
        let remote = self.find_remote(None)?.name().to_owned();
        self.publish_claim(&session, &remote).map_err(|failure| {
            failure.hint(format!("the heartbeat of {id} is recorded here; other hosts have not heard it"))
        })
    }

    /// Until when the claim that a session holds across hosts runs; `None`: it holds none.
    pub(super) fn remote_lease_of(&self, session: &Session) -> Option<crate::domain::time::Timestamp> {
        let key = (ClaimKind::Thread, session.thread.clone());
        let claim = self.ledger().read_single::<Claim>(&key).ok().flatten()?;
        let held = claim.remote_lease && claim.is_held() && claim.session.as_ref() == Some(&session.id);
        claim.expires_at.filter(|_| held)
    }

    /// A heartbeat of a session that has not ended, carried to the remote where its lease is known.
    pub fn heartbeat(&self, id: &SessionId) -> Result<SeenSession, Failure> {
        let session = self.require_session(id)?;
        session.require_active()?;
        self.beat(id)?;
        self.renew_remote_lease(id)?;
        Ok(self.seen(session))
    }
}

fn require_reached(synced: &Synced, attempted: &str) -> Result<(), Failure> {
    match &synced.away {
        None => Ok(()),
        Some(said) => Err(Failure::busy("remote_away", format!("{attempted}: {said}")).hint("try again")),
    }
}
