//! What becomes of one transaction.

use super::*;
use crate::change::{Checks, Column, ColumnKind, Image, Op, OriginId, Shape, TableFilter, Value};
use crate::runtime::{Disposition, Fault};

fn sequencer() -> Sequencer {
    let options = TailOptions::new(OriginId::new("a"), TableFilter::everything());
    Sequencer::start(options, Observer::default(), GtidPosition::start())
}

/// The records of one transaction with these changes.
fn published(sequencer: &mut Sequencer, changes: Vec<Change>) -> Result<Vec<Record>, TailError> {
    let gtid = Gtid { domain: 0, server: 1, sequence: 1 };
    let header =
        TransactionHeader { gtid, commit_second: 7, server_id: 1, coordinates: BinlogCoordinates::default(), read_from: None };
    let part = TransactionPart { header: Arc::new(header), changes, ddl: None, last: true };
    let mut records = Vec::new();
    sequencer.take(part, 7, &mut records).map(|()| records)
}

/// campus.log (line, size), without a key.
fn log(op: Op, before: Option<[Option<Value>; 2]>, after: Option<[Option<Value>; 2]>) -> Change {
    let column = |name: &str| Column { name: name.into(), kind: ColumnKind::Unknown, generated: false };
    let shape =
        Shape { table: TableName::new("campus", "log"), columns: vec![column("line"), column("size")], key: Vec::new() };
    let (before, after) = (before.map(Image::of), after.map(Image::of));
    Change { shape: Arc::new(shape), op, before, after, checks: Checks::default() }
}

#[test]
fn rows_without_a_key_are_published_whole_and_in_their_order() {
    let row = |size| Some([Some(Value::Null), Some(Value::Int(size))]);
    let changes = vec![
        log(Op::Insert, None, row(1)),
        log(Op::Update, row(1), row(2)),
        log(Op::Insert, None, row(1)),
        log(Op::Delete, row(2), None),
    ];
    let records = published(&mut sequencer(), changes.clone()).unwrap();
    assert_eq!(records.iter().map(|record| record.change().unwrap().clone()).collect::<Vec<_>>(), changes);
}

#[test]
fn a_part_of_a_row_without_a_key_stops_the_tailer() {
    let (whole, part) = (Some([Some(Value::Null), Some(Value::Int(1))]), Some([Some(Value::Null), None]));
    let cases = [
        log(Op::Insert, None, part.clone()),
        log(Op::Update, whole.clone(), part.clone()),
        log(Op::Update, part.clone(), whole.clone()),
        log(Op::Delete, part, None),
    ];
    for change in cases {
        let error =
            published(&mut sequencer(), vec![log(Op::Insert, None, whole.clone()), change]).expect_err("it is not whole");
        assert!(matches!(error, TailError::NotWhole { .. }), "{error}");
        assert_eq!(error.disposition(), Disposition::Halt);
        assert!(error.hint().unwrap().contains("binlog_row_image=FULL"));
    }
}
