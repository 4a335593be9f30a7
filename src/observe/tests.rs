//! Facts in, metrics and status out.

use super::*;
use crate::runtime::{Disposition, ManualClock};

const NOON: u64 = 1_800_000_000;

struct Node {
    observer: Observer,
    clock: Arc<ManualClock>,
    b: OriginId,
}

fn node() -> Node {
    let clock = Arc::new(ManualClock::at_micros(NOON * 1_000_000));
    let (a, b) = (OriginId::new("a"), OriginId::new("b"));
    let cluster = Cluster::new([a.clone(), b.clone()], &a).unwrap();
    let observer = Observer::new("campus", &cluster, &["tailer", "applier"], clock.clone());
    Node { observer, clock, b }
}

impl Node {
    fn later(&self, seconds: u64) {
        self.clock.set_micros(self.clock.now_micros() + seconds * 1_000_000);
    }

    /// The value of one sample, by its name with labels as Prometheus writes them.
    #[track_caller]
    fn check(&self, sample: &str, expected: f64) {
        let text = self.observer.metrics_text();
        let line = text.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        assert_eq!(line.unwrap_or_else(|| panic!("no {sample} in\n{text}")).parse::<f64>().unwrap(), expected, "{sample}");
    }

    fn link(&self) -> LinkStatus {
        self.observer.status().links.into_iter().find(|link| link.source == "b").unwrap()
    }
}

fn riders() -> TableName {
    TableName::new("campus", "riders")
}

#[test]
fn every_label_set_is_there_at_zero_from_the_start() {
    let node = node();
    for sample in [
        "tandem_role_up{role=\"tailer\"}",
        "tandem_tailer_filtered_total{reason=\"echo\"}",
        "tandem_pending_changes{source=\"b\"}",
        "tandem_lag_seconds{source=\"b\"}",
        "tandem_delay_seconds_count{source=\"b\"}",
        "tandem_link_state{source=\"b\",state=\"offline\",target=\"a\"}",
        "tandem_conflicts_open",
        "tandem_index_rows",
    ] {
        node.check(sample, 0.0);
    }
    node.check("tandem_link_state{source=\"b\",state=\"starting\",target=\"a\"}", 1.0);
    node.observer.synced_tables(&[riders()], &["insert_exists"]);
    node.check(
        "tandem_applied_changes_total{op=\"delete\",result=\"lost_to_newer\",source=\"b\",table=\"campus.riders\"}",
        0.0,
    );
    node.check("tandem_conflicts_total{kind=\"insert_exists\",table=\"campus.riders\",winner=\"a\"}", 0.0);
}

#[test]
fn what_is_applied_is_counted_and_its_delay_measured() {
    let node = node();
    node.observer.pending(&node.b, 3);
    assert_eq!(node.link().lag_seconds, None, "nothing was ever applied, so no age is known");
    for fate in [Fate::Applied, Fate::Applied, Fate::LostToNewer] {
        node.observer.applied(&node.b, &riders(), Op::Update, fate, 1);
    }
    node.observer.committed(&node.b, NOON - 40, 0.25);
    node.check("tandem_applied_changes_total{op=\"update\",result=\"applied\",source=\"b\",table=\"campus.riders\"}", 2.0);
    node.check("tandem_delay_seconds_sum{source=\"b\"}", 40.0);
    node.check("tandem_apply_wait_seconds_sum{source=\"b\"}", 0.25);
    node.check("tandem_lag_seconds{source=\"b\"}", 40.0);
    node.check("tandem_link_state{source=\"b\",state=\"catching_up\",target=\"a\"}", 1.0);
    node.observer.pending(&node.b, 0);
    let link = node.link();
    assert_eq!((link.state, link.lag_seconds, link.applied_today), (LinkState::UpToDate, Some(0), Some(2)));
    let table = &node.observer.status().tables[0];
    assert_eq!((table.name.as_str(), table.applied, table.lost_to_newer), ("campus.riders", 2, 1));
    node.later(86_400);
    assert_eq!(node.link().applied_today, Some(0), "it is another day");
}

#[test]
fn a_node_that_was_heard_and_fell_silent_is_offline() {
    let node = node();
    assert_eq!(node.link().state, LinkState::Starting);
    node.observer.link(&node.b, true, None);
    node.observer.heard(&node.b, &Seen::default());
    node.later(35);
    assert_eq!(node.link().state, LinkState::UpToDate);
    node.later(1);
    let link = node.link();
    assert_eq!((link.state, link.reason.as_deref()), (LinkState::Offline, Some("nothing heard from b for 36 s")));
    node.observer.heard(&node.b, &Seen::default());
    assert_eq!(node.link().state, LinkState::UpToDate);
    node.observer.link(&node.b, false, Some("cannot reach the topic"));
    assert_eq!(node.link().reason.as_deref(), Some("cannot reach the topic"));
}

