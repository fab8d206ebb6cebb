//! The mark that git-tether leaves in the admin directory of a worktree that it made.
//!
//! Owns: `<common dir>/worktrees/<name>/tether`, which git removes together with the registration. Must not know: records.
//! Invariant: a torn or foreign mark is no mark: what bears it is treated as somebody else's.

use std::path::Path;

const FILE: &str = "tether";

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
}

impl Mark {
    /// A mark of a complete worktree.
    pub fn of(run: impl Into<String>, environment: impl Into<String>) -> Self {
        Self { run: run.into(), environment: environment.into(), stage: Stage::Made }
    }

    /// Whether both were made for the same environment, however far.
    pub fn names_same(&self, other: &Self) -> bool {
        self.run == other.run && self.environment == other.environment
    }
}

/// The mark in an admin directory.
pub(super) fn find(admin_dir: &Path) -> Option<Mark> {
    let text = std::fs::read_to_string(admin_dir.join(FILE)).ok()?;
    let mut lines = text.lines();
    let run = lines.next()?.strip_prefix("run ")?;
    let environment = lines.next()?.strip_prefix("environment ")?;
    let stage = match lines.next()? {
        "stage filling" => Stage::Filling,
        "stage made" => Stage::Made,
        _ => return None,
    };
    Some(Mark { run: run.to_owned(), environment: environment.to_owned(), stage })
}

/// Leaves a mark, replacing the one that is there.
pub fn write(admin_dir: &Path, mark: &Mark) -> std::io::Result<()> {
    let stage = match mark.stage {
        Stage::Filling => "filling",
        Stage::Made => "made",
    };
    let scratch = admin_dir.join("tether.new");
    std::fs::write(&scratch, format!("run {}\nenvironment {}\nstage {stage}\n", mark.run, mark.environment))?;
    std::fs::rename(scratch, admin_dir.join(FILE))
}
