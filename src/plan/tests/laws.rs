//! What holds for any records and any observation.

use std::collections::BTreeSet;

use proptest::prelude::*;
use proptest::sample::{select, subsequence};

use super::scene::{Scene, liveness};
use crate::domain::any_event::{ENVIRONMENTS, SESSIONS, TASKS, any_named, any_run};
use crate::domain::claim::ClaimKind;
use crate::domain::environment::Environment;
use crate::domain::ids::{HostId, PoolName, SessionId};
use crate::domain::liveness::Verdict;
use crate::domain::pool::{Pool, Slot};
use crate::domain::samples::{after, claim, environment_id, session, session_id, task_id};
use crate::domain::session::SessionStatus;
use crate::domain::task::TaskState;
use crate::plan::observation::{Dirt, Leftover, PlaceSeen};
use crate::plan::recover::Permission;
use crate::plan::step::Step;

const ALL: [Permission; 4] = [Permission::Recreate, Permission::Clean, Permission::Resume, Permission::Restart];

fn any_place() -> impl Strategy<Value = PlaceSeen> {
    let dirt = select(vec![Dirt::Clean, Dirt::Dirty { changed: 1, untracked: 2 }, Dirt::Unreadable("EIO".to_owned())]);
    prop_oneof![
        2 => Just(PlaceSeen::Gone),
        1 => Just(PlaceSeen::NoPlace),
        1 => Just(PlaceSeen::Elsewhere(HostId("m-other".to_owned()))),
        1 => Just(PlaceSeen::MovedTo("/new".into())),
        1 => Just(PlaceSeen::NotThisWorktree("other".to_owned())),
        1 => Just(PlaceSeen::OffCourse("branch".to_owned())),
        1 => Just(PlaceSeen::Unknown("EIO".to_owned())),
        4 => (dirt, any::<(bool, bool)>())
            .prop_map(|(dirt, (locked, holds_files))| PlaceSeen::There { dirt, locked, holds_files }),
    ]
}

/// Of each session: whether it is recorded, how it ended, what was seen of it.
fn any_sessions() -> impl Strategy<Value = Vec<(bool, SessionStatus, Option<Verdict>)>> {
    let verdict = proptest::option::weighted(0.9, any_named::<Verdict>());
    let status = prop_oneof![4 => Just(SessionStatus::Active), 1 => any_named::<SessionStatus>()];
    proptest::collection::vec((proptest::bool::weighted(0.8), status, verdict), SESSIONS.len())
}

prop_compose! {
    fn any_scene()(
        view in any_run(),
        sessions in any_sessions(),
        places in proptest::collection::vec(proptest::option::weighted(0.9, any_place()), ENVIRONMENTS.len()),
        claims in proptest::collection::vec((select(vec!["main", "r/a", "/p"]), select(&SESSIONS[..]), any::<bool>()), 0..3),
        slots in proptest::collection::vec((select(&TASKS[..]), select(&SESSIONS[..])), 0..3),
        ours in proptest::bool::weighted(0.8),
        runnable in any::<bool>(),
        lock in any::<bool>(),
    ) -> Scene {
        let mut view = view;
        if !ours {
            view.run.host = HostId("m-other".to_owned());
        }
        let run = view.run.id.clone();
        let mut scene = Scene::of(view);
        for (id, (recorded, status, verdict)) in SESSIONS.iter().zip(sessions) {
            if recorded {
                let mut session = session(id);
                session.status = status;
                scene.records.sessions.insert(session_id(id), session);
            }
            if let Some(verdict) = verdict.filter(|_| recorded) {
                let verdict = if status.is_terminal() { Verdict::Dead } else { verdict };
                scene.seen.liveness.insert(session_id(id), liveness(verdict));
            }
        }
        for (id, place) in ENVIRONMENTS.iter().zip(places) {
            if let Some(place) = place {
                scene.seen.places.insert((run.clone(), environment_id(id)), place);
            }
        }
        for (key, holder, here) in claims {
            if !scene.records.claims.iter().any(|known| known.key == key) {
                let mut new = claim(ClaimKind::Thread, key, holder);
                new.host = Some(HostId(if here { "m-here" } else { "m-other" }.to_owned()));
                scene.records.claims.push(new);
            }
        }
        let mut pool = Pool::new(PoolName::new("codex").expect("a name"));
        for (task, session) in slots {
            if !pool.running.iter().any(|slot| slot.task == task_id(task)) {
                pool.running.push(Slot { run: run.clone(), task: task_id(task), session: Some(session_id(session)) });
            }
        }
        scene.records.pools.push(pool);
        if runnable {
            scene.seen.runnable.extend(TASKS.iter().map(|task| format!("r/{task}")));
        }
        if lock {
            scene.seen.leftovers.push(Leftover::RefLock("/r/a.lock".into()));
        }
        if scene.view().run.status.is_terminal() {
            scene.records.without_report.insert(run);
        }
        scene
    }
}

/// Whether nobody has proof that the session is gone.
fn may_live(scene: &Scene, id: &SessionId) -> bool {
    match (scene.records.sessions.get(id), scene.seen.liveness.get(id)) {
        (Some(known), _) if known.status.is_terminal() => false,
        (Some(_), Some(liveness)) => liveness.verdict != Verdict::Dead,
        (Some(_), None) => true,
        (None, _) => scene.view().run.host != scene.seen.host,
    }
}

