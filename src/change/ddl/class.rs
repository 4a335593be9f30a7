//! Whether a statement may go through by itself: nothing that is there is lost or refused by it, on any node.

use super::lex::{Kind, Word, words};
use super::{Cursor, Statement, Verb, split};
use crate::change::TableName;

/// How a statement is treated by itself.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    /// It adds or widens.
    Safe,
    /// It can lose rows or values, or refuse some that another node writes: in words that fit after "it".
    Dangerous(&'static str),
}

/// A column as it is now where the statement is to run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ColumnNow {
    /// As information_schema writes it: `varchar(40)`, `int(11) unsigned`.
    pub column_type: String,
    pub nullable: bool,
    /// It has the character set that the table gives to columns which name none, or none at all.
    pub plain: bool,
}

const UNKNOWN: Class = Class::Dangerous("does something that is not known to be harmless");

impl Statement {
    /// Asks for columns that are there now, to see whether a type is widened.
    pub fn class(&self, now: &dyn Fn(&TableName, &str) -> Option<ColumnNow>) -> Class {
        match self.verb {
            Verb::CreateTable | Verb::CreateDatabase if self.replaces => Class::Dangerous("replaces what is there"),
            Verb::CreateTable | Verb::CreateDatabase | Verb::AlterDatabase => Class::Safe,
            Verb::CreateIndex if self.unique => UNIQUE,
            Verb::CreateIndex if self.replaces => Class::Dangerous("replaces an index"),
            Verb::CreateIndex => Class::Safe,
            Verb::DropIndex => Class::Dangerous("drops an index"),
            Verb::DropTable => Class::Dangerous("drops a table"),
            Verb::DropDatabase => Class::Dangerous("drops a database"),
            Verb::RenameTable => Class::Dangerous("renames a table"),
            Verb::Truncate => Class::Dangerous("removes all rows"),
            Verb::AlterTable => {
                let now = |column: &str| now(self.tables.first()?, column);
                let clauses = self.clauses();
                let classes = clauses.iter().map(|clause| clause_class(clause, &now));
                classes.into_iter().find(|class| *class != Class::Safe).unwrap_or(Class::Safe)
            }
        }
    }
}

const UNIQUE: Class = Class::Dangerous("makes values unique, which rows here or on other nodes may not be");
const REFERS: Class = Class::Dangerous("makes rows refer to others, which rows here or on other nodes may not");
const KEY: Class = Class::Dangerous("changes the key of the table");
const NARROWS: Class = Class::Dangerous("may narrow what a column holds");

type Now<'a> = dyn Fn(&str) -> Option<ColumnNow> + 'a;

fn clause_class(clause: &[Word], now: &Now<'_>) -> Class {
    let mut cursor = Cursor { words: clause, at: 0 };
    if cursor.take("ADD") {
        return added(&mut cursor);
    }
    let is_modify = cursor.take("MODIFY");
    if is_modify || cursor.take("CHANGE") {
        cursor.take("COLUMN");
        let _ = cursor.take("IF") && cursor.take("EXISTS");
        let Some(name) = cursor.next() else { return UNKNOWN };
        if !is_modify && cursor.next().is_none_or(|new| !new.text.eq_ignore_ascii_case(&name.text)) {
            return Class::Dangerous("renames a column");
        }
        return modified(&clause[cursor.at..], now(&name.text).as_ref());
    }
    if cursor.take("ALTER") {
        let index = cursor.take("INDEX") || cursor.take("KEY");
        cursor.take("COLUMN");
        let _ = cursor.take("IF") && cursor.take("EXISTS");
        cursor.at += 1;
        return match index || (cursor.take("SET") && cursor.take("DEFAULT")) {
            true => Class::Safe,
            false => Class::Dangerous("takes the default of a column away"),
        };
    }
    if cursor.take("DROP") {
        return Class::Dangerous("drops a part of the table");
    }
    if cursor.take("RENAME") {
        return match cursor.take("INDEX") || cursor.take("KEY") {
            true => Class::Safe,
            false => Class::Dangerous("renames a table or a column"),
        };
    }
    options(&clause[cursor.at..])
}

