//! Reading again from an older place, and after what cannot be read, over the memory twins.

use std::sync::Mutex;
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{oneshot, watch};

use super::super::{Floor as _, Follower, MemoryFloor, TailOptions, Tailer};
use super::*;
use crate::change::{
    BinlogCoordinates, Change, Checks, Column, ColumnKind, Image, Offset, Op, OriginId, Record, Shape, TableFilter, TableName,
    Value,
};
use crate::observe::Observer;
use crate::runtime::{Shutdown, SystemClock};
use crate::source::memory::{MemoryBinlog, MemorySource, MemoryTransaction, Pause, PausePoint};
use crate::source::{SourceError, TransactionHeader};
use crate::topic::TopicReader as _;
use crate::topic::memory::{FairWeather, MemoryTopics};

struct Passed(watch::Sender<Option<GtidPosition>>);

impl Follower for Passed {
    fn resumed(&self, _: Offset) {}
    fn published(&self, _: Offset, _: &[Record]) {}
    fn passed(&self, position: &GtidPosition) {
        self.0.send_replace(Some(position.clone()));
    }
}

/// The next event cannot be read, where there is an error here.
#[derive(Default)]
struct Unreadable(Mutex<Option<SourceError>>);

#[async_trait]
impl Pause for Unreadable {
    async fn at(&self, point: PausePoint) -> Result<(), SourceError> {
        let error = if point == PausePoint::Next { self.0.lock().unwrap().take() } else { None };
        error.map_or(Ok(()), Err)
    }
}

/// A node whose tailer runs once and again.
#[derive(Default)]
struct Rig {
    unreadable: Arc<Unreadable>,
    binlog: MemoryBinlog,
    topics: MemoryTopics,
    floor: Arc<MemoryFloor>,
    desk: Arc<RereadDesk>,
    no_passing_over: bool,
}

impl Rig {
    fn origin() -> OriginId {
        OriginId::new("a")
    }

    /// Commits one row of campus.riders in each of two domains.
    fn commit(&self, id: i64) {
        let columns = vec![Column { name: "id".into(), kind: ColumnKind::Unknown, generated: false }];
        let shape = Arc::new(Shape { table: TableName::new("campus", "riders"), columns, key: vec![0] });
        for domain in [0, 1] {
            let gtid = self.binlog.next_gtid(domain, 1);
            let after = Some(Image::of([Some(Value::Int(id + i64::from(domain) * 1_000))]));
            let change = Change { shape: shape.clone(), op: Op::Insert, before: None, after, checks: Checks::default() };
            let coordinates = BinlogCoordinates::default();
            let header = TransactionHeader { gtid, commit_second: 7, server_id: 1, coordinates, read_from: None };
            self.binlog.append(MemoryTransaction { header, changes: vec![change], ddl: None });
        }
    }

