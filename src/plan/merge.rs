//! `(base, ours, theirs) -> merged`: two histories of one run, or of one session or claim, brought together.
//!
//! Must not know where histories come from or how they are written. Invariants: the outcome does not depend on which side is ours;
//! a side that did not change a thing never wins it; what the rules do not settle becomes a gate, and so does every contradiction
//! that a person has to know of.

use std::collections::BTreeMap;
use std::fmt::Debug;

use super::merge_rules::{Clash, Sides, three_way};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::claim::Claim;
use crate::domain::environment::{Environment, Lease};
use crate::domain::gate::{Gate, GateKind, NewGate, SYNC_CONFLICT};
use crate::domain::ids::{GateId, RunId, TaskId};
use crate::domain::run::Run;
use crate::domain::session::{Session, SessionStatus};
use crate::domain::task::{Task, TaskState};
use crate::domain::time::Timestamp;
use crate::domain::transition::settle_merged;
use crate::domain::view::RunView;

/// A contradiction between two histories.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conflict {
    /// The task that it is about; `None`: the run.
    pub task: Option<TaskId>,
    /// What is wrong, in words.
    pub what: String,
    /// Both values, smaller first: no side comes first.
    pub values: [String; 2],
    /// When the later of the two came about.
    pub at: Timestamp,
}

/// Both histories of a run in one, every record loaded.
pub fn merge_runs(base: Option<&RunView>, ours: &RunView, theirs: &RunView) -> RunView {
    if ours == theirs || base == Some(theirs) {
        return ours.clone();
    }
    if base == Some(ours) {
        return theirs.clone();
    }
    let mut conflicts = Vec::new();
    let run =
        merge_run(&Sides { base: base.map(|view| &view.run), ours: &ours.run, theirs: &theirs.run }, &mut conflicts);
    let mut view = RunView::of_run(run);
    view.tasks =
        merge_map(base.map(|view| &view.tasks), &ours.tasks, &theirs.tasks, |sides| merge_task(sides, &mut conflicts));
    view.environments =
        merge_map(base.map(|view| &view.environments), &ours.environments, &theirs.environments, |sides| {
            merge_environment(sides, &mut conflicts)
        });
    view.checkpoints =
        merge_map(base.map(|view| &view.checkpoints), &ours.checkpoints, &theirs.checkpoints, merge_checkpoint);
    view.gates =
        merge_map(base.map(|view| &view.gates), &ours.gates, &theirs.gates, |sides| merge_gate(sides, &mut conflicts));
    for conflict in &conflicts {
        open_gate(&mut view, conflict);
    }
    settle_merged(&mut view);
    view
}

/// The same run under another id.
pub fn renamed(mut view: RunView, id: &RunId) -> RunView {
    view.run.id = id.clone();
    view.tasks.values_mut().for_each(|task| task.run = id.clone());
    view.checkpoints.values_mut().for_each(|checkpoint| checkpoint.run = id.clone());
    view.gates.values_mut().for_each(|gate| gate.run = id.clone());
    view
}

