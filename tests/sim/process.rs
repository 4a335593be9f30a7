//! The process of one node, as far as it is simulated: its tailer and its applier, each run anew after a fault that passes.

use std::sync::Arc;
use std::time::Duration;

use tandem::apply::{Applier, ApplyOptions, LocalFeed, NoNotes, NoteTaker};
use tandem::change::{Cluster, TableFilter};
use tandem::runtime::{Disposition, Fault, Shutdown};
use tandem::source::memory::MemorySource;
use tandem::tail::{SnapshotDesk, Snapshots, TailOptions, Tailer};
use tandem::verify::{Unkept, VerifyDesk};
use tokio::task::{JoinError, JoinHandle};
use tokio::time::sleep;

use crate::existing::MemoryRows;
use crate::trouble::Trouble;
use crate::world::{Drawer, Feed, World};

/// The tasks of one node; killed, not asked, when dropped.
pub struct Process {
    at: usize,
    seed: u64,
    cluster: Cluster,
    local: Arc<LocalFeed>,
    desk: Arc<SnapshotDesk>,
    tailer: Option<JoinHandle<()>>,
    applier: Option<JoinHandle<()>>,
}

impl Process {
    pub fn start(world: &Arc<World>, at: usize, seed: u64) -> Self {
        // What nobody kept of the orders is forgotten.
        let desk = world.nodes[at].open_desk();
        let cluster = world.nodes[at].cluster();
        let mut process = Self { at, seed, cluster, local: Arc::default(), desk, tailer: None, applier: None };
        process.go_on(world);
        process
    }

    /// Starts the roles that do not run.
    pub fn go_on(&mut self, world: &Arc<World>) {
        let Self { at, seed, cluster, local, desk, tailer, applier } = self;
        tailer.get_or_insert_with(|| tokio::spawn(tail(world.clone(), *at, local.clone(), desk.clone(), *seed)));
        applier.get_or_insert_with(|| tokio::spawn(apply(world.clone(), *at, cluster.clone(), local.clone(), desk.clone())));
    }

    /// Ends the applier, or both roles, whatever they are doing.
    pub async fn stop(&mut self, tailer: bool) {
        let roles = [self.applier.take(), if tailer { self.tailer.take() } else { None }];
        for role in roles.into_iter().flatten() {
            role.abort();
            // So that what it had open is closed.
            let _ = role.await;
        }
    }

    /// Passes a panic of a role on.
    pub async fn look(&mut self) {
        for role in [&mut self.tailer, &mut self.applier] {
            if role.as_ref().is_some_and(JoinHandle::is_finished)
                && let Some(Err(error)) = futures(role.take()).await
                && error.is_panic()
            {
                std::panic::resume_unwind(error.into_panic());
            }
        }
    }

    pub async fn ended(mut self) {
        if let Some(Err(error)) = futures(self.tailer.take()).await
            && error.is_panic()
        {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn futures(role: Option<JoinHandle<()>>) -> Option<Result<(), JoinError>> {
    Some(role?.await)
}

impl Drop for Process {
    fn drop(&mut self) {
        [&self.tailer, &self.applier].into_iter().flatten().for_each(JoinHandle::abort);
    }
}

async fn tail(world: Arc<World>, at: usize, local: Arc<LocalFeed>, desk: Arc<SnapshotDesk>, seed: u64) {
    let node = &world.nodes[at];
    let scenario = &world.scenario;
    let trouble = Arc::new(Trouble::new(seed, scenario));
    loop {
        let mut options = TailOptions::new(node.origin.clone(), TableFilter::everything());
        options.append_bytes = scenario.append_bytes;
        options.ablation.no_clock_merge = scenario.without.clock_merge;
        options.ablation.no_resolution = scenario.without.resolution;
        options.ablation.no_echo_filter = scenario.without.echo_filter;
        options.ablation.no_snapshot_window = scenario.without.snapshot_window;
        let source =
            MemorySource::new(node.binlog.clone()).with_pause(trouble.clone()).with_part_changes_max(scenario.part_changes);
        let tailer = Tailer {
            options,
            source: Arc::new(source),
            writer: Box::new(world.topics.writer(node.origin.clone(), node.weather.clone())),
            follower: Arc::new(Feed(local.clone())),
            floor: node.floor.clone(),
            clock: node.clock.clone(),
            observer: node.observer.clone(),
            snapshots: scenario.asks().then(|| Snapshots {
                reader: Arc::new(MemoryRows::new(node.database.clone(), trouble.clone())),
                desk: desk.clone(),
            }),
            rereads: Arc::default(),
        };
        match tailer.run(Shutdown::new()).await {
            Err(error) if error.disposition() == Disposition::Retry => again(&world).await,
            other => return halted(&world, at, "tailer", other.err()).await,
        }
    }
}

async fn apply(world: Arc<World>, at: usize, cluster: Cluster, local: Arc<LocalFeed>, desk: Arc<SnapshotDesk>) {
    let node = &world.nodes[at];
    let scenario = &world.scenario;
    loop {
        let notes: Arc<dyn NoteTaker> = match scenario.asks() {
            true => {
                let (cluster, observer) = (cluster.clone(), node.observer.clone());
                let verify = VerifyDesk::open(cluster, desk.clone(), node.clock.clone(), observer, Box::new(Unkept));
                Arc::new(verify.expect("nothing is kept that could not be read"))
            }
            false => Arc::new(NoNotes),
        };
        let mut options = ApplyOptions::new(cluster.clone());
        options.group_changes = scenario.group_changes;
        options.default_policy = scenario.policy.clone();
        options.tailer_wait = Duration::from_secs(2);
        options.idle_checkpoint = 5;
        options.index_rows = scenario.index_rows;
        options.buffer_bytes = scenario.buffer_bytes;
        options.ablation.no_wait = scenario.without.wait;
        options.ablation.no_tombstones = scenario.without.tombstones;
        options.ablation.no_author = scenario.without.author;
        options.ablation.no_ties = scenario.without.ties;
        options.ablation.no_emptied = scenario.without.emptied;
        options.ablation.no_stale = scenario.without.stale;
        options.ablation.no_ask_wait = scenario.without.ask_wait;
        options.ablation.no_removal = scenario.without.removal;
        options.ablation.no_unlisted = scenario.without.unlisted;
        let applier = Applier {
            options,
            target: Arc::new(node.database.clone()),
            reader: Arc::new(world.topics.reader(node.weather.clone())),
            local: local.clone(),
            overflow: Arc::new(|| Ok(Box::new(Drawer::default()))),
            clock: node.clock.clone(),
            observer: node.observer.clone(),
            notes,
            again: Arc::default(),
        };
        match applier.run(Shutdown::new()).await {
            Err(error) if error.disposition() == Disposition::Retry => again(&world).await,
            other => return halted(&world, at, "applier", other.err()).await,
        }
    }
}

/// As a supervisor would: a while later, from the beginning.
async fn again(world: &World) {
    world.met.lock().unwrap().restarts += 1;
    sleep(Duration::from_millis(100)).await;
}

async fn halted<E: std::fmt::Display>(world: &World, at: usize, role: &'static str, error: Option<E>) {
    let reason = error.map_or("it ended".into(), |error| error.to_string());
    let node = &world.nodes[at];
    match world.expects(at, &reason) {
        true => node.stopped.lock().unwrap().push(role),
        false => world.halts.lock().unwrap().push(format!("{role} of {}: {reason}", node.origin)),
    }
    std::future::pending().await
}
