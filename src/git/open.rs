//! Opening the repository that a command is about.
//!
//! Owns: which repository is meant (`GIT_DIR`, `TETHER_GIT_DIR`, discovery), whether this program may work in it (ownership,
//! format), and where its parts are. Must not know: records, worktrees other than the one that was opened.
//! Invariant: a repository of somebody else, or of a format that we do not know, is never handed out, and neither is one
//! that sees its refs through `GIT_NAMESPACE`.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use gix::bstr::ByteSlice;
use gix::odb::store::init::Slots;
use gix::sec::trust::Mapping;

use super::command_line_configuration;
use super::format::{RefStorage, check_format, is_of_the_repository};
use super::objects::{NO_ROOM, Objects, ROOM_FOR_PACKS};
use super::open_error::OpenError;
use super::program::Git;

/// What a process stands in: its directory, the variables that git and git-tether read, and whose configuration counts.
#[derive(Debug, Clone)]
pub struct Surroundings {
    directory: PathBuf,
    variables: BTreeMap<OsString, OsString>,
    configuration: ConfigurationScope,
    overrides: Overrides,
}

/// Whether variables of this process count that say which worktree, index or identity a repository has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overrides {
    /// They do: the repository is the one that they speak of.
    Count,
    /// They do not: they speak of another worktree (a hook's, say).
    AreOfAnother,
}

/// Which configuration files are read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ConfigurationScope {
    /// System, user and repository, as git does.
    AsGit,
    /// The repository's own only, and nothing of this process's environment: for tests, which must not depend on who runs them.
    RepositoryOnly,
}

/// Whose name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Who did the work.
    Author,
    /// Who records it.
    Committer,
}

/// A name and an address, free of the characters that a commit cannot hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The name.
    pub name: String,
    /// The mail address.
    pub email: String,
}

/// An opened repository. All paths are absolute and free of symlinks.
#[derive(Debug)]
pub struct Repository {
    gix: gix::Repository,
    git_dir: PathBuf,
    common_dir: PathBuf,
    workdir: Option<PathBuf>,
    ref_storage: RefStorage,
    surroundings: Surroundings,
}

impl Surroundings {
    /// Those of this process.
    pub fn of_this_process() -> Result<Self, OpenError> {
        let directory =
            std::env::current_dir().map_err(|source| OpenError::Resolve { path: PathBuf::from("."), source })?;
        let variables = std::env::vars_os().filter(|(name, _)| is_read_by_us(name)).collect();
        Ok(Self { directory, variables, configuration: ConfigurationScope::AsGit, overrides: Overrides::Count })
    }

    /// Nothing but a directory.
    pub fn isolated(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            variables: BTreeMap::new(),
            configuration: ConfigurationScope::RepositoryOnly,
            overrides: Overrides::Count,
        }
    }

    /// The same with one more variable.
    #[must_use]
    pub fn with_variable(mut self, name: impl Into<OsString>, value: impl Into<OsString>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    /// A variable's value; an empty one counts as not set, as it does for git.
    pub fn variable(&self, name: &str) -> Option<&OsStr> {
        self.variables.get(OsStr::new(name)).map(OsString::as_os_str).filter(|value| !value.is_empty())
    }

    /// The directory.
    pub fn directory(&self) -> &Path {
        &self.directory
    }
}

fn is_read_by_us(name: &OsStr) -> bool {
    let name = name.as_encoded_bytes();
    name.starts_with(b"GIT_") || name.starts_with(b"TETHER_") || name == b"EMAIL"
}

impl Repository {
    /// Opens the repository that this process is about: `GIT_DIR`, else `TETHER_GIT_DIR`, else the one around the current
    /// directory.
    pub fn open() -> Result<Self, OpenError> {
        Self::open_from(Surroundings::of_this_process()?)
    }

    /// The same for other surroundings.
    pub fn open_from(surroundings: Surroundings) -> Result<Self, OpenError> {
        let found = Self::find(surroundings)?;
        Ok(Self { gix: with_lasting_objects(found.gix, &found.common_dir), ..found })
    }

    fn find(surroundings: Surroundings) -> Result<Self, OpenError> {
        if let Some(git_dir) = surroundings.variable("GIT_DIR") {
            let path = surroundings.directory.join(git_dir);
            return Self::open_git_dir(&path, surroundings);
        }
        let Some(git_dir) = surroundings.variable("TETHER_GIT_DIR") else {
            return Self::discover(surroundings, ROOM_FOR_PACKS);
        };
        let named = Self::open_git_dir(&surroundings.directory.join(git_dir), surroundings.clone())?;
        // The variable names the repository; where we stand in one of its worktrees, that worktree is the better answer.
        match Self::discover(surroundings, ROOM_FOR_PACKS) {
            Ok(found) if found.common_dir == named.common_dir => Ok(found),
            _ => Ok(named),
        }
    }

