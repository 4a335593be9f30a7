//! What a server must be set to before its binlog can be trusted to hold every change.

use std::collections::BTreeMap;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use super::connection;
use crate::source::SourceError;

/// Settings of a server that matter here, as it has them now.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ServerSettings {
    pub version: String,
    pub server_id: u32,
    pub row_image: String,
    /// `None` before MariaDB 10.5, which never names columns.
    pub row_metadata: Option<String>,
}

impl ServerSettings {
    /// The binlog says what the columns are called.
    pub fn names_columns(&self) -> bool {
        self.row_metadata.as_deref().is_some_and(|metadata| metadata.eq_ignore_ascii_case("FULL"))
    }

    /// What works, but less well than it could. Sentences for people.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if !self.row_image.eq_ignore_ascii_case("FULL") {
            notes.push(format!(
                "binlog_row_image is {}: columns that a statement does not touch are unknown, so conflicts show less; FULL shows all",
                self.row_image
            ));
        }
        match self.row_metadata.as_deref() {
            Some(metadata) if metadata.eq_ignore_ascii_case("FULL") => {}
            Some(metadata) => notes.push(format!(
                "binlog_row_metadata is {metadata}: after an ALTER TABLE, rows from before it can no longer be read; \
                 set it to FULL"
            )),
            None => notes.push(
                "this MariaDB cannot name columns in its binlog (10.5 and later can): after an ALTER TABLE, rows from before it \
                 can no longer be read"
                    .into(),
            ),
        }
        notes
    }
}

/// Reads the settings; an error where with them changes would be missing.
pub async fn check(conn: &mut Conn, place: &str) -> Result<ServerSettings, SourceError> {
    let names = "'version', 'log_bin', 'binlog_format', 'binlog_row_image', 'binlog_row_metadata', 'server_id'";
    let sql = format!("SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})");
    let rows: Vec<(String, String)> =
        conn.query(sql).await.map_err(|error| connection::fault(place, &conn.opts().clone(), error))?;
    judge(rows.into_iter().collect(), place)
}

fn judge(variables: BTreeMap<String, String>, place: &str) -> Result<ServerSettings, SourceError> {
    let get = |name: &str| variables.get(name).cloned().unwrap_or_default();
    let unsuited = |what: String, remedy: &str| Err(SourceError::Unsuited { what, remedy: remedy.into() });
    let version = get("version");
    if !version.contains("MariaDB") {
        return unsuited(
            format!("the server at {place} is not MariaDB but {version}"),
            "tandem reads MariaDB 10.4 and later; MySQL's binlog is a different one",
        );
    }
    if !get("log_bin").eq_ignore_ascii_case("ON") {
        return unsuited(
            format!("the server at {place} writes no binlog"),
            "under [mysqld] set log_bin=binlog, binlog_format=ROW and binlog_row_metadata=FULL, then restart it",
        );
    }
    let format = get("binlog_format");
    if !format.eq_ignore_ascii_case("ROW") {
        return unsuited(
            format!("binlog_format of the server at {place} is {format}, so many changes would not be seen"),
            "under [mysqld] set binlog_format=ROW, then restart the server, so that no session keeps the old one",
        );
    }
    Ok(ServerSettings {
        version,
        server_id: get("server_id").parse().unwrap_or_default(),
        row_image: get("binlog_row_image"),
        row_metadata: variables.get("binlog_row_metadata").cloned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn variables(changes: &[(&str, &str)]) -> BTreeMap<String, String> {
        let good = [
            ("version", "10.11.19-MariaDB-log"),
            ("log_bin", "ON"),
            ("binlog_format", "ROW"),
            ("binlog_row_image", "FULL"),
            ("binlog_row_metadata", "FULL"),
            ("server_id", "7"),
        ];
        good.iter().chain(changes).map(|(name, value)| (name.to_string(), value.to_string())).collect()
    }

    #[test]
    fn settings_with_which_changes_would_be_missing_are_refused_with_the_remedy() {
        let check = |name: &str, value: &str, expected: &str| {
            let error = judge(variables(&[(name, value)]), "db:3306").unwrap_err();
            let SourceError::Unsuited { what, remedy } = error else { panic!("{error}") };
            assert!(what.contains(expected) && !remedy.is_empty(), "{what}");
        };
        check("log_bin", "OFF", "writes no binlog");
        check("binlog_format", "MIXED", "binlog_format of the server at db:3306 is MIXED");
        check("binlog_format", "STATEMENT", "STATEMENT");
        check("version", "8.0.36", "not MariaDB");
    }

    #[test]
    fn what_works_less_well_is_noted() {
        let notes = |changes: &[(&str, &str)]| judge(variables(changes), "db").unwrap().notes();
        assert!(notes(&[]).is_empty());
        assert!(notes(&[("binlog_row_image", "MINIMAL")])[0].contains("MINIMAL"));
        assert!(notes(&[("binlog_row_metadata", "NO_LOG")])[0].contains("NO_LOG"));
        let mut old = variables(&[]);
        old.remove("binlog_row_metadata");
        assert!(judge(old, "db").unwrap().notes()[0].contains("10.5"));
    }
}
