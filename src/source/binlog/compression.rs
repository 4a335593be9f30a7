//! MariaDB's two zlib containers: of events (`log_bin_compress`) and of `COMPRESSED` columns.

use std::io::Read;

use flate2::read::{DeflateDecoder, ZlibDecoder};

use super::bytes::{Bytes, Checked};
use super::error::{DecodeError, Malformed};

/// An event of ours can be no larger than what a server accepts at most: `max_allowed_packet` ends at 1 GiB.
const EVENT_BYTES_MAX: u64 = 1 << 30;

/// The payload of a compressed event: the rows of a rows event, the statement of a query event.
///
/// One byte of 0x80, algorithm (3 bits, only zlib exists) and number of length bytes; the length, big end first; zlib.
pub fn decompress(payload: &[u8]) -> Result<Vec<u8>, DecodeError> {
    let malformed = |fault: Malformed| fault.at("a compressed event");
    let mut bytes = Bytes::new(payload);
    let head = bytes.u8().map_err(malformed)?;
    let width = usize::from(head & 0x07);
    if head & 0xf0 != 0x80 || !(1..=4).contains(&width) {
        return Err(malformed(Malformed("its compression is not one we know")));
    }
    let size = bytes.big(width).map_err(malformed)?;
    if size > EVENT_BYTES_MAX {
        return Err(DecodeError::TooLarge { what: "a compressed event", size, limit: EVENT_BYTES_MAX });
    }
    inflate(ZlibDecoder::new(bytes.rest()), size).map_err(malformed)
}

/// The value of a `COMPRESSED` column: empty is empty; else one byte of method, where 0 means stored as it is, and
/// 8 in the high half zlib, bit 3 without its wrapper, low bits the number of length bytes, big end first.
pub(super) fn decompress_column(stored: &[u8]) -> Checked<Vec<u8>> {
    let mut bytes = Bytes::new(stored);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let head = bytes.u8()?;
    if head == 0 {
        return Ok(bytes.rest().to_vec());
    }
    let width = usize::from(head & 0x07);
    if head & 0xf0 != 0x80 || !(1..=4).contains(&width) {
        return Err(Malformed("its compression is not one we know"));
    }
    let size = bytes.big(width)?;
    match head & 0x08 {
        0 => inflate(ZlibDecoder::new(bytes.rest()), size),
        _ => inflate(DeflateDecoder::new(bytes.rest()), size),
    }
}

/// Reads exactly `size` bytes. Memory grows with what really comes out, not with what the header promises.
fn inflate(reader: impl Read, size: u64) -> Checked<Vec<u8>> {
    /// Room taken on the header's word alone.
    const ROOM_MAX: u64 = 1 << 20;
    let mut out = Vec::with_capacity(size.min(ROOM_MAX) as usize);
    reader.take(size + 1).read_to_end(&mut out).map_err(|_| Malformed("its compressed bytes are damaged"))?;
    if out.len() as u64 != size {
        return Err(Malformed("its compressed bytes have another length than they say"));
    }
    Ok(out)
}
