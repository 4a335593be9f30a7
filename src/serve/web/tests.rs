//! The pages over a real socket, as a browser or a script asks for them.

use std::time::Duration;

use async_trait::async_trait;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::*;
use crate::change::OriginId;
use crate::observe::{ConflictView, FailedView, FailedWish, RetriedView, SchemaView, SideView, TableView};
use crate::runtime::{Finding, RoleState, RoleWatch, Stop};
use crate::serve::{Restarted, StartFrom};

mod forms;
mod guard;

/// A database that holds one conflict, or cannot be reached.
struct Kept {
    reachable: bool,
}

fn row(value: serde_json::Value) -> serde_json::Map<String, serde_json::Value> {
    value.as_object().unwrap().clone()
}

fn conflict() -> ConflictView {
    let side = |origin: &str, row: Option<serde_json::Value>| SideView {
        origin: origin.into(),
        written_seconds: 1_800_000_000,
        row: row.map(self::row),
    };
    ConflictView {
        id: "c-7f3a".into(),
        table: "campus.riders".into(),
        key: row(json!({"id": 7})),
        kind: "update_origin_differs".into(),
        open: false,
        winner: side("laptop-b", Some(json!({"id": 7, "name": "<script>alert(1)</script>"}))),
        loser: side("laptop-a", None),
    }
}

#[async_trait]
impl Keeper for Kept {
    async fn conflicts(&self, part: Part, open_only: bool) -> Result<Vec<ConflictView>, Stop> {
        if !self.reachable {
            return Err(Stop::halt("cannot reach the database", "start it"));
        }
        let found = [conflict()].into_iter().filter(|conflict| conflict.open || !open_only);
        Ok(found.skip(part.skip).take(part.at_most).collect())
    }

    async fn conflict(&self, id: &str) -> Result<Option<ConflictView>, Stop> {
        Ok(Some(conflict()).filter(|conflict| conflict.id.starts_with(id)))
    }

    async fn failed_one(&self, id: &str) -> Result<Option<FailedView>, Stop> {
        let part = Part { skip: 0, at_most: 1 };
        Ok(self.failed(part).await?.into_iter().find(|letter| letter.id == id))
    }

    async fn failed(&self, _part: Part) -> Result<Vec<FailedView>, Stop> {
        let letter = FailedView {
            id: "laptop-b:12".into(),
            origin: "laptop-b".into(),
            offset: 12,
            table: "campus.<b>bookings</b>".into(),
            key: row(json!({"id": "<script>1</script>"})),
            op: "insert".into(),
            reason: "a \"driver\" & <b>no</b> row".into(),
            attempts: 3,
            remedy: "see".into(),
            written_seconds: 1_800_000_000,
            before: None,
            after: Some(row(json!({"id": 1}))),
        };
        Ok(vec![letter])
    }

    async fn tables(&self) -> Result<Vec<TableView>, Stop> {
        let table = |name: &str, synced| TableView { name: name.into(), synced, why: Some("<script>".into()), rows: Some(7) };
        Ok(vec![table("campus.<i>", true), table("campus.<script>log", false)])
    }
}

struct Set;

#[async_trait]
impl Setup for Set {
    fn shown(&self) -> String {
        "cluster = \"<script>\"".into()
    }

    async fn examine(&self) -> Vec<Finding> {
        vec![Finding::fail("DB-FORMAT", "<script>", "<b>no</b>")]
    }
}

/// A node that is asked for snapshots of the tables that it has, of which there is one.
#[derive(Default)]
struct Asked(std::sync::Mutex<Vec<SnapshotView>>);

#[async_trait]
impl Orders for Asked {
    async fn snapshot(&self, wish: SnapshotWish) -> Result<SnapshotView, Stop> {
        if wish.tables != ["campus.riders"] {
            return Err(Stop::halt("no such table", "see the list"));
        }
        let mut all = self.0.lock().unwrap();
        let id = all.len() as u64 + 1;
        let (asked_seconds, tables) = (1_800_000_000, Vec::new());
        let view = SnapshotView { id, condition: wish.condition, asked_seconds, ended_seconds: None, waits_for: None, tables };
        all.push(view.clone());
        Ok(view)
    }

    async fn snapshots(&self) -> Result<Vec<SnapshotView>, Stop> {
        Ok(self.0.lock().unwrap().clone())
    }

