//! `git tether salvage`

use std::io::{BufRead, BufReader, IsTerminal, Write};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::app::salvage::{ChangedFile, Colour, ListedWork, Standing};
use crate::app::{Failure, Tether};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::render::human::{line, safe};
use crate::cli::repository;
use crate::domain::ids::RunId;
use crate::domain::names::Named;
use crate::domain::saved::SavedEntry;
use crate::record::saved::saved_json;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// List what is saved.
    List {
        /// Only this run's.
        run: Option<RunId>,
    },
    /// Show which files saved work changes.
    Show {
        /// Its id, as `list` shows it, or the beginning of its commit.
        id: String,
    },
    /// Compare saved work with the commit that it was based on.
    Diff {
        /// Its id.
        id: String,
    },
    /// Write the files of saved work to a directory of their own.
    Restore {
        /// Its id.
        id: String,
        /// A directory that is empty or not there.
        path: PathBuf,
    },
    /// Give saved work up; `git gc` takes it then.
    Drop {
        /// Its id.
        id: String,
    },
}

/// Lists, shows, compares, restores and drops saved work.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    match arguments.action {
        Action::List { run } => list(tether, run.as_ref()),
        Action::Show { id } => show(tether, &id),
        Action::Diff { id } => diff(tether, &id, json),
        Action::Restore { id, path } => {
            let (entry, path, warnings) = tether.restore_saved_to(&id, &path)?;
            let human = format!("restored saved work {} to {}", entry.id, path.display());
            let shown = Value::from(path.to_string_lossy().into_owned());
            Ok(warn(answer(&[entry], [("path", shown)], human), warnings))
        }
        Action::Drop { id } => {
            let (gone, warnings) = tether.drop_saved(&id)?;
            let human = match gone.first() {
                Some(entry) => format!("dropped saved work {}", entry.id),
                None => format!("there is no saved work {id}"),
            };
            Ok(warn(answer(&gone, [], human), warnings))
        }
    }
}

