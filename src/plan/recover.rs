//! `(records, observation, what is allowed) -> plan`: the findings turned into steps.
//!
//! The record steps are simulated on the records themselves, so that what follows from them (a task that becomes resumable, an
//! environment that is free) is planned in the same pass. Invariant: planning over what the plan leaves behind yields nothing.

use std::collections::{BTreeMap, BTreeSet};

use super::finding::{Finding, FindingCode};
use super::observation::{Leftover, Observation, PlaceSeen, Records};
use super::step::Step;
use super::verify;
use crate::domain::checkpoint::{Checkpoint, RESUME_NOTE, ResumeDisposition};
use crate::domain::environment::{
    CleanupPolicy, Environment, EnvironmentSpec, EnvironmentState, ExecutionMode, NewEnvironment, RecoveryAction,
};
use crate::domain::ids::{RunId, TaskAddress};
use crate::domain::liveness::Verdict;
use crate::domain::run::RunStatus;
use crate::domain::task::{Task, TaskState};
use crate::domain::transition::apply;
use crate::domain::view::RunView;

/// What a recovery may do beyond writing down what is true.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Permission {
    /// Make missing environments anew.
    Recreate,
    /// Save and remove what nobody needs.
    Clean,
    /// Queue and run what may go on.
    Resume,
    /// Restart also what may be done again from its boundary.
    Restart,
}

/// Findings, and the steps that follow from them.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// What differs.
    pub findings: Vec<Finding>,
    /// What is to be done, in this order.
    pub steps: Vec<Step>,
    /// Tasks that may go on, once the plan is carried out.
    pub resumable: Vec<TaskAddress>,
}

impl Plan {
    /// How many findings a person has to settle.
    pub fn needs_person(&self) -> usize {
        self.findings.iter().filter(|finding| finding.needs_person).count()
    }
}

/// Plans a recovery.
pub fn plan(records: &Records, seen: &Observation, allowed: &BTreeSet<Permission>) -> Plan {
    let mut planner = Planner { records, seen, allowed, views: records.runs.clone(), steps: Vec::new() };
    // First of all: a ref whose lock was left behind takes no change.
    planner.plan_leftovers(|leftover| matches!(leftover, Leftover::RefLock(_)));
    for run in records.runs.keys() {
        planner.plan_records(run);
    }
    planner.plan_holds();
    for run in &records.without_report {
        planner.steps.push(Step::WriteReport { run: run.clone() });
    }
    planner.plan_leftovers(|leftover| !matches!(leftover, Leftover::RefLock(_)));
    planner.plan_unnamed();
    for run in records.runs.keys() {
        planner.plan_places(run);
    }
    let mut resumable = Vec::new();
    for run in records.runs.keys() {
        resumable.extend(planner.plan_resumes(run));
    }
    let mut findings = verify::find(records, seen);
    let Planner { views, steps, .. } = planner;
    findings.extend(blocked_by_this_recovery(records, &views, &findings));
    Plan { findings, steps, resumable }
}

/// What becomes of tasks that this recovery interrupts, so that one recovery says all there is to say.
fn blocked_by_this_recovery(records: &Records, after: &BTreeMap<RunId, RunView>, findings: &[Finding]) -> Vec<Finding> {
    let interrupted = findings.iter().filter(|finding| finding.code == FindingCode::ExecutionInterrupted);
    let blocked = interrupted.filter_map(|finding| {
        let (run, task) = (finding.run.as_ref()?, finding.task.as_ref()?);
        let view = after.get(run)?;
        let known = view.tasks.get(task).filter(|known| known.is_interrupted())?;
        let was_blocked = records.runs.get(run)?.tasks.get(task)?.is_interrupted();
        if was_blocked { None } else { Some(verify::find_blocked(view, known)) }
    });
    blocked.collect()
}

struct Planner<'a> {
    records: &'a Records,
    seen: &'a Observation,
    allowed: &'a BTreeSet<Permission>,
    views: BTreeMap<RunId, RunView>,
    steps: Vec<Step>,
}

