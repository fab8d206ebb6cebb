//! What waits to be sent, and what both sides had after the last sync: files of this machine, below `<common dir>/tether/`.
//!
//! Must not know how anything is sent. Invariants: a file is replaced as a whole; an unreadable line counts as not there, which
//! costs one more comparison and loses nothing, because the refs are the truth.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::time::Duration;

use gix::ObjectId;

use super::Refused;
use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::time::Timestamp;
use crate::store::names::encode;

const FIRST_PAUSE: Duration = Duration::from_secs(30);
const LONGEST_PAUSE: Duration = Duration::from_hours(1);

/// A ref that could not be sent and waits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Waiting {
    /// The remote that it is for.
    pub remote: String,
    /// The ref.
    pub name: String,
    /// Its tip when it was tried.
    pub tip: Option<ObjectId>,
    /// How often it was tried.
    pub attempts: u32,
    /// Not before this moment, unless somebody asks for it.
    pub not_before: Timestamp,
    /// Why it waits.
    pub reason: String,
}

fn one_line(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

impl Waiting {
    fn line(&self) -> String {
        let tip = self.tip.map_or_else(|| "-".to_owned(), |tip| tip.to_string());
        format!("{tip}\t{}\t{}\t{}\t{}\n", self.name, self.attempts, self.not_before, one_line(&self.reason))
    }

    fn read(remote: &str, line: &str) -> Option<Self> {
        let mut fields = line.splitn(5, '\t');
        let tip = ObjectId::from_hex(fields.next()?.as_bytes()).ok();
        Some(Self {
            remote: remote.to_owned(),
            tip,
            name: fields.next()?.to_owned(),
            attempts: fields.next()?.parse().ok()?,
            not_before: fields.next()?.parse().ok()?,
            reason: fields.next()?.to_owned(),
        })
    }
}

impl Tether {
    fn outbox_file(&self, remote: &str) -> PathBuf {
        self.repository().tether_dir().join("outbox").join(encode(remote.as_bytes()))
    }

    fn settled_file(&self, remote: &str) -> PathBuf {
        self.repository().tether_dir().join("sync").join(encode(remote.as_bytes()))
    }

    /// What waits to be sent to a remote.
    pub fn read_outbox(&self, remote: &str) -> Vec<Waiting> {
        let text = std::fs::read_to_string(self.outbox_file(remote)).unwrap_or_default();
        text.lines().filter_map(|line| Waiting::read(remote, line)).collect()
    }

    /// Replaces what waits for a remote by what was refused just now; each try makes the pause longer.
    pub(super) fn rewrite_outbox(
        &self,
        remote: &str,
        refused: &[(Refused, Option<ObjectId>)],
    ) -> Result<Vec<Waiting>, Failure> {
        let before = self.read_outbox(remote);
        let path = self.outbox_file(remote);
        if refused.is_empty() {
            if path.exists() {
                self.write_local(&path, b"")?;
            }
            return Ok(Vec::new());
        }
        let tried = |name: &str| before.iter().find(|known| known.name == name).map_or(0, |known| known.attempts);
        let mut waiting: Vec<Waiting> = Vec::new();
        for (refused, tip) in refused {
            let attempts = tried(&refused.name).saturating_add(1);
            let pause = FIRST_PAUSE.saturating_mul(1 << (attempts - 1).min(16)).min(LONGEST_PAUSE);
            let not_before = self.now().plus(pause);
            let (name, reason) = (refused.name.clone(), one_line(&refused.reason));
            waiting.push(Waiting { remote: remote.to_owned(), name, tip: *tip, attempts, not_before, reason });
        }
        let text: String = waiting.iter().map(Waiting::line).collect();
        self.write_local(&path, text.as_bytes())?;
        Ok(waiting)
    }

    pub(super) fn read_settled(&self, remote: &str) -> BTreeMap<String, ObjectId> {
        let text = std::fs::read_to_string(self.settled_file(remote)).unwrap_or_default();
        let line = |line: &str| {
            let (tip, key) = line.split_once('\t')?;
            Some((key.to_owned(), ObjectId::from_hex(tip.as_bytes()).ok()?))
        };
        text.lines().filter_map(line).collect()
    }

    pub(super) fn write_settled(&self, remote: &str, settled: &BTreeMap<String, ObjectId>) -> Result<(), Failure> {
        if *settled == self.read_settled(remote) {
            return Ok(());
        }
        let mut text = String::new();
        for (key, tip) in settled {
            let _ = writeln!(text, "{tip}\t{key}");
        }
        self.write_local(&self.settled_file(remote), text.as_bytes())
    }
}
