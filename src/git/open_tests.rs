#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::process::Command;

use super::*;

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn path(&self, name: &str) -> PathBuf {
        std::fs::canonicalize(self.directory.path()).unwrap().join(name)
    }

    fn git(&self, directory: &Path, arguments: &[&str]) -> String {
        let output = Command::new("git")
            .args(arguments)
            .current_dir(directory)
            .env_clear()
            .env("PATH", std::env::var_os("PATH").unwrap())
            .env("HOME", self.directory.path())
            .env("GIT_CONFIG_NOSYSTEM", "1")
            .envs([("GIT_AUTHOR_NAME", "A"), ("GIT_AUTHOR_EMAIL", "a@b"), ("GIT_COMMITTER_NAME", "A")])
            .env("GIT_COMMITTER_EMAIL", "a@b")
            .output()
            .unwrap();
        assert!(output.status.success(), "git {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap().trim_end().to_owned()
    }

    fn repository(&self, name: &str) -> PathBuf {
        let path = self.path(name);
        self.git(&self.path(""), &["init", "-q", "-b", "main", name]);
        self.git(&path, &["commit", "-q", "--allow-empty", "-m", "first"]);
        path
    }
}

fn open(directory: &Path) -> Result<Repository, OpenError> {
    Repository::open_from(Surroundings::isolated(directory))
}

#[test]
fn the_main_checkout_is_found_from_below() {
    let place = Place::new();
    let top = place.repository("r");
    std::fs::create_dir_all(top.join("a/b")).unwrap();
    let repository = open(&top.join("a/b")).unwrap();
    assert_eq!(repository.common_dir(), top.join(".git"));
    assert_eq!(repository.git_dir(), top.join(".git"));
    assert_eq!(repository.workdir(), Some(top.as_path()));
    assert_eq!(repository.main_checkout(), Some(top.clone()));
    assert!(!repository.is_bare());
    assert_eq!(repository.ref_storage(), RefStorage::Files);
    assert_eq!(repository.object_hash(), gix::hash::Kind::Sha1);
}

#[test]
fn a_linked_worktree_knows_its_common_directory() {
    let place = Place::new();
    let top = place.repository("r");
    place.git(&top, &["worktree", "add", "-q", "../w"]);
    let repository = open(&place.path("w")).unwrap();
    assert_eq!(repository.common_dir(), top.join(".git"));
    assert_eq!(repository.git_dir(), top.join(".git/worktrees/w"));
    assert_eq!(repository.workdir(), Some(place.path("w").as_path()));
    assert_eq!(repository.main_checkout(), Some(top));
}

#[test]
fn bare_repositories_and_their_worktrees() {
    let place = Place::new();
    let top = place.repository("r");
    place.git(&place.path(""), &["clone", "-q", "--bare", "r", "b.git"]);
    place.git(&place.path("b.git"), &["worktree", "add", "-q", "../w"]);
    for from in ["b.git", "b.git/refs", "w"] {
        let repository = open(&place.path(from)).unwrap();
        assert!(repository.is_bare(), "{from}");
        assert_eq!(repository.common_dir(), place.path("b.git"), "{from}");
        assert_eq!(repository.main_checkout(), None, "{from}");
    }
    assert_eq!(open(&place.path("w")).unwrap().workdir(), Some(place.path("w").as_path()));
    assert_eq!(open(&place.path("b.git")).unwrap().workdir(), None);
    assert!(!open(&top).unwrap().is_bare());
}

#[test]
fn git_dir_wins_then_tether_git_dir_then_discovery() {
    let place = Place::new();
    let [one, two, three] = ["one", "two", "three"].map(|name| place.repository(name));
    let here = Surroundings::isolated(&three).with_variable("TETHER_GIT_DIR", two.join(".git"));
    assert_eq!(Repository::open_from(here.clone()).unwrap().common_dir(), two.join(".git"));
    let both = here.with_variable("GIT_DIR", one.join(".git"));
    assert_eq!(Repository::open_from(both).unwrap().common_dir(), one.join(".git"));
    let empty = Surroundings::isolated(&three).with_variable("GIT_DIR", "");
    assert_eq!(Repository::open_from(empty).unwrap().common_dir(), three.join(".git"));
}

