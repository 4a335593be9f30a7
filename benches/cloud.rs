//! `make bench`: how fast a node feeds a cloud on the same machine, and how little of it is in memory.
//!
//! - Rows in batches, from a topic in memory to `tandem cloud-server`, which makes each batch durable.
//! - A file of 2 GB in parts, through the API; the most that this process and the receiver ever held.
//! - A second run over a million rows of a real MariaDB, all of which the cloud has: ids in pages, compared on disk.
//!
//! Prints a table and puts its figures into `target/bench/summary.json`. Names of parts after `--` measure these alone:
//! `cargo bench --bench cloud -- file rows second`.

mod cost;
#[path = "../tests/harness/mod.rs"]
mod harness;
#[allow(dead_code)]
#[path = "../tests/cloud/rig.rs"]
mod rig;
mod summary;

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use cost::{peak_rss_mb, rss_mb};
use harness::{CloudServer, Cluster, ClusterOptions, wait_for};
use mysql_async::prelude::Queryable as _;
use rig::Site;
use tandem::change::cloud::{CloudOp, CloudRow, CloudVersion};
use tandem::cloud::{CloudOptions, FileColumn, FileOptions};
use tandem::receive::{Shelf as _, SqliteShelf};
use tandem::runtime::SystemClock;
use tandem::target::cloud::{ApiOptions, CloudApi, Pace};

const ROWS: i64 = 200_000;
const FILE_BYTES: u64 = 2_000_000_000;
const KNOWN_ROWS: u64 = 1_000_000;
/// Rows of one statement, and of one call to the shelf.
const AT_ONCE: u64 = 5_000;
const WITHIN: Duration = Duration::from_secs(1_800);

/// What we want to reach.
const AIMS: [(&str, &str); 2] = [("cloud_second_run_s", "below 10"), ("cloud_file_peak_mb", "below 64")];

#[tokio::main]
async fn main() {
    // `cargo test --benches` starts this too, and wants nothing measured.
    if !std::env::args().any(|arg| arg == "--bench") {
        return;
    }
    // The client asks for one, encrypted or not.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let mut figures = Vec::new();
    // The file goes first: the most that a process ever held cannot be asked for from some time on.
    if asked("file") {
        file(&mut figures).await;
    }
    if asked("rows") {
        rows(&mut figures).await;
    }
    if asked("second") {
        let local = tokio::task::LocalSet::new();
        local.run_until(second_run(&mut figures)).await;
    }
    println!("\n{:<42}{:>14}  aim", "figure", "measured");
    for (name, value) in &figures {
        let aim = AIMS.iter().find(|(own, _)| own == name).map_or("", |(_, aim)| aim);
        println!("{name:<42}{value:>14.2}  {aim}");
    }
    summary::merge(&figures);
}

/// Whether a part is asked for: all are where none is named.
fn asked(part: &str) -> bool {
    let mut named = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).peekable();
    named.peek().is_none() || named.any(|name| name == part)
}

async fn receiver(folder: &Path) -> CloudServer {
    CloudServer::start(Path::new(env!("CARGO_BIN_EXE_tandem")), folder, false).await
}

fn api(cloud: &CloudServer) -> Arc<CloudApi> {
    let options = ApiOptions {
        url: format!("http://127.0.0.1:{}/api", cloud.port),
        key: cloud.key.as_str().into(),
        key_name: "the bench".into(),
        within: Duration::from_secs(60),
        authority: None,
    };
    Arc::new(CloudApi::new(options, Arc::new(Pace::new(None))).expect("the address is one"))
}

/// The rig's own options keep to a few rows; these are what a configuration has by itself.
fn options(site: &Site) -> CloudOptions {
    CloudOptions { tables: site.options().tables, ..CloudOptions::new("main", rig::node()) }
}

async fn file(figures: &mut Vec<(String, f64)>) {
    let (folder, root) = (tempfile::tempdir().expect("there is room"), tempfile::tempdir().expect("there is room"));
    write_noise(&root.path().join("film.mp4"));
    let (cloud, mut site) = (receiver(folder.path()).await, Site::new());
    let mut options = options(&site);
    options.files = Some(FileOptions { size_max: 4 << 30, ..FileOptions::new(root.path()) });
    let column = FileColumn { kind: "films".into(), field: "film_url".into(), path: None };
    options.tables[1].1.files.insert("name".into(), column);
    site.write([rig::insert("cameras", 1, "film.mp4")]).await;
    let before = rss_mb("self");
    let start = Instant::now();
    let api = api(&cloud);
    let feeding = site.feed_to(api.clone(), api, options);
    wait_for("the file's row", WITHIN, async || cloud.rows("cameras").await == Some(1)).await;
    let seconds = start.elapsed().as_secs_f64();
    feeding.end().await.expect("it ends in order");
    let peak = peak_rss_mb("self");
    let there = cloud.node.process_id().map_or(f64::NAN, |id| peak_rss_mb(&id.to_string()));
    println!(
        "2 GB in parts, read twice and hashed on both sides: {seconds:.1} s; this process held {before:.0} MB before and {peak:.0} MB \
         at most, the receiver {there:.0} MB"
    );
    figures.push(("cloud_file_bytes_per_s".into(), FILE_BYTES as f64 / seconds));
    figures.push(("cloud_file_peak_mb".into(), peak));
    figures.push(("cloud_file_receiver_peak_mb".into(), there));
}

