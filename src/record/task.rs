//! The JSON of tasks and gates.

use serde_json::{Map, Value};

use super::field::{Field, InvalidField, Place, named_fields, object, object_fields};
use crate::domain::gate::{Decision, Gate, GateAction, GateKind, GateState};
use crate::domain::names::Named;
use crate::domain::task::{Requirement, Retry, Task, TaskOutcome, TaskResult, TaskState};

named_fields!(Requirement, TaskOutcome, GateKind, GateState, GateAction);
object_fields!(Retry { max, backoff_seconds, not_before, used });
object_fields!(TaskResult { outcome, exit_code, signal, summary, artifacts });
object_fields!(Decision { action, answer, note, actor, token, at });
object_fields!(Gate {
    id,
    kind,
    key,
    state,
    run,
    task,
    prompt,
    choices,
    context,
    question_type,
    required,
    asked_at,
    redelivered,
    decision,
});

impl Field for TaskState {
    fn write(&self) -> Value {
        Value::String(self.name().to_owned())
    }

    fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
        super::field::read_named(value, place)
    }
}

macro_rules! task_fields {
    ($($field:ident),+) => {
        impl Field for Task {
            fn write(&self) -> Value {
                let mut map = Map::new();
                $( map.insert(stringify!($field).to_owned(), Field::write(&self.$field)); )+
                if let Some(state) = &self.unreadable_state {
                    map.insert("state".to_owned(), Value::String(state.clone()));
                }
                Value::Object(map)
            }

            /// A state that this version does not know is kept as it is, and the task counts as running under nobody.
            fn read(value: &Value, place: &Place<'_>) -> Result<Self, InvalidField> {
                let mut map = object(value, place)?.clone();
                let written = map.get("state").and_then(Value::as_str).unwrap_or_default().to_owned();
                let unreadable_state = TaskState::from_name(&written).is_err().then_some(written);
                if unreadable_state.is_some() {
                    map.insert("state".to_owned(), TaskState::Running.write());
                }
                Ok(Self {
                    $( $field: Field::read(map.get(stringify!($field)).unwrap_or(&Value::Null), &place.child(stringify!($field)))?, )+
                    unreadable_state,
                })
            }
        }
    };
}
task_fields!(
    id,
    run,
    name,
    agent,
    role,
    prompt,
    command,
    state,
    priority,
    depends_on,
    pool,
    attempts,
    environment,
    session,
    blocked_reasons,
    gates,
    retry,
    result,
    tags,
    created_at,
    updated_at,
    started_at,
    completed_at,
    requirements,
    state_changed_at
);
