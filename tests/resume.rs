//! `git tether resume` through the real program: what goes on, what is refused, who wins, and what is asked of a person.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

#[path = "support/scene.rs"]
mod scene;
mod support;

use std::path::PathBuf;
use std::process::Output;

use rustix::process::Signal;
use scene::{Scene, kill, pid_in, said, signal, until};
use serde_json::{Value, json};

/// Runs a task whose command takes a checkpoint by `checkpoint` on its first run and then hangs, and kills it with its supervisor.
/// Run again, the command goes on with `again`.
fn interrupted(checkpoint: &str, again: &str) -> Scene {
    let scene = Scene::new();
    let (pid, first) = (scene.outside().join("pid"), scene.outside().join("first"));
    let script = format!(
        "if test -e {first}; then {again}; exit; fi; echo > {first}; {checkpoint}; echo $$ > {pid}; exec sleep 60",
        first = first.display(),
        pid = pid.display()
    );
    let mut child = scene.start(&["run", "--run", "r", "--task", "t", "--env", "shared", "--", "sh", "-c", &script]);
    let command = pid_in(&pid);
    signal(&child, Signal::KILL);
    kill(command, Signal::KILL);
    child.wait().unwrap();
    until("the session to be dead", || {
        let session = scene.task("r/t")["session"].as_str().unwrap().to_owned();
        (scene.json(&["session", "show", &session])["session"]["liveness"]["verdict"] == "dead").then_some(())
    });
    scene
}

fn resumable(again: &str) -> Scene {
    let checkpoint = "echo state | git tether checkpoint r/t --boundary half --replay-safety checkpoint_resumable \
        --resume-state - --no-snapshot >/dev/null 2>&1";
    let scene = interrupted(checkpoint, again);
    scene.tether(&["recover"]);
    assert_eq!(
        scene.task("r/t")["blocked_reasons"],
        json!(["execution interrupted: can resume from checkpoint at 'half'"])
    );
    scene
}

fn refused(scene: &Scene, arguments: &[&str]) -> Value {
    let before = scene.refs();
    let (answer, output) = scene.answer(arguments);
    assert_eq!(output.status.code(), Some(125), "{arguments:?}: {}", said(&output));
    assert_eq!(scene.refs(), before, "{arguments:?} changed something");
    answer["error"]["code"].clone()
}

fn no_resume_state_is_left(scene: &Scene) {
    let left = std::fs::read_dir(scene.git_dir().join("tether").join("resume")).map_or(0, Iterator::count);
    assert_eq!(left, 0);
}

