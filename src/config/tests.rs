//! Tables of bad files and what is said about them, word for word.

use super::*;
use crate::topic::kafka::BUILT_IN;

/// A whole file in order; tests change lines of it.
const GOOD: &str = r#"version = 1
cluster = "campus"

[nodes.laptop-a]
database = "mysql://tandem@127.0.0.1:3306/campus"
password_env = "PASSWORD_A"
replica_id = 1101
hub_key_env = "HUB_KEY_A"
hub_key_hash = "blake3:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
[nodes.laptop-b]
database = "mysql://tandem@127.0.0.1:3306/campus"
password_env = "PASSWORD_B"
replica_id = 1102
hub_key_env = "HUB_KEY_B"
hub_key_hash = "blake3:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"

[topic]
kind = "hub"
url = "https://192.168.1.101:7421"
max_offline = "30d"

[hub]
node = "laptop-a"
listen = "0.0.0.0:7421"

[tables]
include = ["campus.*"]
exclude = ["campus.cache_*"]

[conflicts]
default = "newest_wins"
[conflicts.tables]
"campus.b*" = { policy = "manual" }
"campus.bookings" = { prefer = ["laptop-b", "laptop-a"] }

[web]
listen = "127.0.0.1:7420"
"#;

fn environment(variables: &[(&str, &str)]) -> Environment {
    variables.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect()
}

fn parse(text: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    Config::parse(Path::new("t.toml"), text, environment(variables))
}

fn good() -> Config {
    parse(GOOD, &[]).unwrap()
}

/// The faults of the good file with one text replaced, one line each.
#[track_caller]
fn check(old: &str, new: &str, expected: &[&str]) {
    assert!(GOOD.contains(old), "the good file has no {old}");
    let faults = parse(&GOOD.replacen(old, new, 1), &[]).expect_err(new);
    assert_eq!(faults.lines().collect::<Vec<_>>(), expected, "{new}");
}

#[test]
fn a_broker_is_refused_by_a_program_that_was_built_without_the_client_and_all_else_is_told_too() {
    let built_without = "is \"kafka\", and this program was built without the Kafka client";
    let (rule, fix) = check::refused_kind("kafka", false).expect("it cannot reach one");
    assert!(rule == built_without && fix.contains("cargo build --features kafka") && fix.contains("kind = \"hub\""));
    assert!(check::refused_kind("kafka", true).is_none() && check::refused_kind("hub", false).is_none());
    // This program, whichever it is.
    let text = GOOD.replacen("kind = \"hub\"\nurl = \"https://192.168.1.101:7421\"", "kind = \"kafka\"\nbrokers = []", 1);
    let text = text.replacen("[hub]\nnode = \"laptop-a\"\nlisten = \"0.0.0.0:7421\"\n", "", 1);
    let faults = parse(&text, &[]).unwrap_err();
    let lines: Vec<String> = faults.lines().collect();
    let no_broker = lines.iter().filter(|line| line.contains("line 19: `topic.brokers` names no broker")).count();
    let refused = lines.iter().filter(|line| line.contains(&format!("line 18: `topic.kind` {built_without}"))).count();
    assert_eq!((no_broker, refused, lines.len()), (1, usize::from(!BUILT_IN), 1 + usize::from(!BUILT_IN)), "{faults}");
}

#[test]
fn a_good_file_comes_out_whole() {
    let config = good();
    assert_eq!(config.cluster, "campus");
    assert_eq!(config.nodes.len(), 2);
    assert_eq!(config.topic.max_offline, Duration::from_secs(30 * 86_400));
    assert_eq!(config.hub.as_ref().unwrap().node, Some(OriginId::new("laptop-a")));
    assert!(config.tables.captures(&crate::change::TableName::new("campus", "riders")));
    let first = |table: &str| {
        let name = crate::change::TableName::parse(table).unwrap();
        config.conflicts.tables.iter().find(|(pattern, _)| pattern.matches(&name)).map(|(_, policy)| policy.clone())
    };
    assert_eq!(first("campus.baggage"), Some(Policy::Manual));
    // The full name decides although the pattern before it matches too.
    assert_eq!(first("campus.bookings"), Some(Policy::Prefer(vec![OriginId::new("laptop-b"), OriginId::new("laptop-a")])));
    assert_eq!(config.limits.max_clock_skew, Duration::from_secs(60));
    assert_eq!(config.ddl, crate::apply::DdlPolicies::default());
}

