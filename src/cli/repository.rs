//! The repository that this process is about.

use crate::app::{Failure, Tether};

/// Opens it. Nobody closes it: the process ends with its command, and what it holds goes at once then, not piece by piece.
pub(crate) fn open() -> Result<&'static Tether, Failure> {
    let tether = Tether::open()?;
    Ok(Box::leak(Box::new(tether)))
}
