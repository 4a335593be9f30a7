//! Tables as text without loss: what a server's SELECT says, and what comes of applying changes one by one.
#![allow(dead_code)]

use std::collections::BTreeMap;

use serde_json::{Value as Json, json};
use tandem::change::{Change, Image, Op, ValueRef};
use tandem::source::binlog::{KnownColumn, KnownTable, SystemVersioning};

/// Rows by their key, each with its columns by name.
pub type Rows = BTreeMap<String, BTreeMap<String, String>>;

/// A table as the server knows and shows it.
#[derive(Clone, PartialEq, Debug)]
pub struct Table {
    pub name: String,
    pub known: KnownTable,
    pub rows: Rows,
}

/// Longer values stand there by their length and CRC32.
const HEX_BYTES_MAX: usize = 64;

/// What kind of text stands for a value: `i:` number, `d:` floating point, `t:` text and `b:` bytes in hexadecimal.
pub fn form(value: ValueRef) -> String {
    let hex = |kind: char, bytes: &[u8]| match bytes.len() {
        0..=HEX_BYTES_MAX => format!("{kind}:{}", bytes.iter().map(|byte| format!("{byte:02X}")).collect::<String>()),
        length => format!("{kind}~{length}:{}", crc32fast::hash(bytes)),
    };
    match value {
        ValueRef::Null => "NULL".into(),
        ValueRef::Int(number) => format!("i:{number}"),
        ValueRef::UInt(number) => format!("i:{number}"),
        ValueRef::Float(number) => format!("d:{:e}", f64::from(number)),
        ValueRef::Double(number) => format!("d:{number:e}"),
        ValueRef::Text(text) => hex('t', text.as_bytes()),
        ValueRef::Bytes(bytes) => hex('b', bytes),
    }
}