#[test]
fn each_class_of_statements_has_its_policy() {
    use crate::apply::{DdlPolicies, DdlPolicy};
    let with = |lines: &str| GOOD.to_owned() + "[ddl]\n" + lines;
    let expected = DdlPolicies { safe: DdlPolicy::Ask, dangerous: DdlPolicy::Ignore };
    assert_eq!(parse(&with("safe = \"ask\"\ndangerous = \"ignore\"\n"), &[]).unwrap().ddl, expected);
    let faults = parse(&with("dangerous = \"stop\"\n"), &[]).unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        ["t.toml line 39: `ddl.dangerous` cannot be \"stop\" — use apply, ask or ignore"]
    );
}

#[test]
fn unknown_keys_are_refused_with_the_nearest_known_one() {
    check("max_offline =", "max_ofline =", &["t.toml line 20: unknown key `topic.max_ofline` — did you mean `max_offline`?"]);
    check(
        "[tables]",
        "[table]",
        &[
            "t.toml line 26: unknown section `table` — did you mean `tables`?",
            "t.toml: `tables.include` is missing — add `include = [\"campus.*\"]` under [tables]",
        ],
    );
    check(
        "replica_id = 1101",
        "replica_id = 1101\nserver = 7",
        &[
            "t.toml line 8: unknown key `nodes.laptop-a.server` — known here: database, password_env, password_file, replica_id, \
         hub_key_env, hub_key_file, hub_key_hash",
        ],
    );
}

#[test]
fn all_faults_come_together_in_the_order_of_the_file() {
    let text = GOOD
        .replacen("version = 1\n", "version = 2\n", 1)
        .replacen("replica_id = 1102", "replica_id = 1101", 1)
        .replacen("\"30d\"", "\"a month\"", 1)
        .replacen("listen = \"127.0.0.1:7420\"", "listen = \"0.0.0.0:7420\"", 1)
        .replacen("cluster = \"campus\"\n", "", 1);
    let faults = parse(&text, &[]).unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "t.toml line 1: `version` is 2, which this tandem does not know — write version = 1",
            "t.toml line 12: `nodes.laptop-b.replica_id` is 1101, as for laptop-a — give every node a number of its own",
            "t.toml line 19: `topic.max_offline` is not a length of time: \"a month\" — write a whole number with ms, s, m, h or \
             d, for example \"30d\"",
            "t.toml line 36: `web.listen` is open to other machines, which needs a key — add key_env or key_file under [web], or \
             listen on 127.0.0.1",
            "t.toml: `cluster` is missing — add `cluster = \"campus\"` at the top",
        ]
    );
}

