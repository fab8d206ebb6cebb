//! `(records, observation) -> findings`: what differs between record and reality.
//!
//! Invariant: a live session's task is never found to be anything but running, and doubt is never taken for proof.

use super::finding::{Finding, FindingCode};
use super::observation::{Dirt, Leftover, Observation, PlaceSeen, Records};
use crate::domain::environment::{
    Environment, EnvironmentState, ExecutionMode, Health, RecoveryAction, RecoveryStatus,
};
use crate::domain::event::EnvironmentFinding;
use crate::domain::ids::{RunId, SessionId};
use crate::domain::liveness::{Liveness, Verdict};
use crate::domain::pool::{Pool, Slot};
use crate::domain::session::SessionStatus;
use crate::domain::task::{Task, TaskState};
use crate::domain::view::RunView;

/// Everything that differs, run by run.
pub fn find(records: &Records, seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    for (run, problem) in &records.unreadable {
        let mut finding = Finding::new(FindingCode::RunUnreadable, format!("run {run} cannot be read: {problem}"));
        finding.run = RunId::new(run.as_str()).ok();
        findings.push(finding.because("problem", problem).for_a_person());
    }
    for single in &records.unreadable_singles {
        let mut finding =
            Finding::new(FindingCode::RecordUnreadable, format!("{} cannot be read: {}", single.name, single.problem));
        finding.session.clone_from(&single.session);
        findings.push(finding.because("ref", &single.name).because("problem", &single.problem).for_a_person());
    }
    for view in records.runs.values() {
        for task in view.tasks.values() {
            findings.extend(find_task(view, task, records, seen));
        }
        for environment in view.environments.values() {
            findings.extend(find_environment(view, environment, records, seen));
        }
        findings.extend(find_waiting(view));
        if records.without_report.contains(&view.run.id) {
            let message = format!("run {} has ended and its report is missing", view.run.id);
            findings.push(Finding::new(FindingCode::ReportMissing, message).in_run(&view.run.id));
        }
    }
    findings.extend(find_dead_sessions(records, seen));
    findings.extend(find_stale_claims(records, seen));
    findings.extend(find_stale_slots(records, seen));
    findings.extend(find_unnamed(seen));
    findings.extend(seen.leftovers.iter().map(find_leftover));
    findings
}

/// What is known of the session that works on a task.
pub(super) fn liveness_of_task(task: &Task, view: &RunView, records: &Records, seen: &Observation) -> Liveness {
    let verdict =
        |verdict, why: String| Liveness { verdict, evidence: vec![why], supervisor_gone: false, falls_at: None };
    if let Some(state) = &task.unreadable_state {
        return verdict(Verdict::Dead, format!("its recorded state `{state}` is not known to this version"));
    }
    let Some(session) = &task.session else {
        return verdict(Verdict::Unknown, "no session is recorded".to_owned());
    };
    match seen.liveness.get(session) {
        Some(liveness) => liveness.clone(),
        None if records.sessions.contains_key(session) || records.is_session_unreadable(session) => {
            verdict(Verdict::Unknown, format!("session {session} was not looked at"))
        }
        None if view.run.host == seen.host => {
            verdict(Verdict::Dead, format!("session {session} has no record any more"))
        }
        None => verdict(
            Verdict::Elsewhere,
            format!("session {session} is not known here; its run is of host {}", view.run.host),
        ),
    }
}

fn find_task(view: &RunView, task: &Task, records: &Records, seen: &Observation) -> Vec<Finding> {
    let mut findings = Vec::new();
    if view.run.status.is_terminal() && view.run.fixed_by.is_some() {
        return findings;
    }
    let started = task.started_at.is_some() && !task.state.is_terminal();
    if started && task.environment.is_none() {
        let message = format!("task {} was started and names no environment", task.address());
        findings.push(Finding::new(FindingCode::EnvironmentNotNamed, message).in_run(&view.run.id).of_task(&task.id));
    }
    match task.state {
        TaskState::Running => findings.extend(find_running(view, task, records, seen)),
        TaskState::Blocked if task.is_interrupted() => findings.push(find_blocked(view, task)),
        _ => {}
    }
    findings
}

