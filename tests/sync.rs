//! Sync between hosts, through the real program: a bare remote and clones of it, each on a host of its own.

#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test")]

mod support;

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use support::Repository;

/// A clone of the remote, on a host of its own.
struct Host<'s> {
    scene: &'s Scene,
    name: &'static str,
    path: PathBuf,
}

/// A repository with a bare one beside it, for clones to sync with.
struct Scene {
    origin: Repository,
    remote: PathBuf,
}

impl Scene {
    fn new() -> Self {
        let origin = Repository::new();
        let remote = origin.root.path().canonicalize().unwrap().join("remote.git");
        origin.git(&["clone", "-q", "--bare", ".", remote.to_str().unwrap()]);
        Self { origin, remote }
    }

    fn host(&self, name: &'static str, options: &[&str]) -> Host<'_> {
        let path = self.origin.root.path().canonicalize().unwrap().join(name);
        let url = format!("file://{}", self.remote.display());
        let words = [&["clone", "-q"], options, &[&url, path.to_str().unwrap()]].concat();
        self.origin.git(&words);
        Host { scene: self, name, path }
    }

    fn refs_there(&self) -> String {
        self.origin.git(&["--git-dir", self.remote.to_str().unwrap(), "for-each-ref", "--format=%(refname)"])
    }

    fn hook(&self, name: &str, text: &str) -> PathBuf {
        let path = self.remote.join("hooks").join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, format!("#!/bin/sh\n{text}\n")).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path
    }
}

impl Host<'_> {
    fn run(&self, program: &str, words: &[&str]) -> Output {
        let mut command = self.scene.origin.command(program);
        command.current_dir(&self.path).env("GIT_TETHER_HOST_ID", self.name).args(words).output().unwrap()
    }

    #[track_caller]
    fn tether(&self, words: &[&str]) -> Output {
        self.run(env!("CARGO_BIN_EXE_git-tether"), words)
    }

    /// What must end with `code`, as JSON.
    #[track_caller]
    fn ends(&self, code: i32, words: &[&str]) -> Value {
        let at = words.iter().position(|word| *word == "--").unwrap_or(words.len());
        let output = self.tether(&[&words[..at], &["--json"], &words[at..]].concat());
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{}: {words:?}: {said}", self.name);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{words:?}: {error}: {said}"))
    }

    #[track_caller]
    fn does(&self, words: &[&str]) -> Value {
        self.ends(0, words)
    }

    #[track_caller]
    fn git(&self, words: &[&str]) -> String {
        let output = self.run("git", words);
        assert!(output.status.success(), "git {words:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    fn tip(&self, run: &str) -> String {
        self.git(&["rev-parse", &format!("refs/tether/runs/{run}")])
    }

    fn tree(&self, run: &str) -> String {
        self.git(&["rev-parse", &format!("refs/tether/runs/{run}^{{tree}}")])
    }

    #[track_caller]
    fn state(&self, task: &str) -> String {
        self.does(&["task", "show", task])["task"]["state"].as_str().unwrap().to_owned()
    }
}

fn texts(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item.as_str().unwrap().to_owned()).collect()
}

