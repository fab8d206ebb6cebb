//! One file's content as git would store it, read until it holds still.
//!
//! Owns: reading files, the content filters on the way in and the check that they lead back. Must not know: which files, and why.
//! Invariant: what is returned was the file's content at one moment, or is called unsettled; bytes that its filters would not give back
//! are returned beside the filtered content.

use super::layout::{FileModes, StatRules, Symlinks, index_with_rules, is_executable};
use super::place::FileMark;
use super::regular_file::{is_large_binary, open_file};
use super::tree::Leaf;
use super::{NotSavedReason, SaveError};
use crate::world::clock::read_stamping_clock;
use gix::bstr::{BStr, BString};
use gix::filter::plumbing::Pipeline;
use gix::filter::plumbing::pipeline::CrlfRoundTripCheck;
use gix::filter::plumbing::pipeline::convert::{to_worktree, to_worktree::UnknownEncoding};
use gix::index::State;
use gix::index::entry::{Flags, Mode};
use gix::objs::Kind;
use gix::objs::tree::EntryKind;
use rustix::fs::{FileType, Stat};
use std::io::Read;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Files larger than this are hashed and written without holding them in memory, unless a filter applies.
pub(super) const LARGE: u64 = 32 << 20;
/// How often a file is read that changes while it is read.
const ATTEMPTS: u32 = 6;
/// Attributes that make git change content.
const CONVERTING: [&str; 6] = ["crlf", "ident", "filter", "eol", "text", "working-tree-encoding"];

/// A file as it was read.
#[derive(Debug)]
pub(super) struct Reading {
    /// Its content as git stores it.
    pub(super) leaf: Leaf,
    /// The content itself, or where it is.
    pub(super) held: Held,
    /// The exact bytes, where filters would not give them back.
    pub(super) raw: Option<Vec<u8>>,
    /// What the file looked like when it was read.
    pub(super) mark: FileMark,
    /// What the clock that stamps files said before.
    pub(super) seen_at: (i64, i64),
    /// Whether it held still.
    pub(super) rest: Rest,
    /// What the filter said if it failed.
    pub(super) filter_failure: Option<String>,
    /// Why its exact bytes are not saved.
    pub(super) not_exact: Option<NotSavedReason>,
}

/// Where a content is.
#[derive(Debug)]
pub(super) enum Held {
    /// In memory.
    Bytes(Vec<u8>),
    /// Still in the file: too large to hold.
    File,
}

/// Whether a file held still while it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rest {
    /// It did.
    Settled,
    /// It changed each time.
    Unsettled,
}

/// Reads files of one worktree; one for each thread.
pub(super) struct Reader<'a> {
    repository: gix::Repository,
    root: &'a Path,
    index: &'a State,
    rules: StatRules,
    raw_limit: u64,
    filters: Option<Filters>,
}

struct Filters {
    pipeline: Pipeline,
    stack: gix::worktree::Stack,
    outcome: gix::attrs::search::Outcome,
    by_settings: bool,
}

/// What a file is, and one reading of it that may have been torn.
enum Look {
    Missing,
    Content { kind: EntryKind, bytes: Vec<u8>, mark: FileMark, rest: Rest },
    Large { kind: EntryKind, mark: FileMark },
}

impl<'a> Reader<'a> {
    /// A reader of files below `root`, with the filters of `repository` (without one, content stays as it is).
    pub(super) fn new(
        repository: gix::Repository,
        root: &'a Path,
        index: &'a State,
        rules: StatRules,
        raw_limit: u64,
        filtering: Filtering,
    ) -> Result<Self, SaveError> {
        let filters = match filtering {
            Filtering::AsGit => Some(Filters::new(&repository, index)?),
            Filtering::None => None,
        };
        Ok(Self { repository, root, index, rules, raw_limit, filters })
    }

