//! Child runs, rolled up into their parent's view: counts, attention, blocked reasons.
//!
//! Invariants: a run that cannot be read hides no other; runs that name each other as parents end nowhere but once.

use std::collections::{BTreeMap, BTreeSet};

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::ids::RunId;
use crate::domain::run::{Run, RunStatus, TaskSummary};
use crate::domain::task::TaskState;
use crate::store::runs::Need;

/// A child run, with what is below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChildRun {
    /// The run.
    pub run: RunId,
    /// Where it stands.
    pub status: RunStatus,
    /// Whether a person should look at it, or at a run below it.
    pub requires_attention: bool,
    /// How many of its own tasks are in which state.
    pub task_summary: TaskSummary,
    /// Why its own tasks are blocked; each reason once.
    pub blocked_reasons: Vec<String>,
    /// Its own children.
    pub children: Vec<ChildRun>,
}

/// Runs by the run that they name as their parent.
type Families = BTreeMap<RunId, Vec<Run>>;

impl Tether {
    /// The children of a run, oldest first.
    pub fn children_of(&self, run: &RunId) -> Result<Vec<ChildRun>, Failure> {
        let mut families = Families::new();
        for (name, tip) in self.ledger().list_runs()? {
            let (Ok(_), Ok(id)) = (tip, RunId::new(name)) else { continue };
            let Ok(Some(read)) = self.ledger().read_run(&id, &Need::run()) else { continue };
            if let Some(parent) = &read.view.run.parent {
                families.entry(parent.run.clone()).or_default().push(read.view.run);
            }
        }
        Ok(self.roll_up(run, &families, &mut BTreeSet::from([run.clone()])))
    }

    fn roll_up(&self, parent: &RunId, families: &Families, seen: &mut BTreeSet<RunId>) -> Vec<ChildRun> {
        let mut runs: Vec<&Run> = families.get(parent).into_iter().flatten().collect();
        runs.sort_by_key(|run| (run.created_at, &run.id));
        let mut children = Vec::new();
        for run in runs {
            if !seen.insert(run.id.clone()) {
                continue;
            }
            let below = self.roll_up(&run.id, families, seen);
            children.push(ChildRun {
                run: run.id.clone(),
                status: run.status,
                requires_attention: run.requires_attention || below.iter().any(|child| child.requires_attention),
                task_summary: run.task_summary,
                blocked_reasons: self.blocked_reasons(run),
                children: below,
            });
        }
        children
    }

    /// Why tasks of a run are blocked; only a run that counts blocked ones is read for it.
    fn blocked_reasons(&self, run: &Run) -> Vec<String> {
        if run.task_summary.count(TaskState::Blocked) == 0 {
            return Vec::new();
        }
        let Ok(Some(read)) = self.ledger().read_run(&run.id, &Need::Everything) else { return Vec::new() };
        let mut reasons = Vec::new();
        for reason in read.view.tasks.into_values().flat_map(|task| task.blocked_reasons) {
            if !reasons.contains(&reason) {
                reasons.push(reason);
            }
        }
        reasons
    }
}
