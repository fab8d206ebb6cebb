//! Hostile input: every kind of bad record, planted with git's own plumbing, against every command that reads.
//!
//! One bad record never hides the others, never makes a command crash or eat memory, and never counts as "nothing there".

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "support/plant.rs"]
mod plant;
mod support;

use std::fs;
use std::process::Output;

use plant::{feed, plant, plant_entries};
use serde_json::Value;
use support::Repository;

/// A repository with one good run (with a task, a gate, a pool, a session) and a ref `refs/tether/runs/bad` to be spoilt.
fn scene() -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "good"]);
    repository.answer(&["task", "add", "good/build", "--pool", "lanes", "--require", "approval"]);
    repository.answer(&["task", "add", "good/test", "--pool", "lanes"]);
    repository.answer(&["pool", "set", "lanes", "--max", "2"]);
    repository.answer(&["session", "reserve", "topic", "--id", "worker"]);
    repository.answer(&["start", "bad"]);
    repository
}

const BAD_RUN: &str = "refs/tether/runs/bad";

fn good_json(repository: &Repository) -> String {
    repository.git(&["show", &format!("{BAD_RUN}:run.json")])
}

type Spoil = fn(&Repository);

/// Every way to spoil a run, by name.
fn ways_to_spoil() -> Vec<(&'static str, Spoil)> {
    fn file(repository: &Repository, path: &str, content: &[u8]) {
        let run = good_json(repository);
        let files = [("run.json", run.as_bytes()), (path, content)];
        let files = if path == "run.json" { &files[1..] } else { &files[..] };
        plant(repository, BAD_RUN, files, None);
    }
    vec![
        ("no run.json", |at| drop(plant(at, BAD_RUN, &[("other", b"x")], None))),
        ("an empty run.json", |at| file(at, "run.json", b"")),
        ("half a run.json", |at| file(at, "run.json", &good_json(at).as_bytes()[..200])),
        ("no UTF-8", |at| file(at, "run.json", b"{\"schema\":\"tether.run/1\",\"id\":\"\xff\xfe\"}")),
        ("a list", |at| file(at, "run.json", b"[1,2,3]")),
        ("another schema", |at| file(at, "run.json", b"{\"schema\":\"tether.task/1\",\"id\":\"bad\"}")),
        ("a newer schema", |at| file(at, "run.json", b"{\"schema\":\"tether.run/2\",\"id\":\"bad\"}")),
        ("a schema without end", |at| {
            file(at, "run.json", format!("{{\"schema\":\"{}\"}}", "\\u001b[2J".repeat(9_999)).as_bytes());
        }),
        ("another run's id", |at| file(at, "run.json", good_json(at).replace("\"bad\"", "\"good\"").as_bytes())),
        ("an id that is none", |at| file(at, "run.json", good_json(at).replace("\"bad\"", "\"../../x\"").as_bytes())),
        ("a key that stands twice", |at| {
            file(
                at,
                "run.json",
                good_json(at).replacen("\"status\"", "\"status\": \"failed\",\n  \"status\"", 1).as_bytes(),
            );
        }),
        ("a type that is wrong", |at| {
            file(at, "run.json", good_json(at).replacen("\"depth\": 0", "\"depth\": \"deep\"", 1).as_bytes());
        }),
        ("a number that does not fit", |at| {
            file(at, "run.json", good_json(at).replacen("\"depth\": 0", "\"depth\": 1e999", 1).as_bytes());
        }),
        ("deep nesting", |at| {
            let deep = format!("\"metadata\": {}{}", "[".repeat(100_000), "]".repeat(100_000));
            file(at, "run.json", good_json(at).replacen("\"metadata\": {}", &deep, 1).as_bytes());
        }),
        ("5 MiB", |at| {
            let large = format!("\"metadata\": {{\"x\": \"{}\"}}", "y".repeat(5 << 20));
            file(at, "run.json", good_json(at).replacen("\"metadata\": {}", &large, 1).as_bytes());
        }),
        ("a torn task", |at| file(at, "tasks/t.json", b"{")),
        ("a task of another name", |at| {
            let task = at.git(&["show", "refs/tether/runs/good:tasks/test.json"]);
            file(at, "tasks/t.json", task.as_bytes());
        }),
        ("a torn environment", |at| file(at, "environments/e.json", b"null")),
        ("a torn checkpoint", |at| file(at, "checkpoints/t.json", b"{\"schema\":\"tether.checkpoint/1\"}")),
        ("a torn gate", |at| file(at, "gates/g.json", b"\0\0\0\0")),
        ("run.json is a link", |at| {
            let target = feed(at, &["hash-object", "-w", "--stdin"], b"/etc/passwd");
            plant_entries(at, BAD_RUN, &format!("120000 {target}\trun.json\n"), None);
        }),
        ("run.json is a directory", |at| drop(plant(at, BAD_RUN, &[("run.json/x", b"x")], None))),
        ("tasks is a file", |at| file(at, "tasks", b"x")),
        ("the ref names a blob", |at| {
            let blob = feed(at, &["hash-object", "-w", "--stdin"], b"x");
            at.git(&["update-ref", BAD_RUN, &blob]);
        }),
        ("the ref names a tree", |at| drop(at.git(&["update-ref", BAD_RUN, "HEAD^{tree}"]))),
        ("the ref names a tag", |at| {
            at.git(&["tag", "-a", "-m", "x", "annotated"]);
            at.git(&["update-ref", BAD_RUN, "refs/tags/annotated"]);
        }),
        ("the ref is symbolic", |at| {
            at.git(&["update-ref", "-d", BAD_RUN]);
            at.git(&["symbolic-ref", BAD_RUN, "refs/tether/runs/good"]);
        }),
        ("the ref's file is empty", |at| fs::write(at.path.join(".git").join(BAD_RUN), "").unwrap()),
        ("the ref names nothing", |at| {
            fs::write(at.path.join(".git").join(BAD_RUN), format!("{}\n", "1".repeat(40))).unwrap();
        }),
        ("the ref's file is garbage", |at| {
            fs::write(at.path.join(".git").join(BAD_RUN), "\u{1b}]0;owned\u{7}\u{202e}".repeat(200)).unwrap();
        }),
    ]
}

