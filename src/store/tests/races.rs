//! Many writers beside git's own upkeep: no update is lost, nothing becomes unreadable, no reader fails.

use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;

use super::{Fixture, run, transition};
use crate::store::backend::{Backend, Expected, New, RefValue, SwapError};
use crate::store::chain::{self, Follow};
use crate::store::names::RefName;
use crate::store::transact::{self, Decision, Retry};

#[derive(Debug, thiserror::Error)]
#[error("no number: {0}")]
struct NoNumber(String);

/// What could not be read, with all that it was caused by: a race that fails has to say where.
fn no_number(error: &dyn std::error::Error) -> NoNumber {
    let causes = std::iter::successors(Some(error), |error| error.source());
    NoNumber(causes.map(ToString::to_string).collect::<Vec<_>>().join(": "))
}

/// Adds one to the number that the chain's tip holds.
fn increment(backend: &dyn Backend, name: &RefName) -> Result<(), String> {
    let retry = Retry { attempts: 1000, ..Retry::default() };
    let done = transact::transact(backend, name, retry, |tip| {
        let number = match tip {
            None => 0,
            Some(tip) => {
                let commit = chain::read_commit(backend, tip).map_err(|error| no_number(&error))?;
                let bytes = chain::read_at(backend, &commit, "run.json", 99).map_err(|error| no_number(&error))?;
                let bytes = bytes.ok_or_else(|| NoNumber("the file is not in the tree".to_owned()))?;
                let text = String::from_utf8(bytes).map_err(|error| no_number(&error))?;
                text.parse::<u64>().map_err(|error| no_number(&error))?
            }
        };
        let next = (number + 1).to_string();
        Ok::<_, NoNumber>(Decision::Append(transition(&next, &[("run.json", &next)]), ()))
    });
    done.map(drop).map_err(|error| format!("{error}: {:?}", std::error::Error::source(&error)))
}

/// Runs `count` increments on each of `writers` threads, beside `beside` again and again; how often that ran and how often it failed.
fn race(fixture: &Fixture, writers: usize, count: usize, beside: &[&str]) -> (u64, u64) {
    let over = AtomicBool::new(false);
    let (rounds, failures) = (AtomicU64::new(0), AtomicU64::new(0));
    thread::scope(|scope| {
        if !beside.is_empty() {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    let output = fixture.try_git(beside);
                    rounds.fetch_add(1, Ordering::Relaxed);
                    if !output.status.success() {
                        failures.fetch_add(1, Ordering::Relaxed);
                    }
                }
            });
        }
        let threads: Vec<_> = (0..writers)
            .map(|_| {
                scope.spawn(|| {
                    let backend = fixture.open();
                    (0..count).try_for_each(|_| increment(&*backend, &run("counter")))
                })
            })
            .collect();
        let results: Vec<_> = threads.into_iter().map(|thread| thread.join().unwrap()).collect();
        over.store(true, Ordering::Relaxed);
        for result in results {
            if let Err(said) = &result {
                // Whether it is lost, or only was not seen for a moment, is all the difference.
                let missing = said.split(' ').find(|word| word.len() == 40).unwrap_or("HEAD");
                let later = fixture.try_git(&["cat-file", "-t", missing]);
                panic!("{said}; git says of it afterwards: {later:?}");
            }
        }
    });
    let backend = fixture.open();
    let RefValue::Id(tip) = backend.read_ref(&run("counter")).unwrap() else { panic!("no tip") };
    let history: Vec<_> = chain::history(&*backend, tip, Follow::First).map(Result::unwrap).collect();
    assert_eq!(history.len(), writers * count, "one commit for each increment");
    for (age, commit) in history.iter().enumerate() {
        let number = chain::read_at(&*backend, commit, "run.json", 99).unwrap().unwrap();
        assert_eq!(number, (writers * count - age).to_string().into_bytes());
    }
    fixture.git(&["fsck", "--strict", "--full"]);
    assert_eq!(fixture.git(&["rev-list", "--count", "refs/tether/runs/counter"]), history.len().to_string());
    let locks = fixture.git_dir().join("tether/locks");
    if locks.is_dir() {
        let left: Vec<_> = std::fs::read_dir(locks).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        assert!(left.is_empty(), "{left:?}");
    }
    (rounds.into_inner(), failures.into_inner())
}

