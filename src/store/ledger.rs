//! The ledger: the records of a repository, each on its own chain.
//!
//! Owns who signs a commit and what can go wrong when records are read or written. Must not know what anybody does with them.

use std::cell::RefCell;

use gix::ObjectId;
use gix::date::Time;

use super::backend::{Backend, ReadObjectError, ReadRefError, RefValue};
use super::chain::{self, AppendError, CommitError, Content, Identity};
use super::names::{NameError, RefName};
use super::placed::{self, Placed};
use super::read_run::LastRead;
use super::transact::TransactError;
use super::tree::{self, TreeError};
use crate::domain::time::Timestamp;
use crate::domain::view::RunView;
use crate::record::message::Author;
use crate::record::{InvalidRecord, LARGEST_RECORD, Stored, decode};

/// The records of a repository.
pub struct Ledger {
    backend: Box<dyn Backend>,
    identity: Identity,
    author: Author,
    reporter: Option<Reporter>,
    pub(super) last_read: RefCell<Option<LastRead>>,
}

/// Writes the report of a run that ends; `None`: it cannot now, and somebody does later.
pub type Reporter = fn(&Ledger, &RunView) -> Option<Vec<u8>>;

/// Why a record could not be read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// Its ref cannot have such a name.
    #[error(transparent)]
    Name(#[from] NameError),
    /// Its ref could not be read.
    #[error("could not read {name}")]
    Ref {
        /// The ref.
        name: RefName,
        /// Why.
        source: ReadRefError,
    },
    /// Its ref names no commit: a symbolic ref, or a torn file.
    #[error("{name} is not usable: it holds {found}")]
    Unusable {
        /// The ref.
        name: RefName,
        /// What it holds.
        found: String,
    },
    /// Its commit could not be read.
    #[error("the commit at {name} could not be read")]
    Commit {
        /// The ref.
        name: RefName,
        /// Why.
        source: CommitError,
    },
    /// Its tree could not be read.
    #[error("the tree at {name} could not be read")]
    Tree {
        /// The ref.
        name: RefName,
        /// Why.
        source: TreeError,
    },
    /// It is not in the tree.
    #[error("{name} has no `{path}`")]
    Incomplete {
        /// The ref.
        name: RefName,
        /// The path that is missing.
        path: String,
    },
    /// It says of itself that it is another one.
    #[error("`{path}` at {name} says that it is {found}")]
    Misnamed {
        /// The ref.
        name: RefName,
        /// The path.
        path: String,
        /// What it says that it is.
        found: String,
    },
    /// Its bytes are no record.
    #[error("`{path}` at {name} is not a record")]
    Record {
        /// The ref.
        name: RefName,
        /// The path.
        path: String,
        /// Why.
        source: InvalidRecord,
    },
}

/// Why a record was not written.
#[derive(Debug, thiserror::Error)]
pub enum WriteRecordError<E: std::error::Error + 'static> {
    /// The decision was not to.
    #[error(transparent)]
    Refused(E),
    /// What was there could not be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The new record has no form.
    #[error("the new record cannot be written")]
    Encode(#[source] InvalidRecord),
    /// Others were faster each time, or somebody holds the lock of the ref.
    #[error("{name} changed under each of {attempts} attempts")]
    Contended {
        /// The ref.
        name: RefName,
        /// How many.
        attempts: u32,
        /// What the last one met.
        source: Box<AppendError>,
    },
    /// It could not be done.
    #[error(transparent)]
    Append(Box<AppendError>),
}

/// What went wrong within a decision: the caller's refusal, or the reading that it needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum Inner<E: std::error::Error + 'static> {
    #[error(transparent)]
    Refused(E),
    #[error(transparent)]
    Read(ReadError),
    #[error(transparent)]
    Encode(InvalidRecord),
}

impl<E: std::error::Error + 'static> From<TransactError<Inner<E>>> for WriteRecordError<E> {
    fn from(error: TransactError<Inner<E>>) -> Self {
        match error {
            TransactError::Refused(Inner::Refused(refused)) => Self::Refused(refused),
            TransactError::Refused(Inner::Read(read)) => Self::Read(read),
            TransactError::Refused(Inner::Encode(encode)) => Self::Encode(encode),
            TransactError::Ref { name, source } => Self::Read(ReadError::Ref { name, source }),
            TransactError::Unusable { name, found } => Self::Read(ReadError::Unusable { name, found: shown(&found) }),
            TransactError::Contended { name, attempts, source } => Self::Contended { name, attempts, source },
            TransactError::Append(error) => Self::Append(error),
        }
    }
}