/// Every command that reads more than one record, with whether the good run shows in its answer.
const READERS: &[(&[&str], bool)] = &[
    (&["status"], true),
    (&["status", "--problems"], false),
    (&["task", "list"], true),
    (&["pool", "show", "lanes"], true),
    (&["pool", "show"], false),
    (&["session", "list"], false),
    (&["claim", "list"], false),
    (&["verify"], false),
    (&["recover", "--dry-run"], false),
    (&["doctor"], false),
    (&["show", "good"], true),
    (&["report", "good"], true),
    (&["env", "list"], false),
    (&["waiting"], true),
    (&["salvage", "list"], false),
    (&["log", "good"], true),
];

fn words(output: &Output) -> (String, String) {
    (String::from_utf8_lossy(&output.stdout).into_owned(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Text on its way to a terminal holds no control but the end of a line and a tab.
#[track_caller]
fn assert_harmless(text: &str, what: &str) {
    let control = |character: char| character.is_control() && !matches!(character, '\n' | '\t');
    let found: Vec<char> =
        text.chars().filter(|&one| control(one) || ('\u{202a}'..='\u{202e}').contains(&one)).collect();
    assert!(found.is_empty(), "{what}: {found:?} in {text:?}");
}

/// Whether this version has the command at all; parts of it may not be there yet.
fn is_there(repository: &Repository, command: &[&str]) -> bool {
    let output = repository.tether(&[command[0], "-h"]);
    let known = output.status.success();
    if !known {
        eprintln!("skipped: there is no `{}` yet", command[0]);
    }
    known
}

#[test]
fn a_bad_run_hides_no_other() {
    let probe = scene();
    let readers: Vec<_> = READERS.iter().filter(|(command, _)| is_there(&probe, command)).collect();
    assert!(readers.len() >= 11, "most readers are there");
    for (what, spoil) in ways_to_spoil() {
        let repository = scene();
        spoil(&repository);
        for (command, shows_good) in &readers {
            let case = format!("{what}: git tether {}", command.join(" "));
            let output = repository.tether(command);
            let (said, beside) = words(&output);
            let code = output.status.code();
            assert!(matches!(code, Some(0 | 1)), "{case}: {code:?} {said}{beside}");
            assert!(!shows_good || said.contains("good"), "{case}: {said}{beside}");
            assert_harmless(&format!("{said}{beside}"), &case);
            let json = repository.json(command);
            assert!(json["schema"].as_str().unwrap().starts_with("tether."), "{case}");
            assert_ne!(json["schema"], "tether.error/1", "{case}: {json}");
        }
        assert_eq!(repository.tether(&["doctor"]).status.code(), Some(1), "{what}: doctor names it");
    }
}

#[test]
fn a_bad_run_is_refused_by_name_and_never_taken_for_absent() {
    for (what, spoil) in ways_to_spoil() {
        let repository = scene();
        spoil(&repository);
        let before = repository.command("git").args(["for-each-ref"]).output().unwrap().stdout;
        for command in [&["show", "bad"][..], &["start", "bad"], &["task", "add", "bad/x"], &["finish", "bad"]] {
            // A run whose task alone is torn can still take another one.
            if command[0] == "task"
                && (what.contains("torn") || what.contains("another name") || what == "tasks is a file")
            {
                continue;
            }
            let case = format!("{what}: git tether {}", command.join(" "));
            let output = repository.tether(command);
            let (said, beside) = words(&output);
            assert_eq!(output.status.code(), Some(128), "{case}: {said}{beside}");
            assert_eq!(beside.lines().filter(|line| line.starts_with("fatal: ")).count(), 1, "{case}: {beside}");
            assert!(!beside.contains("there is no run bad"), "{case}: {beside}");
            assert!(
                beside.lines().all(|line| line.starts_with("fatal: ") || line.starts_with("hint: ")),
                "{case}: {beside}"
            );
            assert!(beside.len() < 4_000, "{case}: {} bytes", beside.len());
            assert_harmless(&beside, &case);
            let json = repository.json(command);
            assert_eq!(json["schema"], "tether.error/1", "{case}");
        }
        let after = repository.command("git").args(["for-each-ref"]).output().unwrap().stdout;
        assert_eq!(after, before, "{what}: nothing was written");
    }
}

#[test]
fn recover_works_beside_a_bad_run() {
    for (what, spoil) in ways_to_spoil() {
        let repository = scene();
        spoil(&repository);
        let output = repository.tether(&["recover"]);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{what}: {:?}", words(&output));
        let refs = || repository.command("git").args(["for-each-ref"]).output().unwrap().stdout;
        let before = refs();
        let again = repository.tether(&["recover"]);
        assert!(matches!(again.status.code(), Some(0 | 1)), "{what}");
        assert_eq!(refs(), before, "{what}: a second recovery writes nothing");
    }
}

#[test]
fn every_bad_run_can_be_repaired() {
    for (what, spoil) in ways_to_spoil().into_iter().filter(|(what, _)| *what != "a newer schema") {
        let repository = scene();
        spoil(&repository);
        let output = repository.tether(&["doctor", "--fix"]);
        assert_eq!(output.status.code(), Some(0), "{what}: {:?}", words(&output));
        assert_eq!(repository.json(&["show", "bad"])["run"]["id"], "bad", "{what}");
        assert_eq!(repository.json(&["show", "good"])["run"]["id"], "good", "{what}");
        repository.git(&["fsck", "--strict"]);
    }
}

#[test]
fn bad_singles_hide_no_others() {
    let repository = scene();
    repository.answer(&["session", "reserve", "other", "--id", "second"]);
    for name in ["sessions/broken", "claims/thread/broken", "claims/nothing/x", "pools/broken", "journal"] {
        plant(&repository, &format!("refs/tether/{name}"), &[("x", b"x")], None);
    }
    plant(&repository, "refs/tether/sessions/wrong", &[("session.json", b"{\"schema\":\"tether.session/1\"}")], None);
    plant(&repository, "refs/tether-local/work/good", &[("saved.json", b"[")], None);
    repository.git(&["symbolic-ref", "refs/tether/sessions/linked", "refs/tether/sessions/worker"]);
    for (command, _) in READERS.iter().filter(|(command, _)| is_there(&repository, command)) {
        let output = repository.tether(command);
        assert!(matches!(output.status.code(), Some(0 | 1)), "{command:?}: {:?}", words(&output));
    }
    let ids = |answer: &Value, key: &str| -> Vec<String> {
        answer[key].as_array().unwrap().iter().map(|one| one["id"].as_str().unwrap_or_default().to_owned()).collect()
    };
    let mut sessions = ids(&repository.json(&["session", "list"]), "sessions");
    sessions.sort();
    assert_eq!(sessions, ["second", "worker"]);
    assert_eq!(repository.json(&["claim", "list"])["claims"].as_array().unwrap().len(), 2);
    assert_eq!(ids(&repository.json(&["pool", "show"]), "pools"), ["lanes"]);
    for (command, code) in [
        (&["session", "show", "broken"][..], 128),
        (&["session", "show", "linked"], 128),
        (&["session", "show", "wrong"], 128),
        (&["session", "reserve", "x", "--id", "broken"], 128),
        (&["pool", "show", "broken"], 128),
        (&["session", "reserve", "third"], 0),
        (&["session", "release", "worker"], 0),
    ] {
        let output = repository.tether(command);
        assert_eq!(output.status.code(), Some(code), "{command:?}: {:?}", words(&output));
    }
    assert_eq!(repository.tether(&["doctor"]).status.code(), Some(1));
    let fixed = repository.tether(&["doctor", "--fix"]);
    assert_eq!(fixed.status.code(), Some(0), "{:?}", words(&fixed));
}

#[test]
fn a_torn_session_is_neither_dead_nor_gone() {
    let repository = scene();
    // Nobody is seen to live: all that is known is that there is a record, and that it cannot be read.
    repository.answer(&["task", "start", "good/test", "--session", "worker"]);
    let lanes = || repository.json(&["pool", "show", "lanes"])["pool"]["running"].clone();
    let running = lanes();
    repository.tether(&["recover"]);
    fs::write(repository.path.join(".git/refs/tether/sessions/worker"), "").unwrap();
    let found = repository.json_of(1, &["verify"]);
    let codes: Vec<_> = found["findings"].as_array().unwrap().iter().map(|one| one["code"].as_str().unwrap()).collect();
    assert!(codes.contains(&"record_unreadable") && codes.contains(&"session_unknown"), "{codes:?}");
    let before = repository.command("git").arg("for-each-ref").output().unwrap().stdout;
    assert_eq!(repository.json_of(1, &["recover"])["steps"], serde_json::json!([]));
    assert_eq!(repository.command("git").arg("for-each-ref").output().unwrap().stdout, before);
    assert_eq!(repository.json(&["task", "show", "good/test"])["task"]["state"], "running");
    assert_eq!(repository.json(&["claim", "show", "thread", "topic"])["claim"]["released_at"], Value::Null);
    assert_eq!(lanes(), running);
    for command in [
        &["session", "reserve", "topic"][..],
        &["fence", "thread/topic#1"],
        &["session", "reserve", "else", "--id", "worker"],
    ] {
        assert_eq!(repository.error(128, command), "unusable_ref", "{command:?}");
    }
    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    assert_eq!(repository.json(&["task", "show", "good/test"])["task"]["state"], "running");
    assert_eq!(repository.json(&["session", "show", "worker"])["session"]["status"], "active");
}

#[test]
fn a_torn_session_whose_command_runs_is_seen_to_live() {
    let repository = scene();
    let mut supervisor =
        repository.spawn(&["run", "--run", "good", "--task", "long", "--env", "shared", "--", "sleep", "60"]);
    let session = loop {
        let task = repository.json(&["task", "show", "good/long"]);
        match task["task"]["session"].as_str() {
            Some(session) if task["task"]["state"] == "running" => break session.to_owned(),
            _ => std::thread::sleep(std::time::Duration::from_millis(20)),
        }
        assert!(supervisor.try_wait().unwrap().is_none(), "its command runs");
    };
    plant(&repository, &format!("refs/tether/sessions/{session}"), &[("session.json", b"{")], None);
    repository.exits(1, &["recover"]);
    assert_eq!(repository.json(&["task", "show", "good/long"])["task"]["state"], "running");
    let pid = rustix::process::Pid::from_child(&supervisor);
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    supervisor.wait().unwrap();
}

#[test]
fn lists_name_what_they_leave_out() {
    let repository = scene();
    repository.answer(&["task", "add", "bad/x"]);
    plant(&repository, BAD_RUN, &[("run.json", b"{")], None);
    for name in ["sessions/torn", "claims/thread/torn", "pools/torn"] {
        plant(&repository, &format!("refs/tether/{name}"), &[("x", b"x")], None);
    }
    for (command, bad) in [
        (&["task", "list"][..], "run bad"),
        (&["env", "list"], "run bad"),
        (&["waiting"], "run bad"),
        (&["session", "list"], "refs/tether/sessions/torn"),
        (&["claim", "list"], "refs/tether/claims/thread/torn"),
        (&["pool", "show"], "refs/tether/pools/torn"),
    ] {
        for form in [&[][..], &["--json"]] {
            let output = repository.tether(&[command, form].concat());
            let (_, beside) = words(&output);
            assert!(output.status.success(), "{command:?}");
            assert!(beside.contains(&format!("warning: {bad} cannot be read: ")), "{command:?}: {beside}");
        }
    }
    let nothing = repository.json_of(75, &["task", "next", "--pool", "no-such-pool"]);
    assert!(nothing["error"]["hints"].to_string().contains("run bad cannot be read"), "{nothing:#}");
    assert_eq!(repository.error(128, &["fence", "thread/torn#1"]), "invalid_record");
    assert_eq!(repository.error(3, &["fence", "thread/never#1"]), "fenced");
    let problems = repository.answer(&["status", "--problems"]);
    for name in ["run bad", "refs/tether/sessions/torn", "refs/tether/claims/thread/torn", "refs/tether/pools/torn"] {
        assert!(problems.contains(name), "{name}: {problems}");
    }
}

#[test]
fn a_worktree_of_a_run_that_cannot_be_read_is_nobody_elses() {
    let repository = scene();
    let place = repository.home().join("place");
    let path = place.to_str().unwrap();
    repository.answer(&["task", "add", "bad/x"]);
    repository.answer(&["env", "add", "bad/x", "--mode", "git_worktree", "--path", path]);
    fs::write(place.join("new"), "work").unwrap();
    plant(&repository, BAD_RUN, &[("run.json", b"{")], None);
    assert_eq!(repository.error(128, &["env", "adopt", path, "--task", "good/test"]), "torn_record");
    repository.exits(1, &["recover", "--clean", "--recreate"]);
    assert_eq!(fs::read_to_string(place.join("new")).unwrap(), "work");
}

#[test]
fn a_record_of_600_mib_is_refused_in_bounded_memory() {
    let repository = scene();
    let file = repository.root.path().join("large");
    fs::File::create(&file).unwrap().set_len(600 << 20).unwrap();
    let blob = repository.git(&["-c", "core.bigFileThreshold=1m", "hash-object", "-w", file.to_str().unwrap()]);
    plant_entries(&repository, BAD_RUN, &format!("100644 {blob}\trun.json\n"), None);
    for command in [&["show", "bad"][..], &["status"], &["doctor"], &["recover", "--dry-run"], &["task", "list"]] {
        let mut bounded = repository.command("sh");
        // 400 MiB of addresses: what one copy of the record would break.
        bounded.args(["-c", "ulimit -v 409600; exec git-tether \"$@\"", "sh"]).args(command);
        let output = bounded.output().unwrap();
        let expected: &[i32] = match command[0] {
            "show" => &[128],
            "doctor" => &[1],
            _ => &[0, 1],
        };
        let code = output.status.code().unwrap_or(-1);
        assert!(expected.contains(&code), "{command:?}: {code} {:?}", words(&output));
    }
    assert_eq!(repository.json(&["show", "bad"])["error"]["code"], "record_too_large");
}

#[test]
fn text_of_records_steers_no_terminal() {
    let repository = scene();
    let evil = "x\u{1b}]0;owned\u{7}\u{9b}31m\u{202e}\r\u{8}y";
    repository.answer(&["start", "named", "--name", evil]);
    repository.answer(&["activity", "named", "--text", evil, "--error", evil]);
    repository.answer(&["task", "add", "named/t", "--name", evil, "--prompt", evil]);
    repository.answer(&["task", "block", "named/t", "--reason", evil]);
    repository.answer(&["session", "reserve", &format!("th{evil}"), "--id", "s9", "--harness", evil]);
    for command in [
        &["show", "named"][..],
        &["status"],
        &["task", "list"],
        &["task", "show", "named/t"],
        &["session", "list"],
        &["claim", "list"],
        &["report", "named"],
        &["doctor"],
        &["verify"],
        &["session", "reserve", &format!("th{evil}")],
        &["task", "done", "named/t"],
    ] {
        for form in [&[][..], &["--json"]] {
            let output = repository.tether(&[command, form].concat());
            let (said, beside) = words(&output);
            assert_harmless(&format!("{said}{beside}"), &format!("{command:?} {form:?}"));
        }
    }
    assert_eq!(repository.json(&["show", "named"])["run"]["name"], evil, "JSON gives it back as it was");
}

#[test]
fn somebody_elses_repository_is_refused() {
    let repository = scene();
    let as_nobody = |arguments: &[&str]| {
        let mut command = repository.command("setpriv");
        command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]).args(arguments).output()
    };
    let may_switch = as_nobody(&["true"]).is_ok_and(|output| output.status.success());
    if !may_switch {
        eprintln!("SKIPPED: setpriv may not become another user here");
        return;
    }
    repository.command("chmod").args(["-R", "a+rX", repository.root.path().to_str().unwrap()]).status().unwrap();
    let program = repository.root.path().join("git-tether");
    fs::copy(env!("CARGO_BIN_EXE_git-tether"), &program).unwrap();
    let program = program.to_str().unwrap();
    let output = as_nobody(&[program, "status", "--json"]).unwrap();
    assert_eq!(output.status.code(), Some(128), "{:?}", words(&output));
    let error: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(error["error"]["code"], "unsafe_repository");
    assert!(error["error"]["hints"][0].as_str().unwrap().contains("safe.directory"), "{error}");
    repository.git(&["config", "--global", "safe.directory", "*"]);
    let output = as_nobody(&[program, "show", "good"]).unwrap();
    assert_eq!(output.status.code(), Some(0), "{:?}", words(&output));
}
