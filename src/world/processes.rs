//! Processes of this machine, by fingerprint.
//!
//! Owns: what a fingerprint is made of, and what can be seen of the process behind one. Must not know: sessions, or what a verdict
//! is. Invariant: a process counts as gone only if its pid was looked for in its own pid namespace, on its machine, in its boot,
//! through a `/proc` that is our own; anything else is said as what it is.

use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::host::Host;

/// The unit of start times in `/proc`: Linux shows it as 100 on every machine, whatever its kernel counts in.
const TICKS_PER_SECOND: i64 = 100;

/// What tells one process from every other, past and present.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    /// The machine's id.
    pub host: String,
    /// The id of its boot.
    pub boot: Option<String>,
    /// The inode of its pid namespace, as a number.
    pub pid_namespace: Option<u64>,
    /// The process id in that namespace.
    pub pid: u32,
    /// When it started, in clock ticks since boot, with a time namespace's offset taken off.
    pub start_time: u64,
}

/// What was seen of a fingerprint's process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observed {
    /// It runs or sleeps.
    Running,
    /// It is stopped, by a signal or a tracer.
    Stopped,
    /// It has ended, and nobody has waited for it.
    Zombie,
    /// No process has its pid.
    Gone,
    /// Another process has its pid.
    Reused,
    /// The machine has been started anew since.
    OtherBoot,
    /// It lives in a pid namespace that cannot be looked into from here.
    OtherNamespace,
    /// It belongs to another machine.
    OtherHost,
    /// It cannot be looked at: no permission, or no `/proc` of our own.
    NoPermission,
}

/// Why no fingerprint could be taken.
#[derive(Debug, thiserror::Error)]
pub enum FingerprintError {
    /// There is no such process.
    #[error("there is no process {pid}")]
    NoSuchProcess {
        /// The pid.
        pid: u32,
    },
    /// `/proc` did not tell.
    #[error("could not look at process {pid}")]
    Look {
        /// The pid.
        pid: u32,
        /// What the system said.
        source: std::io::Error,
    },
}

/// Where this process looks from.
#[derive(Debug, Clone)]
pub struct Processes {
    host: Host,
    pid_namespace: Option<u64>,
    view: View,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum View {
    /// `/proc` shows our own pid namespace.
    Own,
    /// `/proc` is missing or shows another namespace: pids in it mean something else.
    Foreign,
}

/// Who stands in a directory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Standing {
    /// Processes whose current directory is inside.
    pub inside: Vec<Occupant>,
    /// How many processes could not be asked.
    pub unreadable: usize,
}

/// A process in a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Occupant {
    /// Its pid.
    pub pid: u32,
    /// The program's name, as the system shortens it.
    pub name: String,
    /// Where it stands.
    pub directory: PathBuf,
}

struct Stat {
    state: char,
    start_time: u64,
}

impl Processes {
    /// The view from this process.
    pub fn of_this_machine(host: Host) -> Self {
        let shown = std::fs::read_link("/proc/self").ok().and_then(|link| link.to_str()?.parse::<u32>().ok());
        let view = if shown == Some(std::process::id()) { View::Own } else { View::Foreign };
        Self { host, pid_namespace: read_namespace("/proc/self/ns/pid"), view }
    }

    /// The machine looked at.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// The fingerprint of a live process of our pid namespace. A zombie has one too; [`Processes::observe`] tells.
    pub fn fingerprint(&self, pid: u32) -> Result<Fingerprint, FingerprintError> {
        let stat = read_stat(pid).map_err(|source| match source.kind() {
            ErrorKind::NotFound if !answers_to_signals(pid) => FingerprintError::NoSuchProcess { pid },
            _ => FingerprintError::Look { pid, source },
        })?;
        let Host { id, boot } = self.host.clone();
        Ok(Fingerprint { host: id, boot, pid_namespace: self.pid_namespace, pid, start_time: stat.start_time })
    }

