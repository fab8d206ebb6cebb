//! Sessions whose making was cut off before they held anything: found, and taken back.
//!
//! Owns: which session is one. Invariants: only what this repository said that it was recording, and nobody records any more, is
//! one; what holds a claim, a task or an environment, or cannot be read, never is.

use crate::app::failure::Failure;
use crate::app::local;
use crate::app::places::PlaceOutcome;
use crate::app::tether::Tether;
use crate::domain::claim::Claim;
use crate::domain::ids::SessionId;
use crate::domain::session::Session;
use crate::domain::view::RunView;
use crate::world::reserving::{Reserving, Taken};

impl Tether {
    /// Says that a session is being recorded, until what this answers with is dropped.
    pub(super) fn begin_reserving(&self, session: &SessionId) -> Result<Reserving, Failure> {
        match Reserving::begin(&self.repository().tether_dir(), session.as_str()) {
            Ok(Taken::Ours(word)) => Ok(word),
            Ok(_) => Err(Failure::busy("contended", format!("somebody else reserves as session {session} right now"))
                .hint("try again")),
            Err(error) => Err(self.unusable("write", &error)),
        }
    }

    fn unusable(&self, what: &str, error: &std::io::Error) -> Failure {
        local::failed(what, &self.repository().tether_dir().join("reserving"), error)
    }

    /// Sessions whose making was cut off.
    pub(super) fn find_cut_off_sessions(&self) -> Result<Vec<SessionId>, Failure> {
        let found = Reserving::find_cut_off(&self.repository().tether_dir());
        let found = found.map_err(|error| self.unusable("read", &error))?;
        Ok(found.into_iter().filter_map(|name| SessionId::new(name).ok()).collect())
    }

    /// Whether the session of this id was one, and is taken back now: who was to get it may have it made again.
    pub(super) fn was_cut_off(&self, id: &SessionId) -> Result<bool, Failure> {
        self.clear_cut_off_session(id)?;
        Ok(self.ledger().read_single::<Session>(id)?.is_none())
    }

    /// Takes back a session whose making was cut off, if it is one; what it holds already it keeps.
    pub(super) fn clear_cut_off_session(&self, id: &SessionId) -> Result<PlaceOutcome, Failure> {
        let skipped = |why: String| Ok(PlaceOutcome::Skipped(why));
        let taken = Reserving::take_over(&self.repository().tether_dir(), id.as_str());
        let word = match taken.map_err(|error| self.unusable("lock", &error))? {
            Taken::Ours(word) => word,
            Taken::Held => return skipped(format!("session {id} is being recorded")),
            Taken::Nothing => return skipped(format!("session {id} is complete, or gone")),
        };
        let session = match self.ledger().read_single::<Session>(id) {
            Ok(session) => session.filter(|session| !session.status.is_terminal()),
            Err(error) => {
                word.leave();
                return Err(error.into());
            }
        };
        let Some(session) = session else {
            return Ok(PlaceOutcome::Done(format!("session {id} was never recorded, or has ended")));
        };
        match self.holds_anything(id) {
            Ok(true) => Ok(PlaceOutcome::Done(format!("session {id} holds what it was recorded for: it stays"))),
            Ok(false) => {
                self.ledger().drop_single::<Session>(id, |known| *known == session)?;
                let _ = self.signs_of_life().clear(id.as_str());
                Ok(PlaceOutcome::Done(format!("session {id} was recorded and came to hold nothing: it is taken back")))
            }
            Err(failure) => {
                word.leave();
                Err(failure)
            }
        }
    }

    /// Whether any record says that a session holds something. What cannot be read may say so.
    fn holds_anything(&self, session: &SessionId) -> Result<bool, Failure> {
        let claims = self.list_all::<Claim>()?;
        let runs = self.list_views(None)?;
        if let Some(torn) = claims.unreadable.first().or(runs.unreadable.first()) {
            let what = format!("whether session {session} holds anything cannot be told: {} cannot be read", torn.name);
            return Err(Failure::fatal("torn_record", what));
        }
        let claimed = |claim: &Claim| claim.is_held() && claim.session.as_ref() == Some(session);
        let works = |view: &RunView| {
            view.tasks.values().any(|task| task.session.as_ref() == Some(session))
                || view
                    .environments
                    .values()
                    .any(|known| known.held_lease().is_some_and(|lease| lease.session == *session))
        };
        Ok(claims.records.iter().any(claimed) || runs.records.iter().any(works))
    }
}
