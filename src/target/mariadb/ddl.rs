//! Statements of other nodes that define tables: run here, and kept.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::Duration;

use mysql_async::{Error, Row};

use super::fault::{About, from_driver};
use super::kept::take;
use super::session::Session;
use super::{MariadbOptions, MariadbTarget, literal};
use crate::change::ddl::{ColumnNow, Statement, Verb};
use crate::change::{Hlc, Offset, OriginId, SchemaChange, TableName, Value, wire};
use crate::target::{Defined, Parked, SchemaEntry, SchemaState, TargetError};

/// What one statement may take: a large table is copied.
const LIMIT: Duration = Duration::from_secs(7 * 86_400);

const ENTRY: &str =
    "SELECT number, origin, record_offset, gtid, hlc, commit_second, change_text, state, danger, remark, before_print,
    told FROM tandem.schema_changes";

/// What a list shows at most.
const LIST_MAX: usize = 10_000;

/// Rows elsewhere refer to the table that is to be dropped.
const REFERRED_TO: [u16; 2] = [1217, 1451];

/// The tables or columns are as the statement wants them, at least in part.
const THERE_ALREADY: [u16; 10] = [1007, 1008, 1022, 1050, 1051, 1060, 1061, 1091, 1146, 1826];

impl MariadbTarget {
    /// Statements of other nodes, the newest first, at most `limit`; or those that wait.
    pub async fn schema_list(&self, open_only: bool, limit: usize) -> Result<Vec<SchemaEntry>, TargetError> {
        let only = if open_only { "WHERE ended_at IS NULL" } else { "" };
        let sql = format!("{ENTRY} {only} ORDER BY number DESC LIMIT {}", limit.min(LIST_MAX));
        self.read(sql.as_bytes(), "listing the schema changes", entry).await
    }

    pub(super) async fn open_entries(&self) -> Result<Vec<SchemaEntry>, TargetError> {
        let sql = format!("{ENTRY} WHERE ended_at IS NULL ORDER BY number");
        self.read(sql.as_bytes(), "reading the schema changes", entry).await
    }

    /// What a person decided about one that waits. False where it does not.
    pub async fn decide_schema(&self, number: u64, decided: SchemaState) -> Result<bool, TargetError> {
        let mut sql = b"UPDATE tandem.schema_changes SET state = ".to_vec();
        literal::text(&mut sql, decided.word());
        sql.extend_from_slice(format!(" WHERE number = {number} AND state IN ('waiting', 'failed', 'approved')").as_bytes());
        let mut session = self.0.fresh().await?;
        Ok(session.run(&sql, About::Task("deciding about a schema change")).await? > 0)
    }

    /// Changes that wait, by the number of the statement that they wait behind.
    pub async fn parked_counts(&self) -> Result<BTreeMap<u64, u64>, TargetError> {
        let count = |row: &mut Row| Some((take(row, 0)?, take(row, 1)?));
        let counts =
            self.read(b"SELECT behind, COUNT(*) FROM tandem.parked GROUP BY behind", "counting what waits", count).await?;
        Ok(counts.into_iter().collect())
    }

    /// Statements that wait, and changes behind them.
    pub async fn schema_counts(&self) -> Result<(u64, u64), TargetError> {
        let open = b"SELECT COUNT(*) FROM tandem.schema_changes WHERE ended_at IS NULL AND state <> 'running'";
        let open = self.read(open, "counting what waits", |row| take(row, 0)).await?;
        Ok((open.first().copied().unwrap_or(0), self.parked_counts().await?.values().sum()))
    }

    pub(super) async fn parked_behind(&self, behind: u64, most: usize) -> Result<Vec<Parked>, TargetError> {
        let sql =
            format!("SELECT id, record_offset, record FROM tandem.parked WHERE behind = {behind} ORDER BY id LIMIT {most}");
        let parked = |row: &mut Row| {
            let record = wire::record_of_text(&take::<String>(row, 2)?)?;
            Some(Parked { id: take(row, 0)?, offset: Offset(take(row, 1)?), record })
        };
        self.read(sql.as_bytes(), "reading the changes that wait", parked).await
    }

    pub(super) async fn keep_entry(&self, entry: &SchemaEntry) -> Result<u64, TargetError> {
        let mut session = self.0.fresh().await?;
        keep(&mut session, entry).await
    }

