//! Git as such: opening a repository, its settings, and the git program.
//!
//! Below `store` and `world`, which both stand on it; it knows nothing of runs, records or recovery.

mod command_line_configuration;
mod format;
mod objects;
mod open;
mod open_error;
mod program;
pub mod settings;
pub mod shared_files;

pub use command_line_configuration::ConfigurationParametersError;
pub use format::RefStorage;
pub use objects::Objects;
pub(crate) use open::open_plainly;
pub use open::{ConfigurationScope, Identity, Repository, Role, Surroundings};
pub use open_error::OpenError;
pub use program::{Git, GitError, GitOutput, Hooks, RunningGit, TIES_TO_A_REPOSITORY};
