//! What killed processes leave: found, cleared by `recover`, written into the journal; what others own is never touched.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::Repository;

fn scene() -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t"]);
    repository
}

fn git_dir(repository: &Repository) -> PathBuf {
    repository.path.join(".git")
}

/// The pid of a process that has really lived and is dead.
fn dead_pid() -> u32 {
    let mut child = Command::new("true").spawn().unwrap();
    let pid = child.id();
    child.wait().unwrap();
    pid
}

fn write(path: &Path) -> PathBuf {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, "x").unwrap();
    path.to_owned()
}

#[track_caller]
fn recover_twice(repository: &Repository) -> String {
    let said = repository.answer(&["recover"]);
    let refs = repository.git(&["for-each-ref"]);
    repository.answer(&["recover"]);
    assert_eq!(repository.git(&["for-each-ref"]), refs, "a second recovery writes nothing");
    said
}

#[test]
fn scratch_of_the_dead_goes_and_that_of_the_living_stays() {
    let repository = scene();
    let tether = git_dir(&repository).join("tether");
    let (dead, alive) = (dead_pid(), std::process::id());
    let gone = [
        write(&tether.join(format!("commands/r/.t.tmp-{dead}"))),
        write(&tether.join(format!("heartbeat/.s.tmp-{dead}"))),
        write(&tether.join(format!(".swept.tmp-{dead}"))),
        write(&tether.join("worktree-staging/HEAD")),
        write(&git_dir(&repository).join(format!("objects/pack/tether-tmp-pack-{dead}-0011"))),
    ];
    let stays = [
        write(&tether.join(format!("commands/r/.t.tmp-{alive}"))),
        write(&tether.join("worktrees/somebody/.t.tmp-1")),
        write(&tether.join("notes.txt")),
        write(&git_dir(&repository).join(format!("objects/pack/tmp_pack_{dead}"))),
        write(&git_dir(&repository).join("refs/heads/topic.lock")),
        write(&git_dir(&repository).join("refs/tether/runs/r.lock")),
        write(&git_dir(&repository).join("index.lock")),
    ];
    let found = repository.json(&["verify"])["findings"].as_array().unwrap().len();
    assert_eq!(found, gone.len());
    recover_twice(&repository);
    for path in &gone {
        assert!(!path.exists(), "{} is left", path.display());
    }
    for path in &stays {
        assert!(path.exists(), "{} is gone", path.display());
    }
    let journal = repository.git(&["log", "-1", "--format=%B", "refs/tether/journal"]);
    for path in &gone[..3] {
        assert!(journal.contains(path.to_str().unwrap()), "{journal}");
    }
}

#[test]
fn an_unfinished_pack_that_somebody_writes_stays() {
    let repository = scene();
    // Its maker runs in another pid namespace, say: its number tells nothing here, its lock does.
    let pack = write(&git_dir(&repository).join(format!("objects/pack/tether-tmp-pack-{}-0022", dead_pid())));
    let holder = fs::File::open(&pack).unwrap();
    holder.lock().unwrap();
    repository.answer(&["recover"]);
    assert!(pack.exists());
    drop(holder);
    recover_twice(&repository);
    assert!(!pack.exists());
}

#[test]
fn files_of_sessions_that_nobody_records_go() {
    let repository = scene();
    repository.answer(&["session", "reserve", "topic", "--id", "active"]);
    repository.answer(&["session", "heartbeat", "active"]);
    repository.answer(&["session", "reserve", "other", "--id", "ended"]);
    repository.answer(&["session", "heartbeat", "ended"]);
    repository.answer(&["session", "release", "ended"]);
    let tether = git_dir(&repository).join("tether");
    let gone =
        [write(&tether.join("live/ghost")), write(&tether.join("heartbeat/ghost")), write(&tether.join("live/ended"))];
    let held = write(&tether.join("live/held"));
    let holder = fs::File::open(&held).unwrap();
    holder.lock().unwrap();
    recover_twice(&repository);
    for path in &gone {
        assert!(!path.exists(), "{} is left", path.display());
    }
    assert!(held.exists(), "a held lock is never cleared");
    assert!(tether.join("heartbeat/active").exists() && tether.join("heartbeat/ended").exists());
    drop(holder);
}

