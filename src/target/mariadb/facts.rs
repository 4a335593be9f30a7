//! What must differ between the servers of two nodes, and what must not: collected on one, compared on the other.
//!
//! The database of another laptop is seldom reached from here, so its facts travel as a file. They hold names and types, no row and
//! no secret.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::MariadbTarget;
use crate::change::{TableFilter, TableName};
use crate::runtime::Finding;
use crate::target::TargetError;

#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Facts {
    /// Name of the node.
    pub node: String,
    pub server_id: u64,
    pub gtid_domain_id: u64,
    pub auto_increment_increment: u64,
    pub auto_increment_offset: u64,
    pub lower_case_table_names: u64,
    /// Of new sessions.
    pub sql_mode: String,
    /// By database: what new tables and columns in it get.
    pub collations: BTreeMap<String, String>,
    /// By its full name.
    pub tables: BTreeMap<String, TableFacts>,
}

#[derive(Clone, Default, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TableFacts {
    /// By name: the type, with its character set and collation, and whether it is computed or may be NULL.
    pub columns: BTreeMap<String, String>,
    /// By name: columns of the unique keys, the primary key among them.
    pub unique: BTreeMap<String, String>,
}

impl MariadbTarget {
    pub async fn facts(&self, node: &str, filter: &TableFilter) -> Result<Facts, TargetError> {
        let sql = "SELECT @@GLOBAL.server_id, @@GLOBAL.gtid_domain_id, @@GLOBAL.auto_increment_increment,
            @@GLOBAL.auto_increment_offset, @@GLOBAL.lower_case_table_names";
        let settings: Vec<(u64, u64, u64, u64, u64)> = self.typed(sql).await?;
        let settings = settings.first().copied().unwrap_or_default();
        let captured: BTreeSet<TableName> = self.captured(filter).await?.into_iter().collect();
        let mut tables: BTreeMap<String, TableFacts> = BTreeMap::new();
        let columns = "SELECT TABLE_SCHEMA, TABLE_NAME, COLUMN_NAME, CONCAT_WS(' ', COLUMN_TYPE, COLLATION_NAME,
                IF(IS_NULLABLE = 'NO', 'NOT NULL', NULL), IF(EXTRA LIKE '%GENERATED%', 'GENERATED', NULL))
            FROM information_schema.COLUMNS";
        let keys = "SELECT TABLE_SCHEMA, TABLE_NAME, INDEX_NAME, GROUP_CONCAT(COLUMN_NAME ORDER BY SEQ_IN_INDEX SEPARATOR ', ')
            FROM information_schema.STATISTICS WHERE NON_UNIQUE = 0 GROUP BY 1, 2, 3";
        for (sql, is_column) in [(columns, true), (keys, false)] {
            for (database, table, name, what) in self.typed::<(String, String, String, String)>(sql).await? {
                let table = TableName::new(&database, &table);
                if captured.contains(&table) {
                    let facts = tables.entry(table.to_string()).or_default();
                    let list = if is_column { &mut facts.columns } else { &mut facts.unique };
                    list.insert(name, what);
                }
            }
        }
        let databases: BTreeSet<&str> = captured.iter().map(|table| &*table.database).collect();
        let sql = "SELECT SCHEMA_NAME, DEFAULT_COLLATION_NAME FROM information_schema.SCHEMATA";
        let collations: Vec<(String, String)> = self.typed(sql).await?;
        let collations = collations.into_iter().filter(|(database, _)| databases.contains(database.as_str())).collect();
        let modes: Vec<(String,)> = self.typed("SELECT @@GLOBAL.sql_mode").await?;
        let sql_mode = modes.into_iter().next().map(|(mode,)| mode).unwrap_or_default();
        let (server_id, gtid_domain_id, auto_increment_increment, auto_increment_offset, lower_case_table_names) = settings;
        Ok(Facts {
            node: node.to_owned(),
            server_id,
            gtid_domain_id,
            auto_increment_increment,
            auto_increment_offset,
            lower_case_table_names,
            sql_mode,
            collations,
            tables,
        })
    }
}

