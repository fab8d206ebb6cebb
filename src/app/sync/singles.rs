//! Sessions and claims in a sync: one ref each, merged record by record.
//!
//! Invariants: of claims only those with a remote lease go or come; an ended session past its time to live does not come back.

use gix::ObjectId;

use super::Exchange;
use crate::app::failure::{Failure, chain_of};
use crate::domain::claim::Claim;
use crate::domain::session::Session;
use crate::git::settings::SESSION_TTL;
use crate::plan::merge::{merge_claims, merge_sessions};
use crate::store::merge::{Alike, Joining, Moved};
use crate::store::names::{RefName, RefPrefix};
use crate::store::singles::{Single, encoded_key};

/// A claim that is said to have been taken more often would leave none of its tokens for us.
const HIGHEST_BELIEVED: u64 = 1 << 53;

/// A record with a ref of its own that travels.
pub(super) trait Travelling: Single {
    /// What its keys begin with (`sessions/`).
    const FAMILY: &'static str;
    /// Whether this one goes and comes.
    fn travels(&self) -> bool;
    /// Whether it belongs under this name.
    fn belongs_at(&self, key: &str) -> bool;
    /// What no git-tether would have written, if it holds that.
    fn flaw(&self) -> Option<&'static str> {
        None
    }
    /// Both histories in one.
    fn merged(base: Option<&Self>, ours: &Self, theirs: &Self) -> Self;
}

impl Travelling for Session {
    const FAMILY: &'static str = "sessions/";
    fn travels(&self) -> bool {
        true
    }
    fn belongs_at(&self, key: &str) -> bool {
        key == format!("{}{}", Self::FAMILY, self.id)
    }
    fn merged(base: Option<&Self>, ours: &Self, theirs: &Self) -> Self {
        merge_sessions(base, ours, theirs)
    }
}

impl Travelling for Claim {
    const FAMILY: &'static str = "claims/";
    fn travels(&self) -> bool {
        self.remote_lease
    }
    fn belongs_at(&self, key: &str) -> bool {
        key == format!("{}{}/{}", Self::FAMILY, self.kind, encoded_key(&self.key))
    }
    fn flaw(&self) -> Option<&'static str> {
        let token = format!("{}/{}#{}", self.kind, encoded_key(&self.key), self.generation);
        match self {
            claim if claim.generation > HIGHEST_BELIEVED => Some("its generation leaves no room for another"),
            claim if claim.token.0 != token => Some("its token is not that of its generation"),
            _ => None,
        }
    }
    fn merged(_: Option<&Self>, ours: &Self, theirs: &Self) -> Self {
        merge_claims(ours, theirs)
    }
}

