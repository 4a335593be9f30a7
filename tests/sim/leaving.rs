//! One node is removed while all write, the node itself perhaps among them; then it leaves the configuration of the others.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tandem::change::OriginId;
use tandem::runtime::{Disposition, Fault};
use tandem::topic::{Extent, TopicReader, TopicWriter, lacking, remove};
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;
use crate::world::{Node, World};

/// How often somebody looks whether the node can leave.
const LOOK: Duration = Duration::from_millis(200);

impl World {
    pub fn is_leaving(&self, at: usize) -> bool {
        self.scenario.removes && at == self.apart()
    }

    /// What has still to happen until nobody waits for the node that was removed.
    pub fn waits_for_leaving(&self) -> Vec<String> {
        let mut undone = Vec::new();
        let leaving = &self.cluster[self.apart()];
        for (_, node) in self.nodes.iter().enumerate().filter(|(at, _)| self.scenario.removes && !self.is_leaving(*at)) {
            if node.file.lock().unwrap().contains(leaving) {
                undone.push(format!("{} counts {leaving} still", node.origin));
            }
            let text = node.observer.metrics_text();
            for metric in ["tandem_index_rows ", "tandem_index_spilled_rows "] {
                let value = text.lines().find_map(|line| line.strip_prefix(metric)).map_or("nothing", str::trim);
                if value != "0" {
                    undone.push(format!("{} has {metric}{value}", node.origin));
                }
            }
        }
        undone
    }

    /// The life of the node that is removed, and what others do about it.
    pub async fn keep_leaving(self: Arc<Self>, at: usize, until: Instant) {
        let mut dice = Rng::with_seed(self.scenario.seed ^ (at as u64 + 1) << 40);
        let left = until.saturating_duration_since(Instant::now());
        let mut process = Some(Process::start(&self, at, dice.u64(..)));
        sleep(left.mul_f64(dice.f64() * 0.7)).await;
        // Often it is gone already, and often it publishes at that moment.
        if dice.bool() {
            process = None;
            sleep(left.mul_f64(dice.f64() * 0.2)).await;
        }
        let others: Vec<usize> = (0..self.nodes.len()).filter(|&other| other != at).collect();
        // More than one may give the command.
        for _ in 0..dice.usize(1..3) {
            let by = others[dice.usize(..others.len())];
            tokio::spawn(self.clone().remove(at, by, dice.u64(..)));
        }
        if process.is_none() && dice.bool() {
            process = Some(Process::start(&self, at, dice.u64(..)));
        }
        self.leave(at, &others, &mut dice).await;
        loop {
            sleep(Duration::from_secs(1)).await;
            if let Some(process) = &mut process {
                process.look().await;
            }
        }
    }

    async fn remove(self: Arc<Self>, leaving: usize, by: usize, seed: u64) {
        let mut dice = Rng::with_seed(seed);
        let (node, by) = (&self.cluster[leaving], &self.nodes[by]);
        loop {
            let reader = self.topics.reader(by.weather.clone());
            let writer = || Box::new(self.topics.writer(node.clone(), by.weather.clone())) as Box<dyn TopicWriter>;
            let patience = Duration::from_secs(20).mul_f64(dice.f64());
            match timeout(patience, remove(&reader, writer, node, &by.origin)).await {
                Ok(Ok(Some(_))) => return,
                Ok(Err(error)) if error.disposition() == Disposition::Halt => {
                    return self.halts.lock().unwrap().push(format!("removing {node}: {error}"));
                }
                Ok(_) | Err(_) => sleep(Duration::from_millis(dice.u64(..500))).await,
            }
        }
    }

    /// Somebody takes the node out of the configuration of the others, when it can leave.
    async fn leave(&self, leaving: usize, others: &[usize], dice: &mut Rng) {
        let name = &self.cluster[leaving];
        while !self.can_leave(name, &self.nodes[others[0]]).await && !self.scenario.without.unlisted {
            sleep(LOOK).await;
        }
        for &other in others {
            sleep(Duration::from_millis(dice.u64(..3000))).await;
            self.nodes[other].file.lock().unwrap().retain(|origin| origin != name);
        }
    }

    /// As `tandem node list` tells it.
    async fn can_leave(&self, leaving: &OriginId, asked: &Node) -> bool {
        let reader = self.topics.reader(asked.weather.clone());
        let mut extents: BTreeMap<OriginId, Extent> = BTreeMap::new();
        for origin in &self.cluster {
            let Ok(extent) = reader.extent(origin).await else { return false };
            extents.insert(origin.clone(), extent);
        }
        let removed = extents[leaving].last.as_ref().is_some_and(|last| last.removed_by().is_some());
        removed && lacking(leaving, &extents).is_empty()
    }

    /// The life of a node that stays: it is killed now and then, and started anew when its configuration was changed.
    pub async fn keep_staying(self: Arc<Self>, at: usize, until: Instant) {
        let node = &self.nodes[at];
        let mut dice = Rng::with_seed(self.scenario.seed ^ (at as u64 + 1) << 40);
        loop {
            let file = node.file.lock().unwrap().clone();
            let mut process = Process::start(&self, at, dice.u64(..));
            let left = until.saturating_duration_since(Instant::now());
            let ends = (self.scenario.crashes && !left.is_zero()).then(|| Instant::now() + left.mul_f64(dice.f64()));
            while ends.is_none_or(|ends| Instant::now() < ends) && *node.file.lock().unwrap() == file {
                sleep(LOOK).await;
                process.look().await;
            }
            if ends.is_some() && dice.f64() < 0.3 {
                node.weather.set_offline(true);
                sleep(Duration::from_millis(dice.u64(..8000))).await;
                node.weather.set_offline(false);
            }
            self.met.lock().unwrap().crashes += 1;
            drop(process);
            sleep(Duration::from_millis(dice.u64(..2000))).await;
        }
    }
}