fn keys(list: &Value) -> Vec<String> {
    list.as_array().unwrap().iter().map(|item| item["ref"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn sync_is_off_until_a_remote_is_named_and_takes_only_configured_ones() {
    let scene = Scene::new();
    let a = scene.host("ha", &[]);
    for command in ["sync", "push", "pull"] {
        assert_eq!(a.ends(128, &[command])["error"]["code"], "no_remote");
        assert_eq!(a.ends(128, &[command, "elsewhere"])["error"]["code"], "unknown_remote");
        assert_eq!(a.ends(128, &[command, "ext::touch pwned"])["error"]["code"], "unknown_remote");
        assert_eq!(a.ends(128, &[command, "--", "--upload-pack=touch pwned"])["error"]["code"], "unknown_remote");
        assert_eq!(a.does(&[command, "origin"])["schema"], "tether.sync/1");
    }
    assert!(!a.path.join("pwned").exists() && !a.path.join(".git/pwned").exists());
    a.git(&["config", "tether.remote", "origin"]);
    a.does(&["start", "r"]);
    assert_eq!(texts(&a.does(&["sync"])["pushed"]), ["refs/tether/runs/r"]);
    assert_eq!(a.does(&["sync"])["pushed"], Value::Array(Vec::new()));
}

#[test]
fn changes_of_two_hosts_are_merged_and_both_have_the_same() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "r"]);
    for task in ["r/x", "r/y"] {
        a.does(&["task", "add", task]);
    }
    a.does(&["sync", "origin"]);
    assert_eq!(texts(&b.does(&["pull", "origin"])["pulled"]), ["refs/tether/runs/r"]);
    b.does(&["task", "start", "r/x"]);
    b.does(&["task", "done", "r/x"]);
    b.does(&["activity", "r", "--message", r#"{"role":"user","text":"from b"}"#]);
    a.does(&["task", "start", "r/y"]);
    a.does(&["task", "add", "r/z"]);
    a.does(&["activity", "r", "--message", r#"{"role":"user","text":"from a"}"#]);
    let before = (a.tip("r"), b.tip("r"));
    a.does(&["push", "origin"]);
    let answer = b.ends(75, &["push", "origin"]);
    assert_eq!(keys(&answer["refused"]), ["refs/tether/runs/r"], "a push alone never merges");
    assert_eq!(texts(&b.does(&["sync", "origin"])["merged"]), ["refs/tether/runs/r"]);
    a.does(&["sync", "origin"]);
    assert_eq!(a.tip("r"), b.tip("r"));
    for tip in [before.0, before.1] {
        a.git(&["merge-base", "--is-ancestor", &tip, "refs/tether/runs/r"]);
    }
    assert_eq!([a.state("r/x"), a.state("r/y"), a.state("r/z")], ["completed", "running", "queued"]);
    let run = a.does(&["show", "r"])["run"].clone();
    assert_eq!(run["messages"].as_array().unwrap().len(), 2);
    assert_eq!(run["task_summary"]["total"], 3);
    assert_eq!(a.does(&["sync", "origin"])["pulled"], Value::Array(Vec::new()));
    a.git(&["fsck", "--strict"]);
}

#[test]
fn both_sides_of_a_crossed_merge_come_to_one_tree() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "r"]);
    a.does(&["task", "add", "r/x"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    // Each fetches straight from the other, so that both merge the same two tips at once.
    a.git(&["remote", "add", "peer", b.path.to_str().unwrap()]);
    b.git(&["remote", "add", "peer", a.path.to_str().unwrap()]);
    a.does(&["task", "start", "r/x"]);
    b.does(&["task", "start", "r/x"]);
    b.does(&["task", "add", "r/y", "--prompt", "of b"]);
    a.does(&["task", "add", "r/y", "--prompt", "of a"]);
    let of_a = a.tip("r");
    a.does(&["pull", "peer"]);
    let joined = a.tip("r");
    a.git(&["update-ref", "refs/tether/runs/r", &of_a]);
    b.does(&["pull", "peer"]);
    a.git(&["update-ref", "refs/tether/runs/r", &joined]);
    assert_eq!(a.tree("r"), b.tree("r"));
    assert_ne!(a.tip("r"), b.tip("r"));
    let waiting = a.does(&["show", "r"])["gates"].clone();
    let conflicts: Vec<_> = waiting.as_array().unwrap().iter().filter(|gate| gate["key"] == "sync_conflict").collect();
    assert_eq!(conflicts.len(), 2, "{waiting}");
    // The crossed histories come together without another question.
    a.does(&["task", "add", "r/z"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    a.does(&["sync", "origin"]);
    assert_eq!(a.tip("r"), b.tip("r"));
    assert_eq!(a.does(&["show", "r"])["gates"], waiting);
}

#[test]
fn a_contradiction_is_kept_for_a_person() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "r"]);
    a.does(&["task", "add", "r/x"]);
    a.does(&["task", "start", "r/x"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    a.does(&["task", "done", "r/x"]);
    b.does(&["task", "fail", "r/x"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    a.does(&["sync", "origin"]);
    for host in [&a, &b] {
        let shown = host.does(&["show", "r"]);
        assert_eq!(shown["tasks"][0]["state"], "failed");
        assert_eq!(shown["gates"][0]["key"], "sync_conflict");
        assert_eq!(shown["gates"][0]["state"], "pending");
        assert_eq!(shown["run"]["requires_attention"], true);
    }
}

#[test]
fn two_runs_that_share_only_their_id_are_kept_apart() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "r", "--name", "of a"]);
    a.does(&["task", "add", "r/x"]);
    b.does(&["start", "r", "--name", "of b"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    a.does(&["sync", "origin"]);
    let name = |host: &Host<'_>, run: &str| host.does(&["show", run])["run"]["name"].as_str().unwrap().to_owned();
    assert_eq!((name(&a, "r"), name(&a, "r-hb")), ("of a".to_owned(), "of b".to_owned()));
    assert_eq!((name(&b, "r"), name(&b, "r-ha")), ("of b".to_owned(), "of a".to_owned()));
    let gates = b.does(&["show", "r"])["gates"].clone();
    assert_eq!((&gates[0]["key"], &gates[0]["state"]), (&"sync_conflict".into(), &"pending".into()));
    assert_eq!(a.does(&["show", "r-hb"])["gates"][0]["id"], gates[0]["id"]);
    // Each goes on at home, and arrives under its other name.
    a.does(&["task", "start", "r/x"]);
    b.does(&["task", "add", "r/y"]);
    for host in [&a, &b, &a, &b] {
        host.does(&["sync", "origin"]);
    }
    assert_eq!(b.state("r-ha/x"), "running");
    assert_eq!(a.state("r-hb/y"), "queued");
    assert_eq!(b.does(&["show", "r-ha"])["run"]["id"], "r-ha");
    assert_eq!(a.does(&["show", "r"])["run"]["id"], "r");
    let tips = (a.tip("r"), a.tip("r-hb"), b.tip("r"), b.tip("r-ha"));
    for host in [&a, &b, &a, &b] {
        let answer = host.does(&["sync", "origin"]);
        assert_eq!((&answer["pushed"], &answer["pulled"]), (&Value::Array(Vec::new()), &Value::Array(Vec::new())));
    }
    assert_eq!((a.tip("r"), a.tip("r-hb"), b.tip("r"), b.tip("r-ha")), tips);
    // What is done to it abroad comes home.
    a.does(&["task", "cancel", "r-hb/y"]);
    for host in [&a, &b] {
        host.does(&["sync", "origin"]);
    }
    assert_eq!(b.state("r/y"), "cancelled");
}

#[test]
fn a_remote_that_is_away_leaves_an_outbox_that_survives() {
    let scene = Scene::new();
    let a = scene.host("ha", &[]);
    a.does(&["start", "r"]);
    a.does(&["sync", "origin"]);
    a.does(&["start", "s"]);
    let moved = scene.remote.with_extension("moved");
    std::fs::rename(&scene.remote, &moved).unwrap();
    let answer = a.ends(75, &["sync", "origin"]);
    assert_eq!(keys(&answer["outbox"]), ["refs/tether/runs/s"]);
    assert_eq!(answer["pushed"], Value::Array(Vec::new()));
    let first = answer["outbox"][0].clone();
    let second = a.ends(75, &["push", "origin"])["outbox"][0].clone();
    assert_eq!((&first["attempts"], &second["attempts"]), (&1.into(), &2.into()));
    assert!(second["not_before"].as_str() > first["not_before"].as_str(), "{first} {second}");
    // Not yet due: nothing is tried, and nothing is wrong.
    let waited = a.does(&["sync", "origin", "--when-due"]);
    assert_eq!(waited["outbox"][0]["attempts"], 2);
    std::fs::rename(&moved, &scene.remote).unwrap();
    let answer = a.does(&["sync", "origin"]);
    assert_eq!(texts(&answer["pushed"]), ["refs/tether/runs/s"]);
    assert_eq!(answer["outbox"], Value::Array(Vec::new()));
}

#[test]
fn a_remote_that_refuses_is_explained_and_a_branch_is_the_way_out() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "r"]);
    let refuse = "while read old new ref; do case $ref in refs/tether/*) echo not here >&2; exit 1;; esac; done";
    let hook = scene.hook("pre-receive", refuse);
    let output = a.tether(&["sync", "origin", "--json"]);
    assert_eq!(output.status.code(), Some(75));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("not here") && said.contains("tether.remotePrefix"), "{said}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(keys(&answer["refused"]), ["refs/tether/runs/r"]);
    assert_eq!(keys(&answer["outbox"]), ["refs/tether/runs/r"]);
    for host in [&a, &b] {
        host.git(&["config", "tether.remotePrefix", "refs/heads/tether/"]);
    }
    assert_eq!(texts(&a.does(&["sync", "origin"])["pushed"]), ["refs/heads/tether/runs/r"]);
    assert_eq!(texts(&b.does(&["sync", "origin"])["pulled"]), ["refs/tether/runs/r"]);
    std::fs::remove_file(hook).unwrap();

    // A hook that refuses one ref does not hold up the others.
    scene.hook("update", "case $1 in */bad) exit 1;; esac");
    a.does(&["start", "bad"]);
    a.does(&["start", "good"]);
    let answer = a.ends(75, &["sync", "origin"]);
    assert_eq!(texts(&answer["pushed"]), ["refs/heads/tether/runs/good"]);
    assert_eq!(keys(&answer["outbox"]), ["refs/heads/tether/runs/bad"]);
}

#[test]
fn saved_work_travels_only_when_asked_and_without_secrets() {
    let scene = Scene::new();
    let a = scene.host("ha", &[]);
    a.does(&["start", "r"]);
    a.does(&["task", "add", "r/x"]);
    let place = a.path.parent().unwrap().join("place");
    a.does(&["env", "add", "r/x", "--mode", "git_worktree", "--path", place.to_str().unwrap(), "--branch", "x"]);
    std::fs::write(place.join("new.txt"), "work in progress\n").unwrap();
    a.does(&["checkpoint", "r/x", "--boundary", "one"]);
    a.does(&["sync", "origin"]);
    a.does(&["push", "origin"]);
    assert!(!scene.refs_there().contains("tether-local"), "{}", scene.refs_there());
    for local in ["journal", "pools", "claims"] {
        assert!(!scene.refs_there().contains(local), "{}", scene.refs_there());
    }
    let sent = a.does(&["push", "origin", "--work", "r"]);
    assert_eq!(texts(&sent["pushed"]), ["refs/tether-local/work/r"]);
    assert!(sent["work"]["bytes"].as_u64().unwrap() > 0);
    assert!(scene.refs_there().contains("refs/tether-local/work/r"));

    let key = format!("-----BEGIN {} PRIVATE KEY-----\nabc\n", "RSA");
    std::fs::write(place.join("notes.txt"), key).unwrap();
    a.does(&["checkpoint", "r/x", "--boundary", "two"]);
    let held =
        scene.origin.git(&["--git-dir", scene.remote.to_str().unwrap(), "rev-parse", "refs/tether-local/work/r"]);
    let refused = a.ends(128, &["push", "origin", "--work", "r"]);
    assert_eq!(refused["error"]["code"], "secrets_found");
    assert!(refused["error"]["hints"].to_string().contains("notes.txt"));
    let still =
        scene.origin.git(&["--git-dir", scene.remote.to_str().unwrap(), "rev-parse", "refs/tether-local/work/r"]);
    assert_eq!(held, still);
}

#[test]
fn a_shallow_and_a_partial_clone_sync_like_any_other() {
    let scene = Scene::new();
    scene.origin.git(&["--git-dir", scene.remote.to_str().unwrap(), "config", "uploadpack.allowFilter", "true"]);
    let a = scene.host("ha", &[]);
    a.does(&["start", "r"]);
    a.does(&["task", "add", "r/x"]);
    a.does(&["sync", "origin"]);
    for (name, options) in [("hb", ["--depth", "1"]), ("hc", ["--filter=blob:none", "--no-tags"])] {
        let b = scene.host(name, &options);
        b.does(&["sync", "origin"]);
        b.does(&["task", "add", &format!("r/{name}")]);
        a.does(&["activity", "r", "--text", name]);
        a.does(&["sync", "origin"]);
        b.does(&["sync", "origin"]);
        a.does(&["sync", "origin"]);
        assert_eq!(a.tip("r"), b.tip("r"));
    }
    assert_eq!(a.does(&["show", "r"])["tasks"].as_array().unwrap().len(), 3);
}

/// A commit whose tree holds one file, made without git-tether.
fn forged(host: &Host<'_>, file: &str, content: &str) -> String {
    let path = host.path.join("forged");
    std::fs::write(&path, content).unwrap();
    let blob = host.git(&["hash-object", "-w", path.to_str().unwrap()]);
    let script = format!("printf '100644 blob {blob}\\t{file}\\n' | git mktree");
    let output = host.run("sh", &["-c", &script]);
    let tree = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    host.git(&["commit-tree", "-m", "forged", &tree])
}

#[test]
fn what_was_fetched_is_believed_only_when_it_is_whole() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "good"]);
    a.does(&["start", "own"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    let own = b.tip("own");
    let deep = format!("{{\"schema\":\"tether.run/1\",\"id\":\"deep\",\"x\":{}1{}}}", "[".repeat(500), "]".repeat(500));
    let large = format!("{{\"schema\":\"tether.run/1\",\"id\":\"large\",\"x\":\"{}\"}}", "x".repeat(5 << 20));
    let run = a.git(&["show", "refs/tether/runs/good:run.json"]);
    for (name, content) in [
        ("torn", "{\"schema\":".to_owned()),
        ("deep", deep),
        ("large", large),
        ("newer", run.replace("tether.run/1", "tether.run/2")),
        ("other", run.clone()),
    ] {
        let commit = forged(&a, "run.json", &content);
        a.git(&["push", "-q", "origin", &format!("{commit}:refs/tether/runs/{name}")]);
    }
    let blob = a.git(&["hash-object", "-w", "README"]);
    a.git(&["push", "-q", "origin", &format!("{blob}:refs/tether/runs/blob")]);
    a.git(&["push", "-q", "origin", &format!("{}:refs/tether/runs/Odd", a.tip("good"))]);
    let commit = forged(&a, "session.json", "{\"schema\":\"tether.session/1\",\"id\":\"x\"}");
    a.git(&["push", "-q", "origin", &format!("{commit}:refs/tether/sessions/s")]);
    a.does(&["session", "reserve", "topic", "--id", "holder"]);
    let claim = a.git(&["show", "refs/tether/claims/thread/topic:claim.json"]);
    let claim = claim.replace("\"remote_lease\": false", "\"remote_lease\": true");
    let last = u64::MAX.to_string();
    let endless = claim.replace("\"generation\": 1", &format!("\"generation\": {last}"));
    for (name, content) in [("endless", endless.replace("#1\"", &format!("#{last}\""))), ("forged", endless)] {
        let content = content.replace("topic", name);
        let commit = forged(&a, "claim.json", &content);
        a.git(&["push", "-q", "origin", &format!("{commit}:refs/tether/claims/thread/{name}")]);
    }
    // A history that was rewritten into something else.
    let rewritten = forged(&a, "run.json", "{}");
    a.git(&["push", "-q", "-f", "origin", &format!("{rewritten}:refs/tether/runs/own")]);
    b.does(&["task", "add", "good/x"]);

    let answer = b.does(&["sync", "origin"]);
    let skipped = keys(&answer["skipped"]).join(" ");
    for name in [
        "runs/torn",
        "runs/deep",
        "runs/large",
        "runs/newer",
        "runs/other",
        "runs/blob",
        "runs/Odd",
        "sessions/s",
        "claims/thread/endless",
        "claims/thread/forged",
        "runs/own",
    ] {
        assert!(skipped.contains(name), "{name} is not among {skipped}");
    }
    let here = b.git(&["for-each-ref", "--format=%(refname)", "refs/tether/"]);
    assert_eq!(here, "refs/tether/runs/good\nrefs/tether/runs/own");
    assert_eq!(b.tip("own"), own);
    assert!(texts(&answer["pushed"]).contains(&"refs/tether/runs/good".to_owned()), "{answer}");
}

#[test]
fn what_was_dropped_here_does_not_come_back_and_what_was_killed_half_way_does() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["session", "reserve", "t", "--id", "old"]);
    a.does(&["session", "release", "old"]);
    a.does(&["start", "r"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    b.git(&["update-ref", "-d", "refs/tether/sessions/old"]);
    assert_eq!(b.does(&["sync", "origin"])["pulled"], Value::Array(Vec::new()));
    // Fetched, but never taken: a sync that was killed in between has not settled it.
    a.does(&["start", "s"]);
    a.does(&["sync", "origin"]);
    b.git(&["fetch", "-q", "origin", "refs/tether/runs/*:refs/tether-remote/origin/runs/*"]);
    assert_eq!(texts(&b.does(&["sync", "origin"])["pulled"]), ["refs/tether/runs/s"]);
    // Dropped there and untouched here: it is not sent again.
    a.git(&["push", "-q", "origin", ":refs/tether/runs/s"]);
    assert_eq!(b.does(&["sync", "origin"])["pushed"], Value::Array(Vec::new()));
    b.does(&["task", "add", "s/x"]);
    assert_eq!(texts(&b.does(&["sync", "origin"])["pushed"]), ["refs/tether/runs/s"]);
}

#[test]
fn many_hosts_that_push_at_once_lose_nothing() {
    let scene = Scene::new();
    let first = scene.host("h0", &[]);
    first.does(&["start", "r"]);
    first.does(&["sync", "origin"]);
    let hosts = [first, scene.host("h1", &[]), scene.host("h2", &[]), scene.host("h3", &[])];
    for host in &hosts {
        host.does(&["pull", "origin"]);
    }
    std::thread::scope(|scope| {
        for host in &hosts {
            scope.spawn(move || {
                for number in 0..3 {
                    host.does(&["task", "add", &format!("r/{}-{number}", host.name)]);
                    // Refused for being late is no loss: it waits, and goes with the next.
                    let code = host.tether(&["sync", "origin"]).status.code();
                    assert!(matches!(code, Some(0 | 75)), "{code:?}");
                }
            });
        }
    });
    for _ in 0..2 {
        for host in &hosts {
            host.does(&["sync", "origin"]);
        }
    }
    for host in &hosts {
        assert_eq!(host.does(&["show", "r"])["tasks"].as_array().unwrap().len(), 12, "{}", host.name);
        assert_eq!(host.tip("r"), hosts[0].tip("r"));
    }
}

#[test]
fn unknown_fields_and_files_of_both_sides_survive_a_merge() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    a.does(&["start", "r"]);
    a.does(&["task", "add", "r/x"]);
    a.does(&["sync", "origin"]);
    b.does(&["sync", "origin"]);
    let touch = |host: &Host<'_>, word: &str| {
        let worktree = host.path.parent().unwrap().join(format!("raw-{word}"));
        host.git(&["worktree", "add", "-q", "--detach", worktree.to_str().unwrap(), "refs/tether/runs/r"]);
        edit(&worktree.join("run.json"), word);
        std::fs::write(worktree.join(format!("{word}.txt")), word).unwrap();
        let inside = |words: &[&str]| {
            let all = [&["-C", worktree.to_str().unwrap()], words].concat();
            host.git(&all)
        };
        inside(&["add", "-A"]);
        inside(&["commit", "-q", "-m", word]);
        let tip = inside(&["rev-parse", "HEAD"]);
        host.git(&["update-ref", "refs/tether/runs/r", &tip]);
    };
    touch(&a, "alpha");
    touch(&b, "beta");
    a.does(&["task", "start", "r/x"]);
    b.does(&["task", "add", "r/y"]);
    for host in [&a, &b, &a] {
        host.does(&["sync", "origin"]);
    }
    assert_eq!(a.tree("r"), b.tree("r"));
    let run: Value = serde_json::from_str(&a.git(&["show", "refs/tether/runs/r:run.json"])).unwrap();
    assert_eq!((&run["alpha"], &run["beta"]), (&Value::from("alpha"), &Value::from("beta")));
    assert_eq!(a.git(&["show", "refs/tether/runs/r:alpha.txt"]), "alpha");
    assert_eq!(a.git(&["show", "refs/tether/runs/r:beta.txt"]), "beta");
}

