//! Sync: runs, sessions and claims with a remote lease go to a remote and come from it.
//!
//! Owns the order of it all: fetch aside, take or merge what passes, push what is ahead, write down what waits. Must not know the
//! rules of merging, nor how git is spoken to. Invariants: nothing that was fetched is believed before it was read in full; no ref
//! here or there is moved without its expected value; what could not be sent is in the outbox.

mod outbox;
mod runs;
mod singles;
mod work;

use std::collections::BTreeMap;

use gix::ObjectId;

pub use self::outbox::Waiting;
pub use self::work::SentWork;
use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::claim::Claim;
use crate::domain::session::Session;
use crate::git::settings::{REMOTE, REMOTE_PREFIX};
use crate::store::backend::RefValue;
use crate::store::names::{RefName, RefPrefix};
use crate::world::remote::{Pushed, Refusal, Remote, Update};

/// How often a push that met somebody faster is tried again, with what that somebody pushed.
const MOST_ROUNDS: u32 = 8;

/// Which way records go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the remote; nothing here changes.
    Push,
    /// From the remote; nothing there changes.
    Pull,
    /// Both.
    Both,
}

impl Direction {
    fn takes(self) -> bool {
        self != Self::Push
    }

    fn sends(self) -> bool {
        self != Self::Pull
    }
}

/// Whether a sync waits for the outbox's back-off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Urgency {
    /// Somebody asked for it: now.
    Now,
    /// Only if something waits whose time has come.
    WhenDue,
}

/// What a sync is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Scope {
    /// All that travels.
    Everything,
    /// These refs, sessions and claims, and nothing else: the outbox stays as it is.
    Only(Vec<String>),
}

impl Scope {
    fn covers(&self, key: &str) -> bool {
        match self {
            Self::Everything => true,
            Self::Only(names) => names.iter().any(|name| name.strip_prefix("refs/tether/") == Some(key)),
        }
    }
}

/// A ref, and why it was not taken or sent.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Refused {
    /// The ref.
    pub name: String,
    /// Why.
    pub reason: String,
}

/// How a sync went.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Synced {
    /// The remote.
    pub remote: String,
    /// Refs that the remote took, as they are called there.
    pub pushed: Vec<String>,
    /// Refs here that were taken or merged from it.
    pub pulled: Vec<String>,
    /// Those of them whose histories had parted.
    pub merged: Vec<String>,
    /// Refs that should have gone and did not.
    pub refused: Vec<Refused>,
    /// Fetched refs that were not believed.
    pub skipped: Vec<Refused>,
    /// What waits for the next sync.
    pub outbox: Vec<Waiting>,
    /// Why the remote was not reached.
    pub away: Option<String>,
    /// What the caller should know.
    pub notes: Vec<String>,
}

impl Synced {
    /// Whether all went that should have gone.
    pub fn is_done(&self) -> bool {
        self.away.is_none() && self.refused.is_empty()
    }

    fn note(&mut self, note: String) {
        if !self.notes.contains(&note) {
            self.notes.push(note);
        }
    }

    fn skip(&mut self, name: &str, reason: impl Into<String>) {
        let skipped = Refused { name: name.to_owned(), reason: reason.into() };
        if !self.skipped.contains(&skipped) {
            self.skipped.push(skipped);
        }
    }

    fn took(&mut self, name: &RefName) {
        add(&mut self.pulled, name.as_str());
    }

    fn joined(&mut self, name: &RefName) {
        self.took(name);
        add(&mut self.merged, name.as_str());
    }
}

fn add(names: &mut Vec<String>, name: &str) {
    if !names.iter().any(|known| known == name) {
        names.push(name.to_owned());
    }
}

impl Tether {
    /// Sends records to a remote, takes them from it, or both.
    pub fn sync(&self, remote: Option<&str>, direction: Direction, urgency: Urgency) -> Result<Synced, Failure> {
        let remote = self.find_remote(remote)?;
        let waiting = self.read_outbox(remote.name());
        let due = waiting.iter().any(|waiting| waiting.not_before <= self.now());
        if urgency == Urgency::WhenDue && !due {
            return Ok(Synced { remote: remote.name().to_owned(), outbox: waiting, ..Synced::default() });
        }
        self.sync_with(remote, direction, &Scope::Everything)
    }

