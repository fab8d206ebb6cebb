//! Which ignored files are saved all the same, and which untracked files never are.
//!
//! Owns: the default excludes and how patterns match. Must not know: git's own ignore rules. Invariant: as in `.gitignore`, the last
//! pattern that matches decides.

use gix::bstr::{BStr, ByteSlice};
use gix::glob::{Pattern, pattern::Case, wildmatch};

/// What is never saved while it is untracked, unless the user says otherwise: the usual homes of secrets.
pub const DEFAULT_EXCLUDES: &[&str] = &[
    ".env",
    ".env.*",
    "*.pem",
    "*.key",
    "*.p12",
    "*.pfx",
    "*.keystore",
    "*.jks",
    "id_rsa",
    "id_dsa",
    "id_ecdsa",
    "id_ed25519",
    "*_sk",
    ".netrc",
    ".pgpass",
    ".htpasswd",
];

/// A list of patterns.
#[derive(Debug, Default)]
pub(super) struct Patterns(Vec<Pattern>);

impl Patterns {
    /// The patterns in `texts`; empty ones match nothing.
    pub(super) fn new(texts: &[String]) -> Self {
        Self(texts.iter().filter_map(|text| Pattern::from_bytes(text.as_bytes())).collect())
    }

    /// Whether there is no pattern at all.
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether the patterns name the file `path` itself.
    pub(super) fn name_file(&self, path: &BStr) -> bool {
        self.name(path, false)
    }

    /// Whether the patterns name the directory `path` (without a slash at its end) itself.
    pub(super) fn name_directory(&self, path: &BStr) -> bool {
        self.name(path, true)
    }

    fn name(&self, path: &BStr, is_directory: bool) -> bool {
        let basename = path.rfind_byte(b'/').map(|at| at + 1);
        let mode = wildmatch::Mode::NO_MATCH_SLASH_LITERAL;
        let matching = self.0.iter().rev().find(|pattern| {
            pattern.matches_repo_relative_path(path, basename, Some(is_directory), Case::Sensitive, mode)
        });
        matching.is_some_and(|pattern| !pattern.is_negative())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults() -> Patterns {
        Patterns::new(&DEFAULT_EXCLUDES.iter().map(|&text| text.to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn secrets_are_named_at_any_depth() {
        for path in [".env", "a/.env", "a/b/.env.local", "server.pem", "x/tls.key", "id_ed25519", "k/id_ed25519_sk"] {
            assert!(defaults().name_file(path.into()), "{path}");
        }
        for path in ["env", ".environment", "pem", "a.pem.txt", "id_rsa.pub", "sky"] {
            assert!(!defaults().name_file(path.into()), "{path}");
        }
    }

    #[test]
    fn the_last_match_decides_and_directories_need_a_directory() {
        let patterns = Patterns::new(&["*.log".to_owned(), "!keep.log".to_owned(), "out/".to_owned()]);
        assert!(patterns.name_file("a/x.log".into()));
        assert!(!patterns.name_file("a/keep.log".into()));
        assert!(patterns.name_directory("a/out".into()));
        assert!(!patterns.name_file("a/out".into()));
    }
}
