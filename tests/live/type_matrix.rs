//! Every column type with its edge values, from each of two real nodes to the other: inserted, changed from every value to
//! every other one (NULL among them) by the other side, and deleted. What arrives must be identical, by a digest that loses
//! nothing.

use std::time::Duration;

use crate::harness::{Cluster, ClusterOptions, PrivateServer, ServerOptions, TableRows, tables};

const WITHIN: Duration = Duration::from_secs(120);
const DATABASE: &str = "matrix";
/// The values, in a database that is not synced: each site has them by itself.
const TYPES: &str = include_str!("../golden/types.sql");
const ALTERED: &str = include_str!("../golden/altered.sql");
/// Rows that the second site makes have ids from here.
const SECOND: u32 = 1_000_000;

/// Types as the only column of a key, and where values of them are.
const KEYS: [(&str, &str, &str); 23] = [
    ("bigint_unsigned", "BIGINT UNSIGNED", "integers.bu"),
    ("mediumint", "MEDIUMINT", "integers.m"),
    ("decimals", "DECIMAL(65, 30)", "decimals.a"),
    ("floats", "FLOAT", "floats.f"),
    ("doubles", "DOUBLE", "floats.d"),
    ("bits", "BIT(64)", "bits.h"),
    ("years", "YEAR", "years.y"),
    ("dates", "DATE", "dates.d"),
    ("times", "TIME(6)", "times.t6"),
    ("datetimes", "DATETIME(6)", "datetimes.d6"),
    ("timestamps", "TIMESTAMP(6)", "timestamps.s6"),
    ("chars", "CHAR(63)", "strings.c63"),
    ("texts", "VARCHAR(64)", "strings.v64"),
    ("nopad", "VARCHAR(63) COLLATE utf8mb4_nopad_bin", "strings.v63"),
    ("koi8r", "CHAR(9) CHARACTER SET koi8r", "text_in_character_sets.koi8r"),
    ("utf16le", "VARCHAR(9) CHARACTER SET utf16le", "text_in_character_sets.utf16le"),
    ("binaries", "BINARY(16)", "binaries.b16"),
    ("varbinaries", "VARBINARY(255)", "binaries.vb255"),
    ("enums", "ENUM('a', 'b''c', 'd\\\\e', '', ' x', 'ñ')", "members.e"),
    ("sets", "SET('1', '2', '3', '4', '5', '6', '7', '8', 'nine')", "members.s9"),
    ("uuids", "UUID", "identifiers.u"),
    ("inet4", "INET4", "identifiers.i4"),
    ("inet6", "INET6", "identifiers.i6"),
];

/// What is not in the golden values: columns that the server sets by itself, enums that refused a value. Where the empty text is
/// a member too, it stands for a refused value: the change tells both alike, as SELECT does.
const MORE: &str = "
    CREATE TABLE dated_by_itself (id INT PRIMARY KEY, n INT, at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
        made DATETIME NOT NULL DEFAULT NOW(), zero TIMESTAMP NOT NULL DEFAULT 0);
    INSERT INTO dated_by_itself VALUES (1, 1, '2001-02-03 04:05:06.789', '2001-02-03', '2024-01-01'), (2, 2, 0, 0, 0),
        (3, NULL, '2037-12-31 23:59:59.999999', '9999-12-31 23:59:59', '2038-01-19 03:14:07');
    CREATE TABLE no_value (id INT PRIMARY KEY, e ENUM('a', 'b'), other ENUM('a', '') NOT NULL, s SET('a', 'b') NOT NULL, n INT UNIQUE);
    INSERT INTO no_value VALUES (1, 'refused', '', 'refused', NULL), (2, NULL, '', '', NULL), (3, 'b', 'a', 'a,b', NULL);
    UPDATE members SET e = '' WHERE e = '';";

/// The tables of the matrix: as the values', but for keys of the first characters of a column, which are refused.
fn schema() -> String {
    let values =
        TYPES.replace("CREATE DATABASE types;", "CREATE DATABASE types CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;");
    let mut sql =
        format!("{values}{ALTERED}{MORE}\nCREATE DATABASE {DATABASE} CHARACTER SET utf8mb4 COLLATE utf8mb4_general_ci;\n");
    sql += "DELIMITER //\nFOR one IN (SELECT TABLE_NAME AS name FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'types' \
            AND TABLE_TYPE = 'BASE TABLE') DO\n\
            EXECUTE IMMEDIATE CONCAT('CREATE TABLE matrix.', one.name, ' LIKE types.', one.name);\nEND FOR//\nDELIMITER ;\n";
    sql += "ALTER TABLE matrix.traps DROP PRIMARY KEY, ADD PRIMARY KEY (v, id);\n\
            ALTER TABLE matrix.long_key DROP PRIMARY KEY, ADD PRIMARY KEY (id, a);\n";
    for (name, kind, _) in KEYS {
        sql += &format!("CREATE TABLE matrix.key_{name} (k {kind} NOT NULL PRIMARY KEY, n INT);\n");
        // Keys of several columns are looked up by another statement.
        sql += &format!(
            "CREATE TABLE matrix.key_pair_{name} (k {kind} NOT NULL, part INT DEFAULT 7, n INT, PRIMARY KEY (k, part));\n"
        );
    }
    sql
}

