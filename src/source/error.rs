//! What can go wrong while reading a database, by what somebody does about it.

use super::binlog::DecodeError;
use crate::change::{Gtid, GtidPosition, TableName};
use crate::runtime::{Disposition, Fault};

#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    #[error("cannot reach the database at {place}: {reason}")]
    Unreachable { place: String, reason: String },
    #[error("the connection to the database at {place} was lost: {reason}")]
    Lost { place: String, reason: String },
    #[error("the database at {place} could not do it now: {reason}")]
    Busy { place: String, reason: String },
    #[error("no secure connection to the database at {place}: {reason}")]
    Tls { place: String, reason: String },
    #[error("the database at {place} refused to log in {account}: {reason}")]
    LoginDenied { place: String, account: String, reason: String },
    #[error("{account} at {place} may not {what}")]
    GrantMissing { place: String, account: String, what: String, grants: String },
    #[error("another reader is registered at {place} with the replica id {replica_id}")]
    ReplicaIdTaken { place: String, replica_id: u32 },
    #[error("the database at {place} has the server_id {replica_id}, which is this node's replica_id")]
    ReplicaIdOfServer { place: String, replica_id: u32 },
    /// A setting of the server with which changes would be missing.
    #[error("{what}")]
    Unsuited { what: String, remedy: String },
    #[error("the server no longer has its binlog after {}: what is still there begins at {}", shown(.wanted), shown(.oldest))]
    Purged { wanted: GtidPosition, oldest: GtidPosition },
    #[error("the position {} is not in the server's binlog: {reason}", shown(.wanted))]
    NotInHistory { wanted: GtidPosition, reason: String },
    #[error("{gtid} changed rows by a logged {verb} statement instead of row events")]
    StatementLogged { gtid: Gtid, verb: &'static str },
    #[error("the server reports that its binlog has a gap after {after}: {message}")]
    Incident { after: String, message: String },
    #[error("the binlog holds {event} at {at}, which this version cannot read")]
    UnknownEvent { at: String, event: String },
    #[error("the rows of {at} cannot be read")]
    Undecodable {
        at: String,
        #[source]
        source: DecodeError,
    },
    #[error("the columns that {table} had at {gtid} are not known: {reason}")]
    ShapeUncertain { table: TableName, gtid: Gtid, reason: String },
    #[error("{gtid} commits the XA transaction {xid}, which was prepared before the position where reading began")]
    PreparedBefore { gtid: Gtid, xid: String },
    /// Large transactions wait in a file until their commit is read.
    #[error("cannot keep a large transaction in {directory}: {reason}")]
    CannotHold { directory: String, reason: String },
    #[error("the binlog cannot be read at {at}: {reason}")]
    Corrupt { at: String, reason: String },
}

fn shown(position: &GtidPosition) -> String {
    if position.is_start() { "its beginning".into() } else { position.to_string() }
}

impl Fault for SourceError {
    fn disposition(&self) -> Disposition {
        match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Busy { .. } | Self::CannotHold { .. } => Disposition::Retry,
            // A server that lost us unseen, as in a network that was cut, has us registered until it notices.
            Self::ReplicaIdTaken { .. } => Disposition::Retry,
            // The same password and certificate will not do better, and a server blocks hosts that fail too often.
            Self::Tls { .. }
            | Self::LoginDenied { .. }
            | Self::GrantMissing { .. }
            | Self::ReplicaIdOfServer { .. }
            | Self::Unsuited { .. }
            | Self::Purged { .. }
            | Self::NotInHistory { .. }
            | Self::StatementLogged { .. }
            | Self::Incident { .. }
            | Self::UnknownEvent { .. }
            | Self::ShapeUncertain { .. }
            | Self::PreparedBefore { .. }
            | Self::Undecodable { .. }
            | Self::Corrupt { .. } => Disposition::Halt,
        }
    }

    fn hint(&self) -> Option<String> {
        Some(match self {
            Self::Unreachable { .. } | Self::Lost { .. } | Self::Busy { .. } => {
                "nothing is lost; it goes on by itself when the database is back".into()
            }
            Self::Tls { .. } => {
                "check the server's certificate, its name and the CA file; see docs/operations.md, \"TLS\"".into()
            }
            Self::LoginDenied { .. } => {
                "check user and password; an account for 'localhost' is not the same as one for '127.0.0.1' or '%'".into()
            }
            Self::GrantMissing { grants, .. } => format!("as an administrator: {grants}"),
            Self::ReplicaIdTaken { .. } => {
                "nothing is lost; it goes on by itself when the server has let go of a connection that \
                 was cut. If another program reads with this id, stop it, or give this node another replica_id"
                    .into()
            }
            Self::ReplicaIdOfServer { .. } => "give this node another replica_id: no server and no reader may have it".into(),
            Self::Unsuited { remedy, .. } => remedy.clone(),
            Self::Purged { .. } => {
                "what is missing cannot be read any more: stop tandem here, run `tandem reseed`, start it again; and \
                 keep the binlog longer (expire_logs_days) than a node may be away"
                    .into()
            }
            Self::NotInHistory { .. } => "the server was restored from an older copy, its binlog was reset, or it is another \
                 server; if that is meant, stop tandem here, run `tandem reseed`, start it again"
                .into(),
            Self::StatementLogged { .. } => "set binlog_format=ROW for the server and for every session; a table versioned by \
                 transaction number (ROW START of type BIGINT) is logged so even then: version it by time; then take a new \
                 snapshot of this table"
                .into(),
            Self::Incident { .. } => "changes were lost on the server itself: take a new snapshot of this node".into(),
            Self::UnknownEvent { .. } => "use a version of tandem that knows it, or exclude the table".into(),
            Self::ShapeUncertain { .. } => {
                "set binlog_row_metadata=FULL, so that the binlog names the columns itself, and take a \
                 new snapshot of this table, or exclude it"
                    .into()
            }
            Self::PreparedBefore { .. } => {
                "start from a position before it was prepared, or end open XA transactions first".into()
            }
            Self::Undecodable { source, .. } => return source.hint(),
            Self::CannotHold { directory, .. } => format!("make room in {directory}, or name another directory"),
            Self::Corrupt { .. } => {
                "check the server's disk and the network; compare with mariadb-binlog --verify-binlog-checksum".into()
            }
        })
    }
}
