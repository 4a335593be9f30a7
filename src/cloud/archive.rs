//! What was sent, kept as objects too: rows of one window and one origin in each, as NDJSON, compressed.
//!
//! An object's key tells the offsets that its rows are of, and it is created, never written over. So that a run that begins again after
//! a crash makes the same objects, how far a window goes is durable before the first of them is written: the next run reads exactly as
//! far, and finds what is there already.

use std::collections::BTreeMap;
use std::ops::Range;

use super::{CloudApplier, CloudFault, LedgerError};
use crate::change::cloud::CloudRow;
use crate::change::{Offset, OriginId};
use crate::runtime::Shutdown;

/// Per origin the offsets of a window: from the first, up to and without the second.
pub type Window = BTreeMap<OriginId, Range<Offset>>;

/// KEEPS the window that is being archived. Part of the ledger; a checkpoint that is kept ends it.
pub trait WindowLedger {
    fn window(&self) -> Result<Window, LedgerError>;

    fn keep_window(&mut self, window: &Window) -> Result<(), LedgerError>;
}

/// 3 is zstd's own choice: rows of text become about a tenth, faster than a disk writes.
const LEVEL: i32 = 3;

impl CloudApplier {
    /// Writes the rows of a window. What is there already is from an earlier attempt, and is the same.
    pub(super) async fn archive(&self, window: &Window, rows: &[CloudRow], shutdown: &Shutdown) -> Result<(), CloudFault> {
        let Some(archive) = &self.archive else { return Ok(()) };
        if rows.is_empty() {
            return Ok(());
        }
        self.ledger().keep_window(window)?;
        let sender = self.sender(shutdown);
        for (origin, offsets) in window {
            let own: Vec<&CloudRow> = rows.iter().filter(|row| row.version.origin == origin.as_str()).collect();
            if own.is_empty() {
                continue;
            }
            let object = bytes::Bytes::from(compressed(&own)?);
            let key = key(self.options.node.as_str(), origin.as_str(), offsets);
            if sender.until_taken(|| false, || archive.create(&key, object.clone())).await? {
                self.observer.cloud_archived(&self.options.name, object.len() as u64);
            }
        }
        Ok(())
    }
}

/// Sorts as the offsets do.
fn key(node: &str, origin: &str, offsets: &Range<Offset>) -> String {
    format!("rows/{node}/{origin}/{:020}-{:020}.ndjson.zst", offsets.start.0, offsets.end.0)
}

/// One row a line, as `POST /api/batch` has them.
fn compressed(rows: &[&CloudRow]) -> Result<Vec<u8>, LedgerError> {
    let mut lines = Vec::new();
    for row in rows {
        serde_json::to_writer(&mut lines, row).expect("names, texts and numbers are JSON");
        lines.push(b'\n');
    }
    let fault = |error: std::io::Error| LedgerError { reason: format!("rows cannot be compressed: {error}") };
    zstd::bulk::compress(&lines, LEVEL).map_err(fault)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::cloud::{CloudOp, CloudVersion};

    #[test]
    fn objects_are_named_by_their_offsets_and_hold_a_row_a_line() {
        assert_eq!(
            key("laptop-a", "laptop-b", &(Offset(7)..Offset(1_000))),
            "rows/laptop-a/laptop-b/00000000000000000007-00000000000000001000.ndjson.zst"
        );
        let row = |id: &str| {
            let version = CloudVersion { hlc: 1, origin: "a".into() };
            let (key, resource, id) = ("a:1".into(), "rooms".into(), id.into());
            CloudRow { key, resource, id, op: CloudOp::Delete, version, row: Default::default() }
        };
        let rows = [row("1"), row("2\n")];
        let text = zstd::bulk::decompress(&compressed(&rows.iter().collect::<Vec<_>>()).unwrap(), 1 << 20).unwrap();
        let lines: Vec<CloudRow> =
            text.split_inclusive(|byte| *byte == b'\n').map(|line| serde_json::from_slice(line).unwrap()).collect();
        assert_eq!(lines, rows);
    }
}
