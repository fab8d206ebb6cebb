//! Where each kind of record belongs: under which ref, in which file.
//!
//! Must not know what a record is for. Invariant: a record that stands elsewhere than its own ids say is not read, so that a name
//! that came from a ref or a path always is the name in the record.

use super::names::{self, RefName};
use crate::domain::checkpoint::Checkpoint;
use crate::domain::claim::Claim;
use crate::domain::environment::Environment;
use crate::domain::gate::Gate;
use crate::domain::pool::Pool;
use crate::domain::run::Run;
use crate::domain::session::Session;
use crate::domain::task::Task;
use crate::record::{Record, layout};

/// A record that knows where it belongs.
pub(super) trait Placed: Record {
    /// The end of the name of the ref that it belongs to, and its file there; no end: any run may hold it.
    fn place(&self) -> (Option<String>, String);
    /// What it says that it is, for people.
    fn says(&self) -> String;
}

/// Whether a record belongs where it was found.
pub(super) fn belongs<T: Placed>(record: &T, name: &RefName, path: &str) -> bool {
    let (end, file) = record.place();
    file == path && end.is_none_or(|end| name.as_str().ends_with(&format!("/{end}")))
}

macro_rules! placed {
    ($($type:ty: |$record:ident| ($component:expr, $file:expr, $says:expr)),+ $(,)?) => {$(
        impl Placed for $type {
            fn place(&self) -> (Option<String>, String) {
                let $record = self;
                ($component, $file)
            }
            fn says(&self) -> String {
                let $record = self;
                $says
            }
        }
    )+};
}
placed!(
    Run: |run| (Some(format!("runs/{}", run.id)), layout::RUN.to_owned(), format!("run {}", run.id)),
    Task: |task| (Some(format!("runs/{}", task.run)), layout::task(&task.id), format!("task {}", task.address())),
    Environment: |known| (None, layout::environment(&known.id), format!("environment {}", known.id)),
    Checkpoint: |known| (
        Some(format!("runs/{}", known.run)),
        layout::checkpoint(&known.task),
        format!("a checkpoint of task {}/{}", known.run, known.task)
    ),
    Gate: |gate| (Some(format!("runs/{}", gate.run)), layout::gate(&gate.id), format!("gate {}/{}", gate.run, gate.id)),
    Session: |session| (Some(format!("sessions/{}", session.id)), layout::SESSION.to_owned(), format!("session {}", session.id)),
    Claim: |claim| (
        Some(format!("claims/{}/{}", claim.kind, names::encode(claim.key.as_bytes()))),
        layout::CLAIM.to_owned(),
        format!("claim {} {}", claim.kind, claim.key.escape_debug())
    ),
    Pool: |pool| (
        Some(format!("pools/{}", names::encode(pool.id.as_str().as_bytes()))),
        layout::POOL.to_owned(),
        format!("pool {}", pool.id)
    ),
);