    pub(super) async fn forget_known(&self, table: &TableName, columns: &[String]) -> Result<(), TargetError> {
        let mut sql = b"DELETE FROM tandem.known_columns WHERE database_name = ".to_vec();
        literal::text(&mut sql, &table.database);
        sql.extend_from_slice(b" AND table_name = ");
        literal::text(&mut sql, &table.table);
        sql.extend_from_slice(b" AND LOWER(column_name) IN (");
        literal::list(&mut sql, columns, |sql, name| literal::text(sql, &name.to_lowercase()));
        sql.push(b')');
        let mut session = self.0.fresh().await?;
        session.run(&sql, About::Task("noting that columns have other names")).await?;
        self.0.schemas.forget(table);
        Ok(())
    }

    pub(super) async fn columns_of(&self, table: &TableName) -> Result<Vec<(String, ColumnNow)>, TargetError> {
        let mut sql =
            b"SELECT c.COLUMN_NAME, c.COLUMN_TYPE, c.IS_NULLABLE = 'YES', COALESCE(c.COLLATION_NAME = t.TABLE_COLLATION, 1)
            FROM information_schema.COLUMNS c
            JOIN information_schema.TABLES t ON t.TABLE_SCHEMA = c.TABLE_SCHEMA AND t.TABLE_NAME = c.TABLE_NAME
            WHERE c.TABLE_SCHEMA = "
                .to_vec();
        literal::text(&mut sql, &table.database);
        sql.extend_from_slice(b" AND c.TABLE_NAME = ");
        literal::text(&mut sql, &table.table);
        let column = |row: &mut Row| {
            let now = ColumnNow { column_type: take(row, 1)?, nullable: take(row, 2)?, plain: take(row, 3)? };
            Some((take(row, 0)?, now))
        };
        self.read(&sql, "reading the columns of a table", column).await
    }

    /// The statement that makes a table as it is, without its database.
    pub async fn definition(&self, table: &TableName) -> Result<String, TargetError> {
        let task = "reading the definition of a table";
        let mut sql = b"SHOW CREATE TABLE ".to_vec();
        literal::table(&mut sql, table);
        let definitions = self.read(&sql, task, |row| take(row, 1)).await?;
        definitions
            .into_iter()
            .next()
            .ok_or_else(|| TargetError::Unwritable { table: table.clone(), reason: "the table does not exist here".into() })
    }

    /// `-` for a table that is not there.
    pub(super) async fn prints_of(&self, change: &SchemaChange) -> Result<String, TargetError> {
        let about = About::Task("reading the definition of a table");
        let mut session = self.0.fresh().await?;
        let mut words = Vec::new();
        let named = change.tables.iter().map(|named| ("TABLE", Some(named.db.as_str()), named.table.as_str()));
        for (kind, database, name) in named.chain(change.whole.as_deref().map(|name| ("DATABASE", None, name))) {
            let mut sql = format!("SHOW CREATE {kind} ").into_bytes();
            if let Some(database) = database {
                literal::identifier(&mut sql, database);
                sql.push(b'.');
            }
            literal::identifier(&mut sql, name);
            words.push(match session.answer(&sql).await? {
                Ok(row) => row.and_then(|mut row| take::<String>(&mut row, 1)).map(|text| print(&text)).unwrap_or_default(),
                Err(Error::Server(error)) if matches!(error.code, 1146 | 1049 | 1932) => "-".into(),
                Err(error) => return Err(from_driver(&error, session.place(), about)),
            });
        }
        Ok(words.join(" "))
    }

    pub(super) async fn run_definition(&self, change: &SchemaChange, stamp: &str, second: u64) -> Result<Defined, TargetError> {
        let Some(statement) = change.parse() else {
            return Ok(Defined::Refused("this version of tandem does not know such a statement".into()));
        };
        let named = change.tables.iter().map(|named| named.db.as_str()).chain(change.whole.as_deref());
        let system = statement.tables.iter().map(|table| &*table.database).chain(statement.database.as_deref()).chain(named);
        if let Some(name) = system.into_iter().find(|name| is_system(name)) {
            return Ok(Defined::Refused(format!("it is about the database `{name}`, which is this server's own")));
        }
        let options = MariadbOptions { statement_limit: LIMIT, ..self.0.options.clone() };
        let mut session = Session::connect(&options).await?;
        super::own_tables::note_columns(&mut session).await?;
        if let Some(refused) = as_at_its_origin(&mut session, change, &statement, second).await? {
            return Ok(refused);
        }
        if !change.database.is_empty()
            && !self.use_database(&mut session, &change.database).await?
            && statement.database.is_none()
        {
            return Ok(Defined::Refused(format!("the database `{}` does not exist here", change.database)));
        }
        let outcome = match statement.verb {
            Verb::DropTable => drop_each(&mut session, change, stamp).await,
            _ => run_stamped(&mut session, change, &statement, stamp).await,
        };
        self.forget_tables();
        outcome
    }