fn added(cursor: &mut Cursor<'_>) -> Class {
    let column = cursor.take("COLUMN");
    let _ = cursor.take("IF") && cursor.take("NOT") && cursor.take("EXISTS");
    if !column {
        if cursor.take("INDEX") || cursor.take("KEY") || cursor.take("FULLTEXT") || cursor.take("SPATIAL") {
            return Class::Safe;
        }
        if cursor.take("UNIQUE") {
            return UNIQUE;
        }
        if cursor.take("PRIMARY") {
            return KEY;
        }
        if cursor.take("FOREIGN") {
            return REFERS;
        }
        if cursor.take("CONSTRAINT") || cursor.take("CHECK") {
            return Class::Dangerous("adds a condition, which rows here or on other nodes may not meet");
        }
        if cursor.take("PARTITION") || cursor.take("SYSTEM") || cursor.take("PERIOD") {
            return UNKNOWN;
        }
    }
    let rest = &cursor.words[cursor.at..];
    match rest {
        [open, inside @ .., close] if open.is_mark("(") && close.is_mark(")") => {
            let classes = split(inside).into_iter().map(|definition| match definition {
                [_, definition @ ..] => new_column(definition),
                [] => UNKNOWN,
            });
            classes.into_iter().find(|class| *class != Class::Safe).unwrap_or(Class::Safe)
        }
        [name, definition @ ..] if name.is_name() => new_column(definition),
        _ => UNKNOWN,
    }
}

/// A column that comes to rows which are there, on every node by itself.
fn new_column(definition: &[Word]) -> Class {
    let Some((kind, rest)) = ColumnType::take(definition) else { return UNKNOWN };
    if kind.name == "serial" {
        return KEY;
    }
    let attributes = match Attributes::of(rest) {
        Ok(attributes) => attributes,
        Err(class) => return class,
    };
    if attributes.not_null && !attributes.default && !attributes.computed {
        return Class::Dangerous(
            "adds a column that must be told and has no default, so rows of other nodes are refused until they know it",
        );
    }
    Class::Safe
}

/// A column that takes another definition, against what it is here now.
fn modified(definition: &[Word], now: Option<&ColumnNow>) -> Class {
    let Some((wanted, rest)) = ColumnType::take(definition) else { return UNKNOWN };
    let attributes = match Attributes::of(rest) {
        Ok(attributes) => attributes,
        Err(class) => return class,
    };
    let Some(now) = now else { return NARROWS };
    let words = words(&now.column_type, 0);
    let holds = ColumnType::take(&words).is_some_and(|(present, _)| wanted.holds(&present));
    let recodes = attributes.charset || !now.plain;
    let refuses_null = attributes.not_null && now.nullable;
    match holds && !recodes && !refuses_null && !attributes.computed {
        true => Class::Safe,
        false => NARROWS,
    }
}

/// Options of a table that change nothing of what it holds.
fn options(words: &[Word]) -> Class {
    const HARMLESS: [&str; 21] = [
        "COMMENT",
        "AUTO_INCREMENT",
        "ROW_FORMAT",
        "CHARSET",
        "COLLATE",
        "CHECKSUM",
        "KEY_BLOCK_SIZE",
        "MAX_ROWS",
        "MIN_ROWS",
        "AVG_ROW_LENGTH",
        "DELAY_KEY_WRITE",
        "PACK_KEYS",
        "PAGE_CHECKSUM",
        "PAGE_COMPRESSED",
        "PAGE_COMPRESSION_LEVEL",
        "STATS_AUTO_RECALC",
        "STATS_PERSISTENT",
        "STATS_SAMPLE_PAGES",
        "ALGORITHM",
        "LOCK",
        "TRANSACTIONAL",
    ];
    let mut cursor = Cursor { words, at: 0 };
    while cursor.peek().is_some() {
        if cursor.take("FORCE") || cursor.take_mark(",") {
            continue;
        }
        cursor.take("DEFAULT");
        let known = match cursor.take("CHARACTER") {
            true => cursor.take("SET"),
            false => cursor.next().is_some_and(|word| HARMLESS.iter().any(|option| word.is(option))),
        };
        cursor.take_mark("=");
        if !known || cursor.next().is_none() {
            return UNKNOWN;
        }
    }
    Class::Safe
}

