//! The `tether.*` settings: what there is, where a value comes from, what it may be.
//!
//! Owns: the list of keys with their defaults, and the precedence: a flag, `GIT_TETHER_*`, `git -c`, configuration files.
//! Must not know: what a setting is good for.
//! Invariant: a value that cannot be understood is an error that names key, value and what is allowed; it never counts as the
//! default. What is executed (`tether.setup`, `tether.recoveryHook`) comes from configuration only, which is trusted because a
//! repository that is not ours is never opened.

use std::marker::PhantomData;
use std::time::Duration;

use gix::bstr::ByteSlice;

use super::open::{Repository, Surroundings};

/// One setting: its key below `tether.`, its type and its default.
#[derive(Debug)]
pub struct Setting<T> {
    description: Description,
    value: PhantomData<fn() -> T>,
}

/// What the documentation says about a setting.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Description {
    /// The key without `tether.`, as people write it.
    pub name: &'static str,
    /// The default as people write it; several values of a list stand on lines of their own. `None`: nothing.
    pub default: Option<&'static str>,
    /// What it sets, in a few words.
    pub meaning: &'static str,
    /// Whose values count.
    pub accepted_from: AcceptedFrom,
}

/// Whose values of a setting count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AcceptedFrom {
    /// Variables and any configuration.
    Anywhere,
    /// Configuration only (command line, repository, user, system), because the value is executed.
    Configuration,
}

const fn setting<T>(name: &'static str, default: Option<&'static str>, meaning: &'static str) -> Setting<T> {
    let description = Description { name, default, meaning, accepted_from: AcceptedFrom::Anywhere };
    Setting { description, value: PhantomData }
}

const fn executed<T>(name: &'static str, meaning: &'static str) -> Setting<T> {
    let description = Description { name, default: None, meaning, accepted_from: AcceptedFrom::Configuration };
    Setting { description, value: PhantomData }
}

/// How deep runs may be nested.
pub const MAX_DEPTH: Setting<u64> = setting("maxDepth", Some("3"), "how deep child runs may be nested");
/// The name of this machine in records.
pub const HOST_ID: Setting<Option<String>> =
    setting("hostId", None, "the name of this machine in records, instead of one made from its id");
/// Replay safety of checkpoints that do not name one.
pub const REPLAY_SAFETY: Setting<String> =
    setting("replaySafety", Some("operator_gated"), "the replay safety of checkpoints that do not name one");
/// How long ended sessions stay listed.
pub const SESSION_TTL: Setting<Duration> = setting("sessionTtl", Some("7d"), "how long ended sessions stay listed");
/// Where worktrees are made.
pub const WORKTREE_ROOT: Setting<Option<String>> = setting(
    "worktreeRoot",
    None,
    "where worktrees are made (else `../<repository>.worktrees`, or `tether/worktrees` in a bare repository)",
);
/// The remote of `sync`.
pub const REMOTE: Setting<Option<String>> = setting("remote", None, "the remote that runs are synchronised with");
/// Below which refs a remote keeps what we push.
pub const REMOTE_PREFIX: Setting<String> = setting(
    "remotePrefix",
    Some("refs/tether/"),
    "below which refs a remote keeps runs and sessions; refs/heads/tether/ for servers that take branches only",
);
/// A command to run in new worktrees.
pub const SETUP: Setting<Option<String>> =
    executed("setup", "a command that is run in a new or recreated worktree before anything else");
/// A program that is told of each recovery.
pub const RECOVERY_HOOK: Setting<Option<String>> =
    executed("recoveryHook", "a program that gets each environment recovery as a JSON line on its standard input");
/// The first pause before a resume is tried again.
pub const RESUME_PAUSE: Setting<Duration> =
    setting("resumePause", Some("0.5s"), "the first pause before a resume is tried again; each one is longer");
/// Ignored files that are saved all the same.
pub const SNAPSHOT_INCLUDE: Setting<Vec<String>> =
    setting("snapshot.include", None, "patterns of ignored files that are saved all the same");