fn find_running(view: &RunView, task: &Task, records: &Records, seen: &Observation) -> Option<Finding> {
    let liveness = liveness_of_task(task, view, records, seen);
    let address = task.address();
    let why = liveness.evidence.join("; ");
    let (code, message) = match liveness.verdict {
        Verdict::Dead => (
            FindingCode::ExecutionInterrupted,
            format!("task {address} is recorded as running, and its session is dead: {why}"),
        ),
        Verdict::Alive if liveness.supervisor_gone => (
            FindingCode::SupervisorDead,
            format!("the supervisor of task {address} is dead, its command goes on: {why}"),
        ),
        Verdict::Alive => return None,
        Verdict::Unknown => (
            FindingCode::SessionUnknown,
            format!("nobody here can tell whether the session of task {address} lives: {why}"),
        ),
        Verdict::Elsewhere => (FindingCode::SessionElsewhere, format!("task {address} runs on another machine: {why}")),
    };
    let mut finding = Finding::new(code, message).in_run(&view.run.id).of_task(&task.id);
    finding.session.clone_from(&task.session);
    finding.environment.clone_from(&task.environment);
    finding = finding.because("verdict", liveness.verdict).because("liveness", why);
    if let Some(falls_at) = liveness.falls_at {
        finding = finding.because("falls_at", falls_at);
    }
    Some(finding)
}

pub(super) fn find_blocked(view: &RunView, task: &Task) -> Finding {
    let address = task.address();
    let reasons = task.blocked_reasons.join("; ");
    let checkpoint = view.checkpoints.get(&task.id);
    let finding = if checkpoint.is_some_and(crate::domain::checkpoint::Checkpoint::may_resume) {
        Finding::new(FindingCode::TaskResumable, format!("task {address} is blocked and can go on: {reasons}"))
    } else {
        Finding::new(
            FindingCode::OperatorRequired,
            format!("task {address} is blocked and waits for somebody: {reasons}"),
        )
        .for_a_person()
    };
    let mut finding = finding.in_run(&view.run.id).of_task(&task.id);
    finding.environment.clone_from(&task.environment);
    if let Some(checkpoint) = checkpoint {
        finding = finding
            .because("replay_safety", checkpoint.replay_safety)
            .because("resume_disposition", checkpoint.resume_disposition);
    }
    finding
}

/// Whether the session that holds something is gone for good.
pub(super) fn is_dead(session: &SessionId, view: &RunView, records: &Records, seen: &Observation) -> Option<String> {
    match (seen.liveness.get(session), records.sessions.get(session)) {
        (Some(liveness), _) if liveness.verdict == Verdict::Dead => Some(liveness.evidence.join("; ")),
        (None, None) if records.is_session_unreadable(session) => None,
        (None, None) if view.run.host == seen.host => Some(format!("session {session} has no record any more")),
        _ => None,
    }
}

/// What the table says of an environment: health, status, action, and the words for its task.
pub(super) fn judge(
    view: &RunView,
    environment: &Environment,
    records: &Records,
    seen: &Observation,
) -> Option<(EnvironmentFinding, Option<FindingCode>, String)> {
    let key = (view.run.id.clone(), environment.id.clone());
    let place = seen.places.get(&key)?;
    let id = &environment.id;
    let named = view.tasks.values().any(|task| task.environment.as_ref() == Some(id));
    let lease_dead = environment.held_lease().and_then(|lease| is_dead(&lease.session, view, records, seen));
    let (health, status, action, code, message) = row(environment, place, named, &view.run.id)?;
    let stale = lease_dead.is_some() || environment.recovery_action == Some(RecoveryAction::ReleaseStaleLease);
    let action = action.or_else(|| {
        (stale && environment.health == health || lease_dead.is_some()).then_some(RecoveryAction::ReleaseStaleLease)
    });
    let over = view.run.status.is_terminal();
    let blocks = action.is_some_and(|action| action != RecoveryAction::ReleaseStaleLease) && named && !over;
    let blocks_task = blocks.then(|| format!("{}: {message}", environment.blocking_prefix()));
    Some((EnvironmentFinding { health, status, action, blocks_task }, code, message))
}

type Row = (Health, RecoveryStatus, Option<RecoveryAction>, Option<FindingCode>, String);

