//! `git tether man`: the manual page, made from the same description as the command line.
//!
//! `git tether --help` is git looking for the page `git-tether(1)`; `--install` puts it where `man` finds it.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::{Arg, Args, Command, CommandFactory};
use clap_mangen::Man;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{Cli, JsonForm};

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Put the page below this directory of manual pages (`~/.local/share/man`), instead of printing it.
    #[arg(long, value_name = "DIR")]
    install: Option<PathBuf>,
}

/// What stands behind the commands.
const CLOSING: &str = r".SH EXIT STATUS
.TP
\fB0\fR
done, and nothing needs a person
.TP
\fB1\fR
findings that need a person remain (recover, verify, doctor; status and waiting with \-\-exit\-code)
.TP
\fB3\fR
refused: held by a live owner, or fenced
.TP
\fB75\fR
busy; safe to try again
.TP
\fB128\fR
it could not be done
.TP
\fB129\fR
the call makes no sense
.PP
\fBrun\fR and \fBresume\fR pass on the code of their command: 128+n if signal n ended it, 125 if git\-tether itself failed or was
refused, 126 and 127 as in sh.
.SH FILES
.TP
\fIrefs/tether/\fR
runs, sessions, claims, pools, the journal and the archive, one chain of commits each
.TP
\fIrefs/tether\-local/\fR
saved work, which is never pushed unless you name it
.TP
\fI<common dir>/tether/\fR
what only this machine knows: locks, heartbeats, commands that it recorded itself
";

/// Prints or installs the page.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let page = page().map_err(|error| Failure::fatal("man", format!("could not make the page: {error}")))?;
    let Some(directory) = arguments.install else {
        let text = String::from_utf8_lossy(&page).into_owned();
        return Ok(match json {
            Some(_) => Answer::Other { name: "man", fields: vec![("man", text.into())], human: String::new() }.into(),
            None => Answer::Raw(page).into(),
        });
    };
    let file = install(&directory, &page)?;
    let shown = file.display().to_string();
    let human = format!("installed {shown}; `git tether --help` shows it if man looks in {}", directory.display());
    Ok(Answer::Other { name: "man", fields: vec![("man", shown.into())], human }.into())
}

fn install(directory: &Path, page: &[u8]) -> Result<PathBuf, Failure> {
    let section = directory.join("man1");
    let file = section.join("git-tether.1");
    let failed = |error: std::io::Error| {
        Failure::fatal("man", format!("could not install {}: {error}", file.display()))
            .hint("name a directory that you may write to, like ~/.local/share/man")
    };
    std::fs::create_dir_all(&section).map_err(failed)?;
    std::fs::write(&file, page).map_err(failed)?;
    Ok(file)
}

fn page() -> std::io::Result<Vec<u8>> {
    let mut command = Cli::command();
    command.build();
    let man = Man::new(command.clone()).title("git-tether").manual("Git Manual").source(version());
    let mut page = Vec::new();
    man.render_title(&mut page)?;
    man.render_name_section(&mut page)?;
    writeln!(page, ".SH SYNOPSIS\n\\fBgit tether\\fR [\\fB\\-\\-json\\fR] \\fICOMMAND\\fR ...")?;
    man.render_description_section(&mut page)?;
    man.render_options_section(&mut page)?;
    writeln!(page, ".SH COMMANDS")?;
    for one in command.get_subcommands() {
        write_command(&mut page, one, "git tether")?;
    }
    page.extend_from_slice(CLOSING.as_bytes());
    Ok(page)
}

fn version() -> String {
    format!("git-tether {}", env!("CARGO_PKG_VERSION"))
}

/// One command with all it takes, then the commands below it.
fn write_command(page: &mut Vec<u8>, command: &Command, before: &str) -> std::io::Result<()> {
    let name = format!("{before} {}", command.get_name());
    let below: Vec<&Command> = command.get_subcommands().filter(|one| one.get_name() != "help").collect();
    if below.is_empty() {
        writeln!(page, ".SS {}", escaped(&synopsis(&name, command)))?;
    } else {
        writeln!(page, ".SS {}", escaped(&name))?;
    }
    if let Some(about) = command.get_about() {
        writeln!(page, "{}", escaped(&about.to_string()))?;
    }
    for argument in command.get_arguments().filter(|argument| !is_everywhere(argument)) {
        writeln!(page, ".TP\n{}", escaped(&heading(argument)))?;
        let help = argument.get_help().map(ToString::to_string).unwrap_or_default();
        writeln!(page, "{}", escaped(&format!("{help}{}", allowed_values(argument))))?;
    }
    for one in below {
        write_command(page, one, &name)?;
    }
    Ok(())
}

fn is_everywhere(argument: &Arg) -> bool {
    matches!(argument.get_id().as_str(), "help" | "version" | "json") || argument.is_hide_set()
}

fn synopsis(name: &str, command: &Command) -> String {
    let usage = command.clone().render_usage().to_string();
    let usage = usage.trim_start_matches("Usage:").trim();
    // The usage starts with the whole path of the command; ours says it in the words that people type.
    match usage.split_once(command.get_name()) {
        Some((_, rest)) => format!("{name}{rest}"),
        None => name.to_owned(),
    }
}

fn heading(argument: &Arg) -> String {
    let names: Vec<String> = argument.get_value_names().unwrap_or_default().iter().map(ToString::to_string).collect();
    let takes_value = argument.get_action().takes_values();
    let value = if takes_value { names.join(" ") } else { String::new() };
    match (argument.get_long(), argument.get_short()) {
        (Some(long), _) if value.is_empty() => format!("--{long}"),
        (Some(long), _) => format!("--{long} {value}"),
        (None, Some(short)) => format!("-{short} {value}").trim_end().to_owned(),
        (None, None) if argument.is_last_set() => format!("-- {value}..."),
        (None, None) => value,
    }
}

fn allowed_values(argument: &Arg) -> String {
    let values = argument.get_possible_values();
    if values.is_empty() || !argument.get_action().takes_values() {
        return String::new();
    }
    let names: Vec<&str> = values.iter().map(clap::builder::PossibleValue::get_name).collect();
    format!(" One of: {}.", names.join(", "))
}

/// Text as roff takes it: no line of it is a request, no character a command.
fn escaped(text: &str) -> String {
    let flat = text.split_whitespace().collect::<Vec<_>>().join(" ").replace('\\', "\\e").replace('-', "\\-");
    if flat.starts_with(['.', '\'']) { format!("\\&{flat}") } else { flat }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;

    #[test]
    fn every_command_stands_in_the_page() {
        let page = String::from_utf8(page().unwrap()).unwrap();
        for command in Cli::command().get_subcommands() {
            let heading = format!(".SS git tether {}", command.get_name().replace('-', "\\-"));
            assert!(page.contains(&heading), "{heading}");
        }
    }

    #[test]
    fn text_is_never_a_request() {
        assert_eq!(escaped(".so /etc/passwd\n.sh x"), "\\&.so /etc/passwd .sh x");
        assert_eq!(escaped("a\\b -c"), "a\\eb \\-c");
    }
}
