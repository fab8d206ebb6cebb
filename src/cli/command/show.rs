//! `git tether show`

use std::fmt::Write as _;

use clap::Args;
use serde_json::{Value, json};

use crate::app::Failure;
use crate::app::hierarchy::ChildRun;
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::command::restore::restoration;
use crate::cli::pager;
use crate::cli::render::human;
use crate::cli::render::json::run_entries;
use crate::cli::repository;
use crate::domain::ids::RunId;
use crate::domain::names::Named;
use crate::domain::task::TaskState;
use crate::domain::view::RunView;
use crate::record::summary;

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// The run.
    run: RunId,
    /// What its executor was told when it was restored last.
    #[arg(long)]
    restoration: bool,
}

/// Shows a run.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let view = tether.show_run(&arguments.run)?;
    if arguments.restoration {
        return Ok(restoration(&view, tether.last_restoration(&arguments.run)?.as_ref()).into());
    }
    let children = tether.children_of(&arguments.run)?;
    let answer = if children.is_empty() { Answer::Run(Box::new(view)) } else { with_children(view, &children) };
    Ok(Outcome::from(answer).paged_by(pager::choose(tether)))
}

/// A parent run: a person who should look at a child should look at it.
fn with_children(mut view: RunView, children: &[ChildRun]) -> Answer {
    view.run.requires_attention |= children.iter().any(|child| child.requires_attention);
    let mut fields = run_entries(&view);
    fields.push(("children", Value::Array(children.iter().map(as_json).collect())));
    let mut human = String::from_utf8_lossy(&human::answer(&Answer::Run(Box::new(view)))).into_owned();
    for child in children {
        in_words(&mut human, child, 1);
    }
    Answer::Other { name: "run", fields, human }
}

fn as_json(child: &ChildRun) -> Value {
    json!({
        "run": child.run.as_str(),
        "status": child.status.to_string(),
        "requires_attention": child.requires_attention,
        "task_summary": summary(&child.task_summary),
        "blocked_reasons": child.blocked_reasons,
        "children": child.children.iter().map(as_json).collect::<Vec<_>>(),
    })
}

fn in_words(text: &mut String, child: &ChildRun, depth: usize) {
    let indent = "  ".repeat(depth);
    let summary = &child.task_summary;
    let counts = TaskState::ALL.iter().map(|state| (summary.count(*state), state)).filter(|(count, _)| *count > 0);
    let counts = counts.map(|(count, state)| format!("{count} {state}")).collect::<Vec<_>>().join(", ");
    let attention = if child.requires_attention { "; somebody should look" } else { "" };
    let counts = if counts.is_empty() { "no tasks".to_owned() } else { counts };
    let _ = writeln!(text, "{indent}child {}: {} ({counts}){attention}", child.run, child.status);
    for reason in &child.blocked_reasons {
        let _ = writeln!(text, "{indent}  blocked: {}", human::line(reason));
    }
    for below in &child.children {
        in_words(text, below, depth + 1);
    }
}