    async fn cancel_snapshot(&self, id: u64) -> Result<bool, Stop> {
        let mut all = self.0.lock().unwrap();
        let open = all.iter_mut().find(|view| view.id == id && view.is_open());
        Ok(open.map(|view| view.ended_seconds = Some(1_800_000_001)).is_some())
    }

    async fn verify(&self, _: VerifyWish) -> Result<VerifyView, Stop> {
        Err(Stop::halt("a comparison is under way already", "wait"))
    }

    async fn verified(&self) -> Result<Option<VerifyView>, Stop> {
        Ok(None)
    }

    async fn cancel_verify(&self) -> Result<bool, Stop> {
        Ok(false)
    }

    async fn ask_other(&self, _: AskWish) -> Result<AskedView, Stop> {
        Ok(AskedView { number: 7 })
    }

    async fn schema_changes(&self, open_only: bool) -> Result<Vec<SchemaView>, Stop> {
        let states = ["waiting", "done"].into_iter().filter(|state| !open_only || *state == "waiting");
        Ok(states.map(schema::schema_change).collect())
    }

    async fn decide_schema(&self, number: u64, run: bool) -> Result<Option<SchemaView>, Stop> {
        Ok((number == 7).then(|| schema::schema_change(if run { "approved" } else { "skipping" })))
    }

    async fn settle(&self, conflict: &str, _: &Decision) -> Result<Option<ConflictView>, Stop> {
        Ok(Some(self::conflict()).filter(|kept| kept.id == conflict))
    }
}

/// A change whose table and key are written by somebody who means harm.
fn hostile() -> crate::change::Change {
    use crate::change::{Change, Checks, Column, ColumnKind, Image, Op, Shape, TableName, Value};
    let column = Column { name: "<b>no</b>".into(), kind: ColumnKind::Text, generated: false };
    let shape = Shape { table: TableName::new("campus", "<script>"), columns: vec![column], key: vec![0] };
    let after = Some(Image::of(vec![Some(Value::text("<script>2</script>"))]));
    Change { shape: Arc::new(shape), op: Op::Insert, before: None, after, checks: Checks::default() }
}

struct Page {
    address: SocketAddr,
    observer: Observer,
    shutdown: Shutdown,
    running: tokio::task::JoinHandle<Result<(), ServeError>>,
}

struct Answer {
    status: u16,
    /// In small letters.
    head: String,
    cookie: Option<String>,
    body: String,
}

impl Page {
    async fn start(key: Option<&str>, reachable: bool) -> Self {
        let observer = Observer::default();
        let options = WebOptions { listen: "127.0.0.1:0".parse().unwrap(), key: key.map(SecretString::from), tls: None };
        let web = Web::bind(options, observer.clone(), Arc::new(Kept { reachable }), Arc::new(Asked::default())).await.unwrap();
        let web = web.with_roles(Arc::new(Obedient)).with_failed(Arc::new(Obedient)).with_setup(Arc::new(Set));
        let (address, shutdown) = (web.address(), Shutdown::new());
        Self { address, observer, running: tokio::spawn(web.run(shutdown.clone())), shutdown }
    }

    async fn ask(&self, path: &str, headers: &str) -> Answer {
        self.send("GET", path, &format!("{headers}\r\n")).await
    }