    /// The same for a part of what travels.
    pub(super) fn sync_part(
        &self,
        remote: Option<&str>,
        direction: Direction,
        scope: &Scope,
    ) -> Result<Synced, Failure> {
        self.sync_with(self.find_remote(remote)?, direction, scope)
    }

    fn sync_with(&self, remote: Remote, direction: Direction, scope: &Scope) -> Result<Synced, Failure> {
        let _lock = self.lock_sync()?;
        let mut exchange = Exchange::new(self, remote, direction, scope)?;
        exchange.carry_out()?;
        exchange.write_down()
    }

    /// The remote that is named, else the one of `tether.remote`; it has to be one of the configuration.
    pub(super) fn find_remote(&self, named: Option<&str>) -> Result<Remote, Failure> {
        let configured = self.repository().settings().read(&REMOTE)?;
        let Some(name) = named.map(ToOwned::to_owned).or(configured) else {
            return Err(Failure::fatal("no_remote", "sync is off: no remote is named and tether.remote is not set")
                .hint("name one: `git tether sync origin`")
                .hint("or turn it on for good: `git config tether.remote origin`"));
        };
        let known = Remote::names(self.repository());
        if let Some(remote) = Remote::find(self.repository(), &name).filter(|_| !name.starts_with('-')) {
            return Ok(remote);
        }
        let mut failure = Failure::unknown("remote", &name, known.iter().map(String::as_str));
        failure.code = "unknown_remote";
        Err(failure.hint("only remotes of the configuration are talked to: add it with `git remote add NAME URL`"))
    }

    fn lock_sync(&self) -> Result<std::fs::File, Failure> {
        let path = self.repository().tether_dir().join("sync.lock");
        let failed = |error: &std::io::Error| {
            Failure::fatal("local_file", format!("could not open {}: {error}", path.display()))
        };
        let file = crate::git::shared_files::open_or_create(&path).map_err(|error| failed(&error))?;
        match rustix::fs::flock(&file, rustix::fs::FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(file),
            Err(rustix::io::Errno::WOULDBLOCK) => {
                Err(Failure::busy("sync_already_running", "another sync of this repository is at work")
                    .hint("try again when it is done"))
            }
            Err(error) => Err(failed(&error.into())),
        }
    }
}

/// One sync with one remote.
struct Exchange<'t> {
    tether: &'t Tether,
    remote: Remote,
    direction: Direction,
    scope: &'t Scope,
    /// What our refs begin with there, instead of `refs/tether/`.
    prefix: String,
    /// What both sides had after the last sync: `runs/R` and the like, and the tip there.
    settled: BTreeMap<String, ObjectId>,
    /// The same as it becomes.
    settling: BTreeMap<String, ObjectId>,
    fetched: BTreeMap<String, ObjectId>,
    local: BTreeMap<String, ObjectId>,
    updates: Vec<Update>,
    /// Whether a ref here moved while we wanted to move it.
    raced: Sent,
    report: Synced,
}

impl<'t> Exchange<'t> {
    fn new(tether: &'t Tether, remote: Remote, direction: Direction, scope: &'t Scope) -> Result<Self, Failure> {
        let prefix = tether.repository().settings().read(&REMOTE_PREFIX)?;
        if !prefix.starts_with("refs/")
            || !prefix.ends_with('/')
            || prefix.contains("..")
            || prefix.contains(['*', ':', ' '])
        {
            let message = format!("bad value '{prefix}' for tether.remotePrefix: it must be like refs/heads/tether/");
            return Err(Failure::usage("invalid_setting", message));
        }
        let settled = tether.read_settled(remote.name());
        let report = Synced { remote: remote.name().to_owned(), ..Synced::default() };
        Ok(Self {
            tether,
            remote,
            direction,
            scope,
            prefix,
            settled,
            settling: BTreeMap::new(),
            fetched: BTreeMap::new(),
            local: BTreeMap::new(),
            updates: Vec::new(),
            raced: Sent::AsFarAsPossible,
            report,
        })
    }

