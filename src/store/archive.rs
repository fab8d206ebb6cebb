//! The archive: the records of runs that are past retention, one commit a batch.
//!
//! Owns where in its tree a run lies. Must not know which runs go there. Invariant: a run's ref goes only after its records are in
//! the archive, and only from the state that was put there; a kill in between leaves both, and the next batch finds that.

use gix::ObjectId;

use super::backend::{Expected, New, SwapError};
use super::chain::Content;
use super::ledger::{Inner, Ledger, ReadError, WriteRecordError};
use super::names::RefName;
use super::transact::{self, Decision, Retry};
use super::tree;
use crate::domain::ids::RunId;
use crate::domain::time::Timestamp;
use crate::record::message;

/// The directory of runs in the archive's tree.
const RUNS: &str = "runs";

type Never = std::convert::Infallible;

impl Ledger {
    /// Moves these states of runs into the archive; answers with the runs whose refs went.
    pub fn archive_runs(
        &self,
        runs: &[(RunId, ObjectId)],
        at: Timestamp,
    ) -> Result<Vec<RunId>, WriteRecordError<Never>> {
        let name = RefName::archive();
        transact::transact(self.backend(), &name, Retry::default(), |tip| {
            let base = tip.map(|tip| self.root(&name, tip)).transpose().map_err(Inner::<Never>::Read)?;
            let mut changes = Vec::new();
            let mut lines = Vec::new();
            for (run, tip) in runs {
                let root = RefName::run(run.as_str()).map_err(ReadError::from).and_then(|name| self.root(&name, *tip));
                let root = root.map_err(Inner::Read)?;
                if let Some(path) = self.free_path(&name, base, run, *tip, root).map_err(Inner::Read)? {
                    lines.push(format!("{path}: run {run} as it was at {tip}"));
                    changes.push((path, Content::Tree(root)));
                }
            }
            if changes.is_empty() {
                return Ok(Decision::Leave(()));
            }
            let trailers = [
                ("Event", Some("runs_archived".to_owned())),
                ("Actor", Some(self.author().actor.clone())),
                ("Host", Some(self.author().host.to_string())),
            ];
            let what = if changes.len() == 1 { "1 run" } else { &format!("{} runs", changes.len()) };
            let text = message::message(&format!("archive: {what}"), &lines.join("\n"), &trailers);
            Ok(Decision::Append(self.transition(changes, text, at), ()))
        })?;
        let mut gone = Vec::new();
        for (run, tip) in runs {
            let name = RefName::run(run.as_str()).map_err(ReadError::from)?;
            match self.backend().swap(&name, Expected::Id(*tip), New::Delete) {
                Ok(()) => gone.push(run.clone()),
                // It lives again.
                Err(SwapError::Lost { .. }) => {}
                Err(error) => return Err(WriteRecordError::Append(Box::new(error.into()))),
            }
        }
        Ok(gone)
    }

    /// Where a run's records go; `None` if they are there already. A name that an older run has taken is told apart by the commit.
    fn free_path(
        &self,
        archive: &RefName,
        base: Option<ObjectId>,
        run: &RunId,
        tip: ObjectId,
        root: ObjectId,
    ) -> Result<Option<String>, ReadError> {
        let Some(base) = base else { return Ok(Some(format!("{RUNS}/{run}"))) };
        for path in [format!("{RUNS}/{run}"), format!("{RUNS}/{run}@{}", tip.to_hex_with_len(12))] {
            let found = tree::find_directory(self.backend(), base, &path);
            match found.map_err(|source| ReadError::Tree { name: archive.clone(), source })? {
                Some(found) if found == root => return Ok(None),
                Some(_) => {}
                None => return Ok(Some(path)),
            }
        }
        Ok(Some(format!("{RUNS}/{run}@{tip}")))
    }

    /// Whether the archive has a run of this name.
    pub fn is_archived(&self, run: &RunId) -> Result<bool, ReadError> {
        let name = RefName::archive();
        let Some(tip) = self.tip(&name)? else { return Ok(false) };
        let root = self.root(&name, tip)?;
        let found = tree::find_directory(self.backend(), root, &format!("{RUNS}/{run}"));
        Ok(found.map_err(|source| ReadError::Tree { name, source })?.is_some())
    }
}
