//! The permissions that `core.sharedRepository` asks for.
//!
//! Owns: the setting's values and what they make of a mode. Must not know: which files get it.
//! Invariant: the same modes that git would give, so that another user of a shared repository can read and replace what we wrote.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Who may use the repository's files, as `core.sharedRepository` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sharing {
    /// Whoever the umask allows.
    Umask,
    /// These bits are added to what the umask allows (`group`, `all`).
    Added(u32),
    /// Exactly these bits (an octal number).
    Exactly(u32),
}

impl Sharing {
    /// Reads the setting; what git does not know either is taken as `umask`.
    pub fn from_setting(value: &str) -> Self {
        match value.to_ascii_lowercase().as_str() {
            "group" | "true" | "yes" | "on" | "1" => Self::Added(0o660),
            "all" | "world" | "everybody" | "2" => Self::Added(0o664),
            octal => match u32::from_str_radix(octal, 8) {
                Ok(mode) if mode & 0o600 == 0o600 => Self::Exactly(mode & 0o666),
                _ => Self::Umask,
            },
        }
    }

    fn adjusted(self, mode: u32) -> u32 {
        let (Self::Added(bits) | Self::Exactly(bits)) = self else { return mode };
        let mut bits = bits;
        if mode & 0o200 == 0 {
            bits &= !0o222;
        }
        if mode & 0o100 != 0 {
            bits |= (bits & 0o444) >> 2;
        }
        match self {
            Self::Exactly(_) => (mode & !0o777) | bits,
            _ => mode | bits,
        }
    }

    /// Gives a new file the right mode.
    pub fn adjust_file(self, file: &File) -> io::Result<()> {
        if self == Self::Umask {
            return Ok(());
        }
        let mode = file.metadata()?.permissions().mode();
        file.set_permissions(Permissions::from_mode(self.adjusted(mode)))
    }

    /// Makes a directory and its parents, each new one with the right mode (and its group handed down).
    pub fn create_directories(self, directory: &Path) -> io::Result<()> {
        if directory.is_dir() {
            return Ok(());
        }
        if let Some(parent) = directory.parent() {
            self.create_directories(parent)?;
        }
        match fs::create_dir(directory) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => return Ok(()),
            other => other?,
        }
        if self == Self::Umask {
            return Ok(());
        }
        let mode = fs::metadata(directory)?.permissions().mode();
        fs::set_permissions(directory, Permissions::from_mode(self.adjusted(mode) | 0o2000))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test stops where it fails")]
mod tests {
    use super::*;

    #[test]
    fn modes_are_those_of_git() {
        assert_eq!(Sharing::from_setting("group").adjusted(0o444), 0o444);
        assert_eq!(Sharing::from_setting("group").adjusted(0o400), 0o440);
        assert_eq!(Sharing::from_setting("all").adjusted(0o600), 0o664);
        assert_eq!(Sharing::from_setting("0660").adjusted(0o644), 0o660);
        assert_eq!(Sharing::from_setting("0640").adjusted(0o755), 0o750);
        assert_eq!(Sharing::from_setting("umask"), Sharing::Umask);
        assert_eq!(Sharing::from_setting("0"), Sharing::Umask);
    }
}
