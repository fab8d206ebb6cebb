//! Runs: one ref each, one commit for each transition.
//!
//! Owns how much of a run is read, and the values that a change of one is asked for and answered with. Must not know why anything happens.
//! Invariant: what is read does not grow with the number of tasks, unless everything is asked for.

use std::collections::BTreeMap;

use gix::ObjectId;

use super::backend::RefValue;
use super::chain::{self, Content, Follow};
use super::ledger::{Ledger, ReadError};
use super::names::{RefName, RefPrefix};
use super::placed::Placed;
use super::read_run::LastRead;
pub use super::read_run::{Need, Picked, ReadRun};
use super::tree;
use crate::domain::event::RunEvent;
use crate::domain::gate::Gate;
use crate::domain::ids::{GateId, RunId};
use crate::domain::run::Run;
use crate::domain::task::Task;
use crate::domain::transition::RefusedTransition;
use crate::domain::view::{Changes, RunView};
use crate::record::layout;

/// A transition of a run that was written, or found to change nothing.
#[derive(Debug, Clone)]
pub struct Committed {
    /// The tip now.
    pub tip: ObjectId,
    /// The run now, with the records that were asked for.
    pub view: RunView,
    /// What changed; `None`: nothing did, and nothing was written.
    pub changes: Option<Changes>,
}

/// Why a transition of a run did not happen.
#[derive(Debug, thiserror::Error)]
pub enum Refusal<E: std::error::Error + 'static> {
    /// There is no such run.
    #[error("there is no run {0}")]
    NoSuchRun(RunId),
    /// There is one already.
    #[error("run {0} exists already")]
    RunExists(RunId),
    /// The rules do not allow it.
    #[error(transparent)]
    Transition(RefusedTransition),
    /// The caller decided against it.
    #[error(transparent)]
    Decided(E),
    /// What a snapshot was made without is not kept any more: it has to be made anew, whole.
    #[error("the saved work that this snapshot builds on was dropped meanwhile")]
    PreviousDropped,
}

/// A run's name with its tip, or with what stands there instead.
pub type ListedRun = (String, Result<ObjectId, String>);

/// What is to happen to a run: the events, and files that go into its tree beside the records.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Proposal {
    /// What happens, in this order, in one commit.
    pub events: Vec<RunEvent>,
    /// Files of the run's tree that are no records: a payload, the report.
    pub files: BTreeMap<String, Content>,
}

impl From<RunEvent> for Proposal {
    fn from(event: RunEvent) -> Self {
        Self { events: vec![event], files: BTreeMap::new() }
    }
}

impl From<Vec<RunEvent>> for Proposal {
    fn from(events: Vec<RunEvent>) -> Self {
        Self { events, files: BTreeMap::new() }
    }
}

impl Ledger {
    /// Reads a run, or as much of it as is needed; `None` if there is no such run.
    pub fn read_run(&self, id: &RunId, need: &Need) -> Result<Option<ReadRun>, ReadError> {
        let name = RefName::run(id.as_str())?;
        match self.tip(&name)? {
            Some(tip) => self.read_run_at(&name, tip, need).map(Some),
            None => Ok(None),
        }
    }

    /// Reads a run as it was at a commit of its chain.
    pub fn read_run_at(&self, name: &RefName, tip: ObjectId, need: &Need) -> Result<ReadRun, ReadError> {
        if let Some(known) = self.last_read.borrow().as_ref().and_then(|last| last.answer(name, tip, need)) {
            return Ok(known.clone());
        }
        let read = self.load_run(name, tip, need)?;
        *self.last_read.borrow_mut() = LastRead::of(name, need, &read);
        Ok(read)
    }

    fn load_run(&self, name: &RefName, tip: ObjectId, need: &Need) -> Result<ReadRun, ReadError> {
        let root = self.root(name, tip)?;
        let run = self.find_record::<Run>(name, root, layout::RUN)?;
        let run = run.ok_or_else(|| ReadError::Incomplete { name: name.clone(), path: layout::RUN.to_owned() })?;
        let mut read = ReadRun { tip, view: RunView::of_run(run.value), written: BTreeMap::new() };
        read.written.insert(layout::RUN.to_owned(), run.written);
        let loader = Loader { ledger: self, name, root };
        match need {
            Need::Everything => loader.load_everything(&mut read)?,
            Need::Some(picked) => loader.load_picked(&mut read, picked)?,
        }
        Ok(read)
    }

