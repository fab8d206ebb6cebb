//! Values as people type them, parsed at the edge.

use std::time::Duration;

use crate::app::Failure;
use crate::domain::document::Document;
use crate::domain::ids::{GateAddress, GateId, RunId, TaskAddress, TaskId};
use crate::domain::task::Requirement;

/// `RUN/TASK`.
pub(crate) fn task_address(text: &str) -> Result<TaskAddress, String> {
    let (run, task) = pair(text, "TASK")?;
    let run = RunId::new(run).map_err(|error| error.to_string())?;
    let task = TaskId::new(task).map_err(|error| error.to_string())?;
    Ok(TaskAddress { run, task })
}

/// `RUN/GATE`.
pub(crate) fn gate_address(text: &str) -> Result<GateAddress, String> {
    let (run, gate) = pair(text, "GATE")?;
    let run = RunId::new(run).map_err(|error| error.to_string())?;
    let gate = GateId::new(gate).map_err(|error| error.to_string())?;
    Ok(GateAddress { run, gate })
}

/// A run, or a task of one.
#[derive(Debug, Clone)]
pub(crate) struct RunOrTask {
    /// The run.
    pub(crate) run: RunId,
    /// The task, if it is about one.
    pub(crate) task: Option<TaskId>,
}

/// `RUN` or `RUN/TASK`.
pub(crate) fn run_or_task(text: &str) -> Result<RunOrTask, String> {
    if text.contains('/') {
        let address = task_address(text)?;
        return Ok(RunOrTask { run: address.run, task: Some(address.task) });
    }
    Ok(RunOrTask { run: RunId::new(text).map_err(|error| error.to_string())?, task: None })
}

/// `RUN/WHAT`, both parts there.
pub(crate) fn pair<'t>(text: &'t str, what: &str) -> Result<(&'t str, &'t str), String> {
    match text.split_once('/') {
        Some((run, rest)) if !run.is_empty() && !rest.is_empty() => Ok((run, rest)),
        _ => Err(format!("`{text}` is not of the form RUN/{what}")),
    }
}

/// A number and `s m h d w`.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    crate::domain::time::parse_duration(text).map_err(|error| error.to_string())
}

/// `approval,review,test`.
pub(crate) fn requirements(words: &[String]) -> Result<Vec<Requirement>, Failure> {
    let words = words.iter().flat_map(|word| word.split(',')).map(str::trim).filter(|word| !word.is_empty());
    Ok(words.map(str::parse).collect::<Result<Vec<Requirement>, _>>()?)
}

/// JSON of the caller's own; it has to be an object.
pub(crate) fn metadata(text: Option<&str>) -> Result<Document, Failure> {
    let Some(text) = text else { return Ok(Document::default()) };
    let refused = |why: String| Failure::usage("invalid_json", format!("--meta takes a JSON object: {why}"));
    let document =
        crate::record::document(text, "metadata").map_err(|error| refused(crate::app::failure::chain_of(&error)))?;
    if document.as_json().starts_with('{') { Ok(document) } else { Err(refused(format!("found {text}"))) }
}
