//! SPEC §5, Environments: each row.

use super::scene::{Scene, clean};
use crate::domain::environment::{EnvironmentState, ExecutionMode, Health, RecoveryAction};
use crate::domain::event::RunEvent;
use crate::domain::ids::HostId;
use crate::domain::liveness::Verdict;
use crate::domain::names::Named;
use crate::domain::samples::{add, after, empty_run, environment_id, lease, new_environment, requested, start, task};
use crate::domain::task::TaskState;
use crate::plan::observation::{Dirt, PlaceSeen};
use crate::plan::recover::Permission;

/// What is seen, by a name that the table below uses.
fn seen(name: &str) -> PlaceSeen {
    let there = |dirt, holds_files| PlaceSeen::There { dirt, locked: false, holds_files };
    match name {
        "gone" => PlaceSeen::Gone,
        "moved" => PlaceSeen::MovedTo("/elsewhere".into()),
        "other" => PlaceSeen::NotThisWorktree("it is not registered".to_owned()),
        "off" => PlaceSeen::OffCourse("it is on branch x".to_owned()),
        "io error" => PlaceSeen::Unknown("EIO".to_owned()),
        "clean" => there(Dirt::Clean, true),
        "empty" => there(Dirt::Clean, false),
        "dirty" => there(Dirt::Dirty { changed: 0, untracked: 1 }, true),
        "unreadable" => there(Dirt::Unreadable("EIO".to_owned()), true),
        "no place" => PlaceSeen::NoPlace,
        other => panic!("{other}"),
    }
}

const ROWS: &str = "
mode               | named | seen       | health   | status                | action                       | task
git_worktree       | yes   | gone       | missing  | pending               | recreate_missing_environment | blocked
git_worktree       | yes   | moved      | drifted  | needs_operator_action | mark_task_blocked            | blocked
git_worktree       | yes   | other      | drifted  | needs_operator_action | mark_task_blocked            | blocked
git_worktree       | yes   | off        | drifted  | needs_operator_action | mark_task_blocked            | blocked
git_worktree       | yes   | clean      | clean    | reconciled            | -                            | queued
git_worktree       | yes   | dirty      | dirty    | reconciled            | -                            | queued
git_worktree       | yes   | unreadable | unknown  | reconciled            | -                            | queued
git_worktree       | yes   | io error   | unknown  | pending               | -                            | queued
git_worktree       | no    | clean      | orphaned | pending               | queue_cleanup                | queued
git_worktree       | no    | dirty      | orphaned | pending               | archive_dirty_environment    | queued
isolated_workspace | yes   | gone       | missing  | pending               | recreate_missing_environment | blocked
isolated_workspace | yes   | clean      | clean    | reconciled            | -                            | queued
isolated_workspace | yes   | empty      | clean    | reconciled            | -                            | queued
isolated_workspace | no    | empty      | orphaned | pending               | queue_cleanup                | queued
isolated_workspace | no    | clean      | orphaned | pending               | archive_dirty_environment    | queued
shared_workspace   | yes   | gone       | missing  | needs_operator_action | mark_task_blocked            | blocked
shared_workspace   | yes   | clean      | clean    | reconciled            | -                            | queued
remote             | yes   | gone       | missing  | needs_operator_action | mark_task_blocked            | blocked
remote             | yes   | no place   | clean    | reconciled            | -                            | queued
";

fn scene_of(mode: ExecutionMode, named: bool, events: impl IntoIterator<Item = RunEvent>) -> Scene {
    let first = [add("t"), requested(named.then_some("t"), new_environment("e", mode))];
    Scene::of(after(&empty_run("r"), first.into_iter().chain(events)))
}

#[test]
fn what_is_seen_is_written_down_as_the_table_says() {
    for row in ROWS.lines().filter(|line| !line.is_empty()).skip(1) {
        let cells: Vec<&str> = row.split('|').map(str::trim).collect();
        let scene = scene_of(cells[0].parse().expect("a mode"), cells[1] == "yes", []).place("e", seen(cells[2]));
        let recovered = scene.recovered();
        let environment = &recovered.view().environments[&environment_id("e")];
        let action = environment.recovery_action.map_or("-", Named::name);
        let found = (environment.health.name(), environment.recovery_status.name(), action);
        assert_eq!(found, (cells[3], cells[4], cells[5]), "{row}");
        let task = task(recovered.view(), "t");
        assert_eq!(task.state.name(), cells[6], "{row}");
        if task.state == TaskState::Blocked {
            assert!(task.blocked_reasons[0].starts_with("environment e: "), "{row}: {:?}", task.blocked_reasons);
        }
        assert!(recovered.plan(&[]).steps.is_empty(), "{row}: {:?}", recovered.plan(&[]).steps);
        let well = recovered.place("e", if cells[0] == "remote" { seen("no place") } else { clean() }).recovered();
        if cells[1] == "yes" {
            assert_eq!(well.view().tasks.values().next().map(|task| task.state), Some(TaskState::Queued), "{row}");
        }
    }
}

#[test]
fn a_moved_worktree_is_named_with_the_way_to_adopt_it() {
    let scene = scene_of(ExecutionMode::GitWorktree, true, []).place("e", seen("moved"));
    let reason = &task(scene.recovered().view(), "t").blocked_reasons[0].clone();
    assert!(reason.contains("/elsewhere") && reason.contains("env adopt"), "{reason}");
}

