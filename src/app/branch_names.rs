//! Names of branches that tether makes.
//!
//! Invariant: a name is given only if git can make the branch: git keeps no branch beside one whose name is a directory of its own.

use crate::app::failure::Failure;
use crate::app::making::{full_name, short_name};
use crate::app::tether::Tether;
use crate::domain::ids::{EnvironmentId, RunId, TaskAddress};
use crate::world::worktrees::WorktreeList;

/// How many names are tried before somebody has to give one.
const MOST_NAMES: usize = 1_000;

impl Tether {
    /// A branch that keeps `branch` (a full ref name) from being made: one of its parts in front, or one below it.
    pub(super) fn find_branch_in_the_way(&self, branch: &str) -> Result<Option<String>, Failure> {
        let slashes = branch.match_indices('/').map(|(at, _)| at).skip(2);
        for above in slashes.map(|at| &branch[..at]) {
            if self.branch_tip(above)?.is_some() {
                return Ok(Some(short_name(above).to_owned()));
            }
        }
        let below = format!("{branch}/");
        let found = self.repository().git().run(["for-each-ref", "--count=1", "--format=%(refname)", &below])?.text();
        Ok(Some(short_name(&found).to_owned()).filter(|name| !name.is_empty()))
    }

    /// Refuses a branch that git could not make.
    pub(super) fn require_makeable(&self, branch: &str) -> Result<(), Failure> {
        match self.find_branch_in_the_way(&full_name(branch))? {
            None => Ok(()),
            Some(other) => Err(Failure::fatal(
                "branch_exists",
                format!("git cannot make the branch {branch} beside the branch {other}"),
            )
            .hint("name another one with --branch")),
        }
    }

    /// `tether/<run>/<task>`, on which an earlier environment of the task may have left commits; `tether/<run>/<task>-<n>` if that is
    /// taken, or if another base is asked for.
    pub(super) fn default_branch(
        &self,
        task: &TaskAddress,
        id: &EnvironmentId,
        base: Option<&str>,
        list: &WorktreeList,
    ) -> Result<String, Failure> {
        let first = self.below_or_beside("tether", &task.run, task.task.as_str(), '/')?;
        for branch in numbered(first.clone()) {
            let name = full_name(&branch);
            let fits = if self.branch_tip(&name)?.is_some() {
                base.is_none() && list.find_holder_of(&name).is_none()
            } else {
                self.find_branch_in_the_way(&name)?.is_none()
            };
            if fits {
                return Ok(branch);
            }
        }
        Err(Failure::fatal("branch_exists", format!("{first} and its like exist already"))
            .hint(format!("name a branch for {id} with --branch")))
    }

    /// The names that a rescue branch of an environment may have, first choice first.
    pub(super) fn rescue_names(
        &self,
        run: &RunId,
        id: &EnvironmentId,
    ) -> Result<impl Iterator<Item = String>, Failure> {
        Ok(numbered(self.below_or_beside("tether/rescue", run, id.as_str(), '-')?))
    }

    /// `<top>/<run><part><name>`; where a branch bears the name of one of the directories in front, the same without any.
    fn below_or_beside(&self, top: &str, run: &RunId, name: &str, part: char) -> Result<String, Failure> {
        let below = format!("{top}/{run}{part}{name}");
        for (at, _) in below.match_indices('/') {
            if self.branch_tip(&full_name(&below[..at]))?.is_some() {
                return Ok(below.replace('/', "-"));
            }
        }
        Ok(below)
    }
}

fn numbered(first: String) -> impl Iterator<Item = String> {
    (1..MOST_NAMES).map(move |number| if number == 1 { first.clone() } else { format!("{first}-{number}") })
}