fn answer(
    saved: &[SavedEntry],
    more: impl IntoIterator<Item = (&'static str, Value)>,
    human: impl Into<String>,
) -> Outcome {
    let mut fields = vec![("saved", saved.iter().map(saved_json).collect())];
    fields.extend(more);
    Answer::Other { name: "salvage", fields, human: human.into() }.into()
}

fn warn(outcome: Outcome, warnings: Vec<String>) -> Outcome {
    warnings.into_iter().fold(outcome, |outcome, warning| outcome.saying(format!("warning: {warning}")))
}

fn list(tether: &Tether, run: Option<&RunId>) -> Result<Outcome, Failure> {
    let list = tether.list_saved(run)?;
    let saved = list.saved.iter().map(listed_json).collect();
    let unreadable: Vec<_> = list.unreadable.iter().map(|(run, why)| json!({"run": run, "message": why})).collect();
    let human = match list.saved.as_slice() {
        [] => "nothing is saved".to_owned(),
        listed => listed.iter().map(listed_line).collect::<Vec<_>>().join("\n"),
    };
    let fields = vec![("saved", saved), ("unreadable", Value::Array(unreadable))];
    let warnings = list.unreadable.iter().map(|(run, why)| format!("what is saved of run {run} cannot be read: {why}"));
    Ok(warn(Answer::Other { name: "salvage", fields, human }.into(), warnings.collect()))
}

fn listed_json(listed: &ListedWork) -> Value {
    let mut value = saved_json(&listed.entry);
    value["standing"] = Value::from(listed.standing.name());
    value
}

fn listed_line(listed: &ListedWork) -> String {
    let entry = &listed.entry;
    let mut what = entry.run.clone();
    if let Some(task) = &entry.task {
        what = format!("{what}/{task}");
    }
    let mut words = vec![what];
    words.extend(entry.environment.as_ref().map(|environment| format!("environment {environment}")));
    words.extend(entry.branch.as_ref().map(|branch| format!("on {branch}")));
    words.push(format!("{} {}, {} bytes", entry.files, if entry.files == 1 { "file" } else { "files" }, entry.bytes));
    words.push(entry.reason.clone());
    if listed.standing != Standing::Named {
        words.push(format!("({})", listed.standing));
    }
    line(&format!("{}  {}  {}", entry.id, entry.at, words.join(", ")))
}

fn show(tether: &Tether, id: &str) -> Result<Outcome, Failure> {
    let (listed, files) = tether.show_saved(id)?;
    let mut human = listed_line(&listed);
    human = human + "\n  commit " + &listed.entry.commit.to_string();
    if let Some(base) = &listed.entry.base {
        human = human + "\n  on top of " + &base.to_string();
    }
    for file in &files {
        human = human + "\n  " + &file_line(file);
    }
    let files = files.iter().map(file_json).collect();
    let fields = vec![("saved", Value::Array(vec![listed_json(&listed)])), ("files", files)];
    Ok(Answer::Other { name: "salvage", fields, human }.into())
}

fn file_line(file: &ChangedFile) -> String {
    let letter = file.status.chars().next().unwrap_or(' ').to_ascii_uppercase();
    let size = file.bytes.map(|bytes| format!("  {bytes} bytes")).unwrap_or_default();
    let kind = if file.kind == "file" { String::new() } else { format!("  {}", file.kind) };
    line(&format!("{letter} {}{size}{kind}", file.path))
}

fn file_json(file: &ChangedFile) -> Value {
    json!({"path": file.path, "status": file.status, "kind": file.kind, "bytes": file.bytes})
}

/// On a terminal with git's colours and without anything else that a terminal obeys; elsewhere byte for byte, so that it can be applied.
fn diff(tether: &Tether, id: &str, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let on_terminal = json.is_none() && std::io::stdout().is_terminal();
    let wanted = on_terminal && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
    let colour = if wanted && tether.colours_diffs() { Colour::On } else { Colour::Off };
    let (entry, mut command) = tether.diff_of_saved(id, colour)?;
    if json.is_some() {
        let output = command.output().map_err(|error| git_failed(&error.to_string()))?;
        if !output.status.success() {
            return Err(git_failed(String::from_utf8_lossy(&output.stderr).trim()));
        }
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        return Ok(answer(&[entry], [("diff", Value::from(text))], ""));
    }
    let status = if on_terminal { show_safely(&mut command) } else { command.status() };
    match status {
        Ok(status) if status.success() => Ok(Answer::Nothing.into()),
        // A reader that has gone away has seen enough.
        Ok(status) if std::os::unix::process::ExitStatusExt::signal(&status).is_some() => Ok(Answer::Nothing.into()),
        Ok(status) => Err(git_failed(&format!("it ended with {status}"))),
        Err(error) => Err(git_failed(&error.to_string())),
    }
}

fn git_failed(why: &str) -> Failure {
    Failure::fatal("git_failed", format!("`git diff` could not compare: {why}"))
}

fn show_safely(command: &mut Command) -> std::io::Result<std::process::ExitStatus> {
    let mut child = command.stdout(Stdio::piped()).spawn()?;
    if let Some(stdout) = child.stdout.take() {
        let mut out = std::io::stdout().lock();
        let mut reader = BufReader::new(stdout);
        let mut text = Vec::new();
        while reader.read_until(b'\n', &mut text)? > 0 {
            if out.write_all(safe_with_colours(&String::from_utf8_lossy(&text)).as_bytes()).is_err() {
                break;
            }
            text.clear();
        }
    }
    child.wait()
}

/// Text without controls, but for sequences that only change colours.
fn safe_with_colours(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find("\u{1b}[") {
        let parameters = rest[at + 2..].find(|letter: char| !letter.is_ascii_digit() && letter != ';');
        let end = parameters.map(|length| at + 2 + length).filter(|end| rest[*end..].starts_with('m'));
        let until = end.map_or(at + 2, |end| end + 1);
        shown.push_str(&safe(&rest[..at]));
        shown.push_str(&if end.is_some() { rest[at..until].to_owned() } else { safe(&rest[at..until]) });
        rest = &rest[until..];
    }
    shown.push_str(&safe(rest));
    shown
}

#[cfg(test)]
mod tests {
    use super::safe_with_colours;

    #[test]
    fn only_colours_reach_a_terminal() {
        assert_eq!(safe_with_colours("\u{1b}[1;32m+a\u{1b}[m\n"), "\u{1b}[1;32m+a\u{1b}[m\n");
        assert_eq!(safe_with_colours("+\u{1b}[2Jx\u{1b}]0;t\u{7}"), "+\\u{1b}[2Jx\\u{1b}]0;t\\u{7}");
        assert_eq!(safe_with_colours("\u{1b}["), "\\u{1b}[");
        assert_eq!(safe_with_colours("\u{202e}a\r\n"), "\\u{202e}a\\u{d}\n");
    }
}
