#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::*;

fn here() -> Processes {
    let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned();
    Processes::of_this_machine(Host { id: "m-here".to_owned(), boot: Some(boot) })
}

fn sleeper() -> Child {
    Command::new("sleep").arg("60").stdout(Stdio::null()).spawn().unwrap()
}

fn signal(child: &Child, signal: rustix::process::Signal) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, signal).unwrap();
}

fn becomes(processes: &Processes, fingerprint: &Fingerprint, expected: Observed) -> bool {
    let end = Instant::now() + Duration::from_secs(5);
    while Instant::now() < end {
        if processes.observe(fingerprint) == expected {
            return true;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    false
}

#[test]
fn a_process_is_seen_through_its_life() {
    let processes = here();
    let mut child = sleeper();
    let fingerprint = processes.fingerprint(child.id()).unwrap();
    assert_eq!(processes.observe(&fingerprint), Observed::Running);
    signal(&child, rustix::process::Signal::STOP);
    assert!(becomes(&processes, &fingerprint, Observed::Stopped));
    signal(&child, rustix::process::Signal::KILL);
    assert!(becomes(&processes, &fingerprint, Observed::Zombie));
    child.wait().unwrap();
    assert!(becomes(&processes, &fingerprint, Observed::Gone));
    assert!(matches!(processes.fingerprint(child.id()), Err(FingerprintError::NoSuchProcess { .. })));
}

#[test]
fn another_start_time_is_another_process() {
    let processes = here();
    let own = processes.fingerprint(std::process::id()).unwrap();
    assert_eq!(processes.observe(&own), Observed::Running);
    let other = Fingerprint { start_time: own.start_time - 1, ..own };
    assert_eq!(processes.observe(&other), Observed::Reused);
}

#[test]
fn what_cannot_be_looked_into_is_said_so() {
    let processes = here();
    let own = processes.fingerprint(std::process::id()).unwrap();
    let boot = Fingerprint { boot: Some("other".to_owned()), ..own.clone() };
    assert_eq!(processes.observe(&boot), Observed::OtherBoot);
    let namespace = Fingerprint { pid_namespace: Some(1), ..own.clone() };
    assert_eq!(processes.observe(&namespace), Observed::OtherNamespace);
    let host = Fingerprint { host: "runner".to_owned(), ..own.clone() };
    assert_eq!(processes.observe(&host), Observed::OtherHost);
    let container = Fingerprint { host: "m-container".to_owned(), ..own.clone() };
    assert_eq!(processes.observe(&container), Observed::Running, "a derived id with our boot id is this machine");
    let foreign = Processes { view: View::Foreign, ..processes };
    assert_eq!(foreign.observe(&own), Observed::NoPermission);
}

#[test]
fn who_stands_in_a_directory_is_found() {
    let directory = tempfile::tempdir().unwrap();
    let inside = std::fs::canonicalize(directory.path()).unwrap().join("in");
    std::fs::create_dir(&inside).unwrap();
    let mut child = Command::new("sleep").arg("60").current_dir(&inside).spawn().unwrap();
    let standing = here().find_standing_in(inside.parent().unwrap());
    assert_eq!(standing.inside.iter().map(|occupant| occupant.pid).collect::<Vec<_>>(), [child.id()]);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(here().find_standing_in(&inside).inside, []);
}

#[test]
fn a_strange_program_name_does_not_shift_the_fields() {
    let text = "7 (a) b (c)) T 1 7 7 0 -1 4 0 0 0 0 0 0 0 0 20 0 1 0 4242 0 0";
    let stat = parse_stat(text).unwrap();
    assert_eq!((stat.state, stat.start_time), ('T', 4242));
}

#[test]
fn a_time_namespace_is_taken_off() {
    assert_eq!(parse_time_offset("monotonic 1 0\nboottime 10 500000000\n"), Some(1050));
    assert_eq!(parse_time_offset("boottime -1 0"), Some(-100));
    assert_eq!(parse_time_offset(""), None);
}
