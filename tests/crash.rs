//! Commands that are killed with SIGKILL before each of their writing system calls.
//!
//! A command is traced once; then it is run again for each (call, ordinal) that the trace shows, and strace kills it right before that call. After
//! each kill git reads everything, every record parses, `recover` converges, a second `recover` writes nothing, and the command repeated does its
//! work or says precisely why not. A sample of the points runs by default, all of them with `TETHER_CRASH_ALL=1`. Without strace nothing can be
//! injected: that is said, and counted.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use support::{Repository, parsed, show};

/// What changes a file system, or makes a change last.
const WRITING: &str = "write,pwrite64,writev,rename,renameat,renameat2,link,linkat,unlink,unlinkat,mkdir,mkdirat,rmdir,fsync,fdatasync,\
                       sync_file_range,ftruncate,symlink,symlinkat,chmod,fchmod,fchmodat,copy_file_range,fallocate,openat";

/// How many points of a command are tried when not all are.
const SAMPLE: usize = 12;

/// Who is killed: the command alone, or also each git that it starts, at the same count of its own calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Victims {
    Alone,
    WithChildren,
}

type Point = (String, usize);

struct Scenario {
    name: &'static str,
    victims: Victims,
    prepare: fn(&Repository),
    command: &'static [&'static str],
    /// Codes with which the repeated command may refuse: what was asked for is there already, say.
    refusals: &'static [&'static str],
    /// What holds once the command was repeated and recovery is done.
    check: fn(&Repository, &Point),
}

/// strace around the program; `None` where it is not there or may not trace.
fn traced(repository: &Repository, victims: Victims, options: &[String], command: &[&str]) -> Option<Output> {
    let mut strace = repository.command("strace");
    strace.args(["-qq", "-o"]).arg(repository.home().join("trace")).args(["-e", &format!("trace={WRITING}")]);
    if victims == Victims::WithChildren {
        strace.arg("-f");
    }
    strace.args(options).arg("--").arg(env!("CARGO_BIN_EXE_git-tether")).args(command);
    strace.stdin(Stdio::null()).output().ok()
}

/// Every writing call of a trace, with how many of its name came before it in the same process.
fn points(trace: &str) -> BTreeSet<Point> {
    let mut counts: BTreeMap<(String, String), usize> = BTreeMap::new();
    let mut found = BTreeSet::new();
    for line in trace.lines().filter(|line| !line.contains("resumed>") && !line.contains("+++")) {
        let (process, rest) = match line.split_once(' ') {
            Some((pid, rest)) if pid.bytes().all(|byte| byte.is_ascii_digit()) => (pid, rest.trim_start()),
            _ => ("", line),
        };
        let Some((call, arguments)) = rest.split_once('(') else { continue };
        let count = counts.entry((process.to_owned(), call.to_owned())).or_default();
        *count += 1;
        if call != "openat" || arguments.contains("O_CREAT") {
            found.insert((call.to_owned(), *count));
        }
    }
    found
}

fn trace_of(repository: &Repository) -> String {
    std::fs::read_to_string(repository.home().join("trace")).unwrap_or_default()
}

fn can_inject() -> bool {
    let repository = Repository::new();
    let options = ["-e".to_owned(), "inject=openat:signal=KILL:when=1".to_owned()];
    let killed = traced(&repository, Victims::Alone, &options, &["status"]);
    killed.is_some_and(|_| trace_of(&repository).contains("killed by SIGKILL"))
}

/// Spread over the whole command, so that each part of it is hit.
fn sample(all: Vec<Point>) -> Vec<Point> {
    if std::env::var_os("TETHER_CRASH_ALL").is_some() || all.len() <= SAMPLE {
        return all;
    }
    let step = all.len().div_ceil(SAMPLE);
    all.into_iter().step_by(step).collect()
}

