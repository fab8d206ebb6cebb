//! Verify and recover: observe, plan, apply.
//!
//! Invariants: one recovery at a time; every step is checked again just before it is taken; a second recovery writes nothing.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};

use crate::app::at_risk::{AtRisk, StepsAtRisk};
use crate::app::evidence::AssumedDead;
use crate::app::failure::{Failure, FailureKind, chain_of};
use crate::app::observe::Scope;
use crate::app::places::PlaceOutcome;
use crate::app::tether::Tether;
use crate::domain::claim::ClaimKind;
use crate::domain::ids::{RunId, TaskAddress};
use crate::domain::session::SessionStatus;
use crate::domain::transition::apply;
use crate::domain::view::RunView;
use crate::plan::finding::{Finding, FindingCode};
use crate::plan::recover::{Permission, Plan, plan};
use crate::plan::step::Step;
use crate::store::journal::JournalLine;
use crate::store::runs::{Need, Proposal};

/// How often a recovery looks again whether its own steps have made more to do.
const MOST_ROUNDS: usize = 4;
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

/// A plan, and what is at risk where its steps take something away.
struct Planned {
    plan: Plan,
    at_risk: StepsAtRisk,
}

/// Whether a recovery changes anything.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// It prints what it would do.
    Plan,
    /// It does it.
    #[default]
    Apply,
}

/// What a recovery is asked for.
#[derive(Debug, Clone, Default)]
pub struct RecoverOptions {
    /// What it looks at.
    pub scope: Scope,
    /// What it may do beyond writing down what is true.
    pub permissions: BTreeSet<Permission>,
    /// Whether it changes anything.
    pub mode: Mode,
    /// How many tasks it runs at once; 0 counts as 1.
    pub jobs: usize,
}

/// What a recovery or a verification found and did.
#[derive(Debug, Clone, Default)]
pub struct Recovery {
    /// Whether anything was to be changed.
    pub applied: bool,
    /// What differed.
    pub findings: Vec<Finding>,
    /// What was done or would be.
    pub steps: Vec<StepReport>,
    /// Tasks that may go on.
    pub resumable: Vec<TaskAddress>,
    /// Runs whose missing report was written.
    pub restored_reports: Vec<RunId>,
    /// How many findings a person has to settle.
    pub needs_person: usize,
}

impl Tether {
    /// Looks, and changes nothing.
    pub fn verify(&self, scope: &Scope) -> Result<Recovery, Failure> {
        let records = self.read_records(scope)?;
        let seen = self.observe(&records, scope)?;
        let planned = plan(&records, &seen, &BTreeSet::new());
        let needs_person = planned.needs_person();
        Ok(Recovery { findings: planned.findings, resumable: planned.resumable, needs_person, ..Recovery::default() })
    }

    /// Recovers: writes down what is true, releases what the dead hold, and does what else is permitted. `told` hears of each step.
    pub fn recover(&self, options: &RecoverOptions, told: &mut dyn FnMut(&StepReport)) -> Result<Recovery, Failure> {
        options.scope.assumed_dead.require_known(self)?;
        if options.mode == Mode::Plan {
            let planned = self.plan_recovery(options)?;
            return Ok(planned_recovery(planned));
        }
        let lock = self.lock_recovery()?;
        let mut recovery = Recovery { applied: true, ..Recovery::default() };
        let mut to_run: Vec<Step> = Vec::new();
        let mut tried: BTreeSet<String> = BTreeSet::new();
        for _ in 0..MOST_ROUNDS {
            let Planned { plan: planned, at_risk } = self.plan_recovery(options)?;
            recovery.needs_person = planned.needs_person();
            merge_findings(&mut recovery.findings, planned.findings);
            for address in planned.resumable {
                if !recovery.resumable.contains(&address) {
                    recovery.resumable.push(address);
                }
            }
            // What was tried once and did not come true would only be tried again: it is reported as it went.
            let fresh: Vec<Step> = planned.steps.into_iter().filter(|step| tried.insert(format!("{step:?}"))).collect();
            let (runs, others): (Vec<Step>, Vec<Step>) =
                fresh.into_iter().partition(|step| matches!(step, Step::RunTask { .. }));
            to_run.extend(runs);
            let mut reports = self.perform_all(others, &options.scope.assumed_dead, told);
            for report in &mut reports {
                report.at_risk = at_risk.of(&report.step);
            }
            let progressed = reports.iter().any(|report| report.outcome == StepOutcome::Done);
            for report in &reports {
                if let (Step::WriteReport { run }, StepOutcome::Done) = (&report.step, report.outcome) {
                    recovery.restored_reports.push(run.clone());
                }
            }
            recovery.steps.extend(reports);
            if !progressed {
                break;
            }
        }
        self.journal_recovery(&recovery.steps)?;
        drop(lock);
        let ran = self.run_all(to_run, options.jobs.max(1), told);
        if !ran.is_empty() {
            self.journal_recovery(&ran)?;
            recovery.steps.extend(ran);
            recovery.needs_person = self.verify(&options.scope)?.needs_person;
        }
        Ok(recovery)
    }