    async fn use_database(&self, session: &mut Session, name: &str) -> Result<bool, TargetError> {
        let mut sql = b"USE ".to_vec();
        literal::identifier(&mut sql, name);
        match session.answer(&sql).await? {
            Ok(_) => Ok(true),
            Err(Error::Server(error)) if error.code == 1049 => Ok(false),
            Err(error) => Err(from_driver(&error, session.place(), About::Task("choosing a database"))),
        }
    }
}

/// Sets the session as that of the origin was. Times that the server fills in are those of the origin, and rows that are numbered get
/// the origin's numbers.
async fn as_at_its_origin(
    session: &mut Session,
    change: &SchemaChange,
    statement: &Statement,
    second: u64,
) -> Result<Option<Defined>, TargetError> {
    let task = About::Task("preparing to run a statement of another node");
    let own = &change.session;
    let (increment, offset) = own.auto_increment.unwrap_or((1, 1));
    // Of an older server nobody knows; here it is as most have it.
    let explicit_timestamps = own.explicit_timestamps.map_or("DEFAULT", |on| if on { "ON" } else { "OFF" });
    let settings = format!(
        "SET SESSION sql_mode={}, foreign_key_checks={}, timestamp={second}, \
         explicit_defaults_for_timestamp={explicit_timestamps}, auto_increment_increment={increment}, auto_increment_offset={offset}",
        own.sql_mode,
        u8::from(!own.foreign_keys_off)
    );
    session.run(settings.as_bytes(), task).await?;
    if let Some(zone) = &own.time_zone {
        let mut sql = b"SET SESSION time_zone=".to_vec();
        literal::text(&mut sql, zone);
        if let Err(error) = session.answer(&sql).await? {
            let Error::Server(_) = &error else { return Err(from_driver(&error, session.place(), task)) };
            let reason =
                format!("its session had the time zone `{zone}`, which is not known here: load the server's time zone tables");
            return Ok(Some(Defined::Refused(reason)));
        }
    }
    if let Some((connection, server)) = own.collations {
        let sql = format!("SET SESSION collation_connection={connection}, collation_server={server}");
        if let Err(error) = session.answer(sql.as_bytes()).await? {
            let Error::Server(_) = &error else { return Err(from_driver(&error, session.place(), task)) };
            // A database without a collation of its own gets the server's; all else names what it needs, or has its database's.
            if matches!(statement.verb, Verb::CreateDatabase | Verb::AlterDatabase) {
                let reason =
                    "its server's collation is not known here: give the database a character set and collation by name";
                return Ok(Some(Defined::Refused(reason.into())));
            }
        }
    }
    Ok(None)
}

/// Columns that the table has or had here, in lower case.
pub(super) async fn known_columns(session: &mut Session, table: &TableName) -> Result<BTreeSet<String>, TargetError> {
    let task = "reading which columns a table had";
    let mut sql = b"SELECT LOWER(column_name) FROM tandem.known_columns WHERE database_name = ".to_vec();
    literal::text(&mut sql, &table.database);
    sql.extend_from_slice(b" AND table_name = ");
    literal::text(&mut sql, &table.table);
    let rows = session.rows(&sql, task).await?;
    let names: Option<BTreeSet<String>> = rows.into_iter().map(|row| mysql_async::from_row_opt(row).ok()).collect();
    names.ok_or_else(|| session.not_understood(task))
}

/// Whether somebody said that a statement about the table is to be left out: then its rows go by the columns that are here.
pub(super) async fn is_left_as_it_is(session: &mut Session, table: &TableName) -> Result<bool, TargetError> {
    let task = "reading which statements were left out";
    let sql = b"SELECT change_text FROM tandem.schema_changes WHERE state IN ('ignored', 'skipped', 'draining_skipped')";
    let texts: Vec<Row> = session.rows(sql, task).await?;
    let changes = texts.into_iter().filter_map(|row| {
        let text: String = mysql_async::from_row_opt(row).ok()?;
        serde_json::from_str::<SchemaChange>(&text).ok()
    });
    Ok(changes.into_iter().any(|change| change.touches(table)))
}

