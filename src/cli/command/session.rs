//! `git tether session`

use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use serde_json::Value;

use crate::app::evidence::AssumedDead;
use crate::app::reserve::{AttachBy, LockUse, Reach, Reservation, ReserveOutcome, Reserved};
use crate::app::session::{ListedAge, Progress, SessionFilter, SessionUpdate};
use crate::app::{Failure, Tether};
use crate::cli::answer::{Answer, Outcome};
use crate::cli::args::JsonForm;
use crate::cli::exit::Exit;
use crate::cli::parse;
use crate::cli::repository;
use crate::domain::ids::{Oid, SessionId};
use crate::domain::session::{Agent, Attach, SessionStatus};

// What it takes.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Reserve a thread: a line of work, usually a branch.
    Reserve(Box<Reserve>),
    /// Give a sign of life.
    Heartbeat {
        /// The session.
        session: SessionId,
    },
    /// Say more of a session.
    Update(Box<Update>),
    /// End a session, and give back what it holds.
    Release {
        /// The session.
        session: SessionId,
        /// How it ended: complete, merged or abandoned.
        #[arg(long, default_value = "complete")]
        status: SessionStatus,
    },
    /// Note that a session looked at a part of the repository.
    LogQuery {
        /// The session.
        session: SessionId,
        /// What was looked at.
        path: String,
        /// How widely.
        #[arg(long)]
        scope: Option<String>,
    },
    /// List sessions, newest first.
    List(Box<List>),
    /// Show a session.
    Show {
        /// The session.
        session: SessionId,
    },
    /// Show the sessions from the first actor down to this one.
    Chain {
        /// The session.
        session: SessionId,
    },
    /// End every session that is proven to be dead.
    Reap {
        /// Only of this thread.
        #[arg(long)]
        thread: Option<String>,
        /// A session, or host:H, that you know to be gone.
        #[arg(long, value_name = "S|host:H")]
        assume_dead: Vec<String>,
    },
}

