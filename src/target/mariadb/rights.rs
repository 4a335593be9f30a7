//! What the account may do, as the server's tables of privileges tell it.

use std::collections::BTreeMap;

use super::MariadbTarget;
use super::preflight::ACCOUNT;
use crate::change::TableName;
use crate::target::TargetError;

/// What an applier does to rows.
pub(super) const TO_WRITE: &[&str] = &["SELECT", "INSERT", "UPDATE", "DELETE"];
/// What statements of other nodes that define tables do.
pub(super) const TO_DEFINE: &[&str] = &["CREATE", "ALTER", "DROP", "INDEX", "REFERENCES"];

/// Whether a right that was granted for databases like `pattern` covers this one: `%` stands for any letters, `_` for one,
/// and a backslash takes their meaning away.
pub(super) fn covers(pattern: &str, database: &str) -> bool {
    let pattern: Vec<char> = pattern.chars().collect();
    let name: Vec<char> = database.chars().collect();
    // Which lengths of the name the pattern up to here may be.
    let mut reached = vec![false; name.len() + 1];
    reached[0] = true;
    let mut at = 0;
    while at < pattern.len() {
        let mut next = vec![false; name.len() + 1];
        let (letter, literal) = match (pattern[at], pattern.get(at + 1)) {
            ('\\', Some(&letter)) => (letter, true),
            (letter, _) => (letter, false),
        };
        at += if literal { 2 } else { 1 };
        if letter == '%' && !literal {
            let first = reached.iter().position(|reached| *reached).unwrap_or(name.len() + 1);
            next.iter_mut().skip(first).for_each(|next| *next = true);
        } else {
            for (taken, own) in name.iter().enumerate() {
                let same = (letter == '_' && !literal) || *own == letter;
                next[taken + 1] = reached[taken] && same;
            }
        }
        reached = next;
    }
    reached[name.len()]
}

impl MariadbTarget {
    /// The account as GRANT names it: `'tandem'@'127.0.0.1'`.
    pub(super) async fn account(&self) -> Result<String, TargetError> {
        let names: Vec<(String,)> = self.typed(&format!("SELECT {ACCOUNT}")).await?;
        Ok(names.into_iter().next().map(|(name,)| name).unwrap_or_else(|| "the account".into()))
    }

    /// For each database with one of these tables: rights that the account lacks on some of them. Rights by a role are not seen.
    pub(super) async fn missing_rights(
        &self,
        tables: &[TableName],
        needed: &[&'static str],
    ) -> Result<BTreeMap<String, Vec<&'static str>>, TargetError> {
        // Everywhere, on databases, on single tables.
        let sql = format!(
            "SELECT PRIVILEGE_TYPE, '%', '' FROM information_schema.USER_PRIVILEGES WHERE GRANTEE = {ACCOUNT}
             UNION ALL SELECT PRIVILEGE_TYPE, TABLE_SCHEMA, '' FROM information_schema.SCHEMA_PRIVILEGES WHERE GRANTEE = {ACCOUNT}
             UNION ALL SELECT PRIVILEGE_TYPE, TABLE_SCHEMA, TABLE_NAME FROM information_schema.TABLE_PRIVILEGES
             WHERE GRANTEE = {ACCOUNT}"
        );
        let rights: Vec<(String, String, String)> = self.typed(&sql).await?;
        let may = |right: &str, table: &TableName| {
            rights.iter().any(|(own, database, only)| {
                own == right
                    && match only.as_str() {
                        "" => covers(database, &table.database),
                        only => *database == *table.database && *only == *table.table,
                    }
            })
        };
        let mut missing: BTreeMap<String, Vec<&'static str>> = BTreeMap::new();
        for &right in needed {
            for table in tables.iter().filter(|table| !may(right, table)) {
                let lacking = missing.entry(table.database.to_string()).or_default();
                if !lacking.contains(&right) {
                    lacking.push(right);
                }
            }
        }
        Ok(missing)
    }
}

#[cfg(test)]
mod tests {
    use super::covers;

    #[test]
    fn a_right_for_a_pattern_of_databases_covers_what_the_server_says() {
        for (pattern, database, expected) in [
            ("campus", "campus", true),
            ("campus", "campus2", false),
            ("my\\_shop", "my_shop", true),
            ("my\\_shop", "my1shop", false),
            ("my_shop", "my1shop", true),
            ("shop%", "shop", true),
            ("shop%", "shop_eu", true),
            ("%", "any", true),
            ("%eu", "shop_eu", true),
            ("%eu", "shop_us", false),
            ("a%b%c", "axxbyyc", true),
        ] {
            assert_eq!(covers(pattern, database), expected, "{pattern} {database}");
        }
    }
}
