//! Runs as a whole: start, finish, pause, cancel, activity, show.

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::document::Document;
use crate::domain::event::{ActivityReport, RunEvent};
use crate::domain::ids::{Oid, RunId, TaskId};
use crate::domain::run::{NewRun, Outcome, Parent, Policy};
use crate::domain::task::{Requirement, TaskState};
use crate::domain::view::RunView;
use crate::git::settings::MAX_DEPTH;
use crate::store::runs::{Need, Refusal};

/// What somebody asks for who starts a run.
#[derive(Debug, Clone, Default)]
pub struct StartRun {
    /// Its name for people.
    pub name: Option<String>,
    /// The task that it is for.
    pub parent: Option<(RunId, Option<TaskId>)>,
    /// The agent that leads it.
    pub agent: Option<String>,
    /// The caller's own data.
    pub metadata: Document,
    /// What each of its tasks needs.
    pub requirements: Vec<Requirement>,
}

impl Tether {
    /// Starts a run. A child's policy is its parent's with its own requirements added; its depth is limited by `tether.maxDepth`.
    pub fn start_run(&self, id: &RunId, asked: StartRun) -> Result<RunView, Failure> {
        let mut policy = Policy { requirements: asked.requirements, ..Policy::default() };
        let mut depth = 0;
        if let Some((parent, task)) = &asked.parent {
            let need = task.as_ref().map_or_else(Need::run, |task| Need::run().with_task(task));
            let read = self.read_run(parent, &need)?;
            if let Some(task) = task.as_ref().filter(|task| !read.view.tasks.contains_key(*task)) {
                let address = crate::domain::ids::TaskAddress { run: parent.clone(), task: task.clone() };
                return Err(self.unknown_task(&address));
            }
            depth = read.view.run.depth + 1;
            self.check_depth(depth, parent)?;
            let inherited = read.view.run.policy;
            policy.requirements.extend(inherited.requirements);
            policy.execution_mode = policy.execution_mode.or(inherited.execution_mode);
            policy.tags = inherited.tags;
        }
        policy.requirements.sort();
        policy.requirements.dedup();
        let new = NewRun {
            id: id.clone(),
            name: asked.name,
            parent: asked.parent.map(|(run, task)| Parent { run, task }),
            depth,
            lead_agent: asked.agent,
            policy,
            metadata: asked.metadata,
            host: self.host_id(),
        };
        let started = self.ledger().start_run::<std::convert::Infallible>(&new, self.now());
        Ok(started.map_err(as_failure)?.view)
    }

    fn check_depth(&self, depth: u32, parent: &RunId) -> Result<(), Failure> {
        let deepest = self.repository().settings().read(&MAX_DEPTH)?;
        if u64::from(depth) <= deepest {
            return Ok(());
        }
        Err(Failure::fatal(
            "too_deep",
            format!("a child of run {parent} would have depth {depth}; {deepest} is allowed"),
        )
        .hint("raise tether.maxDepth, or start it without --parent"))
    }

    /// Ends a run; one that has ended by itself gets its outcome fixed.
    pub fn finish_run(&self, id: &RunId, outcome: Option<Outcome>, note: Option<String>) -> Result<RunView, Failure> {
        self.change_whole_run(id, &RunEvent::RunFinished { outcome, note })
    }

    /// Stops a run for now.
    pub fn pause_run(&self, id: &RunId) -> Result<RunView, Failure> {
        self.change_whole_run(id, &RunEvent::RunPaused)
    }

    /// Lets a paused run go on.
    pub fn unpause_run(&self, id: &RunId) -> Result<RunView, Failure> {
        self.change_whole_run(id, &RunEvent::RunUnpaused)
    }

    /// Calls a run off: its open tasks are cancelled.
    pub fn cancel_run(&self, id: &RunId) -> Result<RunView, Failure> {
        self.change_whole_run(id, &RunEvent::RunCancelled)
    }

    fn change_whole_run(&self, id: &RunId, event: &RunEvent) -> Result<RunView, Failure> {
        let mut before = None;
        self.change_run(id, &Need::Everything, |view| {
            before = Some(view.clone());
            Ok(event.clone().into())
        })?;
        if let Some(before) = before {
            self.settle_after(id, &before)?;
        }
        Ok(self.read_run(id, &Need::Everything)?.view)
    }

    /// What the executor of a run says of itself.
    pub fn report_activity(&self, id: &RunId, report: &ActivityReport) -> Result<RunView, Failure> {
        self.change_run(id, &Need::run(), |_| Ok(RunEvent::ActivityReported(report.clone()).into()))?;
        Ok(self.read_run(id, &Need::Everything)?.view)
    }

    /// The commit that a revision names.
    pub fn resolve_commit(&self, revision: &str) -> Result<Oid, Failure> {
        let refused = || {
            Failure::fatal("unknown_revision", format!("`{revision}` names no commit here"))
                .hint("`git log` shows what there is")
        };
        if revision.starts_with('-') {
            return Err(refused());
        }
        let here =
            self.repository().workdir().map_or_else(|| self.repository().git(), |dir| self.repository().git_in(dir));
        let words = ["rev-parse", "--verify", "--quiet", "--end-of-options"];
        let found = here.run(words.into_iter().map(ToOwned::to_owned).chain([format!("{revision}^{{commit}}")]));
        Ok(Oid(found.map_err(|_| refused())?.text()))
    }

    /// Ends the commands of a run's running tasks that live on this machine; says what was done.
    pub fn end_commands(&self, view: &RunView) -> Result<Vec<String>, Failure> {
        let mut said = Vec::new();
        for task in view.tasks.values().filter(|task| matches!(task.state, TaskState::Running | TaskState::Cancelled)) {
            let Some(session) = &task.session else { continue };
            said.extend(self.end_command_of(session)?.map(|what| format!("task {}: {what}", task.address())));
        }
        Ok(said)
    }

    /// A run with all its records.
    pub fn show_run(&self, id: &RunId) -> Result<RunView, Failure> {
        Ok(self.read_run(id, &Need::Everything)?.view)
    }
}

pub(super) fn as_failure<E>(error: crate::store::ledger::WriteRecordError<Refusal<E>>) -> Failure
where
    E: std::error::Error + Into<Failure> + 'static,
{
    error.into()
}
