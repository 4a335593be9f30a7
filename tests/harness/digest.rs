//! Whether two databases hold the same rows: every value in a form that loses nothing, row by row.

use std::collections::BTreeMap;

use super::PrivateServer;

/// A table's rows in the order of their keys, each as one text.
#[derive(PartialEq, Eq, Debug)]
pub struct TableRows {
    pub table: String,
    rows: Vec<String>,
}

impl TableRows {
    /// Reads a whole table. Text and bytes are taken as hexadecimal, so that no collation, padding or display can make two
    /// different values look the same; times are taken in UTC; NULL is told apart from every value.
    pub async fn read(server: &PrivateServer, database: &str, table: &str) -> Self {
        let columns: Vec<(String, String)> = server
            .rows(&format!(
                "SELECT column_name, data_type FROM information_schema.columns \
                 WHERE table_schema = '{database}' AND table_name = '{table}' ORDER BY column_name"
            ))
            .await;
        assert!(!columns.is_empty(), "there is no table {database}.{table} on port {}", server.port());
        let values: Vec<String> = columns
            .iter()
            .map(|(name, kind)| {
                let (text, quoted) = (name.replace('\\', "\\\\").replace('\'', "''"), name.replace('`', "``"));
                format!("COALESCE(CONCAT('{text}=', {}), '{text} is null')", exact(&quoted, kind))
            })
            .collect();
        let sql =
            format!("SELECT CONCAT_WS(' ', {}) AS one_row FROM `{database}`.`{}`", values.join(", "), table.replace('`', "``"));
        let mut conn = server.conn().await;
        use mysql_async::prelude::Queryable;
        conn.query_drop("SET time_zone = '+00:00', sql_mode = '', NAMES binary").await.expect("a session can be set");
        let rows: Vec<Vec<u8>> = conn.query(&sql).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
        conn.disconnect().await.expect("a session can be ended");
        let mut rows: Vec<String> = rows.into_iter().map(|row| String::from_utf8_lossy(&row).into_owned()).collect();
        // By our own order: the server's would depend on collations.
        rows.sort();
        Self { table: format!("{database}.{table}"), rows }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// Equal exactly where all rows are: a hash over rows and their lengths.
    pub fn digest(&self) -> String {
        let mut hasher = blake3::Hasher::new();
        for row in &self.rows {
            hasher.update(&(row.len() as u64).to_le_bytes());
            hasher.update(row.as_bytes());
        }
        hasher.finalize().to_hex()[..16].to_owned()
    }

    /// The first rows that only one side has, for people.
    pub fn difference(&self, other: &Self) -> Option<String> {
        let mut counts: BTreeMap<&str, i64> = BTreeMap::new();
        self.rows.iter().for_each(|row| *counts.entry(row).or_default() += 1);
        other.rows.iter().for_each(|row| *counts.entry(row).or_default() -= 1);
        let differing: Vec<String> = counts
            .iter()
            .filter(|(_, count)| **count != 0)
            .map(|(row, count)| format!("  {} side only: {row}", if *count > 0 { "first" } else { "second" }))
            .collect();
        let shown = differing.len().min(4);
        (!differing.is_empty())
            .then(|| format!("{}: {} rows differ:\n{}", self.table, differing.len(), differing[..shown].join("\n")))
    }
}

fn exact(column: &str, kind: &str) -> String {
    match kind {
        // A float's own display has six digits, and some columns' so many as they are declared with; as a double it shows all
        // it has. A zero has no sign once it is stored.
        "float" | "double" => format!("CAST(`{column}` AS DOUBLE)"),
        // A value that was refused shows as the empty text, which may be a member too: only the number tells.
        "enum" => format!("CONCAT(`{column}` + 0, ':', HEX(`{column}`))"),
        "tinyint" | "smallint" | "mediumint" | "int" | "bigint" | "decimal" | "year" | "date" | "time" | "datetime"
        | "timestamp" => format!("`{column}`"),
        _ => format!("HEX(`{column}`)"),
    }
}

/// All tables of a database on one server.
pub async fn tables(server: &PrivateServer, database: &str) -> Vec<String> {
    server
        .rows(&format!(
            "SELECT table_name FROM information_schema.tables \
             WHERE table_schema = '{database}' AND table_type = 'BASE TABLE' ORDER BY table_name"
        ))
        .await
}

/// What differs between the database on two servers; `None` where every table has the same rows. A table that only one
/// of them has is a panic: tests make the same tables on both.
pub async fn databases_differ(one: &PrivateServer, other: &PrivateServer, database: &str) -> Option<String> {
    let names = tables(one, database).await;
    assert_eq!(names, tables(other, database).await, "the tables of {database} are not the same");
    let mut found = Vec::new();
    for table in names {
        let (first, second) = (TableRows::read(one, database, &table).await, TableRows::read(other, database, &table).await);
        found.extend(first.difference(&second));
    }
    (!found.is_empty()).then(|| found.join("\n"))
}
