//! What happened to a run, commit by commit.
//!
//! Must not know what a commit's message says: what a commit touched is seen in its tree.

use gix::ObjectId;

use super::chain::{ChainCommit, CommitError};
use super::ledger::{Ledger, ReadError};
use super::names::RefName;
use super::tree;
use crate::domain::ids::{RunId, TaskId};
use crate::record::layout;
use crate::store::runs::Need;

/// The commits of a run, newest first, as far as they can be read.
#[derive(Debug)]
pub struct Told {
    /// The commits.
    pub commits: Vec<ChainCommit>,
    /// Why there are no older ones, if that is not because the run begins there.
    pub ends_at: Option<CommitError>,
}

impl Ledger {
    /// The commits of a run, or those that changed a task, its checkpoint or its environment; `None` if there is no such run.
    pub fn tell(&self, id: &RunId, task: Option<&TaskId>) -> Result<Option<Told>, ReadError> {
        let Some(history) = self.history_of_run(id)? else { return Ok(None) };
        let mut told = Told { commits: Vec::new(), ends_at: None };
        for commit in history {
            match commit {
                Ok(commit) => told.commits.push(commit),
                Err(error) => {
                    told.ends_at = Some(error);
                    break;
                }
            }
        }
        if let Some(task) = task {
            let paths = self.paths_of(id, task)?;
            let name = RefName::run(id.as_str())?;
            told.commits = self.touching(&name, &told.commits, &paths)?;
        }
        Ok(Some(told))
    }

    /// The files that tell of a task.
    fn paths_of(&self, id: &RunId, task: &TaskId) -> Result<Vec<String>, ReadError> {
        let mut paths = vec![layout::task(task), layout::checkpoint(task)];
        let read = self.read_run(id, &Need::run().with_task(task))?;
        let environment = read.and_then(|read| read.view.tasks.get(task)?.environment.clone());
        paths.extend(environment.map(|environment| layout::environment(&environment)));
        Ok(paths)
    }

    fn touching(
        &self,
        name: &RefName,
        commits: &[ChainCommit],
        paths: &[String],
    ) -> Result<Vec<ChainCommit>, ReadError> {
        let mut seen = std::collections::HashMap::new();
        for commit in commits {
            seen.insert(commit.id, self.files_at(name, commit.tree, paths)?);
        }
        let differs = |commit: &ChainCommit| {
            let here = seen.get(&commit.id);
            let nothing = vec![None; paths.len()];
            match commit.parents.as_slice() {
                [] => here != Some(&nothing),
                // A merge tells of the task if it is as none of the merged sides had it; a parent that is not there shows nothing.
                parents => parents.iter().all(|parent| seen.contains_key(parent) && seen.get(parent) != here),
            }
        };
        Ok(commits.iter().filter(|commit| differs(commit)).cloned().collect())
    }

    fn files_at(&self, name: &RefName, root: ObjectId, paths: &[String]) -> Result<Vec<Option<ObjectId>>, ReadError> {
        let failed = |source| ReadError::Tree { name: name.clone(), source };
        let find = |path: &String| Ok(tree::find(self.backend(), root, path).map_err(failed)?.map(|found| found.id));
        paths.iter().map(find).collect()
    }
}
