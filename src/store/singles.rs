//! Records that have a ref of their own: sessions, claims, pools.
//!
//! Owns the names of their refs and files. Must not know why anything happens to them.

use super::backend::{Expected, New, RefValue, SwapError};
use super::chain::Content;
use super::ledger::{Inner, Ledger, ReadError, WriteRecordError};
use super::names::{RefName, RefPrefix};
use super::placed::Placed;
use super::transact::{self, Decision, Retry};
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::ids::{PoolName, SessionId};
use crate::domain::pool::Pool;
use crate::domain::session::Session;
use crate::domain::time::Timestamp;
use crate::record::{encode, layout, message};

/// A record with a ref of its own.
#[allow(private_bounds, reason = "only the records of this crate have a ref of their own")]
pub trait Single: Placed + Clone + PartialEq {
    /// What finds it.
    type Key: ?Sized;
    /// Its file in its tree.
    const FILE: &'static str;
    /// The ref of the record with this key.
    fn ref_name(key: &Self::Key) -> Result<RefName, ReadError>;
    /// The refs of all of them.
    fn prefix() -> RefPrefix;
    /// What it is called in trailers and subjects: trailer name and value.
    fn about(&self) -> (&'static str, String);
}

impl Single for Session {
    type Key = SessionId;
    const FILE: &'static str = layout::SESSION;
    fn ref_name(key: &SessionId) -> Result<RefName, ReadError> {
        Ok(RefName::session(key.as_str())?)
    }
    fn prefix() -> RefPrefix {
        RefPrefix::sessions()
    }
    fn about(&self) -> (&'static str, String) {
        ("Session", self.id.to_string())
    }
}

impl Single for Claim {
    type Key = (ClaimKind, String);
    const FILE: &'static str = layout::CLAIM;
    fn ref_name((kind, key): &(ClaimKind, String)) -> Result<RefName, ReadError> {
        Ok(RefName::claim(&kind.to_string(), key)?)
    }
    fn prefix() -> RefPrefix {
        RefPrefix::claims()
    }
    fn about(&self) -> (&'static str, String) {
        ("Claim", format!("{}/{}", self.kind, self.key))
    }
}

impl Single for Pool {
    type Key = PoolName;
    const FILE: &'static str = layout::POOL;
    fn ref_name(key: &PoolName) -> Result<RefName, ReadError> {
        Ok(RefName::pool(key.as_str()))
    }
    fn prefix() -> RefPrefix {
        RefPrefix::pools()
    }
    fn about(&self) -> (&'static str, String) {
        ("Pool", self.id.to_string())
    }
}

/// Records that can be read, and what is wrong with each that cannot.
pub type Listed<T> = (Vec<T>, Vec<(RefName, ReadError)>);

/// A new form of a record, and what happened to it.
#[derive(Debug, Clone)]
pub struct Change<T> {
    /// Its new form.
    pub record: T,
    /// What happened, for the subject (`active → complete`).
    pub what: String,
    /// The name of the event.
    pub event: &'static str,
}

/// The claim key as it stands in refs and tokens.
pub fn encoded_key(key: &str) -> String {
    super::names::encode(key.as_bytes())
}

impl Ledger {
    /// Reads a record that has a ref of its own.
    pub fn read_single<T: Single>(&self, key: &T::Key) -> Result<Option<T>, ReadError> {
        let name = T::ref_name(key)?;
        self.read_single_named(&name)
    }

    /// The same by the name of its ref.
    pub fn read_single_named<T: Single>(&self, name: &RefName) -> Result<Option<T>, ReadError> {
        let Some(tip) = self.tip(name)? else { return Ok(None) };
        let root = self.root(name, tip)?;
        let stored = self.find_record::<T>(name, root, T::FILE)?;
        let stored = stored.ok_or_else(|| ReadError::Incomplete { name: name.clone(), path: T::FILE.to_owned() })?;
        Ok(Some(stored.value))
    }

    /// Every record of this kind that can be read, and what is wrong with each that cannot.
    pub fn list_singles<T: Single>(&self) -> Result<Listed<T>, ReadError> {
        let listed = self.backend().list_refs(&T::prefix());
        let failed = |source| ReadError::Ref { name: RefName::journal(), source };
        let (mut records, mut unreadable) = (Vec::new(), Vec::new());
        for (name, value) in listed.map_err(failed)? {
            if matches!(value, RefValue::Absent) {
                continue;
            }
            match self.read_single_named(&name) {
                Ok(Some(record)) => records.push(record),
                Ok(None) => {}
                Err(error) => unreadable.push((name, error)),
            }
        }
        Ok((records, unreadable))
    }

    /// Reads a record, decides, writes its new form; decides again if somebody was faster. `None` or an equal form writes nothing.
    /// Answers with the record as it is then. `decide` must have no effect of its own.
    pub fn change_single<T: Single, E: std::error::Error + 'static>(
        &self,
        key: &T::Key,
        at: Timestamp,
        mut decide: impl FnMut(Option<&T>) -> Result<Option<Change<T>>, E>,
    ) -> Result<Option<T>, WriteRecordError<E>> {
        let name = T::ref_name(key)?;
        let done = transact::transact(self.backend(), &name, Retry::default(), |tip| {
            let stored = match tip {
                Some(tip) => {
                    let root = self.root(&name, tip).map_err(Inner::Read)?;
                    let stored = self.find_record::<T>(&name, root, T::FILE).map_err(Inner::Read)?;
                    let missing = || ReadError::Incomplete { name: name.clone(), path: T::FILE.to_owned() };
                    Some(stored.ok_or_else(missing).map_err(Inner::Read)?)
                }
                None => None,
            };
            let before = stored.as_ref().map(|stored| &stored.value);
            let change = decide(before).map_err(Inner::Refused)?;
            let Some(change) = change.filter(|change| before != Some(&change.record)) else {
                return Ok(Decision::Leave(stored.map(|stored| stored.value)));
            };
            let bytes = encode(&change.record, stored.as_ref().map(|stored| &stored.written)).map_err(Inner::Encode)?;
            let (trailer, value) = change.record.about();
            let subject = format!("{} {value}: {}", T::NAME, change.what);
            let text = message::record_changed(&subject, change.event, &[(trailer, Some(value))], self.author());
            let transition = self.transition([(T::FILE.to_owned(), Content::Bytes(bytes))], text, at);
            Ok(Decision::Append(transition, Some(change.record)))
        })?;
        Ok(done.outcome)
    }

    /// Deletes a record's ref if `may_go` still says so of what it holds then; answers whether it went.
    pub fn drop_single<T: Single>(
        &self,
        key: &T::Key,
        may_go: impl Fn(&T) -> bool,
    ) -> Result<bool, WriteRecordError<std::convert::Infallible>> {
        let name = T::ref_name(key)?;
        let Some(tip) = self.tip(&name)? else { return Ok(false) };
        let root = self.root(&name, tip)?;
        let goes = self.find_record::<T>(&name, root, T::FILE)?.is_some_and(|stored| may_go(&stored.value));
        if !goes {
            return Ok(false);
        }
        match self.backend().swap(&name, Expected::Id(tip), New::Delete) {
            Ok(()) => Ok(true),
            Err(SwapError::Lost { .. }) => Ok(false),
            Err(error) => Err(WriteRecordError::Append(Box::new(error.into()))),
        }
    }
}