#[test]
fn each_rule_says_what_is_wrong_and_what_to_write() {
    check(
        "version = 1\n",
        "version = \"1\"\n",
        &["t.toml line 1: `version` must be a whole number, not a text — write digits, without quotes"],
    );
    check(
        "\"campus\"\n",
        "\"cam pus\"\n",
        &["t.toml line 2: `cluster` cannot be \"cam pus\" — use 1 to 63 letters a-z, digits, - and _"],
    );
    check(
        "[nodes.laptop-b]",
        "[nodes.LAPTOP-A]",
        &[
            "t.toml line 10: \"LAPTOP-A\" and \"laptop-a\" differ in case only — give one of them another name",
            "t.toml line 34: `conflicts.tables.campus.bookings.prefer` names \"laptop-b\", which is no node — use one of LAPTOP-A, laptop-a",
        ],
    );
    check(
        "tandem@127",
        "tandem:geheim@127",
        &[
            "t.toml line 5: `nodes.laptop-a.database` must not hold the password — remove it, and name its place with `password_env` or `password_file`",
        ],
    );
    check(
        "password_env = \"PASSWORD_A\"",
        "password_env = \"ge-heim!\"",
        &[
            "t.toml line 6: `nodes.laptop-a.password_env` is not the name of an environment variable — write the name of the variable that holds the secret, not the secret",
        ],
    );
    check(
        "password_env = \"PASSWORD_A\"",
        "password = \"geheim\"",
        &[
            "t.toml line 4: `nodes.laptop-a.password_env` is missing — add `password_env = \"TANDEM_PASSWORD\"` under [nodes.laptop-a]",
            "t.toml line 6: unknown key `nodes.laptop-a.password` — known here: database, password_env, password_file, replica_id, hub_key_env, hub_key_file, hub_key_hash",
        ],
    );
    check(
        "replica_id = 1101",
        "replica_id = 0",
        &["t.toml line 7: `nodes.laptop-a.replica_id` must be from 1 to 4294967295 — choose a number in this range"],
    );
    check(
        "\"hub\"",
        "\"rabbit\"",
        &["t.toml line 18: `topic.kind` cannot be \"rabbit\" — use kind = \"hub\" or kind = \"kafka\""],
    );
    check(
        "https://192",
        "http://192",
        &[
            "t.toml line 19: `topic.url` would send keys and rows unencrypted — use https://, or write allow_http = true under [topic] where the network itself is encrypted",
        ],
    );
    check(
        "node = \"laptop-a\"\n",
        "node = \"laptop-c\"\n",
        &["t.toml line 23: `hub.node` names \"laptop-c\", which is no node — use one of laptop-a, laptop-b"],
    );
    check(
        "hub_key_hash = \"blake3:b",
        "hub_key_hash = \"sha256:b",
        &[
            "t.toml line 15: `nodes.laptop-b.hub_key_hash` must be blake3: and 64 hexadecimal digits — `tandem hub key` makes a key and its hash",
        ],
    );
    check(
        "[\"campus.*\"]",
        "[\"riders\"]",
        &[
            "t.toml line 27: `tables.include` holds \"riders\", which is not database.table — write both parts; * stands for any letters, for example \"campus.*\"",
        ],
    );
    check(
        "[\"campus.*\"]",
        "[]",
        &["t.toml line 27: `tables.include` is empty, so no table would be synced — name tables, for example [\"campus.*\"]"],
    );
    check(
        "\"newest_wins\"",
        "\"oldest_wins\"",
        &["t.toml line 31: `conflicts.default` cannot be \"oldest_wins\" — use newest_wins, prefer or manual"],
    );
    check(
        "\"newest_wins\"",
        "\"prefer\"",
        &["t.toml line 31: `conflicts.default` is \"prefer\" without a node to prefer — add prefer = [\"laptop-a\"]"],
    );
    check(
        "\"manual\" }",
        "\"manual\", prefer = [\"laptop-a\"] }",
        &["t.toml line 33: `conflicts.tables.campus.b*.policy` is \"manual\", which takes no `prefer` — remove one of the two"],
    );
    check(
        "\"127.0.0.1:7420\"",
        "\"localhost\"",
        &["t.toml line 37: `web.listen` is not an address and port: \"localhost\" — write it like \"127.0.0.1:7420\""],
    );
    check(
        "[web]",
        "[web",
        &["t.toml line 36: this is not TOML: unclosed table, expected `]` — correct this line; texts stand in \"quotes\""],
    );
}

#[test]
fn a_hub_needs_to_know_every_node() {
    let line = "hub_key_hash = \"blake3:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\"\n";
    check(
        line,
        "",
        &[
            "t.toml line 21: the hub could not know laptop-b: `nodes.laptop-b.hub_key_hash` is missing — add hub_key_hash = \"blake3:…\"; `tandem hub key` makes a key and its hash",
        ],
    );
    let text = GOOD.replacen(line, "", 1).replacen("[hub]\nnode = \"laptop-a\"\nlisten = \"0.0.0.0:7421\"\n", "", 1);
    assert!(parse(&text, &[]).unwrap().hub.is_none(), "without a hub here, no hash is needed");
}

