//! Reserving a thread: of two racers never both win, because the claim's one swap decides.
//!
//! Invariants: a session is recorded before any claim names it; only proof of death takes a claim from its holder.

use std::path::PathBuf;
use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::session::{SeenSession, merge_agent, merge_attach, resolved};
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind, NewClaim};
use crate::domain::document::Document;
use crate::domain::ids::{Oid, SessionId, TaskAddress, Token};
use crate::domain::liveness::Verdict;
use crate::domain::session::{Agent, Attach, Session, SessionStatus, Usage};
use crate::store::singles::{Change, encoded_key};
use crate::world::reserving::Reserving;

/// How often a reservation that meets racers looks again.
const MOST_ROUNDS: usize = 32;

/// What an executor says of itself when it reserves a thread.
#[derive(Debug, Clone, Default)]
pub struct Reservation {
    /// The session's id; made up if there is none.
    pub id: Option<SessionId>,
    /// The executor's process.
    pub pid: Option<u32>,
    /// Where it works.
    pub path: Option<PathBuf>,
    /// Who it is.
    pub agent: Agent,
    /// The key of the client that it serves.
    pub client_key: Option<String>,
    /// Its key in its own system.
    pub actor_key: Option<String>,
    /// The key of who started it.
    pub parent_actor_key: Option<String>,
    /// The key of its own session.
    pub native_key: Option<String>,
    /// A label.
    pub group: Option<String>,
    /// The commit that it starts from.
    pub base_commit: Option<Oid>,
    /// How long its lease is.
    pub lease: Option<Duration>,
    /// How it came to this.
    pub attach: Attach,
    /// The caller's own data.
    pub metadata: Document,
    /// Whether it is held by an OS lock.
    pub lock: LockUse,
    /// Between whom it holds.
    pub reach: Reach,
}

/// Between whom a reservation holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reach {
    /// Those who work in this repository.
    #[default]
    ThisRepository,
    /// Those who work in repositories with the same remote, too.
    Remotes,
}

/// Whether a session is held by an OS lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LockUse {
    /// It is only reserved.
    #[default]
    None,
    /// A supervisor holds it.
    BySupervisor,
}

/// The key by which a running session of the thread is attached to instead of reserving.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AttachBy {
    /// The client's.
    ClientKey,
    /// The executor's own, at the same path.
    NativeKey,
    /// The actor's.
    ActorKey,
}

/// How a reservation ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ReserveOutcome {
    /// The thread is ours.
    Reserved(Token),
    /// An own session of that thread goes on.
    Attached(Option<Token>),
    /// Somebody else has it.
    LiveOwner,
}

/// The answer to a reservation.
#[derive(Debug, Clone)]
pub struct Reserved {
    /// The session that has the thread now.
    pub seen: SeenSession,
    /// How it went.
    pub outcome: ReserveOutcome,
    /// What the caller should know.
    pub warnings: Vec<String>,
}

/// A session that was just recorded, and the word that it is until it holds something.
#[derive(Debug)]
pub(super) struct Recorded {
    /// The session.
    pub(super) session: Session,
    /// To be dropped once the session holds what it was recorded for, or is taken back.
    pub(super) word: Reserving,
}

#[derive(Debug, thiserror::Error)]
enum ClaimLost {
    #[error("somebody else took the claim")]
    Raced,
}

impl From<ClaimLost> for Failure {
    fn from(lost: ClaimLost) -> Self {
        Self::busy("contended", lost.to_string())
    }
}

