//! What one binlog event says, row events aside: header, GTID, statements, and which kinds there are.

use std::borrow::Cow;

use super::bytes::{Bytes, Checked};
use super::compression::decompress;
use super::error::{DecodeError, Malformed};
use super::rows::RowsKind;
use super::statement::Statement;
use crate::change::SessionSettings;

/// The first 19 bytes of every event.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct EventHeader {
    pub second: u32,
    pub kind: u8,
    pub server_id: u32,
    pub size: u32,
    /// Where the event ends in its file; 0 for what the server made up for us, and inside transactions since 11.4.
    pub position: u32,
    pub flags: u16,
}

impl EventHeader {
    pub const LENGTH: usize = 19;
    /// The file was not closed yet when this was written. Left out of the checksum.
    pub const FLAG_IN_USE: u16 = 0x1;
    /// Made up by the server for this reader; it is in no file.
    pub const FLAG_ARTIFICIAL: u16 = 0x20;
    /// A reader that does not know the event may leave it out.
    pub const FLAG_IGNORABLE: u16 = 0x80;

    pub fn to_bytes(self) -> [u8; Self::LENGTH] {
        let mut bytes = [0; Self::LENGTH];
        bytes[..4].copy_from_slice(&self.second.to_le_bytes());
        bytes[4] = self.kind;
        bytes[5..9].copy_from_slice(&self.server_id.to_le_bytes());
        bytes[9..13].copy_from_slice(&self.size.to_le_bytes());
        bytes[13..17].copy_from_slice(&self.position.to_le_bytes());
        bytes[17..].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }
}

/// The server's numbers of events.
pub mod kind {
    pub const QUERY: u8 = 2;
    pub const STOP: u8 = 3;
    pub const ROTATE: u8 = 4;
    pub const INTVAR: u8 = 5;
    pub const LOAD: u8 = 6;
    pub const NEW_LOAD: u8 = 12;
    pub const RAND: u8 = 13;
    pub const USER_VAR: u8 = 14;
    pub const FORMAT_DESCRIPTION: u8 = 15;
    pub const XID: u8 = 16;
    pub const BEGIN_LOAD_QUERY: u8 = 17;
    pub const EXECUTE_LOAD_QUERY: u8 = 18;
    pub const TABLE_MAP: u8 = 19;
    pub const INCIDENT: u8 = 26;
    pub const HEARTBEAT: u8 = 27;
    pub const IGNORABLE: u8 = 28;
    pub const XA_PREPARE: u8 = 38;
    pub const ANNOTATE_ROWS: u8 = 160;
    pub const BINLOG_CHECKPOINT: u8 = 161;
    pub const GTID: u8 = 162;
    pub const GTID_LIST: u8 = 163;
    pub const START_ENCRYPTION: u8 = 164;
    pub const QUERY_COMPRESSED: u8 = 165;
    pub const PARTIAL_ROW_DATA: u8 = 172;
}

/// An event that matters for reading changes.
#[derive(Debug)]
pub enum Event<'a> {
    Gtid(GtidEvent<'a>),
    TableMap,
    Rows(RowsKind),
    Query(Query<'a>),
    /// The group is committed.
    Xid,
    XaPrepare,
    Rotate {
        file: Cow<'a, str>,
    },
    /// A file begins.
    Format {
        /// A statement's settings say whether `explicit_defaults_for_timestamp` was on.
        tells_timestamps: bool,
    },
    Heartbeat,
    Incident {
        message: Cow<'a, str>,
    },
    /// LOAD DATA as a statement.
    LoadStatement,
    /// Nothing to do with changes.
    Other,
    /// Not known to us, and not marked as one that may be left out.
    Unknown,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct GtidEvent<'a> {
    pub sequence: u64,
    pub domain: u32,
    flags: u8,
    flags_extra: u8,
    /// The name of the XA transaction that this group prepares or completes, as bytes to compare.
    pub xid: Option<&'a [u8]>,
}

impl GtidEvent<'_> {
    const STANDALONE: u8 = 1;
    const GROUP_COMMIT_ID: u8 = 2;
    const PREPARED_XA: u8 = 64;
    const COMPLETED_XA: u8 = 128;
    const MULTI_ENGINE: u8 = 1;
    const START_ALTER: u8 = 2;
    const COMMIT_ALTER: u8 = 4;
    const ROLLBACK_ALTER: u8 = 8;

    /// The group is one statement and has no commit event.
    pub fn is_standalone(&self) -> bool {
        self.flags & Self::STANDALONE != 0
    }

    pub fn prepares_xa(&self) -> bool {
        self.flags & Self::PREPARED_XA != 0
    }

    pub fn completes_xa(&self) -> bool {
        self.flags & Self::COMPLETED_XA != 0
    }

    /// The first half of an ALTER logged in two, or one that was taken back: the table is not altered by it.
    pub fn is_alter_without_effect(&self) -> bool {
        self.flags_extra & (Self::START_ALTER | Self::ROLLBACK_ALTER) != 0
    }
}

