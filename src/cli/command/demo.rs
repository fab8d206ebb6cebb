//! `git tether demo`

use clap::Args;
use serde_json::json;

use crate::app::Failure;
use crate::app::demo::{Afterwards, Audience, play};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::render::human::safe;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Leave the repository there, for a look around.
    #[arg(long)]
    keep: bool,
}

/// The story goes to stdout, or beside a JSON answer to stderr.
struct Screen {
    beside: bool,
}

impl Screen {
    fn show(&self, text: &str) {
        if self.beside {
            crate::cli::narrate(text.trim_end_matches('\n'));
        } else {
            crate::cli::print(text.as_bytes());
        }
    }
}

impl Audience for Screen {
    fn hears(&mut self, words: &str) {
        self.show(&format!("\n# {words}\n"));
    }

    fn sees_typed(&mut self, line: &str) {
        self.show(&format!("$ {line}\n"));
    }

    fn sees_printed(&mut self, text: &str) {
        for line in safe(text).lines() {
            self.show(&format!("  {line}\n"));
        }
    }
}

/// Plays the demonstration.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let program = std::env::current_exe()
        .map_err(|error| Failure::fatal("demo_failed", format!("could not find out which program this is: {error}")))?;
    let afterwards = if arguments.keep { Afterwards::Keep } else { Afterwards::Remove };
    let played = play(&program, afterwards, &mut Screen { beside: json.is_some() })?;
    let tasks: serde_json::Map<_, _> =
        played.tasks.iter().map(|(task, state)| (task.clone(), state.as_str().into())).collect();
    let repository = played.repository.display().to_string();
    let human = if played.kept {
        format!("\n# Look around in {repository}; remove its parent directory when you are done.")
    } else {
        "\n# That was all; the repository is removed again (--keep leaves it).".to_owned()
    };
    let fields = json!({"repository": repository, "kept": played.kept, "tasks": tasks});
    Ok(Answer::Other { name: "demo", fields: vec![("demo", fields)], human }.into())
}
