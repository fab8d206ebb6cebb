//! The journal: one commit for each recovery or cleanup that changed something.

use super::chain::Content;
use super::ledger::{Inner, Ledger, WriteRecordError};
use super::names::RefName;
use super::transact::{self, Decision, Retry};
use crate::domain::time::Timestamp;
pub use crate::record::journal::JournalLine;
use crate::record::journal::encode_journal;
use crate::record::message;

/// The file of the newest entry.
const ENTRY: &str = "journal.json";

impl Ledger {
    /// Writes down what a recovery or cleanup did.
    pub fn write_journal(
        &self,
        what: &str,
        lines: &[JournalLine],
        at: Timestamp,
    ) -> Result<(), WriteRecordError<std::convert::Infallible>> {
        let name = RefName::journal();
        let bytes = encode_journal(what, lines, at);
        let body: Vec<String> =
            lines.iter().map(|line| format!("{} {}: {}", line.step, line.about, line.message)).collect();
        let mut text = message::message(
            &format!("{what}: {} steps", lines.len()),
            &body.join("\n"),
            &[
                ("Event", Some(what.to_owned())),
                ("Actor", Some(self.author().actor.clone())),
                ("Host", Some(self.author().host.to_string())),
            ],
        );
        text.truncate(text.floor_char_boundary(512 << 10));
        transact::transact(self.backend(), &name, Retry::default(), |_| {
            let transition = self.transition([(ENTRY.to_owned(), Content::Bytes(bytes.clone()))], text.clone(), at);
            Ok::<_, Inner<std::convert::Infallible>>(Decision::Append(transition, ()))
        })?;
        Ok(())
    }
}
