//! Every type, every character set and every setting of the binlog: what we decode is what SELECT shows.
//!
//! With `TANDEM_WRITE_GOLDEN=tests/golden` the first test also writes what it saw there (tests/golden/README.md).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use mysql_async::prelude::Queryable;
use tandem::source::binlog::{DecodeError, KnownColumn, KnownTable, SystemVersioning};

use crate::binlog_file::{changes, events};
use crate::harness::{PrivateServer, ServerOptions};
use crate::replay::{Rows, Table, compare, form, form_in_sql, replay, to_json};

/// How the server is set, and what it then runs.
struct Setting {
    name: &'static str,
    global: &'static str,
    session: &'static str,
    statements: &'static [&'static str],
    /// Some values are not told: the images are partial.
    partial: bool,
}

const TYPES: &str = include_str!("../golden/types.sql");
const ALTERED: &str = include_str!("../golden/altered.sql");
const OLD_TEMPORAL: &str = include_str!("../golden/old_temporal.sql");
const HIDDEN: &str = include_str!("../golden/hidden.sql");

const SETTINGS: [Setting; 9] = [
    Setting {
        name: "full",
        global: "binlog_row_metadata = FULL, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = FULL",
        statements: &[TYPES, ALTERED],
        partial: false,
    },
    Setting {
        name: "no_metadata_no_checksum",
        global: "binlog_row_metadata = NO_LOG, GLOBAL binlog_checksum = NONE, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = FULL",
        statements: &[TYPES],
        partial: false,
    },
    Setting {
        name: "minimal_image",
        global: "binlog_row_metadata = FULL, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = MINIMAL",
        statements: &[TYPES],
        partial: true,
    },
    Setting {
        name: "noblob_image_minimal_metadata",
        global: "binlog_row_metadata = MINIMAL, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = NOBLOB",
        statements: &[TYPES],
        partial: true,
    },
    Setting {
        name: "compressed",
        global: "binlog_row_metadata = FULL, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = ON, \
                 GLOBAL log_bin_compress_min_len = 10",
        session: "binlog_row_image = FULL",
        statements: &[TYPES, ALTERED],
        partial: false,
    },
    Setting {
        name: "old_temporal",
        global: "binlog_row_metadata = FULL, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = FULL",
        statements: &[OLD_TEMPORAL],
        partial: false,
    },
    Setting {
        name: "old_temporal_no_metadata",
        global: "binlog_row_metadata = NO_LOG, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = ON, \
                 GLOBAL log_bin_compress_min_len = 10",
        session: "binlog_row_image = MINIMAL",
        statements: &[OLD_TEMPORAL],
        partial: false,
    },
    Setting {
        name: "hidden",
        global: "binlog_row_metadata = FULL, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = FULL",
        statements: &[HIDDEN],
        partial: false,
    },
    Setting {
        name: "hidden_minimal_no_metadata",
        global: "binlog_row_metadata = NO_LOG, GLOBAL binlog_checksum = CRC32, GLOBAL log_bin_compress = OFF",
        session: "binlog_row_image = MINIMAL",
        statements: &[HIDDEN],
        partial: true,
    },
];

const DATABASE: &str = "types";

/// The binlog file that the server writes now.
async fn current_file(server: &PrivateServer) -> PathBuf {
    let status: Option<(String, u64, String, String)> = server.first("SHOW BINLOG STATUS").await;
    server.data_dir().join(status.expect("the binlog is on").0)
}

/// Runs the statements and gives the binlog of exactly them.
async fn binlog_of(server: &PrivateServer, statements: &str) -> Vec<u8> {
    server.query("FLUSH BINARY LOGS").await;
    let file = current_file(server).await;
    server.sql_client(statements);
    server.query("FLUSH BINARY LOGS").await;
    fs::read(&file).unwrap_or_else(|error| panic!("cannot read {}: {error}", file.display()))
}

