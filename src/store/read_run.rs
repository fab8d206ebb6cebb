//! How much of a run is read, and what was.
//!
//! Must not know: how anything is read. Invariant: what was read of a commit once is what would be read of it again.

use std::collections::{BTreeMap, BTreeSet};

use gix::ObjectId;

use super::names::RefName;
use crate::domain::ids::{EnvironmentId, GateId, TaskId};
use crate::domain::view::RunView;
use crate::record::Written;

/// Which records of a run are read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Need {
    /// Every one.
    Everything,
    /// The run, the pending gates, and these with what hangs on them.
    Some(Picked),
}

/// Records that are asked for by name.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Picked {
    pub(super) tasks: BTreeSet<TaskId>,
    pub(super) environments: BTreeSet<EnvironmentId>,
    pub(super) gates: BTreeSet<GateId>,
}

impl Need {
    /// The run and its pending gates.
    pub fn run() -> Self {
        Self::Some(Picked::default())
    }

    /// The same and a task, with its dependencies, environment, checkpoint and gates.
    #[must_use]
    pub fn with_task(mut self, task: &TaskId) -> Self {
        if let Self::Some(picked) = &mut self {
            picked.tasks.insert(task.clone());
        }
        self
    }

    /// The same and an environment.
    #[must_use]
    pub fn with_environment(mut self, environment: &EnvironmentId) -> Self {
        if let Self::Some(picked) = &mut self {
            picked.environments.insert(environment.clone());
        }
        self
    }

    /// The same and a gate, with its task.
    #[must_use]
    pub fn with_gate(mut self, gate: &GateId) -> Self {
        if let Self::Some(picked) = &mut self {
            picked.gates.insert(gate.clone());
        }
        self
    }
}

/// A run as it was read.
#[derive(Debug, Clone)]
pub struct ReadRun {
    /// The commit that it was read from.
    pub tip: ObjectId,
    /// The run, with the records that were asked for.
    pub view: RunView,
    pub(super) written: BTreeMap<String, Written>,
}

impl ReadRun {
    /// A file of it as it was written, unknown fields included.
    pub(super) fn written(&self, path: &str) -> Option<&Written> {
        self.written.get(path)
    }
}

/// The last part of a run that was read: most changes are decided on what was just looked at.
pub(super) struct LastRead {
    name: RefName,
    need: Need,
    read: ReadRun,
}

impl LastRead {
    /// Whole runs may be large, and are not kept.
    pub(super) fn of(name: &RefName, need: &Need, read: &ReadRun) -> Option<Self> {
        let is_part = matches!(need, Need::Some(_));
        is_part.then(|| Self { name: name.clone(), need: need.clone(), read: read.clone() })
    }

    /// The same again, if this is what is asked for.
    pub(super) fn answer(&self, name: &RefName, tip: ObjectId, need: &Need) -> Option<&ReadRun> {
        Some(&self.read).filter(|read| read.tip == tip && self.need == *need && self.name == *name)
    }
}
