//! Why an event was refused: data with both states in it, for every rule.

use crate::domain::environment::EnvironmentState;
use crate::domain::gate::GateState;
use crate::domain::ids::{EnvironmentId, GateId, TaskId};
use crate::domain::run::RunStatus;
use crate::domain::task::TaskState;
use crate::domain::time::Timestamp;

/// Why an event was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RefusedTransition {
    /// The run has no such record, or it was not asked for.
    #[error("run {run} has no {what} {id}")]
    Unknown {
        /// The run.
        run: String,
        /// What kind of record.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// There is such a record already.
    #[error("run {run} has {what} {id} already")]
    Exists {
        /// The run.
        run: String,
        /// What kind of record.
        what: &'static str,
        /// Its id.
        id: String,
    },
    /// A task does not go from the one state to the other.
    #[error("task {task} cannot go from {from} to {to}")]
    IllegalTask {
        /// The task.
        task: TaskId,
        /// Where it is.
        from: TaskState,
        /// Where it was to go.
        to: TaskState,
    },
    /// A run does not go from the one status to the other.
    #[error("run {run} cannot go from {from} to {to}")]
    IllegalRun {
        /// The run.
        run: String,
        /// Where it is.
        from: RunStatus,
        /// Where it was to go.
        to: RunStatus,
    },
    /// An environment does not go from the one state to the other.
    #[error("environment {environment} cannot go from {from} to {to}")]
    IllegalEnvironment {
        /// The environment.
        environment: EnvironmentId,
        /// Where it is.
        from: EnvironmentState,
        /// Where it was to go.
        to: EnvironmentState,
    },
    /// The run has been ended by hand, or called off.
    #[error("run {run} has ended ({status}) and takes no more tasks")]
    RunEnded {
        /// The run.
        run: String,
        /// How.
        status: RunStatus,
    },
    /// Nothing starts in a paused run.
    #[error("run {run} is paused: nothing starts or resumes in it")]
    RunPaused {
        /// The run.
        run: String,
    },
    /// A task would wait for itself.
    #[error("task {task} would depend on itself: {path}")]
    Cycle {
        /// The task.
        task: TaskId,
        /// The way round.
        path: String,
    },
    /// What it depends on is not done.
    #[error("task {task} waits for {missing}, which is {state}")]
    DependencyOpen {
        /// The task.
        task: TaskId,
        /// What it waits for.
        missing: TaskId,
        /// Where that is.
        state: TaskState,
    },
    /// A gate holds it back.
    #[error("task {task} waits at gate {gate}, which is pending")]
    GatePending {
        /// The task.
        task: TaskId,
        /// The gate.
        gate: GateId,
    },
    /// It is to be tried again later.
    #[error("task {task} is not tried again before {until}")]
    BackingOff {
        /// The task.
        task: TaskId,
        /// When.
        until: Timestamp,
    },
    /// Its checkpoint does not allow it.
    #[error("task {task} cannot go on by itself: {why}")]
    NotResumable {
        /// The task.
        task: TaskId,
        /// Why not.
        why: String,
    },
    /// Somebody decided otherwise.
    #[error("gate {gate} has been decided: {state}")]
    AlreadyDecided {
        /// The gate.
        gate: GateId,
        /// How.
        state: GateState,
    },
    /// It is not that kind of gate.
    #[error("gate {gate} is {kind}")]
    WrongDecision {
        /// The gate.
        gate: GateId,
        /// What it is (`a question`).
        kind: &'static str,
        /// What fits it.
        hint: String,
    },
    /// The answer is none of those that were offered.
    #[error("`{answer}` is no answer to gate {gate}, which offers {offered}")]
    NotOffered {
        /// The gate.
        gate: GateId,
        /// What was answered.
        answer: String,
        /// The answers to choose from.
        offered: String,
    },
    /// A value is outside of what is allowed.
    #[error("{what} {value} is not within {allowed}")]
    OutOfRange {
        /// Which value.
        what: &'static str,
        /// What was given.
        value: String,
        /// What is allowed.
        allowed: &'static str,
    },
}
