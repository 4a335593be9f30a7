//! A comparison across restarts: what is done is kept, what is not is asked for anew.

use std::collections::{BTreeMap, BTreeSet};

use super::{AskedTable, Part, Run, VerifyDesk, asked};
use crate::change::{OriginId, TableName};
use crate::observe::VerifyView;
use crate::runtime::Stop;

/// Where the last comparison is kept, as far as it came.
pub trait VerifyBook: Send + Sync {
    fn load(&self) -> Result<Option<VerifyView>, Stop>;
    fn save(&self, view: &VerifyView);
}

/// For tests, and where nobody compares: forgets.
pub struct Unkept;

impl VerifyBook for Unkept {
    fn load(&self) -> Result<Option<VerifyView>, Stop> {
        Ok(None)
    }

    fn save(&self, _: &VerifyView) {}
}

impl VerifyDesk {
    /// Goes on with what an earlier process began. A table in which something differs is compared once more, because which rows
    /// are to be looked at again is not kept.
    pub(super) fn go_on_with(&self, kept: &VerifyView) {
        let others: BTreeSet<&OriginId> = self.cluster.others().map(|rank| self.cluster.name(rank)).collect();
        let all_named = kept.differing == kept.differences.len() as u64;
        let mut parts = BTreeMap::new();
        for part in &kept.parts {
            let (node, table) = (OriginId::new(&part.node), TableName::parse(&part.table));
            let (Some(table), true) = (table, others.contains(&node)) else { continue };
            let differs = |row: &crate::observe::DifferenceView| (&row.node, &row.table) == (&part.node, &part.table);
            let own = Part { rows_expected: part.rows_expected, ..Part::default() };
            let own = match part.state.as_str() {
                "done" if all_named && !kept.differences.iter().any(differs) => {
                    Part { rows: part.rows, passed_by: part.passed_by, begun: true, done: true, ..own }
                }
                "failed" => Part { done: true, failed: part.reason.clone(), ..own },
                _ => own,
            };
            parts.insert((node, table), own);
        }
        let mut open: BTreeMap<OriginId, Vec<AskedTable>> = BTreeMap::new();
        for ((node, table), _) in parts.iter().filter(|(_, part)| !part.done) {
            open.entry(node.clone()).or_default().push(asked(table, Vec::new()));
        }
        let mut run = Run {
            number: kept.number,
            asking: self.name(),
            asked_seconds: kept.asked_seconds,
            ended_seconds: open.is_empty().then(|| self.clock.now_seconds()),
            repair: kept.repair,
            round: 0,
            parts,
            all: kept.all,
            noted: None,
        };
        for (node, tables) in open {
            self.tell(&run, 0, vec![node], tables, false);
        }
        self.show(&mut run);
        *self.run() = Some(run);
    }
}
