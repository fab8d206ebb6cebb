//! Runs one command under supervision, from its start to its end.
//!
//! Owns: the start of the command, the loop that waits for it, what of its end counts as an interruption. Must not know: runs, tasks,
//! records, or what is done when a signal arrives ([`Events`] says that).
//! Invariant: standard input, output and error are the command's, untouched unless [`Streams::Aside`] says otherwise; a signal that asks us to end has reached the command's
//! process group before anything else is done about it; nobody signals a process group whose leader has been reaped.
//!
//! After the first call the signals named in `signals` no longer end this process, even once the command has ended: what follows
//! (recording how it went) is not cut short. A caller with more to run looks at [`Ended::interrupted_by`].

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use rustix::process::Pid;

mod error;
mod exit;
pub mod hook;
mod leftovers;
mod setup;
mod signals;
mod terminal;
#[cfg(test)]
mod tests;

pub use error::SuperviseError;
pub use exit::Exit;
pub use leftovers::{Leftover, Tie};
pub use setup::run_setup;

use signals::{Change, Relay, Seen};
use terminal::JobControl;

/// How long a signal that ended the command may take to reach us too, when somebody signals a whole tree of processes.
const SAME_SIGNAL_GRACE: Duration = Duration::from_millis(30);

/// Held while a command starts: the locks that it inherits must not slip into the command of another thread.
static STARTING: Mutex<()> = Mutex::new(());

/// What is to be run, and how.
#[derive(Debug)]
pub struct Supervised<'a> {
    /// The argument vector; the first word is looked up in `PATH` unless it holds a slash (then it is relative to `directory`).
    pub command: Vec<OsString>,
    /// Where it runs.
    pub directory: PathBuf,
    /// Variables that it gets on top of ours. They also mark what it leaves behind: see [`Tie::Environment`].
    pub set: Vec<(OsString, OsString)>,
    /// Variables of ours that it does not get.
    pub removed: Vec<OsString>,
    /// Locked files that it inherits, and its children after it: the lock lasts until the last of them has ended.
    pub inherited: &'a [File],
    /// How often [`Events::tick`] is called; never if absent.
    pub every: Option<Duration>,
    /// Whether it may have the terminal.
    pub terminal: Terminal,
    /// What its standard input, output and error are.
    pub streams: Streams,
}

/// What a command reads from and writes to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Streams {
    /// Ours, untouched.
    Ours,
    /// Nothing to read, and all that it says goes to our standard error: our standard output is an answer of our own.
    Aside,
}

/// Whose the terminal is while the command runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Terminal {
    /// The command's, if we are in the terminal's foreground: Ctrl-C and Ctrl-Z are for it.
    HandOver,
    /// It stays where it is (several commands run at once, say).
    LeaveAlone,
}

/// What the caller does while the command runs. All are called on the calling thread; signals are forwarded meanwhile.
pub trait Events {
    /// The command runs as `pid`, leader of its own process group; `start_time` is in clock ticks since boot, if it could be read.
    fn spawned(&mut self, pid: i32, start_time: Option<u64>);
    /// The first SIGINT, SIGTERM or SIGHUP came and has been forwarded; the command may well still be running. Called at most once.
    fn interrupted(&mut self, signal: i32);
    /// Another `every` has passed.
    fn tick(&mut self);
}

/// How it ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// The command's own end.
    pub exit: Exit,
    /// The first signal that asked for the end: one sent to us, or Ctrl-C on the terminal where that ended the command.
    pub interrupted_by: Option<i32>,
    /// Processes that the command started and that outlive it.
    pub left_behind: Vec<Leftover>,
}

/// What a shell's `$?` would be after this end.
pub fn exit_code(ended: &Ended) -> i32 {
    ended.exit.code()
}

/// Runs the command to its end.
///
/// A command that ends is `Ok`, however it ended; an error means that it did not start (or, for [`SuperviseError::Wait`], that
/// it was lost sight of).
pub fn supervise(supervised: &Supervised<'_>, events: &mut dyn Events) -> Result<Ended, SuperviseError> {
    let program = supervised.command.first().ok_or(SuperviseError::NoCommand)?;
    if !supervised.directory.is_dir() {
        let (program, directory) = (program.clone(), supervised.directory.clone());
        return Err(SuperviseError::Directory { program, directory });
    }
    let job_control = match supervised.terminal {
        Terminal::HandOver => JobControl::find(),
        Terminal::LeaveAlone => JobControl::absent(),
    };
    let relay = Relay::start(job_control.signals_to_forward()).map_err(|source| SuperviseError::Signals { source })?;
    let pid = start(program, supervised)?;
    let mut watch = Watch { pid, relay, job_control, interrupted_by: None };
    watch.job_control.command_started(pid);
    watch.relay.aim_at(pid);
    let start_time = leftovers::start_time(pid);
    events.spawned(pid.as_raw_pid(), start_time);
    let exit = watch
        .until_the_end(supervised.every, events)
        .map_err(|source| SuperviseError::Wait { pid: pid.as_raw_pid(), source })?;
    let interrupted_by = watch.settle(exit);
    let left_behind = leftovers::find(pid, start_time, &supervised.set, supervised.inherited);
    Ok(Ended { exit, interrupted_by, left_behind })
}

