//! Recoveries and statuses, as JSON and in words.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::human::line;
use super::json::{list, object};
use crate::app::observe::RiskyWorktree;
use crate::app::recover::{Recovery, StepOutcome, StepReport, about};
use crate::app::status::Status;
use crate::domain::ids::TaskAddress;
use crate::domain::view::RunView;
use crate::plan::finding::Finding;
use crate::plan::observation::Dirt;
use crate::plan::step::Step;
use crate::record::fields;

fn shown(value: Option<&impl ToString>) -> Value {
    value.map_or(Value::Null, |value| Value::String(value.to_string()))
}

/// A finding as JSON.
pub(crate) fn finding(finding: &Finding) -> Value {
    let evidence: Map<String, Value> =
        finding.evidence.iter().map(|(name, value)| (name.clone(), Value::from(value.as_str()))).collect();
    json!({
        "code": finding.code.to_string(),
        "run": shown(finding.run.as_ref()),
        "task": shown(finding.task.as_ref()),
        "environment": shown(finding.environment.as_ref()),
        "session": shown(finding.session.as_ref()),
        "health": shown(finding.health.as_ref()),
        "recovery_status": shown(finding.recovery_status.as_ref()),
        "recovery_action": shown(finding.recovery_action.as_ref()),
        "message": finding.message,
        "evidence": evidence,
        "needs_person": finding.needs_person,
    })
}

/// A step as JSON.
pub(crate) fn step(report: &StepReport) -> Value {
    json!({
        "step": report.step.name(),
        "run": shown(report.step.run()),
        "task": shown(report.step.task()),
        "environment": shown(report.step.environment()),
        "session": shown(report.step.session()),
        "outcome": report.outcome.name(),
        "message": report.message,
    })
}

/// One line of a stream: what became of an environment or a task.
pub(crate) fn stream_line(report: &StepReport) -> Vec<u8> {
    let mut value = object("recovery_event", []);
    if let (Value::Object(line), Value::Object(step)) = (&mut value, step(report)) {
        line.extend(step);
    }
    let mut text = value.to_string();
    text.push('\n');
    text.into_bytes()
}

/// A recovery as the keys of its envelope.
pub(crate) fn recovery_entries(recovery: &Recovery, at_risk: Option<&[RiskyWorktree]>) -> Vec<(&'static str, Value)> {
    let mut entries = vec![
        ("applied", Value::Bool(recovery.applied)),
        ("findings", recovery.findings.iter().map(finding).collect()),
        ("steps", recovery.steps.iter().map(step).collect()),
        ("resumable", recovery.resumable.iter().map(|task| Value::String(task.to_string())).collect()),
        ("restored_reports", recovery.restored_reports.iter().map(|run| Value::String(run.to_string())).collect()),
        ("needs_person", Value::from(recovery.needs_person)),
    ];
    entries.extend(at_risk.map(|risky| ("worktrees_at_risk", risky.iter().map(risk).collect())));
    entries
}

fn risk(risky: &RiskyWorktree) -> Value {
    let (changed, untracked, problem) = match &risky.dirt {
        Dirt::Clean => (0, 0, None),
        Dirt::Dirty { changed, untracked } => (*changed, *untracked, None),
        Dirt::Unreadable(why) => (0, 0, Some(why.clone())),
    };
    json!({
        "path": risky.path.display().to_string(),
        "changed": changed,
        "untracked": untracked,
        "unpushed": risky.unpushed,
        "ours": risky.ours,
        "problem": problem,
    })
}

/// A recovery in words.
pub(crate) fn recovery_text(recovery: &Recovery, at_risk: Option<&[RiskyWorktree]>) -> String {
    let mut text = String::new();
    if recovery.findings.is_empty() && recovery.steps.is_empty() {
        text.push_str("everything is as recorded\n");
    }
    if !recovery.findings.is_empty() {
        text.push_str("found:\n");
    }
    for finding in &recovery.findings {
        let mark = if finding.needs_person { '!' } else { '-' };
        let _ = writeln!(text, "  {mark} {}", line(&finding.message));
    }
    if !recovery.steps.is_empty() {
        text.push_str(if recovery.applied { "did:\n" } else { "would do:\n" });
    }
    for report in &recovery.steps {
        let outcome = match report.outcome {
            StepOutcome::Done | StepOutcome::Planned => String::new(),
            other => format!("{} {} ({}): ", other.name(), report.step.name(), about(&report.step)),
        };
        let _ = writeln!(text, "  - {}{}", line(&outcome), line(&report.message));
    }
    let went_on = |task: &TaskAddress| recovery.steps.iter().any(|report| is_run_of(report, task));
    for task in recovery.resumable.iter().filter(|task| !went_on(task)) {
        let _ = writeln!(text, "can go on: {task}  (git tether recover --resume, or git tether resume {task})");
    }
    for risky in at_risk.unwrap_or_default() {
        let words = match &risky.dirt {
            Dirt::Clean => String::new(),
            Dirt::Dirty { changed, untracked } => format!("{changed} changed, {untracked} untracked; "),
            Dirt::Unreadable(why) => format!("cannot be read: {why}; "),
        };
        let path = risky.path.display().to_string();
        let _ = writeln!(text, "at risk: {}: {}{} commits on no remote", line(&path), line(&words), risky.unpushed);
    }
    if recovery.needs_person > 0 {
        let _ = writeln!(text, "{} of these need a person (marked !)", recovery.needs_person);
    }
    text
}

