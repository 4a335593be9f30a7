//! Records of one origin, packed: the unit that a hub keeps, checks and sends.
//!
//! A sealed block is the same bytes on the disk and on the wire, so a hub never packs or unpacks to serve a reader:
//!
//! ```text
//! version u8 | compression u8 (0 none, 1 zstd) | 0 u16 | records u32 | unpacked bytes u32 | crc32 u32 | body
//! body, unpacked, per record:  key u32+bytes | value u32+bytes | headers u8 | per header: name u8+bytes, value u32+bytes
//! ```
//!
//! Numbers are little-endian. The checksum covers everything but itself. Whoever takes a block from outside checks it
//! whole ([`Block::check`]) before he relies on it.

use std::borrow::Cow;

use bytes::Bytes;

use crate::change::wire::{Encoded, Encoder};
use crate::change::{Offset, Record};

/// Unpacked bytes after which a block is full. Readers get whole blocks, so this is also how much more than asked for
/// a read can bring. Beyond this, zstd gained nothing more in size on rows of a campus.
pub const BLOCK_BYTES: usize = 256 * 1024;

/// The most unpacked bytes of a block that we take from outside, whatever it says of itself: its largest record and
/// one more full block. Above what any hub may be set to take.
const UNPACKED_BYTES_MAX: usize = RECORD_BYTES_LIMIT + BLOCK_BYTES;

/// The largest `record_bytes_max` a hub may be given.
pub const RECORD_BYTES_LIMIT: usize = 256 << 20;

const VERSION: u8 = 1;
const HEAD: usize = 16;

/// A few hundred bytes do not get smaller than their own zstd frame, and one transaction a time is the usual case.
const COMPRESS_FROM: usize = 512;

/// Level 1 packs at some 400 MB/s here; level 3 took twice the time for 8 % less.
const LEVEL: i32 = 1;

/// A sealed block and its place in the topic.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    pub first: Offset,
    /// Number of records; at least one.
    pub count: u32,
    /// Bytes of its records, unpacked.
    pub unpacked: u32,
    sealed: Bytes,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BlockError {
    #[error("the block is cut short or longer than it says")]
    Length,
    #[error("the block's checksum does not match")]
    Checksum,
    #[error("the block's version is {0}, this program reads {VERSION}")]
    Version(u8),
    #[error("the block cannot be unpacked")]
    Compression,
    #[error("the block has no records, or not as many as it says")]
    Records,
}

/// A record is over the limit of one record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooLarge {
    pub size: usize,
}

/// Packs records into blocks that follow each other from `first` on.
pub fn seal(first: Offset, records: &[Record], record_bytes_max: usize) -> Result<Vec<Block>, TooLarge> {
    let mut encoder = Encoder::default();
    let mut blocks = Vec::new();
    let mut body = Vec::with_capacity(records.len().saturating_mul(1024).min(BLOCK_BYTES * 5 / 4));
    let (mut next, mut count) = (first, 0);
    for record in records {
        let start = body.len();
        write_record(&mut body, &encoder.encode(record));
        let size = body.len() - start;
        if size > record_bytes_max {
            return Err(TooLarge { size });
        }
        count += 1;
        if body.len() >= BLOCK_BYTES {
            blocks.push(Block::seal(next, count, &body));
            next = Offset(next.0 + u64::from(count));
            count = 0;
            body.clear();
        }
    }
    if count > 0 {
        blocks.push(Block::seal(next, count, &body));
    }
    Ok(blocks)
}

impl Block {
    fn seal(first: Offset, count: u32, body: &[u8]) -> Self {
        let unpacked = u32::try_from(body.len()).expect("a block is far below 4 GB: its records are limited");
        let packed = (body.len() >= COMPRESS_FROM).then(|| zstd::bulk::compress(body, LEVEL).ok()).flatten();
        let packed = packed.filter(|packed| packed.len() < body.len());
        let (compression, body) = packed.as_deref().map_or((0, body), |packed| (1, packed));
        let mut sealed = Vec::with_capacity(HEAD + body.len());
        sealed.extend_from_slice(&[VERSION, compression, 0, 0]);
        sealed.extend_from_slice(&count.to_le_bytes());
        sealed.extend_from_slice(&unpacked.to_le_bytes());
        sealed.extend_from_slice(&checksum(&sealed, body).to_le_bytes());
        sealed.extend_from_slice(body);
        Self { first, count, unpacked, sealed: sealed.into() }
    }

