//! The command line: arguments in, one call into `app`, the answer rendered, an exit code.
//!
//! The only room that prints and knows exit codes. stdout is the answer, stderr is narration.

mod answer;
mod args;
mod command;
mod exit;
mod pager;
mod parse;
mod render;
mod repository;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use clap::error::ErrorKind;

use self::answer::Outcome;
use self::args::Cli;
use self::exit::Exit;
use crate::app::{Failure, FailureKind};

/// The most characters of an error's message.
const LONGEST_MESSAGE: usize = 1_000;

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if asks_for_version_only() {
        print(concat!("git-tether ", env!("CARGO_PKG_VERSION"), "\n").as_bytes());
        return Exit::Done.into();
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return explain_usage(&error).into(),
    };
    let json = cli.json;
    let exit_of = cli.command.exit_of_refusal();
    match args::dispatch(cli) {
        Ok(outcome) => answer(&outcome, json).into(),
        Err(failure) => refuse(&failure, json, exit_of).into(),
    }
}

/// Programs ask for the version to see whether we are there at all: that needs no parser of forty commands.
fn asks_for_version_only() -> bool {
    let mut arguments = std::env::args_os().skip(1);
    let first = arguments.next().is_some_and(|word| word == "--version" || word == "-V");
    first && arguments.next().is_none()
}

fn answer(outcome: &Outcome, json: Option<args::JsonForm>) -> Exit {
    for line in &outcome.narration {
        narrate(line);
    }
    let text = match json {
        Some(_) => render::json::answer(&outcome.answer),
        None => render::human::answer(&outcome.answer),
    };
    let paged = json.is_none() && pager::show(&text, outcome.pager.as_deref());
    if !paged {
        print(&text);
    }
    outcome.exit
}

/// Writes the answer; a reader that has gone away has seen enough.
pub(crate) fn print(text: &[u8]) {
    let mut stdout = std::io::stdout().lock();
    let _ = stdout.write_all(text).and_then(|()| stdout.flush());
}

/// Says something beside the answer.
pub(crate) fn narrate(line: &str) {
    let mut stderr = std::io::stderr().lock();
    let _ = writeln!(stderr, "{}", render::human::safe(line));
}

fn refuse(failure: &Failure, json: Option<args::JsonForm>, exit_of: fn(FailureKind) -> Exit) -> Exit {
    let message = shortened(&failure.message);
    // One line each, whatever the text of a record or a path holds.
    narrate(&render::human::line(&format!("fatal: {message}")));
    for hint in &failure.hints {
        narrate(&render::human::line(&format!("hint: {hint}")));
    }
    if json.is_some() {
        print(&render::json::error(failure.code, &message, &failure.hints));
    }
    exit_of(failure.kind)
}

/// What a record holds may be of any length; a message is for reading.
fn shortened(message: &str) -> String {
    match message.char_indices().nth(LONGEST_MESSAGE) {
        Some((end, _)) => format!("{}…", &message[..end]),
        None => message.to_owned(),
    }
}

/// Help and version go to stdout; anything else is a usage error, said on stderr and, where JSON was asked for, on stdout.
fn explain_usage(error: &clap::Error) -> Exit {
    if matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion) {
        print(error.render().to_string().as_bytes());
        return Exit::Done;
    }
    let text = error.render().to_string();
    let mut stderr = std::io::stderr().lock();
    let _ = stderr.write_all(text.as_bytes());
    let asked_for_json = std::env::args().take_while(|word| word != "--").any(|word| word.starts_with("--json"));
    if asked_for_json {
        let message = text.lines().next().unwrap_or_default().trim_start_matches("error: ").to_owned();
        print(&render::json::error("usage", &message, &["`-h` after a command shows what it takes".to_owned()]));
    }
    Exit::Usage
}