async fn known_tables(server: &PrivateServer) -> Vec<(String, KnownTable)> {
    type Row = (String, String, String, String, Option<String>, Option<String>, String, Option<String>, bool);
    let columns: Vec<Row> = server
        .rows(&format!(
            "SELECT t.TABLE_NAME, t.TABLE_TYPE, c.COLUMN_NAME, c.COLUMN_TYPE, c.CHARACTER_SET_NAME, c.COLLATION_NAME, c.EXTRA, \
             c.GENERATION_EXPRESSION, c.COLUMN_NAME = 'j' FROM information_schema.COLUMNS c JOIN information_schema.TABLES t \
             USING (TABLE_SCHEMA, TABLE_NAME) WHERE TABLE_SCHEMA = '{DATABASE}' ORDER BY c.TABLE_NAME, c.ORDINAL_POSITION"
        ))
        .await;
    let mut tables: BTreeMap<String, KnownTable> = BTreeMap::new();
    for (table, table_type, name, column_type, character_set, collation, extra, expression, json) in columns {
        let known = tables.entry(table).or_default();
        known.system_versioned = table_type == "SYSTEM VERSIONED";
        let system_versioning = match expression.as_deref() {
            Some("ROW START") => Some(SystemVersioning::RowStart),
            Some("ROW END") => Some(SystemVersioning::RowEnd),
            _ => None,
        };
        let (generated, invisible) = (extra.contains("GENERATED"), extra.contains("INVISIBLE"));
        known.columns.push(KnownColumn {
            name,
            column_type,
            character_set,
            collation,
            generated,
            invisible,
            system_versioning,
            json,
        });
    }
    let hashes: Vec<(String, usize)> = server
        .rows(&format!(
            "SELECT TABLE_NAME, COUNT(DISTINCT INDEX_NAME) FROM information_schema.STATISTICS WHERE TABLE_SCHEMA = '{DATABASE}' \
             AND INDEX_TYPE = 'HASH' GROUP BY TABLE_NAME"
        ))
        .await;
    for (table, keys) in hashes {
        tables.get_mut(&table).expect("a key belongs to a table").hash_keys = keys;
    }
    let keys: Vec<(String, String)> = server
        .rows(&format!(
            "SELECT TABLE_NAME, COLUMN_NAME FROM information_schema.KEY_COLUMN_USAGE WHERE TABLE_SCHEMA = '{DATABASE}' AND \
             CONSTRAINT_NAME = 'PRIMARY' ORDER BY TABLE_NAME, ORDINAL_POSITION"
        ))
        .await;
    for (table, column) in keys {
        let known = tables.get_mut(&table).expect("a key belongs to a table");
        // The end of a row's life is a part of the key that the table itself does not show.
        if known.columns.iter().any(|own| own.name == column) {
            known.primary_key.push(column);
        }
    }
    tables.into_iter().collect()
}

async fn shown_rows(server: &PrivateServer, table: &str, known: &KnownTable) -> Rows {
    let names: Vec<_> = known.columns.iter().map(|column| column.name.clone()).collect();
    let forms: Vec<_> = known.columns.iter().map(form_in_sql).collect();
    let mut conn = server.conn().await;
    conn.query_drop("SET time_zone = '+00:00'").await.expect("a time zone can be set");
    // Hexadecimal takes two characters a byte, and the text is joined by a character that is in none of the forms.
    let sql = format!("SELECT CONCAT_WS('|', {}) FROM {DATABASE}.`{table}`", forms.join(", "));
    let rows: Vec<String> = conn.query(&sql).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
    conn.disconnect().await.expect("a session can be ended");
    let row = |forms: String| -> BTreeMap<String, String> {
        names.iter().cloned().zip(forms.split('|').map(str::to_owned)).collect()
    };
    rows.into_iter().map(row).map(|row| (row["id"].clone(), row)).collect()
}

/// The tables with an `id`, as the server knows and shows them.
async fn shown_tables(server: &PrivateServer) -> Vec<Table> {
    let mut tables = Vec::new();
    for (name, known) in known_tables(server).await {
        if known.columns.iter().any(|column| column.name == "id") {
            let rows = shown_rows(server, &name, &known).await;
            tables.push(Table { name, known, rows });
        }
    }
    tables
}

