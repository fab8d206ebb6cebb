//! `resume`: lets tasks go on where they stopped.
//!
//! Must not know: what supervision does (`execution`), how places are made again. Invariants: what is refused is no try and leaves
//! no trace; racing resumes run a task once, because the run's own ref decides who starts it; a command that this machine did not
//! write down itself runs only after somebody has said that it may.

use std::path::{Path, PathBuf};

use crate::app::checkpoint::Saving;
use crate::app::execution::{Attendance, Finished, NotExecuted, SavingPlan, Supervisor, Work};
use crate::app::failure::{Failure, chain_of};
use crate::app::held_work::{held_task, need_of};
use crate::app::places::PlaceOutcome;
use crate::app::task::{Patience, task_of};
use crate::app::tether::Tether;
use crate::domain::environment::Environment;
use crate::domain::event::RunEvent;
use crate::domain::gate::{GateKind, NewGate, RECOVERY_REQUIRED};
use crate::domain::ids::{GateId, RunId, SessionId, TaskAddress, TaskId};
use crate::domain::liveness::Verdict;
use crate::domain::run::RestorationSource;
use crate::domain::session::{Session, SessionStatus};
use crate::domain::task::{Task, TaskState};
use crate::domain::view::RunView;
use crate::git::settings::RESUME_PAUSE;
use crate::plan::observation::PlaceSeen;
use crate::plan::resume::{GoOn, Wanted, decide};
use crate::store::runs::{Need, Proposal};

/// How often a resume that cannot start is tried in all.
const MOST_TRIES: u32 = 3;

/// Whether a command that this machine did not write down may be run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trust {
    /// Only what this machine wrote down.
    OwnCommands,
    /// The recorded one, which somebody has looked at.
    ThisCommand,
}

/// What came of a resume.
#[derive(Debug, Clone)]
pub enum Resumed {
    /// Its command was run to its end.
    Ran(Box<Finished>),
    /// There is no command on record: the task waits for somebody who starts it.
    Queued(Box<Task>, Vec<String>),
}

/// Why an environment is not there.
#[derive(Debug)]
pub(super) enum NotBack {
    /// It may be another time.
    Passing(Failure),
    /// Somebody has to look at it.
    Refused(Failure),
}

impl From<NotBack> for Failure {
    fn from(not_back: NotBack) -> Self {
        match not_back {
            NotBack::Passing(failure) | NotBack::Refused(failure) => failure,
        }
    }
}

/// A resume that was decided on.
struct Resume {
    address: TaskAddress,
    wanted: Wanted,
    attendance: Attendance,
}

/// Why a try of a resume came to nothing.
enum Stopped {
    /// It is refused: trying again makes no sense.
    Refused(Failure),
    /// It could not start, and may the next time.
    Passing(Failure),
}

impl Tether {
    /// Notes that somebody knows of a blocked task and leaves it so.
    pub fn acknowledge_block(&self, address: &TaskAddress) -> Result<Task, Failure> {
        self.show_task(address)?;
        let event = RunEvent::BlockAcknowledged { task: address.task.clone() };
        let done = self.change_run(&address.run, &need_of(address), |_| Ok(event.clone().into()))?;
        task_of(done.view, &address.task)
    }

    /// Lets a task go on, in front of whoever asks.
    pub fn resume(&self, address: &TaskAddress, wanted: Wanted, trust: Trust) -> Result<Resumed, Failure> {
        let mut view = self.read_task_view(address)?;
        if self.interrupt_if_dead(&view, address)? {
            view = self.read_task_view(address)?;
        }
        self.decide_resume(&view, address, wanted)?;
        let task = task_of(view.clone(), &address.task)?;
        if task.command.is_empty() {
            return self.queue_without_command(&view, &task);
        }
        if !self.trusts_command(&address.run, &address.task, &task.command) {
            match trust {
                Trust::OwnCommands => return Err(untrusted(&task)),
                Trust::ThisCommand => self.trust_command(&address.run, &address.task, &task.command)?,
            }
        }
        if let Some(environment) = view.environment_of(&task) {
            self.require_trusted_place(&address.run, environment, trust)?;
        }
        let resume = Resume { address: address.clone(), wanted, attendance: Attendance::Attended };
        self.try_resume(&resume).map(|finished| Resumed::Ran(Box::new(finished)))
    }

