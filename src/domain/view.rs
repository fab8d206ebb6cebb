//! What a decision sees of a run, and what it changed.
//!
//! Owns the aggregate. Must not know how much of it was read: the store loads what was asked for.

use std::collections::BTreeMap;

use super::checkpoint::Checkpoint;
use super::environment::Environment;
use super::gate::Gate;
use super::ids::{EnvironmentId, GateId, TaskId};
use super::run::Run;
use super::task::Task;

/// A run, with as many of its records as were asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunView {
    /// The run itself.
    pub run: Run,
    /// Its tasks.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Its environments.
    pub environments: BTreeMap<EnvironmentId, Environment>,
    /// The newest checkpoint of each task.
    pub checkpoints: BTreeMap<TaskId, Checkpoint>,
    /// Its gates.
    pub gates: BTreeMap<GateId, Gate>,
}

impl RunView {
    /// A view of a run that has no other record.
    pub fn of_run(run: Run) -> Self {
        Self {
            run,
            tasks: BTreeMap::new(),
            environments: BTreeMap::new(),
            checkpoints: BTreeMap::new(),
            gates: BTreeMap::new(),
        }
    }

    /// The environment that a task names.
    pub fn environment_of(&self, task: &Task) -> Option<&Environment> {
        self.environments.get(task.environment.as_ref()?)
    }

    /// The gates of the run that nobody has decided, oldest first.
    pub fn pending_gates(&self) -> Vec<&Gate> {
        let mut pending: Vec<_> = self.gates.values().filter(|gate| gate.is_pending()).collect();
        pending.sort_by_key(|gate| (gate.asked_at, gate.id.clone()));
        pending
    }

    /// Takes the records that a transition changed.
    pub fn absorb(&mut self, changes: Changes) {
        self.run = changes.run;
        self.tasks.extend(changes.tasks);
        self.environments.extend(changes.environments);
        self.checkpoints.extend(changes.checkpoints);
        self.gates.extend(changes.gates);
    }
}

/// The records that a transition changed, in their new form; the run is always among them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Changes {
    /// The run.
    pub run: Run,
    /// Tasks that changed.
    pub tasks: BTreeMap<TaskId, Task>,
    /// Environments that changed.
    pub environments: BTreeMap<EnvironmentId, Environment>,
    /// Checkpoints that changed.
    pub checkpoints: BTreeMap<TaskId, Checkpoint>,
    /// Gates that changed.
    pub gates: BTreeMap<GateId, Gate>,
}

impl Changes {
    /// No change yet.
    pub fn none(run: Run) -> Self {
        let empty = RunView::of_run(run);
        Self {
            run: empty.run,
            tasks: empty.tasks,
            environments: empty.environments,
            checkpoints: empty.checkpoints,
            gates: empty.gates,
        }
    }

    /// Takes later changes over these.
    pub fn then(&mut self, later: Self) {
        self.run = later.run;
        self.tasks.extend(later.tasks);
        self.environments.extend(later.environments);
        self.checkpoints.extend(later.checkpoints);
        self.gates.extend(later.gates);
    }
}
