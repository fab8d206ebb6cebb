//! The list of saved work: however long it is, one more entry costs the same, and none is lost.

use gix::ObjectId;

use super::stops::ledger;
use super::{Fixture, open_at, transition};
use crate::domain::ids::Oid;
use crate::domain::samples::moment;
use crate::domain::saved::{SavedEntry, SavedKind};
use crate::record::saved::encode_saved;
use crate::store::backend::Expected;
use crate::store::chain::{self, Content};
use crate::store::ledger::Ledger;
use crate::store::names::RefName;
use crate::store::saved_list::NEWEST;
use crate::store::tree;
use crate::store::work::NewWork;

fn snapshots(fixture: &Fixture, count: usize) -> Vec<ObjectId> {
    let tree = fixture.git(&["mktree"]);
    let make = |number| fixture.git(&["commit-tree", &tree, "-m", &format!("snapshot {number}")]);
    (0..count).map(|number| ObjectId::from_hex(make(number).as_bytes()).unwrap()).collect()
}

fn entry(snapshot: ObjectId, number: usize) -> SavedEntry {
    SavedEntry {
        id: format!("{number}"),
        kind: SavedKind::Worktree,
        run: "r".to_owned(),
        task: None,
        environment: None,
        commit: Oid(snapshot.to_string()),
        base: None,
        branch: None,
        files: 1,
        bytes: 1,
        reason: "test".to_owned(),
        at: moment(number.try_into().unwrap()),
    }
}

fn numbers(ledger: &Ledger) -> Vec<usize> {
    ledger.saved_work("r").unwrap().iter().map(|entry| entry.id.parse().unwrap()).collect()
}

fn root(ledger: &Ledger) -> ObjectId {
    let name = RefName::work("r").unwrap();
    let tip = ledger.tip(&name).unwrap().unwrap();
    chain::read_commit(ledger.backend(), tip).unwrap().tree
}

#[test]
fn a_long_list_stays_in_order_and_one_more_entry_changes_little_of_it() {
    let fixture = Fixture::new(&[]);
    let ledger = ledger(open_at(&fixture.directory));
    let snapshots = snapshots(&fixture, 102);
    let mut before = std::collections::BTreeMap::new();
    let mut newest_of_all = 0;
    for number in 0..100 {
        let commit = snapshots[number];
        let previous = number.checked_sub(1).map(|number| entry(snapshots[number], number));
        let entry = entry(commit, number);
        let new = NewWork { snapshot: commit, entry: &entry, previous: previous.as_ref() };
        assert!(ledger.keep_work_with(&mut None, &new, moment(0)).unwrap().is_kept());
        let files = tree::walk(ledger.backend(), root(&ledger)).unwrap();
        let rewritten = before.iter().filter(|(path, id)| files.get(*path) != Some(*id)).count();
        assert!(rewritten <= 1, "{rewritten} files written again for entry {number}");
        let newest = tree::read(ledger.backend(), root(&ledger), NEWEST, u64::MAX).unwrap().unwrap();
        newest_of_all = newest_of_all.max(newest.len());
        before = files;
    }
    assert_eq!(numbers(&ledger), (0..100).collect::<Vec<_>>());
    let (one, many) = (encode_saved(&[entry(snapshots[99], 99)]).len(), newest_of_all);
    assert!(many < one * 33, "{many} bytes, where one entry has {one}");

    // What is kept already, and long ago, is not listed again.
    let old = snapshots[3];
    ledger.keep_work(old, &entry(old, 3), moment(0)).unwrap();
    assert_eq!(numbers(&ledger).len(), 100);
    // What leans on something old is kept, and what leans on something dropped is not.
    let (new, leans_on) = (snapshots[100], entry(old, 3));
    let listed = entry(new, 100);
    let leaning = NewWork { snapshot: new, entry: &listed, previous: Some(&leans_on) };
    assert!(ledger.keep_work_with(&mut None, &leaning, moment(0)).unwrap().is_kept());
    let dropped = ledger.drop_work("r", moment(0), |entry| entry.id.parse::<usize>().unwrap() % 3 == 0).unwrap();
    assert_eq!(dropped.entries.len(), 34);
    let kept: Vec<usize> = (0..=100).filter(|number| number % 3 != 0).collect();
    assert_eq!(numbers(&ledger), kept);
    let newer = snapshots[101];
    let listed = entry(newer, 101);
    let leaning = NewWork { snapshot: newer, entry: &listed, previous: Some(&leans_on) };
    assert!(!ledger.keep_work_with(&mut None, &leaning, moment(0)).unwrap().is_kept());
    let found = ledger.find_saved_work("r", |entry| entry.id == "1").unwrap();
    assert_eq!(found.map(|entry| entry.id), Some("1".to_owned()));
}

