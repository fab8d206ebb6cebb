//! Whether a session is alive, decided from evidence alone.
//!
//! Must not know how evidence is gathered. Invariant: only proof makes a session dead; doubt never does.

use std::time::Duration;

use super::ids::HostId;
use super::names::named;
use super::session::{Session, SessionStatus};
use super::time::Timestamp;

named! {
    /// What is known of a session.
    Verdict, "verdict" {
        /// It lives.
        Alive = "alive",
        /// It is proven to be gone.
        Dead = "dead",
        /// Nobody here can tell.
        Unknown = "unknown",
        /// It is on another machine.
        Elsewhere = "elsewhere",
    }
}

/// What was seen of the process that a session recorded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ProcessSeen {
    /// No process was recorded.
    NotRecorded,
    /// It runs (or is stopped, which is alive too).
    Running,
    /// It is gone, or a zombie.
    Gone,
    /// Its pid belongs to another process now.
    Reused,
    /// The machine was started again since.
    OtherBoot,
    /// It was recorded in another pid namespace.
    OtherNamespace,
    /// It was recorded on another machine.
    OtherHost(HostId),
    /// It may not be looked at.
    NotPermitted,
}

/// What was seen of the lock that a supervisor holds for its session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum LockSeen {
    /// The session never had one.
    NeverHeld,
    /// Nobody holds it any more.
    Free,
    /// It is held; the supervisor and its command, as far as each was recorded and seen.
    Held {
        /// Whether the command that was started under it lives; `None`: none was recorded.
        command: Option<ProcessSeen>,
        /// Who holds it, for people (`1234 sleep`).
        holders: Vec<String>,
    },
    /// It could not be looked at.
    Unreadable,
}

/// Everything that speaks for or against a session's being alive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Evidence {
    /// Its process.
    pub process: ProcessSeen,
    /// Its lock.
    pub lock: LockSeen,
    /// When it was last heard of, from its newest heartbeat.
    pub heartbeat_at: Option<Timestamp>,
    /// When its lease ends, from its newest heartbeat.
    pub expires_at: Option<Timestamp>,
    /// Until when the claim runs that it holds across hosts, if it holds one.
    pub remote_lease_until: Option<Timestamp>,
    /// Whether somebody who knows said that it is gone.
    pub assumed_dead: bool,
}

/// The verdict, and what led to it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Liveness {
    /// What is known.
    pub verdict: Verdict,
    /// Why, strongest first, in words.
    pub evidence: Vec<String>,
    /// Whether the supervisor is gone while its command lives on.
    pub supervisor_gone: bool,
    /// When an unknown hold falls by time, if it does.
    pub falls_at: Option<Timestamp>,
}

/// How many leases after the end of the last one an unknown hold falls.
const GRACE_LEASES: u32 = 2;

impl Liveness {
    fn new(verdict: Verdict, why: impl Into<String>) -> Self {
        Self { verdict, evidence: vec![why.into()], supervisor_gone: false, falls_at: None }
    }
}

/// Decides whether a session is alive.
pub fn assess(session: &Session, evidence: &Evidence, now: Timestamp) -> Liveness {
    if session.status != SessionStatus::Active {
        return Liveness::new(Verdict::Dead, format!("the session has ended ({})", session.status));
    }
    let mut liveness = assess_active(session, evidence, now);
    // A lease is a promise: somebody who knows better beats it, but nobody beats what is seen to live.
    let seen = matches!(evidence.lock, LockSeen::Held { .. }) || evidence.process == ProcessSeen::Running;
    if evidence.assumed_dead && !(seen && liveness.verdict == Verdict::Alive) {
        liveness.verdict = Verdict::Dead;
        liveness.evidence.insert(0, "somebody said that it is dead (--assume-dead)".to_owned());
    }
    if let Some(at) = evidence.heartbeat_at {
        liveness.evidence.push(format!("last heard of at {at}"));
    }
    liveness
}

