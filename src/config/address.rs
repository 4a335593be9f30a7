//! Addresses: of a database and of the hub. Neither holds a secret.

use std::fmt;
use std::net::IpAddr;

/// A MariaDB server, who logs in, and the schema to use.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DatabaseAddress {
    pub user: String,
    pub host: String,
    pub port: u16,
    pub schema: String,
}

/// `http://` or `https://`, a host, and perhaps a port and a path; without a slash at its end.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct TopicUrl {
    pub text: String,
    pub host: String,
    pub encrypted: bool,
}

/// Why a text is no such address: the rule, then the fix.
pub type Wrong = (String, String);

impl DatabaseAddress {
    /// Reads `mysql://user@host:port/schema`.
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |rule: &str| (rule.to_owned(), "write it as \"mysql://user@host:3306/schema\"".to_owned());
        let rest = text.strip_prefix("mysql://").or_else(|| text.strip_prefix("mariadb://"));
        let rest = rest.ok_or_else(|| wrong("must start with mysql://"))?;
        if rest.contains(['?', '#']) {
            return Err(wrong("takes no options after the schema"));
        }
        let (place, schema) = rest.split_once('/').ok_or_else(|| wrong("names no schema"))?;
        // The last @ parts user and host: a user may hold one, a host never.
        let (user, host) = place.rsplit_once('@').ok_or_else(|| wrong("names no user"))?;
        if user.contains(':') {
            let fix = "remove it, and name its place with `password_env` or `password_file`";
            return Err(("must not hold the password".into(), fix.into()));
        }
        let (host, port) = split_port(host).ok_or_else(|| wrong("has no usable host and port"))?;
        let user = unescape(user).filter(|user| !user.is_empty()).ok_or_else(|| wrong("names no user"))?;
        let schema = unescape(schema).filter(|schema| !schema.is_empty() && !schema.contains('/'));
        let schema = schema.ok_or_else(|| wrong("names no schema"))?;
        Ok(Self { user, host: host.to_owned(), port: port.unwrap_or(3306), schema })
    }
}

impl fmt::Display for DatabaseAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { user, host, port, schema } = self;
        let host = if host.contains(':') { format!("[{host}]") } else { host.clone() };
        write!(f, "mysql://{}@{host}:{port}/{}", escape(user), escape(schema))
    }
}

impl TopicUrl {
    pub fn parse(text: &str) -> Result<Self, Wrong> {
        let wrong = |rule: &str| (rule.to_owned(), "write it as \"https://host:7421\"".to_owned());
        let (encrypted, rest) = match (text.strip_prefix("https://"), text.strip_prefix("http://")) {
            (Some(rest), _) => (true, rest),
            (_, Some(rest)) => (false, rest),
            _ => return Err(wrong("must start with https:// or http://")),
        };
        if rest.contains(['?', '#', ' ']) {
            return Err(wrong("takes no options"));
        }
        let place = rest.split('/').next().unwrap_or_default();
        if place.contains('@') {
            return Err((
                "must not hold a user or key".into(),
                "remove it; each node has its `hub_key_env` or `hub_key_file`".into(),
            ));
        }
        let (host, _) = split_port(place).ok_or_else(|| wrong("has no usable host and port"))?;
        Ok(Self { text: text.trim_end_matches('/').to_owned(), host: host.to_owned(), encrypted })
    }

    /// True where nothing leaves this machine.
    pub fn is_loopback(&self) -> bool {
        self.host.eq_ignore_ascii_case("localhost") || self.host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
    }
}

impl fmt::Display for TopicUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// `host`, `host:port`, `[::1]` or `[::1]:port`.
pub(super) fn split_port(text: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match text.strip_prefix('[') {
        Some(rest) => {
            let (host, after) = rest.split_once(']')?;
            host.parse::<std::net::Ipv6Addr>().ok()?;
            match after.strip_prefix(':') {
                Some(port) => (host, Some(port)),
                None if after.is_empty() => (host, None),
                None => return None,
            }
        }
        None => text.split_once(':').map_or((text, None), |(host, port)| (host, Some(port))),
    };
    let port = match port {
        Some(port) => Some(port.parse().ok().filter(|&port| port != 0)?),
        None => None,
    };
    (!host.is_empty() && !host.contains(char::is_whitespace)).then_some((host, port))
}

/// Percent-escapes of a part of a URL; `None` where they are broken.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte == b'%' {
            let digit = |byte: Option<u8>| char::from(byte?).to_digit(16);
            bytes.push((digit(rest.next())? * 16 + digit(rest.next())?) as u8);
        } else {
            bytes.push(byte);
        }
    }
    String::from_utf8(bytes).ok()
}

fn escape(text: &str) -> String {
    let mut escaped = String::new();
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-_.~".contains(&byte) {
            escaped.push(char::from(byte));
        } else {
            escaped.push_str(&format!("%{byte:02X}"));
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_address_reads_back_as_written() {
        for text in ["mysql://tandem@127.0.0.1:3306/campus", "mysql://a%40b@[::1]:3307/x%20y", "mysql://t@db.lan:1/s"] {
            assert_eq!(DatabaseAddress::parse(text).unwrap().to_string(), text);
        }
        assert_eq!(DatabaseAddress::parse("mysql://t@db/s").unwrap().port, 3306);
    }

    #[test]
    fn a_database_address_that_is_not_one_says_why() {
        let check = |text: &str, expected: &str| assert_eq!(DatabaseAddress::parse(text).unwrap_err().0, expected, "{text}");
        check("127.0.0.1:3306", "must start with mysql://");
        check("mysql://127.0.0.1/s", "names no user");
        check("mysql://@127.0.0.1/s", "names no user");
        check("mysql://t@127.0.0.1", "names no schema");
        check("mysql://t@127.0.0.1/", "names no schema");
        check("mysql://t@127.0.0.1/a/b", "names no schema");
        check("mysql://t@127.0.0.1:0/s", "has no usable host and port");
        check("mysql://t@127.0.0.1:99999/s", "has no usable host and port");
        check("mysql://t@::1/s", "has no usable host and port");
        check("mysql://t@[::1/s", "has no usable host and port");
        check("mysql://t@h/s?ssl=true", "takes no options after the schema");
        check("mysql://t:secret@h/s", "must not hold the password");
        check("mysql://%zz@h/s", "names no user");
    }

    #[test]
    fn only_loopback_is_loopback() {
        let check = |text: &str, expected: bool| assert_eq!(TopicUrl::parse(text).unwrap().is_loopback(), expected, "{text}");
        check("http://127.0.0.1:7421", true);
        check("http://127.9.9.9", true);
        check("http://LocalHost:7421/", true);
        check("http://[::1]:7421", true);
        check("http://127.0.0.1.example.org", false);
        check("http://192.168.1.101:7421", false);
        check("https://hub.lan", false);
    }
}
