//! The command line: what there is to type, and which command it means.

use clap::{Args, Parser, Subcommand};

use super::answer::{Answer, Outcome};
use super::exit::Exit;
use super::{command, parse, repository};
use crate::app::gate::Decide;
use crate::app::{Failure, FailureKind};
use crate::domain::gate::GateAction;
use crate::domain::ids::GateAddress;

/// In which form the answer is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub(crate) enum JsonForm {
    /// One object.
    #[default]
    Object,
    /// One object a line, as things happen (`recover`, `watch`).
    Stream,
}

/// Keeps work that runs in a git repository attached to that repository.
#[derive(Debug, Parser)]
#[command(
    name = "git-tether",
    bin_name = "git tether",
    version,
    disable_help_subcommand = true,
    arg_required_else_help = false
)]
pub(crate) struct Cli {
    /// Answer with one JSON object.
    #[arg(long, global = true, num_args = 0..=1, require_equals = true, default_missing_value = "object", value_name = "FORM")]
    pub(crate) json: Option<JsonForm>,
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

macro_rules! commands {
    ($($(#[doc = $doc:literal])+ $variant:ident = $module:ident),+ $(,)?) => {
        /// Every command.
        #[derive(Debug, Subcommand)]
        // Only the command that is meant is described to the parser. What it takes comes after what it is then: a doc comment on its
        // arguments would be taken for the command's own.
        #[command(defer = true)]
        pub(crate) enum Command {
            $($(#[doc = $doc])+ $variant(command::$module::Arguments)),+
        }

        /// Carries out a command.
        pub(crate) fn dispatch(cli: Cli) -> Result<Outcome, Failure> {
            match cli.command {
                $(Command::$variant(arguments) => command::$module::run(arguments, cli.json)),+
            }
        }
    };
}

commands! {
    /// Run a command under supervision; make run, task and worktree for it where they are missing.
    Run = run,
    /// Let an interrupted task go on where it stopped.
    Resume = resume,
    /// Show every run at a glance, and what is wrong.
    Status = status,
    /// Compare records with reality; change nothing.
    Verify = verify,
    /// After an interruption: say what is missing, drifted, dirty, orphaned, stale or resumable, and repair what can be.
    Recover = recover,
    /// Start a run.
    Start = start,
    /// End a run, or fix the outcome of one that has ended by itself.
    Finish = finish,
    /// Stop a run for now: nothing starts or resumes in it.
    Pause = pause,
    /// Let a paused run go on.
    Unpause = unpause,
    /// Call a run off; its open tasks are cancelled.
    Cancel = cancel,
    /// Say what the executor of a run is doing.
    Activity = activity,
    /// Show a run with its tasks, environments, checkpoints and gates.
    Show = show,
    /// Add, start and end tasks.
    Task = task,
    /// Make, lease and remove the places where tasks work.
    Env = env,
    /// Reserve threads, and say who works on them.
    Session = session,
    /// List claims, or show one.
    Claim = claim,
    /// Check that a token is still good; before a push, say.
    Fence = fence,
    /// Show and limit pools of executors.
    Pool = pool,
    /// Ask somebody a question.
    Ask = ask,
    /// Answer a question.
    Answer = answer,
    /// Open a gate by hand.
    Gate = gate,
    /// Say yes at a gate.
    Approve = approve,
    /// Say no at a gate; a task that needs the approval has failed.
    Reject = reject,
    /// Call the run of a gate off.
    Abort = abort,
    /// List what waits for a decision, in all runs.
    Waiting = waiting,
    /// Put the executor of a run back on its feet.
    Restore = restore,
    /// Show what happened to a run, or to one of its tasks.
    Log = log,
    /// Show the report of a run.
    Report = report,
    /// Exchange runs, sessions and remote leases with a remote.
    Sync = sync,
    /// Send what was done here to a remote.
    Push = push,
    /// Take what others did from a remote.
    Pull = pull,
    /// Note what is needed to go on with a task after its process is gone, and save its work.
    Checkpoint = checkpoint,
    /// Follow what happens to runs, until it is interrupted.
    Watch = watch,
    /// Clean up after runs and sessions that ended long ago.
    Gc = gc,
    /// List, show, compare, restore and drop saved work.
    Salvage = salvage,
    /// Check everything that is recorded, and go back to the last good state of what is bad.
    Doctor = doctor,
    /// Play an interruption and its recovery in a repository of its own, and show each command.
    Demo = demo,
    /// Print what a shell needs to complete `git tether <TAB>`.
    Completions = completions,
    /// Print or install the manual page.
    Man = man,
}

// A decision at an approval.
#[derive(Debug, Args)]
pub(crate) struct DecisionArguments {
    /// The gate.
    #[arg(value_parser = parse::gate_address, value_name = "RUN/GATE")]
    gate: GateAddress,
    /// Your own key of this decision.
    #[arg(long)]
    token: Option<String>,
    /// A word about it.
    #[arg(long, value_name = "TEXT")]
    note: Option<String>,
}

impl DecisionArguments {
    /// Takes the decision.
    pub(crate) fn decide(self, action: GateAction) -> Result<Outcome, Failure> {
        let decide = Decide { action, answer: None, note: self.note, token: self.token };
        let gate = repository::open()?.decide(&self.gate, &decide)?;
        Ok(Answer::Gate(Box::new(gate)).into())
    }
}

impl Command {
    /// How the program ends if this command is refused: where another command's exit code is passed on, as `env` and `timeout` do it.
    pub(crate) fn exit_of_refusal(&self) -> fn(FailureKind) -> Exit {
        match self {
            Self::Run(_) | Self::Resume(_) => Exit::of_unrun_command,
            _ => Exit::from,
        }
    }
}

// A command that takes nothing but a run.
#[derive(Debug, Args)]
pub(crate) struct RunArgument {
    /// The run.
    pub(crate) run: crate::domain::ids::RunId,
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test")]

    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_help_of_a_command_says_what_the_list_says_of_it() {
        let mut built = Cli::command();
        built.build();
        let about = |command: &clap::Command| command.get_about().map(ToString::to_string);
        for listed in Cli::command().get_subcommands() {
            let command = built.find_subcommand(listed.get_name()).unwrap();
            assert_eq!(about(command), about(listed), "{}", listed.get_name());
        }
    }
}
