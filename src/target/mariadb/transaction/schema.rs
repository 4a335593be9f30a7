//! What an apply transaction does beside single rows: changes that wait, and tables that are emptied.

use super::MariadbTransaction;
use crate::change::{Offset, Record, RowKey, TableName, Value, wire};
use crate::target::mariadb::canonical::other_key;
use crate::target::mariadb::chunk::beyond;
use crate::target::mariadb::fault::About;
use crate::target::mariadb::literal;
use crate::target::mariadb::read::key_values;
use crate::target::{Held, TargetError};

/// Records in one statement: each may be large.
const TOGETHER: usize = 50;

impl MariadbTransaction {
    pub(super) async fn park_all(&mut self, records: &[(u64, Offset, &Record)]) -> Result<(), TargetError> {
        for some in records.chunks(TOGETHER) {
            let mut sql = b"INSERT INTO tandem.parked (behind, origin, record_offset, record) VALUES ".to_vec();
            literal::list(&mut sql, some, |sql, (behind, offset, record)| {
                let values = [
                    Value::unsigned(*behind),
                    Value::text(record.origin.as_str()),
                    Value::unsigned(offset.0),
                    Value::text(wire::record_text(record)),
                ];
                sql.push(b'(');
                literal::list(sql, &values, |sql, value| literal::value(sql, value.as_ref()));
                sql.push(b')');
            });
            self.session()?.run(&sql, About::Task("keeping changes that wait")).await?;
        }
        Ok(())
    }

    pub(super) async fn unpark_all(&mut self, ids: &[u64]) -> Result<(), TargetError> {
        for some in ids.chunks(super::ROWS_MAX) {
            let mut sql = b"DELETE FROM tandem.parked WHERE id IN (".to_vec();
            literal::list(&mut sql, some, |sql, id| sql.extend_from_slice(id.to_string().as_bytes()));
            sql.push(b')');
            self.session()?.run(&sql, About::Task("removing changes that waited")).await?;
        }
        Ok(())
    }

    pub(super) async fn next_rows(
        &mut self,
        name: &TableName,
        after: Option<&RowKey>,
        most: usize,
    ) -> Result<Vec<Held>, TargetError> {
        let table = self.table(name).await?;
        let mut sql = super::look::select(&table, "PRIMARY");
        match after {
            None => sql.push(b'1'),
            Some(key) => {
                let values = key_values(&table, key).ok_or_else(|| other_key(&table))?;
                beyond(&mut sql, &table, &values, b">", b">");
            }
        }
        sql.extend_from_slice(b" ORDER BY ");
        let key: Vec<usize> = table.key().collect();
        literal::list(&mut sql, key, |sql, at| literal::identifier(sql, &table.shape.columns[at].name));
        sql.extend_from_slice(format!(" LIMIT {most}").as_bytes());
        self.locked(&table, sql).await
    }

    pub(super) async fn empty_table(&mut self, name: &TableName) -> Result<(), TargetError> {
        let table = self.table(name).await?;
        self.foreign_keys(true).await?;
        let mut sql = b"DELETE FROM ".to_vec();
        literal::table(&mut sql, name);
        self.session()?.run(&sql, About::Table(&table)).await.map(drop)
    }
}
