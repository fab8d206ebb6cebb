//! The format of a repository: its version and its extensions.
//!
//! Owns: the list of what this program knows. Must not know: how a repository is found.
//! Invariant: a repository with a version or an extension that is not on the list is refused before anything is written to it.

use std::path::Path;

use gix::bstr::ByteSlice;

use super::open_error::OpenError;

/// Extensions whose meaning this program and its libraries know; the second column says who demands format version 1.
const KNOWN_EXTENSIONS: &[(&str, SinceFormat)] = &[
    ("noop", SinceFormat::Zero),
    ("partialclone", SinceFormat::Zero),
    ("preciousobjects", SinceFormat::Zero),
    ("worktreeconfig", SinceFormat::Zero),
    ("noop-v1", SinceFormat::One),
    ("objectformat", SinceFormat::One),
    ("compatobjectformat", SinceFormat::One),
    ("refstorage", SinceFormat::One),
    ("relativeworktrees", SinceFormat::One),
];

#[derive(Clone, Copy, PartialEq, Eq)]
enum SinceFormat {
    Zero,
    One,
}

/// How a repository keeps its refs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RefStorage {
    /// Loose files and `packed-refs`.
    Files,
    /// Reftable: only the git program may write here.
    Reftable,
}

pub(super) fn is_of_the_repository(section: &gix::config::file::Metadata) -> bool {
    // git reads these keys from the repository's own file, never from a file that it includes.
    section.source == gix::config::Source::Local && section.level == 0
}

pub(super) fn check_format(gix: &gix::Repository, common_dir: &Path) -> Result<RefStorage, OpenError> {
    let config = gix.config_snapshot();
    let config = config.plumbing();
    let version = config
        .string_filter("core.repositoryformatversion", is_of_the_repository)
        .map_or_else(|| "0".to_owned(), |value| value.to_str_lossy().trim().to_owned());
    let format = match version.as_str() {
        "0" => SinceFormat::Zero,
        "1" => SinceFormat::One,
        _ => return Err(OpenError::UnknownFormat { path: common_dir.to_owned(), version }),
    };
    let mut ref_storage = RefStorage::Files;
    for section in config.sections_by_name("extensions").into_iter().flatten() {
        if !is_of_the_repository(section.meta()) {
            continue;
        }
        for name in section.value_names() {
            let name = name.to_ascii_lowercase();
            let value = section.value(&name).map(|value| value.to_str_lossy().to_ascii_lowercase()).unwrap_or_default();
            let known = KNOWN_EXTENSIONS.iter().find(|(known, _)| *known == name).map(|(_, since)| *since);
            let unknown = || OpenError::UnknownExtension {
                path: common_dir.to_owned(),
                name: name.clone(),
                value: value.clone(),
            };
            match (known, format) {
                (Some(SinceFormat::One), SinceFormat::Zero) => {
                    return Err(OpenError::ExtensionNeedsFormatOne { path: common_dir.to_owned(), name });
                }
                (None, SinceFormat::One) => return Err(unknown()),
                _ => {}
            }
            match (name.as_str(), value.as_str()) {
                ("refstorage", "reftable") => ref_storage = RefStorage::Reftable,
                ("refstorage", "files") | ("objectformat", "sha1" | "sha256") => {}
                ("refstorage" | "objectformat", _) => return Err(unknown()),
                _ => {}
            }
        }
    }
    Ok(ref_storage)
}
