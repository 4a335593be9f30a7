//! The metrics of a node, each with its name, help and labels. Every label set that can be known exists from the start,
//! at 0, so that a rate or an alert never waits for a first event.

use prometheus::{
    Encoder, Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
    TextEncoder,
};

use crate::change::Op;

use super::{CloudOutcome, CloudState, FILTER_REASONS, Fate, LinkState};

/// The operations that a binlog can bring, and the rows of snapshots.
const OPS: [Op; 5] = [Op::Insert, Op::Update, Op::Delete, Op::Read, Op::Truncate];

/// Commit there to commit here. The binlog has whole seconds, so nothing finer than one second is true.
const DELAY_BUCKETS: [f64; 12] = [1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 300.0, 1_800.0, 7_200.0, 21_600.0, 86_400.0, 604_800.0];

/// Holding locks for the local tailer: usually under a millisecond, at most the applier's limit.
const WAIT_BUCKETS: [f64; 9] = [0.000_5, 0.001, 0.005, 0.02, 0.1, 0.5, 1.0, 2.0, 5.0];

pub struct Metrics {
    registry: Registry,
    pub role_up: IntGaugeVec,
    pub role_stopped: IntGaugeVec,
    pub role_paused: IntGaugeVec,
    pub link_state: IntGaugeVec,
    pub tailer_connected: IntGauge,
    pub tailer_changes: IntCounterVec,
    pub tailer_filtered: IntCounterVec,
    pub tailer_reconnects: IntCounter,
    pub tailer_last_event: IntGauge,
    pub tailer_clock_not_believed: IntCounter,
    pub topic_appended: IntCounter,
    pub applied_changes: IntCounterVec,
    pub pending_changes: IntGaugeVec,
    pub lag_seconds: IntGaugeVec,
    pub delay_seconds: HistogramVec,
    pub apply_wait_seconds: HistogramVec,
    pub apply_commits: IntCounterVec,
    pub apply_released: IntCounterVec,
    pub topic_reachable: IntGaugeVec,
    pub index_rows: IntGauge,
    pub index_spilled_rows: IntGauge,
    pub conflicts: IntCounterVec,
    pub conflicts_open: IntGauge,
    pub dead_letters: IntCounterVec,
    pub dead_letters_open: IntGauge,
    pub schema_changes: IntCounterVec,
    pub schema_changes_open: IntGauge,
    pub parked_changes: IntGauge,
    pub left_out: IntCounterVec,
    pub binlog_retention: Gauge,
    pub binlog_headroom: Gauge,
    pub state_disk_free: IntGauge,
    pub clock_skew_seconds: GaugeVec,
    pub snapshot_rows: IntCounter,
    pub verify_mismatched: IntGauge,
    pub verify_ended: IntGauge,
    pub snapshot_tables_open: IntGauge,
    pub cloud_state: IntGaugeVec,
    pub cloud_pending: IntGaugeVec,
    pub cloud_batches: IntCounterVec,
    pub cloud_uploaded_bytes: IntCounterVec,
    pub cloud_files_pending: IntGaugeVec,
    pub cloud_set_aside: IntGaugeVec,
    pub cloud_last_success: IntGaugeVec,
    pub cloud_interval: IntGaugeVec,
    pub resident_memory_bytes: Gauge,
}

