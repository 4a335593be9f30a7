//! Every value goes through the target without loss: read by a lock, over the wire form, written, and compared by the
//! server in a form that hides nothing.

use super::*;
use tandem::change::wire;
use tandem::target::Held;

/// A column type and values of it as SQL. NULL is tried for each.
pub(super) const TYPES: &[(&str, &[&str])] = &[
    ("TINYINT", &["-128", "127", "0"]),
    ("TINYINT UNSIGNED", &["255"]),
    ("SMALLINT", &["-32768", "32767"]),
    ("MEDIUMINT", &["-8388608", "8388607"]),
    ("INT", &["-2147483648", "2147483647"]),
    ("INT(5) UNSIGNED ZEROFILL", &["42", "4294967295"]),
    ("BIGINT", &["-9223372036854775808", "9223372036854775807"]),
    ("BIGINT UNSIGNED", &["18446744073709551615", "0"]),
    (
        "DECIMAL(65,30)",
        &["-12345678901234567890123456789012345.123456789012345678901234567891", "0", "-0.000000000000000000000000000001"],
    ),
    ("DECIMAL(10,2)", &["99999999.99", "-0.50"]),
    ("FLOAT", &["1.1", "-3.4e38", "1.17549e-38", "16777217", "0.1", "-0e0"]),
    ("DOUBLE", &["1.1", "1.7976931348623157e308", "2.2250738585072014e-308", "-0e0", "0.1e0+0.2e0"]),
    ("BIT(1)", &["b'1'", "b'0'"]),
    ("BIT(10)", &["b'1000000001'"]),
    ("BIT(64)", &["b'1111111111111111111111111111111111111111111111111111111111111111'"]),
    ("YEAR", &["2155", "1901", "'0000'", "2000"]),
    ("DATE", &["'0000-00-00'", "'9999-12-31'", "'2024-02-29'", "'2023-00-10'", "'2023-02-31'"]),
    ("TIME", &["'-838:59:59'", "'838:59:59'", "'-00:00:01'"]),
    ("TIME(6)", &["'-838:59:59.999999'", "'00:00:00.000001'"]),
    ("DATETIME", &["'0000-00-00 00:00:00'", "'9999-12-31 23:59:59'"]),
    ("DATETIME(6)", &["'2024-02-29 12:00:00.000001'"]),
    ("TIMESTAMP NULL", &["'0000-00-00 00:00:00'", "'1970-01-01 00:00:01'", "'2038-01-19 03:14:07'"]),
    ("TIMESTAMP(3) NULL", &["'2024-03-31 02:30:00.123'", "'2024-10-27 02:30:00.999'"]),
    ("CHAR(10)", &["''", "'a'", "'  lead'", "'Zo\\u00eb'"]),
    ("VARCHAR(50)", &["''", "'trail   '", "'it''s \\\\ \"x\" \\n\\t\\0\\Z%_'", "'\u{1f600}'"]),
    ("VARCHAR(50) CHARACTER SET latin1", &["'Zo\u{eb} \u{20ac}'", "_latin1 x'818D8F909D'"]),
    ("VARCHAR(50) CHARACTER SET utf8mb3", &["'Zo\u{eb}'"]),
    ("VARCHAR(50) CHARACTER SET latin2", &["'\u{17e}lu\u{165}ou\u{10d}k\u{fd}'"]),
    ("VARCHAR(50) CHARACTER SET cp1251", &["'\u{43f}\u{440}\u{438}\u{432}\u{435}\u{442}'"]),
    // Bytes that are no text: beyond ASCII, codes without a character of their own, half a pair of surrogates.
    ("VARCHAR(50) CHARACTER SET ascii", &["'Zo'", "x'61C328'"]),
    ("TEXT CHARACTER SET sjis", &["x'5C815F'"]),
    ("VARCHAR(50) CHARACTER SET cp932", &["x'FA4A8754'"]),
    ("VARCHAR(50) CHARACTER SET ucs2", &["'Zo\u{eb} \u{4e2d}'", "x'0061D800'"]),
    ("VARCHAR(50) CHARACTER SET utf16", &["'\u{1f600}'"]),
    ("VARCHAR(50) CHARACTER SET sjis", &["'\u{65e5}\u{672c}'"]),
    ("TEXT", &["REPEAT('x\u{eb}', 20000)"]),
    ("LONGTEXT CHARACTER SET latin1", &["REPEAT('\u{eb}', 70000)"]),
    ("BINARY(5)", &["x'00'", "x'FF0027005C'", "''"]),
    ("VARBINARY(50)", &["x'00FF27225C0A0D1A00'", "''"]),
    ("BLOB", &["x'C328'", "REPEAT(x'0027', 3000)"]),
    ("LONGBLOB", &["REPEAT(x'FF', 300000)"]),
    ("ENUM('a','b''c','\u{e9}','1','0')", &["'a'", "'b''c'", "'\u{e9}'", "'1'", "'0'"]),
    ("ENUM('\u{e9}','x') CHARACTER SET latin1", &["'\u{e9}'"]),
    ("SET('a','b','c')", &["'a,c'", "''", "'b'"]),
    ("JSON", &["'{\"a\": [1, 2.50, \"\u{1f600}\"]}'"]),
    ("UUID", &["'123e4567-e89b-12d3-a456-426655440000'"]),
    ("INET4", &["'10.0.0.255'"]),
    ("INET6", &["'2001:db8::1'", "'::ffff:10.0.0.1'"]),
    ("GEOMETRY", &["ST_GeomFromText('POINT(1 2)', 4326)", "ST_GeomFromText('LINESTRING(0 0,1 1)')"]),
    ("TEXT COMPRESSED", &["REPEAT('abc', 1000)"]),
];

