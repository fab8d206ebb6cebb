//! Takes turns, takes times, prints medians and ratios.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// One turn: prepares what is not measured, does the work, says how long that took or why it could not.
type Turn<'a> = Box<dyn FnMut(usize) -> Result<Duration, String> + 'a>;

/// Something that does the work.
pub(crate) struct Candidate<'a> {
    name: String,
    turn: Turn<'a>,
}

impl<'a> Candidate<'a> {
    /// One whose turn is one process; what `command` does before it returns is not measured.
    pub(crate) fn new(name: impl Into<String>, mut command: impl FnMut(usize) -> Command + 'a) -> Self {
        Self::timed(name, move |round| time(&mut command(round), &[0]))
    }

    /// One that measures itself.
    pub(crate) fn timed(name: impl Into<String>, turn: impl FnMut(usize) -> Result<Duration, String> + 'a) -> Self {
        Self { name: name.into(), turn: Box::new(turn) }
    }

    /// One that is only mentioned.
    pub(crate) fn absent(name: impl Into<String>, why: impl Into<String>) -> Self {
        let why = why.into();
        Self::timed(name, move |_| Err(why.clone()))
    }
}

/// The time of one whole process; another exit code than the expected ones is a refusal, told with its last line.
pub(crate) fn time(command: &mut Command, expected: &[i32]) -> Result<Duration, String> {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
    let start = Instant::now();
    let output = command.output().map_err(|error| error.to_string())?;
    let took = start.elapsed();
    if output.status.code().is_some_and(|code| expected.contains(&code)) {
        return Ok(took);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.lines().find(|line| !line.trim().is_empty()).unwrap_or_default();
    Err(format!("{}: {said}", output.status))
}

/// Lets the candidates take turns and prints a line for each; ratios are to the first.
pub(crate) fn side_by_side(title: &str, rounds: usize, mut candidates: Vec<Candidate<'_>>) {
    println!("\n{title} ({rounds} rounds)");
    let mut times: Vec<Result<Vec<Duration>, String>> = candidates.iter().map(|_| Ok(Vec::new())).collect();
    // The first round warms up.
    for round in 0..=rounds {
        for (candidate, times) in candidates.iter_mut().zip(&mut times) {
            let Ok(taken) = times else { continue };
            match (candidate.turn)(round) {
                Ok(took) if round > 0 => taken.push(took),
                Ok(_) => {}
                Err(why) => *times = Err(why),
            }
        }
    }
    let first = times.first().and_then(|times| times.as_ref().ok()).map(|times| median(times));
    for (candidate, times) in candidates.iter().zip(&times) {
        match times {
            Ok(times) => line(&candidate.name, times, first),
            Err(why) => println!("  {:<52} not there ({why})", candidate.name),
        }
    }
}

/// Prints median, fastest, and the ratio of the median to `to`.
pub(crate) fn line(name: &str, times: &[Duration], to: Option<Duration>) {
    let (middle, fastest) = (median(times), times.iter().min().copied().unwrap_or_default());
    let ratio = to
        .filter(|to| !to.is_zero())
        .map_or_else(String::new, |to| format!("  x {:.2}", middle.as_secs_f64() / to.as_secs_f64()));
    println!("  {name:<52} {:>10} median {:>10} fastest{ratio}", shown(middle), shown(fastest));
}

/// The middle one.
pub(crate) fn median(times: &[Duration]) -> Duration {
    let mut sorted = times.to_vec();
    sorted.sort();
    sorted.get(sorted.len() / 2).copied().unwrap_or_default()
}

fn shown(time: Duration) -> String {
    format!("{:.2} ms", time.as_secs_f64() * 1000.0)
}

/// The argument that makes this program run a command and print the most memory that it had resident.
pub(crate) const PEAK: &str = "--print-peak-memory";

/// The most memory that one run of the command had resident, in MiB. A process of its own asks for it, because the system only
/// tells the largest of all children; that process itself, about 3 MiB, is the least that can be told.
pub(crate) fn peak_memory(command: &Command) -> Result<f64, String> {
    let mut watcher = Command::new(std::env::current_exe().map_err(|error| error.to_string())?);
    watcher.arg(PEAK).arg(command.get_program()).args(command.get_args()).env_clear();
    watcher.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
    watcher.current_dir(command.get_current_dir().unwrap_or(std::path::Path::new(".")));
    let output = watcher.output().map_err(|error| error.to_string())?;
    String::from_utf8_lossy(&output.stdout).trim().parse().map_err(|_| "its memory was not told".to_owned())
}

/// Runs a command and prints its peak in MiB.
pub(crate) fn print_peak_memory(words: &[String]) {
    let Some((program, arguments)) = words.split_first() else { return };
    let quiet = || Stdio::null();
    let ran = Command::new(program).args(arguments).stdin(quiet()).stdout(quiet()).stderr(quiet()).status();
    if ran.is_ok()
        && let Ok(usage) = nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN)
    {
        println!("{}.{}", usage.max_rss() / 1024, usage.max_rss() % 1024 * 10 / 1024);
    }
}
