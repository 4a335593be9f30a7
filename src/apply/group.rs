//! Consecutive transactions of one origin that are applied in one commit.

use std::collections::VecDeque;
use std::sync::Arc;

use super::ApplyOptions;
use super::stability::Stability;
use crate::change::{Hlc, Mark, NodeRank, Offset, OriginId, Record, Seen, Version};

/// Whole transactions of one origin, with the checkpoint that they end at.
pub struct Group {
    pub node: NodeRank,
    pub origin: OriginId,
    /// Records that hold a change, oldest first.
    pub records: Vec<(Offset, Record)>,
    /// Records that were skipped because the checkpoint already covers their transaction.
    pub duplicates: u64,
    pub mark: Mark,
    /// What the origin had seen by the end of the group.
    pub seen: Arc<Seen>,
}

impl Group {
    pub fn version(&self, at: usize) -> Version {
        Version { hlc: self.records[at].1.hlc, node: self.node }
    }
}

/// What keeps the next record of an origin from being applied.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Hold {
    /// Its origin had seen something that we have not applied yet.
    Cause,
    /// It is from further in the future than we believe.
    Clock { ahead_seconds: f64 },
}

/// Records of one origin that were read and not yet applied.
pub struct Waiting {
    pub node: NodeRank,
    pub origin: OriginId,
    pub mark: Mark,
    records: VecDeque<(Offset, Record)>,
    pub bytes: usize,
}

impl Waiting {
    pub fn new(node: NodeRank, origin: OriginId, mark: Option<Mark>) -> Self {
        let mark = mark.unwrap_or_else(|| Mark {
            origin: origin.clone(),
            next: Offset(0),
            data: None,
            position: Default::default(),
            hlc: Hlc::default(),
        });
        Self { node, origin, mark, records: VecDeque::new(), bytes: 0 }
    }

    pub fn push(&mut self, batch: Vec<(Offset, Record)>) {
        self.bytes += batch.iter().map(|(_, record)| record.weight()).sum::<usize>();
        self.records.extend(batch);
    }

    /// True where the records in memory end some transaction.
    pub fn has_whole(&self) -> bool {
        self.records.iter().any(|(_, record)| record.last)
    }

    /// Changes that wait in memory.
    pub fn len(&self) -> u64 {
        self.records.iter().filter(|(_, record)| !record.is_heartbeat()).count() as u64
    }

    /// The next records to apply: as many whole transactions as the limits allow, at least one. `Ok(None)` where no
    /// whole transaction is here.
    pub fn next_group(
        &mut self,
        options: &ApplyOptions,
        stability: &Stability,
        now_micros: u64,
    ) -> Result<Option<Group>, Hold> {
        let believed = now_micros.saturating_add(options.max_clock_skew.as_micros() as u64);
        let (mut take, mut changes, mut bytes) = (0, 0, 0);
        let (mut group_changes, mut group_bytes) = (0, 0);
        let mut hold = None;
        for (number, (_, record)) in self.records.iter().enumerate() {
            if record.hlc.0 > believed {
                hold = Some(Hold::Clock { ahead_seconds: (record.hlc.0 - now_micros) as f64 / 1e6 });
                break;
            }
            if !stability.has_all(&record.seen, self.node) {
                hold = Some(Hold::Cause);
                break;
            }
            changes += usize::from(!record.is_heartbeat());
            bytes += record.weight();
            if record.last {
                let full = changes > options.group_changes || bytes > options.group_bytes;
                if full && take > 0 {
                    break;
                }
                take = number + 1;
                (group_changes, group_bytes) = (changes, bytes);
                if full {
                    break;
                }
            }
        }
        match (take, hold) {
            (0, Some(hold)) => Err(hold),
            (0, None) => Ok(None),
            _ => {
                debug_assert!(group_changes <= take);
                self.bytes -= group_bytes;
                let taken: Vec<_> = self.records.drain(..take).collect();
                Ok(Some(self.group(taken)))
            }
        }
    }

    fn group(&self, taken: Vec<(Offset, Record)>) -> Group {
        let (last_offset, last) = taken.last().expect("a group has at least one record");
        let mut mark = Mark {
            origin: self.origin.clone(),
            next: last_offset.next(),
            data: self.mark.data,
            position: self.mark.position.clone(),
            hlc: last.hlc.max(self.mark.hlc),
        };
        last.position.iter().for_each(|gtid| mark.position.advance(gtid));
        let seen = last.seen.clone();
        let mut duplicates = 0;
        let mut records = taken;
        records.retain(|(_, record)| {
            let duplicate = !record.is_heartbeat() && self.mark.position.covers(record.gtid);
            duplicates += u64::from(duplicate);
            !record.is_heartbeat() && !duplicate
        });
        if let Some((offset, _)) = records.last() {
            mark.data = Some(*offset);
        }
        Group { node: self.node, origin: self.origin.clone(), records, duplicates, mark, seen }
    }
}
