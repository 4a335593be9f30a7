//! Statements that define tables: what they are about, whether they may go through by themselves, and how they are marked.
//! Not a grammar: the verb, the names after it, and of an ALTER the first words of each clause.

mod class;
mod lex;
mod shown;
mod tolerant;

use serde::{Deserialize, Serialize};

pub use class::{Class, ColumnNow};
use lex::{Kind, Word, words};

use super::{Gtid, OriginId, TableFilter, TableName};

/// A statement that defines tables, as its origin ran it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct SchemaChange {
    /// The database in use when it ran; names without a database mean this one. Empty where there was none.
    pub database: String,
    pub statement: String,
    #[serde(flatten)]
    pub session: SessionSettings,
    /// The captured tables that it is about.
    pub tables: Vec<Named>,
    /// It is about this database as a whole.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<String>,
    /// No application ran it: it makes a table as it was when a snapshot began to publish its rows, where there is none yet.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub existing: bool,
    /// Columns that may be NULL and have no default where it ran, not even NULL: see [`Statement::without_default`].
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_default: Vec<String>,
}

/// What of its session counts for a statement that defines tables.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize, Deserialize)]
pub struct SessionSettings {
    /// As the server numbers them.
    pub sql_mode: u64,
    pub foreign_keys_off: bool,
    /// Increment and offset, where they are not 1: an AUTO_INCREMENT column that is added to rows numbers them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub auto_increment: Option<(u16, u16)>,
    /// By which times are converted, where they are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<String>,
    /// The server's numbers of `collation_connection` and `collation_server`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub collations: Option<(u16, u16)>,
    /// `explicit_defaults_for_timestamp`, where the server logs it: what a TIMESTAMP column is like of which nothing more is said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explicit_timestamps: Option<bool>,
}

/// A table's name, as it is written down.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug, Serialize, Deserialize)]
pub struct Named {
    pub db: String,
    pub table: String,
}

impl From<&TableName> for Named {
    fn from(name: &TableName) -> Self {
        Self { db: name.database.to_string(), table: name.table.to_string() }
    }
}

impl Named {
    pub fn name(&self) -> TableName {
        TableName::new(&self.db, &self.table)
    }
}

impl SchemaChange {
    /// What makes a table as its server shows it, where there is none yet. `None` of another statement.
    pub fn existing(table: &TableName, definition: &str) -> Option<Self> {
        let rest = definition.strip_prefix("CREATE TABLE ")?;
        let shown = Statement::parse(definition, &table.database, 0);
        Some(Self {
            database: table.database.to_string(),
            statement: format!("CREATE TABLE IF NOT EXISTS {rest}"),
            // Its rows are as they are, whatever the sessions allowed that wrote them; and a table that it refers to may come after it.
            session: SessionSettings { foreign_keys_off: true, explicit_timestamps: Some(true), ..SessionSettings::default() },
            tables: vec![table.into()],
            whole: None,
            existing: true,
            no_default: shown.map(|statement| statement.without_default()).unwrap_or_default(),
        })
    }

    /// Whether it is about this table.
    pub fn touches(&self, table: &TableName) -> bool {
        self.tables.iter().any(|named| *named.db == *table.database && *named.table == *table.table)
            || self.whole.as_deref().is_some_and(|database| *database == *table.database)
    }

    /// Whether both are about the same table or database.
    pub fn meets(&self, other: &Self) -> bool {
        self.tables.iter().any(|named| other.touches(&named.name()))
            || other.tables.iter().any(|named| self.touches(&named.name()))
            || (self.whole.is_some() && self.whole == other.whole)
    }

    /// What it is about, for people.
    pub fn object(&self) -> String {
        match &self.whole {
            Some(database) => format!("database {database}"),
            None => self.tables.iter().map(|named| named.name().to_string()).collect::<Vec<_>>().join(", "),
        }
    }

    /// Its words, if it is one of the statements that are known.
    pub fn parse(&self) -> Option<Statement> {
        Statement::parse(&self.statement, &self.database, self.session.sql_mode)
    }

    /// Columns that it gives another name, by their old ones, with their table.
    pub fn renamed_columns(&self) -> Option<(TableName, Vec<String>)> {
        let statement = self.parse()?;
        let columns = statement.renamed_columns();
        (!columns.is_empty()).then(|| Some((statement.tables.first()?.clone(), columns)))?
    }

    /// What no statement can say of the table that it makes, so that it is another thing on every other node.
    pub fn unsaid(&self) -> Option<String> {
        let columns = self.no_default.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>();
        let (which, has) = if columns.len() == 1 { ("column", "has") } else { ("columns", "have") };
        let columns = columns.join(", ");
        (!columns.is_empty()).then(|| {
            format!(
                "{which} {columns} {has} no default at the origin and DEFAULT NULL here, as on a replica: no statement says so"
            )
        })
    }

