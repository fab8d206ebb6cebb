//! Tests with real processes, signals and terminals.
//!
//! A supervisor that is to be signalled, killed or stopped runs in a process of its own: this test binary once more, told by
//! `SUPERVISE_SCRIPT` to be the supervisor of a shell script and to write what happens to `SUPERVISE_LOG`.

#![allow(clippy::disallowed_methods, reason = "tests start programs")]

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::fs::FlockOperation;
use rustix::process::{Signal, kill_process};

use super::*;

const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Recorded {
    spawned: Vec<(i32, Option<u64>)>,
    interrupted: Vec<i32>,
    ticks: usize,
}

impl Events for Recorded {
    fn spawned(&mut self, pid: i32, start_time: Option<u64>) {
        self.spawned.push((pid, start_time));
    }
    fn interrupted(&mut self, signal: i32) {
        self.interrupted.push(signal);
    }
    fn tick(&mut self) {
        self.ticks += 1;
    }
}

fn words(words: &[&str]) -> Vec<OsString> {
    words.iter().map(OsString::from).collect()
}

fn in_directory(directory: &Path, command: &[&str]) -> Supervised<'static> {
    Supervised {
        command: words(command),
        directory: directory.to_owned(),
        set: Vec::new(),
        removed: Vec::new(),
        inherited: &[],
        every: None,
        terminal: Terminal::LeaveAlone,
        streams: Streams::Ours,
    }
}

fn run(command: &[&str]) -> Result<Ended, SuperviseError> {
    supervise(&in_directory(Path::new("/"), command), &mut Recorded::default())
}

