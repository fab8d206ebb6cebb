//! What only this machine knows, kept below `<common dir>/tether/` and never in a ref: the commands that it recorded itself, and
//! the process of a session's command, the snapshots that it made itself.
//!
//! Invariant: a file is replaced as a whole or not at all.

use std::io::{ErrorKind, Write};
use std::path::PathBuf;

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::ids::{Oid, RunId, SessionId, TaskId};
use crate::domain::session::ProcessFingerprint;
use crate::git::shared_files;

/// Why a file of ours beside the refs could not be used.
pub(super) fn failed(what: &str, path: &std::path::Path, error: &std::io::Error) -> Failure {
    let message = format!("could not {what} {}: {error}", path.display());
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Failure::storage_full(message),
        ErrorKind::ReadOnlyFilesystem | ErrorKind::PermissionDenied => Failure::read_only(message),
        _ => Failure::fatal("local_file", message),
    }
}

impl Tether {
    fn trusted_command_file(&self, run: &RunId, task: &TaskId) -> PathBuf {
        self.repository().tether_dir().join("commands").join(run.as_str()).join(task.as_str())
    }

    fn command_process_file(&self, session: &SessionId) -> PathBuf {
        self.repository().tether_dir().join("processes").join(session.as_str())
    }

    /// Writes down that this machine itself recorded exactly this argument vector for a task.
    pub fn trust_command(&self, run: &RunId, task: &TaskId, command: &[String]) -> Result<(), Failure> {
        self.write_local(&self.trusted_command_file(run, task), command.join("\0").as_bytes())
    }

    /// Whether this machine itself recorded exactly this argument vector for the task.
    pub fn trusts_command(&self, run: &RunId, task: &TaskId, command: &[String]) -> bool {
        std::fs::read(self.trusted_command_file(run, task))
            .is_ok_and(|trusted| trusted == command.join("\0").as_bytes())
    }

    /// Writes down which process is a session's command.
    pub fn note_command_process(&self, session: &SessionId, process: &ProcessFingerprint) -> Result<(), Failure> {
        let text = format!(
            "{}\n{}\n{}\n{}\n{}\n",
            process.host,
            process.boot.as_deref().unwrap_or_default(),
            process.pid_namespace.map(|number| number.to_string()).unwrap_or_default(),
            process.pid.map(|number| number.to_string()).unwrap_or_default(),
            process.start_time.map(|number| number.to_string()).unwrap_or_default(),
        );
        self.write_local(&self.command_process_file(session), text.as_bytes())
    }

    /// The process of a session's command, if this machine wrote it down.
    pub fn command_process(&self, session: &SessionId) -> Option<ProcessFingerprint> {
        let text = std::fs::read_to_string(self.command_process_file(session)).ok()?;
        let mut lines = text.lines();
        Some(ProcessFingerprint {
            host: crate::domain::ids::HostId(lines.next()?.to_owned()),
            boot: lines.next().map(ToOwned::to_owned).filter(|boot| !boot.is_empty()),
            pid_namespace: lines.next().and_then(|number| number.parse().ok()),
            pid: lines.next().and_then(|number| number.parse().ok()),
            start_time: lines.next().and_then(|number| number.parse().ok()),
        })
    }

    /// Removes what was written down of a session that has ended.
    pub fn forget_command_process(&self, session: &SessionId) {
        // What stays behind says nothing of a session that has ended.
        let _ = std::fs::remove_file(self.command_process_file(session));
    }

    fn saved_here_file(&self, run: &str) -> PathBuf {
        self.repository().tether_dir().join("saved").join(run)
    }

    /// Writes down that this machine itself made a snapshot. A line that a power cut takes only means that content filters are not
    /// run when it is restored.
    pub(super) fn note_saved_here(&self, run: &str, snapshot: &Oid) -> Result<(), Failure> {
        let path = self.saved_here_file(run);
        let parent = path.parent().unwrap_or(&path);
        shared_files::create_directories(parent).map_err(|error| failed("create", parent, &error))?;
        // One short line, appended in one write: two processes never mix theirs.
        let file = std::fs::OpenOptions::new().append(true).create(true).open(&path);
        file.and_then(|mut file| {
            file.write_all(format!("{snapshot}\n").as_bytes())?;
            // Who did not make the file need not, and may not, change its mode.
            let _ = shared_files::hand_on(&file, &path);
            Ok(())
        })
        .map_err(|error| failed("write", &path, &error))
    }

    /// Whether this machine itself made a snapshot.
    pub(super) fn saved_here(&self, run: &str, snapshot: &Oid) -> bool {
        std::fs::read_to_string(self.saved_here_file(run)).is_ok_and(|text| text.lines().any(|line| line == snapshot.0))
    }

    /// Replaces a file as a whole, on disk when it returns.
    #[allow(clippy::unused_self, reason = "only who has the repository open writes beside it")]
    pub(super) fn write_local(&self, path: &std::path::Path, content: &[u8]) -> Result<(), Failure> {
        let parent = path.parent().unwrap_or(path);
        shared_files::create_directories(parent).map_err(|error| failed("create", parent, &error))?;
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        // No id begins with a dot: nobody takes it for a file of that name.
        let scratch = path.with_file_name(format!(".{name}.tmp-{}", std::process::id()));
        let written = std::fs::File::create(&scratch).and_then(|mut file| {
            shared_files::hand_on(&file, &scratch)?;
            file.write_all(content)?;
            file.sync_all()
        });
        written.and_then(|()| std::fs::rename(&scratch, path)).map_err(|error| failed("write", path, &error))
    }
}
