//! `make demo`: two laptops on two private databases, from the first row to the proof that both are equal.
//!
//! Everything is real: MariaDB servers, `tandem` processes, the ordinary `mariadb` client for every write. With `KEEP=1` in the
//! environment it leaves all running; otherwise nothing stays but the logs. With `TOPIC=kafka` a broker keeps the topics.

#[path = "../../tests/harness/mod.rs"]
mod harness;

mod campus;
mod cloud;
mod laptops;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use campus::CONTESTED;
use harness::Cluster;
use laptops::{A, B, DEADLINE, NAMES};

#[tokio::main]
async fn main() -> ExitCode {
    let keep = std::env::var("KEEP").is_ok_and(|keep| keep == "1");
    let kafka = match std::env::var("TOPIC").unwrap_or_default().as_str() {
        "" | "hub" => false,
        "kafka" => true,
        other => {
            eprintln!("TOPIC cannot be {other}: use hub or kafka");
            return ExitCode::FAILURE;
        }
    };
    // A panic of the harness says what is wrong in a sentence; where in the code it was is of no use here.
    std::panic::set_hook(Box::new(|panic| {
        eprintln!("\n{}", panic.payload_as_str().unwrap_or("it broke off without a reason"))
    }));
    // In a task of its own, so that even a panic of the harness comes back here after its servers have been ended.
    let tasks = tokio::task::LocalSet::new();
    let outcome = match tasks.run_until(tasks.spawn_local(story(kafka, keep))).await {
        Ok(outcome) => outcome,
        Err(_) => Err("the demo broke off, see above".into()),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(reason) => {
            eprintln!("\nThe demo failed: {reason}");
            for name in NAMES {
                let log = std::fs::read_to_string(dir().join(format!("{name}.log"))).unwrap_or_default();
                let lines: Vec<&str> = log.lines().collect();
                eprintln!("\nThe end of {name}'s log ({}):", dir().join(format!("{name}.log")).display());
                lines.iter().skip(lines.len().saturating_sub(15)).for_each(|line| eprintln!("  {line}"));
            }
            ExitCode::FAILURE
        }
    }
}

fn dir() -> PathBuf {
    harness::harness_dir().with_file_name("demo")
}

/// `target/<profile>/examples/demo` stands beside `target/<profile>/tandem`.
fn tandem() -> Result<PathBuf, String> {
    let own = std::env::current_exe().map_err(|error| format!("cannot tell where this program lies: {error}"))?;
    let program = own.ancestors().nth(2).map(|profile| profile.join("tandem")).filter(|program| program.is_file());
    program.ok_or_else(|| "the program `tandem` is not built: run `make demo`".into())
}

async fn story(kafka: bool, keep: bool) -> Result<(), String> {
    let start = Instant::now();

    chapter(1, "Two laptops, each with a MariaDB of its own");
    let mut laptops = laptops::start(&tandem()?, dir(), campus::SCHEMA, kafka, keep).await;
    let version: Option<String> = laptops.servers[A].first("SELECT VERSION()").await;
    for (name, server) in NAMES.iter().zip(&laptops.servers) {
        say(&format!("{name}   MariaDB {} on port {}", version.as_deref().unwrap_or("?"), server.port()));
    }
    match &laptops.broker {
        Some(broker) => {
            say(&format!("A Kafka broker at {} keeps the topics; laptop-b reaches it over the network", broker.address()))
        }
        None => say("laptop-a keeps the topics (the hub); laptop-b reaches it over the network"),
    }

    chapter(2, "A campus ride service, seeded on laptop-a");
    laptops.servers[A].sql_client(&campus::seed());
    let rows = campus::RIDERS + campus::DRIVERS + campus::BOOKINGS + campus::NOTIFICATIONS + campus::RESETS;
    let took = laptops.wait_until_equal(DEADLINE).await?;
    say(&format!("{rows} rows in 5 tables; all of them on laptop-b {} later", show(took)));

    chapter(3, "Writes on both sides, with the ordinary client");
    single_writes(&mut laptops).await?;

    chapter(4, "laptop-b goes offline, and both go on working");
    laptops.cut(B);
    apart(&mut laptops).await?;

    chapter(5, "laptop-b is back");
    laptops.mend(B);
    let took = laptops.wait_until_equal(DEADLINE).await?;
    say(&format!("everything written apart is on both sides {} later", show(took)));
    command(&laptops, A, &["status"]);

    chapter(6, "What met: the conflict and its loser");
    conflict(&mut laptops).await?;

    chapter(7, "The proof: both databases, table by table");
    prove(&laptops).await?;

    chapter(8, "A cloud that both laptops feed");
    cloud::feed(&mut laptops).await?;

    say("");
    if keep {
        let pages = [laptops.status_page(A), laptops.status_page(B)];
        let clients = [A, B].map(|laptop| laptops.servers[laptop].client_command());
        laptops.leave().await?;
        say("Everything is left running. Write on one side, look on the other:");
        for laptop in [A, B] {
            say(&format!("  {}   {} campus", NAMES[laptop], clients[laptop]));
        }
        say(&format!("Status pages: {} and {}", pages[A], pages[B]));
        say("To end it: make clean-services");
    } else {
        say(&format!("The dashboard of a node was at {} (make demo KEEP=1 leaves it up).", laptops.status_page(A)));
        say(&format!("Logs and configuration: {}", laptops.dir().display()));
        laptops.end().await?;
    }
    println!("\nDone in {:.0} s.", start.elapsed().as_secs_f32());
    Ok(())
}