#[tokio::test]
async fn every_type_reads_as_the_server_shows_it_under_every_setting() {
    let server = PrivateServer::start(ServerOptions::default().arg("--default-time-zone=+00:00")).await;
    let golden = std::env::var_os("TANDEM_WRITE_GOLDEN").map(PathBuf::from);
    for setting in &SETTINGS {
        server.query(&format!("DROP DATABASE IF EXISTS {DATABASE}; SET GLOBAL {}", setting.global)).await;
        let binlog = binlog_of(&server, &format!("SET SESSION {};\n{}", setting.session, setting.statements.concat())).await;
        let tables = shown_tables(&server).await;
        let unknown = check(setting.name, &binlog, &tables);
        assert_eq!(unknown > 0, setting.partial, "{}: {unknown} values were not told", setting.name);
        if let Some(dir) = &golden {
            write_golden(dir, setting.name, &binlog, &tables);
        }
    }
}

/// Decodes the file and compares every table; gives how many values it did not tell.
fn check(name: &str, binlog: &[u8], tables: &[Table]) -> usize {
    let known: BTreeMap<_, _> = tables.iter().map(|table| (table.name.as_str(), &table.known)).collect();
    let events = events(binlog);
    let changes = changes(&events, |table| known.get(&*table.table).map(|known| Some(*known)));
    let replayed = replay(&changes.unwrap_or_else(|error| panic!("{name}: {error}")));
    assert!(tables.iter().filter(|table| !table.rows.is_empty()).count() >= 1);
    tables.iter().map(|table| compare(table, replayed.get(&table.name))).sum()
}

fn write_golden(dir: &Path, name: &str, binlog: &[u8], tables: &[Table]) {
    let write = |file: PathBuf, bytes: &[u8]| {
        assert!(!file.exists(), "{} is there: golden bytes are added to, never rewritten", file.display());
        fs::write(&file, bytes).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    };
    write(dir.join(format!("{name}.binlog")), binlog);
    write(dir.join(format!("{name}.json")), to_json(tables).as_bytes());
}

/// Codes of one byte, of two and of three.
const CODES: [&str; 3] = [
    "SELECT unhex(lpad(hex(seq), 2, '0')) AS code FROM seq_0_to_255",
    "SELECT unhex(hex(seq)) FROM seq_32768_to_65535",
    "SELECT concat(x'8f', unhex(hex(seq))) FROM seq_41120_to_65535",
];

/// Every character of the first plane, and some of the others.
const CHARACTERS: &str = "SELECT char(seq USING utf32) AS code FROM seq_0_to_65535 \
                          UNION ALL SELECT char(seq USING utf32) FROM seq_65536_to_1114111_step_499";

