//! `git tether run` through the real program, with real processes that are really killed.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::io::Write as _;
use std::process::Stdio;

use rustix::process::Signal;
use scene::{Scene, kill, pid_in, said, signal, until};
use serde_json::json;

/// `run` in the main checkout, with a task of its own name.
fn shared<'a>(task: &'a str, command: &[&'a str]) -> Vec<&'a str> {
    [&["run", "--run", "r", "--task", task, "--env", "shared", "--"], command].concat()
}

#[test]
fn exit_codes_are_those_of_sh_and_the_task_ends_as_its_command_did() {
    let scene = Scene::new();
    for (task, command, code, state, result) in [
        ("ok", &["true"][..], 0, "completed", json!([0, null])),
        ("bad", &["sh", "-c", "exit 7"], 7, "failed", json!([7, null])),
        ("killed", &["sh", "-c", "kill -9 $$"], 137, "failed", json!([null, "SIGKILL"])),
        ("missing", &["no-such-program-here"], 127, "failed", json!([127, null])),
        ("directory", &["/"], 126, "failed", json!([126, null])),
    ] {
        assert_eq!(scene.code(&shared(task, command)), code, "{task}");
        let shown = scene.task(&format!("r/{task}"));
        assert_eq!(shown["state"], state, "{task}");
        assert_eq!(json!([shown["result"]["exit_code"], shown["result"]["signal"]]), result, "{task}");
        assert_eq!(shown["command"][0], command[0], "{task}");
    }
    let sessions = scene.json(&["session", "list"]);
    for session in sessions["sessions"].as_array().unwrap() {
        assert_eq!(session["status"], "complete");
    }
    let held = scene.json(&["claim", "list"]);
    assert!(held["claims"].as_array().unwrap().iter().all(|claim| !claim["released_at"].is_null()), "{held}");
    for kind in ["live", "processes", "heartbeat"] {
        let left = std::fs::read_dir(scene.git_dir().join("tether").join(kind)).unwrap().count();
        assert_eq!(left, 0, "files in {kind}");
    }
}

#[test]
fn the_command_gets_its_names_and_the_streams_and_nothing_is_added() {
    let scene = Scene::new();
    let script = "cat; echo \"$TETHER_RUN $TETHER_TASK\"; git tether fence \"$TETHER_TOKEN\" >/dev/null || exit 9
        test \"$TETHER_GIT_DIR\" = \"$(git rev-parse --absolute-git-dir)\" || exit 8
        test \"$TETHER_ENVIRONMENT\" && test \"$TETHER_SESSION\" || exit 6
        test -z \"$GIT_INDEX_FILE$TETHER_RESUME_STATE\" || exit 5
        pwd; echo err >&2";
    let mut child = scene
        .command(&shared("t", &["sh", "-c", script]))
        .env("GIT_INDEX_FILE", "/nowhere")
        .env("TETHER_RESUME_STATE", "/nowhere")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"in\n").unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let expected = format!("in\nr t\n{}\n", scene.path.display());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), expected);
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "err\n");
}

#[test]
fn ids_are_made_up_and_tasks_added_where_they_are_missing() {
    let scene = Scene::new();
    assert_eq!(scene.code(&["run", "--env", "shared", "--", "true"]), 0);
    let runs = scene.json(&["status"])["runs"].clone();
    let made_up = runs[0]["id"].as_str().or(runs[0]["run"]["id"].as_str()).unwrap().to_owned();
    assert!(made_up.starts_with("run-"), "{made_up}");
    assert_eq!(scene.task(&format!("{made_up}/main"))["state"], "completed");
    for task in ["a", "b"] {
        assert_eq!(scene.code(&shared(task, &["true"])), 0);
    }
    assert_eq!(scene.code(&["run", "--run", "r", "--env", "shared", "--", "true"]), 0);
    assert_eq!(scene.code(&["run", "--run", "r", "--env", "shared", "--", "true"]), 0);
    assert_eq!(scene.json(&["task", "list", "r"])["tasks"].as_array().unwrap().len(), 4);
    // A queued task that somebody added is started, and its own command is what was run.
    scene.json(&["task", "add", "r/added", "--", "something", "else"]);
    assert_eq!(scene.code(&shared("added", &["true"])), 0);
    assert_eq!(scene.task("r/added")["command"], json!(["true"]));
}

