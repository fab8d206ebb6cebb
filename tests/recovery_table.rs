//! Holds the table of `docs/recovery.md` against the planner: each row is a scene, built here from plain records and plain sights,
//! and what the planner finds and plans for it must be what the row says.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test")]

use std::collections::BTreeSet;

use git_tether::domain::checkpoint::{NewCheckpoint, ReplaySafety, SavedWork};
use git_tether::domain::claim::{Claim, ClaimKind, NewClaim};
use git_tether::domain::document::Document;
use git_tether::domain::environment::{
    CleanupPolicy, EnvironmentSpec, EnvironmentState, ExecutionMode, Lease, NewEnvironment, WorktreeSpec,
};
use git_tether::domain::event::{RunEvent, WorkEnd};
use git_tether::domain::gate::{GateKind, NewGate};
use git_tether::domain::ids::{EnvironmentId, GateId, HostId, Oid, PoolName, RunId, SessionId, TaskId};
use git_tether::domain::liveness::{Liveness, Verdict};
use git_tether::domain::names::Named;
use git_tether::domain::pool::{Pool, Slot};
use git_tether::domain::run::{NewRun, Policy, Run};
use git_tether::domain::session::Session;
use git_tether::domain::task::NewTask;
use git_tether::domain::time::Timestamp;
use git_tether::domain::transition::apply;
use git_tether::domain::view::RunView;
use git_tether::plan::finding::{Finding, FindingCode};
use git_tether::plan::observation::{
    Dirt, Leftover, Observation, PlaceSeen, Records, UnnamedWorktree, UnreadableSingle,
};
use git_tether::plan::recover::{Permission, Plan, plan};
use git_tether::plan::step::Step;

const TABLE: &str = include_str!("../docs/recovery.md");

// ---- the table ----

/// One row, as the document says it.
#[derive(Debug, PartialEq, Eq)]
struct Row {
    case: String,
    findings: String,
    health: String,
    status: String,
    action: String,
    person: String,
    steps: String,
    with_flags: String,
}

fn rows() -> Vec<Row> {
    let table = TABLE.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| case"));
    let mut rows = Vec::new();
    for line in table {
        let cells: Vec<String> = line.trim_matches('|').split('|').map(|cell| cell.trim().replace('`', "")).collect();
        let Ok([case, findings, health, status, action, person, steps, with_flags]) = <[String; 8]>::try_from(cells)
        else {
            continue;
        };
        rows.push(Row { case, findings, health, status, action, person, steps, with_flags });
    }
    rows
}

fn or_none(text: String) -> String {
    if text.is_empty() { "–".to_owned() } else { text }
}

fn names(steps: &[Step]) -> Vec<&'static str> {
    steps.iter().map(Step::name).collect()
}

/// What the planner says of a scene, in the words of the table.
fn row_of(case: &str, scene: &Scene) -> Row {
    let plain = scene.plan(&[]);
    let told = |tell: fn(&Finding) -> Option<String>| or_none(plain.findings.iter().find_map(tell).unwrap_or_default());
    let plain_steps = names(&plain.steps);
    let flags = [
        ("--recreate", vec![Permission::Recreate]),
        ("--clean", vec![Permission::Clean]),
        ("--resume", vec![Permission::Resume]),
        ("--restart", vec![Permission::Resume, Permission::Restart]),
        ("--recreate --resume", vec![Permission::Recreate, Permission::Resume]),
    ];
    let mut with_flags: Vec<(&str, String)> = Vec::new();
    for (flag, permissions) in flags {
        let mut more = names(&scene.plan(&permissions).steps);
        for step in &plain_steps {
            if let Some(at) = more.iter().position(|other| other == step) {
                more.remove(at);
            }
        }
        // Said once, at the flags that are enough for it.
        let said = more.join(", ");
        if !more.is_empty() && with_flags.iter().all(|(_, known)| *known != said) {
            with_flags.push((flag, said));
        }
    }
    let with_flags: Vec<String> = with_flags.into_iter().map(|(flag, steps)| format!("{flag}: {steps}")).collect();
    Row {
        case: case.to_owned(),
        findings: or_none(plain.findings.iter().map(|finding| finding.code.to_string()).collect::<Vec<_>>().join(", ")),
        health: told(|finding| finding.health.map(|health| health.to_string())),
        status: told(|finding| finding.recovery_status.map(|status| status.to_string())),
        action: told(|finding| finding.recovery_action.map(|action| action.to_string())),
        person: if plain.needs_person() > 0 { "yes" } else { "no" }.to_owned(),
        steps: or_none(plain_steps.join(", ")),
        with_flags: or_none(with_flags.join("; ")),
    }
}

