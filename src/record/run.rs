//! The JSON of runs.

use serde_json::{Map, Value};

use super::field::{Field, InvalidField, Place, named_fields, object, object_fields};
use crate::domain::names::Named;
use crate::domain::run::{
    Activity, ActivityState, FixedBy, Message, Parent, Policy, Restoration, RestorationSource, Run, RunStatus,
    TaskSummary,
};
use crate::domain::task::{Requirement, TaskState};

named_fields!(RunStatus, ActivityState, RestorationSource, FixedBy);
object_fields!(Parent { run, task });
object_fields!(Activity { state, text, progress, phase, error, at });
object_fields!(Message { role, text, at });
object_fields!(Restoration { count, last_at, source });
object_fields!(Run {
    id,
    name,
    status,
    paused_from,
    parent,
    depth,
    lead_agent,
    policy,
    activity,
    spawned_tasks,
    waiting_on,
    messages,
    restoration,
    task_summary,
    requires_attention,
    metadata,
    host,
    created_at,
    updated_at,
    completed_at,
    pending_gates,
    fixed_by,
    outcome_note,
    attention_reason,
});

const REQUIREMENTS: [(&str, Requirement); 3] = [
    ("approval_required", Requirement::Approval),
    ("reviewer_required", Requirement::Review),
    ("test_required", Requirement::Test),
];

impl Field for Policy {
    fn write(&self) -> Value {
        let mut map = Map::new();
        for (key, requirement) in REQUIREMENTS {
            map.insert(key.to_owned(), Value::Bool(self.requirements.contains(&requirement)));
        }
        map.insert("execution_mode".to_owned(), self.execution_mode.write());
        map.insert("tags".to_owned(), self.tags.write());
        Value::Object(map)
    }

    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        let map = object(value, place)?;
        let field = |key| map.get(key).unwrap_or(&Value::Null);
        let mut requirements = Vec::new();
        for (key, requirement) in REQUIREMENTS {
            if bool::read(field(key), &place.child(key))? {
                requirements.push(requirement);
            }
        }
        Ok(Self {
            requirements,
            execution_mode: Field::read(field("execution_mode"), &place.child("execution_mode"))?,
            tags: Field::read(field("tags"), &place.child("tags"))?,
        })
    }
}

/// A summary of tasks as it stands in a run, for an answer that tells of another one.
pub fn summary(summary: &TaskSummary) -> Value {
    summary.write()
}

impl Field for TaskSummary {
    fn write(&self) -> Value {
        let counts = TaskState::ALL.iter().map(|state| (state.name().to_owned(), self.count(*state).write()));
        Value::Object([("total".to_owned(), self.total().write())].into_iter().chain(counts).collect())
    }

    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        let mut summary = Self::default();
        for state in TaskState::ALL {
            if let Some(count) = object(value, place)?.get(state.name()) {
                summary.set(*state, u64::read(count, &place.child(state.name()))?);
            }
        }
        Ok(summary)
    }
}
