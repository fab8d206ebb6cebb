//! `doctor`: each kind of damage, planted with git's own plumbing, is named, and undone without deleting evidence.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test stops where it fails")]

#[path = "support/plant.rs"]
mod plant;
mod support;

use std::fs;

use plant::{feed, plant};
use serde_json::Value;
use support::Repository;

/// A repository with two runs, of which `r1` has history, and a session that has a claim.
fn scene() -> Repository {
    let repository = Repository::new();
    repository.answer(&["start", "r1"]);
    repository.answer(&["task", "add", "r1/t1"]);
    repository.answer(&["task", "add", "r1/t2"]);
    repository.answer(&["start", "r2"]);
    repository.answer(&["session", "reserve", "topic", "--id", "s1"]);
    repository
}

fn findings(answer: &Value) -> Vec<(String, String)> {
    let text = |value: &Value, key: &str| value[key].as_str().unwrap().to_owned();
    let found = answer["doctor"]["findings"].as_array().unwrap();
    found.iter().map(|one| (text(one, "code"), text(one, "ref"))).collect()
}

fn tip(repository: &Repository, name: &str) -> String {
    repository.git(&["rev-parse", name])
}

#[track_caller]
fn assert_clean(repository: &Repository) {
    let output = repository.tether(&["doctor"]);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stdout));
    repository.git(&["fsck", "--strict"]);
}

#[test]
fn a_healthy_repository_has_nothing() {
    let repository = scene();
    let answer = repository.json(&["doctor"]);
    assert_eq!(answer["schema"], "tether.doctor/1");
    assert_eq!(answer["doctor"]["healthy"], true);
    assert_eq!(findings(&answer), []);
    assert_eq!(repository.tether(&["doctor"]).status.code(), Some(0));
    let before = repository.git(&["for-each-ref"]);
    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    assert_eq!(repository.git(&["for-each-ref"]), before, "nothing to fix, nothing written");
}

#[test]
fn a_record_that_is_torn_goes_back_to_the_commit_before() {
    let repository = scene();
    let good = tip(&repository, "refs/tether/runs/r1");
    let bad =
        plant(&repository, "refs/tether/runs/r1", &[("run.json", b"{\"schema\": \"tether.run/1\", \"id")], Some(&good));
    let output = repository.tether(&["doctor"]);
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("refs/tether/runs/r1 run.json") && said.contains(&good[..12]), "{said}");

    let answer = repository.json(&["doctor"]);
    let found = &answer["doctor"]["findings"][0];
    assert_eq!((&found["code"], &found["path"]), (&"invalid_record".into(), &"run.json".into()));
    assert_eq!((&found["commit"], &found["last_good"]["commit"]), (&bad.as_str().into(), &good.as_str().into()));
    assert_eq!(tip(&repository, "refs/tether/runs/r1"), bad, "looking changes nothing");

    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    assert_eq!(tip(&repository, "refs/tether/runs/r1"), good);
    let kept = repository.git(&["for-each-ref", "--format=%(refname)", "--contains", &bad]);
    assert!(kept.starts_with("refs/tether-local/evidence/tether/runs/r1/"), "{kept}");
    assert!(repository.git(&["log", "-1", "--format=%B", "refs/tether/journal"]).contains("refs/tether/runs/r1"));
    assert_eq!(repository.json(&["show", "r1"])["tasks"].as_array().unwrap().len(), 2);
    repository.git(&["gc", "-q", "--prune=now"]);
    repository.git(&["cat-file", "-e", &bad]);
    assert_clean(&repository);
}