    fn carry_out(&mut self) -> Result<(), Failure> {
        for round in 1..=MOST_ROUNDS {
            self.updates.clear();
            self.raced = Sent::AsFarAsPossible;
            self.settling.clear();
            self.report.refused.clear();
            if let Err(error) = self.fetch() {
                self.report.away = Some(chain_of(&error));
                self.look_here()?;
                self.expect_nothing_new();
                return Ok(());
            }
            self.look_here()?;
            self.exchange_singles::<Session>()?;
            self.exchange_singles::<Claim>()?;
            if *self.scope == Scope::Everything {
                self.exchange_runs()?;
            }
            if self.send()? == Sent::AsFarAsPossible && self.raced == Sent::AsFarAsPossible {
                return Ok(());
            }
            if round < MOST_ROUNDS {
                std::thread::sleep(std::time::Duration::from_millis(u64::from(round) * (5 + fastrand::u64(..40))));
            }
        }
        Ok(())
    }

    fn tracking(&self) -> RefPrefix {
        RefPrefix::fetched_from(self.remote.name())
    }

    fn fetch(&self) -> Result<(), crate::git::GitError> {
        let here = self.tracking();
        let pattern = |what: &str| (format!("{}{what}/*", self.prefix), format!("{}{what}/*", here.as_str()));
        self.remote.fetch(&["runs", "sessions", "claims"].map(pattern))
    }

    /// Reads which refs are here, ours and fetched ones.
    fn look_here(&mut self) -> Result<(), Failure> {
        let tracking = self.tracking();
        self.fetched.clear();
        for (name, value) in self.tether.ledger().refs_below(&tracking)? {
            let Some(key) = name.as_str().strip_prefix(tracking.as_str()) else { continue };
            match value {
                RefValue::Id(id) => {
                    self.fetched.insert(key.to_owned(), id);
                }
                _ => self.report.skip(name.as_str(), "it names no commit"),
            }
        }
        self.local.clear();
        for prefix in [RefPrefix::runs(), RefPrefix::sessions(), RefPrefix::claims()] {
            for (name, value) in self.tether.ledger().refs_below(&prefix)? {
                let Some(key) = name.as_str().strip_prefix(RefPrefix::travelling().as_str()) else { continue };
                match value {
                    RefValue::Id(id) => {
                        self.local.insert(key.to_owned(), id);
                    }
                    RefValue::Absent => {}
                    _ => self.report.skip(name.as_str(), "it names no commit here; see `git tether doctor`"),
                }
            }
        }
        Ok(())
    }

    /// The remote is away: what would go, as far as we know, waits.
    fn expect_nothing_new(&mut self) {
        self.settling.clone_from(&self.settled);
        if !self.direction.sends() {
            return;
        }
        let unsent: Vec<_> = self.local.iter().filter(|(key, tip)| self.settled.get(*key) != Some(*tip)).collect();
        let unsent: Vec<_> = unsent.into_iter().filter(|(key, _)| self.travels(key)).collect();
        let reason = "the remote could not be reached".to_owned();
        self.report.refused = unsent
            .into_iter()
            .map(|(key, _)| Refused { name: format!("refs/tether/{key}"), reason: reason.clone() })
            .collect();
    }

    fn travels(&self, key: &str) -> bool {
        !key.starts_with("claims/") || self.is_remote_lease(key)
    }

    fn will_send(&mut self, key: &str, expected: Option<ObjectId>, new: ObjectId) {
        if self.direction.sends() && self.scope.covers(key) {
            self.updates.push(Update { name: format!("{}{key}", self.prefix), expected, new });
        }
    }

    /// A ref whose histories parted, while only sending was asked for.
    fn must_sync_first(&mut self, key: &str) {
        if !self.scope.covers(key) {
            return;
        }
        let reason = "it was changed there too: `git tether sync` merges both".to_owned();
        self.report.refused.push(Refused { name: format!("{}{key}", self.prefix), reason });
    }

