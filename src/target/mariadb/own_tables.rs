//! Tandem's own database on the node: made at the first start, and what an apply transaction writes there.

use super::fault::About;
use super::literal;
use super::session::Session;
use crate::change::{Mark, Offset, OriginId, RowKey, Value, wire};
use crate::target::keep::Side;
use crate::target::{Conflict, DeadLetter, TargetError};

/// Counts up with each change of the tables below.
const VERSION: u32 = 3;

/// Texts are compared byte by byte: names of origins are exact. A mark's columns are `Mark::COLUMNS`.
const TABLES: &[&str] = &[
    "CREATE DATABASE IF NOT EXISTS tandem CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.applied (
        origin VARCHAR(190) NOT NULL PRIMARY KEY,
        next_offset BIGINT UNSIGNED NOT NULL,
        data_offset BIGINT UNSIGNED NULL,
        position TEXT NOT NULL,
        hlc BIGINT UNSIGNED NOT NULL
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.resolutions (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        row_change LONGTEXT NOT NULL,
        noted_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.conflicts (
        id VARCHAR(190) NOT NULL PRIMARY KEY,
        kind VARCHAR(40) NOT NULL,
        table_name VARCHAR(200) NOT NULL,
        row_key LONGTEXT NOT NULL,
        winner_origin VARCHAR(190) NOT NULL,
        winner_hlc BIGINT UNSIGNED NOT NULL,
        winner_row LONGTEXT NULL,
        loser_origin VARCHAR(190) NOT NULL,
        loser_hlc BIGINT UNSIGNED NOT NULL,
        loser_row LONGTEXT NULL,
        state VARCHAR(10) NOT NULL,
        noted_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        settled_at TIMESTAMP(6) NULL DEFAULT NULL,
        KEY by_state (state, noted_at)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.dead_letters (
        origin VARCHAR(190) NOT NULL,
        record_offset BIGINT UNSIGNED NOT NULL,
        gtid VARCHAR(60) NOT NULL,
        hlc BIGINT UNSIGNED NOT NULL,
        table_name VARCHAR(200) NOT NULL,
        row_key LONGTEXT NOT NULL,
        row_change LONGTEXT NOT NULL,
        reason TEXT NOT NULL,
        attempts INT UNSIGNED NOT NULL,
        noted_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        PRIMARY KEY (origin, record_offset),
        KEY by_time (noted_at)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.schema_changes (
        number BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        origin VARCHAR(190) NOT NULL,
        record_offset BIGINT UNSIGNED NOT NULL,
        gtid VARCHAR(60) NOT NULL,
        hlc BIGINT UNSIGNED NOT NULL,
        commit_second BIGINT UNSIGNED NOT NULL,
        change_text LONGTEXT NOT NULL,
        state VARCHAR(20) NOT NULL,
        danger TEXT NULL,
        remark TEXT NULL,
        before_print TEXT NULL,
        told LONGTEXT NOT NULL,
        noted_at TIMESTAMP(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
        ended_at TIMESTAMP(6) NULL DEFAULT NULL,
        UNIQUE KEY by_record (origin, record_offset),
        KEY by_end (ended_at, number)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.parked (
        id BIGINT UNSIGNED NOT NULL AUTO_INCREMENT PRIMARY KEY,
        behind BIGINT UNSIGNED NOT NULL,
        origin VARCHAR(190) NOT NULL,
        record_offset BIGINT UNSIGNED NOT NULL,
        record LONGTEXT NOT NULL,
        KEY by_statement (behind, id)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.known_columns (
        database_name VARCHAR(64) NOT NULL,
        table_name VARCHAR(64) NOT NULL,
        column_name VARCHAR(64) NOT NULL,
        PRIMARY KEY (database_name, table_name, column_name)
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.seeding (
        id TINYINT UNSIGNED NOT NULL PRIMARY KEY,
        state LONGTEXT NOT NULL
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
    "CREATE TABLE IF NOT EXISTS tandem.version (
        version INT UNSIGNED NOT NULL PRIMARY KEY
    ) ENGINE=InnoDB CHARACTER SET utf8mb4 COLLATE utf8mb4_bin",
];

const PREPARING: &str = "preparing the database `tandem`";

/// Makes what is missing. Safe to call at every start and from several nodes' worth of processes at once.
pub(super) async fn prepare(session: &mut Session) -> Result<(), TargetError> {
    // Looked up first, so that an ordinary start logs no statement.
    let exists = b"SELECT COUNT(*) FROM information_schema.TABLES WHERE TABLE_SCHEMA = 'tandem' AND TABLE_NAME = 'version'";
    let found = match number(session, exists).await? {
        0 => 0,
        _ => number(session, b"SELECT COALESCE(MAX(version), 0) FROM tandem.version").await?,
    };
    match found {
        found if found == u64::from(VERSION) => Ok(()),
        // Every version so far has only added tables.
        found if found < u64::from(VERSION) => {
            for statement in TABLES {
                session.run(statement.as_bytes(), About::Task(PREPARING)).await?;
            }
            let now = format!("INSERT IGNORE INTO tandem.version VALUES ({VERSION})");
            session.run(now.as_bytes(), About::Task(PREPARING)).await.map(drop)
        }
        found => Err(TargetError::Refused {
            what: format!("the database `tandem` has version {found}, and this program knows version {VERSION}"),
            remedy: "run the newer version of tandem on this node".into(),
        }),
    }
}

async fn number(session: &mut Session, sql: &[u8]) -> Result<u64, TargetError> {
    let row = session.rows(sql, PREPARING).await?.into_iter().next();
    row.and_then(|row| mysql_async::from_row_opt(row).ok()).ok_or_else(|| session.not_understood(PREPARING))
}

/// Rows of `tandem.resolutions` speak through the binlog when they are written; afterwards they are for people only.
/// Some at a time, and deletes that the tailer ignores: no mark, and no row of a captured table.
pub(super) async fn clean_up(session: &mut Session) -> Result<(), TargetError> {
    let old = b"DELETE FROM tandem.resolutions WHERE noted_at < NOW() - INTERVAL 7 DAY ORDER BY id LIMIT 1000";
    session.run(old, About::Task("removing old rows of tandem.resolutions")).await.map(drop)
}

/// Notes the columns that tables have, so that one that is dropped later is known as one that was here.
pub(super) async fn note_columns(session: &mut Session) -> Result<(), TargetError> {
    let sql = b"INSERT IGNORE INTO tandem.known_columns
        SELECT c.TABLE_SCHEMA, c.TABLE_NAME, c.COLUMN_NAME FROM information_schema.COLUMNS c
        LEFT JOIN tandem.known_columns k ON k.database_name = CONVERT(c.TABLE_SCHEMA USING utf8mb4)
            AND k.table_name = CONVERT(c.TABLE_NAME USING utf8mb4) AND k.column_name = CONVERT(c.COLUMN_NAME USING utf8mb4)
        WHERE k.column_name IS NULL
            AND c.TABLE_SCHEMA NOT IN ('mysql', 'information_schema', 'performance_schema', 'sys', 'tandem')";
    session.run(sql, About::Task("noting the columns of tables")).await.map(drop)
}

fn mark_values(out: &mut Vec<u8>, mark: &Mark) {
    let next = Value::unsigned(mark.next.0);
    let data = mark.data.map_or(Value::Null, |offset| Value::unsigned(offset.0));
    let values =
        [Value::text(mark.origin.as_str()), next, data, Value::text(mark.position.to_string()), Value::unsigned(mark.hlc.0)];
    literal::list(out, &values, |out, value| literal::value(out, value.as_ref()));
}

/// A mark where there is none, as SQL.
pub(super) fn insert_mark(mark: &Mark) -> Vec<u8> {
    let mut out = b"INSERT INTO tandem.applied (".to_vec();
    literal::list(&mut out, Mark::COLUMNS, literal::identifier);
    out.extend_from_slice(b") VALUES (");
    mark_values(&mut out, mark);
    out.push(b')');
    out
}

/// The upsert of a mark, as SQL.
pub(super) fn upsert_mark(out: &mut Vec<u8>, mark: &Mark) {
    out.extend_from_slice(b"INSERT INTO tandem.applied (");
    literal::list(out, Mark::COLUMNS, literal::identifier);
    out.extend_from_slice(b") VALUES (");
    mark_values(out, mark);
    out.extend_from_slice(b") ON DUPLICATE KEY UPDATE ");
    literal::list(out, &Mark::COLUMNS[1..], |out, name| out.extend_from_slice(format!("`{name}`=VALUES(`{name}`)").as_bytes()));
}

/// An update that changes nothing leaves no trace in the binlog, and then the tailer would take the transaction for a
/// local one. Where the upsert may have changed nothing, the row is written anew: see [`may_be_silent`].
pub(super) fn renew_mark(out: &mut Vec<u8>, mark: &Mark) {
    out.extend_from_slice(b"DELETE FROM tandem.applied WHERE origin = ");
    literal::text(out, mark.origin.as_str());
    out.push(b';');
    out.extend_from_slice(&insert_mark(mark));
}

/// 2 is a row that changed; 1 is a new row or one that was the same already.
pub(super) fn may_be_silent(affected: u64) -> bool {
    affected != 2
}

pub(super) fn insert_rewrites(out: &mut Vec<u8>, texts: &[String]) {
    out.extend_from_slice(b"INSERT INTO tandem.resolutions (row_change) VALUES ");
    literal::list(out, texts, |out, text| {
        out.push(b'(');
        literal::text(out, text);
        out.push(b')');
    });
}

/// The first telling of a conflict stays: it may have been settled by a person since.
pub(super) fn insert_conflict(out: &mut Vec<u8>, conflict: &Conflict) {
    out.extend_from_slice(
        b"INSERT INTO tandem.conflicts (id, kind, table_name, row_key, winner_origin, winner_hlc, winner_row,
            loser_origin, loser_hlc, loser_row, state) VALUES (",
    );
    let row =
        |side: &Side| side.row.as_ref().map_or(Value::Null, |(key, image)| Value::text(super::kept::row_text(key, image)));
    let values = [
        Value::text(conflict.id.as_str()),
        Value::text(conflict.kind.word()),
        Value::text(conflict.key.table().to_string()),
        Value::text(wire::key_json(&conflict.key)),
        Value::text(conflict.winner.origin.as_str()),
        Value::unsigned(conflict.winner.hlc.0),
        row(&conflict.winner),
        Value::text(conflict.loser.origin.as_str()),
        Value::unsigned(conflict.loser.hlc.0),
        row(&conflict.loser),
        Value::text(if conflict.open { "open" } else { "settled" }),
    ];
    literal::list(out, &values, |out, value| literal::value(out, value.as_ref()));
    out.extend_from_slice(b") ON DUPLICATE KEY UPDATE id = VALUES(id)");
}

/// The first decision stays.
pub(super) fn settle(out: &mut Vec<u8>, conflict: &str) {
    out.extend_from_slice(
        b"UPDATE tandem.conflicts SET state = 'settled', settled_at = NOW(6) WHERE state <> 'settled' AND id = ",
    );
    literal::text(out, conflict);
}

pub(super) fn delete_dead_letters(out: &mut Vec<u8>, letters: &[(OriginId, Offset)]) {
    out.extend_from_slice(b"DELETE FROM tandem.dead_letters WHERE (origin, record_offset) IN (");
    literal::list(out, letters, |out, (origin, offset)| {
        let place = [Value::text(origin.as_str()), Value::unsigned(offset.0)];
        out.push(b'(');
        literal::list(out, &place, |out, value| literal::value(out, value.as_ref()));
        out.push(b')');
    });
    out.push(b')');
}

pub(super) fn insert_dead_letter(out: &mut Vec<u8>, letter: &DeadLetter) {
    out.extend_from_slice(
        b"INSERT INTO tandem.dead_letters (origin, record_offset, gtid, hlc, table_name, row_key, row_change, reason,
            attempts) VALUES (",
    );
    let key = letter.change.key().map_or_else(|| "{}".to_owned(), |key: RowKey| wire::key_json(&key));
    let values = [
        Value::text(letter.origin.as_str()),
        Value::unsigned(letter.offset.0),
        Value::text(letter.gtid.to_string()),
        Value::unsigned(letter.hlc.0),
        Value::text(letter.change.table().to_string()),
        Value::text(key),
        Value::text(wire::encode_change(&letter.change)),
        Value::text(letter.reason.as_str()),
        Value::Int(letter.attempts.into()),
    ];
    literal::list(out, &values, |out, value| literal::value(out, value.as_ref()));
    out.extend_from_slice(b") ON DUPLICATE KEY UPDATE reason = VALUES(reason), attempts = VALUES(attempts)");
}
