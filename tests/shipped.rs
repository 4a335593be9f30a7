//! What is shipped beside the program fits it: example configuration, its reference, dashboard and alerts.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use tandem::config::{Config, Environment};

#[path = "harness/tools.rs"]
#[allow(dead_code)]
mod tools;

fn read(file: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("cannot read {}: {error}", path.display()))
}

fn check_config(file: &str, environment: &[(&str, &str)]) -> Config {
    let environment: Environment = environment.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    Config::parse(Path::new(file), &read(file), environment).unwrap_or_else(|faults| {
        let lines: Vec<String> = faults.lines().map(|line| line.to_string()).collect();
        panic!("{}", lines.join("\n"))
    })
}

#[test]
fn the_configurations_to_start_from_are_in_order() {
    let secrets = [("TANDEM_PASSWORD", "p"), ("TANDEM_HUB_KEY", "k")];
    for file in ["deploy/tandem.toml", "deploy/compose/tandem.toml"] {
        let config = check_config(file, &secrets);
        for node in ["laptop-a", "laptop-b"] {
            let own = config.own_node(Some(node)).unwrap_or_else(|_| panic!("{node} is not complete in {file}"));
            assert_eq!(own.keeps_topics, node == "laptop-a");
        }
    }
}

#[test]
fn each_kind_of_network_has_its_example() {
    let secrets = [("TANDEM_PASSWORD", "p"), ("TANDEM_HUB_KEY", "k")];
    for (file, keeps) in [("same-wifi", Some("laptop-a")), ("tunnel", Some("laptop-a")), ("vpn", None)] {
        let config = check_config(&format!("deploy/examples/{file}.toml"), &secrets);
        for node in ["laptop-a", "laptop-b"] {
            let own = config.own_node(Some(node)).unwrap_or_else(|_| panic!("{node} is not complete in {file}"));
            assert_eq!(own.keeps_topics, keeps == Some(node), "{node} in {file}");
        }
        assert!(config.show().contains("url = \"https://"), "{file} goes in the open");
    }
    // The way that the comment names for the node at the tunnel's own end.
    let short = [&secrets[..], &[("TANDEM__TOPIC__URL", "http://127.0.0.1:7421")]].concat();
    assert!(check_config("deploy/examples/tunnel.toml", &short).show().contains("http://127.0.0.1:7421"));
}

/// Paths that the code serves as API, written as OpenAPI writes them.
fn served() -> BTreeSet<String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/serve");
    let files = fs::read_dir(&folder).expect("the room is there").map(|entry| entry.expect("the folder is open").path());
    // What a hub and a cloud server answer is described elsewhere.
    let own = files.filter(|file| file.is_file() && !["hub.rs", "receiver.rs"].iter().any(|other| file.ends_with(other)));
    let text: String = own.map(|file| fs::read_to_string(file).expect("sources are text")).collect();
    let paths = text.split(".route(").skip(1).filter_map(|rest| rest.split('"').nth(1).map(str::to_owned));
    let api = |path: &String| path.starts_with("/api/") || ["/metrics", "/healthz", "/readyz"].contains(&path.as_str());
    paths.filter(api).collect()
}

#[test]
fn every_address_of_a_node_is_described() {
    let description = read("docs/node-api.yaml");
    let lines = description.lines().filter_map(|line| line.strip_prefix("  /").and_then(|line| line.strip_suffix(':')));
    let described: BTreeSet<String> = lines.map(|path| format!("/{path}")).collect();
    let served = served();
    assert!(served.len() > 15, "only {served:?}");
    let missing: Vec<&String> = served.difference(&described).collect();
    assert!(missing.is_empty(), "docs/node-api.yaml does not describe {missing:?}");
    let gone: Vec<&String> = described.difference(&served).collect();
    assert!(gone.is_empty(), "docs/node-api.yaml describes what nobody serves: {gone:?}");
}

#[test]
fn the_example_of_a_cloud_is_in_order() {
    let key = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";
    let config = check_config("deploy/examples/cloud.toml", &[("CLOUD_API_KEY", "k"), ("CLOUD_ENCRYPT_KEY", key)]);
    let feeds = config.cloud_feeds(&tandem::change::OriginId::new("laptop-b")).expect("its secrets are there");
    let table = |name: &str| tandem::change::TableName::new("campus", name);
    let tables = [
        "rooms",
        "cameras",
        "faculties",
        "teaching_loads",
        "attendance_records",
        "leaves",
        "passes",
        "recognition_logs",
        "stream_recordings",
    ];
    let days = [None, None, None, None, Some(30), Some(90), Some(90), Some(7), Some(7)];
    for (place, (name, days)) in tables.into_iter().zip(days).enumerate() {
        let (found, mapping) = feeds[0].options.table(&table(name)).unwrap_or_else(|| panic!("{name} is not sent"));
        assert_eq!((found, mapping.days, mapping.resource(&table(name))), (place, days, name.replace('_', "-")));
    }
    assert!(feeds[0].options.table(&table("sessions")).is_none());
}