impl Scenario {
    fn run(&self) {
        if !can_inject() {
            eprintln!(
                "SKIPPED: {} is not killed at any of its calls: strace is not there, or may not trace",
                self.name
            );
            return;
        }
        let whole = Repository::new();
        (self.prepare)(&whole);
        let done = traced(&whole, self.victims, &[], self.command).unwrap();
        assert!(matches!(done.status.code(), Some(0 | 1)), "{}: {}", self.name, show(&done));
        let all: Vec<Point> = points(&trace_of(&whole)).into_iter().collect();
        assert!(all.len() > 10, "{}: {all:?}", self.name);
        let chosen = sample(all.clone());
        for (number, point) in chosen.iter().enumerate() {
            self.kill_at(point, number % 2 == 0);
        }
        eprintln!("{}: killed at {} of {} points ({:?})", self.name, chosen.len(), all.len(), self.victims);
    }

    fn kill_at(&self, point: &Point, repeat_first: bool) {
        let repository = Repository::new();
        (self.prepare)(&repository);
        let options = ["-e".to_owned(), format!("inject={}:signal=KILL:when={}", point.0, point.1)];
        traced(&repository, self.victims, &options, self.command).unwrap();
        // The order of a directory or a thread may move a call by one; a point that was not met has shown nothing.
        let met = trace_of(&repository).contains("killed by SIGKILL");
        let at = format!("{} killed before {} #{} (met: {met})", self.name, point.0, point.1);
        assert_readable(&repository, &at);
        if repeat_first {
            self.repeat(&repository, &at);
            assert_converges(&repository, &at);
        } else {
            assert_converges(&repository, &at);
            self.repeat(&repository, &at);
        }
        assert_readable(&repository, &at);
        (self.check)(&repository, point);
    }