#[derive(Debug)]
pub struct Query<'a> {
    /// How long the statement ran: it ended this much after the header's second.
    pub seconds: u32,
    pub database: Cow<'a, str>,
    pub text: Cow<'a, [u8]>,
    pub settings: Settings,
}

/// What of its session counts for a statement.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Settings {
    pub session: SessionSettings,
    /// The collation by which the server named the character set of the text.
    pub client_collation: Option<u16>,
}

impl Query<'_> {
    pub fn statement(&self) -> Statement {
        Statement::of(&self.text)
    }
}

impl<'a> Event<'a> {
    /// `body` is the event without its header and its checksum.
    pub fn parse(header: &EventHeader, body: &'a [u8]) -> Result<Self, DecodeError> {
        if let Some(kind) = RowsKind::of(header.kind) {
            return Ok(Self::Rows(kind));
        }
        Ok(match header.kind {
            kind::TABLE_MAP => Self::TableMap,
            kind::GTID => Self::Gtid(parse_gtid(body).map_err(|fault| fault.at("a GTID event"))?),
            kind::XID => Self::Xid,
            kind::QUERY => Self::Query(parse_query(body, false)?),
            kind::QUERY_COMPRESSED => Self::Query(parse_query(body, true)?),
            kind::XA_PREPARE => Self::XaPrepare,
            kind::ROTATE => Self::Rotate { file: parse_rotate(header, body).map_err(|fault| fault.at("a rotate event"))? },
            kind::FORMAT_DESCRIPTION => Self::Format { tells_timestamps: tells_timestamps(body) },
            kind::HEARTBEAT => Self::Heartbeat,
            kind::INCIDENT => Self::Incident { message: parse_incident(body).map_err(|fault| fault.at("an incident event"))? },
            kind::LOAD | kind::NEW_LOAD | kind::BEGIN_LOAD_QUERY | kind::EXECUTE_LOAD_QUERY => Self::LoadStatement,
            // INTVAR, RAND and USER_VAR only prepare a logged statement, which is refused when it comes.
            kind::STOP
            | kind::INTVAR
            | kind::RAND
            | kind::USER_VAR
            | kind::IGNORABLE
            | kind::ANNOTATE_ROWS
            | kind::BINLOG_CHECKPOINT
            | kind::GTID_LIST
            // The file is encrypted on disk; the server sends it in clear.
            | kind::START_ENCRYPTION => Self::Other,
            _ if header.flags & EventHeader::FLAG_IGNORABLE != 0 => Self::Other,
            _ => Self::Unknown,
        })
    }
}

/// How an unknown event is called in a message.
pub fn kind_name(event_kind: u8) -> String {
    match event_kind {
        kind::PARTIAL_ROW_DATA => {
            format!("rows in fragments (event type {event_kind}, MariaDB 12.3 and later, for rows over 1 GB)")
        }
        20..=22 => format!("rows of a pre-release format (event type {event_kind})"),
        29 | 33..=37 | 39..=42 => format!("an event of MySQL (type {event_kind})"),
        _ => format!("an event of type {event_kind}"),
    }
}

fn parse_gtid(body: &[u8]) -> Checked<GtidEvent<'_>> {
    let mut bytes = Bytes::new(body);
    let sequence = bytes.little(8)?;
    let domain = bytes.little(4)? as u32;
    let flags = bytes.u8()?;
    if flags & GtidEvent::GROUP_COMMIT_ID != 0 {
        bytes.take(8)?;
    }
    let mut xid = None;
    if flags & (GtidEvent::PREPARED_XA | GtidEvent::COMPLETED_XA) != 0 {
        let start = bytes.rest();
        bytes.take(4)?; // the format's id
        let (global, branch) = (bytes.u8()?, bytes.u8()?);
        bytes.take(usize::from(global) + usize::from(branch))?;
        xid = Some(&start[..start.len() - bytes.len()]);
    }
    // Later fields are there only where a version writes them; short events are padded with zeros.
    let flags_extra = if bytes.is_empty() { 0 } else { bytes.u8()? };
    if flags_extra & GtidEvent::MULTI_ENGINE != 0 {
        bytes.u8()?;
    }
    if flags_extra & (GtidEvent::COMMIT_ALTER | GtidEvent::ROLLBACK_ALTER) != 0 {
        bytes.take(8)?; // the sequence of its first half
    }
    Ok(GtidEvent { sequence, domain, flags, flags_extra, xid })
}

