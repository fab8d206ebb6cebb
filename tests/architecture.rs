//! The rules of the house, checked: which room may know which, which dependency lives where, and how a file opens.
//!
//! It reads `src/**/*.rs` as tokens, without test code. `ARROWS` is the architecture; everything else follows from it.

#![allow(clippy::disallowed_methods, clippy::unwrap_used, reason = "a test")]

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Which room may name which. Down only; `store`, `plan` and `world` never name each other.
const ARROWS: &[(&str, &[&str])] = &[
    ("main", &["cli"]),
    ("cli", &["app", "plan", "record", "domain"]),
    ("app", &["store", "record", "plan", "world", "git", "domain"]),
    ("store", &["record", "git", "domain"]),
    ("world", &["git", "domain"]),
    ("plan", &["domain"]),
    ("record", &["domain"]),
    ("git", &["domain"]),
    ("domain", &[]),
];

/// Where a dependency, or a function that must have one home, may be named. A path that ends in `*` is a prefix.
const HOMES: &[(&str, &[&str])] = &[
    ("clap", &["cli/*"]),
    ("clap_complete", &["cli/*"]),
    ("clap_mangen", &["cli/*"]),
    ("serde", &["record/*", "cli/*", "world/snapshot*"]),
    ("serde_json", &["record/*", "cli/*", "world/snapshot*"]),
    ("gix", &["store/*", "git/*", "world/*"]),
    ("gix::ObjectId", &["*"]),
    ("gix::hash::ObjectId", &["*"]),
    ("walkdir", &["world/paths*", "store/file_refs.rs", "store/locks.rs"]),
    ("nix", &["world/supervise/*"]),
    ("signal_hook", &["world/supervise/*", "cli/pager.rs"]),
    // git is one program, a task's command another; the demo types command lines as a person would; a pager is git's choice.
    ("Command::new", &["git/program.rs", "world/supervise*", "world/shell.rs", "cli/pager.rs"]),
    ("Utc::now", &["world/clock.rs"]),
    ("Local::now", &[]),
    ("process::exit", &["cli/*", "main.rs"]),
    ("println!", &["cli/*", "main.rs"]),
    ("print!", &["cli/*", "main.rs"]),
    ("eprintln!", &["cli/*", "main.rs"]),
    ("eprint!", &["cli/*", "main.rs"]),
    ("dbg!", &[]),
];

/// Lines of a file without its tests.
const LONGEST_FILE: usize = 500;

#[test]
fn the_house_is_in_order() {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = BTreeMap::new();
    read(&source, &source, &mut files);
    assert!(files.len() > 3, "the sources are not where this test looks");
    let faults = House::of(&files).faults();
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}

fn read(root: &Path, directory: &Path, files: &mut BTreeMap<String, String>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            read(root, &path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let name = path.strip_prefix(root).unwrap().to_str().unwrap().replace('\\', "/");
            files.insert(name, std::fs::read_to_string(&path).unwrap());
        }
    }
}

// ---- tokens ----

#[derive(Debug, Clone, PartialEq, Eq)]
struct Token {
    text: String,
    line: usize,
}