impl Metrics {
    pub fn new(version: &str, own: &str, others: &[&str], roles: &[&str], started_second: u64) -> Self {
        let registry = Registry::new();
        let build = gauges(&registry, "tandem_build_info", "1, with the version of this program", &["version"]);
        build.with_label_values(&[version]).set(1);
        let started = gauge(&registry, "process_start_time_seconds", "When this process started, Unix time");
        started.set(started_second as i64);
        let metrics = Self {
            role_up: gauges(&registry, "tandem_role_up", "1 while the role works", &["role"]),
            role_stopped: gauges(
                &registry,
                "tandem_role_stopped",
                "1 while the role stands still until a person acts; one that is offline tries again and is not stopped",
                &["role"],
            ),
            role_paused: gauges(&registry, "tandem_role_paused", "1 while somebody has paused the role", &["role"]),
            link_state: gauges(
                &registry,
                "tandem_link_state",
                "1 for the state that the link is in",
                &["source", "target", "state"],
            ),
            tailer_connected: gauge(&registry, "tandem_tailer_connected", "1 while the tailer reads the binlog"),
            tailer_changes: counters(
                &registry,
                "tandem_tailer_changes_total",
                "Changes published to the own topic",
                &["table", "op"],
            ),
            tailer_filtered: counters(
                &registry,
                "tandem_tailer_filtered_total",
                "Changes read and, by a named rule, not published",
                &["reason"],
            ),
            tailer_reconnects: counter(&registry, "tandem_tailer_reconnects_total", "Times the tailer lost its connection"),
            tailer_last_event: gauge(
                &registry,
                "tandem_tailer_last_event_timestamp_seconds",
                "Commit time of the newest transaction read, Unix time",
            ),
            tailer_clock_not_believed: counter(
                &registry,
                "tandem_tailer_clock_not_believed_total",
                "Commit times too far ahead of this machine's clock",
            ),
            topic_appended: counter(
                &registry,
                "tandem_topic_appended_total",
                "Records durable in the own topic, heartbeats included",
            ),
            applied_changes: counters(
                &registry,
                "tandem_applied_changes_total",
                "Changes of other nodes and what became of them here",
                &["source", "table", "op", "result"],
            ),
            pending_changes: gauges(&registry, "tandem_pending_changes", "Changes known to wait", &["source"]),
            lag_seconds: gauges(
                &registry,
                "tandem_lag_seconds",
                "Age of the newest change applied while others wait; 0 when none does",
                &["source"],
            ),
            delay_seconds: histograms(
                &registry,
                "tandem_delay_seconds",
                "From the commit there to the commit here; the commit time has whole seconds",
                &["source"],
                &DELAY_BUCKETS,
            ),
            apply_wait_seconds: histograms(
                &registry,
                "tandem_apply_wait_seconds",
                "How long an apply transaction held its locks for the local tailer",
                &["source"],
                &WAIT_BUCKETS,
            ),
            apply_commits: counters(&registry, "tandem_apply_commits_total", "Apply transactions committed", &["source"]),
            apply_released: counters(
                &registry,
                "tandem_apply_released_total",
                "Apply transactions rolled back to be tried again, by reason",
                &["source", "reason"],
            ),
            topic_reachable: gauges(&registry, "tandem_topic_reachable", "1 while the source's topic can be read", &["source"]),
            index_rows: gauge(&registry, "tandem_index_rows", "Recent rows in the conflict index"),
            index_spilled_rows: gauge(&registry, "tandem_index_spilled_rows", "Rows of the conflict index on disk"),
            binlog_retention: float_gauge(
                &registry,
                "tandem_binlog_retention_seconds",
                "How long the server keeps a binlog that is written no more; 0 where for ever, or not known yet",
            ),
            binlog_headroom: float_gauge(
                &registry,
                "tandem_binlog_headroom_seconds",
                "At least so long until the server may purge what is not published yet; 0 where it keeps binlogs for ever",
            ),
            state_disk_free: gauge(
                &registry,
                "tandem_state_disk_free_bytes",
                "Free on the disk of the state folder, or of the hub's data where that is less",
            ),
            conflicts: counters(&registry, "tandem_conflicts_total", "Conflicts settled", &["table", "kind", "winner"]),
            conflicts_open: gauge(&registry, "tandem_conflicts_open", "Conflicts that wait for a person"),
            dead_letters: counters(&registry, "tandem_dead_letters_total", "Changes set aside", &["source", "table"]),
            dead_letters_open: gauge(&registry, "tandem_dead_letters_open", "Changes that are set aside now"),
            schema_changes: counters(
                &registry,
                "tandem_schema_changes_total",
                "Statements of other nodes that define tables, by what became of them",
                &["state"],
            ),
            schema_changes_open: gauge(
                &registry,
                "tandem_schema_changes_open",
                "Statements of other nodes that wait for a person, or behind one that does",
            ),
            left_out: counters(
                &registry,
                "tandem_left_out_values_total",
                "Values of other nodes' columns that are no longer here",
                &["table"],
            ),
            parked_changes: gauge(&registry, "tandem_parked_changes", "Changes that wait behind such statements"),
            clock_skew_seconds: float_gauges(
                &registry,
                "tandem_clock_skew_seconds",
                "How far the node's last held record was ahead of this machine's clock",
                &["node"],
            ),
            snapshot_rows: counter(&registry, "tandem_snapshot_rows_total", "Existing rows read for snapshots and dealt with"),
            snapshot_tables_open: gauge(
                &registry,
                "tandem_snapshot_tables_open",
                "Tables that snapshots have yet to read to their end",
            ),
            cloud_state: gauges(
                &registry,
                "tandem_cloud_state",
                "1 for the state that the cloud's feeding is in",
                &["cloud", "state"],
            ),
            cloud_pending: gauges(
                &registry,
                "tandem_cloud_pending",
                "Records of the topics not sent to the cloud yet",
                &["cloud"],
            ),
            cloud_batches: counters(
                &registry,
                "tandem_cloud_batches_total",
                "Requests to the cloud and what became of them",
                &["cloud", "result"],
            ),
            cloud_uploaded_bytes: counters(
                &registry,
                "tandem_cloud_uploaded_bytes_total",
                "Bytes that the cloud took",
                &["cloud", "kind"],
            ),
            cloud_files_pending: gauges(
                &registry,
                "tandem_cloud_files_pending",
                "Files that rows name and the cloud does not have: missing here, or refused",
                &["cloud"],
            ),
            cloud_set_aside: gauges(&registry, "tandem_cloud_set_aside", "Rows that the cloud refused", &["cloud"]),
            cloud_interval: gauges(
                &registry,
                "tandem_cloud_interval_seconds",
                "From one run of the cloud's schedule to the next; 0 where it is fed all the time",
                &["cloud"],
            ),
            cloud_last_success: gauges(
                &registry,
                "tandem_cloud_last_success_timestamp_seconds",
                "When everything was in the cloud last, Unix time; 0 before the first time",
                &["cloud"],
            ),
            verify_mismatched: gauge(
                &registry,
                "tandem_verify_mismatched_rows",
                "Rows that differ between this node and another, by the last comparison",
            ),
            verify_ended: gauge(
                &registry,
                "tandem_verify_last_end_timestamp_seconds",
                "When the last comparison ended, Unix time; 0 while one is under way or none was made",
            ),
            resident_memory_bytes: float_gauge(&registry, "process_resident_memory_bytes", "Memory of this process"),
            registry,
        };
        metrics.begin(own, others, roles);
        for state in ["done", "waiting", "failed", "skipped", "ignored"] {
            metrics.schema_changes.with_label_values(&[state]).inc_by(0);
        }
        metrics
    }