#[test]
fn what_is_refused_ends_with_125_and_changes_nothing() {
    let scene = Scene::new();
    assert_eq!(scene.code(&shared("t", &["true"])), 0);
    scene.json(&["task", "add", "r/gated", "--require", "approval"]);
    scene.json(&["task", "add", "r/waits", "--depends-on", "gated"]);
    let before = scene.refs();
    for task in ["t", "gated", "waits"] {
        assert_eq!(scene.code(&shared(task, &["true"])), 125, "{task}");
    }
    for place in [
        ["--base", "no-such-revision"],
        ["--branch", "main"],
        ["--branch", "no..branch"],
        ["--path", "."],
        ["--path", "README"],
    ] {
        let refused = scene.tether(&[&["run", "--run", "new"][..], &place, &["--", "true"]].concat());
        let code = refused.status.code();
        assert!(matches!(code, Some(125 | 129)), "{place:?}: {code:?} {}", said(&refused));
    }
    for bad in [
        &["run"][..],
        &["run", "--env", "shared"],
        &["run", "--env", "nowhere", "--", "true"],
        &["run", "--run", "NO", "--", "true"],
        &["run", "--json", "--env", "shared", "--", "true"],
        &["run", "--env", "shared", "--branch", "b", "--", "true"],
        &["run", "--replay-safety", "surely", "--", "true"],
        &["run", "--checkpoint-every", "soon", "--", "true"],
    ] {
        assert_eq!(scene.code(bad), 129, "{bad:?}");
    }
    assert_eq!(scene.refs(), before);
    let outside = scene.command(&["run", "--", "true"]).current_dir(scene.outside()).output().unwrap();
    assert_eq!(outside.status.code(), Some(125));
}

#[test]
fn a_full_pool_makes_it_busy_before_anything_is_made() {
    let scene = Scene::new();
    scene.json(&["pool", "set", "codex", "--max", "1"]);
    let go = scene.outside().join("go");
    let script = format!("echo $$ > {0}.pid; while ! test -e {0}; do sleep 0.02; done", go.display());
    let first = scene.start(&[&["run", "--pool", "codex"], &shared("a", &["sh", "-c", &script])[1..]].concat());
    pid_in(&go.with_extension("pid"));
    let before = scene.refs();
    let second = ["run", "--run", "other", "--pool", "codex", "--env", "shared", "--", "true"];
    let refused = scene.tether(&second);
    assert_eq!(refused.status.code(), Some(75), "{}", said(&refused));
    assert_eq!(scene.refs(), before);
    std::fs::write(&go, "").unwrap();
    assert_eq!(first.wait_with_output().unwrap().status.code(), Some(0));
    assert_eq!(scene.code(&second), 0);
    assert_eq!(scene.json(&["pool", "show", "codex"])["pool"]["running"], json!([]));
    // A failure makes the pool back off.
    assert_eq!(scene.code(&["run", "--pool", "codex", "--env", "shared", "--", "false"]), 1);
    assert_eq!(scene.code(&second), 75);
}

#[test]
fn a_task_that_runs_is_not_run_twice() {
    let scene = Scene::new();
    let pid = scene.outside().join("pid");
    let script = format!("echo $$ > {}; exec sleep 60", pid.display());
    let mut first = scene.start(&shared("t", &["sh", "-c", &script]));
    pid_in(&pid);
    let (answer, output) = scene.answer(&["resume", "r/t"]);
    assert_eq!((output.status.code(), &answer["error"]["code"]), (Some(125), &json!("live_owner")));
    let refused = scene.tether(&shared("t", &["true"]));
    assert_eq!(refused.status.code(), Some(125));
    assert!(said(&refused).contains("runs under session"), "{}", said(&refused));
    assert_eq!(scene.task("r/t")["attempts"], 1);
    signal(&first, Signal::TERM);
    assert_eq!(first.wait().unwrap().code(), Some(143));
}