impl Tether {
    /// Reserves a thread, or says who has it.
    pub fn reserve(&self, thread: &str, asked: &Reservation, attach_by: Option<AttachBy>) -> Result<Reserved, Failure> {
        if thread.is_empty() {
            return Err(Failure::usage("invalid_thread", "the name of a thread cannot be empty"));
        }
        self.sweep_ended_sessions()?;
        if let Some(id) = &asked.id
            && self.ledger().read_single::<Session>(id)?.is_some()
            && !self.was_cut_off(id)?
        {
            return Err(Failure::fatal("session_exists", format!("session {id} exists already"))
                .hint("leave out --id to have one made up, or look at it with `git tether session show`"));
        }
        if let Some(attached) = attach_by.map(|by| self.try_attach(thread, asked, by)).transpose()?.flatten() {
            return Ok(attached);
        }
        let mut warnings = Vec::new();
        let mut session: Option<Recorded> = None;
        for _ in 0..MOST_ROUNDS {
            let before = self.ledger().read_single::<Claim>(&(ClaimKind::Thread, thread.to_owned()))?;
            if let Some(owner) = self.live_owner(before.as_ref())? {
                if let Some(Recorded { session: own, .. }) = &session {
                    self.ledger().drop_single::<Session>(&own.id, |known| known == own)?;
                }
                return Ok(Reserved { seen: owner, outcome: ReserveOutcome::LiveOwner, warnings });
            }
            let own = match session.take() {
                Some(own) => own,
                None => self.record_session(thread, asked, &mut warnings)?,
            };
            match self.take_thread(thread, before.as_ref(), &own.session, asked.reach) {
                Ok(claim) => {
                    drop(own.word);
                    self.bury_former_owner(before.as_ref(), &own.session)?;
                    let liveness = self.liveness(&own.session);
                    let seen = SeenSession { session: own.session, liveness };
                    return Ok(Reserved { seen, outcome: ReserveOutcome::Reserved(claim.token), warnings });
                }
                Err(failure) if failure.code == "contended" => session = Some(own),
                Err(failure) => {
                    own.word.leave();
                    return Err(failure);
                }
            }
        }
        Err(Failure::busy("contended", format!("many reserve {thread} at once")).hint("try again"))
    }

    fn take_thread(&self, thread: &str, judged: Option<&Claim>, own: &Session, reach: Reach) -> Result<Claim, Failure> {
        let now = self.now();
        let new = NewClaim {
            kind: ClaimKind::Thread,
            key: thread.to_owned(),
            encoded_key: encoded_key(thread),
            session: own.id.clone(),
            host: self.host_id(),
            expires_at: Some(now.plus(Duration::from_secs(own.lease_seconds))),
            remote_lease: reach == Reach::Remotes,
        };
        let taken =
            self.ledger().change_single::<Claim, ClaimLost>(&(ClaimKind::Thread, thread.to_owned()), now, |found| {
                if found != judged {
                    return Err(ClaimLost::Raced);
                }
                let record = Claim::taken(found, new.clone(), now);
                Ok(Some(Change { record, what: format!("taken by {}", own.id), event: "claim_taken" }))
            })?;
        taken.ok_or_else(|| Failure::busy("contended", "somebody else took the claim"))
    }

    /// The session that holds a claim and is not proven to be dead.
    fn live_owner(&self, claim: Option<&Claim>) -> Result<Option<SeenSession>, Failure> {
        let holder = claim.filter(|claim| claim.is_held()).and_then(|claim| claim.session.clone());
        let Some(session) = holder.map(|id| self.ledger().read_single::<Session>(&id)).transpose()?.flatten() else {
            return Ok(None);
        };
        let liveness = self.liveness(&session);
        let alive = session.status == SessionStatus::Active && liveness.verdict != Verdict::Dead;
        Ok(alive.then_some(SeenSession { session, liveness }))
    }

    fn bury_former_owner(&self, claim: Option<&Claim>, own: &Session) -> Result<(), Failure> {
        let former = claim.filter(|claim| claim.is_held()).and_then(|claim| claim.session.clone());
        match former.filter(|former| *former != own.id) {
            Some(former) => self.end_session(&former, SessionStatus::Abandoned).map(|_| ()),
            None => Ok(()),
        }
    }