    /// Runs the tailer until all that is committed is published, and what was asked for is answered.
    async fn run(&self, told: Option<oneshot::Receiver<Result<Reread, Stop>>>) -> Option<Result<Reread, Stop>> {
        let (tell, mut passed) = watch::channel(None::<GtidPosition>);
        let mut options = TailOptions::new(Self::origin(), TableFilter::everything());
        options.ablation.no_passing_over = self.no_passing_over;
        let tailer = Tailer {
            options,
            source: Arc::new(MemorySource::new(self.binlog.clone()).with_pause(self.unreadable.clone())),
            writer: Box::new(self.topics.writer(Self::origin(), Arc::new(FairWeather))),
            follower: Arc::new(Passed(tell)),
            floor: self.floor.clone(),
            clock: Arc::new(SystemClock),
            observer: Observer::default(),
            snapshots: None,
            rereads: self.desk.clone(),
        };
        let (shutdown, end) = (Shutdown::new(), self.binlog.position());
        let running = tokio::spawn(tailer.run(shutdown.clone()));
        let answer = match told {
            Some(told) => Some(told.await.expect("the tailer answers")),
            None => None,
        };
        let all = |position: &Option<GtidPosition>| position.as_ref().is_some_and(|position| position.covers_all(&end));
        passed.wait_for(all).await.expect("the tailer reads to the end");
        while self.no_passing_over && self.topic().await.len() == 6 {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        running.await.unwrap().unwrap();
        answer
    }

    async fn topic(&self) -> Vec<Record> {
        let reader = self.topics.reader(Arc::new(FairWeather));
        let records = reader.read(&Self::origin(), Offset(0), usize::MAX, Duration::ZERO).await.unwrap();
        records.into_iter().map(|(_, record)| record).filter(|record| record.change().is_some()).collect()
    }

    /// Three rows in each domain, published.
    async fn published() -> Self {
        let rig = Self::default();
        // The first run begins where the history ends then.
        rig.run(None).await;
        (1..4).for_each(|id| rig.commit(id));
        rig.run(None).await;
        assert_eq!(rig.topic().await.len(), 6);
        rig
    }

    async fn again(&self, from: &str) -> Result<Reread, Stop> {
        let from = match from {
            "beginning" => RereadFrom::Beginning,
            named => RereadFrom::After(named.parse().unwrap()),
        };
        self.run(Some(self.desk.ask(from))).await.expect("it was asked for")
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_published_is_passed_over_and_what_is_not_is_published_once() {
    let rig = Rig::published().await;
    let before = rig.topic().await;
    let check = async |from: &str, expected: u64| {
        let read = rig.again(from).await.unwrap();
        assert_eq!(
            (read.transactions, read.changes, read.upto.to_string()),
            (expected, expected, "0-1-3,1-1-3".into()),
            "{from}"
        );
        assert_eq!(rig.topic().await, before, "{from}");
    };
    check("beginning", 6).await;
    check("0-1-1", 2).await;
    check("0-1-1,1-1-2", 3).await;
    check("0-1-3", 0).await;
    rig.commit(4);
    let read = rig.again("beginning").await.unwrap();
    assert_eq!(read.transactions, 6, "what is new is not passed over");
    let after = rig.topic().await;
    assert_eq!(after[..6], before);
    assert_eq!(after.len(), 8);
    assert!(after[6].hlc > after[5].hlc, "the clock went on where it was");
    assert!(rig.floor.end() > Offset(7));
}

/// The sabotage that the test above must catch.
#[tokio::test(start_paused = true)]
async fn without_passing_over_rows_would_be_there_twice() {
    let rig = Rig { no_passing_over: true, ..Rig::published().await };
    let _told = rig.desk.ask(RereadFrom::Beginning);
    rig.run(None).await;
    assert!(rig.topic().await.len() > 6, "the topic has more than what was committed");
}

#[tokio::test(start_paused = true)]
async fn a_place_that_would_lose_something_or_is_gone_is_refused_and_the_tailer_goes_on() {
    let rig = Rig::published().await;
    let refused = async |from: &str, words: &str| {
        let stop = rig.again(from).await.expect_err(words).to_string();
        assert!(stop.contains(words), "{stop}");
    };
    refused("0-1-4", "what lies between would be lost").await;
    refused("7-1-1", "what lies between would be lost").await;
    rig.binlog.purge(&"0-1-2,1-1-2".parse().unwrap());
    refused("0-1-1", "what is still there begins at 0-1-2,1-1-2").await;
    assert_eq!(rig.again("beginning").await.unwrap().transactions, 2, "what is kept");
    rig.commit(4);
    rig.run(None).await;
    assert_eq!(rig.topic().await.len(), 8, "what is new is published by the run that refused, or the next");

    let fresh = Rig::default();
    let stop = fresh.again("beginning").await.unwrap_err();
    assert_eq!(stop.message, "this node has published nothing yet, and its history begins now");
}

/// The stream that failed is open still, and a server lets nobody else read while it is.
#[tokio::test(start_paused = true)]
async fn what_is_read_to_compare_it_or_because_somebody_asks_may_be_unreadable_and_the_tailer_goes_on() {
    let rig = Rig::published().await;
    let fail = || {
        let error = SourceError::UnknownEvent { at: "0-1-3".into(), event: "an event".into() };
        *rig.unreadable.0.lock().unwrap() = Some(error);
    };
    fail();
    rig.commit(4);
    rig.run(None).await;
    assert_eq!(rig.topic().await.len(), 8, "what was published last could not be compared");
    fail();
    rig.commit(5);
    let stop = rig.again("0-1-1").await.expect_err("it cannot be read").to_string();
    assert!(stop.contains("an event"), "{stop}");
    rig.run(None).await;
    assert_eq!(rig.topic().await.len(), 10, "each once");
}

#[test]
fn the_earlier_of_two_positions_is_found_in_every_domain() {
    let check = |one: &str, other: &str, expected: &str| {
        assert_eq!(earlier(&one.parse().unwrap(), &other.parse().unwrap()).to_string(), expected);
    };
    check("0-1-5,1-1-1", "0-1-3,1-1-4", "0-1-3,1-1-1");
    check("0-1-5,1-1-1", "0-1-7", "0-1-5");
    check("", "0-1-7", "");
}
