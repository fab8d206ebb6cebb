//! Sessions and claims: reserve, attach, heartbeat, update, release, reap, find.
//!
//! Invariants: of two racers for a thread never both win, because the claim's one swap decides; a session is recorded before any
//! claim names it; only proof of death takes a claim from its holder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::evidence::AssumedDead;
use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::claim::{Claim, ClaimKind, NewClaim};
use crate::domain::document::Document;
use crate::domain::ids::{Oid, SessionId, TaskAddress, Token};
use crate::domain::liveness::{Liveness, Verdict};
use crate::domain::session::{Agent, Attach, ContextQuery, ProcessFingerprint, Session, SessionStatus, Usage};
use crate::domain::time::Timestamp;
use crate::git::settings::SESSION_TTL;
use crate::store::singles::{Change, encoded_key};

/// How often a reservation that meets racers looks again.
const MOST_ROUNDS: usize = 32;
/// How old the last sweep of ended sessions may be at most, where their time to live does not ask for less.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_secs(3_600);

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

/// A session, and what is known of its being alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSession {
    /// The session.
    pub session: Session,
    /// Whether it lives.
    pub liveness: Liveness,
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
        if let Some(id) = &asked.id {
            if self.ledger().read_single::<Session>(id)?.is_some() {
                return Err(Failure::fatal("session_exists", format!("session {id} exists already"))
                    .hint("leave out --id to have one made up, or look at it with `git tether session show`"));
            }
        }
        if let Some(attached) = attach_by.map(|by| self.try_attach(thread, asked, by)).transpose()?.flatten() {
            return Ok(attached);
        }
        let mut warnings = Vec::new();
        let mut session: Option<Session> = None;
        for _ in 0..MOST_ROUNDS {
            let before = self.ledger().read_single::<Claim>(&(ClaimKind::Thread, thread.to_owned()))?;
            if let Some(owner) = self.live_owner(before.as_ref())? {
                if let Some(own) = &session {
                    self.ledger().drop_single::<Session>(&own.id, |known| known == own)?;
                }
                return Ok(Reserved { seen: owner, outcome: ReserveOutcome::LiveOwner, warnings });
            }
            let own = match session.take() {
                Some(own) => own,
                None => self.record_session(thread, asked, &mut warnings)?,
            };
            match self.take_thread(thread, before.as_ref(), &own) {
                Ok(claim) => {
                    self.bury_former_owner(before.as_ref(), &own)?;
                    let liveness = self.liveness(&own);
                    let seen = SeenSession { session: own, liveness };
                    return Ok(Reserved { seen, outcome: ReserveOutcome::Reserved(claim.token), warnings });
                }
                Err(failure) if failure.code == "contended" => session = Some(own),
                Err(failure) => return Err(failure),
            }
        }
        Err(Failure::busy("contended", format!("many reserve {thread} at once")).hint("try again"))
    }

    fn take_thread(&self, thread: &str, judged: Option<&Claim>, own: &Session) -> Result<Claim, Failure> {
        let now = self.now();
        let new = NewClaim {
            kind: ClaimKind::Thread,
            key: thread.to_owned(),
            encoded_key: encoded_key(thread),
            session: own.id.clone(),
            host: self.host_id(),
            expires_at: Some(now.plus(Duration::from_secs(own.lease_seconds))),
            remote_lease: false,
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
    ) -> Result<Session, Failure> {
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
                (Some(made), false, _) => return Ok(made),
                (_, _, Some(id)) => {
                    return Err(Failure::fatal("session_exists", format!("session {id} exists already")));
                }
                _ => {}
            }
        }
        Err(Failure::busy("contended", "no session id could be made up"))
    }

    /// An id that sorts by time and that nobody else makes up.
    fn made_up_session_id(&self) -> SessionId {
        SessionId::made_from(&self.made_up_id("s"))
    }

    /// A text that sorts by time and that nobody else makes up.
    pub fn made_up_id(&self, prefix: &str) -> String {
        format!("{prefix}-{:x}-{:08x}", self.now().microseconds(), fastrand::u32(..))
    }

    /// The session of a task that is started without one: its liveness is by lease alone.
    pub(super) fn make_session_for_task(&self, address: &TaskAddress) -> Result<SessionId, Failure> {
        let asked = Reservation::default();
        Ok(self.record_session(&format!("task/{address}"), &asked, &mut Vec::new())?.id)
    }

    fn no_process(&self) -> ProcessFingerprint {
        ProcessFingerprint {
            host: self.host_id(),
            boot: self.host().boot.clone(),
            pid_namespace: None,
            pid: None,
            start_time: None,
        }
    }

    /// The fingerprint of a process; one that is not there is recorded all the same, with a warning.
    pub(super) fn fingerprint(&self, pid: u32) -> Result<(ProcessFingerprint, Option<String>), Failure> {
        if pid < 1 {
            return Err(Failure::usage("invalid_pid", format!("{pid} is no process id: it has to be 1 or more")));
        }
        match self.processes().fingerprint(pid) {
            Ok(seen) => Ok((
                ProcessFingerprint {
                    host: self.host_id(),
                    boot: seen.boot,
                    pid_namespace: seen.pid_namespace,
                    pid: Some(seen.pid),
                    start_time: Some(seen.start_time),
                },
                None,
            )),
            Err(error) => {
                let dead = ProcessFingerprint { pid: Some(pid), start_time: Some(0), ..self.no_process() };
                let processes = self.processes();
                let own = processes.fingerprint(std::process::id()).ok().and_then(|own| own.pid_namespace);
                let warning = format!(
                    "{}: the session is recorded with it, and counts as dead",
                    crate::app::failure::chain_of(&error)
                );
                Ok((ProcessFingerprint { pid_namespace: own, ..dead }, Some(warning)))
            }
        }
    }

    /// A sign of life; a file, not a commit.
    pub fn beat(&self, id: &SessionId) -> Result<(), Failure> {
        let now = chrono::DateTime::from_timestamp_micros(self.now().microseconds()).unwrap_or_default();
        self.signs_of_life()
            .beat(id.as_str(), now)
            .map_err(|error| Failure::fatal("heartbeat_failed", crate::app::failure::chain_of(&error)))
    }

    /// A heartbeat of a session that has not ended.
    pub fn heartbeat(&self, id: &SessionId) -> Result<SeenSession, Failure> {
        let session = self.require_session(id)?;
        session.require_active()?;
        self.beat(id)?;
        Ok(self.seen(session))
    }

    /// A session with what is known of it now.
    pub fn seen(&self, mut session: Session) -> SeenSession {
        session.heartbeat_at = self.last_heartbeat(&session);
        let liveness = self.liveness(&session);
        SeenSession { session, liveness }
    }

    /// A session.
    pub fn show_session(&self, id: &SessionId) -> Result<SeenSession, Failure> {
        Ok(self.seen(self.require_session(id)?))
    }

    /// Changes a session that has not ended.
    pub(super) fn change_session(
        &self,
        id: &SessionId,
        what: &str,
        event: &'static str,
        change: impl Fn(&mut Session),
    ) -> Result<Session, Failure> {
        self.require_session(id)?;
        let now = self.now();
        let changed =
            self.ledger().change_single::<Session, crate::domain::session::RefusedSessionChange>(id, now, |found| {
                let Some(found) = found else { return Ok(None) };
                found.require_active()?;
                let mut record = found.clone();
                change(&mut record);
                Ok(Some(Change { record, what: what.to_owned(), event }))
            })?;
        changed.ok_or_else(|| Failure::fatal("unknown_session", format!("there is no session {id}")))
    }

    /// Merges what an executor reports of itself.
    pub fn update_session(&self, id: &SessionId, update: &SessionUpdate) -> Result<SeenSession, Failure> {
        let now = self.now();
        let updated = self.change_session(id, "updated", "session_updated", |session| {
            if let Some(usage) = update.usage {
                session.usage = session.usage.merged_with(usage);
            }
            merge_attach(&mut session.attach, &update.attach);
            merge_agent(&mut session.agent, &update.agent);
            if let Some(metadata) = &update.metadata {
                session.metadata = metadata.clone();
            }
            if let Some(base) = &update.base_commit {
                session.base_commit = Some(base.clone());
            }
            if update.progress == Progress::Made {
                session.last_progress_at = Some(now);
            }
        })?;
        Ok(self.seen(updated))
    }

    /// Notes that an active session looked at a part of the repository.
    pub fn log_query(&self, id: &SessionId, path: &str, scope: Option<String>) -> Result<SeenSession, Failure> {
        let at = self.now();
        let query = ContextQuery { path: path.to_owned(), scope, at };
        let updated = self.change_session(id, "looked around", "context_queried", |session| {
            session.context_queries.push(query.clone());
        })?;
        Ok(self.seen(updated))
    }

    /// Ends a session and gives back what it holds; the first end stays, but `complete` may become `merged`. `None`: there is no
    /// such session, which is no error.
    pub fn release_session(&self, id: &SessionId, status: SessionStatus) -> Result<Option<SeenSession>, Failure> {
        let ended = self.end_session(id, status)?;
        self.sweep_ended_sessions()?;
        Ok(ended.map(|session| self.seen(session)))
    }

    pub(super) fn end_session(&self, id: &SessionId, status: SessionStatus) -> Result<Option<Session>, Failure> {
        let now = self.now();
        let ended = self.ledger().change_single::<Session, std::convert::Infallible>(id, now, |found| {
            let Some(found) = found else { return Ok(None) };
            let record = found.released(status, now);
            let what = format!("{} → {}", found.status, record.status);
            Ok(Some(Change { record, what, event: "session_released" }))
        })?;
        let Some(ended) = ended else { return Ok(None) };
        self.give_back_claims_of(&ended)?;
        self.forget_command_process(id);
        Ok(Some(ended))
    }

    fn give_back_claims_of(&self, session: &Session) -> Result<(), Failure> {
        let (claims, _) = self.ledger().list_singles::<Claim>()?;
        for claim in claims.iter().filter(|claim| claim.is_held() && claim.session.as_ref() == Some(&session.id)) {
            self.give_claim_back(claim.kind, &claim.key, |found| found.session.as_ref() == Some(&session.id))?;
        }
        Ok(())
    }

    /// Ends every session that is proven to be dead, of one thread or of all; answers with those.
    pub fn reap(&self, thread: Option<&str>, assumed: AssumedDead) -> Result<Vec<SeenSession>, Failure> {
        let observer = self.observer(assumed);
        let mut reaped = Vec::new();
        for session in self.ledger().list_singles::<Session>()?.0 {
            let asked = session.status == SessionStatus::Active && thread.is_none_or(|thread| session.thread == thread);
            if asked && observer.look_at(&session).verdict == Verdict::Dead {
                if let Some(ended) = self.end_session(&session.id, SessionStatus::Abandoned)? {
                    reaped.push(self.seen(ended));
                }
            }
        }
        Ok(reaped)
    }

    /// Sessions, newest first: active ones, and ended ones within their time to live unless `filter` asks for more or less.
    pub fn list_sessions(&self, filter: &SessionFilter) -> Result<Vec<SeenSession>, Failure> {
        let ttl = self.repository().settings().read(&SESSION_TTL)?;
        let now = self.now();
        let path = filter.path.as_deref().map(resolved).transpose()?;
        let key = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        let mut sessions = self.ledger().list_singles::<Session>()?.0;
        sessions.retain(|session| {
            let listed = match (session.status, filter.age) {
                (SessionStatus::Active, _) | (_, ListedAge::All) => true,
                (_, ListedAge::Active) => false,
                (_, ListedAge::Recent) => session.completed_at.is_none_or(|ended| now.since(ended) <= ttl),
            };
            listed
                && filter.thread.as_ref().is_none_or(|thread| session.thread == *thread)
                && (path.is_none() || session.path == path)
                && key(&filter.client_key, &session.client_key)
                && key(&filter.actor_key, &session.actor_key)
                && key(&filter.native_key, &session.native_key)
                && key(&filter.group, &session.group)
        });
        sessions.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        Ok(sessions.into_iter().map(|session| self.seen(session)).collect())
    }

    /// The sessions from the first actor down to this one, by their parents' actor keys; stops at cycles and gaps.
    pub fn actor_chain(&self, id: &SessionId) -> Result<Vec<SeenSession>, Failure> {
        let leaf = self.require_session(id)?;
        let all = self.ledger().list_singles::<Session>()?.0;
        let mut chain = vec![leaf];
        while let Some(parent) = chain.last().and_then(|session| session.parent_actor_key.clone()) {
            let mut named: Vec<_> = all.iter().filter(|session| session.actor_key.as_ref() == Some(&parent)).collect();
            named.sort_by_key(|session| {
                (session.status != SessionStatus::Active, std::cmp::Reverse(session.started_at))
            });
            match named.first() {
                Some(next) if !chain.iter().any(|known| known.id == next.id || known.actor_key == next.actor_key) => {
                    chain.push((*next).clone());
                }
                _ => break,
            }
        }
        chain.reverse();
        Ok(chain.into_iter().map(|session| self.seen(session)).collect())
    }

    /// Drops sessions that ended longer ago than they are listed. Looks only when the last look is old enough to matter.
    fn sweep_ended_sessions(&self) -> Result<(), Failure> {
        let ttl = self.repository().settings().read(&SESSION_TTL)?;
        let marker = self.repository().tether_dir().join("swept");
        let last: Option<Timestamp> = std::fs::read_to_string(&marker).ok().and_then(|text| text.trim().parse().ok());
        let pause = LONGEST_SWEEP_PAUSE.min(ttl / 10);
        let now = self.now();
        if last.is_some_and(|last| now >= last && now.since(last) < pause) {
            return Ok(());
        }
        self.drop_ended_sessions(ttl)?;
        self.write_local(&marker, now.to_string().as_bytes())
    }

    /// Drops sessions that ended longer than `ttl` ago; answers how many.
    pub fn drop_ended_sessions(&self, ttl: Duration) -> Result<usize, Failure> {
        let now = self.now();
        let old = |session: &Session| {
            session.status.is_terminal() && session.completed_at.is_some_and(|ended| now.since(ended) > ttl)
        };
        let mut dropped = 0;
        for session in self.ledger().list_singles::<Session>()?.0.into_iter().filter(old) {
            if self.ledger().drop_single::<Session>(&session.id, old)? {
                let _ = self.signs_of_life().clear(session.id.as_str());
                dropped += 1;
            }
        }
        Ok(dropped)
    }

    /// Every claim that was ever taken.
    pub fn list_claims(&self) -> Result<Vec<Claim>, Failure> {
        Ok(self.ledger().list_singles::<Claim>()?.0)
    }

    /// A claim.
    pub fn show_claim(&self, kind: ClaimKind, key: &str) -> Result<Claim, Failure> {
        match self.ledger().read_single::<Claim>(&(kind, key.to_owned()))? {
            Some(claim) => Ok(claim),
            None => {
                let known = self.list_claims()?;
                Err(Failure::unknown(
                    "claim",
                    key,
                    known.iter().filter(|claim| claim.kind == kind).map(|claim| claim.key.as_str()),
                ))
            }
        }
    }

    /// The claim that a token belongs to, if it is still that session's; a refusal otherwise.
    pub fn fence(&self, token: &str) -> Result<Claim, Failure> {
        let fenced = |why: &str| {
            Failure::held("fenced", format!("the token {token} is not valid any more: {why}"))
                .hint("stop: somebody else may be at work; reserve again before you go on")
        };
        let claims = self.list_claims()?;
        let family = token.rsplit_once('#').map(|(family, _)| family);
        let same_thing = |claim: &&Claim| claim.token.0.rsplit_once('#').map(|(family, _)| family) == family;
        let Some(claim) = claims.iter().find(same_thing) else { return Err(fenced("there is no such claim")) };
        if claim.token.0 != token {
            return Err(fenced(&format!("the claim has been taken again ({})", claim.token)));
        }
        if !claim.is_held() {
            return Err(fenced("the claim has been given back"));
        }
        let holder = claim.session.as_ref().map(|id| self.ledger().read_single::<Session>(id)).transpose()?.flatten();
        match holder {
            Some(session) if !session.status.is_terminal() => Ok(claim.clone()),
            Some(session) => Err(fenced(&format!("session {} has ended ({})", session.id, session.status))),
            None => Err(fenced("its session is not recorded any more")),
        }
    }
}