#[test]
fn a_ref_that_a_power_cut_emptied_finds_its_chain_again() {
    let repository = scene();
    for name in ["runs/r1", "sessions/s1"] {
        let name = format!("refs/tether/{name}");
        let good = tip(&repository, &name);
        fs::write(repository.path.join(".git").join(&name), "").unwrap();
        let answer = repository.json(&["doctor"]);
        assert_eq!(findings(&answer), [("torn_ref".to_owned(), name.clone())]);
        assert_eq!(answer["doctor"]["findings"][0]["last_good"]["commit"], good.as_str());
        assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
        assert_eq!(tip(&repository, &name), good);
    }
    assert_eq!(fs::read_dir(repository.path.join(".git/tether/evidence")).unwrap().count(), 2);
    assert_clean(&repository);
}

#[test]
fn a_claim_that_goes_back_never_uses_a_generation_twice() {
    let repository = scene();
    let name = "refs/tether/claims/thread/topic";
    let first = tip(&repository, name);
    repository.answer(&["session", "release", "s1"]);
    repository.answer(&["session", "reserve", "topic", "--id", "s2"]);
    repository.answer(&["session", "release", "s2"]);
    assert_eq!(repository.json(&["claim", "show", "thread", "topic"])["claim"]["generation"], 2);
    // What a broken writer leaves: the tip's history ends at the first generation.
    plant(&repository, name, &[("claim.json", b"{}")], Some(&first));
    repository.tether(&["doctor", "--fix"]);
    let answer = repository.json(&["session", "reserve", "topic", "--id", "s3"]);
    let token = answer["token"].as_str().unwrap();
    let generation: u64 = token.rsplit('#').next().unwrap().parse().unwrap();
    assert!(generation > 2, "{token}");
    assert_clean(&repository);
}

#[test]
fn what_cannot_be_a_record_is_taken_away_and_kept() {
    let repository = scene();
    let blob = feed(&repository, &["hash-object", "-w", "--stdin"], b"no commit");
    repository.git(&["update-ref", "refs/tether/runs/blob", &blob]);
    repository.git(&["update-ref", "refs/tether/runs/UPPER", "HEAD"]);
    repository.git(&["symbolic-ref", "refs/tether/runs/linked", "refs/heads/main"]);
    let head = tip(&repository, "HEAD");
    let answer = repository.json(&["doctor"]);
    let codes: Vec<_> = findings(&answer).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["invalid_name", "not_a_commit", "symbolic_ref"]);
    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    assert_eq!(
        repository.git(&["for-each-ref", "--format=%(refname)", "refs/tether/runs/"]),
        "refs/tether/runs/r1\nrefs/tether/runs/r2"
    );
    assert_eq!(tip(&repository, "refs/heads/main"), head, "a symbolic ref is not followed");
    let evidence = repository.git(&["for-each-ref", "--format=%(objectname)", "refs/tether-local/evidence/"]);
    assert!(evidence.contains(&blob) && evidence.contains(&head), "{evidence}");
    assert_clean(&repository);
}

#[test]
fn what_a_newer_version_wrote_is_left_alone() {
    let repository = scene();
    let newer = plant(
        &repository,
        "refs/tether/runs/r1",
        &[("run.json", b"{\"schema\": \"tether.run/2\", \"id\": \"r1\"}\n")],
        None,
    );
    let answer = repository.json(&["doctor", "--fix"]);
    assert_eq!(findings(&answer), [("newer_schema".to_owned(), "refs/tether/runs/r1".to_owned())]);
    assert_eq!(answer["doctor"]["findings"][0]["outcome"], "refused");
    assert_eq!(tip(&repository, "refs/tether/runs/r1"), newer);
    assert_eq!(repository.tether(&["doctor"]).status.code(), Some(1));
}