#[derive(Debug, Args)]
struct Reserve {
    /// The thread.
    thread: String,
    /// The session's id; made up if it is left out.
    #[arg(long)]
    id: Option<SessionId>,
    /// The executor's process; without it, liveness is by lease alone.
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pid: Option<i64>,
    /// Where it works.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Who is behind it.
    #[arg(long)]
    provider: Option<String>,
    /// Its model.
    #[arg(long)]
    model: Option<String>,
    /// The program that drives it.
    #[arg(long)]
    harness: Option<String>,
    /// The key of the client that it serves.
    #[arg(long, value_name = "KEY")]
    client_key: Option<String>,
    /// Its key in its own system.
    #[arg(long, value_name = "KEY")]
    actor_key: Option<String>,
    /// The key of who started it.
    #[arg(long, value_name = "KEY")]
    parent_actor_key: Option<String>,
    /// The key of its own session.
    #[arg(long, value_name = "KEY")]
    native_key: Option<String>,
    /// A label that groups sessions.
    #[arg(long)]
    group: Option<String>,
    /// The commit that it starts from.
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// How long it holds without a sign of life (10m).
    #[arg(long, value_name = "TIME", value_parser = parse::duration)]
    lease: Option<Duration>,
    /// How it came to this: reason, precedence, `winning_rule`, `probe_source`, `probe_confidence`.
    #[arg(long, value_name = "JSON")]
    attach: Option<String>,
    /// Your own data, a JSON object.
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// Go on with an active session of the thread that has the same key.
    #[arg(long, value_name = "KEY")]
    attach_by: Option<AttachKey>,
    /// Hold it between hosts too, through this remote (else that of tether.remote); it falls when no heartbeat renews it.
    #[arg(long, value_name = "REMOTE", num_args = 0..=1, require_equals = true, default_missing_value = "")]
    remote_lease: Option<String>,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
#[allow(clippy::enum_variant_names, reason = "these are the words that are typed")]
enum AttachKey {
    ClientKey,
    NativeKey,
    ActorKey,
}

#[derive(Debug, Args)]
struct Update {
    /// The session.
    session: SessionId,
    /// What it used up: `input_tokens`, `output_tokens`, `reasoning_tokens`, `tool_calls`, `cost_micros_usd`.
    #[arg(long, value_name = "JSON")]
    usage: Option<String>,
    /// How it came to this.
    #[arg(long, value_name = "JSON")]
    attach: Option<String>,
    /// Your own data, a JSON object.
    #[arg(long, value_name = "JSON")]
    meta: Option<String>,
    /// The program that drives it.
    #[arg(long)]
    harness: Option<String>,
    /// How hard it thinks.
    #[arg(long, value_name = "LEVEL")]
    thinking_level: Option<String>,
    /// The commit that it works from.
    #[arg(long, value_name = "REV")]
    base: Option<String>,
    /// It got further.
    #[arg(long)]
    progress: bool,
}

#[derive(Debug, Args)]
struct List {
    /// Of this thread.
    #[arg(long)]
    thread: Option<String>,
    /// At this path.
    #[arg(long)]
    path: Option<PathBuf>,
    /// Only active ones.
    #[arg(long)]
    active: bool,
    /// Of this client.
    #[arg(long, value_name = "KEY")]
    client_key: Option<String>,
    /// Of this actor.
    #[arg(long, value_name = "KEY")]
    actor_key: Option<String>,
    /// With this own key.
    #[arg(long, value_name = "KEY")]
    native_key: Option<String>,
    /// With this label.
    #[arg(long)]
    group: Option<String>,
    /// Also those that ended long ago.
    #[arg(long, conflicts_with = "active")]
    all: bool,
}

/// Reserves threads, and says who works on them.
pub(crate) fn run(arguments: Arguments, _json: Option<JsonForm>) -> Result<Outcome, Failure> {
    let tether = repository::open()?;
    let seen = match arguments.action {
        Action::Reserve(asked) => return reserve(tether, *asked),
        Action::Heartbeat { session } => tether.heartbeat(&session)?,
        Action::Update(update) => self::update(tether, *update)?,
        Action::Release { session, status } => {
            if status == SessionStatus::Active {
                return Err(Failure::usage("invalid_value", "a session is released as complete, merged or abandoned"));
            }
            let released = tether.release_session(&session, status)?;
            return Ok(Answer::Session(released.map(Box::new)).into());
        }
        Action::LogQuery { session, path, scope } => tether.log_query(&session, &path, scope)?,
        Action::Show { session } => tether.show_session(&session)?,
        Action::List(list) => return Ok(Outcome::of_listing(tether.list_sessions(&filter(*list))?, Answer::Sessions)),
        Action::Chain { session } => return Ok(Answer::Sessions(tether.actor_chain(&session)?).into()),
        Action::Reap { thread, assume_dead } => {
            let reaped = tether.reap(thread.as_deref(), AssumedDead::parse(&assume_dead)?)?;
            return Ok(Answer::Sessions(reaped).into());
        }
    };
    Ok(Answer::Session(Some(Box::new(seen))).into())
}

fn filter(list: List) -> SessionFilter {
    let age = match (list.active, list.all) {
        (true, _) => ListedAge::Active,
        (false, true) => ListedAge::All,
        (false, false) => ListedAge::Recent,
    };
    SessionFilter {
        thread: list.thread,
        path: list.path,
        client_key: list.client_key,
        actor_key: list.actor_key,
        native_key: list.native_key,
        group: list.group,
        age,
    }
}

fn reserve(tether: &Tether, asked: Reserve) -> Result<Outcome, Failure> {
    let pid = asked.pid.map(|pid| match u32::try_from(pid) {
        Ok(pid) if pid >= 1 => Ok(pid),
        _ => Err(Failure::usage("invalid_pid", format!("{pid} is no process id: it has to be 1 or more"))),
    });
    let reservation = Reservation {
        id: asked.id,
        pid: pid.transpose()?,
        path: asked.path,
        agent: Agent { provider: asked.provider, model: asked.model, harness: asked.harness, thinking_level: None },
        client_key: asked.client_key,
        actor_key: asked.actor_key,
        parent_actor_key: asked.parent_actor_key,
        native_key: asked.native_key,
        group: asked.group,
        base_commit: asked.base.as_deref().map(|base| commit(tether, base)).transpose()?,
        lease: asked.lease,
        attach: asked.attach.as_deref().map(attach).transpose()?.unwrap_or_default(),
        metadata: parse::metadata(asked.meta.as_deref())?,
        lock: LockUse::None,
        reach: Reach::ThisRepository,
    };
    let attach_by = asked.attach_by.map(|key| match key {
        AttachKey::ClientKey => AttachBy::ClientKey,
        AttachKey::NativeKey => AttachBy::NativeKey,
        AttachKey::ActorKey => AttachBy::ActorKey,
    });
    let reserved = match asked.remote_lease.as_deref() {
        None => tether.reserve(&asked.thread, &reservation, attach_by)?,
        Some(remote) => {
            let remote = Some(remote).filter(|name| !name.is_empty());
            tether.reserve_on_remote(&asked.thread, &reservation, attach_by, remote)?
        }
    };
    let mut lines: Vec<String> = reserved.warnings.iter().map(|warning| format!("warning: {warning}")).collect();
    let exit = if reserved.outcome == ReserveOutcome::LiveOwner { Exit::Held } else { Exit::Done };
    if exit == Exit::Held {
        lines.extend(explain_live_owner(&asked.thread, &reserved));
    }
    let outcome = Outcome::from(Answer::Reserved(Box::new(reserved))).exit(exit);
    Ok(lines.into_iter().fold(outcome, Outcome::saying))
}

fn explain_live_owner(thread: &str, reserved: &Reserved) -> Vec<String> {
    let seen = &reserved.seen;
    let id = &seen.session.id;
    let mut lines = vec![format!(
        "{thread} is held by session {id} ({}): {}",
        seen.liveness.verdict,
        seen.liveness.evidence.join("; ")
    )];
    lines.extend(seen.liveness.falls_at.map(|at| format!("hint: without a sign of life its hold falls at {at}")));
    lines.push(format!("hint: if you know that it is gone: git tether session reap --assume-dead {id}"));
    lines
}

fn update(tether: &Tether, update: Update) -> Result<crate::app::session::SeenSession, Failure> {
    let usage = update.usage.as_deref().map(|usage| {
        crate::record::usage(usage)
            .map_err(|error| Failure::usage("invalid_json", crate::app::failure::chain_of(&error)))
    });
    let change = SessionUpdate {
        usage: usage.transpose()?,
        attach: update.attach.as_deref().map(attach).transpose()?.unwrap_or_default(),
        agent: Agent { harness: update.harness, thinking_level: update.thinking_level, ..Agent::default() },
        metadata: update.meta.as_deref().map(|meta| parse::metadata(Some(meta))).transpose()?,
        base_commit: update.base.as_deref().map(|base| commit(tether, base)).transpose()?,
        progress: if update.progress { Progress::Made } else { Progress::NotSaid },
    };
    tether.update_session(&update.session, &change)
}

fn commit(tether: &Tether, revision: &str) -> Result<Oid, Failure> {
    tether.resolve_commit(revision)
}

fn attach(text: &str) -> Result<Attach, Failure> {
    let refused = |why: String| Failure::usage("invalid_json", format!("--attach takes an object: {why}"));
    let value: Value = serde_json::from_str(text).map_err(|error| refused(error.to_string()))?;
    crate::record::attach(&value).map_err(|error| refused(error.to_string()))
}