/// A column's type, as far as one can be wider than another.
#[derive(PartialEq, Debug)]
struct ColumnType {
    /// In lower case, one of several names of the same.
    name: String,
    /// In the brackets.
    parts: Vec<String>,
    unsigned: bool,
}

impl ColumnType {
    fn take(words: &[Word]) -> Option<(Self, &[Word])> {
        let mut cursor = Cursor { words, at: 0 };
        let name = cursor.next().filter(|word| word.kind == Kind::Plain)?.text.to_lowercase();
        let name = match name.as_str() {
            "integer" => "int".to_owned(),
            "numeric" | "dec" | "fixed" => "decimal".to_owned(),
            "bool" | "boolean" => "tinyint".to_owned(),
            "double" => {
                cursor.take("PRECISION");
                name
            }
            "real" => "double".to_owned(),
            // Of several words, and rare.
            "national" | "character" | "long" => return None,
            _ => name,
        };
        let mut parts = Vec::new();
        if cursor.take_mark("(") {
            while !cursor.take_mark(")") {
                let word = cursor.next()?;
                if !word.is_mark(",") {
                    parts.push(word.text.clone());
                }
            }
        }
        let mut unsigned = false;
        loop {
            match () {
                () if cursor.take("UNSIGNED") => unsigned = true,
                () if cursor.take("SIGNED") || cursor.take("ZEROFILL") => {}
                () => break,
            }
        }
        Some((Self { name, parts, unsigned }, &words[cursor.at..]))
    }

    /// Whether every value of the other is one of this, and the same one.
    fn holds(&self, other: &Self) -> bool {
        const INTEGERS: [&str; 5] = ["tinyint", "smallint", "mediumint", "int", "bigint"];
        const TEXTS: [&str; 4] = ["tinytext", "text", "mediumtext", "longtext"];
        const BYTES: [&str; 4] = ["tinyblob", "blob", "mediumblob", "longblob"];
        let wider = |family: &[&str]| {
            let place = |name: &str| family.iter().position(|known| *known == name);
            place(&self.name).zip(place(&other.name)).is_some_and(|(wanted, present)| wanted >= present)
        };
        let numbers = |kind: &Self| kind.parts.iter().map(|part| part.parse::<u32>().ok()).collect::<Option<Vec<_>>>();
        let (Some(wanted), Some(present)) = (numbers(self), numbers(other)) else {
            // ENUM and SET: members may be added behind the others.
            return self.name == other.name && self.parts.starts_with(&other.parts);
        };
        let first = |parts: &[u32], absent: u32| parts.first().copied().unwrap_or(absent);
        match self.name.as_str() {
            // What is in the brackets of integers is for display only.
            name if INTEGERS.contains(&name) => self.unsigned == other.unsigned && wider(&INTEGERS),
            name if TEXTS.contains(&name) => wider(&TEXTS),
            name if BYTES.contains(&name) => wider(&BYTES),
            "varchar" => matches!(other.name.as_str(), "varchar" | "char") && first(&wanted, 0) >= first(&present, 1),
            "varbinary" => other.name == "varbinary" && first(&wanted, 0) >= first(&present, 0),
            "char" | "bit" => self.name == other.name && first(&wanted, 1) >= first(&present, 1),
            "datetime" | "timestamp" | "time" => self.name == other.name && first(&wanted, 0) >= first(&present, 0),
            "decimal" => {
                let scale = |parts: &[u32]| parts.get(1).copied().unwrap_or(0);
                let whole = |parts: &[u32]| first(parts, 10).saturating_sub(scale(parts));
                other.name == "decimal"
                    && self.unsigned == other.unsigned
                    && whole(&wanted) >= whole(&present)
                    && scale(&wanted) >= scale(&present)
            }
            "double" => wanted.is_empty() && present.is_empty() && matches!(other.name.as_str(), "double" | "float"),
            name => name == other.name && wanted == present && self.unsigned == other.unsigned,
        }
    }
}

