//! The grammar of the namespace: which refs exist, and how arbitrary text becomes one component of a ref name.
//!
//! Owns: `RefName`, `RefPrefix`, the encoding of text. Must not know: what a ref's commits hold, or where refs are stored.
//! Invariant: a `RefName` is valid for git, lies below one of our three roots, and two different texts never become the same name, not even
//! on a file system that folds case.

use std::fmt;

use gix::bstr::ByteSlice;

/// Where everything lives that travels.
const ROOT: &str = "refs/tether/";
/// Where saved work lives, apart so that no wildcard over [`ROOT`] carries contents away.
const LOCAL_ROOT: &str = "refs/tether-local/";
/// Where what was fetched waits to be merged.
const REMOTE_ROOT: &str = "refs/tether-remote/";

/// Longest encoded component that is kept as it is; longer text keeps its head and gets a hash.
const LONGEST_COMPONENT: usize = 150;
/// `%h` and the 64 digits of a SHA-256 that stand for the tail of long text.
const HASH_SUFFIX: usize = 2 + 64;

/// The full name of a ref that belongs to us.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefName(String);

/// A directory of refs that belongs to us; ends in a slash.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RefPrefix(String);

/// Why text is no name of a ref of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NameError {
    /// The id breaks the rules of ids.
    #[error("`{}` is no valid {what} id: 1 to 64 of a-z 0-9 . _ -, first a letter or digit, no `..`, not ending in `.lock` or `.`", id.escape_debug())]
    Id {
        /// Which id was expected.
        what: &'static str,
        /// What was given.
        id: String,
    },
    /// Git would not accept the name.
    #[error("`{}` is no valid ref name", name.escape_debug())]
    Ref {
        /// What was given.
        name: String,
    },
    /// The name is valid, but the ref is not ours.
    #[error("`{}` does not lie below refs/tether/, refs/tether-local/ or refs/tether-remote/", name.escape_debug())]
    Foreign {
        /// What was given.
        name: String,
    },
}

impl RefName {
    /// The chain of a run.
    pub fn run(run: &str) -> Result<Self, NameError> {
        Ok(Self(format!("{ROOT}runs/{}", valid_id("run", run)?)))
    }

    /// The chain of a session.
    pub fn session(session: &str) -> Result<Self, NameError> {
        Ok(Self(format!("{ROOT}sessions/{}", valid_id("session", session)?)))
    }

    /// The exclusive claim on a thing of `kind` (an id: `thread`, `place`, `task`) named by any text or bytes.
    pub fn claim(kind: &str, key: impl AsRef<[u8]>) -> Result<Self, NameError> {
        Ok(Self(format!("{ROOT}claims/{}/{}", valid_id("claim kind", kind)?, encode(key.as_ref()))))
    }

    /// The chain of a pool; its name may be any text.
    pub fn pool(pool: impl AsRef<[u8]>) -> Self {
        Self(format!("{ROOT}pools/{}", encode(pool.as_ref())))
    }

    /// The chain with one commit for each recovery that changed something.
    pub fn journal() -> Self {
        Self(format!("{ROOT}journal"))
    }

    /// The chain of runs that are past retention.
    pub fn archive() -> Self {
        Self(format!("{ROOT}archive"))
    }

    /// The keeper chain of a run's saved work.
    pub fn work(run: &str) -> Result<Self, NameError> {
        Ok(Self(format!("{LOCAL_ROOT}work/{}", valid_id("run", run)?)))
    }

    /// Where `self` is kept for people to look at, after a repair took `id` out of it.
    pub fn evidence(&self, id: &gix::oid) -> Result<Self, NameError> {
        let rest = self.0.strip_prefix("refs/").unwrap_or(&self.0);
        Self::parse(&format!("{LOCAL_ROOT}evidence/{rest}/{}", id.to_hex()))
    }

    /// Where `self`, which must travel, waits after it was fetched from `remote` (any text).
    pub fn fetched_from(&self, remote: impl AsRef<[u8]>) -> Result<Self, NameError> {
        match self.0.strip_prefix(ROOT) {
            Some(rest) => Ok(Self(format!("{REMOTE_ROOT}{}/{rest}", encode(remote.as_ref())))),
            None => Err(NameError::Foreign { name: self.0.clone() }),
        }
    }

    /// A name that was read somewhere.
    pub fn parse(name: &str) -> Result<Self, NameError> {
        if gix::validate::reference::name(name.as_bytes().as_bstr()).is_err() {
            return Err(NameError::Ref { name: name.to_owned() });
        }
        if [ROOT, LOCAL_ROOT, REMOTE_ROOT].iter().any(|root| name.starts_with(root)) {
            Ok(Self(name.to_owned()))
        } else {
            Err(NameError::Foreign { name: name.to_owned() })
        }
    }

