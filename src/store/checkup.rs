//! A full look at what one ref holds: every fault of a state, and the newest state without any.
//!
//! Owns what makes a state whole. Must not know what is done about a fault. Invariant: one fault never hides another; nothing that
//! is read here is changed, or believed because of its name alone.

use std::collections::{BTreeMap, HashSet};

use gix::ObjectId;
use gix::objs::Kind;

use super::backend::RefValue;
use super::chain::{self, ChainCommit, Follow};
use super::ledger::{Ledger, ReadError, shown};
use super::names::RefName;
use super::placed::Placed;
use super::saved_list::{LARGEST_LIST, NEWEST, lost_files, older_files};
use super::tree;
use crate::domain::checkpoint::Checkpoint;
use crate::domain::claim::Claim;
use crate::domain::environment::Environment;
use crate::domain::gate::Gate;
use crate::domain::names::{Named, named};
use crate::domain::pool::Pool;
use crate::domain::run::{Run, TaskSummary};
use crate::domain::session::Session;
use crate::domain::task::Task;
use crate::record::{InvalidRecord, check_json, layout};

named! {
    /// What is wrong with a ref or a record; stable, for scripts.
    FaultCode, "fault" {
        /// A ref names another ref.
        SymbolicRef = "symbolic_ref",
        /// A ref's file holds no object id.
        TornRef = "torn_ref",
        /// A ref could not be read at all.
        UnreadableRef = "unreadable_ref",
        /// A ref has a name that its records cannot have.
        InvalidName = "invalid_name",
        /// A ref names something else than a commit.
        NotACommit = "not_a_commit",
        /// An object is missing or damaged.
        TornObject = "torn_object",
        /// A commit below the tip is missing or damaged.
        BrokenChain = "broken_chain",
        /// A record is missing.
        MissingRecord = "missing_record",
        /// Bytes are no record.
        InvalidRecord = "invalid_record",
        /// A record is larger than any may be.
        RecordTooLarge = "record_too_large",
        /// A record was written by a newer version.
        NewerSchema = "newer_schema",
        /// A record says that it is another one.
        MisnamedRecord = "misnamed_record",
        /// A checkpoint names a resume state that is not there.
        MissingResumeState = "missing_resume_state",
        /// A run's counts are not those of its records.
        WrongSummary = "wrong_summary",
        /// A record names saved work that nothing keeps.
        DanglingWork = "dangling_work",
        /// A snapshot that is kept is not there any more.
        LostWork = "lost_work",
        /// Parts of a snapshot that is kept are not there any more.
        IncompleteWork = "incomplete_work",
        /// A claim is held by a session that is not recorded, or has ended.
        StaleClaim = "stale_claim",
    }
}

/// One thing that is wrong.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// What kind of thing.
    pub code: FaultCode,
    /// The file in the tree, if it is about one.
    pub path: Option<String>,
    /// In words.
    pub problem: String,
}

impl Fault {
    /// A fault of a ref or its commit.
    pub fn of_ref(code: FaultCode, problem: impl Into<String>) -> Self {
        Self { code, path: None, problem: shortened(problem) }
    }

    /// A fault of a file in its tree.
    pub fn of_file(code: FaultCode, path: impl Into<String>, problem: impl Into<String>) -> Self {
        Self { code, path: Some(path.into()), problem: shortened(problem) }
    }
}

/// What a record or a ref holds may be of any length.
fn shortened(problem: impl Into<String>) -> String {
    let mut problem = problem.into();
    if let Some((end, _)) = problem.char_indices().nth(400) {
        problem.truncate(end);
        problem.push('…');
    }
    problem
}

/// A state that reads whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GoodState {
    /// Its commit.
    pub commit: ObjectId,
    /// What the commit says, in its first line.
    pub subject: String,
    /// When it was made, in seconds since 1970.
    pub at: i64,
}

impl From<&ChainCommit> for GoodState {
    fn from(commit: &ChainCommit) -> Self {
        let subject = commit.message.lines().next().unwrap_or_default().to_owned();
        Self { commit: commit.id, subject, at: commit.time.seconds }
    }
}

/// What a ref is for, by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holds {
    Run,
    Session,
    Claim,
    Pool,
    Journal,
    SavedWork,
    /// Whatever else: what was fetched and is not merged, evidence, the archive, a newer version's.
    Other,
}

