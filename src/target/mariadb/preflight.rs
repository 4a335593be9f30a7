//! Tables that cannot be kept in step, found before any work starts.
//!
//! What a table's triggers do when it is written was done at the origin already and comes as changes of its own: doing it
//! again here would not end in the same rows, so each must ask whether the write is ours. Foreign keys are the applier's: see decision 11.

use std::collections::{BTreeMap, BTreeSet};

use mysql_async::prelude::FromRow;

use super::MariadbTarget;
use super::rights::covers;
use super::session::APPLYING;
use crate::change::{TableFilter, TableName};
use crate::runtime::Finding;
use crate::target::TargetError;

/// Why a captured table cannot be synced as it is.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TableFault {
    pub table: TableName,
    pub reason: String,
    pub remedy: String,
}

/// A unique key, as far as it matters here.
struct UniqueKey {
    name: String,
    /// It counts only a part of a column.
    prefix: bool,
    /// It has a column that may be NULL, so any number of rows may be alike; or it is over more than an index holds, so that no row can be
    /// found by it.
    loose: bool,
}

impl UniqueKey {
    /// Whether it could be the primary key.
    fn tells_apart(&self) -> bool {
        !self.prefix && !self.loose
    }
}

const TASK: &str = "looking at the tables";
/// Our account as the tables of privileges write it.
pub(super) const ACCOUNT: &str =
    "CONCAT('''', SUBSTRING_INDEX(CURRENT_USER(), '@', 1), '''@''', SUBSTRING_INDEX(CURRENT_USER(), '@', -1), '''')";
/// Every foreign key: its table, and the one that it refers to.
const REFERENCES: &str = "SELECT TABLE_SCHEMA, TABLE_NAME, CONCAT(REFERENCED_TABLE_SCHEMA, '.', REFERENCED_TABLE_NAME)
    FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL";
/// Databases that are never captured.
const OTHERS: &str = "('mysql', 'information_schema', 'performance_schema', 'sys', 'tandem')";

impl MariadbTarget {
    /// The captured tables that exist now.
    pub async fn captured(&self, filter: &TableFilter) -> Result<Vec<TableName>, TargetError> {
        Ok(self.kinds(filter).await?.into_keys().collect())
    }

    /// Foreign keys of the captured tables: each with a table that it refers to.
    pub async fn references(&self, filter: &TableFilter) -> Result<Vec<(TableName, TableName)>, TargetError> {
        let sql = format!(
            "SELECT DISTINCT TABLE_SCHEMA, TABLE_NAME, REFERENCED_TABLE_SCHEMA, REFERENCED_TABLE_NAME
             FROM information_schema.KEY_COLUMN_USAGE WHERE REFERENCED_TABLE_NAME IS NOT NULL AND TABLE_SCHEMA NOT IN {OTHERS}"
        );
        let rows: Vec<(String, String, String, String)> = self.typed(&sql).await?;
        let pairs = rows.into_iter().map(|(database, table, other_database, other)| {
            (TableName::new(&database, &table), TableName::new(&other_database, &other))
        });
        Ok(pairs.filter(|(from, to)| filter.captures(from) && filter.captures(to)).collect())
    }

