//! The clouds that a node feeds, and the receiver that can be one, put together.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use secrecy::SecretString;

use super::capture::{Authority, database_opts};
use super::snapshots::{DatabaseRows, source_error};
use super::topics::Topics;
use crate::change::TableName;
use crate::cloud::{CloudApplier, CloudControl, FilesWanted, LocalRows, Outlines, SyncOrder};
use crate::config::{CloudFeed, Config, DatabaseAddress, OwnNode, StoreChoice};
use crate::observe::{self, CloudFile, CloudReport, Observer};
use crate::receive::{FileShelf, MariadbShelf, Shelf, SqliteShelf};
use crate::runtime::{Clock, Shutdown, Stop, Supervisor, SystemClock};
use crate::serve::receiver::{Receiver, ReceiverOptions};
use crate::serve::tls::{NAMED_CERTIFICATE, TlsIdentity};
use crate::serve::{Clouds, FilesAsked, FilesRefused, SyncAsked, SyncRefused};
use crate::source::{ChunkRequest, SourceError};
use crate::state::{IdsFile, LedgerFile};
use crate::target::cloud::{Archive, CloudApi, CloudError, FileStore, FolderFiles, ObjectFiles, Pace};
use crate::target::mariadb::Wanted;
use crate::topic::hub::KeyHash;

/// The clouds of one node.
#[derive(Default)]
pub struct Feeds(Vec<Feed>);

struct Feed {
    /// How the role is called.
    role: String,
    feed: CloudFeed,
    folder: PathBuf,
    control: Arc<CloudControl>,
}

impl Feeds {
    pub fn new(config: &Config, own: &OwnNode) -> Result<Self, Stop> {
        let feeds = config.cloud_feeds(own.name())?;
        let feed = |feed: CloudFeed| Feed {
            role: format!("cloud {}", feed.options.name),
            feed,
            folder: own.state_folder.clone(),
            control: Arc::default(),
        };
        Ok(Self(feeds.into_iter().map(feed).collect()))
    }

    pub fn roles(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|feed| feed.role.as_str())
    }

    pub fn names(&self) -> Vec<&str> {
        self.0.iter().map(|feed| feed.feed.options.name.as_str()).collect()
    }

    /// What takes orders for them.
    pub fn orders(&self) -> CloudOrders {
        CloudOrders(self.0.iter().map(|feed| (feed.feed.options.name.clone(), feed.control.clone())).collect())
    }

    /// A role for each, so that one cloud's trouble is no other's.
    pub fn start(
        self,
        supervisor: &mut Supervisor,
        topics: &Topics,
        rows: &Arc<DatabaseRows>,
        clock: &Arc<dyn Clock>,
        observer: &Observer,
    ) {
        for feed in self.0 {
            let (topics, rows, clock, observer) = (topics.clone(), rows.clone(), clock.clone(), observer.clone());
            let Feed { role, feed, folder, control } = feed;
            supervisor.role(role, move |shutdown| {
                let (feed, folder, control) = (feed.clone(), folder.clone(), control.clone());
                let (reader, rows, clock, observer) = (topics.reader(), rows.clone(), clock.clone(), observer.clone());
                async move {
                    let pace = Arc::new(Pace::new(feed.bytes_per_second));
                    let api = Arc::new(CloudApi::new(feed.api, pace.clone())?);
                    let part_bytes = feed.options.files.as_ref().map_or(0, |files| files.part_bytes);
                    let applier = CloudApplier {
                        archive: archive(feed.archive, pace.clone())?,
                        files: file_store(feed.store, &api, part_bytes, pace)?,
                        cloud: api,
                        ledger: Arc::new(Mutex::new(Box::new(LedgerFile::open(&folder, &feed.options.name)?))),
                        known: Mutex::new(Box::new(IdsFile::create(&folder, &feed.options.name)?)),
                        options: feed.options,
                        reader,
                        rows,
                        control,
                        clock,
                        observer,
                    };
                    Ok(applier.run(shutdown).await?)
                }
            });
        }
    }
}

