//! Takes checkpoints.
//!
//! Owns what a checkpoint is made of and the order in which it is written: saved work first, then the record that names it, together
//! with the executor's resume state. Invariants: what cannot be read or saved is found out before anything is written; the executor's resume state stays
//! until another one replaces it.

use std::collections::BTreeMap;
use std::io::Read;

use crate::app::failure::Failure;
use crate::app::saving::{About, Committed, Found, Prepared, Source, work_of};
use crate::app::tether::Tether;
use crate::domain::checkpoint::{
    Checkpoint, CompletedStep, NewCheckpoint, ReplaySafety, ResumeDisposition, ResumeState, SavedWork, TakenBy,
};
use crate::domain::environment::Environment;
use crate::domain::event::RunEvent;
use crate::domain::ids::{Oid, TaskAddress};
use crate::domain::view::RunView;
use crate::git::settings::REPLAY_SAFETY;
use crate::record::layout;
use crate::store::chain::Content;
use crate::store::objects::{Batch, StreamLength};
use crate::store::runs::{Need, Proposal};

/// The name of the executor's own state in the tree of its run.
const STATE: &str = "state";
/// So much of a resume state is read before its length is found out the hard way.
const READ_AT_ONCE: u64 = 1 << 18;

/// What somebody hands in who takes a checkpoint.
#[derive(Default)]
pub struct TakeCheckpoint {
    /// The boundary that was reached; that of the last checkpoint if it is left out.
    pub boundary: Option<String>,
    /// Whether it may be done again; `tether.replaySafety` if it is left out.
    pub replay_safety: Option<ReplaySafety>,
    /// How it goes on; what follows from the replay safety if it is left out.
    pub disposition: Option<ResumeDisposition>,
    /// The executor's own state, of any size; that of the last checkpoint if it is left out.
    pub resume_state: Option<Box<dyn Read>>,
    /// Steps that are done; joined with those of earlier checkpoints.
    pub steps: Vec<CompletedStep>,
    /// A word about it.
    pub note: Option<String>,
    /// Whether the result is out in the world.
    pub published: bool,
    /// Whether the work is saved too.
    pub saving: Saving,
    /// Who takes it.
    pub by: TakenBy,
}

/// Whether a checkpoint saves the worktree's content.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Saving {
    /// It does.
    #[default]
    Work,
    /// It does not.
    Nothing,
}

/// A place whose snapshot is made and not yet written.
struct PlaceToSave<'e> {
    source: Source,
    prepared: Prepared,
    environment: &'e Environment,
}

impl Tether {
    /// Takes a checkpoint of a task; answers with it and what a person should know.
    pub fn checkpoint(
        &self,
        task: &TaskAddress,
        mut asked: TakeCheckpoint,
    ) -> Result<(Checkpoint, Vec<String>), Failure> {
        let need = Need::run().with_task(&task.task);
        let view = self.read_run(&task.run, &need)?.view;
        let environment = self.environment_of(&view, task)?;
        let replay_safety = match asked.replay_safety {
            Some(given) => given,
            None => self.repository().settings().read(&REPLAY_SAFETY)?.parse()?,
        };
        let mut warnings = Vec::new();
        let mut objects = None;
        let place = match environment.filter(|_| asked.saving == Saving::Work) {
            Some(environment) => self.prepare_place(task, environment, &mut objects, &mut warnings)?,
            None => None,
        };
        // Read to its end before anything is written: what cannot be read leaves no trace.
        let batch = objects.get_or_insert_with(|| self.ledger().backend().batch());
        let resume_state = add_state(batch, task, asked.resume_state.take())?;
        let new = NewCheckpoint {
            task: task.task.clone(),
            boundary: asked.boundary,
            replay_safety,
            disposition: asked.disposition,
            steps: asked.steps,
            note: asked.note,
            result_published: asked.published,
            resume_state,
            work: None,
            by: asked.by,
            workspace_dir: environment.and_then(|environment| environment.spec.path.clone()),
        };
        let checkpoint = self.record_checkpoint(task, &need, place, &mut objects, &new)?;
        Ok((checkpoint, warnings))
    }

