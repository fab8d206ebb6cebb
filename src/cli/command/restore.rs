//! `git tether restore`

use clap::Args;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::render::json::run_entries;
use crate::cli::repository;
use crate::domain::ids::RunId;
use crate::domain::restoration::RestorationReport;
use crate::domain::run::{RestorationOutcome, RestorationSource};
use crate::domain::view::RunView;
use crate::record::fields;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
    /// Why: restart, reassignment or manual.
    #[arg(long, default_value = "manual")]
    source: RestorationSource,
}

/// Restores the executor of a run.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let restored = repository::open()?.restore_run(&arguments.run, arguments.source)?;
    let exit = match restored.report.outcome {
        RestorationOutcome::ManualIntervention => Exit::NeedsPerson,
        _ => Exit::Done,
    };
    let outcome = Outcome::from(restoration(&restored.view, Some(&restored.report))).exit(exit);
    Ok(restored.report.warnings.iter().fold(outcome, |outcome, warning| outcome.saying(format!("warning: {warning}"))))
}

/// A run with what its executor was told, if it ever was restored.
pub(crate) fn restoration(view: &RunView, report: Option<&RestorationReport>) -> Answer {
    let mut entries = run_entries(view);
    entries.push(("restoration", report.map_or(serde_json::Value::Null, fields)));
    let human = match report {
        Some(report) => report.notice.clone(),
        None => format!("Run {} was never restored.", view.run.id),
    };
    Answer::Other { name: "run", fields: entries, human }
}