    /// A block from outside, its checksum and head checked, its records not yet.
    pub fn from_sealed(first: Offset, sealed: Bytes) -> Result<Self, BlockError> {
        let mut head = Cursor(&sealed);
        let version = head.byte()?;
        if version != VERSION {
            return Err(BlockError::Version(version));
        }
        head.take(3)?;
        let (count, unpacked, expected) = (head.number()?, head.number()?, head.number()?);
        if checksum(&sealed[..HEAD - 4], head.0) != expected {
            return Err(BlockError::Checksum);
        }
        if count == 0 || first.0.checked_add(u64::from(count)).is_none() {
            return Err(BlockError::Records);
        }
        Ok(Self { first, count, unpacked, sealed })
    }

    pub fn sealed(&self) -> &Bytes {
        &self.sealed
    }

    /// The offset after its last record.
    pub fn end(&self) -> Offset {
        Offset(self.first.0 + u64::from(self.count))
    }

    /// Its records in the open.
    pub fn unpack(&self) -> Result<Unpacked<'_>, BlockError> {
        let body = &self.sealed[HEAD..];
        let unpacked = self.unpacked as usize;
        let body = match self.sealed[1] {
            0 => Cow::Borrowed(body),
            1 if unpacked <= UNPACKED_BYTES_MAX => {
                Cow::Owned(zstd::bulk::decompress(body, unpacked).map_err(|_| BlockError::Compression)?)
            }
            _ => return Err(BlockError::Compression),
        };
        if body.len() != unpacked {
            return Err(BlockError::Length);
        }
        Ok(Unpacked { first: self.first, count: self.count, body })
    }

    /// Checks the whole of it; returns the bytes of its largest record.
    pub fn check(&self) -> Result<usize, BlockError> {
        self.unpack()?.records().try_fold(0, |largest, record| Ok(largest.max(record?.1.size)))
    }
}

/// The records of a block.
pub struct Unpacked<'a> {
    first: Offset,
    count: u32,
    body: Cow<'a, [u8]>,
}

impl Unpacked<'_> {
    /// Each record with its offset. Ends after an error.
    pub fn records(&self) -> impl Iterator<Item = Result<(Offset, RecordSlice<'_>), BlockError>> {
        let mut rest = Cursor(&self.body);
        let mut offsets = self.first.0..self.first.0 + u64::from(self.count);
        let mut failed = false;
        std::iter::from_fn(move || {
            let record = match offsets.next().filter(|_| !failed) {
                Some(offset) => RecordSlice::read(&mut rest).map(|record| (Offset(offset), record)),
                // What is left over was in no record.
                None if !failed && !rest.0.is_empty() => Err(BlockError::Records),
                None => return None,
            };
            failed = record.is_err();
            Some(record)
        })
    }
}

fn checksum(head: &[u8], body: &[u8]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(head);
    hasher.update(body);
    hasher.finalize()
}

fn write_record(out: &mut Vec<u8>, record: &Encoded<'_>) {
    write_bytes(out, record.key);
    write_bytes(out, record.value);
    let headers = record.headers();
    out.push(u8::try_from(headers.len()).expect("a record has some ten headers"));
    for (name, value) in headers {
        out.push(u8::try_from(name.len()).expect("names of headers are ours and short"));
        out.extend_from_slice(name.as_bytes());
        write_bytes(out, value);
    }
}

fn write_bytes(out: &mut Vec<u8>, bytes: &[u8]) {
    // A record over 4 GB cannot have been made: a row is at most 1 GB. It would be refused by its size all the same.
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_le_bytes());
    out.extend_from_slice(bytes);
}

/// A record that lies in a block.
pub struct RecordSlice<'a> {
    pub key: &'a [u8],
    pub value: &'a [u8],
    headers: &'a [u8],
    /// Bytes it takes in the block.
    pub size: usize,
}

impl<'a> RecordSlice<'a> {
    /// Reads to the last header, so that nothing is left to fail later.
    fn read(rest: &mut Cursor<'a>) -> Result<Self, BlockError> {
        let before = rest.0.len();
        let (key, value) = (rest.bytes()?, rest.bytes()?);
        let count = rest.byte()?;
        let headers = rest.0;
        for _ in 0..count {
            rest.header()?;
        }
        let headers = &headers[..headers.len() - rest.0.len()];
        Ok(Self { key, value, headers, size: before - rest.0.len() })
    }

    pub fn headers(&self) -> impl Iterator<Item = (&'a str, &'a [u8])> {
        let mut rest = Cursor(self.headers);
        std::iter::from_fn(move || rest.header().ok())
    }
}

