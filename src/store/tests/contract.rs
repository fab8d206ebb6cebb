//! What every backend promises, asked of each of them.

use gix::objs::Kind;

use super::{Fixture, run, transition};
use crate::store::backend::{Backend, Expected, New, ReadObjectError, RefValue, SwapError};
use crate::store::chain::{self, AppendError, Follow};
use crate::store::memory::{Failure, MemoryBackend};
use crate::store::names::{RefName, RefPrefix};
use crate::store::transact::{self, Decision, Retry};

macro_rules! contract {
    ($($test:ident),+ $(,)?) => {
        mod memory { $(#[test] fn $test() { super::$test(&super::MemoryBackend::new(gix::hash::Kind::Sha1)); })+ }
        mod memory_sha256 { $(#[test] fn $test() { super::$test(&super::MemoryBackend::new(gix::hash::Kind::Sha256)); })+ }
        mod files { $(#[test] fn $test() { super::on_disk(&[], &[], super::$test); })+ }
        mod bare { $(#[test] fn $test() { super::on_disk(&["--bare"], &[], super::$test); })+ }
        mod files_sha256 { $(#[test] fn $test() { super::on_disk(&["--object-format=sha256"], &[], super::$test); })+ }
        mod shared { $(#[test] fn $test() { super::on_disk(&["--shared=group"], &[], super::$test); })+ }
        mod reftable { $(#[test] fn $test() { super::on_disk(&["--ref-format=reftable"], &[], super::$test); })+ }
        mod reftable_sha256 {
            $(#[test] fn $test() { super::on_disk(&["--ref-format=reftable", "--object-format=sha256"], &[], super::$test); })+
        }
    };
}

contract!(
    a_ref_is_created_moved_and_deleted,
    a_swap_needs_the_value_that_is_there,
    creating_needs_absence_even_for_the_same_value,
    a_ref_and_a_directory_do_not_share_a_name,
    refs_are_listed_by_prefix,
    objects_come_back,
    a_large_object_is_refused_before_it_is_loaded,
    an_empty_batch_writes_nothing,
    a_chain_grows_and_tells_its_history,
    a_lost_race_is_decided_again,
    a_wrong_expectation_appends_nothing,
    unknown_files_stay,
);

fn on_disk(init: &[&str], settings: &[(&str, &str)], test: fn(&dyn Backend)) {
    let fixture = Fixture::new(init);
    for (key, value) in settings {
        fixture.git(&["config", key, value]);
    }
    test(&*fixture.open());
    fixture.git(&["fsck", "--strict", "--full"]);
    fixture.git(&["log", "--all", "--oneline"]);
    fixture.git(&["gc", "--prune=now", "--quiet"]);
    fixture.git(&["fsck", "--strict", "--full"]);
}

fn commits(backend: &dyn Backend, count: usize) -> Vec<gix::ObjectId> {
    let mut batch = backend.batch();
    let tree = batch.add(Kind::Tree, b"").unwrap();
    let commits = (0..count).map(|number| {
        let text = format!("tree {tree}\nauthor a <a@b> {number} +0000\ncommitter a <a@b> {number} +0000\n\nx\n");
        batch.add(Kind::Commit, text.as_bytes()).unwrap()
    });
    let commits = commits.collect();
    backend.write(batch).unwrap();
    commits
}

fn a_ref_is_created_moved_and_deleted(backend: &dyn Backend) {
    let ids = commits(backend, 2);
    let name = run("r");
    assert_eq!(backend.read_ref(&name).unwrap(), RefValue::Absent);
    backend.swap(&name, Expected::Absent, New::Id(ids[0])).unwrap();
    assert_eq!(backend.read_ref(&name).unwrap(), RefValue::Id(ids[0]));
    backend.swap(&name, Expected::Id(ids[0]), New::Id(ids[1])).unwrap();
    assert_eq!(backend.read_ref(&name).unwrap(), RefValue::Id(ids[1]));
    backend.swap(&name, Expected::Id(ids[1]), New::Delete).unwrap();
    assert_eq!(backend.read_ref(&name).unwrap(), RefValue::Absent);
    backend.swap(&name, Expected::Absent, New::Id(ids[0])).unwrap();
}

fn a_swap_needs_the_value_that_is_there(backend: &dyn Backend) {
    let ids = commits(backend, 3);
    let name = run("r");
    let lost = |expected, new, value: RefValue| match backend.swap(&name, expected, new) {
        Err(SwapError::Lost { found, .. }) => assert_eq!(found, value),
        other => panic!("{expected:?} → {new:?}: {other:?}"),
    };
    lost(Expected::Id(ids[0]), New::Id(ids[1]), RefValue::Absent);
    lost(Expected::Id(ids[0]), New::Delete, RefValue::Absent);
    // An absent ref whose new value is the expected one is still absent.
    lost(Expected::Id(ids[0]), New::Id(ids[0]), RefValue::Absent);
    backend.swap(&name, Expected::Absent, New::Id(ids[0])).unwrap();
    lost(Expected::Id(ids[1]), New::Id(ids[2]), RefValue::Id(ids[0]));
    lost(Expected::Id(ids[1]), New::Delete, RefValue::Id(ids[0]));
    lost(Expected::Absent, New::Delete, RefValue::Id(ids[0]));
    assert_eq!(backend.read_ref(&name).unwrap(), RefValue::Id(ids[0]));
}

fn creating_needs_absence_even_for_the_same_value(backend: &dyn Backend) {
    let ids = commits(backend, 1);
    let name = run("r");
    backend.swap(&name, Expected::Absent, New::Id(ids[0])).unwrap();
    let again = backend.swap(&name, Expected::Absent, New::Id(ids[0]));
    assert!(matches!(again, Err(SwapError::Lost { found: RefValue::Id(found), .. }) if found == ids[0]), "{again:?}");
}

fn a_ref_and_a_directory_do_not_share_a_name(backend: &dyn Backend) {
    let ids = commits(backend, 1);
    let inner = RefName::parse("refs/tether/runs/a/b").unwrap();
    let outer = run("a");
    backend.swap(&inner, Expected::Absent, New::Id(ids[0])).unwrap();
    let conflict = backend.swap(&outer, Expected::Absent, New::Id(ids[0]));
    assert!(matches!(conflict, Err(SwapError::NameConflict { .. })), "{conflict:?}");
    backend.swap(&inner, Expected::Id(ids[0]), New::Delete).unwrap();
    backend.swap(&outer, Expected::Absent, New::Id(ids[0])).unwrap();
    let conflict = backend.swap(&inner, Expected::Absent, New::Id(ids[0]));
    assert!(matches!(conflict, Err(SwapError::NameConflict { .. })), "{conflict:?}");
    assert_eq!(backend.read_ref(&outer).unwrap(), RefValue::Id(ids[0]));
}

fn refs_are_listed_by_prefix(backend: &dyn Backend) {
    let ids = commits(backend, 2);
    let names = [run("b"), run("a"), RefName::session("a").unwrap(), RefName::work("a").unwrap(), RefName::journal()];
    for name in &names {
        backend.swap(name, Expected::Absent, New::Id(ids[0])).unwrap();
    }
    backend.swap(&names[0], Expected::Id(ids[0]), New::Id(ids[1])).unwrap();
    let runs = backend.list_refs(&RefPrefix::runs()).unwrap();
    assert_eq!(runs, [(run("a"), RefValue::Id(ids[0])), (run("b"), RefValue::Id(ids[1]))]);
    assert_eq!(backend.list_refs(&RefPrefix::travelling()).unwrap().len(), 4);
    assert_eq!(backend.list_refs(&RefPrefix::local()).unwrap().len(), 1);
    assert_eq!(backend.list_refs(&RefPrefix::pools()).unwrap(), []);
}

fn objects_come_back(backend: &dyn Backend) {
    let mut batch = backend.batch();
    let contents: Vec<Vec<u8>> =
        [0_usize, 1, 15, 16, 17, 2047, 2048, 100_000].iter().map(|size| vec![b'x'; *size]).collect();
    let ids: Vec<_> = contents.iter().map(|content| batch.add(Kind::Blob, content).unwrap()).collect();
    assert_eq!(batch.add(Kind::Blob, b"x").unwrap(), ids[1], "once is enough");
    backend.write(batch).unwrap();
    for (id, content) in ids.iter().zip(&contents) {
        let header = backend.header(id).unwrap();
        assert_eq!((header.kind, header.size), (Kind::Blob, content.len() as u64));
        assert_eq!(&backend.read(id, 1 << 20).unwrap().data, content);
    }
    let missing = gix::ObjectId::null(backend.object_format());
    assert!(matches!(backend.read(&missing, 9), Err(ReadObjectError::Missing { .. })));
}

fn a_large_object_is_refused_before_it_is_loaded(backend: &dyn Backend) {
    let mut batch = backend.batch();
    let id = batch.add(Kind::Blob, &vec![0; 5000]).unwrap();
    backend.write(batch).unwrap();
    assert!(matches!(backend.read(&id, 4999), Err(ReadObjectError::TooLarge { size: 5000, limit: 4999, .. })));
    assert_eq!(backend.read(&id, 5000).unwrap().data.len(), 5000);
}

fn an_empty_batch_writes_nothing(backend: &dyn Backend) {
    backend.write(backend.batch()).unwrap();
}

fn a_chain_grows_and_tells_its_history(backend: &dyn Backend) {
    let name = run("r");
    let first =
        chain::append(backend, &name, Expected::Absent, &transition("one\n\nbody", &[("run.json", "1")])).unwrap();
    let two = [("run.json", "2"), ("tasks/a.json", "a")];
    let second = chain::append(backend, &name, Expected::Id(first), &transition("two", &two)).unwrap();
    let mut keeps = transition("three", &[("run.json", "3")]);
    keeps.extra_parents = vec![first, second];
    let third = chain::append(backend, &name, Expected::Id(second), &keeps).unwrap();

    let history: Vec<_> = chain::history(backend, third, Follow::First).map(Result::unwrap).collect();
    assert_eq!(history.iter().map(|commit| commit.id).collect::<Vec<_>>(), [third, second, first]);
    assert_eq!(history[0].parents, [second, first]);
    assert_eq!(history[2].message, "one\n\nbody\n");
    assert_eq!(history[2].time.seconds, 1_700_000_000);
    assert_eq!(history[2].author.email, "tether@localhost");
    assert_eq!(chain::history(backend, third, Follow::All).count(), 3);
    let old = chain::read_at(backend, &history[1], "run.json", 99).unwrap();
    assert_eq!(old.as_deref(), Some(&b"2"[..]));
    assert_eq!(chain::read_at(backend, &history[0], "tasks/a.json", 99).unwrap().as_deref(), Some(&b"a"[..]));
    assert_eq!(chain::read_at(backend, &history[2], "tasks/a.json", 99).unwrap(), None);
}

#[derive(Debug, thiserror::Error)]
#[error("no")]
struct No;

fn a_lost_race_is_decided_again(backend: &dyn Backend) {
    let name = run("r");
    let mut tips = Vec::new();
    let done = transact::transact(backend, &name, Retry::default(), |tip| {
        if tips.is_empty() {
            chain::append(backend, &name, Expected::Absent, &transition("faster", &[("run.json", "x")])).unwrap();
        }
        tips.push(tip);
        Ok::<_, No>(Decision::Append(transition("slower", &[("run.json", "y")]), tips.len()))
    });
    let done = done.unwrap();
    assert_eq!((done.outcome, done.attempts, tips[0]), (2, 2, None));
    assert_eq!(chain::history(backend, done.tip.unwrap(), Follow::First).count(), 2);

    let refused = transact::transact(backend, &name, Retry::default(), |_| Err::<Decision<()>, _>(No));
    assert!(matches!(refused, Err(transact::TransactError::Refused(No))));
    let left = transact::transact(backend, &name, Retry::default(), |_| Ok::<_, No>(Decision::Leave(7))).unwrap();
    assert_eq!((left.outcome, left.tip), (7, done.tip));

    let never = Retry { attempts: 3, ..Retry::default() };
    let mut number = 0;
    let contended = transact::transact(backend, &name, never, |tip| {
        number += 1;
        let faster = transition("faster", &[("run.json", &number.to_string())]);
        chain::append(backend, &name, Expected::Id(tip.unwrap()), &faster).unwrap();
        Ok::<_, No>(Decision::Append(transition("slower", &[]), ()))
    });
    assert!(matches!(contended, Err(transact::TransactError::Contended { attempts: 3, .. })), "{contended:?}");
}

fn a_wrong_expectation_appends_nothing(backend: &dyn Backend) {
    let name = run("r");
    let tip = chain::append(backend, &name, Expected::Absent, &transition("one", &[("run.json", "1")])).unwrap();
    let lost = chain::append(backend, &name, Expected::Absent, &transition("two", &[("run.json", "2")]));
    assert!(matches!(lost, Err(AppendError::Swap(SwapError::Lost { .. }))), "{lost:?}");
    assert_eq!(backend.read_ref(&name).unwrap(), RefValue::Id(tip));
}

fn unknown_files_stay(backend: &dyn Backend) {
    let name = run("r");
    let all = [("run.json", "1"), ("future/deep/file.bin", "f"), ("tasks/notes.txt", "n"), ("a-b", "1"), ("a/b", "2")];
    let tip = chain::append(backend, &name, Expected::Absent, &transition("one", &all)).unwrap();
    let change = transition("two", &[("tasks/x.json", "x")]);
    let tip = chain::append(backend, &name, Expected::Id(tip), &change).unwrap();
    let commit = chain::read_commit(backend, tip).unwrap();
    for (path, content) in all {
        let found = chain::read_at(backend, &commit, path, 99).unwrap();
        assert_eq!(found.as_deref(), Some(content.as_bytes()), "{path}");
    }
}

#[test]
fn memory_fails_and_stops_where_it_is_told() {
    let backend = MemoryBackend::new(gix::hash::Kind::Sha1);
    let step =
        |number: &str, expected| chain::append(&backend, &run("r"), expected, &transition(number, &[("n", number)]));
    backend.fail(Failure::At(2));
    step("1", Expected::Absent).unwrap_err();
    assert_eq!(backend.read_ref(&run("r")).unwrap(), RefValue::Absent);
    let tip = step("1", Expected::Absent).unwrap();
    backend.fail(Failure::StopAfter(1));
    step("2", Expected::Id(tip)).unwrap_err();
    step("2", Expected::Id(tip)).unwrap_err();
    assert_eq!(backend.read_ref(&run("r")).unwrap(), RefValue::Id(tip));
    backend.fail(Failure::Never);
    step("2", Expected::Id(tip)).unwrap();
    assert_eq!(backend.writes(), 2);
}
