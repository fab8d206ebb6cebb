//! The report of a run that has ended, as Markdown in its tree.

use crate::app::failure::Failure;
use crate::app::report_text::{is_current, make_report};
use crate::app::tether::Tether;
use crate::domain::ids::RunId;
use crate::domain::view::RunView;
use crate::record::layout;
use crate::store::chain::Content;
use crate::store::runs::{Need, Proposal};

/// The most bytes of a report.
const LARGEST_REPORT: u64 = 16 << 20;

impl Tether {
    /// The report of a run: the one in its tree if it has ended, else one made now.
    pub fn report(&self, run: &RunId) -> Result<String, Failure> {
        if let Some(stored) = self.ledger().read_run_file(run, layout::REPORT, LARGEST_REPORT)? {
            return Ok(String::from_utf8_lossy(&stored).into_owned());
        }
        let view = self.read_run(run, &Need::Everything)?.view;
        make_report(self.ledger(), &view)
    }

    /// Writes the report of a run that has ended, if it is not there; answers whether it was written.
    pub fn ensure_report(&self, run: &RunId) -> Result<bool, Failure> {
        let read = self.read_run(run, &Need::Everything)?;
        if !read.view.run.status.is_terminal() {
            return Ok(false);
        }
        let text = make_report(self.ledger(), &read.view)?;
        if self
            .ledger()
            .read_run_file(run, layout::REPORT, LARGEST_REPORT)?
            .is_some_and(|stored| is_current(&stored, &read.view))
        {
            return Ok(false);
        }
        self.change_run(run, &Need::run(), |_| {
            let file = (layout::REPORT.to_owned(), Content::Bytes(text.clone().into_bytes()));
            Ok(Proposal { events: Vec::new(), files: [file].into() })
        })?;
        Ok(true)
    }

    /// Whether a run has ended and its report is missing or older than its end.
    pub fn lacks_report(&self, view: &RunView) -> Result<bool, Failure> {
        if !view.run.status.is_terminal() {
            return Ok(false);
        }
        let stored = self.ledger().read_run_file(&view.run.id, layout::REPORT, LARGEST_REPORT)?;
        Ok(!stored.is_some_and(|stored| is_current(&stored, view)))
    }
}
