//! Which machine this is.
//!
//! Owns: the host id and the boot id. Must not know: sessions, or what follows from another machine.
//! Invariant: two ids that were made here (not set by somebody) and stand beside the same boot id are one machine: the boot id is
//! the same in all containers of a host, while their names differ.

use std::fmt::Write as _;

use crate::git::settings::{HOST_ID, SettingError, Settings};

/// What the ids that are made here begin with.
const DERIVED_PREFIX: &str = "m-";

/// This machine, as records name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its id.
    pub id: String,
    /// The id of its current boot; `None` where the system does not tell.
    pub boot: Option<String>,
}

impl Host {
    /// This machine; `tether.hostId` names it, else a hash of the machine's id and name does.
    pub fn read(settings: &Settings<'_>) -> Result<Self, SettingError> {
        let id = settings.read(&HOST_ID)?.unwrap_or_else(derive_id);
        Ok(Self { id, boot: read_trimmed("/proc/sys/kernel/random/boot_id") })
    }

    /// Whether a recorded host id and boot id are this machine's.
    pub fn is_same_machine(&self, id: &str, boot: Option<&str>) -> bool {
        let both_derived = self.id.starts_with(DERIVED_PREFIX) && id.starts_with(DERIVED_PREFIX);
        self.id == id || (both_derived && boot.is_some() && self.boot.as_deref() == boot)
    }
}

fn derive_id() -> String {
    let machine = read_trimmed("/etc/machine-id").or_else(|| read_trimmed("/var/lib/dbus/machine-id"));
    let system = rustix::system::uname();
    derive_id_from(machine.as_deref().unwrap_or_default(), &system.nodename().to_string_lossy())
}

fn derive_id_from(machine: &str, name: &str) -> String {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha256);
    // The machine's id is meant to stay private: only a hash of it leaves the machine.
    hasher.update(format!("git-tether host\n{machine}\n{name}\n").as_bytes());
    let mut id = DERIVED_PREFIX.to_owned();
    if let Ok(hash) = hasher.try_finalize() {
        for byte in &hash.as_slice()[..6] {
            let _ = write!(id, "{byte:02x}");
        }
    }
    id
}

fn read_trimmed(path: &str) -> Option<String> {
    let text = std::fs::read_to_string(path).ok()?;
    Some(text.trim().to_owned()).filter(|text| !text.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(id: &str, boot: &str) -> Host {
        Host { id: id.to_owned(), boot: Some(boot.to_owned()) }
    }

    #[test]
    fn ids_are_stable_short_and_differ_by_machine_and_name() {
        let id = derive_id_from("abc", "box");
        assert_eq!(id, derive_id_from("abc", "box"));
        assert_eq!(id.len(), 14);
        assert_ne!(id, derive_id_from("abd", "box"));
        assert_ne!(id, derive_id_from("abc", "bux"));
    }

    #[test]
    fn one_boot_is_one_machine_unless_somebody_named_it() {
        assert!(host("m-1", "b").is_same_machine("m-1", None));
        assert!(host("m-1", "b").is_same_machine("m-2", Some("b")));
        assert!(!host("m-1", "b").is_same_machine("m-2", Some("c")));
        assert!(!host("m-1", "b").is_same_machine("m-2", None));
        assert!(!host("runner", "b").is_same_machine("m-2", Some("b")));
        assert!(!host("m-1", "b").is_same_machine("runner", Some("b")));
    }
}