impl Exchange<'_> {
    pub(super) fn is_remote_lease(&self, key: &str) -> bool {
        self.read_here::<Claim>(key).is_some_and(|claim| claim.remote_lease)
    }

    fn read_here<T: Travelling>(&self, key: &str) -> Option<T> {
        let name = local_name(key).ok()?;
        self.tether.ledger().read_single_at_commit::<T>(&name, *self.local.get(key)?).ok()
    }

    /// Compares every ref of a family here and there.
    pub(super) fn exchange_singles<T: Travelling>(&mut self) -> Result<(), Failure> {
        let family = |key: &&String| key.starts_with(T::FAMILY);
        let mut keys: Vec<String> = self.fetched.keys().chain(self.local.keys()).filter(family).cloned().collect();
        keys.sort();
        keys.dedup();
        for key in keys {
            match (self.local.get(&key).copied(), self.fetched.get(&key).copied()) {
                (Some(ours), Some(theirs)) if ours == theirs => self.settle(&key, theirs),
                (Some(ours), Some(theirs)) => self.exchange_both::<T>(&key, ours, theirs)?,
                (Some(ours), None) => self.offer::<T>(&key, ours),
                (None, Some(theirs)) => self.take_new::<T>(&key, theirs)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    fn offer<T: Travelling>(&mut self, key: &str, ours: ObjectId) {
        if self.is_settled_at(key, ours) {
            // It was dropped there, and did not change here.
            self.settle(key, ours);
            return;
        }
        match self.read_here::<T>(key) {
            Some(record) if record.travels() => self.will_send(key, None, ours),
            Some(_) => {}
            None => self.report.skip(&format!("refs/tether/{key}"), "it cannot be read here; see `git tether doctor`"),
        }
    }

    /// A fetched record, if it can be believed.
    fn believe<T: Travelling>(&mut self, key: &str, tip: ObjectId) -> Result<Option<T>, Failure> {
        let tracking = RefName::parse(&format!("{}{key}", self.tracking().as_str()));
        let tracking = tracking.map_err(|error| Failure::fatal("invalid_ref", error.to_string()))?;
        let read = self.tether.ledger().read_single_at_commit::<T>(&tracking, tip);
        let problem = match read {
            Ok(record) if !record.belongs_at(key) => "it says that it is another record".to_owned(),
            Ok(record) => match record.flaw() {
                None => return Ok(Some(record)),
                Some(flaw) => flaw.to_owned(),
            },
            Err(error) => chain_of(&error),
        };
        self.report.skip(tracking.as_str(), problem);
        Ok(None)
    }

    fn take_new<T: Travelling>(&mut self, key: &str, theirs: ObjectId) -> Result<(), Failure> {
        let Some(record) = self.believe::<T>(key, theirs)? else { return Ok(()) };
        if self.is_settled_at(key, theirs) || !record.travels() || self.is_past(key, theirs)? {
            // It was dropped here, or would be at once.
            self.settle(key, theirs);
            return Ok(());
        }
        if self.direction.takes() {
            self.take(key, None, theirs)?;
        }
        Ok(())
    }

    fn is_past(&mut self, key: &str, tip: ObjectId) -> Result<bool, Failure> {
        if !key.starts_with(Session::FAMILY) {
            return Ok(false);
        }
        let ttl = self.tether.repository().settings().read(&SESSION_TTL)?;
        let now = self.tether.now();
        let session = self.believe::<Session>(key, tip)?;
        Ok(session.is_some_and(|session| {
            session.status.is_terminal() && session.completed_at.is_some_and(|ended| now.since(ended) > ttl)
        }))
    }

    /// Moves our ref to a fetched tip.
    fn take(&mut self, key: &str, ours: Option<ObjectId>, theirs: ObjectId) -> Result<(), Failure> {
        let name = local_name(key)?;
        if self.tether.ledger().move_tip(&name, ours, theirs)? == Moved::Yes {
            self.local.insert(key.to_owned(), theirs);
            self.settle(key, theirs);
            self.report.took(&name);
        } else {
            self.raced = super::Sent::SomebodyWasFaster;
        }
        Ok(())
    }

    fn exchange_both<T: Travelling>(&mut self, key: &str, ours: ObjectId, theirs: ObjectId) -> Result<(), Failure> {
        let bases = self.bases(ours, theirs)?;
        if bases.contains(&theirs) {
            if self.read_here::<T>(key).is_some_and(|record| record.travels()) {
                self.will_send(key, Some(theirs), ours);
            }
            return Ok(());
        }
        let Some(record) = self.believe::<T>(key, theirs)? else { return Ok(()) };
        if !record.travels() {
            return Ok(());
        }
        if bases.contains(&ours) {
            return if self.direction.takes() { self.take(key, Some(ours), theirs) } else { Ok(()) };
        }
        let related = !bases.is_empty() || T::FAMILY == Claim::FAMILY;
        if !related {
            self.report.skip(&format!("refs/tether/{key}"), "another one with the same id is there, of another origin");
            return Ok(());
        }
        if !self.direction.takes() {
            self.must_sync_first(key);
            return Ok(());
        }
        self.join::<T>(key, &bases, ours, (theirs, &record))
    }

    fn join<T: Travelling>(
        &mut self,
        key: &str,
        bases: &[ObjectId],
        ours: ObjectId,
        (theirs, record): (ObjectId, &T),
    ) -> Result<(), Failure> {
        let name = local_name(key)?;
        let ledger = self.tether.ledger();
        let own = ledger.read_single_at_commit::<T>(&name, ours)?;
        let base = bases.first().and_then(|base| ledger.read_single_at_commit::<T>(&name, *base).ok());
        let merged = T::merged(base.as_ref(), &own, record);
        let (trailer, value) = merged.about();
        let joining = Joining {
            subject: format!("{} {value}: merged with {}", T::NAME, self.remote.name()),
            body: String::new(),
            about: (trailer, value),
            event: "histories_merged",
            parents: &[theirs],
            at: self.tether.now(),
            alike: Alike::Join,
        };
        let joined = ledger.write_joined_single(&name, ours, &merged, &joining)?;
        if ledger.move_tip(&name, Some(ours), joined)? == Moved::Yes {
            self.local.insert(key.to_owned(), joined);
            self.report.joined(&name);
            self.will_send(key, Some(theirs), joined);
        } else {
            self.raced = super::Sent::SomebodyWasFaster;
        }
        Ok(())
    }
}

/// Our ref of a key.
pub(super) fn local_name(key: &str) -> Result<RefName, Failure> {
    RefName::parse(&format!("{}{key}", RefPrefix::travelling().as_str()))
        .map_err(|error| Failure::fatal("invalid_ref", error.to_string()))
}
