#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use super::*;

fn signs() -> (tempfile::TempDir, SignsOfLife) {
    let directory = tempfile::tempdir().unwrap();
    let signs = SignsOfLife::below(directory.path().join("tether"));
    (directory, signs)
}

fn becomes(signs: &SignsOfLife, expected: &LockState) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if signs.probe("s").unwrap() == *expected {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn a_lock_is_seen_and_falls_with_its_holder() {
    let (_directory, signs) = signs();
    assert_eq!(signs.probe("s").unwrap(), LockState::NoFile);
    let lock = signs.hold("s").unwrap();
    assert_eq!(signs.probe("s").unwrap(), LockState::Held);
    assert!(matches!(signs.hold("s"), Err(LiveError::Held { .. })));
    assert_eq!(signs.list_sessions().unwrap(), ["s"]);
    drop(lock);
    // A process that another test starts at this moment holds a copy until it has replaced itself.
    assert!(becomes(&signs, &LockState::Free));
}

#[test]
fn a_child_that_inherits_it_keeps_it_and_is_named() {
    let (_directory, signs) = signs();
    let lock = signs.hold("s").unwrap();
    lock.set_inheritance(Inheritance::ByChildren).unwrap();
    let mut child = Command::new("sleep").arg("60").spawn().unwrap();
    lock.set_inheritance(Inheritance::ByNobody).unwrap();
    let mut stranger = Command::new("sleep").arg("60").spawn().unwrap();
    drop(lock);
    assert_eq!(signs.probe("s").unwrap(), LockState::Held);
    let holders = signs.find_holders("s").unwrap();
    assert!(holders.contains(&child.id()) && !holders.contains(&stranger.id()), "{holders:?}");
    child.kill().unwrap();
    child.wait().unwrap();
    assert!(becomes(&signs, &LockState::Free));
    stranger.kill().unwrap();
    stranger.wait().unwrap();
}

#[test]
fn clearing_spares_what_is_held() {
    let (directory, signs) = signs();
    let lock = signs.hold("s").unwrap();
    signs.clear("s").unwrap();
    assert_eq!(signs.probe("s").unwrap(), LockState::Held);
    lock.clear().unwrap();
    assert!(!directory.path().join("tether/live/s").exists());
    signs.clear("s").unwrap();
    assert_eq!(signs.probe("s").unwrap(), LockState::NoFile);
}

#[test]
fn a_lock_on_a_file_that_was_cleared_away_does_not_count() {
    let (directory, signs) = signs();
    let path = directory.path().join("tether/live/s");
    let old = signs.hold("s").unwrap();
    std::fs::remove_file(&path).unwrap();
    let new = signs.hold("s").unwrap();
    assert!(is_still_named(&new.file, &path));
    assert!(!is_still_named(&old.file, &path));
}

#[test]
fn heartbeats_replace_each_other() {
    let (_directory, signs) = signs();
    assert_eq!(signs.find_beat("s").unwrap(), None);
    for text in ["2026-01-01T00:00:00Z", "2025-01-01T00:00:00.25Z"] {
        let time = DateTime::parse_from_rfc3339(text).unwrap().with_timezone(&Utc);
        signs.beat("s", time).unwrap();
        assert_eq!(signs.find_beat("s").unwrap(), Some(time));
    }
    signs.clear("s").unwrap();
    assert_eq!(signs.find_beat("s").unwrap(), None);
}

#[test]
fn a_torn_heartbeat_is_an_error_and_a_bad_name_never_a_path() {
    let (directory, signs) = signs();
    std::fs::create_dir_all(directory.path().join("tether/heartbeat")).unwrap();
    std::fs::write(directory.path().join("tether/heartbeat/s"), "2026-0").unwrap();
    assert!(matches!(signs.find_beat("s"), Err(LiveError::NoTime { .. })));
    for name in ["", "..", "a/b", ".hidden", "a\nb"] {
        assert!(matches!(signs.probe(name), Err(LiveError::BadName { .. })), "{name}");
    }
}