    /// Runs a queued task of a recovery from its checkpoint, with retries; answers in words how it went.
    pub fn run_resumed(&self, address: &TaskAddress) -> Result<String, Failure> {
        let view = self.read_task_view(address)?;
        self.decide_resume(&view, address, Wanted::AsAllowed)?;
        let task = task_of(view.clone(), &address.task)?;
        if task.command.is_empty() {
            return Err(Failure::fatal("no_command", format!("task {address} has no command to run")));
        }
        if !self.trusts_command(&address.run, &address.task, &task.command) {
            return Err(untrusted(&task));
        }
        if let Some(environment) = view.environment_of(&task) {
            self.require_trusted_place(&address.run, environment, Trust::OwnCommands)?;
        }
        let resume = Resume { address: address.clone(), wanted: Wanted::AsAllowed, attendance: Attendance::Unattended };
        let finished = self.try_resume(&resume)?;
        let mut words = vec![format!("ran it: exit code {}, the task is {}", finished.code, finished.task.state)];
        words.extend(finished.said);
        Ok(words.join("; "))
    }

    /// Refuses to work at a path that came with a record of somebody else, unless somebody has said that it may be.
    pub(super) fn require_trusted_place(
        &self,
        run: &RunId,
        environment: &Environment,
        trust: Trust,
    ) -> Result<(), Failure> {
        let Some(path) = &environment.spec.path else { return Ok(()) };
        match (self.require_own_place(run, environment, &self.worktrees()?), trust) {
            (Err(failure), Trust::ThisCommand) if failure.code == "untrusted_path" => {
                self.own_place(run, &environment.id, path)
            }
            (owned, _) => owned.map(|_| ()),
        }
    }

    fn read_task_view(&self, address: &TaskAddress) -> Result<RunView, Failure> {
        let view = self.read_run(&address.run, &need_of(address))?.view;
        if view.tasks.contains_key(&address.task) { Ok(view) } else { Err(self.unknown_task(address)) }
    }

    /// Writes down that the executor of a running task is dead, as a recovery would.
    fn interrupt_if_dead(&self, view: &RunView, address: &TaskAddress) -> Result<bool, Failure> {
        let running = view.tasks.get(&address.task).filter(|task| task.state == TaskState::Running);
        let Some(id) = running.and_then(|task| task.session.clone()) else { return Ok(false) };
        let Some(session) = self.ledger().read_single::<Session>(&id)? else { return Ok(false) };
        if self.liveness(&session).verdict != Verdict::Dead {
            return Ok(false);
        }
        self.interrupt_held_task(&id, address)?;
        self.end_session(&id, SessionStatus::Abandoned)?;
        Ok(true)
    }

    fn decide_resume(&self, view: &RunView, address: &TaskAddress, wanted: Wanted) -> Result<GoOn, Failure> {
        if let Some(running) = view.tasks.get(&address.task).filter(|task| task.state == TaskState::Running) {
            return Err(self.refuse_running(running)?);
        }
        decide(view, &address.task, wanted).map_err(|refused| {
            let failure = Failure::from(refused);
            match failure.code {
                "not_resumable" => failure
                    .hint(format!("`git tether resume {address} --restart` begins it anew, knowingly"))
                    .hint(format!("`git tether resume {address} --acknowledge` leaves it blocked")),
                _ => failure,
            }
        })
    }

    /// Without a command there is nothing to run: the task is made ready for whoever takes it.
    fn queue_without_command(&self, view: &RunView, task: &Task) -> Result<Resumed, Failure> {
        let address = task.address();
        let mut said = match view.environment_of(task) {
            Some(environment) => self.put_environment_back(&address.run, environment)?,
            None => Vec::new(),
        };
        self.schedule(&address)?;
        let task = self.show_task(&address)?;
        said.push(format!(
            "task {address} has no command on record: it is {}, and `git tether task start {address}` takes it",
            task.state
        ));
        Ok(Resumed::Queued(Box::new(task), said))
    }

    /// Queues a task that is blocked by an interruption; one that is queued already stays so.
    fn schedule(&self, address: &TaskAddress) -> Result<(), Failure> {
        self.change_run(&address.run, &need_of(address), |view| {
            let interrupted = view.tasks.get(&address.task).is_some_and(Task::is_interrupted);
            let event = RunEvent::ResumeScheduled { task: address.task.clone() };
            Ok(if interrupted { event.into() } else { Proposal::default() })
        })?;
        Ok(())
    }

