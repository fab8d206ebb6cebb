//! Saved work that somebody asks to send: the one way in which contents leave this repository.
//!
//! Invariant: nothing goes before all that would go was looked at; what cannot be looked at is a reason not to send.

use gix::ObjectId;

use crate::app::failure::{Failure, chain_of};
use crate::app::tether::Tether;
use crate::domain::ids::RunId;
use crate::domain::secrets;
use crate::git::settings::SNAPSHOT_EXCLUDE;
use crate::store::names::RefName;
use crate::world::remote::{Pushed, Refusal, Update};

/// Larger files are not looked through, and therefore not sent.
const LARGEST_LOOKED_AT: u64 = 64 << 20;
/// So many findings are named.
const MOST_NAMED: usize = 10;

/// What was sent of a run's saved work.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SentWork {
    /// The remote.
    pub remote: String,
    /// The ref there.
    pub name: String,
    /// How many snapshots it keeps.
    pub snapshots: usize,
    /// How many objects went at most.
    pub objects: usize,
    /// How many bytes they have, uncompressed.
    pub bytes: u64,
}

impl Tether {
    /// Sends the saved work of a run, after looking through all of it for secrets.
    pub fn push_work(&self, run: &RunId, remote: Option<&str>) -> Result<SentWork, Failure> {
        let remote = self.find_remote(remote)?;
        let name = RefName::work(run.as_str()).map_err(|error| Failure::usage("invalid_id", error.to_string()))?;
        let Some(tip) = self.ledger().tip(&name)? else {
            if self
                .ledger()
                .tip(&RefName::run(run.as_str()).map_err(|error| Failure::usage("invalid_id", error.to_string()))?)?
                .is_none()
            {
                return Err(self.unknown_run(run));
            }
            return Err(Failure::fatal("no_saved_work", format!("run {run} has no saved work to send")));
        };
        let away = |said: String| {
            Failure::busy("remote_away", format!("{} was not reached: {said}", remote.name()))
                .hint("nothing was sent; try again")
        };
        let expected = remote.read_ref(name.as_str()).map_err(|error| away(chain_of(&error)))?;
        let known: Vec<ObjectId> =
            expected.into_iter().filter(|id| self.ledger().backend().header(id).is_ok()).collect();
        let outgoing = remote.outgoing(tip, &known)?;
        let bytes = self.look_for_secrets(run, &outgoing)?;
        let update = Update { name: name.as_str().to_owned(), expected, new: tip };
        let answers = match remote.push(std::slice::from_ref(&update))? {
            Pushed::Answered(answers) => answers,
            Pushed::Away(said) => return Err(away(said)),
        };
        match answers.get(&update.name) {
            Some(Ok(())) => {}
            Some(Err(Refusal::Said(reason))) => {
                return Err(Failure::busy("push_refused", format!("{} refused {name}: {reason}", remote.name())));
            }
            _ => {
                return Err(Failure::busy("push_refused", format!("{name} changed on {} meanwhile", remote.name()))
                    .hint("try again"));
            }
        }
        let snapshots = self.ledger().saved_work(run.as_str())?.len();
        Ok(SentWork { remote: remote.name().to_owned(), name: update.name, snapshots, objects: outgoing.len(), bytes })
    }

    /// Looks through everything that would go; answers with its size.
    fn look_for_secrets(&self, run: &RunId, outgoing: &[(ObjectId, String)]) -> Result<u64, Failure> {
        let names: Vec<String> = self.repository().settings().read(&SNAPSHOT_EXCLUDE)?;
        let backend = self.ledger().backend();
        let (mut found, mut bytes) = (Vec::new(), 0);
        for (id, path) in outgoing {
            let shown = if path.is_empty() { id.to_string() } else { path.clone() };
            let object = match backend.read(id, LARGEST_LOOKED_AT) {
                Ok(object) => object,
                Err(error) => {
                    found.push(format!("{shown}: could not be looked at ({})", chain_of(&error)));
                    continue;
                }
            };
            bytes += object.data.len() as u64;
            let base_name = path.rsplit('/').next().unwrap_or_default();
            if !path.is_empty() && names.iter().any(|pattern| secrets::matches_name(pattern, base_name)) {
                found.push(format!("{shown}: its name is one of tether.snapshot.exclude"));
            }
            found.extend(secrets::find(&object.data).map(|what| format!("{shown}: {what}")));
        }
        if found.is_empty() {
            return Ok(bytes);
        }
        let mut failure = Failure::fatal(
            "secrets_found",
            format!(
                "the saved work of run {run} was not sent: {} of what would go must not leave or cannot be looked at",
                found.len()
            ),
        );
        for line in found.iter().take(MOST_NAMED) {
            failure = failure.hint(line.clone());
        }
        Err(failure.hint("nothing was sent; drop what holds it with `git tether salvage drop ID`"))
    }
}
