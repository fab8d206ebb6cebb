//! A store that stops after write n, for every kind of transition and every n: what is read afterwards is the old or the new state, never a torn one.

use std::convert::Infallible;

use gix::hash::Kind;

use crate::domain::checkpoint::ReplaySafety;
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::environment::ExecutionMode;
use crate::domain::event::RunEvent;
use crate::domain::gate::{GateAction, GateKind};
use crate::domain::ids::{HostId, PoolName, RunId};
use crate::domain::pool::Pool;
use crate::domain::samples::{
    add, block, cancel, checkpointed, claim, decide, done, environment_id, fail, interrupt, lease, moment,
    new_checkpoint, new_environment, new_run, open_gate, requested, resume, session, start, unblock,
};
use crate::domain::session::{Session, SessionStatus};
use crate::domain::view::RunView;
use crate::record::message::Author;
use crate::store::backend::Backend;
use crate::store::chain::Identity;
use crate::store::ledger::Ledger;
use crate::store::memory::{Failure, MemoryBackend};
use crate::store::runs::Need;
use crate::store::singles::{Change, Single};

pub(super) fn ledger(backend: Box<dyn Backend>) -> Ledger {
    let identity = Identity { name: "git-tether".to_owned(), email: "tether@localhost".to_owned() };
    let author = Author { actor: "Ada <ada@example.com>".to_owned(), host: HostId("m-here".to_owned()) };
    Ledger::new(backend, identity, author)
}

fn id() -> RunId {
    RunId::new("r").unwrap()
}

fn read(ledger: &Ledger) -> Option<RunView> {
    ledger.read_run(&id(), &Need::Everything).unwrap().map(|read| read.view)
}

fn change(ledger: &Ledger, event: &RunEvent, second: i64) -> bool {
    let done = ledger.change_run::<Infallible>(&id(), &Need::Everything, moment(second), |_| Ok(event.clone().into()));
    done.is_ok()
}

/// Each kind of event that writes, after those before it.
fn story() -> Vec<RunEvent> {
    let leased = RunEvent::EnvironmentLeased { environment: environment_id("e"), lease: lease("s", None) };
    let released = RunEvent::LeaseReleased { environment: environment_id("e"), reason: "over".to_owned() };
    vec![
        add("t"),
        add("u"),
        requested(Some("t"), new_environment("e", ExecutionMode::GitWorktree)),
        leased,
        released,
        start("t"),
        checkpointed(new_checkpoint("t", ReplaySafety::CheckpointResumable)),
        interrupt("t"),
        resume("t"),
        block("t", "odd"),
        unblock("t", None),
        open_gate("g", GateKind::Approval, Some("go"), Some("t")),
        decide("g", GateAction::Approve),
        start("t"),
        done("t"),
        start("u"),
        fail("u"),
        add("v"),
        cancel("v"),
        RunEvent::RunFinished { outcome: None, note: None },
    ]
}

#[test]
fn a_run_is_in_the_old_state_or_in_the_new_one() {
    let backend = MemoryBackend::new(Kind::Sha1);
    let whole = ledger(Box::new(backend.clone()));
    backend.fail(Failure::Never);
    whole.start_run::<Infallible>(&new_run("r"), moment(0)).unwrap();
    let started = backend.writes();
    for stop in 0..started {
        let torn = MemoryBackend::new(Kind::Sha1);
        torn.fail(Failure::StopAfter(stop));
        assert!(ledger(Box::new(torn.clone())).start_run::<Infallible>(&new_run("r"), moment(0)).is_err());
        torn.fail(Failure::Never);
        assert_eq!(read(&ledger(Box::new(torn.clone()))), None, "not half begun");
    }
    for (event, second) in story().iter().zip(1..) {
        let old = read(&whole).unwrap();
        let new = after_one(&old, event, second);
        for stop in 0..2 {
            backend.fail(Failure::StopAfter(stop));
            assert!(!change(&whole, event, second), "{event:?} was told to be done after {stop} writes");
            backend.fail(Failure::Never);
            assert_eq!(read(&whole), Some(old.clone()), "{event:?} stopped after {stop} writes");
        }
        backend.fail(Failure::Never);
        assert!(change(&whole, event, second), "{event:?}");
        assert_eq!(backend.writes(), 2, "one batch of objects and one swap");
        assert_eq!(read(&whole), Some(new), "{event:?}");
    }
    assert_eq!(read(&whole).map(|view| view.tasks.len()), Some(3));
}

fn after_one(view: &RunView, event: &RunEvent, second: i64) -> RunView {
    let mut next = view.clone();
    next.absorb(crate::domain::transition::apply(view, event, moment(second)).unwrap());
    next
}

#[test]
fn a_refused_event_writes_nothing() {
    let backend = MemoryBackend::new(Kind::Sha256);
    let ledger = ledger(Box::new(backend.clone()));
    ledger.start_run::<Infallible>(&new_run("r"), moment(0)).unwrap();
    assert!(change(&ledger, &add("t"), 1));
    let before = read(&ledger);
    backend.fail(Failure::Never);
    for event in [add("t"), done("t"), interrupt("t"), resume("t"), unblock("t", None), start("nobody")] {
        assert!(!change(&ledger, &event, 2), "{event:?}");
    }
    assert_eq!((backend.writes(), read(&ledger)), (0, before));
}

fn stops_whole<T: Single + std::fmt::Debug>(key: &T::Key, old: &T, new: &T) {
    let backend = MemoryBackend::new(Kind::Sha1);
    let ledger = ledger(Box::new(backend.clone()));
    let put = |record: &T| {
        let change = || Change { record: record.clone(), what: "changed".to_owned(), event: "changed" };
        ledger.change_single::<T, Infallible>(key, moment(1), |_| Ok(Some(change()))).is_ok()
    };
    for (before, next) in [(None, old), (Some(old), new)] {
        for stop in 0..2 {
            backend.fail(Failure::StopAfter(stop));
            assert!(!put(next));
            backend.fail(Failure::Never);
            assert_eq!(ledger.read_single::<T>(key).unwrap().as_ref(), before);
        }
        assert!(put(next));
        assert_eq!(ledger.read_single::<T>(key).unwrap().as_ref(), Some(next));
    }
}

#[test]
fn sessions_claims_and_pools_are_in_the_old_state_or_in_the_new_one() {
    let one = session("s");
    stops_whole::<Session>(&one.id, &one, &one.released(SessionStatus::Complete, moment(2)));
    let held = claim(ClaimKind::Thread, "feature/x", "s");
    stops_whole::<Claim>(&(ClaimKind::Thread, "feature/x".to_owned()), &held, &held.given_back(moment(2)));
    let pool = Pool::new(PoolName::new("codex").unwrap());
    stops_whole::<Pool>(&pool.id, &pool, &pool.failed(Some("rate limited".to_owned()), moment(2)));
}
