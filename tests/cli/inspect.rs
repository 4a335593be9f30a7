//! Looking closer: positions, one row, health, and the bundle for those who help.

use std::io::Read;

use async_trait::async_trait;
use flate2::read::GzDecoder;
use serde_json::json;
use tandem::observe::{PositionView, SearchedView, SeedingView, TopicPlaceView, VersionView, WhereView, WhereWish};
use tandem::runtime::{RoleState, RoleWatch, Stop};
use tandem::serve::Inspect;

use super::{NOW, Place, Shown, config};

/// A node that knows of one row.
pub struct Known;

#[async_trait]
impl Inspect for Known {
    async fn position(&self) -> Result<PositionView, Stop> {
        let topic = |origin: &str, next: Option<u64>| TopicPlaceView {
            origin: origin.into(),
            first: 100,
            end: 1_204,
            next,
            position: Some("0-1-77".into()),
            clock_seconds: Some(NOW),
        };
        let topics = vec![topic("laptop-a", None), topic("laptop-b", Some(1_200))];
        Ok(PositionView { node: "laptop-a".into(), database: Some("0-1-80".into()), topics })
    }

    async fn where_is(&self, wish: WhereWish) -> Result<WhereView, Stop> {
        let row = |name: &str| json!({"id": 7, "name": name}).as_object().cloned();
        let version = |origin: &str, op: &str, here: &str, row| VersionView {
            origin: origin.into(),
            offset: 1_203,
            gtid: "0-1-77".into(),
            op: op.into(),
            clock: NOW * 1_000_000,
            written_seconds: NOW,
            here: here.into(),
            known_by: vec!["laptop-a".into(), "laptop-b".into()],
            row,
        };
        let is_known = wish.key == ["7"];
        let versions = vec![version("laptop-b", "delete", "waits", None), version("laptop-a", "update", "applied", row("Ann"))];
        Ok(WhereView {
            table: "campus.riders".into(),
            key: json!({"id": 7}).as_object().cloned().unwrap(),
            present: row("Ann").filter(|_| is_known),
            versions: if is_known { versions } else { Vec::new() },
            conflicts: vec!["c-7f3a".into()],
            failed: vec!["laptop-b:12".into()],
            searched: vec![SearchedView { origin: "laptop-b".into(), from: 500, first: 100, end: 1_204 }],
        })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_followed_and_the_exit_code_says_whether_it_is_known() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["where", "riders", "7"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
campus.riders, row with id 7, is on laptop-a: id 7, name Ann

WRITTEN              ON        OFFSET  CHANGE  HERE     KNOWN BY            ROW
2027-01-15 08:00:00  laptop-b    1203  delete  waits    laptop-a, laptop-b  (deleted)
2027-01-15 08:00:00  laptop-a    1203  update  applied  laptop-a, laptop-b  id 7, name Ann
See also:   tandem conflicts show c-7f3a
See also:   tandem failed show laptop-b:12
The topic of laptop-b was looked through from offset 500 on.
"
    );
    let unknown = node.place.run(&["where", "riders", "8"]);
    assert!(
        unknown.code == 1 && unknown.out.starts_with("campus.riders, row with id 7, is not on laptop-a.\n"),
        "{}",
        unknown.out
    );
    assert_eq!(node.place.run(&["where", "riders"]).code, 2);
    let said = node.place.run(&["position"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
laptop-a: its binlog ends at 0-1-80.

TOPIC     FIRST   END  NEXT HERE  LAST RECORD          POSITION
laptop-a    100  1204          -  2027-01-15 08:00:00  0-1-77
laptop-b    100  1204       1200  2027-01-15 08:00:00  0-1-77
"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_0_or_1_and_needs_no_key() {
    let node = Shown::start(Some("open sesame")).await;
    let said = node.place.run(&["healthcheck"]);
    assert_eq!((said.code, said.out.as_str()), (0, "ok\n"));
    let early = node.place.run(&["healthcheck", "--ready"]);
    assert_eq!((early.code, early.out.as_str()), (1, ""));
    assert!(early.err.starts_with("error: not ready: applier, tailer — "), "{}", early.err);
    node.calm();
    assert_eq!(node.place.run(&["healthcheck", "--ready"]).code, 0);
    node.observer.role_changed("tailer", RoleState::Halted, Some(&Stop::halt("no", "yes")));
    assert_eq!(node.place.run(&["healthcheck", "--ready"]).code, 1);
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = Place::with(&config(&free.to_string())).run(&["healthcheck"]);
    assert!(absent.code == 1 && absent.err.contains("no running node answers"), "{}", absent.err);
}

/// Everything in the archive.
fn unpacked(place: &Place, name: &str) -> String {
    let mut text = Vec::new();
    GzDecoder::new(std::fs::File::open(place.path().join(name)).unwrap()).read_to_end(&mut text).unwrap();
    assert_eq!(text.len() % 512, 0, "a tar file is made of blocks");
    String::from_utf8(text).unwrap()
}

/// Secrets in the environment, in files, in what the node says, and in what it complains of.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_tells_everything_but_secrets() {
    const WEB: &str = "web-geheim-1";
    const DATABASE: &str = "database-geheim-2";
    const HUB: &str = "hub-geheim-3";
    let node = Shown::start(Some(WEB)).await;
    node.calm();
    // No fault of ours quotes a secret; if one ever did, this is what it would look like.
    let careless = Stop::halt(format!("refused with {DATABASE} and {HUB}"), format!("not {WEB}"));
    node.observer.role_changed("tailer", RoleState::Halted, Some(&careless));
    let secrets = [("WEB_KEY", WEB), ("PASSWORD", DATABASE), ("HUB_KEY", HUB)];
    let address = [("TANDEM__NODES__LAPTOP_A__DATABASE", "mysql://tandem@127.0.0.1:1/campus")];
    let env = [&secrets[..], &address].concat();
    let said = node.place.run_with(&["bundle", "--node", "laptop-a"], &env);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "{}", said.out);
    assert!(said.out.starts_with("tandem-bundle.tar.gz holds:\n  version.txt\n  config.toml\n"), "{}", said.out);
    let all = unpacked(&node.place, "tandem-bundle.tar.gz");
    for (_, secret) in secrets {
        assert!(!all.contains(secret), "{secret}");
        assert!(!said.out.contains(secret) && !said.err.contains(secret), "{secret}");
    }
    for told in
        ["password_env = \"PASSWORD\"", "refused with (hidden) and (hidden)", "DB-LOGIN", "tandem_role_stopped{", "0-1-80"]
    {
        assert!(all.contains(told), "{told} is missing");
    }
    let again = node.place.run_with(&["bundle", "--node", "laptop-a"], &env);
    assert!(again.code == 2 && again.err.contains("cannot write tandem-bundle.tar.gz"), "nothing is replaced: {}", again.err);

    // A node that does not run is what help is asked for.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let place = Place::with(&config(&free.to_string()));
    assert_eq!(place.run_with(&["bundle", "--output", "x.tar.gz"], &secrets).code, 0);
    assert!(unpacked(&place, "x.tar.gz").contains("error: no running node answers"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_seeding_that_goes_on_is_shown_until_its_end() {
    let node = Shown::start(None).await;
    node.calm();
    let view =
        |tables: u64, rows: u64| SeedingView { seeder: "laptop-b".into(), tables, tables_left: tables, rows, removed: 0 };
    node.observer.seeding(Some(view(7, 0)));
    node.observer.seeding(Some(view(3, 1_200)));
    let said = node.place.run(&["status"]).out;
    assert!(said.contains("laptop-a: This node takes over the rows of laptop-b: 3 tables are left.\n"), "{said}");
    assert!(said.contains("seeding from laptop-b: 1 200 rows so far, 3 of 7 tables left:   tandem reseed\n"), "{said}");
    assert_eq!(node.place.run(&["status", "--check"]).code, 1);
    node.observer.seeding(None);
    let said = node.place.run(&["status", "--check"]);
    assert!(said.code == 0 && !said.out.contains("seeding"), "{}", said.out);
}