fn what_holds(name: &RefName) -> Holds {
    let Some((root, rest)) = name.as_str().trim_start_matches("refs/").split_once('/') else { return Holds::Other };
    match (root, rest.split('/').collect::<Vec<_>>().as_slice()) {
        ("tether", ["runs", ..]) => Holds::Run,
        ("tether", ["sessions", ..]) => Holds::Session,
        ("tether", ["claims", ..]) => Holds::Claim,
        ("tether", ["pools", ..]) => Holds::Pool,
        ("tether", ["journal"]) => Holds::Journal,
        ("tether-local", ["work", ..]) => Holds::SavedWork,
        _ => Holds::Other,
    }
}

/// What is wrong with a ref before its commit is looked at.
pub fn fault_of_value(value: &RefValue) -> Option<Fault> {
    match value {
        RefValue::Id(_) | RefValue::Absent => None,
        RefValue::Symbolic(_) => Some(Fault::of_ref(FaultCode::SymbolicRef, format!("it is {}", shown(value)))),
        RefValue::Broken(content) if content.is_empty() => {
            Some(Fault::of_ref(FaultCode::TornRef, "its file is empty, as a power cut leaves it"))
        }
        RefValue::Broken(_) => Some(Fault::of_ref(FaultCode::TornRef, format!("it holds {}", shown(value)))),
    }
}

impl Ledger {
    /// Everything that is wrong with the state at `commit`, as a state of `name`.
    pub fn faults_at(&self, name: &RefName, commit: ObjectId) -> Vec<Fault> {
        let kind = match self.backend().header(&commit) {
            Ok(header) => header.kind,
            Err(error) => return vec![Fault::of_ref(FaultCode::TornObject, error.to_string())],
        };
        if kind != Kind::Commit {
            // Evidence is whatever a repair found.
            let faulty = what_holds(name) != Holds::Other || !name.as_str().starts_with("refs/tether-local/");
            let fault = Fault::of_ref(FaultCode::NotACommit, format!("it names {commit}, a {kind}"));
            return if faulty { vec![fault] } else { Vec::new() };
        }
        let commit = match chain::read_commit(self.backend(), commit) {
            Ok(commit) => commit,
            Err(error) => return vec![Fault::of_ref(FaultCode::TornObject, all_of(&error))],
        };
        let mut checkup = Checkup { ledger: self, name, root: commit.tree, faults: Vec::new() };
        match what_holds(name) {
            Holds::Run => checkup.run(),
            Holds::Session => drop(checkup.need::<Session>(layout::SESSION)),
            Holds::Claim => drop(checkup.need::<Claim>(layout::CLAIM)),
            Holds::Pool => drop(checkup.need::<Pool>(layout::POOL)),
            Holds::Journal => checkup.list("journal.json", "journal"),
            Holds::SavedWork => checkup.saved_work(&commit),
            Holds::Other => checkup.root_is_there(),
        }
        checkup.faults
    }

    /// What is wrong below the tip: the first commit that cannot be read. Where history was cut off on purpose it ends.
    pub fn fault_of_history(&self, tip: ObjectId, shallow: &HashSet<ObjectId>) -> Option<Fault> {
        let mut at = Some(tip);
        let mut seen = HashSet::new();
        while let Some(id) = at.filter(|id| seen.insert(*id)) {
            let broken = |problem: String| Some(Fault::of_ref(FaultCode::BrokenChain, problem));
            let commit = match chain::read_commit(self.backend(), id) {
                Ok(commit) => commit,
                Err(error) => return broken(format!("history breaks off at {id}: {}", all_of(&error))),
            };
            match self.backend().header(&commit.tree) {
                Ok(header) if header.kind == Kind::Tree => {}
                Ok(header) => return broken(format!("the tree of {id} is a {}", header.kind)),
                Err(error) => return broken(format!("the tree of {id}: {error}")),
            }
            at = if shallow.contains(&id) { None } else { commit.parents.first().copied() };
        }
        None
    }

    /// The newest state of `name` without a fault, at `tip` or before it.
    pub fn find_last_good(&self, name: &RefName, tip: ObjectId) -> Option<GoodState> {
        let history = chain::history(self.backend(), tip, Follow::First).map_while(Result::ok);
        history.into_iter().find(|commit| self.faults_at(name, commit.id).is_empty()).map(|commit| (&commit).into())
    }

