//! Gates: ask, open, decide, wait for, list.
//!
//! Invariants: a decision is taken once, and taking it again changes nothing; what follows from it (the task, the run, what a task
//! held) follows in the same call, the report of a run that ended by it included.

use std::time::{Duration, Instant};

use crate::app::failure::Failure;
use crate::app::tether::Tether;
use crate::domain::event::RunEvent;
use crate::domain::gate::{Decision, Gate, GateAction, GateKind, NewGate};
use crate::domain::ids::{GateAddress, GateId, RunId, TaskAddress, TaskId};
use crate::domain::task::TaskState;
use crate::domain::view::RunView;
use crate::store::runs::Need;

/// How long a waiting question sleeps before it looks again.
const WAITING_PAUSE: Duration = Duration::from_millis(100);

/// What somebody asks for who asks a question.
#[derive(Debug, Clone, Default)]
pub struct AskQuestion {
    /// The gate's id; made up if there is none.
    pub id: Option<GateId>,
    /// The question.
    pub prompt: String,
    /// The answers to choose from; none: free text.
    pub choices: Vec<String>,
    /// What one should know to answer.
    pub context: Option<String>,
    /// What sort of question it is; general if it is left out.
    pub question_type: Option<String>,
}

/// What somebody decides at a gate.
#[derive(Debug, Clone)]
pub struct Decide {
    /// What.
    pub action: GateAction,
    /// The answer to a question.
    pub answer: Option<String>,
    /// A word about it.
    pub note: Option<String>,
    /// The caller's own key of this decision.
    pub token: Option<String>,
}

/// Gates that wait for somebody.
#[derive(Debug, Clone, Default)]
pub struct WaitingGates {
    /// The gates of all runs that can be read, oldest first.
    pub gates: Vec<Gate>,
    /// What is wrong with each run that cannot.
    pub unreadable: Vec<(String, String)>,
}

impl Tether {
    /// Asks a question, about a run or one of its tasks.
    pub fn ask(&self, run: &RunId, task: Option<&TaskId>, asked: AskQuestion) -> Result<Gate, Failure> {
        let new = NewGate {
            id: asked.id.unwrap_or_else(|| GateId::made_from(&self.made_up_id("q"))),
            kind: GateKind::Question,
            key: None,
            task: task.cloned(),
            prompt: Some(asked.prompt),
            choices: asked.choices,
            context: asked.context,
            question_type: asked.question_type,
        };
        self.add_gate(run, new)
    }

    /// Opens an approval by hand: its task does not start, or is held when its work is done, before it is decided.
    pub fn open_gate(
        &self,
        run: &RunId,
        task: Option<&TaskId>,
        key: &str,
        id: Option<GateId>,
    ) -> Result<Gate, Failure> {
        let new = NewGate {
            id: id.unwrap_or_else(|| GateId::made_from(&self.made_up_id("g"))),
            kind: GateKind::Approval,
            key: Some(key.to_owned()),
            task: task.cloned(),
            prompt: None,
            choices: Vec::new(),
            context: None,
            question_type: None,
        };
        self.add_gate(run, new)
    }

    fn add_gate(&self, run: &RunId, new: NewGate) -> Result<Gate, Failure> {
        let need = Need::run().with_gate(&new.id);
        let need = new.task.as_ref().map_or_else(|| need.clone(), |task| need.clone().with_task(task));
        let done = self.change_run(run, &need, |view| {
            if let Some(task) = new.task.as_ref().filter(|task| !view.tasks.contains_key(*task)) {
                return Err(self.unknown_task(&TaskAddress { run: run.clone(), task: task.clone() }));
            }
            Ok(RunEvent::GateOpened(Box::new(new.clone())).into())
        })?;
        self.gate_of(done.view, &GateAddress { run: run.clone(), gate: new.id })
    }