#[test]
fn the_lease_of_the_dead_is_released_whatever_else_is_found() {
    for place in ["clean", "gone", "off", "io error"] {
        let leased = RunEvent::EnvironmentLeased { environment: environment_id("e"), lease: lease("s", None) };
        let scene =
            scene_of(ExecutionMode::GitWorktree, true, [leased]).session("s", Verdict::Dead).place("e", seen(place));
        let recovered = scene.recovered();
        let environment = &recovered.view().environments[&environment_id("e")];
        assert!(environment.held_lease().is_none());
        let reason = environment.lease.as_ref().and_then(|lease| lease.release_reason.clone());
        assert!(reason.is_some_and(|reason| reason.contains("dead")));
        assert_eq!(environment.state, EnvironmentState::Ready);
        let first = match place {
            "clean" | "io error" => RecoveryAction::ReleaseStaleLease,
            "gone" => RecoveryAction::RecreateMissingEnvironment,
            _ => RecoveryAction::MarkTaskBlocked,
        };
        assert_eq!(environment.recovery_action, Some(first), "{place}");
        assert!(recovered.plan(&[]).steps.is_empty(), "{place}: {:?}", recovered.plan(&[]).steps);
        let blocked = task(recovered.view(), "t").state == TaskState::Blocked;
        assert_eq!(blocked, !matches!(place, "clean" | "io error"), "a released lease blocks no task");
    }
}

#[test]
fn a_live_or_doubtful_holder_keeps_its_lease() {
    for verdict in [Verdict::Alive, Verdict::Unknown, Verdict::Elsewhere] {
        let leased = RunEvent::EnvironmentLeased { environment: environment_id("e"), lease: lease("s", None) };
        let scene = scene_of(ExecutionMode::GitWorktree, true, [leased]).session("s", verdict).place("e", clean());
        assert!(scene.recovered().view().environments[&environment_id("e")].held_lease().is_some(), "{verdict}");
    }
}

#[test]
fn a_live_task_is_not_blocked_by_its_environment() {
    for verdict in [Verdict::Alive, Verdict::Unknown, Verdict::Elsewhere] {
        let scene =
            scene_of(ExecutionMode::GitWorktree, true, [start("t")]).session("s", verdict).place("e", seen("gone"));
        let after = scene.recovered();
        assert_eq!(task(after.view(), "t").state, TaskState::Running);
        assert_eq!(after.view().environments[&environment_id("e")].health, Health::Missing);
        assert!(after.plan(&[]).steps.is_empty());
    }
}

#[test]
fn another_hosts_environment_is_left_as_it_is() {
    let mut scene =
        scene_of(ExecutionMode::GitWorktree, true, []).place("e", PlaceSeen::Elsewhere(HostId("m-x".to_owned())));
    for permissions in [&[][..], &[Permission::Recreate, Permission::Clean]] {
        assert!(scene.plan(permissions).steps.is_empty());
    }
    scene = scene.recovered();
    assert_eq!(scene.view().environments[&environment_id("e")].health, Health::Unknown);
}

#[test]
fn what_cannot_be_seen_is_not_well_again() {
    for (first, action) in
        [("gone", RecoveryAction::RecreateMissingEnvironment), ("off", RecoveryAction::MarkTaskBlocked)]
    {
        let amiss = scene_of(ExecutionMode::GitWorktree, true, []).place("e", seen(first)).recovered();
        let unseen = amiss.place("e", seen("io error")).recovered();
        assert_eq!(task(unseen.view(), "t").state, TaskState::Blocked);
        assert_eq!(task(unseen.view(), "t").blocked_reasons.len(), 1, "one word of each environment");
        let environment = &unseen.view().environments[&environment_id("e")];
        assert_eq!((environment.health, environment.recovery_action), (Health::Unknown, Some(action)));
        let all = [Permission::Recreate, Permission::Clean, Permission::Resume, Permission::Restart];
        assert!(unseen.plan(&all).steps.is_empty(), "{:?}", unseen.plan(&all).steps);
    }
}

#[test]
fn a_half_made_environment_is_marked_then_finished_or_undone() {
    for state in [EnvironmentState::Requested, EnvironmentState::Provisioning] {
        let mut new = new_environment("e", ExecutionMode::GitWorktree);
        new.state = state;
        let view = after(&empty_run("r"), [add("t"), requested(Some("t"), new)]);
        for place in ["gone", "clean", "other"] {
            let marked = Scene::of(view.clone()).place("e", seen(place)).recovered();
            assert_eq!(task(marked.view(), "t").state, TaskState::Blocked, "{place}");
            let environment = &marked.view().environments[&environment_id("e")];
            assert_eq!(environment.recovery_action, Some(RecoveryAction::RecreateMissingEnvironment));
            assert!(marked.plan(&[]).steps.is_empty());
            let finished = marked.after(&marked.plan(&[Permission::Recreate]).steps);
            assert_eq!(task(finished.view(), "t").state, TaskState::Queued);
            let undone = marked.after(&marked.plan(&[Permission::Clean]).steps);
            assert_eq!(undone.view().environments[&environment_id("e")].state, EnvironmentState::Removed, "{place}");
            assert_eq!(task(undone.view(), "t").state, TaskState::Queued, "a place that is gone blocks nobody");
        }
        let mut making = Scene::of(view).place("e", PlaceSeen::Gone);
        making.seen.being_made.insert((making.view().run.id.clone(), environment_id("e")));
        let all = [Permission::Recreate, Permission::Clean];
        assert!(making.plan(&all).steps.is_empty(), "somebody who lives is at it");
    }
}

#[test]
fn removed_environments_are_not_verified() {
    for state in [EnvironmentState::Removed, EnvironmentState::Archived] {
        let gone = RunEvent::EnvironmentMoved {
            environment: environment_id("e"),
            state,
            spec: None,
            failure: None,
            cleanup: None,
        };
        let scene = scene_of(ExecutionMode::GitWorktree, true, [gone]).place("e", PlaceSeen::Gone);
        assert!(scene.plan(&[Permission::Recreate, Permission::Clean]).steps.is_empty());
        assert!(scene.codes().is_empty());
    }
}
