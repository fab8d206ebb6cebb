//! The JSON of environments and checkpoints.

use super::field::{named_fields, object_fields};
use crate::domain::checkpoint::{
    AvailableAction, Checkpoint, CompletedStep, ReplaySafety, ResumeDisposition, ResumeState, SavedWork, Stage,
};
use crate::domain::environment::{
    Cleanup, CleanupPolicy, Environment, EnvironmentSpec, EnvironmentState, ExecutionMode, Failure, Health, Lease,
    RecoveryAction, RecoveryStatus, WorktreeSpec,
};

named_fields!(ExecutionMode, EnvironmentState, Health, RecoveryStatus, RecoveryAction, CleanupPolicy);
named_fields!(Stage, ReplaySafety, ResumeDisposition, AvailableAction);
object_fields!(WorktreeSpec { branch, base, base_commit, create_branch_if_missing, branch_created });
object_fields!(EnvironmentSpec {
    workspace_root,
    path,
    mount_point,
    cleanup_policy,
    write_access,
    git_worktree,
    remote_url,
});
object_fields!(Lease { session, task, token, acquired_at, expires_at, released_at, release_reason });
object_fields!(Cleanup { reason, work, at });
object_fields!(Failure { message, at });
object_fields!(Environment {
    id,
    execution_mode,
    spec,
    state,
    health,
    lease,
    cleanup,
    recovery_status,
    recovery_action,
    failure,
    host,
    created_at,
    updated_at,
    last_verified_at,
    metadata,
});
object_fields!(CompletedStep { id, name, digest, at });
object_fields!(ResumeState { path, bytes, oid });
object_fields!(SavedWork { commit, base, branch, files });
object_fields!(Checkpoint {
    id,
    run,
    task,
    session,
    agent,
    environment,
    execution_mode,
    seq,
    stage,
    replay_safety,
    resume_disposition,
    safe_boundary_label,
    workspace_dir,
    completed_steps,
    result_published,
    note,
    resume_state,
    work,
    available_actions,
    created_at,
    updated_at,
});
