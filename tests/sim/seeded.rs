//! One node misses too much, loses its binlog, or comes new, and takes over the rows of another while all write.
//!
//! Retention takes from the topics what all others have applied, now and then, so that the node stops with the reason. Then somebody
//! gives the command, as `tandem reseed` does it; it may be cut off at any moment, and given once more while the first is under way.

use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;
use tandem::apply::{ApplyError, SeedingWish, begin_anew, begin_seeding, seed_kind};
use tandem::change::{Note, Offset, TableFilter};
use tandem::runtime::{Clock, Disposition, Stop};
use tandem::source::memory::MemorySource;
use tandem::tail::{TailOptions, begin_topic, lost_history};
use tandem::target::{SeedKind, Target};
use tandem::topic::TopicReader;
use tokio::time::{Instant, sleep, timeout};

use crate::process::Process;
use crate::trouble::Trouble;
use crate::world::World;

/// How often somebody looks at the node.
const LOOK: Duration = Duration::from_millis(50);

impl World {
    /// The node that is seeded, or removed.
    pub fn apart(&self) -> usize {
        Rng::with_seed(self.scenario.seed ^ 0xa9a7).usize(..self.nodes.len())
    }

    /// Whether a role may stop for this reason: then somebody sees to it.
    pub fn expects(&self, at: usize, reason: &str) -> bool {
        let words: &[&str] = match (self.scenario.seeds, self.scenario.removes) {
            (Some(_), _) => &["no longer has offset", "no longer has its binlog"],
            (None, true) => &["was removed by"],
            (None, false) => &[],
        };
        at == self.apart() && words.iter().any(|words| reason.contains(words))
    }

    /// The life of the node that is seeded.
    pub async fn keep_seeded(self: Arc<Self>, at: usize, until: Instant) {
        let kind = self.scenario.seeds.expect("only a scenario with a seeding has such a node");
        let node = &self.nodes[at];
        let mut dice = Rng::with_seed(self.scenario.seed ^ (at as u64 + 1) << 40);
        let left = || until.saturating_duration_since(Instant::now());
        if kind != SeedKind::New {
            let process = Process::start(&self, at, dice.u64(..));
            sleep(left().mul_f64(dice.f64() * 0.4)).await;
            drop(process);
        }
        sleep(left().mul_f64(dice.f64() * 0.6)).await;
        if kind == SeedKind::HistoryLost {
            node.binlog.purge(&node.binlog.position());
        }
        self.take_away(at, &mut dice);
        // What the command prepares before the node ever ran; where no topic is too short it is needed for what the node has.
        let whole = self.gone.lock().unwrap().iter().all(|(origin, gone)| *origin == node.origin || gone.is_empty());
        if kind == SeedKind::New && (whole || dice.bool()) {
            while node.database.kept_seeding().is_none() {
                self.reseed(at, None, &mut dice).await;
            }
        }
        let mut crashes = if self.scenario.crashes { dice.usize(..6) } else { 0 };
        let mut again = dice.f64() < 0.4;
        loop {
            let mut process = Process::start(&self, at, dice.u64(..));
            let life = Duration::from_secs(8).mul_f64(dice.f64() * dice.f64());
            let ends = (crashes > 0).then(|| Instant::now() + life);
            let mut patience = dice.u32(..40);
            while ends.is_none_or(|ends| Instant::now() < ends) {
                sleep(LOOK).await;
                process.look().await;
                let stopped = !node.stopped.lock().unwrap().is_empty();
                let under_way = node.database.kept_seeding().is_some_and(|seeding| seeding.is_open());
                patience = patience.saturating_sub(u32::from(under_way));
                let once_more = again && under_way && patience == 0;
                if stopped || once_more {
                    again &= !once_more;
                    self.reseed(at, Some(&mut process), &mut dice).await;
                }
            }
            crashes -= 1;
            self.met.lock().unwrap().crashes += 1;
            drop(process);
            node.stopped.lock().unwrap().clear();
            sleep(Duration::from_millis(dice.u64(..2000))).await;
            if Instant::now() < until && dice.bool() {
                self.take_away(at, &mut dice);
            }
        }
    }

    /// Retention, of what all but one node have applied.
    fn take_away(&self, but: usize, dice: &mut Rng) {
        for (of, origin) in self.cluster.iter().enumerate() {
            let needs = |at: usize| self.nodes[at].database.marks().get(origin).map_or(Offset(0), |mark| mark.next);
            let others = (0..self.nodes.len()).filter(|&at| at != but && at != of);
            let end = self.topics.end(origin);
            // Something of it is always kept: the node tells a heartbeat now and then.
            let most = others.map(needs).min().unwrap_or(end).min(Offset(end.0.saturating_sub(1)));
            let kept = self.topics.records(origin);
            let first = Offset(end.0 - kept.len() as u64);
            let upto = if dice.u64(..4) == 0 { Offset(dice.u64(..most.0 + 1)) } else { most };
            let taken = upto.0.saturating_sub(first.0) as usize;
            self.gone.lock().unwrap().entry(origin.clone()).or_default().extend(kept.into_iter().take(taken));
            self.topics.forget_before(origin, upto);
        }
    }

