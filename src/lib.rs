//! git-tether keeps work that runs in a git repository attached to that repository.
//!
//! It records runs, tasks, checkpoints, environments and sessions as commits under `refs/tether/`, compares what was recorded with
//! what is really there, and after an interruption says what was lost, what was saved, what can go on and what needs a person.
//!
//! The program `git-tether` is a thin room over this library: whatever a command does is a method of [`app::Tether`], with errors
//! that carry a stable code ([`app::Failure`]). An orchestrator written in Rust needs no subprocess.
//!
//! # Rooms
//!
//! ```text
//! main → cli → app → { store → record, plan, world } → git → domain
//! ```
//!
//! | room | holds |
//! |---|---|
//! | [`domain`] | values and rules; [`domain::transition::apply`] is the only way a state changes |
//! | [`plan`] | pure decisions: [`plan::verify::find`], [`plan::recover::plan`] |
//! | [`record`] | domain values as JSON, and back |
//! | [`store`] | refs and objects: chains, compare-and-swap, packs, saved work |
//! | [`world`] | the machine: worktrees, processes, paths, snapshots, supervision |
//! | [`git`] | opening a repository, settings, the git program |
//! | [`app`] | use cases: load, decide, store, act |
//! | [`cli`] | arguments in, answers out, exit codes |
//!
//! Arrows point down only; `tests/architecture.rs` holds the sources to it, and `docs/architecture.md` says where a change goes.
//!
//! # Guarantees
//!
//! - **One transition, one commit, one compare-and-swap of one ref.** No ref is ever moved without its expected old value.
//! - **Durable.** What a method has returned is on disk, objects before the ref that names them.
//! - **A live process is never failed.** Only proof makes a session dead; doubt never does.
//! - **Work is saved before it is touched.** If saving fails, the step is refused.
//! - **Planning again after a recovery yields nothing**, and a second recovery writes nothing.
//! - **Your index, HEAD, branches, stash and files stay as they are**, except where a method says otherwise.
//!
//! Not guaranteed: what an ignored file holds, empty directories, and work inside a dirty submodule are not saved. A command that is
//! killed between two checkpoints does again what it did since the last.
//!
//! # A run through the library
//!
//! A worker dies in the middle of a task; the next one finds out, and goes on.
//!
//! ```
//! use git_tether::app::checkpoint::{Saving, TakeCheckpoint};
//! use git_tether::app::recover::RecoverOptions;
//! use git_tether::app::run::StartRun;
//! use git_tether::app::task::Patience;
//! use git_tether::app::{Failure, FailureKind, Tether};
//! use git_tether::domain::checkpoint::ReplaySafety;
//! use git_tether::domain::event::WorkEnd;
//! use git_tether::domain::ids::{RunId, TaskAddress, TaskId};
//! use git_tether::domain::run::RunStatus;
//! use git_tether::domain::task::{NewTask, TaskState};
//! use git_tether::git::Surroundings;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let git = |words: &[&str]| std::process::Command::new("git").current_dir(directory.path()).args(words).status();
//! # git(&["init", "-q", "."])?;
//! let tether = Tether::open_from(Surroundings::isolated(directory.path()))?;
//!
//! // A run with a task, and somebody who takes it.
//! let run = RunId::new("nightly")?;
//! let task = TaskAddress { run: run.clone(), task: TaskId::new("compile")? };
//! tether.start_run(&run, StartRun { name: Some("Nightly build".to_owned()), ..StartRun::default() })?;
//! tether.add_task(&run, &NewTask::named(task.task.clone()))?;
//! let started = tether.start_task(&task, None, Patience::Refuse)?;
//! assert_eq!(started.state, TaskState::Running);
//!
//! // Where it can go on from, should it be interrupted.
//! let boundary = TakeCheckpoint {
//!     boundary: Some("objects built".to_owned()),
//!     replay_safety: Some(ReplaySafety::IdempotentWrite),
//!     saving: Saving::Nothing,
//!     ..TakeCheckpoint::default()
//! };
//! let (checkpoint, warnings) = tether.checkpoint(&task, boundary)?;
//! assert_eq!((checkpoint.seq, warnings.len()), (1, 0));
//!
//! // Nobody else gets it. A failure has a kind, a stable code, a message and hints.
//! let refused: Failure = tether.start_task(&task, None, Patience::Refuse).unwrap_err();
//! assert_eq!((refused.kind, refused.code), (FailureKind::Fatal, "illegal_transition"));
//!
//! // A recovery compares records with reality. This session's lease still runs, so nothing is taken from it.
//! let recovery = tether.recover(&RecoverOptions::default(), &mut |step| println!("{}", step.message))?;
//! assert!(recovery.resumable.is_empty());
//!
//! // Done: the run ends by itself with its last task, and its report is there.
//! tether.finish_task(&task, &WorkEnd { exit_code: Some(0), ..WorkEnd::default() })?;
//! assert_eq!(tether.show_run(&run)?.run.status, RunStatus::Completed);
//! assert!(tether.report(&run)?.contains("compile"));
//! # Ok(())
//! # }
//! ```

#![cfg_attr(test, allow(clippy::disallowed_methods, reason = "tests start what they test against"))]

pub mod app;
pub mod cli;
pub mod domain;
pub mod git;
pub mod plan;
pub mod record;
pub mod store;
pub mod world;
