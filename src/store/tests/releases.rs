//! What is let go of can be collected, and nothing else.

use gix::objs::Kind;

use super::{Fixture, grow, run, transition};
use crate::store::backend::{Backend, Expected, New};
use crate::store::chain;
use crate::store::names::RefName;
use crate::store::release::Released;

fn keep_blob(backend: &dyn Backend, name: &RefName, content: &str) -> gix::ObjectId {
    chain::append(backend, name, Expected::Absent, &transition("keep", &[("file", content)])).unwrap()
}

#[test]
fn what_no_ref_names_is_collected_after_it_was_let_go_of() {
    for init in [&[][..], &["--object-format=sha256"][..], &["--ref-format=reftable"][..]] {
        let fixture = Fixture::new(init);
        let backend = fixture.open();
        let (first, second) = (RefName::work("one").unwrap(), RefName::work("two").unwrap());
        let gone = keep_blob(&*backend, &first, "secret");
        let stays = keep_blob(&*backend, &second, "wanted");
        backend.swap(&first, Expected::Id(gone), New::Delete).unwrap();
        fixture.git(&["gc", "--prune=now", "--quiet"]);
        assert!(fixture.try_git(&["cat-file", "-e", &gone.to_string()]).status.success(), "kept until let go of");

        assert_eq!(backend.release(Some(gone)).unwrap(), Released::Objects(3), "commit, tree, blob");
        assert!(fixture.try_git(&["cat-file", "-e", &gone.to_string()]).status.success(), "only gc deletes");
        fixture.git(&["gc", "--prune=now", "--quiet"]);
        assert!(!fixture.try_git(&["cat-file", "-e", &gone.to_string()]).status.success());
        assert_eq!(fixture.git(&["show", &format!("{stays}:file")]), "wanted");
        fixture.git(&["fsck", "--strict", "--full"]);
    }
}

#[test]
fn a_pack_with_other_objects_is_parted() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let first = RefName::work("one").unwrap();
    let gone = keep_blob(&*backend, &first, "secret");
    let tip = grow(&*backend, &run("r"), None, 40);
    assert!(fixture.pack_files("pack").len() < 40, "folded");
    // An object that is wanted all the same: a worktree's index names it, which only git looks at.
    std::fs::write(fixture.directory.join("f"), "secret").unwrap();
    fixture.git(&["add", "f"]);
    backend.swap(&first, Expected::Id(gone), New::Delete).unwrap();
    let kept = fixture.pack_files("keep").len();
    assert_eq!(backend.release(Some(gone)).unwrap(), Released::Objects(3));
    assert_eq!(fixture.pack_files("keep").len(), kept);
    assert_eq!(fixture.pack_files("pack").len(), kept + 1, "what was let go of has a pack of its own");
    fixture.git(&["fsck", "--strict", "--full"]);

    fixture.git(&["gc", "--prune=now", "--quiet"]);
    assert!(!fixture.try_git(&["cat-file", "-e", &gone.to_string()]).status.success());
    assert_eq!(fixture.git(&["show", ":f"]), "secret", "git found that its index needs it");
    assert_eq!(fixture.git(&["rev-parse", "refs/tether/runs/r"]), tip.to_string());
    fixture.git(&["fsck", "--strict", "--full"]);
    assert_eq!(backend.release(Some(tip)).unwrap(), Released::Objects(0), "a ref names it");
}

#[test]
fn nothing_is_let_go_of_beside_a_garbage_collection() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let first = RefName::work("one").unwrap();
    let gone = keep_blob(&*backend, &first, "secret");
    backend.swap(&first, Expected::Id(gone), New::Delete).unwrap();
    std::fs::write(fixture.git_dir().join("gc.pid"), "1 localhost\n").unwrap();
    let before = fixture.pack_files("keep");
    assert_eq!(backend.release(Some(gone)).unwrap(), Released::Busy);
    assert_eq!(fixture.pack_files("keep"), before);

    std::fs::remove_file(fixture.git_dir().join("gc.pid")).unwrap();
    assert_eq!(backend.release(None).unwrap(), Released::Objects(3), "it was written down");
    fixture.git(&["gc", "--prune=now", "--quiet"]);
    assert!(!fixture.try_git(&["cat-file", "-e", &gone.to_string()]).status.success());
    assert_eq!(backend.release(None).unwrap(), Released::Objects(0));
}

#[test]
fn a_pack_that_git_has_listed_is_left_to_git_as_a_whole() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let first = RefName::work("one").unwrap();
    let gone = keep_blob(&*backend, &first, "secret");
    let tip = grow(&*backend, &run("r"), None, 40);
    fixture.git(&["multi-pack-index", "write"]);
    backend.swap(&first, Expected::Id(gone), New::Delete).unwrap();
    assert_eq!(backend.release(Some(gone)).unwrap(), Released::Objects(3));
    fixture.git(&["multi-pack-index", "verify"]);
    fixture.git(&["gc", "--prune=now", "--quiet"]);
    assert!(!fixture.try_git(&["cat-file", "-e", &gone.to_string()]).status.success());
    assert_eq!(fixture.git(&["rev-list", "--count", &tip.to_string()]), "40");
    assert_eq!(backend.header(&tip).unwrap().kind, Kind::Commit);
    fixture.git(&["fsck", "--strict", "--full"]);
}