impl Facts {
    /// This node's facts beside another's: every finding, good ones too.
    pub fn compare(&self, other: &Self) -> Vec<Finding> {
        let there = &other.node;
        let mut found = Vec::new();
        let set = |line: String| {
            format!("on one of them, under [mysqld] in my.cnf (XAMPP: my.ini) set {line}, then restart the server")
        };
        let mut equal = |code, name: &str, own: u64, theirs: u64, why: &str| match own == theirs {
            true => {
                let what = format!("{name} is {own} here and on {there}{why}");
                // The next one may be a third node's, which is then found beside that one.
                found.push(Finding::fail(code, what, set(format!("{name}={}", own + 1))));
            }
            false => found.push(Finding::good(code, format!("{name} is {own} here and {theirs} on {there}"))),
        };
        equal("NODES-SERVERID", "server_id", self.server_id, other.server_id, ", so their transactions have the same names");
        equal(
            "NODES-DOMAIN",
            "gtid_domain_id",
            self.gtid_domain_id,
            other.gtid_domain_id,
            ", so one history seems to be theirs",
        );
        found.push(self.ids(other, &set));
        if self.lower_case_table_names != other.lower_case_table_names {
            let what = format!(
                "lower_case_table_names is {} here and {} on {there}: names of tables that differ in case only are one table on one of them",
                self.lower_case_table_names, other.lower_case_table_names
            );
            found.push(Finding::warn(
                "NODES-CASE",
                what,
                "write all names of databases and tables in small letters, on every node",
            ));
        }
        found.extend(self.taste(other, &set));
        let before = found.len();
        found.extend(self.schema(other));
        if found.len() == before {
            found.push(Finding::good("NODES-SCHEMA", format!("the captured tables are defined alike here and on {there}")));
        }
        found
    }

    fn ids(&self, other: &Self, set: &dyn Fn(String) -> String) -> Finding {
        let there = &other.node;
        let (step, first) = (self.auto_increment_increment, self.auto_increment_offset);
        let (their_step, their_first) = (other.auto_increment_increment, other.auto_increment_offset);
        if step != their_step {
            let what = format!(
                "auto_increment_increment is {step} here and {their_step} on {there}, so new rows get the same ids now and then"
            );
            return Finding::fail(
                "NODES-AUTOINC",
                what,
                set(format!("auto_increment_increment={}", step.max(their_step).max(10))),
            );
        }
        if first == their_first {
            let what = format!("auto_increment_offset is {first} here and on {there}, so new rows get the same ids");
            let free = (1..=step).find(|number| *number != first).unwrap_or(2);
            let increment = if step < 2 { "auto_increment_increment=10 on both and " } else { "" };
            return Finding::fail("NODES-AUTOINC", what, set(format!("{increment}auto_increment_offset={free}")));
        }
        Finding::good(
            "NODES-AUTOINC",
            format!("new ids begin with {first} here and {their_first} on {there}, in steps of {step}"),
        )
    }

    /// What makes the same statement of an application do something else there.
    fn taste(&self, other: &Self, set: &dyn Fn(String) -> String) -> Vec<Finding> {
        let there = &other.node;
        let mut found = Vec::new();
        if self.sql_mode != other.sql_mode {
            let shown = |mode: &str| if mode.is_empty() { "empty".to_owned() } else { mode.to_owned() };
            let what = format!(
                "sql_mode is {} here and {} on {there}: what an application writes is refused on one of them and bent to fit on the other",
                shown(&self.sql_mode),
                shown(&other.sql_mode)
            );
            let stricter = if self.sql_mode.len() >= other.sql_mode.len() { &self.sql_mode } else { &other.sql_mode };
            found.push(Finding::warn("NODES-SQLMODE", what, set(format!("sql_mode={stricter}"))));
        }
        for (database, own, theirs) in differing(&self.collations, &other.collations) {
            // A database that only one side has is told by its tables.
            if let (Some(own), Some(theirs)) = (own, theirs) {
                let what = format!(
                    "new tables of {database} get the collation {own} here and {theirs} on {there}, so a CREATE TABLE that names none makes two kinds of tables"
                );
                let remedy = format!("here, as an administrator: ALTER DATABASE `{database}` COLLATE {theirs}");
                found.push(Finding::warn("NODES-COLLATION", what, remedy));
            }
        }
        found
    }

    fn schema(&self, other: &Self) -> Vec<Finding> {
        let there = &other.node;
        let fail = |what: String, remedy: String| Finding::fail("NODES-SCHEMA", what, remedy);
        let mut found = Vec::new();
        let names: BTreeSet<&String> = self.tables.keys().chain(other.tables.keys()).collect();
        for table in names {
            let (own, theirs) = match (self.tables.get(table), other.tables.get(table)) {
                (Some(own), Some(theirs)) => (own, theirs),
                (own, _) => {
                    let (has, lacks) = if own.is_some() { ("here", there.as_str()) } else { (there.as_str(), "here") };
                    let what = format!("{table} is only {}: its changes would be set aside on the other side", on(has));
                    found.push(fail(
                        what,
                        format!("make it {} too (SHOW CREATE TABLE {table}), or exclude it on both", on(lacks)),
                    ));
                    continue;
                }
            };
            for (column, own, theirs) in differing(&own.columns, &theirs.columns) {
                let what = match (own, theirs) {
                    (Some(own), Some(theirs)) => format!("{table}: column `{column}` is {own} here and {theirs} on {there}"),
                    (Some(_), None) => format!("{table}: column `{column}` is only here, and not on {there}"),
                    (None, _) => format!("{table}: column `{column}` is only on {there}, and not here"),
                };
                found.push(fail(what, format!("ALTER TABLE {table} on one of them, so that both are alike")));
            }
            for (key, own, theirs) in differing(&own.unique, &theirs.unique) {
                let shown = |columns: Option<&String>| columns.map_or("none".to_owned(), |columns| format!("({columns})"));
                let what = format!("{table}: unique key `{key}` is {} here and {} on {there}", shown(own), shown(theirs));
                found.push(fail(what, format!("ALTER TABLE {table} on one of them, so that both are alike")));
            }
        }
        found
    }
}