impl std::fmt::Display for Row {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let cells = [
            &self.case,
            &self.findings,
            &self.health,
            &self.status,
            &self.action,
            &self.person,
            &self.steps,
            &self.with_flags,
        ];
        write!(f, "| {} |", cells.map(String::as_str).join(" | "))
    }
}

// ---- scenes ----

fn now() -> Timestamp {
    "2026-01-31T12:00:00Z".parse().unwrap()
}

fn run_id() -> RunId {
    RunId::new("r").unwrap()
}

fn task_id() -> TaskId {
    TaskId::new("t").unwrap()
}

fn environment_id() -> EnvironmentId {
    EnvironmentId::new("e").unwrap()
}

fn session_id() -> SessionId {
    SessionId::new("s").unwrap()
}

fn here() -> HostId {
    HostId("here".to_owned())
}

fn there() -> PlaceSeen {
    PlaceSeen::There { dirt: Dirt::Clean, locked: false, holds_files: false }
}

fn dirty() -> PlaceSeen {
    PlaceSeen::There { dirt: Dirt::Dirty { changed: 2, untracked: 1 }, locked: false, holds_files: true }
}

#[derive(Clone)]
struct Scene {
    records: Records,
    seen: Observation,
}

impl Scene {
    /// A run with nothing in it.
    fn empty() -> Self {
        let run = Run::start(
            NewRun {
                id: run_id(),
                name: None,
                parent: None,
                depth: 0,
                lead_agent: None,
                policy: Policy::default(),
                metadata: Document::default(),
                host: here(),
            },
            now(),
        );
        let mut records = Records::default();
        records.runs.insert(run_id(), RunView::of_run(run));
        Self { records, seen: Observation::nothing(here()) }
    }

    /// A task in a place of this mode, not started.
    fn with_place(mode: ExecutionMode) -> Self {
        Self::empty().then(RunEvent::TaskAdded(Box::new(NewTask::named(task_id())))).place(mode, Some(task_id()))
    }

    /// A task that runs in a worktree, under a session that lives.
    fn running() -> Self {
        let mut scene = Self::with_place(ExecutionMode::GitWorktree).started(Some(lease()));
        scene.seen.places.insert((run_id(), environment_id()), there());
        scene.session(Verdict::Alive)
    }

    /// A task that was interrupted and has been recovered already.
    fn interrupted(checkpoint: Option<NewCheckpoint>) -> Self {
        let mut scene = Self::running();
        if let Some(checkpoint) = checkpoint {
            scene = scene.then(RunEvent::CheckpointTaken(Box::new(checkpoint)));
        }
        let scene = scene.session(Verdict::Dead).recovered(&[]);
        let mut scene = scene.clone_without_session();
        scene.seen.runnable.insert("r/t".to_owned());
        scene
    }

    fn clone_without_session(mut self) -> Self {
        self.records.sessions.clear();
        self.records.claims.clear();
        self
    }

    fn place(self, mode: ExecutionMode, task: Option<TaskId>) -> Self {
        let worktree = WorktreeSpec {
            branch: Some("work".to_owned()),
            base: None,
            base_commit: None,
            create_branch_if_missing: true,
            branch_created: true,
        };
        let spec = EnvironmentSpec {
            workspace_root: None,
            path: (mode != ExecutionMode::Remote).then(|| "/work/t".into()),
            mount_point: None,
            cleanup_policy: mode.default_cleanup(),
            write_access: true,
            git_worktree: (mode == ExecutionMode::GitWorktree).then_some(worktree),
            remote_url: None,
        };
        let environment = Box::new(NewEnvironment {
            id: environment_id(),
            execution_mode: mode,
            spec,
            state: EnvironmentState::Ready,
            host: here(),
        });
        self.then(RunEvent::EnvironmentRequested { task, environment })
    }

    fn started(self, lease: Option<Lease>) -> Self {
        self.then(RunEvent::TaskStarted { task: task_id(), session: session_id(), lease })
    }

    #[allow(clippy::needless_pass_by_value, reason = "events are made where they are used")]
    fn then(mut self, event: RunEvent) -> Self {
        let view = self.records.runs.get_mut(&run_id()).unwrap();
        let changes = apply(view, &event, now()).unwrap();
        view.absorb(changes);
        self
    }