    /// The newest good state of `name` among commits that no ref may name any more: for a ref that names none itself.
    pub fn find_lost_state(&self, name: &RefName, objects: impl IntoIterator<Item = ObjectId>) -> Option<GoodState> {
        let mut found: BTreeMap<ObjectId, ChainCommit> = BTreeMap::new();
        for id in objects {
            let is_commit = self.backend().header(&id).is_ok_and(|header| header.kind == Kind::Commit);
            let commit = is_commit.then(|| chain::read_commit(self.backend(), id).ok()).flatten();
            if let Some(commit) = commit.filter(|commit| self.is_state_of(name, commit)) {
                found.insert(id, commit);
            }
        }
        let parents: HashSet<ObjectId> = found.values().flat_map(|commit| commit.parents.iter().copied()).collect();
        let mut heads: Vec<&ChainCommit> = found.values().filter(|commit| !parents.contains(&commit.id)).collect();
        heads.sort_by_key(|commit| std::cmp::Reverse((commit.time.seconds, commit.id)));
        heads.into_iter().find_map(|head| self.find_last_good(name, head.id))
    }

    /// Whether a commit's main record is of this ref, whatever else may be wrong with it.
    fn is_state_of(&self, name: &RefName, commit: &ChainCommit) -> bool {
        let mut checkup = Checkup { ledger: self, name, root: commit.tree, faults: Vec::new() };
        match what_holds(name) {
            Holds::Run => checkup.need::<Run>(layout::RUN).is_some(),
            Holds::Session => checkup.need::<Session>(layout::SESSION).is_some(),
            Holds::Claim => checkup.need::<Claim>(layout::CLAIM).is_some(),
            Holds::Pool => checkup.need::<Pool>(layout::POOL).is_some(),
            Holds::Journal => {
                checkup.list("journal.json", "journal");
                checkup.faults.is_empty()
            }
            Holds::SavedWork => {
                let run = name.as_str().rsplit('/').next().unwrap_or_default();
                self.saved_work_at(name, commit.id)
                    .is_ok_and(|saved| !saved.is_empty() && saved.iter().all(|entry| entry.run == run))
            }
            Holds::Other => false,
        }
    }
}

/// What went wrong with everything that led to it, in one line.
fn all_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let said = error.to_string();
        if !text.ends_with(&said) {
            text = format!("{text}: {said}");
        }
        source = error.source();
    }
    text
}

struct Checkup<'a> {
    ledger: &'a Ledger,
    name: &'a RefName,
    root: ObjectId,
    faults: Vec<Fault>,
}

