//! A table that is emptied by a statement: what the binlog has of it, and what the checkers make of that.

use std::sync::Arc;

use tandem::change::{Change, Op, Shape};
use tandem::source::Ddl;
use tandem::target::memory::CommittedTransaction;

/// The statement of a commit that emptied a table.
pub fn statement(commit: &CommittedTransaction) -> Option<Ddl> {
    let table = commit.emptied.as_ref()?;
    Some(Ddl { statement: format!("TRUNCATE TABLE {table}").into(), ..Ddl::default() })
}

/// What a commit did, the emptying of a table as one change of it.
pub fn told(commit: &CommittedTransaction) -> Vec<Change> {
    let emptied = commit.emptied.as_ref().map(|table| Change {
        shape: Arc::new(Shape { table: table.clone(), columns: Vec::new(), key: Vec::new() }),
        op: Op::Truncate,
        before: None,
        after: None,
        checks: Default::default(),
    });
    commit.changes.iter().cloned().chain(emptied).collect()
}
