//! Gathers what speaks for or against a session's being alive; the verdict is the domain's.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::ids::{HostId, SessionId};
use crate::domain::liveness::{Evidence, Liveness, LockSeen, ProcessSeen, assess};
use crate::domain::session::{ProcessFingerprint, Session};
use crate::domain::time::Timestamp;
use crate::world::live::LockState;
use crate::world::processes::{Fingerprint, Observed, Processes};

/// Who is known to be dead by somebody who knows better than this machine.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AssumedDead {
    /// Sessions.
    pub sessions: BTreeSet<SessionId>,
    /// Every session of these hosts.
    pub hosts: BTreeSet<HostId>,
}

impl AssumedDead {
    /// Reads `S` or `host:H`, as they are typed.
    pub fn parse(words: &[String]) -> Result<Self, Failure> {
        let mut assumed = Self::default();
        for word in words {
            match word.strip_prefix("host:") {
                Some(host) => assumed.hosts.insert(HostId(host.to_owned())),
                None => assumed.sessions.insert(SessionId::new(word.as_str())?),
            };
        }
        Ok(assumed)
    }

    /// Refuses a session that is not recorded: a slip of the fingers must not look like success.
    pub fn require_known(&self, tether: &Tether) -> Result<(), Failure> {
        self.sessions.iter().try_for_each(|session| tether.require_session(session).map(drop))
    }

    fn covers(&self, session: &Session) -> bool {
        self.sessions.contains(&session.id) || self.hosts.contains(&session.process.host)
    }
}

/// Looks at sessions; made once for a command.
pub struct Observer<'t> {
    tether: &'t Tether,
    processes: Processes,
    assumed: AssumedDead,
    now: Timestamp,
}

impl Tether {
    /// Somebody who can look at sessions.
    pub fn observer(&self, assumed: AssumedDead) -> Observer<'_> {
        Observer { tether: self, processes: self.processes(), assumed, now: self.now() }
    }

    /// What is known of a session's being alive.
    pub fn liveness(&self, session: &Session) -> Liveness {
        self.observer(AssumedDead::default()).look_at(session)
    }

    /// When a session was last heard of, from its record or its newest heartbeat.
    pub fn last_heartbeat(&self, session: &Session) -> Option<Timestamp> {
        let beat = self.signs_of_life().find_beat(session.id.as_str()).ok().flatten().map(Timestamp::new);
        session.heartbeat_at.max(beat)
    }
}

impl Observer<'_> {
    /// What is known of a session's being alive.
    pub fn look_at(&self, session: &Session) -> Liveness {
        assess(session, &self.evidence(session), self.now)
    }

    fn evidence(&self, session: &Session) -> Evidence {
        let heartbeat_at = self.tether.last_heartbeat(session);
        // The lease counts from the last sign of life; a clock that was set back makes it longer, never shorter.
        let expires_at = heartbeat_at.map(|at| at.plus(Duration::from_secs(session.lease_seconds)));
        Evidence {
            process: self.see_process(&session.process),
            lock: self.see_lock(session),
            heartbeat_at,
            expires_at,
            remote_lease_until: self.tether.remote_lease_of(session),
            assumed_dead: self.assumed.covers(session),
        }
    }

    fn see_process(&self, recorded: &ProcessFingerprint) -> ProcessSeen {
        let (pid, start_time) = match (recorded.pid, recorded.start_time) {
            (Some(pid), Some(start_time)) => (pid, start_time),
            _ if self.tether.host().is_same_machine(&recorded.host.0, recorded.boot.as_deref()) => {
                return ProcessSeen::NotRecorded;
            }
            _ => return ProcessSeen::OtherHost(recorded.host.clone()),
        };
        let fingerprint = Fingerprint {
            host: recorded.host.0.clone(),
            boot: recorded.boot.clone(),
            pid_namespace: recorded.pid_namespace,
            pid,
            start_time,
        };
        match self.processes.observe(&fingerprint) {
            Observed::Running | Observed::Stopped => ProcessSeen::Running,
            Observed::Zombie | Observed::Gone => ProcessSeen::Gone,
            Observed::Reused => ProcessSeen::Reused,
            Observed::OtherBoot => ProcessSeen::OtherBoot,
            Observed::OtherNamespace => ProcessSeen::OtherNamespace,
            Observed::OtherHost => ProcessSeen::OtherHost(recorded.host.clone()),
            Observed::NoPermission => ProcessSeen::NotPermitted,
        }
    }

    fn see_lock(&self, session: &Session) -> LockSeen {
        if !session.holds_lock {
            return LockSeen::NeverHeld;
        }
        let signs = self.tether.signs_of_life();
        match signs.probe(session.id.as_str()) {
            // A supervisor records itself before it takes the lock: without a file, its process speaks for it.
            Ok(LockState::NoFile) => LockSeen::NeverHeld,
            Ok(LockState::Free) => LockSeen::Free,
            Ok(LockState::Held) => LockSeen::Held {
                command: self.tether.command_process(&session.id).map(|recorded| self.see_process(&recorded)),
                holders: self.name_holders(&session.id),
            },
            Err(_) => LockSeen::Unreadable,
        }
    }

    fn name_holders(&self, session: &SessionId) -> Vec<String> {
        let pids = self.tether.signs_of_life().find_holders(session.as_str()).unwrap_or_default();
        let name = |pid: u32| std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
        pids.into_iter().map(|pid| format!("process {pid} {}", name(pid).trim())).collect()
    }
}