#[test]
fn every_key_is_in_the_reference() {
    let reference = read("docs/configuration.md") + &read("docs/cloud.md");
    let shown = check_config("deploy/tandem.toml", &[]).show() + &check_config("deploy/examples/cloud.toml", &[]).show();
    let keys: BTreeSet<&str> = shown.lines().filter_map(|line| line.split_once(" = ")).map(|(key, _)| key).collect();
    assert!(keys.len() > 15, "only {} keys are shown", keys.len());
    let missing: Vec<&str> = keys.into_iter().filter(|key| !reference.contains(&format!("`{key}`"))).collect();
    assert!(missing.is_empty(), "docs/configuration.md does not explain {missing:?}");
}

/// Words that look like metrics of ours.
/// By their files' names.
fn dashboards() -> BTreeMap<String, String> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana/dashboards");
    let files = fs::read_dir(folder).expect("there are dashboards");
    let names = files.map(|file| file.expect("it was listed").file_name().into_string().expect("a name"));
    names.map(|name| (name.clone(), read(&format!("grafana/dashboards/{name}")))).collect()
}

fn metrics(text: &str) -> BTreeSet<String> {
    text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .filter(|word| word.starts_with("tandem_") || word.starts_with("process_"))
        .map(|word| word.trim_end_matches("_bucket").to_owned())
        .filter(|word| !["tandem_web_key"].contains(&word.as_str()))
        .collect()
}

#[test]
fn every_metric_has_its_panel_or_alert_and_every_panel_its_metric() {
    let source = read("src/observe/metrics.rs");
    // The names stand in quotes there; what is not a whole string is no metric.
    let made: BTreeSet<String> = source.split('"').filter(|text| metrics(text).contains(*text)).map(str::to_owned).collect();
    assert!(made.len() > 15, "only {} metrics found", made.len());
    let used = metrics(&(dashboards().into_values().collect::<String>() + &read("grafana/alerts.yml")));
    let unwatched: Vec<&String> = made.difference(&used).filter(|name| *name != "process_start_time_seconds").collect();
    assert!(unwatched.is_empty(), "in no panel and no alert: {unwatched:?}");
    let unknown: Vec<&String> = used.difference(&made).collect();
    assert!(unknown.is_empty(), "shown or watched, but not a metric: {unknown:?}");
}

#[test]
fn the_dashboards_are_json_with_queries_in_every_panel() {
    let mut ids = BTreeSet::new();
    for (name, text) in dashboards() {
        let dashboard: serde_json::Value = serde_json::from_str(&text).expect("it is JSON");
        assert!(ids.insert(dashboard["uid"].to_string()), "{name} has the uid of another");
        let panels = dashboard["panels"].as_array().expect("panels are a list");
        let mut numbers = BTreeSet::new();
        for panel in panels {
            assert!(numbers.insert(panel["id"].as_u64()), "{name}: {} has the number of another", panel["title"]);
            let targets = panel["targets"].as_array().map_or(0, Vec::len);
            assert!(panel["type"] == "row" || targets > 0, "{name}: {} has no query", panel["title"]);
        }
        assert!(panels.len() > 10, "{name}: {} panels", panels.len());
    }
    assert!(ids.len() >= 2, "one of all nodes, and one of each");
}

/// Runs Prometheus's own tool in a folder; `None`, said loudly, where it is not installed.
fn promtool(folder: &Path, args: &[&str]) -> Option<(bool, String)> {
    let program = tools::found_or_say("promtool", "THE ALERTS WERE NOT TESTED", "TANDEM_REQUIRE_PROMETHEUS")?;
    let output = Command::new(program).args(args).current_dir(folder).output().expect("it was just found");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    Some((output.status.success(), said))
}

#[test]
fn every_alert_is_heard_when_it_should_be_and_not_before() {
    let rules = read("grafana/alerts.yml");
    let alerts: BTreeSet<&str> = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect();
    let tests = read("grafana/alerts_test.yml");
    let tested: BTreeSet<&str> = tests.lines().filter_map(|line| line.trim().strip_prefix("alertname: ")).collect();
    assert_eq!(alerts, tested, "each alert has its test, and each test its alert");

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("grafana");
    let Some((passed, said)) = promtool(&folder, &["test", "rules", "alerts_test.yml"]) else { return };
    assert!(passed, "{said}");
    // What these tests are worth: an alert that comes an hour late, or is deaf, is found.
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    fs::write(place.path().join("alerts_test.yml"), &tests).expect("the folder can be written to");
    for (sound, broken) in [("for: 5m", "for: 65m"), ("tandem_lag_seconds > 60", "tandem_lag_seconds > 600"), ("== 1", "== 2")]
    {
        fs::write(place.path().join("alerts.yml"), rules.replace(sound, broken)).expect("the folder can be written to");
        let (passed, said) = promtool(place.path(), &["test", "rules", "alerts_test.yml"]).expect("it was there a moment ago");
        assert!(!passed, "`{broken}` is not noticed: {said}");
    }
}

