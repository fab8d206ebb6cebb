//! What a run's executor is told when it is put back on its feet, and what comes back with it.
//!
//! Owns the order of the rules: a spawned task without a record decides first, then the number of problems. Must not know where
//! records are kept. Invariant: nothing but the executor's own part of the run (activity, spawned, waited on, messages) ever goes back
//! to an earlier commit; no task and no session is touched.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use crate::domain::event::{RunEvent, SupervisorState};
use crate::domain::gate::{Gate, GateKind};
use crate::domain::ids::{Oid, RunId, TaskPointer};
use crate::domain::restoration::RestorationReport;
use crate::domain::run::{RestorationOutcome, RestorationSource, Run, RunStatus, STALE_QUESTION};
use crate::domain::task::TaskState;
use crate::domain::time::Timestamp;
use crate::domain::view::RunView;

/// With more problems than these a person has to look.
const MOST_PROBLEMS: usize = 3;

/// What is known of a task that an executor speaks of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Known {
    /// It has a record, and is in this state.
    Recorded(TaskState),
    /// Nothing has a record of it.
    Unknown,
    /// Its run cannot be read, for this reason: whether it has a record is not known.
    Unreadable(String),
}

/// What is known of each task that an executor speaks of.
pub type Knowledge = BTreeMap<TaskPointer, Known>;

/// An earlier commit of the run that its executor can go on from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Earlier {
    /// The commit.
    pub commit: Oid,
    /// The executor's part of the run there.
    pub state: SupervisorState,
}

/// What is to be decided over.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The run, with its pending gates.
    pub view: &'a RunView,
    /// What is known of the tasks that it, and the earlier commit, speak of.
    pub known: &'a Knowledge,
    /// The newest commit in which all spawned tasks have a record; looked for only if [`lost_tasks`] finds any.
    pub earlier: Option<&'a Earlier>,
    /// Why it is restored.
    pub source: RestorationSource,
    /// What time it is.
    pub now: Timestamp,
}

/// What is to happen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restoration {
    /// To the run.
    pub events: Vec<RunEvent>,
    /// What the executor is told.
    pub report: RestorationReport,
}

/// The tasks among `spawned` that nothing has a record of.
pub fn lost_tasks<'p>(spawned: &'p [TaskPointer], known: &Knowledge) -> Vec<&'p TaskPointer> {
    spawned.iter().filter(|pointer| known.get(*pointer) == Some(&Known::Unknown)).collect()
}

/// Decides how the executor of an existing run goes on.
pub fn plan_restoration(facts: &Facts<'_>) -> Restoration {
    let run = &facts.view.run;
    let lost = lost_tasks(&run.spawned_tasks, facts.known);
    let problems = find_problems(facts);
    let mut warnings: Vec<String> =
        lost.iter().map(|pointer| format!("spawned task {pointer} has no record")).collect();
    warnings.extend(problems.iter().cloned());
    warnings.extend(standing_still(run));
    let outcome = match (lost.is_empty(), facts.earlier) {
        (false, Some(_)) => RestorationOutcome::FromCheckpoint,
        (false, None) => RestorationOutcome::ManualIntervention,
        (true, _) if problems.len() > MOST_PROBLEMS => RestorationOutcome::ManualIntervention,
        (true, _) => RestorationOutcome::Continued,
    };
    let manual_intervention =
        (outcome == RestorationOutcome::ManualIntervention).then(|| format!("restored, but: {}", warnings.join("; ")));
    let earlier = facts.earlier.filter(|_| outcome == RestorationOutcome::FromCheckpoint);
    let from_checkpoint = earlier.map(|earlier| {
        let mut state = earlier.state.clone();
        state.waiting_on.retain(|pointer| !has_ended(pointer, facts.known));
        Box::new(state)
    });
    let (spawned_tasks, mut waiting_on) = match &from_checkpoint {
        Some(state) => (state.spawned_tasks.clone(), state.waiting_on.clone()),
        None => (run.spawned_tasks.clone(), run.waiting_on.clone()),
    };
    let ended: Vec<_> = waiting_on.iter().filter(|pointer| has_ended(pointer, facts.known)).cloned().collect();
    waiting_on.retain(|pointer| !ended.contains(pointer));
    let mut report = RestorationReport {
        outcome,
        previous_state: Some(run.activity.state),
        checkpoint: earlier.map(|earlier| earlier.commit.clone()),
        pending_questions: delivered_again(facts.view),
        waiting_on,
        spawned_tasks,
        warnings,
        notice: String::new(),
    };
    report.notice = notice(facts, &report);
    let mut events = Vec::new();
    if !ended.is_empty() {
        events.push(RunEvent::WaitsEnded { tasks: ended });
    }
    events.push(RunEvent::RunRestored { source: facts.source, from_checkpoint, manual_intervention });
    Restoration { events, report }
}