/// The row of the table that fits what was seen; `None`: nothing is said of it here.
fn row(environment: &Environment, place: &PlaceSeen, named: bool, run: &RunId) -> Option<Row> {
    use RecoveryStatus as Status;
    let id = &environment.id;
    let path = environment.spec.path.as_ref().map(|path| path.display().to_string()).unwrap_or_default();
    let block = Some(RecoveryAction::MarkTaskBlocked);
    let missing = |what: &str| -> Row {
        if environment.execution_mode.is_ours_to_remove() {
            let message =
                format!("{what}; `git tether recover --recreate --run {run}` makes it anew with its saved work");
            let code = if environment.state.is_unfinished() {
                FindingCode::EnvironmentHalfMade
            } else {
                FindingCode::EnvironmentMissing
            };
            (Health::Missing, Status::Pending, Some(RecoveryAction::RecreateMissingEnvironment), Some(code), message)
        } else {
            let message = format!(
                "{what}, and it is not tether's to make; put it back, or remove the record with `git tether env remove {run}/{id}`"
            );
            (Health::Missing, Status::NeedsOperatorAction, block, Some(FindingCode::EnvironmentMissing), message)
        }
    };
    if environment.state.is_unfinished() && !matches!(place, PlaceSeen::Elsewhere(_) | PlaceSeen::Unknown(_)) {
        let what = if environment.state == EnvironmentState::Recovering { "putting it back" } else { "its making" };
        return Some(match &environment.failure {
            Some(failure) => missing(&format!("{what} failed: {}", failure.message)),
            None => missing(&format!("{what} was interrupted")),
        });
    }
    let drifted = |code, message| (Health::Drifted, Status::NeedsOperatorAction, block, Some(code), message);
    Some(match place {
        PlaceSeen::Elsewhere(_) => return None,
        PlaceSeen::Unknown(why) => {
            // What was amiss before is not well again because it cannot be seen.
            let kept = environment.recovery_action.filter(|action| *action != RecoveryAction::ReleaseStaleLease);
            let status = if kept.is_some() { environment.recovery_status } else { Status::Pending };
            let message = format!("{path} cannot be looked at now: {why}");
            (Health::Unknown, status, kept, Some(FindingCode::EnvironmentUnknown), message)
        }
        PlaceSeen::Gone => missing(&format!("{path} is gone")),
        PlaceSeen::MovedTo(new) => drifted(
            FindingCode::EnvironmentMoved,
            format!(
                "its worktree stands at {} now; `git tether env adopt {}` takes it over there",
                new.display(),
                new.display()
            ),
        ),
        PlaceSeen::NotThisWorktree(why) => drifted(
            FindingCode::EnvironmentDrifted,
            format!(
                "{path} is not the recorded worktree: {why}; look at it, then move it away and `git tether recover --recreate`, or `git worktree repair` it"
            ),
        ),
        PlaceSeen::OffCourse(why) => drifted(
            FindingCode::EnvironmentDrifted,
            format!(
                "{path} is not as recorded: {why}; put it back, or take it over as it is with `git tether env adopt {path}`"
            ),
        ),
        PlaceSeen::NoPlace => (Health::Clean, Status::Reconciled, None, None, "nothing to look at".to_owned()),
        PlaceSeen::There { dirt, holds_files, .. } => there(environment, dirt, *holds_files, named, &path),
    })
}

fn there(environment: &Environment, dirt: &Dirt, holds_files: bool, named: bool, path: &str) -> Row {
    let worktree = environment.execution_mode == ExecutionMode::GitWorktree;
    let holds_work = if worktree { matches!(dirt, Dirt::Dirty { .. }) } else { holds_files };
    if !named && environment.execution_mode.is_ours_to_remove() {
        let (action, what) = if holds_work {
            (RecoveryAction::ArchiveDirtyEnvironment, "holds work")
        } else {
            (RecoveryAction::QueueCleanup, "is clean")
        };
        let message =
            format!("no task names it; {path} {what}; `git tether recover --clean` saves its work and removes it");
        let code = Some(FindingCode::EnvironmentOrphaned);
        return (Health::Orphaned, RecoveryStatus::Pending, Some(action), code, message);
    }
    let (health, code, message) = match dirt {
        Dirt::Dirty { changed, untracked } if worktree => (
            Health::Dirty,
            Some(FindingCode::EnvironmentDirty),
            format!("{path} holds uncommitted work: {changed} changed, {untracked} untracked"),
        ),
        Dirt::Unreadable(why) if worktree => {
            (Health::Unknown, Some(FindingCode::EnvironmentUnknown), format!("{path} could not be read: {why}"))
        }
        _ => (Health::Clean, None, format!("{path} is as recorded")),
    };
    (health, RecoveryStatus::Reconciled, None, code, message)
}

