//! A network that a test can cut: a loopback port that leads to another one.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Leads connections on to a port until it is cut. Dropping it cuts it for good.
pub struct Link {
    address: SocketAddr,
    up: Arc<watch::Sender<bool>>,
    turned_away: Arc<AtomicU64>,
    carrier: JoinHandle<()>,
}

impl Link {
    /// A new port of the loopback that leads to `port`.
    pub async fn to(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("a bound socket has an address");
        let up = Arc::new(watch::channel(true).0);
        let turned_away = Arc::new(AtomicU64::new(0));
        let carrier = tokio::spawn(carry(listener, port, up.subscribe(), turned_away.clone()));
        Self { address, up, turned_away, carrier }
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    /// Ends all connections in the middle of whatever they carry, and ends new ones at once.
    pub fn cut(&self) {
        self.up.send_replace(false);
    }

    /// How many have come while it was cut.
    pub fn turned_away(&self) -> u64 {
        self.turned_away.load(Ordering::Relaxed)
    }

    pub fn mend(&self) {
        self.up.send_replace(true);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.carrier.abort();
    }
}

async fn carry(listener: TcpListener, port: u16, up: watch::Receiver<bool>, turned_away: Arc<AtomicU64>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    loop {
        let Ok((mut near, _)) = listener.accept().await else { continue };
        while connections.try_join_next().is_some() {}
        if !*up.borrow() {
            turned_away.fetch_add(1, Ordering::Relaxed);
            continue;
        }
        let mut up = up.clone();
        connections.spawn(async move {
            let carried = async {
                if let Ok(mut far) = TcpStream::connect(("127.0.0.1", port)).await {
                    // How it ended is for the two ends to see.
                    let _ = copy_bidirectional(&mut near, &mut far).await;
                }
            };
            tokio::select! {
                biased;
                _ = up.wait_for(|up| !up) => {}
                () = carried => {}
            }
        });
    }
}
