//! The save of an unchanged worktree as a process of its own, without the checkpoint that names it: it finds out that there is nothing to do.

use std::path::Path;

use git_tether::git::{Repository, Surroundings};
use git_tether::world::snapshot::{LooseSink, SaveOptions, WorktreePlace, save};

/// The argument that makes this program such a save; its worktree and the last snapshot follow.
pub(crate) const SAVE: &str = "--save-worktree";

/// Saves a worktree that is as its last snapshot says; answers how many objects were written, which is none.
pub(crate) fn save_again(worktree: &Path, last: &str) -> Result<usize, Box<dyn std::error::Error>> {
    let surroundings = Surroundings::of_this_process()?;
    let repository = Repository::open_from(surroundings)?.open_at(worktree)?;
    let place = WorktreePlace::of(&repository).ok_or("no worktree is there")?;
    let last = gix::ObjectId::from_hex(last.as_bytes())?;
    let exact_cache = Some(place.git_dir.join("tether-exact"));
    let options = SaveOptions { previous: Some(last), exact_cache, ..SaveOptions::default() };
    let mut sink = LooseSink::new(repository.gix().clone());
    let saved = save(&place, &options, &mut sink)?;
    if saved.unchanged { Ok(sink.written) } else { Err("it is not as its last snapshot says".into()) }
}
