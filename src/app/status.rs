//! Status: every run at a glance, and what is wrong.

use crate::app::failure::Failure;
use crate::app::observe::Scope;
use crate::app::tether::Tether;
use crate::domain::ids::RunId;
use crate::domain::view::RunView;
use crate::plan::finding::Finding;
use crate::plan::verify::find;

/// Every run at a glance.
#[derive(Debug, Clone, Default)]
pub struct Status {
    /// Runs, newest first.
    pub runs: Vec<RunView>,
    /// Runs that cannot be read, with what is wrong.
    pub unreadable: Vec<(String, String)>,
    /// What differs between records and the world.
    pub problems: Vec<Finding>,
}

impl Status {
    /// How many problems a person has to settle.
    pub fn needs_person(&self) -> usize {
        self.problems.iter().filter(|problem| problem.needs_person).count()
    }
}

impl Tether {
    /// The status of one run or of all.
    pub fn status(&self, run: Option<&RunId>) -> Result<Status, Failure> {
        let scope = Scope { runs: run.cloned().into_iter().collect(), ..Scope::default() };
        let records = self.read_records(&scope)?;
        let seen = self.observe(&records, &scope)?;
        let problems = find(&records, &seen);
        let mut runs: Vec<RunView> = records.runs.into_values().collect();
        runs.sort_by(|a, b| (b.run.updated_at, &b.run.id).cmp(&(a.run.updated_at, &a.run.id)));
        Ok(Status { runs, unreadable: records.unreadable, problems })
    }
}
