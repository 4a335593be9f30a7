//! `[cloud.NAME]`.

use super::super::*;
use super::{GOOD, environment};
use crate::change::TableName;
use crate::cloud::Schedule;

const CLOUD: &str = r#"
[cloud.main]
cron = "0 2 * * *"
api = { url = "https://cloud.example/api", key_env = "CLOUD_KEY" }
nodes = ["laptop-a"]
encrypt_key_env = "SEAL"
files = { root = "uploads", size_max = "1MiB", skip = ["*.mp4"] }

[cloud.main.tables]
"campus.rooms" = { files = { photo = { kind = "images" } } }
"campus.leaves" = { days = 90, time = "created_at", encrypt = ["reason"], rename = { name = "title" }, omit = ["slip"], mask = ["phone"] }
"campus.b*" = { resource = "others", id = "uid" }
"#;

const SEAL: &str = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=";

fn parse(cloud: &str, variables: &[(&str, &str)]) -> Result<Config, Faults> {
    Config::parse(Path::new("/etc/t.toml"), &format!("{GOOD}{cloud}"), environment(variables))
}

/// What is said about the good section with one text replaced: one line each, its place left out.
#[track_caller]
fn check(old: &str, new: &str, expected: &[&str]) {
    assert!(CLOUD.contains(old), "the good section has no {old}");
    let faults = parse(&CLOUD.replacen(old, new, 1), &[]).expect_err(new);
    let lines: Vec<String> = faults.lines().map(|line| line.to_string()).collect();
    assert_eq!(lines.len(), expected.len(), "{lines:#?}");
    for (line, expected) in lines.iter().zip(expected) {
        assert!(line.contains(expected), "{line}\nis not\n{expected}");
    }
}

#[test]
fn a_cloud_is_read_shown_and_read_again_and_its_secrets_cannot_be_printed() {
    let config = parse(CLOUD, &[("CLOUD_KEY", "geheim"), ("SEAL", SEAL)]).unwrap();
    let feeds = config.cloud_feeds(&OriginId::new("laptop-a")).unwrap();
    assert!(config.cloud_feeds(&OriginId::new("laptop-b")).unwrap().is_empty(), "it does not feed it");
    let feed = &feeds[0];
    assert_eq!((feed.options.name.as_str(), feed.api.url.as_str()), ("main", "https://cloud.example/api"));
    assert!(matches!(feed.options.schedule, Schedule::Cron(_)));
    let table = |name: &str| feed.options.table(&TableName::new("campus", name));
    let (place, leaves) = table("leaves").unwrap();
    assert_eq!((place, leaves.days, leaves.rename["name"].as_str()), (1, Some(90), "title"));
    assert!(leaves.seal.is_some() && leaves.encrypt.contains("reason") && leaves.omit.contains("slip"));
    assert_eq!(table("bookings").unwrap().1.id.as_deref(), Some("uid"));
    let files = feed.options.files.as_ref().unwrap();
    assert_eq!((files.root.as_path(), files.size_max), (Path::new("/etc/uploads"), 1 << 20));
    assert_eq!(table("rooms").unwrap().1.files["photo"].field, "photo_url");
    assert!(table("sessions").is_none());
    for text in [format!("{config:?}"), format!("{feed:?}"), config.show()] {
        assert!(!text.contains("geheim") && !text.contains(SEAL), "{text}");
    }
    let shown = config.show();
    let again =
        Config::parse(Path::new("/etc/t.toml"), &shown, environment(&[])).unwrap_or_else(|faults| panic!("{faults}\n{shown}"));
    assert_eq!(again.show(), shown);
    let fault = parse(CLOUD, &[("SEAL", "short")]).unwrap().cloud_feeds(&OriginId::new("laptop-a")).unwrap_err().to_string();
    assert!(fault.contains("CLOUD_KEY is not set") && fault.contains("32 random bytes") && !fault.contains("short"), "{fault}");
}

const FILES: &str = r#"files = { root = "uploads", size_max = "1MiB", skip = ["*.mp4"] }"#;