/// What is left to read.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn take(&mut self, length: usize) -> Result<&'a [u8], BlockError> {
        let (taken, rest) = self.0.split_at_checked(length).ok_or(BlockError::Length)?;
        self.0 = rest;
        Ok(taken)
    }

    fn byte(&mut self) -> Result<u8, BlockError> {
        Ok(self.take(1)?[0])
    }

    fn number(&mut self) -> Result<u32, BlockError> {
        let bytes = self.take(4)?.try_into().expect("four bytes were taken");
        Ok(u32::from_le_bytes(bytes))
    }

    fn bytes(&mut self) -> Result<&'a [u8], BlockError> {
        let length = self.number()?;
        self.take(length as usize)
    }

    fn header(&mut self) -> Result<(&'a str, &'a [u8]), BlockError> {
        let length = self.byte()?;
        let name = std::str::from_utf8(self.take(length.into())?).map_err(|_| BlockError::Records)?;
        Ok((name, self.bytes()?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::OriginId;
    use crate::change::wire::{self, WireRecord};
    use crate::topic::contract::record;

    const MAX: usize = 1 << 20;

    fn records(count: u64) -> Vec<Record> {
        let origin = OriginId::new("a");
        (0..count).map(|number| record(&origin, number)).collect()
    }

    fn open(block: &Block) -> Result<Vec<(Offset, WireRecord)>, BlockError> {
        let owned = |slice: RecordSlice<'_>| WireRecord {
            key: slice.key.to_vec(),
            value: slice.value.to_vec(),
            headers: slice.headers().map(|(name, value)| (name.to_owned(), value.to_vec())).collect(),
        };
        block.unpack()?.records().map(|record| record.map(|(offset, slice)| (offset, owned(slice)))).collect()
    }

    #[test]
    fn records_come_back_from_their_blocks() {
        for count in [1, 2, 1000] {
            let records = records(count);
            let blocks = seal(Offset(7), &records, MAX).unwrap();
            assert_eq!(blocks.len() > 1, count == 1000, "a block is full at some point");
            let mut found = Vec::new();
            for block in &blocks {
                let again = Block::from_sealed(block.first, block.sealed().clone()).unwrap();
                assert_eq!(again, *block);
                assert_eq!(again.first.0, 7 + found.len() as u64);
                found.extend(open(&again).unwrap());
            }
            let expected = records.iter().enumerate().map(|(at, record)| (Offset(7 + at as u64), wire::encode(record)));
            assert_eq!(found, expected.collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_record_over_the_limit_is_named_by_its_size() {
        let size = seal(Offset(0), &records(1), MAX).unwrap()[0].check().unwrap();
        assert!(seal(Offset(0), &records(1), size).is_ok());
        assert_eq!(seal(Offset(0), &records(1), size - 1), Err(TooLarge { size }));
    }

    #[test]
    fn every_flipped_bit_is_found() {
        for count in [1, 40] {
            let block = &seal(Offset(0), &records(count), MAX).unwrap()[0];
            for bit in 0..block.sealed().len() * 8 {
                let mut sealed = block.sealed().to_vec();
                sealed[bit / 8] ^= 1 << (bit % 8);
                assert!(Block::from_sealed(Offset(0), sealed.into()).is_err(), "bit {bit} of a block of {count}");
            }
        }
    }

    #[test]
    fn a_block_that_lies_with_a_right_checksum_is_an_error_not_a_panic() {
        let mut random = fastrand::Rng::with_seed(3);
        let good = [1, 40].map(|count| seal(Offset(0), &records(count), MAX).unwrap()[0].sealed().to_vec());
        for _ in 0..20_000 {
            let mut sealed = random.choice(&good).unwrap().clone();
            for _ in 0..random.usize(1..4) {
                let at = random.usize(1..sealed.len());
                sealed[at] = random.u8(..);
            }
            sealed.truncate(random.usize(HEAD..sealed.len() * 2));
            let sum = checksum(&sealed[..HEAD - 4], &sealed[HEAD..]);
            sealed[HEAD - 4..HEAD].copy_from_slice(&sum.to_le_bytes());
            if let Ok(block) = Block::from_sealed(Offset(0), sealed.into())
                && let Ok(size) = block.check()
            {
                assert!(size <= block.unpacked as usize);
                assert_eq!(open(&block).unwrap().len(), block.count as usize);
            }
        }
    }

    #[test]
    fn bytes_that_are_no_block_are_refused() {
        let sealed = seal(Offset(0), &records(1), MAX).unwrap()[0].sealed().to_vec();
        for length in 0..sealed.len() {
            assert!(Block::from_sealed(Offset(0), sealed[..length].to_vec().into()).is_err(), "cut to {length}");
        }
        assert!(Block::from_sealed(Offset(u64::MAX), sealed.clone().into()).is_err(), "past the last offset");
        let mut newer = sealed;
        newer[0] = 2;
        assert_eq!(Block::from_sealed(Offset(0), newer.into()), Err(BlockError::Version(2)));
    }
}