    fn try_resume(&self, resume: &Resume) -> Result<Finished, Failure> {
        let mut pause = self.repository().settings().read(&RESUME_PAUSE)?;
        let supervisor = self.begin_supervising(&resume.address, None)?;
        for tries in 1.. {
            let stopped = match self.try_once(&supervisor, resume) {
                Ok((work, ended, said)) => {
                    let mut finished = self.conclude(supervisor, &work, ended)?;
                    finished.said.splice(0..0, said);
                    return Ok(finished);
                }
                Err(stopped) => stopped,
            };
            match stopped {
                Stopped::Refused(failure) => {
                    self.withdraw(supervisor, &resume.address);
                    return Err(self.explain_lost_race(&resume.address, failure));
                }
                Stopped::Passing(failure) if tries >= MOST_TRIES => {
                    return Err(self.give_up(supervisor, &resume.address, &failure)?);
                }
                Stopped::Passing(failure) => {
                    self.note_try(&supervisor.session, &failure)?;
                    std::thread::sleep(pause);
                    pause = pause.saturating_mul(2);
                }
            }
        }
        Err(Failure::fatal("not_started", format!("task {} was not tried", resume.address)))
    }

    fn note_try(&self, session: &SessionId, failure: &Failure) -> Result<(), Failure> {
        let what = format!("could not start: {}", failure.message);
        self.change_session(session, &what, "recovery_tried", |session| session.recovery_attempts += 1)?;
        Ok(())
    }

    fn try_once(&self, supervisor: &Supervisor, resume: &Resume) -> Result<Ran, Stopped> {
        let (work, said) = self.make_ready(supervisor, resume)?;
        let ended = self.execute(supervisor, &work);
        remove_resume_state(work.resume_state.as_deref());
        match ended {
            Ok(ended) => Ok((work, ended, said)),
            Err(NotExecuted::Ours(failure)) => Err(Stopped::Passing(failure)),
            Err(NotExecuted::ByTheSystem(error)) => {
                Err(Stopped::Passing(Failure::fatal("not_started", chain_of(&error))))
            }
        }
    }

    /// Puts the environment back, starts the task under the supervisor's session unless an earlier try did, and lays out its state.
    fn make_ready(&self, supervisor: &Supervisor, resume: &Resume) -> Result<(Work, Vec<String>), Stopped> {
        let address = &resume.address;
        let mut view = self.read_task_view(address).map_err(Stopped::Refused)?;
        let mut said = Vec::new();
        if held_task(&view, &address.task, &supervisor.session).is_none() {
            self.decide_resume(&view, address, resume.wanted).map_err(Stopped::Refused)?;
            let environment = view.tasks.get(&address.task).and_then(|task| view.environment_of(task));
            if let Some(environment) = environment {
                said = self.put_environment_back(&address.run, environment)?;
            }
            self.schedule(address).map_err(Stopped::Refused)?;
            self.start_task(address, Some(&supervisor.session), Patience::Refuse).map_err(Stopped::Refused)?;
            said.extend(self.note_restart(&address.run).map_err(Stopped::Refused)?);
            view = self.read_task_view(address).map_err(Stopped::Refused)?;
        }
        let task = task_of(view.clone(), &address.task).map_err(Stopped::Refused)?;
        let environment = view.environment_of(&task);
        let resume_state = self.lay_out_resume_state(&view, resume, &supervisor.session).map_err(Stopped::Passing)?;
        let work = Work {
            address: address.clone(),
            command: task.command.iter().map(Into::into).collect(),
            directory: self.directory_of(environment),
            environment: environment.map(|environment| environment.id.clone()),
            resume_state,
            plan: SavingPlan { saving: Saving::Work, every: None },
            attendance: resume.attendance,
        };
        Ok((work, said))
    }

    /// That the run's executor was started again; answers what it should know.
    fn note_restart(&self, run: &RunId) -> Result<Vec<String>, Failure> {
        Ok(self.restore_run(run, RestorationSource::Restart)?.report.warnings)
    }

