//! Half-made things of killed processes: found, and cleared.
//!
//! Owns which files below `<common dir>/tether/` and beside our packs, and which branches, are left over. Invariants: only what
//! tether itself made is named, never what somebody holds, nor another program's lock; each is looked at again before it goes.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use crate::app::failure::{Failure, chain_of};
use crate::app::places::PlaceOutcome;
use crate::app::tether::Tether;
use crate::domain::environment::Environment;
use crate::domain::ids::SessionId;
use crate::domain::session::Session;
use crate::domain::view::RunView;
use crate::plan::observation::{Leftover, Records};
use crate::store::RefPrefix;
use crate::store::backend::ClearedLock;
use crate::world::live::LockState;
use crate::world::processes::{FingerprintError, Observed};
use crate::world::{worktree_staging, worktrees};

/// Directories of files that are named by a session.
const OF_SESSIONS: [&str; 3] = ["live", "heartbeat", "processes"];
/// Directories below ours that hold other people's files, or that others clear.
const NOT_SEARCHED: [&str; 4] = ["worktrees", "worktree-staging", "locks", "evidence"];
/// Our own files lie no deeper than this.
const DEEPEST: usize = 4;

impl Tether {
    /// What killed processes of ours left behind.
    pub fn find_leftovers(&self, records: &Records) -> Result<Vec<Leftover>, Failure> {
        let mut found = self.find_ref_locks()?;
        found.extend(self.find_scratch());
        let unfinished = self.ledger().backend().find_unfinished_packs();
        found.extend(unfinished.unwrap_or_default().into_iter().map(Leftover::Scratch));
        found.extend(worktree_staging::find(self.repository()).map(Leftover::Scratch));
        found.extend(self.find_files_of_sessions()?.into_iter().map(Leftover::LiveFile));
        found.extend(self.find_cut_off_sessions()?.into_iter().map(Leftover::Session));
        found.extend(self.find_branches(records));
        Ok(found)
    }

    fn find_ref_locks(&self) -> Result<Vec<Leftover>, Failure> {
        let stale = self.ledger().backend().find_stale_locks();
        let stale = stale.map_err(|error| Failure::fatal("locks_unreadable", chain_of(&error)))?;
        Ok(stale.into_iter().map(|lock| Leftover::RefLock(lock.lock)).collect())
    }

    fn find_scratch(&self) -> Vec<Leftover> {
        let mut files = Vec::new();
        list_files(&self.repository().tether_dir(), DEEPEST, &mut files);
        files.retain(|path| self.is_scratch_of_the_dead(path));
        files.into_iter().map(Leftover::Scratch).collect()
    }

    fn is_scratch_of_the_dead(&self, path: &Path) -> bool {
        scratch_maker(path).is_some_and(|pid| self.has_no_process(pid))
    }

    fn has_no_process(&self, pid: u32) -> bool {
        let processes = self.processes();
        match processes.fingerprint(pid) {
            Ok(seen) => matches!(processes.observe(&seen), Observed::Zombie | Observed::Gone),
            Err(error) => matches!(error, FingerprintError::NoSuchProcess { .. }),
        }
    }

    /// Files of sessions that are not recorded (any more), and the locks that ended ones have left; nobody holds any of them.
    fn find_files_of_sessions(&self) -> Result<Vec<PathBuf>, Failure> {
        let directory = self.repository().tether_dir();
        let mut files = Vec::new();
        for name in OF_SESSIONS {
            list_files(&directory.join(name), 0, &mut files);
        }
        if files.is_empty() {
            return Ok(files);
        }
        let prefix = RefPrefix::sessions();
        let listed = self.ledger().backend().list_refs(&prefix);
        let listed = listed.map_err(|error| Failure::fatal("unreadable_refs", chain_of(&error)))?;
        let recorded: BTreeSet<&str> =
            listed.iter().filter_map(|(name, _)| name.as_str().strip_prefix(prefix.as_str())).collect();
        files.retain(|path| session_of(path).is_some_and(|id| self.is_left_over(path, &id, &recorded)));
        Ok(files)
    }

