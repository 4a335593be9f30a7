//! The server's foreign keys, seen from the tables that they refer to.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use super::session::Session;
use crate::change::TableName;
use crate::target::TargetError;

/// What happens to the rows that refer, when the row that they refer to goes or changes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Rule {
    Restrict,
    Cascade,
    SetNull,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ForeignKey {
    /// The table whose rows refer.
    pub from: TableName,
    /// Its columns, and those that they refer to, by name.
    pub columns: Vec<(String, String)>,
    pub on_delete: Rule,
    pub on_update: Rule,
}

/// How long the list is believed. The server opens every table to answer, so it is not asked for each. A foreign key that
/// came to be meanwhile is still kept by the server itself: it refuses or cascades.
const BELIEVED: Duration = Duration::from_secs(60);
const TASK: &str = "reading the foreign keys";

type ByParent = HashMap<TableName, Vec<ForeignKey>>;

type Outgoing = Vec<(TableName, ForeignKey)>;

#[derive(Default)]
pub(super) struct References(Mutex<Option<(Instant, Arc<ByParent>)>>);

impl References {
    /// The foreign keys that refer to the table, and those by which it refers to others, each with the other table.
    pub async fn of(&self, session: &mut Session, name: &TableName) -> Result<(Vec<ForeignKey>, Outgoing), TargetError> {
        let known = self.known().as_ref().filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, keys)| keys.clone());
        let keys = match known {
            Some(keys) => keys,
            None => {
                let keys = Arc::new(load(session).await?);
                *self.known() = Some((Instant::now(), keys.clone()));
                keys
            }
        };
        let outgoing = keys.iter().flat_map(|(to, keys)| keys.iter().map(move |key| (to, key)));
        let outgoing = outgoing.filter(|(_, key)| key.from == *name).map(|(to, key)| (to.clone(), key.clone()));
        Ok((keys.get(name).cloned().unwrap_or_default(), outgoing.collect()))
    }

    pub fn forget(&self) {
        *self.known() = None;
    }

    fn known(&self) -> std::sync::MutexGuard<'_, Option<(Instant, Arc<ByParent>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn load(session: &mut Session) -> Result<ByParent, TargetError> {
    let sql = b"SELECT r.CONSTRAINT_SCHEMA, r.TABLE_NAME, r.CONSTRAINT_NAME, k.COLUMN_NAME, k.REFERENCED_TABLE_SCHEMA,
            k.REFERENCED_TABLE_NAME, k.REFERENCED_COLUMN_NAME, CONCAT(r.DELETE_RULE, ',', r.UPDATE_RULE)
        FROM information_schema.REFERENTIAL_CONSTRAINTS r JOIN information_schema.KEY_COLUMN_USAGE k
            ON k.CONSTRAINT_SCHEMA = r.CONSTRAINT_SCHEMA AND k.CONSTRAINT_NAME = r.CONSTRAINT_NAME AND k.TABLE_NAME = r.TABLE_NAME
        WHERE k.REFERENCED_TABLE_NAME IS NOT NULL
        ORDER BY r.CONSTRAINT_SCHEMA, r.TABLE_NAME, r.CONSTRAINT_NAME, k.ORDINAL_POSITION";
    let mut keys: ByParent = HashMap::new();
    let mut last = None;
    for row in session.rows(sql, TASK).await? {
        type Told = (String, String, String, String, String, String, String, String);
        let told: Told = mysql_async::from_row_opt(row).map_err(|_| session.not_understood(TASK))?;
        let (database, table, constraint, column, parent_database, parent, parent_column, rules) = told;
        let (on_delete, on_update) = rules.split_once(',').map(|(delete, update)| (rule(delete), rule(update))).unzip();
        let (Some(on_delete), Some(on_update)) = (on_delete, on_update) else { return Err(session.not_understood(TASK)) };
        let own = keys.entry(TableName::new(&parent_database, &parent)).or_default();
        let name = (database, table, constraint);
        if last.as_ref() != Some(&name) {
            own.push(ForeignKey { from: TableName::new(&name.0, &name.1), columns: Vec::new(), on_delete, on_update });
            last = Some(name);
        }
        own.last_mut().expect("one was just pushed if there was none").columns.push((column, parent_column));
    }
    Ok(keys)
}

fn rule(words: &str) -> Rule {
    match words {
        "CASCADE" => Rule::Cascade,
        "SET NULL" => Rule::SetNull,
        // NO ACTION is the same in InnoDB, and SET DEFAULT is not kept by it.
        _ => Rule::Restrict,
    }
}