#[test]
fn the_hub_is_known_by_one_thing_and_its_size_has_limits() {
    let url = "url = \"https://192.168.1.101:7421\"\n";
    let pin = format!("sha256:{}", "ab".repeat(32));
    check(
        url,
        &format!("{url}fingerprint = \"sha256:abc\"\n"),
        &[
            "t.toml line 20: `topic.fingerprint` must be sha256: and 64 hexadecimal digits — write what `tandem hub fingerprint` prints on the hub's machine",
        ],
    );
    check(
        url,
        &format!("{url}ca = \"ca.pem\"\nfingerprint = \"{pin}\"\n"),
        &["t.toml line 21: `topic.fingerprint` and `ca` are both given — keep the one by which the hub is to be known"],
    );
    let listen = "listen = \"0.0.0.0:7421\"\n";
    check(
        listen,
        &format!("{listen}max_bytes = \"1MiB\"\ntls = \"no\"\n"),
        &[
            "t.toml line 25: `hub.max_bytes` must be from 256MiB to 1048576GiB — choose a size in this range",
            "t.toml line 26: `hub.tls` must be true or false, not a text — write true or false, without quotes",
        ],
    );
    check(
        listen,
        &format!("{listen}certificate = \"hub.pem\"\n"),
        &["t.toml line 22: `hub.certificate_key` is missing — add `certificate_key = \"hub.key\"` under [hub]"],
    );
    let read = |topic: &str, hub: &str| {
        let text = GOOD.replacen(url, &format!("{url}{topic}"), 1).replacen(listen, &format!("{listen}{hub}"), 1);
        let config = parse(&text, &[]).unwrap();
        assert_eq!(parse(&config.show(), &[]).unwrap().show(), config.show(), "what is shown can be read again");
        config
    };
    let trust = |topic: &str| match read(topic, "").topic.keeper {
        TopicKeeper::Hub(address) => address.trust,
        TopicKeeper::Kafka(_) => panic!("it is a hub"),
    };
    assert_eq!(trust(""), Trust::System);
    assert_eq!(trust(&format!("fingerprint = \"{pin}\"\n")), Trust::Pinned(pin.parse().unwrap()));
    assert_eq!(trust("ca = \"/etc/ca.pem\"\n"), Trust::Authority("/etc/ca.pem".into()));
    let hub = |lines: &str| read("", lines).hub.unwrap();
    assert_eq!((hub("").max_bytes, hub("").tls, hub("").certificate), (None, true, None));
    assert_eq!(hub("max_bytes = \"2GiB\"\ntls = false\n").max_bytes, Some(2 << 30));
    assert!(!hub("tls = false\n").tls);
    let given = hub("certificate = \"/etc/hub.pem\"\ncertificate_key = \"/etc/hub.key\"\n").certificate;
    assert_eq!(given, Some(("/etc/hub.pem".into(), "/etc/hub.key".into())));
}

#[test]
fn the_environment_lies_over_the_file() {
    let config = parse(
        GOOD,
        &[
            ("TANDEM__TOPIC__URL", "https://hub.lan"),
            ("TANDEM__NODES__LAPTOP_A__REPLICA_ID", "7"),
            ("TANDEM__TABLES__EXCLUDE", "campus.a, campus.b_*"),
            ("TANDEM__LIMITS__GROUP_BYTES", "1MiB"),
            ("TANDEM_NODE", "ignored"),
        ],
    )
    .unwrap();
    let TopicKeeper::Hub(hub) = &config.topic.keeper else { panic!("it said hub") };
    assert_eq!(hub.url.text, "https://hub.lan");
    assert_eq!(config.nodes[&OriginId::new("laptop-a")].replica_id, 7);
    assert_eq!(config.tables.exclude.len(), 2);
    assert_eq!(config.limits.group_bytes, 1 << 20);

    let faults = parse(GOOD, &[("TANDEM__TOPIC__ULR", "x"), ("TANDEM__WEB__LISTEN", "x")]).unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "environment variable TANDEM__TOPIC__ULR: unknown key `topic.ulr` — did you mean `url`?",
            "environment variable TANDEM__WEB__LISTEN: `web.listen` is not an address and port: \"x\" — write it like \
             \"127.0.0.1:7420\"",
        ]
    );
    let faults = parse(GOOD, &[("TANDEM__CLUSTER__NAME", "x"), ("TANDEM____X", "x")]).unwrap_err();
    assert_eq!(
        faults.lines().collect::<Vec<_>>(),
        [
            "environment variable TANDEM__CLUSTER__NAME: `CLUSTER` is not a section — remove the part after it",
            "environment variable TANDEM____X: it names no setting — write it as TANDEM__SECTION__KEY, for example \
             TANDEM__TOPIC__URL",
        ]
    );
}

#[test]
fn secrets_are_resolved_for_one_node_and_never_printed() {
    let secrets = [("PASSWORD_A", "geheim-1"), ("HUB_KEY_A", "geheim-2")];
    let config = parse(GOOD, &secrets).unwrap();
    let own = config.own_node(Some("laptop-a")).unwrap();
    assert_eq!(own.password.expose_secret(), "geheim-1");
    let TopicAccess::Hub(access) = &own.topics else { panic!("it said hub") };
    assert_eq!(access.key.expose_secret(), "geheim-2");
    assert!(own.keeps_topics);
    for text in [format!("{config:?}"), format!("{own:?}"), config.show()] {
        assert!(!text.contains("geheim"), "{text}");
    }

    let other = config.own_node(Some("laptop-b")).unwrap_err();
    assert_eq!(
        other.lines().collect::<Vec<_>>(),
        [
            "t.toml: the secret of `nodes.laptop-b.password` cannot be had: the environment variable PASSWORD_B is not set — set \
             it for this process, for example in the service's environment file",
            "t.toml: the secret of `nodes.laptop-b.hub_key` cannot be had: the environment variable HUB_KEY_B is not set — set it \
             for this process, for example in the service's environment file",
        ]
    );
    let nobody = config.own_node(Some("laptop-c")).unwrap_err().to_string();
    assert_eq!(nobody, "t.toml: there is no node \"laptop-c\" — use one of laptop-a, laptop-b, or add [nodes.laptop-c]");
    let unsaid = config.own_node(None).unwrap_err().to_string();
    assert_eq!(
        unsaid,
        "t.toml: it is not said which node this is — say it with --node or TANDEM_NODE; the file has laptop-a, laptop-b"
    );
}