#[tokio::test]
async fn every_code_of_every_character_set_means_what_the_server_says() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    server.query(&format!("CREATE DATABASE {DATABASE}")).await;
    let charsets: Vec<(String, u8)> = server
        .rows("SELECT CHARACTER_SET_NAME, MAXLEN FROM information_schema.CHARACTER_SETS WHERE CHARACTER_SET_NAME <> 'binary'")
        .await;
    assert!(charsets.len() >= 39, "{charsets:?}");
    let mut texts = 0;
    for (charset, width) in charsets {
        let is_unicode = charset.starts_with("utf") || charset == "ucs2";
        let codes = if is_unicode { CHARACTERS.to_owned() } else { CODES[..width.into()].join(" UNION ALL ") };
        let binlog = binlog_of(
            &server,
            &format!(
                "SET sql_mode = ''; USE {DATABASE}; CREATE OR REPLACE TABLE codes (id INT AUTO_INCREMENT PRIMARY KEY, \
                 v VARCHAR(4) CHARACTER SET {charset}); INSERT INTO codes (v) SELECT code FROM ({codes}) AS codes"
            ),
        )
        .await;
        // Text where the server can bring the same bytes back from it, else the bytes.
        let shown: Vec<(u32, String)> = server
            .rows(&format!(
                "SELECT id, IF(HEX(CONVERT(CONVERT(v USING utf8mb4) USING {charset})) = HEX(v), \
                 CONCAT('t:', HEX(CONVERT(v USING utf8mb4))), CONCAT('b:', HEX(v))) FROM {DATABASE}.codes ORDER BY id"
            ))
            .await;
        let changes = changes(&events(&binlog), |table| (&*table.table == "codes").then_some(None)).expect("it decodes");
        assert_eq!(changes.len(), shown.len(), "{charset}");
        for (change, (id, shown)) in changes.iter().zip(&shown) {
            let image = change.after.as_ref().expect("an insert has it");
            assert_eq!(image.get(0).and_then(tandem::change::ValueRef::as_u64), Some(u64::from(*id)));
            let told = form(image.get(1).expect("the image is full"));
            // A half of a surrogate pair is a character to the server and none in UTF-8; and the character that means
            // "no character", which big5 and tis620 have one code for, is not taken for text.
            let surrogate = is_unicode && shown.starts_with("t:ED") && shown.as_bytes()[4] >= b'A';
            let replacement = !is_unicode && shown.contains("EFBFBD");
            let expected = if surrogate || replacement { "b:" } else { shown };
            assert!(told.starts_with(expected), "{charset}: the server shows {shown}, we {told}");
            texts += usize::from(told.starts_with("t:"));
        }
    }
    assert!(texts > 400_000, "{texts} codes were text");
}

#[tokio::test]
async fn a_fraction_in_the_old_temporal_format_is_refused_by_its_column() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let binlog = binlog_of(
        &server,
        &format!(
            "SET GLOBAL mysql56_temporal_format = OFF; CREATE DATABASE {DATABASE}; USE {DATABASE}; \
             CREATE TABLE old (id INT PRIMARY KEY, at DATETIME(3)); INSERT INTO old VALUES (1, '2024-01-02 03:04:05.678')"
        ),
    )
    .await;
    let (_, known) = known_tables(&server).await.remove(0);
    let fault = changes(&events(&binlog), |_| Some(Some(&known))).expect_err("it cannot be read");
    assert!(matches!(&fault, DecodeError::Unsupported { column, .. } if column == "at"), "{fault}");
    let fault = changes(&events(&binlog), |_| Some(None)).expect_err("it may have a fraction");
    assert!(matches!(&fault, DecodeError::ShapeUnknown { .. }), "{fault}");
}

#[tokio::test]
async fn a_value_of_many_megabytes_is_one_value() {
    const BYTES: usize = 17 << 20;
    let server = PrivateServer::start(ServerOptions::default()).await;
    for compress in ["OFF", "ON"] {
        let binlog = binlog_of(
            &server,
            &format!(
                "SET GLOBAL log_bin_compress = {compress}; CREATE DATABASE IF NOT EXISTS {DATABASE}; USE {DATABASE}; \
                 CREATE OR REPLACE TABLE large (id INT PRIMARY KEY, t LONGTEXT, c LONGBLOB COMPRESSED); \
                 INSERT INTO large VALUES (1, REPEAT('x', {BYTES}), REPEAT(x'00ff', {BYTES} / 2))"
            ),
        )
        .await;
        let changes = changes(&events(&binlog), |table| (&*table.table == "large").then_some(None)).expect("it decodes");
        let image = changes[0].after.as_ref().expect("an insert has it");
        assert_eq!(image.get(1).and_then(|value| value.as_text().map(str::len)), Some(BYTES));
        let Some(tandem::change::ValueRef::Bytes(bytes)) = image.get(2) else { panic!("{compress}: it has bytes") };
        assert!(bytes.len() == BYTES && bytes.chunks_exact(2).all(|pair| pair == [0, 0xff]), "{compress}");
    }
}