fn parse_query(body: &[u8], compressed: bool) -> Result<Query<'_>, DecodeError> {
    let parse = || {
        let mut bytes = Bytes::new(body);
        bytes.take(4)?; // the session
        let seconds = bytes.little(4)? as u32;
        let database_length = bytes.u8()?;
        bytes.take(2)?; // the error that it ended with
        let status_length = bytes.u16()?;
        let settings = settings(bytes.take(status_length.into())?);
        let database = bytes.take(database_length.into())?;
        bytes.u8()?; // its terminating zero
        Ok((seconds, settings, database, bytes.rest()))
    };
    let (seconds, settings, database, text) = parse().map_err(|fault: Malformed| fault.at("a query event"))?;
    let text = if compressed { Cow::Owned(decompress(text)?) } else { Cow::Borrowed(text) };
    Ok(Query { seconds, database: String::from_utf8_lossy(database), text, settings })
}

/// The session's settings that come first, up to one that we do not know: those that we need stand before it.
fn settings(status: &[u8]) -> Settings {
    const EXPLICIT_TIMESTAMPS: u64 = 1 << 24;
    const NO_FOREIGN_KEY_CHECKS: u64 = 1 << 26;
    let mut own = Settings::default();
    let mut bytes = Bytes::new(status);
    let mut next = || -> Checked<Option<()>> {
        match bytes.u8()? {
            0 => {
                let flags = bytes.little(4)?;
                own.session.foreign_keys_off = flags & NO_FOREIGN_KEY_CHECKS != 0;
                own.session.explicit_timestamps = Some(flags & EXPLICIT_TIMESTAMPS != 0);
            }
            1 => own.session.sql_mode = bytes.little(8)?,
            3 => own.session.auto_increment = Some((bytes.u16()?, bytes.u16()?)),
            4 => {
                own.client_collation = Some(bytes.u16()?);
                own.session.collations = Some((bytes.u16()?, bytes.u16()?));
            }
            // The time zone and the catalog, each after its length.
            5 => {
                let length = bytes.u8()?;
                let name = bytes.take(length.into())?;
                own.session.time_zone = Some(String::from_utf8_lossy(name).into_owned());
            }
            6 => {
                let length = bytes.u8()?;
                bytes.take(length.into())?;
            }
            7 | 8 => drop(bytes.take(2)?),
            _ => return Ok(None),
        }
        Ok(Some(()))
    };
    while let Ok(Some(())) = next() {}
    own
}

/// Servers before 10.10 leave that setting out, and its bit is never set.
fn tells_timestamps(format: &[u8]) -> bool {
    // The format's version, then the server's.
    let version = String::from_utf8_lossy(format.get(2..52).unwrap_or_default()).into_owned();
    let mut numbers = version.split(|letter: char| !letter.is_ascii_digit()).map(str::parse::<u32>);
    matches!((numbers.next(), numbers.next()), (Some(Ok(major)), Some(Ok(minor))) if (major, minor) >= (10, 10))
}

fn parse_rotate<'a>(header: &EventHeader, body: &'a [u8]) -> Checked<Cow<'a, str>> {
    let mut bytes = Bytes::new(body);
    bytes.take(8)?; // where in the file to go on
    let mut name = bytes.rest();
    // The first one comes before the format description that says whether events end in a checksum; if this does, those
    // four bytes are still at its end.
    if let Some((shorter, checksum)) = name.split_last_chunk::<4>() {
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header.to_bytes());
        hasher.update(&body[..body.len() - 4]);
        if hasher.finalize() == u32::from_le_bytes(*checksum) {
            name = shorter;
        }
    }
    Ok(String::from_utf8_lossy(name))
}