    fn begin(&self, own: &str, others: &[&str], roles: &[&str]) {
        for role in roles {
            self.role_up.with_label_values(&[role]).set(0);
            self.role_stopped.with_label_values(&[role]).set(0);
            self.role_paused.with_label_values(&[role]).set(0);
        }
        FILTER_REASONS.iter().for_each(|reason| self.tailer_filtered.with_label_values(&[reason]).inc_by(0));
        for other in others {
            for state in LinkState::ALL {
                self.link_state.with_label_values(&[other, own, state.label()]).set(0);
            }
            let source = &[*other];
            self.pending_changes.with_label_values(source).set(0);
            self.lag_seconds.with_label_values(source).set(0);
            self.topic_reachable.with_label_values(source).set(0);
            self.apply_commits.with_label_values(source).inc_by(0);
            self.clock_skew_seconds.with_label_values(source).set(0.0);
            // Naming a histogram creates it.
            let _ = (self.delay_seconds.with_label_values(source), self.apply_wait_seconds.with_label_values(source));
            for reason in ["tailer_behind", "contended"] {
                self.apply_released.with_label_values(&[other, reason]).inc_by(0);
            }
        }
    }

    /// The label sets of a cloud that is fed.
    pub fn begin_cloud(&self, cloud: &str) {
        for state in CloudState::ALL {
            self.cloud_state.with_label_values(&[cloud, state.label()]).set(i64::from(state == CloudState::Starting));
        }
        for outcome in CloudOutcome::ALL {
            self.cloud_batches.with_label_values(&[cloud, outcome.label()]).inc_by(0);
        }
        for kind in ["rows", "files", "archive"] {
            self.cloud_uploaded_bytes.with_label_values(&[cloud, kind]).inc_by(0);
        }
        for gauge in [
            &self.cloud_pending,
            &self.cloud_files_pending,
            &self.cloud_set_aside,
            &self.cloud_last_success,
            &self.cloud_interval,
        ] {
            gauge.with_label_values(&[cloud]).set(0);
        }
    }