/// Whether whoever started the tests has SIGHUP ignored (`nohup`): then every child inherits that, and no trap in sh takes it.
fn hangup_is_ignored() -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| u64::from_str_radix(line.strip_prefix("SigIgn:")?.trim(), 16).ok());
    let ignored = mask.is_some_and(|mask| mask & 1 == 1);
    if ignored {
        eprintln!("SKIPPED: SIGHUP, which is ignored here");
    }
    ignored
}

#[test]
fn a_signal_saves_the_work_and_leaves_the_task_blocked() {
    for (sent, trap, code, state) in [
        (Signal::TERM, "", 143, "blocked"),
        (Signal::INT, "", 130, "blocked"),
        (Signal::HUP, "trap 'exit 3' HUP;", 3, "blocked"),
        (Signal::TERM, "trap 'exit 0' TERM;", 0, "completed"),
    ] {
        if sent == Signal::HUP && hangup_is_ignored() {
            continue;
        }
        let scene = Scene::new();
        let pid = scene.outside().join("pid");
        let script = format!(
            "{trap} echo new > new.txt; echo two >> README; echo $$ > {}; while :; do sleep 0.02; done",
            pid.display()
        );
        let arguments =
            [&["run", "--replay-safety", "checkpoint_resumable"], &shared("t", &["sh", "-c", &script])[1..]];
        let child = scene.start(&arguments.concat());
        pid_in(&pid);
        signal(&child, sent);
        let output = child.wait_with_output().unwrap();
        assert_eq!(output.status.code(), Some(code), "{}", said(&output));
        let task = scene.task("r/t");
        assert_eq!(task["state"], state, "{task}");
        let checkpoint = scene.checkpoint("r", "t");
        assert_eq!(checkpoint["work"]["files"], 2, "{checkpoint}");
        if state == "completed" {
            continue;
        }
        assert_eq!(task["blocked_reasons"], json!(["execution interrupted: can resume from checkpoint at 'start'"]));
        assert_eq!(checkpoint["note"], "execution interrupted");
        assert!(said(&output).contains("git tether resume r/t"), "{}", said(&output));
        let session = scene.json(&["session", "show", task["session"].as_str().unwrap()]);
        assert_eq!(session["session"]["status"], "abandoned");
        // What was saved is what stood there, and nothing of the user's was touched.
        let commit = checkpoint["work"]["commit"].as_str().unwrap();
        assert_eq!(scene.git(&["show", &format!("{commit}:new.txt")]), "new");
        assert_eq!(scene.git(&["status", "--porcelain"]), " M README\n?? new.txt");
    }
}

#[test]
fn no_snapshot_saves_nothing() {
    let scene = Scene::new();
    let pid = scene.outside().join("pid");
    let script = format!("echo new > new.txt; echo $$ > {}; exec sleep 60", pid.display());
    let child = scene.start(&[&["run", "--no-snapshot"], &shared("t", &["sh", "-c", &script])[1..]].concat());
    pid_in(&pid);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    assert!(scene.checkpoint("r", "t")["work"].is_null());
    let reasons = scene.task("r/t")["blocked_reasons"].clone();
    assert_eq!(reasons, json!(["execution interrupted: operator action required: stopped at 'start'"]));
}

#[test]
fn work_is_saved_now_and_then_and_only_when_it_changed() {
    let scene = Scene::new();
    let go = scene.outside().join("go");
    let script = format!("echo new > new.txt; while ! test -e {}; do sleep 0.02; done", go.display());
    let arguments = ["run", "--checkpoint-every", "0.2s"];
    let child = scene.start(&[&arguments, &shared("t", &["sh", "-c", &script])[1..]].concat());
    let saved = || {
        let (shown, output) = scene.answer(&["show", "r"]);
        let checkpoint = output.status.success().then(|| shown["checkpoints"][0].clone())?;
        Some(checkpoint).filter(|checkpoint| !checkpoint["work"].is_null())
    };
    let first = until("a saved checkpoint", saved);
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert_eq!(saved().unwrap()["seq"], first["seq"]);
    std::fs::write(&go, "").unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
}