/// Words, `::` and single characters; comments, strings and lifetimes are left out.
fn tokens(source: &str) -> Vec<Token> {
    let characters: Vec<char> = source.chars().collect();
    let mut found = Vec::new();
    let (mut at, mut line) = (0, 1);
    while at < characters.len() {
        let end = skipped(&characters, at);
        if end > at {
            line += characters[at..end].iter().filter(|&&character| character == '\n').count();
            at = end;
            continue;
        }
        let length = match characters[at] {
            ':' if characters.get(at + 1) == Some(&':') => 2,
            character if is_word(character) => {
                characters[at..].iter().take_while(|character| is_word(**character)).count()
            }
            _ => 1,
        };
        let text: String = characters[at..at + length].iter().collect();
        found.push(Token { text, line });
        at += length;
    }
    found
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// The end of the space, comment, text or lifetime that starts at `at`; `at` if none does.
fn skipped(characters: &[char], at: usize) -> usize {
    let starts = |text: &str| text.chars().enumerate().all(|(offset, one)| characters.get(at + offset) == Some(&one));
    let word_before = at > 0 && is_word(characters[at - 1]);
    if characters[at].is_whitespace() {
        return at + 1;
    }
    if starts("//") {
        return characters[at..].iter().position(|&one| one == '\n').map_or(characters.len(), |offset| at + offset);
    }
    if starts("/*") {
        return end_of_comment(characters, at);
    }
    if let Some(end) = (!word_before).then(|| end_of_raw_text(characters, at)).flatten() {
        return end;
    }
    if starts("\"") {
        return end_of_text(characters, at + 1, '"');
    }
    if !word_before && (starts("b\"") || starts("c\"")) {
        return end_of_text(characters, at + 2, '"');
    }
    if starts("'") {
        let is_character = characters.get(at + 1) == Some(&'\\') || characters.get(at + 2) == Some(&'\'');
        if is_character {
            return end_of_text(characters, at + 1, '\'');
        }
        let name = characters[at + 1..].iter().take_while(|one| is_word(**one)).count();
        return at + 1 + name;
    }
    at
}

fn end_of_comment(characters: &[char], start: usize) -> usize {
    let (mut at, mut depth) = (start + 2, 1);
    while at < characters.len() && depth > 0 {
        match (characters[at], characters.get(at + 1)) {
            ('*', Some('/')) => (at, depth) = (at + 2, depth - 1),
            ('/', Some('*')) => (at, depth) = (at + 2, depth + 1),
            _ => at += 1,
        }
    }
    at
}

fn end_of_text(characters: &[char], start: usize, quote: char) -> usize {
    let mut at = start;
    while at < characters.len() && characters[at] != quote {
        at += if characters[at] == '\\' { 2 } else { 1 };
    }
    (at + 1).min(characters.len())
}

fn end_of_raw_text(characters: &[char], start: usize) -> Option<usize> {
    let prefix = characters[start..].iter().take_while(|one| matches!(one, 'b' | 'c' | 'r')).count();
    if prefix == 0 || prefix > 2 || characters[start + prefix - 1] != 'r' {
        return None;
    }
    let hashes = characters[start + prefix..].iter().take_while(|&&one| one == '#').count();
    let open = start + prefix + hashes;
    if characters.get(open) != Some(&'"') {
        return None;
    }
    let is_end =
        |at: usize| characters[at] == '"' && (1..=hashes).all(|offset| characters.get(at + offset) == Some(&'#'));
    (open + 1..characters.len()).find(|&at| is_end(at)).map(|at| at + hashes + 1)
}

// ---- a file ----

/// One `a::b::c` as written, with what a group in braces holds spelled out.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Named {
    words: Vec<String>,
    line: usize,
    /// It stands in a `pub use`, under its last word or under this name.
    exported_as: Option<String>,
}

struct File {
    /// `["world", "paths"]` for `world/paths.rs` and `world/paths/mod.rs`; empty for `lib.rs` and `main.rs`.
    module: Vec<String>,
    room: String,
    named: Vec<Named>,
    macros: Vec<(String, usize)>,
    lines: usize,
    opens_with_words: bool,
    test_modules: Vec<String>,
}

impl File {
    fn of(name: &str, source: &str) -> Self {
        let stem = name.trim_end_matches(".rs").trim_end_matches("/mod");
        let module: Vec<String> = match stem {
            "lib" | "main" => Vec::new(),
            stem => stem.split('/').map(str::to_owned).collect(),
        };
        let room = module.first().cloned().unwrap_or_else(|| stem.to_owned());
        let (tokens, test_modules, test_lines) = without_tests(&tokens(source));
        let named = names(&tokens);
        let macros = tokens
            .windows(2)
            .filter(|pair| pair[1].text == "!")
            .map(|pair| (format!("{}!", pair[0].text), pair[0].line))
            .collect();
        let lines = source.lines().count() - test_lines;
        Self { module, room, named, macros, lines, opens_with_words: source.starts_with("//!"), test_modules }
    }
}

