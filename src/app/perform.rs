//! Performing the steps of a plan: each is checked again just before it is taken.
//!
//! Owns: what carries out which step, and which are taken at once. Must not know: how a plan came to be, or who hears of it. Invariant: a
//! step whose precondition has gone is skipped with a reason, and one that fails stops no other.

use crate::app::at_risk::AtRisk;
use crate::app::evidence::AssumedDead;
use crate::app::failure::{Failure, chain_of};
use crate::app::places::PlaceOutcome;
use crate::app::tether::Tether;
use crate::domain::claim::ClaimKind;
use crate::domain::session::SessionStatus;
use crate::domain::transition::apply;
use crate::domain::view::RunView;
use crate::plan::step::Step;
use crate::store::runs::{Need, Proposal};

/// From how many on the notes about a run's environments are one commit.
const MANY_NOTES: usize = 8;

/// How a step went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StepOutcome {
    /// It was done.
    Done,
    /// It would be done.
    Planned,
    /// Its precondition did not hold any more.
    Skipped,
    /// It would have put something at risk.
    Refused,
    /// It could not be done.
    Failed,
}

impl StepOutcome {
    /// Its name, for scripts.
    pub fn name(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Planned => "planned",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

/// A step, and how it went.
#[derive(Debug, Clone)]
pub struct StepReport {
    /// The step.
    pub step: Step,
    /// How it went.
    pub outcome: StepOutcome,
    /// In words.
    pub message: String,
    /// For one that takes a place away: what was at risk there when it was planned.
    pub at_risk: Option<AtRisk>,
}

impl Tether {
    pub(super) fn perform_all(
        &self,
        steps: Vec<Step>,
        assumed: &AssumedDead,
        told: &mut dyn FnMut(&StepReport),
    ) -> Vec<StepReport> {
        let mut reports = Vec::new();
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            let mut together = vec![step];
            while steps.peek().is_some_and(|next| go_together(&together[0], next)) {
                together.extend(steps.next());
            }
            let performed = if is_recreation(&together[0]) {
                self.perform_recreations(together)
            } else if together.len() >= MANY_NOTES {
                self.perform_together(together)
            } else {
                together.into_iter().map(|step| self.perform(step, assumed)).collect()
            };
            for report in performed {
                told(&report);
                reports.push(report);
            }
        }
        reports
    }

    fn perform(&self, step: Step, assumed: &AssumedDead) -> StepReport {
        match self.find_sign_of_life(&step, assumed) {
            Ok(None) => {}
            Ok(Some(life)) => return report(step, Ok(PlaceOutcome::Skipped(life))),
            Err(failure) => return report(step, Err(failure)),
        }
        let done = match &step {
            step if step.is_record_step() => self.perform_record_step(step, assumed),
            Step::AbandonSession { session, reason } => self
                .end_session(session, SessionStatus::Abandoned)
                .map(|_| PlaceOutcome::Done(format!("session {session} is abandoned: {reason}"))),
            Step::ReleaseClaim { kind, key, generation } => self.perform_release(*kind, key, *generation),
            Step::FreeSlot { pool, task, session } => self
                .give_slot_back(pool, task, session.as_ref())
                .map(|()| PlaceOutcome::Done(format!("{task} gave its place in pool {pool} back"))),
            Step::WriteReport { run } => self.ensure_report(run).map(|written| {
                if written {
                    PlaceOutcome::Done(format!("the report of run {run} is written"))
                } else {
                    PlaceOutcome::Skipped("the report is there".to_owned())
                }
            }),
            Step::ClearLeftover(leftover) => self.clear_leftover(leftover),
            Step::CleanEnvironment { run, environment } => self.clean_environment(run, environment),
            Step::CleanUnnamed { path, admin_dir, run, environment } => {
                self.clean_unnamed(path, admin_dir, run.as_ref(), environment.as_ref())
            }
            _ => Ok(PlaceOutcome::Skipped("not a step of this phase".to_owned())),
        };
        report(step, done)
    }

    /// Puts several environments of one run back together. It rests on the death of no session, so there is none to look at again.
    fn perform_recreations(&self, steps: Vec<Step>) -> Vec<StepReport> {
        let Some(run) = steps.first().and_then(|step| step.run().cloned()) else { return Vec::new() };
        let ids: Vec<_> = steps.iter().filter_map(|step| step.environment().cloned()).collect();
        let outcomes = self.recreate_environments(&run, &ids);
        steps.into_iter().zip(outcomes).map(|(step, outcome)| report(step, outcome)).collect()
    }

    fn perform_release(&self, kind: ClaimKind, key: &str, generation: u64) -> Result<PlaceOutcome, Failure> {
        self.give_claim_back(kind, key, |claim| claim.generation == generation)?;
        Ok(PlaceOutcome::Done(format!("the claim {kind} {key} is given back")))
    }

    /// Writes what a step stands for, decided again on the run as it is then.
    fn perform_record_step(&self, step: &Step, assumed: &AssumedDead) -> Result<PlaceOutcome, Failure> {
        let Some(run) = step.run().cloned() else { return Ok(PlaceOutcome::Skipped("it names no run".to_owned())) };
        let need = match step {
            Step::InterruptTask { task, .. } | Step::ScheduleResume { task, .. } => Need::run().with_task(task),
            _ => Need::Everything,
        };
        let before = self.read_run(&run, &need)?.view;
        if let Some(life) = self.find_sign_of_executor(step, &before, assumed)? {
            return Ok(PlaceOutcome::Skipped(life));
        }
        let done = self.change_run(&run, &need, |view| Ok(Proposal::from(step.events(view))))?;
        if done.changes.is_none() {
            return Ok(PlaceOutcome::Skipped("the world has moved on".to_owned()));
        }
        self.settle_after(&run, &before)?;
        Ok(PlaceOutcome::Done(words_for(step, &done.view)))
    }

    /// Writes many notes about the environments of one run in one commit.
    fn perform_together(&self, steps: Vec<Step>) -> Vec<StepReport> {
        let Some(run) = steps.first().and_then(|step| step.run().cloned()) else { return Vec::new() };
        let mut changed: Vec<bool> = Vec::new();
        let done = self.change_run(&run, &Need::Everything, |view| {
            let mut view: RunView = view.clone();
            let mut all = Vec::new();
            changed.clear();
            for step in &steps {
                let events = step.events(&view);
                changed.push(!events.is_empty());
                for event in events {
                    view.absorb(apply(&view, &event, view.run.updated_at)?);
                    all.push(event);
                }
            }
            Ok(all.into())
        });
        match done {
            Ok(done) => steps
                .into_iter()
                .zip(changed)
                .map(|(step, changed)| {
                    let words = words_for(&step, &done.view);
                    let outcome = if changed {
                        PlaceOutcome::Done(words)
                    } else {
                        PlaceOutcome::Skipped("the world has moved on".to_owned())
                    };
                    report(step, Ok(outcome))
                })
                .collect(),
            Err(failure) => steps.into_iter().map(|step| report(step, Err(failure.clone()))).collect(),
        }
    }
}

/// Whether two steps in a row may be taken at once.
fn go_together(first: &Step, next: &Step) -> bool {
    let alike = is_note(first) && is_note(next) || is_recreation(first) && is_recreation(next);
    alike && first.run() == next.run()
}

fn is_recreation(step: &Step) -> bool {
    matches!(step, Step::RecreateEnvironment { .. })
}

fn is_note(step: &Step) -> bool {
    matches!(step, Step::NoteEnvironment { .. } | Step::ReleaseLease { .. })
}

pub(super) fn report(step: Step, done: Result<PlaceOutcome, Failure>) -> StepReport {
    let (outcome, message) = match done {
        Ok(PlaceOutcome::Done(words)) => (StepOutcome::Done, words),
        Ok(PlaceOutcome::Skipped(words)) => (StepOutcome::Skipped, words),
        Ok(PlaceOutcome::Refused(words)) => (StepOutcome::Refused, words),
        Err(failure) => (StepOutcome::Failed, chain_of(&failure)),
    };
    StepReport { step, outcome, message, at_risk: None }
}

fn words_for(step: &Step, view: &RunView) -> String {
    let about = about(step);
    match step {
        Step::InterruptTask { task, .. } => {
            let reasons = view.tasks.get(task).map(|task| task.blocked_reasons.join("; ")).unwrap_or_default();
            format!("task {about}: running → blocked ({reasons})")
        }
        Step::ReleaseLease { session, reason, .. } => {
            format!("the lease of session {session} on {about} is released: {reason}")
        }
        Step::NoteEnvironment { finding, .. } => format!("environment {about} is {}", finding.health),
        Step::DeriveEnvironment { environment, .. } => format!("task {about} works in environment {}", environment.id),
        Step::ScheduleResume { task, .. } => {
            let state = view.tasks.get(task).map(|task| task.state.to_string()).unwrap_or_default();
            format!("task {about}: {state}, to go on from its checkpoint")
        }
        _ => about,
    }
}

/// What a step is about: `RUN/TASK`, `RUN/ENV`, a session, a path.
pub fn about(step: &Step) -> String {
    let part = step.task().map(ToString::to_string).or_else(|| step.environment().map(ToString::to_string));
    match (step.run(), part, step) {
        (Some(run), Some(part), _) => format!("{run}/{part}"),
        (Some(run), None, _) => run.to_string(),
        (None, _, Step::AbandonSession { session, .. }) => session.to_string(),
        (None, _, Step::ReleaseClaim { kind, key, .. }) => format!("{kind} {key}"),
        (None, _, Step::CleanUnnamed { path, .. }) => path.display().to_string(),
        (None, _, Step::ClearLeftover(leftover)) => leftover.name(),
        (None, _, _) => String::new(),
    }
}
