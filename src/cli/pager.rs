//! Long answers go through a pager, as git's do: only to a terminal, and through the pager that git would take.
//!
//! Invariant: a pager that cannot be started, or that is left early, is no error; the answer is printed then, or was seen enough of.

use std::io::{IsTerminal, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::app::Tether;

/// The pager for an answer of this repository; `None` where it is printed.
pub(crate) fn choose(tether: &Tether) -> Option<String> {
    let on_terminal = std::io::stdout().is_terminal();
    on_terminal.then(|| tether.pager()).flatten().filter(|pager| !pager.is_empty() && pager != "cat")
}

/// Shows `text` through `pager`; `false` if it has to be printed instead.
pub(crate) fn show(text: &[u8], pager: Option<&str>) -> bool {
    let Some(pager) = pager else { return false };
    // Ctrl-C is the pager's: ending before it does would leave it alone on the terminal.
    let _ = signal_hook::flag::register(signal_hook::consts::SIGINT, Arc::new(AtomicBool::new(false)));
    let Ok(mut child) = start(pager) else { return false };
    if let Some(mut stdin) = child.stdin.take() {
        let _ = stdin.write_all(text);
    }
    // 126 and 127: the shell found no such pager, and nothing was shown.
    !matches!(child.wait().map(|status| status.code()), Ok(Some(126 | 127)) | Err(_))
}

#[allow(clippy::disallowed_methods, reason = "the home of starting a pager")]
fn start(pager: &str) -> std::io::Result<std::process::Child> {
    let mut command = Command::new("sh");
    command.arg("-c").arg(pager).stdin(Stdio::piped());
    for (name, value) in [("LESS", "FRX"), ("LV", "-c")] {
        if std::env::var_os(name).is_none() {
            command.env(name, value);
        }
    }
    command.spawn()
}
