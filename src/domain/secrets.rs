//! What looks like a secret in bytes that are about to leave.
//!
//! Must not know where they come from. A look at known forms: what passes is not proven to be harmless.

/// Beginnings of well-known credentials: the prefix, how many of the following must belong to it, and what it is.
const TOKENS: &[(&str, usize, &str)] = &[
    ("AKIA", 16, "an AWS access key"),
    ("ASIA", 16, "an AWS access key"),
    ("ghp_", 30, "a GitHub token"),
    ("gho_", 30, "a GitHub token"),
    ("ghu_", 30, "a GitHub token"),
    ("ghs_", 30, "a GitHub token"),
    ("ghr_", 30, "a GitHub token"),
    ("github_pat_", 30, "a GitHub token"),
    ("glpat-", 16, "a GitLab token"),
    ("xoxb-", 16, "a Slack token"),
    ("xoxp-", 16, "a Slack token"),
    ("xoxa-", 16, "a Slack token"),
    ("sk-ant-", 20, "an API key"),
    ("sk-proj-", 20, "an API key"),
    ("sk_live_", 16, "a Stripe key"),
    ("rk_live_", 16, "a Stripe key"),
    ("AIza", 35, "a Google API key"),
    ("npm_", 36, "an npm token"),
    ("pypi-AgEI", 30, "a PyPI token"),
    ("hf_", 34, "a Hugging Face token"),
];

/// What the bytes hold that looks like a secret, if anything.
pub fn find(bytes: &[u8]) -> Option<&'static str> {
    if has_private_key(bytes) {
        return Some("a private key");
    }
    let found = TOKENS.iter().find(|(prefix, more, _)| has_token(bytes, prefix.as_bytes(), *more));
    found.map(|(_, _, what)| *what)
}

fn positions<'b>(bytes: &'b [u8], word: &'b [u8]) -> impl Iterator<Item = usize> + 'b {
    let first = word.first().copied().unwrap_or_default();
    bytes
        .iter()
        .enumerate()
        .filter(move |(at, byte)| **byte == first && bytes[*at..].starts_with(word))
        .map(|(at, _)| at)
}

fn has_private_key(bytes: &[u8]) -> bool {
    positions(bytes, b"-----BEGIN ").any(|at| {
        let line = bytes[at..].split(|byte| *byte == b'\n').next().unwrap_or_default();
        line.windows(11).any(|window| window == b"PRIVATE KEY")
    })
}

fn has_token(bytes: &[u8], prefix: &[u8], more: usize) -> bool {
    let belongs = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    positions(bytes, prefix).any(|at| {
        let stands_alone = at == 0 || !bytes[at - 1].is_ascii_alphanumeric();
        stands_alone && bytes[at + prefix.len()..].iter().take(more).filter(|byte| belongs(byte)).count() == more
    })
}

/// Whether a file's name fits a pattern of `*`, `?` and letters.
pub fn matches_name(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) = (pattern.chars().collect(), name.chars().collect());
    // The furthest that each prefix of the pattern reaches, one row at a time.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    for letter in pattern {
        let mut next = vec![false; name.len() + 1];
        next[0] = letter == '*' && reached[0];
        for (at, found) in name.iter().enumerate() {
            next[at + 1] = match letter {
                '*' => next[at] || reached[at + 1],
                '?' => reached[at],
                letter => reached[at] && letter == *found,
            };
        }
        reached = next;
    }
    reached[name.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_forms_are_found_and_plain_text_is_not() {
        let key = format!("x\n-----BEGIN {} PRIVATE KEY-----\nabc", "OPENSSH");
        assert_eq!(find(key.as_bytes()), Some("a private key"));
        let token = format!("token = \"{}{}\"", "ghp_", "a1".repeat(18));
        assert_eq!(find(token.as_bytes()), Some("a GitHub token"));
        assert_eq!(find(format!("{}{}", "AKIA", "ABCDEFGHIJKLMNOP").as_bytes()), Some("an AWS access key"));
        for plain in ["", "sk-", "ghp_short", "the -----BEGIN CERTIFICATE-----", "XAKIAABCDEFGHIJKLMNOP"] {
            assert_eq!(find(plain.as_bytes()), None, "{plain}");
        }
    }

    #[test]
    fn names_fit_patterns() {
        for (pattern, name) in
            [(".env", ".env"), (".env.*", ".env.local"), ("*.pem", "a.b.pem"), ("id_?sa", "id_rsa"), ("*", "")]
        {
            assert!(matches_name(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in [(".env", "x.env"), ("*.pem", "pem"), ("*_sk", "task"), ("a", "")] {
            assert!(!matches_name(pattern, name), "{pattern} {name}");
        }
    }
}