    /// Opens the repository that owns `directory`, in the surroundings of another one: no variable that names a repository counts.
    pub fn open_at(&self, directory: &Path) -> Result<Self, OpenError> {
        let mut surroundings = self.surroundings.clone();
        directory.clone_into(&mut surroundings.directory);
        surroundings.overrides = Overrides::AreOfAnother;
        for name in ["GIT_DIR", "TETHER_GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"] {
            surroundings.variables.remove(OsStr::new(name));
        }
        if std::env::current_dir().is_err() {
            // The directory that we were started in is gone, and the library opens nothing from nowhere.
            let _ = std::env::set_current_dir(&self.common_dir);
        }
        let mut found = Self::discover(surroundings.clone(), NO_ROOM)?;
        if found.common_dir == self.common_dir {
            found.gix = self.objects().share_with(found.gix.into_sync()).to_thread_local();
            found.gix.object_cache_size_if_unset(OBJECT_CACHE);
        } else {
            found = Self::discover(surroundings, ROOM_FOR_PACKS)?;
        }
        // The library reads `GIT_WORK_TREE` of the process itself, whatever the surroundings say.
        found.workdir = found.find_own_workdir();
        Ok(found)
    }

    /// The worktree that the git directory itself names.
    fn find_own_workdir(&mut self) -> Option<PathBuf> {
        self.workdir.as_ref()?;
        if self.git_dir == self.common_dir {
            self.workdir = None;
            return self.main_checkout();
        }
        let named = std::fs::read(self.git_dir.join("gitdir")).ok()?;
        let link = self.git_dir.join(OsStr::from_bytes(named.trim_ascii_end()));
        let workdir = link.parent()?;
        Some(resolve(workdir).unwrap_or_else(|_| workdir.to_owned()))
    }

    fn discover(surroundings: Surroundings, room: Slots) -> Result<Self, OpenError> {
        let directory = surroundings.directory.clone();
        let search = gix::discover::upwards::Options::default().apply_environment();
        let options = open_options(&surroundings)?.object_store_slots(room);
        let trust = Mapping { full: options.clone(), reduced: options };
        let opened = gix::ThreadSafeRepository::discover_opts(&directory, search, trust)
            .map_err(|source| classify(directory, source))?;
        Self::checked(opened.to_thread_local(), surroundings)
    }

    fn open_git_dir(path: &Path, surroundings: Surroundings) -> Result<Self, OpenError> {
        let opened = open_options(&surroundings)?
            .open_path_as_is(true)
            .open(path)
            .map_err(|source| classify(path.to_owned(), source))?;
        Self::checked(opened.to_thread_local(), surroundings)
    }

    fn checked(mut gix: gix::Repository, surroundings: Surroundings) -> Result<Self, OpenError> {
        let common_dir = resolve(gix.common_dir())?;
        if gix.git_dir_trust() != gix::sec::Trust::Full {
            let path = gix.workdir().map_or_else(|| common_dir.clone(), Path::to_owned);
            if !is_trusted_by_command(&gix, &path) {
                return Err(OpenError::NotOurs { path });
            }
            // The library knows no `safe.directory` of the command line, and would go on without the repository's settings.
            gix = open_options(&surroundings)?
                .filter_config_section(match surroundings.overrides {
                    Overrides::Count => |_| true,
                    Overrides::AreOfAnother => |section| !overrides_a_repository(section),
                })
                .open_path_as_is(true)
                .open(gix.git_dir())
                .map_err(|source| OpenError::Open { path, source })?
                .to_thread_local();
        }
        let ref_storage = check_format(&gix, &common_dir)?;
        let git_dir = resolve(gix.git_dir())?;
        // A worktree that is gone while its admin directory stays is a state to report, not one to refuse.
        let workdir = gix.workdir().map(|path| resolve(path).unwrap_or_else(|_| path.to_owned()));
        gix.clear_namespace();
        gix.object_cache_size_if_unset(OBJECT_CACHE);
        Ok(Self { gix, git_dir, common_dir, workdir, ref_storage, surroundings })
    }

    /// The library's handle: objects, refs (namespace cleared) and configuration. Do not use its index: inside a hook that is
    /// whatever `GIT_INDEX_FILE` says.
    pub fn gix(&self) -> &gix::Repository {
        &self.gix
    }

    /// Whether settings of the command line count beside its configuration.
    pub(crate) fn has_command_line_settings(&self) -> bool {
        self.surroundings.variable("GIT_CONFIG_PARAMETERS").is_some_and(|settings| !settings.is_empty())
    }

    /// Its objects, for whatever else is opened of it.
    pub fn objects(&self) -> Objects {
        Objects::of(&self.gix)
    }