    /// Writes the resume state of a task into a file of its own, if the task goes on from its checkpoint and has any.
    fn lay_out_resume_state(
        &self,
        view: &RunView,
        resume: &Resume,
        session: &SessionId,
    ) -> Result<Option<PathBuf>, Failure> {
        let checkpoint = view.checkpoints.get(&resume.address.task).filter(|known| known.may_resume());
        let state = checkpoint.and_then(|known| known.resume_state.as_ref());
        let Some(state) = state.filter(|_| resume.wanted == Wanted::AsAllowed) else { return Ok(None) };
        let directory = self.repository().tether_dir().join("resume");
        let path = directory.join(session.as_str());
        let file = std::fs::create_dir_all(&directory).and_then(|()| create_private(&path));
        let file = file.map_err(|error| {
            Failure::fatal("local_file", format!("could not write the resume state to {}: {error}", path.display()))
        })?;
        let written = self.repository().git().run_into(["cat-file", "blob", state.oid.0.as_str()], file);
        match written {
            Ok(()) => Ok(Some(path)),
            Err(error) => {
                remove_resume_state(Some(&path));
                Err(error.into())
            }
        }
    }

    /// After the last try: the session is abandoned, the run paused, and somebody asked, in this order.
    fn give_up(&self, supervisor: Supervisor, address: &TaskAddress, why: &Failure) -> Result<Failure, Failure> {
        self.interrupt_held_task(&supervisor.session, address)?;
        self.note_try(&supervisor.session, why)?;
        self.end_supervising(supervisor, SessionStatus::Abandoned)?;
        self.change_run(&address.run, &Need::run(), |_| Ok(RunEvent::RunPaused.into()))?;
        let gate = self.ask_for_recovery(address, why)?;
        Ok(Failure::fatal(
            RECOVERY_REQUIRED,
            format!("task {address} could not be resumed in {MOST_TRIES} tries: {}; its run is paused", why.message),
        )
        .hint(format!("`git tether approve {}/{gate}` lets the run go on, then resume it again", address.run))
        .hint(format!("`git tether reject {}/{gate}` fails the task", address.run)))
    }

    fn ask_for_recovery(&self, address: &TaskAddress, why: &Failure) -> Result<GateId, Failure> {
        let mut opened = None;
        self.change_run(&address.run, &Need::Everything, |view| {
            let pending = view.gates.values().find(|gate| {
                gate.is_pending()
                    && gate.key.as_deref() == Some(RECOVERY_REQUIRED)
                    && gate.task.as_ref() == Some(&address.task)
            });
            if let Some(pending) = pending {
                opened = Some(pending.id.clone());
                return Ok(Proposal::default());
            }
            let id = free_gate_id(view, &address.task);
            opened = Some(id.clone());
            let new = NewGate {
                id,
                kind: GateKind::Approval,
                key: Some(RECOVERY_REQUIRED.to_owned()),
                task: Some(address.task.clone()),
                prompt: Some(format!("Task {} could not be resumed. Let the run go on?", address.task)),
                choices: Vec::new(),
                context: Some(why.message.clone()),
                question_type: None,
            };
            Ok(RunEvent::GateOpened(Box::new(new)).into())
        })?;
        opened.ok_or_else(|| Failure::fatal("gate_not_opened", format!("no gate was opened for task {address}")))
    }

    /// Makes sure that an environment is there: made anew, with its saved work, if it is gone; what stands there is left as it is.
    pub(super) fn put_environment_back(&self, run: &RunId, environment: &Environment) -> Result<Vec<String>, NotBack> {
        match self.see_place(run, environment).map_err(NotBack::Passing)? {
            PlaceSeen::There { .. } if !environment.state.is_unfinished() && !environment.state.is_gone() => {
                return self.found_well_again(run, environment).map_err(NotBack::Passing);
            }
            PlaceSeen::NoPlace => return Ok(Vec::new()),
            seen => refuse_place(run, environment, &seen)?,
        }
        match self.recreate_environment(run, &environment.id).map_err(NotBack::Passing)? {
            PlaceOutcome::Done(words) => Ok(vec![words]),
            PlaceOutcome::Refused(words) => Err(NotBack::Refused(not_put_back(run, environment, &words))),
            // Somebody else may have been at it: what counts is whether it is there now.
            PlaceOutcome::Skipped(words) => match self.see_place(run, environment).map_err(NotBack::Passing)? {
                PlaceSeen::There { .. } => Ok(Vec::new()),
                _ => Err(NotBack::Passing(not_put_back(run, environment, &words))),
            },
        }
    }

