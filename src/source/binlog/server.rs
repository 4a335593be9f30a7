//! A server as a source: how it is reached, what is asked before reading, and who may read.

use std::path::PathBuf;
use std::time::Duration;

use async_trait::async_trait;
use mysql_async::prelude::Queryable;
use mysql_async::{Conn, Opts};

use super::schema::Schema;
use super::session::{Request, Session};
use super::tables::Tables;
use super::transaction::{Limits, Transactions};
use super::{Expectations, ServerSettings, connection, examine, preflight};
use crate::change::{GtidPosition, TableFilter};
use crate::runtime::Finding;
use crate::source::{Source, SourceError, TransactionStream};

/// How long the server may be silent before it sends a heartbeat. An idle stream tells its reader as often.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Changes in one part of a transaction, in bytes of memory: some 10,000 rows of 300 bytes. Larger parts were not faster.
const PART_BYTES: usize = 4 << 20;

/// How long another reader with our replica id is waited for: a process of ours that was killed is noticed by the server
/// with the next heartbeat that it cannot send.
const LEASE_WAIT: Duration = Duration::from_secs(5);

/// Where and how to read.
#[derive(Clone)]
pub struct BinlogOptions {
    /// Host, account, password, TLS. The room sets the rest as it needs it.
    pub connection: Opts,
    /// The id to register with: unique among the server's replicas and their servers.
    pub replica_id: u32,
    pub tables: TableFilter,
    pub heartbeat: Duration,
    /// Transactions larger than this come in parts, and wait in `hold_dir` for their end.
    pub part_bytes: usize,
    pub hold_dir: PathBuf,
}

impl BinlogOptions {
    pub fn new(connection: Opts, replica_id: u32, tables: TableFilter) -> Self {
        Self { connection, replica_id, tables, heartbeat: HEARTBEAT, part_bytes: PART_BYTES, hold_dir: std::env::temp_dir() }
    }
}

/// A MariaDB server, read through its binlog.
#[derive(Clone)]
pub struct BinlogSource {
    options: BinlogOptions,
    opts: Opts,
    place: String,
}

impl BinlogSource {
    pub fn new(options: BinlogOptions) -> Self {
        let opts = connection::prepare(options.connection.clone());
        let place = connection::place(&opts);
        Self { options, opts, place }
    }

    /// The server's settings; an error where with them changes would be missing.
    pub async fn preflight(&self) -> Result<ServerSettings, SourceError> {
        let mut conn = connection::open(&self.opts, &self.place).await?;
        let settings = preflight::check(&mut conn, &self.place).await?;
        self.close(conn).await;
        Ok(settings)
    }

    /// Looks the server over without changing anything: every finding, good ones too.
    pub async fn examine(&self, wanted: &Expectations) -> Result<Vec<Finding>, SourceError> {
        let mut conn = connection::open(&self.opts, &self.place).await?;
        // Refused where there is no binlog, or no right to see it; both are findings of their own.
        let history = self.oldest().await.ok().zip(self.end(&mut conn).await.ok());
        let found = examine::examine(&mut conn, &self.place, wanted, history).await?;
        self.close(conn).await;
        Ok(found)
    }

    /// How long the server keeps a binlog that is written no more; `None` where until somebody purges it.
    pub async fn retention(&self) -> Result<Option<Duration>, SourceError> {
        let mut conn = connection::open(&self.opts, &self.place).await?;
        // With a fraction where it was set in seconds (from 10.6 on).
        let days: Option<f64> =
            conn.query_first("SELECT @@GLOBAL.expire_logs_days + 0e0").await.map_err(|error| self.fault(error))?;
        self.close(conn).await;
        Ok(days.filter(|days| *days > 0.0).map(|days| Duration::from_secs_f64(days * 86_400.0)))
    }