#[test]
fn a_secret_file_is_read_without_its_last_line_break() {
    let folder = tempfile::tempdir().unwrap();
    let check = |content: &[u8], expected: Option<&str>| {
        std::fs::write(folder.path().join("password"), content).unwrap();
        let text = GOOD.replacen("password_env = \"PASSWORD_A\"", "password_file = \"password\"", 1);
        let config = Config::parse(&folder.path().join("t.toml"), &text, environment(&[("HUB_KEY_A", "k")])).unwrap();
        let password = config.own_node(Some("laptop-a")).map(|own| own.password.expose_secret().to_owned());
        assert_eq!(password.ok().as_deref(), expected);
    };
    check(b"geheim\n", Some("geheim"));
    check(b"geheim\r\n", Some("geheim"));
    check(b" ge heim ", Some(" ge heim "));
    // As Notepad and PowerShell write it.
    check(b"\xef\xbb\xbfgeheim\r\n", Some("geheim"));
    check(b"\n", None);
    check(&[0xff, 0xfe], None);
    check(&[b'x'; 5000], None);
}

#[test]
fn what_is_shown_can_be_read_again_and_means_the_same() {
    let shown = good().show();
    let again = parse(&shown, &[]).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
    assert_eq!(again.show(), shown);
}

#[test]
fn a_file_that_cannot_be_read_says_how_to_name_one() {
    let fault = Config::load(Path::new("no/such/tandem.toml")).unwrap_err().to_string();
    assert!(fault.starts_with("no/such/tandem.toml: cannot read the configuration: "), "{fault}");
    assert!(fault.contains("--config"), "{fault}");
}

#[test]
fn a_path_of_windows_in_quotes_is_refused_and_never_another_path() {
    let with = |folder: &str| format!("\u{feff}{GOOD}[state]\nfolder = {folder}\n").replace('\n', "\r\n");
    // In these the backslash is an escape that TOML knows.
    for folder in [r#""C:\tandem""#, r#""C:\new""#, r#""C:\backup""#, r#""C:\files""#, r#""C:\etc""#, r#""C:\repos""#] {
        let faults = parse(&with(folder), &[]).expect_err(folder).to_string();
        assert!(faults.starts_with("t.toml line 39: `state.folder` holds a tab, a line break"), "{folder}: {faults}");
        assert!(faults.contains(r"'C:\tandem\state'"), "{faults}");
    }
    // In these it is none.
    for folder in [r#""C:\xampp""#, r#""C:\users""#, r#""C:\Users""#, r#""C:\data""#, r#""D:\""#] {
        let faults = parse(&with(folder), &[]).expect_err(folder).to_string();
        assert!(
            faults.starts_with("t.toml line 39: this is not TOML") && faults.contains("single quotes"),
            "{folder}: {faults}"
        );
    }
    for (folder, expected) in [(r"'C:\tandem\state'", r"C:\tandem\state"), (r#""C:/tandem/state""#, "C:/tandem/state")] {
        let config = parse(&with(folder), &[]).unwrap_or_else(|faults| panic!("{faults}"));
        assert!(config.state_folder.ends_with(expected), "{}", config.state_folder.display());
        let again = parse(&config.show(), &[]).unwrap_or_else(|faults| panic!("{faults}\n{}", config.show()));
        assert_eq!(again.state_folder, config.state_folder);
    }
}

#[test]
fn nesting_and_nonsense_are_refused_not_followed() {
    let deep = format!("x = {}1{}", "[".repeat(40), "]".repeat(40));
    assert!(parse(&deep, &[]).unwrap_err().to_string().contains("nested too deep"));
    for text in ["", "\0", "nodes = 3\ntopic = []\nhub = true\nconflicts = \"x\"\nweb = 1.5\nlimits = 1979-05-27\ntables = {}"]
    {
        assert!(!parse(text, &[]).unwrap_err().is_empty(), "{text:?}");
    }
}

#[cfg(feature = "kafka")]
mod broker;
mod cloud;
