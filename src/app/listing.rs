//! Lists that are whole: what could be read, and the name of each record that could not.
//!
//! Invariant: a record that cannot be read never hides the others, and is never left out in silence.

use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::ids::RunId;
use crate::domain::view::RunView;
use crate::store::runs::Need;
use crate::store::singles::Single;

/// A record that is there and cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// The run, or the ref of anything else.
    pub name: String,
    /// What is wrong with it.
    pub problem: String,
}

/// What could be read, and what could not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listing<T> {
    /// What could be read.
    pub records: Vec<T>,
    /// What could not.
    pub unreadable: Vec<Unreadable>,
}

impl<T> Listing<T> {
    /// The same list of something else.
    pub(super) fn map<U>(self, into: impl FnOnce(Vec<T>) -> Vec<U>) -> Listing<U> {
        Listing { records: into(self.records), unreadable: self.unreadable }
    }
}

impl Tether {
    /// One run, or all that can be read.
    pub(super) fn list_views(&self, run: Option<&RunId>) -> Result<Listing<RunView>, Failure> {
        if let Some(run) = run {
            return Ok(Listing { records: vec![self.read_run(run, &Need::Everything)?.view], unreadable: Vec::new() });
        }
        let (records, unreadable) = self.read_all_runs()?;
        let named = |(run, problem): (String, String)| Unreadable { name: format!("run {run}"), problem };
        Ok(Listing { records, unreadable: unreadable.into_iter().map(named).collect() })
    }

    /// All records of a kind that has refs of its own.
    pub(super) fn list_all<T: Single>(&self) -> Result<Listing<T>, Failure> {
        let (records, unreadable) = self.ledger().list_singles::<T>()?;
        let named = |(name, error)| Unreadable { name: format!("{name}"), problem: chain_of(&error) };
        Ok(Listing { records, unreadable: unreadable.into_iter().map(named).collect() })
    }
}