    /// The directory shared by all worktrees.
    pub fn common_dir(&self) -> &Path {
        &self.common_dir
    }

    /// The directory of the worktree that was opened; the common directory for the main one and for bare repositories.
    pub fn git_dir(&self) -> &Path {
        &self.git_dir
    }

    /// The top of the worktree that was opened; `None` in a bare repository and inside a git directory.
    pub fn workdir(&self) -> Option<&Path> {
        self.workdir.as_deref()
    }

    /// Whether the repository has no main checkout of its own (its linked worktrees do not matter).
    pub fn is_bare(&self) -> bool {
        let configured = self.gix.config_snapshot().plumbing().boolean_filter("core.bare", is_of_the_repository);
        match configured {
            Ok(Some(bare)) => bare,
            _ => self.common_dir.file_name() != Some(OsStr::new(".git")),
        }
    }

    /// The directory of the main checkout, if there is one: what git answers for in directories that are no worktree of their own.
    pub fn main_checkout(&self) -> Option<PathBuf> {
        if self.is_bare() {
            return None;
        }
        if self.git_dir == self.common_dir && self.workdir.is_some() {
            return self.workdir.clone();
        }
        let configured = self.gix.config_snapshot().plumbing().string_filter("core.worktree", is_of_the_repository);
        match configured {
            Some(path) => resolve(&self.common_dir.join(OsStr::from_bytes(&path))).ok(),
            None => self.common_dir.parent().map(Path::to_owned),
        }
    }

    /// Where bare and normal repositories alike keep what belongs to git-tether on this machine.
    pub fn tether_dir(&self) -> PathBuf {
        self.common_dir.join("tether")
    }

    /// SHA-1 or SHA-256.
    pub fn object_hash(&self) -> gix::hash::Kind {
        self.gix.object_hash()
    }

    /// Who may write refs.
    pub fn ref_storage(&self) -> RefStorage {
        self.ref_storage
    }

    /// What it was opened from.
    pub fn surroundings(&self) -> &Surroundings {
        &self.surroundings
    }

    /// The git program for this repository as such, in its common directory.
    pub fn git(&self) -> Git {
        self.prepared(Git::in_git_dir(&self.common_dir))
    }

    /// The git program for one of its worktrees.
    pub fn git_in(&self, worktree: &Path) -> Git {
        self.prepared(Git::in_directory(worktree))
    }

    fn prepared(&self, git: Git) -> Git {
        match self.surroundings.configuration {
            ConfigurationScope::AsGit => git,
            ConfigurationScope::RepositoryOnly => {
                git.with_variable("GIT_CONFIG_NOSYSTEM", "1").with_variable("GIT_CONFIG_GLOBAL", "/dev/null")
            }
        }
    }

    /// The user's git identity: variables, then configuration; what is missing is `git-tether` and `tether@localhost`.
    pub fn identity(&self, role: Role) -> Identity {
        let (variables, section) = match role {
            Role::Author => (["GIT_AUTHOR_NAME", "GIT_AUTHOR_EMAIL"], "author"),
            Role::Committer => (["GIT_COMMITTER_NAME", "GIT_COMMITTER_EMAIL"], "committer"),
        };
        let config = self.gix.config_snapshot();
        let part = |variable: &str, field: &str, fallback: &str| {
            let of_variable = self.surroundings.variable(variable).map(|value| value.to_string_lossy().into_owned());
            let of_config = |section: &str| {
                config.string(format!("{section}.{field}").as_str()).map(|value| value.to_str_lossy().into_owned())
            };
            [of_variable, of_config(section), of_config("user")]
                .into_iter()
                .flatten()
                .map(|value| for_commit(&value))
                .find(|value| !value.is_empty())
                .unwrap_or_else(|| fallback.to_owned())
        };
        let [name_variable, email_variable] = variables;
        Identity {
            name: part(name_variable, "name", "git-tether"),
            email: part(email_variable, "email", "tether@localhost"),
        }
    }

    /// Whether git would run the hook `name` here. Relative hook paths count from the worktree that was opened, as in git.
    pub fn has_hook(&self, name: &str) -> bool {
        let configured = self.gix.config_snapshot().trusted_path("core.hooksPath").ok().flatten();
        let hooks = configured.map_or_else(
            || self.common_dir.join("hooks"),
            |path| self.workdir.as_deref().unwrap_or(&self.git_dir).join(path),
        );
        std::fs::metadata(hooks.join(name))
            .is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    }
}

/// Bytes of decoded objects that are kept.
const OBJECT_CACHE: usize = 4 << 20;

