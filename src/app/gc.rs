//! Housekeeping: drops what nobody asks for any more, and moves old runs into the archive.
//!
//! Invariants: work that a record names, or that is the newest of its place, stays; a claim's generation is never forgotten; a run
//! leaves only when nothing on disk and no other run hangs on it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::ids::{Oid, RunId};
use crate::domain::saved::SavedKind;
use crate::domain::time::Timestamp;
use crate::domain::view::RunView;
use crate::git::settings::{RETENTION, SESSION_TTL};
use crate::store::fold::Folded;
use crate::store::journal::JournalLine;
use crate::store::release::Released;
use crate::store::runs::Need;
use crate::store::work::SavedEntry;

/// What housekeeping did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Housekeeping {
    /// How many ended sessions were dropped.
    pub sessions_dropped: usize,
    /// Saved work that was dropped because newer work of the same place is kept.
    pub work_dropped: Vec<SavedEntry>,
    /// Runs that are in the archive now.
    pub runs_archived: Vec<RunId>,
    /// How many packs were folded into one.
    pub packs_folded: usize,
    /// What a person should know.
    pub warnings: Vec<String>,
}

impl Tether {
    /// Cleans up after runs and sessions that ended long ago.
    pub fn collect_garbage(&self) -> Result<Housekeeping, Failure> {
        let settings = self.repository().settings();
        let retention = settings.read(&RETENTION)?;
        let mut done = Housekeeping {
            sessions_dropped: self.drop_ended_sessions(settings.read(&SESSION_TTL)?)?,
            ..Housekeeping::default()
        };
        let (mut runs, mut unreadable) = (BTreeMap::new(), BTreeSet::new());
        for (name, _) in self.ledger().list_runs()? {
            let Ok(id) = RunId::new(name.as_str()) else { continue };
            match self.ledger().read_run(&id, &Need::Everything) {
                Ok(Some(read)) => drop(runs.insert(id, (read.tip, read.view))),
                Ok(None) => {}
                Err(error) => {
                    done.warnings.push(format!("run {id} was left as it is: {}", chain_of(&error)));
                    unreadable.insert(id);
                }
            }
        }
        for (_, view) in runs.values() {
            match self.thin_saved_work(view) {
                Ok(dropped) => done.work_dropped.extend(dropped),
                Err(failure) => done.warnings.push(format!("run {}: {}", view.run.id, failure.message)),
            }
        }
        done.runs_archived = self.archive_old_runs(&runs, &unreadable, retention)?;
        match self.ledger().backend().release(None) {
            Ok(Released::Objects(_)) => {}
            Ok(Released::Busy) => done.warnings.push("dropped work stays for now: a `git gc` is at work".to_owned()),
            Err(error) => done.warnings.push(format!("dropped work stays for now: {}", chain_of(&error))),
        }
        match self.ledger().backend().fold() {
            Ok(Folded::Packs { packs, .. }) => done.packs_folded = packs,
            Ok(Folded::Nothing | Folded::Busy) => {}
            Err(error) => done.warnings.push(format!("packs were not folded: {}", chain_of(&error))),
        }
        self.journal_housekeeping(&done)?;
        Ok(done)
    }

    /// Drops saved work of an ended run that no record names and that newer work of the same place has replaced.
    fn thin_saved_work(&self, view: &RunView) -> Result<Vec<SavedEntry>, Failure> {
        if !view.run.status.is_terminal() {
            return Ok(Vec::new());
        }
        let saved = self.ledger().saved_work(view.run.id.as_str())?;
        let replaced = replaced_work(&saved, &work_named_by(view));
        if replaced.is_empty() {
            return Ok(Vec::new());
        }
        // What was saved since is not in the list, and stays.
        let dropped =
            self.ledger().drop_work(view.run.id.as_str(), self.now(), |entry| replaced.contains(&entry.commit))?;
        Ok(dropped.entries)
    }

