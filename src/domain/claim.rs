//! A claim: an exclusive hold of one session on one thing, with a fencing token.

use super::ids::{HostId, SessionId, Token};
use super::names::named;
use super::time::Timestamp;

named! {
    /// What kind of thing is held.
    ClaimKind, "claim kind" {
        /// A line of work, usually a branch.
        Thread = "thread",
        /// A path.
        Place = "place",
        /// A task.
        Task = "task",
    }
}

/// An exclusive hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// What kind of thing is held.
    pub kind: ClaimKind,
    /// Which one.
    pub key: String,
    /// How often it was taken; never goes back.
    pub generation: u64,
    /// What its holder shows before it acts.
    pub token: Token,
    /// Who holds it, or held it last.
    pub session: Option<SessionId>,
    /// The machine of the holder.
    pub host: Option<HostId>,
    /// Since when.
    pub acquired_at: Timestamp,
    /// Until when, unless it is renewed.
    pub expires_at: Option<Timestamp>,
    /// When it was given back.
    pub released_at: Option<Timestamp>,
    /// Whether it was taken on a remote too, so that it holds between hosts and falls when it is not renewed.
    pub remote_lease: bool,
}

/// What somebody asks for who takes a claim.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewClaim {
    /// What kind of thing.
    pub kind: ClaimKind,
    /// Which one.
    pub key: String,
    /// The key as it stands in the ref and in the token.
    pub encoded_key: String,
    /// Who takes it.
    pub session: SessionId,
    /// On which machine.
    pub host: HostId,
    /// Until when, unless it is renewed.
    pub expires_at: Option<Timestamp>,
    /// Whether it is taken on a remote too.
    pub remote_lease: bool,
}

impl Claim {
    /// The claim after `new` has taken it; `before` is what stood there, held or not: who may take it is the caller's to know.
    pub fn taken(before: Option<&Self>, new: NewClaim, at: Timestamp) -> Self {
        let generation = before.map_or(1, |claim| claim.generation.saturating_add(1));
        Self {
            token: Token(format!("{}/{}#{generation}", new.kind, new.encoded_key)),
            kind: new.kind,
            key: new.key,
            generation,
            session: Some(new.session),
            host: Some(new.host),
            acquired_at: at,
            expires_at: new.expires_at,
            released_at: None,
            remote_lease: new.remote_lease,
        }
    }

    /// Whether somebody has it now.
    pub fn is_held(&self) -> bool {
        self.released_at.is_none() && self.session.is_some()
    }

    /// The claim after it was given back; the first time stays.
    #[must_use]
    pub fn given_back(&self, at: Timestamp) -> Self {
        Self { released_at: self.released_at.or(Some(at)), ..self.clone() }
    }
}