fn merge_map<K: Ord + Clone, T: Clone>(
    base: Option<&BTreeMap<K, T>>,
    ours: &BTreeMap<K, T>,
    theirs: &BTreeMap<K, T>,
    mut merge: impl FnMut(&Sides<'_, T>) -> T,
) -> BTreeMap<K, T> {
    let mut merged = ours.clone();
    for (key, theirs) in theirs {
        let record = match ours.get(key) {
            Some(ours) => merge(&Sides { base: base.and_then(|base| base.get(key)), ours, theirs }),
            None => theirs.clone(),
        };
        merged.insert(key.clone(), record);
    }
    merged
}

fn conflict(
    task: Option<&TaskId>,
    what: impl Into<String>,
    one: impl Into<String>,
    other: impl Into<String>,
    at: Timestamp,
) -> Conflict {
    let mut values = [one.into(), other.into()];
    values.sort();
    Conflict { task: task.cloned(), what: what.into(), values, at }
}

// ---- the run ----

/// How a run was ended by hand.
fn ending(run: &Run) -> impl Debug + PartialEq + Clone + use<> {
    (run.fixed_by, run.fixed_by.map(|_| run.status), run.outcome_note.clone())
}

fn merge_run(sides: &Sides<'_, Run>, conflicts: &mut Vec<Conflict>) -> Run {
    let by_time = |run: &Run| run.updated_at;
    let (winner, loser, base) = match sides.clash(by_time) {
        Clash::Agreed(run) => return run.clone(),
        Clash::Contested { winner, loser, .. } => (winner, loser, sides.base),
    };
    let mut run = winner.clone();
    three_way!(run, base, winner, loser; name, parent, depth, lead_agent, metadata, host, attention_reason);
    run.created_at = winner.created_at.min(loser.created_at);
    run.updated_at = winner.updated_at.max(loser.updated_at);
    // History without a time of its own: which of two it is matters less than that every host says the same.
    run.paused_from = sides.part(|run| run.paused_from).clash(|_| ()).chosen();
    run.policy.execution_mode = sides.part(|run| run.policy.execution_mode).clash(|_| run.updated_at).chosen();
    run.policy.requirements = sides.list(|run| &run.policy.requirements, |requirement| *requirement);
    run.policy.tags = sides.list(|run| &run.policy.tags, Clone::clone);
    run.messages = sides.list(|run| &run.messages, |message| (message.at, message.role.clone(), message.text.clone()));
    run.spawned_tasks = sides.list(|run| &run.spawned_tasks, Clone::clone);
    run.waiting_on = sides.list(|run| &run.waiting_on, Clone::clone);
    run.activity = match sides.part(|run| run.activity.clone()).clash(|activity| activity.at) {
        Clash::Agreed(activity) => activity.clone(),
        Clash::Contested { winner, loser, tied } => {
            if tied {
                let shown = |activity: &crate::domain::run::Activity| format!("{activity:?}");
                let what = "the run's activity was set differently at the same moment";
                conflicts.push(conflict(None, what, shown(winner), shown(loser), run.updated_at));
            }
            winner.clone()
        }
    };
    run.restoration = sides
        .part(|run| run.restoration.clone())
        .clash(|restoration| (restoration.count, restoration.last_at))
        .chosen();
    merge_ending(&mut run, sides, conflicts);
    run
}

/// Ended by hand beats not ended; of two ends the later one; paused and unpaused like any other field.
fn merge_ending(run: &mut Run, sides: &Sides<'_, Run>, conflicts: &mut Vec<Conflict>) {
    use crate::domain::run::RunStatus::Paused;
    let rank = |run: &Run| (run.fixed_by.is_some(), run.completed_at, run.updated_at);
    let by_ending = sides.ours.fixed_by.is_some() || sides.theirs.fixed_by.is_some();
    let from = if by_ending {
        let clash = Sides { base: None, ours: sides.ours, theirs: sides.theirs }.clash(rank);
        if let Clash::Contested { winner, loser, .. } = &clash
            && loser.fixed_by.is_some()
            && ending(winner) != ending(loser)
            && winner.status != loser.status
        {
            let what = format!("the run was ended differently; {} is kept", winner.status);
            conflicts.push(conflict(None, what, winner.status.to_string(), loser.status.to_string(), run.updated_at));
        }
        clash.winner()
    } else {
        let paused = sides.part(|run| run.status == Paused).clash(|paused| *paused).chosen();
        let of_status = [sides.ours, sides.theirs].into_iter().find(|side| (side.status == Paused) == paused);
        of_status.unwrap_or(sides.ours)
    };
    // A status that is neither paused nor fixed is derived again from tasks and gates.
    run.status = from.status;
    run.fixed_by = from.fixed_by;
    run.outcome_note.clone_from(&from.outcome_note);
    run.completed_at = match (sides.ours.completed_at, sides.theirs.completed_at) {
        _ if by_ending => from.completed_at,
        (Some(ours), Some(theirs)) => Some(ours.max(theirs)),
        (ours, theirs) => ours.or(theirs),
    };
}

// ---- tasks ----

/// What is said of the work on a task; it is taken from one side as a whole, so that it fits together.
#[derive(Debug, Clone)]
struct Work {
    task: Box<Task>,
    at: Timestamp,
    changed_at: Option<Timestamp>,
}

impl Work {
    fn of(task: &Task) -> Self {
        let mut work = task.clone();
        // Everything else has rules of its own, and a touch that changed none of this is no change of it.
        (work.name, work.agent, work.role, work.prompt, work.pool) = (None, None, None, None, None);
        (work.command, work.depends_on, work.gates, work.tags) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        work.requirements = Vec::new();
        work.priority = 0;
        // A state has a time of its own; a merged record's last touch may be the other side's.
        let changed_at = work.state_changed_at.take();
        let at = changed_at.or(work.completed_at).unwrap_or(work.updated_at);
        work.updated_at = Timestamp::from_seconds(0).unwrap_or(at);
        work.created_at = work.updated_at;
        Self { task: Box::new(work), at, changed_at }
    }

    /// The same without the times: when it happened is no contradiction.
    fn timeless(&self) -> Task {
        let mut work = (*self.task).clone();
        (work.started_at, work.completed_at) = (None, None);
        work
    }
}

impl PartialEq for Work {
    fn eq(&self, other: &Self) -> bool {
        self.task == other.task
    }
}

fn merge_task(sides: &Sides<'_, Task>, conflicts: &mut Vec<Conflict>) -> Task {
    let (winner, loser, base) = match sides.clash(|task| task.updated_at) {
        Clash::Agreed(task) => return task.clone(),
        Clash::Contested { winner, loser, .. } => (winner, loser, sides.base),
    };
    let work = sides.part(Work::of);
    let rank = |work: &Work| (work.task.state.is_terminal(), work.at);
    let clash = work.clash(rank);
    if let Clash::Contested { winner, loser, tied } = &clash {
        conflicts.extend(contradiction(winner, loser, *tied && winner.timeless() != loser.timeless()));
    }
    let blocked_twice = [sides.ours, sides.theirs].iter().all(|task| task.state == TaskState::Blocked);
    let (kept, same_work) = (clash.winner(), work.agree());
    let changed_at = kept.changed_at;
    let mut task = *kept.task.clone();
    // Where both stand alike, what either did in between came to nothing.
    let latest = sides.ours.state_changed_at.max(sides.theirs.state_changed_at);
    task.state_changed_at = if same_work { latest } else { changed_at };
    (task.name, task.agent, task.role) = (winner.name.clone(), winner.agent.clone(), winner.role.clone());
    (task.prompt, task.pool, task.command) = (winner.prompt.clone(), winner.pool.clone(), winner.command.clone());
    task.priority = winner.priority;
    three_way!(task, base, winner, loser; name, agent, role, prompt, pool, command, priority);
    task.depends_on = sides.list(|task| &task.depends_on, Clone::clone);
    task.gates = sides.list(|task| &task.gates, Clone::clone);
    task.tags = sides.list(|task| &task.tags, Clone::clone);
    task.requirements = sides.list(|task| &task.requirements, |requirement| *requirement);
    if blocked_twice {
        task.blocked_reasons = sides.list(|task| &task.blocked_reasons, Clone::clone);
    }
    task.attempts = sides.ours.attempts.max(sides.theirs.attempts);
    task.created_at = sides.ours.created_at.min(sides.theirs.created_at);
    task.updated_at = sides.ours.updated_at.max(sides.theirs.updated_at);
    let meant = |task: &Task| (task.prompt.clone(), task.command.clone(), task.agent.clone(), task.role.clone());
    if base.is_none() && meant(sides.ours) != meant(sides.theirs) {
        let what = format!("task {} was added on two hosts with different work; the later one is kept", task.id);
        let shown = |task: &Task| task.prompt.clone().unwrap_or_else(|| task.command.join(" "));
        conflicts.push(conflict(Some(&task.id), what, shown(sides.ours), shown(sides.theirs), task.updated_at));
    }
    task
}

/// What a person has to know of two ways in which the work on a task went on.
fn contradiction(kept: &Work, lost: &Work, tied: bool) -> Option<Conflict> {
    let session = |task: &Task| task.session.as_ref().map_or_else(|| "no session".to_owned(), ToString::to_string);
    let shown = |work: &Work| format!("{} ({}, {})", work.task.state, session(&work.task), work.at);
    let (at, kept_task, lost_task) = (kept.at.max(lost.at), &kept.task, &lost.task);
    let (id, state, other) = (&kept_task.id, kept_task.state, lost_task.state);
    let what = if state.is_terminal() && other.is_terminal() && state != other {
        format!("task {id} ended differently on two hosts; {state} is kept")
    } else if state == TaskState::Running && other == TaskState::Running && kept_task.session != lost_task.session {
        format!("task {id} runs on two hosts; session {} is kept", session(kept_task))
    } else if tied && state.is_terminal() == other.is_terminal() {
        format!("task {id} was changed on two hosts at the same moment")
    } else {
        return None;
    };
    Some(conflict(Some(id), what, shown(kept), shown(lost), at))
}

// ---- what hangs on tasks ----

fn merge_environment(sides: &Sides<'_, Environment>, conflicts: &mut Vec<Conflict>) -> Environment {
    let clash = sides.clash(|environment| (environment.state.is_gone(), environment.updated_at));
    if let Clash::Contested { winner, loser, .. } = &clash
        && let (Some(kept), Some(lost)) = (winner.held_lease(), loser.held_lease())
        && kept.session != lost.session
    {
        let what = format!("environment {} was leased on two hosts", winner.id);
        let shown = |lease: &Lease| format!("session {} since {}", lease.session, lease.acquired_at);
        let at = winner.updated_at.max(loser.updated_at);
        conflicts.push(conflict(kept.task.as_ref(), what, shown(kept), shown(lost), at));
    }
    let mut environment = clash.chosen();
    environment.updated_at = sides.ours.updated_at.max(sides.theirs.updated_at);
    environment
}

fn merge_checkpoint(sides: &Sides<'_, Checkpoint>) -> Checkpoint {
    let mut checkpoint = sides.clash(|checkpoint| (checkpoint.seq, checkpoint.updated_at)).chosen();
    checkpoint.completed_steps =
        sides.list(|checkpoint| &checkpoint.completed_steps, |step| (step.at, step.id.clone()));
    let mut known = std::collections::BTreeSet::new();
    checkpoint.completed_steps.retain(|step| known.insert(step.id.clone()));
    checkpoint.updated_at = sides.ours.updated_at.max(sides.theirs.updated_at);
    checkpoint
}

fn merge_gate(sides: &Sides<'_, Gate>, conflicts: &mut Vec<Conflict>) -> Gate {
    let rank =
        |gate: &Gate| (gate.decision.is_some(), !gate.is_pending(), gate.decision.as_ref().map(|known| known.at));
    let clash = sides.clash(rank);
    if let Clash::Contested { winner, loser, .. } = &clash
        && let (Some(kept), Some(lost)) = (&winner.decision, &loser.decision)
        && (kept.action, &kept.answer) != (lost.action, &lost.answer)
    {
        let what = format!("gate {} was decided differently on two hosts; {} is kept", winner.id, kept.action);
        let shown = |decision: &crate::domain::gate::Decision| {
            format!("{} {} ({})", decision.action, decision.answer.as_deref().unwrap_or_default(), decision.at)
        };
        let at = kept.at.max(lost.at);
        conflicts.push(conflict(winner.task.as_ref(), what, shown(kept), shown(lost), at));
    }
    let mut gate = clash.chosen();
    gate.redelivered = sides.ours.redelivered.max(sides.theirs.redelivered);
    gate
}

// ---- gates for contradictions ----

/// The id of a conflict's gate: made of what it is about, so that both hosts open the same one, and only once.
fn gate_id(conflict: &Conflict) -> GateId {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in format!("{:?}{:?}", conflict.task, conflict.values).bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    let about = conflict.task.as_ref().map_or("run", TaskId::as_str);
    GateId::made_from(&format!("sync-{:08x}-{about}", (hash >> 32) ^ (hash & 0xffff_ffff)))
}

fn open_gate(view: &mut RunView, conflict: &Conflict) {
    let id = gate_id(conflict);
    if view.gates.contains_key(&id) {
        return;
    }
    let context = format!("both: {}", conflict.values.join(" | "));
    let task = conflict.task.clone().filter(|task| view.tasks.contains_key(task));
    if let Some(task) = task.as_ref().and_then(|task| view.tasks.get_mut(task)) {
        task.gates.push(id.clone());
    }
    let new = NewGate {
        id: id.clone(),
        kind: GateKind::Approval,
        key: Some(SYNC_CONFLICT.to_owned()),
        task,
        prompt: Some(conflict.what.clone()),
        choices: Vec::new(),
        context: Some(context),
        question_type: None,
    };
    let mut gate = Gate::open(new, view.run.id.clone(), conflict.at);
    // A no says that somebody sees to it; it does not fail the task a second time.
    gate.required = false;
    view.gates.insert(id, gate);
}

// ---- records with a ref of their own ----

/// Both histories of a session in one: ended beats active, the first end stays, `merged` follows `complete`.
pub fn merge_sessions(base: Option<&Session>, ours: &Session, theirs: &Session) -> Session {
    let sides = Sides { base, ours, theirs };
    let stamp = |session: &Session| {
        session.completed_at.max(session.heartbeat_at).max(session.last_progress_at).unwrap_or(session.started_at)
    };
    let (winner, loser) = match sides.clash(stamp) {
        Clash::Agreed(session) => return session.clone(),
        Clash::Contested { winner, loser, .. } => (winner, loser),
    };
    let mut session = winner.clone();
    three_way!(session, base, winner, loser; thread, agent, actor_key, parent_actor_key, client_key, native_key, group, path,
        process, attach, base_commit, metadata, lease_seconds, holds_lock, usage);
    session.context_queries =
        sides.list(|session| &session.context_queries, |query| (query.at, query.path.clone(), query.scope.clone()));
    session.recovery_attempts = ours.recovery_attempts.max(theirs.recovery_attempts);
    session.heartbeat_at = ours.heartbeat_at.max(theirs.heartbeat_at);
    session.last_progress_at = ours.last_progress_at.max(theirs.last_progress_at);
    let rank = |session: &Session| {
        let merged = session.status == SessionStatus::Merged;
        (session.status.is_terminal(), merged, session.completed_at.map(std::cmp::Reverse))
    };
    let ended = Sides { base: None, ours, theirs }.clash(rank).winner().clone();
    (session.status, session.completed_at) = (ended.status, ended.completed_at);
    session
}

/// The newer of two forms of a claim: the higher generation; of one session's the one given back, of two sessions' the one that is
/// held, for the other was taken back before anybody was told of it; then the later end.
pub fn merge_claims(ours: &Claim, theirs: &Claim) -> Claim {
    let one_holder = ours.session == theirs.session;
    let rank = |claim: &Claim| (claim.generation, claim.released_at.is_some() == one_holder, claim.expires_at);
    Sides { base: None, ours, theirs }.clash(rank).chosen()
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