/// What an executor reports of itself later.
#[derive(Debug, Clone, Default)]
pub struct SessionUpdate {
    /// What it used up.
    pub usage: Option<Usage>,
    /// How it came to this.
    pub attach: Attach,
    /// Who it is.
    pub agent: Agent,
    /// The caller's own data.
    pub metadata: Option<Document>,
    /// The commit that it works from.
    pub base_commit: Option<Oid>,
    /// Whether it got further.
    pub progress: Progress,
}

/// Whether a session got further.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// Nothing is said of it.
    #[default]
    NotSaid,
    /// It did.
    Made,
}

/// Which sessions are listed by age.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ListedAge {
    /// Active ones, and ended ones within their time to live.
    #[default]
    Recent,
    /// Active ones.
    Active,
    /// All that are recorded.
    All,
}

/// Which sessions are listed.
#[derive(Debug, Clone, Default)]
pub struct SessionFilter {
    /// Of this thread.
    pub thread: Option<String>,
    /// At this path, resolved.
    pub path: Option<PathBuf>,
    /// Of this client.
    pub client_key: Option<String>,
    /// Of this actor.
    pub actor_key: Option<String>,
    /// With this own key.
    pub native_key: Option<String>,
    /// With this label.
    pub group: Option<String>,
    /// By age.
    pub age: ListedAge,
}

fn merge_agent(agent: &mut Agent, newer: &Agent) {
    let newer = newer.clone();
    agent.provider = newer.provider.or(agent.provider.take());
    agent.model = newer.model.or(agent.model.take());
    agent.harness = newer.harness.or(agent.harness.take());
    agent.thinking_level = newer.thinking_level.or(agent.thinking_level.take());
}

fn merge_attach(attach: &mut Attach, newer: &Attach) {
    let newer = newer.clone();
    attach.reason = newer.reason.or(attach.reason.take());
    if !newer.precedence.is_empty() {
        attach.precedence = newer.precedence;
    }
    attach.winning_rule = newer.winning_rule.or(attach.winning_rule.take());
    attach.probe_source = newer.probe_source.or(attach.probe_source.take());
    attach.probe_confidence = newer.probe_confidence.or(attach.probe_confidence.take());
}

fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    let resolved = crate::world::paths::resolve(path)
        .map_err(|error| Failure::fatal("invalid_path", crate::app::failure::chain_of(&error)))?;
    if resolved.to_str().is_none() {
        return Err(Failure::fatal("invalid_path", format!("{} is not UTF-8, which records need", resolved.display())));
    }
    Ok(resolved)
}