#[test]
fn a_list_in_one_file_as_older_versions_wrote_it_is_read_and_goes_on() {
    let fixture = Fixture::new(&[]);
    let ledger = ledger(open_at(&fixture.directory));
    let snapshots = snapshots(&fixture, 91);
    let entries: Vec<_> = (0..90).map(|number| entry(snapshots[number], number)).collect();
    let mut old = transition("saved", &[]);
    old.changes.insert(NEWEST.to_owned(), Content::Bytes(encode_saved(&entries)));
    old.extra_parents = entries.iter().map(|entry| ObjectId::from_hex(entry.commit.0.as_bytes()).unwrap()).collect();
    chain::append(ledger.backend(), &RefName::work("r").unwrap(), Expected::Absent, &old).unwrap();
    assert_eq!(numbers(&ledger).len(), 90);
    let new = snapshots[90];
    ledger.keep_work(new, &entry(new, 90), moment(0)).unwrap();
    assert_eq!(numbers(&ledger), (0..=90).collect::<Vec<_>>());
    let files = tree::walk(ledger.backend(), root(&ledger)).unwrap();
    assert_eq!(files.len(), 1 + 4, "{files:?}");
}

fn keep(ledger: &Ledger, snapshots: &[ObjectId], numbers: std::ops::Range<usize>) {
    for number in numbers {
        ledger.keep_work(snapshots[number], &entry(snapshots[number], number), moment(0)).unwrap();
    }
}

/// Something else in the place of a part of the list, as damage leaves it.
fn put_into_list(ledger: &Ledger, path: &str, content: Content) {
    let name = RefName::work("r").unwrap();
    let tip = ledger.tip(&name).unwrap().unwrap();
    let mut damage = transition("damage", &[]);
    damage.changes.insert(path.to_owned(), content);
    chain::append(ledger.backend(), &name, Expected::Id(tip), &damage).unwrap();
}

#[test]
fn a_part_that_is_gone_and_files_of_others_make_no_entry_go() {
    let fixture = Fixture::new(&[]);
    let ledger = ledger(open_at(&fixture.directory));
    let snapshots = snapshots(&fixture, 100);
    keep(&ledger, &snapshots, 0..70);
    put_into_list(&ledger, "saved/README", Content::Bytes(b"not ours".to_vec()));
    put_into_list(&ledger, "saved/00000001.json", Content::Remove);
    let left: Vec<_> = (0..70).filter(|number| !(16..32).contains(number)).collect();
    assert_eq!(numbers(&ledger), left);
    let name = RefName::work("r").unwrap();
    let found = |ledger: &Ledger| {
        let faults = ledger.faults_at(&name, ledger.tip(&name).unwrap().unwrap());
        faults.into_iter().filter_map(|fault| fault.path).collect::<Vec<_>>()
    };
    assert!(found(&ledger).contains(&"saved/00000001.json".to_owned()), "a lost file is named: {:?}", found(&ledger));
    keep(&ledger, &snapshots, 70..100);
    assert_eq!(numbers(&ledger), [left, (70..100).collect()].concat());
}

#[test]
fn a_list_put_together_again_has_what_was_saved_since_a_part_was_damaged() {
    let fixture = Fixture::new(&[]);
    let ledger = ledger(open_at(&fixture.directory));
    let snapshots = snapshots(&fixture, 100);
    let name = RefName::work("r").unwrap();
    keep(&ledger, &snapshots, 0..70);
    let good = ledger.tip(&name).unwrap().unwrap();
    put_into_list(&ledger, "saved/00000001.json", Content::Bytes(b"damaged".to_vec()));
    for number in 70..100 {
        let (previous, entry) = (entry(snapshots[number - 1], number - 1), entry(snapshots[number], number));
        let new = NewWork { snapshot: snapshots[number], entry: &entry, previous: Some(&previous) };
        assert!(ledger.keep_work_with(&mut None, &new, moment(0)).unwrap().is_kept());
    }
    assert!(ledger.saved_work("r").is_err());
    // What can be read is not hidden by it.
    let (read, errors) = ledger.readable_work("r");
    assert_eq!((read.len(), errors.len()), (84, 1));
    assert!(errors[0].to_string().contains("saved/00000001.json"), "{}", errors[0]);
    let tip = ledger.tip(&name).unwrap().unwrap();
    for (good, listed) in [(Some(good), 100), (None, 84)] {
        let together = ledger.write_readable_work(&name, tip, good, moment(0)).unwrap().unwrap();
        let entries = ledger.saved_work_at(&name, together).unwrap();
        assert_eq!(entries.len(), listed);
        assert!(entries.is_sorted_by_key(|entry| entry.at));
        let parents = chain::read_commit(ledger.backend(), together).unwrap().parents;
        let is_kept = |entry: &SavedEntry| parents.contains(&ObjectId::from_hex(entry.commit.0.as_bytes()).unwrap());
        assert!(entries.iter().all(is_kept));
    }
    assert_eq!(ledger.write_readable_work(&name, good, Some(good), moment(0)).unwrap(), None);
}