    /// Every run's name with its tip, or with what stands there instead.
    pub fn list_runs(&self) -> Result<Vec<ListedRun>, ReadError> {
        let listed = self.backend().list_refs(&RefPrefix::runs());
        let failed = |source| ReadError::Ref { name: RefName::journal(), source };
        let run_name = |name: &RefName| name.as_str().rsplit('/').next().unwrap_or_default().to_owned();
        Ok(listed
            .map_err(failed)?
            .into_iter()
            .map(|(name, value)| match value {
                RefValue::Id(id) => (run_name(&name), Ok(id)),
                RefValue::Absent => (run_name(&name), Err("nothing".to_owned())),
                RefValue::Symbolic(target) => (run_name(&name), Err(format!("a symbolic ref to {target}"))),
                RefValue::Broken(content) => (run_name(&name), Err(format!("a torn ref: `{content}`"))),
            })
            .collect())
    }

    /// The commits of a run, newest first.
    pub fn history_of_run(&self, id: &RunId) -> Result<Option<chain::History<'_>>, ReadError> {
        let tip = self.tip(&RefName::run(id.as_str())?)?;
        Ok(tip.map(|tip| chain::history(self.backend(), tip, Follow::All)))
    }

    /// A file of a run's tree, if it is there.
    pub fn read_run_file(&self, id: &RunId, path: &str, limit: u64) -> Result<Option<Vec<u8>>, ReadError> {
        let name = RefName::run(id.as_str())?;
        let Some(tip) = self.tip(&name)? else { return Ok(None) };
        let root = self.root(&name, tip)?;
        tree::read(self.backend(), root, path, limit).map_err(|source| ReadError::Tree { name, source })
    }
}

struct Loader<'a> {
    ledger: &'a Ledger,
    name: &'a RefName,
    root: ObjectId,
}

impl Loader<'_> {
    fn load_everything(&self, read: &mut ReadRun) -> Result<(), ReadError> {
        for task in self.load_directory::<Task>(read, layout::TASKS)? {
            read.view.tasks.insert(task.id.clone(), task);
        }
        for environment in self.load_directory::<crate::domain::environment::Environment>(read, layout::ENVIRONMENTS)? {
            read.view.environments.insert(environment.id.clone(), environment);
        }
        for checkpoint in self.load_directory::<crate::domain::checkpoint::Checkpoint>(read, layout::CHECKPOINTS)? {
            read.view.checkpoints.insert(checkpoint.task.clone(), checkpoint);
        }
        for gate in self.load_directory::<Gate>(read, layout::GATES)? {
            read.view.gates.insert(gate.id.clone(), gate);
        }
        Ok(())
    }

    fn load_directory<T: Placed>(&self, read: &mut ReadRun, directory: &str) -> Result<Vec<T>, ReadError> {
        let listed = tree::list(self.ledger.backend(), self.root, directory);
        let listed = listed.map_err(|source| ReadError::Tree { name: self.name.clone(), source })?;
        let mut records = Vec::with_capacity(listed.len());
        for (file, id) in listed.into_iter().filter(|(file, _)| layout::is_record(file)) {
            let path = format!("{directory}/{file}");
            let stored = self.ledger.read_blob::<T>(self.name, &path, id)?;
            read.written.insert(path, stored.written);
            records.push(stored.value);
        }
        Ok(records)
    }

    fn load<T: Placed>(&self, read: &mut ReadRun, path: String) -> Result<Option<T>, ReadError> {
        let Some(stored) = self.ledger.find_record::<T>(self.name, self.root, &path)? else { return Ok(None) };
        read.written.insert(path, stored.written);
        Ok(Some(stored.value))
    }

    fn load_picked(&self, read: &mut ReadRun, picked: &Picked) -> Result<(), ReadError> {
        let mut tasks = picked.tasks.clone();
        let mut gates = picked.gates.clone();
        gates.extend(read.view.run.pending_gates.iter().cloned());
        for gate in &gates {
            self.load_gate(read, gate)?;
        }
        tasks.extend(picked.gates.iter().filter_map(|gate| read.view.gates.get(gate)?.task.clone()));
        let mut environments = picked.environments.clone();
        for id in &tasks {
            let Some(task) = self.load::<Task>(read, layout::task(id))? else { continue };
            for dependency in &task.depends_on {
                if let Some(dependency) = self.load::<Task>(read, layout::task(dependency))? {
                    read.view.tasks.insert(dependency.id.clone(), dependency);
                }
            }
            for gate in &task.gates {
                self.load_gate(read, gate)?;
            }
            environments.extend(task.environment.clone());
            if let Some(checkpoint) = self.load(read, layout::checkpoint(id))? {
                read.view.checkpoints.insert(id.clone(), checkpoint);
            }
            read.view.tasks.insert(id.clone(), task);
        }
        for id in &environments {
            if let Some(environment) = self.load(read, layout::environment(id))? {
                read.view.environments.insert(id.clone(), environment);
            }
        }
        Ok(())
    }

    fn load_gate(&self, read: &mut ReadRun, id: &GateId) -> Result<(), ReadError> {
        if !read.view.gates.contains_key(id)
            && let Some(gate) = self.load(read, layout::gate(id))?
        {
            read.view.gates.insert(id.clone(), gate);
        }
        Ok(())
    }
}
