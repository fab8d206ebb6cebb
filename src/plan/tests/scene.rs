//! Records and an observation to plan over, and what carrying out a plan makes of them.

use std::collections::BTreeSet;

use crate::domain::environment::EnvironmentState;
use crate::domain::event::RunEvent;
use crate::domain::ids::EnvironmentId;
use crate::domain::liveness::{Liveness, Verdict};
use crate::domain::samples::{environment_id, host, moment, session, session_id};
use crate::domain::session::SessionStatus;
use crate::domain::transition::apply;
use crate::domain::view::RunView;
use crate::plan::finding::FindingCode;
use crate::plan::observation::{Dirt, Observation, PlaceSeen, Records};
use crate::plan::recover::{Permission, Plan, plan};
use crate::plan::step::Step;

#[derive(Debug, Clone)]
pub(super) struct Scene {
    pub(super) records: Records,
    pub(super) seen: Observation,
}

pub(super) fn clean() -> PlaceSeen {
    PlaceSeen::There { dirt: Dirt::Clean, locked: false, holds_files: true }
}

pub(super) fn liveness(verdict: Verdict) -> Liveness {
    Liveness { verdict, evidence: vec![format!("it is {verdict}")], supervisor_gone: false, falls_at: None }
}

impl Scene {
    pub(super) fn of(view: RunView) -> Self {
        let mut records = Records::default();
        records.runs.insert(view.run.id.clone(), view);
        Self { records, seen: Observation::nothing(host()) }
    }

    /// A recorded session, as it was found to be.
    pub(super) fn session(mut self, id: &str, verdict: Verdict) -> Self {
        self.records.sessions.insert(session_id(id), session(id));
        self.seen.liveness.insert(session_id(id), liveness(verdict));
        self
    }

    /// What stands at the place of an environment of the only run.
    pub(super) fn place(mut self, environment: &str, seen: PlaceSeen) -> Self {
        let run = self.view().run.id.clone();
        self.seen.places.insert((run, environment_id(environment)), seen);
        self
    }

    pub(super) fn view(&self) -> &RunView {
        self.records.runs.values().next().expect("a run")
    }

    pub(super) fn plan(&self, allowed: &[Permission]) -> Plan {
        plan(&self.records, &self.seen, &allowed.iter().copied().collect::<BTreeSet<_>>())
    }

    pub(super) fn codes(&self) -> Vec<FindingCode> {
        self.plan(&[]).findings.iter().map(|finding| finding.code).collect()
    }

    /// The records and the world after the steps were carried out.
    pub(super) fn after(&self, steps: &[Step]) -> Self {
        let mut next = self.clone();
        for step in steps {
            next.perform(step);
        }
        next
    }

    /// What plain recovery leaves behind.
    pub(super) fn recovered(&self) -> Self {
        self.after(&self.plan(&[]).steps)
    }

    fn change(&mut self, step: &Step, events: &[RunEvent]) {
        let view = step.run().and_then(|run| self.records.runs.get_mut(run)).expect("a recorded run");
        for event in events {
            let changes = apply(view, event, moment(10_000)).unwrap_or_else(|refused| panic!("{step:?}: {refused}"));
            view.absorb(changes);
        }
    }

    fn move_place(&mut self, step: &Step, environment: &EnvironmentId, state: EnvironmentState) {
        let moved = RunEvent::EnvironmentMoved {
            environment: environment.clone(),
            state,
            spec: None,
            failure: None,
            cleanup: None,
        };
        self.change(step, &[moved]);
        let key = (step.run().expect("a run").clone(), environment.clone());
        match state {
            EnvironmentState::Ready => self.seen.places.insert(key, clean()),
            _ => self.seen.places.remove(&key),
        };
    }

    fn perform(&mut self, step: &Step) {
        match step {
            record if record.is_record_step() => {
                let run = record.run().expect("a run").clone();
                let events = record.events(&self.records.runs[&run]);
                assert!(!events.is_empty(), "a planned step changes something: {record:?}");
                self.change(record, &events);
                if let Step::DeriveEnvironment { environment, .. } = record {
                    self.seen.places.insert((run, environment.id.clone()), PlaceSeen::NoPlace);
                }
            }
            Step::AbandonSession { session, .. } => {
                let known = self.records.sessions.get_mut(session).expect("a recorded session");
                *known = known.released(SessionStatus::Abandoned, moment(10_000));
                self.seen.liveness.insert(session.clone(), liveness(Verdict::Dead));
            }
            Step::ReleaseClaim { kind, key, generation } => {
                let same = |claim: &&mut crate::domain::claim::Claim| claim.kind == *kind && claim.key == *key;
                let claim = self.records.claims.iter_mut().find(same).expect("a recorded claim");
                assert_eq!(claim.generation, *generation);
                *claim = claim.given_back(moment(10_000));
            }
            Step::FreeSlot { pool, task, session } => {
                let known = self.records.pools.iter_mut().find(|known| known.id == *pool).expect("a recorded pool");
                *known = known.without_slot_of(task, session.as_ref());
            }
            Step::WriteReport { run } => assert!(self.records.without_report.remove(run)),
            Step::ClearLeftover(leftover) => self.seen.leftovers.retain(|known| known != leftover),
            Step::CleanUnnamed { path, .. } => self.seen.unnamed.retain(|known| known.path != *path),
            Step::RecreateEnvironment { environment, .. } => {
                self.move_place(step, environment, EnvironmentState::Ready);
            }
            Step::CleanEnvironment { environment, .. } => self.move_place(step, environment, EnvironmentState::Removed),
            // Running it is the supervisor's, and has its own records.
            _ => {}
        }
    }
}
