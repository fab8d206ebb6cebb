//! The way back of a worktree: onto its branch, or, where that is not to be had, onto a rescue branch.
//!
//! Invariants: a worktree returns to its branch's tip, and saved work is put on top only where it was saved from there; in every other case
//! the work becomes a commit on a `tether/rescue/...` branch, and that is said. No branch is ever moved.

use std::path::Path;

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::making::{full_name, make_failure, object_id, oid, short_name};
use crate::app::tether::Tether;
use crate::domain::environment::{Environment, EnvironmentSpec, WorktreeSpec};
use crate::domain::ids::RunId;
use crate::domain::saved::{SavedEntry, SavedKind};
use crate::git::Hooks;
use crate::world::snapshot::find_interrupted;
use crate::world::worktree_make::{MakeError, OrderedHead};
use crate::world::worktrees::{BranchHolder, Head, Registration, WorktreeList};

/// Where saved work goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Return {
    /// Into the worktree, as it was.
    InPlace,
    /// It is on a rescue branch already.
    OnRescueBranch,
}

/// How a worktree comes back.
#[derive(Debug)]
pub(super) struct WayBack {
    /// What its HEAD is to be.
    pub(super) head: OrderedHead,
    /// What its record says then.
    pub(super) spec: EnvironmentSpec,
    /// Where its saved work goes.
    pub(super) work: Return,
    /// What is not as it was, in words that go on from "it is made anew".
    pub(super) words: String,
}

impl Tether {
    /// How a worktree comes back; makes the rescue branch if there is need for one.
    pub(super) fn way_back(
        &self,
        run: &RunId,
        environment: &Environment,
        entry: Option<&SavedEntry>,
        found: Option<&Registration>,
        list: &WorktreeList,
    ) -> Result<WayBack, Failure> {
        let worktree = environment.spec.git_worktree.clone().unwrap_or_default();
        let base = entry.and_then(|entry| entry.base.as_ref()).map(object_id).transpose()?;
        let same = |head, work, words| WayBack { head, spec: environment.spec.clone(), work, words };
        let Some(branch) = worktree.branch.as_deref().map(full_name) else {
            let commit = base.or_else(|| last_head(found)).or(known_base(&worktree)?);
            let commit = commit.ok_or_else(|| no_commit(run, environment))?;
            let words = format!(", detached at {}", commit.to_hex_with_len(10));
            if entry.is_none() || base.is_some() {
                return Ok(same(OrderedHead::Detached(commit), Return::InPlace, words));
            }
            let (rescue, _) = self.rescue(run, environment, entry, commit)?;
            let words = format!("{words}, but its work was saved before a first commit; that is in branch {rescue}");
            return Ok(same(OrderedHead::Detached(commit), Return::OnRescueBranch, words));
        };
        let short = short_name(&branch).to_owned();
        let held = held_by_others(list, &branch, found);
        let tip = self.branch_tip(&branch)?;
        match (tip, held, base) {
            (Some(tip), None, Some(base)) if self.goes_on(entry, &branch, tip)? => {
                let words = format!(", in the middle of what was going on with branch {short}");
                Ok(same(OrderedHead::Detached(base), Return::InPlace, words))
            }
            (Some(tip), None, base) if entry.is_some() && base != Some(tip) => {
                let (rescue, commit) = self.rescue(run, environment, entry, tip)?;
                if commit == tip {
                    let words = format!(" on branch {short}, which holds its saved work");
                    return Ok(same(OrderedHead::ExistingBranch(branch), Return::OnRescueBranch, words));
                }
                let was_on = entry.and_then(|entry| entry.branch.as_deref());
                let why = match (was_on, base) {
                    (Some(on), _) if on == short => "which has moved on since its work was saved".to_owned(),
                    (Some(on), _) => format!("but its work was saved on {on}"),
                    (None, Some(base)) => format!("but its work was saved on {}, detached", base.to_hex_with_len(10)),
                    (None, None) => "but its work was saved elsewhere".to_owned(),
                };
                let words = format!(" on branch {short}, {why}; that is in branch {rescue}");
                Ok(same(OrderedHead::ExistingBranch(branch), Return::OnRescueBranch, words))
            }
            (Some(_), None, _) => {
                let words = format!(" on branch {short}");
                Ok(same(OrderedHead::ExistingBranch(branch), Return::InPlace, words))
            }
            (tip, held, base) => {
                let why = match held {
                    Some(at) => format!("{short} is checked out at {at}"),
                    None => format!("{short} is gone"),
                };
                let start = tip.filter(|_| base.is_none()).or(base).or_else(|| last_head(found));
                let start = start.filter(|commit| self.has_commit(*commit)).or(known_base(&worktree)?);
                let start = start.ok_or_else(|| no_commit(run, environment))?;
                let (rescue, commit) = self.rescue(run, environment, entry, start)?;
                let git_worktree = Some(WorktreeSpec {
                    branch: Some(rescue.clone()),
                    base_commit: Some(oid(commit)),
                    branch_created: true,
                    ..worktree
                });
                Ok(WayBack {
                    head: OrderedHead::ExistingBranch(full_name(&rescue)),
                    spec: EnvironmentSpec { git_worktree, ..environment.spec.clone() },
                    work: Return::OnRescueBranch,
                    words: format!(" on branch {rescue}{}: {why}", entry.map_or("", |_| " with all that was saved")),
                })
            }
        }
    }

