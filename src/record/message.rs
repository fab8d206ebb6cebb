//! Commit messages: for people, never read back by the program.
//!
//! The subject says what changed from what to what, the body why, the trailers who.

use std::fmt::Write as _;

use crate::domain::event::RunEvent;
use crate::domain::ids::{HostId, RunId};
use crate::domain::names::Named;
use crate::domain::view::{Changes, RunView};

/// Who makes a change, as the trailers name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// The person or program (`Ada <ada@example.com>`).
    pub actor: String,
    /// The machine.
    pub host: HostId,
}

/// One line of a trailer, one line of a subject: no control characters, no end of line.
fn one_line(text: &str) -> String {
    let flat: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    flat.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn shortened(text: &str, most: usize) -> String {
    let text = one_line(text);
    if text.chars().count() <= most {
        return text;
    }
    let kept: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{kept}…")
}

/// A message of its parts; a trailer without value is left out.
pub fn message(subject: &str, body: &str, trailers: &[(&str, Option<String>)]) -> String {
    let mut text = shortened(subject, 100);
    text.push('\n');
    let body = body.trim();
    if !body.is_empty() {
        let _ = write!(text, "\n{body}\n");
    }
    text.push('\n');
    for (name, value) in trailers {
        if let Some(value) = value.as_deref().map(one_line).filter(|value| !value.is_empty()) {
            let _ = writeln!(text, "Tether-{name}: {value}");
        }
    }
    text
}

/// The message of a new run.
pub fn run_started(run: &RunId, author: &Author) -> String {
    let trailers = [
        ("Event", Some("run_started".to_owned())),
        ("Run", Some(run.to_string())),
        ("Actor", Some(author.actor.clone())),
        ("Host", Some(author.host.to_string())),
    ];
    message(&format!("run {run}: started"), "", &trailers)
}

/// The message of what happened to a run, in one transition.
pub fn run_changed(before: &RunView, events: &[RunEvent], changes: &Changes, author: &Author) -> String {
    let mut lines: Vec<String> = events.iter().map(|event| subject(before, event, changes)).collect();
    let mut body = String::new();
    for reason in events.iter().filter_map(|event| reason(before, event, changes)) {
        let _ = writeln!(body, "{}", shortened(&reason, 400));
    }
    if before.run.status != changes.run.status {
        let _ = writeln!(body, "run {}: {} → {}", before.run.id, before.run.status, changes.run.status);
    }
    let first = if lines.is_empty() { format!("run {}: changed", before.run.id) } else { lines.remove(0) };
    let subject = if lines.is_empty() { first } else { format!("{first} (and {} more)", lines.len()) };
    for line in &lines {
        let _ = writeln!(body, "{line}");
    }
    let last = events.last();
    let session = events.iter().find_map(RunEvent::session).cloned().or_else(|| session_of(last?, changes));
    let trailers = [
        ("Event", events.first().map(|event| event.name().to_owned())),
        ("Run", Some(before.run.id.to_string())),
        ("Task", events.iter().find_map(RunEvent::task).map(ToString::to_string)),
        ("Environment", events.iter().find_map(RunEvent::environment).map(ToString::to_string)),
        ("Session", session.map(|session| session.to_string())),
        ("Actor", Some(author.actor.clone())),
        ("Host", Some(author.host.to_string())),
    ];
    message(&subject, &body, &trailers)
}

fn session_of(event: &RunEvent, changes: &Changes) -> Option<crate::domain::ids::SessionId> {
    let task = event.task()?;
    let of_task = changes.tasks.get(task).and_then(|task| task.session.clone());
    of_task.or_else(|| changes.checkpoints.get(task)?.session.clone())
}

fn arrow<T: Named>(from: Option<T>, to: T) -> String {
    match from {
        Some(from) => format!("{} → {}", from.name(), to.name()),
        None => to.name().to_owned(),
    }
}

fn subject(before: &RunView, event: &RunEvent, changes: &Changes) -> String {
    let run = &before.run.id;
    if let RunEvent::CheckpointTaken(new) = event {
        let seq = changes.checkpoints.get(&new.task).map_or(0, |checkpoint| checkpoint.seq);
        return format!("checkpoint {} #{seq}: {}", new.task, new.boundary.as_deref().unwrap_or("saved"));
    }
    if let Some(environment) = event.environment() {
        let state = |view: Option<&crate::domain::environment::Environment>| view.map(|known| known.state);
        let from = state(before.environments.get(environment));
        let to = state(changes.environments.get(environment)).or(from);
        return match (event, to) {
            (RunEvent::EnvironmentVerified { finding, .. }, _) => {
                let from = before.environments.get(environment).map(|known| known.health);
                format!("environment {environment}: {}", arrow(from, finding.health))
            }
            (RunEvent::LeaseReleased { .. }, _) => format!("environment {environment}: lease released"),
            (_, Some(to)) => format!("environment {environment}: {}", arrow(from.filter(|from| *from != to), to)),
            (_, None) => format!("environment {environment}: {}", event.name()),
        };
    }
    if let RunEvent::GateOpened(new) = event {
        return format!(
            "gate {}: opened{}",
            new.id,
            new.task.as_ref().map(|task| format!(" for task {task}")).unwrap_or_default()
        );
    }
    if let RunEvent::GateDecided { gate, decision } = event {
        return format!("gate {gate}: pending → {}", decision.action.state());
    }
    if let RunEvent::GateExpired { gate } = event {
        return format!("gate {gate}: pending → expired");
    }
    if let Some(task) = event.task() {
        let from = before.tasks.get(task).map(|known| known.state);
        let to = changes.tasks.get(task).map(|known| known.state).or(from);
        return match to {
            Some(to) => format!("task {task}: {}", arrow(from, to)),
            None => format!("task {task}: {}", event.name()),
        };
    }
    match event {
        RunEvent::ActivityReported(_) => format!("run {run}: {}", changes.run.activity.state),
        RunEvent::WaitsEnded { .. } => format!("run {run}: nothing to wait for any more"),
        RunEvent::SavedWorkForgotten { commit } => {
            format!("run {run}: saved work {} forgotten", commit.0.get(..12).unwrap_or(&commit.0))
        }
        RunEvent::RunRestored { source, .. } => format!("run {run}: restored ({source})"),
        _ => format!(
            "run {run}: {}",
            arrow(Some(before.run.status).filter(|from| *from != changes.run.status), changes.run.status)
        ),
    }
}

fn reason(before: &RunView, event: &RunEvent, changes: &Changes) -> Option<String> {
    match event {
        RunEvent::RunFinished { note, .. } => note.clone(),
        RunEvent::TaskBlocked { reason, .. } | RunEvent::LeaseReleased { reason, .. } => Some(reason.clone()),
        RunEvent::TaskDone { end, .. } | RunEvent::TaskFailed { end, .. } | RunEvent::TaskCancelled { end, .. } => {
            end.summary.clone().or_else(|| end.signal.as_ref().map(|signal| format!("ended by {signal}")))
        }
        RunEvent::ExecutionInterrupted { task } => changes.tasks.get(task)?.blocked_reasons.last().cloned(),
        RunEvent::ActivityReported(report) => report.text.clone().or_else(|| report.error.clone()),
        RunEvent::EnvironmentMoved { failure, cleanup, .. } => failure
            .as_ref()
            .map(|failure| failure.message.clone())
            .or_else(|| cleanup.as_ref().map(|note| note.reason.clone())),
        RunEvent::EnvironmentVerified { finding, .. } => finding.blocks_task.clone(),
        RunEvent::GateOpened(new) => new.prompt.clone(),
        RunEvent::GateDecided { gate, decision } => {
            let answer = decision.answer.clone().or_else(|| decision.note.clone());
            let asked = before.gates.get(gate).and_then(|known| known.prompt.clone());
            match (asked, answer) {
                (Some(asked), Some(answer)) => Some(format!("{asked} — {answer}")),
                (asked, answer) => answer.or(asked),
            }
        }
        RunEvent::WaitsEnded { tasks } => Some(tasks.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")),
        RunEvent::RunRestored { manual_intervention, .. } => manual_intervention.clone(),
        RunEvent::CheckpointTaken(new) => new.note.clone(),
        _ => None,
    }
}

/// The message of a change to a record that has a ref of its own (a session, a claim, a pool).
pub fn record_changed(subject: &str, event: &str, about: &[(&str, Option<String>)], author: &Author) -> String {
    let mut trailers = vec![("Event", Some(event.to_owned()))];
    trailers.extend(about.iter().cloned());
    trailers.push(("Actor", Some(author.actor.clone())));
    trailers.push(("Host", Some(author.host.to_string())));
    message(subject, "", &trailers)
}

/// A message, taken apart to be shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts<'m> {
    /// Its first line.
    pub subject: &'m str,
    /// What stands between the subject and the trailers.
    pub body: &'m str,
    /// The trailers, names with values.
    pub trailers: Vec<(&'m str, &'m str)>,
}

/// Takes a message apart, to be shown; nothing else may be concluded from it.
pub fn parts(message: &str) -> Parts<'_> {
    let message = message.trim_end();
    let (subject, rest) = message.split_once('\n').unwrap_or((message, ""));
    let rest = rest.trim_matches('\n');
    let (body, last) = rest.rsplit_once("\n\n").unwrap_or(("", rest));
    let trailers: Option<Vec<_>> =
        last.lines().map(|line| line.split_once(": ").filter(|(name, _)| name.starts_with("Tether-"))).collect();
    match trailers {
        Some(trailers) => Parts { subject, body: body.trim_matches('\n'), trailers },
        None => Parts { subject, body: rest, trailers: Vec::new() },
    }
}

/// The trailers of a commit that only puts files into a run's tree.
pub fn trailers_of_files(run: &RunId, author: &Author) -> [(&'static str, Option<String>); 4] {
    [
        ("Event", Some("files_written".to_owned())),
        ("Run", Some(run.to_string())),
        ("Actor", Some(author.actor.clone())),
        ("Host", Some(author.host.to_string())),
    ]
}
