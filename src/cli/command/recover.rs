//! `git tether recover`

use std::collections::BTreeSet;

use clap::Args;

use crate::app::Failure;
use crate::app::evidence::AssumedDead;
use crate::app::observe::Scope;
use crate::app::recover::{Mode, RecoverOptions, StepOutcome, StepReport};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::render::recovery::{recovery_entries, recovery_text, stream_line};
use crate::cli::repository;
use crate::domain::ids::RunId;
use crate::plan::recover::Permission;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this run.
    #[arg(long)]
    run: Vec<RunId>,
    /// Print what would be done, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Make missing environments of open tasks anew, with their saved work.
    #[arg(long)]
    recreate: bool,
    /// Save and remove environments that no open task needs.
    #[arg(long)]
    clean: bool,
    /// Let tasks go on from their checkpoints.
    #[arg(long)]
    resume: bool,
    /// The same, and restart those that may be done again from their boundary.
    #[arg(long)]
    restart: bool,
    /// How many tasks run at once.
    #[arg(long, value_name = "N", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..))]
    jobs: u16,
    /// A session, or host:H, that you know to be gone.
    #[arg(long, value_name = "S|host:H")]
    assume_dead: Vec<String>,
}

/// Recovers after an interruption.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let asked = [
        (arguments.recreate, Permission::Recreate),
        (arguments.clean, Permission::Clean),
        (arguments.resume || arguments.restart, Permission::Resume),
        (arguments.restart, Permission::Restart),
    ];
    let options = RecoverOptions {
        scope: Scope { runs: arguments.run, assumed_dead: AssumedDead::parse(&arguments.assume_dead)? },
        permissions: asked
            .into_iter()
            .filter(|(given, _)| *given)
            .map(|(_, permission)| permission)
            .collect::<BTreeSet<_>>(),
        mode: if arguments.dry_run { Mode::Plan } else { Mode::Apply },
        jobs: usize::from(arguments.jobs),
    };
    let stream = json == Some(JsonForm::Stream);
    let tether = repository::open()?;
    let mut hook_works = true;
    let mut told = |report: &StepReport| {
        if report.step.environment().is_none() || report.outcome == StepOutcome::Planned {
            return;
        }
        let line = stream_line(report);
        if stream {
            crate::cli::print(&line);
        }
        if hook_works {
            let wrong = tether.tell_recovery_hook(&line).unwrap_or_else(|failure| Some(failure.message));
            // One that hangs would hold up the recovery each time; one that merely refuses hears of everything.
            hook_works = wrong.as_ref().is_none_or(|wrong| !wrong.contains("took longer"));
            if let Some(wrong) = wrong {
                crate::cli::narrate(&format!("warning: {wrong}"));
            }
        }
    };
    let recovery = tether.recover(&options, &mut told)?;
    let exit = Exit::for_findings(recovery.needs_person);
    if stream {
        return Ok(Outcome::from(Answer::Nothing).exit(exit));
    }
    let answer = Answer::Other {
        name: "recovery",
        fields: recovery_entries(&recovery, None),
        human: recovery_text(&recovery, None),
    };
    Ok(Outcome::from(answer).exit(exit))
}