fn is_run_of(report: &StepReport, task: &TaskAddress) -> bool {
    let runs = matches!(&report.step, Step::RunTask { run, task: named } if *run == task.run && *named == task.task);
    runs && report.outcome == StepOutcome::Done
}

/// A status as the keys of its envelope.
pub(crate) fn status_entries(status: &Status) -> Vec<(&'static str, Value)> {
    let readable = status.runs.iter().map(|view| {
        let mut value = fields(&view.run);
        if let Value::Object(map) = &mut value {
            map.insert("tasks".to_owned(), list(view.tasks.values()));
        }
        value
    });
    let unreadable = status.unreadable.iter().map(|(run, problem)| {
        json!({"id": run, "name": null, "status": "unreadable", "requires_attention": true, "problem": problem})
    });
    vec![("runs", readable.chain(unreadable).collect()), ("problems", status.problems.iter().map(finding).collect())]
}

/// What a status says of problems.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Detail {
    /// Runs, and how many problems there are.
    Overview,
    /// Each problem.
    Problems,
}

/// A status in words.
pub(crate) fn status_text(status: &Status, detail: Detail) -> String {
    let mut text = String::new();
    if status.runs.is_empty() && status.unreadable.is_empty() {
        text.push_str("no runs\n");
    }
    if detail == Detail::Overview {
        status.runs.iter().for_each(|view| run_line(&mut text, view));
    }
    for (run, problem) in &status.unreadable {
        let _ = writeln!(text, "{}  unreadable: {}", line(run), line(problem));
    }
    match detail {
        Detail::Problems => {
            for problem in &status.problems {
                let mark = if problem.needs_person { '!' } else { '-' };
                let _ = writeln!(text, "{mark} {}", line(&problem.message));
            }
        }
        Detail::Overview if !status.problems.is_empty() => {
            let _ = writeln!(
                text,
                "{} problems, {} for a person: git tether status --problems; git tether recover repairs what can be",
                status.problems.len(),
                status.needs_person()
            );
        }
        Detail::Overview => {}
    }
    text
}

fn run_line(text: &mut String, view: &RunView) {
    let run = &view.run;
    let name = run.name.as_deref().map(|name| format!(" “{name}”")).unwrap_or_default();
    let attention = if run.requires_attention { " !" } else { "" };
    let counts: Vec<String> = <crate::domain::task::TaskState as crate::domain::names::Named>::ALL
        .iter()
        .map(|state| (run.task_summary.count(*state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {state}"))
        .collect();
    let _ = writeln!(text, "{}{}  {}{attention}  {}", run.id, line(&name), run.status, counts.join(", "));
}

/// A status for scripts: one record after the other, each ended by NUL (or by a line end), its fields parted by tabs.
pub(crate) fn status_porcelain(status: &Status, end: u8) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |words: &[&str]| {
        let words: Vec<String> = words.iter().map(|word| line(word)).collect();
        bytes.extend_from_slice(words.join("\t").as_bytes());
        bytes.push(end);
    };
    put(&["version", "1"]);
    for view in &status.runs {
        let attention = if view.run.requires_attention { "attention" } else { "-" };
        put(&["run", view.run.id.as_str(), &view.run.status.to_string(), attention]);
        for task in view.tasks.values() {
            put(&[
                "task",
                &task.address().to_string(),
                &task.state.to_string(),
                task.session.as_ref().map_or("-", |session| session.as_str()),
            ]);
        }
    }
    for (run, _) in &status.unreadable {
        put(&["run", run, "unreadable", "attention"]);
    }
    for problem in &status.problems {
        let person = if problem.needs_person { "person" } else { "-" };
        let run = problem.run.as_ref().map_or("-", |run| run.as_str());
        put(&["problem", &problem.code.to_string(), run, person, &problem.message]);
    }
    bytes
}