/// One row at a time, each way, with its delay.
async fn single_writes(laptops: &mut Cluster) -> Result<(), String> {
    let steps: [(usize, &str, &str); 6] = [
        (
            A,
            "INSERT INTO riders (name, email, balance) VALUES ('Noor Hassan', 'noor@campus.example', 25.00)",
            "riders WHERE email = 'noor@campus.example'",
        ),
        (
            B,
            "INSERT INTO bookings (rider_id, pickup, dropoff, requested_at) \
             SELECT id, 'Library', 'North Gate', NOW() FROM riders WHERE email = 'noor@campus.example'",
            "bookings JOIN riders ON riders.id = rider_id WHERE email = 'noor@campus.example'",
        ),
        (
            A,
            "UPDATE bookings JOIN riders ON riders.id = rider_id SET status = 'accepted', driver_id = 11 \
             WHERE email = 'noor@campus.example'",
            "bookings JOIN riders ON riders.id = rider_id WHERE email = 'noor@campus.example' AND status = 'accepted'",
        ),
        (
            B,
            "UPDATE riders SET balance = balance - 6.75 WHERE email = 'noor@campus.example'",
            "riders WHERE email = 'noor@campus.example' AND balance = 18.25",
        ),
        (A, "UPDATE drivers SET rating = 4.87 WHERE id = 11", "drivers WHERE id = 11 AND rating = 4.87"),
        (
            B,
            "DELETE FROM password_resets ORDER BY email LIMIT 1",
            "(SELECT COUNT(*) AS many FROM password_resets) AS resets WHERE many = 7",
        ),
    ];
    for (from, statement, place) in steps {
        let took =
            laptops::cross(laptops, from, statement, &format!("SELECT CAST(SYSDATE(6) AS CHAR) FROM {place} LIMIT 1")).await?;
        let line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ").chars().take(72).collect();
        say(&format!("{}: {line}…", NAMES[from]));
        say(&format!("    on {} {} after its commit", NAMES[1 - from], show(took)));
    }
    Ok(())
}

/// An evening on both sides, the same booking changed on both, and one e-mail address taken twice.
async fn apart(laptops: &mut Cluster) -> Result<(), String> {
    for laptop in [A, B] {
        laptops.servers[laptop].sql_client(&campus::evening(laptop as u64 + 1, 80));
        say(&format!("{}: 80 transactions of an ordinary evening", NAMES[laptop]));
    }
    let both = [
        (
            A,
            "INSERT INTO riders (name, email) VALUES ('Sam Okoro', 'sam@campus.example')".to_owned(),
            "a new rider, Sam Okoro, with the address sam@campus.example",
        ),
        (
            A,
            format!("UPDATE bookings SET status = 'cancelled', note = 'rider called: cancelled' WHERE id = {CONTESTED}"),
            "booking 171 is cancelled: the rider called",
        ),
        (
            B,
            "INSERT INTO riders (name, email) VALUES ('Samira Osei', 'sam@campus.example')".to_owned(),
            "another new rider, Samira Osei, with the same address",
        ),
        (
            B,
            format!(
                "UPDATE bookings SET status = 'completed', driver_id = 21, fare = 8.40, note = NULL WHERE id = {CONTESTED}"
            ),
            "booking 171 is completed, fare 8.40",
        ),
    ];
    let mut before = A;
    for (laptop, statement, words) in both {
        if laptop != before {
            // The binlog knows whole seconds; a later second makes plain who was later.
            a_second_passes(laptops).await?;
            before = laptop;
        }
        laptops.servers[laptop].sql_client(&format!("USE campus; {statement};"));
        say(&format!("{}: {words}", NAMES[laptop]));
    }
    say("");
    command(laptops, B, &["status"]);
    Ok(())
}