fn find_environment(view: &RunView, environment: &Environment, records: &Records, seen: &Observation) -> Vec<Finding> {
    let key = (view.run.id.clone(), environment.id.clone());
    let mut findings = Vec::new();
    if environment.state.is_gone() || seen.being_made.contains(&key) {
        return findings;
    }
    let base = |code, message: String| {
        let mut finding = Finding::new(code, message).in_run(&view.run.id);
        finding.environment = Some(environment.id.clone());
        finding.task = view
            .tasks
            .values()
            .find(|task| task.environment.as_ref() == Some(&environment.id))
            .map(|task| task.id.clone());
        if let Some(path) = &environment.spec.path {
            finding = finding.because("path", path.display());
        }
        finding
    };
    if let Some(PlaceSeen::Elsewhere(host)) = seen.places.get(&key) {
        let mut finding = base(
            FindingCode::EnvironmentElsewhere,
            format!("environment {} is elsewhere, on host {host}", environment.id),
        );
        finding.health = Some(environment.health);
        finding.recovery_status = Some(environment.recovery_status);
        finding.recovery_action = environment.recovery_action;
        findings.push(finding.because("host", host));
        return findings;
    }
    let Some((judged, code, message)) = judge(view, environment, records, seen) else { return findings };
    if let Some(lease) = environment.held_lease()
        && let Some(why) = is_dead(&lease.session, view, records, seen)
    {
        let message =
            format!("environment {} is leased by session {}, which is dead: {why}", environment.id, lease.session);
        let mut finding = base(FindingCode::LeaseStale, message).of_session(&lease.session).because("liveness", why);
        finding.health = Some(judged.health);
        finding.recovery_status = Some(judged.status);
        finding.recovery_action = judged.action;
        findings.push(finding);
    }
    if let Some(code) = code {
        let mut finding = base(code, format!("environment {}: {message}", environment.id));
        finding.health = Some(judged.health);
        finding.recovery_status = Some(judged.status);
        finding.recovery_action = judged.action;
        finding.needs_person = judged.status == RecoveryStatus::NeedsOperatorAction;
        findings.push(
            finding.because("seen", describe(seen.places.get(&key))).because("recorded_state", environment.state),
        );
    }
    findings
}

fn describe(place: Option<&PlaceSeen>) -> String {
    match place {
        None | Some(PlaceSeen::NoPlace) => "nothing to look at".to_owned(),
        Some(PlaceSeen::Elsewhere(host)) => format!("recorded on host {host}"),
        Some(PlaceSeen::Gone) => "path gone".to_owned(),
        Some(PlaceSeen::MovedTo(path)) => format!("registered at {}", path.display()),
        Some(PlaceSeen::NotThisWorktree(why) | PlaceSeen::OffCourse(why) | PlaceSeen::Unknown(why)) => why.clone(),
        Some(PlaceSeen::There { dirt: Dirt::Clean, .. }) => "there, clean".to_owned(),
        Some(PlaceSeen::There { dirt: Dirt::Dirty { changed, untracked }, .. }) => {
            format!("there, {changed} changed, {untracked} untracked")
        }
        Some(PlaceSeen::There { dirt: Dirt::Unreadable(why), .. }) => format!("there, unreadable: {why}"),
    }
}

fn find_waiting(view: &RunView) -> Vec<Finding> {
    let mut findings: Vec<Finding> = Vec::new();
    for gate in view.pending_gates() {
        let prompt = gate.prompt.as_deref().unwrap_or("a decision");
        let message = format!("gate {}/{} is pending: {prompt}", view.run.id, gate.id);
        let mut finding = Finding::new(FindingCode::GatePending, message).in_run(&view.run.id).for_a_person();
        finding.task.clone_from(&gate.task);
        findings.push(finding.because("gate", &gate.id).because("asked_at", gate.asked_at));
    }
    if let Some(reason) = &view.run.attention_reason {
        let message = format!("run {} asks for a person: {reason}", view.run.id);
        findings.push(Finding::new(FindingCode::AttentionRequired, message).in_run(&view.run.id).for_a_person());
    }
    findings
}

/// Sessions that a recovery may end: active, dead, and not of ended runs only.
pub(super) fn dead_sessions<'r>(records: &'r Records, seen: &Observation) -> Vec<&'r SessionId> {
    let active = records.sessions.values().filter(|session| session.status == SessionStatus::Active);
    let dead =
        active.filter(|session| seen.liveness.get(&session.id).is_some_and(|known| known.verdict == Verdict::Dead));
    dead.map(|session| &session.id).filter(|id| !works_for_ended_runs_only(id, records)).collect()
}

fn works_for_ended_runs_only(session: &SessionId, records: &Records) -> bool {
    let mut views = records
        .runs
        .values()
        .filter(|view| view.tasks.values().any(|task| task.session.as_ref() == Some(session)))
        .peekable();
    views.peek().is_some() && views.all(|view| view.run.status.is_terminal())
}

fn find_dead_sessions(records: &Records, seen: &Observation) -> Vec<Finding> {
    let finding = |id: &SessionId| {
        let why = seen.liveness.get(id).map(|liveness| liveness.evidence.join("; ")).unwrap_or_default();
        let message = format!("session {id} is recorded as active and is dead: {why}");
        Finding::new(FindingCode::SessionDead, message).of_session(id).because("liveness", why)
    };
    dead_sessions(records, seen).into_iter().map(finding).collect()
}

