//! MariaDB's global transaction ids, and positions in a history of several domains.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

/// One transaction: `domain-server-sequence`. Within a domain the sequence only grows.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Default)]
pub struct Gtid {
    pub domain: u32,
    pub server: u32,
    pub sequence: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a GTID: expected domain-server-sequence, for example 0-1-270")]
pub struct GtidParseError(pub String);

impl fmt::Display for Gtid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}-{}", self.domain, self.server, self.sequence)
    }
}

impl FromStr for Gtid {
    type Err = GtidParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let parse = || {
            let mut parts = text.trim().split('-');
            let gtid = Self {
                domain: parts.next()?.parse().ok()?,
                server: parts.next()?.parse().ok()?,
                sequence: parts.next()?.parse().ok()?,
            };
            parts.next().is_none().then_some(gtid)
        };
        parse().ok_or_else(|| GtidParseError(text.to_owned()))
    }
}

/// How far in a source's history: the last transaction of each domain. Compared domain by domain, never as text.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct GtidPosition(BTreeMap<u32, Gtid>);

impl GtidPosition {
    /// The beginning of history.
    pub fn start() -> Self {
        Self::default()
    }

    pub fn is_start(&self) -> bool {
        self.0.is_empty()
    }

    pub fn in_domain(&self, domain: u32) -> Option<Gtid> {
        self.0.get(&domain).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = Gtid> + '_ {
        self.0.values().copied()
    }

    /// Keeps the domains whose GTID is told to stay.
    pub fn retain(&mut self, stays: impl Fn(Gtid) -> bool) {
        self.0.retain(|_, gtid| stays(*gtid));
    }

    /// True where the transaction is at or before this position.
    pub fn covers(&self, gtid: Gtid) -> bool {
        self.0.get(&gtid.domain).is_some_and(|own| own.sequence >= gtid.sequence)
    }

    /// True where everything up to `other` is at or before this position.
    pub fn covers_all(&self, other: &Self) -> bool {
        other.iter().all(|gtid| self.covers(gtid))
    }

    /// The position after `before` in the domain of `gtid`, whose first transaction follows there; other domains as here.
    pub fn rewound(&self, gtid: Gtid, before: Option<Gtid>) -> Self {
        let mut own = self.clone();
        match before {
            Some(before) => own.0.insert(gtid.domain, before),
            None => own.0.remove(&gtid.domain),
        };
        own
    }

    /// Moves the transaction's domain forward to it. Never moves back.
    pub fn advance(&mut self, gtid: Gtid) {
        let own = self.0.entry(gtid.domain).or_insert(gtid);
        if gtid.sequence >= own.sequence {
            *own = gtid;
        }
    }
}

impl FromIterator<Gtid> for GtidPosition {
    fn from_iter<I: IntoIterator<Item = Gtid>>(gtids: I) -> Self {
        let mut position = Self::default();
        gtids.into_iter().for_each(|gtid| position.advance(gtid));
        position
    }
}

impl fmt::Display for GtidPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, gtid) in self.iter().enumerate() {
            write!(f, "{}{gtid}", if number > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}

impl FromStr for GtidPosition {
    type Err = GtidParseError;

    /// `0-1-270,1-2-9`, in any order; the empty text is the beginning of history.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.split(',').map(str::trim).filter(|part| !part.is_empty()).map(str::parse).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn position(text: &str) -> GtidPosition {
        text.parse().unwrap()
    }

    #[test]
    fn text_goes_both_ways() {
        for text in ["", "0-1-270", "0-1-270,1-2-9,4294967295-4294967295-18446744073709551615"] {
            assert_eq!(position(text).to_string(), text);
        }
        assert_eq!(position(" 1-2-9, 0-1-270 ").to_string(), "0-1-270,1-2-9");
    }

    #[test]
    fn what_is_not_a_gtid_is_refused() {
        for text in ["0-1", "0-1-2-3", "a-1-2", "0-1--2", "0-1-18446744073709551616", "-1-1-1"] {
            assert!(text.parse::<GtidPosition>().is_err(), "{text}");
        }
    }

    #[test]
    fn positions_compare_by_domain() {
        assert!(position("0-1-5,1-1-1").covers_all(&position("0-2-5")));
        assert!(!position("0-1-5").covers_all(&position("0-1-5,1-1-1")));
        assert!(!position("0-1-4").covers_all(&position("0-1-5")));
        assert!(position("0-1-4").covers_all(&GtidPosition::start()));
    }

    #[test]
    fn rewinding_changes_one_domain_only() {
        let check = |before: Option<&str>, expected: &str| {
            let rewound = position("0-1-5,1-1-7").rewound("0-1-5".parse().unwrap(), before.map(|gtid| gtid.parse().unwrap()));
            assert_eq!(rewound.to_string(), expected);
        };
        check(Some("0-2-3"), "0-2-3,1-1-7");
        check(None, "1-1-7");
    }

    #[test]
    fn advancing_never_moves_back() {
        let mut own = position("0-1-5");
        own.advance("0-2-4".parse().unwrap());
        assert_eq!(own.to_string(), "0-1-5");
        own.advance("0-2-6".parse().unwrap());
        assert_eq!(own.to_string(), "0-2-6");
    }
}
