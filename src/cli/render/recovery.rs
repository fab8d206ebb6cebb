//! Recoveries and statuses, as JSON and in words.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde_json::{Map, Value, json};

use super::human::line;
use super::json::{list, object};
use crate::app::at_risk::{AtRisk, RiskyWorktree, StandingProcess};
use crate::app::recover::{Recovery, StepOutcome, StepReport, about};
use crate::app::status::Status;
use crate::domain::ids::{EnvironmentId, RunId, SessionId, TaskId};
use crate::domain::view::RunView;
use crate::plan::finding::{Finding, FindingCode};
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

/// A step as JSON, with what is at risk where it takes something away.
fn step_with_risk(report: &StepReport) -> Value {
    let mut value = step(report);
    value["at_risk"] = report.at_risk.as_ref().map(|risk| Value::Object(at_risk(risk))).into();
    value
}

/// One line of a stream: what became of an environment or a task.
pub(crate) fn stream_line(report: &StepReport) -> Vec<u8> {
    let mut value = object("recovery_event", []);
    if let (Value::Object(line), Value::Object(step)) = (&mut value, step(report)) {
        line.extend(step);
        let finding = match &report.step {
            Step::NoteEnvironment { finding, .. } => Some(finding),
            _ => None,
        };
        line.insert("health".to_owned(), shown(finding.map(|finding| finding.health).as_ref()));
        line.insert("recovery_status".to_owned(), shown(finding.map(|finding| finding.status).as_ref()));
        line.insert("recovery_action".to_owned(), shown(finding.and_then(|finding| finding.action).as_ref()));
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
        ("steps", recovery.steps.iter().map(step_with_risk).collect()),
        ("resumable", recovery.resumable.iter().map(|task| Value::String(task.to_string())).collect()),
        ("restored_reports", recovery.restored_reports.iter().map(|run| Value::String(run.to_string())).collect()),
        ("needs_person", Value::from(recovery.needs_person)),
    ];
    entries.extend(at_risk.map(|risky| ("worktrees_at_risk", risky.iter().map(risk).collect())));
    entries
}

fn risk(risky: &RiskyWorktree) -> Value {
    let mut fields = Map::new();
    fields.insert("path".to_owned(), Value::from(risky.path.display().to_string()));
    fields.extend(at_risk(&risky.at_risk));
    fields.insert("ours".to_owned(), Value::from(risky.ours));
    fields.insert("orphaned".to_owned(), Value::from(risky.orphaned));
    Value::Object(fields)
}