/// The tables `here` and `there` with a column of each type, and the rows of `here`: one value of each after the other, NULL
/// where there are no more, and a last row of NULLs.
pub(super) async fn a_column_of_each_type() -> (PrivateServer, MariadbTarget, Vec<Held>) {
    let server = server().await;
    let columns: Vec<String> = TYPES.iter().enumerate().map(|(at, (kind, _))| format!("c{at} {kind}")).collect();
    let columns = columns.join(", ");
    let most = TYPES.iter().map(|(_, values)| values.len()).max().unwrap();
    let mut sql =
        String::from("SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES', NAMES utf8mb4; CREATE DATABASE campus; ");
    for table in ["here", "there"] {
        sql += &format!("CREATE TABLE campus.{table} (id INT PRIMARY KEY, {columns}) ROW_FORMAT=DYNAMIC; ");
    }
    for row in 0..=most {
        let values: Vec<&str> = TYPES.iter().map(|(_, values)| values.get(row).copied().unwrap_or("NULL")).collect();
        sql += &format!("INSERT INTO campus.here VALUES ({row}, {}); ", values.join(", ").replace("\\u00eb", "\u{eb}"));
    }
    server.query(&sql).await;
    let target = target_of(&server).await;

    let key_shape = shape("campus.here", &["id"], &[0]);
    let keys: Vec<RowKey> =
        (0..=most as i64).map(|id| RowKey { shape: key_shape.clone(), values: Box::new([Value::Int(id)]) }).collect();
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let held = transaction.lock(&keys).await.unwrap();
    transaction.rollback().await;
    (server, target, held.into_iter().map(|held| held.expect("the row is there")).collect())
}

