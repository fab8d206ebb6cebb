//! Sessions: heartbeat, update, release, reap, find.
//!
//! Invariant: a session that has ended is never revived.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::app::evidence::AssumedDead;
use crate::app::failure::Failure;
use crate::app::listing::Listing;
use crate::app::tether::Tether;
use crate::domain::claim::Claim;
use crate::domain::document::Document;
use crate::domain::ids::{Oid, SessionId};
use crate::domain::liveness::{Liveness, Verdict};
use crate::domain::session::{Agent, Attach, ContextQuery, ProcessFingerprint, Session, SessionStatus, Usage};
use crate::domain::time::Timestamp;
use crate::git::settings::SESSION_TTL;
use crate::store::singles::Change;

/// How old the last sweep of ended sessions may be at most, where their time to live does not ask for less.
const LONGEST_SWEEP_PAUSE: Duration = Duration::from_hours(1);

/// A session, and what is known of its being alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSession {
    /// The session.
    pub session: Session,
    /// Whether it lives.
    pub liveness: Liveness,
}

impl Tether {
    /// An id that sorts by time and that nobody else makes up.
    pub(super) fn made_up_session_id(&self) -> SessionId {
        SessionId::made_from(&self.made_up_id("s"))
    }

    /// A text that sorts by time and that nobody else makes up.
    pub fn made_up_id(&self, prefix: &str) -> String {
        format!("{prefix}-{:x}-{:08x}", self.now().microseconds(), fastrand::u32(..))
    }

    pub(super) fn no_process(&self) -> ProcessFingerprint {
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
        // What its dead supervisor left; one that lives gives its lock up itself.
        let _ = self.signs_of_life().clear_lock(id.as_str());
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
        assumed.require_known(self)?;
        let observer = self.observer(assumed);
        let mut reaped = Vec::new();
        for session in self.ledger().list_singles::<Session>()?.0 {
            let asked = session.status == SessionStatus::Active && thread.is_none_or(|thread| session.thread == thread);
            if asked
                && observer.look_at(&session).verdict == Verdict::Dead
                && let Some(ended) = self.end_session(&session.id, SessionStatus::Abandoned)?
            {
                reaped.push(self.seen(ended));
            }
        }
        Ok(reaped)
    }

    /// Sessions, newest first: active ones, and ended ones within their time to live unless `filter` asks for more or less.
    pub fn list_sessions(&self, filter: &SessionFilter) -> Result<Listing<SeenSession>, Failure> {
        let ttl = self.repository().settings().read(&SESSION_TTL)?;
        let now = self.now();
        let path = filter.path.as_deref().map(resolved).transpose()?;
        let key = |asked: &Option<String>, found: &Option<String>| asked.is_none() || asked == found;
        let mut listing = self.list_all::<Session>()?;
        listing.records.retain(|session| {
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
        listing.records.sort_by(|a, b| (b.started_at, &b.id).cmp(&(a.started_at, &a.id)));
        Ok(listing.map(|sessions| sessions.into_iter().map(|session| self.seen(session)).collect()))
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
    pub(super) fn sweep_ended_sessions(&self) -> Result<(), Failure> {
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

pub(super) fn merge_agent(agent: &mut Agent, newer: &Agent) {
    let newer = newer.clone();
    agent.provider = newer.provider.or(agent.provider.take());
    agent.model = newer.model.or(agent.model.take());
    agent.harness = newer.harness.or(agent.harness.take());
    agent.thinking_level = newer.thinking_level.or(agent.thinking_level.take());
}

pub(super) fn merge_attach(attach: &mut Attach, newer: &Attach) {
    let newer = newer.clone();
    attach.reason = newer.reason.or(attach.reason.take());
    if !newer.precedence.is_empty() {
        attach.precedence = newer.precedence;
    }
    attach.winning_rule = newer.winning_rule.or(attach.winning_rule.take());
    attach.probe_source = newer.probe_source.or(attach.probe_source.take());
    attach.probe_confidence = newer.probe_confidence.or(attach.probe_confidence.take());
}

pub(super) fn resolved(path: &Path) -> Result<PathBuf, Failure> {
    let resolved = crate::world::paths::resolve(path)
        .map_err(|error| Failure::fatal("invalid_path", crate::app::failure::chain_of(&error)))?;
    if resolved.to_str().is_none() {
        return Err(Failure::fatal("invalid_path", format!("{} is not UTF-8, which records need", resolved.display())));
    }
    Ok(resolved)
}