    fn try_attach(&self, thread: &str, asked: &Reservation, by: AttachBy) -> Result<Option<Reserved>, Failure> {
        let key = match by {
            AttachBy::ClientKey => &asked.client_key,
            AttachBy::NativeKey => &asked.native_key,
            AttachBy::ActorKey => &asked.actor_key,
        };
        if key.is_none() {
            return Err(Failure::usage("missing_key", "--attach-by names a key that is not given")
                .hint("give the same key with --client-key, --native-key or --actor-key"));
        }
        let path = asked.path.as_deref().map(resolved).transpose()?;
        let matches = |session: &Session| match by {
            AttachBy::ClientKey => asked.client_key.is_some() && session.client_key == asked.client_key,
            AttachBy::ActorKey => asked.actor_key.is_some() && session.actor_key == asked.actor_key,
            AttachBy::NativeKey => {
                asked.native_key.is_some() && session.native_key == asked.native_key && session.path == path
            }
        };
        let mut sessions = self.ledger().list_singles::<Session>()?.0;
        sessions
            .retain(|session| session.status == SessionStatus::Active && session.thread == thread && matches(session));
        sessions.sort_by_key(|session| std::cmp::Reverse(session.started_at));
        let Some(found) = sessions.into_iter().next() else { return Ok(None) };
        let process = asked.pid.map(|pid| self.fingerprint(pid)).transpose()?;
        let updated = self.change_session(&found.id, "attached", "session_attached", |session| {
            merge_agent(&mut session.agent, &asked.agent);
            let newer = |new: &Option<String>, field: &mut Option<String>| {
                if new.is_some() {
                    field.clone_from(new);
                }
            };
            newer(&asked.client_key, &mut session.client_key);
            newer(&asked.actor_key, &mut session.actor_key);
            newer(&asked.parent_actor_key, &mut session.parent_actor_key);
            newer(&asked.native_key, &mut session.native_key);
            newer(&asked.group, &mut session.group);
            if let Some((process, _)) = &process {
                session.process = process.clone();
            }
            if path.is_some() {
                session.path.clone_from(&path);
            }
            merge_attach(&mut session.attach, &asked.attach);
            if asked.metadata != Document::default() {
                session.metadata = asked.metadata.clone();
            }
        })?;
        self.beat(&updated.id)?;
        let claim = self.ledger().read_single::<Claim>(&(ClaimKind::Thread, thread.to_owned()))?;
        let token = claim
            .filter(|claim| claim.is_held() && claim.session.as_ref() == Some(&updated.id))
            .map(|claim| claim.token);
        let liveness = self.liveness(&updated);
        let warnings = process.and_then(|(_, warning)| warning).into_iter().collect();
        Ok(Some(Reserved {
            seen: SeenSession { session: updated, liveness },
            outcome: ReserveOutcome::Attached(token),
            warnings,
        }))
    }

    /// Records a new session; an id that is made up is made up again if it exists.
    pub(super) fn record_session(
        &self,
        thread: &str,
        asked: &Reservation,
        warnings: &mut Vec<String>,
    ) -> Result<Recorded, Failure> {
        let now = self.now();
        let process = match asked.pid {
            Some(pid) => {
                let (process, warning) = self.fingerprint(pid)?;
                warnings.extend(warning);
                process
            }
            None => self.no_process(),
        };
        let path = asked.path.as_deref().map(resolved).transpose()?;
        let lease = match asked.lease {
            Some(lease) => lease,
            None => self.lease_length()?,
        };
        for _ in 0..MOST_ROUNDS {
            let id = asked.id.clone().unwrap_or_else(|| self.made_up_session_id());
            let word = self.begin_reserving(&id)?;
            let session = Session {
                id: id.clone(),
                thread: thread.to_owned(),
                status: SessionStatus::Active,
                agent: asked.agent.clone(),
                actor_key: asked.actor_key.clone(),
                parent_actor_key: asked.parent_actor_key.clone(),
                client_key: asked.client_key.clone(),
                native_key: asked.native_key.clone(),
                group: asked.group.clone(),
                path: path.clone(),
                process: process.clone(),
                heartbeat_at: Some(now),
                usage: Usage::default(),
                attach: asked.attach.clone(),
                context_queries: Vec::new(),
                recovery_attempts: 0,
                last_progress_at: None,
                base_commit: asked.base_commit.clone(),
                metadata: asked.metadata.clone(),
                started_at: now,
                completed_at: None,
                lease_seconds: lease.as_secs(),
                holds_lock: asked.lock == LockUse::BySupervisor,
            };
            let mut exists = false;
            let made = self.ledger().change_single::<Session, std::convert::Infallible>(&id, now, |found| {
                exists = found.is_some();
                Ok((!exists).then(|| Change {
                    record: session.clone(),
                    what: format!("reserves {thread}"),
                    event: "session_reserved",
                }))
            })?;
            match (made, exists, &asked.id) {
                (Some(session), false, _) => return Ok(Recorded { session, word }),
                (_, _, Some(id)) => {
                    return Err(Failure::fatal("session_exists", format!("session {id} exists already")));
                }
                _ => {}
            }
        }
        Err(Failure::busy("contended", "no session id could be made up"))
    }

    /// The session of a task that is started without one: its liveness is by lease alone.
    pub(super) fn make_session_for_task(&self, address: &TaskAddress) -> Result<Recorded, Failure> {
        let asked = Reservation::default();
        self.record_session(&crate::app::holds::thread_of_task(address), &asked, &mut Vec::new())
    }
}
