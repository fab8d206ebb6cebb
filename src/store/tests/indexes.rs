//! Packs whose index somebody took away: what `git gc` does to a pack that it sees half published.

use std::fs;
use std::time::{Duration, SystemTime};

use super::{Fixture, grow, run};
use crate::store::chain::{self, Follow};
use crate::store::objects::StreamLength;

/// Makes a file look old enough that nobody is publishing it any more.
fn age(path: &std::path::Path) {
    let long_ago = SystemTime::now() - Duration::from_mins(1);
    fs::File::open(path).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn a_reader_that_misses_an_object_brings_the_index_back() {
    for init in [&[][..], &["--object-format=sha256"][..]] {
        let fixture = Fixture::new(init);
        let tip = grow(&*fixture.open(), &run("r"), None, 5);
        let indexes = fixture.pack_files("idx");
        let before: Vec<_> = indexes.iter().map(|path| fs::read(path).unwrap()).collect();
        for path in &indexes {
            fs::remove_file(path).unwrap();
        }
        fs::remove_file(indexes[2].with_extension("keep")).unwrap();
        assert!(!fixture.try_git(&["cat-file", "-e", &tip.to_string()]).status.success());

        let backend = fixture.open();
        assert_eq!(chain::history(&*backend, tip, Follow::First).map(Result::unwrap).count(), 5);
        let after: Vec<_> = indexes.iter().map(|path| fs::read(path).unwrap()).collect();
        assert!(after == before, "byte for byte");
        assert_eq!(fixture.pack_files("keep").len(), 5);
        fixture.git(&["fsck", "--strict", "--full"]);
        for path in &indexes {
            fixture.git(&["verify-pack", path.to_str().unwrap()]);
        }
    }
}

#[test]
fn whoever_writes_next_brings_an_index_back_for_git() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 3);
    let index = fixture.pack_files("idx").remove(0);
    fs::remove_file(&index).unwrap();
    grow(&*backend, &run("other"), None, 1);
    assert!(!index.exists(), "it may be just about to be published");
    age(&index.with_extension("pack"));
    grow(&*backend, &run("another"), None, 1);
    assert!(index.exists());
    assert_eq!(fixture.git(&["rev-list", "--count", &tip.to_string()]), "3");
}

#[test]
fn large_objects_are_found_again_too() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let large: Vec<u8> = (0..700_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    let mut batch = backend.batch();
    let id = batch.add_blob_from(&mut large.as_slice(), StreamLength::Known(large.len() as u64)).unwrap();
    let empty = batch.add(gix::objs::Kind::Blob, b"").unwrap();
    backend.write(batch).unwrap();
    fs::remove_file(fixture.pack_files("idx").remove(0)).unwrap();
    assert!(fixture.open().read(&id, u64::MAX).unwrap().data == large);
    assert_eq!(fixture.open().read(&empty, u64::MAX).unwrap().data, b"");
    fixture.git(&["fsck", "--full"]);
}

#[test]
fn what_is_no_pack_of_ours_or_is_damaged_is_left_alone() {
    let fixture = Fixture::new(&[]);
    let tip = grow(&*fixture.open(), &run("r"), None, 2);
    let indexes = fixture.pack_files("idx");
    let pack = indexes[0].with_extension("pack");
    for path in &indexes {
        fs::remove_file(path).unwrap();
    }
    let mut bytes = fs::read(&pack).unwrap();
    bytes[20] ^= 0xff;
    fs::remove_file(&pack).unwrap();
    fs::write(&pack, &bytes).unwrap();
    fs::write(indexes[1].with_extension("keep"), "mine\n").unwrap();
    fixture.open().header(&tip).unwrap_err();
    assert!(indexes.iter().all(|path| !path.exists()));
    assert_eq!(fs::read(&pack).unwrap(), bytes);
}