#[tokio::test]
async fn every_type_goes_through_without_loss() {
    let (server, target, held) = a_column_of_each_type().await;
    let most = held.len() - 1;
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let mut writes = Vec::new();
    for held in held {
        let shape = Shape { table: TableName::parse("campus.there").unwrap(), ..(*held.key.shape).clone() };
        let change = change(&Arc::new(shape), Op::Insert, None, Some(held.image));
        let wired = wire::decode_change(wire::encode_change(&change).as_bytes()).unwrap();
        writes.push(Write::Put(wired));
    }
    transaction.write(&writes).await.unwrap();
    // Once more: now as updates of what is there, from the values as they were read.
    transaction.write(&writes).await.unwrap();
    transaction.commit().await.unwrap();

    for (at, (kind, values)) in TYPES.iter().enumerate() {
        let exact = |table: &str| match *kind {
            "FLOAT" | "DOUBLE" => format!("CAST(CAST({table}.c{at} AS DOUBLE) AS CHAR)"),
            kind if kind.contains("CHARACTER SET") || kind.contains("CHAR") || kind.contains("TEXT") => {
                format!("HEX({table}.c{at})")
            }
            kind if ["BLOB", "BINARY", "GEOMETRY"].iter().any(|part| kind.contains(part)) => format!("HEX({table}.c{at})"),
            kind if kind.contains("INT") || kind.starts_with("BIT") || kind == "YEAR" => format!("{table}.c{at} + 0"),
            _ => format!("HEX(CAST({table}.c{at} AS CHAR CHARACTER SET utf8mb4))"),
        };
        let (here, there) = (exact("here"), exact("there"));
        let sql = format!(
            "SELECT COUNT(*), COALESCE(SUM(NOT ({here} <=> {there})), 99), COUNT({here}), COALESCE(MAX(CONCAT({here}, ' and ', {there})), '')
             FROM campus.here JOIN campus.there USING (id)"
        );
        let (rows, different, told, example): (usize, u32, usize, String) = server.first(&sql).await.unwrap();
        assert_eq!((rows, told), (most + 1, values.len()), "{kind}");
        assert_eq!(different, 0, "{kind}: {}", example.chars().take(200).collect::<String>());
    }
}

/// The forms that the binlog decoder gives too.
#[tokio::test]
async fn a_locked_row_has_the_forms_of_the_binlog() {
    let server = server().await;
    server
        .query(
            "SET time_zone='+00:00'; CREATE DATABASE campus;
             CREATE TABLE campus.forms (id INT PRIMARY KEY, big BIGINT UNSIGNED, small FLOAT, wide DOUBLE, money DECIMAL(10,2), bits BIT(10),
             grown YEAR, day DATE, moment TIMESTAMP(2), name VARCHAR(10) CHARACTER SET latin1, raw BINARY(3), pick ENUM('x','y'),
             ip INET6, doubled INT AS (id * 2));
             INSERT INTO campus.forms (id, big, small, wide, money, bits, grown, day, moment, name, raw, pick, ip) VALUES
             (1, 18446744073709551615, 1.1, 1.1, 1.5, 513, 2024, '0000-00-00', '2024-01-02 03:04:05.6', 'Zo\u{eb}', x'01', 'y', '::1')",
        )
        .await;
    let target = target_of(&server).await;
    let key = RowKey { shape: shape("campus.forms", &["id"], &[0]), values: Box::new([Value::Int(1)]) };
    let mut transaction = target.begin(&mark(1)).await.unwrap();
    let held = transaction.lock(&[key]).await.unwrap().pop().flatten().unwrap();
    let expected = [
        Value::Int(1),
        Value::UInt(u64::MAX),
        Value::Float(1.1),
        Value::Double(1.1),
        Value::text("1.50"),
        Value::Int(513),
        Value::Int(2024),
        Value::text("0000-00-00"),
        Value::text("2024-01-02 03:04:05.60"),
        Value::text("Zo\u{eb}"),
        Value::Bytes(Box::new([1, 0, 0])),
        Value::text("y"),
        Value::text("::1"),
        Value::Int(2),
    ];
    assert_eq!(held.image, image(expected).unwrap());
    assert!(held.key.shape.columns.last().unwrap().generated);
    // A computed column is not written.
    let change = change(&held.key.shape, Op::Update, None, Some(held.image));
    transaction.write(&[Write::Put(change)]).await.unwrap();
    transaction.rollback().await;
}