    /// The session, as it is seen.
    fn session(mut self, verdict: Verdict) -> Self {
        let liveness =
            Liveness { verdict, evidence: vec![format!("it is {verdict}")], supervisor_gone: false, falls_at: None };
        self.seen.liveness.insert(session_id(), liveness);
        let json = r#"{"schema":"tether.session/1","id":"s","thread":"r/t","status":"active","started_at":"2026-01-31T12:00:00Z",
            "agent":{},"process":{"host":"here"},"usage":{},"attach":{},"context_queries":[],"recovery_attempts":0,
            "lease_seconds":600,"holds_lock":true}"#;
        let session = git_tether::record::decode::<Session>(json.as_bytes()).unwrap().value;
        self.records.sessions.insert(session_id(), session);
        self
    }

    fn seeing(mut self, place: PlaceSeen) -> Self {
        self.seen.places.insert((run_id(), environment_id()), place);
        self
    }

    fn claim(mut self) -> Self {
        let new = NewClaim {
            kind: ClaimKind::Task,
            key: "r/t".to_owned(),
            encoded_key: "r%2ft".to_owned(),
            session: session_id(),
            host: here(),
            expires_at: None,
            remote_lease: false,
        };
        self.records.claims.push(Claim::taken(None, new, now()));
        self
    }

    fn torn(mut self, name: &str, session: Option<SessionId>) -> Self {
        let (name, problem) = (name.to_owned(), "its tree is damaged".to_owned());
        self.records.unreadable_singles.push(UnreadableSingle { name, session, problem });
        self
    }

    fn slot(mut self) -> Self {
        let slot = Slot { run: run_id(), task: task_id(), session: None };
        let pool = Pool::new(PoolName::new("codex").unwrap()).with_slot(slot, now()).unwrap();
        self.records.pools.push(pool);
        self
    }

    fn plan(&self, permissions: &[Permission]) -> Plan {
        plan(&self.records, &self.seen, &permissions.iter().copied().collect::<BTreeSet<_>>())
    }

    /// What the record steps of a plan leave behind.
    fn recovered(mut self, permissions: &[Permission]) -> Self {
        for step in self.plan(permissions).steps.iter().filter(|step| step.is_record_step()) {
            let view = self.records.runs.get_mut(step.run().unwrap()).unwrap();
            for event in step.events(view) {
                let changes = apply(view, &event, now()).unwrap();
                view.absorb(changes);
            }
        }
        self
    }
}

fn lease() -> Lease {
    Lease {
        session: session_id(),
        task: Some(task_id()),
        token: None,
        acquired_at: now(),
        expires_at: None,
        released_at: None,
        release_reason: None,
    }
}

fn checkpoint(replay_safety: ReplaySafety) -> NewCheckpoint {
    NewCheckpoint {
        task: task_id(),
        boundary: Some("half".to_owned()),
        replay_safety,
        disposition: None,
        steps: Vec::new(),
        note: None,
        result_published: false,
        resume_state: None,
        work: Some(SavedWork { commit: Oid("1".repeat(40)), base: None, branch: None, files: 3 }),
        workspace_dir: None,
        by: git_tether::domain::checkpoint::TakenBy::Executor,
    }
}

fn done() -> RunEvent {
    RunEvent::TaskDone { task: task_id(), end: WorkEnd::default() }
}

