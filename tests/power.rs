//! Power cuts: an ext4 file system in a file is shut down under running commands; what was reported as done is there afterwards.
//!
//! Needs root, loop devices and perl (for the one ioctl), and is skipped without them. `GIT_TETHER_POWER_CUTS=200 cargo test --test
//! power -- --ignored` is the long form.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test stops where it fails")]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use serde_json::Value;
use support::{path_with_tether, show};

/// `EXT4_IOC_SHUTDOWN`; 1: the journal still goes to disk, 2: not even that.
const SHUT_DOWN: &str = r#"open(F, "<", $ARGV[0]) or die; ioctl(F, 0x8004587d, pack("L", $ARGV[1])) or die"#;

/// Does one thing after the other, and writes down, outside the file system, each that was reported as done.
const WORK: &str = r#"
cd "$1/r" || exit 1
i=0
try() { what=$1; shift; "$@" >/dev/null 2>&1 || exit 0; echo "$what $i" >>"$log"; }
log=$2
while :; do
    i=$((i + 1))
    try reserve git-tether session reserve "th$i" --id "s$i"
    try add git-tether task add "r/t$i"
    try start git-tether task start "r/t$i" --session "s$i"
    try env git-tether env add "r/t$i" --mode git_worktree --path "$1/w$i" --branch "b$i" --id "e$i"
    echo "content $i" >"$1/w$i/new" || exit 0
    try checkpoint git-tether checkpoint "r/t$i" --boundary half --replay-safety checkpoint_resumable
    try done git-tether task done "r/t$i"
    try run git-tether run --run r --task "u$i" --env shared -- true
done
"#;

struct Disk {
    root: tempfile::TempDir,
}

impl Disk {
    /// A fresh file system; `None` where none can be made.
    fn new() -> Option<Self> {
        let disk = Self { root: tempfile::tempdir().unwrap() };
        fs::create_dir(disk.mount_point()).unwrap();
        fs::File::create(disk.image()).unwrap().set_len(48 << 20).unwrap();
        let image = disk.image().display().to_string();
        let works = quiet("perl", &["-e", "1"]) && quiet("mkfs.ext4", &["-q", "-F", &image]) && disk.mount();
        works.then_some(disk)
    }

    fn image(&self) -> PathBuf {
        self.root.path().join("image")
    }

    fn mount_point(&self) -> PathBuf {
        self.root.path().join("disk")
    }

    fn mount(&self) -> bool {
        quiet("mount", &["-o", "loop", &self.image().display().to_string(), &self.mount_point().display().to_string()])
    }

    fn unmount(&self) -> bool {
        (0..100).any(|_| {
            let gone = quiet("umount", &[&self.mount_point().display().to_string()]);
            if !gone {
                std::thread::sleep(Duration::from_millis(50));
            }
            gone
        })
    }

    fn cut(&self, flag: &str) {
        assert!(
            quiet("perl", &["-e", SHUT_DOWN, &self.mount_point().display().to_string(), flag]),
            "the power stays on"
        );
    }

    fn run(&self, directory: &Path, program: &str, words: &[&str]) -> Output {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", path_with_tether()).env("HOME", self.root.path());
        command.env("GIT_CONFIG_NOSYSTEM", "1").env("LC_ALL", "C").current_dir(directory).args(words);
        for role in ["AUTHOR", "COMMITTER"] {
            command.env(format!("GIT_{role}_NAME"), "Ada").env(format!("GIT_{role}_EMAIL"), "ada@example.com");
        }
        command.output().unwrap()
    }

    fn repository(&self) -> PathBuf {
        self.mount_point().join("r")
    }

    #[track_caller]
    fn git(&self, words: &[&str]) -> String {
        let output = self.run(&self.repository(), "git", words);
        assert!(output.status.success(), "git {words:?}: {}", show(&output));
        String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
    }

    #[track_caller]
    fn tether(&self, codes: &[i32], words: &[&str]) -> Output {
        let output = self.run(&self.repository(), env!("CARGO_BIN_EXE_git-tether"), words);
        assert!(output.status.code().is_some_and(|code| codes.contains(&code)), "{words:?}: {}", show(&output));
        output
    }

    fn json(&self, words: &[&str]) -> Value {
        serde_json::from_slice(&self.tether(&[0, 1], &[words, &["--json"]].concat()).stdout).unwrap()
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let _ = quiet("umount", &["-l", &self.mount_point().display().to_string()]);
    }
}

fn quiet(program: &str, words: &[&str]) -> bool {
    let mut command = Command::new(program);
    command.args(words).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().is_ok_and(|status| status.success())
}