/// Drops every item under `#[cfg(test)]`; also says which modules that were in other files, and how many lines it took.
fn without_tests(all: &[Token]) -> (Vec<Token>, Vec<String>, usize) {
    let (mut kept, mut modules, mut lines) = (Vec::new(), Vec::new(), 0);
    let mut at = 0;
    while at < all.len() {
        if !starts_test(&all[at..]) {
            kept.push(all[at].clone());
            at += 1;
            continue;
        }
        let end = end_of_item(all, at);
        let item = &all[at..end];
        if item.last().is_some_and(|last| last.text == ";")
            && let Some(place) = item.iter().position(|token| token.text == "mod")
        {
            modules.push(item[place + 1].text.clone());
        }
        lines += item.last().map_or(0, |last| last.line + 1 - item[0].line);
        at = end;
    }
    (kept, modules, lines)
}

fn starts_test(rest: &[Token]) -> bool {
    let opening: Vec<&str> = rest.iter().take(4).map(|token| token.text.as_str()).collect();
    if opening != ["#", "[", "cfg", "("] {
        return false;
    }
    let condition = || rest.iter().skip(4).map(|token| token.text.as_str()).take_while(|text| *text != "]");
    condition().any(|text| text == "test") && !condition().any(|text| text == "not" || text == "any")
}

/// Behind the `;` or the closing brace of the item at `start`, whose attributes come first.
fn end_of_item(all: &[Token], start: usize) -> usize {
    let mut depth = 0;
    for (at, token) in all.iter().enumerate().skip(start) {
        match token.text.as_str() {
            "{" | "(" | "[" => depth += 1,
            "}" | ")" | "]" => depth -= 1,
            _ => {}
        }
        if depth == 0 && matches!(token.text.as_str(), ";" | "}") {
            return at + 1;
        }
    }
    all.len()
}

fn names(tokens: &[Token]) -> Vec<Named> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < tokens.len() {
        // `use<'a>` in a signature says which lifetimes it captures; it names nothing.
        let captures = tokens.get(at + 1).is_some_and(|next| next.text == "<");
        if tokens[at].text == "use" && !captures {
            let exported = at > 0 && matches!(tokens[at - 1].text.as_str(), "pub" | ")");
            at = use_tree(tokens, at + 1, &[], exported, &mut found);
        } else if tokens[at].text.chars().all(is_word) && tokens.get(at + 1).is_some_and(|next| next.text == "::") {
            at = plain_path(tokens, at, &mut found);
        } else {
            at += 1;
        }
    }
    found
}

fn plain_path(tokens: &[Token], start: usize, found: &mut Vec<Named>) -> usize {
    let mut words = vec![tokens[start].text.clone()];
    let mut at = start + 1;
    while tokens.get(at).is_some_and(|token| token.text == "::")
        && let Some(next) = tokens.get(at + 1).filter(|next| next.text.chars().all(is_word))
    {
        words.push(next.text.clone());
        at += 2;
    }
    found.push(Named { words, line: tokens[start].line, exported_as: None });
    at.max(start + 1)
}

/// Reads `a::{b, c::d as e, *}` and returns where it ends.
fn use_tree(tokens: &[Token], start: usize, before: &[String], exported: bool, found: &mut Vec<Named>) -> usize {
    let mut words = before.to_vec();
    let mut at = start;
    let mut renamed = None;
    while let Some(token) = tokens.get(at) {
        match token.text.as_str() {
            "::" => at += 1,
            "{" => {
                at += 1;
                while tokens.get(at).is_some_and(|token| token.text != "}") {
                    at = use_tree(tokens, at, &words, exported, found);
                    at += usize::from(tokens.get(at).is_some_and(|token| token.text == ","));
                }
                return at + 1;
            }
            "as" => {
                renamed = tokens.get(at + 1).map(|name| name.text.clone());
                at += 2;
            }
            "," | ";" | "}" => break,
            "self" if !words.is_empty() => at += 1,
            word => {
                words.push(word.to_owned());
                at += 1;
            }
        }
    }
    let line = tokens.get(start).map_or(0, |token| token.line);
    let exported_as = exported.then(|| renamed.or_else(|| words.last().cloned())).flatten();
    found.push(Named { words, line, exported_as });
    at
}

// ---- the house ----

struct House {
    files: BTreeMap<String, File>,
    /// Module path → file.
    modules: BTreeMap<Vec<String>, String>,
}

