//! What the application writes: backlogs as fast as they go, and commits at a given pace.

use std::cell::Cell;
use std::time::{Duration, Instant};

use futures_util::future::join_all;
use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::PrivateServer;

/// Rows of about 120 bytes, as a booking has them.
const COLUMNS: &str = "(id BIGINT PRIMARY KEY, rider INT NOT NULL, place VARCHAR(80) NOT NULL, fare DECIMAL(8,2) NULL, \
    state ENUM('requested','completed') NOT NULL, at DATETIME(6) NOT NULL, note VARCHAR(200) NULL, KEY at (at))";

/// Connections that write a backlog: a server groups their commits into fewer flushes.
const WRITERS: usize = 8;

/// The database `bench` with these tables.
pub fn schema(tables: &[&str]) -> String {
    let tables: String = tables.iter().map(|table| format!("CREATE TABLE {table} {COLUMNS};")).collect();
    format!("CREATE DATABASE bench; USE bench; {tables}")
}

pub fn values(first: u64, rows: u64) -> String {
    let row = |id: u64| {
        let (rider, cents) = (id % 5_000, id % 2_000);
        format!(
            "({id}, {rider}, 'Engineering Block C', {cents}.25, 'completed', '2026-02-03 10:20:30.123456', 'two suitcases, please')"
        )
    };
    format!("VALUES {}", (first..first + rows).map(row).collect::<Vec<_>>().join(","))
}

/// Rows that are written while the other side is away.
#[derive(Clone, Copy)]
pub struct Backlog {
    pub table: &'static str,
    /// The first id. The others follow in about the order of the commits, so the largest tells how many are there.
    pub first: u64,
    pub rows: u64,
    pub transaction_rows: u64,
    /// Each row is changed once, too, when all are there.
    pub updated: bool,
}

impl Backlog {
    pub fn changes(&self) -> u64 {
        if self.updated { 2 * self.rows } else { self.rows }
    }

    /// The row that is written when all else is committed.
    pub fn last_id(&self) -> u64 {
        self.first + self.rows
    }

    pub async fn write(&self, server: &PrivateServer) {
        let insert = |id, rows| format!("INSERT INTO bench.{} {}", self.table, values(id, rows));
        let update = |id, rows| {
            let until = id + rows - 1;
            format!("UPDATE bench.{} SET fare = fare + 1, state = 'requested' WHERE id BETWEEN {id} AND {until}", self.table)
        };
        self.write_with(server, &insert).await;
        if self.updated {
            self.write_with(server, &update).await;
        }
        server.query(&insert(self.last_id(), 1)).await;
    }

    async fn write_with(&self, server: &PrivateServer, statement: &dyn Fn(u64, u64) -> String) {
        let next = Cell::new(self.first);
        let writers = (0..WRITERS).map(|_| async {
            let mut conn = server.conn().await;
            while next.get() < self.last_id() {
                let id = next.get();
                let rows = self.transaction_rows.min(self.last_id() - id);
                next.set(id + rows);
                conn.query_drop(statement(id, rows)).await.expect("the backlog can be written");
            }
            conn.disconnect().await.expect("a session can be ended");
        });
        join_all(writers).await;
    }
}

/// Commits of one row at a steady pace, by several connections: each starts at its time, or at once where it is late.
#[derive(Clone, Copy)]
pub struct Stream {
    pub table: &'static str,
    /// Writer `w` gives the ids from here on plus `w` times [`Stream::SPACING`].
    pub first: u64,
    pub commits: u64,
    pub per_second: u64,
}

impl Stream {
    pub const WRITERS: u64 = 4;
    pub const SPACING: u64 = 10_000_000;

    pub fn first_id(&self, writer: u64) -> u64 {
        self.first + writer * Self::SPACING
    }

    /// When each commit was answered: per writer, in the order of its ids.
    pub async fn write(&self, server: &PrivateServer, start: Instant) -> Vec<Vec<Instant>> {
        let writers =
            (0..Self::WRITERS).map(|writer| async move { self.write_share(server.conn().await, writer, start).await });
        join_all(writers).await
    }

    async fn write_share(&self, mut conn: Conn, writer: u64, start: Instant) -> Vec<Instant> {
        let share = self.commits / Self::WRITERS;
        let mut committed = Vec::with_capacity(share as usize);
        for number in 0..share {
            let due = start + Duration::from_secs(1) * (number * Self::WRITERS + writer) as u32 / self.per_second as u32;
            tokio::time::sleep_until(due.into()).await;
            let sql = format!("INSERT INTO bench.{} {}", self.table, values(self.first_id(writer) + number, 1));
            conn.query_drop(sql).await.expect("an insert");
            committed.push(Instant::now());
        }
        conn.disconnect().await.expect("a session can be ended");
        committed
    }
}
