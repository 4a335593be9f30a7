//! Two laptops: what their dashboards show while one is away, when both changed the same row, and when a row does not fit.

use std::time::Duration;

use serde_json::Value;

use crate::driver::{Browser, SOON};
use crate::harness::{Cluster, ClusterOptions, wait_for};

const DEADLINE: Duration = Duration::from_secs(90);

const SCHEMA: &str = "CREATE DATABASE campus CHARACTER SET utf8mb4;
    CREATE TABLE campus.riders (id INT PRIMARY KEY, name VARCHAR(80) NOT NULL, phone VARCHAR(24), balance DECIMAL(8,2) NOT NULL DEFAULT 0);
    CREATE TABLE campus.bookings (id INT PRIMARY KEY, rider INT NOT NULL, pickup VARCHAR(80) NOT NULL, status VARCHAR(20) NOT NULL);
    CREATE TABLE campus.sessions (id INT PRIMARY KEY);
    CREATE TABLE campus.`<script>window.harmed = 4</script>` (`<img src=x onerror=window.harmed=5>` VARCHAR(80) PRIMARY KEY);";

/// A value that would run, where it was not shown as text.
const HOSTILE: &str = "<script>window.harmed = 1</script><img src=x onerror=window.harmed=2>";

const SCREENS: [&str; 8] = ["", "activity", "conflicts?show=all", "failed", "tables", "cloud", "settings", "settings?doctor=1"];

/// The first of two writes that do not see each other.
const BEFORE: &str = "SET timestamp = UNIX_TIMESTAMP() - 30;";

async fn laptops() -> Cluster {
    let mut options = ClusterOptions::new(env!("CARGO_BIN_EXE_tandem"), "campus", SCHEMA);
    options.config = "exclude = [\"campus.sessions\"]\n[conflicts]\ndefault = \"manual\"\n".into();
    let mut cluster = Cluster::start(options).await;
    let rows = "INSERT INTO campus.riders VALUES (1, 'Ada Obi', '555-0101', 12.50), (2, 'Ben Sato', NULL, 3), (3, 'Cem Kaya', '555-0103', 0);
        INSERT INTO campus.bookings VALUES (1, 1, 'Main gate', 'requested'), (2, 2, 'Library', 'accepted')";
    cluster.server(0).query(rows).await;
    cluster.wait_until_equal(DEADLINE).await.unwrap();
    cluster
}

