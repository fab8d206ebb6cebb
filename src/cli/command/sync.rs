//! `git tether sync`, and what `push` and `pull` share with it.

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::app::Failure;
use crate::app::sync::{Direction, Refused, Synced, Urgency, Waiting};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::repository;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The remote, one of `git remote`; else that of tether.remote.
    remote: Option<String>,
    /// Only if something waits in the outbox and its time has come (for a timer or a hook).
    #[arg(long)]
    when_due: bool,
}

/// Takes what others did and sends what was done here.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let urgency = if arguments.when_due { Urgency::WhenDue } else { Urgency::Now };
    exchange(arguments.remote.as_deref(), Direction::Both, urgency)
}

/// Carries out a sync and answers with how it went.
pub(crate) fn exchange(remote: Option<&str>, direction: Direction, urgency: Urgency) -> Result<Outcome, Failure> {
    let synced = repository::open()?.sync(remote, direction, urgency)?;
    let exit = if synced.is_done() { Exit::Done } else { Exit::Busy };
    let mut outcome = Outcome::from(answer(&synced)).exit(exit);
    if let Some(said) = &synced.away {
        outcome = outcome.saying(format!("warning: remote {} was not reached: {said}", synced.remote));
    }
    for refused in &synced.refused {
        outcome = outcome.saying(format!("warning: {} was not sent: {}", refused.name, refused.reason));
    }
    for skipped in &synced.skipped {
        outcome = outcome.saying(format!("warning: {} was left out: {}", skipped.name, skipped.reason));
    }
    for note in &synced.notes {
        outcome = outcome.saying(note.clone());
    }
    if exit == Exit::Busy && !synced.outbox.is_empty() {
        outcome = outcome.saying("hint: it goes with the next `git tether sync`");
    }
    Ok(outcome)
}

fn refused(list: &[Refused]) -> Value {
    list.iter().map(|refused| json!({"ref": refused.name, "reason": refused.reason})).collect()
}

fn waiting(list: &[Waiting]) -> Value {
    let one = |waiting: &Waiting| {
        json!({
            "ref": waiting.name,
            "remote": waiting.remote,
            "commit": waiting.tip.map(|tip| tip.to_string()),
            "attempts": waiting.attempts,
            "not_before": waiting.not_before.to_string(),
            "reason": waiting.reason,
        })
    };
    list.iter().map(one).collect()
}

fn answer(synced: &Synced) -> Answer {
    let fields = vec![
        ("remote", Value::from(synced.remote.as_str())),
        ("pushed", Value::from(synced.pushed.clone())),
        ("pulled", Value::from(synced.pulled.clone())),
        ("merged", Value::from(synced.merged.clone())),
        ("refused", refused(&synced.refused)),
        ("skipped", refused(&synced.skipped)),
        ("outbox", waiting(&synced.outbox)),
    ];
    Answer::Other { name: "sync", fields, human: words(synced) }
}

fn words(synced: &Synced) -> String {
    let mut text = String::new();
    for name in &synced.pulled {
        let how = if synced.merged.contains(name) { "merged" } else { "taken" };
        let _ = writeln!(text, "{how} {}", short(name));
    }
    for name in &synced.pushed {
        let _ = writeln!(text, "sent {}", short(name));
    }
    for waiting in &synced.outbox {
        let _ = writeln!(text, "waits {} (tried {} times)", short(&waiting.name), waiting.attempts);
    }
    if text.is_empty() && synced.is_done() {
        let _ = writeln!(text, "nothing new between here and {}", synced.remote);
    }
    text
}

fn short(name: &str) -> &str {
    name.strip_prefix("refs/tether/").unwrap_or(name)
}
