//! The one thread that writes: it gathers what waits, commits it at once, and answers when it is durable.

use std::sync::Arc;
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread::JoinHandle;
use std::time::Duration;

use rusqlite::params;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::file::{StoreFile, TOPICS_MAX, place, store_fault};
use super::retention::Retention;
use super::{Shared, StoreOptions, TopicState, Topics, closed};
use crate::change::{Offset, OriginId};
use crate::runtime::Clock;
use crate::topic::hub::Block;
use crate::topic::{TopicError, check_append};

/// What the thread is asked to do to a topic; the answer is the topic afterwards.
pub enum Job {
    Resume,
    Append { generation: Option<u64>, blocks: Vec<Block> },
    Forget { before: Offset },
}

pub struct Order {
    pub origin: OriginId,
    pub job: Job,
    pub reply: oneshot::Sender<Result<TopicState, TopicError>>,
    /// The order's share of the memory for waiting orders.
    pub _room: OwnedSemaphorePermit,
}

/// KB of blocks that may wait for the thread, all nodes together.
const ROOM_KB: usize = 64 << 10;

/// Orders in one commit: what waits longer than that waits for the next.
const GROUP_ORDERS: usize = 256;

/// When nothing is appended, retention is looked after this often.
const QUIET: Duration = Duration::from_secs(1);

/// The thread's other end. Dropping it ends the thread, after everything it was sent is done.
pub struct WriterThread {
    orders: Option<Sender<Order>>,
    room: Arc<Semaphore>,
    thread: Option<JoinHandle<()>>,
}

impl WriterThread {
    pub fn start(file: StoreFile, options: &StoreOptions, shared: Arc<Shared>) -> Result<Self, TopicError> {
        let topics = file.topics()?;
        shared.publish(topics.clone());
        let (orders, incoming) = mpsc::channel();
        let retention = Retention::new(options);
        let writer = Writer { file, topics, shared, incoming, retention, clock: options.clock.clone(), doubtful: false };
        let thread = std::thread::Builder::new().name("hub-store".into()).spawn(move || writer.run());
        let thread = thread.map_err(|error| TopicError::Store { reason: format!("cannot start a thread: {error}") })?;
        Ok(Self { orders: Some(orders), room: Arc::new(Semaphore::new(ROOM_KB)), thread: Some(thread) })
    }

    /// Waits until there is memory for an order of that size.
    pub async fn room(&self, bytes: usize) -> Result<OwnedSemaphorePermit, TopicError> {
        // One record can be larger than all of the room; it then has it for itself.
        let share = (bytes / 1024 + 1).min(ROOM_KB) as u32;
        self.room.clone().acquire_many_owned(share).await.map_err(|_| closed())
    }

    pub fn send(&self, order: Order) -> Result<(), TopicError> {
        self.orders.as_ref().and_then(|orders| orders.send(order).ok()).ok_or_else(closed)
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.orders = None;
        if let Some(thread) = self.thread.take() {
            // A panic there was already printed, and there is nobody left to tell.
            let _ = thread.join();
        }
    }
}

struct Writer {
    file: StoreFile,
    /// What is durable, as far as we know.
    topics: Topics,
    shared: Arc<Shared>,
    incoming: Receiver<Order>,
    retention: Retention,
    clock: Arc<dyn Clock>,
    /// After a failure: the file must be asked again before anything is added to it.
    doubtful: bool,
}

