//! One step of a recovery: an effect with its precondition.
//!
//! A step that only writes records says which events it stands for, given the run as it is at that moment; nothing if the world
//! has moved on. The planner simulates with the same function that the executor applies, so that they cannot disagree.

use std::path::PathBuf;

use super::observation::Leftover;
use crate::domain::claim::ClaimKind;
use crate::domain::environment::NewEnvironment;
use crate::domain::event::{EnvironmentFinding, RunEvent};
use crate::domain::ids::{EnvironmentId, PoolName, RunId, SessionId, TaskAddress, TaskId};
use crate::domain::task::TaskState;
use crate::domain::view::RunView;

/// An effect of a recovery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// A running task whose session is dead becomes blocked.
    InterruptTask {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
        /// Whose death it was; the step is void if another one works on it.
        session: Option<SessionId>,
    },
    /// The lease of a dead session is taken back.
    ReleaseLease {
        /// The run.
        run: RunId,
        /// The environment.
        environment: EnvironmentId,
        /// Whose lease.
        session: SessionId,
        /// Why.
        reason: String,
    },
    /// What was seen of an environment is written down.
    NoteEnvironment {
        /// The run.
        run: RunId,
        /// The environment.
        environment: EnvironmentId,
        /// What was seen.
        finding: EnvironmentFinding,
    },
    /// A started task without environment gets one derived from it.
    DeriveEnvironment {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
        /// The environment.
        environment: Box<NewEnvironment>,
    },
    /// A dead session is marked as abandoned.
    AbandonSession {
        /// The session.
        session: SessionId,
        /// How we know.
        reason: String,
    },
    /// A claim whose holder has ended is given back.
    ReleaseClaim {
        /// What kind.
        kind: ClaimKind,
        /// Which.
        key: String,
        /// The generation that is stale.
        generation: u64,
    },
    /// A pool's place is given back by a task that does not run.
    FreeSlot {
        /// The pool.
        pool: PoolName,
        /// The task.
        task: TaskAddress,
        /// For whom the place is held.
        session: Option<SessionId>,
    },
    /// The report of an ended run is written.
    WriteReport {
        /// The run.
        run: RunId,
    },
    /// Something half made is removed.
    ClearLeftover(Leftover),
    /// A missing or half-made environment is made anew, with its saved work.
    RecreateEnvironment {
        /// The run.
        run: RunId,
        /// The environment.
        environment: EnvironmentId,
    },
    /// An environment that no open task needs is saved and removed by its policy.
    CleanEnvironment {
        /// The run.
        run: RunId,
        /// The environment.
        environment: EnvironmentId,
    },
    /// A worktree of ours that no record names is saved and removed.
    CleanUnnamed {
        /// Where it is.
        path: PathBuf,
        /// Its admin directory.
        admin_dir: PathBuf,
        /// The run that its mark names.
        run: Option<RunId>,
        /// The environment that its mark names.
        environment: Option<EnvironmentId>,
    },
    /// A task that was interrupted is queued again.
    ScheduleResume {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
    },
    /// A queued task is run from its checkpoint.
    RunTask {
        /// The run.
        run: RunId,
        /// The task.
        task: TaskId,
    },
}

