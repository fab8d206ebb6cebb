//! Why a repository was not opened, and what a person can do about it.

use std::path::PathBuf;

use super::command_line_configuration::ConfigurationParametersError;

/// Why no repository was opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Neither the path nor any directory above it is a repository.
    #[error("not a git repository (or any of the parent directories): {}", path.display())]
    NotARepository {
        /// Where the search began.
        path: PathBuf,
        /// What was found instead.
        source: gix::Error,
    },
    /// Somebody else owns it, and `safe.directory` does not name it.
    #[error("the repository at {} belongs to somebody else", path.display())]
    NotOurs {
        /// The directory to name in `safe.directory`.
        path: PathBuf,
    },
    /// Its `core.repositoryformatversion` is not 0 or 1.
    #[error("the repository at {} has format version {version}, of which this program knows nothing", path.display())]
    UnknownFormat {
        /// The common directory.
        path: PathBuf,
        /// The version as written.
        version: String,
    },
    /// It uses an extension that this program does not know, or knows only in another form.
    #[error("the repository at {} uses extensions.{name}={value}, of which this program knows nothing", path.display())]
    UnknownExtension {
        /// The common directory.
        path: PathBuf,
        /// The extension.
        name: String,
        /// Its value.
        value: String,
    },
    /// An extension that needs format version 1 stands in a repository of version 0.
    #[error("the repository at {} has format version 0, but uses extensions.{name}", path.display())]
    ExtensionNeedsFormatOne {
        /// The common directory.
        path: PathBuf,
        /// The extension.
        name: String,
    },
    /// The settings of `git -c` could not be read.
    #[error("could not read the settings given with `git -c`")]
    CommandLineConfiguration(#[from] ConfigurationParametersError),
    /// The current directory is gone, or one of the repository's directories cannot be resolved.
    #[error("could not resolve {}", path.display())]
    Resolve {
        /// The path.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is a repository, and could not be opened.
    #[error("could not open the repository at {}", path.display())]
    Open {
        /// Where.
        path: PathBuf,
        /// Why.
        source: gix::Error,
    },
}

impl OpenError {
    /// What a person can do about it.
    pub fn hint(&self) -> Option<String> {
        match self {
            Self::NotOurs { path } => {
                Some(format!("to trust it: git config --global --add safe.directory '{}'", path.display()))
            }
            Self::UnknownFormat { .. } | Self::UnknownExtension { .. } => {
                Some("a newer version of git-tether may know it".to_owned())
            }
            Self::NotARepository { .. } => {
                Some("change to a repository, or name one with `git -C DIR tether ...` or GIT_DIR".to_owned())
            }
            _ => None,
        }
    }
}
