#![allow(clippy::disallowed_methods, reason = "tests start git themselves")]
#![allow(clippy::unwrap_used, reason = "a test may panic")]

use std::path::PathBuf;
use std::process::Command;

use super::*;

fn repository(directory: &tempfile::TempDir, settings: &[(&str, &str)]) -> PathBuf {
    let top = directory.path().join("r");
    let git = |arguments: &[&str]| {
        let status = Command::new("git").args(arguments).env("GIT_CONFIG_GLOBAL", "/dev/null").status().unwrap();
        assert!(status.success());
    };
    git(&["init", "-q", top.to_str().unwrap()]);
    for (key, value) in settings {
        git(&["-C", top.to_str().unwrap(), "config", "--add", key, value]);
    }
    top
}

fn open(top: &PathBuf, variables: &[(&str, &str)]) -> Repository {
    let surroundings = variables
        .iter()
        .fold(Surroundings::isolated(top), |surroundings, (name, value)| surroundings.with_variable(name, value));
    Repository::open_from(surroundings).unwrap()
}

#[test]
fn defaults_hold_where_nothing_is_set() {
    let directory = tempfile::tempdir().unwrap();
    let top = repository(&directory, &[]);
    let repository = open(&top, &[]);
    let settings = repository.settings();
    assert_eq!(settings.read(&MAX_DEPTH).unwrap(), 3);
    assert_eq!(settings.read(&SESSION_TTL).unwrap(), Duration::from_hours(7 * 24));
    assert_eq!(settings.read(&RESUME_PAUSE).unwrap(), Duration::from_millis(500));
    assert_eq!(settings.read(&REMOTE).unwrap(), None);
    assert_eq!(settings.read(&SNAPSHOT_INCLUDE).unwrap(), Vec::<String>::new());
    assert!(settings.read(&SNAPSHOT_EXCLUDE).unwrap().contains(&"*.pem".to_owned()));
}

#[test]
fn a_flag_beats_a_variable_beats_the_command_line_beats_a_file() {
    let directory = tempfile::tempdir().unwrap();
    let top = repository(&directory, &[("tether.maxDepth", "4")]);
    let depth = |variables: &[(&str, &str)]| open(&top, variables).settings().read(&MAX_DEPTH).unwrap();
    assert_eq!(depth(&[]), 4);
    let command_line = ("GIT_CONFIG_PARAMETERS", "'tether.maxdepth'='5'");
    assert_eq!(depth(&[command_line]), 5);
    let variable = ("GIT_TETHER_MAX_DEPTH", "6");
    assert_eq!(depth(&[command_line, variable]), 6);
    let repository = open(&top, &[variable]);
    assert_eq!(repository.settings().read_over(&MAX_DEPTH, "--max-depth", Some("7")).unwrap(), 7);
}

#[test]
fn errors_name_origin_value_and_what_is_allowed() {
    let directory = tempfile::tempdir().unwrap();
    let top = repository(&directory, &[("tether.maxDepth", "deep"), ("tether.lease", "ten")]);
    let repository = open(&top, &[("GIT_TETHER_SESSION_TTL", "-1d")]);
    let settings = repository.settings();
    let error = settings.read(&MAX_DEPTH).unwrap_err();
    assert_eq!((error.origin.as_str(), error.value.as_str()), ("tether.maxDepth", "deep"));
    assert!(settings.read(&LEASE).unwrap_err().to_string().contains("s, m, h, d or w"));
    assert_eq!(settings.read(&SESSION_TTL).unwrap_err().origin, "GIT_TETHER_SESSION_TTL");
}

#[test]
fn lists_add_up_and_an_empty_value_empties_them() {
    let directory = tempfile::tempdir().unwrap();
    let include = "tether.snapshot.include";
    let top = repository(&directory, &[(include, "a"), (include, "b")]);
    let list = |variables: &[(&str, &str)]| open(&top, variables).settings().read(&SNAPSHOT_INCLUDE).unwrap();
    assert_eq!(list(&[]), ["a", "b"]);
    assert_eq!(list(&[("GIT_TETHER_SNAPSHOT_INCLUDE", "c d\ne")]), ["c d", "e"]);
    assert_eq!(list(&[("GIT_CONFIG_PARAMETERS", "'tether.snapshot.include'='' 'tether.snapshot.include'='z'")]), ["z"]);
}

#[test]
fn what_is_executed_never_comes_from_a_variable() {
    let directory = tempfile::tempdir().unwrap();
    let top = repository(&directory, &[]);
    let variables = [("GIT_TETHER_SETUP", "rm"), ("GIT_TETHER_RECOVERY_HOOK", "rm")];
    let repository = open(&top, &variables);
    assert_eq!(repository.settings().read(&SETUP).unwrap(), None);
    assert_eq!(repository.settings().read(&RECOVERY_HOOK).unwrap(), None);
    let other = tempfile::tempdir().unwrap();
    let top = super::tests::repository(&other, &[("tether.setup", "make")]);
    assert_eq!(open(&top, &[]).settings().read(&SETUP).unwrap().as_deref(), Some("make"));
}

#[test]
fn durations() {
    let table = [
        ("90", Some(90_000)),
        ("0.5s", Some(500)),
        ("10m", Some(600_000)),
        ("1.5h", Some(5_400_000)),
        ("2d", Some(172_800_000)),
        ("1w", Some(604_800_000)),
        (" 3 s ", Some(3_000)),
        ("", None),
        ("s", None),
        ("1.s", None),
        (".5s", None),
        ("1.2.3s", None),
        ("-1s", None),
        ("1y", None),
        ("99999999999999999999w", None),
        ("18446744073709551615", None),
    ];
    for (text, expected) in table {
        assert_eq!(parse_duration(text).map(|duration| duration.as_millis()), expected, "{text}");
    }
}

#[test]
fn variables_are_named_after_keys() {
    assert_eq!(MAX_DEPTH.description.variable(), "GIT_TETHER_MAX_DEPTH");
    assert_eq!(SNAPSHOT_INCLUDE.description.variable(), "GIT_TETHER_SNAPSHOT_INCLUDE");
    let mut names: Vec<_> = KNOWN.iter().map(|known| known.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), KNOWN.len());
}
