//! Rows of tables without a key: written one at a time, in the order of their origin, and never decided about.
//!
//! Nothing tells which row of two nodes is the same one, so there is no version to compare and no winner: an insert is one
//! row more, an update or a delete finds one row that equals the whole row before it. Where there is none, because another
//! node changed or deleted it meanwhile, the change is set aside at once: no later attempt would find it. See docs/decisions/0013.

use super::ApplyError;
use super::engine::Engine;
use super::group::Group;
use super::settle::dead_letter;
use super::step::Step;
use super::work::Work;
use crate::observe::Fate;
use crate::runtime::{Disposition, Fault};
use crate::target::{ApplyTransaction, TargetError, WriteError};

impl Engine<'_> {
    pub async fn settle_keyless(
        &mut self,
        transaction: &mut dyn ApplyTransaction,
        group: &Group,
        step: &Step,
        work: &mut Work,
    ) -> Result<Fate, ApplyError> {
        match transaction.write(std::slice::from_ref(&step.write)).await {
            Ok(()) => Ok(Fate::Applied),
            Err(WriteError { error: error @ TargetError::RowMissing { .. }, .. }) => {
                work.dead_letters.push(dead_letter(group, step.at, 1, &error.to_string()));
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) if error.disposition() == Disposition::DeadLetter => {
                work.failed.insert(group.offset(step.at), error.to_string());
                Ok(Fate::SetAside)
            }
            Err(WriteError { error, .. }) => Err(error.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::group::tests::record;
    use super::super::twins::{applier, apply_something};
    use super::super::{ApplyOptions, LocalFeed};
    use crate::change::{
        Body, Change, Checks, Cluster, Column, ColumnKind, GtidPosition, Image, Op, OriginId, Record, Shape, TableName, Value,
    };
    use crate::target::memory::{MemoryOptions, MemoryTable, MemoryTarget};
    use crate::topic::TopicWriter as _;
    use crate::topic::memory::{FairWeather, MemoryTopics};

    /// A change of campus.log (line, which must be unique unless it is NULL; size).
    fn change(op: Op, before: Option<(&str, i64)>, after: Option<(&str, i64)>) -> Change {
        let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false };
        let columns = vec![column("line"), column("size")];
        let shape = Arc::new(Shape { table: TableName::new("campus", "log"), columns, key: Vec::new() });
        let image = |row: Option<(&str, i64)>| {
            row.map(|(line, size)| {
                let line = if line.is_empty() { Value::Null } else { Value::text(line) };
                Image::of([Some(line), Some(Value::Int(size))])
            })
        };
        Change { shape, op, before: image(before), after: image(after), checks: Checks::default() }
    }

    /// Applies one transaction of node b with these changes; gives the rows and the attempts and reasons of what was set aside.
    async fn applied(changes: &[Change], buffer_bytes: usize) -> (Vec<Image>, Vec<(u32, String)>) {
        let names = ["a", "b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let last = changes.len() - 1;
        let of = |(row, change): (usize, &Change)| {
            let (_, record) = record(1, row as u64, row == last);
            Record { body: Body::Change(change.clone()), ..record }
        };
        let records: Vec<Record> = changes.iter().enumerate().map(of).collect();
        let topics = MemoryTopics::new();
        let mut writer = topics.writer(names[1].clone(), Arc::new(FairWeather));
        let end = writer.resume().await.unwrap().end;
        writer.append(end, &records).await.unwrap();
        let shape = changes[0].shape.clone();
        let table = MemoryTable { shape: shape.clone(), unique: Some(("line".into(), 0)), refers: None };
        let target = MemoryTarget::new([table], MemoryOptions::default());
        let options = ApplyOptions { buffer_bytes, retry_wait: Duration::ZERO, ..ApplyOptions::new(cluster) };
        let local = Arc::new(LocalFeed::default());
        // Its tailer runs, and nothing was written yet.
        local.passed(&GtidPosition::start());
        apply_something(applier(options, &target, &topics, local), &target).await.unwrap();
        let letters = target.dead_letters().into_iter().map(|letter| (letter.attempts, letter.reason)).collect();
        (target.rows(&shape.table), letters)
    }

    /// Small enough to wait in memory; too large for it, in parts of one change; and in parts of two.
    const BUFFERS: [usize; 3] = [8 << 20, 1, 1720];

    #[tokio::test]
    async fn a_row_that_is_not_there_is_set_aside_at_once_and_the_others_are_written_once() {
        let changes = [
            change(Op::Insert, None, Some(("", 1))),
            change(Op::Insert, None, Some(("", 1))),
            // In one part with what is written before it, which must not be written again.
            change(Op::Insert, None, Some(("", 6))),
            change(Op::Delete, Some(("", 2)), None),
            change(Op::Update, Some(("", 3)), Some(("", 4))),
            change(Op::Insert, None, Some(("", 7))),
            change(Op::Insert, None, Some(("", 8))),
            change(Op::Update, Some(("", 1)), Some(("", 5))),
        ];
        for buffer_bytes in BUFFERS {
            let (rows, letters) = applied(&changes, buffer_bytes).await;
            let mut sizes: Vec<_> = rows.iter().map(|row| format!("{:?}", row.get(1).unwrap())).collect();
            sizes.sort();
            assert_eq!(sizes, [1, 5, 6, 7, 8].map(|size| format!("Int({size})")), "{buffer_bytes} bytes");
            assert!(letters.len() == 2 && letters.iter().all(|(attempts, _)| *attempts == 1), "{letters:?}");
            assert!(letters[0].1.contains("no row here is equal to the row before the change"), "{letters:?}");
        }
    }

    #[tokio::test]
    async fn a_unique_value_that_is_taken_is_not_fought_over() {
        let changes = [
            change(Op::Insert, None, Some(("one", 1))),
            change(Op::Insert, None, Some(("one", 2))),
            change(Op::Insert, None, Some(("two", 3))),
        ];
        for buffer_bytes in BUFFERS {
            let (rows, letters) = applied(&changes, buffer_bytes).await;
            assert_eq!(rows.len(), 2);
            assert!(matches!(&letters[..], [(3, reason)] if reason.contains("unique key `line`")), "{letters:?}");
        }
    }
}
