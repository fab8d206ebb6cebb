//! Transactions: read the tip, decide, append, and decide again where somebody was faster.
//!
//! Owns: how often and how patiently, and what is written together. Must not know: what a decision is about.
//! Invariants: nothing is appended that was decided on another tip than the one it lands on; all that two commits need is on disk before
//! the first of their refs moves, and the first moves before the second.

use std::time::Duration;

use gix::ObjectId;

use super::backend::{Backend, Expected, ReadRefError, RefValue, SwapError};
use super::chain::{self, AppendError, Staged, Transition};
use super::names::RefName;
use super::objects::Batch;

/// How often, and how patiently, a lost race is run again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Retry {
    /// At most so many attempts.
    pub attempts: u32,
    /// The pause after the first; it doubles from then on, with jitter.
    pub first_pause: Duration,
    /// It grows up to this.
    pub longest_pause: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        Self { attempts: 64, first_pause: Duration::from_millis(1), longest_pause: Duration::from_millis(100) }
    }
}

impl Retry {
    fn pause(&self, lost: u32) {
        let grown = self.first_pause.saturating_mul(1 << lost.min(16));
        std::thread::sleep(grown.min(self.longest_pause).mul_f32(fastrand::f32()));
    }
}

/// What a decision comes to.
#[derive(Debug)]
pub enum Decision<T> {
    /// Append this, and hand the value back once it is there.
    Append(Transition, T),
    /// Nothing needs to change.
    Leave(T),
}

/// What [`transact`] came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Transacted<T> {
    /// The tip now; `None` if there is no chain, and none was begun.
    pub tip: Option<ObjectId>,
    /// What the decision handed back.
    pub outcome: T,
    /// How many attempts it took.
    pub attempts: u32,
}

/// Why a transaction did not happen.
#[derive(Debug, thiserror::Error)]
pub enum TransactError<E: std::error::Error + 'static> {
    /// The decision was not to.
    #[error(transparent)]
    Refused(E),
    /// The ref could not be read.
    #[error("could not read {name}")]
    Ref {
        /// The ref.
        name: RefName,
        /// Why.
        source: ReadRefError,
    },
    /// The ref names no commit.
    #[error("{name} is not usable: {}", show_value(found))]
    Unusable {
        /// The ref.
        name: RefName,
        /// What it holds.
        found: RefValue,
    },
    /// Others were faster each time.
    #[error("{name} changed under each of {attempts} attempts")]
    Contended {
        /// The ref.
        name: RefName,
        /// How many.
        attempts: u32,
        /// What the last one met.
        source: Box<AppendError>,
    },
    /// It was decided, and could not be done.
    #[error(transparent)]
    Append(Box<AppendError>),
}

fn show_value(value: &RefValue) -> String {
    match value {
        RefValue::Absent => "it is absent".to_owned(),
        RefValue::Id(id) => format!("it names {id}"),
        RefValue::Symbolic(target) => format!("it is a symbolic ref to `{}`", target.escape_debug()),
        RefValue::Broken(content) => format!("it holds `{}`", content.escape_debug()),
    }
}

/// So often a lock that somebody holds is waited for, each time for as long as the backend has patience.
const MOST_LOCKED: u32 = 4;

fn is_locked(error: &AppendError) -> bool {
    matches!(error, AppendError::Swap(SwapError::Busy { .. }))
}

/// Reads the tip, decides, appends; decides again on the new tip if somebody was faster. `decide` may run many times and must have no effect
/// of its own.
pub fn transact<T, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    name: &RefName,
    retry: Retry,
    decide: impl FnMut(Option<ObjectId>) -> Result<Decision<T>, E>,
) -> Result<Transacted<T>, TransactError<E>> {
    transact_with(backend, name, retry, &mut None, decide)
}