/// Each captured table by itself, so that it can be done again from the middle. The server keeps a comment at this place.
async fn drop_each(session: &mut Session, change: &SchemaChange, stamp: &str) -> Result<Defined, TargetError> {
    let mut left: Vec<_> = change.tables.iter().collect();
    loop {
        let mut kept = Vec::new();
        let mut reason = None;
        for named in &left {
            let mut sql = format!("DROP TABLE IF EXISTS {stamp} ").into_bytes();
            literal::table(&mut sql, &named.name());
            match session.answer(&sql).await? {
                Ok(_) => {}
                // Another of them may refer to it, and goes after it.
                Err(Error::Server(error)) if REFERRED_TO.contains(&error.code) => {
                    kept.push(*named);
                    reason = Some(refused(session, &Error::Server(error))?);
                }
                Err(error) => return refused(session, &error),
            }
        }
        match reason {
            None => return Ok(Defined::Done),
            Some(reason) if kept.len() == left.len() => return Ok(reason),
            Some(_) => left = kept,
        }
    }
}

async fn run_stamped(
    session: &mut Session,
    change: &SchemaChange,
    statement: &Statement,
    stamp: &str,
) -> Result<Defined, TargetError> {
    let Err(error) = session.answer(format!("{stamp} {}", change.statement).as_bytes()).await? else {
        return Ok(Defined::Done);
    };
    let there = matches!(&error, Error::Server(error) if THERE_ALREADY.contains(&error.code));
    if let Some(tolerant) = statement.tolerant(&change.statement).filter(|_| there) {
        return match session.answer(format!("{stamp} {tolerant}").as_bytes()).await? {
            Ok(_) => Ok(Defined::AlreadyInPart),
            Err(error) => refused(session, &error),
        };
    }
    if there && statement.verb == Verb::RenameTable && is_renamed(session, statement).await? {
        return Ok(Defined::AlreadyInPart);
    }
    refused(session, &error)
}

