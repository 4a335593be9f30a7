//! Who comes in: by the key that a request brings, or by the cookie of somebody who signed in with it; and how often
//! somebody may try.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::http::{HeaderMap, header};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;
use tokio::time::Instant;

use super::access::{Access, Refusal};
use crate::topic::hub::make_key;

/// A working day; then the key is asked for again.
pub const SESSION_MAX: Duration = Duration::from_secs(12 * 3_600);

/// Browsers that are signed in at once; beyond it the oldest has to sign in again.
const SESSIONS_MAX: usize = 256;

/// Wrong keys from one address within [`ATTEMPTS_WITHIN`]. A person mistypes a few times; a scraper with an old key asks four
/// times a minute and must not lock out who sits at the same machine.
const ATTEMPTS_MAX: u32 = 20;
const ATTEMPTS_WITHIN: Duration = Duration::from_secs(60);

/// Addresses whose attempts are remembered; beyond it all are forgotten.
const ADDRESSES_MAX: usize = 10_000;

const COOKIE: &str = "tandem_session";

/// Who asks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Visitor {
    /// Somebody on this machine, where there is no key.
    Local,
    /// Something that brings the key with each request.
    Program,
    /// Somebody who signed in; by the hash of what the cookie holds.
    Person([u8; 32]),
}

pub struct Gate {
    access: Access,
    /// What forms are marked with comes from this. New with each start.
    secret: [u8; 32],
    /// Cookies only go over TLS.
    encrypted: bool,
    sessions: Mutex<HashMap<[u8; 32], Instant>>,
    attempts: Mutex<HashMap<IpAddr, Attempts>>,
}

struct Attempts {
    since: Instant,
    wrong: u32,
}

impl Gate {
    pub fn new(access: Access, encrypted: bool) -> Option<Self> {
        let secret = hash(&make_key()?.0);
        Some(Self { access, secret, encrypted, sessions: Mutex::default(), attempts: Mutex::default() })
    }

    pub fn asks_for_a_key(&self) -> bool {
        matches!(self.access, Access::Key(_))
    }

    /// Lets a request in, or not. A key that is wrong counts as an attempt of its sender.
    pub fn check(&self, headers: &HeaderMap, from: IpAddr) -> Result<Visitor, Refusal> {
        if !self.asks_for_a_key() {
            return self.access.check(headers).map(|()| Visitor::Local);
        }
        if !headers.contains_key(header::AUTHORIZATION) {
            return self.session(headers).map(Visitor::Person).ok_or(Refusal::NoKey);
        }
        self.attempt(from, || self.access.check(headers)).map(|()| Visitor::Program)
    }

    /// The cookie for a browser whose person knows the key.
    pub fn sign_in(&self, key: &str, from: IpAddr) -> Result<String, Refusal> {
        self.attempt(from, || if self.access.is_key(key) { Ok(()) } else { Err(Refusal::WrongKey) })?;
        let (token, _) = make_key().ok_or(Refusal::TooMany)?;
        let now = Instant::now();
        let mut sessions = lock(&self.sessions);
        sessions.retain(|_, began| now.duration_since(*began) < SESSION_MAX);
        if sessions.len() >= SESSIONS_MAX
            && let Some(oldest) = sessions.iter().min_by_key(|(_, began)| **began).map(|(session, _)| *session)
        {
            sessions.remove(&oldest);
        }
        sessions.insert(hash(&token), now);
        Ok(self.cookie(token.expose_secret(), SESSION_MAX))
    }

    /// Forgets a browser; the cookie that makes it forget, too.
    pub fn sign_out(&self, visitor: Visitor) -> String {
        if let Visitor::Person(session) = visitor {
            lock(&self.sessions).remove(&session);
        }
        self.cookie("", Duration::ZERO)
    }

    /// What a form shows to be from a page that this visitor was given.
    pub fn token(&self, visitor: Visitor) -> String {
        let of = match &visitor {
            Visitor::Local => b"local".as_slice(),
            Visitor::Program => b"program",
            Visitor::Person(session) => session,
        };
        blake3::keyed_hash(&self.secret, of).to_hex().to_string()
    }

    pub fn is_token(&self, visitor: Visitor, token: &str) -> bool {
        self.token(visitor).as_bytes().ct_eq(token.as_bytes()).into()
    }

    fn cookie(&self, value: &str, age: Duration) -> String {
        let secure = if self.encrypted { "; Secure" } else { "" };
        format!("{COOKIE}={value}; Path=/; HttpOnly; SameSite=Strict; Max-Age={}{secure}", age.as_secs())
    }

    fn session(&self, headers: &HeaderMap) -> Option<[u8; 32]> {
        let cookies = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
        let mut pairs = cookies.flat_map(|line| line.split(';')).filter_map(|pair| pair.trim().split_once('='));
        let (_, value) = pairs.find(|(name, _)| *name == COOKIE)?;
        let session = hash(&SecretString::from(value));
        // Found by its hash, so how long that takes tells nothing about tokens.
        let began = *lock(&self.sessions).get(&session)?;
        (began.elapsed() < SESSION_MAX).then_some(session)
    }

    /// Does not even look at a key where too many were wrong.
    fn attempt(&self, from: IpAddr, check: impl FnOnce() -> Result<(), Refusal>) -> Result<(), Refusal> {
        let mut all = lock(&self.attempts);
        if all.len() >= ADDRESSES_MAX && !all.contains_key(&from) {
            all.clear();
        }
        let attempts = all.entry(from).or_insert_with(|| Attempts { since: Instant::now(), wrong: 0 });
        if attempts.since.elapsed() >= ATTEMPTS_WITHIN {
            *attempts = Attempts { since: Instant::now(), wrong: 0 };
        }
        if attempts.wrong >= ATTEMPTS_MAX {
            return Err(Refusal::TooMany);
        }
        check().inspect_err(|_| attempts.wrong += 1)
    }
}