/// The scene that a case names. A case that the table has and this list has not fails the test, and the other way round.
#[allow(clippy::too_many_lines, reason = "a list")]
fn scene(case: &str) -> Option<Scene> {
    use ExecutionMode::{GitWorktree, IsolatedWorkspace, Remote, SharedWorkspace};
    use ReplaySafety::{CheckpointResumable, IdempotentWrite, NonReplayableSideEffect, OperatorGated, PureReadonly};
    let after = |safety| Scene::running().then(RunEvent::CheckpointTaken(Box::new(checkpoint(safety))));
    let worktree = |place| Scene::with_place(GitWorktree).seeing(place);
    Some(match case {
        "running, session alive" => Scene::running(),
        "running, session dead, no checkpoint" => Scene::running().session(Verdict::Dead),
        "running, session dead, checkpoint_resumable with saved work" => {
            after(CheckpointResumable).session(Verdict::Dead)
        }
        "running, session dead, checkpoint_resumable with nothing saved" => {
            let empty = NewCheckpoint { work: None, ..checkpoint(CheckpointResumable) };
            Scene::running().then(RunEvent::CheckpointTaken(Box::new(empty))).session(Verdict::Dead)
        }
        "running, session dead, result published" => {
            let published = NewCheckpoint { result_published: true, ..checkpoint(CheckpointResumable) };
            Scene::running().then(RunEvent::CheckpointTaken(Box::new(published))).session(Verdict::Dead)
        }
        "running, session dead, pure_readonly" => after(PureReadonly).session(Verdict::Dead),
        "running, session dead, idempotent_write" => after(IdempotentWrite).session(Verdict::Dead),
        "running, session dead, operator_gated" => after(OperatorGated).session(Verdict::Dead),
        "running, session dead, non_replayable_side_effect" => after(NonReplayableSideEffect).session(Verdict::Dead),
        "running, supervisor dead, command alive" => {
            let mut scene = Scene::running();
            scene.seen.liveness.get_mut(&session_id()).unwrap().supervisor_gone = true;
            scene
        }
        "running, session unknown" => Scene::running().session(Verdict::Unknown),
        "running, session elsewhere" => Scene::running().session(Verdict::Elsewhere),
        "running, session alive, worktree gone" => Scene::running().seeing(PlaceSeen::Gone),
        "running, session dead, worktree gone" => {
            after(CheckpointResumable).session(Verdict::Dead).seeing(PlaceSeen::Gone)
        }
        "running, session dead, claim held" => Scene::running().session(Verdict::Dead).claim(),
        "running, no environment named" => Scene::empty()
            .then(RunEvent::TaskAdded(Box::new(NewTask::named(task_id()))))
            .started(None)
            .session(Verdict::Alive),
        "interrupted, may resume" => Scene::interrupted(Some(checkpoint(CheckpointResumable))),
        "interrupted, may restart" => Scene::interrupted(Some(checkpoint(IdempotentWrite))),
        "interrupted, needs the operator" => Scene::interrupted(None),
        "interrupted, may resume, run paused" => {
            Scene::interrupted(Some(checkpoint(CheckpointResumable))).then(RunEvent::RunPaused)
        }
        "completed" => Scene::running().then(done()).session(Verdict::Alive),
        "session dead that no task names" => Scene::empty().session(Verdict::Dead),
        "worktree there, clean" => worktree(there()),
        "worktree there, dirty" => worktree(dirty()),
        "worktree there, cannot be read" => {
            let dirt = Dirt::Unreadable("index is damaged".to_owned());
            worktree(PlaceSeen::There { dirt, locked: false, holds_files: true })
        }
        "worktree gone" => worktree(PlaceSeen::Gone),
        "worktree moved" => worktree(PlaceSeen::MovedTo("/elsewhere/t".into())),
        "worktree is not this worktree" => worktree(PlaceSeen::NotThisWorktree("not registered".to_owned())),
        "worktree on another branch or course" => worktree(PlaceSeen::OffCourse("on branch other".to_owned())),
        "worktree cannot be looked at" => worktree(PlaceSeen::Unknown("/mnt is not mounted".to_owned())),
        "worktree recorded on another host" => worktree(PlaceSeen::Elsewhere(HostId("far".to_owned()))),
        "worktree half made" => {
            let mut scene = worktree(PlaceSeen::Gone);
            let view = scene.records.runs.get_mut(&run_id()).unwrap();
            view.environments.get_mut(&environment_id()).unwrap().state = EnvironmentState::Provisioning;
            scene
        }
        "worktree whose making failed" => {
            let mut scene = scene("worktree half made")?;
            let view = scene.records.runs.get_mut(&run_id()).unwrap();
            view.environments.get_mut(&environment_id()).unwrap().state = EnvironmentState::Failed;
            scene
        }
        "worktree being made by somebody who lives" => {
            let mut scene = scene("worktree half made")?;
            scene.seen.being_made.insert((run_id(), environment_id()));
            scene
        }
        "worktree of no task, clean" => Scene::empty().place(GitWorktree, None).seeing(there()),
        "worktree of no task, dirty" => Scene::empty().place(GitWorktree, None).seeing(dirty()),
        "worktree of no task, locked by git" => {
            let locked = PlaceSeen::There { dirt: Dirt::Clean, locked: true, holds_files: false };
            Scene::empty().place(GitWorktree, None).seeing(locked)
        }
        "worktree of a completed task, clean" => Scene::running().then(done()),
        "worktree of a completed task, keep_always" => {
            let mut scene = Scene::running().then(done());
            let view = scene.records.runs.get_mut(&run_id()).unwrap();
            view.environments.get_mut(&environment_id()).unwrap().spec.cleanup_policy = CleanupPolicy::KeepAlways;
            scene
        }
        "worktree that bears our mark and no record names" => {
            let mut scene = Scene::empty();
            scene.seen.unnamed.push(UnnamedWorktree {
                path: "/work/lost".into(),
                admin_dir: "/repository/.git/worktrees/lost".into(),
                run: None,
                environment: None,
                seen: dirty(),
            });
            scene
        }
        "isolated workspace there" => Scene::with_place(IsolatedWorkspace).seeing(there()),
        "isolated workspace gone" => Scene::with_place(IsolatedWorkspace).seeing(PlaceSeen::Gone),
        "isolated workspace of no task, holds files" => {
            let files = PlaceSeen::There { dirt: Dirt::Clean, locked: false, holds_files: true };
            Scene::empty().place(IsolatedWorkspace, None).seeing(files)
        }
        "shared workspace there" => Scene::with_place(SharedWorkspace).seeing(there()),
        "shared workspace gone" => Scene::with_place(SharedWorkspace).seeing(PlaceSeen::Gone),
        "remote" => Scene::with_place(Remote).seeing(PlaceSeen::NoPlace),
        "leased to a dead session" => {
            let lease = lease();
            worktree(there())
                .then(RunEvent::EnvironmentLeased { environment: environment_id(), lease })
                .session(Verdict::Dead)
        }
        "claim of a session that is not recorded" => Scene::empty().claim(),
        "slot of a task that does not run" => Scene::with_place(GitWorktree).seeing(there()).slot(),
        "gate pending" => Scene::empty().then(RunEvent::GateOpened(Box::new(NewGate {
            id: GateId::new("q").unwrap(),
            kind: GateKind::Question,
            key: None,
            task: None,
            prompt: Some("Go on?".to_owned()),
            choices: Vec::new(),
            context: None,
            question_type: None,
        }))),
        "run asks for a person" => {
            let mut scene = Scene::empty();
            scene.records.runs.get_mut(&run_id()).unwrap().run.attention_reason = Some("restored by hand".to_owned());
            scene
        }
        "run ended, report missing" => {
            let mut scene = Scene::empty().then(RunEvent::RunFinished { outcome: None, note: None });
            scene.records.without_report.insert(run_id());
            scene
        }
        "run cannot be read" => {
            let mut scene = Scene::empty();
            scene.records.unreadable.push(("torn".to_owned(), "its tree is damaged".to_owned()));
            scene
        }
        "session, claim or pool cannot be read" => Scene::empty().torn("refs/tether/pools/lanes", None),
        "running, session cannot be read" => {
            let mut scene = Scene::running().session(Verdict::Unknown);
            scene.records.sessions.clear();
            scene.torn("refs/tether/sessions/s", Some(session_id())).claim()
        }
        "leftover lock or scratch file" => leftover(Leftover::RefLock("/r/.git/refs/tether/runs/r.lock".into())),
        "leftover session whose making was cut off" => leftover(Leftover::Session(session_id())),
        "leftover branch of a worktree that never came" => {
            leftover(Leftover::Branch { name: "work".to_owned(), tip: "1".repeat(40) })
        }
        _ => return None,
    })
}