    fn plan_recovery(&self, options: &RecoverOptions) -> Result<Planned, Failure> {
        let records = self.read_records(&options.scope)?;
        let seen = self.observe(&records, &options.scope)?;
        let plan = plan(&records, &seen, &options.permissions);
        let at_risk = self.find_at_risk(&plan.steps, &records, &seen);
        Ok(Planned { plan, at_risk })
    }

    /// One recovery at a time; the lock frees itself when its holder dies, and no child inherits it.
    fn lock_recovery(&self) -> Result<File, Failure> {
        let path = self.repository().tether_dir().join("recovery.lock");
        let failed = |error: std::io::Error| {
            Failure::fatal("recovery_lock", format!("could not lock {}: {error}", path.display()))
        };
        let file = crate::git::shared_files::open_or_create(&path).map_err(failed)?;
        match file.try_lock() {
            Ok(()) => Ok(file),
            Err(TryLockError::WouldBlock) => {
                Err(Failure::busy("recovery_already_running", "another recovery is at work in this repository")
                    .hint("wait until it is done, then try again"))
            }
            Err(TryLockError::Error(error)) => Err(failed(error)),
        }
    }

    fn perform_all(
        &self,
        steps: Vec<Step>,
        assumed: &AssumedDead,
        told: &mut dyn FnMut(&StepReport),
    ) -> Vec<StepReport> {
        let mut reports = Vec::new();
        let mut steps = steps.into_iter().peekable();
        while let Some(step) = steps.next() {
            let mut together = vec![step];
            while is_note(&together[0])
                && steps.peek().is_some_and(|next| is_note(next) && next.run() == together[0].run())
            {
                together.extend(steps.next());
            }
            let performed = if together.len() >= MANY_NOTES {
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
            Step::RecreateEnvironment { run, environment } => self.recreate_environment(run, environment),
            Step::CleanEnvironment { run, environment } => self.clean_environment(run, environment),
            Step::CleanUnnamed { path, admin_dir, run, environment } => {
                self.clean_unnamed(path, admin_dir, run.as_ref(), environment.as_ref())
            }
            _ => Ok(PlaceOutcome::Skipped("not a step of this phase".to_owned())),
        };
        report(step, done)
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
            Err(failure) => {
                let message = failure.message;
                let failed =
                    |step| StepReport { step, outcome: StepOutcome::Failed, message: message.clone(), at_risk: None };
                steps.into_iter().map(failed).collect()
            }
        }
    }

    fn journal_recovery(&self, reports: &[StepReport]) -> Result<(), Failure> {
        let lines: Vec<JournalLine> = reports
            .iter()
            .filter(|report| report.outcome != StepOutcome::Skipped)
            .map(|report| JournalLine {
                step: report.step.name().to_owned(),
                about: about(&report.step),
                outcome: report.outcome.name().to_owned(),
                message: report.message.clone(),
            })
            .collect();
        if reports.iter().any(|report| report.outcome == StepOutcome::Done) {
            self.ledger().write_journal("recovery", &lines, self.now())?;
        }
        Ok(())
    }

    /// Runs resumed tasks, `jobs` at once, each over a repository that was opened for it.
    fn run_all(&self, steps: Vec<Step>, jobs: usize, told: &mut dyn FnMut(&StepReport)) -> Vec<StepReport> {
        let queue = std::sync::Mutex::new(steps.into_iter());
        let reports = std::sync::Mutex::new(Vec::new());
        let surroundings = self.repository().surroundings();
        std::thread::scope(|scope| {
            for _ in 0..jobs {
                scope.spawn(|| {
                    loop {
                        let next = queue.lock().ok().and_then(|mut queue| queue.next());
                        let Some(step) = next else { break };
                        let report = run_one(surroundings.clone(), step);
                        if let Ok(mut reports) = reports.lock() {
                            reports.push(report);
                        }
                    }
                });
            }
        });
        let reports = reports.into_inner().unwrap_or_default();
        reports.iter().for_each(told);
        reports
    }
}

