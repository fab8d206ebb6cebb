//! Reading one commit of a chain.
//!
//! Owns: how large a commit may be, and what is taken from one. Must not know: refs, or what a record says.
//! Invariant: a commit's message is for people; nothing is decided by it.

use gix::ObjectId;
use gix::date::Time;
use gix::objs::{CommitRef, Kind};

use super::backend::{Backend, BoxedError, ReadObjectError};
use super::tree::{self, TreeError};

/// A commit above this is not ours.
const LARGEST_COMMIT: u64 = 1 << 20;

/// Who a commit says it is by.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// A name for people.
    pub name: String,
    /// An address.
    pub email: String,
}

/// Why a commit could not be read.
#[derive(Debug, thiserror::Error)]
pub enum CommitError {
    /// The object could not be read, or is no commit.
    #[error(transparent)]
    Read(#[from] ReadObjectError),
    /// Its bytes are no commit.
    #[error("commit {id} is damaged")]
    Damaged {
        /// Its id.
        id: ObjectId,
        /// What is wrong.
        source: BoxedError,
    },
}

/// One commit of a chain.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChainCommit {
    /// Its id.
    pub id: ObjectId,
    /// Its tree: what [`tree::read`] and its fellows take.
    pub tree: ObjectId,
    /// Its parents; the first is the one before it in the chain.
    pub parents: Vec<ObjectId>,
    /// Who it says it is by.
    pub author: Identity,
    /// When its author says it was.
    pub time: Time,
    /// What it says to people; bytes that are no UTF-8 are replaced.
    pub message: String,
}

/// Reads a commit.
pub fn read_commit(backend: &dyn Backend, id: ObjectId) -> Result<ChainCommit, CommitError> {
    let object = backend.read(&id, LARGEST_COMMIT)?;
    if object.kind != Kind::Commit {
        return Err(ReadObjectError::Kind { id, found: object.kind, wanted: Kind::Commit }.into());
    }
    let damaged = |source: gix::Error| CommitError::Damaged { id, source: source.into() };
    let commit = CommitRef::from_bytes(&object.data, backend.object_format()).map_err(damaged)?;
    let author = commit.author().map_err(damaged)?;
    Ok(ChainCommit {
        id,
        tree: commit.tree(),
        parents: commit.parents().collect(),
        author: Identity { name: author.name.to_string(), email: author.email.to_string() },
        time: author.time().unwrap_or_default(),
        message: commit.message.to_string(),
    })
}

/// Reads the file at a logical path as a commit of the chain has it.
pub fn read_at(
    backend: &dyn Backend,
    commit: &ChainCommit,
    path: &str,
    limit: u64,
) -> Result<Option<Vec<u8>>, TreeError> {
    tree::read(backend, commit.tree, path, limit)
}