/// A table of the matrix with the columns that can be written, but for its id.
struct Values {
    table: String,
    columns: Vec<String>,
}

impl Values {
    async fn all(server: &PrivateServer) -> Vec<Self> {
        let mut all = Vec::new();
        for table in tables(server, "types").await {
            let columns = server
                .rows(&format!(
                    "SELECT COLUMN_NAME FROM information_schema.COLUMNS WHERE TABLE_SCHEMA = 'types' AND TABLE_NAME = '{table}' \
                     AND EXTRA NOT LIKE '%GENERATED%' AND COLUMN_NAME <> 'id'"
                ))
                .await;
            all.push(Self { table, columns });
        }
        assert!(all.len() >= 25, "the values are {} tables", all.len());
        all
    }

    fn columns(&self, prefix: &str) -> String {
        let columns: Vec<String> = self.columns.iter().map(|column| format!(", {prefix}`{column}`")).collect();
        columns.concat()
    }

    /// A row for every pair of values, holding the first.
    fn insert(&self, site: u32) -> String {
        // The many ordinary rows meet some others only.
        let pairs = "other.id <= 20 OR other.id > 99";
        format!(
            "INSERT INTO matrix.{0} (id{1}) SELECT {site} + one.id * 1000 + other.id{2} FROM types.{0} one JOIN types.{0} other WHERE {pairs}",
            self.table,
            self.columns(""),
            self.columns("one.")
        )
    }

    /// Every row of the pairs gets the second value.
    fn update(&self, site: u32) -> String {
        let set: Vec<String> = self.columns.iter().map(|column| format!("mine.`{column}` = other.`{column}`")).collect();
        format!(
            "UPDATE matrix.{0} mine JOIN types.{0} other ON other.id = mine.id % 1000 SET {1} WHERE mine.id DIV {SECOND} = {2}",
            self.table,
            set.join(", "),
            site / SECOND
        )
    }
}

/// The tables of which such values are the key.
fn key_tables() -> impl Iterator<Item = String> {
    KEYS.iter().flat_map(|(name, ..)| [format!("matrix.key_{name}"), format!("matrix.key_pair_{name}")])
}

/// Statements of an application that puts up with everything, as it would run them.
async fn run(server: &PrivateServer, statements: impl IntoIterator<Item = String>) {
    let statements: Vec<String> = statements.into_iter().collect();
    server.query(&format!("SET sql_mode = ''; {}", statements.join("; "))).await;
}

async fn arrived(cluster: &mut Cluster, what: &str) {
    cluster.wait_until_equal(WITHIN).await.unwrap_or_else(|missed| panic!("{what}: {missed}"));
}

async fn both_ways(server: fn(u32) -> ServerOptions) {
    let mut options = ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), DATABASE, schema());
    options.server = server;
    let mut cluster = Cluster::start(options).await;
    let values = Values::all(cluster.server(0)).await;
    let sites = [(0, 0), (1, SECOND)];

    for (site, ids) in sites {
        run(cluster.server(site), values.iter().map(|values| values.insert(ids))).await;
    }
    let keys = KEYS.iter().map(|(name, _, from)| {
        let (table, column) = from.split_once('.').expect("a column of a table");
        let insert = |into: String| {
            format!("INSERT IGNORE INTO {into} (k, n) SELECT {column}, 1 FROM types.{table} WHERE {column} IS NOT NULL")
        };
        insert(format!("matrix.key_{name}")) + "; " + &insert(format!("matrix.key_pair_{name}"))
    });
    run(cluster.server(0), keys).await;
    arrived(&mut cluster, "inserts").await;
    let mut rows = 0;
    for values in &values {
        let count = TableRows::read(cluster.server(1), DATABASE, &values.table).await.len();
        let known = TableRows::read(cluster.server(1), "types", &values.table).await.len();
        assert!(count >= 2 * known, "{}: {count} rows of {known} values", values.table);
        rows += count;
    }
    assert!(rows > 4000, "{rows} rows are no matrix");

    // Each changes what the other has made.
    for (site, ids) in [(0, SECOND), (1, 0)] {
        run(cluster.server(site), values.iter().map(|values| values.update(ids))).await;
    }
    run(cluster.server(1), key_tables().map(|table| format!("UPDATE {table} SET n = 2"))).await;
    arrived(&mut cluster, "updates").await;
    for table in key_tables() {
        let found: Option<(u64, u64)> =
            cluster.server(0).first(&format!("SELECT COUNT(*), COALESCE(SUM(n = 2), 0) FROM {table}")).await;
        assert!(matches!(found, Some((all, changed)) if all > 1 && all == changed), "{table}: {found:?}");
    }

    for (site, ids) in sites {
        let delete =
            values.iter().map(|values| format!("DELETE FROM matrix.{} WHERE id DIV {SECOND} = {}", values.table, ids / SECOND));
        run(cluster.server(site), delete).await;
    }
    run(cluster.server(0), key_tables().map(|table| format!("DELETE FROM {table}"))).await;
    arrived(&mut cluster, "deletes").await;

    for site in 0..2 {
        let server = cluster.server(site);
        for table in tables(server, DATABASE).await {
            assert!(TableRows::read(server, DATABASE, &table).await.is_empty(), "{table} is empty again");
        }
        let reasons: Vec<(String, String)> = server.rows("SELECT table_name, reason FROM tandem.dead_letters").await;
        assert_eq!(reasons, [], "changes were set aside on site {site}");
        let conflicts: Option<u64> = server.first("SELECT COUNT(*) FROM tandem.conflicts").await;
        assert_eq!(conflicts, Some(0));
    }
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_of_every_type_arrives_identical_both_ways() {
    both_ways(ServerOptions::node).await;
}