fn hash(token: &SecretString) -> [u8; 32] {
    *blake3::hash(token.expose_secret().as_bytes()).as_bytes()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that holds these locks leaves them half done.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// True for a request that a page of another site made a browser send: it must not give orders in a person's name.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if let Some(site) = text("sec-fetch-site") {
        return !matches!(site, "same-origin" | "none");
    }
    let host = text("host").unwrap_or_default();
    text("origin").is_some_and(|origin| origin.split_once("://").map(|(_, place)| place) != Some(host))
}

#[cfg(test)]
mod tests {
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (header::HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    fn with_key(encrypted: bool) -> Gate {
        Gate::new(Access::key(&"open sesame".into()), encrypted).unwrap()
    }

    /// The pair of a cookie that a browser sends back.
    fn sent(cookie: &str) -> HeaderMap {
        headers(&[("cookie", &format!("other=1; {}", cookie.split(';').next().unwrap()))])
    }

    #[tokio::test(start_paused = true)]
    async fn a_cookie_lets_in_until_it_is_old_or_signed_out() {
        let gate = with_key(false);
        assert_eq!(gate.check(&HeaderMap::new(), HERE), Err(Refusal::NoKey));
        assert_eq!(gate.check(&headers(&[("cookie", "tandem_session=guess")]), HERE), Err(Refusal::NoKey));
        let cookie = gate.sign_in("open sesame", HERE).unwrap();
        assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict") && !cookie.contains("Secure"), "{cookie}");
        assert!(with_key(true).sign_in("open sesame", HERE).unwrap().contains("; Secure"));
        let visitor = gate.check(&sent(&cookie), HERE).unwrap();
        assert!(matches!(visitor, Visitor::Person(_)));
        tokio::time::advance(SESSION_MAX).await;
        assert_eq!(gate.check(&sent(&cookie), HERE), Err(Refusal::NoKey));

        let cookie = gate.sign_in("open sesame", HERE).unwrap();
        let visitor = gate.check(&sent(&cookie), HERE).unwrap();
        assert!(gate.sign_out(visitor).contains("Max-Age=0"));
        assert_eq!(gate.check(&sent(&cookie), HERE), Err(Refusal::NoKey));
    }

    #[tokio::test(start_paused = true)]
    async fn who_guesses_is_not_listened_to_for_a_while_and_others_are() {
        let gate = with_key(false);
        let signed_in = gate.sign_in("open sesame", HERE).unwrap();
        for attempt in 0..ATTEMPTS_MAX {
            let refused = match attempt % 2 {
                0 => gate.sign_in("guess", HERE).map(drop),
                _ => gate.check(&headers(&[("authorization", "Bearer guess")]), HERE).map(drop),
            };
            assert_eq!(refused, Err(Refusal::WrongKey));
        }
        assert_eq!(gate.sign_in("open sesame", HERE), Err(Refusal::TooMany), "even the right key could be a guess");
        assert!(gate.check(&sent(&signed_in), HERE).is_ok(), "who is in stays in");
        assert!(gate.sign_in("open sesame", "192.0.2.7".parse().unwrap()).is_ok(), "somebody else");
        tokio::time::advance(ATTEMPTS_WITHIN).await;
        assert!(gate.sign_in("open sesame", HERE).is_ok());
    }

    #[tokio::test]
    async fn a_forms_token_is_of_one_visitor_and_one_process() {
        let gate = with_key(false);
        let token = gate.token(Visitor::Person([1; 32]));
        assert!(gate.is_token(Visitor::Person([1; 32]), &token));
        for other in [Visitor::Person([2; 32]), Visitor::Local, Visitor::Program] {
            assert!(!gate.is_token(other, &token));
        }
        assert!(!with_key(false).is_token(Visitor::Person([1; 32]), &token));
        assert!(!gate.is_token(Visitor::Local, ""));
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_and_addresses_are_bounded() {
        let gate = with_key(false);
        let first = gate.sign_in("open sesame", HERE).unwrap();
        for number in 0..SESSIONS_MAX {
            tokio::time::advance(Duration::from_millis(1)).await;
            gate.sign_in("open sesame", HERE).unwrap();
            assert!(lock(&gate.sessions).len() <= SESSIONS_MAX, "{number}");
        }
        assert_eq!(gate.check(&sent(&first), HERE), Err(Refusal::NoKey), "the oldest had to go");
        for number in 0..=ADDRESSES_MAX as u32 {
            let _ = gate.sign_in("guess", IpAddr::V4(number.into()));
        }
        assert!(lock(&gate.attempts).len() <= ADDRESSES_MAX);
    }

    #[test]
    fn pages_of_other_sites_give_no_orders() {
        let check =
            |pairs: &[(&'static str, &str)], foreign: bool| assert_eq!(is_foreign(&headers(pairs)), foreign, "{pairs:?}");
        check(&[("host", "127.0.0.1:7420")], false);
        check(&[("host", "127.0.0.1:7420"), ("origin", "http://127.0.0.1:7420")], false);
        check(&[("host", "127.0.0.1:7420"), ("origin", "https://evil.example")], true);
        check(&[("host", "127.0.0.1:7420"), ("origin", "null")], true);
        check(&[("host", "127.0.0.1:7420"), ("sec-fetch-site", "cross-site")], true);
        check(&[("host", "127.0.0.1:7420"), ("sec-fetch-site", "same-origin")], false);
    }
}