/// Runs git-tether and kills it with SIGKILL right before its `number`th call of a system call.
fn killed_at(repository: &Repository, call: &str, number: usize, arguments: &[&str]) -> bool {
    let mut command = repository.command("strace");
    command.args(["-f", "-qq", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e"]);
    command.arg(format!("inject={call}:signal=KILL:when={number}"));
    let output = command.arg(env!("CARGO_BIN_EXE_git-tether")).args(arguments).output().unwrap();
    !output.status.success()
}

#[test]
fn a_session_whose_reservation_was_cut_off_is_taken_back_at_once() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: strace is not there");
        return;
    }
    // Its process lives: nothing but the word that it was being recorded tells that nobody will ever hold it.
    let pid = std::process::id().to_string();
    let reserve = ["session", "reserve", "topic", "--id", "s", "--pid", &pid];
    let count = |repository: &Repository, kind: &str| {
        repository.git(&["for-each-ref", &format!("refs/tether/{kind}/")]).lines().count()
    };
    let mut claimless = 0;
    for call in ["linkat", "rename", "unlink"] {
        for number in 1..20 {
            let repository = scene();
            if !killed_at(&repository, call, number, &reserve) {
                break;
            }
            let (sessions, claims) = (count(&repository, "sessions"), count(&repository, "claims"));
            if sessions > claims {
                claimless += 1;
                // Whoever asks for the same again gets it, before any recovery; the journal tells of one.
                if number % 2 == 0 {
                    assert_eq!(repository.json(&reserve)["outcome"], "reserved", "{call} {number}");
                }
            }
            recover_twice(&repository);
            let after = count(&repository, "sessions");
            assert_eq!(after, count(&repository, "claims"), "{call} {number}");
            if sessions > claims && number % 2 == 1 {
                assert_eq!(after, 0, "{call} {number}");
                let journal = repository.git(&["log", "-1", "--format=%B", "refs/tether/journal"]);
                assert!(journal.contains("clear_leftover session s"), "{call} {number}: {journal}");
            }
            let words = fs::read_dir(git_dir(&repository).join("tether/reserving")).into_iter().flatten().count();
            assert_eq!(words, 0, "{call} {number}");
        }
    }
    assert!(claimless > 1, "some kill came between the session and its claim");
}

#[test]
fn a_session_that_somebody_records_or_that_holds_something_is_not_cut_off() {
    let repository = scene();
    repository.answer(&["session", "reserve", "topic", "--id", "holds"]);
    repository.answer(&["task", "start", "r/t", "--session", "holds"]);
    repository.answer(&["session", "reserve", "other", "--id", "beginning"]);
    repository.git(&["update-ref", "-d", "refs/tether/claims/thread/other"]);
    let reserving = git_dir(&repository).join("tether/reserving");
    write(&reserving.join("holds"));
    let word = write(&reserving.join("beginning"));
    let holder = fs::File::options().write(true).open(&word).unwrap();
    holder.lock().unwrap();
    recover_twice(&repository);
    for session in ["holds", "beginning"] {
        assert_eq!(repository.json(&["session", "show", session])["session"]["status"], "active");
    }
    assert!(word.exists() && !reserving.join("holds").exists());
    drop(holder);
    recover_twice(&repository);
    assert_eq!(repository.error(128, &["session", "show", "beginning"]), "unknown_session");
}

