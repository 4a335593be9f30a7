//! What information_schema says about a table: what the binlog leaves out.

/// A table as the server describes it now. Whether "now" is also the place of the binlog that is being read, only
/// the reader of the binlog can know; [`Layout`](super::Layout) checks what can be checked.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownTable {
    /// In order, as information_schema.COLUMNS has them: the implicit row_start and row_end of a system-versioned
    /// table are not among them.
    pub columns: Vec<KnownColumn>,
    /// The names of the key's columns in order of the key; empty where the table has none.
    pub primary_key: Vec<String>,
    /// information_schema.TABLES calls it SYSTEM VERSIONED.
    pub system_versioned: bool,
    /// Unique keys over columns that are too long for an index. For each the table ends with a column that holds the hash, and that only
    /// the binlog shows.
    pub hash_keys: usize,
}

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct KnownColumn {
    pub name: String,
    /// COLUMN_TYPE, for example `int(10) unsigned`.
    pub column_type: String,
    /// CHARACTER_SET_NAME; `None` for what is not text.
    pub character_set: Option<String>,
    /// COLLATION_NAME.
    pub collation: Option<String>,
    /// Computed by the server: VIRTUAL or STORED GENERATED in EXTRA.
    pub generated: bool,
    /// INVISIBLE in EXTRA.
    pub invisible: bool,
    pub system_versioning: Option<SystemVersioning>,
    /// Has the check `json_valid(…)`, which is all that MariaDB's JSON type is.
    pub json: bool,
}

/// Which end of a row's life a column holds: `GENERATED ALWAYS AS ROW START` and `ROW END`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum SystemVersioning {
    RowStart,
    RowEnd,
}

/// A COLUMN_TYPE taken apart.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct ColumnType<'a> {
    /// In lower case as the server has it: `int`, `varchar`, `uuid`.
    pub(super) base: &'a str,
    /// The numbers in parentheses: length or precision, and scale.
    pub(super) first: Option<u32>,
    pub(super) second: Option<u32>,
    pub(super) unsigned: bool,
    /// The members of ENUM and SET.
    pub(super) members: Vec<String>,
}

impl<'a> ColumnType<'a> {
    /// `None` where it is not of the form that the server writes: a word, perhaps parentheses, perhaps attributes
    /// and a comment.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let end = text.find(|c: char| !c.is_ascii_alphanumeric() && c != '_').unwrap_or(text.len());
        let (base, rest) = text.split_at(end);
        let mut own = Self { base, first: None, second: None, unsigned: false, members: Vec::new() };
        if base.is_empty() {
            return None;
        }
        let attributes = match rest.strip_prefix('(') {
            None => rest,
            Some(inside) if matches!(base, "enum" | "set") => members(inside, &mut own.members)?,
            Some(inside) => {
                let (numbers, attributes) = inside.split_once(')')?;
                let mut numbers = numbers.split(',').map(|number| number.trim().parse().ok());
                own.first = Some(numbers.next()??);
                own.second = numbers.next().flatten();
                attributes
            }
        };
        own.unsigned = attributes.split(' ').any(|word| word == "unsigned");
        Some(own)
    }
}

/// Reads `'a','b''c')` into the members; gives what is behind the parenthesis. The server doubles quotes and writes
/// a backslash before what it also writes so in a dump.
fn members<'a>(inside: &'a str, members: &mut Vec<String>) -> Option<&'a str> {
    let mut rest = inside;
    loop {
        rest = rest.strip_prefix('\'')?;
        let mut member = String::new();
        let mut characters = rest.char_indices();
        rest = loop {
            let (at, character) = characters.next()?;
            match character {
                '\'' if rest[at + 1..].starts_with('\'') => {
                    characters.next();
                    member.push('\'');
                }
                '\'' => break &rest[at + 1..],
                '\\' => member.push(match characters.next()?.1 {
                    'n' => '\n',
                    'r' => '\r',
                    '0' => '\0',
                    other => other,
                }),
                other => member.push(other),
            }
        };
        members.push(member);
        match rest.strip_prefix(',') {
            Some(next) => rest = next,
            None => return rest.strip_prefix(')'),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, base: &str, numbers: (Option<u32>, Option<u32>), unsigned: bool, members: &[&str]) {
        let members = members.iter().map(|&member| member.to_owned()).collect();
        let expected = ColumnType { base, first: numbers.0, second: numbers.1, unsigned, members };
        assert_eq!(ColumnType::parse(text), Some(expected), "{text}");
    }

    #[test]
    fn types_are_taken_apart() {
        check("int(10) unsigned", "int", (Some(10), None), true, &[]);
        check("bigint(20) unsigned zerofill", "bigint", (Some(20), None), true, &[]);
        check("double", "double", (None, None), false, &[]);
        check("double unsigned", "double", (None, None), true, &[]);
        check("decimal(65,30)", "decimal", (Some(65), Some(30)), false, &[]);
        check("varchar(5) /*M!100301 COMPRESSED*/", "varchar", (Some(5), None), false, &[]);
        check("blob /*M!100301 COMPRESSED*/", "blob", (None, None), false, &[]);
        check("time(3) /* mariadb-5.3 */", "time", (Some(3), None), false, &[]);
        check("uuid", "uuid", (None, None), false, &[]);
    }

    #[test]
    fn members_are_unquoted() {
        check("enum('a''b','c\\\\d','e\\nf')", "enum", (None, None), false, &["a'b", "c\\d", "e\nf"]);
        check("set('x','','unsigned)','y,z')", "set", (None, None), false, &["x", "", "unsigned)", "y,z"]);
        check("enum('é😀')", "enum", (None, None), false, &["é😀"]);
    }

    #[test]
    fn what_is_no_type_is_refused() {
        for text in ["", "(1)", "int(", "int(x)", "enum(", "enum('a", "enum('a'", "enum(a)", "enum('a',)", "enum('\\"] {
            assert_eq!(ColumnType::parse(text), None, "{text}");
        }
    }
}