fn parse_incident(body: &[u8]) -> Checked<Cow<'_, str>> {
    let mut bytes = Bytes::new(body);
    bytes.take(2)?; // its number; there is only one
    let length = bytes.u8()?;
    Ok(String::from_utf8_lossy(bytes.take(length.into())?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<_> = hex.chars().filter(|c| !c.is_whitespace()).collect();
        digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
    }

    #[test]
    fn gtid_events_of_every_form_are_read() {
        // Bodies as MariaDB 10.11 wrote them.
        let plain = bytes("0500000000000000 00000000 0c 000000000000");
        let gtid = parse_gtid(&plain).unwrap();
        assert_eq!((gtid.sequence, gtid.domain, gtid.is_standalone(), gtid.xid), (5, 0, false, None));

        let prepared = bytes("0a00000000000000 03000000 4c 07000000 02 01 7832 62 01 ff");
        let gtid = parse_gtid(&prepared).unwrap();
        assert!(gtid.prepares_xa() && !gtid.completes_xa() && !gtid.is_standalone());
        assert_eq!((gtid.domain, gtid.xid), (3, Some(&bytes("07000000 02 01 7832 62")[..])));

        let completed = bytes("0b00000000000000 03000000 8d 07000000 02 01 7832 62");
        let gtid = parse_gtid(&completed).unwrap();
        assert!(gtid.completes_xa() && gtid.is_standalone());
        assert_eq!(gtid.xid, Some(&bytes("07000000 02 01 7832 62")[..]));

        let start_alter = bytes("1900000000000000 00000000 29 02 0000000000");
        assert!(parse_gtid(&start_alter).unwrap().is_alter_without_effect());
        let commit_alter = bytes("1a00000000000000 00000000 29 04 1900000000000000");
        assert!(!parse_gtid(&commit_alter).unwrap().is_alter_without_effect());

        let grouped = bytes("0500000000000000 00000000 0e 1122334455667788");
        assert_eq!(parse_gtid(&grouped).unwrap().sequence, 5);
    }

    #[test]
    fn events_that_end_too_early_are_errors() {
        let whole = bytes("0a00000000000000 03000000 4c 07000000 02 01 7832 62");
        for length in 0..whole.len() {
            assert!(parse_gtid(&whole[..length]).is_err(), "{length}");
        }
        let query = bytes("01000000 02000000 01 0000 0200 aabb 64 00 434f4d4d4954");
        assert_eq!(parse_query(&query, false).unwrap().text, &b"COMMIT"[..]);
        for length in 0..17 {
            assert!(parse_query(&query[..length], false).is_err(), "{length}");
        }
        for length in 0..8 {
            assert!(
                parse_rotate(
                    &EventHeader { second: 0, kind: 4, server_id: 1, size: 0, position: 0, flags: 0 },
                    &vec![0; length]
                )
                .is_err()
            );
        }
        assert!(parse_incident(&[1, 0, 5, b'a']).is_err());
    }

    #[test]
    fn what_a_timestamp_column_is_like_is_told_from_a_certain_version_on() {
        let explicit = |flags: &str| settings(&bytes(&format!("00 {flags} 01 0000000000000000"))).session.explicit_timestamps;
        assert_eq!(explicit("00000001"), Some(true));
        assert_eq!(explicit("00000004"), Some(false), "foreign_key_checks is another bit");
        assert_eq!(settings(&[]).session.explicit_timestamps, None);

        let format = |version: &str| {
            let mut body = [&[4, 0][..], version.as_bytes()].concat();
            body.resize(2 + 50 + 4 + 1, 0);
            body
        };
        for version in ["10.10.1-MariaDB", "10.11.14-MariaDB-0+deb12u2-log", "11.4.2-MariaDB", "12.0.1"] {
            assert!(tells_timestamps(&format(version)), "{version}");
        }
        for version in ["10.9.8-MariaDB", "10.6.22-MariaDB-log", "5.5.5", "", "of nobody"] {
            assert!(!tells_timestamps(&format(version)), "{version}");
        }
        assert!(!tells_timestamps(&[4, 0, b'1']), "one that ends too early");
    }

    #[test]
    fn the_first_rotate_loses_its_checksum_and_later_ones_have_none() {
        let header = EventHeader { second: 0, kind: kind::ROTATE, server_id: 7, size: 45, position: 0, flags: 0x20 };
        let mut body = 4u64.to_le_bytes().to_vec();
        body.extend_from_slice(b"bin.000001");
        assert_eq!(parse_rotate(&header, &body).unwrap(), "bin.000001");
        let mut hasher = crc32fast::Hasher::new();
        hasher.update(&header.to_bytes());
        hasher.update(&body);
        body.extend_from_slice(&hasher.finalize().to_le_bytes());
        assert_eq!(parse_rotate(&header, &body).unwrap(), "bin.000001");
    }

    #[test]
    fn an_unknown_event_is_left_out_only_where_it_says_so() {
        let header = |kind, flags| EventHeader { second: 0, kind, server_id: 1, size: 19, position: 0, flags };
        assert!(matches!(Event::parse(&header(200, 0), &[]), Ok(Event::Unknown)));
        assert!(matches!(Event::parse(&header(200, EventHeader::FLAG_IGNORABLE), &[]), Ok(Event::Other)));
        assert!(matches!(Event::parse(&header(kind::PARTIAL_ROW_DATA, 0), &[]), Ok(Event::Unknown)));
        assert!(kind_name(kind::PARTIAL_ROW_DATA).contains("172"));
    }
}
