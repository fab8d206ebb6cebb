//! Finds what a command left running.
//!
//! Owns: how a process is tied to the command that started it. Must not know: what becomes of it.
//! Invariant: only reads; a process older than the command is never named.

use std::collections::HashSet;
use std::ffi::OsString;
use std::fs::File;
use std::os::fd::AsRawFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{Pid, test_kill_process_group};

/// How long a process may outlive its command without being named: pipelines do not end all at once.
const TIME_TO_END: Duration = Duration::from_millis(25);

/// A process that outlives the command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leftover {
    /// Its process id.
    pub pid: i32,
    /// Its name, as the kernel keeps it (15 bytes).
    pub name: String,
    /// How we know that the command started it.
    pub tie: Tie,
    /// When it started, in clock ticks since boot.
    pub start_time: u64,
}

/// What ties a process to the command, strongest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tie {
    /// It holds an inherited lock, and keeps it.
    Lock,
    /// It is in the command's process group.
    Group,
    /// It carries every variable that was set for the command.
    Environment,
}

/// The start time of a process, in clock ticks since boot.
pub(super) fn start_time(pid: Pid) -> Option<u64> {
    Stat::read(&PathBuf::from(format!("/proc/{}", pid.as_raw_pid()))).map(|stat| stat.start_time)
}

/// What is left of the command whose group was `group`. Where `/proc` is not there, nothing is found.
pub(super) fn find(group: Pid, since: Option<u64>, set: &[(OsString, OsString)], inherited: &[File]) -> Vec<Leftover> {
    let Some(since) = since else { return Vec::new() };
    let search = Search { group: group.as_raw_pid(), since, marks: marks(set), locks: locks(inherited) };
    let first = search.look();
    if first.is_empty() && test_kill_process_group(group).is_err() {
        return first;
    }
    std::thread::sleep(TIME_TO_END);
    search.look()
}

struct Search {
    group: i32,
    since: u64,
    marks: Vec<Vec<u8>>,
    locks: HashSet<PathBuf>,
}

impl Search {
    fn look(&self) -> Vec<Leftover> {
        let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
        let numbered = processes.flatten().filter_map(|entry| {
            let pid: i32 = entry.file_name().to_str()?.parse().ok()?;
            Some((pid, entry.path()))
        });
        let own = rustix::process::getpid().as_raw_pid();
        numbered.filter(|(pid, _)| *pid != own).filter_map(|(pid, directory)| self.leftover(pid, &directory)).collect()
    }

    fn leftover(&self, pid: i32, directory: &Path) -> Option<Leftover> {
        let stat = Stat::read(directory).filter(|stat| stat.start_time >= self.since && !stat.is_over())?;
        let tie = if self.holds_lock(directory) {
            Tie::Lock
        } else if stat.group == self.group {
            Tie::Group
        } else if self.is_marked(directory) {
            Tie::Environment
        } else {
            return None;
        };
        Some(Leftover { pid, name: stat.name, tie, start_time: stat.start_time })
    }

    fn holds_lock(&self, directory: &Path) -> bool {
        if self.locks.is_empty() {
            return false;
        }
        // The names of open files are compared, never the files: a stat could hang on a dead mount.
        let Ok(open) = std::fs::read_dir(directory.join("fd")) else { return false };
        open.flatten().filter_map(|entry| std::fs::read_link(entry.path()).ok()).any(|path| self.locks.contains(&path))
    }

    fn is_marked(&self, directory: &Path) -> bool {
        if self.marks.is_empty() {
            return false;
        }
        let Ok(environment) = std::fs::read(directory.join("environ")) else { return false };
        let variables: HashSet<&[u8]> = environment.split(|&byte| byte == 0).collect();
        self.marks.iter().all(|mark| variables.contains(mark.as_slice()))
    }
}

fn marks(set: &[(OsString, OsString)]) -> Vec<Vec<u8>> {
    set.iter().map(|(name, value)| [name.as_bytes(), b"=", value.as_bytes()].concat()).collect()
}

fn locks(inherited: &[File]) -> HashSet<PathBuf> {
    inherited.iter().filter_map(|file| std::fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).ok()).collect()
}

/// The few fields of `/proc/<pid>/stat` that matter here.
#[derive(Debug, PartialEq, Eq)]
struct Stat {
    name: String,
    state: char,
    group: i32,
    start_time: u64,
}

impl Stat {
    fn read(directory: &Path) -> Option<Self> {
        Self::parse(&String::from_utf8_lossy(&std::fs::read(directory.join("stat")).ok()?))
    }

    fn parse(text: &str) -> Option<Self> {
        // The name stands in parentheses and may itself hold spaces and parentheses.
        let (start, end) = (text.find('(')?, text.rfind(')')?);
        let mut fields = text.get(end + 1..)?.split_ascii_whitespace();
        let state = fields.next()?.chars().next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let start_time = fields.nth(16)?.parse().ok()?;
        Some(Self { name: text.get(start + 1..end)?.to_owned(), state, group, start_time })
    }

    fn is_over(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

#[cfg(test)]
mod tests {
    use super::Stat;

    #[test]
    fn a_name_with_parentheses_and_spaces_is_read() {
        let text = "42 (a) b (c) S 1 77 42 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 987654 1 2 3";
        let expected = Stat { name: "a) b (c".to_owned(), state: 'S', group: 77, start_time: 987_654 };
        assert_eq!(Stat::parse(text), Some(expected));
        assert_eq!(Stat::parse("42 (a S"), None);
    }
}
