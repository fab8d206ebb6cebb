//! Enums whose values have one written name each, the name that records and the command line use.
//!
//! Owns the macro that ties a value to its name. Invariant: a name is written once, here at the enum, and read back by the same table.

/// A text that is none of the names an enum knows.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{found}` is not a {what}; it is one of {allowed}")]
pub struct UnknownName {
    /// What the names stand for, in words.
    pub what: &'static str,
    /// What was given.
    pub found: String,
    /// The names that are known, joined by commas.
    pub allowed: String,
}

/// A closed set of values that have written names.
pub trait Named: Sized + Copy + 'static {
    /// What the values stand for, in words (`task state`).
    const WHAT: &'static str;
    /// Every value, in the order of the specification.
    const ALL: &'static [Self];
    /// The written name.
    fn name(self) -> &'static str;
    /// The value that has this name.
    fn from_name(name: &str) -> Result<Self, UnknownName> {
        Self::ALL.iter().copied().find(|value| value.name() == name).ok_or_else(|| UnknownName {
            what: Self::WHAT,
            found: name.to_owned(),
            allowed: Self::ALL.iter().map(|value| value.name()).collect::<Vec<_>>().join(", "),
        })
    }
}

macro_rules! named {
    ($(#[$meta:meta])* $name:ident, $what:literal { $($(#[$doc:meta])* $variant:ident = $text:literal),+ $(,)? }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum $name { $($(#[$doc])* $variant),+ }

        impl $crate::domain::names::Named for $name {
            const WHAT: &'static str = $what;
            const ALL: &'static [Self] = &[$(Self::$variant),+];
            fn name(self) -> &'static str {
                match self { $(Self::$variant => $text),+ }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.pad($crate::domain::names::Named::name(*self))
            }
        }

        impl std::str::FromStr for $name {
            type Err = $crate::domain::names::UnknownName;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                $crate::domain::names::Named::from_name(text)
            }
        }
    };
}
pub(crate) use named;