fn assess_active(session: &Session, evidence: &Evidence, now: Timestamp) -> Liveness {
    if let ProcessSeen::OtherHost(host) = &evidence.process {
        return elsewhere(session, evidence, now, host);
    }
    match &evidence.lock {
        LockSeen::Held { command, holders } => return assess_locked(session, evidence, command.as_ref(), holders),
        LockSeen::Free if session.holds_lock => {
            return Liveness::new(Verdict::Dead, "nobody holds its lock any more");
        }
        LockSeen::Free | LockSeen::NeverHeld | LockSeen::Unreadable => {}
    }
    let pid = session.process.pid.unwrap_or_default();
    match &evidence.process {
        ProcessSeen::Running => Liveness::new(Verdict::Alive, format!("process {pid} runs, started when recorded")),
        ProcessSeen::Gone => Liveness::new(Verdict::Dead, format!("process {pid} is gone")),
        ProcessSeen::Reused => Liveness::new(Verdict::Dead, format!("pid {pid} is another process now")),
        ProcessSeen::OtherBoot => {
            Liveness::new(Verdict::Dead, format!("the machine was started again since process {pid} was recorded"))
        }
        ProcessSeen::OtherNamespace => by_lease(evidence, session, now, "its process is in another pid namespace"),
        ProcessSeen::NotPermitted => by_lease(evidence, session, now, "its process may not be looked at"),
        ProcessSeen::NotRecorded => by_lease(evidence, session, now, "no process was recorded"),
        ProcessSeen::OtherHost(host) => Liveness::new(Verdict::Elsewhere, format!("recorded on host {host}")),
    }
}

/// A hold on another host never falls by time, unless its holder took it on itself to renew it there for all to see.
fn elsewhere(session: &Session, evidence: &Evidence, now: Timestamp, host: &HostId) -> Liveness {
    let Some(until) = evidence.remote_lease_until else {
        return Liveness::new(Verdict::Elsewhere, format!("recorded on host {host}"));
    };
    let falls_at = falls_at(session, until);
    let mut liveness = if now >= falls_at {
        Liveness::new(
            Verdict::Dead,
            format!("recorded on host {host}, which did not renew its remote lease; it ended at {until}"),
        )
    } else {
        Liveness::new(Verdict::Elsewhere, format!("recorded on host {host}; its remote lease runs until {until}"))
    };
    liveness.falls_at = Some(falls_at);
    liveness
}

fn is_gone(seen: &ProcessSeen) -> bool {
    matches!(seen, ProcessSeen::Gone | ProcessSeen::Reused | ProcessSeen::OtherBoot)
}

fn assess_locked(
    session: &Session,
    evidence: &Evidence,
    command: Option<&ProcessSeen>,
    holders: &[String],
) -> Liveness {
    let held =
        format!("its lock is held by {}", if holders.is_empty() { "somebody".to_owned() } else { holders.join(", ") });
    let pid = session.process.pid.unwrap_or_default();
    match (is_gone(&evidence.process), command) {
        (true, Some(command)) if is_gone(command) => {
            let mut dead = Liveness::new(Verdict::Dead, "its supervisor and its command are both gone");
            dead.evidence.push(format!("{held}, which it left running"));
            dead
        }
        (true, _) => {
            let mut alive = Liveness::new(Verdict::Alive, held);
            alive.evidence.push(format!("its supervisor {pid} is gone"));
            alive.supervisor_gone = true;
            alive
        }
        (false, _) => Liveness::new(Verdict::Alive, held),
    }
}

fn by_lease(evidence: &Evidence, session: &Session, now: Timestamp, why: &str) -> Liveness {
    let Some(expires_at) = evidence.expires_at else {
        return Liveness::new(Verdict::Unknown, format!("{why}, and it has no lease"));
    };
    if now < expires_at {
        let mut liveness = Liveness::new(Verdict::Alive, format!("{why}; its lease runs until {expires_at}"));
        liveness.falls_at = Some(falls_at(session, expires_at));
        // A lease is a promise to be there, not a proof: where a process was recorded, only seeing it is.
        if evidence.process != ProcessSeen::NotRecorded {
            liveness.verdict = Verdict::Unknown;
        }
        return liveness;
    }
    let falls_at = falls_at(session, expires_at);
    let (verdict, ended) = if now >= falls_at {
        (Verdict::Dead, "and the grace has passed")
    } else {
        (Verdict::Unknown, "within its grace")
    };
    let mut liveness = Liveness::new(verdict, format!("{why}; its lease ended at {expires_at}, {ended}"));
    liveness.falls_at = Some(falls_at);
    liveness
}

fn falls_at(session: &Session, expires_at: Timestamp) -> Timestamp {
    expires_at.plus(Duration::from_secs(session.lease_seconds).saturating_mul(GRACE_LEASES))
}

#[cfg(test)]
#[path = "liveness_tests.rs"]
mod tests;
