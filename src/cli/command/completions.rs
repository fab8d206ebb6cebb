//! `git tether completions`: what a shell needs to complete `git tether <TAB>`.
//!
//! Git's own completion calls `_git_tether` (bash) or `_git-tether` (zsh) for our command; fish asks `git-tether` itself.

use clap::{Args, CommandFactory, ValueEnum};
use clap_complete::Shell;

use crate::app::Failure;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::{Cli, JsonForm};

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// For which shell.
    shell: KnownShell,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum KnownShell {
    Bash,
    Zsh,
    Fish,
}

/// What makes git's own bash completion find ours: it calls `_git_tether` with the whole command line, so the words before
/// `tether` are taken off.
const BASH_UNDER_GIT: &str = r#"
# `git tether <TAB>`: called by git's own completion.
_git_tether() {
    local start
    for ((start = 1; start < ${#COMP_WORDS[@]}; start++)); do
        [[ ${COMP_WORDS[start]} == tether ]] && break
    done
    local -a COMP_WORDS=(git-tether "${COMP_WORDS[@]:start+1}")
    local COMP_CWORD=$((COMP_CWORD - start))
    _gittether git-tether "${COMP_WORDS[COMP_CWORD]}" "${COMP_WORDS[COMP_CWORD-1]}"
}
"#;

/// Our name as bash's generator can take it; `BASH_UNDER_GIT` names its function.
const UNHYPHENATED: &str = "gittether";

/// Prints the completions of a shell.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let script = script(arguments.shell)?;
    let answer = match json {
        Some(_) => {
            Answer::Other { name: "completions", fields: vec![("completions", script.into())], human: String::new() }
        }
        None => Answer::Raw(script.into_bytes()),
    };
    Ok(answer.into())
}

fn script(shell: KnownShell) -> Result<String, Failure> {
    let known = match shell {
        KnownShell::Bash => Shell::Bash,
        KnownShell::Zsh => Shell::Zsh,
        KnownShell::Fish => Shell::Fish,
    };
    // The generator for bash gets lost in names with a hyphen: there it makes functions of another name.
    let name = if shell == KnownShell::Bash { UNHYPHENATED } else { "git-tether" };
    let mut script = Vec::new();
    clap_complete::generate(known, &mut Cli::command().name(name), name, &mut script);
    let script = String::from_utf8(script)
        .map_err(|error| Failure::fatal("completions", format!("the completions are no text: {error}")))?;
    if shell != KnownShell::Bash {
        return Ok(script);
    }
    let registered = |line: &str| match line.strip_suffix(&format!(" {UNHYPHENATED}")) {
        Some(start) if start.trim_start().starts_with("complete ") => format!("{start} git-tether\n"),
        _ => format!("{line}\n"),
    };
    Ok(script.lines().map(registered).collect::<String>() + BASH_UNDER_GIT)
}
