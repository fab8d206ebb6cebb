//! Runs in a sync: which run here is which there, and what becomes of each pair.
//!
//! Invariants: two runs are one only if their histories have a commit in common; a run is never renamed where it lives; both sides of
//! a pair end with the same records, but for the id where that differs.

use std::collections::BTreeSet;

use gix::ObjectId;

use super::singles::local_name;
use super::{Exchange, Sent};
use crate::app::failure::{Failure, chain_of};
use crate::domain::event::RunEvent;
use crate::domain::gate::{GateKind, NewGate, SYNC_CONFLICT};
use crate::domain::ids::{GateId, HostId, LONGEST_ID, RunId};
use crate::domain::run::Run;
use crate::domain::view::RunView;
use crate::plan::merge::{merge_runs, renamed};
use crate::record::layout;
use crate::store::merge::{Alike, Common, Joining, Moved, Side};
use crate::store::names::RefName;
use crate::store::runs::Proposal;

/// A run here and the same run there, which may have another name.
struct Pair {
    here: String,
    there: String,
    ours: ObjectId,
    theirs: ObjectId,
    bases: Vec<ObjectId>,
}

fn is_kin(one: &str, other: &str) -> bool {
    let extends = |long: &str, short: &str| long.strip_prefix(short).is_some_and(|rest| rest.starts_with('-'));
    extends(one, other) || extends(other, one)
}

