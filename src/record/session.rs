//! The JSON of sessions, claims and pools.

use super::field::{named_fields, object_fields};
use crate::domain::claim::{Claim, ClaimKind};
use crate::domain::pool::{Pool, Slot};
use crate::domain::session::{Agent, Attach, ContextQuery, ProcessFingerprint, Session, SessionStatus, Usage};

named_fields!(SessionStatus, ClaimKind);
object_fields!(Agent { provider, model, harness, thinking_level });
object_fields!(ProcessFingerprint { host, boot, pid_namespace, pid, start_time });
object_fields!(Usage { input_tokens, output_tokens, reasoning_tokens, tool_calls, cost_micros_usd });
object_fields!(Attach { reason, precedence, winning_rule, probe_source, probe_confidence });
object_fields!(ContextQuery { path, scope, at });
object_fields!(Session {
    id,
    thread,
    status,
    agent,
    actor_key,
    parent_actor_key,
    client_key,
    native_key,
    group,
    path,
    process,
    heartbeat_at,
    usage,
    attach,
    context_queries,
    recovery_attempts,
    last_progress_at,
    base_commit,
    metadata,
    started_at,
    completed_at,
    lease_seconds,
    holds_lock,
});
object_fields!(Claim {
    kind,
    key,
    generation,
    token,
    session,
    host,
    acquired_at,
    expires_at,
    released_at,
    remote_lease
});
object_fields!(Slot { run, task, session });
object_fields!(Pool { id, max_running, running, backoff_until, failures, last_failure });