    /// Reads the file at `path`, which the index has as `indexed`; `None` if no file or link is there.
    pub(super) fn read(&mut self, path: &BStr, indexed: Option<Mode>) -> Result<Option<Reading>, SaveError> {
        let seen_at = read_stamping_clock();
        let reading = self.read_now(path, indexed)?;
        Ok(reading.map(|reading| Reading { seen_at, ..reading }))
    }

    /// Whether a file that git calls unchanged has the size of its blob. One that is not there (a partial clone's) can be no other either.
    pub(super) fn is_of_blob_size(&self, entry: &gix::index::Entry) -> bool {
        let blob = self.repository.find_header(entry.id);
        blob.map_or(true, |blob| blob.size() & 0xffff_ffff == u64::from(entry.stat.size))
    }

    /// Reads a file that git calls unchanged, if its bytes must be kept to have it back: if what a checkout makes of the content `stored`
    /// is not what stands there. A `large` file that git-lfs keeps is passed by.
    pub(super) fn read_inexact(
        &mut self,
        path: &BStr,
        mode: Mode,
        stored: gix::ObjectId,
        large: bool,
    ) -> Result<Option<Reading>, SaveError> {
        let Some(filters) = self.filters.as_mut() else { return Ok(None) };
        let converts = filters.convert(path, &self.repository)?;
        if large && filters.driver_is("lfs") {
            return Ok(None);
        }
        let reading = self.read(path, Some(mode))?;
        let Some(mut reading) = reading else { return Ok(None) };
        if reading.leaf.id == stored {
            return Ok(Some(reading).filter(|reading| reading.raw.is_some() || reading.not_exact.is_some()));
        }
        // The rules have changed since it was checked out or added: the content that git holds it for is another.
        if reading.raw.is_none() && reading.not_exact.is_none() {
            let absolute = self.root.join(std::ffi::OsStr::from_bytes(path));
            match self.look(&absolute, Some(mode), converts).map_err(|source| unreadable(&absolute, source))? {
                Look::Content { bytes, .. } if bytes.len() as u64 <= self.raw_limit => reading.raw = Some(bytes),
                Look::Missing => return Ok(None),
                _ => reading.not_exact = Some(NotSavedReason::RawTooLarge),
            }
        }
        Ok(Some(reading))
    }

    fn read_now(&mut self, path: &BStr, indexed: Option<Mode>) -> Result<Option<Reading>, SaveError> {
        let absolute = self.root.join(std::ffi::OsStr::from_bytes(path));
        let converts = match self.filters.as_mut() {
            Some(filters) => {
                let may = filters.convert(path, &self.repository)?;
                may && !(is_guess(&filters.outcome) && is_large_binary(&absolute, LARGE))
            }
            None => false,
        };
        match self.look(&absolute, indexed, converts).map_err(|source| unreadable(&absolute, source))? {
            Look::Missing => Ok(None),
            Look::Content { kind, bytes, mark, rest } if converts && kind != EntryKind::Link => {
                let mut reading = self.filtered(path, kind, bytes, mark)?;
                reading.rest = rest;
                Ok(Some(reading))
            }
            Look::Content { kind, bytes, mark, rest } => {
                let leaf = Leaf { kind, id: self.hash(&bytes)? };
                Ok(Some(Reading { rest, ..Reading::new(leaf, Held::Bytes(bytes), mark) }))
            }
            Look::Large { kind, mark } => {
                let id = self.hash_file(&absolute, mark).map_err(|source| unreadable(&absolute, source))?;
                let rest = if FileMark::at(&absolute) == Some(mark) { Rest::Settled } else { Rest::Unsettled };
                Ok(Some(Reading { rest, ..Reading::new(Leaf { kind, id }, Held::File, mark) }))
            }
        }
    }

