//! The outside form loses nothing, and bad input is an error.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::collection::{btree_map, vec};
use proptest::option;
use proptest::prelude::*;

use super::*;
use crate::change::{
    BinlogCoordinates, Body, Change, ChangePrint, Checks, Column, ColumnKind, Gtid, GtidPosition, Hlc, Image, Offset, Op,
    OriginId, Record, Seen, Shape, TableName, Trace, Value, ValueRef,
};

fn shape(columns: &[&str], key: &[u16]) -> Shape {
    let column = |name: &&str| Column { name: (*name).into(), kind: ColumnKind::Unknown, generated: false };
    Shape { table: TableName::new("campus", "riders"), columns: columns.iter().map(column).collect(), key: key.into() }
}

fn image(values: impl IntoIterator<Item = Option<Value>>) -> Option<Image> {
    Some(Image::of(values))
}

fn change(shape: Shape, op: Op, before: Option<Image>, after: Option<Image>) -> Change {
    Change { shape: Arc::new(shape), op, before, after, checks: Checks::default() }
}

fn record(body: Body) -> Record {
    Record {
        origin: OriginId::new("laptop-a"),
        gtid: Gtid { domain: 0, server: 1, sequence: 270 },
        row: 3,
        table_row: if matches!(body, Body::Heartbeat) { 0 } else { 2 },
        hlc: Hlc(1_700_000_000_000_007),
        seen: Arc::new(Seen([(OriginId::new("laptop-b"), Offset(41))].into())),
        last: true,
        position: Arc::new("0-1-270,1-2-9".parse().unwrap()),
        read_from: None,
        commit_second: 1_700_000_000,
        server_id: 1,
        coordinates: BinlogCoordinates { file: "bin.000007".into(), position: 4711 },
        trace: None,
        body,
    }
}

fn there_and_back(record: &Record) -> Record {
    decode(&encode(record)).unwrap_or_else(|error| panic!("{error}: {record:?}"))
}

/// One column that becomes `value`, over the wire and back.
fn carried(value: Value) -> Value {
    let change = change(shape(&["id", "value"], &[0]), Op::Insert, None, image([Some(Value::Int(1)), Some(value)]));
    let loose = decode_change(encode_change(&change).as_bytes()).unwrap();
    let print_before = print(&change);
    let full = there_and_back(&record(Body::Change(change)));
    assert_eq!(print(full.change().unwrap()), print_before, "what comes back is known again");
    let after = full.change().unwrap().after.clone().unwrap();
    assert_eq!(loose.after.unwrap(), after, "both forms carry the same");
    after.get(1).unwrap().to_value()
}

fn check(value: Value) {
    assert_eq!(carried(value.clone()), value);
}

#[test]
fn every_kind_of_value_comes_back() {
    check(Value::Null);
    for number in [0, 1, -1, i64::MAX, i64::MIN, i64::from(i32::MIN)] {
        check(Value::Int(number));
    }
    for number in [i64::MAX as u64 + 1, u64::MAX] {
        check(Value::UInt(number));
    }
    for text in ["", " ", "ü€😀", "\"\\/\u{8}\u{c}\n\r\t", "\u{0}\u{1}\u{1f}\u{7f}\u{2028}", "null", "0000-00-00", "-838:59:59"]
    {
        check(Value::text(text));
    }
    check(Value::text((0..=0x7f_u8).map(char::from).collect::<String>()));
    for bytes in [&[][..], &[0], &[0xff, 0xfe], &[0; 1000], b"plain ASCII is still bytes"] {
        check(Value::Bytes(bytes.into()));
    }
    check(Value::Bytes((0..=255).collect()));
}

#[test]
fn doubles_come_back_bit_by_bit() {
    let edges = [0.0, -0.0, 0.1, 1e15, 1e16, 1e300, -1e-300, f64::MAX, f64::MIN_POSITIVE, 5e-324, 123_456_789_012_345_680.0];
    for number in edges {
        let Value::Double(back) = carried(Value::Double(number)) else { panic!("{number} is no double any more") };
        assert_eq!(back.to_bits(), number.to_bits(), "{number}");
    }
}

#[test]
fn floats_travel_in_their_shortest_form() {
    // JSON has one kind of fraction, so they come back as doubles; the target's column makes them what they were.
    for number in [0.0, -0.0, 0.1_f32, 16_777_216.0, f32::MAX, f32::MIN_POSITIVE, 1e-45, 3.402_823_3e38] {
        let Value::Double(back) = carried(Value::Float(number)) else { panic!("{number} is no fraction any more") };
        assert_eq!((back as f32).to_bits(), number.to_bits(), "{number}");
    }
    assert_eq!(carried(Value::Float(0.1)), Value::Double(0.1), "not 0.10000000149011612");
}