    fn archive_old_runs(
        &self,
        runs: &BTreeMap<RunId, (ObjectId, RunView)>,
        unreadable: &BTreeSet<RunId>,
        retention: Duration,
    ) -> Result<Vec<RunId>, Failure> {
        let views = runs.values().map(|(_, view)| view);
        let old = runs_past_retention(views, unreadable, self.now(), retention);
        let batch: Vec<(RunId, ObjectId)> =
            old.into_iter().filter_map(|id| runs.get(&id).map(|(tip, _)| (id, *tip))).collect();
        if batch.is_empty() {
            return Ok(Vec::new());
        }
        let archived = self.ledger().archive_runs(&batch, self.now())?;
        for run in &archived {
            // Nothing can be run of it any more; what stays behind harms nobody.
            let _ = std::fs::remove_dir_all(self.repository().tether_dir().join("commands").join(run.as_str()));
        }
        Ok(archived)
    }

    fn journal_housekeeping(&self, done: &Housekeeping) -> Result<(), Failure> {
        let line = |step: &str, about: String, message: String| JournalLine {
            step: step.to_owned(),
            about,
            outcome: "done".to_owned(),
            message,
        };
        let mut lines = Vec::new();
        if done.sessions_dropped > 0 {
            lines.push(line("drop_sessions", String::new(), format!("{} ended sessions", done.sessions_dropped)));
        }
        lines.extend(done.work_dropped.iter().map(|entry| {
            let message = format!("saved {} ({}); newer work of its place is kept", entry.at, entry.commit);
            line("drop_work", format!("{}/{}", entry.run, entry.id), message)
        }));
        lines.extend(done.runs_archived.iter().map(|run| {
            line("archive_run", run.to_string(), format!("its records are at refs/tether/archive:runs/{run}"))
        }));
        if lines.is_empty() {
            return Ok(());
        }
        Ok(self.ledger().write_journal("gc", &lines, self.now())?)
    }
}

fn work_named_by(view: &RunView) -> BTreeSet<Oid> {
    let of_checkpoints = view.checkpoints.values().filter_map(|known| Some(known.work.as_ref()?.commit.clone()));
    let of_cleanups = view.environments.values().filter_map(|known| known.cleanup.as_ref()?.work.clone());
    of_checkpoints.chain(of_cleanups).collect()
}

/// Entries that nothing names and that a later one of the same place has replaced; `saved` is oldest first.
fn replaced_work(saved: &[SavedEntry], named: &BTreeSet<Oid>) -> BTreeSet<Oid> {
    // A vanished worktree's index, or a deleted branch's tip, is no newer form of a worktree's content.
    let place = |entry: &SavedEntry| {
        let is_content = matches!(entry.kind, SavedKind::Worktree | SavedKind::Directory);
        let task = entry.task.as_ref().filter(|_| entry.environment.is_none());
        let place = (entry.environment.clone(), task.cloned());
        Some(place).filter(|(environment, task)| is_content && (environment.is_some() || task.is_some()))
    };
    let is_replaced = |at: usize, entry: &SavedEntry| {
        place(entry).is_some_and(|found| saved[at + 1..].iter().any(|later| place(later).as_ref() == Some(&found)))
    };
    let replaced =
        saved.iter().enumerate().filter(|(at, entry)| !named.contains(&entry.commit) && is_replaced(*at, entry));
    replaced.map(|(_, entry)| entry.commit.clone()).collect()
}

