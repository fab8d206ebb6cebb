//! Moments and durations as records and people write them.
//!
//! Must not know what time it is: a moment is always handed in.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, SubsecRound, Utc};

/// A moment in UTC, to the microsecond; written as RFC 3339.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(DateTime<Utc>);

impl Timestamp {
    /// The moment, cut to the microseconds that records hold.
    pub fn new(moment: DateTime<Utc>) -> Self {
        Self(moment.trunc_subsecs(6))
    }

    /// Seconds since 1970 in UTC, for a commit.
    pub fn seconds(self) -> i64 {
        self.0.timestamp()
    }

    /// Microseconds since 1970 in UTC.
    pub fn microseconds(self) -> i64 {
        self.0.timestamp_micros()
    }

    /// The moment that many seconds after 1970; `None` outside of what a calendar holds.
    pub fn from_seconds(seconds: i64) -> Option<Self> {
        DateTime::from_timestamp(seconds, 0).map(Self)
    }

    /// This moment and `duration` later; the end of the calendar if it is further.
    #[must_use]
    pub fn plus(self, duration: Duration) -> Self {
        let later = chrono::Duration::from_std(duration).ok().and_then(|delta| self.0.checked_add_signed(delta));
        Self(later.unwrap_or(DateTime::<Utc>::MAX_UTC))
    }

    /// How long after `earlier` this is; zero if it is not.
    pub fn since(self, earlier: Self) -> Duration {
        self.0.signed_duration_since(earlier.0).to_std().unwrap_or_default()
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0.to_rfc3339_opts(SecondsFormat::AutoSi, true))
    }
}

/// A text that is no RFC 3339 moment.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an RFC 3339 time (2026-11-21T09:30:00Z, say)")]
pub struct InvalidTime(pub String);

impl FromStr for Timestamp {
    type Err = InvalidTime;
    fn from_str(text: &str) -> Result<Self, InvalidTime> {
        DateTime::parse_from_rfc3339(text)
            .map(|moment| Self::new(moment.with_timezone(&Utc)))
            .map_err(|_| InvalidTime(text.to_owned()))
    }
}

/// A text that is no duration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a duration: a number and one of s, m, h, d, w (30s, 10m, 2h)")]
pub struct InvalidDuration(pub String);

/// Reads a duration that a person typed: a number and `s m h d w`; a bare number is seconds.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let refused = || InvalidDuration(text.to_owned());
    let text_trimmed = text.trim();
    let (number, unit) = match text_trimmed.char_indices().next_back() {
        Some((at, unit)) if unit.is_ascii_alphabetic() => (&text_trimmed[..at], unit),
        _ => (text_trimmed, 's'),
    };
    let factor = match unit {
        's' => 1.0,
        'm' => 60.0,
        'h' => 3_600.0,
        'd' => 86_400.0,
        'w' => 604_800.0,
        _ => return Err(refused()),
    };
    if !number.starts_with(|first: char| first.is_ascii_digit()) {
        return Err(refused());
    }
    let number: f64 = number.parse().map_err(|_| refused())?;
    Duration::try_from_secs_f64(number * factor).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_a_number_and_a_unit() {
        for (text, seconds) in [
            ("30s", 30.0),
            ("10m", 600.0),
            ("2h", 7_200.0),
            ("7d", 604_800.0),
            ("1w", 604_800.0),
            ("0.5s", 0.5),
            ("9", 9.0),
        ] {
            assert_eq!(parse_duration(text).map(|duration| duration.as_secs_f64()), Ok(seconds), "{text}");
        }
        for text in ["", "s", "-1s", "1y", "1 fortnight", "nan", "infs", "1e400d", "٣s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn moments_round_trip() {
        let moment: Timestamp = "2026-11-21T09:30:00.123456Z".parse().expect("a time");
        assert_eq!(moment.to_string().parse(), Ok(moment));
        assert_eq!("2026-11-21T10:30:00.123456+01:00".parse(), Ok(moment));
    }
}