/// Claims that are held by sessions which have ended, or are not recorded at all.
pub(super) fn stale_claims<'r>(records: &'r Records, seen: &Observation) -> Vec<&'r crate::domain::claim::Claim> {
    let ours = |claim: &&crate::domain::claim::Claim| claim.is_held() && claim.host.as_ref() == Some(&seen.host);
    let stale =
        |claim: &&crate::domain::claim::Claim| match claim.session.as_ref().map(|id| (id, records.sessions.get(id))) {
            Some((_, Some(session))) => session.status.is_terminal(),
            Some((id, None)) => !records.is_session_unreadable(id),
            None => true,
        };
    records.claims.iter().filter(ours).filter(stale).collect()
}

fn find_stale_claims(records: &Records, seen: &Observation) -> Vec<Finding> {
    let finding = |claim: &crate::domain::claim::Claim| {
        let holder = claim.session.as_ref().map_or_else(|| "nobody".to_owned(), ToString::to_string);
        let message = format!("claim {} {} is held by {holder}, which has ended", claim.kind, claim.key);
        let mut finding = Finding::new(FindingCode::ClaimStale, message).because("token", &claim.token);
        finding.session.clone_from(&claim.session);
        finding
    };
    stale_claims(records, seen).into_iter().map(finding).collect()
}

/// Whether a pool counts a task that does not run, and nobody is about to start it.
pub(super) fn is_slot_stale(slot: &Slot, view: &RunView, records: &Records, seen: &Observation) -> bool {
    let runs = view.tasks.get(&slot.task).is_some_and(|task| task.state == TaskState::Running);
    if runs && !view.run.status.is_terminal() {
        return false;
    }
    // A starter that lives may be between its two swaps: it has the place and not yet the task.
    slot.session.as_ref().is_none_or(|session| {
        records
            .sessions
            .get(session)
            .map_or_else(|| !records.is_session_unreadable(session), |known| known.status.is_terminal())
            || seen.liveness.get(session).is_some_and(|known| known.verdict == Verdict::Dead)
    })
}

fn find_stale_slots(records: &Records, seen: &Observation) -> Vec<Finding> {
    let slots = records.pools.iter().flat_map(|pool| pool.running.iter().map(move |slot| (pool, slot)));
    let stale = slots
        .filter(|(_, slot)| records.runs.get(&slot.run).is_some_and(|view| is_slot_stale(slot, view, records, seen)));
    let finding = |(pool, slot): (&Pool, &Slot)| {
        let message = format!("pool {} counts {}/{}, which does not run", pool.id, slot.run, slot.task);
        let finding = Finding::new(FindingCode::SlotStale, message).in_run(&slot.run).of_task(&slot.task);
        finding.because("pool", &pool.id)
    };
    stale.map(finding).collect()
}

fn find_unnamed(seen: &Observation) -> Vec<Finding> {
    let finding = |unnamed: &super::observation::UnnamedWorktree| {
        let dirty = matches!(&unnamed.seen, PlaceSeen::There { dirt: Dirt::Dirty { .. }, .. });
        let action = if dirty { RecoveryAction::ArchiveDirtyEnvironment } else { RecoveryAction::QueueCleanup };
        let message = format!("tether made the worktree {} and no record names it", unnamed.path.display());
        let mut finding = Finding::new(FindingCode::EnvironmentOrphaned, message);
        finding.run.clone_from(&unnamed.run);
        finding.environment.clone_from(&unnamed.environment);
        finding.health = Some(Health::Orphaned);
        finding.recovery_status = Some(RecoveryStatus::Pending);
        finding.recovery_action = Some(action);
        finding.because("path", unnamed.path.display()).because("seen", describe(Some(&unnamed.seen)))
    };
    seen.unnamed.iter().map(finding).collect()
}

fn find_leftover(leftover: &Leftover) -> Finding {
    let (what, name) = match leftover {
        Leftover::RefLock(path) => ("a ref lock of a process that died", path.display().to_string()),
        Leftover::Scratch(path) => ("a scratch file of a process that died", path.display().to_string()),
        Leftover::LiveFile(path) => ("a live file of a session that has ended", path.display().to_string()),
        Leftover::Session(session) => ("the making of a session was cut off", session.to_string()),
        Leftover::Branch { name, .. } => ("a branch for a worktree that never came", name.clone()),
    };
    Finding::new(FindingCode::Leftover, format!("{what}: {name}")).because("leftover", name)
}
