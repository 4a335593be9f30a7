//! Short ASCII text, built on the stack digit by digit: `format!` took most of the time of a row with dates.

use crate::change::{RowBuffer, ValueRef};

#[derive(Debug, PartialEq)]
pub(super) struct Ascii<const N: usize> {
    bytes: [u8; N],
    length: usize,
}

impl<const N: usize> Ascii<N> {
    pub(super) fn new() -> Self {
        Self { bytes: [0; N], length: 0 }
    }

    #[inline]
    pub(super) fn push(&mut self, byte: u8) {
        self.bytes[self.length] = byte;
        self.length += 1;
    }

    pub(super) fn extend(&mut self, text: &str) {
        text.bytes().for_each(|byte| self.push(byte));
    }

    /// Exactly so many decimal digits, the lowest ones of the number.
    #[inline]
    pub(super) fn digits(&mut self, mut number: u32, count: usize) {
        let end = self.length + count;
        for slot in self.bytes[self.length..end].iter_mut().rev() {
            *slot = b'0' + (number % 10) as u8;
            number /= 10;
        }
        self.length = end;
    }

    /// As many decimal digits as it takes.
    pub(super) fn number(&mut self, number: u32) {
        self.digits(number, number.checked_ilog10().unwrap_or(0) as usize + 1);
    }

    /// The byte as two hexadecimal digits.
    pub(super) fn hex(&mut self, byte: u8) {
        self.push(hex_digit(byte >> 4));
        self.push(hex_digit(byte & 15));
    }

    /// In hexadecimal digits without leading zeros.
    pub(super) fn hex_number(&mut self, number: u16) {
        let digits = (16 - (number | 1).leading_zeros()).div_ceil(4);
        (0..digits).rev().for_each(|digit| self.push(hex_digit((number >> (digit * 4)) as u8 & 15)));
    }

    /// Puts it behind the row's other values.
    #[inline]
    pub(super) fn put(&self, row: &mut RowBuffer) {
        row.push(ValueRef::Text(self.as_str()));
    }

    #[inline]
    pub(super) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.bytes[..self.length]).expect("only ASCII was written")
    }
}

fn hex_digit(digit: u8) -> u8 {
    b"0123456789abcdef"[usize::from(digit)]
}