    /// The full name, as git writes it.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The last component, decoded: the run of a run's ref, the key of a claim. `None` if only a hash of it is kept.
    pub fn leaf(&self) -> Option<Vec<u8>> {
        self.0.rsplit('/').next().and_then(decode)
    }
}

impl fmt::Display for RefName {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.0)
    }
}

impl RefPrefix {
    /// Every run.
    pub fn runs() -> Self {
        Self(format!("{ROOT}runs/"))
    }

    /// Every session.
    pub fn sessions() -> Self {
        Self(format!("{ROOT}sessions/"))
    }

    /// Every claim of every kind.
    pub fn claims() -> Self {
        Self(format!("{ROOT}claims/"))
    }

    /// Every claim of one kind.
    pub fn claims_of(kind: &str) -> Result<Self, NameError> {
        Ok(Self(format!("{ROOT}claims/{}/", valid_id("claim kind", kind)?)))
    }

    /// Every pool.
    pub fn pools() -> Self {
        Self(format!("{ROOT}pools/"))
    }

    /// The saved work of every run.
    pub fn work() -> Self {
        Self(format!("{LOCAL_ROOT}work/"))
    }

    /// What was fetched from one remote.
    pub fn fetched_from(remote: impl AsRef<[u8]>) -> Self {
        Self(format!("{REMOTE_ROOT}{}/", encode(remote.as_ref())))
    }

    /// What was fetched from any remote.
    pub fn fetched() -> Self {
        Self(REMOTE_ROOT.to_owned())
    }

    /// Everything that travels.
    pub fn travelling() -> Self {
        Self(ROOT.to_owned())
    }

    /// Everything that stays here.
    pub fn local() -> Self {
        Self(LOCAL_ROOT.to_owned())
    }

    /// The three roots: together, every ref of ours.
    pub fn roots() -> [Self; 3] {
        [Self::travelling(), Self::local(), Self::fetched()]
    }

    /// The prefix, with its slash at the end.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// Whether text is an id as the user may give it, which is a ref component as it stands.
pub fn is_valid_id(id: &str) -> bool {
    let bytes = id.as_bytes();
    let starts_well = bytes.first().is_some_and(|first| first.is_ascii_lowercase() || first.is_ascii_digit());
    starts_well
        && bytes.len() <= 64
        && bytes.iter().all(|byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'.' | b'_' | b'-'))
        && !id.contains("..")
        && !id.ends_with('.')
        && !bytes.ends_with(b".lock")
}

fn valid_id<'a>(what: &'static str, id: &'a str) -> Result<&'a str, NameError> {
    if is_valid_id(id) { Ok(id) } else { Err(NameError::Id { what, id: id.to_owned() }) }
}

/// Any bytes as one component of a ref name; a valid id stays as it is.
pub fn encode(text: &[u8]) -> String {
    if text.is_empty() {
        return "%".to_owned();
    }
    let mut encoded = String::with_capacity(text.len());
    let mut boundary = 0;
    for (at, &byte) in text.iter().enumerate() {
        if encoded.len() <= LONGEST_COMPONENT - HASH_SUFFIX {
            boundary = encoded.len();
        }
        if stands_for_itself(text, at) {
            encoded.push(char::from(byte));
        } else {
            encoded.push('%');
            encoded.push(char::from(HEX[usize::from(byte >> 4)]));
            encoded.push(char::from(HEX[usize::from(byte & 15)]));
        }
        if encoded.len() > LONGEST_COMPONENT {
            encoded.truncate(boundary);
            // `h` is no hexadecimal digit: no short text encodes to this.
            encoded.push_str("%h");
            encoded.push_str(&sha256_hex(text));
            return encoded;
        }
    }
    encoded
}

const HEX: &[u8; 16] = b"0123456789abcdef";

fn stands_for_itself(text: &[u8], at: usize) -> bool {
    match text[at] {
        b'a'..=b'z' | b'0'..=b'9' | b'_' => true,
        b'-' => at != 0,
        b'.' => at != 0 && at + 1 != text.len() && text[at - 1] != b'.' && &text[at..] != b".lock",
        _ => false,
    }
}

fn sha256_hex(text: &[u8]) -> String {
    let mut hasher = gix::hash::hasher(gix::hash::Kind::Sha256);
    hasher.update(text);
    // Only SHA-1 can refuse to finish (on a collision attack).
    hasher.try_finalize().map(|id| id.to_hex().to_string()).unwrap_or_default()
}

/// The bytes that [`encode`] made a component of; `None` if it was not made by it or holds a hash only.
pub fn decode(component: &str) -> Option<Vec<u8>> {
    if component == "%" {
        return Some(Vec::new());
    }
    let mut decoded = Vec::with_capacity(component.len());
    let mut bytes = component.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            decoded.push(hex_value(bytes.next()?)? << 4 | hex_value(bytes.next()?)?);
        } else {
            decoded.push(byte);
        }
    }
    // Only the one spelling that `encode` writes is taken, so that no text has two names.
    (encode(&decoded) == component).then_some(decoded)
}