    fn look(&self, path: &Path, indexed: Option<Mode>, converts: bool) -> std::io::Result<Look> {
        let mut torn = None;
        for attempt in 0..ATTEMPTS {
            if attempt > 0 {
                std::thread::sleep(Duration::from_millis(1 << attempt));
            }
            let before = match rustix::fs::lstat(path) {
                Ok(stat) => stat,
                Err(rustix::io::Errno::NOENT | rustix::io::Errno::NOTDIR) => return Ok(Look::Missing),
                Err(source) => return Err(source.into()),
            };
            let (kind, mark) = (self.kind(&before, indexed), FileMark::of(&before));
            let Some(kind) = kind else { return Ok(Look::Missing) };
            if mark.size() > LARGE && !converts && kind != EntryKind::Link {
                return Ok(Look::Large { kind, mark });
            }
            let bytes = match read_once(path, &before) {
                Ok(bytes) => bytes,
                // It became something else meanwhile: look again.
                Err(error) if may_have_moved(&error) => continue,
                Err(error) => return Err(error),
            };
            if FileMark::at(path) == Some(mark) {
                return Ok(Look::Content { kind, bytes, mark, rest: Rest::Settled });
            }
            torn = Some(Look::Content { kind, bytes, mark, rest: Rest::Unsettled });
        }
        Ok(torn.unwrap_or(Look::Missing))
    }

    fn kind(&self, stat: &Stat, indexed: Option<Mode>) -> Option<EntryKind> {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => Some(EntryKind::Link),
            FileType::RegularFile if indexed == Some(Mode::SYMLINK) && self.rules.symlinks == Symlinks::AsFiles => {
                Some(EntryKind::Link)
            }
            FileType::RegularFile => {
                let executable = match self.rules.file_mode {
                    FileModes::Trusted => is_executable(stat),
                    FileModes::FromIndex => indexed == Some(Mode::FILE_EXECUTABLE),
                };
                Some(if executable { EntryKind::BlobExecutable } else { EntryKind::Blob })
            }
            _ => None,
        }
    }

    fn hash(&self, bytes: &[u8]) -> Result<gix::ObjectId, SaveError> {
        gix::objs::compute_hash(self.repository.object_hash(), Kind::Blob, bytes)
            .map_err(|source| SaveError::Make { what: "an object id", source: source.into() })
    }

    fn hash_file(&self, path: &Path, mark: FileMark) -> std::io::Result<gix::ObjectId> {
        let mut file = open_file(path)?.take(mark.size());
        let (hash, size) = (self.repository.object_hash(), mark.size());
        let never = std::sync::atomic::AtomicBool::new(false);
        let mut silent = gix::progress::Discard;
        gix::objs::compute_stream_hash(hash, Kind::Blob, &mut file, size, &mut silent, &never)
            .map_err(|error| std::io::Error::other(error.to_string()))
    }

    fn filtered(&mut self, path: &BStr, kind: EntryKind, bytes: Vec<u8>, mark: FileMark) -> Result<Reading, SaveError> {
        let Some(filters) = self.filters.as_mut() else {
            let leaf = Leaf { kind, id: self.hash(&bytes)? };
            return Ok(Reading::new(leaf, Held::Bytes(bytes), mark));
        };
        let cleaned = match filters.clean(path, &bytes, self.index, &self.repository) {
            Ok(cleaned) => cleaned,
            Err(said) => {
                let leaf = Leaf { kind, id: self.hash(&bytes)? };
                let reading = Reading::new(leaf, Held::Bytes(bytes.clone()), mark);
                return Ok(Reading { raw: Some(bytes), filter_failure: Some(said), ..reading });
            }
        };
        let leads_back = filters.smudge_gives(path, &cleaned, &bytes, &self.repository);
        let leaf = Leaf { kind, id: self.hash(&cleaned)? };
        let reading = Reading::new(leaf, Held::Bytes(cleaned), mark);
        if leads_back {
            return Ok(reading);
        }
        if bytes.len() as u64 > self.raw_limit {
            return Ok(Reading { not_exact: Some(NotSavedReason::RawTooLarge), ..reading });
        }
        Ok(Reading { raw: Some(bytes), ..reading })
    }
}

/// Whether content goes through git's filters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Filtering {
    /// As for `git add`.
    AsGit,
    /// Not at all.
    None,
}

