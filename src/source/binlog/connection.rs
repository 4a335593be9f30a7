//! Connections to the server, and what the server's and the driver's errors mean to somebody who reads a database.

use std::time::Duration;

use mysql_async::{Conn, DriverError, Error, IoError, Opts, OptsBuilder, ServerError};

use crate::source::SourceError;

/// Longer than a TLS login over a slow line takes; shorter than a person waits.
const CONNECT_WITHIN: Duration = Duration::from_secs(15);

/// The server's own limit. Without it the driver refuses events over 4 MB.
const PACKET_BYTES_MAX: usize = 1 << 30;

/// The options as this room needs them, whatever else they say.
pub fn prepare(opts: Opts) -> Opts {
    OptsBuilder::from_opts(opts)
        .max_allowed_packet(Some(PACKET_BYTES_MAX))
        // A socket found on the way would be another account ('localhost') than the one that was configured.
        .prefer_socket(false)
        .tcp_nodelay(true)
        .db_name(None::<String>)
        .into()
}

/// `host:port`, for messages.
pub fn place(opts: &Opts) -> String {
    match opts.socket() {
        Some(socket) => socket.to_owned(),
        None => format!("{}:{}", opts.ip_or_hostname(), opts.tcp_port()),
    }
}

pub async fn open(opts: &Opts, place: &str) -> Result<Conn, SourceError> {
    match tokio::time::timeout(CONNECT_WITHIN, Conn::new(opts.clone())).await {
        Ok(Ok(conn)) => Ok(conn),
        Ok(Err(error)) => Err(connecting(place, opts, error)),
        Err(_) => {
            let reason = format!("no answer within {} s", CONNECT_WITHIN.as_secs());
            Err(SourceError::Unreachable { place: place.to_owned(), reason })
        }
    }
}

fn connecting(place: &str, opts: &Opts, error: Error) -> SourceError {
    match error {
        Error::Io(IoError::Io(error)) if is_tls(&error) => SourceError::Tls { place: place.to_owned(), reason: chain(&error) },
        Error::Io(IoError::Io(error)) => SourceError::Unreachable { place: place.to_owned(), reason: error.to_string() },
        Error::Driver(DriverError::ConnectionClosed) => {
            SourceError::Unreachable { place: place.to_owned(), reason: "it closed the connection".into() }
        }
        Error::Server(error) if code::LOGIN.contains(&error.code) => {
            // The server's text names the account and the host it saw, never the password.
            SourceError::LoginDenied { place: place.to_owned(), account: account(opts), reason: error.message }
        }
        error => fault(place, opts, error),
    }
}

/// What an error on an open connection means.
pub fn fault(place: &str, opts: &Opts, error: Error) -> SourceError {
    let place = place.to_owned();
    match error {
        Error::Io(IoError::Io(error)) => SourceError::Lost { place, reason: error.to_string() },
        Error::Io(error) => SourceError::Tls { place, reason: chain(&error) },
        Error::Driver(DriverError::NoClientSslFlagFromServer) => {
            SourceError::Tls { place, reason: "the server does not offer TLS".into() }
        }
        Error::Driver(DriverError::ConnectionClosed) => SourceError::Lost { place, reason: "the server closed it".into() },
        Error::Server(error) => server_fault(place, opts, &error),
        error => SourceError::Lost { place, reason: error.to_string() },
    }
}

/// The server's numbers of errors.
mod code {
    pub const TOO_MANY_CONNECTIONS: u16 = 1040;
    pub const ACCESS_DENIED: u16 = 1045;
    pub const SHUTDOWN: u16 = 1053;
    pub const TABLE_ACCESS_DENIED: u16 = 1142;
    pub const LOCK_WAIT_TIMEOUT: u16 = 1205;
    pub const DEADLOCK: u16 = 1213;
    pub const SPECIFIC_ACCESS_DENIED: u16 = 1227;
    pub const CONNECTION_KILLED: u16 = 1927;

    /// A login that would not do better the next time: no access, host blocked or not allowed, no password method, a
    /// password that must be changed or has expired, an account that is locked.
    pub const LOGIN: [u16; 7] = [ACCESS_DENIED, 1129, 1130, 1698, 1820, 1862, 4151];
}

fn server_fault(place: String, opts: &Opts, error: &ServerError) -> SourceError {
    let account = account(opts);
    let reason = error.message.clone();
    match error.code {
        // On an open connection this is the answer to asking for the binlog.
        code::ACCESS_DENIED | code::SPECIFIC_ACCESS_DENIED | code::TABLE_ACCESS_DENIED => {
            let grants = format!("GRANT REPLICATION SLAVE, BINLOG MONITOR ON *.* TO {account}");
            SourceError::GrantMissing { place, account, what: "read the binlog".into(), grants }
        }
        code::LOCK_WAIT_TIMEOUT | code::DEADLOCK => SourceError::Busy { place, reason },
        code::TOO_MANY_CONNECTIONS | code::SHUTDOWN => SourceError::Unreachable { place, reason },
        code::CONNECTION_KILLED => SourceError::Lost {
            place,
            reason: "the server ended it; if this happens again and again, another reader uses the same replica id".into(),
        },
        _ => SourceError::Lost { place, reason: error.to_string() },
    }
}

/// The account as a GRANT names it. The server may know it by another host.
pub fn account(opts: &Opts) -> String {
    format!("'{}'@'%'", opts.user().unwrap_or_default())
}

/// rustls reports a refused certificate as an I/O error of this kind.
fn is_tls(error: &std::io::Error) -> bool {
    error.kind() == std::io::ErrorKind::InvalidData && error.get_ref().is_some()
}

fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text = format!("{text}: {more}");
        }
        cause = error.source();
    }
    text
}