fn on(place: &str) -> String {
    if place == "here" { place.to_owned() } else { format!("on {place}") }
}

type Difference<'a> = (&'a String, Option<&'a String>, Option<&'a String>);

/// Entries that only one side has, or that are not the same.
fn differing<'a>(own: &'a BTreeMap<String, String>, theirs: &'a BTreeMap<String, String>) -> Vec<Difference<'a>> {
    let names: BTreeSet<&String> = own.keys().chain(theirs.keys()).collect();
    let pairs = names.into_iter().map(|name| (name, own.get(name), theirs.get(name)));
    pairs.filter(|(_, own, theirs)| own != theirs).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Level;

    fn facts(node: &str, number: u64) -> Facts {
        let list = |entries: &[(&str, &str)]| entries.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
        let riders = TableFacts {
            columns: list(&[("id", "int(11) NOT NULL"), ("name", "varchar(40) utf8mb4_general_ci")]),
            unique: list(&[("PRIMARY", "id"), ("name", "name")]),
        };
        Facts {
            node: node.into(),
            server_id: number,
            gtid_domain_id: number,
            auto_increment_increment: 10,
            auto_increment_offset: number,
            lower_case_table_names: 0,
            sql_mode: "STRICT_TRANS_TABLES".into(),
            collations: list(&[("campus", "utf8mb4_general_ci")]),
            tables: [("campus.riders".to_owned(), riders)].into(),
        }
    }

    /// With one thing changed on the other side, this is the only finding that is not good.
    fn check(change: impl FnOnce(&mut Facts), code: &str, what: &str, remedy: &str) {
        let (own, mut other) = (facts("laptop-a", 1), facts("laptop-b", 2));
        assert!(own.compare(&other).iter().all(|finding| finding.level == Level::Good));
        change(&mut other);
        let found: Vec<Finding> = own.compare(&other).into_iter().filter(|finding| finding.level != Level::Good).collect();
        let [one] = &*found else { panic!("{code}: {found:?}") };
        assert!(one.code == code && one.what.contains(what), "{one:?}");
        assert!(one.remedy.as_deref().is_some_and(|own| own.contains(remedy)), "{one:?}");
    }

    #[test]
    fn each_difference_that_must_not_be_and_each_lacking_one_is_found() {
        check(|other| other.server_id = 1, "NODES-SERVERID", "here and on laptop-b", "server_id=2");
        check(|other| other.gtid_domain_id = 1, "NODES-DOMAIN", "gtid_domain_id is 1", "gtid_domain_id=2");
        check(|other| other.auto_increment_offset = 1, "NODES-AUTOINC", "the same ids", "auto_increment_offset=2");
        check(|other| other.auto_increment_increment = 2, "NODES-AUTOINC", "now and then", "auto_increment_increment=10");
        check(|other| other.lower_case_table_names = 1, "NODES-CASE", "names of tables", "small letters");
        check(|other| other.sql_mode.clear(), "NODES-SQLMODE", "empty on laptop-b", "sql_mode=STRICT_TRANS_TABLES");
        let latin = |other: &mut Facts| drop(other.collations.insert("campus".into(), "latin1_bin".into()));
        check(latin, "NODES-COLLATION", "latin1_bin on laptop-b", "ALTER DATABASE `campus` COLLATE latin1_bin");
        let riders = |other: &mut Facts| other.tables.remove("campus.riders").unwrap_or_default();
        check(|other| drop(riders(other)), "NODES-SCHEMA", "campus.riders is only here", "make it on laptop-b too");
        let column = |own: &'static str| {
            move |other: &mut Facts| {
                let mut table = riders(other);
                match own {
                    "" => drop(table.columns.remove("name")),
                    own => drop(table.columns.insert("name".into(), own.into())),
                }
                other.tables.insert("campus.riders".into(), table);
            }
        };
        check(column(""), "NODES-SCHEMA", "column `name` is only here", "ALTER TABLE campus.riders");
        check(column("varchar(20) latin1_bin"), "NODES-SCHEMA", "and varchar(20) latin1_bin on laptop-b", "ALTER TABLE");
        let unkeyed = |other: &mut Facts| {
            let mut table = riders(other);
            table.unique.remove("name");
            other.tables.insert("campus.riders".into(), table);
        };
        check(unkeyed, "NODES-SCHEMA", "unique key `name` is (name) here and none on laptop-b", "ALTER TABLE");
    }
}