#[tokio::test]
async fn keys_of_every_type_find_their_row() {
    let server = server().await;
    let target = target_of(&server).await;
    server.query("CREATE DATABASE campus").await;
    let cases: &[(&str, &[&str])] = &[
        ("INT", &["1", "2"]),
        ("BIGINT UNSIGNED", &["18446744073709551615", "1"]),
        ("DECIMAL(10,2)", &["1.50", "-3"]),
        ("FLOAT", &["1.1", "2.5"]),
        ("DOUBLE", &["1.1", "1e300"]),
        ("BIT(9)", &["b'100000001'", "b'1'"]),
        ("YEAR", &["2024", "'0000'"]),
        ("DATE", &["'2024-02-29'", "'0000-00-00'"]),
        ("TIME(2)", &["'-10:00:00.5'", "'10:00:00'"]),
        ("DATETIME(6)", &["'2024-02-29 10:00:00.5'", "'0000-00-00 00:00:00'"]),
        ("TIMESTAMP(3)", &["'2024-02-29 10:00:00.5'", "'2024-02-29 10:00:00'"]),
        ("VARCHAR(20)", &["'Zo\u{eb}'", "'it''s\\\\'"]),
        ("VARCHAR(20) CHARACTER SET latin1", &["'Zo\u{eb}'", "'\u{20ac}'"]),
        ("VARCHAR(20) CHARACTER SET latin2", &["'\u{17e}lu\u{165}'", "'a'"]),
        ("VARCHAR(20) COLLATE utf8mb4_bin", &["'a'", "'A'"]),
        ("CHAR(5) COLLATE utf8mb4_unicode_ci", &["'stra\u{df}'", "'b'"]),
        ("BINARY(4)", &["x'01'", "x'0027'"]),
        ("VARBINARY(4)", &["x'01'", "x'0100'"]),
        ("ENUM('a','b')", &["'a'", "'b'"]),
        ("UUID", &["'123e4567-e89b-12d3-a456-426655440000'", "'00000000-0000-0000-0000-000000000001'"]),
        ("INET6", &["'::1'", "'2001:db8::1'"]),
    ];
    for (number, (kind, values)) in cases.iter().enumerate() {
        let table = format!("campus.k{number}");
        let rows: Vec<String> = values.iter().map(|value| format!("({value}, 1)")).collect();
        server
            .query(&format!(
                "SET time_zone='+00:00', sql_mode='ALLOW_INVALID_DATES'; CREATE TABLE {table} (k {kind} NOT NULL PRIMARY KEY, n INT);
                 INSERT INTO {table} VALUES {}",
                rows.join(",")
            ))
            .await;
        let mut transaction = target.begin(&mark(1 + number as u64)).await.unwrap();
        let mut keys = Vec::new();
        for value in *values {
            let literal = value_of(&server, kind, value).await;
            keys.push(RowKey { shape: shape(&table, &["k"], &[0]), values: Box::new([literal]) });
        }
        let held = transaction.lock(&keys).await.unwrap();
        assert!(held.iter().all(Option::is_some), "{kind}: {held:?}");
        let mut writes = Vec::new();
        for held in held.into_iter().flatten() {
            let before = change(&held.key.shape, Op::Delete, Some(held.image.clone()), None);
            let wired = wire::decode_change(wire::encode_change(&before).as_bytes()).unwrap();
            let partial = Image::of([None, Some(Value::Int(2))]);
            let update = change(&wired.shape, Op::Update, wired.before.clone(), Some(partial));
            writes.push(Write::Put(update));
        }
        transaction.write(&writes).await.unwrap_or_else(|error| panic!("{kind}: {error:?}"));
        let deletes: Vec<Write> = keys.into_iter().map(Write::Delete).collect();
        transaction.write(&deletes[1..]).await.unwrap();
        transaction.commit().await.unwrap();
        let left: Vec<(i64,)> = server.rows(&format!("SELECT n FROM {table}")).await;
        assert_eq!(left, [(2,)], "{kind}");
    }
}

/// A literal as the value that a binlog decoder gives.
async fn value_of(server: &PrivateServer, kind: &str, literal: &str) -> Value {
    let name = kind.split(['(', ' ']).next().unwrap();
    match name {
        "INT" | "BIGINT" | "BIT" | "YEAR" => {
            Value::unsigned(server.first::<u64>(&format!("SELECT {literal} + 0")).await.unwrap())
        }
        "FLOAT" => Value::Double(literal.parse().unwrap()),
        "DOUBLE" => Value::Double(literal.parse().unwrap()),
        // Padded, as the decoder gives it.
        "BINARY" => Value::Bytes(server.first::<Vec<u8>>(&format!("SELECT CAST({literal} AS {kind})")).await.unwrap().into()),
        "VARBINARY" => Value::Bytes(server.first::<Vec<u8>>(&format!("SELECT {literal}")).await.unwrap().into()),
        _ => Value::text(server.first::<String>(&format!("SELECT CAST({literal} AS CHAR)")).await.unwrap()),
    }
}