impl Step {
    /// The name of the step; stable, for scripts.
    pub fn name(&self) -> &'static str {
        match self {
            Self::InterruptTask { .. } => "interrupt_task",
            Self::ReleaseLease { .. } => "release_lease",
            Self::NoteEnvironment { .. } => "note_environment",
            Self::DeriveEnvironment { .. } => "derive_environment",
            Self::AbandonSession { .. } => "abandon_session",
            Self::ReleaseClaim { .. } => "release_claim",
            Self::FreeSlot { .. } => "free_slot",
            Self::WriteReport { .. } => "write_report",
            Self::ClearLeftover(_) => "clear_leftover",
            Self::RecreateEnvironment { .. } => "recreate_environment",
            Self::CleanEnvironment { .. } => "clean_environment",
            Self::CleanUnnamed { .. } => "clean_unnamed_worktree",
            Self::ScheduleResume { .. } => "schedule_resume",
            Self::RunTask { .. } => "run_task",
        }
    }

    /// The run that it concerns.
    pub fn run(&self) -> Option<&RunId> {
        match self {
            Self::InterruptTask { run, .. }
            | Self::ReleaseLease { run, .. }
            | Self::NoteEnvironment { run, .. }
            | Self::DeriveEnvironment { run, .. }
            | Self::WriteReport { run }
            | Self::RecreateEnvironment { run, .. }
            | Self::CleanEnvironment { run, .. }
            | Self::ScheduleResume { run, .. }
            | Self::RunTask { run, .. } => Some(run),
            Self::FreeSlot { task, .. } => Some(&task.run),
            Self::CleanUnnamed { run, .. } => run.as_ref(),
            Self::AbandonSession { .. } | Self::ReleaseClaim { .. } | Self::ClearLeftover(_) => None,
        }
    }

    /// The task that it concerns.
    pub fn task(&self) -> Option<&TaskId> {
        match self {
            Self::InterruptTask { task, .. }
            | Self::DeriveEnvironment { task, .. }
            | Self::ScheduleResume { task, .. }
            | Self::RunTask { task, .. } => Some(task),
            Self::FreeSlot { task, .. } => Some(&task.task),
            _ => None,
        }
    }

    /// The environment that it concerns.
    pub fn environment(&self) -> Option<&EnvironmentId> {
        match self {
            Self::ReleaseLease { environment, .. }
            | Self::NoteEnvironment { environment, .. }
            | Self::RecreateEnvironment { environment, .. }
            | Self::CleanEnvironment { environment, .. } => Some(environment),
            Self::DeriveEnvironment { environment, .. } => Some(&environment.id),
            Self::CleanUnnamed { environment, .. } => environment.as_ref(),
            _ => None,
        }
    }

    /// The session that it concerns.
    pub fn session(&self) -> Option<&SessionId> {
        match self {
            Self::InterruptTask { session, .. } => session.as_ref(),
            Self::ReleaseLease { session, .. } | Self::AbandonSession { session, .. } => Some(session),
            _ => None,
        }
    }

    /// Whether it writes records of one run and nothing else.
    pub fn is_record_step(&self) -> bool {
        matches!(
            self,
            Self::InterruptTask { .. }
                | Self::ReleaseLease { .. }
                | Self::NoteEnvironment { .. }
                | Self::DeriveEnvironment { .. }
                | Self::ScheduleResume { .. }
        )
    }

    /// The events that it stands for in its run as that is now; none if its precondition does not hold any more.
    pub fn events(&self, view: &RunView) -> Vec<RunEvent> {
        match self {
            Self::InterruptTask { task, session, .. } => {
                let holds = view
                    .tasks
                    .get(task)
                    .is_some_and(|known| known.state == TaskState::Running && known.session == *session);
                if holds { vec![RunEvent::ExecutionInterrupted { task: task.clone() }] } else { Vec::new() }
            }
            Self::ReleaseLease { environment, session, reason, .. } => {
                let lease = view.environments.get(environment).and_then(|known| known.held_lease());
                if lease.is_some_and(|lease| lease.session == *session) {
                    vec![RunEvent::LeaseReleased { environment: environment.clone(), reason: reason.clone() }]
                } else {
                    Vec::new()
                }
            }
            Self::NoteEnvironment { environment, finding, .. } => {
                let event =
                    RunEvent::EnvironmentVerified { environment: environment.clone(), finding: finding.clone() };
                if changes_something(view, &event) { vec![event] } else { Vec::new() }
            }
            Self::DeriveEnvironment { task, environment, .. } => {
                if view.tasks.get(task).is_some_and(|known| known.environment.is_none()) {
                    vec![RunEvent::EnvironmentRequested { task: Some(task.clone()), environment: environment.clone() }]
                } else {
                    Vec::new()
                }
            }
            Self::ScheduleResume { task, .. } => {
                if view.tasks.get(task).is_some_and(crate::domain::task::Task::is_interrupted) {
                    vec![RunEvent::ResumeScheduled { task: task.clone() }]
                } else {
                    Vec::new()
                }
            }
            _ => Vec::new(),
        }
    }
}

/// Whether an event would change a record beside the run's own time of change.
fn changes_something(view: &RunView, event: &RunEvent) -> bool {
    crate::domain::transition::apply(view, event, view.run.updated_at)
        .is_ok_and(|changes| !changes.tasks.is_empty() || !changes.environments.is_empty())
}