    /// All faults of the captured tables, in the order of their names.
    pub async fn table_faults(&self, filter: &TableFilter) -> Result<Vec<TableFault>, TargetError> {
        let mut faults = BTreeSet::new();
        let mut keyless: BTreeSet<&TableName> = BTreeSet::new();
        let tables = self.kinds(filter).await?;
        let keys = self.unique_keys().await?;
        for (table, (kind, engine)) in &tables {
            let mut fault = |reason: String, remedy: String| faults.insert(TableFault { table: table.clone(), reason, remedy });
            let exclude = format!("or exclude it: exclude = [\"{table}\"] under [tables]");
            match kind.as_str() {
                "SYSTEM VERSIONED" => {
                    fault("it is system-versioned".into(), format!("ALTER TABLE {table} DROP SYSTEM VERSIONING, {exclude}"));
                }
                "SEQUENCE" => {
                    fault("it is a sequence, and each node must give numbers of its own".into(), exclude);
                    continue;
                }
                _ => {}
            }
            if engine != "InnoDB" {
                let reason = format!("its engine is {engine}, which has no transactions and row locks");
                fault(reason, format!("ALTER TABLE {table} ENGINE=InnoDB, {exclude}"));
            }
            let own = keys.get(table).map_or(&[][..], Vec::as_slice);
            let usable = own.iter().find(|key| key.tells_apart());
            if let Some(key) = usable.filter(|_| !own.iter().any(|key| key.name == "PRIMARY")) {
                let reason = format!("its rows are told apart by the unique key `{}`, and not by a primary key", key.name);
                let remedy = format!(
                    "make it the primary key: ALTER TABLE {table} DROP KEY `{}`, ADD PRIMARY KEY (…), {exclude}",
                    key.name
                );
                fault(reason, remedy);
            }
            for key in own.iter().filter(|key| key.prefix) {
                let reason = format!("its unique key `{}` counts only the first characters of a column", key.name);
                fault(reason, format!("make the key of whole columns, {exclude}"));
            }
            keyless.extend(usable.is_none().then_some(table));
        }
        for (table, parent) in self.named(REFERENCES).await? {
            let parent_table = TableName::parse(&parent);
            let remedy = |table| {
                format!("ALTER TABLE {table} ADD PRIMARY KEY (…), or exclude it: exclude = [\"{table}\"] under [tables]")
            };
            if keyless.contains(&table) {
                let reason = format!("it has no primary key, and a foreign key that refers to {parent}");
                faults.insert(TableFault { remedy: remedy(&table), table: table.clone(), reason });
            }
            if let Some(parent) = parent_table.filter(|parent| keyless.contains(parent)) {
                let reason = format!("it has no primary key, and {table} refers to it by a foreign key");
                faults.insert(TableFault { remedy: remedy(&parent), table: parent, reason });
            }
        }
        let unguarded = format!(
            "SELECT EVENT_OBJECT_SCHEMA, EVENT_OBJECT_TABLE, TRIGGER_NAME FROM information_schema.TRIGGERS
             WHERE LOCATE('{APPLYING}', ACTION_STATEMENT) = 0"
        );
        for (table, trigger) in self.named(&unguarded).await? {
            if tables.contains_key(&table) {
                let reason = format!("its trigger `{trigger}` would run again for every change that arrives");
                let remedy = format!(
                    "let it do nothing there: IF {APPLYING} IS NULL THEN … END IF around its body; or drop it, or exclude the \
                     table: exclude = [\"{table}\"] under [tables]"
                );
                faults.insert(TableFault { table, reason, remedy });
            }
        }
        let forbidding = "SELECT UNIQUE_CONSTRAINT_SCHEMA, REFERENCED_TABLE_NAME, CONCAT(CONSTRAINT_SCHEMA, '.', TABLE_NAME)
            FROM information_schema.REFERENTIAL_CONSTRAINTS
            WHERE DELETE_RULE IN ('RESTRICT', 'NO ACTION') OR UPDATE_RULE IN ('RESTRICT', 'NO ACTION')";
        for (table, child) in self.named(forbidding).await? {
            // No topic tells who wrote such a row, so nobody would answer for it: see decision 11.
            let is_captured = TableName::parse(&child).is_none_or(|child| tables.contains_key(&child));
            if tables.contains_key(&table) && !is_captured {
                let reason =
                    format!("{child}, which is not captured, refers to it, and a delete that arrives would not ask it");
                let remedy = format!(
                    "capture {child} too, drop its foreign key or make it ON DELETE CASCADE (or SET NULL) ON UPDATE CASCADE, or \
                     exclude {table} as well"
                );
                faults.insert(TableFault { table, reason, remedy });
            }
        }
        let account = self.account().await?;
        let databases: BTreeSet<&str> = tables.keys().map(|table| &*table.database).collect();
        let seen = self.triggers_seen_in().await?;
        for database in databases.into_iter().filter(|database| !seen.iter().any(|seen| covers(seen, database))) {
            faults.insert(TableFault {
                table: TableName::new(database, "*"),
                reason: "the account may not see triggers, so a table with one would not be noticed".into(),
                remedy: format!("as an administrator: GRANT TRIGGER ON `{database}`.* TO {account}"),
            });
        }
        Ok(faults.into_iter().collect())
    }

    /// The captured tables and our rights looked over: every finding, good ones too.
    pub async fn examine(&self, filter: &TableFilter) -> Result<Vec<Finding>, TargetError> {
        let tables = self.captured(filter).await?;
        let faults = self.table_faults(filter).await?;
        let fault =
            |fault: &TableFault| Finding::fail("DB-TABLE", format!("{}: {}", fault.table, fault.reason), fault.remedy.clone());
        let mut found: Vec<Finding> = faults.iter().map(fault).collect();
        if tables.is_empty() {
            let remedy = "create them, or name others with `include` under [tables]";
            found.push(Finding::fail("DB-TABLE", "there is no table to sync, or the account may see none", remedy));
        } else if faults.is_empty() {
            found.push(Finding::good("DB-TABLE", format!("every captured table can be synced ({})", tables.len())));
        }
        for (table, rows) in self.keyless(filter).await? {
            let what = format!(
                "{table} has no primary key: its rows are carried one at a time, each update or delete that arrives reads the \
                 whole table (about {rows} rows now), and what two nodes do to one row at once is set aside, not settled"
            );
            found.push(Finding::warn("DB-KEY", what, format!("on every node: ALTER TABLE {table} ADD PRIMARY KEY (…)")));
        }
        for (table, parent) in self.named(REFERENCES).await? {
            let is_captured = TableName::parse(&parent).is_none_or(|parent| tables.contains(&parent));
            if tables.contains(&table) && !is_captured {
                let what =
                    format!("{table} refers to {parent}, which is not captured: a row may arrive without the one it refers to");
                found.push(Finding::warn("DB-REFERENCE", what, "capture both tables, or neither"));
            }
        }
        found.push(match self.may_write_own().await? {
            true => Finding::good("DB-OWN", "the account may keep the database `tandem`"),
            false => Finding::fail(
                "DB-OWN",
                "the account may not keep the database `tandem`, where the checkpoints are",
                format!("as an administrator: GRANT ALL ON tandem.* TO {}", self.account().await?),
            ),
        });
        Ok(found)
    }