impl Planner<'_> {
    fn may(&self, permission: Permission) -> bool {
        self.allowed.contains(&permission)
    }

    fn view(&self, run: &RunId) -> Option<&RunView> {
        self.views.get(run)
    }

    /// Takes a record step into the plan if it changes anything, and its change into the simulated run.
    fn take(&mut self, run: &RunId, step: Step) {
        let Some(view) = self.views.get_mut(run) else { return };
        let events = step.events(view);
        if events.is_empty() {
            return;
        }
        for event in &events {
            match apply(view, event, view.run.updated_at) {
                Ok(changes) => view.absorb(changes),
                Err(_) => return,
            }
        }
        self.steps.push(step);
    }

    fn is_over(&self, run: &RunId) -> bool {
        self.view(run).is_none_or(|view| view.run.status.is_terminal())
    }

    fn plan_records(&mut self, run: &RunId) {
        let Some(view) = self.records.runs.get(run) else { return };
        let places: Vec<_> = view.environments.values().filter(|known| self.is_ours_to_judge(run, known)).collect();
        // Leases first: the interruption of a task would give its lease back too, and could not say why.
        for environment in &places {
            self.plan_release(run, view, environment);
        }
        if !self.is_over(run) {
            for task in view.tasks.values() {
                self.plan_task(run, view, task);
            }
        }
        for environment in places {
            if let Some((finding, _, _)) = verify::judge(view, environment, self.records, self.seen) {
                self.take(
                    run,
                    Step::NoteEnvironment { run: run.clone(), environment: environment.id.clone(), finding },
                );
            }
        }
    }

    fn is_ours_to_judge(&self, run: &RunId, environment: &Environment) -> bool {
        let key = (run.clone(), environment.id.clone());
        !environment.state.is_gone()
            && !self.seen.being_made.contains(&key)
            && !matches!(self.seen.places.get(&key), Some(PlaceSeen::Elsewhere(_)))
    }

    fn plan_task(&mut self, run: &RunId, view: &RunView, task: &Task) {
        let dead = task.state == TaskState::Running
            && verify::liveness_of_task(task, view, self.records, self.seen).verdict == Verdict::Dead;
        if dead {
            let (task, session) = (task.id.clone(), task.session.clone());
            self.take(run, Step::InterruptTask { run: run.clone(), task, session });
        }
        if task.started_at.is_some() && !task.state.is_terminal() && task.environment.is_none() {
            let environment = Box::new(derived_environment(view, task));
            self.take(run, Step::DeriveEnvironment { run: run.clone(), task: task.id.clone(), environment });
        }
    }

    fn plan_release(&mut self, run: &RunId, view: &RunView, environment: &Environment) {
        if let Some(lease) = environment.held_lease()
            && let Some(why) = verify::is_dead(&lease.session, view, self.records, self.seen)
        {
            let step = Step::ReleaseLease {
                run: run.clone(),
                environment: environment.id.clone(),
                session: lease.session.clone(),
                reason: format!("its session is dead: {why}"),
            };
            self.take(run, step);
        }
    }

    /// Sessions, claims and pool places that are held by the dead.
    fn plan_holds(&mut self) {
        let dead = verify::dead_sessions(self.records, self.seen);
        for session in &dead {
            let why = self.seen.liveness.get(*session).map(|known| known.evidence.join("; ")).unwrap_or_default();
            self.steps.push(Step::AbandonSession { session: (*session).clone(), reason: why });
        }
        let held_by_dead = |claim: &&crate::domain::claim::Claim| {
            claim.is_held() && claim.session.as_ref().is_some_and(|session| dead.contains(&session))
        };
        let by_dead = self.records.claims.iter().filter(held_by_dead);
        let claims: Vec<_> = by_dead.chain(verify::stale_claims(self.records, self.seen)).collect();
        for claim in claims {
            self.steps.push(Step::ReleaseClaim {
                kind: claim.kind,
                key: claim.key.clone(),
                generation: claim.generation,
            });
        }
        for pool in &self.records.pools {
            for slot in &pool.running {
                let task = TaskAddress { run: slot.run.clone(), task: slot.task.clone() };
                let stale = |view| verify::is_slot_stale(slot, view, self.records, self.seen);
                if self.view(&slot.run).is_some_and(stale) {
                    let session = slot.session.clone();
                    self.steps.push(Step::FreeSlot { pool: pool.id.clone(), task, session });
                }
            }
        }
    }

    fn plan_leftovers(&mut self, which: impl Fn(&Leftover) -> bool) {
        for leftover in self.seen.leftovers.iter().filter(|leftover| which(leftover)) {
            let needs_clean = matches!(leftover, Leftover::Branch { .. });
            if !needs_clean || self.may(Permission::Clean) {
                self.steps.push(Step::ClearLeftover(leftover.clone()));
            }
        }
    }

    fn plan_unnamed(&mut self) {
        if self.may(Permission::Clean) {
            for unnamed in &self.seen.unnamed {
                self.steps.push(Step::CleanUnnamed {
                    path: unnamed.path.clone(),
                    admin_dir: unnamed.admin_dir.clone(),
                    run: unnamed.run.clone(),
                    environment: unnamed.environment.clone(),
                });
            }
        }
    }

    /// What is done on disk, if it is allowed: making missing places anew for open tasks, cleaning what nobody needs.
    fn plan_places(&mut self, run: &RunId) {
        let Some(view) = self.views.get(run) else { return };
        let mut steps = Vec::new();
        for environment in view.environments.values().filter(|environment| !environment.state.is_gone()) {
            let key = (run.clone(), environment.id.clone());
            let place = self.seen.places.get(&key);
            if self.seen.being_made.contains(&key) || matches!(place, None | Some(PlaceSeen::Elsewhere(_))) {
                continue;
            }
            let environment_id = environment.id.clone();
            // A place that cannot be looked at may hold anything.
            if matches!(place, Some(PlaceSeen::Unknown(_))) {
                continue;
            }
            let half_made = environment.state.is_unfinished() && environment.state != EnvironmentState::Recovering;
            let open = needed_by_open_task(view, environment);
            if self.may(Permission::Recreate) && open && may_be_recreated(environment) {
                steps.push(Step::RecreateEnvironment { run: run.clone(), environment: environment_id });
            } else if self.may(Permission::Clean) && (!open || half_made) && may_be_cleaned(view, environment, place) {
                steps.push(Step::CleanEnvironment { run: run.clone(), environment: environment_id });
            }
        }
        for step in steps {
            if let Step::RecreateEnvironment { environment, .. } = &step {
                let ready = crate::domain::event::RunEvent::EnvironmentMoved {
                    environment: environment.clone(),
                    state: EnvironmentState::Ready,
                    spec: None,
                    failure: None,
                    cleanup: None,
                };
                if let Some(view) = self.views.get_mut(run)
                    && let Ok(changes) = apply(view, &ready, view.run.updated_at)
                {
                    view.absorb(changes);
                }
            }
            self.steps.push(step);
        }
    }

    /// Queues and runs what may go on; answers with every task that may, allowed here or not.
    fn plan_resumes(&mut self, run: &RunId) -> Vec<TaskAddress> {
        let Some(view) = self.views.get(run) else { return Vec::new() };
        if view.run.status == RunStatus::Paused || view.run.fixed_by.is_some() {
            return Vec::new();
        }
        let resumable: Vec<_> =
            view.tasks.values().filter(|task| self.may_go_on(view, task)).map(Task::address).collect();
        if self.may(Permission::Resume) || self.may(Permission::Restart) {
            for address in &resumable {
                let task = address.task.clone();
                self.take(run, Step::ScheduleResume { run: run.clone(), task: task.clone() });
                let queued = self
                    .view(run)
                    .and_then(|view| view.tasks.get(&task))
                    .is_some_and(|task| task.state == TaskState::Queued);
                if queued && self.seen.runnable.contains(&address.to_string()) {
                    self.steps.push(Step::RunTask { run: run.clone(), task });
                }
            }
            for task in self.queued_to_resume(run) {
                if !resumable.contains(&task) && self.seen.runnable.contains(&task.to_string()) {
                    self.steps.push(Step::RunTask { run: run.clone(), task: task.task });
                }
            }
        }
        resumable
    }

    /// Tasks that an earlier recovery queued for resuming and did not live to run.
    fn queued_to_resume(&self, run: &RunId) -> Vec<TaskAddress> {
        let Some(view) = self.view(run) else { return Vec::new() };
        let scheduled = |task: &&Task| {
            task.state == TaskState::Queued
                && task.attempts > 0
                && view
                    .checkpoints
                    .get(&task.id)
                    .is_some_and(|checkpoint| checkpoint.note.as_deref() == Some(RESUME_NOTE))
        };
        view.tasks.values().filter(scheduled).map(Task::address).collect()
    }

    fn may_go_on(&self, view: &RunView, task: &Task) -> bool {
        if !task.is_interrupted() {
            return false;
        }
        let restart = |checkpoint: &Checkpoint| {
            self.may(Permission::Restart)
                && checkpoint.resume_disposition == ResumeDisposition::RestartFromBoundary
                && !checkpoint.result_published
        };
        let allowed =
            view.checkpoints.get(&task.id).is_some_and(|checkpoint| checkpoint.may_resume() || restart(checkpoint));
        allowed && view.environment_of(task).is_none_or(|environment| self.is_usable(view, environment))
    }

    fn is_usable(&self, view: &RunView, environment: &Environment) -> bool {
        if environment.state.is_gone() || environment.state.is_unfinished() {
            return false;
        }
        !matches!(
            environment.recovery_action,
            Some(RecoveryAction::MarkTaskBlocked | RecoveryAction::RecreateMissingEnvironment)
        ) && !matches!(
            self.seen.places.get(&(view.run.id.clone(), environment.id.clone())),
            Some(PlaceSeen::Unknown(_) | PlaceSeen::Elsewhere(_))
        )
    }
}