#[test]
fn a_command_goes_on_with_its_resume_state_and_its_exit_code_is_passed_on() {
    let scene = resumable("cat $TETHER_RESUME_STATE; echo $TETHER_RUN/$TETHER_TASK; exit 5");
    let output = scene.tether(&["resume", "r/t"]);
    assert_eq!(output.status.code(), Some(5), "{}", said(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "state\nr/t\n");
    let shown = scene.json(&["show", "r"]);
    let task = &shown["tasks"][0];
    assert_eq!((task["state"].as_str(), task["attempts"].as_i64()), (Some("failed"), Some(2)));
    assert_eq!(shown["run"]["restoration"]["count"], 1);
    assert_eq!(shown["run"]["restoration"]["source"], "restart");
    no_resume_state_is_left(&scene);
    assert_eq!(refused(&scene, &["resume", "r/t"]), "illegal_transition");
    assert_eq!(refused(&scene, &["resume", "r/t", "--restart"]), "illegal_transition");
}

#[test]
fn a_large_resume_state_comes_back_byte_for_byte() {
    let scene = Scene::new();
    let state = scene.outside().join("state");
    let bytes: Vec<u8> =
        (0..3_000_000_u32).flat_map(|number| number.wrapping_mul(2_654_435_761).to_le_bytes()).collect();
    std::fs::write(&state, &bytes).unwrap();
    let pid = scene.outside().join("pid");
    let script = format!(
        "test -z \"$TETHER_RESUME_STATE\" || exec cmp $TETHER_RESUME_STATE {state}; git tether checkpoint r/t --boundary b \
         --replay-safety checkpoint_resumable --resume-state {state} >/dev/null; echo $$ > {pid}; exec sleep 60",
        state = state.display(),
        pid = pid.display()
    );
    let child = scene.start(&["run", "--run", "r", "--task", "t", "--env", "shared", "--", "sh", "-c", &script]);
    pid_in(&pid);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    let output = scene.tether(&["resume", "r/t"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(scene.task("r/t")["state"], "completed");
}

#[test]
fn a_dead_executor_is_written_down_by_resume_itself() {
    let checkpoint = "git tether checkpoint r/t --boundary b --replay-safety checkpoint_resumable --resume-state /dev/null \
        >/dev/null 2>&1";
    let scene = interrupted(checkpoint, "exit 0");
    let former = scene.task("r/t")["session"].as_str().unwrap().to_owned();
    let output = scene.tether(&["resume", "r/t"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(scene.task("r/t")["state"], "completed");
    assert_eq!(scene.json(&["session", "show", &former])["session"]["status"], "abandoned");
}

#[test]
fn what_needs_an_operator_is_refused_until_one_says_so() {
    let scene = interrupted("true", "test -z \"$TETHER_RESUME_STATE\"");
    scene.tether(&["recover"]);
    assert_eq!(refused(&scene, &["resume", "r/t"]), "not_resumable");
    let acknowledged = scene.json(&["resume", "r/t", "--acknowledge"]);
    assert_eq!(acknowledged["task"]["state"], "blocked");
    assert_eq!(scene.checkpoint("r", "t")["note"], "block acknowledged");
    assert_eq!(refused(&scene, &["resume", "r/t"]), "not_resumable");
    assert_eq!(scene.code(&["resume", "r/t", "--restart", "--acknowledge"]), 129);
    assert_eq!(scene.code(&["resume", "r/t", "--restart"]), 0);
    assert_eq!(scene.task("r/t")["state"], "completed");
}

#[test]
fn a_published_result_and_a_boundary_are_not_resumed_from() {
    for (flags, label) in [
        ("--replay-safety checkpoint_resumable --resume-state /dev/null --published", "published"),
        ("--replay-safety idempotent_write", "boundary"),
        ("--replay-safety checkpoint_resumable --no-snapshot", "nothing"),
        ("--replay-safety non_replayable_side_effect --resume-state /dev/null", "effect"),
    ] {
        let checkpoint = format!("git tether checkpoint r/t --boundary b {flags} >/dev/null 2>&1");
        let scene = interrupted(&checkpoint, "test -z \"$TETHER_RESUME_STATE\"");
        scene.tether(&["recover"]);
        assert_eq!(refused(&scene, &["resume", "r/t"]), "not_resumable", "{label}");
        assert_eq!(scene.code(&["resume", "r/t", "--restart"]), 0, "{label}");
    }
}

#[test]
fn refused_resumes_are_no_tries() {
    let scene = resumable("exit 0");
    assert_eq!(refused(&scene, &["resume", "r/nope"]), "unknown_task");
    assert_eq!(refused(&scene, &["resume", "nope/t"]), "unknown_run");
    scene.json(&["pause", "r"]);
    assert_eq!(refused(&scene, &["resume", "r/t"]), "run_paused");
    scene.json(&["unpause", "r"]);
    scene.json(&["task", "block", "r/t", "--reason", "needs a key"]);
    assert_eq!(refused(&scene, &["resume", "r/t"]), "not_resumable");
    scene.json(&["task", "unblock", "r/t", "--reason", "needs a key"]);
    assert_eq!(scene.code(&["resume", "r/t"]), 0);
}

#[test]
fn a_command_that_this_machine_did_not_record_is_shown_and_not_run() {
    let scene = resumable("exit 6");
    std::fs::remove_dir_all(scene.git_dir().join("tether").join("commands")).unwrap();
    let before = scene.refs();
    let (answer, output) = scene.answer(&["resume", "r/t"]);
    assert_eq!(output.status.code(), Some(125));
    assert_eq!(answer["error"]["code"], "untrusted_command");
    assert!(answer["error"]["message"].as_str().unwrap().contains("sh -c 'if test -e"), "{answer}");
    assert_eq!(scene.refs(), before);
    assert_eq!(scene.code(&["resume", "r/t", "--trust"]), 6);
}

#[test]
fn without_a_command_a_task_is_queued() {
    let scene = Scene::new();
    scene.json(&["start", "r"]);
    scene.json(&["task", "add", "r/t"]);
    scene.json(&["task", "start", "r/t"]);
    scene.json(&[
        "checkpoint",
        "r/t",
        "--boundary",
        "b",
        "--replay-safety",
        "checkpoint_resumable",
        "--resume-state",
        "README",
    ]);
    let session = scene.task("r/t")["session"].as_str().unwrap().to_owned();
    scene.tether(&["recover", "--assume-dead", &session]);
    let queued = scene.json(&["resume", "r/t"]);
    let task = if queued["task"].is_null() { scene.task("r/t") } else { queued["task"].clone() };
    assert_eq!(task["state"], "queued", "{task}");
    assert_eq!(scene.checkpoint("r", "t")["note"], "resume scheduled");
}

#[test]
fn of_racing_resumes_one_runs_the_task() {
    let scene = resumable("echo ran >> $HOME/log; sleep 1");
    let children: Vec<_> = (0..8).map(|_| scene.start(&["resume", "r/t"])).collect();
    let ended: Vec<Output> = children.into_iter().map(|child| child.wait_with_output().unwrap()).collect();
    let mut codes: Vec<_> = ended.iter().map(|output| output.status.code()).collect();
    codes.sort_unstable();
    assert_eq!(
        codes,
        [[Some(0)].as_slice(), &[Some(125); 7]].concat(),
        "{:?}",
        ended.iter().map(said).collect::<Vec<_>>()
    );
    assert_eq!(std::fs::read_to_string(scene.outside().join("log")).unwrap(), "ran\n");
    assert_eq!(scene.task("r/t")["attempts"], 2);
    assert_eq!(scene.json(&["show", "r"])["run"]["restoration"]["count"], 1);
    assert_eq!(scene.json(&["session", "list"])["sessions"].as_array().unwrap().len(), 2);
}

/// A task that can resume, whose program is not there any more; where the program goes.
fn with_vanished_program() -> (Scene, PathBuf) {
    let scene = Scene::new();
    let (program, pid) = (scene.outside().join("program"), scene.outside().join("pid"));
    let script = "#!/bin/sh\ntest -z \"$TETHER_RESUME_STATE\" || exit 0\n\
        git tether checkpoint r/t --boundary b --replay-safety checkpoint_resumable --resume-state README >/dev/null\n";
    std::fs::write(&program, format!("{script}echo $$ > {}\nexec sleep 60\n", pid.display())).unwrap();
    std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let name = program.to_str().unwrap();
    let child = scene.start(&["run", "--run", "r", "--task", "t", "--env", "shared", "--", name]);
    pid_in(&pid);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    std::fs::rename(&program, program.with_extension("away")).unwrap();
    (scene, program)
}

fn give_up(scene: &Scene) -> Value {
    let mut command = scene.command(&["--json", "resume", "r/t"]);
    let output = command.env("GIT_TETHER_RESUME_PAUSE", "0.05s").output().unwrap();
    assert_eq!(output.status.code(), Some(125), "{}", said(&output));
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(answer["error"]["code"], "recovery_required", "{answer}");
    let shown = scene.json(&["show", "r"]);
    assert_eq!(shown["run"]["status"], "paused");
    assert_eq!(shown["run"]["paused_from"], "blocked");
    let gate = shown["gates"].as_array().unwrap().iter().find(|gate| gate["state"] == "pending").unwrap().clone();
    assert_eq!((gate["kind"].as_str(), gate["key"].as_str()), (Some("approval"), Some("recovery_required")));
    assert_eq!(gate["task"], "t");
    let task = scene.task("r/t");
    assert_eq!(task["state"], "blocked");
    let session = scene.json(&["session", "show", task["session"].as_str().unwrap()]);
    assert_eq!(session["session"]["status"], "abandoned");
    assert_eq!(session["session"]["recovery_attempts"], 3);
    no_resume_state_is_left(scene);
    gate
}

#[test]
fn a_resume_that_cannot_start_is_tried_three_times_and_then_asks_a_person() {
    let (scene, program) = with_vanished_program();
    let gate = give_up(&scene);
    // The three swaps in their order: what the session's chain ends with is older than what the run's chain ends with.
    let subjects =
        scene.git(&["log", "-2", "--format=%(trailers:key=Tether-Event,valueonly,separator=)", "refs/tether/runs/r"]);
    assert_eq!(subjects.lines().collect::<Vec<_>>(), ["gate_opened", "run_paused"]);
    assert_eq!(refused(&scene, &["resume", "r/t"]), "run_paused");
    // Approved, it can be resumed, and fails again while its program is away.
    scene.json(&["approve", &format!("r/{}", gate["id"].as_str().unwrap())]);
    assert_eq!(scene.json(&["show", "r"])["run"]["status"], "blocked");
    let again = give_up(&scene);
    assert_ne!(again["id"], gate["id"]);
    scene.json(&["approve", &format!("r/{}", again["id"].as_str().unwrap())]);
    std::fs::rename(program.with_extension("away"), &program).unwrap();
    assert_eq!(scene.code(&["resume", "r/t"]), 0);
    assert_eq!(scene.json(&["show", "r"])["run"]["status"], "completed");
}

#[test]
fn rejecting_the_gate_fails_the_task_and_ends_the_pause() {
    let (scene, _) = with_vanished_program();
    let gate = give_up(&scene);
    scene.json(&["reject", &format!("r/{}", gate["id"].as_str().unwrap())]);
    let shown = scene.json(&["show", "r"]);
    assert_eq!(
        (shown["run"]["status"].as_str(), shown["tasks"][0]["state"].as_str()),
        (Some("failed"), Some("failed"))
    );
}

#[test]
fn a_program_that_comes_back_between_tries_is_run() {
    let (scene, program) = with_vanished_program();
    let mut command = scene.command(&["resume", "r/t"]);
    let child = command.env("GIT_TETHER_RESUME_PAUSE", "1s").stderr(std::process::Stdio::piped()).spawn().unwrap();
    until("the task to be started", || (scene.task("r/t")["state"] == "running").then_some(()));
    std::fs::rename(program.with_extension("away"), &program).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(scene.task("r/t")["attempts"], 2);
}

#[test]
fn recovery_runs_what_it_queues_and_keeps_its_own_answer() {
    let scene = resumable("cat $TETHER_RESUME_STATE; cat; echo more");
    let (answer, output) = scene.answer(&["recover", "--resume"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(answer["schema"], "tether.recovery/1");
    assert!(said(&output).contains("state\nmore\n"), "{}", said(&output));
    assert_eq!(scene.task("r/t")["state"], "completed");
    let before = scene.refs();
    scene.answer(&["recover", "--resume"]);
    assert_eq!(scene.refs(), before);
}

/// A task in a worktree with uncommitted work, interrupted by a signal; its path.
fn with_worktree() -> (Scene, PathBuf) {
    let scene = Scene::new();
    let pid = scene.outside().join("pid");
    let script = format!(
        "if test -e new; then cat new; git status --porcelain; exit; fi; echo new > new; echo $$ > {}; exec sleep 60",
        pid.display()
    );
    let safety = ["--replay-safety", "checkpoint_resumable"];
    let child =
        scene.start(&[&["run", "--run", "r", "--task", "t"], &safety[..], &["--", "sh", "-c", &script]].concat());
    pid_in(&pid);
    signal(&child, Signal::TERM);
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(143));
    let shown = scene.json(&["show", "r"]);
    let path = PathBuf::from(shown["environments"][0]["spec"]["path"].as_str().unwrap());
    (scene, path)
}

#[test]
fn a_worktree_that_is_gone_is_made_anew_with_its_work() {
    for recover in [false, true] {
        let (scene, path) = with_worktree();
        std::fs::remove_dir_all(&path).unwrap();
        if recover {
            scene.tether(&["recover"]);
        }
        let output = scene.tether(&["resume", "r/t"]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        assert_eq!(String::from_utf8(output.stdout).unwrap(), "new\n?? new\n");
        assert_eq!(scene.task("r/t")["state"], "completed");
    }
}

#[test]
fn a_worktree_that_stands_is_newer_than_what_was_saved() {
    let (scene, path) = with_worktree();
    std::fs::write(path.join("new"), "newer\n").unwrap();
    let output = scene.tether(&["resume", "r/t"]);
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "newer\n?? new\n");
}

#[test]
fn a_place_that_is_not_what_was_recorded_is_no_try() {
    let (scene, path) = with_worktree();
    let moved = path.with_extension("moved");
    scene.git(&["worktree", "move", path.to_str().unwrap(), moved.to_str().unwrap()]);
    let (answer, output) = scene.answer(&["resume", "r/t"]);
    assert_eq!(output.status.code(), Some(125));
    assert!(answer["error"]["message"].as_str().unwrap().contains(moved.to_str().unwrap()), "{answer}");
    assert_ne!(scene.json(&["show", "r"])["run"]["status"], "paused");
    std::fs::create_dir(&path).unwrap();
    std::fs::write(path.join("somebody's"), "").unwrap();
    assert_eq!(scene.code(&["resume", "r/t"]), 125);
    assert!(path.join("somebody's").exists());
}

#[test]
fn a_place_that_this_machine_did_not_record_is_not_worked_in() {
    let scene = resumable("exit 0");
    std::fs::remove_dir_all(scene.git_dir().join("tether").join("places")).unwrap();
    assert_eq!(refused(&scene, &["resume", "r/t"]), "untrusted_path");
    assert_eq!(scene.code(&["resume", "r/t", "--trust"]), 0);
}

#[test]
fn a_setup_that_fails_is_tried_again_and_then_asks_a_person() {
    let (scene, path) = with_worktree();
    std::fs::remove_dir_all(&path).unwrap();
    scene.git(&["config", "tether.setup", "echo x >> $HOME/setups; exit 3"]);
    scene.git(&["config", "tether.resumePause", "0.05s"]);
    let (answer, output) = scene.answer(&["resume", "r/t"]);
    assert_eq!((output.status.code(), &answer["error"]["code"]), (Some(125), &json!("recovery_required")), "{answer}");
    assert_eq!(std::fs::read_to_string(scene.outside().join("setups")).unwrap(), "x\nx\nx\n");
    let shown = scene.json(&["show", "r"]);
    assert_eq!((shown["run"]["status"].as_str(), shown["tasks"][0]["attempts"].as_i64()), (Some("paused"), Some(1)));
    scene.git(&["config", "--unset", "tether.setup"]);
    let gate = shown["gates"][0]["id"].as_str().unwrap();
    scene.json(&["approve", &format!("r/{gate}")]);
    let output = scene.tether(&["resume", "r/t"]);
    assert_eq!(output.status.code(), Some(0), "{}", said(&output));
    assert_eq!(String::from_utf8(output.stdout).unwrap(), "new\n?? new\n");
}