#[test]
fn counts_that_are_wrong_are_counted_again() {
    let repository = scene();
    let name = "refs/tether/runs/r1";
    let run = repository.git(&["show", &format!("{name}:run.json")]).replace("\"queued\": 2", "\"queued\": 7");
    let task = |id: &str| repository.git(&["show", &format!("{name}:tasks/{id}.json")]);
    let files = [
        ("run.json", run.as_bytes()),
        ("tasks/t1.json", task("t1").as_bytes()),
        ("tasks/t2.json", task("t2").as_bytes()),
    ]
    .map(|(path, content)| (path, content.to_vec()));
    let files: Vec<(&str, &[u8])> = files.iter().map(|(path, content)| (*path, content.as_slice())).collect();
    let parent = tip(&repository, name);
    plant(&repository, name, &files, Some(&parent));
    let answer = repository.json(&["doctor", "--fix"]);
    assert_eq!(findings(&answer), [("wrong_summary".to_owned(), name.to_owned())]);
    assert_eq!(repository.json(&["show", "r1"])["run"]["task_summary"]["queued"], 2);
    assert_clean(&repository);
}

#[test]
fn a_claim_whose_session_is_gone_is_named_and_given_back() {
    let repository = scene();
    repository.git(&["update-ref", "-d", "refs/tether/sessions/s1"]);
    let answer = repository.json(&["doctor"]);
    assert_eq!(findings(&answer), [("stale_claim".to_owned(), "refs/tether/claims/thread/topic".to_owned())]);
    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    let claim = repository.json(&["claim", "show", "thread", "topic"]);
    assert!(claim["claim"]["released_at"].is_string());
    assert_eq!(claim["claim"]["generation"], 1);
    assert_clean(&repository);
}

#[test]
fn saved_work_that_nothing_keeps_is_kept_again() {
    let repository = scene();
    let place = repository.root.path().join("place");
    repository.answer(&["env", "add", "r1/t1", "--mode", "git_worktree", "--path", place.to_str().unwrap()]);
    fs::write(place.join("new"), "work").unwrap();
    let saved = repository.json(&["checkpoint", "r1/t1", "--boundary", "half"]);
    let commit = saved["checkpoint"]["work"]["commit"].as_str().unwrap().to_owned();
    repository.git(&["update-ref", "-d", "refs/tether-local/work/r1"]);
    let answer = repository.json(&["doctor"]);
    assert_eq!(findings(&answer), [("dangling_work".to_owned(), "refs/tether/runs/r1".to_owned())]);
    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    repository.git(&["gc", "-q", "--prune=now"]);
    repository.git(&["cat-file", "-e", &format!("{commit}:new")]);
    let kept = repository.git(&["for-each-ref", "--format=%(refname)", "--contains", &commit]);
    assert_eq!(kept, "refs/tether-local/work/r1");
    assert_clean(&repository);
}

#[test]
fn several_faults_are_all_named() {
    let repository = scene();
    let name = "refs/tether/runs/r1";
    let run = repository.git(&["show", &format!("{name}:run.json")]);
    let other = repository.git(&["show", &format!("{name}:tasks/t1.json")]);
    let files: [(&str, &[u8]); 4] = [
        ("run.json", run.as_bytes()),
        ("tasks/t1.json", b"\xff\xfe"),
        ("tasks/t2.json", b"{\"schema\":\"tether.task/1\",\"schema\":\"tether.task/1\"}"),
        ("tasks/t3.json", other.as_bytes()),
    ];
    plant(&repository, name, &files, None);
    fs::write(repository.path.join(".git/refs/tether/runs/r2"), "no id\n").unwrap();
    let answer = repository.json(&["doctor"]);
    let found: Vec<_> = answer["doctor"]["findings"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| (one["code"].as_str().unwrap(), one["path"].as_str()))
        .collect();
    assert_eq!(
        found,
        [
            ("invalid_record", Some("tasks/t1.json")),
            ("invalid_record", Some("tasks/t2.json")),
            ("misnamed_record", Some("tasks/t3.json")),
            ("torn_ref", None)
        ]
    );
    assert_eq!(repository.tether(&["doctor", "--fix"]).status.code(), Some(0));
    assert_eq!(repository.json(&["show", "r1"])["tasks"].as_array().unwrap().len(), 2);
    assert_eq!(repository.json(&["show", "r2"])["run"]["id"], "r2");
}

