//! The built program as a person or a script meets it: what it prints, where, and its exit codes.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};

use assert_cmd::Command;
use async_trait::async_trait;
use serde_json::json;
use tandem::change::{Cluster, Op, OriginId, TableName};
use tandem::observe::{
    ConflictView, DifferenceView, FailedView, Fate, KeptCount, Observer, SchemaView, SideView, SnapshotTableView, SnapshotView,
    SnapshotWish, Status, TableView, VerifyPartView, VerifyView, VerifyWish,
};
use tandem::runtime::{ManualClock, RoleState, RoleWatch, Shutdown, Stop};
use tandem::serve::{Decision, Keeper, Orders, Part, Web, WebOptions};

#[path = "cli/ddl.rs"]
mod ddl;
#[path = "cli/failed.rs"]
mod failed;
#[path = "cli/golden.rs"]
mod golden;
#[path = "cli/hub.rs"]
mod hub;
#[path = "cli/init.rs"]
mod init;
#[path = "cli/inspect.rs"]
mod inspect;
#[path = "cli/roles.rs"]
mod roles;

const HASH_A: &str = "blake3:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const HASH_B: &str = "blake3:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb";

fn config(web: &str) -> String {
    let node = |name: &str, id: u32, hash: &str| {
        format!(
            "[nodes.{name}]\ndatabase = \"mysql://tandem@127.0.0.1:3306/campus\"\npassword_env = \"PASSWORD\"\n\
             replica_id = {id}\nhub_key_env = \"HUB_KEY\"\nhub_key_hash = \"{hash}\"\n"
        )
    };
    let (a, b) = (node("laptop-a", 1, HASH_A), node("laptop-b", 2, HASH_B));
    format!(
        "version = 1\ncluster = \"campus\"\n{a}{b}[topic]\nurl = \"http://127.0.0.1:7421\"\n[hub]\nlisten = \"127.0.0.1:0\"\n\
         [tables]\ninclude = [\"campus.*\"]\n[web]\nlisten = \"{web}\"\n"
    )
}

/// A folder with a configuration, in which the program is run.
struct Place(tempfile::TempDir);

struct Said {
    code: i32,
    out: String,
    err: String,
}

impl Place {
    fn with(text: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("tandem.toml"), text).unwrap();
        Self(folder)
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn command(&self, args: &[&str], env: &[(&str, &str)]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_tandem"));
        let foreign = std::env::vars().map(|(name, _)| name).filter(|name| name.starts_with("TANDEM"));
        foreign.for_each(|name| {
            command.env_remove(name);
        });
        command.current_dir(self.path()).env("TZ", "UTC").args(args).envs(env.iter().copied());
        command
    }

    fn run_with(&self, args: &[&str], env: &[(&str, &str)]) -> Said {
        let output = self.command(args, env).output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Said { code: output.status.code().unwrap(), out: text(output.stdout), err: text(output.stderr) }
    }

    fn run(&self, args: &[&str]) -> Said {
        self.run_with(args, &[])
    }
}