/// Files that are never saved.
pub const SNAPSHOT_EXCLUDE: Setting<Vec<String>> = setting(
    "snapshot.exclude",
    Some(
        ".env\n.env.*\n*.pem\n*.key\n*.p12\n*.pfx\n*.keystore\n*.jks\nid_rsa\nid_dsa\nid_ecdsa\nid_ed25519\n*_sk\n.netrc\n.pgpass\n.htpasswd",
    ),
    "patterns of untracked files that are never saved",
);
/// How long a lease holds.
pub const LEASE: Setting<Duration> = setting("lease", Some("10m"), "how long a lease holds without a heartbeat");

/// How long ended runs keep a ref of their own.
pub const RETENTION: Setting<Duration> =
    setting("retention", Some("90d"), "how long after its end `gc` moves a run into the archive");

/// All settings, for the documentation.
pub const KNOWN: &[Description] = &[
    MAX_DEPTH.description,
    HOST_ID.description,
    REPLAY_SAFETY.description,
    SESSION_TTL.description,
    WORKTREE_ROOT.description,
    REMOTE.description,
    REMOTE_PREFIX.description,
    SETUP.description,
    RECOVERY_HOOK.description,
    RESUME_PAUSE.description,
    SNAPSHOT_INCLUDE.description,
    SNAPSHOT_EXCLUDE.description,
    LEASE.description,
    RETENTION.description,
];

impl Description {
    /// The variable that overrides the key: `snapshot.include` is `GIT_TETHER_SNAPSHOT_INCLUDE`. A list has one value a line.
    pub fn variable(&self) -> String {
        let mut variable = "GIT_TETHER_".to_owned();
        for letter in self.name.chars() {
            if letter.is_ascii_uppercase() {
                variable.push('_');
            }
            variable.push(if letter == '.' { '_' } else { letter.to_ascii_uppercase() });
        }
        variable
    }
}

/// A value that a setting cannot have.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("bad value '{value}' for {origin}: it must be {allowed}")]
pub struct SettingError {
    /// Where it stands: `tether.maxDepth`, `GIT_TETHER_MAX_DEPTH`, or the flag.
    pub origin: String,
    /// The value as written.
    pub value: String,
    /// What it may be.
    pub allowed: &'static str,
}

/// A type that a setting can have.
pub trait Value: Sized {
    /// What is allowed, to go on with "it must be ...".
    const ALLOWED: &'static str;
    /// Reads all values that are set, last one strongest; `None` if they cannot be understood.
    fn read(values: &[String]) -> Option<Self>;
}

impl Value for String {
    const ALLOWED: &'static str = "given";
    fn read(values: &[String]) -> Option<Self> {
        values.last().cloned()
    }
}

impl Value for Option<String> {
    const ALLOWED: &'static str = "text";
    fn read(values: &[String]) -> Option<Self> {
        // An empty value takes back what a weaker file sets.
        Some(values.last().filter(|value| !value.is_empty()).cloned())
    }
}

impl Value for Vec<String> {
    const ALLOWED: &'static str = "a list";
    fn read(values: &[String]) -> Option<Self> {
        // An empty value empties the list, as git does for its own multi-valued keys.
        let start = values.iter().rposition(String::is_empty).map_or(0, |at| at + 1);
        Some(values[start..].to_vec())
    }
}

impl Value for u64 {
    const ALLOWED: &'static str = "a whole number from 0, with k, m or g behind it for 1024, 1024² or 1024³";
    fn read(values: &[String]) -> Option<Self> {
        let text = values.last()?.trim().to_ascii_lowercase();
        let (digits, factor) = match text.strip_suffix(['k', 'm', 'g']) {
            Some(digits) if text.ends_with('k') => (digits, 1 << 10),
            Some(digits) if text.ends_with('m') => (digits, 1 << 20),
            Some(digits) => (digits, 1 << 30),
            None => (text.as_str(), 1),
        };
        digits.parse::<u64>().ok()?.checked_mul(factor)
    }
}