#[test]
fn tether_git_dir_outside_any_repository_and_inside_a_worktree() {
    let place = Place::new();
    let top = place.repository("r");
    place.git(&top, &["worktree", "add", "-q", "../w"]);
    std::fs::create_dir(place.path("plain")).unwrap();
    let from = |name| Surroundings::isolated(place.path(name)).with_variable("TETHER_GIT_DIR", top.join(".git"));
    assert_eq!(Repository::open_from(from("plain")).unwrap().common_dir(), top.join(".git"));
    assert_eq!(Repository::open_from(from("w")).unwrap().workdir(), Some(place.path("w").as_path()));
}

#[test]
fn a_hook_names_its_worktree_with_git_dir() {
    let place = Place::new();
    let top = place.repository("r");
    place.git(&top, &["worktree", "add", "-q", "../w"]);
    let hook = Surroundings::isolated(place.path("w")).with_variable("GIT_DIR", top.join(".git/worktrees/w"));
    let repository = Repository::open_from(hook).unwrap();
    assert_eq!(repository.common_dir(), top.join(".git"));
    assert_eq!(repository.workdir(), Some(place.path("w").as_path()));
    let relative = Surroundings::isolated(&top).with_variable("GIT_DIR", ".git");
    assert_eq!(Repository::open_from(relative).unwrap().workdir(), Some(top.as_path()));
}

#[test]
fn no_repository_is_said_so() {
    let place = Place::new();
    let error = open(&place.path("")).unwrap_err();
    assert!(matches!(error, OpenError::NotARepository { .. }), "{error:?}");
    assert!(error.hint().is_some());
    let named = Surroundings::isolated(place.path("")).with_variable("GIT_DIR", "nowhere");
    let error = Repository::open_from(named).unwrap_err();
    assert!(matches!(error, OpenError::NotARepository { .. }), "{error:?}");
}

#[test]
fn sha256_and_reftable_are_recognised() {
    let place = Place::new();
    place.git(&place.path(""), &["init", "-q", "--object-format=sha256", "s"]);
    assert_eq!(open(&place.path("s")).unwrap().object_hash(), gix::hash::Kind::Sha256);
    place.git(&place.path(""), &["init", "-q", "--ref-format=reftable", "t"]);
    assert_eq!(open(&place.path("t")).unwrap().ref_storage(), RefStorage::Reftable);
}

#[test]
fn unknown_formats_are_refused() {
    let place = Place::new();
    let top = place.repository("r");
    let set = |key: &str, value: &str| place.git(&top, &["config", "--file", ".git/config", key, value]);
    set("extensions.novelty", "true");
    assert!(open(&top).is_ok(), "git ignores an unknown extension in format 0");
    set("core.repositoryformatversion", "1");
    assert!(matches!(open(&top).unwrap_err(), OpenError::UnknownExtension { name, .. } if name == "novelty"));
    place.git(&top, &["config", "--file", ".git/config", "--unset", "extensions.novelty"]);
    set("extensions.relativeWorktrees", "true");
    set("extensions.worktreeConfig", "true");
    open(&top).unwrap();
    set("extensions.refStorage", "files");
    open(&top).unwrap();
    set("core.repositoryformatversion", "0");
    let error = open(&top).unwrap_err();
    assert!(matches!(error, OpenError::ExtensionNeedsFormatOne { .. } | OpenError::Open { .. }), "{error:?}");
    set("core.repositoryformatversion", "2");
    let error = open(&top).unwrap_err();
    assert!(matches!(error, OpenError::UnknownFormat { .. } | OpenError::Open { .. }), "{error:?}");
    std::fs::write(top.join(".git/config"), "[core]\nrepositoryformatversion=1\n[extensions]\nrefStorage=cloud\n")
        .unwrap();
    assert!(matches!(open(&top).unwrap_err(), OpenError::UnknownExtension { value, .. } if value == "cloud"));
}