impl House {
    fn of(sources: &BTreeMap<String, String>) -> Self {
        let mut files: BTreeMap<String, File> =
            sources.iter().map(|(name, source)| (name.clone(), File::of(name, source))).collect();
        let tests: Vec<Vec<String>> = files
            .values()
            .flat_map(|file| file.test_modules.iter().map(|name| [file.module.clone(), vec![name.clone()]].concat()))
            .collect();
        // A module of tests may lie in a file of its own beside the one that it tests.
        files.retain(|name, file| {
            !name.ends_with("_tests.rs") && !tests.iter().any(|module| file.module.starts_with(module))
        });
        let modules = files
            .iter()
            .filter(|(name, _)| *name != "main.rs")
            .map(|(name, file)| (file.module.clone(), name.clone()))
            .collect();
        Self { files, modules }
    }

    fn faults(&self) -> Vec<String> {
        let mut faults = Vec::new();
        for (name, file) in &self.files {
            if !file.opens_with_words {
                faults.push(format!("{name}: opens without `//!`"));
            }
            if file.lines > LONGEST_FILE {
                faults.push(format!("{name}: {} lines without its tests, more than {LONGEST_FILE}", file.lines));
            }
            self.check_arrows(name, file, &mut faults);
            check_homes(name, file, &mut faults);
        }
        faults
            .extend(self.cycles().into_iter().map(|cycle| format!("{cycle}: these files know each other in a circle")));
        faults
    }

    fn check_arrows(&self, name: &str, file: &File, faults: &mut Vec<String>) {
        if name == "lib.rs" {
            return;
        }
        let Some((_, allowed)) = ARROWS.iter().find(|(room, _)| *room == file.room) else {
            faults.push(format!("{name}: the room `{}` is not in the table", file.room));
            return;
        };
        for named in &file.named {
            let Some(room) = self.absolute(file, &named.words).and_then(|path| path.first().cloned()) else { continue };
            let is_room = ARROWS.iter().any(|(known, _)| *known == room);
            if is_room && room != file.room && !allowed.contains(&room.as_str()) {
                faults.push(format!("{name}:{}: `{}` must not know `{room}`", named.line, file.room));
            }
        }
    }

    /// The path from the crate's root; `None` for what another crate or this file itself holds.
    fn absolute(&self, file: &File, words: &[String]) -> Option<Vec<String>> {
        let mut base = file.module.clone();
        let mut rest = words;
        match words.first()?.as_str() {
            "crate" | "git_tether" => return Some(words[1..].to_vec()),
            "super" => {
                while let [first, others @ ..] = rest
                    && first == "super"
                {
                    base.pop();
                    rest = others;
                }
            }
            "self" => rest = &words[1..],
            child if self.modules.contains_key(&[base.clone(), vec![child.to_owned()]].concat()) => {}
            _ => return None,
        }
        base.extend_from_slice(rest);
        Some(base)
    }

    /// The file that holds what `path` names, through re-exports.
    fn home_of(&self, path: &[String], depth: usize) -> Option<&str> {
        let length = (1..=path.len()).rev().find(|&length| self.modules.contains_key(&path[..length]))?;
        let name = self.modules.get(&path[..length])?;
        let file = &self.files[name];
        let wanted = path.get(length);
        let export =
            file.named.iter().find(|named| named.exported_as.is_some() && named.exported_as.as_ref() == wanted);
        if let Some(export) = export
            && depth > 0
            && let Some(target) = self.absolute(file, &export.words)
        {
            return self.home_of(&target, depth - 1);
        }
        Some(name)
    }

    fn cycles(&self) -> Vec<String> {
        let mut edges: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
        for (name, file) in &self.files {
            let targets = file.named.iter().filter(|named| named.exported_as.is_none());
            let targets = targets.filter_map(|named| self.home_of(&self.absolute(file, &named.words)?, 8));
            let in_room = targets.filter(|target| *target != name && self.files[*target].room == file.room);
            edges.entry(name).or_default().extend(in_room);
        }
        let reached: BTreeMap<&str, BTreeSet<&str>> =
            edges.keys().map(|from| (*from, reachable(&edges, from))).collect();
        let mut circles = BTreeSet::new();
        for (from, to) in &reached {
            let circle: BTreeSet<&str> = to.iter().copied().filter(|other| reached[other].contains(from)).collect();
            if !circle.is_empty() {
                circles.insert(circle.into_iter().collect::<Vec<_>>().join(", "));
            }
        }
        circles.into_iter().collect()
    }
}