impl Value for bool {
    const ALLOWED: &'static str = "true, yes, on, 1, false, no, off or 0";
    fn read(values: &[String]) -> Option<Self> {
        match values.last()?.trim().to_ascii_lowercase().as_str() {
            "true" | "yes" | "on" | "1" => Some(true),
            "false" | "no" | "off" | "0" | "" => Some(false),
            _ => None,
        }
    }
}

impl Value for Duration {
    const ALLOWED: &'static str = "a number and s, m, h, d or w (seconds without one), like 90s or 1.5h";
    fn read(values: &[String]) -> Option<Self> {
        parse_duration(values.last()?)
    }
}

/// Reads a number with `s m h d w` behind it, or of seconds; `None` for anything else and for what no duration can hold.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    let number_ends = text.find(|letter: char| !letter.is_ascii_digit() && letter != '.').unwrap_or(text.len());
    let (number, unit) = text.split_at(number_ends);
    let seconds_each: u64 = match unit.trim() {
        "" | "s" => 1,
        "m" => 60,
        "h" => 60 * 60,
        "d" => 24 * 60 * 60,
        "w" => 7 * 24 * 60 * 60,
        _ => return None,
    };
    let (whole, fraction) = number.split_once('.').unwrap_or((number, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(fraction) {
        return None;
    }
    let nanoseconds: u64 = format!("{fraction:0<9}").get(..9)?.parse().ok()?;
    let whole = whole.parse::<u64>().ok()?.checked_mul(seconds_each)?;
    // A bound far past any use keeps every later sum of a time and a duration in range.
    if whole > 100 * 366 * 24 * 60 * 60 {
        return None;
    }
    Some(Duration::from_secs(whole) + Duration::from_nanos(nanoseconds.checked_mul(seconds_each)?))
}

/// The settings that hold in one repository.
#[derive(Debug)]
pub struct Settings<'a> {
    repository: &'a Repository,
    surroundings: &'a Surroundings,
}

impl Repository {
    /// The settings that hold here.
    pub fn settings(&self) -> Settings<'_> {
        Settings { repository: self, surroundings: self.surroundings() }
    }
}

impl Settings<'_> {
    /// The value of a setting.
    pub fn read<T: Value>(&self, setting: &Setting<T>) -> Result<T, SettingError> {
        let description = &setting.description;
        let (origin, values) = self.find_values(description);
        T::read(&values).ok_or_else(|| SettingError {
            origin,
            value: values.last().cloned().unwrap_or_default(),
            allowed: T::ALLOWED,
        })
    }

    /// The value that a flag gave (`flag` is its name, as in `--lease`), else that of the setting.
    pub fn read_over<T: Value>(
        &self,
        setting: &Setting<T>,
        flag: &str,
        given: Option<&str>,
    ) -> Result<T, SettingError> {
        let Some(given) = given else { return self.read(setting) };
        T::read(&[given.to_owned()]).ok_or_else(|| SettingError {
            origin: flag.to_owned(),
            value: given.to_owned(),
            allowed: T::ALLOWED,
        })
    }

    fn find_values(&self, description: &Description) -> (String, Vec<String>) {
        let from_anywhere = description.accepted_from == AcceptedFrom::Anywhere;
        let variable = description.variable();
        if from_anywhere && let Some(value) = self.surroundings.variable(&variable) {
            return (variable, value.to_string_lossy().lines().map(str::to_owned).collect());
        }
        let key = format!("tether.{}", description.name);
        let config = self.repository.gix().config_snapshot();
        let values = config.plumbing().strings(key.as_str());
        match values {
            Some(values) => (key, values.iter().map(|value| value.to_str_lossy().into_owned()).collect()),
            None => (key, description.default.into_iter().flat_map(str::lines).map(str::to_owned).collect()),
        }
    }
}

#[cfg(test)]
#[path = "settings_tests.rs"]
mod tests;
