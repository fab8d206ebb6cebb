//! The settings by which git converted content when a worktree was saved.
//!
//! Owns: `conversion` in `state.json`, and what follows where the settings are others now. Must not know: attributes, files. Invariant:
//! line endings come back as they were saved, whatever the settings say today; no program is ever named.

use gix::bstr::{BStr, ByteSlice};
use gix::filter::plumbing::eol::{AutoCrlf, Mode};
use gix::filter::plumbing::pipeline::Options;
use serde::{Deserialize, Serialize};

/// `conversion`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Conversion {
    /// `core.autocrlf`: `true`, `input`, or not set.
    autocrlf: Option<String>,
    /// `core.eol`: `lf`, `crlf`, or not set.
    eol: Option<String>,
    /// The names of the content filters that had a program.
    filters: Vec<String>,
}

impl Conversion {
    /// The settings of `repository`.
    pub(super) fn of(repository: &gix::Repository) -> Self {
        gix::filter::Pipeline::options(repository).map(|options| Self::from_options(&options)).unwrap_or_default()
    }

    fn from_options(options: &Options) -> Self {
        let autocrlf = match options.eol_config.auto_crlf {
            AutoCrlf::Enabled => Some("true"),
            AutoCrlf::Input => Some("input"),
            AutoCrlf::Disabled => None,
        };
        let eol = options.eol_config.eol.map(|mode| match mode {
            Mode::Lf => "lf",
            Mode::CrLf => "crlf",
        });
        let mut filters: Vec<_> =
            options.drivers.iter().map(|driver| driver.name.to_str_lossy().into_owned()).collect();
        filters.sort();
        filters.dedup();
        Self { autocrlf: autocrlf.map(str::to_owned), eol: eol.map(str::to_owned), filters }
    }

    /// Whether line endings are converted in another way than under `options`.
    pub(super) fn has_other_line_endings(&self, repository: &gix::Repository) -> bool {
        let now = Self::of(repository);
        (&self.autocrlf, &self.eol) != (&now.autocrlf, &now.eol)
    }

    /// Makes `options` convert line endings as then.
    pub(super) fn set_line_endings(&self, options: &mut Options) {
        options.eol_config.auto_crlf = match self.autocrlf.as_deref() {
            Some("true") => AutoCrlf::Enabled,
            Some("input") => AutoCrlf::Input,
            _ => AutoCrlf::Disabled,
        };
        options.eol_config.eol = match self.eol.as_deref() {
            Some("lf") => Some(Mode::Lf),
            Some("crlf") => Some(Mode::CrLf),
            _ => None,
        };
    }

    /// Whether line endings are converted without any attribute.
    pub(super) fn converts_by_settings(&self) -> bool {
        self.autocrlf.is_some()
    }

    /// Whether the content filter `name` had a program then and has none under `options`.
    pub(super) fn misses(&self, name: &BStr, options: &Options) -> bool {
        self.filters.iter().any(|known| known.as_bytes() == name.as_bytes())
            && !options.drivers.iter().any(|driver| driver.name == name)
    }
}