#[test]
fn somebody_elses_repository_is_refused() {
    let place = Place::new();
    let top = place.repository("r");
    if !rustix::process::geteuid().is_root() {
        return; // Only root can give a directory away.
    }
    let owner = Some(rustix::fs::Uid::from_raw(12345));
    for path in [top.clone(), top.join(".git")] {
        rustix::fs::chown(&path, owner, None).unwrap();
    }
    let error = open(&top).unwrap_err();
    assert!(matches!(error, OpenError::NotOurs { .. }), "{error:?}");
    assert!(error.hint().unwrap().contains("safe.directory"));
    let trusting = format!("'safe.directory'='{}'", top.display());
    let here = Surroundings::isolated(&top).with_variable("GIT_CONFIG_PARAMETERS", trusting);
    Repository::open_from(here).unwrap();
}

#[test]
fn identity_comes_from_variables_then_configuration_then_a_name_of_our_own() {
    let place = Place::new();
    let top = place.repository("r");
    let own = open(&top).unwrap().identity(Role::Author);
    assert_eq!(own, Identity { name: "git-tether".to_owned(), email: "tether@localhost".to_owned() });
    place.git(&top, &["config", "user.name", "Ada <L>"]);
    place.git(&top, &["config", "user.email", "ada@l"]);
    assert_eq!(open(&top).unwrap().identity(Role::Committer).name, "Ada L");
    let by_variable = Surroundings::isolated(&top)
        .with_variable("GIT_AUTHOR_NAME", "Grace")
        .with_variable("GIT_AUTHOR_DATE", "nonsense");
    let repository = Repository::open_from(by_variable).unwrap();
    assert_eq!(repository.identity(Role::Author), Identity { name: "Grace".to_owned(), email: "ada@l".to_owned() });
    assert_eq!(repository.identity(Role::Committer).name, "Ada L");
}

#[test]
fn hooks_are_found_where_git_looks() {
    let place = Place::new();
    let top = place.repository("r");
    std::fs::create_dir_all(top.join(".git/hooks")).unwrap();
    let make = |path: PathBuf, mode: u32| {
        std::fs::write(&path, "#!/bin/sh\n").unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
    };
    make(top.join(".git/hooks/post-checkout"), 0o755);
    make(top.join(".git/hooks/reference-transaction"), 0o644);
    let repository = open(&top).unwrap();
    assert!(repository.has_hook("post-checkout"));
    assert!(!repository.has_hook("reference-transaction"));
    std::fs::create_dir(top.join("own")).unwrap();
    make(top.join("own/reference-transaction"), 0o755);
    place.git(&top, &["config", "core.hooksPath", "own"]);
    let repository = open(&top).unwrap();
    assert!(!repository.has_hook("post-checkout"));
    assert!(repository.has_hook("reference-transaction"));
}

#[test]
fn a_git_that_we_start_runs_hooks_only_where_asked() {
    let place = Place::new();
    let top = place.repository("r");
    std::fs::create_dir_all(top.join(".git/hooks")).unwrap();
    let hook = top.join(".git/hooks/post-checkout");
    std::fs::write(&hook, "#!/bin/sh\ntouch \"$(git rev-parse --git-common-dir)/ran\"\n").unwrap();
    std::fs::set_permissions(&hook, std::fs::Permissions::from_mode(0o755)).unwrap();
    let repository = open(&top).unwrap();
    repository.git_in(&top).run(["checkout", "-q", "-b", "other"]).unwrap();
    assert!(!top.join(".git/ran").exists());
    let with_hooks = repository.git_in(&top).with_hooks(super::super::Hooks::AsConfigured);
    with_hooks.run(["checkout", "-q", "main"]).unwrap();
    assert!(top.join(".git/ran").exists());
}
