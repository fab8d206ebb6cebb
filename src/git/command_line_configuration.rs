//! The settings of `git -c key=value`, which git hands to the programs that it starts in `GIT_CONFIG_PARAMETERS`.
//!
//! Owns: that variable's two forms. Must not know: what any key means.
//! Invariant: text that git would refuse is refused, never half read.

/// One setting; without a value it stands for true.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct CommandLineSetting {
    pub(super) key: Vec<u8>,
    pub(super) value: Option<Vec<u8>>,
}

/// The variable does not have the form that git gives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ConfigurationParametersError {
    /// A quote is missing.
    #[error("GIT_CONFIG_PARAMETERS is not quoted as git does, at byte {at}")]
    BadQuoting {
        /// Where, counted from 0.
        at: usize,
    },
}

/// Reads `'key'='value' 'key2'= 'old.key=old value'`, quoted as sh does it.
pub(super) fn parse(text: &[u8]) -> Result<Vec<CommandLineSetting>, ConfigurationParametersError> {
    let mut settings = Vec::new();
    let mut at = 0;
    loop {
        while text.get(at).is_some_and(u8::is_ascii_whitespace) {
            at += 1;
        }
        if at == text.len() {
            return Ok(settings);
        }
        let word = read_quoted(text, &mut at)?;
        match text.get(at) {
            Some(b'=') => {
                at += 1;
                let value = match text.get(at) {
                    Some(b'\'') => Some(read_quoted(text, &mut at)?),
                    _ => None,
                };
                settings.push(CommandLineSetting { key: word, value });
            }
            _ => settings.push(split_old_form(&word)),
        }
        if !text.get(at).is_none_or(u8::is_ascii_whitespace) {
            return Err(ConfigurationParametersError::BadQuoting { at });
        }
    }
}

fn split_old_form(word: &[u8]) -> CommandLineSetting {
    match word.iter().position(|byte| *byte == b'=') {
        Some(equals) => CommandLineSetting { key: word[..equals].to_vec(), value: Some(word[equals + 1..].to_vec()) },
        None => CommandLineSetting { key: word.to_vec(), value: None },
    }
}

fn read_quoted(text: &[u8], at: &mut usize) -> Result<Vec<u8>, ConfigurationParametersError> {
    let bad = |at: usize| ConfigurationParametersError::BadQuoting { at };
    if text.get(*at) != Some(&b'\'') {
        return Err(bad(*at));
    }
    *at += 1;
    let mut word = Vec::new();
    loop {
        match text.get(*at) {
            None => return Err(bad(*at)),
            Some(b'\'') => {
                *at += 1;
                // git leaves the quotes for these two only, each behind a backslash, and opens them again.
                match text.get(*at..*at + 3) {
                    Some([b'\\', escaped @ (b'\'' | b'!'), b'\'']) => {
                        word.push(*escaped);
                        *at += 3;
                    }
                    _ => return Ok(word),
                }
            }
            Some(byte) => {
                word.push(*byte);
                *at += 1;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may panic, and asks git itself")]

    use super::*;

    fn read(text: &str) -> Vec<(String, Option<String>)> {
        let text_of = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        let settings = parse(text.as_bytes()).unwrap();
        settings.into_iter().map(|setting| (text_of(setting.key), setting.value.map(text_of))).collect()
    }

    fn pair(key: &str, value: Option<&str>) -> (String, Option<String>) {
        (key.to_owned(), value.map(str::to_owned))
    }

    #[test]
    fn both_forms_are_read() {
        let text = r"'tether.maxdepth'='5' 'a.b=c d' 'on.off'= 'old.flag' 'q.r'='it'\''s'\!'' ";
        let expected = [
            pair("tether.maxdepth", Some("5")),
            pair("a.b", Some("c d")),
            pair("on.off", None),
            pair("old.flag", None),
            pair("q.r", Some("it's!")),
        ];
        assert_eq!(read(text), expected);
        assert_eq!(read(""), []);
    }

    #[test]
    fn what_git_itself_writes_is_read() {
        let output = std::process::Command::new("git")
            .args([
                "-c",
                "tether.hostId=it's me!",
                "-c",
                "url.a=b.insteadOf=c",
                "-c",
                "alias.show-parameters=!printf %s \"$GIT_CONFIG_PARAMETERS\"",
            ])
            .arg("show-parameters")
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let settings = parse(&output.stdout).unwrap();
        let found = settings.iter().find(|setting| setting.key.eq_ignore_ascii_case(b"tether.hostid")).unwrap();
        assert_eq!(found.value.as_deref(), Some(&b"it's me!"[..]));
    }

    #[test]
    fn broken_quotes_are_refused() {
        for text in ["tether.a=1", "'a", "'a'x", "'a'='b", "'a'='b'x"] {
            assert!(parse(text.as_bytes()).is_err(), "{text}");
        }
    }
}