#[test]
fn help_names_every_command_and_its_one_line() {
    let said = Place::with("").run(&["--help"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
Keeps MariaDB databases of two or more sites the same, in both directions

Usage: tandem <COMMAND>

Commands:
  init          Set up a node: its configuration, keys, and what its MariaDB needs
  run           Run this node: all its roles, or those named
  status        Show how the running node and its links are
  pause         Let a role of the running node do nothing until it is resumed, also over a new start
  resume        Let a paused role go on
  restart       Start a role of the running node anew, also one that has stopped
  snapshot      Publish rows that were there before, so that the other nodes get them
  sync          Exchange everything now: with the other nodes, and with the clouds
  verify        Compare this node's rows with those of the other nodes, and settle what differs
  tail          Print the changes of a database as they are committed, without a topic
  topic         See what the topics hold
  conflicts     See conflicts and both of their sides
  failed        See changes that could not be applied, and try them again or discard them
  files         List the files that rows name, and what became of each on its way to a cloud
  ddl           See schema changes of other nodes, and let those run that wait
  node          See which nodes take part, and remove one
  reseed        Take over the rows of another node: after too long an absence, or as a new node
  where         Follow one row: its last versions, where each came from, and where it is now
  position      Show how far the database, the topics and their application here are
  config        Check the configuration, or show what is in force
  doctor        Look a node's set-up over: what must be mended, and how
  bundle        Pack what somebody who helps needs to know of this node, without secrets and rows
  healthcheck   Ask the running node whether it is well, for what watches over it: exit code 0 or 1
  hub           Keep the topics, without a database here: for a server between the nodes
  cloud-server  Receive rows and files that nodes send to a cloud. Needs no configuration file
  completions   Print completions for a shell

Options:
  -h, --help     Print help
  -V, --version  Print version
"
    );
}

#[test]
fn a_node_that_is_to_be_added_is_checked_and_its_section_is_printed() {
    let place = Place::with(&config("127.0.0.1:0"));
    let said = place.run_with(&["node", "add", "laptop-c", "--database", "mysql://tandem@10.0.0.3:3306/campus"], &[]);
    assert_eq!(said.code, 0, "{}", said.err);
    for expected in
        ["[nodes.laptop-c]", "10.0.0.3:3306", "replica_id = 3", "hub_key_hash", "auto_increment_offset = 3", "tandem reseed"]
    {
        assert!(said.out.contains(expected), "{expected}: {}", said.out);
    }
    for (args, words) in [
        (&["node", "add", "laptop-a"][..], "there is a node \"laptop-a\" already"),
        (&["node", "add", "laptop c"], "error: "),
        (&["node", "add", "laptop-c", "--database", "what?"], "database"),
        (&["node", "remove", "laptop-d", "--yes", "--node", "laptop-a"], "there is no node \"laptop-d\""),
    ] {
        let said = place.run_with(args, &[("PASSWORD", "x"), ("HUB_KEY", "y")]);
        assert!(said.code == 2 && said.err.contains(words), "{args:?}: {} {}", said.code, said.err);
    }
}

#[test]
fn wrong_usage_is_2_and_speaks_on_standard_error() {
    let place = Place::with("");
    for args in [
        &[][..],
        &["syncronise"],
        &["status", "--no-such"],
        &["conflicts"],
        &["conflicts", "list", "--limit", "0"],
        &["run", "cook"],
    ] {
        let said = place.run(args);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{args:?}");
        assert!(!said.err.is_empty(), "{args:?}");
    }
    assert_eq!(place.run(&["--version"]).out, format!("tandem {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn the_doctor_says_what_cannot_be_reached_and_ends_with_3() {
    let place = Place::with(&config("127.0.0.1:7420"));
    let secrets =
        [("PASSWORD", "p"), ("HUB_KEY", "k"), ("TANDEM__NODES__LAPTOP_A__DATABASE", "mysql://tandem@127.0.0.1:1/campus")];
    let said = place.run_with(&["doctor", "--node", "laptop-a"], &secrets);
    assert_eq!((said.code, said.err.as_str()), (3, ""), "{}", said.out);
    assert!(said.out.contains("  FAIL  DB-LOGIN      cannot reach the database at 127.0.0.1:1: "), "{}", said.out);
    assert!(said.out.contains("start the server, or mend `database` of this node"), "{}", said.out);
}

#[test]
fn config_check_says_that_a_file_is_in_order_or_all_that_is_wrong() {
    let place = Place::with(&config("127.0.0.1:7420"));
    let said = place.run(&["config", "check"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "tandem.toml is in order: cluster campus, nodes laptop-a, laptop-b.\n\
         No node is named (--node or TANDEM_NODE), so secrets were not looked for.\n"
    );
    let own = place.run_with(&["config", "check"], &[("TANDEM_NODE", "laptop-a"), ("PASSWORD", "x"), ("HUB_KEY", "y")]);
    assert_eq!((own.code, own.out.lines().last()), (0, Some("This is laptop-a; its secrets are there.")));

    let said = place.run_with(&["config", "check", "--node", "laptop-a"], &[("PASSWORD", "x"), ("TANDEM__WEB__LISTN", "y")]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(said.err, "error: environment variable TANDEM__WEB__LISTN: unknown key `web.listn` — did you mean `listen`?\n");

    let bad = config("0.0.0.0:7420").replace("\"campus\"\n", "\"\"\n");
    let said = Place::with(&bad).run(&["config", "check"]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(
        said.err,
        "error: tandem.toml line 2: `cluster` is empty — write a value, or remove the line\n\
         error: tandem.toml line 22: `web.listen` is open to other machines, which needs a key — add key_env or key_file under \
         [web], or listen on 127.0.0.1\n"
    );
    let said = place.run(&["config", "check", "--config", "elsewhere.toml"]);
    assert!(said.code == 2 && said.err.starts_with("error: elsewhere.toml: cannot read the configuration: "), "{}", said.err);
}

#[test]
fn config_show_hides_secrets_and_can_be_read_again() {
    let place = Place::with(&config("127.0.0.1:7420"));
    let said = place.run_with(&["config", "show"], &[("PASSWORD", "geheim"), ("HUB_KEY", "geheim")]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(!said.out.contains("geheim") && said.out.contains("password_env = \"PASSWORD\""), "{}", said.out);
    assert_eq!(Place::with(&said.out).run(&["config", "show"]).out, said.out);
}

#[test]
fn a_node_that_lacks_a_secret_does_not_start() {
    let said = Place::with(&config("127.0.0.1:7420")).run_with(&["run", "--node", "laptop-a"], &[("PASSWORD", "x")]);
    assert_eq!((said.code, said.out.as_str()), (2, ""));
    assert_eq!(
        said.err,
        "error: tandem.toml: the secret of `nodes.laptop-a.hub_key` cannot be had: the environment variable HUB_KEY is not set — \
         set it for this process, for example in the service's environment file\n"
    );
}

#[test]
fn completions_know_the_commands() {
    let said = Place::with("").run(&["completions", "bash"]);
    assert_eq!(said.code, 0);
    assert!(said.out.contains("conflicts") && said.out.contains("_tandem"), "{}", said.out);
}

/// A time that the clock of the shown node stands at: 2027-01-15 08:00:00 UTC.
const NOW: u64 = 1_800_000_000;

struct Kept;

fn conflict() -> ConflictView {
    let side = |origin: &str, name: &str| SideView {
        origin: origin.into(),
        written_seconds: NOW - 60,
        row: json!({"id": 7, "name": name}).as_object().cloned(),
    };
    ConflictView {
        id: "c-7f3a".into(),
        table: "campus.riders".into(),
        key: json!({"id": 7}).as_object().cloned().unwrap(),
        kind: "update_origin_differs".into(),
        open: true,
        winner: side("laptop-b", "Ada"),
        loser: side("laptop-a", "Ida\u{1b}[31m"),
    }
}

#[async_trait]
impl Keeper for Kept {
    async fn conflicts(&self, part: Part, open_only: bool) -> Result<Vec<ConflictView>, Stop> {
        let settled = ConflictView { id: "c-0001".into(), open: false, ..conflict() };
        Ok([conflict(), settled].into_iter().filter(|conflict| conflict.open || !open_only).take(part.at_most).collect())
    }

    async fn conflict(&self, id: &str) -> Result<Option<ConflictView>, Stop> {
        Ok(Some(conflict()).filter(|conflict| conflict.id.starts_with(id)))
    }
    async fn failed(&self, part: Part) -> Result<Vec<FailedView>, Stop> {
        Ok(failed::letters().into_iter().skip(part.skip).take(part.at_most).collect())
    }

    async fn failed_one(&self, id: &str) -> Result<Option<FailedView>, Stop> {
        Ok(failed::letters().into_iter().find(|letter| letter.id == id))
    }
    async fn tables(&self) -> Result<Vec<TableView>, Stop> {
        Ok(Vec::new())
    }
}

/// A node that deals with a snapshot while it is looked at: some rows more at each look.
#[derive(Default)]
struct Asked(Mutex<Vec<SnapshotView>>);

#[async_trait]
impl Orders for Asked {
    async fn snapshot(&self, wish: SnapshotWish) -> Result<SnapshotView, Stop> {
        let table = |name: &str, state: &str, reason: Option<&str>| SnapshotTableView {
            name: name.into(),
            state: state.into(),
            rows: 0,
            rows_expected: 1_000,
            reason: reason.map(Into::into),
        };
        let mut tables = vec![table("campus.riders", "waiting", None)];
        if wish.tables.is_empty() {
            tables.push(table("campus.log", "failed", Some("it has no primary key")));
        }
        let (condition, asked_seconds) = (wish.condition, NOW);
        let id = 3 + self.0.lock().unwrap().len() as u64;
        let view = SnapshotView { id, condition, asked_seconds, ended_seconds: None, waits_for: None, tables };
        if !wish.dry_run {
            self.0.lock().unwrap().push(view.clone());
        }
        Ok(view)
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotView>, Stop> {
        let mut all = self.0.lock().unwrap();
        for view in all.iter_mut().filter(|view| view.is_open()) {
            view.tables[0].rows += 500;
            view.tables[0].state = "running".into();
            if view.tables[0].rows == 1_000 {
                view.tables[0].state = "done".into();
                view.ended_seconds = Some(NOW + 1);
            }
        }
        Ok(all.clone())
    }

    async fn schema_changes(&self, open_only: bool) -> Result<Vec<SchemaView>, Stop> {
        let states = ["waiting", "done"].into_iter().filter(|state| !open_only || *state == "waiting");
        Ok(states.map(ddl::schema_change).collect())
    }

    async fn decide_schema(&self, number: u64, run: bool) -> Result<Option<SchemaView>, Stop> {
        Ok((number == 7).then(|| ddl::schema_change(if run { "approved" } else { "skipping" })))
    }

    async fn cancel_snapshot(&self, id: u64) -> Result<bool, Stop> {
        Ok(id == 3)
    }

    async fn ask_other(&self, _: tandem::observe::AskWish) -> Result<tandem::observe::AskedView, Stop> {
        Ok(tandem::observe::AskedView { number: 7 })
    }

    async fn verify(&self, wish: VerifyWish) -> Result<VerifyView, Stop> {
        let all = wish.tables.is_empty();
        let part = |table: &str, state: &str, reason: Option<&str>| VerifyPartView {
            node: "laptop-b".into(),
            table: table.into(),
            state: state.into(),
            rows: 1_000,
            rows_expected: 900,
            passed_by: 0,
            reason: reason.map(Into::into),
        };
        let mut parts = vec![part("campus.riders", "done", None)];
        parts.extend(all.then(|| part("campus.log", "failed", Some("it has no primary key"))));
        let row = |id: u64, kind: &str, columns: &[&str]| DifferenceView {
            node: "laptop-b".into(),
            table: "campus.riders".into(),
            key: json!({"id": id}).as_object().cloned().unwrap(),
            kind: kind.into(),
            columns: columns.iter().map(|&name| name.into()).collect(),
        };
        let differences = match all {
            true => vec![row(7, "differs", &["name", "seats"]), row(8, "missing_here", &[])],
            false => Vec::new(),
        };
        Ok(VerifyView {
            number: 1,
            asked_seconds: NOW,
            ended_seconds: Some(NOW + 1),
            repair: wish.repair,
            look: 2,
            all,
            parts,
            differing: differences.len() as u64,
            differences,
        })
    }

    async fn verified(&self) -> Result<Option<VerifyView>, Stop> {
        Ok(None)
    }

    async fn cancel_verify(&self) -> Result<bool, Stop> {
        Ok(false)
    }

    async fn settle(&self, conflict: &str, _: &Decision) -> Result<Option<ConflictView>, Stop> {
        Kept.conflict(conflict).await
    }
}

/// The pages of a node without the node: what a command asks.
struct Shown {
    observer: Observer,
    place: Place,
    _shutdown: tokio_util::sync::DropGuard,
}

impl Shown {
    async fn start(key: Option<&str>) -> Self {
        let names = ["laptop-a", "laptop-b"].map(OriginId::new);
        let cluster = Cluster::new(names.clone(), &names[0]).unwrap();
        let clock = Arc::new(ManualClock::at_micros(NOW * 1_000_000));
        let observer = Observer::new("campus", &cluster, &["tailer", "applier"], clock);
        let listen: SocketAddr = "127.0.0.1:0".parse().unwrap();
        let options = WebOptions { listen, key: key.map(Into::into), tls: None };
        let web = Web::bind(options, observer.clone(), Arc::new(Kept), Arc::new(Asked::default())).await.unwrap();
        let web = web.with_roles(Arc::new(roles::Told(observer.clone()))).with_failed(Arc::new(failed::Mended));
        let web = web.with_inspect(Arc::new(inspect::Known));
        let mut text = config(&web.address().to_string());
        if key.is_some() {
            text += "key_env = \"WEB_KEY\"\n";
        }
        let shutdown = Shutdown::new();
        tokio::spawn(web.run(shutdown.clone()));
        Self { observer, place: Place::with(&text), _shutdown: shutdown.drop_guard() }
    }

    fn calm(&self) {
        let b = OriginId::new("laptop-b");
        for role in ["tailer", "applier"] {
            self.observer.role_changed(role, RoleState::Running, None);
        }
        self.observer.link(&b, true, None);
        self.observer.kept([(b.clone(), KeptCount::default())]);
        for _ in 0..1_204 {
            self.observer.applied(&b, &TableName::new("campus", "riders"), Op::Update, Fate::Applied, 1);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn status_shows_a_line_per_link_and_the_verdict() {
    let node = Shown::start(None).await;
    node.calm();
    let said = node.place.run(&["status", "--check"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
LINK                 STATE       PENDING  LAG  APPLIED TODAY  CONFLICTS  FAILED
laptop-b > laptop-a  up to date        0  0 s          1 204          0       0

laptop-a: Everything is up to date.
"
    );
    let b = OriginId::new("laptop-b");
    node.observer.committed(&b, NOW - 540, 0.0);
    node.observer.pending(&b, 412);
    node.observer.link(&b, false, Some("cannot reach the topic"));
    node.observer.kept([(b, KeptCount { conflicts: 3, conflicts_open: 1, dead_letters: 0 })]);
    let stop = Stop::halt("the binlog no longer has what we need", "seed this node again");
    node.observer.role_changed("tailer", RoleState::Halted, Some(&stop));
    let said = node.place.run(&["status"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""), "without --check the state is no failure");
    assert_eq!(
        said.out,
        "\
LINK                 STATE    PENDING    LAG  APPLIED TODAY  CONFLICTS  FAILED
laptop-b > laptop-a  offline      412  9 min          1 204          3       0

laptop-a: The tailer is stopped: the binlog no longer has what we need.
tailer: seed this node again
laptop-b > laptop-a: cannot reach the topic
See the conflicts that wait for you:   tandem conflicts list
"
    );
    assert_eq!(node.place.run(&["status", "--check"]).code, 1);
    let json = node.place.run(&["status", "--json"]);
    let status: Status = serde_json::from_str(&json.out).unwrap();
    assert_eq!((status.links[0].pending, json.code), (Some(412), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_is_asked_for_waited_for_listed_and_ended() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["snapshot", "--dry-run"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
TABLE          STATE    ROWS  ABOUT
campus.riders  waiting     0  1 000
campus.log     failed      0  1 000  it has no primary key

laptop-a would publish about 2 000 rows.
"
    );
    assert_eq!(node.place.run(&["snapshot", "--list"]).out, "No snapshot was asked for.\n");
    let said = node.place.run(&["snapshot", "riders", "--where", "id > 3"]);
    assert_eq!((said.code, said.err.as_str(), said.out.as_str()), (0, "", "laptop-a published 1 000 rows of 1 of 1 tables.\n"));
    let said = node.place.run(&["snapshot"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""), "not all of what was asked for was done");
    assert_eq!(said.out, "campus.log: it has no primary key\nlaptop-a published 1 000 rows of 1 of 2 tables.\n");
    assert!(node.place.run(&["snapshot", "--list"]).out.starts_with("Snapshot 3, ended\nTABLE"));
    let said = node.place.run(&["snapshot", "--cancel", "3"]);
    assert_eq!((said.code, said.out.as_str()), (0, "Snapshot 3 of laptop-a is ended; what was published stays.\n"));
    let said = node.place.run(&["snapshot", "--cancel", "4"]);
    assert_eq!((said.code, said.err.as_str()), (2, "error: there is no such snapshot under way — see the list\n"));
    let json = node.place.run(&["snapshot", "riders", "--json"]);
    let view: SnapshotView = serde_json::from_str(&json.out).unwrap();
    assert_eq!((view.rows(), json.code), ((1_000, 1_000), 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_comparison_tells_what_differs_and_ends_with_1() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["verify"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    assert_eq!(
        said.out,
        "\
NODE      TABLE          STATE    ROWS  PASSED BY
laptop-b  campus.riders  done    1 000          0
laptop-b  campus.log     failed  1 000          0  it has no primary key

TABLE          ROW   BESIDE    WHAT             COLUMNS
campus.riders  id 7  laptop-b  differs          name, seats
campus.riders  id 8  laptop-b  is missing here

2 rows differ, and 1 comparisons could not be made.
"
    );
    let good = node.place.run(&["verify", "riders"]);
    assert_eq!((good.code, good.err.as_str()), (0, ""));
    assert!(good.out.ends_with("\n\nAll rows are the same.\n"), "{}", good.out);
    assert_eq!(node.place.run(&["verify", "--list"]).out, "laptop-a was not compared since it was started.\n");
    let nothing = node.place.run(&["verify", "--cancel"]);
    assert_eq!((nothing.code, nothing.err.as_str()), (2, "error: there is no such comparison under way — see the list\n"));
    let json = node.place.run(&["verify", "--json"]);
    let view: VerifyView = serde_json::from_str(&json.out).unwrap();
    assert_eq!((view.differing, json.code), (2, 1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn conflicts_are_listed_shown_and_settled() {
    let node = Shown::start(None).await;
    let said = node.place.run(&["conflicts", "list", "--open"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_eq!(
        said.out,
        "\
ID      TABLE          ROW   KIND                   KEPT                          LOST                          STATE
c-7f3a  campus.riders  id 7  update origin differs  laptop-b 2027-01-15 07:59:00  laptop-a 2027-01-15 07:59:00  waits for a decision

See both sides of one:   tandem conflicts show c-7f3a
"
    );
    assert_eq!(node.place.run(&["conflicts", "list"]).out.lines().count(), 5);
    let shown = node.place.run(&["conflicts", "show", "c-7"]);
    assert_eq!(
        shown.out,
        "\
c-7f3a: campus.riders, row with id 7: update origin differs, waits for a decision.

   COLUMN  KEPT: laptop-b 2027-01-15 07:59:00  LOST: laptop-a 2027-01-15 07:59:00
   id      7                                   7
*  name    Ada                                 Ida\u{fffd}[31m
"
    );
    let settled = node.place.run(&["conflicts", "settle", "c-7f3a", "--keep", "loser"]);
    assert_eq!((settled.code, settled.err.as_str()), (0, ""));
    assert_eq!(settled.out, "c-7f3a: campus.riders, row with id 7: the row that lost is written again.\n");
    let merged = node.place.run(&["conflicts", "settle", "c-7f3a", "--keep", "loser", "--column", "name", "--column", "seats"]);
    assert_eq!(merged.out, "c-7f3a: campus.riders, row with id 7: name, seats of the row that lost is written again.\n");
    let whole = node.place.run(&["conflicts", "settle", "c-7f3a", "--keep", "winner", "--column", "name"]);
    assert!(whole.code == 2 && whole.err.ends_with("write --keep loser, or leave --column out\n"), "{}", whole.err);
    let first = node.place.run(&["conflicts", "list", "--limit", "1"]).out;
    assert!(first.ends_with("See older ones:          tandem conflicts list --limit 1 --skip 1\n"), "{first}");
    let unknown = node.place.run(&["conflicts", "settle", "c-9", "--keep", "winner"]);
    assert_eq!((unknown.code, unknown.err.as_str()), (2, "error: there is no such conflict — see the list\n"));
    let missing = node.place.run(&["conflicts", "show", "c-9"]);
    assert_eq!((missing.code, missing.err.as_str()), (2, "error: there is no such conflict — see the list\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_says_when_it_cannot_ask_the_node_it_means() {
    let node = Shown::start(Some("open sesame")).await;
    assert_eq!(node.place.run_with(&["status"], &[("WEB_KEY", "open sesame")]).code, 0);
    let wrong = node.place.run_with(&["status"], &[("WEB_KEY", "sesame")]);
    let expected = "error: this is not the key — [web] key_env or key_file must be that of the running node\n";
    assert_eq!((wrong.code, wrong.err.as_str()), (2, expected));
    let other = node.place.run_with(&["conflicts", "list", "--node", "laptop-b"], &[("WEB_KEY", "open sesame")]);
    assert!(other.code == 2 && other.err.contains(" is laptop-a, not laptop-b — "), "{}", other.err);

    // Bound and dropped: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = Place::with(&config(&free.to_string())).run(&["status"]);
    assert_eq!(absent.code, 2);
    assert_eq!(
        absent.err,
        format!(
            "error: no running node answers at http://{free} — start it with `tandem run`; its address is [web] listen in the \
             configuration\n"
        )
    );
}
