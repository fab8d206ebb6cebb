//! Tells a program something, without ever depending on it.
//!
//! Owns: its start, its standard input, and its end if it takes too long. Must not know what it is told.
//! Invariant: whatever the program does, the caller goes on within the patience that it has.

use std::io::Write;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// How often somebody who waits for the program's end looks.
const PAUSE: Duration = Duration::from_millis(2);

/// How telling went.
#[derive(Debug)]
pub enum Told {
    /// It ended with 0.
    Heard,
    /// It ended otherwise.
    Refused(std::process::ExitStatus),
    /// It took too long, and was ended.
    TooSlow,
    /// It could not be started or waited for.
    Failed(std::io::Error),
}

/// Runs `program` with `sh -c` in `directory`, hands it `input` on its standard input, and waits at most `patience` for its end.
/// What it prints goes nowhere.
pub fn tell(program: &str, directory: &Path, input: &[u8], removed: &[&str], patience: Duration) -> Told {
    try_to_tell(program, directory, input, removed, patience).unwrap_or_else(Told::Failed)
}

#[allow(clippy::disallowed_methods, reason = "the home of starting commands that are not git")]
fn try_to_tell(
    program: &str,
    directory: &Path,
    input: &[u8],
    removed: &[&str],
    patience: Duration,
) -> std::io::Result<Told> {
    let mut command = Command::new("sh");
    command.args(["-c", program]).current_dir(directory).process_group(0);
    for name in removed {
        command.env_remove(name);
    }
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn()?;
    let stdin = child.stdin.take();
    let input = input.to_vec();
    // A program that does not read must not hold us: the pipe breaks when it is ended.
    let feeder = std::thread::spawn(move || stdin.map(|mut stdin| stdin.write_all(&input)));
    let ends = Instant::now() + patience;
    let told = loop {
        match child.try_wait()? {
            Some(status) if status.success() => break Told::Heard,
            Some(status) => break Told::Refused(status),
            None if Instant::now() < ends => std::thread::sleep(PAUSE),
            None => break Told::TooSlow,
        }
    };
    if matches!(told, Told::TooSlow) {
        let group = i32::try_from(child.id()).ok().and_then(rustix::process::Pid::from_raw);
        if let Some(group) = group {
            let _ = rustix::process::kill_process_group(group, rustix::process::Signal::KILL);
        }
        child.wait()?;
    }
    if feeder.is_finished() || matches!(told, Told::TooSlow) {
        let _ = feeder.join();
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(program: &str) -> Told {
        tell(program, Path::new("/"), b"{}\n", &[], Duration::from_millis(300))
    }

    #[test]
    fn a_program_that_fails_hangs_or_is_not_there_is_no_obstacle() {
        assert!(matches!(told("cat >/dev/null"), Told::Heard));
        assert!(matches!(told("exit 3"), Told::Refused(_)));
        assert!(matches!(told("no-such-program-here"), Told::Refused(_)));
        let began = Instant::now();
        assert!(matches!(told("sleep 60 & sleep 60"), Told::TooSlow));
        assert!(began.elapsed() < Duration::from_secs(30));
    }
}