fn hex_value(digit: u8) -> Option<u8> {
    HEX.iter().position(|&known| known == digit).and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test stops where it fails, and asks git itself")]
mod tests {
    use std::process::Command;

    use proptest::prelude::*;

    use super::*;

    fn git_accepts(name: &str) -> bool {
        Command::new("git").args(["check-ref-format", name]).status().unwrap().success()
    }

    #[test]
    fn awkward_texts_become_valid_and_different_names() {
        let long = "x".repeat(151);
        let longer = format!("{}y", "x".repeat(150));
        let texts: &[&[u8]] = &[
            b"",
            b"%",
            b".",
            b"..",
            b"a..b",
            b"a.lock",
            b".lock",
            b"a.LOCK",
            b"A",
            b"a",
            b"feat/x",
            b"feat",
            b"feat%2fx",
            b"@",
            b"@{",
            b"a@{b",
            b"-",
            b"-a",
            b"a b",
            b"a\nb",
            b"\0",
            b"\xff\xfe",
            b"a:b",
            b"a~1",
            b"a^",
            b"a\\b",
            b"a*",
            b"[",
            b"a.",
            b"a/",
            b"/a",
            "é".as_bytes(),
            "É".as_bytes(),
            long.as_bytes(),
            longer.as_bytes(),
            b"a.lock.lock",
            b"lock",
            b"x.locks",
        ];
        let mut seen = std::collections::BTreeMap::new();
        for text in texts {
            let name = RefName::claim("thread", text).unwrap();
            assert!(git_accepts(name.as_str()), "{name}");
            assert_eq!(name.as_str(), name.as_str().to_lowercase(), "a folding file system sees the same");
            assert_eq!(name.as_str().split('/').count(), 5, "{name}");
            assert_eq!(seen.insert(name.clone(), *text), None, "{name}");
            match name.leaf() {
                Some(decoded) => assert_eq!(&decoded, text),
                None => assert!(text.len() > 150 / 3, "{name}"),
            }
        }
    }

    #[test]
    fn only_ids_become_runs() {
        for id in ["a", "0", "r-1.2_x", &"a".repeat(64)] {
            assert_eq!(RefName::run(id).unwrap().as_str(), format!("refs/tether/runs/{id}"));
            assert_eq!(encode(id.as_bytes()), id, "an id stands for itself");
        }
        for id in ["", ".a", "-a", "_a", "A", "a..b", "a.lock", "a.", "a/b", "a b", "é", &"a".repeat(65)] {
            assert!(RefName::run(id).is_err(), "{id}");
        }
    }

    #[test]
    fn foreign_and_broken_names_are_refused() {
        for name in ["refs/heads/main", "refs/tether", "HEAD", "refs/tethered/x"] {
            assert!(matches!(RefName::parse(name), Err(NameError::Foreign { .. } | NameError::Ref { .. })), "{name}");
        }
        for name in [
            "refs/tether/a..b",
            "refs/tether/",
            "refs/tether/a.lock",
            "refs/tether/a b",
            "refs/tether//a",
            "refs/tether/../heads/x",
        ] {
            assert!(matches!(RefName::parse(name), Err(NameError::Ref { .. })), "{name}");
        }
        assert_eq!(
            RefName::run("a").unwrap().fetched_from("origin").unwrap().as_str(),
            "refs/tether-remote/origin/runs/a"
        );
        assert!(RefName::work("a").unwrap().fetched_from("origin").is_err(), "saved work does not travel");
    }

    proptest! {
        #[test]
        fn any_bytes_come_back(text in proptest::collection::vec(any::<u8>(), 0..60)) {
            let name = encode(&text);
            if let Some(decoded) = decode(&name) {
                prop_assert_eq!(decoded, text);
            } else {
                prop_assert!(name.len() <= LONGEST_COMPONENT && name.contains("%h"));
            }
        }

        #[test]
        fn any_component_is_decoded_to_what_encodes_to_it(component in "[a-z%0-9._-]{0,20}") {
            if let Some(decoded) = decode(&component) {
                prop_assert_eq!(encode(&decoded), component);
            }
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(200))]
        #[test]
        fn git_accepts_every_name(text in proptest::collection::vec(prop_oneof![any::<u8>(), Just(b'.'), Just(b'/'), Just(b'@'), Just(b'{')], 0..200)) {
            let name = RefName::pool(&text);
            prop_assert!(git_accepts(name.as_str()), "{}", name);
            prop_assert!(RefName::parse(name.as_str()).is_ok());
            prop_assert!(!name.as_str().to_lowercase().ends_with(".lock"));
        }
    }
}