async fn a_second_passes(laptops: &mut Cluster) -> Result<(), String> {
    let now = laptops.servers[B].first::<u64>("SELECT UNIX_TIMESTAMP()").await;
    laptops
        .wait("the next second", DEADLINE, async |servers| servers[B].first::<u64>("SELECT UNIX_TIMESTAMP()").await > now)
        .await?;
    Ok(())
}

async fn conflict(laptops: &mut Cluster) -> Result<(), String> {
    let booking = format!("SELECT CONCAT(status, ', fare ', COALESCE(fare, '-')) FROM campus.bookings WHERE id = {CONTESTED}");
    let sam = "SELECT GROUP_CONCAT(name) FROM campus.riders WHERE email = 'sam@campus.example'";
    for laptop in [A, B] {
        let server = &laptops.servers[laptop];
        let (booking, sam) = (server.first::<String>(&booking).await, server.first::<Option<String>>(sam).await);
        say(&format!(
            "{}: booking {CONTESTED} is {}; sam@campus.example is {}",
            NAMES[laptop],
            booking.as_deref().unwrap_or("gone"),
            sam.flatten().as_deref().unwrap_or("nobody's")
        ));
    }
    say("The later write won on both; what lost is kept:");
    say("");
    for laptop in [A, B] {
        command(laptops, laptop, &["conflicts", "list"]);
    }
    let json = laptops.tandem(A, &["conflicts", "list", "--json"]);
    let list: serde_json::Value = serde_json::from_str(&json).map_err(|error| format!("{error} in: {json}"))?;
    let booking = list.as_array().and_then(|list| list.iter().find(|entry| entry["table"] == "campus.bookings"));
    let id = booking.and_then(|entry| entry["id"].as_str()).ok_or("the conflict about the booking was not kept")?;
    command(laptops, A, &["conflicts", "show", id]);
    Ok(())
}

async fn prove(laptops: &Cluster) -> Result<(), String> {
    say(&format!("{:24} {:>8} {:>8}   {:16}   {:16}", "table", NAMES[A], NAMES[B], "digest", "digest"));
    let mut unequal = Vec::new();
    for [one, other] in laptops::both_sides(laptops).await {
        let verdict = if one == other { "equal" } else { "DIFFERENT" };
        say(&format!(
            "{:24} {:>8} {:>8}   {}   {}   {verdict}",
            one.table,
            one.len(),
            other.len(),
            one.digest(),
            other.digest()
        ));
        unequal.extend(one.difference(&other));
    }
    if unequal.is_empty() { Ok(()) } else { Err(format!("the databases differ\n{}", unequal.join("\n"))) }
}

fn chapter(number: u32, title: &str) {
    println!("\n{number}. {title}");
}

fn say(line: &str) {
    println!("{}", format!("   {line}").trim_end());
}

/// Runs a `tandem` command on a laptop and shows what it printed.
fn command(laptops: &Cluster, laptop: usize, args: &[&str]) {
    say(&format!("{}$ tandem {}", NAMES[laptop], args.join(" ")));
    laptops.tandem(laptop, args).trim_end().lines().for_each(|line| say(&format!("| {line}")));
}

fn show(delay: Duration) -> String {
    match delay.as_millis() {
        0..1_000 => format!("{} ms", delay.as_millis()),
        _ => format!("{:.1} s", delay.as_secs_f32()),
    }
}