/// The same; the objects in `with`, which a decision may name, are written together with the first commit. They stay there if nothing is
/// appended.
pub fn transact_with<T, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    name: &RefName,
    retry: Retry,
    with: &mut Option<Batch>,
    mut decide: impl FnMut(Option<ObjectId>) -> Result<Decision<T>, E>,
) -> Result<Transacted<T>, TransactError<E>> {
    let _turn = backend.turn(name);
    let mut attempts = 0;
    let mut locked = 0;
    loop {
        attempts += 1;
        match attempt(backend, name, with, &mut decide) {
            Ok((tip, outcome)) => return Ok(Transacted { tip, outcome, attempts }),
            Err(TransactError::Append(error)) if error.is_lost_race() => {
                // Each lock was waited for: who holds one for so long is no racer.
                if is_locked(&error) && locked + 1 >= MOST_LOCKED {
                    return Err(TransactError::Append(error));
                }
                if attempts >= retry.attempts {
                    return Err(TransactError::Contended { name: name.clone(), attempts, source: error });
                }
                locked += u32::from(is_locked(&error));
                retry.pause(attempts - 1);
            }
            Err(error) => return Err(error),
        }
    }
}

fn attempt<T, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    name: &RefName,
    with: &mut Option<Batch>,
    decide: impl FnOnce(Option<ObjectId>) -> Result<Decision<T>, E>,
) -> Result<(Option<ObjectId>, T), TransactError<E>> {
    let proposed = propose(backend, name, with.get_or_insert_with(|| backend.batch()), decide)?;
    let Some(staged) = proposed.staged else { return Ok((proposed.tip, proposed.outcome)) };
    let landed = write(backend, name, with).and_then(|()| staged.land(backend));
    let tip = landed.map_err(|error| TransactError::Append(Box::new(error)))?;
    chain::keep_house(backend);
    Ok((Some(tip), proposed.outcome))
}

/// Changes two refs, the first before the second, with one pack for both; once, so that a lost race is the caller's to meet. The objects in
/// `with` are written too, and stay there if nothing is.
pub(super) fn transact_both<A, B, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    with: &mut Option<Batch>,
    (first, decide_first): (&RefName, impl FnOnce(Option<ObjectId>) -> Result<Decision<A>, E>),
    (second, decide_second): (&RefName, impl FnOnce(Option<ObjectId>) -> Result<Decision<B>, E>),
) -> Result<Transacted<B>, TransactError<E>> {
    let _turns = (backend.turn(first), backend.turn(second));
    let batch = with.get_or_insert_with(|| backend.batch());
    let before = propose(backend, first, batch, decide_first)?;
    let after = propose(backend, second, batch, decide_second)?;
    let mut tip = after.tip;
    let landed = (|| {
        if before.staged.is_some() || after.staged.is_some() {
            write(backend, first, with)?;
        }
        before.staged.map(|staged| staged.land(backend)).transpose()?;
        if let Some(staged) = after.staged {
            tip = Some(staged.land(backend)?);
        }
        Ok(())
    })();
    landed.map_err(|error| TransactError::Append(Box::new(error)))?;
    chain::keep_house(backend);
    Ok(Transacted { tip, outcome: after.outcome, attempts: 1 })
}

fn write(backend: &dyn Backend, name: &RefName, with: &mut Option<Batch>) -> Result<(), AppendError> {
    with.take().map_or(Ok(()), |batch| chain::write(backend, name, batch))
}

/// What one decision came to: a commit in a batch, if anything is to be appended.
struct Proposed<T> {
    staged: Option<Staged>,
    tip: Option<ObjectId>,
    outcome: T,
}

fn propose<T, E: std::error::Error + 'static>(
    backend: &dyn Backend,
    name: &RefName,
    batch: &mut Batch,
    decide: impl FnOnce(Option<ObjectId>) -> Result<Decision<T>, E>,
) -> Result<Proposed<T>, TransactError<E>> {
    let found = backend.read_ref(name).map_err(|source| TransactError::Ref { name: name.clone(), source })?;
    let (tip, expected) = match found {
        RefValue::Absent => (None, Expected::Absent),
        RefValue::Id(id) => (Some(id), Expected::Id(id)),
        found => return Err(TransactError::Unusable { name: name.clone(), found }),
    };
    match decide(tip).map_err(TransactError::Refused)? {
        Decision::Leave(outcome) => Ok(Proposed { staged: None, tip, outcome }),
        Decision::Append(transition, outcome) => {
            let staged = chain::stage(backend, name, expected, &transition, batch);
            let staged = staged.map_err(|error| TransactError::Append(Box::new(error)))?;
            Ok(Proposed { staged: Some(staged), tip, outcome })
        }
    }
}
