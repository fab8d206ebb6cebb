//! The words of a report: what ran, when, with which outcome, what interrupted it, what was saved.
//!
//! Must not know when a report is written or where it is kept.

use std::fmt::Write as _;

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::domain::task::Task;
use crate::domain::view::RunView;
use crate::store::ledger::Ledger;
use crate::store::work::SavedEntry;

/// How many interruptions and recoveries a report lists.
const MOST_INCIDENTS: usize = 200;

/// The report of a run that is about to end, for the commit that ends it.
pub(super) fn report_at_end(ledger: &Ledger, view: &RunView) -> Option<Vec<u8>> {
    make_report(ledger, view).ok().map(String::into_bytes)
}

pub(super) fn make_report(ledger: &Ledger, view: &RunView) -> Result<String, Failure> {
    let mut text = String::new();
    let run = &view.run;
    let title = run.name.as_deref().map_or_else(|| run.id.to_string(), |name| format!("{name} ({})", run.id));
    let _ = writeln!(text, "# Run {}\n", escaped(&title));
    let _ = writeln!(text, "| | |\n|---|---|");
    let _ = writeln!(text, "| status | {} |", run.status);
    let _ = writeln!(text, "| started | {} |", run.created_at);
    let _ = writeln!(text, "| ended | {} |", shown(run.completed_at.as_ref()));
    let _ = writeln!(text, "| lead agent | {} |", shown(run.lead_agent.as_ref()));
    let _ = writeln!(text, "| restored | {} times |", run.restoration.count);
    if let Some(note) = &run.outcome_note {
        let _ = writeln!(text, "| note | {} |", escaped(note));
    }
    let _ = writeln!(text, "\n## Tasks\n");
    let _ = writeln!(text, "| task | state | attempts | started | ended | outcome |\n|---|---|---|---|---|---|");
    for task in view.tasks.values() {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            task.id,
            task.state,
            task.attempts,
            shown(task.started_at.as_ref()),
            shown(task.completed_at.as_ref()),
            outcome(task)
        );
    }
    report_environments(&mut text, view);
    report_gates(&mut text, view);
    report_incidents(ledger, &mut text, view)?;
    match ledger.saved_work(run.id.as_str()) {
        Ok(saved) => report_saved(&mut text, &saved),
        // What is saved has a ref of its own: that it is torn must not keep a run from ending.
        Err(error) => drop(writeln!(text, "\n## Saved work\n\nIt cannot be read: {}", escaped(&chain_of(&error)))),
    }
    Ok(text)
}

/// Interruptions and recoveries, from the run's own history.
fn report_incidents(ledger: &Ledger, text: &mut String, view: &RunView) -> Result<(), Failure> {
    let _ = writeln!(text, "\n## Interruptions and recoveries\n");
    let Some(history) = ledger.history_of_run(&view.run.id)? else { return Ok(()) };
    let told = ["execution_interrupted", "resume_scheduled", "run_restored", "lease_released", "environment_verified"];
    let incidents = history.filter_map(Result::ok).filter(|commit| {
        let event = commit.message.lines().find_map(|line| line.strip_prefix("Tether-Event: "));
        event.is_some_and(|event| told.contains(&event))
    });
    let mut none = true;
    for commit in incidents.take(MOST_INCIDENTS) {
        none = false;
        let subject = commit.message.lines().next().unwrap_or_default();
        let at = crate::domain::time::Timestamp::from_seconds(commit.time.seconds);
        let _ = writeln!(text, "- {} {} ({})", shown(at.as_ref()), escaped(subject), short(&commit.id));
    }
    if none {
        let _ = writeln!(text, "None.");
    }
    Ok(())
}

fn short(id: &ObjectId) -> String {
    id.to_hex_with_len(10).to_string()
}

fn shown<T: ToString>(value: Option<&T>) -> String {
    value.map_or_else(|| "–".to_owned(), ToString::to_string)
}

/// Text of others within Markdown: no table, heading or control character comes of it.
fn escaped(text: &str) -> String {
    let flat: String = text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect();
    flat.replace('|', "\\|").replace('<', "&lt;")
}

fn outcome(task: &Task) -> String {
    let Some(result) = &task.result else { return escaped(&task.blocked_reasons.join("; ")) };
    let mut words = vec![result.outcome.to_string()];
    words.extend(result.exit_code.map(|code| format!("exit {code}")));
    words.extend(result.signal.clone());
    words.extend(result.summary.as_deref().map(escaped));
    words.join(", ")
}

fn report_environments(text: &mut String, view: &RunView) {
    let _ = writeln!(text, "\n## Environments\n");
    if view.environments.is_empty() {
        let _ = writeln!(text, "None.");
        return;
    }
    let _ = writeln!(text, "| environment | mode | state | health | path | branch |\n|---|---|---|---|---|---|");
    for environment in view.environments.values() {
        let path = environment.spec.path.as_ref().map(|path| path.display().to_string());
        let branch = environment.spec.git_worktree.as_ref().and_then(|spec| spec.branch.clone());
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            environment.id,
            environment.execution_mode,
            environment.state,
            environment.health,
            escaped(&shown(path.as_ref())),
            escaped(&shown(branch.as_ref()))
        );
    }
}

fn report_gates(text: &mut String, view: &RunView) {
    let _ = writeln!(text, "\n## Gates\n");
    if view.gates.is_empty() {
        let _ = writeln!(text, "None.");
        return;
    }
    let _ = writeln!(text, "| gate | kind | state | task | asked | decision |\n|---|---|---|---|---|---|");
    for gate in view.gates.values() {
        let decision = gate.decision.as_ref().map(|decision| {
            let words = [Some(decision.action.to_string()), decision.answer.clone(), decision.note.clone()];
            words.into_iter().flatten().collect::<Vec<_>>().join(": ")
        });
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            gate.id,
            gate.kind,
            gate.state,
            shown(gate.task.as_ref()),
            escaped(gate.prompt.as_deref().unwrap_or("–")),
            escaped(decision.as_deref().unwrap_or("–"))
        );
    }
}

fn report_saved(text: &mut String, saved: &[SavedEntry]) {
    let _ = writeln!(text, "\n## Saved work\n");
    if saved.is_empty() {
        let _ = writeln!(text, "None.");
        return;
    }
    let _ = writeln!(text, "| id | task | files | branch | reason | at |\n|---|---|---|---|---|---|");
    for entry in saved {
        let _ = writeln!(
            text,
            "| {} | {} | {} | {} | {} | {} |",
            entry.id,
            shown(entry.task.as_ref()),
            entry.files,
            escaped(&shown(entry.branch.as_ref())),
            escaped(&entry.reason),
            entry.at
        );
    }
}

/// Whether a stored report tells of this end of the run.
pub(super) fn is_current(stored: &[u8], view: &RunView) -> bool {
    let text = String::from_utf8_lossy(stored);
    text.contains(&format!("| status | {} |", view.run.status))
        && text.contains(&format!("| ended | {} |", shown(view.run.completed_at.as_ref())))
}