/// A running command and what is needed to look after it.
struct Watch {
    pid: Pid,
    relay: Relay,
    job_control: JobControl,
    interrupted_by: Option<i32>,
}

impl Watch {
    fn until_the_end(&mut self, every: Option<Duration>, events: &mut dyn Events) -> std::io::Result<Exit> {
        let mut next_tick = every.map(|every| Instant::now() + every);
        loop {
            // Looked at first and after every event: a child that ended before its signal could be seen is not waited for in vain.
            if let Some(exit) = self.look()? {
                return Ok(exit);
            }
            match self.relay.next(next_tick) {
                Some(Seen::Forwarded(signal)) => self.interrupted(signal, events),
                Some(Seen::Continued) => self.job_control.resumed(self.pid),
                Some(Seen::ChildChanged) | None => {}
            }
            if let (Some(every), Some(due)) = (every, next_tick)
                && Instant::now() >= due
            {
                events.tick();
                next_tick = Some(Instant::now() + every);
            }
        }
    }

    fn look(&mut self) -> std::io::Result<Option<Exit>> {
        loop {
            match self.relay.look_at(self.pid)? {
                Change::Nothing => return Ok(None),
                Change::Continued => {}
                Change::Stopped(signal) => self.job_control.command_stopped(self.pid, signal, &mut self.relay),
                Change::Ended(exit) => return Ok(Some(exit)),
            }
        }
    }

    fn interrupted(&mut self, signal: i32, events: &mut dyn Events) {
        if signals::asks_to_end(signal) && self.interrupted_by.is_none() {
            self.interrupted_by = Some(signal);
            events.interrupted(signal);
        }
    }

    /// Takes the terminal back and says what signal, if any, brought the end about.
    fn settle(mut self, exit: Exit) -> Option<i32> {
        let had_the_terminal = self.job_control.command_ended(self.pid);
        if self.interrupted_by.is_none() {
            let grace =
                if exit.signal().is_some_and(signals::asks_to_end) { SAME_SIGNAL_GRACE } else { Duration::ZERO };
            self.interrupted_by = self.relay.late_request_to_end(grace);
        }
        self.interrupted_by.or_else(|| had_the_terminal.interruption(exit))
    }
}

fn start(program: &OsStr, supervised: &Supervised<'_>) -> Result<Pid, SuperviseError> {
    let _one_at_a_time = STARTING.lock().unwrap_or_else(PoisonError::into_inner);
    // A duplicate that is not closed on exec: it exists only until the command has been started, and the caller's file stays as
    // it is. A git that another thread starts in this moment may hold it too, for as long as that git runs.
    let _inheritable = supervised
        .inherited
        .iter()
        .map(rustix::io::dup)
        .collect::<Result<Vec<OwnedFd>, _>>()
        .map_err(|error| SuperviseError::Inherit { source: error.into() })?;
    match spawn(program, &supervised.command[1..], supervised) {
        Err(error) if error.raw_os_error() == Some(rustix::io::Errno::NOEXEC.raw_os_error()) => {
            start_as_script(program, supervised, error)
        }
        started => started.map_err(|source| SuperviseError::starting(program, source)),
    }
}

/// A script without `#!` is run by sh, as every shell and `execvp` do; what is no text is refused by sh likewise.
fn start_as_script(
    program: &OsStr,
    supervised: &Supervised<'_>,
    refused: std::io::Error,
) -> Result<Pid, SuperviseError> {
    let Some(script) = find_program(program, supervised) else {
        return Err(SuperviseError::starting(program, refused));
    };
    let mut arguments = vec![script.into_os_string()];
    arguments.extend(supervised.command[1..].iter().cloned());
    spawn(OsStr::new("/bin/sh"), &arguments, supervised).map_err(|source| SuperviseError::starting(program, source))
}

fn find_program(program: &OsStr, supervised: &Supervised<'_>) -> Option<PathBuf> {
    if Path::new(program).components().count() > 1 {
        return Some(PathBuf::from(program));
    }
    let set = supervised.set.iter().rev().find(|(name, _)| name == "PATH").map(|(_, value)| value.clone());
    let path = set.or_else(|| std::env::var_os("PATH"))?;
    let found = |directory: &PathBuf| rustix::fs::access(directory.join(program), rustix::fs::Access::EXEC_OK).is_ok();
    std::env::split_paths(&path).find(found).map(|directory| directory.join(program))
}

#[allow(clippy::disallowed_methods, reason = "the home of starting a task's command")]
fn spawn(program: &OsStr, arguments: &[OsString], supervised: &Supervised<'_>) -> std::io::Result<Pid> {
    use std::os::unix::process::CommandExt as _;

    let mut command = Command::new(program);
    command.args(arguments).current_dir(&supervised.directory).process_group(0);
    if supervised.streams == Streams::Aside {
        let aside = rustix::io::dup(std::io::stderr())?;
        command.stdin(Stdio::null()).stdout(Stdio::from(aside));
    }
    for name in &supervised.removed {
        command.env_remove(name);
    }
    command.envs(supervised.set.iter().map(|(name, value)| (name, value)));
    // The child is reaped by `Relay::look_at`, never through std's handle, which would not tell of a stop.
    let child = command.spawn()?;
    Ok(Pid::from_child(&child))
}