    /// The label sets of a table that is synced.
    pub fn begin_table(&self, table: &str, own: &str, others: &[&str], conflict_kinds: &[&str]) {
        self.left_out.with_label_values(&[table]).inc_by(0);
        for op in OPS {
            self.tailer_changes.with_label_values(&[table, op.word()]).inc_by(0);
            for other in others {
                for fate in Fate::ALL {
                    self.applied_changes.with_label_values(&[other, table, op.word(), fate.label()]).inc_by(0);
                }
            }
        }
        for other in others {
            self.dead_letters.with_label_values(&[other, table]).inc_by(0);
        }
        for kind in conflict_kinds {
            for winner in others.iter().chain([&own]) {
                self.conflicts.with_label_values(&[table, kind, winner]).inc_by(0);
            }
        }
    }

    /// In Prometheus's text form.
    pub fn text(&self) -> String {
        if let Some(bytes) = resident_memory() {
            self.resident_memory_bytes.set(bytes);
        }
        let mut out = Vec::new();
        let encoded = TextEncoder::new().encode(&self.registry.gather(), &mut out);
        encoded.expect("writing to memory cannot fail, and all families have samples of one kind");
        String::from_utf8(out).expect("names and labels are text")
    }
}

/// Memory of this process in bytes, where the system tells it in a file.
fn resident_memory() -> Option<f64> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kibibytes: f64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes * 1024.0)
}

const DEFINED: &str = "the names above are valid, and each is used once";

fn register<C: prometheus::core::Collector + Clone + 'static>(registry: &Registry, metric: prometheus::Result<C>) -> C {
    let metric = metric.expect(DEFINED);
    registry.register(Box::new(metric.clone())).expect(DEFINED);
    metric
}

fn counter(registry: &Registry, name: &str, help: &str) -> IntCounter {
    register(registry, IntCounter::new(name, help))
}

fn counters(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
    register(registry, IntCounterVec::new(Opts::new(name, help), labels))
}

fn gauge(registry: &Registry, name: &str, help: &str) -> IntGauge {
    register(registry, IntGauge::new(name, help))
}

fn gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
    register(registry, IntGaugeVec::new(Opts::new(name, help), labels))
}

fn float_gauge(registry: &Registry, name: &str, help: &str) -> Gauge {
    register(registry, Gauge::new(name, help))
}

fn float_gauges(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
    register(registry, GaugeVec::new(Opts::new(name, help), labels))
}

fn histograms(registry: &Registry, name: &str, help: &str, labels: &[&str], buckets: &[f64]) -> HistogramVec {
    register(registry, HistogramVec::new(HistogramOpts::new(name, help).buckets(buckets.to_vec()), labels))
}
