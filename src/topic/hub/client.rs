//! A hub behind HTTP.

use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use reqwest::header::HeaderMap;
use reqwest::{Method, RequestBuilder, Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use super::protocol::{self, Appended, Listed, Refusal, WAIT_MS_MAX, header};
use super::{Block, Held, Hub, RECORD_BYTES_LIMIT, Resumed, Trust, trust};
use crate::change::{Offset, OriginId};
use crate::topic::TopicError;

/// How a hub is reached.
#[derive(Clone, Debug)]
pub struct ClientOptions {
    /// `http://host:port` or `https://host:port`.
    pub url: String,
    /// This node's key.
    pub key: SecretString,
    /// By what an `https` hub is known to be the right one.
    pub trust: Trust,
}

/// A connection is made in this time or not at all: a laptop that is away should be known as away soon.
const CONNECT: Duration = Duration::from_secs(5);

/// Between two bytes of an answer, and for the answer to begin beyond what was to be waited for.
const SILENCE: Duration = Duration::from_secs(30);

/// A hub in another process. Clones share its connections.
#[derive(Clone)]
pub struct HubClient {
    http: reqwest::Client,
    base: Url,
    key: SecretString,
    /// The hub's address for messages: it holds no secret.
    place: String,
}

impl HubClient {
    pub fn new(options: ClientOptions) -> Result<Self, TopicError> {
        // Whatever stands before an @ may be a password.
        let place = options.url.rsplit('@').next().unwrap_or_default();
        let fault = |reason: String| TopicError::Unreachable { place: place.to_owned(), reason };
        let base = Url::parse(&options.url).map_err(|error| fault(format!("this is no address: {error}")))?;
        if !matches!(base.scheme(), "http" | "https") || base.host_str().is_none() || !base.username().is_empty() {
            return Err(fault("the address must be http://host:port or https://host:port".into()));
        }
        // The first to come decides for the process; anybody else here would decide the same.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = match &options.trust {
            Trust::System => reqwest::Client::builder(),
            Trust::Authority(file) => {
                let wrong =
                    |why: &dyn std::fmt::Display| fault(format!("the authorities in {} cannot be used: {why}", file.display()));
                let pem = std::fs::read(file).map_err(|error| wrong(&error))?;
                let authorities = reqwest::Certificate::from_pem_bundle(&pem).map_err(|error| wrong(&error))?;
                reqwest::Client::builder().tls_certs_only(authorities)
            }
            Trust::Pinned(fingerprint) => {
                let tls = trust::pinned(*fingerprint).map_err(|error| fault(error.to_string()))?;
                reqwest::Client::builder().tls_backend_preconfigured(tls)
            }
        };
        let http = http
            .connect_timeout(CONNECT)
            .read_timeout(SILENCE + Duration::from_millis(WAIT_MS_MAX))
            .tcp_keepalive(Duration::from_secs(30))
            .pool_idle_timeout(Duration::from_secs(90))
            .no_proxy()
            .user_agent(concat!("tandem/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|error| fault(chain(&error)))?;
        let place = base.origin().ascii_serialization();
        Ok(Self { http, base, key: options.key, place })
    }

    /// The topics that the hub keeps.
    pub async fn topics(&self) -> Result<Vec<protocol::ListedTopic>, TopicError> {
        let nobody = OriginId::new("");
        let response = self.ask(&nobody, self.request(Method::GET, &["v1", "topics"], &[]).timeout(SILENCE)).await?;
        Ok(self.json::<Listed>(response).await?.topics)
    }

    fn request(&self, method: Method, path: &[&str], query: &[(&str, u64)]) -> RequestBuilder {
        let mut url = self.base.clone();
        // Encodes what has a meaning in a path, so an origin may have any name.
        url.path_segments_mut().expect("http addresses have a path").pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query.iter().map(|(name, value)| (name, value.to_string())));
        }
        self.http.request(method, url).bearer_auth(self.key.expose_secret())
    }

    async fn ask(&self, origin: &OriginId, request: RequestBuilder) -> Result<Response, TopicError> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        // A refusal is some hundred bytes; whatever else answers here may say what it likes.
        let body = self.body(response, 64 << 10).await?;
        match serde_json::from_slice::<Refusal>(&body) {
            Ok(refusal) => Err(refusal.into_error(&self.place, origin)),
            Err(_) if matches!(status.as_u16(), 401 | 403) => {
                Err(TopicError::Denied { place: self.place.clone(), reason: format!("it answered {status}") })
            }
            Err(_) => Err(self.not_a_hub(&format!("it answered {status}"))),
        }
    }

    /// The whole body, up to a limit, whatever its length is said to be.
    async fn body(&self, mut response: Response, limit: usize) -> Result<Bytes, TopicError> {
        let said = response.content_length().unwrap_or(0) as usize;
        let mut body = BytesMut::with_capacity(said.min(1 << 20));
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            if body.len() + chunk.len() > limit {
                return Err(self.not_a_hub(&format!("its answer is longer than {limit} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    async fn blocks(&self, response: Response) -> Result<Vec<Block>, TopicError> {
        let body = self.body(response, protocol::body_bytes_max(RECORD_BYTES_LIMIT)).await?;
        protocol::read_blocks(body).map_err(|error| self.not_a_hub(&error.to_string()))
    }

    async fn json<T: DeserializeOwned>(&self, response: Response) -> Result<T, TopicError> {
        let body = self.body(response, 8 << 20).await?;
        serde_json::from_slice(&body).map_err(|_| self.not_a_hub("its answer is not the JSON we expect"))
    }

    fn number(&self, headers: &HeaderMap, name: &str) -> Result<u64, TopicError> {
        let text = headers.get(name).and_then(|value| value.to_str().ok());
        let number = text.and_then(|text| text.parse().ok());
        number.ok_or_else(|| self.not_a_hub(&format!("its answer has no header {name}")))
    }

    async fn holding(&self, response: Response) -> Result<Held, TopicError> {
        let headers = response.headers();
        let (first, end) = (self.number(headers, header::FIRST)?, self.number(headers, header::END)?);
        let last = self.blocks(response).await?.pop();
        if last.as_ref().map_or(first, |block| block.end().0) != end {
            return Err(self.not_a_hub("its last block is not the last"));
        }
        Ok(Held { first: Offset(first), end: Offset(end), last })
    }

    fn unreachable(&self, error: &reqwest::Error) -> TopicError {
        if let Some(reason) = trust::refused(error) {
            return TopicError::Untrusted { place: self.place.clone(), reason };
        }
        let reason = match (error.is_connect(), error.is_timeout()) {
            (true, true) => "no answer".into(),
            (false, true) => "it took too long to answer".into(),
            _ => chain(error),
        };
        TopicError::Unreachable { place: self.place.clone(), reason }
    }

    fn not_a_hub(&self, what: &str) -> TopicError {
        TopicError::Unreachable { place: self.place.clone(), reason: format!("{what}; is this a hub of tandem?") }
    }
}

/// Enough for the request to pass and for the hub to answer.
fn patience(bytes: usize) -> Duration {
    SILENCE + Duration::from_secs(bytes as u64 / protocol::BYTES_PER_SECOND_MIN)
}

/// The innermost cause says what happened; reqwest's own messages repeat the address.
fn chain(error: &reqwest::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

#[async_trait]
impl Hub for HubClient {
    async fn resume(&self, origin: &OriginId) -> Result<Resumed, TopicError> {
        let request = self.request(Method::POST, &["v1", "topics", origin.as_str(), "writer"], &[]);
        let response = self.ask(origin, request.timeout(patience(RECORD_BYTES_LIMIT))).await?;
        let headers = response.headers();
        let generation = self.number(headers, header::GENERATION)?;
        let record_bytes_max = self.number(headers, header::RECORD_BYTES_MAX)? as usize;
        Ok(Resumed { held: self.holding(response).await?, generation, record_bytes_max })
    }

    async fn append(&self, origin: &OriginId, generation: Option<u64>, blocks: Vec<Block>) -> Result<Offset, TopicError> {
        let body = protocol::write_blocks(&blocks);
        let query: Vec<_> = generation.map(|generation| ("generation", generation)).into_iter().collect();
        let request = self.request(Method::POST, &["v1", "topics", origin.as_str(), "blocks"], &query);
        let request = request.timeout(patience(body.len())).body(body);
        let response = self.ask(origin, request).await?;
        let Appended { end } = self.json(response).await?;
        let expected = blocks.last().map_or(end, Block::end);
        if end != expected {
            return Err(self.not_a_hub("it kept something else than we sent"));
        }
        Ok(end)
    }

    async fn read(&self, origin: &OriginId, from: Offset, bytes_max: usize, wait: Duration) -> Result<Vec<Block>, TopicError> {
        let wait_ms = wait.as_millis().min(WAIT_MS_MAX.into()) as u64;
        let query = [("from", from.0), ("bytes_max", bytes_max as u64), ("wait_ms", wait_ms)];
        let request = self.request(Method::GET, &["v1", "topics", origin.as_str(), "blocks"], &query);
        let request = request.timeout(Duration::from_millis(wait_ms) + patience(bytes_max));
        let blocks = self.blocks(self.ask(origin, request).await?).await?;
        let whole = blocks.first().is_none_or(|block| block.first <= from && from < block.end())
            && blocks.windows(2).all(|pair| pair[0].end() == pair[1].first);
        if !whole {
            return Err(self.not_a_hub("its blocks do not follow each other"));
        }
        Ok(blocks)
    }

    async fn held(&self, origin: &OriginId) -> Result<Held, TopicError> {
        let request = self.request(Method::GET, &["v1", "topics", origin.as_str()], &[]);
        let response = self.ask(origin, request.timeout(patience(RECORD_BYTES_LIMIT))).await?;
        self.holding(response).await
    }
}