#[test]
fn a_writer_that_is_killed_leaves_nothing_that_stays() {
    if Command::new("strace").arg("-V").output().is_err() {
        eprintln!("SKIPPED: strace is not there");
        return;
    }
    let mut locks = 0;
    for call in ["linkat", "rename", "fdatasync", "openat"] {
        for number in 1..60 {
            let repository = scene();
            if !killed_at(&repository, call, number, &["activity", "r", "--text", "x"]) {
                break;
            }
            let lock = git_dir(&repository).join("refs/tether/runs/r.lock");
            locks += usize::from(lock.exists());
            recover_twice(&repository);
            assert!(!lock.exists(), "{call} {number}");
            let unfinished = fs::read_dir(git_dir(&repository).join("objects/pack")).unwrap().flatten();
            let unfinished: Vec<_> =
                unfinished.filter(|entry| entry.file_name().to_string_lossy().starts_with("tether-tmp")).collect();
            assert!(unfinished.is_empty(), "{call} {number}: {unfinished:?}");
            repository.answer(&["activity", "r", "--text", "y"]);
            assert_eq!(repository.tether(&["doctor"]).status.code(), Some(0), "{call} {number}");
            repository.git(&["fsck", "--strict"]);
        }
    }
    assert!(locks > 0, "some kill left the lock of the ref");
}

#[test]
fn garbage_is_collected_and_generations_survive() {
    let repository = scene();
    let long_ago = |arguments: &[&str]| {
        let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
        let output = command.env("GIT_TETHER_NOW", "2020-01-01T00:00:00Z").args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    };
    long_ago(&["start", "old"]);
    long_ago(&["task", "add", "old/t"]);
    long_ago(&["task", "start", "old/t"]);
    long_ago(&["task", "done", "old/t"]);
    long_ago(&["session", "reserve", "topic", "--id", "ancient"]);
    long_ago(&["session", "release", "ancient"]);
    let answer = repository.json(&["gc"]);
    assert_eq!(answer["gc"]["runs_archived"], serde_json::json!(["old"]), "{answer}");
    assert!(answer["gc"]["sessions_dropped"].as_u64().unwrap() >= 1, "{answer}");
    assert!(repository.git(&["show", "refs/tether/archive:runs/old/run.json"]).contains("\"completed\""));
    assert!(repository.git(&["show", "refs/tether/archive:runs/old/tasks/t.json"]).contains("\"old\""));
    let error = repository.json(&["show", "old"]);
    assert_eq!(error["error"]["code"], "unknown_run");
    assert!(error["error"]["hints"].to_string().contains("refs/tether/archive:runs/old"), "{error}");
    assert_eq!(repository.json(&["session", "reserve", "topic"])["token"], "thread/topic#2");

    let refs = repository.git(&["for-each-ref"]);
    repository.answer(&["gc"]);
    assert_eq!(repository.git(&["for-each-ref"]), refs, "a second one finds nothing");
    // The same name again: the archive keeps both.
    long_ago(&["start", "old", "--name", "second"]);
    long_ago(&["finish", "old"]);
    repository.answer(&["gc"]);
    assert_eq!(repository.git(&["ls-tree", "--name-only", "refs/tether/archive:runs/"]).lines().count(), 2);
    assert_eq!(repository.tether(&["doctor"]).status.code(), Some(0));
}

#[test]
fn watch_tells_each_transition_on_a_line_and_ends_with_its_reader() {
    use std::io::{BufRead as _, BufReader};
    let repository = scene();
    let mut command = repository.command(env!("CARGO_BIN_EXE_git-tether"));
    let mut child =
        command.args(["watch", "--json", "r"]).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<serde_json::Value>(&lines.next().unwrap().unwrap()).unwrap();
    let first = next();
    assert_eq!((&first["schema"], &first["watch"]["run"]), (&"tether.watch/1".into(), &"r".into()));
    repository.answer(&["task", "start", "r/t"]);
    repository.answer(&["start", "other"]);
    repository.answer(&["task", "done", "r/t"]);
    let states = [next(), next()].map(|line| line["watch"]["status"].as_str().unwrap().to_owned());
    assert_eq!(states, ["running", "completed"]);
    drop(lines);
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
