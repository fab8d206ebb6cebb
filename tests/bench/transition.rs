//! One durable change of a run, against one commit, one ref, one note, one file, one row.

use std::fs::File;
use std::io::Write as _;
use std::path::Path;

use super::measure::{Candidate, side_by_side};
use super::scene::{Scale, Scene, is_installed};

/// The argument that makes this program the JSON baseline.
pub(crate) const BASELINE: &str = "--write-json-durably";

pub(crate) fn run(scale: Scale) {
    let scene = Scene::new();
    let rounds = scale.pick(3, 31, 201);
    let (ours, files, rows) = (scene.repository("ours", 10), scene.path("state.json"), scene.path("state.db"));
    let plain = ["default", "quiet", "synced", "refs", "notes"].map(|name| scene.repository(name, 10));
    let [default, quiet, synced, refs, notes] = &plain;
    scene.must(refs, &["commit", "-q", "--allow-empty", "-m", "second"]);
    let commits = [scene.must(refs, &["rev-parse", "HEAD"]), scene.must(refs, &["rev-parse", "HEAD~1"])];
    let set = scene.tether_all(
        &ours,
        &[&["start", "bench"], &["task", "add", "bench/one"], &["task", "block", "bench/one", "--reason", "scene"]],
    );
    let commit = |directory, settings: &[&'static str]| {
        let arguments = [settings, &["commit", "-q", "--allow-empty", "-m", "step"]].concat();
        scene.git(directory, &arguments)
    };
    let mut candidates = match set {
        Ok(()) => vec![
            Candidate::new("git-tether task block/unblock (durable)", |round| {
                let verb = if round % 2 == 0 { "block" } else { "unblock" };
                scene.tether(&ours, &["task", verb, "bench/one", "--reason", "turn"])
            }),
            Candidate::new("git-tether activity (durable)", |round| {
                scene.tether(&ours, &["activity", "bench", "--progress", &(round % 100).to_string()])
            }),
        ],
        Err(why) => vec![Candidate::absent("git-tether task block/unblock", why)],
    };
    candidates.extend([
        Candidate::new("JSON file: write, fsync, rename, fsync directory", |_| {
            let itself = std::env::current_exe().expect("the path of this program");
            scene.command(itself, &ours, &[BASELINE, files.to_str().expect("a plain path")])
        }),
        Candidate::new("git update-ref (not durable)", |round| {
            scene.git(refs, &["update-ref", "refs/heads/moving", &commits[round % 2]])
        }),
        Candidate::new("git notes append (not durable)", |_| scene.git(notes, &["notes", "append", "-m", "step"])),
        Candidate::new("git commit --allow-empty (default)", |_| commit(default, &[])),
        Candidate::new("git commit, maintenance.auto=false", |_| commit(quiet, &["-c", "maintenance.auto=false"])),
        Candidate::new("git commit, core.fsync=all", |_| {
            commit(synced, &["-c", "maintenance.auto=false", "-c", "core.fsync=all"])
        }),
    ]);
    if is_installed("sqlite3") {
        let schema = "PRAGMA journal_mode=WAL; CREATE TABLE steps (at TEXT, what TEXT);";
        let database = rows.to_str().expect("a plain path");
        scene.command("sqlite3", &ours, &[database, schema]).output().expect("sqlite3 makes its table");
        let insert = "PRAGMA synchronous=FULL; INSERT INTO steps VALUES (datetime(), 'step');";
        candidates.push(Candidate::new("sqlite3, one insert, WAL, FULL (durable)", |_| {
            scene.command("sqlite3", &ours, &[rows.to_str().expect("a plain path"), insert])
        }));
    } else {
        candidates.push(Candidate::absent("sqlite3", "not installed"));
    }
    side_by_side("transition: one change, recorded", rounds, candidates);
}

/// The least that a state file takes: a new file, synced, put in place, and the directory synced.
pub(crate) fn write_json_durably(path: &Path) -> std::io::Result<()> {
    let next = path.with_extension("next");
    let mut file = File::create(&next)?;
    file.write_all(b"{\n  \"schema\": \"state/1\",\n  \"task\": \"one\",\n  \"state\": \"blocked\"\n}\n")?;
    file.sync_all()?;
    std::fs::rename(&next, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