impl Writer {
    fn run(mut self) {
        let mut patience = QUIET;
        loop {
            match self.incoming.recv_timeout(patience) {
                Ok(order) => {
                    let orders = self.gather(order);
                    self.carry_out(orders);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            patience = if self.retain() { Duration::ZERO } else { QUIET };
        }
    }

    /// The order and all that wait behind it.
    fn gather(&self, order: Order) -> Vec<Order> {
        let mut orders = vec![order];
        while orders.len() < GROUP_ORDERS
            && let Ok(order) = self.incoming.try_recv()
        {
            orders.push(order);
        }
        orders
    }

    /// One commit for all of them; an order that is refused does not stop the others.
    fn carry_out(&mut self, orders: Vec<Order>) {
        let mut topics = self.topics.clone();
        let outcome = self.commit(&mut topics, &orders);
        match outcome {
            Ok(answers) => {
                self.publish(topics);
                for (order, answer) in orders.into_iter().zip(answers) {
                    // Who asked may have gone; what he asked for is done all the same.
                    let _ = order.reply.send(answer);
                }
            }
            Err(error) => {
                self.doubtful = true;
                let reason = error.to_string();
                for order in orders {
                    let _ = order.reply.send(Err(TopicError::Store { reason: reason.clone() }));
                }
            }
        }
    }

    fn commit(&mut self, topics: &mut Topics, orders: &[Order]) -> Result<Vec<Result<TopicState, TopicError>>, TopicError> {
        if self.doubtful {
            self.file.reconnect()?;
            *topics = self.file.topics()?;
            self.doubtful = false;
        }
        let second = self.clock.now_seconds();
        self.file.connection.execute_batch("BEGIN IMMEDIATE").map_err(store_fault)?;
        let carried: rusqlite::Result<Vec<_>> =
            orders.iter().map(|order| self.carry(topics, &order.origin, &order.job, second)).collect();
        let committed = carried.and_then(|answers| {
            self.file.connection.execute_batch("COMMIT")?;
            Ok(answers)
        });
        committed.map_err(store_fault)
    }

    /// The outer error undoes the whole commit, the inner one is this order's own.
    fn carry(
        &self,
        topics: &mut Topics,
        origin: &OriginId,
        job: &Job,
        second: u64,
    ) -> rusqlite::Result<Result<TopicState, TopicError>> {
        let connection = &self.file.connection;
        let known = topics.get(origin).copied();
        let current = known.unwrap_or_default();
        if let Job::Append { generation, blocks } = job
            && let Err(error) = admit(origin, current, *generation, blocks)
        {
            return Ok(Err(error));
        }
        let mut topic = match known {
            Some(topic) => topic,
            None if topics.len() >= usize::from(TOPICS_MAX) => {
                return Ok(Err(TopicError::Store { reason: format!("the hub keeps at most {TOPICS_MAX} topics") }));
            }
            None => {
                let id = topics.values().map(|topic| topic.id + 1).max().unwrap_or(0);
                connection
                    .prepare_cached("INSERT INTO topics (id, origin, generation) VALUES (?, ?, 0)")?
                    .execute(params![id, origin.as_str()])?;
                TopicState { id, ..current }
            }
        };
        match job {
            Job::Resume => {
                topic.generation += 1;
                connection
                    .prepare_cached("UPDATE topics SET generation = ? WHERE id = ?")?
                    .execute(params![topic.generation as i64, topic.id])?;
            }
            Job::Append { blocks, .. } => {
                let mut insert = connection.prepare_cached("INSERT INTO blocks (place, second, sealed) VALUES (?, ?, ?)")?;
                for block in blocks {
                    let place = place(topic.id, block.first).expect("admit() looked at the end");
                    insert.execute(params![place, second as i64, &block.sealed()[..]])?;
                    topic.end = block.end();
                }
            }
            Job::Forget { before } => topic.first = self.file.forget(topic.id, *before, 0, u32::MAX)?,
        }
        topics.insert(origin.clone(), topic);
        Ok(Ok(topic))
    }

    /// One small step of retention; true where more is to be done.
    fn retain(&mut self) -> bool {
        if self.doubtful {
            return false;
        }
        match self.retention.step(&self.file, &mut self.topics) {
            Ok(None) => false,
            Ok(Some(())) => {
                self.publish(self.topics.clone());
                true
            }
            // The next append meets the same trouble and tells whoever asked.
            Err(_) => {
                self.doubtful = true;
                false
            }
        }
    }

    fn publish(&mut self, topics: Topics) {
        self.topics = topics;
        self.shared.publish(self.topics.clone());
    }
}

/// Whether an append may be kept.
fn admit(origin: &OriginId, topic: TopicState, generation: Option<u64>, blocks: &[Block]) -> Result<(), TopicError> {
    let Some(first) = blocks.first() else { return Ok(()) };
    check_append(origin, first.first, topic.end)?;
    if generation.is_some_and(|own| own != topic.generation) {
        return Err(TopicError::Fenced { origin: origin.clone(), expected: first.first, actual: topic.end });
    }
    if blocks.windows(2).any(|pair| pair[0].end() != pair[1].first) {
        return Err(TopicError::Store { reason: format!("an append of {origin} has a gap between its blocks") });
    }
    if blocks.iter().any(|block| place(topic.id, block.end()).is_none()) {
        return Err(TopicError::Store { reason: format!("the topic of {origin} is full") });
    }
    Ok(())
}