#[test]
fn prometheus_takes_its_configuration() {
    let place = tempfile::tempdir().expect("a temporary directory can be made");
    // The key's file is there in a container only.
    let key = place.path().join("key");
    let config = read("grafana/prometheus.yml").replace("/run/secrets/tandem_web_key", &key.to_string_lossy());
    for (name, text) in [("key", "k"), ("prometheus.yml", config.as_str()), ("alerts.yml", &read("grafana/alerts.yml"))] {
        fs::write(place.path().join(name), text).expect("the folder can be written to");
    }
    let Some((passed, said)) = promtool(place.path(), &["check", "config", "prometheus.yml"]) else { return };
    assert!(passed, "{said}");
}

/// The parts of `docker-compose.yml` below a service's name, each line without what stands before it.
fn services() -> Vec<(String, Vec<String>)> {
    let compose = read("docker-compose.yml");
    let (_, rest) = compose.split_once("\nservices:\n").expect("it has services");
    let (part, _) = rest.split_once("\nsecrets:\n").expect("secrets come after them");
    let mut services: Vec<(String, Vec<String>)> = Vec::new();
    for line in part.lines() {
        match line.strip_prefix("  ").filter(|line| !line.starts_with([' ', '#'])).and_then(|line| line.strip_suffix(':')) {
            Some(name) => services.push((name.to_owned(), Vec::new())),
            None => services.iter_mut().last().into_iter().for_each(|(_, lines)| lines.push(line.trim().to_owned())),
        }
    }
    services
}

#[test]
fn what_compose_mounts_is_there_and_what_it_publishes_is_listened_on() {
    let services = services();
    let names: Vec<&str> = services.iter().map(|(name, _)| name.as_str()).collect();
    for name in
        ["mariadb-a", "mariadb-b", "tandem-a", "tandem-b", "cloud", "redpanda", "console", "minio", "prometheus", "grafana"]
    {
        assert!(names.contains(&name), "no service {name} among {names:?}");
    }
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut published = BTreeSet::new();
    for (service, lines) in &services {
        for line in lines {
            if let Some(mount) = line.strip_prefix("- ./") {
                let source = mount.split(':').next().unwrap_or_default();
                for source in ["tandem.toml", "kafka.toml"].map(|file| source.replace("${TANDEM_COMPOSE_CONFIG", file)) {
                    assert!(root.join(&source).exists(), "{service} mounts {source}, which is not there");
                }
            }
            for port in line.strip_prefix("ports: [").into_iter().flat_map(|ports| ports.trim_end_matches(']').split(", ")) {
                let parts: Vec<&str> = port.trim_matches('"').split(':').collect();
                assert_eq!((parts.len(), parts[0]), (3, "127.0.0.1"), "{service} publishes {port} to other machines");
                assert!(published.insert(parts[1].to_owned()), "{} is published twice", parts[1]);
                if service.starts_with("tandem-") {
                    let listen = check_config("deploy/compose/tandem.toml", &[]).web.listen;
                    assert_eq!(parts[2], listen.port().to_string(), "{service} listens elsewhere");
                }
            }
            if let Some(image) = line.strip_prefix("image: ") {
                let version = image.rsplit_once(':').map_or("latest", |(_, version)| version);
                assert!(version != "latest", "{service} takes whatever is the newest {image}");
            }
        }
    }
    assert!(published.len() >= 10, "only {published:?} are published");
    let targets = read("grafana/prometheus.yml");
    assert!(targets.contains("tandem-a:7420") && targets.contains("tandem-b:7420"), "Prometheus looks elsewhere");
}

#[test]
fn the_configurations_of_compose_are_in_order_with_what_compose_sets() {
    let hash = "blake3:3333333333333333333333333333333333333333333333333333333333333333";
    let other = "blake3:4444444444444444444444444444444444444444444444444444444444444444";
    let environment = [
        ("TANDEM_PASSWORD", "p"),
        ("TANDEM_HUB_KEY", "k"),
        ("TANDEM__NODES__LAPTOP_A__HUB_KEY_HASH", hash),
        ("TANDEM__NODES__LAPTOP_B__HUB_KEY_HASH", other),
    ];
    assert!(check_config("deploy/compose/tandem.toml", &environment).show().contains(hash));
    if tandem::topic::kafka::BUILT_IN {
        let kafka = check_config("deploy/compose/kafka.toml", &environment);
        assert!(kafka.show().contains("redpanda:9092") && kafka.hub.is_none());
    }
    // The lines for a bucket, at the end of either.
    let both = read("deploy/compose/tandem.toml") + &read("deploy/compose/s3.toml");
    let parsed = Config::parse(Path::new("both.toml"), &both, Environment::default());
    assert!(parsed.is_ok_and(|config| config.show().contains("s3://campus-files/laptops")));
}