    /// Takes back what an earlier look had left on an environment that is there after all.
    fn found_well_again(&self, run: &RunId, environment: &Environment) -> Result<Vec<String>, Failure> {
        if environment.recovery_action.is_none() {
            return Ok(Vec::new());
        }
        let event = RunEvent::EnvironmentMoved {
            environment: environment.id.clone(),
            state: crate::domain::environment::EnvironmentState::Ready,
            spec: None,
            failure: None,
            cleanup: None,
        };
        self.change_run(run, &Need::Everything, |_| Ok(event.clone().into()))?;
        Ok(Vec::new())
    }
}

/// A command that was run, with what was said before.
type Ran = (Work, (crate::world::supervise::Ended, Vec<String>), Vec<String>);

impl From<NotBack> for Stopped {
    fn from(not_back: NotBack) -> Self {
        match not_back {
            NotBack::Passing(failure) => Self::Passing(failure),
            NotBack::Refused(failure) => Self::Refused(failure),
        }
    }
}

fn not_put_back(run: &RunId, environment: &Environment, why: &str) -> Failure {
    let id = &environment.id;
    Failure::fatal("environment_not_there", format!("environment {run}/{id} could not be put back: {why}"))
}

/// Refuses to make a place anew where that is not what is called for.
fn refuse_place(run: &RunId, environment: &Environment, seen: &PlaceSeen) -> Result<(), NotBack> {
    let needs_person = |why: &str| Err(NotBack::Refused(not_put_back(run, environment, why)));
    match seen {
        PlaceSeen::There { .. } | PlaceSeen::Gone | PlaceSeen::NoPlace
            if environment.execution_mode.is_ours_to_remove() =>
        {
            Ok(())
        }
        PlaceSeen::There { .. } | PlaceSeen::NoPlace => Ok(()),
        PlaceSeen::Gone => needs_person("its directory is gone, and tether never makes a shared one"),
        PlaceSeen::Elsewhere(host) => needs_person(&format!("it was recorded on host {host}")),
        PlaceSeen::MovedTo(path) => Err(NotBack::Refused(
            not_put_back(run, environment, &format!("it stands at {} now", path.display()))
                .hint(format!("`git tether env adopt {}` brings its record up to date", path.display())),
        )),
        PlaceSeen::NotThisWorktree(why) | PlaceSeen::OffCourse(why) => needs_person(why),
        PlaceSeen::Unknown(why) => Err(NotBack::Passing(not_put_back(run, environment, why))),
    }
}

/// A gate id of the run that is not taken.
fn free_gate_id(view: &RunView, task: &TaskId) -> GateId {
    let numbered = (2..).map(|number| format!("recovery-{number}-{task}"));
    let mut ids = std::iter::once(format!("recovery-{task}")).chain(numbered).map(|id| GateId::made_from(&id));
    ids.find(|id| !view.gates.contains_key(id)).unwrap_or_else(|| GateId::made_from(task.as_str()))
}

fn untrusted(task: &Task) -> Failure {
    let address = task.address();
    let command = shown_command(&task.command);
    Failure::fatal(
        "untrusted_command",
        format!("the command of task {address} was not recorded by this machine, and is not run: {command}"),
    )
    .hint(format!("if it is what you want to run here: git tether resume {address} --trust"))
}

/// An argument vector as it would be typed.
fn shown_command(command: &[String]) -> String {
    let plain = |character: char| character.is_ascii_alphanumeric() || "-_./=:,@%+".contains(character);
    let word = |word: &String| {
        if !word.is_empty() && word.chars().all(plain) {
            word.clone()
        } else {
            format!("'{}'", word.replace('\'', "'\\''"))
        }
    };
    command.iter().map(word).collect::<Vec<_>>().join(" ")
}

fn create_private(path: &Path) -> std::io::Result<std::fs::File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)
}

fn remove_resume_state(path: Option<&Path>) {
    if let Some(path) = path {
        // One that stays is a scratch file of a session that has ended.
        let _ = std::fs::remove_file(path);
    }
}
