//! What the dead hold beside environments: sessions, claims, places in pools; and what was left half made.

use super::scene::Scene;
use crate::domain::claim::ClaimKind;
use crate::domain::ids::{HostId, PoolName};
use crate::domain::liveness::Verdict;
use crate::domain::pool::{Pool, Slot};
use crate::domain::samples::{claim, session_id, task_id, with_task_in};
use crate::domain::session::SessionStatus;
use crate::domain::task::TaskState;
use crate::plan::observation::Leftover;
use crate::plan::recover::Permission;
use crate::plan::step::Step;

fn empty() -> Scene {
    Scene::of(crate::domain::samples::empty_run("r"))
}

#[test]
fn only_proof_of_death_frees_a_claim() {
    for verdict in [Verdict::Alive, Verdict::Unknown, Verdict::Elsewhere, Verdict::Dead] {
        let mut scene = empty().session("s", verdict);
        scene.records.claims.push(claim(ClaimKind::Thread, "main", "s"));
        let after = scene.recovered();
        assert_eq!(after.records.claims[0].is_held(), verdict != Verdict::Dead, "{verdict}");
        let status = after.records.sessions[&session_id("s")].status;
        assert_eq!(status == SessionStatus::Abandoned, verdict == Verdict::Dead, "{verdict}");
        assert!(after.plan(&[]).steps.is_empty());
    }
}

#[test]
fn claims_of_ended_or_unknown_sessions_are_stale_here_and_not_elsewhere() {
    for host in ["m-here", "m-other"] {
        let mut scene = empty();
        scene.records.claims.push(claim(ClaimKind::Place, "/p", "nobody"));
        scene.records.claims[0].host = Some(HostId(host.to_owned()));
        assert_eq!(scene.recovered().records.claims[0].is_held(), host == "m-other");
    }
    let mut scene = empty().session("s", Verdict::Dead);
    scene.records.sessions.values_mut().for_each(|session| session.status = SessionStatus::Complete);
    scene.records.claims.push(claim(ClaimKind::Task, "r/t", "s"));
    assert!(!scene.recovered().records.claims[0].is_held());
}

#[test]
fn a_place_in_a_pool_is_freed_when_its_task_does_not_run_and_its_session_is_gone() {
    for state in <TaskState as crate::domain::names::Named>::ALL {
        for verdict in [Verdict::Alive, Verdict::Unknown, Verdict::Elsewhere, Verdict::Dead] {
            let view = with_task_in(*state);
            let mut scene = Scene::of(view.clone()).session("s", verdict);
            let mut pool = Pool::new(PoolName::new("codex").expect("a name"));
            pool.running.push(Slot { run: view.run.id, task: task_id("t"), session: Some(session_id("s")) });
            scene.records.pools.push(pool);
            // A second round sees what the first one wrote, as the next recovery would.
            let after = scene.recovered();
            let freed = after.records.pools[0].running.is_empty();
            assert_eq!(freed, verdict == Verdict::Dead, "{state} {verdict}");
            let left = after.plan(&[]).steps;
            assert!(!left.iter().any(|step| matches!(step, Step::FreeSlot { .. })), "{left:?}");
        }
    }
}

#[test]
fn leftovers_are_cleared_and_branches_only_when_cleaning_is_allowed() {
    let mut scene = empty();
    scene.seen.leftovers = vec![
        Leftover::RefLock("/r/a.lock".into()),
        Leftover::Scratch("/r/scratch".into()),
        Leftover::LiveFile("/r/live/s".into()),
        Leftover::Branch { name: "b".to_owned(), tip: "1".to_owned() },
    ];
    let plain = scene.recovered();
    assert!(matches!(plain.seen.leftovers[..], [Leftover::Branch { .. }]));
    assert!(plain.plan(&[]).steps.is_empty());
    assert!(plain.after(&plain.plan(&[Permission::Clean]).steps).seen.leftovers.is_empty());
}