impl Checkup<'_> {
    fn note(&mut self, path: &str, error: &ReadError) {
        let (code, problem) = match error {
            ReadError::Record { source, .. } => (code_of(source), all_of(source)),
            ReadError::Misnamed { found, .. } => (FaultCode::MisnamedRecord, format!("it says that it is {found}")),
            ReadError::Incomplete { .. } => (FaultCode::MissingRecord, "it is not there".to_owned()),
            ReadError::Tree { source, .. } => (FaultCode::TornObject, all_of(source)),
            other => (FaultCode::TornObject, all_of(other)),
        };
        self.faults.push(Fault::of_file(code, path, problem));
    }

    fn need<T: Placed>(&mut self, path: &str) -> Option<T> {
        match self.ledger.find_record::<T>(self.name, self.root, path) {
            Ok(Some(stored)) => Some(stored.value),
            Ok(None) => {
                self.faults.push(Fault::of_file(FaultCode::MissingRecord, path, "it is not there"));
                None
            }
            Err(error) => {
                self.note(path, &error);
                None
            }
        }
    }

    fn directory<T: Placed>(&mut self, directory: &str) -> Vec<T> {
        let listed = match tree::list(self.ledger.backend(), self.root, directory) {
            Ok(listed) => listed,
            Err(error) => {
                self.faults.push(Fault::of_file(FaultCode::TornObject, directory, all_of(&error)));
                return Vec::new();
            }
        };
        let mut records = Vec::new();
        for (file, id) in listed.into_iter().filter(|(file, _)| layout::is_record(file)) {
            let path = format!("{directory}/{file}");
            match self.ledger.read_blob::<T>(self.name, &path, id) {
                Ok(stored) => records.push(stored.value),
                Err(error) => self.note(&path, &error),
            }
        }
        records
    }

    fn run(&mut self) {
        let run = self.need::<Run>(layout::RUN);
        let tasks = self.directory::<Task>(layout::TASKS);
        self.directory::<Environment>(layout::ENVIRONMENTS);
        let checkpoints = self.directory::<Checkpoint>(layout::CHECKPOINTS);
        let gates = self.directory::<Gate>(layout::GATES);
        for checkpoint in &checkpoints {
            self.resume_state(checkpoint);
        }
        // Counts can be compared only with all that they count.
        if let Some(run) = run.filter(|_| self.faults.is_empty()) {
            self.summary(&run, &tasks, &gates);
        }
    }

    fn resume_state(&mut self, checkpoint: &Checkpoint) {
        let Some(state) = &checkpoint.resume_state else { return };
        let found = tree::find(self.ledger.backend(), self.root, &state.path);
        let problem = match found {
            Ok(Some(found)) => match self.ledger.backend().header(&found.id) {
                Ok(header) if header.size == state.bytes && found.id == state.oid.0 => return,
                Ok(header) => format!("{} holds {} bytes of other content", state.path, header.size),
                Err(error) => error.to_string(),
            },
            Ok(None) => format!("its resume state {} is not there", state.path),
            Err(error) => all_of(&error),
        };
        let path = layout::checkpoint(&checkpoint.task);
        self.faults.push(Fault::of_file(FaultCode::MissingResumeState, path, problem));
    }

    fn summary(&mut self, run: &Run, tasks: &[Task], gates: &[Gate]) {
        let mut counted = TaskSummary::default();
        for task in tasks {
            counted.move_task(None, task.state);
        }
        let is_new_state = tasks.iter().any(|task| task.unreadable_state.is_some());
        if counted != run.task_summary && !is_new_state {
            let problem =
                format!("it counts {} tasks otherwise than its {} tasks are", run.task_summary.total(), tasks.len());
            self.faults.push(Fault::of_file(FaultCode::WrongSummary, layout::RUN, problem));
        }
        let pending: HashSet<_> = gates.iter().filter(|gate| gate.is_pending()).map(|gate| &gate.id).collect();
        if pending != run.pending_gates.iter().collect() {
            let problem =
                format!("it names {} pending gates, of which there are {}", run.pending_gates.len(), pending.len());
            self.faults.push(Fault::of_file(FaultCode::WrongSummary, layout::RUN, problem));
        }
    }

    fn list(&mut self, path: &str, name: &'static str) {
        match tree::read(self.ledger.backend(), self.root, path, LARGEST_LIST) {
            Ok(Some(bytes)) => {
                if let Err(error) = check_json(&bytes, name) {
                    self.faults.push(Fault::of_file(code_of(&error), path, all_of(&error)));
                }
            }
            Ok(None) => self.faults.push(Fault::of_file(FaultCode::MissingRecord, path, "it is not there")),
            Err(error) => self.faults.push(Fault::of_file(FaultCode::TornObject, path, all_of(&error))),
        }
    }

    fn saved_work(&mut self, commit: &ChainCommit) {
        let older = older_files(self.ledger.backend(), self.name, self.root);
        for path in older.unwrap_or_default().iter().map(String::as_str).chain([NEWEST]) {
            self.list(path, "saved");
        }
        for path in lost_files(self.ledger.backend(), self.name, self.root).unwrap_or_default() {
            self.faults.push(Fault::of_file(FaultCode::MissingRecord, path, "it is not there, and a later one is"));
        }
        if !self.faults.is_empty() {
            return;
        }
        match self.ledger.saved_work_at(self.name, commit.id) {
            Ok(saved) => {
                for entry in saved.iter().filter(|entry| !self.ledger.has_saved(entry)) {
                    let problem = format!("the saved work {} is not there", entry.id);
                    self.faults.push(Fault::of_file(FaultCode::LostWork, NEWEST, problem));
                }
            }
            Err(error) => self.note(NEWEST, &error),
        }
    }

    fn root_is_there(&mut self) {
        if let Err(error) = self.ledger.backend().header(&self.root) {
            self.faults.push(Fault::of_ref(FaultCode::TornObject, error.to_string()));
        }
    }
}

fn code_of(error: &InvalidRecord) -> FaultCode {
    match error {
        InvalidRecord::TooLarge { .. } => FaultCode::RecordTooLarge,
        InvalidRecord::NewerSchema { .. } => FaultCode::NewerSchema,
        _ => FaultCode::InvalidRecord,
    }
}

impl FaultCode {
    /// Whether going back to an older state is what helps: not for what a newer version wrote, nor for what can be counted again.
    pub fn is_undone_by_going_back(self) -> bool {
        !matches!(
            self,
            Self::NewerSchema
                | Self::WrongSummary
                | Self::DanglingWork
                | Self::LostWork
                | Self::IncompleteWork
                | Self::StaleClaim
                | Self::BrokenChain
                | Self::UnreadableRef
        )
    }

    /// Its name, for scripts.
    pub fn as_str(self) -> &'static str {
        self.name()
    }
}
