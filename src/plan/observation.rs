//! What was recorded and what was seen, as plain data: everything that a decision may rest on.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;

use crate::domain::claim::Claim;
use crate::domain::ids::{EnvironmentId, HostId, RunId, SessionId};
use crate::domain::liveness::Liveness;
use crate::domain::pool::Pool;
use crate::domain::session::Session;
use crate::domain::view::RunView;

/// Everything that is recorded, as far as it was asked for.
#[derive(Debug, Clone, Default)]
pub struct Records {
    /// Runs with all their records.
    pub runs: BTreeMap<RunId, RunView>,
    /// Runs that could not be read, with what is wrong.
    pub unreadable: Vec<(String, String)>,
    /// Sessions, claims and pools that could not be read.
    pub unreadable_singles: Vec<UnreadableSingle>,
    /// Sessions that have not been dropped.
    pub sessions: BTreeMap<SessionId, Session>,
    /// Claims, held or given back.
    pub claims: Vec<Claim>,
    /// Pools.
    pub pools: Vec<Pool>,
    /// Runs that have ended and have no report.
    pub without_report: BTreeSet<RunId>,
}

/// A session, claim or pool that is recorded and could not be read: nothing is known of it, least of all that it is gone.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnreadableSingle {
    /// The name of its ref.
    pub name: String,
    /// Which session it is, if it is one.
    pub session: Option<SessionId>,
    /// What is wrong.
    pub problem: String,
}

impl Records {
    /// Whether a session is recorded and could not be read.
    pub fn is_session_unreadable(&self, session: &SessionId) -> bool {
        self.unreadable_singles.iter().any(|known| known.session.as_ref() == Some(session))
    }
}

/// How much of a place's content is not committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dirt {
    /// Nothing.
    Clean,
    /// Something.
    Dirty {
        /// Tracked files that are changed, staged or deleted.
        changed: usize,
        /// Files that git does not track and does not ignore.
        untracked: usize,
    },
    /// It could not be read.
    Unreadable(String),
}

/// What was seen at the place of an environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PlaceSeen {
    /// It belongs to another machine.
    Elsewhere(HostId),
    /// There is no place to look at (`remote`, or no path recorded).
    NoPlace,
    /// Nothing is there, or an empty directory.
    Gone,
    /// Nothing is there, and the worktree is registered at another path now.
    MovedTo(PathBuf),
    /// Something is there, but not this worktree of this repository.
    NotThisWorktree(String),
    /// It is on another branch than recorded, or does not descend from its base.
    OffCourse(String),
    /// It cannot be looked at now: an I/O error, or a file system that is not mounted.
    Unknown(String),
    /// It is there.
    There {
        /// How much of it is not committed.
        dirt: Dirt,
        /// Whether git has it locked.
        locked: bool,
        /// Whether it holds any file (for a plain directory).
        holds_files: bool,
    },
}

/// A worktree that tether made and no record names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UnnamedWorktree {
    /// Where it is.
    pub path: PathBuf,
    /// Its admin directory.
    pub admin_dir: PathBuf,
    /// The run that its mark names.
    pub run: Option<RunId>,
    /// The environment that its mark names.
    pub environment: Option<EnvironmentId>,
    /// What was seen there.
    pub seen: PlaceSeen,
}

/// Something half made that a killed process of ours left behind.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Leftover {
    /// A lock file of a ref.
    RefLock(PathBuf),
    /// A scratch file or directory.
    Scratch(PathBuf),
    /// A live file of a session that no record knows.
    LiveFile(PathBuf),
    /// A session whose making was cut off before it held anything.
    Session(SessionId),
    /// A branch that was made for a worktree which never came.
    Branch {
        /// Its name.
        name: String,
        /// Its tip.
        tip: String,
    },
}

impl Leftover {
    /// Its path, or its name.
    pub fn name(&self) -> String {
        match self {
            Self::RefLock(path) | Self::Scratch(path) | Self::LiveFile(path) => path.display().to_string(),
            Self::Session(session) => format!("session {session}"),
            Self::Branch { name, .. } => name.clone(),
        }
    }
}

/// What was seen of the machine.
#[derive(Debug, Clone)]
pub struct Observation {
    /// This machine.
    pub host: HostId,
    /// The place of each environment.
    pub places: BTreeMap<(RunId, EnvironmentId), PlaceSeen>,
    /// The state of each session.
    pub liveness: BTreeMap<SessionId, Liveness>,
    /// Worktrees of ours that no record names.
    pub unnamed: Vec<UnnamedWorktree>,
    /// Half-made things.
    pub leftovers: Vec<Leftover>,
    /// Environments that are being made right now, by somebody who lives.
    pub being_made: BTreeSet<(RunId, EnvironmentId)>,
    /// Tasks whose command this machine recorded itself.
    pub runnable: BTreeSet<String>,
}

impl Observation {
    /// An observation of nothing.
    pub fn nothing(host: HostId) -> Self {
        Self {
            host,
            places: BTreeMap::new(),
            liveness: BTreeMap::new(),
            unnamed: Vec::new(),
            leftovers: Vec::new(),
            being_made: BTreeSet::new(),
            runnable: BTreeSet::new(),
        }
    }
}
