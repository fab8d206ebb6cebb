//! What snapshots say, in words.
//!
//! Owns the sentences for what could not be saved or put back. Must not know: why anybody saves. Invariant: one sentence for each case of
//! the snapshot's own warnings and errors, none left out.

use crate::app::failure::{Failure, chain_of};
use crate::world::snapshot::{self, NotSavedReason, RestoreError, RestoreWarning, SaveError, Warning};

pub(super) fn save_failure(error: &SaveError) -> Failure {
    let message = format!("could not save the work: {}", chain_of(error));
    Failure::fatal("save_failed", message).hint("nothing was changed")
}

pub(super) fn restore_failure(id: &str, error: &RestoreError) -> Failure {
    let message = format!("could not restore saved work {id}: {}", chain_of(error));
    match error {
        RestoreError::InTheWay { .. } => {
            Failure::fatal("in_the_way", message).hint("name a path that is empty or not there")
        }
        RestoreError::OtherBase { .. } => Failure::fatal("other_base", message),
        _ => Failure::fatal("restore_failed", message),
    }
}

pub(super) fn save_warning(warning: &Warning) -> String {
    match warning {
        Warning::Unsettled(path) => format!("{path} changed each time it was read: it may be saved in a torn state"),
        Warning::UnsettledIndex => "the index changed each time the worktree was saved".to_owned(),
        Warning::SpecialFile(path) => format!("{path} is a pipe, socket or device: it has no content to save"),
        Warning::FilterFailed(path, said) => {
            format!("the content filter of {path} failed ({said}): its bytes were saved as they are")
        }
        Warning::MissingObject(path, id) => format!("the index names object {id} for {path}, which is not there"),
        Warning::Submodule(path) => format!("{path} is a submodule: it was saved by its commit only"),
    }
}

pub(super) fn not_saved(found: &snapshot::NotSaved) -> (String, String) {
    let reason = match found.reason {
        NotSavedReason::Excluded => "tether.snapshot.exclude names it",
        NotSavedReason::DirtySubmodule => "it is a submodule with changes of its own",
        NotSavedReason::UnpushedSubmodule => "it is a submodule with commits that its remote lacks",
        NotSavedReason::UnreadableSubmodule => "it is a submodule that could not be looked at",
        NotSavedReason::EmbeddedHistory => "it is a repository of its own: its files were saved, its history was not",
        NotSavedReason::NestedWorktree => "it is another worktree of this repository",
        NotSavedReason::RefusedName => "no git tree may hold such a name",
        NotSavedReason::RawTooLarge => "it is too large to keep its exact bytes beside what git stores for it",
    };
    (found.path.to_string(), reason.to_owned())
}

pub(super) fn restore_warning(warning: &RestoreWarning) -> String {
    match warning {
        RestoreWarning::FilterNotRun(path) => {
            format!("{path} is as git stores it: its content filter is not run for work that another machine saved")
        }
        RestoreWarning::FilterFailed(path, said) => {
            format!("{path} is as git stores it: its content filter failed ({said})")
        }
        RestoreWarning::FilterMissing(path) => {
            format!("{path} is as git stores it: its content filter has no program now")
        }
        RestoreWarning::OperationLeftOut => {
            "the operation in progress (a merge, a rebase) was not put back: another machine saved it".to_owned()
        }
        RestoreWarning::Submodule(path, commit) => {
            format!("{path} is an empty directory: it was a submodule at {commit}")
        }
    }
}
