//! Asks the running node, over its own pages on this machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::config::Config;
use crate::observe::Status;
use crate::runtime::Stop;
use crate::wiring;

use super::{Common, Failure, output};

/// Answers come from memory or one query; a node that takes longer is not well.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What waits for something to happen says after a while that it has not.
const SLOW_ANSWER_WITHIN: Duration = Duration::from_secs(70);

/// A list of conflicts with large rows; more is not for a terminal.
const ANSWER_BYTES_MAX: usize = 64 << 20;

pub struct NodeApi {
    address: SocketAddr,
    /// `http` or `https`.
    scheme: &'static str,
    key: Option<SecretString>,
    client: reqwest::Client,
    /// The node that was asked for by name.
    node: Option<String>,
}

/// What the API says when it cannot answer.
#[derive(Deserialize)]
struct Refusal {
    error: String,
    hint: Option<String>,
}

impl NodeApi {
    pub fn new(common: &Common) -> Result<Self, Failure> {
        let config = common.load()?;
        let key = config.web_key()?;
        Self::with(&config, key, common.node.clone())
    }

    /// For what is shown to everybody.
    pub fn without_key(common: &Common) -> Result<Self, Failure> {
        Self::with(&common.load()?, None, common.node.clone())
    }

    fn with(config: &Config, key: Option<SecretString>, node: Option<String>) -> Result<Self, Failure> {
        let (client, scheme) = client(config)?;
        let client = client
            .timeout(ANSWER_WITHIN)
            // This machine is never reached through a proxy.
            .no_proxy()
            .build()
            .map_err(|error| Stop::halt(format!("cannot prepare a request: {error}"), "report this"))?;
        Ok(Self { address: local_address(config), scheme, key, client, node })
    }

    /// An answer as it is.
    pub async fn text(&self, path: &str) -> Result<String, Stop> {
        let body = self.ask(self.client.get(self.url(path))).await?;
        Ok(String::from_utf8_lossy(&body).into_owned())
    }

    /// Whether the node runs now, as far as its pages tell: one that was started without them cannot be asked.
    pub async fn runs(&self) -> bool {
        self.text("/healthz").await.is_ok()
    }

    /// The status of the node, if it is the one that was asked for.
    pub async fn status(&self) -> Result<Status, Stop> {
        let status: Status = self.get("/api/status").await?;
        match &self.node {
            Some(node) if *node != status.node => {
                let message = format!("the node that answers at http://{} is {}, not {node}", self.address, status.node);
                Err(Stop::halt(
                    message,
                    "give every node of a machine its own [web] listen, for example by TANDEM__WEB__LISTEN",
                ))
            }
            _ => Ok(status),
        }
    }

    pub async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Stop> {
        self.read(&self.ask(self.client.get(self.url(path))).await?)
    }

    /// As `get`, from what answers only when something has happened.
    pub async fn get_slowly<T: DeserializeOwned>(&self, path: &str) -> Result<T, Stop> {
        self.read(&self.ask(self.client.get(self.url(path)).timeout(SLOW_ANSWER_WITHIN)).await?)
    }

    /// As `post`, for what answers only when it is done.
    pub async fn post_slowly<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> Result<T, Stop> {
        self.read(&self.ask(self.client.post(self.url(path)).timeout(SLOW_ANSWER_WITHIN).json(order)).await?)
    }

    /// Gives an order.
    pub async fn post<T: DeserializeOwned>(&self, path: &str, order: &impl Serialize) -> Result<T, Stop> {
        self.read(&self.ask(self.client.post(self.url(path)).json(order)).await?)
    }

    fn url(&self, path: &str) -> String {
        format!("{}://{}{path}", self.scheme, self.address)
    }

    fn read<T: DeserializeOwned>(&self, body: &[u8]) -> Result<T, Stop> {
        serde_json::from_slice(body).map_err(|error| {
            let message = format!("what answers at http://{} is not this version of tandem: {error}", self.address);
            Stop::halt(message, "see that [web] listen names the running node's own address")
        })
    }

    async fn ask(&self, mut request: reqwest::RequestBuilder) -> Result<Vec<u8>, Stop> {
        if let Some(key) = &self.key {
            request = request.bearer_auth(key.expose_secret());
        }
        let mut response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unreachable(&error))? {
            body.extend_from_slice(&chunk);
            if body.len() > ANSWER_BYTES_MAX {
                return Err(Stop::halt(
                    format!("the answer of http://{} is larger than 64 MiB", self.address),
                    "ask for less: --limit",
                ));
            }
        }
        if response.status().is_success() {
            return Ok(body);
        }
        let refusal = serde_json::from_slice::<Refusal>(&body).ok();
        let said = || match String::from_utf8_lossy(&body).trim() {
            "" => format!("answered with {}", response.status()),
            text => output::plain(&text.chars().take(200).collect::<String>()),
        };
        let message = refusal.as_ref().map_or_else(said, |refusal| refusal.error.clone());
        let hint = refusal.and_then(|refusal| refusal.hint).unwrap_or_else(|| match response.status().as_u16() {
            401 => "[web] key_env or key_file must be that of the running node".into(),
            404 => "see the list".into(),
            _ => "look at the log of the running node".into(),
        });
        Err(Stop::halt(message, hint))
    }

    fn unreachable(&self, error: &reqwest::Error) -> Stop {
        let address = self.address;
        if error.is_timeout() {
            let message = format!("the node at http://{address} did not answer within {} s", ANSWER_WITHIN.as_secs());
            return Stop::halt(message, "look at its log, or start it again");
        }
        let message = format!("no running node answers at http://{address}");
        Stop::halt(message, "start it with `tandem run`; its address is [web] listen in the configuration")
    }
}

/// What reaches the node's pages, and how. Where these encrypt, exactly its certificate is believed, whatever name it has: it lies on
/// this machine.
fn client(config: &Config) -> Result<(reqwest::ClientBuilder, &'static str), Stop> {
    let Some(fingerprint) = wiring::web_fingerprint(config)? else { return Ok((reqwest::Client::builder(), "http")) };
    let tls = wiring::pinned(fingerprint).map_err(|error| Stop::halt(format!("cannot prepare TLS: {error}"), "report this"))?;
    Ok((reqwest::Client::builder().tls_backend_preconfigured(tls), "https"))
}

/// Where this machine reaches a node that may listen on all addresses.
fn local_address(config: &Config) -> SocketAddr {
    let mut address = config.web.listen;
    if address.ip().is_unspecified() {
        address.set_ip(if address.is_ipv4() { IpAddr::V4(Ipv4Addr::LOCALHOST) } else { IpAddr::V6(Ipv6Addr::LOCALHOST) });
    }
    address
}

/// Text as one part of a path, whatever was typed.
pub fn path_part(id: &str) -> String {
    id.bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_cannot_leave_its_place_in_the_path() {
        assert_eq!(path_part("c-7f3a"), "c-7f3a");
        assert_eq!(path_part("../status?x"), "%2E%2E%2Fstatus%3Fx");
    }
}