    /// Bytes in memory, near enough for limits.
    pub fn weight(&self) -> usize {
        self.statement.len() + 64 * (self.tables.len() + 2)
    }
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Verb {
    CreateTable,
    AlterTable,
    DropTable,
    RenameTable,
    Truncate,
    CreateIndex,
    DropIndex,
    CreateDatabase,
    AlterDatabase,
    DropDatabase,
}

/// A statement that defines or empties tables.
#[derive(Clone, Debug)]
pub struct Statement {
    pub verb: Verb,
    /// The tables that it names, in its order; of a database none.
    pub tables: Vec<TableName>,
    pub database: Option<String>,
    words: Vec<Word>,
    /// Before the name of what it makes or removes.
    name_at: usize,
    /// Behind the names.
    body: usize,
    /// OR REPLACE, which removes what is there.
    replaces: bool,
    /// IF EXISTS, IF NOT EXISTS.
    condition: bool,
    /// UNIQUE, of an index.
    unique: bool,
}

impl Statement {
    /// `None` of a statement about something else: views, accounts, temporary tables, maintenance.
    pub fn parse(statement: &str, database: &str, sql_mode: u64) -> Option<Self> {
        let mut words = words(statement, sql_mode);
        words.pop_if(|word| word.is_mark(";"));
        // One statement and no more: whoever runs it runs what was looked at.
        if words.iter().any(|word| word.is_mark(";")) {
            return None;
        }
        let mut cursor = Cursor { words: &words, at: 0 };
        cursor.take_settings();
        let (mut replaces, mut condition, mut unique) = (false, false, false);
        let verb = if cursor.take("CREATE") {
            replaces = cursor.take("OR") && cursor.take("REPLACE");
            if cursor.take("TABLE") {
                Verb::CreateTable
            } else if cursor.take("DATABASE") || cursor.take("SCHEMA") {
                Verb::CreateDatabase
            } else {
                cursor.take("ONLINE");
                unique = cursor.take("UNIQUE");
                cursor.take("FULLTEXT");
                cursor.take("SPATIAL");
                cursor.take("INDEX").then_some(Verb::CreateIndex)?
            }
        } else if cursor.take("ALTER") {
            cursor.take("ONLINE");
            cursor.take("IGNORE");
            if cursor.take("TABLE") {
                Verb::AlterTable
            } else {
                (cursor.take("DATABASE") || cursor.take("SCHEMA")).then_some(Verb::AlterDatabase)?
            }
        } else if cursor.take("DROP") {
            if cursor.take("TABLE") || cursor.take("TABLES") {
                Verb::DropTable
            } else if cursor.take("DATABASE") || cursor.take("SCHEMA") {
                Verb::DropDatabase
            } else {
                cursor.take("ONLINE");
                cursor.take("INDEX").then_some(Verb::DropIndex)?
            }
        } else if cursor.take("RENAME") {
            (cursor.take("TABLE") || cursor.take("TABLES")).then_some(Verb::RenameTable)?
        } else if cursor.take("TRUNCATE") {
            cursor.take("TABLE");
            Verb::Truncate
        } else {
            return None;
        };
        if cursor.take("IF") {
            cursor.take("NOT");
            condition = cursor.take("EXISTS");
        }
        let name_at = cursor.at;
        let mut tables = Vec::new();
        let mut whole = None;
        match verb {
            Verb::CreateDatabase | Verb::AlterDatabase | Verb::DropDatabase => {
                // ALTER DATABASE may leave the name out.
                let named = cursor.peek().is_some_and(|word| word.kind == Kind::Quoted || !is_option_of_database(word));
                whole = Some(if named { cursor.next()?.text.clone() } else { database.to_owned() });
            }
            Verb::CreateIndex | Verb::DropIndex => {
                while !cursor.take("ON") {
                    cursor.next()?;
                }
                tables.push(cursor.table(database)?);
            }
            Verb::CreateTable | Verb::AlterTable | Verb::Truncate => tables.push(cursor.table(database)?),
            Verb::DropTable => loop {
                tables.push(cursor.table(database)?);
                if !cursor.take_mark(",") {
                    break;
                }
            },
            Verb::RenameTable => loop {
                tables.push(cursor.table(database)?);
                cursor.take_wait();
                cursor.take("TO").then_some(())?;
                tables.push(cursor.table(database)?);
                if !cursor.take_mark(",") {
                    break;
                }
            },
        }
        cursor.take_wait();
        let body = cursor.at;
        if verb == Verb::AlterTable {
            tables.extend(renamed(&words[body..], database));
        }
        Some(Self { verb, tables, database: whole, name_at, body, replaces, condition, unique, words })
    }