/// What does not compress and has no two parts alike.
fn write_noise(place: &Path) {
    let mut file = std::fs::File::create(place).expect("the folder is there");
    let mut noise = fastrand::Rng::with_seed(7);
    let mut piece = vec![0; 1_000_000];
    for _ in 0..FILE_BYTES / piece.len() as u64 {
        noise.fill(&mut piece);
        file.write_all(&piece).expect("there is room for 2 GB");
    }
}

async fn rows(figures: &mut Vec<(String, f64)>) {
    let folder = tempfile::tempdir().expect("there is room");
    let (cloud, mut site) = (receiver(folder.path()).await, Site::new());
    let name = "a name as long as a row of a campus is, with all that it tells of somebody and of when";
    for first in (1..=ROWS).step_by(AT_ONCE as usize) {
        site.write((first..first + AT_ONCE as i64).map(|id| rig::insert("rooms", id, name))).await;
    }
    let start = Instant::now();
    let api = api(&cloud);
    let feeding = site.feed_to(api.clone(), api, options(&site));
    wait_for("all rows", WITHIN, async || cloud.rows("rooms").await == Some(ROWS as u64)).await;
    let seconds = start.elapsed().as_secs_f64();
    feeding.end().await.expect("it ends in order");
    println!("{ROWS} rows in batches of 500, each durable: {seconds:.1} s");
    figures.push(("cloud_rows_per_s".into(), ROWS as f64 / seconds));
}

/// The receiver's rows are put there directly; how they came does not matter here.
async fn second_run(figures: &mut Vec<(String, f64)>) {
    let folder = tempfile::tempdir().expect("there is room");
    let shelf = SqliteShelf::open(&folder.path().join("cloud"), Arc::new(SystemClock)).expect("the folder is there");
    for first in (1..=KNOWN_ROWS).step_by(AT_ONCE as usize) {
        let row = |id: u64| {
            let version = CloudVersion { hlc: 0, origin: "laptop-a".into() };
            let (key, resource, op) = (id.to_string(), "known".into(), CloudOp::Insert);
            CloudRow { key, resource, id: id.to_string(), op, version, row: Default::default() }
        };
        shelf.put((first..first + AT_ONCE).map(row).collect()).await.expect("there is room");
    }
    drop(shelf);
    let cloud = receiver(folder.path()).await;
    let key = folder.path().join("cloud.key");
    let config = format!(
        "\n[cloud.main]\nmode = \"missing\"\ncron = \"0 0 1 1 *\"\napi = {{ url = \"http://127.0.0.1:{}/api\", key_file = \"{}\" }}\n\
         [cloud.main.tables]\n\"bench.known\" = {{}}\n",
        cloud.port,
        key.display()
    );
    let schema =
        "CREATE DATABASE bench; CREATE TABLE bench.known (id INT PRIMARY KEY, name VARCHAR(60), size INT) ENGINE=InnoDB;";
    let options = ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "bench", schema);
    let cluster = Cluster::start(ClusterOptions { names: vec!["laptop-a"], config, ..options }).await;
    let mut conn = cluster.server(0).conn().await;
    conn.query_drop("SET SESSION sql_log_bin = 0").await.expect("the account may");
    for first in (1..=KNOWN_ROWS).step_by(AT_ONCE as usize) {
        let values: Vec<String> =
            (first..first + AT_ONCE).map(|id| format!("({id}, 'row number {id}', {})", id % 97)).collect();
        conn.query_drop(format!("INSERT INTO bench.known VALUES {}", values.join(","))).await.expect("rows can be written");
    }
    conn.disconnect().await.expect("a session can be ended");
    let start = Instant::now();
    let said = cluster.tandem(0, &["sync", "--only", "cloud", "--json"]);
    let seconds = start.elapsed().as_secs_f64();
    let report: serde_json::Value = serde_json::from_str(&said).unwrap_or_else(|_| panic!("{said}"));
    let summary = &report["summary"];
    assert_eq!((&summary["already"], &summary["synced"]), (&KNOWN_ROWS.into(), &0.into()), "{said}");
    let peak = cluster.nodes[0].process_id().map_or(f64::NAN, |id| peak_rss_mb(&id.to_string()));
    println!("a run over {KNOWN_ROWS} rows that the cloud has: {seconds:.1} s; the node held {peak:.0} MB at most");
    figures.push(("cloud_second_run_s".into(), seconds));
    figures.push(("cloud_second_run_peak_mb".into(), peak));
    cluster.end().await.expect("everything ends cleanly");
}
