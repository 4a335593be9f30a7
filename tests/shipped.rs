//! What is shipped beside the program fits it: example configuration, its reference, dashboard and alerts.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use tandem::config::{Config, Environment};

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
    let used = metrics(&(read("grafana/dashboards/tandem.json") + &read("grafana/alerts.yml")));
    let unwatched: Vec<&String> = made.difference(&used).filter(|name| *name != "process_start_time_seconds").collect();
    assert!(unwatched.is_empty(), "in no panel and no alert: {unwatched:?}");
    let unknown: Vec<&String> = used.difference(&made).collect();
    assert!(unknown.is_empty(), "shown or watched, but not a metric: {unknown:?}");
}

#[test]
fn the_dashboard_is_json_with_queries_in_every_panel() {
    let dashboard: serde_json::Value = serde_json::from_str(&read("grafana/dashboards/tandem.json")).expect("it is JSON");
    let panels = dashboard["panels"].as_array().expect("panels are a list");
    for panel in panels.iter().filter(|panel| panel["type"] != "row") {
        let targets = panel["targets"].as_array().map_or(0, Vec::len);
        assert!(targets > 0, "{} has no query", panel["title"]);
    }
    assert!(panels.len() > 10, "{} panels", panels.len());
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
