//! `git tether watch`

use std::io::Write as _;
use std::time::Duration;

use clap::Args;
use serde_json::{Value, json};

use crate::app::Failure;
use crate::app::watch::{News, RunNews};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::render::human::line;
use crate::cli::render::json::{escaped, object};
use crate::cli::repository;
use crate::domain::ids::RunId;
use crate::domain::names::Named;
use crate::domain::task::TaskState;

/// How long it sleeps between two looks.
const PAUSE: Duration = Duration::from_millis(250);

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Only this run.
    run: Option<RunId>,
}

/// Follows runs until it is interrupted, or nobody reads any more.
pub(crate) fn run(arguments: Arguments, json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let mut watch = tether.watch(arguments.run)?;
    loop {
        for news in watch.look()? {
            let text = match json {
                Some(_) => format!("{}\n", escaped(&as_json(&news).to_string())),
                None => format!("{}\n", line(&in_words(&news))),
            };
            let mut stdout = std::io::stdout().lock();
            if stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).is_err() {
                return Ok(Answer::Nothing.into());
            }
        }
        if !somebody_reads_for(PAUSE) {
            return Ok(Answer::Nothing.into());
        }
    }
}

/// Waits, and answers whether standard output still leads to somebody.
fn somebody_reads_for(pause: Duration) -> bool {
    let stdout = std::io::stdout();
    let mut watched = [rustix::event::PollFd::new(&stdout, rustix::event::PollFlags::empty())];
    let timeout = rustix::event::Timespec { tv_sec: 0, tv_nsec: i64::from(pause.subsec_nanos()) };
    match rustix::event::poll(&mut watched, Some(&timeout)) {
        Ok(0) => true,
        Ok(_) => !watched[0].revents().intersects(rustix::event::PollFlags::ERR | rustix::event::PollFlags::NVAL),
        Err(_) => {
            std::thread::sleep(pause);
            true
        }
    }
}

fn as_json(news: &RunNews) -> Value {
    let watch = match &news.what {
        News::State { commit, at, subject, run } => json!({
            "run": news.run,
            "what": "state",
            "commit": commit,
            "at": at.map(|at| at.to_string()),
            "message": subject,
            "status": run.status.name(),
            "activity": {
                "state": run.activity.state.name(),
                "text": run.activity.text,
                "progress": run.activity.progress,
                "phase": run.activity.phase,
            },
            "task_summary": TaskState::ALL
                .iter()
                .map(|state| (state.name().to_owned(), Value::from(run.task_summary.count(*state))))
                .chain([("total".to_owned(), Value::from(run.task_summary.total()))])
                .collect::<serde_json::Map<_, _>>(),
            "requires_attention": run.requires_attention,
        }),
        News::Unreadable(problem) => json!({"run": news.run, "what": "unreadable", "message": problem}),
        News::Gone => json!({"run": news.run, "what": "gone", "message": "its ref is gone"}),
    };
    object("watch", [("watch", watch)])
}

fn in_words(news: &RunNews) -> String {
    match &news.what {
        News::State { at, subject, run, .. } => {
            let at = at.map(|at| at.to_string()).unwrap_or_default();
            format!("{at} {}: {subject} (run {})", news.run, run.status)
        }
        News::Unreadable(problem) => format!("{}: unreadable: {problem}", news.run),
        News::Gone => format!("{}: gone", news.run),
    }
}