fn at_risk(risk: &AtRisk) -> Map<String, Value> {
    let (changed, untracked, problem) = match &risk.dirt {
        Dirt::Clean => (0, 0, None),
        Dirt::Dirty { changed, untracked } => (*changed, *untracked, None),
        Dirt::Unreadable(why) => (0, 0, Some(why.clone())),
    };
    let process = |one: &StandingProcess| json!({"pid": one.pid, "name": one.name, "directory": one.directory.display().to_string()});
    let fields = [
        ("changed", Value::from(changed)),
        ("untracked", Value::from(untracked)),
        ("unpushed", Value::from(risk.unpushed)),
        ("locked", Value::from(risk.locked)),
        ("processes", risk.processes.iter().map(process).collect()),
        ("problem", Value::from(problem)),
    ];
    fields.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// What is at risk at a place, in words; nothing if nothing is.
fn risk_words(risk: &AtRisk) -> String {
    let mut words = match &risk.dirt {
        Dirt::Clean => Vec::new(),
        Dirt::Dirty { changed, untracked } => vec![format!("{changed} changed, {untracked} untracked")],
        Dirt::Unreadable(why) => vec![format!("cannot be read: {why}")],
    };
    match risk.unpushed {
        Some(0) => {}
        Some(1) => words.push("1 commit on no remote".to_owned()),
        Some(commits) => words.push(format!("{commits} commits on no remote")),
        None => words.push("nobody can tell which commits are on a remote".to_owned()),
    }
    if risk.locked {
        words.push("locked by git".to_owned());
    }
    let processes = risk.processes.iter().map(|one| format!("process {} ({}) stands there", one.pid, one.name));
    words.extend(processes.take(3));
    words.join("; ")
}

/// A recovery in words: for each thing that it is about what was found, what was done, and what a person can do next.
pub(crate) fn recovery_text(recovery: &Recovery, at_risk: Option<&[RiskyWorktree]>) -> String {
    let mut text = String::new();
    if recovery.findings.is_empty() && recovery.steps.is_empty() {
        text.push_str("everything is as recorded\n");
    }
    for subject in subjects(recovery) {
        let _ = writeln!(text, "{}", line(&subject.name));
        for finding in subject.findings.iter().filter(|finding| !is_implied(finding, &subject)) {
            let mark = if finding.needs_person { '!' } else { ' ' };
            let _ = writeln!(text, "  {mark} {:<7} {}", "found", line(&finding.message));
        }
        for report in &subject.steps {
            // What is planned says so itself, for those who read it without the verb.
            let message = report.message.strip_prefix("would ").unwrap_or(&report.message);
            let _ = writeln!(text, "    {:<7} {}", verb(report.outcome), line(message));
            if let Some(risk) = report.at_risk.as_ref().filter(|_| report.outcome != StepOutcome::Done) {
                let words = risk_words(risk);
                let words = if words.is_empty() { "nothing" } else { words.as_str() };
                let _ = writeln!(text, "    {:<7} {}", "at risk", line(words));
            }
        }
        for advice in next(&subject, recovery) {
            let _ = writeln!(text, "    {:<7} {}", "next", line(&advice));
        }
    }
    for risky in at_risk.unwrap_or_default() {
        let orphaned = if risky.orphaned { "no record names it; " } else { "" };
        let (path, words) = (risky.path.display().to_string(), risk_words(&risky.at_risk));
        let _ = writeln!(text, "at risk: {}: {orphaned}{}", line(&path), line(&words));
    }
    if recovery.needs_person > 0 {
        let verb = if recovery.needs_person == 1 { "needs" } else { "need" };
        let _ = writeln!(text, "{} {verb} a person (marked !)", recovery.needs_person);
    }
    text
}

/// Whether another line about the same thing says it already: who reads this at night reads each fact once. JSON has all.
fn is_implied(finding: &Finding, subject: &Subject<'_>) -> bool {
    let found = |code| subject.findings.iter().any(|other| other.code == code);
    let interrupted = || subject.steps.iter().any(|report| report.step.name() == "interrupt_task");
    match finding.code {
        FindingCode::LeaseStale | FindingCode::SessionDead => found(FindingCode::ExecutionInterrupted),
        FindingCode::TaskResumable => interrupted(),
        _ => false,
    }
}

/// How a step went, in a word.
fn verb(outcome: StepOutcome) -> &'static str {
    match outcome {
        StepOutcome::Done => "did",
        StepOutcome::Planned => "would",
        StepOutcome::Skipped => "left",
        StepOutcome::Refused => "refused",
        StepOutcome::Failed => "failed",
    }
}

/// One thing that a recovery is about: a task with all that is its own, or what belongs to no task.
struct Subject<'r> {
    name: String,
    findings: Vec<&'r Finding>,
    steps: Vec<&'r StepReport>,
}

/// Findings and steps by what they are about, in the order in which each is first named.
fn subjects(recovery: &Recovery) -> Vec<Subject<'_>> {
    let owners = Owners::of(recovery);
    let mut subjects: Vec<Subject<'_>> = Vec::new();
    let mut at = |name: String| {
        let known = subjects.iter().position(|subject| subject.name == name);
        known.unwrap_or_else(|| {
            subjects.push(Subject { name, findings: Vec::new(), steps: Vec::new() });
            subjects.len() - 1
        })
    };
    let found: Vec<usize> = recovery.findings.iter().map(|finding| at(owners.of_finding(finding))).collect();
    let done: Vec<usize> = recovery.steps.iter().map(|report| at(owners.of_step(report))).collect();
    found.iter().zip(&recovery.findings).for_each(|(at, finding)| subjects[*at].findings.push(finding));
    done.iter().zip(&recovery.steps).for_each(|(at, report)| subjects[*at].steps.push(report));
    subjects
}

/// Which task an environment or a session belongs to, as far as the findings say.
struct Owners {
    tasks: BTreeMap<String, String>,
}

impl Owners {
    fn of(recovery: &Recovery) -> Self {
        let mut tasks = BTreeMap::new();
        for finding in &recovery.findings {
            let (Some(run), Some(task)) = (&finding.run, &finding.task) else { continue };
            let address = format!("{run}/{task}");
            tasks.extend(finding.environment.iter().map(|id| (environment_key(run, id), address.clone())));
            tasks.extend(finding.session.iter().map(|id| (id.to_string(), address.clone())));
        }
        Self { tasks }
    }