fn leftover(leftover: Leftover) -> Scene {
    let mut scene = Scene::empty();
    scene.seen.leftovers.push(leftover);
    scene
}

// ---- the document and the planner agree ----

#[test]
fn each_row_is_what_the_planner_says() {
    let rows = rows();
    assert!(rows.len() > 40, "the table was not found: {} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        let Some(scene) = scene(&row.case) else {
            wrong.push(format!("no scene is known for the case “{}”", row.case));
            continue;
        };
        let planned = row_of(&row.case, &scene);
        if planned != *row {
            wrong.push(format!("the document: {row}\nthe planner:  {planned}"));
        }
    }
    assert!(wrong.is_empty(), "{} rows are wrong:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn every_finding_has_a_row() {
    let rows = rows();
    for code in FindingCode::ALL {
        let name = code.to_string();
        let has_row = rows.iter().any(|row| row.findings.split(", ").any(|found| found == name));
        assert!(has_row, "{name} has no row in docs/recovery.md");
    }
}

#[test]
fn each_scene_has_one_row() {
    let source = include_str!("recovery_table.rs");
    let arms = source.lines().filter_map(|line| line.trim().strip_prefix('"')?.split_once("\" =>"));
    let cases: Vec<String> = rows().into_iter().map(|row| row.case).collect();
    let mut counted = 0;
    for (case, _) in arms {
        assert_eq!(cases.iter().filter(|known| *known == case).count(), 1, "{case}");
        counted += 1;
    }
    assert_eq!(counted, cases.len());
}

#[test]
fn planning_again_yields_no_record_step() {
    for row in rows() {
        for permissions in [&[][..], &[Permission::Resume], &[Permission::Resume, Permission::Restart]] {
            let Some(scene) = scene(&row.case) else { continue };
            let again = scene.recovered(permissions).plan(permissions);
            let left: Vec<_> = again.steps.iter().filter(|step| step.is_record_step()).map(Step::name).collect();
            assert!(left.is_empty(), "{}: {left:?}", row.case);
        }
    }
}