#[test]
fn the_image_holds_what_the_program_is_linked_to() {
    let image = read("deploy/Dockerfile");
    let (_, last) = image.rsplit_once("\nFROM ").expect("it has stages");
    for part in ["libssl3", "zlib1g", "ca-certificates", "USER 7420", "HEALTHCHECK", "ENTRYPOINT"] {
        assert!(last.contains(part), "the image lacks {part}");
    }
}

/// Files of the sources where something is otherwise on another system, tests aside.
fn differing_by_system() -> BTreeSet<String> {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let (mut found, mut folders) = (BTreeSet::new(), vec![src.clone()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it was just listed") {
            let path = entry.expect("the folder is open").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let text = fs::read_to_string(&path).expect("sources are text");
            let program = text.split("#[cfg(test)]").next().unwrap_or_default();
            let by_system = |line: &str| line.contains("cfg") && (line.contains("unix") || line.contains("windows"));
            if program.lines().any(by_system) {
                let inner = path.strip_prefix(&src).expect("it was found below it");
                found.insert(inner.to_string_lossy().replace('\\', "/"));
            }
        }
    }
    found
}

/// Of `differing`, what no row of the table names; and what a row names that is none of them.
fn untold(document: &str, differing: &BTreeSet<String>) -> Vec<String> {
    let rows = document.split("| place |").nth(1).expect("there is the table").lines().skip(1);
    let rows = rows.take_while(|line| line.is_empty() || line.starts_with('|')).filter_map(|line| line.split('|').nth(1));
    let told = rows.flat_map(|cell| cell.split('`')).filter(|name| name.ends_with(".rs")).map(str::to_owned).collect();
    differing.symmetric_difference(&told).cloned().collect()
}

#[test]
fn the_page_of_windows_tells_each_place_that_is_otherwise_there() {
    let (document, differing) = (read("deploy/windows.md"), differing_by_system());
    assert!(differing.len() > 4 && differing.contains("cli/run.rs"), "they are not found: {differing:?}");
    assert_eq!(untold(&document, &differing), [""; 0]);
    // A place that the table forgets is found, and one that is no more.
    assert_eq!(untold(&document.replace("`cli/run.rs`", "``"), &differing), ["cli/run.rs"]);
    assert_eq!(untold(&document.replace("`cli/run.rs`", "`cli/run.rs`, `gone.rs`"), &differing), ["gone.rs"]);
}

/// Titles of a document, in small letters.
fn titles(document: &str) -> BTreeSet<String> {
    read(document).lines().filter_map(|line| line.strip_prefix("## ")).map(str::to_lowercase).collect()
}

#[test]
fn what_errors_refer_to_is_in_the_documents() {
    let (mut referred, mut missing) = (0, Vec::new());
    let mut folders = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("src")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("it was just listed") {
            let path = entry.expect("the folder is open").path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            // As in `see docs/operations.md, \"TLS\"`, whose quotes are escaped in code.
            let text = fs::read_to_string(&path).expect("sources are text").replace('\\', "");
            for rest in text.split("docs/").skip(1) {
                let name = rest.split(".md").next().unwrap_or_default();
                if name.contains(char::is_whitespace) || !rest[name.len()..].starts_with(".md") {
                    continue;
                }
                referred += 1;
                let document = format!("docs/{name}.md");
                let title = rest[name.len()..].strip_prefix(".md, \"").and_then(|rest| rest.split('"').next());
                let there = Path::new(env!("CARGO_MANIFEST_DIR")).join(&document).is_file();
                if !there || title.is_some_and(|title| !titles(&document).contains(&title.to_lowercase())) {
                    missing.push(format!("{}: {document} {}", path.display(), title.unwrap_or_default()));
                }
            }
        }
    }
    assert!(referred > 2, "only {referred} references found");
    assert!(missing.is_empty(), "not there:\n{}", missing.join("\n"));
}

#[test]
fn decisions_are_numbered_one_by_one() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/decisions");
    let mut names: Vec<String> = fs::read_dir(&folder)
        .expect("there are decisions")
        .map(|entry| entry.expect("the folder is open").file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    for (number, name) in (1..).zip(&names) {
        assert!(name.starts_with(&format!("{number:04}-")), "{name} should have the number {number:04}");
        let title = read(&format!("docs/decisions/{name}"));
        assert!(title.starts_with(&format!("# {number}. ")), "{name} should begin with `# {number}. `");
    }
    assert!(names.len() > 5, "{} decisions", names.len());
}
