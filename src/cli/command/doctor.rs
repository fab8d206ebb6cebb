//! `git tether doctor`

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::app::Failure;
use crate::app::doctor::{Diagnosis, NamedFault, Repair, Treatment};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::render::human::line;
use crate::cli::repository;
use crate::domain::time::Timestamp;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Go back to the last good state of what is bad; what was there is kept as evidence.
    #[arg(long)]
    fix: bool,
}

/// Checks everything that is recorded.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let treatment = if arguments.fix { Treatment::Fix } else { Treatment::Look };
    let diagnosis = repository::open()?.doctor(treatment)?;
    let fields = vec![("doctor", as_json(&diagnosis))];
    let exit = if diagnosis.remaining == 0 { Exit::Done } else { Exit::NeedsPerson };
    let outcome = Outcome::from(Answer::Other { name: "doctor", fields, human: in_words(&diagnosis) }).exit(exit);
    let warnings = diagnosis.warnings.iter().map(|warning| format!("warning: {warning}"));
    Ok(warnings.fold(outcome, Outcome::saying))
}

fn as_json(diagnosis: &Diagnosis) -> Value {
    json!({
        "healthy": diagnosis.remaining == 0,
        "applied": diagnosis.treatment == Treatment::Fix,
        "refs": diagnosis.refs,
        "findings": diagnosis.faults.iter().map(finding).collect::<Vec<_>>(),
        "fixed": diagnosis.faults.iter().filter(|fault| matches!(fault.repair, Repair::Done(_))).count(),
        "remaining": diagnosis.remaining,
    })
}

fn finding(found: &NamedFault) -> Value {
    let (outcome, repair) = match &found.repair {
        Repair::NotAsked => (Value::Null, Value::Null),
        Repair::Done(message) => (Value::from("done"), Value::from(message.as_str())),
        Repair::NotDone(message) => (Value::from("refused"), Value::from(message.as_str())),
    };
    json!({
        "code": found.fault.code.as_str(),
        "ref": found.name.as_str(),
        "path": found.fault.path,
        "problem": found.fault.problem,
        "message": message(found),
        "commit": found.commit(),
        "last_good": found.last_good.as_ref().map(|good| json!({
            "commit": good.commit.to_string(),
            "subject": good.subject,
            "at": Timestamp::from_seconds(good.at).map(|at| at.to_string()),
        })),
        "outcome": outcome,
        "repair": repair,
    })
}

fn message(found: &NamedFault) -> String {
    match &found.fault.path {
        Some(path) => format!("{} {path}: {}", found.name, found.fault.problem),
        None => format!("{}: {}", found.name, found.fault.problem),
    }
}

fn in_words(diagnosis: &Diagnosis) -> String {
    let mut text = String::new();
    for found in &diagnosis.faults {
        let _ = writeln!(text, "{}: {}", found.fault.code, line(&message(found)));
        match &found.repair {
            Repair::Done(message) => drop(writeln!(text, "    {}", line(message))),
            Repair::NotDone(message) => drop(writeln!(text, "    not repaired: {}", line(message))),
            Repair::NotAsked => {
                if let Some(good) = &found.last_good {
                    let at = Timestamp::from_seconds(good.at).map(|at| format!(", {at}")).unwrap_or_default();
                    let short = good.commit.to_hex_with_len(12);
                    let _ = writeln!(text, "    last good state: {short} ({}{at})", line(&good.subject));
                }
            }
        }
    }
    let _ = match (diagnosis.remaining, diagnosis.treatment) {
        (0, _) => writeln!(text, "{} refs, nothing is wrong", diagnosis.refs),
        (count, Treatment::Look) => {
            writeln!(
                text,
                "{} refs, {count} faults; `git tether doctor --fix` goes back to what is good",
                diagnosis.refs
            )
        }
        (count, Treatment::Fix) => writeln!(text, "{} refs, {count} faults remain", diagnosis.refs),
    };
    text
}