    /// The command. The roles that it ends run again when it is through, or cut off.
    async fn reseed(self: &Arc<Self>, at: usize, mut process: Option<&mut Process>, dice: &mut Rng) {
        let node = &self.nodes[at];
        // Somebody may end it at any moment, and give it again.
        let patience = Duration::from_secs(if dice.bool() { 2 } else { 600 }).mul_f64(dice.f64());
        if let Some(process) = &mut process {
            let halted = node.stopped.lock().unwrap().contains(&"tailer");
            process.stop(halted).await;
        }
        let command = async {
            let lost = self.is_lost(at, dice.u64(..)).await?;
            if lost && let Some(process) = &mut process {
                process.stop(true).await;
            }
            let applied = !node.database.checkpoints().await.map_err(Stop::from)?.is_empty();
            let others: Vec<usize> = (0..self.nodes.len()).filter(|&other| other != at).collect();
            let kind = seed_kind(applied, lost, node.database.kept_seeding().as_ref());
            let wish = SeedingWish {
                number: node.clock.now_micros() / 1_000,
                seeder: self.cluster[others[dice.usize(..others.len())]].clone(),
                kind: if self.scenario.without.kind { SeedKind::Away } else { kind },
                tables: self.shapes.iter().map(|shape| shape.table.clone()).collect(),
                refused: Vec::new(),
                anew: lost.then(|| node.binlog.position()),
            };
            let reader = self.topics.reader(node.weather.clone());
            let mut writer = self.topics.writer(node.origin.clone(), node.weather.clone());
            if self.topics.end(&node.origin) == Offset(0) && !self.scenario.without.begin {
                let source = MemorySource::new(node.binlog.clone());
                let options = TailOptions::new(node.origin.clone(), TableFilter::everything());
                begin_topic(options, &source, &mut writer).await.map_err(Stop::from)?;
            }
            let ends = self.cluster.iter().map(|origin| (origin.clone(), self.topics.end(origin))).collect();
            self.skipped.lock().unwrap().push((wish.number, ends));
            let seeding = begin_seeding(&node.database, &reader, &node.cluster(), wish).await.map_err(stop)?;
            begin_anew(&mut writer, &seeding).await.map_err(|error| stop(error.into()))
        };
        match timeout(patience, command).await {
            Ok(Ok(())) => self.met.lock().unwrap().seedings += 1,
            Ok(Err(stop)) if stop.disposition != Disposition::Halt => {}
            Ok(Err(stop)) => self.halts.lock().unwrap().push(format!("reseed of {}: {stop}", node.origin)),
            Err(_) => self.met.lock().unwrap().cut_off += 1,
        }
        // Each seeding has another number.
        sleep(Duration::from_millis(2)).await;
        let halted = std::mem::take(&mut *node.stopped.lock().unwrap()).contains(&"tailer");
        if let Some(process) = process {
            // It may have come to its end meanwhile.
            process.stop(halted).await;
            process.go_on(self);
        }
    }

    /// A node asks for rows only when it has told what it skips, or it would be answered without that.
    pub fn asks_tell_what_was_skipped(&self) -> Result<(), String> {
        for record in self.cluster.iter().flat_map(|origin| self.history(origin)) {
            let Some(Note::Ask(ask)) = record.note().filter(|note| matches!(note, Note::Ask(ask) if ask.seed)) else {
                continue;
            };
            // The answer to an earlier one is no longer waited for.
            let asker = self.nodes.iter().find(|node| node.origin == record.origin).expect("only nodes publish");
            if asker.database.kept_seeding().is_none_or(|seeding| seeding.number != ask.verify.number) {
                continue;
            }
            let skipped = self.skipped.lock().unwrap();
            let of = skipped.iter().find(|(number, _)| *number == ask.verify.number);
            for (origin, end) in of.into_iter().flat_map(|(_, ends)| ends).filter(|(origin, _)| **origin != record.origin) {
                let told = record.seen.end(origin);
                if told < *end {
                    return Err(format!("{} asks for rows and tells {origin} up to {told}, and skipped {end}", record.origin));
                }
            }
        }
        Ok(())
    }

    /// Whether the binlog is no longer what the topic tells of.
    async fn is_lost(&self, at: usize, seed: u64) -> Result<bool, Stop> {
        let node = &self.nodes[at];
        let reader = self.topics.reader(node.weather.clone());
        let extent = reader.extent(&node.origin).await.map_err(Stop::from)?;
        let Some(last) = extent.last else { return Ok(false) };
        let trouble = Arc::new(Trouble::new(seed, &self.scenario));
        let source = MemorySource::new(node.binlog.clone()).with_pause(trouble);
        let options = TailOptions::new(node.origin.clone(), TableFilter::everything());
        Ok(lost_history(options, &source, &last, node.clock.now_seconds()).await.map_err(Stop::from)?.is_some())
    }
}

fn stop(error: ApplyError) -> Stop {
    Stop::from(error)
}