#[test]
fn a_supervisor_that_is_killed_leaves_its_command_alive_and_the_task_running() {
    let scene = Scene::new();
    let pid = scene.outside().join("pid");
    let script = format!("echo $$ > {}; exec sleep 60", pid.display());
    let arguments = [&["run", "--replay-safety", "idempotent_write"], &shared("t", &["sh", "-c", &script])[1..]];
    let mut child = scene.start(&arguments.concat());
    let command = pid_in(&pid);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    let session = scene.task("r/t")["session"].as_str().unwrap().to_owned();
    let shown = scene.json(&["session", "show", &session]);
    assert_eq!(shown["session"]["liveness"]["verdict"], "alive", "{shown}");
    scene.tether(&["recover"]);
    assert_eq!(scene.task("r/t")["state"], "running");
    assert_eq!(scene.code(&shared("t", &["true"])), 125);
    kill(command, Signal::KILL);
    until("the session to be dead", || {
        let shown = scene.json(&["session", "show", &session]);
        (shown["session"]["liveness"]["verdict"] == "dead").then_some(())
    });
    scene.tether(&["recover"]);
    let task = scene.task("r/t");
    assert_eq!(task["state"], "blocked");
    assert_eq!(task["blocked_reasons"], json!(["execution interrupted: can restart from boundary 'start'"]));
    assert_eq!(scene.json(&["session", "show", &session])["session"]["status"], "abandoned");
}

#[test]
fn what_outlives_the_command_is_named() {
    let scene = Scene::new();
    let pid = scene.outside().join("pid");
    let script = format!("sleep 60 >/dev/null 2>&1 & echo $! > {}", pid.display());
    let output = scene.tether(&shared("t", &["sh", "-c", &script]));
    assert_eq!(output.status.code(), Some(0));
    let left = pid_in(&pid);
    assert!(said(&output).contains(&format!("process {left} (sleep) outlives its command")), "{}", said(&output));
    kill(left, Signal::KILL);
    assert_eq!(scene.task("r/t")["state"], "completed");
}

#[test]
fn a_command_may_end_its_own_task() {
    let scene = Scene::new();
    let script = "git tether task block $TETHER_RUN/$TETHER_TASK --reason 'needs a key' >/dev/null";
    assert_eq!(scene.code(&shared("t", &["sh", "-c", script])), 0);
    let task = scene.task("r/t");
    assert_eq!((task["state"].as_str(), task["blocked_reasons"][0].as_str()), (Some("blocked"), Some("needs a key")));
    let script = "git tether task done $TETHER_RUN/$TETHER_TASK --summary mine >/dev/null; exit 4";
    assert_eq!(scene.code(&shared("u", &["sh", "-c", script])), 4);
    let task = scene.task("r/u");
    assert_eq!((task["state"].as_str(), task["result"]["summary"].as_str()), (Some("completed"), Some("mine")));
}

#[test]
fn a_failed_task_with_retries_is_queued_again_and_review_holds_a_done_one() {
    let scene = Scene::new();
    scene.json(&["start", "r"]);
    scene.json(&["task", "add", "r/t", "--retries", "1"]);
    assert_eq!(scene.code(&shared("t", &["false"])), 1);
    assert_eq!(scene.task("r/t")["state"], "queued");
    assert_eq!(scene.code(&shared("t", &["false"])), 1);
    assert_eq!(scene.task("r/t")["state"], "failed");
    scene.json(&["task", "add", "r/u", "--require", "review"]);
    assert_eq!(scene.code(&shared("u", &["true"])), 0);
    assert_eq!(scene.task("r/u")["state"], "review_pending");
}

#[test]
fn of_racing_runs_of_one_task_one_runs_it() {
    let scene = Scene::new();
    scene.json(&["start", "r"]);
    scene.json(&["task", "add", "r/t"]);
    let log = scene.outside().join("log");
    let script = format!("echo ran >> {}; sleep 1", log.display());
    let arguments = shared("t", &["sh", "-c", &script]);
    let children: Vec<_> = (0..8).map(|_| scene.start(&arguments)).collect();
    let mut codes: Vec<_> = children.into_iter().map(|child| child.wait_with_output().unwrap().status.code()).collect();
    codes.sort_unstable();
    assert_eq!(codes, [[Some(0)].as_slice(), &[Some(125); 7]].concat());
    assert_eq!(std::fs::read_to_string(log).unwrap(), "ran\n");
    assert_eq!(scene.task("r/t")["attempts"], 1);
    assert_eq!(scene.json(&["session", "list"])["sessions"].as_array().unwrap().len(), 1);
}