impl Exchange<'_> {
    pub(super) fn exchange_runs(&mut self) -> Result<(), Failure> {
        let runs = |key: &&String| key.starts_with("runs/");
        let mut here: BTreeSet<String> = self.local.keys().filter(runs).cloned().collect();
        let mut there: BTreeSet<String> = self.fetched.keys().filter(runs).cloned().collect();
        let mut pairs = Vec::new();
        for key in here.intersection(&there).cloned().collect::<Vec<_>>() {
            if let Some(pair) = self.pair(&key, &key)? {
                here.remove(&key);
                there.remove(&key);
                pairs.push(pair);
            }
        }
        // What is left may be the same run under another name, from when two had one id.
        for other in there.clone() {
            for key in here.clone() {
                if is_kin(&key, &other)
                    && let Some(pair) = self.pair(&key, &other)?
                {
                    here.remove(&key);
                    there.remove(&other);
                    pairs.push(pair);
                    break;
                }
            }
        }
        for pair in pairs {
            self.exchange_pair(&pair)?;
        }
        for key in there {
            self.take_new_run(&key, here.contains(&key))?;
        }
        for key in here {
            self.offer_run(&key)?;
        }
        Ok(())
    }

    fn pair(&self, here: &str, there: &str) -> Result<Option<Pair>, Failure> {
        let (Some(ours), Some(theirs)) = (self.local.get(here).copied(), self.fetched.get(there).copied()) else {
            return Ok(None);
        };
        let bases = if ours == theirs { vec![ours] } else { self.bases(ours, theirs)? };
        let pair = || Pair { here: here.to_owned(), there: there.to_owned(), ours, theirs, bases: bases.clone() };
        Ok((!bases.is_empty()).then(pair))
    }

    fn exchange_pair(&mut self, pair: &Pair) -> Result<(), Failure> {
        if pair.here != pair.there {
            return self.exchange_translated(pair);
        }
        if pair.ours == pair.theirs {
            self.settle(&pair.here, pair.theirs);
            return Ok(());
        }
        if pair.bases.contains(&pair.theirs) {
            self.will_send(&pair.there, Some(pair.theirs), pair.ours);
            return Ok(());
        }
        let Some(theirs) = self.believe_run(&pair.there, pair.theirs) else { return Ok(()) };
        if pair.bases.contains(&pair.ours) {
            if self.direction.takes() && self.move_run(&pair.here, Some(pair.ours), pair.theirs)? {
                self.settle(&pair.here, pair.theirs);
            }
            return Ok(());
        }
        if !self.direction.takes() {
            self.must_sync_first(&pair.here);
            return Ok(());
        }
        let Some(ours) = self.read_own_run(&pair.here, pair.ours) else { return Ok(()) };
        let Some(joined) = self.join_runs(pair, &pair.here, &ours, &theirs)? else { return Ok(()) };
        if self.move_run(&pair.here, Some(pair.ours), joined)? {
            self.report.joined(&local_name(&pair.here)?);
            self.will_send(&pair.there, Some(pair.theirs), joined);
        }
        Ok(())
    }

    /// A pair whose run has another name here than there: what is new on either side is written on the other under its name.
    fn exchange_translated(&mut self, pair: &Pair) -> Result<(), Failure> {
        let changed_there = !pair.bases.contains(&pair.theirs) && !self.is_settled_at(&pair.there, pair.theirs);
        let unseen_there = !pair.bases.contains(&pair.ours);
        let takes = self.direction.takes() && changed_there;
        let sends = self.direction.sends() && unseen_there;
        if !takes && !sends {
            self.settling.extend(self.settled.get_key_value(&pair.there).map(|(key, tip)| (key.clone(), *tip)));
            return Ok(());
        }
        let Some(theirs) = self.believe_run(&pair.there, pair.theirs) else { return Ok(()) };
        let Some(ours) = self.read_own_run(&pair.here, pair.ours) else { return Ok(()) };
        if takes {
            let joined = self.join_runs(pair, &pair.here, &ours, &theirs)?;
            if let Some(joined) = joined
                && self.move_run(&pair.here, Some(pair.ours), joined)?
            {
                self.report.joined(&local_name(&pair.here)?);
            }
        }
        if sends && let Some(joined) = self.join_runs(pair, &pair.there, &theirs, &ours)? {
            self.will_send(&pair.there, Some(pair.theirs), joined);
            return Ok(());
        }
        self.settle(&pair.there, pair.theirs);
        Ok(())
    }

    /// A fetched run, if it can be believed: every record readable and its own.
    fn believe_run(&mut self, key: &str, tip: ObjectId) -> Option<Side> {
        let tracking = format!("{}{key}", self.tracking().as_str());
        let read = match RefName::parse(&tracking) {
            Ok(name) => self.tether.ledger().read_side(&name, tip).map_err(|error| chain_of(&error)),
            Err(error) => Err(error.to_string()),
        };
        let problem = match read {
            Ok(side) => match what_is_wrong(key, &side.view) {
                None => return Some(side),
                Some(problem) => problem,
            },
            Err(problem) => problem,
        };
        self.report.skip(&tracking, problem);
        None
    }

    fn read_own_run(&mut self, key: &str, tip: ObjectId) -> Option<Side> {
        let name = local_name(key).ok()?;
        match self.tether.ledger().read_side(&name, tip) {
            Ok(side) => Some(side),
            Err(error) => {
                self.report.skip(name.as_str(), format!("it cannot be read here: {}", chain_of(&error)));
                None
            }
        }
    }

    /// What two tips have in common; of several common ancestors their merge.
    fn common(&self, pair: &Pair) -> Common {
        let names = [&pair.here, &pair.there].into_iter().filter_map(|key| local_name(key).ok());
        let names: Vec<RefName> = names.collect();
        let read = |tip: &ObjectId| names.iter().find_map(|name| self.tether.ledger().read_side(name, *tip).ok());
        let mut common: Option<Common> = None;
        for side in pair.bases.iter().filter_map(read) {
            common = Some(match common {
                None => side.into(),
                Some(known) => {
                    let view = known
                        .view
                        .as_ref()
                        .map_or_else(|| side.view.clone(), |view| merge_runs(None, view, &side.view));
                    known.with(side, view)
                }
            });
        }
        common.unwrap_or_default()
    }

    /// Writes the commit that joins both histories under the name of `key`, on top of `first`.
    fn join_runs(&self, pair: &Pair, key: &str, first: &Side, other: &Side) -> Result<Option<ObjectId>, Failure> {
        let id = run_of(key)?;
        let common = self.common(pair);
        let base = common.view.clone().map(|view| renamed(view, &id));
        let merged = merge_runs(base.as_ref(), &renamed(first.view.clone(), &id), &renamed(other.view.clone(), &id));
        let joining = Joining {
            subject: format!("run {id}: merged with {}", self.remote.name()),
            body: format!("{} and {}\n", first.view.run.updated_at, other.view.run.updated_at),
            about: ("Run", id.to_string()),
            event: "histories_merged",
            parents: &[other.tip],
            at: self.tether.now(),
            alike: if pair.here == pair.there { Alike::Join } else { Alike::Leave },
        };
        Ok(self.tether.ledger().write_joined(&local_name(key)?, (&common, first, other), &merged, &joining)?)
    }

    fn move_run(&mut self, key: &str, ours: Option<ObjectId>, new: ObjectId) -> Result<bool, Failure> {
        let name = local_name(key)?;
        if self.tether.ledger().move_tip(&name, ours, new)? == Moved::No {
            // Somebody works on it right now: look again.
            self.raced = Sent::SomebodyWasFaster;
            return Ok(false);
        }
        self.local.insert(key.to_owned(), new);
        self.report.took(&name);
        Ok(true)
    }

    /// A run that is only there, or that shares nothing but its id with ours.
    fn take_new_run(&mut self, key: &str, id_is_taken: bool) -> Result<(), Failure> {
        let Some(&theirs) = self.fetched.get(key) else { return Ok(()) };
        let Some(side) = self.believe_run(key, theirs) else { return Ok(()) };
        if id_is_taken {
            return self.keep_apart(key, &side);
        }
        if self.is_settled_at(key, theirs) {
            // It was dropped here and did not change there.
            self.settle(key, theirs);
        } else if self.direction.takes() && self.move_run(key, None, theirs)? {
            self.settle(key, theirs);
        }
        Ok(())
    }

    /// Takes a run of another origin under a name of its own.
    fn keep_apart(&mut self, key: &str, side: &Side) -> Result<(), Failure> {
        if !self.direction.takes() {
            return Ok(());
        }
        let id = run_of(key)?;
        let apart = self.free_name(&id, &side.view.run.host)?;
        let apart_key = format!("runs/{apart}");
        let what = format!(
            "run {id} exists on two hosts with nothing in common but the id; {}'s is kept here as {apart}",
            side.view.run.host
        );
        let joining = Joining {
            subject: format!("run {apart}: kept apart from run {id}"),
            body: what.clone(),
            about: ("Run", apart.to_string()),
            event: "run_kept_apart",
            parents: &[],
            at: self.tether.now(),
            alike: Alike::Join,
        };
        let merged = renamed(side.view.clone(), &apart);
        let name = local_name(&apart_key)?;
        let tip = self.tether.ledger().write_joined(&name, (&Common::default(), side, side), &merged, &joining)?;
        if let Some(tip) = tip
            && self.move_run(&apart_key, None, tip)?
        {
            self.settle(key, side.tip);
            self.ask_about(&id, &apart, &what)?;
            self.report.note(format!("{what}; decide it with `git tether waiting`"));
        }
        Ok(())
    }

    fn free_name(&self, id: &RunId, host: &HostId) -> Result<RunId, Failure> {
        for number in 1..1_000 {
            let suffix = if number == 1 { format!("-{host}") } else { format!("-{host}-{number}") };
            let suffix = RunId::made_from(suffix.trim_start_matches('-')).to_string();
            let kept: String = id.as_str().chars().take(LONGEST_ID.saturating_sub(suffix.len() + 1)).collect();
            let name = RunId::made_from(&format!("{kept}-{suffix}"));
            if !self.local.contains_key(&format!("runs/{name}")) {
                return Ok(name);
            }
        }
        Err(Failure::fatal("no_free_name", format!("there is no free name for another run {id}")))
    }

    /// Opens the gate at which a person learns of two runs with one id: in our run, or in the other if ours has ended.
    fn ask_about(&mut self, id: &RunId, apart: &RunId, what: &str) -> Result<(), Failure> {
        let gate = NewGate {
            id: GateId::made_from(&format!("sync-{apart}")),
            kind: GateKind::Approval,
            key: Some(SYNC_CONFLICT.to_owned()),
            task: None,
            prompt: Some(what.to_owned()),
            choices: Vec::new(),
            context: Some(format!(
                "approve it to keep both; `git tether show {id}` and `git tether show {apart}` show them"
            )),
            question_type: None,
        };
        for run in [id, apart] {
            let opened = self.tether.change_run(run, &crate::store::runs::Need::Everything, |view| {
                if view.gates.contains_key(&gate.id) {
                    return Ok(Proposal::default());
                }
                Ok(RunEvent::GateOpened(Box::new(gate.clone())).into())
            });
            match opened {
                Ok(committed) => {
                    self.local.insert(format!("runs/{run}"), committed.tip);
                    return Ok(());
                }
                Err(failure) if failure.code == "run_ended" => {}
                Err(failure) => return Err(failure),
            }
        }
        Ok(())
    }

    /// A run that is only here; under its id there may be one of another origin there.
    fn offer_run(&mut self, key: &str) -> Result<(), Failure> {
        let Some(&ours) = self.local.get(key) else { return Ok(()) };
        if !self.fetched.contains_key(key) {
            if self.is_settled_at(key, ours) {
                self.settle(key, ours);
            } else if self.read_own_run(key, ours).is_some() {
                self.will_send(key, None, ours);
            }
            return Ok(());
        }
        let Some(side) = self.direction.sends().then(|| self.read_own_run(key, ours)).flatten() else { return Ok(()) };
        let id = run_of(key)?;
        let mut outward = self.free_name(&id, &self.tether.host_id())?;
        if self.fetched.contains_key(&format!("runs/{outward}")) {
            outward = RunId::made_from(&format!("{outward}-{}", &ours.to_string()[..7]));
        }
        let joining = Joining {
            subject: format!("run {outward}: sent under a name of its own"),
            body: format!("{} has another run {id}\n", self.remote.name()),
            about: ("Run", outward.to_string()),
            event: "run_kept_apart",
            parents: &[],
            at: self.tether.now(),
            alike: Alike::Join,
        };
        let merged = renamed(side.view.clone(), &outward);
        let outward = format!("runs/{outward}");
        let name = local_name(&outward)?;
        let tip = self.tether.ledger().write_joined(&name, (&Common::default(), &side, &side), &merged, &joining)?;
        if let Some(tip) = tip {
            self.will_send(&outward, None, tip);
        }
        Ok(())
    }
}

fn run_of(key: &str) -> Result<RunId, Failure> {
    Ok(RunId::new(key.strip_prefix("runs/").unwrap_or(key))?)
}

/// Why a fetched run is not what its ref says.
fn what_is_wrong(key: &str, view: &RunView) -> Option<String> {
    let Run { id, .. } = &view.run;
    if format!("runs/{id}") != key {
        return Some(format!("it says that it is run {id}"));
    }
    let stranger = view.tasks.values().find(|task| task.run != *id).map(|task| layout::task(&task.id));
    let stranger =
        stranger.or_else(|| view.gates.values().find(|gate| gate.run != *id).map(|gate| layout::gate(&gate.id)));
    let stranger = stranger.or_else(|| {
        view.checkpoints.values().find(|known| known.run != *id).map(|known| layout::checkpoint(&known.task))
    });
    stranger.map(|path| format!("`{path}` belongs to another run"))
}
