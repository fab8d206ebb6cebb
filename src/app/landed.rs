//! Whether a branch may go: only when its commits are to be found elsewhere.
//!
//! Invariant: what cannot be told keeps the branch, and whatever goes is kept under `refs/tether-local/` first.

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::making::{full_name, short_name};
use crate::app::tether::Tether;
use crate::domain::environment::WorktreeSpec;
use crate::domain::ids::{EnvironmentId, RunId};
use crate::git::Hooks;
use crate::world::worktrees::{Head, WorktreeList};

impl Tether {
    /// Deletes the branch that tether made for an environment, if its commits are to be found elsewhere; answers in words what
    /// became of it.
    pub(super) fn let_branch_go(
        &self,
        run: &RunId,
        id: &EnvironmentId,
        spec: &WorktreeSpec,
    ) -> Result<Option<String>, Failure> {
        let Some(branch) = spec.branch.as_deref().map(full_name) else { return Ok(None) };
        let Some(tip) = self.branch_tip(&branch)? else { return Ok(None) };
        let short = short_name(&branch);
        if let Some(holder) = self.worktrees()?.find_holder_of(&branch) {
            let at = holder.path().map(|path| format!(" at {}", path.display())).unwrap_or_default();
            return Ok(Some(format!("the branch {short} stays: it is checked out{at}")));
        }
        let Some(why) = self.where_else(&branch, tip, spec.base.as_deref()) else {
            return Ok(Some(format!("the branch {short} stays: it has commits that are nowhere else")));
        };
        self.keep_branch_tip(run, Some(id), &branch, tip, "its branch was deleted")?;
        let git = self.repository().git().with_hooks(Hooks::AsConfigured);
        match git.run(["update-ref", "-d", "--", &branch, &tip.to_string()]) {
            Ok(_) => Ok(Some(format!("the branch {short} is deleted: {why}"))),
            Err(error) => Ok(Some(format!("the branch {short} stays: git did not delete it: {}", chain_of(&error)))),
        }
    }

    /// Where the changes of a branch are to be found beside it, in words.
    fn where_else(&self, branch: &str, tip: ObjectId, base: Option<&str>) -> Option<String> {
        if let Some(other) = self.find_containing(tip, branch) {
            return Some(format!("its commits are in {}", short_name(&other)));
        }
        let landed = |target: &String| {
            let onto = self.resolves(target).filter(|_| target != branch);
            onto.is_some_and(|onto| self.has_landed(&onto, &tip.to_string()))
        };
        let target = self.where_it_may_land(base?).into_iter().find(landed)?;
        Some(format!("its changes are in {}", short_name(&target)))
    }

    /// The branch that another one was made from, and what that is the local copy of: a server that merges does so there.
    fn where_it_may_land(&self, base: &str) -> Vec<String> {
        let local = format!("refs/heads/{base}");
        let upstream = self.ask_git(&["for-each-ref", "--format=%(upstream)", "--", &local]);
        let named = [local, format!("refs/remotes/{base}"), base.to_owned()].into_iter();
        named.chain(upstream).filter(|name| name.starts_with("refs/")).collect()
    }

    /// A branch, tag or remote-tracking ref that has a commit, `except` left out.
    pub(super) fn find_containing(&self, commit: ObjectId, except: &str) -> Option<String> {
        let contains = format!("--contains={commit}");
        let words =
            ["for-each-ref", "--format=%(refname)", contains.as_str(), "refs/heads", "refs/tags", "refs/remotes"];
        let found = self.repository().git().run(words).ok()?.text();
        found.lines().find(|name| *name != except).map(ToOwned::to_owned)
    }

    fn resolves(&self, revision: &str) -> Option<String> {
        let wanted = format!("{revision}^{{commit}}");
        let found = self.ask_git(&["rev-parse", "--verify", "-q", "--end-of-options", wanted.as_str()])?;
        Some(found).filter(|id| !id.is_empty())
    }

    fn ask_git(&self, words: &[&str]) -> Option<String> {
        self.repository().git().run(words).ok().map(|output| output.text())
    }

    /// Whether all that `tip` changed is in `onto`: the same tree, nothing left to merge, or the same patches (each by itself, or all
    /// of them as one).
    fn has_landed(&self, onto: &str, tip: &str) -> bool {
        let tree = |commit: &str| self.ask_git(&["rev-parse", "--verify", "-q", &format!("{commit}^{{tree}}")]);
        let (Some(tree_of_tip), Some(tree_of_onto)) = (tree(tip), tree(onto)) else { return false };
        if tree_of_tip == tree_of_onto {
            return true;
        }
        if self.ask_git(&["merge-tree", "--write-tree", onto, tip]).is_some_and(|merged| merged == tree_of_onto) {
            return true;
        }
        let all_there = |tip: &str| {
            let compared = self.ask_git(&["cherry", onto, tip]);
            compared.is_some_and(|lines| !lines.is_empty() && lines.lines().all(|line| line.starts_with('-')))
        };
        all_there(tip) || self.as_one_commit(onto, tip, &tree_of_tip).is_some_and(|squashed| all_there(&squashed))
    }

    /// All changes of a branch as one commit that no ref names, to compare with a squash merge.
    fn as_one_commit(&self, onto: &str, tip: &str, tree: &str) -> Option<String> {
        let fork = self.ask_git(&["merge-base", onto, tip])?;
        let git = self.repository().git();
        let identity = ["AUTHOR", "COMMITTER"].iter().fold(git, |git, role| {
            git.with_variable(format!("GIT_{role}_NAME"), "git-tether")
                .with_variable(format!("GIT_{role}_EMAIL"), "tether@localhost")
                .with_variable(format!("GIT_{role}_DATE"), "@0 +0000")
        });
        identity.run(["commit-tree", tree, "-p", &fork, "-m", "all at once"]).ok().map(|output| output.text())
    }

    /// Keeps the commit of a detached HEAD that no branch, tag or remote-tracking ref has, before its worktree goes.
    pub(super) fn keep_loose_head(
        &self,
        run: &RunId,
        id: &EnvironmentId,
        head: &Head,
        list: &WorktreeList,
    ) -> Result<(), Failure> {
        if !matches!(head, Head::Detached(_)) {
            return Ok(());
        }
        let found = list.find_head_id(self.repository(), head);
        let found = found.map_err(|error| Failure::fatal("head_unreadable", chain_of(&error)))?;
        match found {
            Some(commit) if self.find_containing(commit, "").is_none() => {
                self.keep_branch_tip(run, Some(id), "HEAD", commit, "its worktree had it detached").map(drop)
            }
            _ => Ok(()),
        }
    }
}