/// Adds a field that no version knows.
fn edit(path: &Path, word: &str) {
    let mut record: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    record[word] = word.into();
    std::fs::write(path, format!("{record:#}\n")).unwrap();
}

#[test]
fn a_remote_lease_holds_between_hosts_and_falls_when_it_is_not_renewed() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    for host in [&a, &b] {
        host.git(&["config", "tether.remote", "origin"]);
    }
    let reserve = ["session", "reserve", "main", "--remote-lease", "--lease", "2s"];
    let won = a.does(&reserve);
    assert_eq!(won["outcome"], "reserved");
    let lost = b.ends(3, &reserve);
    assert_eq!((&lost["outcome"], &lost["session"]["id"]), (&"live_owner".into(), &won["session"]["id"]));
    assert_eq!(lost["session"]["liveness"]["verdict"], "elsewhere");
    // An ordinary claim stays at home.
    a.does(&["session", "reserve", "local"]);
    a.does(&["sync"]);
    assert!(!scene.refs_there().contains("claims/thread/local"), "{}", scene.refs_there());
    // Renewed: it still holds after its first end and grace (three times two seconds).
    for _ in 0..4 {
        std::thread::sleep(std::time::Duration::from_millis(1_700));
        a.does(&["session", "heartbeat", won["session"]["id"].as_str().unwrap()]);
    }
    assert_eq!(b.ends(3, &reserve)["outcome"], "live_owner");
    std::thread::sleep(std::time::Duration::from_millis(6_500));
    let taken = b.does(&reserve);
    assert_eq!(taken["outcome"], "reserved");
    assert_ne!(taken["token"], won["token"]);
    a.does(&["sync"]);
    assert_eq!(a.ends(3, &["fence", won["token"].as_str().unwrap()])["error"]["code"], "fenced");
    // Away: no token is handed out, and nothing stays reserved.
    std::fs::rename(&scene.remote, scene.remote.with_extension("moved")).unwrap();
    let failed = a.ends(75, &["session", "reserve", "other", "--remote-lease"]);
    assert_eq!(failed["error"]["code"], "remote_away");
    assert_eq!(a.does(&["session", "reserve", "other"])["outcome"], "reserved");
}

#[test]
fn of_two_hosts_that_reserve_at_once_one_wins() {
    let scene = Scene::new();
    let (a, b) = (scene.host("ha", &[]), scene.host("hb", &[]));
    for round in 0..6 {
        let thread = format!("t{round}");
        let try_on = |host: &Host<'_>| {
            let output = host.tether(&["session", "reserve", &thread, "--remote-lease=origin", "--json"]);
            let said = String::from_utf8_lossy(&output.stderr).into_owned();
            assert!(matches!(output.status.code(), Some(0 | 3)), "{}: {said}", host.name);
            let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
            (answer["outcome"].as_str().unwrap().to_owned(), answer["session"]["id"].as_str().unwrap().to_owned())
        };
        let (one, other) = std::thread::scope(|scope| {
            let one = scope.spawn(|| try_on(&a));
            let other = scope.spawn(|| try_on(&b));
            (one.join().unwrap(), other.join().unwrap())
        });
        let mut outcomes = [one.0, other.0];
        outcomes.sort();
        assert_eq!(outcomes, ["live_owner", "reserved"]);
        assert_eq!(one.1, other.1, "both name the winner");
    }
}