fn reachable<'a>(edges: &BTreeMap<&'a str, BTreeSet<&'a str>>, from: &str) -> BTreeSet<&'a str> {
    let mut seen = BTreeSet::new();
    let mut open: Vec<&str> = edges[from].iter().copied().collect();
    while let Some(next) = open.pop() {
        if seen.insert(next) {
            open.extend(edges[next].iter().copied());
        }
    }
    seen
}

fn check_homes(name: &str, file: &File, faults: &mut Vec<String>) {
    let paths = file.named.iter().map(|named| (named.words.join("::"), named.line));
    for (written, line) in paths.chain(file.macros.iter().cloned()) {
        // The most precise rule speaks: `gix::ObjectId` before `gix`.
        let rules = HOMES.iter().filter(|(what, _)| names_it(&written, what));
        let Some((what, homes)) = rules.max_by_key(|(what, _)| what.len()) else { continue };
        let at_home = |home: &&str| home.strip_suffix('*').map_or(*home == name, |prefix| name.starts_with(prefix));
        if !homes.iter().any(at_home) {
            faults.push(format!("{name}:{line}: `{written}`: `{what}` is at home in {homes:?}"));
        }
    }
}

/// Crates are named at the start of a path, functions at its end; clap has a `Command` too.
fn names_it(written: &str, what: &str) -> bool {
    let is_function = what.ends_with('!') || what.contains("::") && !what.starts_with("gix");
    if is_function {
        return written == what || written.ends_with(&format!("::{what}")) && !written.starts_with("clap::");
    }
    written == what || written.starts_with(&format!("{what}::"))
}

// ---- the checker can fail ----

fn faults_of(files: &[(&str, &str)]) -> Vec<String> {
    let files = files.iter().map(|(name, source)| ((*name).to_owned(), format!("//! x\n{source}"))).collect();
    House::of(&files).faults()
}

#[track_caller]
fn refused(files: &[(&str, &str)], because: &str) {
    let faults = faults_of(files);
    assert!(faults.iter().any(|fault| fault.contains(because)), "expected {because:?} in {faults:?}");
}

#[track_caller]
fn accepted(files: &[(&str, &str)]) {
    assert_eq!(faults_of(files), Vec::<String>::new());
}

#[test]
fn the_table_points_down_only() {
    for (place, (_, allowed)) in ARROWS.iter().enumerate() {
        for room in *allowed {
            let target = ARROWS.iter().position(|(known, _)| known == room);
            assert!(target.is_some_and(|target| target > place), "{room}");
        }
    }
    let may = |from: &str, to: &str| ARROWS.iter().any(|(room, allowed)| *room == from && allowed.contains(&to));
    for (one, other) in [("store", "plan"), ("store", "world"), ("plan", "world")] {
        assert!(!may(one, other) && !may(other, one), "{one} and {other}");
    }
}

#[test]
fn arrows_up_and_sideways_are_refused() {
    refused(&[("store/a.rs", "use crate::world::paths;")], "`store` must not know `world`");
    refused(&[("plan/a.rs", "use crate::{domain::Run, store::{self, X}};")], "`plan` must not know `store`");
    refused(&[("domain/a.rs", "fn f() { crate::git::go() }")], "`domain` must not know `git`");
    refused(&[("world/a/b.rs", "use super::super::super::plan::Finding;")], "`world` must not know `plan`");
    refused(&[("world/mod.rs", "use super::app;")], "`world` must not know `app`");
    refused(&[("main.rs", "fn main() { git_tether::store::x() }")], "`main` must not know `store`");
    refused(&[("cellar/a.rs", "")], "not in the table");
    accepted(&[("app/a.rs", "use crate::{store::X, world::{Y, z::Z}, domain::*};"), ("cli/mod.rs", "use crate::app;")]);
    accepted(&[(
        "store/a.rs",
        "// crate::world\n/* crate::world /* */ crate::plan */ const A: &str = \"crate::world::x\";",
    )]);
    accepted(&[(
        "store/a.rs",
        "const A: &str = r#\"crate::world \" crate::plan\"#; const B: char = '\"'; fn f<'a>(_: &'a u8) {}",
    )]);
    accepted(&[("store/a.rs", "#[cfg(test)]\nmod tests { use crate::world::X; }")]);
    accepted(&[("store/mod.rs", "#[cfg(test)] mod trials;"), ("store/trials.rs", "use crate::world::X;")]);
    refused(&[("store/a.rs", "#[cfg(not(test))]\nmod real { use crate::world::X; }")], "must not know `world`");
    refused(&[("store/a.rs", "const Q: char = '\\''; use crate::world::X;")], "must not know `world`");
}

