//! A node is seeded again, or for the first time: its situation, and how it begins.

use std::collections::BTreeMap;

use super::lease::Seat;
use super::node::{Database, Role};
use super::snapshots::choose;
use super::topics::Topics;
use crate::apply::{self, SeedingWish, seed_kind};
use crate::change::{Offset, OriginId, Record, TableName};
use crate::config::{Config, OwnNode};
use crate::runtime::{Clock, Stop, SystemClock};
use crate::source::Source;
use crate::tail::{TailOptions, begin_topic, lost_history};
use crate::target::Target;
use crate::target::mariadb::{Asked, MariadbTarget};
pub use crate::target::{SeedKind, Seeding};
use crate::topic::Extent;

/// How another node's topic and what is applied of it here belong together.
pub struct TopicGap {
    pub origin: OriginId,
    /// What is to be applied next here; `None` where nothing ever was.
    pub next: Option<Offset>,
    /// What the topic holds: `first..end`.
    pub first: Offset,
    pub end: Offset,
    pub removed: bool,
}

impl TopicGap {
    /// Records that are gone and were not applied here.
    pub fn gone(&self) -> u64 {
        self.first.0.saturating_sub(self.next.map_or(0, |next| next.0))
    }
}

/// What a seeding would be about.
pub struct Situation {
    pub topics: Vec<TopicGap>,
    /// Why the binlog cannot be read on from where it was.
    pub history_lost: Option<String>,
    /// It has never applied anything.
    pub is_new: bool,
    /// Tables that would be seeded, with the rows that the server thinks they have here.
    pub tables: Vec<(TableName, u64)>,
    /// Tables that cannot be, and why.
    pub refused: Vec<(TableName, String)>,
    /// Statements of other nodes that wait for a decision.
    pub schema_open: usize,
    /// The seeding that is under way, or the last one.
    pub seeding: Option<Seeding>,
}

impl Situation {
    pub fn kind(&self) -> SeedKind {
        seed_kind(!self.is_new, self.history_lost.is_some(), self.seeding.as_ref())
    }

    /// Nothing goes on by itself.
    pub fn is_needed(&self) -> bool {
        self.history_lost.is_some() || self.topics.iter().any(|topic| topic.gone() > 0)
    }
}

/// Looks at one node's situation. `reads` where its tailer is known to read the binlog: then that is not tried.
pub async fn situation(config: &Config, own: &OwnNode, reads: bool) -> Result<Situation, Stop> {
    let database = Database::new(own, config.tables.clone());
    let target = database.target().await?;
    let marks = target.checkpoints().await?;
    let topics = Topics::reach(own.topics.clone())?;
    let extents = extents(own, &topics).await?;
    let gap = |(origin, extent): (&OriginId, &Extent)| TopicGap {
        origin: origin.clone(),
        next: marks.get(origin).map(|mark| mark.next),
        first: extent.first,
        end: extent.end,
        removed: extent.last.as_ref().is_some_and(|last| last.removed_by().is_some()),
    };
    let gaps = extents.iter().filter(|(origin, _)| *origin != own.name()).map(gap).collect();
    let last = extents.get(own.name()).and_then(|extent| extent.last.clone());
    let history_lost = match last.filter(|_| !reads) {
        Some(last) => lost(config, own, &database, &last).await?,
        None => None,
    };
    let (tables, refused) = choose(&target.sizes(&config.tables).await?, &[])?;
    Ok(Situation {
        topics: gaps,
        history_lost,
        is_new: marks.is_empty(),
        tables,
        refused,
        schema_open: target.schema_entries().await?.len(),
        seeding: target.seeding().await?,
    })
}

async fn extents(own: &OwnNode, topics: &Topics) -> Result<BTreeMap<OriginId, Extent>, Stop> {
    let reader = topics.reader();
    let mut extents = BTreeMap::new();
    for rank in own.cluster.ranks() {
        let origin = own.cluster.name(rank);
        extents.insert(origin.clone(), reader.extent(origin).await?);
    }
    Ok(extents)
}

/// Why the binlog is not what follows the last record of the own topic.
async fn lost(config: &Config, own: &OwnNode, database: &Database, last: &Record) -> Result<Option<String>, Stop> {
    // The server lets go of a reader only when it has something to send to it.
    let source = database.source_as(3_000_000_000 + std::process::id() % 1_000_000_000)?;
    source.preflight().await?;
    let options = TailOptions::new(own.name().clone(), config.tables.clone());
    let now = SystemClock.now_seconds();
    Ok(lost_history(options, &source, last, now).await?.map(|error| error.to_string()))
}

/// Begins to take over the rows of `from`. The node goes on by itself, also over a new start. Its applier must not run, and where
/// its history is lost, its tailer neither.
pub async fn begin_seeding(config: &Config, own: &OwnNode, from: &OriginId, situation: &Situation) -> Result<Seeding, Stop> {
    let database = Database::new(own, config.tables.clone());
    let target = database.target().await?;
    let topics = Topics::reach(own.topics.clone())?;
    let mut leases = vec![lease(config, own, target, Role::Applier).await?];
    // Read before the marks are written, so that the tailer comes to them.
    let mut anew = None;
    if situation.history_lost.is_some() {
        leases.push(lease(config, own, target, Role::Tailer).await?);
        anew = Some(database.source()?.position().await?);
    }
    let begun = topics.reader().extent(own.name()).await?.last.is_some();
    if !begun {
        let options = TailOptions::new(own.name().clone(), config.tables.clone());
        begin_topic(options, &database.source()?, &mut *topics.writer(own.name().clone())).await?;
    }
    let wish = SeedingWish {
        number: SystemClock.now_micros() / 1_000,
        seeder: from.clone(),
        kind: situation.kind(),
        tables: situation.tables.iter().map(|(table, _)| table.clone()).collect(),
        refused: situation.refused.clone(),
        anew,
    };
    let seeding = apply::begin_seeding(target, &*topics.reader(), &own.cluster, wish).await?;
    if seeding.anew.is_some() {
        begin_anew(own, &seeding).await?;
    }
    for lease in leases {
        lease.give_back().await;
    }
    Ok(seeding)
}

/// Has the own history go on from where the seeding says.
async fn begin_anew(own: &OwnNode, seeding: &Seeding) -> Result<(), Stop> {
    let mut writer = Topics::reach(own.topics.clone())?.writer(own.name().clone());
    Ok(apply::begin_anew(&mut *writer, seeding).await?)
}

/// How far the seeding is.
pub async fn seeding(config: &Config, own: &OwnNode) -> Result<Option<Seeding>, Stop> {
    let database = Database::new(own, config.tables.clone());
    Ok(database.target().await?.seeding().await?)
}

/// Times to ask for a lease, which waits a second each.
const LEASE_TRIES: usize = 20;

async fn lease(
    config: &Config,
    own: &OwnNode,
    target: &MariadbTarget,
    role: Role,
) -> Result<crate::target::mariadb::Lease, Stop> {
    let seat = Seat { cluster: &config.cluster, node: own.name().as_str(), role: role.name() };
    let mut holder = String::new();
    for _ in 0..LEASE_TRIES {
        match target.ask_for_lease(&seat.lock()).await? {
            Asked::Held(lease) => return Ok(lease),
            Asked::Taken { by } => holder = by,
        }
    }
    let message = format!("the {} of {} still works ({holder})", role.name(), own.name());
    Err(Stop::halt(message, "stop tandem on this node, every process of it, then try again"))
}
