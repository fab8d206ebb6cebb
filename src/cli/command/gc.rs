//! `git tether gc`

use clap::Args;
use serde_json::json;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {}

/// Cleans up after runs and sessions that ended long ago.
pub(crate) fn run(_arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let done = repository::open()?.collect_garbage()?;
    let runs: Vec<String> = done.runs_archived.iter().map(ToString::to_string).collect();
    let work: Vec<&str> = done.work_dropped.iter().map(|entry| entry.id.as_str()).collect();
    let fields = json!({
        "sessions_dropped": done.sessions_dropped,
        "work_dropped": work,
        "runs_archived": runs,
        "packs_folded": done.packs_folded,
    });
    let human = format!(
        "{} ended sessions dropped, {} replaced snapshots dropped, {} runs archived, {} packs folded",
        done.sessions_dropped,
        work.len(),
        runs.len(),
        done.packs_folded
    );
    let outcome = Outcome::from(Answer::Other { name: "gc", fields: vec![("gc", fields)], human });
    Ok(done.warnings.iter().fold(outcome, |outcome, warning| outcome.saying(format!("warning: {warning}"))))
}
