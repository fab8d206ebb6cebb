//! What happens to tasks and their checkpoints.

use std::time::Duration;

use super::draft::Draft;
use super::holding::{expire_of_task, holding_gate, open_for_task};
use super::refused::RefusedTransition;
use crate::domain::checkpoint::{Checkpoint, NewCheckpoint, RESUME_NOTE, ResumeDisposition, Stage, TakenBy};
use crate::domain::environment::Lease;
use crate::domain::event::WorkEnd;
use crate::domain::gate::{Gate, GateKind, NewGate};
use crate::domain::ids::{PoolName, SessionId, TaskId};
use crate::domain::run::RunStatus;
use crate::domain::task::{INTERRUPTED, NewTask, Requirement, Task, TaskOutcome, TaskResult, TaskState};

pub(super) fn add(draft: &mut Draft<'_>, new: &NewTask) -> Result<(), RefusedTransition> {
    if draft.read_task(&new.id).is_ok() {
        return Err(draft.exists("task", &new.id));
    }
    let run = draft.run();
    if run.fixed_by.is_some() {
        return Err(RefusedTransition::RunEnded { run: run.id.to_string(), status: run.status });
    }
    check_dependencies(draft, new)?;
    let mut requirements = draft.run().policy.requirements.clone();
    requirements.extend(&new.requirements);
    requirements.sort();
    requirements.dedup();
    let needs_approval = requirements.contains(&Requirement::Approval);
    let at = draft.at;
    let task = Task {
        id: new.id.clone(),
        run: draft.run().id.clone(),
        name: new.name.clone(),
        agent: new.agent.clone(),
        role: new.role.clone(),
        prompt: new.prompt.clone(),
        command: new.command.clone(),
        state: TaskState::Queued,
        priority: new.priority,
        depends_on: unique(&new.depends_on),
        pool: new.pool.clone().or_else(|| new.agent.as_deref().and_then(PoolName::of_agent)),
        attempts: 0,
        environment: None,
        session: None,
        blocked_reasons: Vec::new(),
        gates: Vec::new(),
        retry: new.retry,
        result: None,
        tags: new.tags.clone(),
        created_at: at,
        updated_at: at,
        started_at: None,
        completed_at: None,
        requirements,
        state_changed_at: Some(at),
        unreadable_state: None,
    };
    draft.changes.tasks.insert(new.id.clone(), task);
    if needs_approval {
        open_required(draft, &new.id, Requirement::Approval)?;
    }
    Ok(())
}

fn unique(tasks: &[TaskId]) -> Vec<TaskId> {
    let mut known = std::collections::BTreeSet::new();
    tasks.iter().filter(|task| known.insert(*task)).cloned().collect()
}

fn check_dependencies(draft: &Draft<'_>, new: &NewTask) -> Result<(), RefusedTransition> {
    for dependency in &new.depends_on {
        if *dependency == new.id {
            return Err(RefusedTransition::Cycle {
                task: new.id.clone(),
                path: format!("{dependency} -> {dependency}"),
            });
        }
        draft.read_task(dependency)?;
    }
    Ok(())
}

fn open_required(draft: &mut Draft<'_>, task: &TaskId, requirement: Requirement) -> Result<(), RefusedTransition> {
    let mut id = requirement.gate_id(task);
    let mut number = 1;
    while draft.read_gate(&id).is_ok() {
        number += 1;
        id = crate::domain::ids::GateId::made_from(&format!("{requirement}-{number}-{task}"));
    }
    let prompt = match requirement {
        Requirement::Approval => format!("Start task {task}?"),
        Requirement::Review => format!("Is the work of task {task} good?"),
        Requirement::Test => format!("Do the tests of task {task} pass?"),
    };
    let new = NewGate {
        id,
        kind: GateKind::Approval,
        key: Some(requirement.to_string()),
        task: Some(task.clone()),
        prompt: Some(prompt),
        choices: Vec::new(),
        context: None,
        question_type: None,
    };
    open_for_task(draft, &new)
}

/// Refuses to start or resume anything in a run that is paused or over.
fn require_open_run(draft: &mut Draft<'_>) -> Result<(), RefusedTransition> {
    let run = draft.run();
    match run.status {
        RunStatus::Paused => Err(RefusedTransition::RunPaused { run: run.id.to_string() }),
        status if run.fixed_by.is_some() => Err(RefusedTransition::RunEnded { run: run.id.to_string(), status }),
        _ => Ok(()),
    }
}

