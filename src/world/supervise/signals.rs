//! Forwards signals to the command's process group, and reaps the command.
//!
//! Owns: the thread that receives signals, and who may be signalled when. Must not know: what the caller does about a signal.
//! Invariant: a signal is forwarded the moment it arrives, whatever the caller is busy with, and only between the command's start and
//! its reaping: both happen under one lock, so a reused process id is never hit.

use std::collections::VecDeque;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::sys::signal::{SigSet, Signal as Name};
use rustix::process::{Pid, Signal, WaitOptions, kill_process_group, waitpid};
use signal_hook::consts::{SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH};
use signal_hook::iterator::{Handle, Signals};

use super::Exit;

/// What goes on to the command's group wherever it comes from.
const FORWARDED: &[i32] = &[SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH];

/// The longest wait without a look at the child, should its signal ever get lost.
const LONGEST_WAIT: Duration = Duration::from_secs(5);

/// Whether this signal asks a process to end, so that its work is to be saved.
pub(super) fn asks_to_end(signal: i32) -> bool {
    matches!(signal, SIGINT | SIGTERM | SIGHUP)
}

/// What the thread has seen and, where that was to be done, done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// This signal came and has been sent on.
    Forwarded(i32),
    /// The child ended, stopped or went on.
    ChildChanged,
    /// We were told to go on.
    Continued,
}

/// What became of the child since the last look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Stopped(i32),
    Continued,
    Ended(Exit),
}

/// Where signals go.
enum Aim {
    /// The command is not there yet: kept for it.
    Kept(Vec<Signal>),
    Group(Pid),
    Gone,
}

pub(super) struct Relay {
    seen: Receiver<Seen>,
    set_aside: VecDeque<Seen>,
    aim: Arc<Mutex<Aim>>,
    handle: Handle,
    thread: Option<JoinHandle<()>>,
}

impl Relay {
    /// Starts to catch signals; `more` are forwarded besides the usual ones.
    pub(super) fn start(more: &[i32]) -> std::io::Result<Self> {
        let hangup_ignored = is_ignored(SIGHUP);
        // `nohup` means it: the command inherits that hangups are ignored, as long as we leave them ignored. An ignored SIGINT, by
        // contrast, only says that a shell put us in the background, where a cancelled job still has to save its work.
        let forwarded = FORWARDED.iter().chain(more).copied().filter(|&signal| signal != SIGHUP || !hangup_ignored);
        let caught: Vec<i32> = forwarded.chain([SIGCHLD, SIGCONT]).collect();
        let mut signals = Signals::new(&caught)?;
        let unblocked: SigSet = caught.iter().filter_map(|&signal| Name::try_from(signal).ok()).collect();
        unblocked.thread_unblock()?;
        let handle = signals.handle();
        let aim = Arc::new(Mutex::new(Aim::Kept(Vec::new())));
        let (sender, seen) = channel();
        let shared = Arc::clone(&aim);
        let thread = std::thread::Builder::new().name("signals".to_owned()).spawn(move || {
            for number in signals.forever() {
                let what = match number {
                    SIGCHLD => Seen::ChildChanged,
                    SIGCONT => Seen::Continued,
                    _ => {
                        forward(&mut locked(&shared), number);
                        Seen::Forwarded(number)
                    }
                };
                if sender.send(what).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { seen, set_aside: VecDeque::new(), aim, handle, thread: Some(thread) })
    }

    /// The command is there: what was kept for it is sent, and from now on it gets everything at once.
    pub(super) fn aim_at(&self, group: Pid) {
        let mut aim = locked(&self.aim);
        if let Aim::Kept(kept) = std::mem::replace(&mut *aim, Aim::Group(group)) {
            for signal in kept {
                send(group, signal);
            }
        }
    }

    /// The next thing seen, or nothing when `until` has come.
    pub(super) fn next(&mut self, until: Option<Instant>) -> Option<Seen> {
        if let Some(seen) = self.set_aside.pop_front() {
            return Some(seen);
        }
        let wait =
            until.map_or(LONGEST_WAIT, |until| until.saturating_duration_since(Instant::now()).min(LONGEST_WAIT));
        self.seen.recv_timeout(wait).ok()
    }

    /// Waits until we are told to go on; what else is seen is kept for [`Relay::next`].
    pub(super) fn wait_until_continued(&mut self, at_most: Duration) {
        let until = Instant::now() + at_most;
        loop {
            match self.seen.recv_timeout(until.saturating_duration_since(Instant::now())) {
                Ok(Seen::Continued) | Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => return,
                Ok(other) => self.set_aside.push_back(other),
            }
        }
    }

    /// A request to end that came too late to be forwarded, or within `grace` from now.
    pub(super) fn late_request_to_end(&mut self, grace: Duration) -> Option<i32> {
        let until = Instant::now() + grace;
        while let Some(seen) = self.next(Some(until)) {
            if let Seen::Forwarded(signal) = seen
                && asks_to_end(signal)
            {
                return Some(signal);
            }
        }
        None
    }

    /// What became of the child; once it has ended nothing is forwarded any more.
    pub(super) fn look_at(&self, pid: Pid) -> std::io::Result<Change> {
        let mut aim = locked(&self.aim);
        let options = WaitOptions::NOHANG | WaitOptions::UNTRACED | WaitOptions::CONTINUED;
        let Some((_, status)) = rustix::io::retry_on_intr(|| waitpid(Some(pid), options))? else {
            return Ok(Change::Nothing);
        };
        if let Some(signal) = status.stopping_signal() {
            return Ok(Change::Stopped(signal));
        }
        let exit = match (status.exit_status(), status.terminating_signal()) {
            (Some(code), _) => Exit::Code(code),
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) => return Ok(Change::Continued),
        };
        *aim = Aim::Gone;
        Ok(Change::Ended(exit))
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.handle.close();
        if let Some(thread) = self.thread.take() {
            // It only ends; a panic in it has nobody left to tell.
            drop(thread.join());
        }
    }
}

fn locked(aim: &Mutex<Aim>) -> MutexGuard<'_, Aim> {
    aim.lock().unwrap_or_else(PoisonError::into_inner)
}

fn forward(aim: &mut Aim, number: i32) {
    let Some(signal) = Signal::from_named_raw(number) else { return };
    match aim {
        Aim::Kept(kept) => kept.push(signal),
        Aim::Group(group) => send(*group, signal),
        Aim::Gone => {}
    }
}

/// Sends to all of the group; one that has no member left is past caring.
pub(super) fn send(group: Pid, signal: Signal) {
    let _ = kill_process_group(group, signal);
}

/// Whether this signal was being ignored before we caught any.
fn is_ignored(signal: i32) -> bool {
    let Ok(status) = std::fs::read_to_string("/proc/self/status") else { return false };
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let mask = mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).unwrap_or_default();
    mask & (1 << (signal - 1)) != 0
}