#[test]
fn worktrees_and_workspaces_are_made_and_worked_in() {
    let scene = Scene::new();
    let script = "git branch --show-current; pwd; echo mine > mine; git add mine; git commit -q -m mine";
    let output = scene.tether(&["run", "--run", "r", "--task", "t", "--branch", "work", "--", "sh", "-c", script]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    let shown = scene.json(&["show", "r"]);
    let environment = &shown["environments"][0];
    assert_eq!((&environment["execution_mode"], &environment["state"]), (&json!("git_worktree"), &json!("ready")));
    let path = environment["spec"]["path"].as_str().unwrap();
    assert_eq!(String::from_utf8(output.stdout).unwrap(), format!("work\n{path}\n"));
    assert_eq!(scene.git(&["log", "-1", "--format=%s", "work"]), "mine");
    assert_eq!(shown["tasks"][0]["environment"], environment["id"]);
    // git tether works inside of a directory that is no worktree.
    let script =
        "git tether task show $TETHER_RUN/$TETHER_TASK >/dev/null || exit 9; git rev-parse 2>/dev/null && exit 8; pwd";
    let arguments = ["run", "--run", "r", "--task", "i", "--env", "isolated", "--", "sh", "-c", script];
    let output = scene.tether(&arguments);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    // A task that has a place works there, and in no other.
    scene.json(&["task", "add", "r/u"]);
    scene.json(&["env", "add", "r/u", "--mode", "git_worktree", "--id", "e", "--branch", "other"]);
    let run = ["run", "--run", "r", "--task", "u"];
    let elsewhere = [&run[..], &["--env", "isolated", "--", "true"]].concat();
    assert_eq!(scene.code(&elsewhere), 125);
    let output = scene.tether(&[&run[..], &["--", "sh", "-c", "git branch --show-current"]].concat());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "other\n");
}

#[test]
fn what_a_kill_left_half_made_is_made_by_the_next_run() {
    let scene = Scene::new();
    let pid = scene.outside().join("pid");
    scene.git(&["config", "tether.setup", &format!("echo $$ > {}; sleep 60", pid.display())]);
    let arguments = ["run", "--run", "r", "--task", "t", "--", "sh", "-c", "exit 5"];
    let mut child = scene.start(&arguments);
    let setup = pid_in(&pid);
    signal(&child, Signal::KILL);
    child.wait().unwrap();
    kill(setup, Signal::KILL);
    scene.git(&["config", "--unset", "tether.setup"]);
    assert_eq!(scene.task("r/t")["state"], "queued");
    let output = scene.tether(&arguments);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    scene.tether(&["recover"]);
    let before = scene.refs();
    scene.tether(&["recover"]);
    assert_eq!(scene.refs(), before);
}

#[test]
fn the_worktree_that_it_was_started_in_may_go_while_it_runs() {
    let repository = support::Repository::new();
    let (main, gone) = (repository.path.display(), repository.path.with_extension("gone"));
    repository.git(&["worktree", "add", "-q", gone.to_str().unwrap()]);
    let script =
        format!("git -C {main} worktree remove --force {}; echo work > new; sleep 1.5; exit 3", gone.display());
    let mut command = repository.command("git");
    let run = ["tether", "run", "--run", "r", "--task", "t", "--checkpoint-every", "1s", "--", "sh", "-c", &script];
    let output = command.current_dir(&gone).args(run).output().unwrap();
    assert_eq!(output.status.code(), Some(3), "{}", support::show(&output));
    assert!(!gone.exists());
    let listed = repository.json(&["salvage", "list"]);
    assert_eq!(listed["saved"][0]["files"], 1, "{}{listed}", support::show(&output));
    assert_eq!(repository.json(&["show", "r"])["run"]["status"], "failed");
}
