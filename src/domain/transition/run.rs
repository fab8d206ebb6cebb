//! What happens to the run as a whole.

use super::draft::Draft;
use super::holding::expire_all;
use super::refused::RefusedTransition;
use crate::domain::event::{ActivityReport, SupervisorState, WorkEnd};
use crate::domain::gate::GateKind;
use crate::domain::run::{ActivityState, FixedBy, Message, Outcome, RestorationSource, RunStatus};
use crate::domain::task::TaskState;

pub(super) fn finish(
    draft: &mut Draft<'_>,
    outcome: Option<Outcome>,
    note: Option<&str>,
) -> Result<(), RefusedTransition> {
    let failed = draft.run().task_summary.count(TaskState::Failed) > 0;
    let derived = match draft.run().derived_status() {
        _ if failed => RunStatus::Failed,
        status @ (RunStatus::Failed | RunStatus::Cancelled) => status,
        _ => RunStatus::Completed,
    };
    let status = outcome.map_or(derived, Outcome::status);
    let before = draft.run().status;
    if draft.run().is_fixed() {
        if outcome.is_none() || before == status {
            return Ok(());
        }
        return Err(RefusedTransition::IllegalRun { run: draft.run().id.to_string(), from: before, to: status });
    }
    expire_all(draft)?;
    draft.run().fix(status, FixedBy::Finish);
    draft.run().outcome_note = note.map(ToOwned::to_owned);
    draft.run().attention_reason = None;
    end_activity(draft, status);
    Ok(())
}

fn end_activity(draft: &mut Draft<'_>, status: RunStatus) {
    let at = draft.at;
    let activity = &mut draft.run().activity;
    activity.state = match status {
        RunStatus::Completed => ActivityState::Completed,
        RunStatus::Failed => ActivityState::Failed,
        _ => ActivityState::Idle,
    };
    activity.at = Some(at);
}

pub(super) fn pause(draft: &mut Draft<'_>) -> Result<(), RefusedTransition> {
    let run = draft.run();
    match run.status {
        RunStatus::Paused => {}
        ended if ended.is_terminal() => {
            return Err(RefusedTransition::IllegalRun { run: run.id.to_string(), from: ended, to: RunStatus::Paused });
        }
        status => {
            run.paused_from = Some(status);
            run.status = RunStatus::Paused;
        }
    }
    Ok(())
}

pub(super) fn unpause(draft: &mut Draft<'_>) {
    let run = draft.run();
    if run.status == RunStatus::Paused {
        run.status = run.derived_status();
    }
}

pub(super) fn cancel(draft: &mut Draft<'_>) -> Result<(), RefusedTransition> {
    let status = draft.run().status;
    if status == RunStatus::Cancelled && draft.run().is_fixed() {
        return Ok(());
    }
    if status.is_terminal() && status != RunStatus::Cancelled {
        return Err(RefusedTransition::IllegalRun {
            run: draft.run().id.to_string(),
            from: status,
            to: RunStatus::Cancelled,
        });
    }
    for id in draft.task_ids() {
        if !draft.read_task(&id)?.state.is_terminal() {
            super::task::cancel(draft, &id, &WorkEnd::default())?;
        }
    }
    expire_all(draft)?;
    draft.run().fix(RunStatus::Cancelled, FixedBy::Cancel);
    draft.run().attention_reason = None;
    end_activity(draft, RunStatus::Cancelled);
    Ok(())
}

pub(super) fn report_activity(draft: &mut Draft<'_>, report: &ActivityReport) -> Result<(), RefusedTransition> {
    if let Some(progress) = report.progress.filter(|progress| *progress > 100) {
        return Err(RefusedTransition::OutOfRange {
            what: "progress",
            value: progress.to_string(),
            allowed: "0 to 100",
        });
    }
    if *report == ActivityReport::default() {
        return Ok(());
    }
    let at = draft.at;
    let run = draft.run();
    let implied = (report.phase.is_some() || !report.spawned.is_empty()).then_some(ActivityState::Working);
    if let Some(state) = report.state.or(implied) {
        run.activity.state = state;
    }
    let given = |new: &Option<String>, field: &mut Option<String>| {
        if let Some(new) = new {
            *field = Some(new.clone()).filter(|text| !text.is_empty());
        }
    };
    given(&report.text, &mut run.activity.text);
    given(&report.phase, &mut run.activity.phase);
    given(&report.error, &mut run.activity.error);
    run.activity.progress = report.progress.or(run.activity.progress);
    run.activity.at = Some(at);
    let own = run.id.clone();
    for spawned in report.spawned.iter().map(|pointer| pointer.clone().as_seen_from(&own)) {
        if !run.spawned_tasks.contains(&spawned) {
            run.spawned_tasks.push(spawned);
        }
    }
    if let Some(waiting_on) = &report.waiting_on {
        run.waiting_on.clear();
        for waited in waiting_on.iter().map(|pointer| pointer.clone().as_seen_from(&own)) {
            if !run.waiting_on.contains(&waited) {
                run.waiting_on.push(waited);
            }
        }
    }
    if let Some((role, text)) = &report.message {
        run.messages.push(Message { role: role.clone(), text: text.clone(), at });
    }
    Ok(())
}

pub(super) fn restore(
    draft: &mut Draft<'_>,
    source: RestorationSource,
    from_checkpoint: Option<&SupervisorState>,
    manual_intervention: Option<&str>,
) {
    let at = draft.at;
    for id in draft.gate_ids() {
        let again = draft.read_gate(&id).is_ok_and(|gate| gate.is_pending() && gate.kind == GateKind::Question);
        if let (true, Ok(gate)) = (again, draft.gate(&id)) {
            gate.redelivered += 1;
        }
    }
    let run = draft.run();
    if let Some(earlier) = from_checkpoint {
        run.activity = earlier.activity.clone();
        run.spawned_tasks.clone_from(&earlier.spawned_tasks);
        run.waiting_on.clone_from(&earlier.waiting_on);
        run.messages.clone_from(&earlier.messages);
    }
    run.activity.state = ActivityState::Initializing;
    run.activity.error = None;
    run.activity.at = Some(at);
    run.restoration.count += 1;
    run.restoration.last_at = Some(at);
    run.restoration.source = Some(source);
    run.attention_reason = manual_intervention.map(ToOwned::to_owned);
}