#[test]
fn the_value_is_debeziums_envelope() {
    let before = image([Some(Value::Int(7)), Some(Value::text("Ann"))]);
    let after = image([Some(Value::Int(7)), Some(Value::Bytes([0xff].into()))]);
    let wire = encode(&record(Body::Change(change(shape(&["id", "name"], &[0]), Op::Update, before, after))));
    assert_eq!(String::from_utf8(wire.key.clone()).unwrap(), r#"{"table":"campus.riders","key":{"id":7}}"#);
    let expected = serde_json::json!({
        "before": {"id": 7, "name": "Ann"},
        "after": {"id": 7, "name": "/w=="},
        "source": {
            "version": env!("CARGO_PKG_VERSION"), "connector": "tandem", "name": "laptop-a", "ts_ms": 1_700_000_000_000_u64,
            "db": "campus", "table": "riders", "server_id": 1, "gtid": "0-1-270", "file": "bin.000007", "pos": 4711, "row": 3
        },
        "transaction": {"id": "0-1-270", "total_order": 4, "data_collection_order": 3},
        "op": "u",
        "ts_ms": 1_700_000_000_000_u64,
    });
    assert_eq!(serde_json::from_slice::<serde_json::Value>(&wire.value).unwrap(), expected);
    assert_eq!(wire.header(header::BASE64), Some(&br#"{"after":["name"]}"#[..]), "only the image that holds bytes");
    assert_eq!(wire.header(header::SEEN), Some(&br#"{"laptop-b":41}"#[..]));
    assert_eq!(wire.header(header::POSITION), Some(&b"0-1-270,1-2-9"[..]));
}

#[test]
fn text_and_bytes_in_the_same_column_are_told_apart_by_image() {
    let bytes = || Some(Value::Bytes((*b"AAAA").into()));
    let text = || Some(Value::text("AAAA"));
    for (before, after) in [(bytes(), text()), (text(), bytes()), (bytes(), bytes()), (text(), text())] {
        let id = || Some(Value::Int(1));
        let change = change(shape(&["id", "value"], &[0]), Op::Update, image([id(), before]), image([id(), after]));
        assert_eq!(there_and_back(&record(Body::Change(change.clone()))).body, Body::Change(change));
    }
}

#[test]
fn what_the_source_did_not_tell_stays_unknown() {
    let before = image([Some(Value::Int(1)), None, Some(Value::Null)]);
    let after = image([None, Some(Value::text("x")), None]);
    let original = change(shape(&["id", "name", "note"], &[0]), Op::Update, before, after);
    let back = there_and_back(&record(Body::Change(original.clone())));
    assert_same_change(&original, back.change().unwrap());
}

#[test]
fn a_changed_key_comes_back_with_both_places() {
    let before = image([Some(Value::text("a")), Some(Value::Int(1)), Some(Value::Int(9))]);
    let after = image([Some(Value::text("b")), Some(Value::Int(2)), Some(Value::Int(9))]);
    // The key's order is not the columns' order.
    let original = change(shape(&["place", "id", "load"], &[1, 0]), Op::Update, before, after);
    let back = there_and_back(&record(Body::Change(original.clone())));
    let back = back.change().unwrap();
    assert_eq!(back.key(), original.key());
    assert_eq!(back.moved_from(), original.moved_from());
    assert_eq!(&*back.moved_from().unwrap().values, [Value::Int(1), Value::text("a")]);
}

#[test]
fn a_row_without_a_key_comes_back_whole() {
    let row = || image([Some(Value::text("a")), Some(Value::Null), Some(Value::Bytes([0].into()))]);
    let original = change(shape(&["line", "size", "raw"], &[]), Op::Update, row(), row());
    let record = record(Body::Change(original.clone()));
    assert_eq!(encode(&record).key, br#"{"table":"campus.riders"}"#);
    let back = there_and_back(&record);
    let back = back.change().unwrap();
    assert_same_change(&original, back);
    assert!(!back.shape.has_key() && back.key().is_none() && back.is_whole());
}

#[test]
fn a_truncate_and_a_heartbeat_have_no_images() {
    let truncate = change(shape(&[], &[]), Op::Truncate, None, None);
    for body in [Body::Change(truncate), Body::Heartbeat] {
        let original = record(body);
        assert_eq!(there_and_back(&original), original);
    }
}

#[test]
fn names_with_dots_and_quotes_keep_their_parts() {
    let mut own = shape(&["a.b", "c\"d\\", "\u{1}"], &[0]);
    own.table = TableName::new("my.data\"base", "ta.ble\n");
    let values = || image([Some(Value::Int(1)), Some(Value::Bytes([1].into())), Some(Value::Null)]);
    let original = change(own, Op::Delete, values(), None);
    assert_eq!(decode_change(encode_change(&original).as_bytes()).unwrap(), original);
    assert_eq!(there_and_back(&record(Body::Change(original.clone()))).body, Body::Change(original));
}

#[test]
fn flags_of_columns_and_checks_come_back() {
    let mut own = shape(&["id", "sum"], &[0]);
    own.columns[1].generated = true;
    for (foreign_keys_off, unique_off) in [(false, false), (true, false), (false, true), (true, true)] {
        let mut original = change(own.clone(), Op::Insert, None, image([Some(Value::Int(1)), Some(Value::Int(2))]));
        original.checks = Checks { foreign_keys_off, unique_off, partial: false };
        assert_eq!(there_and_back(&record(Body::Change(original.clone()))).body, Body::Change(original));
    }
}

#[test]
fn bad_records_are_refused_by_what_is_wrong() {
    let good = encode(&record(Body::Change(change(shape(&["id"], &[0]), Op::Insert, None, image([Some(Value::Int(1))])))));
    let check = |expected: &str, break_it: &dyn Fn(&mut WireRecord)| {
        let mut wire = good.clone();
        break_it(&mut wire);
        let error = decode(&wire).unwrap_err().to_string();
        assert!(error.contains(expected), "`{error}` does not say `{expected}`");
    };
    fn set(wire: &mut WireRecord, name: &str, value: &[u8]) {
        wire.headers.retain(|(own, _)| own != name);
        wire.headers.push((name.to_owned(), value.to_vec()));
    }
    fn replace(bytes: &mut Vec<u8>, from: &str, to: &str) {
        *bytes = String::from_utf8(bytes.clone()).unwrap().replace(from, to).into_bytes();
    }
    check("the record's format is 2", &|wire| set(wire, header::FORMAT, b"2"));
    for name in [header::FORMAT, header::ORIGIN, header::GTID, header::ROW, header::HLC, header::SEEN, header::LAST] {
        check(&format!("header {name}"), &|wire| wire.headers.retain(|(own, _)| own != name));
        check(name, &|wire| set(wire, name, b"\xff"));
    }
    check(header::POSITION, &|wire| set(wire, header::POSITION, b"0-1"));
    check(header::READ_FROM, &|wire| set(wire, header::READ_FROM, b"x"));
    check(header::LAST, &|wire| set(wire, header::LAST, b"yes"));
    check(header::BASE64, &|wire| set(wire, header::BASE64, br#"{"after":7}"#));
    check("not base64", &|wire| {
        set(wire, header::BASE64, br#"{"after":["id"]}"#);
        replace(&mut wire.value, r#""id":1"#, r#""id":"***""#);
    });
    check("op `z`", &|wire| replace(&mut wire.value, r#""op":"c""#, r#""op":"z""#));
    check("names no table", &|wire| replace(&mut wire.value, r#""table":"riders""#, r#""table":"""#));
    check("key names column `nr`", &|wire| replace(&mut wire.key, r#""id""#, r#""nr""#));
    check("line 1, column", &|wire| wire.value.truncate(40));
    check("the record's key", &|wire| wire.key.clear());
    check("not the JSON", &|wire| replace(&mut wire.value, r#""after":{"id":1}"#, r#""after":{"id":[1]}"#));
    check("more than 4096 columns", &|wire| {
        let columns: Vec<String> = (0..5000).map(|number| format!(r#""c{number}":1"#)).collect();
        replace(&mut wire.value, r#""after":{"id":1}"#, &format!(r#""after":{{{}}}"#, columns.join(",")));
    });
}

#[test]
fn errors_do_not_show_values() {
    let secret = Value::text("correct horse");
    let wire = encode(&record(Body::Change(change(shape(&["id"], &[0]), Op::Insert, None, image([Some(secret)])))));
    for cut in 0..wire.value.len() {
        let broken = WireRecord { value: wire.value[..cut].to_vec(), ..wire.clone() };
        let error = decode(&broken).unwrap_err();
        assert!(!error.to_string().contains("horse") && !format!("{error:?}").contains("horse"), "{error:?}");
    }
}

/// Equal but for what the wire does not carry: columns that are in no image, and the order of columns.
fn assert_same_change(original: &Change, back: &Change) {
    // That not all is told is told, for the names of what is missing do not come through.
    let partial = original.checks.partial || original.after.as_ref().is_some_and(|after| !after.is_full());
    let checks = Checks { partial, ..original.checks };
    assert_eq!((original.table(), original.op, checks), (back.table(), back.op, back.checks));
    assert_eq!(original.key(), back.key());
    for (one, other) in [(&original.before, &back.before), (&original.after, &back.after)] {
        assert_eq!(one.is_some(), other.is_some());
        assert_eq!(members(&original.shape, one), members(&back.shape, other));
    }
}

fn members<'a>(shape: &'a Shape, image: &'a Option<Image>) -> BTreeMap<&'a str, ValueRef<'a>> {
    let values = image.iter().flat_map(Image::values);
    shape.columns.iter().zip(values).filter_map(|(column, value)| Some((&*column.name, value?))).collect()
}

fn any_value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Int),
        any::<u64>().prop_map(Value::unsigned),
        any::<f64>().prop_filter("MariaDB has no others", |number| number.is_finite()).prop_map(Value::Double),
        any::<String>().prop_map(Value::text),
        vec(any::<u8>(), 0..40).prop_map(|bytes| Value::Bytes(bytes.into())),
    ]
}

prop_compose! {
    fn any_change()(
        names in btree_map(any::<String>(), any::<bool>(), 1..8),
        database in ".+", table in ".+",
        op in prop::sample::select(vec![Op::Insert, Op::Update, Op::Delete, Op::Read]),
    )(
        before in option::of(vec(option::of(any_value()), names.len())),
        after in vec(option::of(any_value()), names.len()),
        key in prop::sample::subsequence((0..names.len() as u16).collect::<Vec<_>>(), 0..=names.len()).prop_shuffle(),
        foreign_keys_off in any::<bool>(), unique_off in any::<bool>(),
        names in Just(names), database in Just(database), table in Just(table), op in Just(op),
    ) -> Change {
        let columns = names.keys().map(|name| Column { name: name.as_str().into(), kind: ColumnKind::Unknown, generated: false });
        let shape = Shape { table: TableName::new(&database, &table), columns: columns.collect(), key };
        let image = |values: Vec<Option<Value>>| Image::of(values);
        Change {
            shape: Arc::new(shape), op, before: before.map(image), after: Some(image(after)),
            checks: Checks { foreign_keys_off, unique_off, partial: false },
        }
    }
}

fn any_gtid() -> impl Strategy<Value = Gtid> {
    any::<(u32, u32, u64)>().prop_map(|(domain, server, sequence)| Gtid { domain, server, sequence })
}

fn any_position() -> impl Strategy<Value = Arc<GtidPosition>> {
    vec(any_gtid(), 0..4).prop_map(|gtids| Arc::new(gtids.into_iter().collect()))
}

prop_compose! {
    fn any_trace()(
        before in option::of(any_gtid()), change in option::of(("[^.]*", ".*", any::<u64>())),
    ) -> Trace {
        let change = change.map(|(database, table, print)| ChangePrint { table: TableName::new(&database, &table), print });
        Trace { before, change }
    }
}

#[test]
fn a_print_tells_changes_apart() {
    let one = || {
        change(shape(&["id", "v"], &[0]), Op::Update, image([Some(Value::Int(1)), None]), image([None, Some(Value::Int(2))]))
    };
    let mut others = vec![one(); 5];
    others[0].op = Op::Insert;
    others[1].before = None;
    others[2].after = image([None, Some(Value::text("2"))]);
    others[3].after = image([Some(Value::Int(2)), None]);
    others[4].after = image([None, Some(Value::Null)]);
    let expected = print(&one());
    for (at, other) in others.iter().enumerate() {
        assert_ne!(print(other), expected, "{at}");
    }
    let moved =
        Change { shape: Arc::new(Shape { table: TableName::new("campusr", "iders"), ..shape(&["id", "v"], &[0]) }), ..one() };
    assert_ne!(print(&moved), expected);
}

prop_compose! {
    fn any_record()(
        body in prop_oneof![9 => any_change().prop_map(Body::Change), 1 => Just(Body::Heartbeat)],
        origin in any::<String>(), file in any::<String>(), seen in btree_map(any::<String>(), any::<u64>(), 0..4),
        gtid in any_gtid(), position in any_position(), read_from in option::of(any_position()),
        (row, table_row, hlc, binlog_position) in any::<(u64, u32, u64, u64)>(),
        (commit_second, server_id, last) in any::<(u32, u32, bool)>(), trace in option::of(any_trace()),
    ) -> Record {
        Record {
            table_row: if matches!(body, Body::Heartbeat) { 0 } else { table_row.into() },
            origin: OriginId::new(&origin), gtid, row, hlc: Hlc(hlc),
            seen: Arc::new(Seen(seen.into_iter().map(|(name, offset)| (OriginId::new(&name), Offset(offset))).collect())),
            last, position, read_from, commit_second: commit_second.into(), server_id,
            coordinates: BinlogCoordinates { file: file.into(), position: binlog_position }, trace: trace.map(Arc::new), body,
        }
    }
}

proptest! {
    #[test]
    fn any_record_comes_back(original in any_record()) {
        let mut back = there_and_back(&original);
        if let (Body::Change(one), Body::Change(other)) = (&original.body, &back.body) {
            assert_same_change(one, other);
            prop_assert_eq!(print(one), print(other));
            assert_same_change(one, &decode_change(encode_change(one).as_bytes()).unwrap());
            back.body = original.body.clone();
        }
        prop_assert_eq!(back, original);
    }

    /// What one record leaves behind in the encoder and the decoder must not show in the next.
    #[test]
    fn records_one_after_the_other_are_the_same_as_each_by_itself(
        some in vec(any_record(), 1..5), order in vec((0..5_usize, 0..5_usize, any::<bool>()), 1..12),
    ) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        for (at, other, mixed) in order {
            let mut record = some[at % some.len()].clone();
            if mixed {
                // Alike in one part and not in the other, as records of one transaction are.
                let other = &some[other % some.len()];
                (record.seen, record.origin, record.coordinates.file) =
                    (other.seen.clone(), other.origin.clone(), other.coordinates.file.clone());
                if let (Body::Change(change), Some(other)) = (&mut record.body, other.change()) {
                    let table = other.table().clone();
                    change.shape = Arc::new(Shape { table, ..(*change.shape).clone() });
                }
            }
            let alone = encode(&record);
            let encoded = encoder.encode(&record);
            prop_assert_eq!((encoded.key, encoded.value), (&*alone.key, &*alone.value));
            let headers: Vec<_> = encoded.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect();
            prop_assert_eq!(&headers, &alone.headers);
            let decoded = decoder.decode(encoded.key, encoded.value, encoded.headers()).unwrap();
            prop_assert_eq!(decoded, decode(&alone).unwrap());
        }
    }

    #[test]
    fn any_float_is_the_same_float_after_its_way_through_a_double(bits in any::<u32>()) {
        let number = f32::from_bits(bits);
        prop_assume!(number.is_finite());
        let Value::Double(back) = carried(Value::Float(number)) else { panic!("{number} is no fraction any more") };
        prop_assert_eq!((back as f32).to_bits(), bits);
    }

    #[test]
    fn damaged_records_never_panic(original in any_record(), seed in any::<u64>()) {
        let mut random = fastrand::Rng::with_seed(seed);
        let wire = encode(&original);
        for _ in 0..40 {
            let mut broken = wire.clone();
            let part = match random.usize(0..4) {
                0 => &mut broken.key,
                1 => &mut broken.headers[random.usize(0..wire.headers.len())].1,
                _ => &mut broken.value,
            };
            mutate(part, &mut random);
            if let Ok(record) = decode(&broken) {
                // Whatever is taken for a record must be one that can be kept again.
                let again = encode(&record);
                prop_assert!(decode(&again).is_ok(), "{:?}", again);
            }
        }
        if let Some(change) = original.change() {
            let mut json = encode_change(change).into_bytes();
            mutate(&mut json, &mut random);
            let _ = decode_change(&json);
        }
    }
}

fn mutate(bytes: &mut Vec<u8>, random: &mut fastrand::Rng) {
    for _ in 0..random.usize(1..4) {
        let at = random.usize(0..=bytes.len());
        match random.u8(0..5) {
            0 => bytes.truncate(at),
            1 => bytes.insert(at, random.u8(..)),
            2 if at < bytes.len() => bytes[at] = random.u8(..),
            3 if at < bytes.len() => bytes[at] ^= 1 << random.u8(0..8),
            // A piece from elsewhere: numbers grow, objects repeat their members.
            _ => {
                let from = random.usize(0..=at);
                let piece = bytes[from..at].to_vec();
                bytes.splice(at..at, piece);
            }
        }
    }
}