    fn is_left_over(&self, path: &Path, id: &SessionId, recorded: &BTreeSet<&str>) -> bool {
        let is_heartbeat = path.parent().is_some_and(|parent| parent.ends_with("heartbeat"));
        if recorded.contains(id.as_str()) {
            // The last heartbeat of an ended session is shown for as long as the session is. One that cannot be read may live.
            let session = self.ledger().read_single::<Session>(id);
            let has_ended = matches!(session, Ok(Some(session)) if session.status.is_terminal());
            if is_heartbeat || !has_ended {
                return false;
            }
        }
        matches!(self.signs_of_life().probe(id.as_str()), Ok(LockState::Free | LockState::NoFile))
    }

    /// Branches that were made for a worktree which never came: they stand where they began, and nobody has or needs them.
    fn find_branches(&self, records: &Records) -> Vec<Leftover> {
        let here = self.host_id();
        let candidates: Vec<(&str, &str)> = records
            .runs
            .values()
            .flat_map(|view| view.environments.values().map(move |environment| (view, environment)))
            .filter(|(view, environment)| environment.host == here && never_came(view, environment))
            .filter_map(|(_, environment)| branch_made_for(environment))
            .collect();
        let mut found = Vec::new();
        for (branch, base) in candidates {
            let needed =
                records.runs.values().flat_map(|view| view.environments.values().map(move |known| (view, known)));
            let is_needed = needed
                .filter(|(view, known)| !known.state.is_gone() && !never_came(view, known))
                .any(|(_, known)| branch_of(known) == Some(branch));
            let leftover = Leftover::Branch { name: branch.to_owned(), tip: base.to_owned() };
            if !is_needed && !found.contains(&leftover) && self.branch_can_go(branch, base) {
                found.push(leftover);
            }
        }
        found
    }

    /// Whether a branch stands at `tip`, in no worktree, and `tip` is reachable without it.
    fn branch_can_go(&self, branch: &str, tip: &str) -> bool {
        let full = full_name(branch);
        let git = self.repository().git();
        let stands = git.run(["rev-parse", "--verify", "--quiet", "--end-of-options", &full]);
        if !stands.is_ok_and(|found| found.text() == tip) {
            return false;
        }
        let Ok(list) = worktrees::read_worktrees(self.repository()) else { return false };
        if list.find_holder_of(&full).is_some() {
            return false;
        }
        let contains = format!("--contains={tip}");
        let elsewhere = git.run([
            "for-each-ref",
            "--count=2",
            "--format=%(refname)",
            &contains,
            "--",
            "refs/heads/",
            "refs/tags/",
            "refs/remotes/",
        ]);
        elsewhere.is_ok_and(|found| found.text().lines().any(|name| name != full))
    }

    /// Removes a leftover, after looking again that it is one.
    pub fn clear_leftover(&self, leftover: &Leftover) -> Result<PlaceOutcome, Failure> {
        match leftover {
            Leftover::RefLock(path) => self.clear_ref_lock(path),
            Leftover::Scratch(path) => self.clear_scratch(path),
            Leftover::LiveFile(path) => {
                let still = self.find_files_of_sessions()?.contains(path);
                let id = session_of(path).filter(|_| still);
                match id {
                    Some(id) if path.parent().is_some_and(|parent| parent.ends_with("live")) => {
                        let cleared = self.signs_of_life().clear_lock(id.as_str());
                        cleared.map_err(|error| Failure::fatal("not_cleared", chain_of(&error)))?;
                        Ok(removed(path))
                    }
                    Some(_) => remove(path),
                    None => Ok(PlaceOutcome::Skipped(format!("{} is in use, or gone", path.display()))),
                }
            }
            Leftover::Session(session) => self.clear_cut_off_session(session),
            Leftover::Branch { name, tip } => self.clear_branch(name, tip),
        }
    }

