//! A node that takes over the rows of another one, because the topics no longer hold what it has missed: what is agreed, and how
//! far it is.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::change::{Ask, AskedTable, Hlc, OriginId, TableName, VerifyId};

/// Why a node is seeded: it decides what becomes of rows that differ from the seeder's.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SeedKind {
    /// It was away for too long, and everything that it ever wrote is published: the seeder's row is the newer one.
    Away,
    /// Some of what it wrote may be published nowhere, because its binlog is gone or another one: nothing is replaced unseen.
    HistoryLost,
    /// It has never taken part. Rows that it alone has are published.
    New,
}

/// One seeding, kept in the node's database from before the first question until the next one begins.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub struct Seeding {
    /// By which the answers are known.
    pub number: u64,
    pub seeder: OriginId,
    pub kind: SeedKind,
    /// Per origin, the clock up to which its writes are in the seeder's rows and were never applied here. Of this node itself: up
    /// to which the seeder has decided about what it published.
    pub floors: BTreeMap<OriginId, Hlc>,
    /// Tables whose end has not come yet; none where the seeding has ended.
    pub tables: Vec<AskedTable>,
    /// Tables that could not be seeded, and why.
    pub failed: Vec<(String, String)>,
    /// Rows of the seeder that were taken or found to be the same, and rows here that it no longer has.
    pub rows: u64,
    pub removed: u64,
    /// Where this node's history begins anew, if it was lost: what comes after is read.
    pub anew: Option<String>,
}

/// The round of a comparison that is a seeding.
const ROUND: u32 = 2_000;

impl Seeding {
    pub fn is_open(&self) -> bool {
        !self.tables.is_empty()
    }

    /// What the seeder is asked for by this node.
    pub fn ask(&self, own: &OriginId) -> Ask {
        let verify = VerifyId { asker: own.clone(), number: self.number, round: ROUND };
        Ask {
            verify,
            of: vec![self.seeder.clone()],
            tables: self.tables.clone(),
            publish: true,
            seed: true,
            all: true,
            definitions: false,
        }
    }

    /// Whether an answer is to this question.
    pub fn is_answer(&self, verify: &VerifyId) -> bool {
        (verify.number, verify.round) == (self.number, ROUND)
    }

    /// The table's end has come.
    pub fn end(&mut self, table: &TableName, failed: Option<&str>) {
        self.tables.retain(|other| other.name() != *table);
        let name = table.to_string();
        if let Some(reason) = failed.filter(|_| !self.failed.iter().any(|(told, _)| *told == name)) {
            self.failed.push((name, reason.to_owned()));
        }
    }
}