    /// The captured tables in which nothing but the whole row tells one from others, and about how many rows each has.
    pub async fn keyless(&self, filter: &TableFilter) -> Result<Vec<(TableName, u64)>, TargetError> {
        let keys = self.unique_keys().await?;
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, COALESCE(TABLE_ROWS, 0) FROM information_schema.TABLES
             WHERE TABLE_TYPE IN ('BASE TABLE', 'SYSTEM VERSIONED') AND TABLE_SCHEMA NOT IN {OTHERS} ORDER BY 1, 2"
        );
        let rows: Vec<(String, String, u64)> = self.typed(&sql).await?;
        let tables = rows.into_iter().map(|(database, table, rows)| (TableName::new(&database, &table), rows));
        let usable = |table: &TableName| keys.get(table).into_iter().flatten().any(UniqueKey::tells_apart);
        Ok(tables.filter(|(table, _)| filter.captures(table) && !usable(table)).collect())
    }

    /// Whether the account may make tables of our own and write them.
    async fn may_write_own(&self) -> Result<bool, TargetError> {
        let sql = format!(
            "SELECT PRIVILEGE_TYPE FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {ACCOUNT}
             UNION SELECT PRIVILEGE_TYPE FROM information_schema.SCHEMA_PRIVILEGES
             WHERE GRANTEE = {ACCOUNT} AND TABLE_SCHEMA = 'tandem'"
        );
        let rights: BTreeSet<String> = self.typed::<(String,)>(&sql).await?.into_iter().map(|(right,)| right).collect();
        Ok(["CREATE", "SELECT", "INSERT", "UPDATE", "DELETE"].iter().all(|right| rights.contains(*right)))
    }

    /// Per captured table: its kind and its engine.
    async fn kinds(&self, filter: &TableFilter) -> Result<BTreeMap<TableName, (String, String)>, TargetError> {
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, TABLE_TYPE, COALESCE(ENGINE, 'unknown') FROM information_schema.TABLES
             WHERE TABLE_TYPE NOT IN ('VIEW', 'SYSTEM VIEW', 'TEMPORARY') AND TABLE_SCHEMA NOT IN {OTHERS}"
        );
        let rows: Vec<(String, String, String, String)> = self.typed(&sql).await?;
        let tables =
            rows.into_iter().map(|(database, table, kind, engine)| (TableName::new(&database, &table), (kind, engine)));
        Ok(tables.filter(|(table, _)| filter.captures(table)).collect())
    }

    /// Per table: its unique keys, the primary key among them.
    async fn unique_keys(&self) -> Result<BTreeMap<TableName, Vec<UniqueKey>>, TargetError> {
        let sql = format!(
            "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, MAX(SUB_PART) IS NOT NULL, MAX(NULLABLE = 'YES' OR INDEX_TYPE = 'HASH')
             FROM information_schema.STATISTICS
             WHERE NON_UNIQUE = 0 AND TABLE_SCHEMA NOT IN {OTHERS} GROUP BY TABLE_SCHEMA, TABLE_NAME, INDEX_NAME"
        );
        let mut keys: BTreeMap<TableName, Vec<UniqueKey>> = BTreeMap::new();
        for (database, table, name, prefix, loose) in self.typed::<(String, String, String, bool, bool)>(&sql).await? {
            keys.entry(TableName::new(&database, &table)).or_default().push(UniqueKey { name, prefix, loose });
        }
        Ok(keys)
    }

    /// Tables, each with the name of something about it.
    async fn named(&self, sql: &str) -> Result<Vec<(TableName, String)>, TargetError> {
        let rows: Vec<(String, String, String)> = self.typed(sql).await?;
        Ok(rows.into_iter().map(|(database, table, name)| (TableName::new(&database, &table), name)).collect())
    }

    /// The server shows triggers only to those who may make them: patterns of databases where we may.
    async fn triggers_seen_in(&self) -> Result<Vec<String>, TargetError> {
        let sql = format!(
            "SELECT '%' FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'TRIGGER' AND GRANTEE = {ACCOUNT}
             UNION SELECT TABLE_SCHEMA FROM information_schema.SCHEMA_PRIVILEGES
             WHERE PRIVILEGE_TYPE = 'TRIGGER' AND GRANTEE = {ACCOUNT}"
        );
        Ok(self.typed::<(String,)>(&sql).await?.into_iter().map(|(database,)| database).collect())
    }

    pub(super) async fn typed<T: FromRow>(&self, sql: &str) -> Result<Vec<T>, TargetError> {
        let (session, rows) = self.rows(sql.as_bytes(), TASK).await?;
        let typed: Result<Vec<T>, _> = rows.into_iter().map(mysql_async::from_row_opt).collect();
        let typed = typed.map_err(|_| session.not_understood(TASK));
        self.give_back(session);
        typed
    }
}
