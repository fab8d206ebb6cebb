//! A session: one executor, with the evidence of its being alive.

use std::path::PathBuf;

use super::document::Document;
use super::ids::{HostId, Oid, SessionId};
use super::names::named;
use super::time::Timestamp;

named! {
    /// Where a session stands.
    SessionStatus, "session status" {
        /// At work.
        Active = "active",
        /// Its executor is gone.
        Abandoned = "abandoned",
        /// Its work is done.
        Complete = "complete",
        /// Its work is done and in the main line.
        Merged = "merged",
    }
}

impl SessionStatus {
    /// Whether the session has ended.
    pub fn is_terminal(self) -> bool {
        self != Self::Active
    }
}

/// Who the executor is.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Agent {
    /// The company or system behind it.
    pub provider: Option<String>,
    /// The model.
    pub model: Option<String>,
    /// The program that drives it.
    pub harness: Option<String>,
    /// How hard it thinks.
    pub thinking_level: Option<String>,
}

/// What tells one process from every other, on this machine and elsewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProcessFingerprint {
    /// The machine.
    pub host: HostId,
    /// The machine's boot id.
    pub boot: Option<String>,
    /// The inode of the pid namespace.
    pub pid_namespace: Option<u64>,
    /// The process id; `None`: no process was recorded.
    pub pid: Option<u32>,
    /// When it started, in clock ticks since boot.
    pub start_time: Option<u64>,
}

/// What a session has used up so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Usage {
    /// Tokens read.
    pub input_tokens: Option<i64>,
    /// Tokens written.
    pub output_tokens: Option<i64>,
    /// Tokens thought.
    pub reasoning_tokens: Option<i64>,
    /// Tools called.
    pub tool_calls: Option<i64>,
    /// Millionths of a US dollar.
    pub cost_micros_usd: Option<i64>,
}

impl Usage {
    /// This usage, with the figures that `newer` has in their place.
    #[must_use]
    pub fn merged_with(self, newer: Self) -> Self {
        Self {
            input_tokens: newer.input_tokens.or(self.input_tokens),
            output_tokens: newer.output_tokens.or(self.output_tokens),
            reasoning_tokens: newer.reasoning_tokens.or(self.reasoning_tokens),
            tool_calls: newer.tool_calls.or(self.tool_calls),
            cost_micros_usd: newer.cost_micros_usd.or(self.cost_micros_usd),
        }
    }
}

/// How an executor came to this session.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Attach {
    /// Why.
    pub reason: Option<String>,
    /// The rules that were tried, first first.
    pub precedence: Vec<String>,
    /// The rule that decided.
    pub winning_rule: Option<String>,
    /// What was probed.
    pub probe_source: Option<String>,
    /// How sure the probe was; JSON.
    pub probe_confidence: Option<Document>,
}

/// One look of the executor at a part of the repository.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContextQuery {
    /// What was looked at.
    pub path: String,
    /// How widely.
    pub scope: Option<String>,
    /// When.
    pub at: Timestamp,
}

/// One executor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Session {
    /// Its id.
    pub id: SessionId,
    /// The line of work that it holds.
    pub thread: String,
    /// Where it stands.
    pub status: SessionStatus,
    /// Who the executor is.
    pub agent: Agent,
    /// The executor's key in its own system.
    pub actor_key: Option<String>,
    /// The key of who started it.
    pub parent_actor_key: Option<String>,
    /// The key of the client that it serves.
    pub client_key: Option<String>,
    /// The key of the executor's own session.
    pub native_key: Option<String>,
    /// A label that groups sessions.
    pub group: Option<String>,
    /// Where it works, resolved.
    pub path: Option<PathBuf>,
    /// The process behind it.
    pub process: ProcessFingerprint,
    /// When it was last heard of, as recorded; newer heartbeats are files.
    pub heartbeat_at: Option<Timestamp>,
    /// What it used up.
    pub usage: Usage,
    /// How the executor came to it.
    pub attach: Attach,
    /// What it looked at.
    pub context_queries: Vec<ContextQuery>,
    /// How often recovery tried to bring it back.
    pub recovery_attempts: u32,
    /// When it last made progress.
    pub last_progress_at: Option<Timestamp>,
    /// The commit that it started from.
    pub base_commit: Option<Oid>,
    /// The caller's own data.
    pub metadata: Document,
    /// When it began.
    pub started_at: Timestamp,
    /// When it ended.
    pub completed_at: Option<Timestamp>,
    /// How long its lease is, in seconds.
    pub lease_seconds: u64,
    /// Whether it is held by an OS lock, beside its process.
    pub holds_lock: bool,
}

/// Why a session does not take a change.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedSessionChange {
    /// It has ended.
    #[error("session {id} has ended ({status}) and is never revived")]
    Ended {
        /// The session.
        id: SessionId,
        /// How it ended.
        status: SessionStatus,
    },
}

impl Session {
    /// Ends the session; the first end stays, except that `complete` may become `merged`.
    #[must_use]
    pub fn released(&self, status: SessionStatus, at: Timestamp) -> Self {
        let mut next = self.clone();
        let merges = self.status == SessionStatus::Complete && status == SessionStatus::Merged;
        if status.is_terminal() && (!self.status.is_terminal() || merges) {
            next.status = status;
            next.completed_at = self.completed_at.or(Some(at));
        }
        next
    }

    /// Refuses a change of a session that has ended.
    pub fn require_active(&self) -> Result<(), RefusedSessionChange> {
        if self.status.is_terminal() {
            return Err(RefusedSessionChange::Ended { id: self.id.clone(), status: self.status });
        }
        Ok(())
    }
}