/// Where a node's files go.
fn file_store(
    store: StoreChoice,
    api: &Arc<CloudApi>,
    part_bytes: u64,
    pace: Arc<Pace>,
) -> Result<Arc<dyn FileStore>, CloudError> {
    Ok(match store {
        StoreChoice::Api => api.clone(),
        StoreChoice::Folder { root, public } => Arc::new(FolderFiles::new(root, public, pace)),
        StoreChoice::Bucket(options) => Arc::new(ObjectFiles::new(*options, part_bytes, pace)?),
    })
}

/// Where rows that are sent are kept too.
fn archive(store: Option<StoreChoice>, pace: Arc<Pace>) -> Result<Option<Arc<dyn Archive>>, CloudError> {
    Ok(match store {
        None | Some(StoreChoice::Api) => None,
        Some(StoreChoice::Folder { root, public }) => Some(Arc::new(FolderFiles::new(root, public, pace))),
        // An object is one window of rows, compressed.
        Some(StoreChoice::Bucket(options)) => Some(Arc::new(ObjectFiles::new(*options, 16 << 20, pace)?)),
    })
}

#[async_trait]
impl LocalRows for DatabaseRows {
    async fn tables(&self) -> Result<Vec<TableName>, SourceError> {
        let fault = |error| source_error(error, &self.database);
        self.database.target().await.map_err(fault)?.captured(&self.tables).await.map_err(fault)
    }

    async fn outlines(&self, wanted: &ChunkRequest, columns: &[&str]) -> Result<Outlines, SourceError> {
        let fault = |error| source_error(error, &self.database);
        let target = self.database.target().await.map_err(fault)?;
        let wanted = Wanted {
            table: &wanted.table,
            after: wanted.after.as_ref(),
            upto: None,
            keys: &wanted.keys,
            rows_max: wanted.rows_max,
            bytes_max: wanted.bytes_max,
            condition: wanted.condition.as_deref(),
        };
        let found = target.existing_columns(wanted, columns).await.map_err(fault)?;
        Ok(Outlines { shape: found.shape, rows: found.rows, ends: found.ends })
    }

    async fn references(&self) -> Result<Vec<(TableName, TableName)>, SourceError> {
        let fault = |error| source_error(error, &self.database);
        self.database.target().await.map_err(fault)?.references(&self.tables).await.map_err(fault)
    }
}

/// Takes orders over HTTP to the appliers.
#[derive(Clone)]
pub struct CloudOrders(BTreeMap<String, Arc<CloudControl>>);

#[async_trait]
impl Clouds for CloudOrders {
    fn sync_now(&self, cloud: &str, asked: &SyncAsked) -> Result<u64, SyncRefused> {
        let control = self.0.get(cloud).ok_or(SyncRefused::NoSuchCloud)?;
        let SyncAsked { force, dry_run, tables } = asked.clone();
        let order = SyncOrder { force, dry_run, tables: tables.into_iter().collect() };
        control.order(&order).map(|ordered| ordered.number()).map_err(|_| SyncRefused::Another)
    }

    fn files(&self, cloud: &str, asked: &FilesAsked) -> Result<Vec<CloudFile>, FilesRefused> {
        let control = self.0.get(cloud).ok_or(FilesRefused::NoSuchCloud)?;
        let FilesAsked { state, after, at_most } = asked.clone();
        let found = control.files(&FilesWanted { state, after, at_most }).ok_or(FilesRefused::NotRunning)?;
        found.map_err(|error| FilesRefused::Ledger(error.to_string()))
    }

    async fn report(&self, cloud: &str, run: u64) -> Option<CloudReport> {
        Some(self.0.get(cloud)?.run(run).report().await.as_ref().clone())
    }
}

/// A MariaDB that keeps a receiver's rows, in a schema of their own.
#[derive(Clone, Debug)]
pub struct ReceiverDatabase {
    pub address: DatabaseAddress,
    pub password: Option<SecretString>,
    pub tls: Option<Authority>,
}

