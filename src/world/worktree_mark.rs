//! The mark that git-tether leaves in the admin directory of a worktree that it made.
//!
//! Owns: `<common dir>/worktrees/<name>/tether`, which git removes together with the registration. Must not know: records.
//! Invariant: a torn or foreign mark is no mark: what bears it is treated as somebody else's.

use std::path::Path;

use super::durable;

const FILE: &str = "tether";

/// What the reason of a lock begins with while the git program registers a worktree for us.
pub(super) const LOCK_PREFIX: &str = "initializing for git-tether ";

/// For which run and environment a worktree was made, and how far that got.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// The run's id.
    pub run: String,
    /// The environment's id.
    pub environment: String,
    /// How far it got.
    pub stage: Stage,
}

/// How far the making of a worktree got.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stage {
    /// Its files may be missing or half written; nobody has worked in it.
    Filling,
    /// It is complete.
    Made,
    /// Its removal has begun: what is missing from it is no change that somebody made.
    Removing,
}

impl Mark {
    /// A mark of a complete worktree.
    pub fn of(run: impl Into<String>, environment: impl Into<String>) -> Self {
        Self { run: run.into(), environment: environment.into(), stage: Stage::Made }
    }

    /// The same mark at another stage.
    #[must_use]
    pub fn at(&self, stage: Stage) -> Self {
        Self { stage, ..self.clone() }
    }

    /// Whether both were made for the same environment, however far.
    pub fn names_same(&self, other: &Self) -> bool {
        self.run == other.run && self.environment == other.environment
    }
}

/// The mark in an admin directory.
pub(super) fn find(admin_dir: &Path) -> Option<Mark> {
    match std::fs::read_to_string(admin_dir.join(FILE)) {
        Ok(text) => parse(&text),
        // git writes this first of all, before we can leave a file: a kill in between leaves only it.
        Err(_) => parse_lock_reason(&std::fs::read_to_string(admin_dir.join("locked")).ok()?),
    }
}

fn parse(text: &str) -> Option<Mark> {
    let mut lines = text.lines();
    let run = lines.next()?.strip_prefix("run ")?;
    let environment = lines.next()?.strip_prefix("environment ")?;
    let stage = match lines.next()? {
        "stage filling" => Stage::Filling,
        "stage made" => Stage::Made,
        "stage removing" => Stage::Removing,
        _ => return None,
    };
    Some(Mark { run: run.to_owned(), environment: environment.to_owned(), stage })
}

/// What a lock says while the git program registers a worktree for `mark`.
pub(super) fn lock_reason(mark: &Mark) -> String {
    format!("{LOCK_PREFIX}{}/{}", mark.run, mark.environment)
}

fn parse_lock_reason(text: &str) -> Option<Mark> {
    let (run, environment) = text.trim_end().strip_prefix(LOCK_PREFIX)?.split_once('/')?;
    Some(Mark { stage: Stage::Filling, ..Mark::of(run, environment) })
}

/// Leaves a mark, replacing the one that is there.
pub fn write(admin_dir: &Path, mark: &Mark) -> std::io::Result<()> {
    let stage = match mark.stage {
        Stage::Filling => "filling",
        Stage::Made => "made",
        Stage::Removing => "removing",
    };
    let scratch = admin_dir.join("tether.new");
    let text = format!("run {}\nenvironment {}\nstage {stage}\n", mark.run, mark.environment);
    durable::replace(&admin_dir.join(FILE), &scratch, text.as_bytes())
}
