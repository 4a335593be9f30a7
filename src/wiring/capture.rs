//! A database's changes without a topic: the source alone, read on over lost connections.

use std::path::PathBuf;
use std::sync::Arc;

use mysql_async::{Opts, OptsBuilder, SslOpts};
use secrecy::{ExposeSecret, SecretString};

use crate::change::{Body, Change, GtidPosition, Hlc, OriginId, Record, Seen, TableFilter};
use crate::config::DatabaseAddress;
use crate::runtime::{Backoff, Disposition, Fault, Stop};
use crate::source::binlog::{BinlogOptions, BinlogSource};
use crate::source::{Source, SourceError, SourceEvent, TransactionPart, TransactionStream};

pub struct CaptureOptions {
    pub database: DatabaseAddress,
    pub password: Option<SecretString>,
    /// Encrypt; the server's certificate must be signed by this authority, or by one that everybody knows.
    pub tls: Option<Authority>,
    pub replica_id: u32,
    pub tables: TableFilter,
    pub from: From,
}

#[derive(Clone, Debug)]
pub enum Authority {
    Known,
    File(PathBuf),
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum From {
    /// The oldest that the server still has.
    Start,
    Now,
    After(GtidPosition),
}

/// Reads on for ever. Each change comes once, a lost connection or not.
pub struct Capture {
    source: BinlogSource,
    stream: Option<Box<dyn TransactionStream>>,
    position: GtidPosition,
    /// Changes given of the transaction after `position`: a new stream brings them again.
    given: u64,
    again: u64,
    backoff: Backoff,
    origin: OriginId,
}

pub enum Captured {
    /// Changes of a transaction, in order. The record holds all that they share, and the place of the first; of Tandem's
    /// own tables there may be some among them.
    Changes {
        record: Box<Record>,
        changes: Vec<Change>,
    },
    Idle,
    /// The connection was lost; it is tried again after this wait.
    Lost(Stop),
}

impl Capture {
    /// Connects; what is wrong at first is not tried again.
    pub async fn open(options: CaptureOptions) -> Result<Self, Stop> {
        let origin = OriginId::new(&options.database.host);
        let source = BinlogSource::new(BinlogOptions::new(connection(&options), options.replica_id, options.tables));
        let position = match options.from {
            From::Start => source.oldest().await?,
            From::Now => source.position().await?,
            From::After(position) => position,
        };
        let stream = Some(source.stream(&position).await?);
        Ok(Self { source, stream, position, given: 0, again: 0, backoff: Backoff::connection(), origin })
    }

    /// Sentences about settings that are not the best.
    pub async fn notes(&self) -> Result<Vec<String>, Stop> {
        Ok(self.source.preflight().await?.notes())
    }

    /// How far all is given.
    pub fn position(&self) -> &GtidPosition {
        &self.position
    }

    /// Cancel-safe: a call that was dropped has taken nothing, but may have shortened a wait.
    pub async fn next(&mut self) -> Result<Captured, Stop> {
        match self.read().await {
            Ok(SourceEvent::Idle) => Ok(Captured::Idle),
            Ok(SourceEvent::Part(part)) => Ok(self.give(part)),
            Err(error) if error.disposition() == Disposition::Retry => {
                self.stream = None;
                self.again = self.given;
                Ok(Captured::Lost(error.into()))
            }
            Err(error) => Err(error.into()),
        }
    }

    async fn read(&mut self) -> Result<SourceEvent, SourceError> {
        let stream = match &mut self.stream {
            Some(stream) => stream,
            none => {
                tokio::time::sleep(self.backoff.next_wait()).await;
                none.insert(self.source.stream(&self.position).await?)
            }
        };
        let event = stream.next().await?;
        self.backoff.reset();
        Ok(event)
    }

    fn give(&mut self, part: TransactionPart) -> Captured {
        let TransactionPart { header, mut changes, last, .. } = part;
        let repeated = self.again.min(changes.len() as u64);
        self.again -= repeated;
        changes.drain(..repeated as usize);
        let record = Record {
            origin: self.origin.clone(),
            gtid: header.gtid,
            row: self.given,
            table_row: 0,
            hlc: Hlc::from_second(header.commit_second),
            seen: Arc::new(Seen::default()),
            last,
            position: Arc::new(GtidPosition::start()),
            read_from: header.read_from.clone(),
            commit_second: header.commit_second,
            server_id: header.server_id,
            coordinates: header.coordinates.clone(),
            trace: None,
            body: Body::Heartbeat,
        };
        self.given += changes.len() as u64;
        if last {
            self.position.advance(header.gtid);
            (self.given, self.again) = (0, 0);
        }
        Captured::Changes { record: Box::new(record), changes }
    }
}

fn connection(options: &CaptureOptions) -> Opts {
    database_opts(&options.database, options.password.as_ref(), options.tls.as_ref()).into()
}

/// How the driver reaches a database.
pub(super) fn database_opts(
    address: &DatabaseAddress,
    password: Option<&SecretString>,
    authority: Option<&Authority>,
) -> OptsBuilder {
    let tls = authority.map(|authority| match authority {
        Authority::Known => SslOpts::default(),
        Authority::File(file) => {
            SslOpts::default().with_root_certs(vec![file.clone().into()]).with_disable_built_in_roots(true)
        }
    });
    OptsBuilder::default()
        .ip_or_hostname(&address.host)
        .tcp_port(address.port)
        .user(Some(&address.user))
        .pass(password.map(|password| password.expose_secret()))
        .ssl_opts(tls)
}
