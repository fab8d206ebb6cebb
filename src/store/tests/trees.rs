//! The layout of trees: fan-out, both layouts read, little written.

use std::collections::BTreeMap;

use gix::objs::Kind;

use super::{Fixture, run, transition};
use crate::store::backend::{Backend, Expected};
use crate::store::chain;
use crate::store::memory::MemoryBackend;
use crate::store::tree::{self, Change, TreeError};

fn blob(backend: &dyn Backend, content: &str) -> gix::ObjectId {
    let mut batch = backend.batch();
    let id = batch.add(Kind::Blob, content.as_bytes()).unwrap();
    backend.write(batch).unwrap();
    id
}

fn edit(
    backend: &dyn Backend,
    base: Option<gix::ObjectId>,
    changes: &[(&str, Change)],
) -> Result<gix::ObjectId, TreeError> {
    let mut batch = backend.batch();
    let changes = changes.iter().map(|(path, change)| ((*path).to_owned(), *change)).collect();
    let root = tree::edit(backend, &mut batch, base, &changes)?;
    backend.write(batch).unwrap();
    Ok(root)
}

#[test]
fn a_directory_fans_out_once_it_is_wide_and_reads_the_same() {
    let backend = MemoryBackend::new(gix::hash::Kind::Sha1);
    let id = blob(&backend, "x");
    let other = blob(&backend, "y");
    let mut root =
        edit(&backend, None, &[("tasks/notes.txt", Change::Blob(id)), ("run.json", Change::Blob(id))]).unwrap();
    let mut names = BTreeMap::from([("notes.txt".to_owned(), id)]);
    for number in 0..300 {
        let name = format!("t{number}.json");
        root = edit(&backend, Some(root), &[(&format!("tasks/{name}"), Change::Blob(id))]).unwrap();
        names.insert(name, id);
        let found = tree::find(&backend, root, "tasks/t0.json").unwrap().unwrap();
        assert_eq!(found.path == "tasks/t0.json", number < 256, "{number}: {}", found.path);
        assert_eq!(tree::list(&backend, root, "tasks").unwrap(), names);
    }
    root = edit(&backend, Some(root), &[("tasks/t7.json", Change::Blob(other))]).unwrap();
    assert_eq!(tree::read(&backend, root, "tasks/t7.json", 9).unwrap().as_deref(), Some(&b"y"[..]));
    root = edit(&backend, Some(root), &[("tasks/t7.json", Change::Remove)]).unwrap();
    assert_eq!(tree::find(&backend, root, "tasks/t7.json").unwrap(), None);
    names.remove("t7.json");
    assert_eq!(tree::list(&backend, root, "tasks").unwrap(), names);
    let all: Vec<_> = names.keys().map(|name| format!("tasks/{name}")).collect();
    let removals: Vec<_> = all.iter().map(|path| (path.as_str(), Change::Remove)).collect();
    root = edit(&backend, Some(root), &removals).unwrap();
    assert_eq!(tree::list_directories(&backend, root, "").unwrap(), Vec::<String>::new());
    assert_eq!(tree::list(&backend, root, "").unwrap().len(), 1);
}

#[test]
fn three_hundred_at_once_fan_out_too_and_mixed_layouts_are_read() {
    let backend = MemoryBackend::new(gix::hash::Kind::Sha256);
    let id = blob(&backend, "x");
    let paths: Vec<_> = (0..300).map(|number| format!("gates/g{number}.json")).collect();
    let changes: Vec<_> = paths.iter().map(|path| (path.as_str(), Change::Blob(id))).collect();
    let root = edit(&backend, None, &changes).unwrap();
    assert_eq!(tree::list(&backend, root, "gates").unwrap().len(), 300);
    assert_eq!(
        tree::list_directories(&backend, root, "gates").unwrap().iter().filter(|name| name.len() != 2).count(),
        0
    );
    for path in &paths {
        assert_ne!(&tree::find(&backend, root, path).unwrap().unwrap().path, path);
    }
}

#[test]
fn a_run_of_many_tasks_writes_as_few_objects_as_a_small_one() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let files: Vec<_> = (0..10_000).map(|number| (format!("tasks/t{number}.json"), number.to_string())).collect();
    let files: Vec<_> = files.iter().map(|(path, content)| (path.as_str(), content.as_str())).collect();
    let tip = chain::append(&*backend, &run("r"), Expected::Absent, &transition("many", &files)).unwrap();
    let before = fixture.pack_files("idx");
    chain::append(&*backend, &run("r"), Expected::Id(tip), &transition("one", &[("tasks/t5.json", "new")])).unwrap();
    let new: Vec<_> = fixture.pack_files("idx").into_iter().filter(|index| !before.contains(index)).collect();
    let listed = fixture.git(&["verify-pack", "-v", new[0].to_str().unwrap()]);
    let objects =
        listed.lines().filter(|line| line.contains(" blob ") || line.contains(" tree ") || line.contains(" commit "));
    // The blob, its bucket, `tasks`, the root, the commit.
    assert_eq!(objects.count(), 5, "{listed}");
    assert!(new[0].with_extension("pack").metadata().unwrap().len() < 10_000);
    fixture.git(&["fsck", "--strict", "--full"]);
    let log = fixture.git(&["log", "--format=%s", "refs/tether/runs/r", "--", "tasks/**/t5.json"]);
    assert_eq!(log, "one\nmany");
}

#[test]
fn paths_that_no_tree_may_hold_are_refused() {
    let backend = MemoryBackend::new(gix::hash::Kind::Sha1);
    let id = blob(&backend, "x");
    for path in ["", "/a", "a/", "a//b", ".", "..", "a/../b", ".git", ".GIT/config", "a/.git", "git~1", "a\0b"] {
        let refused = edit(&backend, None, &[(path, Change::Blob(id))]);
        assert!(matches!(refused, Err(TreeError::Path { .. })), "{path:?}: {refused:?}");
    }
    let both = edit(&backend, None, &[("a", Change::Blob(id)), ("a/b", Change::Blob(id))]);
    assert!(matches!(both, Err(TreeError::Path { .. })), "{both:?}");
}

#[test]
fn nothing_changed_is_nothing_written() {
    let backend = MemoryBackend::new(gix::hash::Kind::Sha1);
    let id = blob(&backend, "x");
    let root = edit(&backend, None, &[("a/b/c", Change::Blob(id)), ("d", Change::Blob(id))]).unwrap();
    let mut batch = backend.batch();
    let same = BTreeMap::from([
        ("a/b/c".to_owned(), Change::Blob(id)),
        ("a/b/gone".to_owned(), Change::Remove),
        ("d/below/a/file".to_owned(), Change::Remove),
    ]);
    assert_eq!(tree::edit(&backend, &mut batch, Some(root), &same).unwrap(), root);
    assert!(batch.is_empty());
    let empty = edit(&backend, Some(root), &[("a/b/c", Change::Remove), ("d", Change::Remove)]).unwrap();
    assert!(empty.is_empty_tree());
}