fn run_one(surroundings: crate::git::Surroundings, step: Step) -> StepReport {
    let Step::RunTask { run, task } = &step else {
        return report(step, Ok(PlaceOutcome::Skipped("not a task to run".to_owned())));
    };
    let address = TaskAddress { run: run.clone(), task: task.clone() };
    let ran = Tether::open_from(surroundings).and_then(|tether| tether.run_resumed(&address));
    let ran = match ran {
        Ok(words) => Ok(PlaceOutcome::Done(words)),
        Err(failure) if matches!(failure.kind, FailureKind::Busy | FailureKind::Held) => {
            Ok(PlaceOutcome::Skipped(failure.message))
        }
        // Another recovery or a person was faster: the task runs, or has run.
        Err(failure) if failure.code == "illegal_transition" => Ok(PlaceOutcome::Skipped(failure.message)),
        Err(failure) => Err(failure),
    };
    report(step, ran)
}

fn planned_recovery(planned: Planned) -> Recovery {
    let Planned { plan: planned, at_risk } = planned;
    let needs_person = planned.needs_person();
    let steps = planned.steps.into_iter().map(|step| {
        let message = format!("would {}", about_to(&step));
        let at_risk = at_risk.of(&step);
        StepReport { step, outcome: StepOutcome::Planned, message, at_risk }
    });
    Recovery {
        applied: false,
        steps: steps.collect(),
        findings: planned.findings,
        resumable: planned.resumable,
        restored_reports: Vec::new(),
        needs_person,
    }
}

fn is_note(step: &Step) -> bool {
    matches!(step, Step::NoteEnvironment { .. } | Step::ReleaseLease { .. })
}

fn report(step: Step, done: Result<PlaceOutcome, Failure>) -> StepReport {
    let (outcome, message) = match done {
        Ok(PlaceOutcome::Done(words)) => (StepOutcome::Done, words),
        Ok(PlaceOutcome::Skipped(words)) => (StepOutcome::Skipped, words),
        Ok(PlaceOutcome::Refused(words)) => (StepOutcome::Refused, words),
        Err(failure) => (StepOutcome::Failed, chain_of(&failure)),
    };
    StepReport { step, outcome, message, at_risk: None }
}

/// Takes findings that were not made before.
fn merge_findings(all: &mut Vec<Finding>, newer: Vec<Finding>) {
    let same = |a: &Finding, b: &Finding| {
        (a.code, &a.run, &a.task, &a.environment, &a.session) == (b.code, &b.run, &b.task, &b.environment, &b.session)
            && (a.code != FindingCode::GatePending && a.code != FindingCode::Leftover || a.message == b.message)
    };
    for finding in newer {
        if !all.iter().any(|known| same(known, &finding)) {
            all.push(finding);
        }
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

fn about_to(step: &Step) -> String {
    let about = about(step);
    match step {
        Step::InterruptTask { .. } => format!("block task {about}: its session is dead"),
        Step::ReleaseLease { session, .. } => format!("release the lease of dead session {session} on {about}"),
        Step::NoteEnvironment { finding, .. } => format!("note that environment {about} is {}", finding.health),
        Step::DeriveEnvironment { environment, .. } => {
            format!("derive environment {} for task {about}", environment.id)
        }
        Step::AbandonSession { reason, .. } => format!("mark session {about} as abandoned: {reason}"),
        Step::ReleaseClaim { .. } => format!("give the claim {about} back"),
        Step::FreeSlot { pool, .. } => format!("free the place of {about} in pool {pool}"),
        Step::WriteReport { .. } => format!("write the report of run {about}"),
        Step::ClearLeftover(_) => format!("clear {about}"),
        Step::RecreateEnvironment { .. } => format!("make environment {about} anew, with its saved work"),
        Step::CleanEnvironment { .. } | Step::CleanUnnamed { .. } => format!("save and remove {about}"),
        Step::ScheduleResume { .. } => format!("queue task {about} to go on"),
        Step::RunTask { .. } => format!("run task {about}"),
    }
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