fn needed_by_open_task(view: &RunView, environment: &Environment) -> bool {
    !(view.run.status.is_terminal() && view.run.fixed_by.is_some())
        && view
            .tasks
            .values()
            .any(|task| task.environment.as_ref() == Some(&environment.id) && !task.state.is_terminal())
}

fn may_be_recreated(environment: &Environment) -> bool {
    environment.execution_mode.is_ours_to_remove()
        && (environment.state.is_unfinished()
            || environment.recovery_action == Some(RecoveryAction::RecreateMissingEnvironment))
}

fn may_be_cleaned(view: &RunView, environment: &Environment, place: Option<&PlaceSeen>) -> bool {
    if !environment.execution_mode.is_ours_to_remove() || environment.held_lease().is_some() {
        return false;
    }
    let gone = matches!(place, Some(PlaceSeen::Gone));
    if !gone && !matches!(place, Some(PlaceSeen::There { locked: false, .. })) && !environment.state.is_unfinished() {
        return false;
    }
    let tasks: Vec<_> = view.tasks.values().filter(|task| task.environment.as_ref() == Some(&environment.id)).collect();
    let all = |state: TaskState| !tasks.is_empty() && tasks.iter().all(|task| task.state == state);
    match environment.spec.cleanup_policy {
        CleanupPolicy::KeepAlways => gone,
        CleanupPolicy::RemoveOnSuccess => gone || tasks.is_empty() || all(TaskState::Completed),
        CleanupPolicy::ArchiveOnFailure => gone || tasks.is_empty() || all(TaskState::Failed),
        CleanupPolicy::ArchiveAlways | CleanupPolicy::RemoveWhenCleanOtherwiseArchive => true,
    }
}

/// The environment that a started task of older data is given.
fn derived_environment(view: &RunView, task: &Task) -> NewEnvironment {
    let mode = view.run.policy.execution_mode.unwrap_or(ExecutionMode::SharedWorkspace);
    let dir = view.checkpoints.get(&task.id).and_then(|checkpoint| checkpoint.workspace_dir.clone());
    NewEnvironment {
        id: Environment::derived_id(&view.run.id, &task.id, task.agent.as_deref()),
        execution_mode: mode,
        spec: EnvironmentSpec {
            workspace_root: None,
            path: dir,
            mount_point: None,
            cleanup_policy: mode.default_cleanup(),
            write_access: true,
            git_worktree: None,
            remote_url: None,
        },
        state: EnvironmentState::Ready,
        host: view.run.host.clone(),
    }
}