impl ReceiverDatabase {
    async fn shelf(&self, clock: Arc<dyn Clock>) -> Result<MariadbShelf, Stop> {
        let opts = database_opts(&self.address, self.password.as_ref(), self.tls.as_ref());
        Ok(MariadbShelf::open(opts.db_name(Some(&self.address.schema)).into(), clock).await?)
    }
}

/// How the receiver is run.
#[derive(Clone, Debug)]
pub struct CloudServer {
    pub listen: SocketAddr,
    pub data: PathBuf,
    /// Where rows are kept; in the data folder where there is none.
    pub database: Option<ReceiverDatabase>,
    /// Where files are kept.
    pub files: StoreChoice,
    pub keys: Vec<(String, KeyHash)>,
    /// Over TLS, with the given certificate and key, or one of its own.
    pub tls: bool,
    pub certificate: Option<(PathBuf, PathBuf)>,
    /// By which senders reach it: what its own certificate is for, besides this machine itself.
    pub names: Vec<String>,
    pub body_bytes_max: usize,
    pub requests_per_second: u32,
}

impl CloudServer {
    fn tls_folder(&self) -> PathBuf {
        self.data.join("tls")
    }

    /// True where it has to make a certificate of its own, and would make one by which no other machine could know it.
    pub fn lacks_a_name(&self) -> bool {
        let makes_one = self.tls && self.certificate.is_none() && !self.tls_folder().join(NAMED_CERTIFICATE).exists();
        makes_one && self.names.is_empty() && self.listen.ip().is_unspecified()
    }

    fn all_names(&self) -> Vec<String> {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).into();
        if !self.listen.ip().is_unspecified() {
            names.push(self.listen.ip().to_string());
        }
        names.extend(self.names.iter().cloned());
        names.sort();
        names.dedup();
        names
    }
}

/// Parts of files whose sender has not come back for so long are removed when the receiver starts. Nodes may be away for days.
const FORGOTTEN: Duration = Duration::from_secs(30 * 86_400);

/// Receives what nodes send, until shutdown.
pub async fn run_cloud_server(server: CloudServer, shutdown: Shutdown) -> Result<(), Stop> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (shelf, rows): (Arc<dyn Shelf>, String) = match &server.database {
        None => (Arc::new(SqliteShelf::open(&server.data, clock.clone())?), server.data.display().to_string()),
        Some(database) => (Arc::new(database.shelf(clock.clone()).await?), database.address.to_string()),
    };
    let (files, kept_in) = file_shelf(&server, clock.now_seconds())?;
    let own = TlsIdentity::OwnNamed { folder: server.tls_folder(), names: server.all_names() };
    let given = |(certificate, key): (PathBuf, PathBuf)| TlsIdentity::Given { certificate, key };
    let mut options = ReceiverOptions::new(server.listen, server.keys);
    options.tls = server.tls.then(|| server.certificate.map_or(own, given));
    options.body_bytes_max = server.body_bytes_max;
    options.requests_per_second = server.requests_per_second;
    let receiver = Receiver::open(options, shelf, files, clock).await?;
    let fingerprint = receiver.fingerprint().map(|fingerprint| fingerprint.to_string());
    observe::receiver_starts(&receiver.address(), &rows, &kept_in, fingerprint.as_deref());
    Ok(receiver.run(shutdown).await?)
}

/// Where a receiver's files go, and how that is called.
fn file_shelf(server: &CloudServer, now: u64) -> Result<(FileShelf, String), Stop> {
    let pace = Arc::new(Pace::new(None));
    let root = match &server.files {
        StoreChoice::Bucket(options) => {
            // No part is larger than a request.
            let files = ObjectFiles::new(*options.clone(), server.body_bytes_max as u64, pace)?;
            let place = files.place().to_owned();
            return Ok((FileShelf::new(files), place));
        }
        StoreChoice::Folder { root, .. } => root.clone(),
        StoreChoice::Api => server.data.join("files"),
    };
    let files = FolderFiles::new(&root, None, pace);
    files.sweep(now, FORGOTTEN)?;
    Ok((FileShelf::new(files), root.display().to_string()))
}