/// What an administrator may have set on one side only. Our sessions must not care, whichever side a value comes from.
fn set_differently(n: u32) -> ServerOptions {
    let own: &[&str] = match n {
        1 => &[
            "--default-time-zone=+05:30",
            "--sql-mode=ANSI_QUOTES,NO_BACKSLASH_ESCAPES,PAD_CHAR_TO_FULL_LENGTH,PIPES_AS_CONCAT,NO_UNSIGNED_SUBTRACTION,IGNORE_SPACE",
            "--character-set-server=latin1",
            "--collation-server=latin1_german1_ci",
            "--innodb-strict-mode=OFF",
            "--explicit-defaults-for-timestamp=OFF",
            "--lc-messages=de_DE",
        ],
        _ => &[
            "--default-time-zone=-11:00",
            "--sql-mode=TRADITIONAL,STRICT_ALL_TABLES,NO_ZERO_DATE,NO_ZERO_IN_DATE,ONLY_FULL_GROUP_BY,EMPTY_STRING_IS_NULL,TIME_ROUND_FRACTIONAL",
            "--character-set-server=utf16",
            "--collation-server=utf16_bin",
            "--innodb-strict-mode=ON",
            "--explicit-defaults-for-timestamp=ON",
            "--column-compression-zlib-wrap=ON",
        ],
    };
    own.iter().fold(ServerOptions::node(n), |options, arg| options.arg(*arg))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_value_arrives_identical_between_servers_that_are_set_differently() {
    both_ways(set_differently).await;
}

/// What the other tests trust in: values that SQL calls equal, or shows alike, have rows of their own in the digest.
#[tokio::test]
async fn the_digest_tells_apart_what_looks_alike() {
    let server = PrivateServer::start(ServerOptions::default()).await;
    let alike: &[(&str, &str, &str)] = &[
        ("DOUBLE", "0.1", "0.30000000000000004e0 - 0.2e0"),
        ("FLOAT", "16777216", "16777218"),
        ("FLOAT(7,3)", "1.001", "1.0010001659393310546875e0"),
        ("DOUBLE(20,5)", "0.30000000000000004", "0.3"),
        ("VARCHAR(5)", "'a'", "'a '"),
        ("VARCHAR(5)", "'a'", "'A'"),
        ("VARCHAR(5)", "''", "NULL"),
        ("VARBINARY(5)", "x'00'", "x'0000'"),
        ("TIMESTAMP(6) NULL", "'2024-01-01 00:00:00'", "'2024-01-01 00:00:00.000001'"),
        ("DATETIME", "'0000-00-00'", "NULL"),
        ("TIME(1)", "'00:00:00.1'", "'-00:00:00.1'"),
        ("BIT(64)", "18446744073709551615", "9223372036854775807"),
        ("ENUM('a','')", "''", "'refused'"),
        ("GEOMETRY", "ST_GeomFromText('POINT(1 1)', 4326)", "ST_GeomFromText('POINT(1 1)', 0)"),
        ("JSON", "'[1]'", "'[1 ]'"),
    ];
    server.query("SET sql_mode = ''; CREATE DATABASE one; CREATE DATABASE two").await;
    for (number, (kind, one, two)) in alike.iter().enumerate() {
        for (database, value) in [("one", one), ("two", two)] {
            server
                .query(&format!(
                    "SET sql_mode = ''; CREATE TABLE {database}.t{number} (id INT PRIMARY KEY, v {kind}); INSERT INTO {database}.t{number} VALUES (1, {value})"
                ))
                .await;
        }
        let table = format!("t{number}");
        let rows = [TableRows::read(&server, "one", &table).await, TableRows::read(&server, "two", &table).await];
        let told_apart = rows[0].difference(&rows[1]).is_some();
        // These two round to the same stored bits, so a digest that told them apart would be wrong.
        let same = kind.contains(',') && kind.contains("FLOAT") || kind.starts_with("DOUBLE(");
        assert_eq!(told_apart, !same, "{kind}: {one} and {two}");
    }
}
