//! A statement again, in the form that does what is not done yet: where a part of it was run by hand, or before a crash.

use super::lex::Word;
use super::{Cursor, Kind, Statement, Verb};

const NOT: &str = "IF NOT EXISTS ";
const IS: &str = "IF EXISTS ";

impl Statement {
    /// The statement with IF EXISTS and IF NOT EXISTS where it names what it makes or removes. `None` where nothing is to be added.
    pub fn tolerant(&self, statement: &str) -> Option<String> {
        let mut inserts: Vec<(usize, &str)> = Vec::new();
        let name = self.words.get(self.name_at)?.at.start;
        match self.verb {
            Verb::CreateTable | Verb::CreateDatabase | Verb::CreateIndex if !self.condition && !self.replaces => {
                inserts.push((name, NOT));
            }
            Verb::DropTable | Verb::DropDatabase | Verb::DropIndex if !self.condition => inserts.push((name, IS)),
            Verb::AlterTable => inserts.extend(self.clauses().into_iter().filter_map(insert)),
            _ => {}
        }
        if inserts.is_empty() {
            return None;
        }
        let mut out = String::with_capacity(statement.len() + 16 * inserts.len());
        let mut from = 0;
        for (at, text) in inserts {
            out.push_str(&statement[from..at]);
            out.push_str(text);
            from = at;
        }
        out.push_str(&statement[from..]);
        Some(out)
    }
}

/// Where in the statement the words go, for one clause of an ALTER.
fn insert(clause: &[Word]) -> Option<(usize, &'static str)> {
    let mut cursor = Cursor { words: clause, at: 0 };
    let text = if cursor.take("ADD") {
        let is_index = {
            let special = cursor.take("UNIQUE") || cursor.take("FULLTEXT") || cursor.take("SPATIAL");
            cursor.take("INDEX") || cursor.take("KEY") || special
        };
        if !is_index && !cursor.take("COLUMN") {
            if cursor.take("FOREIGN") {
                cursor.take("KEY");
            } else if cursor.take("CONSTRAINT") {
                let named = cursor.next()?;
                // Of a condition the name; of a foreign key what follows it.
                if cursor.take("FOREIGN") {
                    cursor.take("KEY");
                } else {
                    return cursor.take("CHECK").then_some((named.at.start, NOT));
                }
            } else if cursor.take("PRIMARY") || cursor.take("PARTITION") || cursor.take("CHECK") || cursor.take("SYSTEM") {
                return None;
            }
        }
        NOT
    } else if cursor.take("DROP") {
        if cursor.take("PRIMARY") || cursor.take("SYSTEM") {
            return None;
        }
        let _ = cursor.take("COLUMN")
            || cursor.take("INDEX")
            || cursor.take("KEY")
            || cursor.take("CONSTRAINT")
            || cursor.take("PARTITION")
            || (cursor.take("FOREIGN") && cursor.take("KEY"));
        IS
    } else if cursor.take("MODIFY") || cursor.take("CHANGE") {
        cursor.take("COLUMN");
        IS
    } else {
        return None;
    };
    let name = cursor.peek()?;
    // Without a name the server makes one, and there is nothing to compare; and it may stand there already.
    let is_name = matches!(name.kind, Kind::Plain | Kind::Quoted) && !name.is("IF");
    is_name.then_some((name.at.start, text))
}
