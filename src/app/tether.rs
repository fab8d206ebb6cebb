//! A repository with its records: what every use case works on.

use crate::app::failure::Failure;
use crate::domain::ids::{HostId, RunId, TaskAddress};
use crate::domain::time::Timestamp;
use crate::git::{Repository, Role, Surroundings};
use crate::record::message::Author;
use crate::store::chain::Identity;
use crate::store::ledger::Ledger;
use crate::store::ledger::WriteRecordError;
use crate::store::objects::Batch;
use crate::store::runs::{Committed, Need, Proposal, ReadRun, Refusal};
use crate::store::work::NewWork;
use crate::world::clock::Clock;
use crate::world::host::Host;
use crate::world::live::SignsOfLife;
use crate::world::processes::Processes;

/// A repository, its records, and the machine that we are on.
pub struct Tether {
    repository: Repository,
    ledger: Ledger,
    host: Host,
    clock: Clock,
}

impl Tether {
    /// The repository around the current directory, or the one that the environment names.
    pub fn open() -> Result<Self, Failure> {
        Self::open_from(Surroundings::of_this_process()?)
    }

    /// The same for other surroundings.
    pub fn open_from(surroundings: Surroundings) -> Result<Self, Failure> {
        let clock = Clock::of(&surroundings)?;
        let repository = Repository::open_from(surroundings)?;
        let host = Host::read(&repository.settings())?;
        let backend = crate::store::open(&repository);
        let identity = repository.identity(Role::Committer);
        let author = Author { actor: format!("{} <{}>", identity.name, identity.email), host: HostId(host.id.clone()) };
        let identity = Identity { name: identity.name, email: identity.email };
        let mut ledger = Ledger::new(backend, identity, author);
        ledger.set_reporter(crate::app::report_text::report_at_end);
        Ok(Self { repository, ledger, host, clock })
    }

    /// The repository.
    pub fn repository(&self) -> &Repository {
        &self.repository
    }

    /// Its records.
    pub fn ledger(&self) -> &Ledger {
        &self.ledger
    }

    /// This machine.
    pub fn host(&self) -> &Host {
        &self.host
    }

    /// This machine, as records name it.
    pub fn host_id(&self) -> HostId {
        HostId(self.host.id.clone())
    }

    /// What time it is.
    pub fn now(&self) -> Timestamp {
        Timestamp::new(self.clock.now())
    }

    /// Live locks and heartbeats.
    pub fn signs_of_life(&self) -> SignsOfLife {
        SignsOfLife::below(self.repository.tether_dir())
    }

    /// The processes of this machine.
    pub fn processes(&self) -> Processes {
        Processes::of_this_machine(self.host.clone())
    }

    /// The pager that git would take here; `None` if git does not say.
    pub fn pager(&self) -> Option<String> {
        let said = self.repository.git().run(["var", "GIT_PAGER"]);
        said.ok().map(|said| said.text())
    }

    /// Reads a run, or as much of it as is needed.
    pub fn read_run(&self, run: &RunId, need: &Need) -> Result<ReadRun, Failure> {
        match self.ledger.read_run(run, need)? {
            Some(read) => Ok(read),
            None => Err(self.unknown_run(run)),
        }
    }

    /// That there is no such run, with the names that are near.
    pub fn unknown_run(&self, run: &RunId) -> Failure {
        let known = self.ledger.list_runs().unwrap_or_default();
        let failure = Failure::unknown("run", run.as_str(), known.iter().map(|(name, _)| name.as_str()));
        if self.ledger.is_archived(run).unwrap_or(false) {
            return failure.hint(format!("it is in the archive: git show refs/tether/archive:runs/{run}/run.json"));
        }
        failure
    }

    /// That a run has no such task, with the names that are near.
    pub fn unknown_task(&self, address: &TaskAddress) -> Failure {
        let read = self.ledger.read_run(&address.run, &Need::Everything).ok().flatten();
        let known: Vec<String> =
            read.map(|read| read.view.tasks.keys().map(ToString::to_string).collect()).unwrap_or_default();
        let mut failure = Failure::unknown("task", address.task.as_str(), known.iter().map(String::as_str));
        failure.message = format!("run {} has no task {}", address.run, address.task);
        failure
    }

    /// Changes a run by the events that `decide` proposes for it as it is. `decide` may run more than once and must have no effect.
    pub fn change_run(
        &self,
        run: &RunId,
        need: &Need,
        decide: impl FnMut(&crate::domain::view::RunView) -> Result<Proposal, Failure>,
    ) -> Result<Committed, Failure> {
        self.change_run_with(&mut None, run, need, decide)
    }

    /// The same; objects that the proposal's files name are written with it, and not at all if it is refused.
    pub fn change_run_with(
        &self,
        objects: &mut Option<Batch>,
        run: &RunId,
        need: &Need,
        decide: impl FnMut(&crate::domain::view::RunView) -> Result<Proposal, Failure>,
    ) -> Result<Committed, Failure> {
        let changed = self.ledger.change_run_with::<Failure>(objects, run, need, self.now(), decide);
        changed.map_err(|error| self.with_near_matches(error.into(), run))
    }

    /// The same for a run that names saved work, which is kept first. `None`: nothing was written, as what the snapshot was made without is
    /// kept no more; the objects are still there.
    pub(super) fn change_run_keeping(
        &self,
        objects: &mut Option<Batch>,
        work: &NewWork<'_>,
        run: &RunId,
        need: &Need,
        decide: impl FnMut(&crate::domain::view::RunView) -> Result<Proposal, Failure>,
    ) -> Result<Option<Committed>, Failure> {
        match self.ledger.change_run_keeping::<Failure>(objects, work, run, need, self.now(), decide) {
            Ok(committed) => Ok(Some(committed)),
            Err(WriteRecordError::Refused(Refusal::PreviousDropped)) => Ok(None),
            Err(error) => Err(self.with_near_matches(error.into(), run)),
        }
    }

    /// An unknown run is named with those that are near.
    fn with_near_matches(&self, failure: Failure, run: &RunId) -> Failure {
        if failure.code == "unknown_run" { self.unknown_run(run) } else { failure }
    }
}
