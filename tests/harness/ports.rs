//! Free loopback ports that stay free while their server is down.

use std::collections::HashSet;
use std::net::TcpListener;
use std::sync::Mutex;

/// Below the kernel's range for outgoing connections (32768 up), which would otherwise take the port of a server that is
/// just being restarted.
const PORTS: std::ops::Range<u16> = 18_000..32_000;

/// A port that nobody listens on, not given to anyone else in this process. Another process may still be faster: who
/// listens on it must be ready to ask again.
pub fn free_port() -> u16 {
    static GIVEN: Mutex<Option<HashSet<u16>>> = Mutex::new(None);
    let mut given = GIVEN.lock().expect("nothing panics while it holds the ports");
    let given = given.get_or_insert_default();
    for _ in 0..1_000 {
        let port = fastrand::u16(PORTS);
        if !given.contains(&port) && TcpListener::bind(("127.0.0.1", port)).is_ok() {
            given.insert(port);
            return port;
        }
    }
    panic!("no free port among {PORTS:?} on the loopback: too many servers are running");
}