#[test]
fn sixteen_writers_lose_nothing() {
    race(&Fixture::new(&[]), 16, 25, &[]);
}

#[test]
fn sixteen_writers_beside_pack_refs_lose_nothing() {
    let (rounds, _) = race(&Fixture::new(&[]), 16, 25, &["pack-refs", "--all", "--prune"]);
    assert!(rounds > 10);
}

#[test]
fn writers_beside_gc_lose_nothing() {
    let (rounds, _) = race(&Fixture::new(&[]), 8, 40, &["gc", "--prune=now", "--quiet"]);
    assert!(rounds > 3);
}

#[test]
fn writers_on_reftable_and_sha256_lose_nothing() {
    race(&Fixture::new(&["--ref-format=reftable", "--object-format=sha256"]), 4, 10, &["pack-refs", "--all"]);
}

#[test]
fn writers_in_a_shared_repository_lose_nothing() {
    race(&Fixture::new(&["--shared=group"]), 4, 10, &["pack-refs", "--all"]);
}

#[test]
fn readers_never_fail_while_packs_are_folded() {
    let fixture = Fixture::new(&[]);
    super::grow(&*fixture.open(), &run("counter"), None, 1);
    let start = fixture.git(&["rev-parse", "refs/tether/runs/counter"]);
    fixture.git(&["update-ref", "-d", "refs/tether/runs/counter"]);
    fixture.git(&["update-ref", "refs/heads/kept", &start]);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let reader = scope.spawn(|| {
            // One process that sees many folds.
            let mut checked = 0;
            while !over.load(Ordering::Relaxed) {
                let log =
                    fixture.command(&fixture.directory, &["log", "-p", "--format=%H", "refs/heads/kept", "--all"]);
                checked += u32::from(succeeded(log));
            }
            checked
        });
        let objects = scope.spawn(|| {
            let mut checked = 0;
            while !over.load(Ordering::Relaxed) {
                let all = ["cat-file", "--batch-all-objects", "--batch-check"];
                checked += u32::from(succeeded(fixture.command(&fixture.directory, &all)));
            }
            checked
        });
        // A reader of ours that stays open across folds.
        let ours = scope.spawn(|| {
            let backend = fixture.open();
            let mut checked = 0;
            while !over.load(Ordering::Relaxed) {
                if let RefValue::Id(tip) = backend.read_ref(&run("counter")).unwrap() {
                    checked += chain::history(&*backend, tip, Follow::First).map(Result::unwrap).count();
                }
            }
            checked
        });
        let backend = fixture.open();
        for _ in 0..400 {
            increment(&*backend, &run("counter")).unwrap();
        }
        over.store(true, Ordering::Relaxed);
        assert!(reader.join().unwrap() > 0);
        assert!(objects.join().unwrap() > 0);
        assert!(ours.join().unwrap() > 0);
    });
    fixture.git(&["fsck", "--strict", "--full"]);
}

fn succeeded(mut command: Command) -> bool {
    let output = command.stdout(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.is_empty(), "{said}");
    true
}

#[test]
fn one_of_many_creators_wins() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let ids: Vec<_> = (0..16)
        .map(|number| {
            let mut batch = backend.batch();
            let id = batch.add(gix::objs::Kind::Blob, format!("{number}").as_bytes()).unwrap();
            backend.write(batch).unwrap();
            id
        })
        .collect();
    for round in 0..20 {
        let name = run(&format!("r{round}"));
        let won = AtomicU64::new(0);
        thread::scope(|scope| {
            for id in &ids {
                scope.spawn(|| match fixture.open().swap(&name, Expected::Absent, New::Id(*id)) {
                    Ok(()) => {
                        won.fetch_add(1, Ordering::Relaxed);
                    }
                    Err(SwapError::Lost { .. }) => {}
                    Err(error) => panic!("{error:?}"),
                });
            }
        });
        assert_eq!(won.into_inner(), 1);
        fixture.git(&["pack-refs", "--all"]);
        assert!(matches!(backend.swap(&name, Expected::Absent, New::Id(ids[0])), Err(SwapError::Lost { .. })));
    }
}
