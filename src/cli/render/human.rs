//! Answers in words: short, plain, safe on a terminal.
//!
//! Invariant: text from records never reaches a terminal with control characters in it.

use std::fmt::Write as _;

use crate::app::reserve::ReserveOutcome;
use crate::app::session::SeenSession;
use crate::cli::answer::Answer;
use crate::domain::claim::Claim;
use crate::domain::environment::Environment;
use crate::domain::gate::{Gate, GateKind};
use crate::domain::pool::Pool;
use crate::domain::task::Task;
use crate::domain::view::RunView;

/// Whether a character is a C0, C1 or bidirectional control.
pub(crate) fn steers_terminal(character: char) -> bool {
    let is_bidirectional = matches!(
        character,
        '\u{200e}' | '\u{200f}' | '\u{061c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    );
    character.is_control() || is_bidirectional
}

/// Text without C0, C1 and bidirectional controls; line ends and tabs stay.
pub(crate) fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        if !matches!(character, '\n' | '\t') && steers_terminal(character) {
            safe.extend(character.escape_unicode());
        } else {
            safe.push(character);
        }
    }
    safe
}

/// The same for what has to stay on its line.
pub(crate) fn line(text: &str) -> String {
    safe(&text.replace(['\n', '\t'], " "))
}

/// An answer in words.
pub(crate) fn answer(answer: &Answer) -> Vec<u8> {
    let mut text = String::new();
    match answer {
        Answer::Run(view) => run(&mut text, view),
        Answer::Task(one) => task(&mut text, one),
        Answer::Tasks(tasks) => tasks.iter().for_each(|one| task(&mut text, one)),
        Answer::Environment(found) => found.iter().for_each(|one| environment(&mut text, one)),
        Answer::Environments(found) => found.iter().for_each(|one| environment(&mut text, one)),
        Answer::Checkpoint(checkpoint) => self::checkpoint(&mut text, checkpoint),
        Answer::Gate(one) => gate(&mut text, one),
        Answer::Waiting(gates) => gates.iter().for_each(|one| gate(&mut text, one)),
        Answer::Session(seen) => seen.iter().for_each(|one| session(&mut text, one)),
        Answer::Reserved(reserved) => {
            match &reserved.outcome {
                ReserveOutcome::Reserved(token) => put(&mut text, &format!("reserved, token {token}")),
                ReserveOutcome::Attached(_) => put(&mut text, "attached"),
                ReserveOutcome::LiveOwner => put(&mut text, "not reserved: it has a live owner"),
            }
            session(&mut text, &reserved.seen);
        }
        Answer::Sessions(seen) => seen.iter().for_each(|one| session(&mut text, one)),
        Answer::Claim(one) | Answer::Fence(one) => claim(&mut text, one),
        Answer::Claims(claims) => claims.iter().for_each(|one| claim(&mut text, one)),
        Answer::Pool(queued) => {
            pool(&mut text, &queued.pool);
            queued.queue.iter().for_each(|task| put(&mut text, &format!("  waits: {task}")));
        }
        Answer::Pools(pools) => pools.iter().for_each(|one| pool(&mut text, one)),
        Answer::Other { human, .. } => {
            text.push_str(&safe(human));
            if !text.is_empty() && !text.ends_with('\n') {
                text.push('\n');
            }
        }
        Answer::Raw(raw) => return raw.clone(),
        Answer::Nothing => {}
    }
    text.into_bytes()
}

fn put(text: &mut String, words: &str) {
    let _ = writeln!(text, "{}", line(words));
}

fn run(text: &mut String, view: &RunView) {
    let run = &view.run;
    let name = run.name.as_deref().map(|name| format!(" “{name}”")).unwrap_or_default();
    put(text, &format!("run {}{name}: {}", run.id, run.status));
    let activity = &run.activity;
    let mut words = vec![activity.state.to_string()];
    words.extend(activity.progress.map(|progress| format!("{progress} %")));
    words.extend(activity.phase.clone());
    words.extend(activity.text.clone());
    words.extend(activity.error.as_ref().map(|error| format!("error: {error}")));
    // What a new run says before anybody reported anything is no news.
    if words != ["initializing", "0 %"] {
        put(text, &format!("  activity: {}", words.join(", ")));
    }
    for one in view.tasks.values() {
        nested(text, 1, |text| task(text, one));
        view.environment_of(one).into_iter().for_each(|place| nested(text, 2, |text| environment(text, place)));
        view.checkpoints.get(&one.id).into_iter().for_each(|known| nested(text, 2, |text| checkpoint(text, known)));
    }
    let named = |id| view.tasks.values().any(|task| task.environment.as_ref() == Some(id));
    for one in view.environments.values().filter(|one| !named(&one.id)) {
        nested(text, 1, |text| environment(text, one));
    }
    for one in view.pending_gates() {
        nested(text, 1, |text| gate(text, one));
    }
}