    /// Holds the replica id for as long as the connection lives. The server itself would not refuse a second reader with
    /// the same id: it throws the first one out, and the two go on throwing each other out.
    async fn lease(&self, conn: &mut Conn) -> Result<(), SourceError> {
        let taken = || SourceError::ReplicaIdTaken { place: self.place.clone(), replica_id: self.options.replica_id };
        let lock = format!("tandem.replica.{}", self.options.replica_id);
        let got: Option<Option<u8>> =
            conn.exec_first("SELECT GET_LOCK(?, ?)", (lock, LEASE_WAIT.as_secs())).await.map_err(|error| self.fault(error))?;
        if got.flatten() != Some(1) {
            return Err(taken());
        }
        // Others than us hold no lock of ours. This needs a privilege that we do not ask for; without it we do not know.
        let replicas: Vec<mysql_async::Row> = conn.query("SHOW SLAVE HOSTS").await.unwrap_or_default();
        match replicas.iter().any(|row| row.get_opt(0).is_some_and(|id| id.is_ok_and(|id: u32| id == self.options.replica_id)))
        {
            true => Err(taken()),
            false => Ok(()),
        }
    }

    async fn end(&self, conn: &mut Conn) -> Result<GtidPosition, SourceError> {
        let position: Option<String> = conn.query_first("SELECT @@gtid_binlog_pos").await.map_err(|error| self.fault(error))?;
        self.parse(position.unwrap_or_default())
    }

    async fn close(&self, conn: Conn) {
        // All that was asked is answered; a connection that cannot be ended in order ends all the same.
        let _ = conn.disconnect().await;
    }

    fn parse(&self, position: String) -> Result<GtidPosition, SourceError> {
        position.parse().map_err(|error| SourceError::Corrupt { at: self.place.clone(), reason: format!("{error}") })
    }

    fn fault(&self, error: mysql_async::Error) -> SourceError {
        connection::fault(&self.place, &self.opts, error)
    }
}

#[async_trait]
impl Source for BinlogSource {
    async fn position(&self) -> Result<GtidPosition, SourceError> {
        let mut conn = connection::open(&self.opts, &self.place).await?;
        let position: Option<String> = conn.query_first("SELECT @@gtid_binlog_pos").await.map_err(|error| self.fault(error))?;
        self.close(conn).await;
        self.parse(position.unwrap_or_default())
    }

    async fn oldest(&self) -> Result<GtidPosition, SourceError> {
        let mut conn = connection::open(&self.opts, &self.place).await?;
        let logs: Vec<mysql_async::Row> = conn.query("SHOW BINARY LOGS").await.map_err(|error| self.fault(error))?;
        let oldest: Option<String> = logs.first().and_then(|row| row.get(0));
        let Some(oldest) = oldest else { return Ok(GtidPosition::start()) };
        // 4 is where the first event of every file stands.
        let position: Option<Option<String>> =
            conn.exec_first("SELECT BINLOG_GTID_POS(?, 4)", (oldest,)).await.map_err(|error| self.fault(error))?;
        self.close(conn).await;
        self.parse(position.flatten().unwrap_or_default())
    }

    async fn stream(&self, from: &GtidPosition) -> Result<Box<dyn TransactionStream>, SourceError> {
        let options = &self.options;
        let mut conn = connection::open(&self.opts, &self.place).await?;
        let settings = preflight::check(&mut conn, &self.place).await?;
        if settings.server_id == options.replica_id {
            return Err(SourceError::ReplicaIdOfServer { place: self.place.clone(), replica_id: options.replica_id });
        }
        // Of a domain that its binlog does not have, as after RESET MASTER, the server takes any position, and waits.
        let end = self.end(&mut conn).await?;
        if !end.covers_all(from) {
            let reason = if end.is_start() { "it is empty".into() } else { format!("it ends at {end}") };
            return Err(SourceError::NotInHistory { wanted: from.clone(), reason });
        }
        self.lease(&mut conn).await?;
        let (replica_id, heartbeat) = (options.replica_id, options.heartbeat);
        let session =
            Session::open(conn, &Request { opts: &self.opts, place: &self.place, from, replica_id, heartbeat }).await?;
        let tables = Tables::new(options.tables.clone());
        let mut schema = Schema::new(self.opts.clone(), self.place.clone());
        if !settings.names_columns() && from.covers_all(&end) {
            schema.ask_for_new(&options.tables).await?;
        }
        let limits = Limits { part_bytes: options.part_bytes, hold_dir: options.hold_dir.clone() };
        match Transactions::new(session, tables, schema, limits, from.clone()).begin().await {
            Ok(transactions) => Ok(Box::new(transactions)),
            Err(SourceError::Purged { wanted, .. }) => Err(SourceError::Purged { wanted, oldest: self.oldest().await? }),
            Err(error) => Err(error),
        }
    }
}