/// The weights that we work out ourselves, and those that we ask for, agree with the server's comparison.
#[tokio::test]
async fn canonical_keys_agree_with_the_server() {
    let server = server().await;
    let texts = [
        "",
        " ",
        "a",
        "A",
        "a ",
        "a  ",
        "\u{e4}",
        "\u{c4}",
        "ae",
        "\u{df}",
        "ss",
        "s",
        "Stra\u{df}e",
        "STRASSE",
        "\u{1f600}",
        "\u{1f601}",
        "\u{e9}",
        "e\u{301}",
        "e",
        "_",
        "`",
        "@",
        "[",
        "{",
        "~",
        "0",
        "\t",
        "a\t",
        "\u{131}",
        "i",
        "I",
        "\u{130}",
        "z\u{17e}",
        "\u{3c3}",
        "\u{3c2}",
        "\u{3a3}",
    ];
    let collations = [
        "utf8mb4_general_ci",
        "utf8mb4_unicode_ci",
        "utf8mb4_unicode_520_ci",
        "utf8mb4_bin",
        "utf8mb4_nopad_bin",
        "utf8mb4_general_nopad_ci",
        "utf8mb4_uca1400_as_cs",
        "utf8mb4_uca1400_ai_ci",
        "utf8mb4_uca1400_as_ci",
        "utf8mb4_uca1400_nopad_as_cs",
        "utf8mb4_turkish_ci",
        "latin1_swedish_ci",
        "latin1_general_cs",
        "latin1_german1_ci",
        "latin1_bin",
    ];
    server.query("CREATE DATABASE campus").await;
    let target = target_of(&server).await;
    for collation in collations {
        let charset = collation.split('_').next().unwrap();
        let table = format!("campus.{collation}");
        server
            .query(&format!(
                "SET NAMES utf8mb4; CREATE TABLE {table} (k VARCHAR(20) CHARACTER SET {charset} COLLATE {collation} NOT NULL PRIMARY KEY)"
            ))
            .await;
        let usable = texts.iter().filter(|text| charset != "latin1" || text.chars().all(|c| u32::from(c) < 0x100));
        let usable: Vec<&str> = usable.copied().collect();
        let key = |text: &&str| RowKey { shape: shape(&table, &["k"], &[0]), values: Box::new([Value::text(*text)]) };
        let keys: Vec<RowKey> = usable.iter().map(key).collect();
        let canonical = target.canonical(&keys).await.unwrap();
        assert_eq!(target.canonical(&keys).await.unwrap(), canonical, "the same from what was kept");
        let literal = |text: &str| format!("CONVERT('{}' USING {charset}) COLLATE {collation}", text.replace('\'', "''"));
        let mut pairs = Vec::new();
        let mut sql = String::from("SELECT CONCAT(");
        for (one, text) in usable.iter().enumerate() {
            for (other, with) in usable.iter().enumerate().skip(one + 1) {
                sql += &format!("{}{} = {}", if pairs.is_empty() { "" } else { "," }, literal(text), literal(with));
                pairs.push((one, other));
            }
        }
        sql += ")";
        let equal: String = {
            use mysql_async::prelude::Queryable;
            let mut conn = server.conn().await;
            conn.query_drop("SET NAMES utf8mb4").await.unwrap();
            conn.query_first(sql).await.unwrap().unwrap()
        };
        for ((one, other), equal) in pairs.into_iter().zip(equal.chars()) {
            assert_eq!(
                canonical[one] == canonical[other],
                equal == '1',
                "{collation}: {:?} and {:?}",
                usable[one],
                usable[other]
            );
        }
    }
}