    /// Decides at a gate. Deciding the same again changes nothing, whatever its token; it writes the report of a run that has ended
    /// without one.
    pub fn decide(&self, address: &GateAddress, decide: &Decide) -> Result<Gate, Failure> {
        // To abort is to cancel the run, with each of its tasks.
        let need = match decide.action {
            GateAction::Abort => Need::Everything,
            _ => Need::run().with_gate(&address.gate),
        };
        let decision = Decision {
            action: decide.action,
            answer: decide.answer.clone(),
            note: decide.note.clone(),
            actor: Some(self.ledger().author().actor.clone()),
            token: decide.token.clone(),
            at: self.now(),
        };
        let mut before = None;
        let done = self.change_run(&address.run, &need, |view| {
            if !view.gates.contains_key(&address.gate) {
                return Err(self.unknown_gate(address));
            }
            before = Some(view.clone());
            Ok(RunEvent::GateDecided { gate: address.gate.clone(), decision: decision.clone() }.into())
        })?;
        match before.filter(|_| done.changes.is_some()) {
            Some(before) => {
                self.settle_after(&address.run, &before)?;
                self.note_successes(&before, &done.view)?;
            }
            None if self.lacks_report(&done.view)? => {
                self.ensure_report(&address.run)?;
            }
            None => {}
        }
        self.gate_of(done.view, address)
    }

    /// An approval that completes a task is its success: its pool does not back off any more.
    fn note_successes(&self, before: &RunView, now: &RunView) -> Result<(), Failure> {
        let completed = |state: Option<TaskState>| state == Some(TaskState::Completed);
        for task in now.tasks.values().filter(|task| completed(Some(task.state))) {
            if let Some(pool) = &task.pool
                && !completed(before.tasks.get(&task.id).map(|task| task.state))
            {
                self.note_pool_success(pool)?;
            }
        }
        Ok(())
    }

    /// A gate.
    pub fn show_gate(&self, address: &GateAddress) -> Result<Gate, Failure> {
        let read = self.read_run(&address.run, &Need::run().with_gate(&address.gate))?;
        self.gate_of(read.view, address)
    }

    fn gate_of(&self, mut view: RunView, address: &GateAddress) -> Result<Gate, Failure> {
        view.gates.remove(&address.gate).ok_or_else(|| self.unknown_gate(address))
    }

    fn unknown_gate(&self, address: &GateAddress) -> Failure {
        let read = self.ledger().read_run(&address.run, &Need::Everything).ok().flatten();
        let known: Vec<String> =
            read.map(|read| read.view.gates.keys().map(ToString::to_string).collect()).unwrap_or_default();
        let mut failure = Failure::unknown("gate", address.gate.as_str(), known.iter().map(String::as_str));
        failure.message = format!("run {} has no gate {}", address.run, address.gate);
        failure
    }

    /// Waits until a gate is decided; after `limit` it is expired, unless somebody was faster. Answers with the gate as it is then.
    pub fn await_decision(&self, address: &GateAddress, limit: Option<Duration>) -> Result<Gate, Failure> {
        let begun = Instant::now();
        loop {
            let gate = self.show_gate(address)?;
            if !gate.is_pending() {
                return Ok(gate);
            }
            let left = limit.map(|limit| limit.saturating_sub(begun.elapsed()));
            if left.is_some_and(|left| left.is_zero()) {
                return self.expire(address);
            }
            std::thread::sleep(left.map_or(WAITING_PAUSE, |left| left.min(WAITING_PAUSE)));
        }
    }

    fn expire(&self, address: &GateAddress) -> Result<Gate, Failure> {
        let done = self.change_run(&address.run, &Need::run().with_gate(&address.gate), |_| {
            Ok(RunEvent::GateExpired { gate: address.gate.clone() }.into())
        })?;
        self.gate_of(done.view, address)
    }

    /// Every gate of every run that nobody has decided; a run that cannot be read hides no other.
    pub fn waiting(&self) -> Result<WaitingGates, Failure> {
        let mut waiting = WaitingGates::default();
        for (name, tip) in self.ledger().list_runs()? {
            let read =
                tip.map_err(|found| Failure::fatal("unusable_ref", format!("it holds {found}"))).and_then(|_| {
                    let id = RunId::new(name.as_str())?;
                    Ok(self.ledger().read_run(&id, &Need::run())?)
                });
            match read {
                Ok(Some(read)) => waiting.gates.extend(read.view.pending_gates().into_iter().cloned()),
                Ok(None) => {}
                Err(failure) => waiting.unreadable.push((name, failure.message)),
            }
        }
        waiting.gates.sort_by(|a, b| (a.asked_at, &a.run, &a.id).cmp(&(b.asked_at, &b.run, &b.id)));
        Ok(waiting)
    }
}
