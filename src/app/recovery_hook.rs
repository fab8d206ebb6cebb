//! The program that hears of each environment recovery.
//!
//! Owns: which program it is, and how long it may take. Must not know: what it is told. Invariant: it can neither break a recovery nor hold
//! it up.

use std::time::Duration;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::git::TIES_TO_A_REPOSITORY;
use crate::git::settings::RECOVERY_HOOK;
use crate::world::supervise::hook::{Told, tell};

/// How long the program in `tether.recoveryHook` may take for one event.
const HOOK_PATIENCE: Duration = Duration::from_secs(2);

impl Tether {
    /// Tells the program in `tether.recoveryHook` of something, if there is one; answers with what is wrong with it. It can neither
    /// break a recovery nor hold it up.
    pub fn tell_recovery_hook(&self, line: &[u8]) -> Result<Option<String>, Failure> {
        let Some(program) = self.repository().settings().read(&RECOVERY_HOOK)? else { return Ok(None) };
        let directory = self.repository().workdir().unwrap_or_else(|| self.repository().common_dir());
        let wrong = match tell(&program, directory, line, TIES_TO_A_REPOSITORY, HOOK_PATIENCE) {
            Told::Heard => return Ok(None),
            Told::Refused(status) => format!("it ended with {status}"),
            Told::TooSlow => format!("it took longer than {} s", HOOK_PATIENCE.as_secs()),
            Told::Failed(error) => error.to_string(),
        };
        Ok(Some(format!("tether.recoveryHook `{program}`: {wrong}")))
    }
}