impl WriteRecordError<std::convert::Infallible> {
    /// The same where more can be refused than nothing.
    pub(super) fn never_refused<E: std::error::Error + 'static>(self) -> WriteRecordError<E> {
        match self {
            Self::Refused(never) => match never {},
            Self::Read(read) => WriteRecordError::Read(read),
            Self::Encode(encode) => WriteRecordError::Encode(encode),
            Self::Contended { name, attempts, source } => WriteRecordError::Contended { name, attempts, source },
            Self::Append(error) => WriteRecordError::Append(error),
        }
    }
}

pub(super) fn shown(value: &RefValue) -> String {
    match value {
        RefValue::Absent => "nothing".to_owned(),
        RefValue::Id(id) => id.to_string(),
        RefValue::Symbolic(target) => format!("a symbolic ref to {}", target.escape_debug()),
        RefValue::Broken(content) if content.is_empty() => "nothing, not even an id".to_owned(),
        RefValue::Broken(content) => format!("`{}`", content.escape_debug()),
    }
}

impl Ledger {
    /// The records behind `backend`, written as `identity`, with `author` in the trailers.
    pub fn new(backend: Box<dyn Backend>, identity: Identity, author: Author) -> Self {
        Self { backend, identity, author, reporter: None, last_read: RefCell::new(None) }
    }

    /// From now on a run that ends gets its report in the same commit.
    pub fn set_reporter(&mut self, reporter: Reporter) {
        self.reporter = Some(reporter);
    }

    pub(super) fn report(&self, view: &RunView) -> Option<Vec<u8>> {
        self.reporter?(self, view)
    }

    /// Where the records are kept.
    pub fn backend(&self) -> &dyn Backend {
        self.backend.as_ref()
    }

    /// Who makes changes, as the trailers name it.
    pub fn author(&self) -> &Author {
        &self.author
    }

    /// The same records, written by somebody else.
    pub fn set_author(&mut self, author: Author) {
        self.author = author;
    }

    pub(super) fn transition(
        &self,
        changes: impl IntoIterator<Item = (String, Content)>,
        message: String,
        at: Timestamp,
    ) -> chain::Transition {
        chain::Transition {
            changes: changes.into_iter().collect(),
            message,
            identity: self.identity.clone(),
            time: Time::new(at.seconds(), 0),
            extra_parents: Vec::new(),
        }
    }

    /// The tip of a ref that holds a chain.
    pub fn tip(&self, name: &RefName) -> Result<Option<ObjectId>, ReadError> {
        match self.backend.read_ref(name).map_err(|source| ReadError::Ref { name: name.clone(), source })? {
            RefValue::Absent => Ok(None),
            RefValue::Id(id) => Ok(Some(id)),
            found => Err(ReadError::Unusable { name: name.clone(), found: shown(&found) }),
        }
    }

    pub(super) fn root(&self, name: &RefName, tip: ObjectId) -> Result<ObjectId, ReadError> {
        let commit = chain::read_commit(self.backend(), tip);
        Ok(commit.map_err(|source| ReadError::Commit { name: name.clone(), source })?.tree)
    }

    /// A record of a tree, if it is there.
    pub(super) fn find_record<T: Placed>(
        &self,
        name: &RefName,
        root: ObjectId,
        path: &str,
    ) -> Result<Option<Stored<T>>, ReadError> {
        let tree_failed = |source| ReadError::Tree { name: name.clone(), source };
        let Some(found) = tree::find(self.backend(), root, path).map_err(tree_failed)? else { return Ok(None) };
        self.read_blob(name, path, found.id).map(Some)
    }

    pub(super) fn read_blob<T: Placed>(
        &self,
        name: &RefName,
        path: &str,
        id: ObjectId,
    ) -> Result<Stored<T>, ReadError> {
        let record_failed = |source| ReadError::Record { name: name.clone(), path: path.to_owned(), source };
        let object = self.backend.read(&id, LARGEST_RECORD).map_err(|source| match source {
            ReadObjectError::TooLarge { size, .. } => {
                record_failed(InvalidRecord::TooLarge { name: T::NAME, bytes: size })
            }
            source => ReadError::Tree { name: name.clone(), source: TreeError::Read { path: path.to_owned(), source } },
        })?;
        let stored: Stored<T> = decode(&object.data).map_err(record_failed)?;
        if placed::belongs(&stored.value, name, path) {
            return Ok(stored);
        }
        Err(ReadError::Misnamed { name: name.clone(), path: path.to_owned(), found: stored.value.says() })
    }
}
