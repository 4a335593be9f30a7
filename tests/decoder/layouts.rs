//! Joining a table map with what is known: never a wrong pairing.

use std::collections::BTreeMap;

use tandem::change::{ColumnKind, Op};
use tandem::source::binlog::{DecodeError, KnownTable, Layout, RowsKind, TableMap, rows};

use crate::file::{TABLE_MAP, changes};
use crate::golden::Golden;

/// The first table map of each table.
fn maps(golden: &Golden) -> BTreeMap<String, TableMap> {
    let mut maps = BTreeMap::new();
    for event in golden.events.iter().filter(|event| event.kind == TABLE_MAP) {
        let map = TableMap::parse(&event.body).expect("a golden event is whole");
        maps.entry(map.table.table.to_string()).or_insert(map);
    }
    maps
}

fn known(golden: &Golden, table: &str) -> KnownTable {
    golden.tables.iter().find(|own| own.name == table).expect("the table is known").known.clone()
}

#[track_caller]
fn refused(map: &TableMap, known: Option<&KnownTable>, expected: &str) {
    let fault = Layout::new(map, known).expect_err(expected);
    assert!(matches!(fault, DecodeError::ShapeUnknown { .. }), "{fault}");
    assert!(fault.to_string().contains(expected), "{fault}");
}

#[test]
fn full_metadata_needs_nothing_else_but_for_what_looks_like_binary() {
    let golden = Golden::read("full");
    for (table, map) in maps(&golden) {
        let layout = Layout::new(&map, None);
        match table.as_str() {
            "identifiers" | "binaries" => {
                assert!(matches!(layout, Err(DecodeError::ShapeUnknown { .. })), "{table}: {layout:?}");
            }
            _ => assert!(layout.is_ok(), "{table}: {layout:?}"),
        }
    }
}

#[test]
fn without_names_the_table_must_be_known_and_agree() {
    let golden = Golden::read("no_metadata_no_checksum");
    let maps = maps(&golden);
    refused(&maps["shapes"], None, "does not have the table");
    let with = |table: &str, change: fn(&mut KnownTable), expected: &str| {
        let mut known = known(&golden, table);
        assert!(Layout::new(&maps[table], Some(&known)).is_ok(), "{table}");
        change(&mut known);
        refused(&maps[table], Some(&known), expected);
    };
    with("shapes", |known| drop(known.columns.pop()), "4 columns without names, the table has 3");
    with("shapes", |known| known.columns.swap(0, 1), "another type");
    with("shapes", |known| known.columns[1].column_type = "varchar(21)".into(), "`v` is varchar(21)");
    with("shapes", |known| known.columns[1].character_set = Some("latin1".into()), "another type");
    with("shapes", |known| known.columns[2].column_type = "mediumtext".into(), "another type");
    with("shapes", |known| known.columns[3].column_type = "hyperint(3)".into(), "another type");
    with("shapes", |known| known.columns[3].column_type = "(3)".into(), "which we do not know");
    with("decimals", |known| known.columns[1].column_type = "decimal(65,29)".into(), "another type");
    with("bits", |known| known.columns[1].column_type = "bit(2)".into(), "another type");
    with("times", |known| known.columns[2].column_type = "time(2)".into(), "another type");
    with("members", |known| known.columns[4].column_type = "set('1','2','3','4','5','6','7','8','9')".into(), "another type");
    with("identifiers", |known| known.columns[1].column_type = "inet4".into(), "another type");
    with("members", |known| known.columns[1].column_type = "enum('?')".into(), "question mark");
}

#[test]
fn signs_and_character_sets_are_compared_where_the_binlog_has_them() {
    let golden = Golden::read("noblob_image_minimal_metadata");
    let maps = maps(&golden);
    let mut signed = known(&golden, "integers");
    signed.columns[2].column_type = "tinyint(3)".into();
    refused(&maps["integers"], Some(&signed), "another sign");
    let mut recoded = known(&golden, "text_in_character_sets");
    recoded.columns[2].character_set = Some("koi8u".into());
    refused(&maps["text_in_character_sets"], Some(&recoded), "another character set");
}

