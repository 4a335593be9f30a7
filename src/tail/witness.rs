//! What the binlog must still say about the last transaction that the topic tells of, or it is another history.
//!
//! A GTID alone is no proof: a server that was reset, restored, or lost the end of its binlog in a crash gives the same ones
//! again, and so does another server behind the same address. So reading begins one transaction early, and what comes
//! first must be the transaction that was passed: committed at the same second by the same server, at the same place of the
//! same file, and, where it published something and its table is still captured, with that very change in it.

use std::sync::Arc;

use super::TailError;
use crate::change::{BinlogCoordinates, Change, ChangePrint, Gtid, GtidPosition, Record, Rewrite, TableFilter, Trace, wire};
use crate::source::{TransactionHeader, TransactionPart};

pub struct Witness {
    gtid: Gtid,
    commit_second: u64,
    server_id: u32,
    coordinates: BinlogCoordinates,
    change: Option<ChangePrint>,
    /// Where reading begins so that the transaction comes again.
    pub from: Arc<GtidPosition>,
}

impl Witness {
    /// `None` where the record does not tell enough: it is of an older version, or from before any transaction.
    pub fn of(last: &Record, filter: &TableFilter) -> Option<Self> {
        let trace: &Trace = last.trace.as_deref().filter(|_| last.last)?;
        let change = match last.logged_row() {
            Some(change) => Some(ChangePrint { table: change.table().clone(), print: wire::print(change) }),
            None => trace.change.clone(),
        };
        Some(Self {
            gtid: last.gtid,
            commit_second: last.commit_second,
            server_id: last.server_id,
            coordinates: last.coordinates.clone(),
            // The source does not give changes of tables that somebody excluded since.
            change: change.filter(|change| filter.captures(&change.table)),
            from: Arc::new(last.position.rewound(last.gtid, trace.before)),
        })
    }

    pub fn is(&self, gtid: Gtid) -> bool {
        self.gtid == gtid
    }

    /// Takes a part of the transaction with our GTID. True where it was the last, and all of it is as it was.
    pub fn take(&mut self, part: &TransactionPart) -> Result<bool, TailError> {
        self.same_header(&part.header)?;
        if let Some(expected) = &self.change
            && part.changes.iter().any(|change| says(change, expected))
        {
            self.change = None;
        }
        match (part.last, &self.change) {
            (false, _) => Ok(false),
            (true, None) => Ok(true),
            (true, Some(missing)) => {
                Err(self.replaced(format!("it does not hold the change of {} that it held", missing.table)))
            }
        }
    }

    fn same_header(&self, header: &TransactionHeader) -> Result<(), TailError> {
        let place = |coordinates: &BinlogCoordinates| format!("{}:{}", coordinates.file, coordinates.position);
        // A source that knows no coordinates says so with an empty name.
        let moved = self.coordinates != header.coordinates && !self.coordinates.file.is_empty();
        if self.commit_second != header.commit_second || self.server_id != header.server_id || moved {
            let (now_place, then_place) = (place(&header.coordinates), place(&self.coordinates));
            return Err(self.replaced(format!(
                "now it was committed at second {} by server {} and is at {now_place}, then at second {} by server {} and at \
                 {then_place}",
                header.commit_second, header.server_id, self.commit_second, self.server_id
            )));
        }
        Ok(())
    }

    /// Something later came where the transaction should have come.
    pub fn missing(&self, found: Gtid) -> TailError {
        self.replaced(format!("{found} comes in its place"))
    }

    fn replaced(&self, how: String) -> TailError {
        TailError::Replaced { gtid: self.gtid, how }
    }
}

/// Whether the binlog's change is what was published, directly or at the request of our applier.
fn says(change: &Change, expected: &ChangePrint) -> bool {
    let same = |change: &Change| *change.table() == expected.table && wire::print(change) == expected.print;
    match Rewrite::read(change) {
        Some(Ok(rewrite)) => same(&rewrite.change),
        Some(Err(_)) => false,
        None => same(change),
    }
}