    /// What is published of it, where it is about captured tables: these, and whether the database as a whole is.
    pub fn captured(&self, filter: &TableFilter) -> Option<(Vec<TableName>, Option<String>)> {
        let mut tables: Vec<TableName> = self.tables.iter().filter(|name| filter.captures(name)).cloned().collect();
        tables.sort();
        tables.dedup();
        let database = self.database.clone().filter(|database| filter.captures_database(database));
        (!tables.is_empty() || database.is_some()).then_some((tables, database))
    }

    /// Columns of its table that it gives another name, by their old ones.
    pub fn renamed_columns(&self) -> Vec<String> {
        let renamed = |clause: &[Word]| {
            let mut cursor = Cursor { words: clause, at: 0 };
            let change = cursor.take("CHANGE");
            if !change && !cursor.take("RENAME") {
                return None;
            }
            let column = cursor.take("COLUMN");
            if !change && !column {
                return None;
            }
            let _ = cursor.take("IF") && cursor.take("EXISTS");
            let old = cursor.next()?;
            cursor.take("TO");
            let new = cursor.next()?;
            (!old.text.eq_ignore_ascii_case(&new.text)).then(|| old.text.clone())
        };
        match self.verb {
            Verb::AlterTable => self.clauses().into_iter().filter_map(renamed).collect(),
            _ => Vec::new(),
        }
    }

    /// The clauses of an ALTER.
    fn clauses(&self) -> Vec<&[Word]> {
        split(&self.words[self.body..])
    }
}

fn is_option_of_database(word: &Word) -> bool {
    ["DEFAULT", "CHARACTER", "CHARSET", "COLLATE", "COMMENT", "UPGRADE"].iter().any(|option| word.is(option))
}

/// Between commas that stand in no brackets.
fn split(words: &[Word]) -> Vec<&[Word]> {
    let mut depth = 0_usize;
    let parts = words.split(|word| {
        if word.is_mark("(") {
            depth += 1;
        } else if word.is_mark(")") {
            depth = depth.saturating_sub(1);
        }
        depth == 0 && word.is_mark(",")
    });
    parts.filter(|part| !part.is_empty()).collect()
}

/// The new name that a clause `RENAME [TO | AS | =] name` of an ALTER gives.
fn renamed(body: &[Word], database: &str) -> Option<TableName> {
    split(body).into_iter().find_map(|clause| {
        let mut cursor = Cursor { words: clause, at: 0 };
        let other = |word: &Word| ["COLUMN", "INDEX", "KEY"].iter().any(|kind| word.is(kind));
        if !cursor.take("RENAME") || cursor.peek().is_none_or(other) {
            return None;
        }
        let _ = cursor.take("TO") || cursor.take("AS") || cursor.take_mark("=");
        cursor.table(database)
    })
}

/// Goes through words.
struct Cursor<'w> {
    words: &'w [Word],
    at: usize,
}

impl<'w> Cursor<'w> {
    fn peek(&self) -> Option<&'w Word> {
        self.words.get(self.at)
    }

    fn next(&mut self) -> Option<&'w Word> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn take_if(&mut self, matches: bool) -> bool {
        self.at += usize::from(matches);
        matches
    }

    fn take(&mut self, keyword: &str) -> bool {
        self.take_if(self.peek().is_some_and(|word| word.is(keyword)))
    }

    fn take_mark(&mut self, mark: &str) -> bool {
        self.take_if(self.peek().is_some_and(|word| word.is_mark(mark)))
    }

    /// `SET STATEMENT sql_mode='', … FOR`, which the server logs with the statement.
    fn take_settings(&mut self) {
        let settings =
            self.words.first().is_some_and(|word| word.is("SET")) && self.words.get(1).is_some_and(|word| word.is("STATEMENT"));
        if settings && let Some(behind) = self.words.iter().position(|word| word.is("FOR")) {
            self.at = behind + 1;
        }
    }

    /// `WAIT 5` or `NOWAIT`.
    fn take_wait(&mut self) {
        if self.take("WAIT") {
            self.at += 1;
        } else {
            self.take("NOWAIT");
        }
    }

    /// `[database.]table`.
    fn table(&mut self, database: &str) -> Option<TableName> {
        let first = self.next().filter(|word| word.is_name())?;
        if self.take_mark(".") {
            let table = self.next().filter(|word| word.is_name())?;
            return Some(TableName::new(&first.text, &table.text));
        }
        Some(TableName::new(database, &first.text))
    }
}

/// The comment by which a statement that an applier runs is known again in the binlog.
pub fn stamp(origin: &OriginId, gtid: Gtid) -> String {
    format!("/* tandem {origin} {gtid} */")
}

/// Whether an applier ran the statement: its stamp is the first comment. Where the server writes a DROP TABLE anew, it keeps
/// a comment behind IF EXISTS.
pub fn is_stamped(statement: &str) -> bool {
    statement.find("/*").is_some_and(|at| statement[at..].starts_with("/* tandem ") && statement[at..].contains(" */"))
}

#[cfg(test)]
mod tests;
