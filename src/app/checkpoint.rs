//! Takes checkpoints. (stub: being built)

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::checkpoint::{Checkpoint, CompletedStep, ReplaySafety, ResumeDisposition};
use crate::domain::ids::TaskAddress;

/// What somebody hands in who takes a checkpoint.
#[derive(Default)]
pub struct TakeCheckpoint {
    /// The boundary that was reached.
    pub boundary: Option<String>,
    /// Whether it may be done again; `tether.replaySafety` if it is left out.
    pub replay_safety: Option<ReplaySafety>,
    /// How it goes on.
    pub disposition: Option<ResumeDisposition>,
    /// The executor's own state: its name in the tree and its bytes.
    pub resume_state: Option<Box<dyn std::io::Read>>,
    /// Steps that are done.
    pub steps: Vec<CompletedStep>,
    /// A word about it.
    pub note: Option<String>,
    /// Whether the result is out in the world.
    pub published: bool,
    /// Whether the work is saved too.
    pub saving: Saving,
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

impl Tether {
    /// Takes a checkpoint of a task; answers with it and what a person should know.
    pub fn checkpoint(
        &self,
        _task: &TaskAddress,
        _asked: TakeCheckpoint,
    ) -> Result<(Checkpoint, Vec<String>), Failure> {
        Err(Failure::fatal("not_there", "not built yet"))
    }
}