    fn clear_ref_lock(&self, path: &Path) -> Result<PlaceOutcome, Failure> {
        let backend = self.ledger().backend();
        let failed = |error: &dyn std::error::Error| Failure::fatal("not_cleared", chain_of(error));
        let stale = backend.find_stale_locks().map_err(|error| failed(&error))?;
        let Some(lock) = stale.iter().find(|lock| lock.lock == path) else {
            return Ok(PlaceOutcome::Skipped(format!("{} is not a stale lock any more", path.display())));
        };
        match backend.clear_stale_lock(lock).map_err(|error| failed(&error))? {
            ClearedLock::Removed => Ok(removed(path)),
            ClearedLock::Gone => Ok(PlaceOutcome::Skipped(format!("{} is gone", path.display()))),
        }
    }

    fn clear_scratch(&self, path: &Path) -> Result<PlaceOutcome, Failure> {
        if worktree_staging::find(self.repository()).as_deref() == Some(path) {
            let cleared = worktree_staging::clear(self.repository());
            cleared.map_err(|error| Failure::fatal("not_cleared", chain_of(&error)))?;
            return Ok(removed(path));
        }
        let unfinished = self.ledger().backend().find_unfinished_packs().unwrap_or_default();
        if unfinished.iter().any(|pack| pack == path) || self.is_scratch_of_the_dead(path) {
            return remove(path);
        }
        Ok(PlaceOutcome::Skipped(format!("{} is in use, or gone", path.display())))
    }

    fn clear_branch(&self, name: &str, tip: &str) -> Result<PlaceOutcome, Failure> {
        if !self.branch_can_go(name, tip) {
            return Ok(PlaceOutcome::Skipped(format!("branch {name} has moved, or is in use")));
        }
        self.repository().git().run(["update-ref", "-d", &full_name(name), tip])?;
        Ok(PlaceOutcome::Done(format!("branch {name} was deleted; it stood at {tip}, where it began")))
    }
}

fn full_name(branch: &str) -> String {
    if branch.starts_with("refs/") { branch.to_owned() } else { format!("refs/heads/{branch}") }
}

fn removed(path: &Path) -> PlaceOutcome {
    PlaceOutcome::Done(format!("removed {}", path.display()))
}

fn remove(path: &Path) -> Result<PlaceOutcome, Failure> {
    match std::fs::remove_file(path) {
        Ok(()) => Ok(removed(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            Ok(PlaceOutcome::Skipped(format!("{} is gone", path.display())))
        }
        Err(error) => Err(Failure::fatal("not_cleared", format!("could not remove {}: {error}", path.display()))),
    }
}

/// The plain files in a directory and, as deep as asked, in those below it; links are not followed.
fn list_files(directory: &Path, deeper: usize, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let Ok(kind) = entry.file_type() else { continue };
        let name = entry.file_name();
        if kind.is_file() {
            files.push(entry.path());
        } else if kind.is_dir() && deeper > 0 && !NOT_SEARCHED.iter().any(|other| name == *other) {
            list_files(&entry.path(), deeper - 1, files);
        }
    }
}

/// The process that made a scratch file of ours: `.<name>.tmp-<pid>`. No id begins with a dot.
fn scratch_maker(path: &Path) -> Option<u32> {
    let name = path.file_name()?.to_str()?.strip_prefix('.')?;
    name.rsplit_once(".tmp-")?.1.parse().ok()
}

fn session_of(path: &Path) -> Option<SessionId> {
    SessionId::new(path.file_name()?.to_str()?).ok()
}

/// Whether an environment was given up before its worktree was there, and no open task waits for it.
fn never_came(view: &RunView, environment: &Environment) -> bool {
    let given_up = environment.state.is_unfinished();
    let open = |task: &crate::domain::task::Task| !task.state.is_terminal();
    let waits = view.tasks.values().any(|task| open(task) && task.environment.as_ref() == Some(&environment.id));
    given_up && !waits && environment.last_verified_at.is_none()
}

fn branch_of(environment: &Environment) -> Option<&str> {
    environment.spec.git_worktree.as_ref()?.branch.as_deref()
}

/// The branch that was made for an environment, and where it began.
fn branch_made_for(environment: &Environment) -> Option<(&str, &str)> {
    let spec = environment.spec.git_worktree.as_ref().filter(|spec| spec.branch_created)?;
    Some((spec.branch.as_deref()?, spec.base_commit.as_ref()?.0.as_str()))
}
