//! Half-made things of killed processes: found, and cleared. (stub: being built)

use crate::app::failure::Failure;
use crate::app::places::PlaceOutcome;
use crate::app::tether::Tether;
use crate::plan::observation::Leftover;

impl Tether {
    /// What killed processes of ours left behind.
    pub fn find_leftovers(&self) -> Result<Vec<Leftover>, Failure> {
        Ok(Vec::new())
    }

    /// Removes a leftover, after looking again that it is one.
    pub fn clear_leftover(&self, _leftover: &Leftover) -> Result<PlaceOutcome, Failure> {
        Err(Failure::fatal("not_there", "not built yet"))
    }
}