#[test]
fn a_wrong_clock_shows_until_something_is_applied_again() {
    let node = node();
    node.observer.clock_wrong(&node.b, 7_200.4);
    let link = node.link();
    assert_eq!(link.state, LinkState::ClockWrong);
    assert_eq!(link.reason.as_deref(), Some("its clock is 7200 s ahead of this machine's"));
    node.check("tandem_clock_skew_seconds{node=\"b\"}", 7_200.4);
    node.observer.committed(&node.b, NOON, 0.0);
    assert_eq!(node.link().state, LinkState::UpToDate);
    node.check("tandem_clock_skew_seconds{node=\"b\"}", 0.0);
}

#[test]
fn a_role_that_tries_again_is_offline_until_it_has_worked_for_a_while() {
    let node = node();
    let role = || node.observer.status().roles.into_iter().find(|role| role.name == "applier").unwrap();
    let away = Stop { disposition: Disposition::Retry, message: "no route".into(), hint: Some("it goes on".into()) };
    assert_eq!(role().state, "waiting");
    node.observer.role_changed("applier", RoleState::Running, None);
    node.check("tandem_role_up{role=\"applier\"}", 1.0);
    assert_eq!(role().state, "running");
    node.observer.role_changed("applier", RoleState::Retrying, Some(&away));
    node.check("tandem_role_up{role=\"applier\"}", 0.0);
    node.check("tandem_role_stopped{role=\"applier\"}", 0.0);
    node.observer.role_changed("applier", RoleState::Running, None);
    assert_eq!((role().state.as_str(), role().reason.as_deref()), ("offline", Some("no route")));
    assert_eq!(node.link().state, LinkState::Offline);
    node.later(5);
    assert_eq!((role().state.as_str(), role().reason), ("running", None));

    node.observer.role_changed("applier", RoleState::Halted, Some(&Stop::halt("the topic was rolled back", "seed again")));
    assert_eq!((role().state.as_str(), role().hint.as_deref()), ("stopped", Some("seed again")));
    node.check("tandem_role_stopped{role=\"applier\"}", 1.0);
    assert_eq!(node.link().state, LinkState::Stopped);
    assert_eq!(node.observer.status().level, Level::Stopped);
}

#[test]
fn tables_without_end_are_counted_together() {
    let node = node();
    for number in 0..TABLES_MAX + 50 {
        node.observer.applied(&node.b, &TableName::new("campus", &format!("t{number}")), Op::Insert, Fate::Applied, 1);
    }
    let status = node.observer.status();
    assert_eq!(status.tables.len(), TABLES_MAX + 1);
    assert_eq!(status.tables.last().unwrap().applied, 50);
    node.check("tandem_applied_changes_total{op=\"insert\",result=\"applied\",source=\"b\",table=\"(other tables)\"}", 50.0);
}

#[test]
fn what_is_kept_in_the_database_is_shown_by_origin() {
    let node = node();
    assert_eq!(node.observer.status().conflicts_open, None, "the database was not asked yet");
    node.observer.kept([(node.b.clone(), KeptCount { conflicts: 5, conflicts_open: 1, dead_letters: 2 })]);
    let status = node.observer.status();
    assert_eq!((status.conflicts_open, status.failed_open), (Some(1), Some(2)));
    assert_eq!((node.link().conflicts, node.link().failed), (Some(5), Some(2)));
    node.check("tandem_conflicts_open", 1.0);
    node.check("tandem_dead_letters_open", 2.0);
}

#[test]
fn what_others_have_not_yet_applied_is_shown_too() {
    let node = node();
    let outgoing = || node.observer.status().links.into_iter().find(|link| link.source == "a");
    let tell = |offset: u64| node.observer.told(&node.b, &Seen([(OriginId::new("a"), Offset(offset))].into()));
    assert_eq!(outgoing(), None, "nothing is known before they tell");
    node.observer.own_topic_read(Offset(3), [Offset(3), Offset(5)]);
    tell(2);
    let link = outgoing().unwrap();
    assert_eq!((link.state, link.pending), (LinkState::CatchingUp, Some(2)));
    node.observer.link(&node.b, false, Some("away"));
    assert_eq!(outgoing().unwrap().state, LinkState::Offline);
    tell(5);
    assert_eq!(outgoing().unwrap().state, LinkState::UpToDate);
    let away = Stop { disposition: Disposition::Retry, message: "no route".into(), hint: None };
    node.observer.role_changed("tailer", RoleState::Retrying, Some(&away));
    let link = outgoing().unwrap();
    assert_eq!((link.state, link.pending), (LinkState::Offline, None), "what waits in the binlog is not counted");
}

#[test]
fn a_status_survives_its_json() {
    let status = node().observer.status();
    let json = serde_json::to_string(&status).unwrap();
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}
