//! SPEC §4 said again, held against every combination of evidence.

use super::*;
use crate::domain::samples::{moment, session};

const LEASE_ENDS: i64 = 600;

fn processes() -> Vec<ProcessSeen> {
    use ProcessSeen as Seen;
    let other = Seen::OtherHost(HostId("m-other".to_owned()));
    vec![
        Seen::NotRecorded,
        Seen::Running,
        Seen::Gone,
        Seen::Reused,
        Seen::OtherBoot,
        Seen::OtherNamespace,
        other,
        Seen::NotPermitted,
    ]
}

fn locks() -> Vec<LockSeen> {
    let held = processes().into_iter().map(Some).chain([None]);
    let held = held.map(|command| LockSeen::Held { command, holders: vec!["4711 sleep".to_owned()] });
    [LockSeen::NeverHeld, LockSeen::Free, LockSeen::Unreadable].into_iter().chain(held).collect()
}

fn proves_death(process: &ProcessSeen) -> bool {
    matches!(process, ProcessSeen::Gone | ProcessSeen::Reused | ProcessSeen::OtherBoot)
}

/// What the specification says, strongest evidence first.
fn expected(session: &Session, evidence: &Evidence, now: i64) -> Verdict {
    if session.status != SessionStatus::Active {
        return Verdict::Dead;
    }
    let told = |verdict| if evidence.assumed_dead { Verdict::Dead } else { verdict };
    if matches!(evidence.process, ProcessSeen::OtherHost(_)) {
        return told(Verdict::Elsewhere);
    }
    match &evidence.lock {
        LockSeen::Held { command, .. } => {
            let both = proves_death(&evidence.process) && command.as_ref().is_some_and(proves_death);
            return if both { Verdict::Dead } else { Verdict::Alive };
        }
        LockSeen::Free if session.holds_lock => return Verdict::Dead,
        _ => {}
    }
    if evidence.process == ProcessSeen::Running {
        return Verdict::Alive;
    }
    if proves_death(&evidence.process) {
        return Verdict::Dead;
    }
    let grace_ends = LEASE_ENDS + 2 * 600;
    told(match evidence.expires_at {
        Some(_) if now >= grace_ends => Verdict::Dead,
        // Without a recorded process a session lives by its lease alone.
        Some(_) if now < LEASE_ENDS && evidence.process == ProcessSeen::NotRecorded => Verdict::Alive,
        Some(_) | None => Verdict::Unknown,
    })
}

#[test]
fn every_combination_of_evidence_has_the_verdict_of_the_specification() {
    let mut tried = 0;
    for status in [SessionStatus::Active, SessionStatus::Complete, SessionStatus::Abandoned, SessionStatus::Merged] {
        for holds_lock in [false, true] {
            let session = Session { status, holds_lock, ..session("s") };
            for process in processes() {
                for lock in locks() {
                    for lease in [None, Some(LEASE_ENDS)] {
                        for assumed_dead in [false, true] {
                            for now in [-1_000_000, 0, 599, 600, 1_799, 1_800, 1_000_000] {
                                let evidence = Evidence {
                                    process: process.clone(),
                                    lock: lock.clone(),
                                    heartbeat_at: Some(moment(0)),
                                    expires_at: lease.map(moment),
                                    remote_lease_until: None,
                                    assumed_dead,
                                };
                                let found = assess(&session, &evidence, moment(now));
                                let wanted = expected(&session, &evidence, now);
                                assert_eq!(found.verdict, wanted, "{holds_lock} {evidence:?} at {now}: {found:?}");
                                assert!(!found.evidence.is_empty(), "a verdict says why");
                                assert!(!found.supervisor_gone || found.verdict == Verdict::Alive);
                                tried += 1;
                            }
                        }
                    }
                }
            }
        }
    }
    assert_eq!(tried, 4 * 2 * 8 * 12 * 2 * 2 * 7);
}

#[test]
fn a_verdict_by_lease_says_when_it_falls() {
    let evidence = Evidence {
        process: ProcessSeen::NotPermitted,
        lock: LockSeen::NeverHeld,
        heartbeat_at: None,
        expires_at: Some(moment(LEASE_ENDS)),
        remote_lease_until: None,
        assumed_dead: false,
    };
    for now in [0, 700] {
        assert_eq!(assess(&session("s"), &evidence, moment(now)).falls_at, Some(moment(1_800)));
    }
}