    fn of_finding(&self, finding: &Finding) -> String {
        self.of_parts(
            finding.run.as_ref(),
            finding.task.as_ref(),
            finding.environment.as_ref(),
            finding.session.as_ref(),
        )
        .unwrap_or_else(|| "repository".to_owned())
    }

    fn of_step(&self, report: &StepReport) -> String {
        let step = &report.step;
        self.of_parts(step.run(), step.task(), step.environment(), step.session()).unwrap_or_else(|| {
            let about = about(step);
            // The claim on a task belongs to the task.
            about.strip_prefix("task ").map_or_else(|| about.clone(), ToOwned::to_owned)
        })
    }

    fn of_parts(
        &self,
        run: Option<&RunId>,
        task: Option<&TaskId>,
        environment: Option<&EnvironmentId>,
        session: Option<&SessionId>,
    ) -> Option<String> {
        match (run, task, environment, session) {
            (Some(run), Some(task), _, _) => Some(format!("{run}/{task}")),
            (Some(run), None, Some(environment), _) => {
                let key = environment_key(run, environment);
                Some(self.tasks.get(&key).cloned().unwrap_or(key))
            }
            (_, _, _, Some(session)) => {
                let known = self.tasks.get(session.as_str()).cloned();
                Some(known.unwrap_or_else(|| format!("session {session}")))
            }
            (Some(run), None, None, None) => Some(run.to_string()),
            _ => None,
        }
    }
}

fn environment_key(run: &RunId, environment: &EnvironmentId) -> String {
    format!("{run}/{environment}")
}

/// What a person can do next about one thing, as commands; nothing where all has been done.
fn next(subject: &Subject<'_>, recovery: &Recovery) -> Vec<String> {
    let over = |names: &[&str]| {
        subject.steps.iter().any(|report| report.outcome == StepOutcome::Done && names.contains(&report.step.name()))
    };
    let recreated = over(&["recreate_environment", "clean_environment", "clean_unnamed_worktree"]);
    let resumed = over(&["schedule_resume", "run_task"]);
    let mut advice: Vec<String> = Vec::new();
    for finding in &subject.findings {
        let Some(run) = finding.run.as_ref() else { continue };
        let (name, gate) = (&subject.name, gate_of(finding));
        let said = match finding.code {
            FindingCode::OperatorRequired if !resumed => {
                format!(
                    "git tether resume {name} goes on if you say so; --restart from the beginning, --acknowledge leaves it"
                )
            }
            FindingCode::EnvironmentMissing | FindingCode::EnvironmentHalfMade if !recreated => {
                if finding.needs_person {
                    continue;
                }
                format!("git tether recover --recreate --run {run}")
            }
            FindingCode::TaskResumable if !resumed => {
                let ready = recovery.resumable.iter().any(|task| task.to_string() == *name);
                if !ready {
                    continue;
                }
                format!("git tether resume {name}, or git tether recover --resume for all")
            }
            // A worktree that no record names may be of a run that is not there to be asked for.
            FindingCode::EnvironmentOrphaned if !recreated && !is_recorded(finding) => {
                "git tether recover --clean saves it, and removes it".to_owned()
            }
            FindingCode::EnvironmentOrphaned if !recreated => {
                format!("git tether recover --clean --run {run} saves it, and removes it")
            }
            FindingCode::GatePending => format!("git tether show {run} says what is asked; decide {run}/{gate}"),
            FindingCode::AttentionRequired => format!("git tether show {run} --restoration"),
            FindingCode::RunUnreadable | FindingCode::RecordUnreadable => "git tether doctor".to_owned(),
            _ => continue,
        };
        if !advice.contains(&said) {
            advice.push(said);
        }
    }
    advice
}

/// Whether a record names the environment that was found.
fn is_recorded(finding: &Finding) -> bool {
    finding.evidence.iter().any(|(name, _)| name == "recorded_state")
}

fn gate_of(finding: &Finding) -> &str {
    finding.evidence.iter().find(|(name, _)| name == "gate").map_or("", |(_, gate)| gate.as_str())
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
            let count = status.problems.len();
            let what = if count == 1 { "finding" } else { "findings" };
            let _ = match status.needs_person() {
                0 => writeln!(text, "{count} {what}, none for a person: git tether status --problems"),
                people => writeln!(
                    text,
                    "{count} {what}, {people} for a person: git tether status --problems says which; git tether recover repairs what can be"
                ),
            };
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
