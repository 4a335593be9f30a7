//! A cloud that answers as a script says: statuses, lies, silence, and connections cut in the middle. What the script lets pass
//! goes on to a real receiver behind it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

/// What becomes of one request.
#[derive(Clone, Debug)]
pub enum Step {
    /// It reaches the receiver, and its answer comes back.
    Pass,
    /// This status, with this header line (or none) and this body, and the receiver hears nothing.
    Answer(u16, &'static str, &'static str),
    /// The connection is cut after half of the body.
    CutRequest,
    /// The receiver takes it, and half of its answer comes back.
    CutAnswer,
    /// The receiver takes it, and nothing comes back.
    LoseAnswer,
    /// Nothing is ever answered.
    Silence,
    /// As [`Step::Pass`], when the test says [`FaultyCloud::release`].
    Hold,
    /// As [`Step::Answer`] for every request that holds this text, from now on; the others pass.
    Always(&'static str, u16, &'static str),
}

/// A request that came.
#[derive(Clone, Debug)]
pub struct Came {
    pub at: Instant,
    /// `POST /api/batch`.
    pub what: String,
    pub body: String,
}

struct Shared {
    released: Semaphore,
    script: Mutex<VecDeque<Step>>,
    always: Mutex<Vec<(&'static str, u16, &'static str)>>,
    came: Mutex<Vec<Came>>,
}

pub struct FaultyCloud {
    shared: Arc<Shared>,
    address: SocketAddr,
    serving: JoinHandle<()>,
}

impl Drop for FaultyCloud {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

impl FaultyCloud {
    /// In front of the receiver at this address. After the script everything passes.
    pub async fn before(receiver: SocketAddr, steps: impl IntoIterator<Item = Step>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("the loopback has a free port");
        let address = listener.local_addr().expect("it listens");
        let (script, always, came) = Default::default();
        let shared = Arc::new(Shared { released: Semaphore::new(0), script, always, came });
        shared.script.lock().expect("nobody else has it yet").extend(steps);
        let serving = tokio::spawn(serve(listener, receiver, shared.clone()));
        Self { shared, address, serving }
    }

    pub fn url(&self) -> String {
        format!("{}/api", self.root())
    }

    /// Without a path.
    pub fn root(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Lets one request pass that is held.
    pub fn release(&self) {
        self.shared.released.add_permits(1);
    }

    /// All that came so far.
    pub fn came(&self) -> Vec<Came> {
        self.shared.came.lock().expect("nothing panics while it has it").clone()
    }

    /// True when every step of the script was taken.
    pub fn is_done(&self) -> bool {
        self.shared.script.lock().expect("nothing panics while it has it").is_empty()
    }
}

async fn serve(listener: TcpListener, receiver: SocketAddr, shared: Arc<Shared>) {
    loop {
        let Ok((stream, _)) = listener.accept().await else { return };
        tokio::spawn(answer_all(stream, receiver, shared.clone()));
    }
}

/// Requests of one connection, until one side has enough.
async fn answer_all(mut stream: TcpStream, receiver: SocketAddr, shared: Arc<Shared>) -> Option<()> {
    loop {
        let (head, length) = read_head(&mut stream).await?;
        let what = head.lines().next()?.rsplit_once(' ')?.0.to_owned();
        let mut step = Step::Pass;
        if let Some(next) = shared.script.lock().expect("nothing panics while it has it").pop_front() {
            step = next;
        }
        let came = |body: &[u8]| {
            let body = String::from_utf8_lossy(body).into_owned();
            let came = Came { at: Instant::now(), what: what.clone(), body };
            shared.came.lock().expect("nothing panics while it has it").push(came);
        };
        let mut body = vec![0; length];
        if matches!(step, Step::CutRequest) {
            stream.read_exact(&mut body[..length / 2]).await.ok()?;
            came(&body[..length / 2]);
            return None;
        }
        stream.read_exact(&mut body).await.ok()?;
        came(&body);
        if let Step::Always(text, status, reason) = step {
            shared.always.lock().expect("nothing panics while it has it").push((text, status, reason));
            step = Step::Pass;
        }
        let text = String::from_utf8_lossy(&body).into_owned();
        let refusals = shared.always.lock().expect("nothing panics while it has it").clone();
        if let Some((_, status, reason)) = refusals.iter().find(|(word, ..)| text.contains(word)) {
            step = Step::Answer(*status, "", reason);
        }
        match step {
            Step::Answer(status, header, body) => {
                let header = if header.is_empty() { String::new() } else { format!("{header}\r\n") };
                let answer = format!(
                    "HTTP/1.1 {status} Scripted\r\ncontent-type: application/json\r\n{header}content-length: {}\r\n\r\n{body}",
                    body.len()
                );
                stream.write_all(answer.as_bytes()).await.ok()?;
            }
            Step::Silence => std::future::pending().await,
            step => {
                if matches!(step, Step::Hold) {
                    shared.released.acquire().await.ok()?.forget();
                }
                let answer = ask(receiver, &head, &body).await?;
                match step {
                    Step::CutAnswer => {
                        stream.write_all(&answer[..answer.len() - answer.len() / 4]).await.ok()?;
                        return None;
                    }
                    Step::LoseAnswer => return None,
                    _ => stream.write_all(&answer).await.ok()?,
                }
            }
        }
    }
}

/// The head of a request or an answer, and how long its body is. `None` at the end of the connection.
async fn read_head(stream: &mut TcpStream) -> Option<(String, usize)> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await.ok()?);
    }
    let head = String::from_utf8(head).ok()?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    Some((head, length.unwrap_or(0)))
}

/// The receiver's whole answer.
async fn ask(receiver: SocketAddr, head: &str, body: &[u8]) -> Option<Vec<u8>> {
    let mut stream = TcpStream::connect(receiver).await.ok()?;
    stream.write_all(head.as_bytes()).await.ok()?;
    stream.write_all(body).await.ok()?;
    // An answer to HEAD says how long the body would be, and has none.
    let asked_for_the_head = head.starts_with("HEAD ");
    let (head, length) = read_head(&mut stream).await?;
    let length = if asked_for_the_head { 0 } else { length };
    let mut answer = head.into_bytes();
    let start = answer.len();
    answer.resize(start + length, 0);
    stream.read_exact(&mut answer[start..]).await.ok()?;
    Some(answer)
}