/// An SQL expression that gives a column of that type in the same form.
pub fn form_in_sql(column: &KnownColumn) -> String {
    let name = format!("`{}`", column.name);
    let base = column.column_type.split(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    let hex = |kind: char, bytes: String| {
        let long = format!("CONCAT('{kind}~', LENGTH({bytes}), ':', CRC32({bytes}))");
        format!("IF(LENGTH({bytes}) > {HEX_BYTES_MAX}, {long}, CONCAT('{kind}:', HEX({bytes})))")
    };
    let form = match base {
        // Shown with two digits, kept with four.
        "year" if column.column_type == "year(2)" => format!("CONCAT('i:', IF({name} < 70, 2000, 1900) + {name})"),
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "bit" | "year" => format!("CONCAT('i:', {name} + 0)"),
        "float" | "double" => format!("CONCAT('d:', CAST({name} AS DOUBLE))"),
        "binary" | "varbinary" | "tinyblob" | "blob" | "mediumblob" | "longblob" | "geometry" | "point" | "linestring"
        | "polygon" | "multipoint" | "multilinestring" | "multipolygon" | "geometrycollection" => hex('b', name),
        _ => hex('t', format!("CONVERT({name} USING utf8mb4)")),
    };
    format!("COALESCE({form}, 'NULL')")
}

/// Equal forms; floating point numbers by their bits, because the same one can be written in several ways.
pub fn same(one: &str, other: &str) -> bool {
    let bits = |form: &str| form.strip_prefix("d:").map(|number| number.parse::<f64>().expect("a number").to_bits());
    one == other || bits(one).is_some() && bits(one) == bits(other)
}

/// The rows of every table after all changes. Each has a column `id`, by which a row is found.
pub fn replay(changes: &[Change]) -> BTreeMap<String, Rows> {
    let mut tables: BTreeMap<String, Rows> = BTreeMap::new();
    for change in changes {
        let rows = tables.entry(change.table().table.to_string()).or_default();
        let known = |image: &Option<Image>| -> BTreeMap<String, String> {
            let values = image.iter().flat_map(|image| change.shape.columns.iter().zip(image.values()));
            values.filter_map(|(column, value)| Some((column.name.to_string(), form(value?)))).collect()
        };
        let (before, mut after) = (known(&change.before), known(&change.after));
        let key = |image: &BTreeMap<String, String>| image.get("id").cloned();
        let mut row = BTreeMap::new();
        if change.op != Op::Insert {
            let key = key(&before).expect("the before image has the key");
            row = rows.remove(&key).unwrap_or_else(|| panic!("{} has a row {key} to change", change.table()));
            for (column, value) in &before {
                let own = row.entry(column.clone()).or_insert_with(|| value.clone());
                assert!(same(own, value), "{} row {key}: the before image is the row as it was ({column})", change.table());
            }
        }
        if change.op != Op::Delete {
            row.append(&mut after);
            let key = key(&row).expect("a row has its key");
            let there = rows.insert(key.clone(), row);
            assert_eq!(there, None, "{} has one row {key}", change.table());
        }
    }
    tables
}

/// How many values the changes did not tell. Panics where one differs from what the server shows.
pub fn compare(table: &Table, replayed: Option<&Rows>) -> usize {
    let none = Rows::new();
    let replayed = replayed.unwrap_or(&none);
    assert_eq!(
        table.rows.keys().collect::<Vec<_>>(),
        replayed.keys().collect::<Vec<_>>(),
        "{} has other rows in the server than by the binlog",
        table.name
    );
    let mut unknown = 0;
    for (key, row) in &table.rows {
        for (column, shown) in row {
            match replayed[key].get(column) {
                None => unknown += 1,
                // A SELECT shows a value that an enum refused as its empty member.
                Some(told) if told == "i:0" && shown == "t:" && is_enum(table, column) => {}
                Some(told) => assert!(
                    same(shown, told),
                    "{} row {key} column {column}: the server shows {shown}, the binlog tells {told}",
                    table.name
                ),
            }
        }
    }
    unknown
}

fn is_enum(table: &Table, column: &str) -> bool {
    table.known.columns.iter().any(|known| known.name == column && known.column_type.starts_with("enum"))
}

pub fn to_json(tables: &[Table]) -> String {
    let lines: Vec<_> = tables
        .iter()
        .map(|table| {
            let columns: Vec<_> = table.known.columns.iter().map(column_json).collect();
            json!({
                "name": table.name,
                "columns": columns,
                "primary_key": table.known.primary_key,
                "system_versioned": table.known.system_versioned,
                "hash_keys": table.known.hash_keys,
                "rows": table.rows,
            })
            .to_string()
        })
        .collect();
    format!("[\n{}\n]\n", lines.join(",\n"))
}

pub fn from_json(text: &str) -> Vec<Table> {
    let tables: Vec<Json> = serde_json::from_str(text).expect("the golden tables are JSON");
    let strings = |list: &Json| list.as_array().unwrap().iter().map(|name| name.as_str().unwrap().to_owned()).collect();
    tables
        .iter()
        .map(|table| Table {
            name: table["name"].as_str().unwrap().to_owned(),
            known: KnownTable {
                columns: table["columns"].as_array().unwrap().iter().map(column_from_json).collect(),
                primary_key: strings(&table["primary_key"]),
                system_versioned: table["system_versioned"].as_bool().unwrap(),
                hash_keys: table["hash_keys"].as_u64().unwrap_or_default() as usize,
            },
            rows: serde_json::from_value(table["rows"].clone()).unwrap(),
        })
        .collect()
}

fn column_json(column: &KnownColumn) -> Json {
    json!({
        "name": column.name,
        "type": column.column_type,
        "character_set": column.character_set,
        "collation": column.collation,
        "generated": column.generated,
        "invisible": column.invisible,
        "row_start": column.system_versioning == Some(SystemVersioning::RowStart),
        "row_end": column.system_versioning == Some(SystemVersioning::RowEnd),
        "json": column.json,
    })
}

fn column_from_json(column: &Json) -> KnownColumn {
    let text = |name: &str| column[name].as_str().map(str::to_owned);
    let truth = |name: &str| column[name].as_bool().unwrap();
    let start = truth("row_start").then_some(SystemVersioning::RowStart);
    KnownColumn {
        name: text("name").unwrap(),
        column_type: text("type").unwrap(),
        character_set: text("character_set"),
        collation: text("collation"),
        generated: truth("generated"),
        invisible: truth("invisible"),
        system_versioning: start.or(truth("row_end").then_some(SystemVersioning::RowEnd)),
        json: truth("json"),
    }
}