    /// What is seen of a recorded process now.
    pub fn observe(&self, recorded: &Fingerprint) -> Observed {
        if !self.host.is_same_machine(&recorded.host, recorded.boot.as_deref()) {
            return Observed::OtherHost;
        }
        if recorded.boot.is_some() && self.host.boot.is_some() && recorded.boot != self.host.boot {
            return Observed::OtherBoot;
        }
        if recorded.pid_namespace != self.pid_namespace {
            return Observed::OtherNamespace;
        }
        if self.view == View::Foreign {
            return Observed::NoPermission;
        }
        match read_stat(recorded.pid) {
            Ok(stat) if stat.start_time != recorded.start_time => Observed::Reused,
            Ok(Stat { state: 'Z' | 'X' | 'x', .. }) => Observed::Zombie,
            Ok(Stat { state: 'T' | 't', .. }) => Observed::Stopped,
            Ok(_) => Observed::Running,
            // With hidepid, /proc keeps silent about processes of others; a signal's permission check does not.
            Err(error) if is_absence(&error) && !answers_to_signals(recorded.pid) => Observed::Gone,
            Err(_) => Observed::NoPermission,
        }
    }

    /// All live processes whose current directory is `directory` or below it; `directory` is resolved.
    pub fn find_standing_in(&self, directory: &Path) -> Standing {
        let mut standing = Standing::default();
        for pid in list_pids() {
            match std::fs::read_link(format!("/proc/{pid}/cwd")) {
                Ok(place) if place.starts_with(directory) => {
                    standing.inside.push(Occupant { pid, name: read_name(pid), directory: place });
                }
                Ok(_) => {}
                // Kernel threads and zombies have none, and a process may end while we look.
                Err(error) if is_absence(&error) => {}
                Err(_) => standing.unreadable += 1,
            }
        }
        standing
    }
}

/// The processes that have the file with this device and inode open, ourselves left out.
pub(super) fn find_holders(device: u64, inode: u64) -> Vec<u32> {
    let own = std::process::id();
    let holds = |pid: &u32| {
        let Ok(descriptors) = std::fs::read_dir(format!("/proc/{pid}/fd")) else { return false };
        descriptors.flatten().any(|descriptor| {
            std::fs::metadata(descriptor.path()).is_ok_and(|found| found.ino() == inode && found.dev() == device)
        })
    };
    list_pids().filter(|pid| *pid != own).filter(holds).collect()
}

fn list_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

fn read_name(pid: u32) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/comm")).map(|name| name.trim_end().to_owned()).unwrap_or_default()
}

fn is_absence(error: &std::io::Error) -> bool {
    error.kind() == ErrorKind::NotFound || error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}

fn answers_to_signals(pid: u32) -> bool {
    let Some(pid) = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw) else { return false };
    match rustix::process::test_kill_process(pid) {
        Ok(()) => true,
        Err(error) => error == rustix::io::Errno::PERM,
    }
}

fn read_stat(pid: u32) -> std::io::Result<Stat> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let malformed = || std::io::Error::new(ErrorKind::InvalidData, format!("/proc/{pid}/stat has another form"));
    let stat = parse_stat(&text).ok_or_else(malformed)?;
    Ok(Stat { start_time: stat.start_time.saturating_add_signed(-read_time_offset()), ..stat })
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The program's name stands in parentheses and may itself hold spaces and parentheses.
    let (_, after_name) = text.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace();
    let state = fields.next()?.chars().next()?;
    let start_time = fields.nth(18)?.parse().ok()?;
    Some(Stat { state, start_time })
}

/// By how many ticks this process's time namespace moves the start times that it is shown.
fn read_time_offset() -> i64 {
    let text = std::fs::read_to_string("/proc/self/timens_offsets").unwrap_or_default();
    parse_time_offset(&text).unwrap_or(0)
}

fn parse_time_offset(text: &str) -> Option<i64> {
    let line = text.lines().find(|line| line.starts_with("boottime"))?;
    let mut fields = line.split_ascii_whitespace().skip(1);
    let seconds: i64 = fields.next()?.parse().ok()?;
    let nanoseconds: i64 = fields.next()?.parse().ok()?;
    seconds.checked_mul(TICKS_PER_SECOND)?.checked_add(nanoseconds.checked_mul(TICKS_PER_SECOND)? / 1_000_000_000)
}

fn read_namespace(path: &str) -> Option<u64> {
    let link = std::fs::read_link(path).ok()?;
    link.to_str()?.split_once('[')?.1.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
#[path = "processes_tests.rs"]
mod tests;