fn until<T>(what: &str, mut look: impl FnMut() -> Option<T>) -> T {
    let start = Instant::now();
    loop {
        if let Some(found) = look() {
            return found;
        }
        assert!(start.elapsed() < PATIENCE, "waited in vain for {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

// ---- in this process ----

#[test]
fn exit_codes_and_signals_are_those_of_a_shell() {
    for (script, exit, code, name) in [
        ("exit 0", Exit::Code(0), 0, None),
        ("exit 41", Exit::Code(41), 41, None),
        ("kill -KILL $$", Exit::Signal(9), 137, Some("SIGKILL")),
        ("kill -USR1 $$", Exit::Signal(10), 138, Some("SIGUSR1")),
    ] {
        let ended = run(&["sh", "-c", script]).unwrap();
        assert_eq!(ended.exit, exit, "{script}");
        assert_eq!(exit_code(&ended), code, "{script}");
        assert_eq!(ended.exit.signal_name().as_deref(), name, "{script}");
        assert_eq!((ended.interrupted_by, ended.left_behind), (None, Vec::new()), "{script}");
    }
}

#[test]
fn what_cannot_start_is_told_apart() {
    let here = tempfile::tempdir().unwrap();
    std::fs::write(here.path().join("plain"), "echo\n").unwrap();
    let code = |command: &[&str]| supervise(&in_directory(here.path(), command), &mut Recorded::default()).unwrap_err();
    assert_eq!(code(&["no-such-program-at-all"]).exit_code(), 127);
    assert_eq!(code(&["./nothing-here"]).exit_code(), 127);
    assert_eq!(code(&["./plain"]).exit_code(), 126);
    assert_eq!(code(&["/"]).exit_code(), 126);
    assert!(matches!(code(&[]), SuperviseError::NoCommand));
    let elsewhere = in_directory(&here.path().join("gone"), &["true"]);
    let error = supervise(&elsewhere, &mut Recorded::default()).unwrap_err();
    assert!(matches!(error, SuperviseError::Directory { .. }), "a missing directory is not a missing program: {error}");
    assert_eq!(error.exit_code(), 125);
}

#[test]
fn a_script_without_interpreter_is_run_by_sh() {
    use std::os::unix::fs::PermissionsExt as _;

    let here = tempfile::tempdir().unwrap();
    let script = here.path().join("script");
    std::fs::write(&script, "exit $1\n").unwrap();
    std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
    let mut supervised = in_directory(here.path(), &["./script", "7"]);
    assert_eq!(supervise(&supervised, &mut Recorded::default()).unwrap().exit, Exit::Code(7));
    supervised.command = words(&["script", "8"]);
    supervised.set = vec![("PATH".into(), here.path().into())];
    assert_eq!(supervise(&supervised, &mut Recorded::default()).unwrap().exit, Exit::Code(8));
}

#[test]
fn environment_and_directory_are_the_commands() {
    let here = tempfile::tempdir().unwrap();
    let here = here.path().canonicalize().unwrap();
    let mut supervised = in_directory(&here, &["sh", "-c", r#"echo "$MARK ${HOME-none} $(pwd)" > out"#]);
    supervised.set = vec![("MARK".into(), "here".into())];
    supervised.removed = vec!["HOME".into()];
    supervise(&supervised, &mut Recorded::default()).unwrap();
    let said = std::fs::read_to_string(here.join("out")).unwrap();
    assert_eq!(said, format!("here none {}\n", here.display()));
}

#[test]
fn the_command_starts_with_default_signals_in_its_own_group() {
    let here = tempfile::tempdir().unwrap();
    let script = "cat /proc/self/status > status; ps -o pgid= -p $$ > group; echo $$ > pid";
    let mut events = Recorded::default();
    supervise(&in_directory(here.path(), &["sh", "-c", script]), &mut events).unwrap();
    let read = |name: &str| std::fs::read_to_string(here.path().join(name)).unwrap();
    for mask in ["SigBlk:", "SigIgn:"] {
        let line = read("status").lines().find(|line| line.starts_with(mask)).unwrap().to_owned();
        let bits = u64::from_str_radix(line[mask.len()..].trim(), 16).unwrap();
        // SIGPIPE is 13: Rust ignores it, the command must not.
        assert_eq!(bits & (1 << 12 | 1 << 14 | 1 << 1 | 1 << 16), 0, "{line}");
    }
    assert_eq!(read("group").trim(), read("pid").trim());
    assert_eq!(events.spawned[0].0.to_string(), read("pid").trim());
    assert!(events.spawned[0].1.is_some());
}

#[test]
fn ticks_come_while_it_runs() {
    let mut supervised = in_directory(Path::new("/"), &["sleep", "0.5"]);
    supervised.every = Some(Duration::from_millis(50));
    let mut events = Recorded::default();
    supervise(&supervised, &mut events).unwrap();
    assert!((2..=10).contains(&events.ticks), "{} ticks", events.ticks);
}

#[test]
fn a_command_stopped_without_a_terminal_is_waited_for() {
    let script = "(sleep 0.2; kill -CONT $$) & kill -STOP $$; wait; exit 3";
    assert_eq!(run(&["sh", "-c", script]).unwrap().exit, Exit::Code(3));
}

#[test]
fn what_is_left_behind_is_named_with_its_tie() {
    let here = tempfile::tempdir().unwrap();
    let lock = File::create(here.path().join("lock")).unwrap();
    let script = "sleep 30 & echo $! > group; setsid sleep 31 7>&- & echo $! > lock_holder
        setsid sh -c 'for f in 3 4 5 6 7 8 9; do eval \"exec $f>&-\"; done; ls -l /proc/$$/fd > fds; exec sleep 32' & echo $! > marked
        sleep 0.2";
    let inherited = [lock];
    let mut supervised = in_directory(here.path(), &["bash", "-c", script]);
    supervised.set = vec![("TETHER_TEST_MARK".into(), here.path().into())];
    supervised.inherited = &inherited;
    let ended = supervise(&supervised, &mut Recorded::default()).unwrap();
    let left = &ended.left_behind;
    let pid = |name: &str| -> i32 { std::fs::read_to_string(here.path().join(name)).unwrap().trim().parse().unwrap() };
    let tie = |pid: i32| left.iter().find(|one| one.pid == pid).map(|one| one.tie);
    let found = [tie(pid("group")), tie(pid("lock_holder"))];
    // setsid may fork, so the marked one is found by what it is tied with.
    for one in left {
        let _ = kill_process(Pid::from_raw(one.pid).unwrap(), Signal::KILL);
    }
    assert_eq!(found, [Some(Tie::Lock), Some(Tie::Lock)], "{left:?}");
    assert_eq!(left.len(), 3, "{left:?}");

    supervised.inherited = &[];
    let ended = supervise(&supervised, &mut Recorded::default()).unwrap();
    for one in &ended.left_behind {
        let _ = kill_process(Pid::from_raw(one.pid).unwrap(), Signal::KILL);
    }
    let mut ties: Vec<Tie> = ended.left_behind.iter().map(|one| one.tie).collect();
    ties.sort_by_key(|tie| *tie as u8);
    assert_eq!(ties, [Tie::Group, Tie::Environment, Tie::Environment], "{:?}", ended.left_behind);
}

#[test]
fn the_lock_does_not_reach_other_commands() {
    let here = tempfile::tempdir().unwrap();
    let path = here.path().join("lock").canonicalize().unwrap_or_else(|_| here.path().join("lock"));
    let inherited = [File::create(&path).unwrap()];
    let mut supervised = in_directory(here.path(), &["sh", "-c", "ls -l /proc/$$/fd > with"]);
    supervised.inherited = &inherited;
    supervise(&supervised, &mut Recorded::default()).unwrap();
    supervise(&in_directory(here.path(), &["sh", "-c", "ls -l /proc/$$/fd > without"]), &mut Recorded::default())
        .unwrap();
    let names_lock =
        |name: &str| std::fs::read_to_string(here.path().join(name)).unwrap().contains(path.to_str().unwrap());
    assert!(names_lock("with"));
    assert!(!names_lock("without"));
}

// ---- a supervisor of its own ----

struct Logged(File);

impl Logged {
    fn line(&mut self, line: &str) {
        self.0.write_all(format!("{line}\n").as_bytes()).unwrap();
    }
}

impl Events for Logged {
    fn spawned(&mut self, pid: i32, _: Option<u64>) {
        self.line(&format!("spawned {pid}"));
    }
    fn interrupted(&mut self, signal: i32) {
        self.line(&format!("interrupted {signal}"));
        let slow = std::env::var("SUPERVISE_SLOW").ok().and_then(|slow| slow.parse().ok());
        std::thread::sleep(Duration::from_millis(slow.unwrap_or(0)));
        self.line("saved");
    }
    fn tick(&mut self) {
        self.line("tick");
    }
}

/// Not a test: the supervisor that the tests below start.
#[test]
fn supervisor_process() {
    let Some(script) = std::env::var_os("SUPERVISE_SCRIPT") else { return };
    let directory = PathBuf::from(std::env::var_os("SUPERVISE_DIRECTORY").unwrap());
    let log = File::options().create(true).append(true).open(directory.join("log")).unwrap();
    let lock = File::create(directory.join("lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).unwrap();
    let inherited = [lock];
    let supervised = Supervised {
        command: vec![std::env::var_os("SUPERVISE_SHELL").unwrap_or("sh".into()), "-c".into(), script],
        directory,
        set: Vec::new(),
        removed: vec!["SUPERVISE_SCRIPT".into()],
        inherited: &inherited,
        every: None,
        terminal: Terminal::HandOver,
        streams: Streams::Ours,
    };
    let mut events = Logged(log);
    let ended = supervise(&supervised, &mut events).unwrap();
    events.line(&format!("ended {} by {:?}", exit_code(&ended), ended.interrupted_by));
}

struct Scene {
    directory: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn supervisor(&self, script: &str) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command.args(["--exact", "world::supervise::tests::supervisor_process", "--test-threads=1", "--nocapture"]);
        command.env("SUPERVISE_SCRIPT", script).env("SUPERVISE_DIRECTORY", self.directory.path());
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        command
    }

    fn read(&self, name: &str) -> String {
        std::fs::read_to_string(self.directory.path().join(name)).unwrap_or_default()
    }

    fn wait_for(&self, name: &str, text: &str) -> String {
        until(&format!("{text:?} in {name}: {:?}", self.read("log")), || {
            Some(self.read(name)).filter(|read| read.contains(text))
        })
    }

    fn lock_is_free(&self) -> bool {
        let lock = File::open(self.directory.path().join("lock")).unwrap();
        rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok()
    }
}

fn tell(child: &Child, signal: Signal) {
    kill_process(Pid::from_child(child), signal).unwrap();
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
fn a_signal_is_forwarded_and_then_the_work_saved_while_the_command_goes_on() {
    for (signal, number, name) in [(Signal::INT, 2, "INT"), (Signal::TERM, 15, "TERM"), (Signal::HUP, 1, "HUP")] {
        if signal == Signal::HUP && hangup_is_ignored() {
            continue;
        }
        let scene = Scene::new();
        let script = format!(
            "trap 'echo trapped >> log; sleep 0.2; echo cleaned >> log; exit 9' {name}; echo > ready
            while :; do sleep 0.02; done"
        );
        let mut supervisor = scene.supervisor(&script).spawn().unwrap();
        scene.wait_for("ready", "\n");
        tell(&supervisor, signal);
        supervisor.wait().unwrap();
        let log = scene.read("log");
        let at = |text: &str| log.find(text).unwrap_or_else(|| panic!("no {text:?} in {log:?}"));
        assert!(
            at("interrupted") < at("cleaned") && at("saved") < at("cleaned") && at("trapped") < at("cleaned"),
            "{log}"
        );
        assert!(log.contains(&format!("interrupted {number}\n")), "{log}");
        assert!(log.ends_with(&format!("ended 9 by Some({number})\n")), "{log}");
    }
}

#[test]
fn further_signals_are_forwarded_even_while_the_work_is_being_saved() {
    let scene = Scene::new();
    let script = "trap 'echo int >> got' INT; trap 'echo usr >> got' USR1; trap 'echo term >> got; exit 0' TERM
        echo > ready; while :; do sleep 0.02; done";
    let mut supervisor = scene.supervisor(script).env("SUPERVISE_SLOW", "3000").spawn().unwrap();
    scene.wait_for("ready", "\n");
    tell(&supervisor, Signal::USR1);
    scene.wait_for("got", "usr");
    tell(&supervisor, Signal::INT);
    scene.wait_for("got", "int");
    tell(&supervisor, Signal::TERM);
    scene.wait_for("got", "term");
    assert!(!scene.read("log").contains("saved"), "forwarded only after the callback");
    supervisor.wait().unwrap();
    let log = scene.read("log");
    assert_eq!(log.matches("interrupted").count(), 1, "{log}");
    assert!(log.ends_with("ended 0 by Some(2)\n"), "{log}");
}

#[test]
fn signals_reach_the_whole_group() {
    let scene = Scene::new();
    let script = "trap 'echo child >> got' TERM; sh -c 'trap \"echo grandchild >> got; exit\" TERM; echo > ready; while :; do sleep 0.02; done' &
        wait; wait; exit 4";
    let mut supervisor = scene.supervisor(script).spawn().unwrap();
    scene.wait_for("ready", "\n");
    tell(&supervisor, Signal::TERM);
    supervisor.wait().unwrap();
    let got = scene.read("got");
    assert!(got.lines().any(|line| line == "grandchild") && got.lines().any(|line| line == "child"), "{got}");
    assert!(scene.read("log").ends_with("ended 4 by Some(15)\n"), "{}", scene.read("log"));
}

#[test]
fn nohup_is_honoured() {
    let scene = Scene::new();
    let supervisor = scene.supervisor("echo > ready; sleep 0.6; exit 5");
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"trap "" HUP; exec "$@""#, "sh"]).arg(supervisor.get_program()).args(supervisor.get_args());
    shell.envs(supervisor.get_envs().filter_map(|(name, value)| Some((name, value?)))).stdout(Stdio::null());
    let mut shell = shell.spawn().unwrap();
    scene.wait_for("ready", "\n");
    tell(&shell, Signal::HUP);
    shell.wait().unwrap();
    assert!(scene.read("log").ends_with("ended 5 by None\n"), "{}", scene.read("log"));
}

#[test]
fn the_lock_outlives_a_killed_supervisor_until_the_last_child_ends() {
    let scene = Scene::new();
    let script = "(echo > ready; while ! test -e go; do sleep 0.02; done) & exit 0";
    // The command itself waits too, so that the supervisor is killed in the middle.
    let script = format!("({script}); while ! test -e go; do sleep 0.02; done");
    let mut supervisor = scene.supervisor(&script).spawn().unwrap();
    scene.wait_for("ready", "\n");
    assert!(!scene.lock_is_free());
    tell(&supervisor, Signal::KILL);
    supervisor.wait().unwrap();
    std::thread::sleep(Duration::from_millis(100));
    assert!(!scene.lock_is_free(), "the command lives, so its lock holds");
    std::fs::write(scene.directory.path().join("go"), "").unwrap();
    until("the lock", || scene.lock_is_free().then_some(()));
}

// ---- on a terminal ----

struct Pty {
    master: File,
    shell: Child,
}

impl Pty {
    /// An interactive shell with job control on a terminal of its own; `None`, loudly, where that cannot be had.
    fn open(scene: &Scene, script: &str, call: &str) -> Option<Self> {
        use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};

        let have = |program: &str| Command::new(program).arg("--version").output().is_ok();
        if !have("setsid") || !have("bash") {
            eprintln!("SKIPPED: a terminal test needs bash and setsid");
            return None;
        }
        let master: OwnedFd = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = || File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        let mut supervisor = scene.supervisor(script);
        // dash starts programs with vfork: a Ctrl-Z in that window stops its child and leaves dash itself waiting for it, not stopped,
        // which no shell and no supervisor is ever told. bash forks.
        supervisor.env("SUPERVISE_SHELL", "bash");
        let mut shell = Command::new("setsid");
        shell.args(["--ctty", "--wait", "bash", "--norc", "--noprofile", "-i"]).process_group(0);
        shell.envs(supervisor.get_envs().filter_map(|(name, value)| Some((name, value?))));
        let shell = shell.stdin(slave()).stdout(slave()).stderr(slave()).spawn().unwrap();
        let mut reader = File::from(rustix::io::fcntl_dupfd_cloexec(&master, 0).unwrap());
        let screen = scene.directory.path().join("screen");
        std::thread::spawn(move || {
            let mut screen = File::create(screen).unwrap();
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = reader.read(&mut bytes) {
                screen.write_all(&bytes[..count]).unwrap();
            }
        });
        let mut pty = Self { master: File::from(master), shell };
        let words: Vec<String> = std::iter::once(supervisor.get_program())
            .chain(supervisor.get_args())
            .map(|word| format!("'{}'", word.to_string_lossy()))
            .collect();
        let call = call.replace("SUPERVISOR", &words.join(" "));
        pty.write(&format!("cd '{}'; {call}\n", scene.directory.path().display()));
        Some(pty)
    }

    fn write(&mut self, text: &str) {
        self.master.write_all(text.as_bytes()).unwrap();
    }
}

impl Drop for Pty {
    fn drop(&mut self) {
        drop(self.master.write_all(b"\nexit\nexit\n"));
        for _ in 0..400 {
            if matches!(self.shell.try_wait(), Ok(Some(_))) {
                return;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        drop(self.shell.kill());
        drop(self.shell.wait());
    }
}

const IN_FOREGROUND: &str = "test \"$(ps -o tpgid= -p $$)\" = \"$(ps -o pgid= -p $$)\"";

#[test]
fn on_a_terminal_ctrl_c_reaches_the_command_once_and_counts() {
    let scene = Scene::new();
    let script = "trap 'echo int >> got; exit 130' INT
        FOREGROUND && echo fore > where; echo > ready; while :; do sleep 0.02; done";
    let script = script.replace("FOREGROUND", IN_FOREGROUND);
    let Some(mut pty) = Pty::open(&scene, &script, "SUPERVISOR; echo back >> back") else { return };
    // Logged once the terminal has been handed over; what is typed before that is for us.
    scene.wait_for("log", "spawned");
    scene.wait_for("ready", "\n");
    until("the foreground", || {
        pty.write("\x03");
        std::thread::sleep(Duration::from_millis(200));
        scene.read("log").contains("ended").then_some(())
    });
    assert_eq!(scene.read("got"), "int\n");
    assert!(scene.read("log").ends_with("ended 130 by Some(2)\n"), "{}", scene.read("log"));
    // The shell reads on: the terminal is its own again.
    pty.write("echo still here > still\n");
    scene.wait_for("still", "still here");
}

#[test]
fn the_command_reads_from_the_terminal_at_once() {
    let scene = Scene::new();
    let script = "read line; echo \"read $line\" > got; stty -a > /dev/null; exit 6";
    for _ in 0..5 {
        let Some(mut pty) = Pty::open(&scene, script, "SUPERVISOR") else { return };
        scene.wait_for("log", "spawned");
        pty.write("hello\n");
        scene.wait_for("got", "read hello");
        let log = scene.wait_for("log", "ended");
        assert!(log.ends_with("ended 6 by None\n"), "{log}");
        drop(pty);
        for name in ["log", "got"] {
            std::fs::remove_file(scene.directory.path().join(name)).unwrap();
        }
    }
}

#[test]
fn ctrl_z_stops_both_and_fg_continues_both() {
    let scene = Scene::new();
    let script = "trap 'echo cont >> got' CONT; echo > ready
        while ! test -e go; do echo >> beat; sleep 0.02; done; FOREGROUND && echo fore > where; exit 0";
    let script = script.replace("FOREGROUND", IN_FOREGROUND);
    let Some(mut pty) = Pty::open(&scene, &script, "SUPERVISOR") else { return };
    // Logged once the terminal has been handed over; what is typed before that is for us.
    scene.wait_for("log", "spawned");
    scene.wait_for("ready", "\n");
    until("the stop", || {
        pty.write("\x1a");
        std::thread::sleep(Duration::from_millis(300));
        scene.read("screen").contains("Stopped").then_some(())
    });
    // The shell has the terminal, and nothing of the job runs.
    pty.write("jobs -l > jobs; echo done >> jobs\n");
    scene.wait_for("jobs", "done");
    let beats = scene.read("beat").len();
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(scene.read("beat").len(), beats, "the command is stopped");
    pty.write("fg\n");
    until("the beat to go on", || (scene.read("beat").len() > beats).then_some(()));
    std::fs::write(scene.directory.path().join("go"), "").unwrap();
    let log = scene.wait_for("log", "ended");
    assert!(log.ends_with("ended 0 by None\n"), "{log}");
    assert_eq!(scene.read("where"), "fore\n");
}

#[test]
fn a_background_job_stops_when_it_reads_and_goes_on_in_the_foreground() {
    let scene = Scene::new();
    let script = "read line; echo \"read $line\" > got";
    let Some(mut pty) = Pty::open(&scene, script, "SUPERVISOR & sleep 1; jobs > jobs; echo listed >> jobs; fg") else {
        return;
    };
    let jobs = scene.wait_for("jobs", "listed");
    assert!(jobs.contains("Stopped"), "{jobs}");
    pty.write("hello\n");
    scene.wait_for("got", "read hello");
    scene.wait_for("log", "ended 0 by None");
}

#[test]
fn in_a_pipeline_the_pager_keeps_the_terminal_until_the_command_asks() {
    let scene = Scene::new();
    let script = "FOREGROUND || echo back > where; echo > ready; trap 'echo int >> got; exit 130' INT
        while ! test -e ask; do sleep 0.02; done; read line < /dev/tty; echo \"read $line\" >> got
        while :; do sleep 0.02; done";
    let script = script.replace("FOREGROUND", IN_FOREGROUND);
    let Some(mut pty) = Pty::open(&scene, &script, "SUPERVISOR | (trap '' INT; cat)") else { return };
    // Logged once the terminal has been handed over; what is typed before that is for us.
    scene.wait_for("log", "spawned");
    scene.wait_for("ready", "\n");
    assert_eq!(scene.read("where"), "back\n");
    pty.write("\x03");
    let log = scene.wait_for("log", "ended");
    assert!(log.ends_with("ended 130 by Some(2)\n"), "{log}");
    assert_eq!(scene.read("got"), "int\n");

    std::fs::remove_file(scene.directory.path().join("log")).unwrap();
    std::fs::write(scene.directory.path().join("ask"), "").unwrap();
    drop(pty);
    let Some(mut pty) = Pty::open(&scene, &script, "SUPERVISOR | (trap '' INT; cat)") else { return };
    scene.wait_for("log", "spawned");
    std::thread::sleep(Duration::from_millis(300));
    pty.write("hello\n");
    scene.wait_for("got", "read hello");
    pty.write("\x03");
    let log = scene.wait_for("log", "ended");
    assert!(log.ends_with("ended 130 by Some(2)\n"), "{log}");
}

#[test]
fn without_a_job_control_shell_nobody_is_left_asleep() {
    let scene = Scene::new();
    let script = "trap '' INT; echo > ready; n=0; while test $n -lt 40; do n=$((n+1)); sleep 0.02; done; exit 8";
    let Some(mut pty) = Pty::open(&scene, script, "exec SUPERVISOR") else { return };
    // Logged once the terminal has been handed over; what is typed before that is for us.
    scene.wait_for("log", "spawned");
    scene.wait_for("ready", "\n");
    pty.write("\x1a");
    let log = scene.wait_for("log", "ended");
    assert!(log.ends_with("ended 8 by None\n"), "{log}");
}