impl Reading {
    /// Whether the content is that of `entry`, but git calls it modified: it looks at the size first, at what the filters make of it not.
    #[allow(clippy::cast_possible_truncation, reason = "the index keeps the low 32 bits")]
    pub(super) fn differs_by_size_alone(&self, entry: &gix::index::Entry) -> bool {
        let looked_at = !entry.flags.intersects(Flags::ASSUME_VALID | Flags::SKIP_WORKTREE | Flags::INTENT_TO_ADD);
        let same = super::staged::index_line(entry).leaf == self.leaf && entry.stage_raw() == 0;
        looked_at && same && entry.stat.size != 0 && entry.stat.size != self.mark.size() as u32
    }

    fn new(leaf: Leaf, held: Held, mark: FileMark) -> Self {
        Self {
            leaf,
            held,
            raw: None,
            mark,
            seen_at: read_stamping_clock(),
            rest: Rest::Settled,
            filter_failure: None,
            not_exact: None,
        }
    }
}

impl Filters {
    fn new(repository: &gix::Repository, index: &State) -> Result<Self, SaveError> {
        let failed =
            |source: gix::Error| SaveError::Rules { path: BString::from(".gitattributes"), source: source.into() };
        let source = gix::worktree::stack::state::attributes::Source::WorktreeThenIdMapping;
        let none = State::new(repository.object_hash());
        let index = index_with_rules(index, b".gitattributes").unwrap_or(&none);
        let stack = repository.attributes_only(index, source).map_err(failed)?.detach();
        let (outcome, by_settings) = (converting_attributes(&stack), converts_by_settings(repository));
        Ok(Self { pipeline: pipeline(repository).map_err(failed)?, stack, outcome, by_settings })
    }

    /// Whether any conversion may apply to `path`.
    fn convert(&mut self, path: &BStr, repository: &gix::Repository) -> Result<bool, SaveError> {
        let platform = self
            .stack
            .at_entry(path, None, &repository.objects)
            .map_err(|source| SaveError::Rules { path: path.to_owned(), source: source.into() })?;
        platform.matching_attributes(&mut self.outcome);
        Ok(self.by_settings || any_set(&self.outcome))
    }

    /// Whether the path that was last asked for has the content filter `name`.
    fn driver_is(&self, name: &str) -> bool {
        self.outcome.iter_selected().any(|found| {
            let value = found.assignment.state.as_bstr();
            found.assignment.name.as_str() == "filter" && value.is_some_and(|value| value == name)
        })
    }

    fn clean(
        &mut self,
        path: &BStr,
        bytes: &[u8],
        index: &State,
        repository: &gix::Repository,
    ) -> Result<Vec<u8>, String> {
        let platform = self.stack.at_entry(path, None, &repository.objects).map_err(|error| error.to_string())?;
        let relative = PathBuf::from(std::ffi::OsStr::from_bytes(path));
        let mut in_index = |buffer: &mut Vec<u8>| -> gix::Result<Option<()>> {
            let Some(entry) = index.entry_by_path(path) else { return Ok(None) };
            let Some(object) = repository.try_find_object(entry.id)? else { return Ok(None) };
            buffer.clear();
            buffer.extend_from_slice(&object.data);
            Ok(Some(()))
        };
        let mut attributes = |_: &BStr, outcome: &mut gix::attrs::search::Outcome| {
            platform.matching_attributes(outcome);
        };
        let mut outcome = self
            .pipeline
            .convert_to_git(bytes, &relative, &mut attributes, &mut in_index)
            .map_err(|error| error.to_string())?;
        let mut cleaned = Vec::with_capacity(bytes.len());
        outcome.read_to_end(&mut cleaned).map_err(|error| error.to_string())?;
        Ok(cleaned)
    }

    fn smudge_gives(&mut self, path: &BStr, stored: &[u8], expected: &[u8], repository: &gix::Repository) -> bool {
        let smudged = smudge(&mut self.pipeline, &mut self.stack, path, stored, repository);
        smudged.is_ok_and(|bytes| bytes == expected)
    }
}

