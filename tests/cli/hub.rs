//! The keeper of the topics, from the command line.

use serde_json::json;

use super::{HASH_A, Place, Said, config};

#[test]
fn a_key_of_the_hub_comes_with_the_hash_that_the_configuration_takes() {
    let place = Place::with("");
    let (one, two) = (place.run(&["hub", "key"]), place.run(&["hub", "key"]));
    assert_eq!((one.code, two.code), (0, 0));
    let part = |said: &Said, name: &str| said.out.lines().find_map(|line| line.strip_prefix(name)).unwrap().trim().to_owned();
    assert_ne!(part(&one, "key"), part(&two, "key"));
    let place = Place::with(&config("127.0.0.1:7420").replace(HASH_A, &part(&one, "hub_key_hash")));
    assert_eq!(place.run(&["config", "check"]).code, 0);
}

#[test]
fn a_hub_needs_to_be_asked_for() {
    let text = config("127.0.0.1:7420");
    let without = text.replace("[hub]\nlisten = \"127.0.0.1:0\"\n", "");
    let said = Place::with(&without).run(&["hub"]);
    assert_eq!(said.code, 2);
    assert_eq!(
        said.err,
        "error: tandem.toml has no [hub], so it is not said where the topics are kept — add [hub] with listen = \"0.0.0.0:7421\"\n"
    );
    let of_node = text.replace("[hub]\n", "[hub]\nnode = \"laptop-b\"\n");
    let said = Place::with(&of_node).run(&["hub"]);
    assert!(said.code == 2 && said.err.contains("kept by laptop-b, whose `tandem run` does it"), "{}", said.err);
}

#[cfg(unix)]
#[test]
fn a_hub_alone_runs_until_it_is_told_to_end_and_ends_well() {
    use std::io::{BufRead, BufReader};
    use std::process::Stdio;

    let place = Place::with(&config("127.0.0.1:7420"));
    let mut hub = std::process::Command::new(env!("CARGO_BIN_EXE_tandem"))
        .current_dir(place.path())
        .args(["hub", "--config", "tandem.toml", "--log-format", "json"])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = BufReader::new(hub.stderr.take().unwrap()).lines();
    let first: serde_json::Value = serde_json::from_str(&log.next().unwrap().unwrap()).unwrap();
    assert_eq!(
        (&first["level"], &first["message"], &first["listen"]),
        (&json!("INFO"), &json!("hub starts"), &json!("127.0.0.1:0"))
    );
    let told = std::process::Command::new("kill").args(["-TERM", &hub.id().to_string()]).status().unwrap();
    assert!(told.success());
    assert_eq!(hub.wait().unwrap().code(), Some(0));
    assert!(place.path().join("tandem-state/hub").is_dir(), "the topics are kept beside the configuration");
}
