//! Follows what happens to runs, by looking at their refs again and again.
//!
//! Must not know how often it is asked, nor who reads. Invariant: every transition that is still in a run's history is told once, in
//! its order; a run that cannot be read is told of too, and hides no other.

use std::collections::BTreeMap;

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::ids::RunId;
use crate::domain::run::Run;
use crate::domain::time::Timestamp;
use crate::store::RefName;
use crate::store::chain::{ChainCommit, Follow, history};
use crate::store::runs::Need;

/// So many transitions of one run are told at most after one look; the newest ones.
const MOST_AT_ONCE: usize = 1_000;

/// What a look found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunNews {
    /// The run.
    pub run: String,
    /// What happened.
    pub what: News,
}

/// What happened to a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// It stands like this, when the look began or after a transition.
    State {
        /// The commit of the transition.
        commit: String,
        /// When.
        at: Option<Timestamp>,
        /// What the transition says of itself.
        subject: String,
        /// The run after it.
        run: Box<Run>,
    },
    /// It cannot be read; why.
    Unreadable(String),
    /// It is gone: archived, or its ref was deleted.
    Gone,
}

/// Somebody who follows runs.
pub struct Watch<'t> {
    tether: &'t Tether,
    only: Option<RunId>,
    seen: BTreeMap<String, Result<ObjectId, String>>,
    is_first: bool,
}

impl Tether {
    /// Follows one run, which has to exist, or all.
    pub fn watch(&self, only: Option<RunId>) -> Result<Watch<'_>, Failure> {
        if let Some(run) = &only {
            self.read_run(run, &Need::run())?;
        }
        Ok(Watch { tether: self, only, seen: BTreeMap::new(), is_first: true })
    }
}

impl Watch<'_> {
    /// What has happened since the last look; at the first one, how each run stands that has not ended.
    pub fn look(&mut self) -> Result<Vec<RunNews>, Failure> {
        let mut now = self.tether.ledger().list_runs()?;
        now.retain(|(run, _)| self.only.as_ref().is_none_or(|only| only.as_str() == run));
        let now: BTreeMap<String, Result<ObjectId, String>> = now.into_iter().collect();
        let mut news = Vec::new();
        for (run, tip) in &now {
            let before = self.seen.get(run);
            if before == Some(tip) {
                continue;
            }
            let told = match tip {
                Ok(tip) => self.transitions(run, before.and_then(|before| before.as_ref().ok()).copied(), *tip),
                Err(found) => vec![News::Unreadable(format!("its ref holds {found}"))],
            };
            news.extend(told.into_iter().map(|what| RunNews { run: run.clone(), what }));
        }
        let gone = self.seen.keys().filter(|run| !now.contains_key(*run));
        news.extend(gone.map(|run| RunNews { run: run.clone(), what: News::Gone }));
        if std::mem::replace(&mut self.is_first, false) && self.only.is_none() {
            news.retain(|one| !matches!(&one.what, News::State { run, .. } if run.status.is_terminal()));
        }
        self.seen = now;
        Ok(news)
    }

    /// The transitions from `before` to `tip`, oldest first; only the last one of a run that is seen for the first time at the first look.
    fn transitions(&self, run: &str, before: Option<ObjectId>, tip: ObjectId) -> Vec<News> {
        let most = if self.is_first { 1 } else { MOST_AT_ONCE };
        let backend = self.tether.ledger().backend();
        let mut commits = Vec::new();
        for commit in history(backend, tip, Follow::First).take(most) {
            match commit {
                Ok(commit) if Some(commit.id) == before => break,
                Ok(commit) => commits.push(commit),
                Err(error) => return vec![News::Unreadable(chain_of(&error))],
            }
        }
        commits.iter().rev().map(|commit| self.state_at(run, commit)).collect()
    }

    fn state_at(&self, run: &str, commit: &ChainCommit) -> News {
        let read = RefName::run(run)
            .map_err(Into::into)
            .and_then(|name| self.tether.ledger().read_run_at(&name, commit.id, &Need::run()));
        match read {
            Ok(read) => News::State {
                commit: commit.id.to_string(),
                at: Timestamp::from_seconds(commit.time.seconds),
                subject: commit.message.lines().next().unwrap_or_default().to_owned(),
                run: Box::new(read.view.run),
            },
            Err(error) => News::Unreadable(chain_of(&error)),
        }
    }
}
