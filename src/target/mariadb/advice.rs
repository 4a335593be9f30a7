//! What the doctor says of a database beyond the faults for which a table is refused: rights, and what people should know of.

use std::collections::BTreeMap;

use super::MariadbTarget;
use super::rights::{TO_DEFINE, TO_WRITE};
use crate::change::{TableFilter, TableName};
use crate::runtime::Finding;
use crate::target::TargetError;

/// The default of MariaDB. A row must fit one statement; XAMPP sets 1 MiB.
const PACKET_BYTES: u64 = 16 << 20;

impl MariadbTarget {
    /// Every finding, good ones too.
    pub async fn advise(&self, filter: &TableFilter) -> Result<Vec<Finding>, TargetError> {
        let tables = self.captured(filter).await?;
        let mut found = self.rights_advice(&tables).await?;
        found.extend(self.unique_advice(&tables).await?);
        found.extend(self.partition_advice(&tables).await?);
        found.push(self.event_advice(&tables).await?);
        found.push(self.packet_advice().await?);
        found.extend(self.replica_advice().await?);
        Ok(found)
    }

    async fn rights_advice(&self, tables: &[TableName]) -> Result<Vec<Finding>, TargetError> {
        let account = self.account().await?;
        let remedy = |database: &str, rights: &[&str]| {
            format!("as an administrator: GRANT {} ON `{database}`.* TO {account}", rights.join(", "))
        };
        let mut found = Vec::new();
        for (database, rights) in self.missing_rights(tables, TO_WRITE).await? {
            let what = format!("the account lacks {} on tables of {database}", rights.join(", "));
            found.push(Finding::fail("DB-WRITE", what, remedy(&database, &rights)));
        }
        if found.is_empty() {
            found.push(Finding::good("DB-WRITE", "the account may read and write every captured table"));
        }
        for (database, rights) in self.missing_rights(tables, TO_DEFINE).await? {
            let what = format!(
                "the account lacks {} on {database}, so what other nodes do to the definition of tables has to be done here by hand",
                rights.join(", ")
            );
            found.push(Finding::warn("DB-DDL", what, remedy(&database, &rights)));
        }
        Ok(found)
    }

    /// A second unique key is no fault, but what happens when two nodes give one value to two rows must not surprise.
    async fn unique_advice(&self, tables: &[TableName]) -> Result<Vec<Finding>, TargetError> {
        let sql = "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME FROM information_schema.STATISTICS
            WHERE NON_UNIQUE = 0 AND INDEX_NAME <> 'PRIMARY' AND SEQ_IN_INDEX = 1 ORDER BY 1, 2, 3";
        let mut keys: BTreeMap<TableName, Vec<String>> = BTreeMap::new();
        for (database, table, key) in self.typed::<(String, String, String)>(sql).await? {
            let table = TableName::new(&database, &table);
            if tables.contains(&table) {
                keys.entry(table).or_default().push(key);
            }
        }
        let note = |(table, keys): (TableName, Vec<String>)| {
            let keys = keys.join(", ");
            let what = format!(
                "{table} has further unique keys ({keys}): where two nodes give one value to two rows, the older row goes, and is kept as a conflict"
            );
            Finding::good("DB-UNIQUE", what)
        };
        Ok(keys.into_iter().map(note).collect())
    }

    /// Statements about partitions take rows away without telling which.
    async fn partition_advice(&self, tables: &[TableName]) -> Result<Vec<Finding>, TargetError> {
        let sql = "SELECT TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLES WHERE CREATE_OPTIONS LIKE '%partitioned%' ORDER BY 1, 2";
        let partitioned: Vec<(String, String)> = self.typed(sql).await?;
        let partitioned = partitioned.into_iter().map(|(database, table)| TableName::new(&database, &table));
        let warn = |table: TableName| {
            let what =
                format!("{table} is partitioned: the rows that DROP or TRUNCATE PARTITION takes away stay on the other nodes");
            Finding::warn(
                "DB-PARTITION",
                what,
                format!("run such a statement on every node, or DELETE FROM {table} WHERE … on one"),
            )
        };
        Ok(partitioned.filter(|table| tables.contains(table)).map(warn).collect())
    }