#[test]
fn reftable_is_repaired_through_git() {
    let repository = Repository::new();
    let path = repository.root.path().join("tables");
    repository.git(&["init", "-q", "--ref-format=reftable", path.to_str().unwrap()]);
    let inside = |arguments: &[&str]| {
        let mut command = repository.command("git");
        let output = command.current_dir(&path).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    inside(&["commit", "-q", "--allow-empty", "-m", "x"]);
    inside(&["tether", "start", "r1"]);
    let good = inside(&["rev-parse", "refs/tether/runs/r1"]).1;
    inside(&["update-ref", "refs/tether/runs/r1", "HEAD"]);
    inside(&["symbolic-ref", "refs/tether/runs/linked", "refs/heads/main"]);
    let head = inside(&["rev-parse", "HEAD"]).1;
    assert_eq!(inside(&["tether", "doctor"]).0, Some(1));
    let fixed = inside(&["tether", "doctor", "--fix"]);
    assert_eq!(fixed.0, Some(0), "{}", fixed.1);
    assert_eq!(inside(&["rev-parse", "refs/tether/runs/r1"]).1, good);
    assert_eq!(inside(&["rev-parse", "HEAD"]).1, head);
    assert_eq!(inside(&["tether", "doctor"]).0, Some(0));
}

/// Puts every object into a file of its own, as a fetch leaves them: none is in a pack of ours.
fn unpack(repository: &Repository) {
    let packs = repository.path.join(".git/objects/pack");
    let aside = repository.root.path().join("packs");
    fs::rename(&packs, &aside).unwrap();
    fs::create_dir(&packs).unwrap();
    for entry in fs::read_dir(&aside).unwrap().flatten() {
        if entry.path().extension().is_some_and(|extension| extension == "pack") {
            feed(repository, &["unpack-objects", "-q"], &fs::read(entry.path()).unwrap());
        }
    }
}

fn lose(repository: &Repository, object: &str) {
    let id = repository.git(&["rev-parse", object]);
    fs::remove_file(repository.path.join(".git/objects").join(&id[..2]).join(&id[2..])).unwrap();
}

#[test]
fn a_lost_tip_goes_back_wherever_its_history_lies() {
    let repository = scene();
    let before = tip(&repository, "refs/tether/runs/r1~1");
    unpack(&repository);
    lose(&repository, "refs/tether/runs/r1");
    let answer = repository.json(&["doctor"]);
    assert_eq!(answer["doctor"]["findings"][0]["last_good"]["commit"], before.as_str(), "{answer:#}");
    repository.exits(0, &["doctor", "--fix"]);
    assert_eq!(tip(&repository, "refs/tether/runs/r1"), before);
    assert_clean(&repository);
}

#[test]
fn what_a_repair_lays_open_is_repaired_with_it() {
    let repository = scene();
    unpack(&repository);
    lose(&repository, "refs/tether/sessions/s1");
    let answer = repository.json_of(0, &["doctor", "--fix"]);
    let codes: Vec<_> = findings(&answer).into_iter().map(|(code, _)| code).collect();
    assert_eq!(codes, ["torn_object", "stale_claim"], "{answer:#}");
    assert_clean(&repository);
}

#[test]
fn a_lost_claim_never_gives_a_token_out_again() {
    let repository = scene();
    unpack(&repository);
    lose(&repository, "refs/tether/claims/thread/topic");
    assert_eq!(repository.error(128, &["session", "reserve", "topic"]), "torn_record");
    repository.exits(0, &["doctor", "--fix"]);
    assert_eq!(repository.error(3, &["fence", "thread/topic#1"]), "fenced");
    let token = repository.ok_json(&["session", "reserve", "topic"])["token"].as_str().unwrap().to_owned();
    let generation: u64 = token.rsplit('#').next().unwrap().parse().unwrap();
    assert!(generation > 1_000_000, "{token}");
    assert_clean(&repository);
}

#[test]
fn a_history_that_breaks_off_begins_anew() {
    let repository = scene();
    unpack(&repository);
    let before = tip(&repository, "refs/tether/runs/r1");
    lose(&repository, "refs/tether/runs/r1~1");
    assert_eq!(findings(&repository.json(&["doctor"]))[0].0, "broken_chain");
    repository.exits(0, &["doctor", "--fix"]);
    assert_eq!(repository.json(&["show", "r1"])["tasks"].as_array().unwrap().len(), 2);
    let log = repository.git(&["log", "--format=%s", "refs/tether/runs/r1"]);
    assert_eq!(log, format!("history begins anew: what came before {} is lost", &before[..12]));
    repository.git(&["gc", "-q", "--prune=now"]);
    assert_clean(&repository);
}

/// Two snapshots of one place, the older of which no record names; their commits.
fn saved_twice(repository: &Repository) -> [String; 2] {
    let place = repository.root.path().join("place");
    repository.answer(&["env", "add", "r1/t1", "--mode", "git_worktree", "--path", place.to_str().unwrap()]);
    ["first", "second"].map(|content| {
        fs::write(place.join("new"), content).unwrap();
        let saved = repository.json(&["checkpoint", "r1/t1", "--boundary", content]);
        saved["checkpoint"]["work"]["commit"].as_str().unwrap().to_owned()
    })
}

#[test]
fn of_saved_work_only_what_is_lost_is_struck_off() {
    let repository = scene();
    let [first, second] = saved_twice(&repository);
    unpack(&repository);
    lose(&repository, &first);
    assert_eq!(findings(&repository.json(&["doctor"]))[0].0, "lost_work");
    repository.exits(0, &["doctor", "--fix"]);
    repository.git(&["gc", "-q", "--prune=now"]);
    assert_eq!(repository.git(&["show", &format!("{second}:new")]), "second");
    let saved = repository.json(&["salvage", "list"])["saved"].clone();
    assert_eq!(saved.as_array().unwrap().iter().map(|one| &one["commit"]).collect::<Vec<_>>(), [second.as_str()]);
    assert_clean(&repository);
}

#[test]
fn saved_work_that_lacks_a_part_is_named_and_left() {
    let repository = scene();
    let [_, second] = saved_twice(&repository);
    unpack(&repository);
    lose(&repository, &format!("{second}:new"));
    let refs = repository.refs();
    let answer = repository.json_of(1, &["doctor", "--fix"]);
    assert_eq!(findings(&answer), [("incomplete_work".to_owned(), "refs/tether-local/work/r1".to_owned())]);
    assert_eq!(answer["doctor"]["findings"][0]["outcome"], "refused");
    assert_eq!(repository.refs(), refs, "what is left of it stays");
}

#[test]
fn a_torn_list_of_saved_work_is_not_an_empty_one() {
    let repository = scene();
    saved_twice(&repository);
    fs::write(repository.path.join(".git/refs/tether-local/work/r1"), "").unwrap();
    let listed = repository.json(&["salvage", "list"]);
    assert!(listed["unreadable"].to_string().contains("r1"), "{listed:#}");
    repository.exits(0, &["doctor", "--fix"]);
    assert_eq!(repository.json(&["salvage", "list"])["saved"].as_array().unwrap().len(), 2);
    assert_clean(&repository);
}

#[test]
fn the_record_of_a_session_at_work_is_not_taken_away() {
    let repository = scene();
    unpack(&repository);
    lose(&repository, "refs/tether/sessions/s1");
    let live = repository.path.join(".git/tether/live/s1");
    fs::create_dir_all(live.parent().unwrap()).unwrap();
    let holder = fs::File::create(&live).unwrap();
    holder.lock().unwrap();
    let before = repository.command("git").arg("for-each-ref").output().unwrap().stdout;
    repository.exits(1, &["doctor", "--fix"]);
    assert_eq!(repository.command("git").arg("for-each-ref").output().unwrap().stdout, before);
    drop(holder);
    repository.exits(0, &["doctor", "--fix"]);
}