    fn is_settled_at(&self, key: &str, tip: ObjectId) -> bool {
        self.settled.get(key) == Some(&tip)
    }

    fn settle(&mut self, key: &str, tip: ObjectId) {
        self.settling.insert(key.to_owned(), tip);
    }

    fn bases(&self, one: ObjectId, other: ObjectId) -> Result<Vec<ObjectId>, Failure> {
        Ok(Remote::merge_bases(self.tether.repository(), one, other)?)
    }

    /// Pushes what is ahead; leaves out what the remote refuses, so that it does not hold up the rest.
    fn send(&mut self) -> Result<Sent, Failure> {
        let mut updates = std::mem::take(&mut self.updates);
        while !updates.is_empty() {
            let answers = match self.remote.push(&updates)? {
                Pushed::Answered(answers) => answers,
                Pushed::Away(said) => {
                    self.note_refusals(&updates, &said);
                    self.report.away = Some(said);
                    return Ok(Sent::AsFarAsPossible);
                }
            };
            let (mut again, mut refused, mut stale) = (Vec::new(), 0, false);
            for update in updates {
                match answers.get(&update.name) {
                    Some(Ok(())) => {
                        add(&mut self.report.pushed, &update.name);
                        if let Some(key) = update.name.strip_prefix(&self.prefix) {
                            self.settling.insert(key.to_owned(), update.new);
                        }
                    }
                    Some(Err(Refusal::Stale)) => {
                        stale = true;
                        self.refuse(&update, "somebody else pushed at the same time");
                    }
                    Some(Err(Refusal::Said(reason))) => {
                        refused += 1;
                        self.refuse(&update, reason);
                        self.explain_refusal();
                    }
                    Some(Err(Refusal::WithOthers)) | None => again.push(update),
                }
            }
            if stale {
                return Ok(Sent::SomebodyWasFaster);
            }
            if refused == 0 {
                self.note_refusals(&again, "the remote refused the push as a whole");
                break;
            }
            updates = again;
        }
        Ok(Sent::AsFarAsPossible)
    }

    fn refuse(&mut self, update: &Update, reason: &str) {
        self.report.refused.push(Refused { name: update.name.clone(), reason: reason.to_owned() });
    }

    fn note_refusals(&mut self, updates: &[Update], reason: &str) {
        for update in updates {
            self.refuse(update, reason);
        }
    }

    fn explain_refusal(&mut self) {
        let remote = self.remote.name().to_owned();
        if self.prefix == RefPrefix::travelling().as_str() {
            self.report.note(format!(
                "hint: if {remote} takes no refs below refs/tether/, keep the same records in branches there: git config tether.remotePrefix refs/heads/tether/"
            ));
        }
    }

    /// Writes down what was settled and what waits.
    fn write_down(mut self) -> Result<Synced, Failure> {
        for (key, tip) in &self.settled {
            let still_there = self.local.contains_key(key) || self.fetched.contains_key(key);
            if still_there && !self.settling.contains_key(key) {
                self.settling.insert(key.clone(), *tip);
            }
        }
        self.tether.write_settled(self.remote.name(), &self.settling)?;
        let tip_of = |name: &str| {
            let key = name.strip_prefix(&self.prefix).or_else(|| name.strip_prefix(RefPrefix::travelling().as_str()));
            key.and_then(|key| self.local.get(key)).copied()
        };
        let refused: Vec<_> =
            self.report.refused.iter().map(|refused| (refused.clone(), tip_of(&refused.name))).collect();
        if self.direction.sends() && *self.scope == Scope::Everything {
            self.report.outbox = self.tether.rewrite_outbox(self.remote.name(), &refused)?;
        } else {
            self.report.outbox = self.tether.read_outbox(self.remote.name());
        }
        self.report.refused.sort();
        Ok(self.report)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sent {
    AsFarAsPossible,
    SomebodyWasFaster,
}
