//! What folding keeps, and what it leaves alone.

use std::fs;

use super::{Fixture, grow, run};
use crate::store::backend::RefValue;
use crate::store::chain::{self, Follow};
use crate::store::fold::Folded;

#[test]
fn many_small_packs_become_few() {
    for init in [&[][..], &["--object-format=sha256"][..]] {
        let fixture = Fixture::new(init);
        let backend = fixture.open();
        let tip = grow(&*backend, &run("r"), None, 1000);
        let packs = fixture.pack_files("pack").len();
        assert!(packs < 8 + 8, "{packs}");
        assert_eq!(fixture.pack_files("idx").len(), packs);
        assert_eq!(fixture.pack_files("keep").len(), packs);
        assert_eq!(chain::history(&*backend, tip, Follow::First).map(Result::unwrap).count(), 1000);
        fixture.git(&["fsck", "--strict", "--full"]);
        for index in fixture.pack_files("idx") {
            fixture.git(&["verify-pack", index.to_str().unwrap()]);
        }
        assert_eq!(fixture.git(&["rev-list", "--count", "refs/tether/runs/r"]), "1000");
        assert_eq!(backend.fold().unwrap(), Folded::Nothing);
    }
}

#[test]
fn packs_of_others_are_left_alone() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 7);
    // The same name, but somebody else's reason to keep it; and one that nobody keeps.
    let keeps = fixture.pack_files("keep");
    fs::write(&keeps[0], "mine\n").unwrap();
    fs::remove_file(&keeps[1]).unwrap();
    grow(&*backend, &run("r"), Some(tip), 5);
    let packs = fixture.pack_files("pack");
    assert!(packs.contains(&keeps[0].with_extension("pack")), "kept for another reason");
    assert!(packs.contains(&keeps[1].with_extension("pack")), "not kept");
    assert!(packs.len() < 7 + 5, "the others are folded: {}", packs.len());
    fixture.git(&["fsck", "--strict", "--full"]);
}

#[test]
fn packs_in_a_multi_pack_index_and_beside_a_running_gc_stay() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 20);
    fixture.git(&["multi-pack-index", "write"]);
    let indexed = fixture.pack_files("pack");
    let tip = grow(&*backend, &run("r"), Some(tip), 30);
    let packs = fixture.pack_files("pack");
    assert!(indexed.iter().all(|pack| packs.contains(pack)));
    fixture.git(&["multi-pack-index", "verify"]);
    fixture.git(&["fsck", "--strict", "--full"]);

    fs::write(fixture.git_dir().join("gc.pid"), "1 localhost\n").unwrap();
    let before = fixture.pack_files("pack").len();
    grow(&*backend, &run("r"), Some(tip), 40);
    assert_eq!(backend.fold().unwrap(), Folded::Busy);
    assert_eq!(fixture.pack_files("pack").len(), before + 40);
}

#[test]
fn gc_leaves_our_packs_and_their_number_does_not_set_it_off() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 40);
    let ours = fixture.pack_files("pack");
    fixture.git(&["-c", "gc.autoPackLimit=1", "-c", "gc.autoDetach=false", "gc", "--auto"]);
    assert_eq!(fixture.pack_files("pack"), ours);
    fixture.git(&["gc", "--prune=now"]);
    assert!(ours.iter().all(|pack| pack.exists()));
    assert_eq!(backend.read_ref(&run("r")).unwrap(), RefValue::Id(tip));
}

#[test]
fn a_damaged_pack_stops_the_fold_and_loses_nothing() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 7);
    let pack = fixture.pack_files("pack")[3].clone();
    let mut bytes = fs::read(&pack).unwrap();
    bytes[14] ^= 0xff;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, bytes).unwrap();
    grow(&*backend, &run("r"), Some(tip), 2);
    backend.fold().unwrap_err();
    assert_eq!(fixture.pack_files("pack").len(), 9, "nothing was removed");
    let temporary = fs::read_dir(fixture.git_dir().join("objects/pack")).unwrap();
    let temporary = temporary.filter(|entry| entry.as_ref().unwrap().file_name().to_string_lossy().contains("tmp"));
    assert_eq!(temporary.count(), 0, "nothing is left behind");
}