/// None of the old names is there, and all of the new ones are.
async fn is_renamed(session: &mut Session, statement: &Statement) -> Result<bool, TargetError> {
    for (number, table) in statement.tables.iter().enumerate() {
        let mut sql = b"SELECT 1 FROM ".to_vec();
        literal::table(&mut sql, table);
        sql.extend_from_slice(b" LIMIT 0");
        let exists = session.answer(&sql).await?.is_ok();
        if exists != (number % 2 == 1) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn refused(session: &Session, error: &Error) -> Result<Defined, TargetError> {
    let Error::Server(server) = error else {
        return Err(from_driver(error, session.place(), About::Task("running a statement of another node")));
    };
    // The server's words can quote values of rows.
    let reason = match server.code {
        1213 | 1205 | 1317 | 1969 | 1021 | 1114 | 1040 | 1203 | 1226 | 1053 | 1077 | 1079 | 1158..=1161 | 1927 | 2006 | 2013 => {
            return Err(from_driver(error, session.place(), About::Task("running a statement of another node")));
        }
        1044 | 1142 | 1227 | 1370 | 1410 => {
            "the account may not; as an administrator: GRANT CREATE, ALTER, DROP, INDEX, REFERENCES on its databases to the account"
                .to_owned()
        }
        1062 | 1586 => "rows here share a value that it wants to be unique".into(),
        1452 | 1216 | 1217 | 1451 => "rows here refer to others that are not here, or are referred to".into(),
        1005 | 1215 | 1822 | 1824 => "its foreign key does not fit the tables here".into(),
        1265 | 1264 | 1366 | 1292 | 1406 | 1138 => "values here do not fit what it makes of a column".into(),
        1146 | 1051 => "a table that it names does not exist here".into(),
        1049 => "the database does not exist here".into(),
        1054 | 1072 | 1091 => "a column or key that it names does not exist here".into(),
        1050 => "a table of that name is here already".into(),
        1060 | 1061 | 1826 => "a column or key of that name is here already".into(),
        1701 | 1829 | 1834 | 1553 => "a foreign key needs what it removes".into(),
        code => format!("the server refuses it with error {code} ({})", server.state),
    };
    Ok(Defined::Refused(reason))
}

fn is_system(database: &str) -> bool {
    ["mysql", "information_schema", "performance_schema", "sys", crate::change::OWN_DATABASE]
        .iter()
        .any(|name| name.eq_ignore_ascii_case(database))
}

/// Without the counter, which moves with every row.
fn print(definition: &str) -> String {
    let mut hasher = DefaultHasher::new();
    for part in definition.split(' ').filter(|part| !part.starts_with("AUTO_INCREMENT=")) {
        part.hash(&mut hasher);
    }
    format!("{:016x}", hasher.finish())
}

/// Writes an entry, in its place where it is kept already, and tells its number.
pub(super) async fn keep(session: &mut Session, entry: &SchemaEntry) -> Result<u64, TargetError> {
    const COLUMNS: [&str; 11] = [
        "origin",
        "record_offset",
        "gtid",
        "hlc",
        "commit_second",
        "change_text",
        "state",
        "danger",
        "remark",
        "before_print",
        "told",
    ];
    let task = "keeping a schema change";
    let optional = |text: &Option<String>| text.as_deref().map_or(Value::Null, Value::text);
    let values = [
        Value::text(entry.origin.as_str()),
        Value::unsigned(entry.offset.0),
        Value::text(entry.gtid.to_string()),
        Value::unsigned(entry.hlc.0),
        Value::unsigned(entry.commit_second),
        Value::text(serde_json::to_string(&entry.change).expect("texts and numbers are JSON")),
        Value::text(entry.state.word()),
        optional(&entry.danger),
        optional(&entry.remark),
        optional(&entry.before),
        Value::text(serde_json::to_string(&entry.told).expect("names and numbers are JSON")),
    ];
    let ended: &[u8] = if entry.state.is_open() { b"NULL" } else { b"NOW(6)" };
    if entry.number > 0 {
        let mut sql = b"UPDATE tandem.schema_changes SET ended_at = ".to_vec();
        sql.extend_from_slice(ended);
        for (name, value) in COLUMNS.iter().zip(&values).skip(6) {
            sql.extend_from_slice(format!(", {name} = ").as_bytes());
            literal::value(&mut sql, value.as_ref());
        }
        sql.extend_from_slice(format!(" WHERE number = {}", entry.number).as_bytes());
        session.run(&sql, About::Task(task)).await?;
        return Ok(entry.number);
    }
    let mut sql = b"INSERT INTO tandem.schema_changes (ended_at, ".to_vec();
    literal::list(&mut sql, COLUMNS, |sql, name| sql.extend_from_slice(name.as_bytes()));
    sql.extend_from_slice(b") VALUES (");
    sql.extend_from_slice(ended);
    sql.push(b',');
    literal::list(&mut sql, &values, |sql, value| literal::value(sql, value.as_ref()));
    // The answer to an earlier attempt may have been lost.
    sql.extend_from_slice(b") ON DUPLICATE KEY UPDATE ended_at = VALUES(ended_at), ");
    literal::list(&mut sql, &COLUMNS[6..], |sql, name| sql.extend_from_slice(format!("{name} = VALUES({name})").as_bytes()));
    session.run(&sql, About::Task(task)).await?;
    let mut sql = b"SELECT number FROM tandem.schema_changes WHERE origin = ".to_vec();
    literal::text(&mut sql, entry.origin.as_str());
    sql.extend_from_slice(format!(" AND record_offset = {}", entry.offset.0).as_bytes());
    let row = session.rows(&sql, task).await?.into_iter().next();
    row.and_then(|row| mysql_async::from_row_opt(row).ok()).ok_or_else(|| session.not_understood(task))
}

fn entry(row: &mut Row) -> Option<SchemaEntry> {
    Some(SchemaEntry {
        number: take(row, 0)?,
        origin: OriginId::new(&take::<String>(row, 1)?),
        offset: Offset(take(row, 2)?),
        gtid: take::<String>(row, 3)?.parse().ok()?,
        hlc: Hlc(take(row, 4)?),
        commit_second: take(row, 5)?,
        change: serde_json::from_str(&take::<String>(row, 6)?).ok()?,
        state: SchemaState::of_word(&take::<String>(row, 7)?)?,
        danger: take(row, 8)?,
        remark: take(row, 9)?,
        before: take(row, 10)?,
        told: serde_json::from_str(&take::<String>(row, 11)?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::print;

    #[test]
    fn a_counter_that_moves_is_no_other_definition() {
        let table =
            |counter: &str, column: &str| print(&format!("CREATE TABLE `t` (\n `a` {column} ) ENGINE=InnoDB{counter} DEFAULT"));
        assert_eq!(table("", "int"), table(" AUTO_INCREMENT=7", "int"));
        assert_ne!(table("", "int"), table("", "bigint"));
    }
}
