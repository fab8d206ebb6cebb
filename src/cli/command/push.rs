//! `git tether push`

use clap::Args;
use serde_json::{Value, json};

use crate::app::Failure;
use crate::app::sync::{Direction, Urgency};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::repository;
use crate::domain::ids::RunId;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The remote, one of `git remote`; else that of tether.remote.
    remote: Option<String>,
    /// Send the saved work of this run, contents and all, after a look through it for secrets.
    #[arg(long, value_name = "RUN")]
    work: Option<RunId>,
}

/// Sends what was done here; takes nothing.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let remote = arguments.remote.as_deref();
    let Some(run) = arguments.work else { return super::sync::exchange(remote, Direction::Push, Urgency::Now) };
    let sent = repository::open()?.push_work(&run, remote)?;
    let human = format!(
        "sent {} to {}: {} snapshots, {} objects, {} bytes with the commits that they stand on",
        sent.name, sent.remote, sent.snapshots, sent.objects, sent.bytes
    );
    let work = json!({"run": run.as_str(), "snapshots": sent.snapshots, "objects": sent.objects, "bytes": sent.bytes});
    let fields = vec![
        ("remote", Value::from(sent.remote)),
        ("pushed", json!([sent.name])),
        ("refused", json!([])),
        ("outbox", json!([])),
        ("work", work),
    ];
    Ok(Answer::Other { name: "sync", fields, human }.into())
}