/// What stands behind a column's type.
#[derive(Default)]
struct Attributes {
    not_null: bool,
    default: bool,
    computed: bool,
    charset: bool,
}

impl Attributes {
    /// The class of those that are not harmless.
    fn of(words: &[Word]) -> Result<Self, Class> {
        let mut own = Self::default();
        let mut cursor = Cursor { words, at: 0 };
        while let Some(word) = cursor.next() {
            let is = |keyword: &str| word.is(keyword);
            if is("NOT") && cursor.take("NULL") {
                own.not_null = true;
            } else if is("DEFAULT") {
                own.default = true;
                if !cursor.take_constant() {
                    return Err(Class::Dangerous("gives rows a default that may differ on each node"));
                }
            } else if is("ON") && cursor.take("UPDATE") {
                cursor.take_constant();
            } else if is("COMMENT") {
                cursor.at += 1;
            } else if is("CHARACTER") || is("CHARSET") || is("COLLATE") {
                own.charset = true;
                cursor.take("SET");
                cursor.at += 1;
            } else if is("AFTER") {
                cursor.at += 1;
            } else if is("GENERATED") {
                cursor.take("ALWAYS");
            } else if is("AS") && cursor.take_mark("(") {
                own.computed = true;
                cursor.skip_brackets();
            } else if is("UNIQUE") {
                return Err(UNIQUE);
            } else if is("PRIMARY") || is("KEY") || is("AUTO_INCREMENT") {
                return Err(KEY);
            } else if is("REFERENCES") {
                return Err(REFERS);
            } else if is("CHECK") {
                return Err(Class::Dangerous("adds a condition, which rows here or on other nodes may not meet"));
            } else if !["NULL", "FIRST", "INVISIBLE", "VIRTUAL", "PERSISTENT", "STORED", "COMPRESSED"]
                .iter()
                .any(|known| is(known))
            {
                return Err(UNKNOWN);
            }
        }
        Ok(own)
    }
}

impl Cursor<'_> {
    /// A value that is the same wherever the statement runs: its time is told with it.
    fn take_constant(&mut self) -> bool {
        let _ = self.take_mark("-") || self.take_mark("+");
        let Some(word) = self.next() else { return false };
        let is_now = ["CURRENT_TIMESTAMP", "NOW", "LOCALTIME", "LOCALTIMESTAMP"].iter().any(|name| word.is(name));
        let is_constant = match word.kind {
            Kind::Text => true,
            Kind::Plain => {
                let is_number = word.text.starts_with(|c: char| c.is_ascii_digit());
                let is_bits = ["b", "x", "_utf8mb4", "_latin1", "_binary"].iter().any(|prefix| word.is(prefix));
                is_now
                    || is_number
                    || ["NULL", "TRUE", "FALSE"].iter().any(|name| word.is(name))
                    || (is_bits && self.next().is_some())
            }
            Kind::Mark | Kind::Quoted => false,
        };
        if is_constant && self.take_mark(".") {
            self.at += 1;
        }
        if is_now && self.take_mark("(") {
            self.skip_brackets();
        }
        is_constant
    }

    /// Up to the end of the brackets that were opened.
    fn skip_brackets(&mut self) {
        let mut depth = 1;
        while depth > 0
            && let Some(word) = self.next()
        {
            depth += i32::from(word.is_mark("(")) - i32::from(word.is_mark(")"));
        }
    }
}