    fn environment_of<'v>(&self, view: &'v RunView, address: &TaskAddress) -> Result<Option<&'v Environment>, Failure> {
        let task = view.tasks.get(&address.task).ok_or_else(|| self.unknown_task(address))?;
        Ok(task.environment.as_ref().and_then(|id| view.environments.get(id)))
    }

    fn prepare_place<'e>(
        &self,
        task: &TaskAddress,
        environment: &'e Environment,
        objects: &mut Option<Batch>,
        warnings: &mut Vec<String>,
    ) -> Result<Option<PlaceToSave<'e>>, Failure> {
        let without = |failure: Failure| failure.hint("`--no-snapshot` takes the checkpoint without the work");
        let source = match self.find_place(environment) {
            Ok(Found::Place(source)) => source,
            Ok(Found::Nothing(why)) => {
                warnings.extend(why);
                return Ok(None);
            }
            // What the executor hands in is worth keeping even where its place is gone.
            Err(failure) if failure.code == "environment_missing" => {
                warnings.push(format!("{}: the checkpoint is without saved work", failure.message));
                return Ok(None);
            }
            Err(failure) => return Err(without(failure)),
        };
        let prepared = self.prepare_saving(&source, about(task, environment), objects).map_err(without)?;
        let said = prepared.said();
        warnings.extend(said.warnings);
        warnings.extend(said.not_saved.iter().map(|(path, reason)| format!("{path} was not saved: {reason}")));
        let began = environment.spec.git_worktree.as_ref().and_then(|spec| spec.base_commit.clone());
        let committed = match environment.spec.git_worktree {
            Some(_) => Committed::IsKept { beyond: began },
            None => Committed::IsSafe,
        };
        if prepared.is_worth_keeping(&committed) {
            return Ok(Some(PlaceToSave { source, prepared, environment }));
        }
        *objects = None;
        Ok(None)
    }

    fn record_checkpoint(
        &self,
        task: &TaskAddress,
        need: &Need,
        place: Option<PlaceToSave<'_>>,
        objects: &mut Option<Batch>,
        new: &NewCheckpoint,
    ) -> Result<Checkpoint, Failure> {
        let mut files = BTreeMap::new();
        if let Some(state) = &new.resume_state {
            let blob = crate::app::saving::object_id(&state.oid)?;
            files.insert(state.path.clone(), Content::Blob(blob));
        }
        let propose = |work: Option<SavedWork>| {
            let new = NewCheckpoint { work, ..new.clone() };
            Ok(Proposal { events: vec![RunEvent::CheckpointTaken(Box::new(new))], files: files.clone() })
        };
        let run = &task.run;
        let mut done = match place {
            None => self.change_run_with(objects, run, need, |_| propose(None))?,
            Some(PlaceToSave { source, prepared, environment }) => {
                self.keep_prepared(prepared, &source, about(task, environment), objects, |objects, work, entry| {
                    let decide = |_: &RunView| propose(Some(work_of(entry)));
                    match work {
                        Some(work) => self.change_run_keeping(objects, work, run, need, decide),
                        None => self.change_run_with(objects, run, need, decide).map(Some),
                    }
                })?
            }
        };
        done.view.checkpoints.remove(&task.task).ok_or_else(|| self.unknown_task(task))
    }
}

fn about<'a>(task: &'a TaskAddress, environment: &'a Environment) -> About<'a> {
    About { run: &task.run, environment: Some(&environment.id), task: Some(&task.task), reason: "checkpoint" }
}

fn add_state(
    batch: &mut Batch,
    task: &TaskAddress,
    state: Option<Box<dyn Read>>,
) -> Result<Option<ResumeState>, Failure> {
    let Some(mut state) = state else { return Ok(None) };
    let unreadable = |error: std::io::Error| {
        Failure::fatal("unreadable_input", format!("could not read the resume state: {error}"))
            .hint("nothing was changed")
    };
    let mut head = Vec::new();
    state.by_ref().take(READ_AT_ONCE).read_to_end(&mut head).map_err(unreadable)?;
    let read = head.len() as u64;
    let length = if read < READ_AT_ONCE { StreamLength::Known(read) } else { StreamLength::Unknown };
    let mut counted = Counted { inner: head.as_slice().chain(state), bytes: 0 };
    let blob = batch.add_blob_from(&mut counted, length)?;
    let path = layout::payload(&task.task, STATE);
    Ok(Some(ResumeState { path, bytes: counted.bytes, oid: Oid(blob.to_string()) }))
}

/// Counts what is read.
struct Counted<R> {
    inner: R,
    bytes: u64,
}

impl<R: Read> Read for Counted<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.bytes += count as u64;
        Ok(count)
    }
}