/// What `put_all` says, further in.
fn nested(text: &mut String, depth: usize, put_all: impl FnOnce(&mut String)) {
    let mut inner = String::new();
    put_all(&mut inner);
    for one in inner.lines() {
        let _ = writeln!(text, "{}{one}", "  ".repeat(depth));
    }
}

fn task(text: &mut String, task: &Task) {
    let mut words = format!("task {}: {}", task.address(), task.state);
    if let Some(session) = &task.session {
        let _ = write!(words, " (session {session}, attempt {})", task.attempts);
    }
    if let Some(result) = &task.result {
        if let Some(code) = &result.exit_code {
            let _ = write!(words, ", exit code {code}");
        }
        if let Some(signal) = &result.signal {
            let _ = write!(words, ", {signal}");
        }
        if let Some(summary) = &result.summary {
            let _ = write!(words, ": {summary}");
        }
    }
    put(text, &words);
    for reason in &task.blocked_reasons {
        put(text, &format!("    blocked: {reason}"));
    }
}

fn environment(text: &mut String, environment: &Environment) {
    let path = environment.spec.path.as_ref().map(|path| format!(" at {}", path.display())).unwrap_or_default();
    let branch = environment.spec.git_worktree.as_ref().and_then(|spec| spec.branch.as_ref());
    let branch = branch.map(|branch| format!(" on branch {branch}")).unwrap_or_default();
    put(
        text,
        &format!(
            "environment {} ({}): {}, {}{path}{branch}",
            environment.id, environment.execution_mode, environment.state, environment.health
        ),
    );
    if let Some(lease) = environment.held_lease() {
        put(text, &format!("    leased by session {}", lease.session));
    }
    if let Some(failure) = &environment.failure {
        put(text, &format!("    failed: {}", failure.message));
    }
}

fn checkpoint(text: &mut String, checkpoint: &crate::domain::checkpoint::Checkpoint) {
    let label = checkpoint.safe_boundary_label.as_deref().unwrap_or("–");
    let mut words = format!(
        "checkpoint {} at '{label}': {}, {}",
        checkpoint.id, checkpoint.replay_safety, checkpoint.resume_disposition
    );
    if let Some(work) = &checkpoint.work {
        let short = work.commit.0.get(..12).unwrap_or(&work.commit.0);
        let _ = write!(words, ", saved work {short} ({} files)", work.files);
    }
    if let Some(state) = &checkpoint.resume_state {
        let _ = write!(words, ", resume state {} bytes", state.bytes);
    }
    put(text, &words);
}

fn gate(text: &mut String, gate: &Gate) {
    let about = gate.prompt.as_deref().or(gate.key.as_deref()).unwrap_or_default();
    put(text, &format!("{} {}/{} ({}): {about}", gate.kind, gate.run, gate.id, gate.state));
    if !gate.choices.is_empty() {
        put(text, &format!("    choices: {}", gate.choices.join(", ")));
    }
    if let Some(context) = &gate.context {
        put(text, &format!("    context: {context}"));
    }
    if let Some(decision) = &gate.decision {
        let said = [decision.answer.as_deref(), decision.note.as_deref()];
        for words in said.into_iter().flatten() {
            put(text, &format!("    said: {words}"));
        }
    }
    if gate.is_pending() {
        let address = format!("{}/{}", gate.run, gate.id);
        put(
            text,
            &match gate.kind {
                GateKind::Approval => {
                    format!("    decide: git tether approve {address}, or git tether reject {address}")
                }
                GateKind::Question => format!("    decide: git tether answer {address} TEXT"),
            },
        );
    }
}

fn session(text: &mut String, seen: &SeenSession) {
    let session = &seen.session;
    if session.status.is_terminal() {
        put(text, &format!("session {} on {}: {}", session.id, session.thread, session.status));
        return;
    }
    put(text, &format!("session {} on {}: {} ({})", session.id, session.thread, session.status, seen.liveness.verdict));
    for evidence in &seen.liveness.evidence {
        put(text, &format!("    {evidence}"));
    }
}

fn claim(text: &mut String, claim: &Claim) {
    let holder = match (&claim.session, claim.is_held()) {
        (Some(session), true) => format!("held by session {session}"),
        _ => "free".to_owned(),
    };
    put(text, &format!("claim {} {}: {holder}, token {}", claim.kind, claim.key, claim.token));
}

fn pool(text: &mut String, pool: &Pool) {
    let max = pool.max_running.map_or_else(|| "any number".to_owned(), |max| max.to_string());
    let backoff = pool.backoff_until.map(|until| format!(", backs off until {until}")).unwrap_or_default();
    put(text, &format!("pool {}: {} of {max} run, {} failures{backoff}", pool.id, pool.running.len(), pool.failures));
}