/// The content of the blob `stored` as a checkout would write it to `path`.
pub(super) fn smudge(
    pipeline: &mut Pipeline,
    stack: &mut gix::worktree::Stack,
    path: &BStr,
    stored: &[u8],
    repository: &gix::Repository,
) -> Result<Vec<u8>, String> {
    let platform = stack.at_entry(path, None, &repository.objects).map_err(|error| error.to_string())?;
    let mut attributes = |_: &BStr, outcome: &mut gix::attrs::search::Outcome| {
        platform.matching_attributes(outcome);
    };
    let options = to_worktree::Options {
        can_delay: gix::filter::plumbing::driver::apply::Delay::Forbid,
        unknown_encoding: UnknownEncoding::Ignore,
    };
    let mut outcome =
        pipeline.convert_to_worktree(stored, path, &mut attributes, options).map_err(|error| error.to_string())?;
    let mut bytes = Vec::with_capacity(stored.len());
    outcome.read_to_end(&mut bytes).map_err(|error| error.to_string())?;
    Ok(bytes)
}

/// The repository's filters; a content that would not survive is no error, since that is checked for each file anyway.
pub(super) fn pipeline(repository: &gix::Repository) -> gix::Result<Pipeline> {
    let mut options = gix::filter::Pipeline::options(repository)?;
    options.crlf_roundtrip_check = CrlfRoundTripCheck::Skip;
    options.encodings_with_roundtrip_check.clear();
    Ok(Pipeline::new(repository.command_context()?, repository.object_hash(), options))
}

/// Where the attributes that make git change content are collected.
pub(super) fn converting_attributes(stack: &gix::worktree::Stack) -> gix::attrs::search::Outcome {
    stack.selected_attribute_matches(CONVERTING)
}

/// Whether one of the attributes is set to anything.
pub(super) fn any_set(outcome: &gix::attrs::search::Outcome) -> bool {
    outcome.iter_selected().any(|found| !matches!(found.assignment.state, gix::attrs::StateRef::Unspecified))
}

/// Whether no more than a guess at line endings (`text=auto`, or `core.autocrlf` alone) stands behind the attributes: git takes back the
/// guess for what is no text.
pub(super) fn is_guess(outcome: &gix::attrs::search::Outcome) -> bool {
    use gix::attrs::StateRef;
    outcome.iter_selected().all(|found| match (found.assignment.name.as_str(), found.assignment.state) {
        (_, StateRef::Unspecified) | ("filter" | "ident", StateRef::Unset) => true,
        ("text", state) => state.as_bstr().is_some_and(|value| value == "auto"),
        _ => false,
    })
}

/// Whether settings alone make git change content.
pub(super) fn converts_by_settings(repository: &gix::Repository) -> bool {
    let value = repository.config_snapshot().string("core.autocrlf");
    value.is_some_and(|value| {
        !["false", "no", "off", "0", ""].iter().any(|no| value.eq_ignore_ascii_case(no.as_bytes()))
    })
}

fn read_once(path: &Path, stat: &Stat) -> std::io::Result<Vec<u8>> {
    if FileType::from_raw_mode(stat.st_mode) == FileType::Symlink {
        return Ok(std::fs::read_link(path)?.into_os_string().into_vec());
    }
    let size = usize::try_from(stat.st_size).unwrap_or_default();
    let mut bytes = Vec::with_capacity(size + 1);
    open_file(path)?.read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn may_have_moved(error: &std::io::Error) -> bool {
    use rustix::io::Errno;
    let moved = [Errno::NOENT, Errno::NOTDIR, Errno::LOOP, Errno::INVAL, Errno::ISDIR];
    error.raw_os_error().is_some_and(|code| moved.iter().any(|errno| errno.raw_os_error() == code))
}

fn unreadable(path: &Path, source: std::io::Error) -> SaveError {
    SaveError::Unreadable { path: path.to_owned(), source }
}