    async fn send(&self, method: &str, path: &str, rest: &str) -> Answer {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        let request = format!("{method} {path} HTTP/1.1\r\nConnection: close\r\n{rest}");
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut text = String::new();
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_string(&mut text)).await.unwrap().unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let cookie = head.lines().find_map(|line| line.strip_prefix("set-cookie: ")).map(str::to_owned);
        Answer { status: head[9..12].parse().unwrap(), head: head.to_ascii_lowercase(), cookie, body: body.into() }
    }

    async fn post(&self, path: &str, kind: &str, body: &str) -> Answer {
        let length = body.len();
        let headers = format!("Host: 127.0.0.1\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n{body}");
        self.send("POST", path, &headers).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(path, "Host: 127.0.0.1\r\n").await
    }

    async fn end(self) {
        self.shutdown.cancel();
        self.running.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn every_page_answers_and_escapes_what_it_shows() {
    let page = Page::start(None, true).await;
    page.observer.role_changed("applier", RoleState::Retrying, Some(&Stop::halt("<no> \"route\"", "wait")));
    page.observer.applied(
        &OriginId::new("b"),
        &crate::change::TableName::new("campus", "<i>"),
        crate::change::Op::Insert,
        crate::observe::Fate::Applied,
        1,
    );
    page.observer.followed(&OriginId::new("b"), vec![crate::observe::Followed::new(&hostile(), Became::Applied, None, 7)]);
    let screens = ["/", "/activity", "/conflicts", "/failed", "/tables", "/cloud", "/settings", "/settings?doctor=1"];
    for path in
        screens.into_iter().chain(["/activity?table=%3Cscript%3E&key=%3Cb%3Eno%3C/b%3E&row=1", "/login?to=%3Cscript%3E"])
    {
        if path.starts_with("/login") {
            assert_eq!(page.get(path).await.status, 303, "there is no key to ask for");
            continue;
        }
        let answer = page.get(path).await;
        assert_eq!(answer.status, 200, "{path}");
        assert!(answer.head.contains("content-type: text/html"), "{}", answer.head);
        assert!(answer.head.contains("content-security-policy: default-src 'none'"), "{}", answer.head);
        // The one script of ours, and the one word in italics.
        let body = answer.body.replace("<script src=\"/live.js\" defer></script>", "").replace("<i>echo</i>", "");
        for raw in ["<script", "<b>no</b>", "<no>", "<i>", "<b>bookings"] {
            assert!(!body.contains(raw), "{raw} in {path}");
        }
        assert!(!body.contains(" style=") && !body.contains(" onclick="), "the policy refuses these: {path}");
    }
    let overview = page.get("/").await.body;
    assert!(overview.contains("&lt;no&gt; &quot;route&quot;"), "{overview}");
    assert!(page.get("/tables").await.body.contains("campus.&lt;i&gt;"));
    assert!(page.get("/activity").await.body.contains("&lt;script&gt;2"));
    let conflicts = page.get("/conflicts").await.body;
    assert!(conflicts.contains("c-7f3a") && conflicts.contains("&lt;script&gt;alert(1)"), "{conflicts}");
    page.end().await;
}

#[tokio::test]
async fn orders_are_taken_as_json_and_in_no_form_that_a_strange_page_could_send() {
    let page = Page::start(None, true).await;
    let json = "application/json";
    let asked = page.post("/api/snapshots", json, r#"{"tables": ["campus.riders"], "condition": "id > 3"}"#).await;
    let view: SnapshotView = serde_json::from_str(&asked.body).unwrap();
    assert_eq!((asked.status, view.id, view.condition.as_deref()), (200, 1, Some("id > 3")));
    for (kind, body) in [
        ("text/plain", r#"{"tables": ["campus.riders"]}"#),
        ("application/x-www-form-urlencoded", "tables=campus.riders"),
        (json, r#"{"tables": ["campus.riders"], "wher": "id > 3"}"#),
        (json, "{"),
    ] {
        let refused = page.post("/api/snapshots", kind, body).await;
        assert_eq!(refused.status, 400, "{kind}: {body}: {}", refused.body);
    }
    let unknown = page.post("/api/snapshots", json, r#"{"tables": ["campus.drivers"]}"#).await;
    assert_eq!(unknown.status, 503);
    assert!(unknown.body.contains("no such table"), "{}", unknown.body);
    assert_eq!(serde_json::from_str::<Vec<SnapshotView>>(&page.get("/api/snapshots").await.body).unwrap().len(), 1);
    assert_eq!(page.post("/api/snapshots/1/cancel", "text/plain", "{}").await.status, 400);
    assert_eq!(page.post("/api/snapshots/1/cancel", json, "{}").await.status, 200);
    assert_eq!(page.post("/api/snapshots/1/cancel", json, "{}").await.status, 404);
    page.end().await;
}

#[async_trait]
impl FailedOrders for Obedient {
    async fn retry(&self, wish: FailedWish) -> Result<Vec<RetriedView>, Stop> {
        let result = |id| RetriedView { id, outcome: "refused".into(), reason: Some("no topic".into()) };
        Ok(wish.ids.into_iter().map(result).collect())
    }

    async fn discard(&self, wish: FailedWish) -> Result<Vec<String>, Stop> {
        Ok(if wish.all { vec!["all".into()] } else { wish.ids })
    }
}

#[tokio::test]
async fn changes_that_were_set_aside_are_tried_again_or_discarded_by_their_ids() {
    let page = Page::start(None, true).await;
    let json = "application/json";
    let one = page.get("/api/failed/laptop-b:12").await;
    assert_eq!((one.status, page.get("/api/failed/laptop-b:13").await.status), (200, 404));
    assert!(one.body.contains("\"after\":{\"id\":1}"), "{}", one.body);
    let tried = page.post("/api/failed/retry", json, r#"{"ids": ["b:1"]}"#).await;
    assert_eq!(
        (tried.status, tried.body.as_str()),
        (200, r#"{"results":[{"id":"b:1","outcome":"refused","reason":"no topic"}]}"#)
    );
    let all = page.post("/api/failed/discard", json, r#"{"all": true}"#).await;
    assert_eq!((all.status, all.body.as_str()), (200, r#"{"discarded":["all"]}"#));
    assert_eq!(page.post("/api/failed/discard", json, r#"{"ids": ["b:1"], "all": true}"#).await.status, 409);
    for (kind, body) in [("text/plain", r#"{"all": true}"#), (json, r#"{"every": true}"#)] {
        assert_eq!(page.post("/api/failed/discard", kind, body).await.status, 400, "{kind} {body}");
    }
    assert!(page.post("/api/failed/retry", json, "{}").await.body.contains("it is not said which"));
    page.end().await;
}

/// Roles that do what they are told, and tell what that was.
struct Obedient;

#[async_trait]
impl Roles for Obedient {
    async fn pause(&self, role: &str) -> Result<Vec<String>, Stop> {
        Err(Stop::halt(format!("pause {role}"), "as told"))
    }

    async fn resume(&self, role: &str) -> Result<Vec<String>, Stop> {
        Err(Stop::halt(format!("resume {role}"), "as told"))
    }

    async fn restart(&self, role: &str, from: StartFrom) -> Result<Restarted, Stop> {
        Err(Stop::halt(format!("restart {role} {:?} {:?}", from.from, from.origin), "as told"))
    }

    fn hurry(&self) {}
}

#[tokio::test]
async fn roles_are_ordered_by_their_names() {
    let page = Page::start(None, true).await;
    let json = "application/json";
    for (path, body, said) in [
        ("applier/pause", "{}", "pause applier"),
        ("cloud%20main/resume", "{}", "resume cloud main"),
        ("tailer/restart", "{}", "restart tailer None None"),
        ("applier/restart", r#"{"from": "120", "origin": "laptop-b"}"#, r#"restart applier Some(\"120\") Some(\"laptop-b\")"#),
    ] {
        let answer = page.post(&format!("/api/roles/{path}"), json, body).await;
        assert_eq!((answer.status, answer.body), (409, format!("{{\"error\":\"{said}\",\"hint\":\"as told\"}}")));
    }
    for (kind, body) in [("text/plain", "{}"), (json, r#"{"form": "9"}"#), (json, "")] {
        assert_eq!(page.post("/api/roles/applier/restart", kind, body).await.status, 400, "{kind} {body}");
    }
    assert_eq!(page.post("/api/roles/applier/stop", json, "{}").await.status, 404);
    assert_eq!(page.get("/api/roles/applier/pause").await.status, 405);
    page.end().await;
}

#[tokio::test]
async fn the_api_answers_in_json() {
    let page = Page::start(None, true).await;
    let status: Status = serde_json::from_str(&page.get("/api/status").await.body).unwrap();
    assert_eq!(status.node, "node");
    let list: Vec<ConflictView> = serde_json::from_str(&page.get("/api/conflicts").await.body).unwrap();
    assert_eq!(list, [conflict()]);
    assert_eq!(page.get("/api/conflicts?limit=0").await.body, "[]");
    assert_eq!(page.get("/api/conflicts?open=true").await.body, "[]");
    assert_eq!(page.get("/api/conflicts?limit=x").await.status, 400);
    let one: ConflictView = serde_json::from_str(&page.get("/api/conflicts/c-7f").await.body).unwrap();
    assert_eq!(one.id, "c-7f3a");
    let none = page.get("/api/conflicts/c-1").await;
    assert_eq!((none.status, none.body.as_str()), (404, "{\"error\":\"there is no such conflict\",\"hint\":null}"));
    assert_eq!(page.get("/nowhere").await.status, 404);
    assert!(page.get("/api/failed").await.body.contains("\"offset\":12"));
    page.end().await;
}

#[tokio::test]
async fn metrics_are_in_the_form_that_prometheus_reads() {
    let page = Page::start(None, true).await;
    let answer = page.get("/metrics").await;
    assert!(answer.head.contains("content-type: text/plain; version=0.0.4"), "{}", answer.head);
    assert!(answer.body.contains("# TYPE tandem_build_info gauge"), "{}", answer.body);
    page.end().await;
}

#[tokio::test]
async fn a_database_that_is_away_is_said_not_hidden() {
    let page = Page::start(None, false).await;
    let answer = page.get("/api/conflicts").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "{\"error\":\"cannot reach the database\",\"hint\":\"start it\"}"));
    assert_eq!(page.get("/conflicts").await.status, 503);
    assert_eq!(page.get("/").await.status, 200, "the status itself needs no database");
    page.end().await;
}

#[tokio::test]
async fn health_is_the_process_and_readiness_its_roles() {
    let page = Page::start(Some("geheim"), true).await;
    assert_eq!(page.get("/healthz").await.status, 200, "needs no key");
    page.observer.role_changed("applier", RoleState::Running, None);
    assert_eq!(page.get("/readyz").await.status, 200);
    page.observer.role_changed("applier", RoleState::Halted, Some(&Stop::halt("no", "yes")));
    let answer = page.get("/readyz").await;
    assert_eq!((answer.status, answer.body.as_str()), (503, "not ready: applier\n"));
    assert_eq!(page.get("/healthz").await.status, 200);
    page.end().await;
}

#[tokio::test]
async fn with_a_key_nothing_is_shown_without_it() {
    let page = Page::start(Some("geheim"), true).await;
    let screens = ["/", "/activity", "/conflicts", "/failed", "/tables", "/cloud", "/settings"];
    let others = ["/metrics", "/api/status", "/api/activity", "/api/conflicts", "/api/conflicts/c", "/api/failed"];
    for path in screens.into_iter().chain(others) {
        let bare = page.get(path).await;
        assert_eq!(bare.status, 401, "{path}");
        assert!(bare.head.contains("www-authenticate: bearer"), "{}", bare.head);
        let browser = page.ask(path, "Host: x\r\nAccept: text/html,*/*\r\n").await;
        assert_eq!(browser.status, if screens.contains(&path) { 303 } else { 401 }, "{path}");
        assert_eq!(page.ask(path, "Host: x\r\nAuthorization: Bearer wrong\r\n").await.status, 401, "{path}");
        assert_eq!(page.ask(path, "Host: x\r\nAuthorization: Bearer geheim\r\n").await.status, 200, "{path}");
    }
    for path in ["/conflicts", "/sync", "/verify", "/logout", "/api/snapshots", "/api/conflicts/c-7f3a/settle"] {
        let refused = page.post(path, "application/x-www-form-urlencoded", "one=loser:c-7f3a").await;
        assert_eq!(refused.status, 401, "{path}");
    }
    page.end().await;
}

/// The value of the first field of this name in a page.
fn field(body: &str, name: &str) -> String {
    let rest = body.split(&format!("name={name} value=\"")).nth(1).unwrap_or_else(|| panic!("no {name} in {body}"));
    rest.split('"').next().unwrap().to_owned()
}

const FORM: &str = "application/x-www-form-urlencoded";

#[tokio::test]
async fn a_browser_signs_in_once_presses_buttons_and_signs_out() {
    let page = Page::start(Some("geheim"), true).await;
    let send = async |path: &str, headers: &str, body: &str| {
        let length = body.len();
        let rest = format!("Host: x\r\n{headers}Content-Type: {FORM}\r\nContent-Length: {length}\r\n\r\n{body}");
        page.send("POST", path, &rest).await
    };
    let to_login = page.ask("/conflicts", "Host: x\r\nAccept: text/html\r\n").await;
    assert!(to_login.head.contains("location: /login?to=/conflicts"), "{}", to_login.head);
    assert!(page.ask("/login?to=/conflicts", "Host: x\r\n").await.body.contains("type=password"));
    let wrong = send("/login", "", "key=guess&to=/conflicts").await;
    assert_eq!(wrong.status, 401);
    assert!(wrong.body.contains("This is not the key.") && !wrong.head.contains("set-cookie"), "{}", wrong.body);
    assert_eq!(send("/login", "Origin: https://evil.example\r\n", "key=geheim").await.status, 403);
    let elsewhere = send("/login", "", "key=geheim&to=//evil.example").await;
    assert!(elsewhere.head.contains("location: /\r\n"), "{}", elsewhere.head);

    let right = send("/login", "", "key=geheim&to=/conflicts").await;
    assert_eq!(right.status, 303);
    assert!(right.head.contains("location: /conflicts\r\n"), "{}", right.head);
    let cookie = right.cookie.expect("it is signed in");
    let with_cookie = format!("Cookie: {}\r\n", cookie.split(';').next().unwrap());
    let shown = page.ask("/conflicts", &format!("Host: x\r\n{with_cookie}")).await;
    assert_eq!(shown.status, 200);
    assert!(shown.body.contains("Sign out"), "{}", shown.body);
    let token = field(&shown.body, "token");

    assert_eq!(send("/conflicts", &with_cookie, "one=loser:c-7f3a").await.status, 403, "no token");
    assert_eq!(send("/conflicts", &with_cookie, "token=guess&one=loser:c-7f3a").await.status, 403);
    let foreign = format!("{with_cookie}Sec-Fetch-Site: cross-site\r\n");
    assert_eq!(send("/conflicts", &foreign, &format!("token={token}&one=loser:c-7f3a")).await.status, 403);
    let settled = send("/conflicts", &with_cookie, &format!("token={token}&show=open&one=loser:c-7f3a")).await;
    assert_eq!(settled.status, 303);
    assert!(settled.head.contains("location: /conflicts?show=open&done=put-back&count=1"), "{}", settled.head);
    let many = send("/conflicts", &with_cookie, &format!("token={token}&many=winner&id=c-7f3a&id=c-gone")).await;
    assert!(many.head.contains("done=settled&count=1"), "{}", many.head);
    let nothing = send("/conflicts", &with_cookie, &format!("token={token}&many=winner")).await;
    assert!(nothing.head.contains("done=nothing"), "{}", nothing.head);
    assert_eq!(send("/conflicts", &with_cookie, &format!("token={token}")).await.status, 400);
    let busy = send("/verify", &with_cookie, &format!("token={token}")).await;
    assert_eq!(busy.status, 503);
    assert!(busy.body.contains("a comparison is under way already") && busy.body.contains("wait"), "{}", busy.body);

    let out = send("/logout", &with_cookie, &format!("token={token}")).await;
    assert!(out.status == 303 && out.head.contains("max-age=0"), "{}", out.head);
    assert_eq!(page.ask("/conflicts", &format!("Host: x\r\n{with_cookie}")).await.status, 401);
    page.end().await;
}

#[tokio::test]
async fn who_guesses_keys_is_put_off() {
    let page = Page::start(Some("geheim"), true).await;
    let mut statuses = std::collections::BTreeSet::new();
    for _ in 0..30 {
        statuses.insert(page.ask("/api/status", "Host: x\r\nAuthorization: Bearer guess\r\n").await.status);
    }
    assert_eq!(statuses, [401, 429].into());
    assert_eq!(page.ask("/api/status", "Host: x\r\nAuthorization: Bearer geheim\r\n").await.status, 429);
    assert_eq!(page.get("/healthz").await.status, 200);
    page.end().await;
}

#[tokio::test]
async fn a_form_too_large_is_refused() {
    let page = Page::start(None, true).await;
    let refused = page.post("/conflicts", FORM, &format!("token={}", "x".repeat(100 << 10))).await;
    assert_eq!(refused.status, 413);
    page.end().await;
}

#[tokio::test]
async fn a_list_has_pages_and_a_search_finds_its_row() {
    let page = Page::start(None, true).await;
    let change = hostile();
    let followed = |_| crate::observe::Followed::new(&change, Became::Applied, Some(crate::change::Offset(4)), 7);
    page.observer.followed(&OriginId::new("b"), (0..120).map(followed).collect());
    let first = page.get("/activity?became=applied").await.body;
    assert!(first.contains("became=applied&amp;before=70") && !first.contains("Newer"), "{first}");
    assert!(page.get("/activity?before=70").await.body.contains("Newer"));
    let found: Vec<ActivityView> =
        serde_json::from_str(&page.get("/api/activity?limit=3&key=script&before=9").await.body).unwrap();
    assert_eq!(found.iter().map(|view| view.number).collect::<Vec<_>>(), [8, 7, 6]);
    assert_eq!(page.get("/api/activity?became=nonsense").await.status, 400);
    assert_eq!(page.get("/conflicts?page=3").await.status, 200);
    assert_eq!(page.get("/api/conflicts?skip=1").await.body, "[]");
    page.end().await;
}

#[tokio::test]
async fn without_a_key_a_foreign_name_is_refused_and_an_open_address_never_bound() {
    let page = Page::start(None, true).await;
    assert_eq!(page.ask("/api/status", "Host: evil.example\r\n").await.status, 403);
    let options = WebOptions { listen: "0.0.0.0:0".parse().unwrap(), key: None, tls: None };
    let refused = Web::bind(options, Observer::default(), Arc::new(Kept { reachable: true }), Arc::new(Asked::default()))
        .await
        .err()
        .unwrap();
    assert!(matches!(refused, ServeError::Open { .. }), "{refused}");
    let taken = WebOptions { listen: page.address, key: None, tls: None };
    let taken = Web::bind(taken, Observer::default(), Arc::new(Kept { reachable: true }), Arc::new(Asked::default()))
        .await
        .err()
        .unwrap();
    assert!(Stop::from(taken).to_string().contains("cannot listen on 127.0.0.1"));
    page.end().await;
}

#[tokio::test]
async fn a_connection_that_says_nothing_does_not_hold_up_the_end() {
    let page = Page::start(None, true).await;
    let mut silent = TcpStream::connect(page.address).await.unwrap();
    assert_eq!(page.get("/healthz").await.status, 200, "so the silent connection was accepted before");
    tokio::time::timeout(Duration::from_secs(5), page.end()).await.expect("the server ends");
    assert_eq!(silent.read(&mut [0; 8]).await.unwrap(), 0);
}

#[tokio::test]
async fn over_tls_the_cookie_stays_there_and_who_knows_the_certificate_comes_in() {
    let _ = rustls::crypto::ring::default_provider().install_default();
    let folder = tempfile::tempdir().unwrap();
    let identity = TlsIdentity::Own { folder: folder.path().to_owned() };
    assert!(identity.fingerprint().is_err(), "it is not there before the start");
    let options =
        WebOptions { listen: "127.0.0.1:0".parse().unwrap(), key: Some("geheim".into()), tls: Some(identity.clone()) };
    let (keeper, orders) = (Arc::new(Kept { reachable: true }), Arc::new(Asked::default()));
    let web = Web::bind(options, Observer::default(), keeper, orders).await.unwrap();
    let (address, shutdown) = (web.address(), Shutdown::new());
    let running = tokio::spawn(web.run(shutdown.clone()));

    let tls = crate::topic::hub::pinned(identity.fingerprint().unwrap()).unwrap();
    let client = reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none());
    let client = client.tls_backend_preconfigured(tls).build().unwrap();
    let answer = client.post(format!("https://{address}/login")).header("content-type", FORM).body("key=geheim").send();
    let answer = answer.await.unwrap();
    assert_eq!(answer.status(), 303);
    let cookie = answer.headers()["set-cookie"].to_str().unwrap().to_owned();
    assert!(cookie.ends_with("; Secure"), "{cookie}");
    let stranger = reqwest::Client::builder().no_proxy().build().unwrap();
    assert!(stranger.get(format!("https://{address}/healthz")).send().await.is_err(), "nobody signed it");
    let mut plain = TcpStream::connect(address).await.unwrap();
    plain.write_all(b"GET /healthz HTTP/1.0\r\n\r\n").await.unwrap();
    let mut said = Vec::new();
    let _ = plain.read_to_end(&mut said).await;
    assert!(!String::from_utf8_lossy(&said).contains("ok"), "nothing is said in the open");
    shutdown.cancel();
    running.await.unwrap().unwrap();
}

mod schema;
