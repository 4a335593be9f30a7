//! What strangers meet: every route without a key, with a wrong one, and with requests that are too large or never end.

use std::collections::BTreeSet;

use super::*;
use crate::observe::{CloudFile, CloudReport, PositionView, WhereView, WhereWish};
use crate::serve::{FilesAsked, FilesRefused, SyncAsked, SyncRefused};

/// Every route of the node's server, as the code has it: one that is added later is tried too.
fn routes() -> BTreeSet<String> {
    let sources = [
        include_str!("../../web.rs"),
        include_str!("../../screens.rs"),
        include_str!("../../roles.rs"),
        include_str!("../../failed.rs"),
        include_str!("../../inspect.rs"),
        include_str!("../../cloud_sync.rs"),
    ];
    let of = |source: &'static str| source.split(".route(\"").skip(1).filter_map(|rest| rest.split('"').next());
    let named = |route: &str| route.replace("{id}", "1").replace("{role}", "applier");
    sources.into_iter().flat_map(of).map(named).collect()
}

impl Obedient {
    fn nothing() -> Stop {
        Stop::halt("nothing is known", "ask somebody else")
    }
}

#[async_trait]
impl Inspect for Obedient {
    async fn position(&self) -> Result<PositionView, Stop> {
        Err(Self::nothing())
    }

    async fn where_is(&self, _: WhereWish) -> Result<WhereView, Stop> {
        Err(Self::nothing())
    }
}

#[async_trait]
impl Clouds for Obedient {
    fn sync_now(&self, _: &str, _: &SyncAsked) -> Result<u64, SyncRefused> {
        Err(SyncRefused::NoSuchCloud)
    }

    async fn report(&self, _: &str, _: u64) -> Option<CloudReport> {
        None
    }

    fn files(&self, _: &str, _: &FilesAsked) -> Result<Vec<CloudFile>, FilesRefused> {
        Err(FilesRefused::NoSuchCloud)
    }
}

/// A node's server with all that it can have.
async fn whole(key: Option<&str>) -> Page {
    let observer = Observer::default();
    let options = WebOptions { listen: "127.0.0.1:0".parse().unwrap(), key: key.map(SecretString::from), tls: None };
    let kept = Arc::new(Kept { reachable: true });
    let web = Web::bind(options, observer.clone(), kept, Arc::new(Asked::default())).await.unwrap();
    let orders = Arc::new(Obedient);
    let web = web.with_roles(orders.clone()).with_failed(orders.clone()).with_inspect(orders.clone()).with_clouds(orders);
    let web = web.with_setup(Arc::new(Set));
    let (address, shutdown) = (web.address(), Shutdown::new());
    Page { address, observer, running: tokio::spawn(web.run(shutdown.clone())), shutdown }
}

/// What may be seen by anybody: that the process lives, and the way in.
const OPEN: [&str; 6] = ["/healthz", "/readyz", "/login", "/style.css", "/live.js", "/icon.svg"];

#[tokio::test]
async fn no_route_answers_without_the_key_or_with_another() {
    let page = whole(Some("geheim")).await;
    let routes = routes();
    assert!(routes.len() > 30 && routes.contains("/api/roles/applier/pause"), "{routes:?}");
    for route in routes.iter().filter(|route| !OPEN.contains(&route.as_str())) {
        for method in ["GET", "POST", "PUT", "DELETE", "OPTIONS"] {
            let json = "Host: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n";
            let bare = page.send(method, route, &format!("{json}\r\n{{}}")).await;
            assert_eq!(bare.status, 401, "{method} {route}");
            assert!(!bare.body.contains("laptop"), "nothing is told: {}", bare.body);
        }
        // The key of another node, one that is nearly right, one in the address, and one in another scheme.
        for wrong in ["Bearer tnd-key-of-another-node", "Bearer geheim2", "Bearer Geheim", "Bearer ", "Digest geheim"] {
            let refused = page.ask(route, &format!("Host: x\r\nAuthorization: {wrong}\r\n")).await;
            assert!(matches!(refused.status, 401 | 429), "{wrong}: {route}: {}", refused.status);
        }
        let in_address = page.get(&format!("{route}?key=geheim")).await;
        assert_eq!(in_address.status, 401, "{route}");
    }
    page.end().await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_before_all_of_it_is_taken() {
    let page = whole(None).await;
    let large = "x".repeat(1 << 20);
    let mut refused = 0;
    for route in routes().iter().filter(|route| route.starts_with("/api/")) {
        let order = format!("{{\"tables\": [\"{}\"]}}", "x".repeat(3 << 20));
        let head = format!("Host: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n", order.len());
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        // It may be cut off before all of it is sent.
        let _ = stream.write_all(format!("POST {route} HTTP/1.1\r\nConnection: close\r\n{head}{order}").as_bytes()).await;
        let mut answer = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer));
        let _ = read.await.expect("it is answered or cut");
        let answer = String::from_utf8_lossy(&answer);
        let takes_no_orders = answer.starts_with("HTTP/1.1 405");
        assert!(answer.is_empty() || takes_no_orders || answer.starts_with("HTTP/1.1 413"), "{route}: {answer}");
        refused += usize::from(!takes_no_orders);
    }
    assert!(refused > 10, "{refused} routes take orders");
    let mut stream = TcpStream::connect(page.address).await.unwrap();
    // It may be cut off before all of it is sent.
    let _ = stream.write_all(format!("GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\nX: {large}\r\n\r\n").as_bytes()).await;
    let mut answer = Vec::new();
    let _ =
        tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer)).await.expect("it is answered or cut");
    let answer = String::from_utf8_lossy(&answer);
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 431"), "{answer}");
    assert_eq!(page.get("/healthz").await.status, 200);
    page.end().await;
}

#[tokio::test]
async fn what_is_no_request_is_told_so_and_harms_nobody() {
    let page = whole(Some("geheim")).await;
    for strange in [
        "\u{0}\u{1}\u{2}\r\n\r\n",
        "GET / HTTP/9.9\r\n\r\n",
        "GET http://[ HTTP/1.1\r\n\r\n",
        "POST / HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
    ] {
        let mut stream = TcpStream::connect(page.address).await.unwrap();
        stream.write_all(strange.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut answer))
            .await
            .expect("it is answered or cut");
        let answer = String::from_utf8_lossy(&answer);
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 4"), "{strange:?}: {answer}");
    }
    for path in ["/api/conflicts/..%2F..%2Fetc%2Fpasswd", "/%2e%2e/%2e%2e/etc/passwd", "/api/failed/%00"] {
        let answer = page.ask(path, "Host: x\r\nAuthorization: Bearer geheim\r\n").await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {}", answer.status);
    }
    assert_eq!(page.get("/healthz").await.status, 200);
    page.end().await;
}