    /// Whether saved work was in the middle of a rebase or bisection of `branch` that can go on while that stands at `tip`. What another
    /// machine saved cannot: its operation is not put back.
    fn goes_on(&self, entry: Option<&SavedEntry>, branch: &str, tip: ObjectId) -> Result<bool, Failure> {
        let Some(entry) = entry.filter(|entry| entry.branch.is_none() && entry.kind != SavedKind::BranchTip) else {
            return Ok(false);
        };
        let found = find_interrupted(self.repository().common_dir(), object_id(&entry.commit)?);
        let found = found.map_err(|error| {
            Failure::fatal("unreadable_work", format!("could not read saved work {}: {}", entry.id, chain_of(&error)))
        })?;
        let fits =
            found.is_some_and(|found| found.branch == branch && found.began_at.is_none_or(|began_at| began_at == tip));
        Ok(fits && self.saved_here(&entry.run, &entry.commit))
    }

    /// A rescue branch with the saved work as one commit on its base, or at `start` if nothing was saved.
    fn rescue(
        &self,
        run: &RunId,
        environment: &Environment,
        entry: Option<&SavedEntry>,
        start: ObjectId,
    ) -> Result<(String, ObjectId), Failure> {
        let commit = match entry {
            Some(entry) => self.work_as_commit(run, environment, entry)?,
            None => start,
        };
        for branch in self.rescue_names(run, &environment.id)? {
            match self.branch_tip(&full_name(&branch))? {
                // A recovery that was killed has made it; a worktree that stands on it is our own then.
                Some(tip) if tip == commit => return Ok((branch, commit)),
                Some(_) => {}
                None if self.find_branch_in_the_way(&full_name(&branch))?.is_some() => {}
                None => {
                    let null = ObjectId::null(self.repository().object_hash()).to_string();
                    let git = self.repository().git().with_hooks(Hooks::AsConfigured);
                    let (name, commit_text) = (full_name(&branch), commit.to_string());
                    git.run(["update-ref", "-m", "tether: rescued", "--", &name, &commit_text, &null])?;
                    return Ok((branch, commit));
                }
            }
        }
        let id = &environment.id;
        Err(Failure::fatal("branch_exists", format!("every name for a rescue branch of {run}/{id} is taken")))
    }

    /// Saved work as an ordinary commit on the commit that it was saved on; the same each time.
    fn work_as_commit(&self, run: &RunId, environment: &Environment, entry: &SavedEntry) -> Result<ObjectId, Failure> {
        let tree = format!("{}^{{tree}}", entry.commit);
        let subject = format!("Work of {run}/{} as it was saved ({})", environment.id, entry.id);
        let body = format!("git tether salvage show {} tells what was staged and what was not.", entry.id);
        let mut words = vec!["commit-tree", tree.as_str(), "-m", subject.as_str(), "-m", body.as_str()];
        if let Some(base) = &entry.base {
            words.extend(["-p", base.0.as_str()]);
        }
        let identity = self.repository().identity(crate::git::Role::Committer);
        let date = format!("@{} +0000", entry.at.seconds());
        let git = ["AUTHOR", "COMMITTER"].iter().fold(self.repository().git(), |git, role| {
            git.with_variable(format!("GIT_{role}_NAME"), identity.name.as_str())
                .with_variable(format!("GIT_{role}_EMAIL"), identity.email.as_str())
                .with_variable(format!("GIT_{role}_DATE"), date.as_str())
        });
        let made = git.run(words)?.text();
        object_id(&crate::domain::ids::Oid(made))
    }

    fn has_commit(&self, commit: ObjectId) -> bool {
        self.repository().git().run(["cat-file", "-e", &format!("{commit}^{{commit}}")]).is_ok()
    }
}

/// Where a branch is checked out, unless it is by the very worktree that comes back.
fn held_by_others(list: &WorktreeList, branch: &str, found: Option<&Registration>) -> Option<String> {
    let holder = list.find_holder_of(branch)?;
    let own = matches!((holder, found), (BranchHolder::Linked(holding), Some(found)) if holding.name == found.name);
    let path = holder.path().unwrap_or(Path::new("another worktree"));
    (!own).then(|| path.display().to_string())
}

/// The last commit that a worktree's HEAD stood on, as its own log tells.
fn last_head(found: Option<&Registration>) -> Option<ObjectId> {
    let found = found?;
    if let Head::Detached(id) = &found.head {
        return Some(*id);
    }
    let log = std::fs::read_to_string(found.admin_dir.join("logs/HEAD")).ok()?;
    let last = log.lines().next_back()?;
    let id = ObjectId::from_hex(last.split(' ').nth(1)?.as_bytes()).ok()?;
    Some(id).filter(|id| !id.is_null())
}

fn known_base(worktree: &WorktreeSpec) -> Result<Option<ObjectId>, Failure> {
    worktree.base_commit.as_ref().map(object_id).transpose()
}

fn no_commit(run: &RunId, environment: &Environment) -> Failure {
    let id = &environment.id;
    make_failure(&MakeError::NoSuchBranch { name: format!("of environment {run}/{id}, and no commit of it is known") })
}