fn beside_runs(steps: &[Step]) -> Vec<&Step> {
    steps.iter().filter(|step| !matches!(step, Step::RunTask { .. })).collect()
}

proptest! {
    #[test]
    fn planning_again_straight_after_applying_yields_nothing(
        scene in any_scene(), allowed in subsequence(ALL.to_vec(), 0..=ALL.len()),
    ) {
        let first = scene.plan(&allowed);
        let mut after = scene.after(&first.steps);
        // What a step has just made was never looked at: noting it is the one thing that may be left.
        let made: BTreeSet<_> = first.steps.iter().filter(|step| matches!(
            step, Step::DeriveEnvironment { .. } | Step::RecreateEnvironment { .. }
        )).filter_map(Step::environment).cloned().collect();
        let second = after.plan(&allowed);
        for step in beside_runs(&second.steps) {
            let note = matches!(step, Step::NoteEnvironment { environment, .. } if made.contains(environment));
            // A place that was made anew may serve the task that waited for it.
            let resumes = matches!(step, Step::ScheduleResume { .. }) && !made.is_empty();
            prop_assert!(note || resumes, "{step:?}\nafter {:?}", first.steps);
        }
        after = after.after(&second.steps);
        let third = after.plan(&allowed);
        prop_assert!(beside_runs(&third.steps).is_empty(), "{:?}\nafter {:?}", third.steps, second.steps);
    }

    #[test]
    fn a_plain_recovery_only_writes_records(scene in any_scene()) {
        for step in scene.plan(&[]).steps {
            let acts = matches!(
                step,
                Step::RecreateEnvironment { .. } | Step::CleanEnvironment { .. } | Step::CleanUnnamed { .. }
                    | Step::ScheduleResume { .. } | Step::RunTask { .. }
            );
            prop_assert!(!acts, "{step:?}");
        }
    }

    #[test]
    fn doubt_is_never_taken_for_death(scene in any_scene(), allowed in subsequence(ALL.to_vec(), 0..=ALL.len())) {
        let after = scene.after(&scene.plan(&allowed).steps);
        for task in scene.view().tasks.values() {
            let lives = task.state == TaskState::Running
                && task.session.as_ref().is_some_and(|session| may_live(&scene, session));
            if lives {
                let now = &after.view().tasks[&task.id];
                prop_assert_eq!((now.state, &now.session, now.attempts), (task.state, &task.session, task.attempts));
            }
        }
        for (id, before) in &scene.records.sessions {
            prop_assert!(!may_live(&scene, id) || after.records.sessions[id] == *before);
        }
        for (before, now) in scene.records.claims.iter().zip(&after.records.claims) {
            let recorded = before.session.as_ref().filter(|id| scene.records.sessions.contains_key(id));
            prop_assert!(!recorded.is_some_and(|id| may_live(&scene, id)) || now == before);
        }
        for environment in scene.view().environments.values() {
            let held = environment.held_lease().filter(|lease| may_live(&scene, &lease.session));
            let now = after.view().environments[&environment.id].held_lease();
            prop_assert_eq!(held.is_some() && now.is_none(), false, "{}", environment.id);
        }
    }

    #[test]
    fn ended_runs_keep_their_tasks(scene in any_scene(), allowed in subsequence(ALL.to_vec(), 0..=ALL.len())) {
        let finish = crate::domain::event::RunEvent::RunFinished { outcome: None, note: None };
        let mut scene = scene;
        scene.records.runs.values_mut().for_each(|view| *view = after(view, [finish.clone()]));
        let recovered = scene.after(&scene.plan(&allowed).steps);
        prop_assert_eq!(&recovered.view().tasks, &scene.view().tasks);
    }

    #[test]
    fn nothing_on_disk_is_touched_that_is_locked_unseen_elsewhere_or_not_ours(scene in any_scene()) {
        for step in scene.plan(&ALL).steps {
            let (Step::RecreateEnvironment { run, environment } | Step::CleanEnvironment { run, environment }) = &step else {
                continue;
            };
            let known: &Environment = &scene.view().environments[environment];
            prop_assert!(known.execution_mode.is_ours_to_remove() && !known.state.is_gone());
            let place = scene.seen.places.get(&(run.clone(), environment.clone()));
            let untouchable = matches!(place, None | Some(PlaceSeen::Unknown(_) | PlaceSeen::Elsewhere(_)));
            prop_assert!(!untouchable, "{step:?} at {place:?}");
            if matches!(step, Step::CleanEnvironment { .. }) && !known.state.is_unfinished() {
                prop_assert!(!matches!(place, Some(PlaceSeen::There { locked: true, .. })), "{step:?} at {place:?}");
                prop_assert!(!known.held_lease().is_some_and(|lease| may_live(&scene, &lease.session)));
            }
        }
    }

    #[test]
    fn the_same_facts_give_the_same_plan(scene in any_scene()) {
        let (first, second) = (scene.plan(&ALL), scene.plan(&ALL));
        prop_assert_eq!(first.steps, second.steps);
        prop_assert_eq!(first.findings, second.findings);
    }
}