fn require(task: &Task, allowed: &[TaskState], to: TaskState) -> Result<(), RefusedTransition> {
    if allowed.contains(&task.state) && task.unreadable_state.is_none() {
        return Ok(());
    }
    Err(RefusedTransition::IllegalTask { task: task.id.clone(), from: task.state, to })
}

/// Whether a task could start now as far as its own run knows: the pool has its own say.
pub fn startable(
    view: &crate::domain::view::RunView,
    task: &TaskId,
    at: crate::domain::time::Timestamp,
) -> Result<(), RefusedTransition> {
    let mut draft = Draft::new(view, at);
    require_startable(&mut draft, task)
}

fn require_startable(draft: &mut Draft<'_>, id: &TaskId) -> Result<(), RefusedTransition> {
    require_open_run(draft)?;
    let at = draft.at;
    let task = draft.read_task(id)?;
    if task.state == TaskState::PendingApproval
        && let Some(gate) = holding_gate(draft, id)?
    {
        return Err(RefusedTransition::GatePending { task: id.clone(), gate: gate.id.clone() });
    }
    require(task, &[TaskState::Queued], TaskState::Running)?;
    for dependency in &task.depends_on {
        let state = draft.read_task(dependency)?.state;
        if state != TaskState::Completed {
            return Err(RefusedTransition::DependencyOpen { task: id.clone(), missing: dependency.clone(), state });
        }
    }
    if let Some(gate) = holding_gate(draft, id)? {
        return Err(RefusedTransition::GatePending { task: id.clone(), gate: gate.id.clone() });
    }
    match task.retry.not_before {
        Some(until) if until > at => Err(RefusedTransition::BackingOff { task: id.clone(), until }),
        _ => Ok(()),
    }
}

pub(super) fn start(
    draft: &mut Draft<'_>,
    id: &TaskId,
    session: &SessionId,
    lease: Option<&Lease>,
) -> Result<(), RefusedTransition> {
    require_startable(draft, id)?;
    let at = draft.at;
    let task = draft.task(id)?;
    task.attempts += 1;
    task.session = Some(session.clone());
    task.started_at = Some(at);
    task.retry.not_before = None;
    task.result = None;
    let environment = task.environment.clone();
    draft.set_task_state(id, TaskState::Running)?;
    if let (Some(environment), Some(lease)) = (environment, lease) {
        super::leasing::lease(draft, &environment, lease)?;
    }
    Ok(())
}

/// Records what a running task's own session runs; nobody else's word counts.
pub(super) fn give_command(
    draft: &mut Draft<'_>,
    id: &TaskId,
    session: &SessionId,
    command: &[String],
) -> Result<(), RefusedTransition> {
    let task = draft.read_task(id)?;
    require(task, &[TaskState::Running], TaskState::Running)?;
    if task.session.as_ref() == Some(session) && task.command != command {
        draft.task(id)?.command = command.to_vec();
    }
    Ok(())
}

/// The record of an end.
pub(super) fn result_of(outcome: TaskOutcome, end: &WorkEnd) -> TaskResult {
    TaskResult {
        outcome,
        exit_code: end.exit_code,
        signal: end.signal.clone(),
        summary: end.summary.clone(),
        artifacts: Vec::new(),
    }
}

pub(super) fn finish_work(draft: &mut Draft<'_>, id: &TaskId, end: &WorkEnd) -> Result<(), RefusedTransition> {
    require(draft.read_task(id)?, &[TaskState::Running], TaskState::Completed)?;
    draft.task(id)?.result = Some(result_of(TaskOutcome::Completed, end));
    // Nobody is asked any more about a run that has been ended by hand.
    let asks = draft.run().fixed_by.is_none();
    for requirement in [Requirement::Review, Requirement::Test] {
        if asks && draft.read_task(id)?.requirements.contains(&requirement) {
            open_required(draft, id, requirement)?;
        }
    }
    let next = holding_gate(draft, id)?.map_or(TaskState::Completed, Gate::holding_state);
    draft.set_task_state(id, next)
}