    /// What an event writes is carried over like anything else: run on two nodes, it happens twice.
    async fn event_advice(&self, tables: &[TableName]) -> Result<Finding, TargetError> {
        const CODE: &str = "DB-EVENT";
        let running: Vec<(String,)> = self.typed("SELECT @@GLOBAL.event_scheduler").await?;
        if !running.iter().any(|(state,)| state.eq_ignore_ascii_case("ON")) {
            return Ok(Finding::good(CODE, "the event scheduler is off"));
        }
        let databases: Vec<&str> = tables.iter().map(|table| &*table.database).collect();
        let sql = "SELECT EVENT_SCHEMA, EVENT_NAME FROM information_schema.EVENTS WHERE STATUS = 'ENABLED' ORDER BY 1, 2";
        let events: Vec<(String, String)> = self.typed(sql).await?;
        let events = events.into_iter().filter(|(database, _)| databases.contains(&database.as_str()));
        let events: Vec<String> = events.map(|(database, event)| format!("`{database}`.`{event}`")).collect();
        if !events.is_empty() {
            let what = format!(
                "events run here: {}; if they run on other nodes too, what they write happens twice",
                events.join(", ")
            );
            let fix: Vec<String> = events.iter().map(|event| format!("ALTER EVENT {event} DISABLE")).collect();
            return Ok(Finding::warn(CODE, what, format!("on all nodes but one: {}", fix.join("; "))));
        }
        if self.may_see_events().await? {
            return Ok(Finding::good(CODE, "no event of a captured database is enabled"));
        }
        let remedy = "as an administrator look with SHOW EVENTS, and on all nodes but one ALTER EVENT … DISABLE each that writes captured \
            tables; SET GLOBAL event_scheduler=OFF where none is needed";
        Ok(Finding::warn(
            CODE,
            "the event scheduler runs, and the account may not see whether an event writes captured tables",
            remedy,
        ))
    }

    async fn may_see_events(&self) -> Result<bool, TargetError> {
        let sql = format!(
            "SELECT COUNT(*) FROM information_schema.USER_PRIVILEGES WHERE PRIVILEGE_TYPE = 'EVENT' AND GRANTEE = {}",
            super::preflight::ACCOUNT
        );
        let rights: Vec<(u64,)> = self.typed(&sql).await?;
        Ok(rights.iter().any(|(count,)| *count > 0))
    }

    async fn packet_advice(&self) -> Result<Finding, TargetError> {
        let sizes: Vec<(u64,)> = self.typed("SELECT @@GLOBAL.max_allowed_packet").await?;
        let bytes = sizes.first().map_or(0, |(bytes,)| *bytes);
        if bytes >= PACKET_BYTES {
            return Ok(Finding::good("DB-PACKET", format!("a row of up to {} MiB can be written", bytes >> 20)));
        }
        let what = format!("max_allowed_packet is {bytes} bytes: a larger row of another node is set aside");
        let remedy = "under [mysqld] in my.cnf (XAMPP: my.ini) set max_allowed_packet=64M, then restart the server";
        Ok(Finding::warn("DB-PACKET", what, remedy))
    }

    /// A server that follows another one by MariaDB's own replication writes those changes to its binlog only if it is told to.
    async fn replica_advice(&self) -> Result<Option<Finding>, TargetError> {
        let rows: Vec<(String, bool)> = self.typed("SELECT @@GLOBAL.gtid_slave_pos, @@GLOBAL.log_slave_updates").await?;
        let silent = rows.iter().any(|(position, logged)| !position.is_empty() && !logged);
        let remedy = "under [mysqld] in my.cnf (XAMPP: my.ini) set log_slave_updates=ON, then restart the server; if it is no replica any \
            more: RESET SLAVE ALL; SET GLOBAL gtid_strict_mode=OFF; SET GLOBAL gtid_slave_pos=''; SET GLOBAL gtid_strict_mode=ON";
        let what =
            "this server is or was a replica of another, and log_slave_updates is OFF: what it replicates is not carried over";
        Ok(silent.then(|| Finding::warn("DB-REPLICA", what, remedy)))
    }
}