/// What the executor of a run is told that nothing had a record of; `near` are the names that may have been meant.
pub fn fresh_start(run: &RunId, near: &[&str]) -> RestorationReport {
    let mut warning = format!("there was no run {run}: a new one was started");
    if !near.is_empty() {
        let _ = write!(warning, "; did you mean {}?", near.join(" or "));
    }
    RestorationReport {
        outcome: RestorationOutcome::Fresh,
        previous_state: None,
        checkpoint: None,
        pending_questions: Vec::new(),
        waiting_on: Vec::new(),
        spawned_tasks: Vec::new(),
        notice: format!("Run {run} starts afresh: nothing of it was recorded.\nWarnings:\n  - {warning}\n"),
        warnings: vec![warning],
    }
}

fn has_ended(pointer: &TaskPointer, known: &Knowledge) -> bool {
    matches!(known.get(pointer), Some(Known::Recorded(state)) if state.is_terminal())
}

/// What speaks against simply going on; each counts.
fn find_problems(facts: &Facts<'_>) -> Vec<String> {
    let run = &facts.view.run;
    let mut problems: Vec<String> = pending_questions(facts.view)
        .filter(|gate| facts.now.since(gate.asked_at) > STALE_QUESTION)
        .map(|gate| format!("question {}/{} has waited since {}", gate.run, gate.id, gate.asked_at))
        .collect();
    for pointer in &run.waiting_on {
        if facts.known.get(pointer) == Some(&Known::Unknown) && !run.spawned_tasks.contains(pointer) {
            problems.push(format!("task {pointer} is waited on and has no record"));
        }
    }
    for (pointer, known) in facts.known {
        let spoken_of = run.spawned_tasks.contains(pointer) || run.waiting_on.contains(pointer);
        if let (true, Known::Unreadable(why)) = (spoken_of, known) {
            problems.push(format!("task {pointer} cannot be read: {why}"));
        }
    }
    problems
}

/// What keeps the run from going on that is no problem of its executor.
fn standing_still(run: &Run) -> Option<String> {
    match run.status {
        RunStatus::Paused => Some(format!("run {} is paused: nothing starts or resumes in it", run.id)),
        status if status.is_terminal() => Some(format!("run {} has ended ({status})", run.id)),
        _ => None,
    }
}

fn pending_questions(view: &RunView) -> impl Iterator<Item = &Gate> {
    view.pending_gates().into_iter().filter(|gate| gate.kind == GateKind::Question)
}

/// The pending questions as they are once they were delivered again.
fn delivered_again(view: &RunView) -> Vec<Gate> {
    pending_questions(view).map(|gate| Gate { redelivered: gate.redelivered + 1, ..gate.clone() }).collect()
}

fn notice(facts: &Facts<'_>, report: &RestorationReport) -> String {
    let run = &facts.view.run;
    let mut text = format!(
        "Run {} was restored ({}); restorations so far: {}.\n",
        run.id,
        facts.source,
        run.restoration.count + 1
    );
    let before = run.activity.phase.as_ref().map(|phase| format!(", phase {phase}")).unwrap_or_default();
    let happened = match (report.outcome, &report.checkpoint) {
        (RestorationOutcome::FromCheckpoint, Some(commit)) => {
            format!(
                "Spawned tasks had no record: activity, spawned tasks, waits and messages come back from commit {commit}."
            )
        }
        (RestorationOutcome::ManualIntervention, _) => "A person has to look at it before you go on.".to_owned(),
        _ => "Go on from where it was.".to_owned(),
    };
    let _ = writeln!(text, "Before: {}{before}. {happened}", run.activity.state);
    let questions = report.pending_questions.iter().map(|gate| {
        let prompt = gate.prompt.as_deref().unwrap_or_default();
        format!("{}/{}: {prompt} (asked {}, delivered again: {})", gate.run, gate.id, gate.asked_at, gate.redelivered)
    });
    list(&mut text, "Pending questions", questions);
    list(&mut text, "Tasks waited on", report.waiting_on.iter().map(|pointer| describe(pointer, facts.known)));
    list(&mut text, "Tasks spawned", report.spawned_tasks.iter().map(|pointer| describe(pointer, facts.known)));
    list(&mut text, "Warnings", report.warnings.iter().cloned());
    text
}

fn describe(pointer: &TaskPointer, known: &Knowledge) -> String {
    match known.get(pointer) {
        Some(Known::Recorded(state)) => format!("{pointer}: {state}"),
        Some(Known::Unreadable(_)) => format!("{pointer}: cannot be read"),
        Some(Known::Unknown) | None => format!("{pointer}: no record"),
    }
}

fn list(text: &mut String, title: &str, lines: impl Iterator<Item = String>) {
    let lines: Vec<String> = lines.collect();
    if lines.is_empty() {
        let _ = writeln!(text, "{title}: none");
        return;
    }
    let _ = writeln!(text, "{title}:");
    for line in lines {
        let _ = writeln!(text, "  - {}", line.replace('\n', " "));
    }
}

#[cfg(test)]
#[path = "restore_tests.rs"]
mod tests;
