//! `git tether log`

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Map, Value};

use crate::app::Failure;
use crate::app::history::Happened;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::pager;
use crate::cli::repository;
use crate::domain::ids::{RunId, TaskId};
use crate::record::message::{self, Parts};

/// How much of a commit's id is shown to people.
const SHORT: usize = 10;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
    /// Only what happened to this task of it.
    task: Option<TaskId>,
}

/// Shows what happened, newest first.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let history = tether.history(&arguments.run, arguments.task.as_ref())?;
    let mut human = String::new();
    for happened in &history.happened {
        in_words(&mut human, happened);
    }
    let entries = history.happened.iter().map(as_json).collect();
    let answer = Answer::Other { name: "log", fields: vec![("log", Value::Array(entries))], human };
    let outcome = Outcome::from(answer).paged_by(pager::choose(tether));
    Ok(match history.ends_at {
        Some(why) => outcome.saying(format!("warning: what is older cannot be read: {why}")),
        None => outcome,
    })
}

fn in_words(text: &mut String, happened: &Happened) {
    let Parts { subject, body, .. } = message::parts(&happened.message);
    let commit = happened.commit.0.get(..SHORT).unwrap_or(&happened.commit.0);
    let at = happened.at.map(|at| at.to_string()).unwrap_or_default();
    let _ = writeln!(text, "{commit} {at}  {}", crate::cli::render::human::line(subject));
    for line in body.lines().filter(|line| !line.is_empty()) {
        let _ = writeln!(text, "{:width$}{}", "", crate::cli::render::human::line(line), width = SHORT + 3 + at.len());
    }
}

/// An entry; the trailers are told as they stand, nothing is concluded from them.
fn as_json(happened: &Happened) -> Value {
    let Parts { subject, body, trailers } = message::parts(&happened.message);
    let mut map = Map::new();
    map.insert("commit".to_owned(), Value::from(happened.commit.0.as_str()));
    map.insert("at".to_owned(), happened.at.map_or(Value::Null, |at| Value::from(at.to_string())));
    map.insert("author".to_owned(), Value::from(happened.author.as_str()));
    map.insert("subject".to_owned(), Value::from(subject));
    map.insert("body".to_owned(), Value::from(body));
    for name in ["Event", "Run", "Task", "Environment", "Session", "Actor", "Host"] {
        let found = trailers.iter().find(|(known, _)| known.strip_prefix("Tether-") == Some(name));
        map.insert(name.to_lowercase(), found.map_or(Value::Null, |(_, value)| Value::from(*value)));
    }
    Value::Object(map)
}