pub(super) fn fail(draft: &mut Draft<'_>, id: &TaskId, end: &WorkEnd) -> Result<(), RefusedTransition> {
    let allowed = [
        TaskState::Running,
        TaskState::Blocked,
        TaskState::PendingApproval,
        TaskState::ReviewPending,
        TaskState::TestPending,
    ];
    require(draft.read_task(id)?, &allowed, TaskState::Failed)?;
    let at = draft.at;
    let task = draft.task(id)?;
    task.result = Some(result_of(TaskOutcome::Failed, end));
    if task.state == TaskState::Running && task.retry.used < task.retry.max {
        task.retry.used += 1;
        task.retry.not_before = Some(at.plus(Duration::from_secs(task.retry.backoff_seconds)));
        return leave_block(draft, id);
    }
    draft.set_task_state(id, TaskState::Failed)?;
    expire_of_task(draft, id)
}

pub(super) fn cancel(draft: &mut Draft<'_>, id: &TaskId, end: &WorkEnd) -> Result<(), RefusedTransition> {
    let task = draft.read_task(id)?;
    if task.state.is_terminal() {
        return Err(RefusedTransition::IllegalTask { task: id.clone(), from: task.state, to: TaskState::Cancelled });
    }
    draft.task(id)?.result = Some(result_of(TaskOutcome::Cancelled, end));
    draft.set_task_state(id, TaskState::Cancelled)?;
    expire_of_task(draft, id)
}

pub(super) fn block(draft: &mut Draft<'_>, id: &TaskId, reason: &str) -> Result<(), RefusedTransition> {
    let task = draft.read_task(id)?;
    if task.state.is_terminal() {
        return Err(RefusedTransition::IllegalTask { task: id.clone(), from: task.state, to: TaskState::Blocked });
    }
    add_reason(draft.task(id)?, reason);
    draft.set_task_state(id, TaskState::Blocked)
}

fn add_reason(task: &mut Task, reason: &str) {
    if !task.blocked_reasons.iter().any(|known| known == reason) {
        task.blocked_reasons.push(reason.to_owned());
    }
}

pub(super) fn unblock(draft: &mut Draft<'_>, id: &TaskId, reason: Option<&str>) -> Result<(), RefusedTransition> {
    require(draft.read_task(id)?, &[TaskState::Blocked], TaskState::Queued)?;
    let task = draft.task(id)?;
    task.blocked_reasons.retain(|known| reason.is_some_and(|gone| known != gone));
    if task.blocked_reasons.is_empty() { leave_block(draft, id) } else { Ok(()) }
}

/// Where a task waits that nothing blocks: at a gate, before or after its work, or for its turn. Work that is done is done.
pub(super) fn waiting_state(draft: &Draft<'_>, id: &TaskId) -> Result<TaskState, RefusedTransition> {
    let result = draft.read_task(id)?.result.as_ref();
    let done = result.is_some_and(|result| result.outcome == TaskOutcome::Completed);
    Ok(match holding_gate(draft, id)? {
        Some(gate) if done => gate.holding_state(),
        Some(_) => TaskState::PendingApproval,
        None if done => TaskState::Completed,
        None => TaskState::Queued,
    })
}

/// Takes a task that nothing blocks any more to where it waits.
pub(super) fn leave_block(draft: &mut Draft<'_>, id: &TaskId) -> Result<(), RefusedTransition> {
    let next = waiting_state(draft, id)?;
    draft.set_task_state(id, next)
}

pub(super) fn interrupt(draft: &mut Draft<'_>, id: &TaskId) -> Result<(), RefusedTransition> {
    let task = draft.read_task(id)?;
    if task.state != TaskState::Running {
        return Err(RefusedTransition::IllegalTask { task: id.clone(), from: task.state, to: TaskState::Blocked });
    }
    let reason = draft.read_checkpoint(id).map_or_else(|| INTERRUPTED.to_owned(), Checkpoint::interruption_reason);
    add_reason(draft.task(id)?, &reason);
    draft.set_task_state(id, TaskState::Blocked)?;
    if let Some(checkpoint) = draft.checkpoint(id) {
        // What we noted when it was to go on is no word of the executor's.
        if checkpoint.note.as_deref().is_none_or(|note| note == RESUME_NOTE) {
            checkpoint.note = Some(INTERRUPTED.to_owned());
        }
    }
    let at = draft.at;
    let activity = &mut draft.run().activity;
    activity.state = crate::domain::run::ActivityState::Interrupted;
    activity.at = Some(at);
    Ok(())
}