/// The same with objects that are found without the worktree that it was opened in: that may be removed while this process runs.
fn with_lasting_objects(repository: gix::Repository, common_dir: &Path) -> gix::Repository {
    let lasting = common_dir.join("objects");
    let now = repository.objects.store_ref().path();
    if now == lasting || resolve(now).ok() != resolve(&lasting).ok() {
        return repository;
    }
    match Objects::of(&repository).at(&lasting) {
        Ok(objects) => {
            let mut lasting = objects.share_with(repository.into_sync()).to_thread_local();
            lasting.object_cache_size_if_unset(OBJECT_CACHE);
            lasting
        }
        Err(_) => repository,
    }
}

/// Opens the git directory or worktree at `path` as if no variable said anything about it; with `objects` of the same repository, they are
/// not looked for again.
pub(crate) fn open_plainly(path: &Path, objects: Option<&Objects>) -> Result<gix::ThreadSafeRepository, gix::Error> {
    let options = without_overrides(gix::open::Options::default().bail_if_untrusted(true));
    match objects {
        Some(objects) => {
            let opened = gix::ThreadSafeRepository::open_opts(path, options.object_store_slots(NO_ROOM))?;
            Ok(objects.share_with(opened))
        }
        None => gix::ThreadSafeRepository::open_opts(path, options),
    }
}

fn open_options(surroundings: &Surroundings) -> Result<gix::open::Options, OpenError> {
    let options = match surroundings.configuration {
        ConfigurationScope::AsGit => gix::open::Options::default(),
        ConfigurationScope::RepositoryOnly => gix::open::Options::isolated(),
    };
    let parameters = match surroundings.variable("GIT_CONFIG_PARAMETERS") {
        Some(text) => command_line_configuration::parse(text.as_encoded_bytes())?,
        None => Vec::new(),
    };
    // The library splits at the first `=`: a key that holds one cannot be told to it.
    let overrides = parameters.into_iter().filter(|setting| !setting.key.contains(&b'=')).map(|setting| {
        let mut text = setting.key;
        if let Some(value) = setting.value {
            text.push(b'=');
            text.extend(value);
        }
        gix::bstr::BString::from(text)
    });
    let options = options.cli_overrides(overrides).object_store_slots(ROOM_FOR_PACKS);
    Ok(match surroundings.overrides {
        Overrides::Count => options,
        Overrides::AreOfAnother => without_overrides(options),
    })
}

/// Options under which no variable of this process says which worktree, index or identity the repository has. The library reads such
/// variables itself, and shows them as settings. There is room for packs that others add meanwhile.
fn without_overrides(options: gix::open::Options) -> gix::open::Options {
    let options = options.object_store_slots(ROOM_FOR_PACKS);
    options.filter_config_section(|section| section.trust == gix::sec::Trust::Full && !overrides_a_repository(section))
}

fn overrides_a_repository(section: &gix::config::file::Metadata) -> bool {
    section.source == gix::config::Source::EnvOverride
}

fn classify(path: PathBuf, source: gix::Error) -> OpenError {
    if source.is_not_found() || !looks_like_a_repository(&path) {
        OpenError::NotARepository { path, source }
    } else {
        OpenError::Open { path, source }
    }
}

fn looks_like_a_repository(path: &Path) -> bool {
    path.ancestors().any(|directory| directory.join(".git").exists() || directory.join("HEAD").exists())
}

fn resolve(path: &Path) -> Result<PathBuf, OpenError> {
    std::fs::canonicalize(path).map_err(|source| OpenError::Resolve { path: path.to_owned(), source })
}

/// Whether `git -c safe.directory=...` or `GIT_CONFIG_COUNT` vouches for `path`; the library asks the files only.
fn is_trusted_by_command(gix: &gix::Repository, path: &Path) -> bool {
    let of_the_command = |section: &gix::config::file::Metadata| {
        matches!(section.source, gix::config::Source::Env | gix::config::Source::Cli)
    };
    let config = gix.config_snapshot();
    let named = config.plumbing().strings_filter("safe.directory", of_the_command).unwrap_or_default();
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_owned());
    named.iter().fold(false, |trusted, value| match value.strip_suffix(b"/*") {
        _ if value.is_empty() => false,
        _ if *value == "*" => true,
        Some(above) => {
            trusted || std::fs::canonicalize(OsStr::from_bytes(above)).is_ok_and(|above| path.starts_with(above))
        }
        None => trusted || std::fs::canonicalize(OsStr::from_bytes(value)).is_ok_and(|named| named == path),
    })
}

fn for_commit(value: &str) -> String {
    let kept: String = value.chars().filter(|letter| !matches!(letter, '<' | '>' | '\n' | '\0')).collect();
    kept.trim_matches(|letter: char| letter.is_whitespace() || ".,:;\"\\'".contains(letter)).to_owned()
}

#[cfg(test)]
#[path = "open_tests.rs"]
mod tests;
