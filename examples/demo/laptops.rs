//! The two laptops of the story, and how long a row takes from one to the other.

use std::path::{Path, PathBuf};
use std::time::Duration;

use mysql_async::Conn;
use mysql_async::prelude::Queryable;

use crate::harness::{Cluster, ClusterOptions, ServerOptions, Sync, TableRows, tables};

pub const A: usize = 0;
pub const B: usize = 1;
pub const NAMES: [&str; 2] = ["laptop-a", "laptop-b"];

/// What the laptops send to the cloud. Tokens are nobody's business there, so their table is not named. Photos of drivers lie in a
/// folder beside the configuration, which both laptops have here.
const CLOUD_TABLES: &str = "\"campus.riders\" = { mask = [\"phone\"] }\n\
     \"campus.drivers\" = { files = { photo = { kind = \"photos\", field = \"photo_url\" } } }\n\"campus.bookings\" = {}\n\
     \"campus.notifications\" = { omit = [\"details\"] }\n\n[cloud.main.files]\nroot = \"photos\"";

/// Generous: a busy machine is slow, and a demo that gives up early shows nothing.
pub const DEADLINE: Duration = Duration::from_secs(30);

pub async fn start(tandem: &Path, dir: PathBuf, schema: &str, kafka: bool, keep: bool) -> Cluster {
    Cluster::start(ClusterOptions {
        names: NAMES.to_vec(),
        kafka,
        server: |number| ServerOptions { sync: Sync::EachCommit, ..ServerOptions::node(number) },
        cloud: Some(CLOUD_TABLES),
        dir: Some(dir),
        outlives: keep,
        ..ClusterOptions::new(tandem, "campus", schema)
    })
    .await
}

/// Runs a statement on one laptop with the ordinary client, and measures from its commit until `look` finds a row on the
/// other one. `look` selects the time at which it looked.
pub async fn cross(laptops: &mut Cluster, from: usize, statement: &str, look: &str) -> Result<Duration, String> {
    let writer = laptops.servers[from].clone();
    let sql = format!("USE campus; {statement}; SELECT CAST(SYSDATE(6) AS CHAR);");
    let client = tokio::task::spawn_blocking(move || writer.sql_client(&sql));
    let mut conn = laptops.servers[1 - from].conn().await;
    conn.query_drop("USE campus").await.map_err(|error| error.to_string())?;
    let mut seen = None;
    let what = format!("the row on {}", NAMES[1 - from]);
    laptops
        .wait(&what, DEADLINE, async |_| {
            seen = conn.query_first::<String, _>(look).await.unwrap_or_else(|error| panic!("{error} in: {look}"));
            seen.is_some()
        })
        .await?;
    let committed = client.await.map_err(|error| format!("the client failed: {error}"))?;
    let delay = between(&mut conn, committed.trim(), &seen.expect("it was waited for")).await;
    conn.disconnect().await.map_err(|error| format!("a session did not end: {error}"))?;
    Ok(delay)
}

/// Both sides of every table.
pub async fn both_sides(laptops: &Cluster) -> Vec<[TableRows; 2]> {
    let [one, other] = [laptops.server(A), laptops.server(B)];
    let mut sides = Vec::new();
    for table in tables(one, "campus").await {
        let rows = tokio::join!(TableRows::read(one, "campus", &table), TableRows::read(other, "campus", &table));
        sides.push(rows.into());
    }
    sides
}

/// Both times come from this machine's one clock.
async fn between(conn: &mut Conn, earlier: &str, later: &str) -> Duration {
    let sql = format!("SELECT TIMESTAMPDIFF(MICROSECOND, '{earlier}', '{later}')");
    let micros: Option<i64> = conn.query_first(&sql).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
    Duration::from_micros(micros.and_then(|micros| u64::try_from(micros).ok()).unwrap_or_default())
}