    fn repeat(&self, repository: &Repository, at: &str) {
        let arguments: Vec<&str> = self.command.iter().chain(&["--json"]).copied().collect();
        let again = repository.tether(&arguments);
        if matches!(again.status.code(), Some(0 | 1)) {
            return;
        }
        let answer = parsed(&again);
        let code = answer["error"]["code"].as_str().or_else(|| answer["outcome"].as_str()).unwrap_or_default();
        assert!(self.refusals.contains(&code), "{at}: repeated: {}", show(&again));
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn git(repository: &Repository, arguments: &[&str]) -> Output {
    repository.command("git").args(arguments).output().unwrap()
}

fn git_at(repository: &Repository, path: &Path, arguments: &[&str]) -> String {
    let output = repository.command("git").current_dir(path).args(arguments).output().unwrap();
    assert!(output.status.success(), "{arguments:?} in {}: {}", path.display(), show(&output));
    text(&output.stdout).trim_end().to_owned()
}

/// Git reads everything, and so do we.
fn assert_readable(repository: &Repository, at: &str) {
    let checked = git(repository, &["fsck", "--no-dangling", "--no-progress"]);
    assert!(checked.status.success(), "{at}: {}", show(&checked));
    let listed = git(repository, &["for-each-ref", "--format=%(refname)"]);
    assert!(listed.status.success() && listed.stderr.is_empty(), "{at}: {}", show(&listed));
    for name in text(&listed.stdout).lines() {
        let Some(run) = name.strip_prefix("refs/tether/runs/") else { continue };
        let shown = repository.tether(&["show", run, "--json"]);
        assert!(shown.status.success(), "{at}: {}", show(&shown));
    }
    for list in
        [&["session", "list", "--all"][..], &["claim", "list"], &["pool", "show"], &["task", "list"], &["status"]]
    {
        let listed = repository.tether(list);
        assert!(
            listed.status.success() && !text(&listed.stderr).contains("error"),
            "{at}: {list:?}: {}",
            show(&listed)
        );
    }
}

fn assert_converges(repository: &Repository, at: &str) {
    let first = repository.tether(&["recover"]);
    assert!(matches!(first.status.code(), Some(0 | 1)), "{at}: recover: {}", show(&first));
    let before = repository.tether_refs();
    let second = repository.tether(&["recover"]);
    assert!(matches!(second.status.code(), Some(0 | 1)), "{at}: second recover: {}", show(&second));
    assert_eq!(repository.tether_refs(), before, "{at}: a second recover wrote something\n{}", show(&first));
}

fn run_with_task(repository: &Repository) {
    repository.answer(&["start", "r"]);
    repository.answer(&["task", "add", "r/t", "--pool", "p", "--", "true"]);
}

fn running_task(repository: &Repository) {
    run_with_task(repository);
    repository.answer(&["session", "reserve", "thread", "--id", "s"]);
    repository.answer(&["task", "start", "r/t", "--session", "s"]);
}

fn task_state(repository: &Repository) -> String {
    repository.json(&["task", "show", "r/t"])["task"]["state"].as_str().unwrap_or_default().to_owned()
}

fn slots(repository: &Repository) -> usize {
    repository.json(&["pool", "show", "p"])["pool"]["running"].as_array().map_or(0, Vec::len)
}

#[test]
fn task_done() {
    let check = |repository: &Repository, point: &Point| {
        assert_eq!(task_state(repository), "completed", "{point:?}");
        let run = repository.json(&["show", "r"]);
        assert_eq!(run["run"]["status"], "completed", "{point:?}");
        assert!(repository.tether(&["report", "r"]).status.success(), "{point:?}");
    };
    let scenario = Scenario {
        name: "task done",
        victims: Victims::Alone,
        prepare: running_task,
        command: &["task", "done", "r/t"],
        refusals: &["illegal_transition"],
        check,
    };
    scenario.run();
}

#[test]
fn task_start() {
    let check = |repository: &Repository, point: &Point| {
        assert_eq!((task_state(repository).as_str(), slots(repository)), ("running", 1), "{point:?}");
    };
    let prepare = |repository: &Repository| {
        run_with_task(repository);
        repository.answer(&["session", "reserve", "thread", "--id", "s"]);
    };
    let scenario = Scenario {
        name: "task start",
        victims: Victims::Alone,
        prepare,
        command: &["task", "start", "r/t", "--session", "s"],
        refusals: &["illegal_transition"],
        check,
    };
    scenario.run();
}

#[test]
fn session_reserve() {
    let check = |repository: &Repository, point: &Point| {
        // Whoever comes next gets the thread, or is told of somebody who has it and can be named.
        let next = repository.tether(&["session", "reserve", "thread", "--json"]);
        let answer = parsed(&next);
        if answer["outcome"] == "live_owner" {
            let owner = answer["session"]["id"].as_str().unwrap();
            assert_eq!(owner, "s", "{point:?}");
            assert!(repository.tether(&["session", "release", owner]).status.success());
            let free = repository.json(&["session", "reserve", "thread"]);
            assert_eq!(free["outcome"], "reserved", "{point:?}: {free:#}");
        } else {
            assert_eq!(answer["outcome"], "reserved", "{point:?}: {}", show(&next));
        }
    };
    let scenario = Scenario {
        name: "session reserve",
        victims: Victims::Alone,
        prepare: |_| {},
        command: &["session", "reserve", "thread", "--id", "s"],
        refusals: &["session_exists", "live_owner"],
        check,
    };
    scenario.run();
}

const ADD: &[&str] = &["env", "add", "r/t", "--mode", "git_worktree", "--id", "e", "--branch", "topic"];

fn worktree_stands(repository: &Repository, point: &Point) {
    let recreated = repository.tether(&["recover", "--recreate", "--json"]);
    assert!(matches!(recreated.status.code(), Some(0 | 1)), "{point:?}: {}", show(&recreated));
    let shown = repository.json(&["env", "show", "r/e"]);
    let environment = &shown["environment"];
    assert_eq!(environment["state"], "ready", "{point:?}: {shown:#}\n{}", show(&recreated));
    let path = Path::new(environment["spec"]["path"].as_str().unwrap()).to_owned();
    assert_eq!(git_at(repository, &path, &["rev-parse", "--abbrev-ref", "HEAD"]), "topic", "{point:?}");
    assert_eq!(git_at(repository, &path, &["status", "--porcelain"]), "", "{point:?}");
    let listed = repository.git(&["worktree", "list", "--porcelain"]);
    assert_eq!(listed.lines().filter(|line| line.starts_with("worktree ")).count(), 2, "{point:?}: {listed}");
    assert!(!listed.contains("locked") && !listed.contains("prunable"), "{point:?}: {listed}");
    assert_eq!(task_state(repository), "queued", "{point:?}");
}

#[test]
fn env_add() {
    for victims in [Victims::Alone, Victims::WithChildren] {
        let scenario = Scenario {
            name: "env add",
            victims,
            prepare: run_with_task,
            command: ADD,
            refusals: &["environment_exists", "exists"],
            check: worktree_stands,
        };
        scenario.run();
    }
}

fn with_dirty_worktree(repository: &Repository) {
    running_task(repository);
    let answer = parsed(&repository.tether(&[ADD, &["--json"]].concat()));
    let path = Path::new(answer["environment"]["spec"]["path"].as_str().unwrap()).to_owned();
    std::fs::write(path.join("README"), "changed\n").unwrap();
    std::fs::write(path.join("new"), "untracked\n").unwrap();
}

#[test]
fn checkpoint() {
    let prepare = |repository: &Repository| {
        run_with_task(repository);
        repository.answer(ADD);
        repository.answer(&["session", "reserve", "thread", "--id", "s"]);
        repository.answer(&["task", "start", "r/t", "--session", "s"]);
        let shown = repository.json(&["env", "show", "r/e"]);
        let path = Path::new(shown["environment"]["spec"]["path"].as_str().unwrap()).to_owned();
        std::fs::write(path.join("README"), "changed\n").unwrap();
        std::fs::write(path.join("new"), "untracked\n").unwrap();
    };
    let check = |repository: &Repository, point: &Point| {
        let shown = repository.json(&["show", "r"]);
        let checkpoint = &shown["checkpoints"][0];
        assert_eq!(checkpoint["safe_boundary_label"], "half", "{point:?}: {shown:#}");
        let commit = checkpoint["work"]["commit"].as_str().unwrap();
        repository.git(&["gc", "--quiet", "--prune=now"]);
        assert_eq!(repository.git(&["show", &format!("{commit}:new")]), "untracked", "{point:?}");
        assert_eq!(repository.git(&["show", &format!("{commit}:README")]), "changed", "{point:?}");
    };
    let command: &[&str] = &["checkpoint", "r/t", "--boundary", "half", "--replay-safety", "checkpoint_resumable"];
    let scenario = Scenario { name: "checkpoint", victims: Victims::Alone, prepare, command, refusals: &[], check };
    scenario.run();
}

/// A dead session with a running task, a claim, a pool's place and a lease; and one worktree that is gone.
fn interrupted(repository: &Repository) {
    run_with_task(repository);
    repository.answer(ADD);
    let mut sleeper = repository.command("sleep").arg("600").spawn().unwrap();
    repository.answer(&["session", "reserve", "thread", "--id", "s", "--pid", &sleeper.id().to_string()]);
    repository.answer(&["task", "start", "r/t", "--session", "s"]);
    sleeper.kill().unwrap();
    sleeper.wait().unwrap();
    let shown = repository.json(&["env", "show", "r/e"]);
    std::fs::remove_dir_all(shown["environment"]["spec"]["path"].as_str().unwrap()).unwrap();
}

fn settled(repository: &Repository, point: &Point) {
    assert_eq!(task_state(repository), "blocked", "{point:?}");
    assert_eq!(slots(repository), 0, "{point:?}");
    assert_eq!(repository.json(&["session", "show", "s"])["session"]["status"], "abandoned", "{point:?}");
    let claims = repository.json(&["claim", "list"]);
    let held = claims["claims"].as_array().unwrap().iter().filter(|claim| claim["released_at"].is_null()).count();
    assert_eq!(held, 0, "{point:?}: {claims:#}");
    assert_eq!(repository.json(&["env", "show", "r/e"])["environment"]["health"], "missing", "{point:?}");
}

#[test]
fn recover() {
    let scenario = Scenario {
        name: "recover",
        victims: Victims::Alone,
        prepare: interrupted,
        command: &["recover"],
        refusals: &[],
        check: settled,
    };
    scenario.run();
}

#[test]
fn recover_that_makes_a_worktree_anew() {
    let check = |repository: &Repository, point: &Point| {
        let shown = repository.json(&["env", "show", "r/e"]);
        let path = Path::new(shown["environment"]["spec"]["path"].as_str().unwrap()).to_owned();
        assert_eq!(shown["environment"]["state"], "ready", "{point:?}");
        assert!(path.join(".git").is_file(), "{point:?}: {shown:#}");
        assert_eq!(git_at(repository, &path, &["rev-parse", "--abbrev-ref", "HEAD"]), "topic", "{point:?}");
    };
    let scenario = Scenario {
        name: "recover --recreate",
        victims: Victims::WithChildren,
        prepare: interrupted,
        command: &["recover", "--recreate"],
        refusals: &[],
        check,
    };
    scenario.run();
}

/// A directory of its own that is gone, and was saved.
fn lost_directory(repository: &Repository) {
    run_with_task(repository);
    repository.answer(&["env", "add", "r/t", "--id", "e", "--mode", "isolated_workspace"]);
    let path = path_of_environment(repository);
    (0..SAVED_FILES).for_each(|at| std::fs::write(path.join(format!("file-{at}")), format!("{at}\n")).unwrap());
    repository.answer(&["checkpoint", "r/t", "--boundary", "b"]);
    std::fs::remove_dir_all(path).unwrap();
}

const SAVED_FILES: usize = 40;

fn path_of_environment(repository: &Repository) -> PathBuf {
    let shown = repository.json(&["env", "show", "r/e"]);
    PathBuf::from(shown["environment"]["spec"]["path"].as_str().unwrap())
}

#[test]
fn recover_that_fills_a_directory_anew() {
    let check = |repository: &Repository, point: &Point| {
        assert_eq!(repository.json(&["env", "show", "r/e"])["environment"]["state"], "ready", "{point:?}");
        let path = path_of_environment(repository);
        for at in 0..SAVED_FILES {
            let found = std::fs::read_to_string(path.join(format!("file-{at}")));
            assert_eq!(found.ok(), Some(format!("{at}\n")), "{point:?}: file {at}");
        }
    };
    let scenario = Scenario {
        name: "recover --recreate of a directory",
        victims: Victims::Alone,
        prepare: lost_directory,
        command: &["recover", "--recreate"],
        refusals: &[],
        check,
    };
    scenario.run();
}

#[test]
fn env_remove_of_a_dirty_worktree() {
    let check = |repository: &Repository, point: &Point| {
        // Wherever it was killed, what was not committed is still there: in the worktree, or in saved work.
        let saved = repository.json(&["salvage", "list"]);
        let commit = saved["saved"].as_array().and_then(|all| all.first()).and_then(|one| one["commit"].as_str());
        let commit = commit.unwrap_or_else(|| panic!("{point:?}: nothing was saved"));
        repository.git(&["gc", "--quiet", "--prune=now"]);
        assert_eq!(repository.git(&["show", &format!("{commit}:new")]), "untracked", "{point:?}");
        let state = repository.json(&["env", "show", "r/e"])["environment"]["state"].clone();
        assert!(state == "removed" || state == "archived", "{point:?}: {state}");
    };
    let prepare = |repository: &Repository| {
        with_dirty_worktree(repository);
        repository.answer(&["task", "cancel", "r/t"]);
    };
    let scenario = Scenario {
        name: "env remove",
        victims: Victims::WithChildren,
        prepare,
        command: &["env", "remove", "r/e"],
        refusals: &[],
        check,
    };
    scenario.run();
}
