//! Job control: lends the terminal to the command, and stops with it.
//!
//! Owns: who is the terminal's foreground group. Must not know: what runs, or why.
//! Invariant: the terminal is taken only from our own group or from one that is gone, so a shell that has it keeps it; we stop only by
//! signals that an orphaned group ignores, so nobody sleeps without somebody who could wake them.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::OpenOptionsExt as _;
use std::time::Duration;

use nix::sys::signal::{SigSet, SigmaskHow, Signal as Name};
use rustix::process::{Pid, Signal, getpgrp, kill_current_process_group, test_kill_process_group};
use rustix::termios::{tcgetpgrp, tcsetpgrp};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTSTP, SIGTTIN, SIGTTOU};

use super::Exit;
use super::signals::{Relay, send};

/// How long we may take to fall asleep. Somebody in an orphaned group does not, and goes on after this.
const TIME_TO_STOP: Duration = Duration::from_millis(200);

/// When the command gets the terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Lending {
    /// At once.
    AtOnce,
    /// When it asks, by reading from it or setting it up. So in a pipeline: a pager next to us needs the terminal too, and both it and
    /// we hear of Ctrl-C (which is forwarded) and Ctrl-Z.
    OnDemand,
}

/// Who is in the foreground.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Foreground {
    Us,
    Command,
    /// A group that has no member any more.
    Nobody,
    /// The shell, or another of its jobs, or one of the command's.
    Other,
}

/// Whether the command had the terminal when it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HadTheTerminal {
    Yes,
    No,
}

impl HadTheTerminal {
    /// The signal that only the command got, because the terminal sent it, and that ended it.
    pub(super) fn interruption(self, exit: Exit) -> Option<i32> {
        match (self, exit) {
            (Self::Yes, Exit::Signal(SIGHUP)) => Some(SIGHUP),
            (Self::Yes, Exit::Signal(SIGINT) | Exit::Code(130)) => Some(SIGINT),
            _ => None,
        }
    }
}

/// Our part in the terminal's job control; does nothing where there is no terminal.
pub(super) struct JobControl(Option<Lent>);

struct Lent {
    terminal: File,
    own: Pid,
    lending: Lending,
}

impl JobControl {
    /// That of the controlling terminal, if there is one.
    pub(super) fn find() -> Self {
        let no_controlling = i32::try_from(rustix::fs::OFlags::NOCTTY.bits()).unwrap_or_default();
        let terminal = OpenOptions::new().read(true).write(true).custom_flags(no_controlling).open("/dev/tty");
        let lent = terminal.ok().map(|terminal| Lent { terminal, own: getpgrp(), lending: lending() });
        Self(lent.filter(|lent| tcgetpgrp(&lent.terminal).is_ok()))
    }

    /// None.
    pub(super) fn absent() -> Self {
        Self(None)
    }

    /// What the command must hear of besides the usual, because the terminal sends it to us.
    pub(super) fn signals_to_forward(&self) -> &'static [i32] {
        match &self.0 {
            Some(Lent { lending: Lending::OnDemand, .. }) => &[SIGTSTP],
            _ => &[],
        }
    }

    pub(super) fn command_started(&self, group: Pid) {
        if let Some(lent) = &self.0
            && lent.lending == Lending::AtOnce
        {
            lent.hand_over(group);
        }
    }

    /// The command has stopped: it gets what it stopped for, or we stop too until the shell says go on.
    pub(super) fn command_stopped(&mut self, group: Pid, signal: i32, relay: &mut Relay) {
        // Without a terminal whoever stopped it will let it go on: nobody sees that we would sleep.
        let Some(lent) = &mut self.0 else { return };
        let wants_terminal = matches!(signal, SIGTTIN | SIGTTOU);
        match lent.foreground(group) {
            // It asked before it had been handed over.
            Foreground::Command if wants_terminal => {}
            Foreground::Us if wants_terminal => {
                lent.lending = Lending::AtOnce;
                lent.hand_over(group);
            }
            _ => {
                lent.take_back(group);
                lent.stop(relay);
                lent.resume(group);
            }
        }
        send(group, Signal::CONT);
    }

    /// We were told to go on, after a stop that was ours alone.
    pub(super) fn resumed(&self, group: Pid) {
        if let Some(lent) = &self.0 {
            lent.resume(group);
        }
        send(group, Signal::CONT);
    }

    /// Takes the terminal back.
    pub(super) fn command_ended(&self, group: Pid) -> HadTheTerminal {
        let Some(lent) = &self.0 else { return HadTheTerminal::No };
        let had = match lent.foreground(group) {
            Foreground::Command | Foreground::Nobody => HadTheTerminal::Yes,
            Foreground::Us | Foreground::Other => HadTheTerminal::No,
        };
        lent.take_back(group);
        had
    }
}

impl Lent {
    fn foreground(&self, group: Pid) -> Foreground {
        match tcgetpgrp(&self.terminal) {
            Ok(holder) if holder == self.own => Foreground::Us,
            Ok(holder) if holder == group => Foreground::Command,
            Ok(holder) if test_kill_process_group(holder) == Err(rustix::io::Errno::SRCH) => Foreground::Nobody,
            _ => Foreground::Other,
        }
    }

    fn hand_over(&self, group: Pid) {
        if self.foreground(group) == Foreground::Us {
            self.put_in_foreground(group);
        }
    }

    fn take_back(&self, group: Pid) {
        if matches!(self.foreground(group), Foreground::Command | Foreground::Nobody) {
            self.put_in_foreground(self.own);
        }
    }

    fn resume(&self, group: Pid) {
        if self.lending == Lending::AtOnce {
            self.hand_over(group);
        }
    }

    /// Stops our whole group: git, which started us, and our neighbours in a pipeline. Comes back when we go on.
    fn stop(&self, relay: &mut Relay) {
        // Where SIGTSTP is forwarded it no longer stops us.
        let signal = match self.lending {
            Lending::AtOnce => Signal::TSTP,
            Lending::OnDemand => Signal::TTIN,
        };
        if kill_current_process_group(signal).is_ok() {
            relay.wait_until_continued(TIME_TO_STOP);
        }
    }

    fn put_in_foreground(&self, group: Pid) {
        // From the background this would stop us, unless SIGTTOU is blocked.
        let blocked = SigSet::from(Name::SIGTTOU).thread_swap_mask(SigmaskHow::SIG_BLOCK);
        // A terminal that has hung up takes no orders, and needs none.
        let _ = tcsetpgrp(&self.terminal, group);
        if let Ok(before) = blocked {
            let _ = before.thread_set_mask();
        }
    }
}

fn lending() -> Lending {
    let output = rustix::fs::fstat(std::io::stdout());
    match output.map(|output| rustix::fs::FileType::from_raw_mode(output.st_mode)) {
        Ok(rustix::fs::FileType::Fifo) => Lending::OnDemand,
        _ => Lending::AtOnce,
    }
}
