//! Who may see the node's pages.

use std::net::IpAddr;

use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::SecretString;

use crate::topic::hub::KeyHash;

/// What a request must show.
#[derive(Clone)]
pub enum Access {
    /// Only this machine can connect. The name in the request must be a loopback one too: otherwise a page on the internet
    /// could point its own name here and read our answers through a browser on this machine.
    Loopback,
    /// Kept as its hash only.
    Key(KeyHash),
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Refusal {
    WrongName,
    NoKey,
    WrongKey,
    /// Too many keys were wrong, so none is looked at for a while.
    TooMany,
}

impl Access {
    pub fn check(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        match self {
            Self::Loopback => {
                let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
                if is_loopback_name(host) { Ok(()) } else { Err(Refusal::WrongName) }
            }
            Self::Key(key) => {
                let given = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok()).ok_or(Refusal::NoKey)?;
                let given = presented_key(given).ok_or(Refusal::WrongKey)?;
                if KeyHash::of(&given.into()).matches(key) { Ok(()) } else { Err(Refusal::WrongKey) }
            }
        }
    }

    pub fn key(key: &SecretString) -> Self {
        Self::Key(KeyHash::of(key))
    }

    /// True for the key itself; false where there is none.
    pub fn is_key(&self, given: &str) -> bool {
        matches!(self, Self::Key(key) if KeyHash::of(&given.into()).matches(key))
    }
}

/// The key of `Bearer …`, as programs send it, or of `Basic …`, as a browser does when it has asked; any user name will do.
fn presented_key(header: &str) -> Option<String> {
    let (scheme, value) = header.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(value.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(value.trim()).ok()?).ok()?;
    Some(text.split_once(':')?.1.to_owned())
}

/// `localhost`, `127.…` or `[::1]`, with or without a port.
fn is_loopback_name(host: &str) -> bool {
    let name = match host.strip_prefix('[') {
        Some(rest) => rest.split(']').next().unwrap_or_default(),
        None => host.split(':').next().unwrap_or_default(),
    };
    name.eq_ignore_ascii_case("localhost") || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: header::HeaderName, value: &str) -> HeaderMap {
        HeaderMap::from_iter([(name, value.parse().unwrap())])
    }

    #[test]
    fn without_a_key_only_loopback_names_are_served() {
        let check = |host: &str, expected| assert_eq!(Access::Loopback.check(&headers(header::HOST, host)), expected, "{host}");
        for host in ["localhost", "localhost:7420", "127.0.0.1:7420", "127.8.0.1", "[::1]:7420"] {
            check(host, Ok(()));
        }
        for host in ["evil.example", "evil.example:7420", "192.168.1.2", "127.0.0.1.evil.example", "localhost.evil.example", ""]
        {
            check(host, Err(Refusal::WrongName));
        }
        assert_eq!(Access::Loopback.check(&HeaderMap::new()), Err(Refusal::WrongName));
    }

    #[test]
    fn a_key_is_taken_as_bearer_or_as_the_password_of_a_browser() {
        let access = Access::key(&SecretString::from("open sesame"));
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let check =
            |value: &str, expected| assert_eq!(access.check(&headers(header::AUTHORIZATION, value)), expected, "{value}");
        check("Bearer open sesame", Ok(()));
        check("bearer open sesame", Ok(()));
        check(&basic("anybody:open sesame"), Ok(()));
        check("Bearer open", Err(Refusal::WrongKey));
        check("Bearer ", Err(Refusal::WrongKey));
        check("Digest open sesame", Err(Refusal::WrongKey));
        check("Basic ???", Err(Refusal::WrongKey));
        check(&basic("open sesame"), Err(Refusal::WrongKey));
        assert_eq!(access.check(&HeaderMap::new()), Err(Refusal::NoKey));
    }
}
