//! `git tether report`

use serde_json::Value;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{JsonForm, RunArgument};
use crate::cli::repository;

// What it takes.
pub(crate) type Arguments = RunArgument;

/// Shows the report of a run.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let report = repository::open()?.report(&arguments.run)?;
    Ok(Answer::Other { name: "report", fields: vec![("report", Value::from(report.as_str()))], human: report }.into())
}