pub(super) fn schedule_resume(draft: &mut Draft<'_>, id: &TaskId) -> Result<(), RefusedTransition> {
    require_open_run(draft)?;
    require(draft.read_task(id)?, &[TaskState::Blocked], TaskState::Queued)?;
    let task = draft.task(id)?;
    task.blocked_reasons.retain(|reason| !reason.starts_with(INTERRUPTED));
    if task.blocked_reasons.is_empty() {
        leave_block(draft, id)?;
    }
    draft.set_checkpoint_stage(id, Stage::Queued);
    if let Some(checkpoint) = draft.checkpoint(id) {
        checkpoint.note = Some(RESUME_NOTE.to_owned());
    }
    Ok(())
}

pub(super) fn acknowledge(draft: &mut Draft<'_>, id: &TaskId) -> Result<(), RefusedTransition> {
    require(draft.read_task(id)?, &[TaskState::Blocked], TaskState::Blocked)?;
    if let Some(checkpoint) = draft.checkpoint(id) {
        checkpoint.note = Some("block acknowledged".to_owned());
    }
    Ok(())
}

pub(super) fn take_checkpoint(draft: &mut Draft<'_>, new: &NewCheckpoint) -> Result<(), RefusedTransition> {
    let at = draft.at;
    let task = draft.read_task(&new.task)?.clone();
    let before = draft.read_checkpoint(&new.task).cloned();
    let mode = task.environment.as_ref().and_then(|id| draft.read_environment(id).ok()).map(|env| env.execution_mode);
    let seq = before.as_ref().map_or(1, |checkpoint| checkpoint.seq + 1);
    // Decided here and not by the supervisor, who may have read the record before the executor's last word.
    let standing = before.as_ref().filter(|_| new.by == TakenBy::Supervisor);
    let replay_safety = standing.map_or(new.replay_safety, |known| known.replay_safety);
    let disposition = match (task.state.is_terminal(), standing.map(|known| known.resume_disposition)) {
        (true, _) => ResumeDisposition::NotApplicable,
        (false, Some(standing)) if standing != ResumeDisposition::NotApplicable => standing,
        (false, _) => new.disposition.unwrap_or_else(|| replay_safety.disposition()),
    };
    let note = match standing {
        Some(known) => known.note.clone().filter(|note| note != RESUME_NOTE),
        None => new.note.clone(),
    };
    let mut completed_steps = before.as_ref().map(|checkpoint| checkpoint.completed_steps.clone()).unwrap_or_default();
    for step in &new.steps {
        match completed_steps.iter_mut().find(|known| known.id == step.id) {
            Some(known) => known.clone_from(step),
            None => completed_steps.push(step.clone()),
        }
    }
    let earlier = before.as_ref();
    // What this executor has put out into the world stays out, whether or not a later checkpoint repeats it.
    let published_before = earlier.is_some_and(|known| known.result_published && known.session == task.session);
    let mut checkpoint = Checkpoint {
        id: format!("{}-{seq}", new.task),
        run: draft.run().id.clone(),
        task: new.task.clone(),
        session: task.session,
        agent: task.agent,
        environment: task.environment,
        execution_mode: mode,
        seq,
        stage: Stage::of(task.state),
        replay_safety,
        resume_disposition: disposition,
        safe_boundary_label: new
            .boundary
            .clone()
            .or_else(|| earlier.and_then(|known| known.safe_boundary_label.clone())),
        workspace_dir: new.workspace_dir.clone().or_else(|| earlier.and_then(|known| known.workspace_dir.clone())),
        completed_steps,
        result_published: new.result_published
            || published_before
            || standing.is_some_and(|known| known.result_published),
        note,
        // A checkpoint that brings no state of its own (one that a supervisor takes now and then, say) leaves the executor's there.
        resume_state: new.resume_state.clone().or_else(|| earlier.and_then(|known| known.resume_state.clone())),
        work: new.work.clone(),
        available_actions: Vec::new(),
        created_at: at,
        updated_at: at,
    };
    checkpoint.available_actions = checkpoint.derived_actions();
    draft.changes.checkpoints.insert(new.task.clone(), checkpoint);
    Ok(())
}