/// Runs that ended long enough ago, have nothing left on disk, and are neither above nor below a run that stays.
fn runs_past_retention<'v>(
    views: impl Iterator<Item = &'v RunView>,
    unreadable: &BTreeSet<RunId>,
    now: Timestamp,
    retention: Duration,
) -> Vec<RunId> {
    let views: Vec<&RunView> = views.collect();
    let is_old = |view: &RunView| {
        let ended = view.run.completed_at.filter(|_| view.run.status.is_terminal());
        // A parent that cannot be read may go on.
        let parent_may_stay = view.run.parent.as_ref().is_some_and(|parent| unreadable.contains(&parent.run));
        ended.is_some_and(|ended| now.since(ended) > retention)
            && !parent_may_stay
            && view
                .environments
                .values()
                .all(|known| known.state.is_gone() || !known.execution_mode.is_ours_to_remove())
    };
    let mut old: BTreeSet<&RunId> = views.iter().filter(|view| is_old(view)).map(|view| &view.run.id).collect();
    let known: BTreeSet<&RunId> = views.iter().map(|view| &view.run.id).collect();
    loop {
        let before = old.len();
        for view in &views {
            let Some(parent) =
                view.run.parent.as_ref().map(|parent| &parent.run).filter(|parent| known.contains(parent))
            else {
                continue;
            };
            if !old.contains(parent) {
                old.remove(&view.run.id);
            }
            if !old.contains(&view.run.id) {
                old.remove(parent);
            }
        }
        if old.len() == before {
            return old.into_iter().cloned().collect();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it fails")]
mod tests {
    use super::*;
    use crate::domain::ids::{EnvironmentId, HostId};
    use crate::domain::run::{NewRun, Parent, Policy, Run, RunStatus};

    fn entry(commit: &str, environment: Option<&str>) -> SavedEntry {
        SavedEntry {
            id: commit.to_owned(),
            kind: SavedKind::Worktree,
            run: "r".to_owned(),
            task: None,
            environment: environment.map(|id| EnvironmentId::new(id).unwrap()),
            commit: Oid(commit.to_owned()),
            base: None,
            branch: None,
            files: 1,
            bytes: 1,
            reason: String::new(),
            at: "2026-01-01T00:00:00Z".parse().unwrap(),
        }
    }

    #[test]
    fn only_work_that_newer_work_has_replaced_goes() {
        let saved = [
            entry("a", Some("x")),
            entry("b", Some("x")),
            entry("c", Some("y")),
            entry("d", None),
            entry("e", None),
            entry("f", Some("x")),
        ];
        let named = [Oid("b".to_owned())].into();
        assert_eq!(replaced_work(&saved, &named), [Oid("a".to_owned())].into());
    }

    fn run(id: &str, parent: Option<&str>, ended: Option<&str>) -> RunView {
        let parent = parent.map(|run| Parent { run: RunId::new(run).unwrap(), task: None });
        let new = NewRun {
            id: RunId::new(id).unwrap(),
            name: None,
            parent,
            depth: 0,
            lead_agent: None,
            policy: Policy::default(),
            metadata: crate::domain::document::Document::default(),
            host: HostId("m".to_owned()),
        };
        let mut run = Run::start(new, "2025-01-01T00:00:00Z".parse().unwrap());
        if let Some(ended) = ended {
            run.status = RunStatus::Completed;
            run.completed_at = Some(ended.parse().unwrap());
        }
        RunView::of_run(run)
    }

    #[test]
    fn a_family_leaves_together() {
        let long_ago = Some("2025-01-02T00:00:00Z");
        let views = [
            run("old", None, long_ago),
            run("open", None, None),
            run("child-of-open", Some("open"), long_ago),
            run("parent", None, long_ago),
            run("young-child", Some("parent"), Some("2025-12-31T00:00:00Z")),
            run("old-parent", None, long_ago),
            run("old-child", Some("old-parent"), long_ago),
            run("orphan", Some("gone"), long_ago),
            run("child-of-torn", Some("torn"), long_ago),
            run("grandchild-of-torn", Some("child-of-torn"), long_ago),
        ];
        let now = "2026-01-01T00:00:00Z".parse().unwrap();
        let torn = [RunId::new("torn").unwrap()].into();
        let gone = runs_past_retention(views.iter(), &torn, now, crate::domain::time::parse_duration("90d").unwrap());
        let gone: Vec<_> = gone.iter().map(RunId::as_str).collect();
        assert_eq!(gone, ["old", "old-child", "old-parent", "orphan"]);
    }
}
