//! Verify and recover: observe, plan, apply.
//!
//! Invariants: one recovery at a time; every step is checked again just before it is taken; a second recovery writes nothing.

use std::collections::BTreeSet;
use std::fs::{File, TryLockError};

use crate::app::at_risk::StepsAtRisk;
use crate::app::failure::{Failure, FailureKind};
use crate::app::observe::Scope;
use crate::app::perform::report;
pub use crate::app::perform::{StepOutcome, StepReport, about};
use crate::app::places::PlaceOutcome;
use crate::app::tether::Tether;
use crate::domain::ids::{RunId, TaskAddress};
use crate::plan::finding::{Finding, FindingCode};
use crate::plan::recover::{Permission, Plan, plan};
use crate::plan::step::Step;
use crate::store::journal::JournalLine;

/// How often a recovery looks again whether its own steps have made more to do.
const MOST_ROUNDS: usize = 4;

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
