//! Restores the executor of a run: checks what it spoke of, decides, and tells it where it stands.
//!
//! Invariants: no task and no session is touched; a run that cannot be read is never taken for one that is not there.

use crate::app::failure::{Failure, near_matches};
use crate::app::run::StartRun;
use crate::app::tether::Tether;
use crate::domain::event::SupervisorState;
use crate::domain::ids::{Oid, RunId, TaskPointer};
use crate::domain::restoration::RestorationReport;
use crate::domain::run::RestorationSource;
use crate::domain::view::RunView;
use crate::plan::restore::{Earlier, Facts, Knowledge, Known, fresh_start, lost_tasks, plan_restoration};
use crate::record::{LARGEST_RECORD, decode, encode, layout};
use crate::store::chain::Content;
use crate::store::names::RefName;
use crate::store::runs::{Need, Proposal};

/// A run whose executor was restored.
#[derive(Debug, Clone)]
pub struct RestoredRun {
    /// The run now.
    pub view: RunView,
    /// What its executor is told.
    pub report: RestorationReport,
}

impl Tether {
    /// Restores the executor of a run; one that does not exist is started fresh, with a warning that names near matches.
    pub fn restore_run(&self, id: &RunId, source: RestorationSource) -> Result<RestoredRun, Failure> {
        let report = if self.ledger().read_run(id, &Need::Everything)?.is_some() {
            self.restore_known(id, source)?
        } else {
            match self.start_fresh(id) {
                Err(failure) if failure.code == "run_exists" => self.restore_known(id, source)?,
                started => started?,
            }
        };
        Ok(RestoredRun { view: self.show_run(id)?, report })
    }

    /// What the executor of a run was told when it was restored last; `None` if it never was.
    pub fn last_restoration(&self, id: &RunId) -> Result<Option<RestorationReport>, Failure> {
        let Some(bytes) = self.ledger().read_run_file(id, layout::RESTORATION, LARGEST_RECORD)? else {
            return Ok(None);
        };
        Ok(Some(decode::<RestorationReport>(&bytes)?.value))
    }

    fn start_fresh(&self, id: &RunId) -> Result<RestorationReport, Failure> {
        let known = self.ledger().list_runs()?;
        let report = fresh_start(id, &near_matches(id.as_str(), known.iter().map(|(name, _)| name.as_str())));
        self.start_run(id, StartRun::default())?;
        self.change_run(id, &Need::run(), |_| restoration_proposal(Vec::new(), &report))?;
        Ok(report)
    }

    fn restore_known(&self, id: &RunId, source: RestorationSource) -> Result<RestorationReport, Failure> {
        let now = self.now();
        let mut told = None;
        self.change_run(id, &Need::Everything, |view| {
            let run = &view.run;
            let mut known = Knowledge::new();
            self.look_up(view, run.spawned_tasks.iter().chain(&run.waiting_on), &mut known);
            let lost = !lost_tasks(&run.spawned_tasks, &known).is_empty();
            let earlier = if lost { self.find_earlier(view, &mut known)? } else { None };
            if let Some(earlier) = &earlier {
                self.look_up(view, &earlier.state.waiting_on, &mut known);
            }
            let plan = plan_restoration(&Facts { view, known: &known, earlier: earlier.as_ref(), source, now });
            told = Some(plan.report.clone());
            restoration_proposal(plan.events, &plan.report)
        })?;
        told.ok_or_else(|| Failure::fatal("not_restored", format!("run {id} was not restored")))
    }

    /// Looks up the tasks that an executor speaks of: its run's own in `view`, others in their runs.
    fn look_up<'p>(&self, view: &RunView, pointers: impl IntoIterator<Item = &'p TaskPointer>, known: &mut Knowledge) {
        for pointer in pointers {
            if known.contains_key(pointer) {
                continue;
            }
            let own = |view: &RunView| {
                view.tasks.get(&pointer.task).map_or(Known::Unknown, |task| Known::Recorded(task.state))
            };
            let found = match pointer.run.as_ref().filter(|run| **run != view.run.id) {
                None => own(view),
                Some(run) => match self.ledger().read_run(run, &Need::run().with_task(&pointer.task)) {
                    Ok(Some(read)) => own(&read.view),
                    Ok(None) => Known::Unknown,
                    Err(error) => Known::Unreadable(crate::app::failure::chain_of(&error)),
                },
            };
            known.insert(pointer.clone(), found);
        }
    }

    /// The newest commit of the run in which every task that it says it has spawned has a record. Commits that cannot be read are
    /// passed over.
    fn find_earlier(&self, view: &RunView, known: &mut Knowledge) -> Result<Option<Earlier>, Failure> {
        let id = &view.run.id;
        let name = RefName::run(id.as_str()).map_err(crate::store::ledger::ReadError::from)?;
        let Some(history) = self.ledger().history_of_run(id)? else { return Ok(None) };
        for commit in history.map_while(Result::ok) {
            let Ok(read) = self.ledger().read_run_at(&name, commit.id, &Need::run()) else { continue };
            let run = read.view.run;
            let (own, others): (Vec<&TaskPointer>, Vec<_>) =
                run.spawned_tasks.iter().partition(|pointer| pointer.run.as_ref().is_none_or(|named| named == id));
            self.look_up(view, others.iter().copied(), known);
            if others.iter().any(|pointer| known.get(*pointer) == Some(&Known::Unknown)) {
                continue;
            }
            let need = own.iter().fold(Need::run(), |need, pointer| need.with_task(&pointer.task));
            let Ok(there) = self.ledger().read_run_at(&name, commit.id, &need) else { continue };
            if own.iter().all(|pointer| there.view.tasks.contains_key(&pointer.task)) {
                let state = SupervisorState {
                    activity: run.activity,
                    spawned_tasks: run.spawned_tasks,
                    waiting_on: run.waiting_on,
                    messages: run.messages,
                };
                return Ok(Some(Earlier { commit: Oid(commit.id.to_string()), state }));
            }
        }
        Ok(None)
    }
}

/// The events of a restoration, and what its executor is told, kept in the run's tree so that it can be told again.
fn restoration_proposal(
    events: Vec<crate::domain::event::RunEvent>,
    report: &RestorationReport,
) -> Result<Proposal, Failure> {
    let file = (layout::RESTORATION.to_owned(), Content::Bytes(encode(report, None)?));
    Ok(Proposal { events, files: [file].into() })
}
