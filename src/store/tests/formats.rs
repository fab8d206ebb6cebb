//! Repositories of other formats, with hooks, with findings in them, and locks that were left behind.

#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;

use super::{Fixture, grow, open_at, run, transition};
use crate::store::backend::{ClearedLock, Expected, New, RefValue, SwapError};
use crate::store::chain::{self, AppendError};
use crate::store::names::RefPrefix;

fn with_hook(relative: &str) -> Fixture {
    let fixture = Fixture::new(&[]);
    let hooks = if relative.is_empty() { fixture.git_dir().join("hooks") } else { fixture.directory.join(relative) };
    fs::create_dir_all(&hooks).unwrap();
    let hook = hooks.join("reference-transaction");
    let log = fixture.home.path().join("log");
    fs::write(&hook, format!("#!/bin/sh\nsed \"s/^/$1 /\" >> '{}'\n", log.display())).unwrap();
    fs::set_permissions(&hook, fs::Permissions::from_mode(0o755)).unwrap();
    if !relative.is_empty() {
        fixture.git(&["config", "core.hooksPath", relative]);
    }
    fixture
}

#[test]
fn a_reference_transaction_hook_sees_every_swap() {
    for relative in ["", "my-hooks"] {
        let fixture = with_hook(relative);
        let tip = grow(&*fixture.open(), &run("r"), None, 1);
        let log = fs::read_to_string(fixture.home.path().join("log")).unwrap();
        let zero = gix::ObjectId::null(tip.kind());
        assert!(log.contains(&format!("committed {zero} {tip} refs/tether/runs/r")), "{relative}: {log}");
    }
}

#[test]
fn a_hook_can_refuse() {
    let fixture = with_hook("");
    fs::write(fixture.git_dir().join("hooks/reference-transaction"), "#!/bin/sh\nexit 1\n").unwrap();
    let refused = chain::append(&*fixture.open(), &run("r"), Expected::Absent, &transition("x", &[("run.json", "1")]));
    assert!(matches!(refused, Err(AppendError::Swap(SwapError::Git { .. }))), "{refused:?}");
}

#[test]
fn symbolic_and_broken_refs_are_findings() {
    for init in [&[][..], &["--shared=group"][..], &["--ref-format=reftable"][..]] {
        let fixture = Fixture::new(init);
        let backend = fixture.open();
        let tip = grow(&*backend, &run("r"), None, 1);
        fixture.git(&["update-ref", "refs/heads/main", &tip.to_string()]);
        fixture.git(&["symbolic-ref", "refs/tether/runs/to-main", "refs/heads/main"]);
        fixture.git(&["symbolic-ref", "refs/tether/runs/to-nothing", "refs/heads/nothing"]);
        let symbolic = RefValue::Symbolic("refs/heads/main".to_owned());
        assert_eq!(backend.read_ref(&run("to-main")).unwrap(), symbolic);
        assert_eq!(backend.read_ref(&run("to-nothing")).unwrap(), RefValue::Symbolic("refs/heads/nothing".to_owned()));
        let listed = backend.list_refs(&RefPrefix::runs()).unwrap();
        assert!(listed.contains(&(run("to-main"), symbolic)), "{listed:?}");
        for (name, expected) in [("to-main", Expected::Id(tip)), ("to-nothing", Expected::Absent)] {
            for new in [New::Id(tip), New::Delete] {
                let refused = backend.swap(&run(name), expected, new);
                let found = matches!(refused, Err(SwapError::Lost { found: RefValue::Symbolic(_), .. }));
                assert!(found, "{init:?} {name} {new:?}: {refused:?}");
            }
        }
        assert_eq!(fixture.git(&["rev-parse", "refs/heads/main"]), tip.to_string());
    }
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 1);
    let refs = fixture.git_dir().join("refs/tether/runs");
    fs::write(refs.join("empty"), "").unwrap();
    std::os::unix::fs::symlink("r", refs.join("link")).unwrap();
    assert_eq!(backend.read_ref(&run("empty")).unwrap(), RefValue::Broken(String::new()));
    assert_eq!(backend.read_ref(&run("link")).unwrap(), RefValue::Symbolic("r".to_owned()));
    let refused = backend.swap(&run("link"), Expected::Id(tip), New::Delete);
    assert!(matches!(refused, Err(SwapError::Lost { .. })), "{refused:?}");
}