/// One cut after `work_for`; how many reports came before it. `None`: there is nowhere to try it.
fn cut_once(work_for: Duration, flag: &str) -> Option<usize> {
    let disk = Disk::new()?;
    fs::create_dir(disk.repository()).unwrap();
    disk.git(&["init", "-q", "-b", "main"]);
    fs::write(disk.repository().join("README"), "read me\n").unwrap();
    disk.git(&["add", "README"]);
    disk.git(&["commit", "-q", "-m", "First"]);
    disk.tether(&[0], &["start", "r"]);
    assert!(quiet("sync", &[]));
    let log = disk.root.path().join("log");
    let worker = std::thread::scope(|scope| {
        let (mount, log) = (disk.mount_point().display().to_string(), log.display().to_string());
        let worker = scope.spawn({
            let disk = &disk;
            move || disk.run(disk.root.path(), "sh", &["-c", WORK, "sh", &mount, &log])
        });
        std::thread::sleep(work_for);
        disk.cut(flag);
        worker.join().unwrap()
    });
    let reported = fs::read_to_string(&log).unwrap_or_default();
    assert!(worker.status.code().is_some(), "{}", show(&worker));
    assert!(disk.unmount() && disk.mount(), "the file system comes back");
    assert_whole(&disk, &reported);
    Some(reported.lines().count())
}

/// Everything that was reported is there, and git and tether find nothing wrong.
fn assert_whole(disk: &Disk, reported: &str) {
    let fsck = disk.run(&disk.repository(), "git", &["fsck", "--strict", "--no-dangling", "--no-progress"]);
    let said = String::from_utf8_lossy(&fsck.stderr).into_owned();
    assert!(fsck.status.success() && !said.contains("error"), "{}", show(&fsck));
    disk.tether(&[0], &["doctor"]);
    let by_id = |list: &Value, key: &str| -> BTreeMap<String, Value> {
        let all = list.as_array().unwrap().iter();
        all.map(|one| (one[key].as_str().unwrap().to_owned(), one.clone())).collect()
    };
    let run = disk.json(&["show", "r"]);
    let (tasks, checkpoints) = (by_id(&run["tasks"], "id"), by_id(&run["checkpoints"], "task"));
    let environments = by_id(&run["environments"], "id");
    let sessions = by_id(&disk.json(&["session", "list", "--all"])["sessions"], "id");
    for line in reported.lines() {
        let (what, number) = line.split_once(' ').unwrap();
        let state =
            |kind: &str| tasks.get(&format!("{kind}{number}")).map_or("none", |task| task["state"].as_str().unwrap());
        match what {
            "reserve" => assert!(sessions.contains_key(&format!("s{number}")), "{line}"),
            "add" => assert_ne!(state("t"), "none", "{line}"),
            "start" => assert!(["running", "completed"].contains(&state("t")), "{line}: {}", state("t")),
            "done" => assert_eq!(state("t"), "completed", "{line}"),
            "run" => assert_eq!(state("u"), "completed", "{line}"),
            "env" => {
                assert_eq!(environments[&format!("e{number}")]["state"], "ready", "{line}");
                let place = disk.mount_point().join(format!("w{number}"));
                let status = disk.run(&place, "git", &["status", "--porcelain", "-b"]);
                let text = String::from_utf8_lossy(&status.stdout).into_owned();
                let expected = format!("## b{number}\n");
                assert!(text == expected || text == format!("{expected}?? new\n"), "{line}: {}", show(&status));
            }
            "checkpoint" => {
                let commit = checkpoints[&format!("t{number}")]["work"]["commit"].as_str().unwrap();
                assert_eq!(disk.git(&["show", &format!("{commit}:new")]), format!("content {number}"), "{line}");
            }
            _ => panic!("{line}"),
        }
    }
    let recovered = disk.json(&["recover"]);
    let failed = recovered["steps"].as_array().unwrap().iter().any(|step| step["outcome"] == "failed");
    assert!(!failed, "{recovered:#}");
    let refs = disk.git(&["for-each-ref"]);
    disk.tether(&[0, 1], &["recover"]);
    assert_eq!(disk.git(&["for-each-ref"]), refs, "a second recovery writes nothing");
    disk.tether(&[0], &["doctor"]);
    disk.tether(&[0], &["task", "add", "r/after"]);
}

fn cut_often(cuts: usize) {
    let mut reports = 0;
    for cut in 0..cuts {
        let work_for = Duration::from_millis(20 + fastrand::u64(..3_000));
        let flag = if cut % 2 == 0 { "2" } else { "1" };
        match cut_once(work_for, flag) {
            Some(reported) => reports += reported,
            None => {
                return eprintln!(
                    "SKIPPED: no ext4 can be made and mounted here (root, loop devices and perl are needed)"
                );
            }
        }
    }
    println!("{cuts} power cuts, {reports} reports before them, all of them true");
}

#[test]
fn what_was_reported_survives_power_cuts() {
    cut_often(2);
}

#[test]
#[ignore = "the long form: minutes"]
fn what_was_reported_survives_many_power_cuts() {
    let cuts = std::env::var("GIT_TETHER_POWER_CUTS").ok().and_then(|cuts| cuts.parse().ok());
    cut_often(cuts.unwrap_or(100));
}