#[test]
fn with_names_a_column_that_changed_since_is_read_as_it_was() {
    let golden = Golden::read("full");
    let map = &maps(&golden)["shapes"];
    let mut later = known(&golden, "shapes");
    later.columns[1].column_type = "bigint(20)".into();
    later.columns[1].generated = true;
    later.columns.remove(2);
    later.columns.rotate_left(1);
    let layout = Layout::new(map, Some(&later)).expect("the binlog tells everything");
    assert_eq!(layout.shape(), Layout::new(map, None).expect("the binlog tells everything").shape());

    let mut later = known(&golden, "identifiers");
    later.columns[1].column_type = "char(36)".into();
    refused(&maps(&golden)["identifiers"], Some(&later), "`u` may be a BINARY, a UUID or an INET");
}

#[test]
fn keys_are_in_their_own_order_and_without_the_end_of_a_rows_life() {
    for name in ["full", "no_metadata_no_checksum"] {
        let golden = Golden::read(name);
        let maps = maps(&golden);
        let key = |table: &str| {
            let layout = Layout::new(&maps[table], Some(&known(&golden, table))).expect("both agree");
            layout.shape().key_names().map(|name| name.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(key("traps"), ["v", "id", "c"], "{name}");
        assert_eq!(key("long_key"), ["id", "c", "a"], "{name}");
        assert_eq!(key("versioned"), ["id"], "{name}");
        assert_eq!(key("versioned_by_name"), ["id"], "{name}");
    }
}

/// What information_schema says is what the table is like now.
#[test]
fn a_key_that_was_added_since_is_none_where_the_binlog_names_columns() {
    for (name, key) in [("full", 0), ("no_metadata_no_checksum", 3)] {
        let golden = Golden::read(name);
        let mut map = maps(&golden)["traps"].clone();
        map.primary_key.clear();
        let layout = Layout::new(&map, Some(&known(&golden, "traps"))).expect("both agree");
        assert_eq!(layout.shape().key.len(), key, "{name}");
    }
}

#[test]
fn columns_are_known_for_what_they_are() {
    let golden = Golden::read("full");
    let maps = maps(&golden);
    let shape = |table: &str| Layout::new(&maps[table], Some(&known(&golden, table))).expect("both agree").shape().clone();
    let generated = |table: &str| {
        let generated = shape(table).columns.clone().into_iter().filter(|column| column.generated);
        generated.map(|column| column.name.to_string()).collect::<Vec<_>>()
    };
    assert_eq!(generated("special_columns"), ["v", "s"]);
    assert_eq!(generated("versioned"), ["row_start", "row_end"]);
    assert_eq!(generated("versioned_by_name"), ["since", "until"]);
    let kinds = |table: &str| shape(table).columns.iter().map(|column| column.kind).collect::<Vec<_>>();
    use ColumnKind::*;
    assert_eq!(kinds("identifiers"), [Integer, Uuid, Inet4, Inet6, Binary, Binary]);
    assert_eq!(kinds("json_and_geometry")[1..3], [Json, Geometry]);
    assert_eq!(kinds("members")[1..5], [Enum, Enum, Enum, Set]);
}

/// A hash that the server keeps for a unique key is no column of the table; what an application gave such a name is.
#[test]
fn a_column_that_only_the_binlog_shows_is_left_out_where_the_server_accounts_for_it() {
    for name in ["hidden", "hidden_minimal_no_metadata"] {
        let golden = Golden::read(name);
        let maps = maps(&golden);
        let columns = |table: &str, known: Option<&KnownTable>| {
            let shape = Layout::new(&maps[table], known).map(|layout| layout.shape().clone());
            let shown = |column: &tandem::change::Column| format!("{}{}", column.name, if column.generated { "?" } else { "" });
            shape.map(|shape| shape.columns.iter().map(shown).collect::<Vec<_>>().join(" ")).map_err(|error| error.to_string())
        };
        for table in ["hashed", "hashed_by_name", "versioned_hashed", "computed_hashed", "hashed_alone"] {
            let own = known(&golden, table);
            let shown = own.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>().join(" ");
            let told = columns(table, Some(&own)).unwrap().replace('?', "");
            assert_eq!(told.strip_suffix(" row_start row_end").unwrap_or(&told), shown, "{name}: {table}");
        }
        // A key came or went since, or an application's own column did.
        let with = |table: &str, change: fn(&mut KnownTable)| {
            let mut known = known(&golden, table);
            change(&mut known);
            columns(table, Some(&known))
        };
        type Case = (&'static str, fn(&mut KnownTable), &'static str);
        let changes: [Case; 4] = [
            ("hashed", |known| known.hash_keys = 2, "id t b n v DB_ROW_HASH_1? DB_ROW_HASH_2? DB_ROW_HASH_3?"),
            ("hashed_by_name", |known| known.hash_keys = 0, "DB_ROW_HASH_1 id t DB_ROW_HASH_2 DB_ROW_HASH_3?"),
            ("hashed_by_name", |known| drop(known.columns.pop()), "DB_ROW_HASH_1 id t DB_ROW_HASH_2? DB_ROW_HASH_3?"),
            ("hashed_alone", |known| known.columns[0].name = "number".into(), "id t u DB_ROW_HASH_1? DB_ROW_HASH_2?"),
        ];
        for (table, change, expected) in changes {
            match (name, with(table, change)) {
                ("hidden", told) => assert_eq!(told.as_deref(), Ok(expected), "{table}"),
                // By its name alone nothing is known of a column that has none.
                (_, Ok(told)) => assert_eq!(table, "hashed_alone", "{told}"),
                (_, Err(error)) => assert!(error.contains("columns without names"), "{error}"),
            }
        }
    }
    let golden = Golden::read("hidden");
    let shape = Layout::new(&maps(&golden)["hashed"], None).expect("the binlog tells everything").shape().clone();
    let generated: Vec<bool> = shape.columns.iter().map(|column| column.generated).collect();
    assert_eq!(generated, [false, false, false, false, false, true, true, true], "of an unknown table they are in doubt");
}

#[test]
fn past_rows_of_a_versioned_table_are_not_told() {
    let golden = Golden::read("full");
    let known = golden.known();
    let changes = changes(&golden.events, |table| (&*table.table == "versioned_by_name").then(|| Some(known[&*table.table])));
    let ops: Vec<_> = changes.expect("it decodes").iter().map(|change| change.op).collect();
    // Two inserts; an update with its past row; an update of what is not versioned; a delete, which is an update there.
    assert_eq!(ops, [Op::Insert, Op::Insert, Op::Update, Op::Update, Op::Delete]);
}

#[test]
fn rows_of_version_two_are_those_of_version_one_with_extra_data() {
    let golden = Golden::read("full");
    let known = golden.known();
    let mut compared = 0;
    let mut layout = None;
    for event in &golden.events {
        if event.kind == TABLE_MAP {
            let map = TableMap::parse(&event.body).expect("a golden event is whole");
            layout = known.get(&*map.table.table).map(|known| Layout::new(&map, Some(known)).expect("both agree"));
        } else if let (Some(one), Some(layout)) = (RowsKind::of(event.kind), &layout) {
            let two = RowsKind::of(event.kind + 7).expect("version two of the same");
            assert_eq!(one.op, two.op);
            let extra: &[u8] = &[5, 0, 1, 2, 3];
            let body = [&event.body[..8], extra, &event.body[8..]].concat();
            assert_eq!(rows::table_id(&body), rows::table_id(&event.body));
            let all = |kind, body| rows::changes(kind, layout, body).expect("it is whole").collect::<Vec<_>>();
            assert_eq!(all(two, &body), all(one, &event.body));
            compared += 1;
            assert!(
                rows::changes(two, layout, &[&event.body[..8], &[1, 0]].concat()).is_err(),
                "no length is less than its own"
            );
        }
    }
    assert!(compared > 50);
}