/// Both change one row without seeing each other.
async fn conflict(cluster: &mut Cluster, on_a: &str, on_b: &str, expected: u64) {
    cluster.cut(1);
    cluster.server(0).query(&format!("{BEFORE}{on_a}")).await;
    cluster.server(1).query(on_b).await;
    cluster.mend(1);
    for server in cluster.servers.clone() {
        wait_for("the conflict", DEADLINE, async || {
            server.first::<u64>("SELECT COUNT(*) FROM tandem.conflicts").await == Some(expected)
        })
        .await;
    }
    cluster.wait_until_equal(DEADLINE).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_waits_rises_while_a_laptop_is_away_and_a_conflict_is_settled_by_a_click() {
    let Some(browser) = Browser::start_or_say().await else { return };
    let mut cluster = laptops().await;
    let page = cluster.status_page(0);

    // Away and back, seen on one page that is never loaded again.
    browser.open(&page).await;
    browser.reads("#verdict", "Everything is up to date").await;
    browser.picture("overview-good").await;
    browser.script("window.notLoadedAgain = true").await;
    cluster.cut(1);
    let rows: Vec<String> = (10..50).map(|id| format!("({id}, 'Rider {id}', NULL, 0)")).collect();
    cluster.server(0).query(&format!("INSERT INTO campus.riders VALUES {}", rows.join(", "))).await;
    browser.reads("#numbers .tile", "40").await;
    browser.reads("#sides", "40 waiting").await;
    browser.picture("overview-away").await;
    cluster.mend(1);
    browser.reads("#verdict", "Everything is up to date").await;
    wait_for("nothing to wait", SOON, async || browser.text("#numbers .tile").await.is_some_and(|text| text.starts_with('0')))
        .await;
    assert_eq!(browser.script("return window.notLoadedAgain").await, Value::Bool(true), "it changed by itself");

    // A conflict on each side, settled by clicks.
    let rename = |name: &str| format!("UPDATE campus.riders SET name = '{name}' WHERE id = 1");
    conflict(&mut cluster, &rename("Ada of A"), &rename("Ada of B"), 1).await;
    browser.reads("#verdict", "1 conflict waits for a decision").await;
    browser.reads("#count-conflicts", "1").await;
    browser.click("nav a[href='/conflicts']").await;
    let shown = browser.reads("article", "waits for a decision").await;
    assert!(shown.contains("Ada of A") && shown.contains("Ada of B"), "{shown}");
    assert_eq!(browser.script("return document.querySelectorAll('tr.differs').length").await, 1, "only the name differs");
    browser.picture("conflicts").await;
    browser.click("article .actions button:not(.main)").await;
    browser.reads(".notice:not([hidden])", "1 row is written again, and all nodes get it.").await;
    for server in cluster.servers.clone() {
        let name = "SELECT name FROM campus.riders WHERE id = 1";
        wait_for("the other row", SOON, async || server.first::<String>(name).await.as_deref() == Some("Ada of A")).await;
    }
    browser.reads("main", "No conflict waits for a decision").await;

    // Two at once, with scripts off, by their boxes.
    let (of_a, of_b) = ("UPDATE campus.bookings SET status = 'of a'", "UPDATE campus.bookings SET status = 'of b'");
    conflict(&mut cluster, of_a, of_b, 3).await;
    browser.scripts(false).await;
    browser.open(&format!("{page}conflicts?show=open")).await;
    for number in [1, 2] {
        browser.click(&format!("form > article:nth-of-type({number}) input[type=checkbox]")).await;
    }
    browser.click(".many button[value=winner]").await;
    browser.reads(".notice:not([hidden])", "2 conflicts are settled on all nodes").await;
    browser.scripts(true).await;
    for server in cluster.servers.clone() {
        let open = "SELECT COUNT(*) FROM tandem.conflicts WHERE state = 'open'";
        wait_for("the decisions", SOON, async || server.first::<u64>(open).await == Some(0)).await;
    }

    // The time line of the row that was fought over.
    browser.open(&format!("{page}activity?table=riders&key=%221%22")).await;
    browser.reads("main", "Nothing was found").await;
    browser.open(&format!("{page}activity?table=riders&key=%3A1%7D")).await;
    browser.picture("activity").await;
    browser.click("td[data-label=Row] a").await;
    let line = browser.reads("h1", "campus.riders").await;
    assert!(line.contains("id 1"), "{line}");
    let fates = browser.text("tbody").await.unwrap_or_default();
    assert!(fates.contains("published") && fates.contains("laptop-b"), "{fates}");
    browser.picture("row").await;
    drop(browser);
    cluster.end().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_somebody_writes_into_names_and_rows_is_only_text_on_every_screen() {
    let Some(browser) = Browser::start_or_say().await else { return };
    let mut cluster = laptops().await;
    // What looks for harm sees it where there is some.
    browser.open("data:text/html,<script>window.harmed = 1</script>").await;
    assert_eq!(browser.script("return window.harmed").await, 1);

    let rename = |name: &str| format!("UPDATE campus.riders SET name = '{name}' WHERE id = 1");
    conflict(&mut cluster, &rename("<b>bold</b>"), &rename(HOSTILE), 1).await;
    cluster.server(1).query("ALTER TABLE campus.riders MODIFY phone VARCHAR(9)").await;
    cluster.server(0).query("UPDATE campus.riders SET phone = '0123456789' WHERE id = 3").await;
    let table = "campus.`<script>window.harmed = 4</script>`";
    cluster.server(0).query(&format!("INSERT INTO {table} VALUES ('<img src=x onerror=window.harmed=3>')")).await;
    let (failed, arrived) = ("SELECT COUNT(*) FROM tandem.dead_letters", format!("SELECT COUNT(*) FROM {table}"));
    let server = cluster.server(1).clone();
    wait_for("the row that does not fit", SOON, async || server.first::<u64>(failed).await == Some(1)).await;
    wait_for("the hostile row", SOON, async || server.first::<u64>(&arrived).await == Some(1)).await;

    let page = cluster.status_page(1);
    let mut shown = String::new();
    for screen in SCREENS {
        browser.open(&format!("{page}{screen}")).await;
        assert_eq!(browser.script("return window.harmed === undefined").await, Value::Bool(true), "harm on /{screen}");
        let foreign = "return document.querySelectorAll('script:not([src=\"/live.js\"]), img, b b').length";
        assert_eq!(browser.script(foreign).await, 0, "/{screen}");
        assert_eq!(browser.too_wide().await, "", "/{screen} does not fit its window");
        shown += &browser.text("main").await.unwrap_or_default();
        browser.picture(&format!("screen-{}", screen.replace(['?', '='], "-"))).await;
        // A telephone.
        browser.telephone().await;
        assert_eq!(browser.too_wide().await, "", "/{screen} does not fit a telephone");
        browser.picture(&format!("phone-{}", screen.replace(['?', '='], "-"))).await;
        browser.desk().await;
    }
    for text in [HOSTILE, "<b>bold</b>", "<script>window.harmed = 4</script>", "<img src=x onerror=window.harmed=3>"] {
        assert!(shown.contains(text), "{text} is not shown as it is");
    }
    assert!(shown.contains("the value is too long for column `phone` here"), "{shown}");
    assert!(shown.contains("excluded by \"campus.sessions\""), "{shown}");

    // The column is mended, the change tried again by a click.
    browser.open(&format!("{page}failed")).await;
    browser.click("button[value=retry]").await;
    browser.reads(".notice:not([hidden])", "1 change failed as before").await;
    cluster.server(1).query("ALTER TABLE campus.riders MODIFY phone VARCHAR(24)").await;
    browser.click("button[value=retry]").await;
    browser.reads(".notice:not([hidden])", "1 change is done with").await;
    browser.reads("main", "There is none.").await;
    let phone = "SELECT phone FROM campus.riders WHERE id = 3";
    assert_eq!(server.first::<String>(phone).await.as_deref(), Some("0123456789"));

    // By night.
    browser.dark(true).await;
    for screen in ["", "conflicts?show=all"] {
        browser.open(&format!("{page}{screen}")).await;
        browser.picture(&format!("dark-{}", screen.split('?').next().unwrap_or_default())).await;
    }
    drop(browser);
    cluster.end().await.unwrap();
}