#[test]
fn dependencies_away_from_home_are_refused() {
    refused(&[("app/a.rs", "use clap::Parser;")], "`clap`");
    refused(&[("domain/a.rs", "#[derive(serde::Serialize)] struct A;")], "`serde`");
    refused(&[("plan/a.rs", "use gix::Repository;")], "`gix`");
    refused(&[("plan/a.rs", "use gix::{ObjectId, Repository};")], "`gix`");
    refused(&[("world/worktrees.rs", "use walkdir::WalkDir;")], "`walkdir`");
    refused(&[("world/a.rs", "fn f() { std::process::Command::new(\"git\"); }")], "`Command::new`");
    refused(&[("app/a.rs", "fn f() { Command::new(\"git\"); }")], "`Command::new`");
    refused(&[("app/a.rs", "fn f() { chrono::Utc::now(); }")], "`Utc::now`");
    refused(&[("world/a.rs", "fn f() { println!(\"x\"); }")], "`println!`");
    refused(&[("app/a.rs", "fn f() { std::process::exit(1) }")], "`process::exit`");
    refused(&[("plan/a.rs", "fn f<'a>() -> impl Sized + use<'a> { gix::open() } struct S;")], "`gix`");
    accepted(&[("domain/a.rs", "use gix::ObjectId; use gix::hash::ObjectId as Id;")]);
    accepted(&[("cli/a.rs", "use clap::Parser; fn f() { clap::Command::new(\"x\"); println!() }")]);
    accepted(&[("world/paths/walk.rs", "use walkdir::WalkDir;"), ("world/clock.rs", "fn f() { Utc::now(); }")]);
}

#[test]
fn files_that_open_badly_or_grow_are_refused() {
    let bare = BTreeMap::from([("git/a.rs".to_owned(), "use std::fs;".to_owned())]);
    assert_eq!(House::of(&bare).faults(), ["git/a.rs: opens without `//!`"]);
    let long = "fn f() {}\n".repeat(LONGEST_FILE);
    refused(&[("git/a.rs", &long)], "lines without its tests");
    let tested = format!("#[cfg(test)]\nmod tests {{\n{long}}}\n");
    accepted(&[("git/a.rs", &tested)]);
}

#[test]
fn circles_inside_a_room_are_refused() {
    refused(&[("git/a.rs", "use super::b::B;"), ("git/b.rs", "use crate::git::a::A;"), ("git/mod.rs", "")], "circle");
    refused(
        &[
            ("git/mod.rs", "mod a; mod b; mod c; pub use a::A; pub use b::{B as Bee};"),
            ("git/a.rs", "use super::Bee;"),
            ("git/b.rs", "use super::c;"),
            ("git/c.rs", "use super::A;"),
        ],
        "git/a.rs, git/b.rs, git/c.rs",
    );
    refused(&[("git/mod.rs", "mod a; fn f() { a::go() } struct S;"), ("git/a.rs", "use super::S;")], "circle");
    accepted(&[
        ("git/mod.rs", "mod a; mod b; pub use a::A; pub use b::B;"),
        ("git/a.rs", ""),
        ("git/b.rs", "use super::A;"),
    ]);
}

#[test]
fn the_page_shows_the_tables() {
    let page = include_str!("../docs/architecture.md");
    let quoted = |names: &[&str], none: &str| match names {
        [] => none.to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    for (room, allowed) in ARROWS {
        let row = page.lines().find(|line| line.starts_with(&format!("| `{room}` |")));
        let row = row.unwrap_or_else(|| panic!("docs/architecture.md has no row for `{room}`"));
        assert!(row.ends_with(&format!("| {} |", quoted(allowed, "nothing"))), "{row}");
    }
    for (what, homes) in HOMES {
        let row = format!("| `{what}` | {} |", quoted(homes, "nowhere"));
        assert!(page.lines().any(|line| line == row), "docs/architecture.md lacks: {row}");
    }
}