/// The good section with this store, and secrets for all of them.
fn with_store(store: &str) -> Result<Config, Faults> {
    let files = format!(r#"files = {{ root = "uploads", store = {{ {store} }} }}"#);
    let secrets = [("CLOUD_KEY", "geheim"), ("SEAL", SEAL), ("ID", "AKIA"), ("STORE", "verborgen")];
    parse(&CLOUD.replacen(FILES, &files, 1), &secrets)
}

#[test]
fn stores_of_files_are_read_shown_and_read_again_and_their_secrets_cannot_be_printed() {
    let check = |store: &str, expected: &str| {
        let config = with_store(store).unwrap_or_else(|faults| panic!("{faults}"));
        let feed = config.cloud_feeds(&OriginId::new("laptop-a")).unwrap().remove(0);
        let text = format!("{:?}", feed.store);
        assert!(text.contains(expected) && !text.contains("verborgen") && !text.contains("AKIA"), "{text}");
        let shown = config.show();
        let again =
            Config::parse(Path::new("/etc/t.toml"), &shown, environment(&[])).unwrap_or_else(|faults| panic!("{faults}"));
        assert_eq!(again.show(), shown);
        assert!(!shown.contains("verborgen"), "{shown}");
    };
    check(r#"url = "s3://b/p/q", key_id_env = "ID", key_env = "STORE", endpoint = "http://127.0.0.1:9000""#, "prefix: \"p/q\"");
    check(r#"url = "gs://b", key_env = "STORE", public = "https://files.example""#, "Gcs");
    check(r#"url = "az://box/p", account = "campus", key_env = "STORE""#, "account: \"campus\"");
    check(r#"url = "file:///srv/files""#, "Folder { root: \"/srv/files\"");
    check(r#"url = "files""#, "Folder { root: \"/etc/files\"");
}

#[test]
fn an_archive_of_rows_is_a_store_like_others_and_goes_with_mirror_alone() {
    let with = |lines: &str| CLOUD.replacen("cron = ", &format!("{lines}\ncron = "), 1);
    let archive = r#"archive = { url = "s3://b/rows", key_id_env = "ID", key_env = "STORE" }"#;
    let secrets = [("CLOUD_KEY", "geheim"), ("SEAL", SEAL), ("ID", "AKIA"), ("STORE", "verborgen")];
    let config = parse(&with(archive), &secrets).unwrap();
    let feed = config.cloud_feeds(&OriginId::new("laptop-a")).unwrap().remove(0);
    assert!(matches!(feed.archive, Some(StoreChoice::Bucket(_))), "{feed:?}");
    assert!(config.show().contains("archive = { url = \"s3://b/rows\""), "{}", config.show());
    let missing = parse(&with(&format!("{archive}\nmode = \"missing\"")), &secrets).unwrap_err().to_string();
    assert!(missing.contains("`cloud.main.archive` goes with mode = \"mirror\" only"), "{missing}");
}

#[test]
fn every_fault_of_a_store_is_named() {
    let check = |store: &str, expected: &str| {
        let faults = with_store(store).expect_err(store);
        assert!(faults.lines().any(|line| line.to_string().contains(expected)), "{faults}");
    };
    check("region = \"x\"", "`cloud.main.files.store.url` is missing");
    check("url = \"ftp://b\"", "cannot begin with \"ftp://\"");
    check("url = \"s3:///p\"", "names no bucket");
    check("url = \"s3://b/../c\"", "names no bucket");
    check("url = \"s3://b\", key_env = \"STORE\"", "`cloud.main.files.store.key_id_env` is missing");
    check("url = \"az://b\", key_env = \"STORE\"", "`cloud.main.files.store.account` is missing");
    check("url = \"gs://b\", key = \"x\"", "unknown key `cloud.main.files.store.key`");
    check("url = \"gs://b\", key_env = \"STORE\", endpoint = \"http://far.example\"", "would send files unencrypted");
}

#[test]
fn files_that_follow_their_rows_are_shown_and_read_again() {
    let follow = CLOUD.replace("{ files = { photo", "{ files_after = true, files = { photo");
    let shown = parse(&follow, &[]).unwrap().show();
    assert!(shown.contains("files_after = true") && !parse(CLOUD, &[]).unwrap().show().contains("files_after"), "{shown}");
    let again = Config::parse(Path::new("/etc/t.toml"), &shown, environment(&[]));
    assert_eq!(again.unwrap_or_else(|faults| panic!("{faults}\n{shown}")).show(), shown);
}

#[test]
fn files_whose_path_is_made_of_columns_are_shown_and_read_again() {
    let made = CLOUD.replace("{ kind = \"images\" }", "{ kind = \"images\", path = \"rooms/{id}.jpg\" }");
    let shown = parse(&made, &[]).unwrap().show();
    assert!(shown.contains("path = \"rooms/{id}.jpg\""), "{shown}");
    let again = Config::parse(Path::new("/etc/t.toml"), &shown, environment(&[]));
    assert_eq!(again.unwrap_or_else(|faults| panic!("{faults}\n{shown}")).show(), shown);
}

#[test]
fn every_fault_of_a_cloud_is_named_with_its_remedy() {
    check("https://cloud.example/api", "http://cloud.example/api", &["would send the key and rows unencrypted"]);
    check("https://cloud.example/api", "cloud", &["`cloud.main.api.url`"]);
    check(
        "key_env = \"CLOUD_KEY\"",
        "key = \"x\"",
        &["`cloud.main.api.key_env` is missing", "unknown key `cloud.main.api.key`"],
    );
    check("cron = \"0 2 * * *\"", "cron = \"at night\"", &["`cloud.main.cron` is no time of cron"]);
    check("cron = \"0 2 * * *\"", "cron = \"0 2 * * *\"\nevery = \"1h\"", &["stands beside another schedule"]);
    check("cron = \"0 2 * * *\"", "mode = \"some\"", &["cannot be \"some\""]);
    check("cron = \"0 2 * * *\"", "mode = \"missing\"\ncontinuous = true", &["goes with mode = \"mirror\" only"]);
    check("[\"laptop-a\"]\nencrypt", "[\"laptop-c\"]\nencrypt", &["names \"laptop-c\", which is no node"]);
    check("encrypt_key_env = \"SEAL\"\n", "", &["has columns to encrypt and no key"]);
    check(", time = \"created_at\"", "", &["`cloud.main.tables.campus.leaves.time` is missing"]);
    check("days = 90, ", "", &["stands without `days`"]);
    check("\"campus.rooms\"", "\"rooms\"", &["which is not database.table"]);
    check("files = { root = \"uploads\", size_max = \"1MiB\", skip = [\"*.mp4\"] }\n", "", &["there is no root for them"]);
    check("root = \"uploads\", ", "", &["`cloud.main.files.root` is missing"]);
    check("kind = \"images\"", "kind = \"a/b\"", &["cannot be \"a/b\""]);
    check("kind = \"images\"", "kind = \"images\", path = \"all.jpg\"", &["names no column"]);
    check("kind = \"images\"", "kind = \"images\", path = \"{id.jpg\"", &["has a brace that is not closed"]);
    let hidden = "kind = \"images\", path = \"{id}.jpg\" } }, mask = [\"id\"]";
    check("kind = \"images\" } }", hidden, &["needs the column `id`, which is left out, masked or encrypted"]);
    check("images\" } }", "images\" } }, omit = [\"photo\"]", &["needs the column `photo`"]);
    check("files = { photo = { kind = \"images\" } }", "resource = \"others\"", &["have the same resource \"others\""]);
    check("id = \"uid\"", "files_after = true", &["stands without `files`"]);
    let head = "skip = [\"*.mp4\"] }\n\n[cloud.main.tables]\n\"campus.rooms\" = { files";
    let missing = head.replace("}\n\n[", "}\nmode = \"missing\"\n[").replace("{ files", "{ files_after = true, files");
    check(head, &missing, &["has files_after, which goes with mode = \"mirror\" only"]);
    check("resource = \"others\"", "resource = \"a/b\"", &["cannot be \"a/b\""]);
    check("id = \"uid\"", "ids = \"uid\"", &["did you mean `id`?"]);
}