#[test]
fn a_lock_of_gits_is_waited_for_and_never_cleared() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 1);
    let lock = fixture.git_dir().join("refs/tether/runs/r.lock");
    fs::write(&lock, "").unwrap();
    let busy = backend.swap(&run("r"), Expected::Id(tip), New::Id(tip));
    assert!(matches!(&busy, Err(SwapError::Busy { lock: held, .. }) if *held == lock), "{busy:?}");
    assert_eq!(backend.find_stale_locks().unwrap(), []);
    assert!(lock.exists());
    let waiting = std::thread::scope(|scope| {
        let waiting = scope.spawn(|| fixture.open().swap(&run("r"), Expected::Id(tip), New::Id(tip)));
        std::thread::sleep(std::time::Duration::from_millis(100));
        fs::remove_file(&lock).unwrap();
        waiting.join().unwrap()
    });
    waiting.unwrap();
}

#[test]
fn a_lock_of_ours_is_stale_once_its_holder_is_gone() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let tip = grow(&*backend, &run("r"), None, 1);
    let common = fixture.git_dir();
    let mark = common.join("tether/locks/4711-00000000deadbeef");
    let lock = common.join("refs/tether/runs/r.lock");
    fs::write(&mark, "").unwrap();
    fs::hard_link(&mark, &lock).unwrap();
    // A holder that lives, in another process: its flock says so.
    let mut holder = std::process::Command::new("flock")
        .args([mark.as_os_str(), "-c".as_ref(), "echo held; read line".as_ref()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut first = [0; 4];
    std::io::Read::read_exact(holder.stdout.as_mut().unwrap(), &mut first).unwrap();
    assert_eq!(backend.find_stale_locks().unwrap(), []);
    drop(holder.stdin.take());
    holder.wait().unwrap();

    let stale = backend.find_stale_locks().unwrap();
    assert_eq!(stale.len(), 1);
    assert_eq!((stale[0].name.as_str(), stale[0].pid), ("refs/tether/runs/r", Some(4711)));
    assert_eq!(backend.clear_stale_lock(&stale[0]).unwrap(), ClearedLock::Removed);
    assert_eq!(backend.clear_stale_lock(&stale[0]).unwrap(), ClearedLock::Gone);
    assert!(!lock.exists() && !mark.exists());
    backend.swap(&run("r"), Expected::Id(tip), New::Id(tip)).unwrap();

    // The name was freed, and git took it: what was stale is not any more.
    fs::write(&mark, "").unwrap();
    fs::hard_link(&mark, &lock).unwrap();
    let stale = backend.find_stale_locks().unwrap();
    fs::remove_file(&lock).unwrap();
    fs::write(&lock, "").unwrap();
    assert_eq!(backend.clear_stale_lock(&stale[0]).unwrap(), ClearedLock::Gone);
    assert!(lock.exists());
}

#[test]
fn an_empty_loose_object_does_not_hide_what_is_written() {
    let fixture = Fixture::new(&[]);
    let backend = fixture.open();
    let mut batch = backend.batch();
    let id = batch.add(gix::objs::Kind::Blob, b"content").unwrap();
    let hex = id.to_string();
    let loose = fixture.git_dir().join("objects").join(&hex[..2]);
    fs::create_dir_all(&loose).unwrap();
    fs::write(loose.join(&hex[2..]), "").unwrap();
    backend.write(batch).unwrap();
    assert_eq!(backend.read(&id, 99).unwrap().data, b"content");
    assert_eq!(fixture.git(&["cat-file", "blob", &hex]), "content");
}

#[test]
fn a_linked_worktree_shares_the_store() {
    let fixture = Fixture::new(&[]);
    fixture.git(&["commit", "--allow-empty", "--quiet", "-m", "x"]);
    let tip = grow(&*fixture.open(), &run("r"), None, 1);
    let linked = fixture.home.path().join("linked");
    fixture.git(&["worktree", "add", "--quiet", linked.to_str().unwrap()]);
    let backend = open_at(&linked);
    assert_eq!(backend.read_ref(&run("r")).unwrap(), RefValue::Id(tip));
    let tip = grow(&*backend, &run("r"), Some(tip), 1);
    fixture.git(&["worktree", "remove", "--force", linked.to_str().unwrap()]);
    grow(&*backend, &run("r"), Some(tip), 1);
    assert_eq!(fixture.git(&["rev-list", "--count", "refs/tether/runs/r"]), "3");
}

#[test]
fn a_shared_repository_gets_gits_modes() {
    let fixture = Fixture::new(&["--shared=0660"]);
    grow(&*fixture.open(), &run("r"), None, 1);
    for extension in ["pack", "idx", "keep"] {
        let mode = fixture.pack_files(extension)[0].metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o077, if extension == "keep" { 0o060 } else { 0o040 }, "{extension} {mode:o}");
    }
    let loose = fixture.git_dir().join("refs/tether/runs/r").metadata().unwrap().permissions().mode();
    assert_eq!(loose & 0o777, 0o660);
}
