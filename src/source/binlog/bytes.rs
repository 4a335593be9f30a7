//! A cursor over bytes from outside: every read is checked.

use super::error::Malformed;

pub(super) type Checked<T> = Result<T, Malformed>;

#[derive(Clone, Copy, Debug)]
pub(super) struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn len(&self) -> usize {
        self.0.len()
    }

    pub(super) fn rest(&self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub(super) fn take(&mut self, count: usize) -> Checked<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Malformed::SHORT)?;
        self.0 = rest;
        Ok(taken)
    }

    #[inline]
    pub(super) fn array<const N: usize>(&mut self) -> Checked<[u8; N]> {
        let (taken, rest) = self.0.split_first_chunk().ok_or(Malformed::SHORT)?;
        self.0 = rest;
        Ok(*taken)
    }

    #[inline]
    pub(super) fn u8(&mut self) -> Checked<u8> {
        self.array().map(|[byte]| byte)
    }

    #[inline]
    pub(super) fn u16(&mut self) -> Checked<u16> {
        self.array().map(u16::from_le_bytes)
    }

    /// A little-endian number of up to 8 bytes. Byte by byte, because a copy of so many into eight stalls the load of the
    /// eight: these two were a tenth of the time of a row.
    #[inline]
    pub(super) fn little(&mut self, width: usize) -> Checked<u64> {
        Ok(self.take(width)?.iter().rfold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// A big-endian number of 0 to 8 bytes.
    #[inline]
    pub(super) fn big(&mut self, width: usize) -> Checked<u64> {
        Ok(self.take(width)?.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    /// The protocol's length-encoded number: one byte up to 250, else a marker and 2, 3 or 8 bytes.
    pub(super) fn packed(&mut self) -> Checked<u64> {
        match self.u8()? {
            small @ 0..=250 => Ok(small.into()),
            252 => self.little(2),
            253 => self.little(3),
            254 => self.little(8),
            _ => Err(Malformed("a length is not a number")),
        }
    }

    /// A packed length and that many bytes.
    pub(super) fn packed_bytes(&mut self) -> Checked<&'a [u8]> {
        let length = self.packed()?;
        self.take(usize::try_from(length).map_err(|_| Malformed::SHORT)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_come_in_both_orders() {
        let mut bytes = Bytes::new(&[1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(bytes.u8(), Ok(1));
        assert_eq!(bytes.u16(), Ok(0x0302));
        assert_eq!(bytes.little(3), Ok(0x06_0504));
        assert_eq!(bytes.big(2), Err(Malformed::SHORT));
        assert_eq!(bytes.big(0), Ok(0));
        assert_eq!(bytes.rest(), [7]);
    }

    #[test]
    fn packed_numbers_have_four_forms() {
        let check = |bytes: &[u8], expected| assert_eq!(Bytes::new(bytes).packed(), expected, "{bytes:?}");
        check(&[250], Ok(250));
        check(&[252, 0xff, 1], Ok(0x1ff));
        check(&[253, 1, 2, 3], Ok(0x03_0201));
        check(&[254, 1, 0, 0, 0, 0, 0, 0, 0x80], Ok(0x8000_0000_0000_0001));
        check(&[251], Err(Malformed("a length is not a number")));
        check(&[254, 1], Err(Malformed::SHORT));
        check(&[], Err(Malformed::SHORT));
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error() {
        assert_eq!(Bytes::new(&[3, 1, 2]).packed_bytes(), Err(Malformed::SHORT));
        assert_eq!(Bytes::new(&[254, 255, 255, 255, 255, 255, 255, 255, 255]).packed_bytes(), Err(Malformed::SHORT));
        assert_eq!(Bytes::new(&[2, 1, 2]).packed_bytes(), Ok(&[1, 2][..]));
    }
}
