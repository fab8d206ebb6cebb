//! The forms of an answer: words for people, JSON for programs.

pub(crate) mod human;
pub(crate) mod json;
pub(crate) mod recovery;
