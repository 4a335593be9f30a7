//! DECIMAL: up to 65 digits in groups of nine, four bytes each, big end first; what is left over before and after the
//! point takes fewer bytes. The first bit is set for what is not negative; a negative number has all bits inverted.

use super::ascii::Ascii;
use super::bytes::{Bytes, Checked};
use super::error::Malformed;

/// The longest: a sign, 65 digits and a point.
pub(super) type Digits = Ascii<80>;

const GROUP: u8 = 9;

/// Bytes that so many digits take.
const WIDTHS: [u8; GROUP as usize + 1] = [0, 1, 1, 2, 2, 3, 3, 4, 4, 4];

/// How the digits of one column lie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Decimal {
    integer: u8,
    fraction: u8,
    width: u8,
}

impl Decimal {
    /// `None` where no DECIMAL can have so many digits in all or after the point.
    pub(super) fn new(precision: u8, scale: u8) -> Option<Self> {
        const PRECISION_MAX: u8 = 65;
        const SCALE_MAX: u8 = 38;
        if precision == 0 || precision > PRECISION_MAX || scale > SCALE_MAX || scale > precision {
            return None;
        }
        let integer = precision - scale;
        let width = |digits: u8| digits / GROUP * 4 + WIDTHS[usize::from(digits % GROUP)];
        Some(Self { integer, fraction: scale, width: width(integer) + width(scale) })
    }

    /// As MariaDB prints it: every digit after the point, no needless one before it.
    pub(super) fn read(self, bytes: &mut Bytes) -> Checked<Digits> {
        const WIDTH_MAX: usize = 32;
        let width = usize::from(self.width);
        let mut own = [0; WIDTH_MAX];
        own[..width].copy_from_slice(bytes.take(width)?);
        let negative = own[0] & 0x80 == 0;
        own[0] ^= 0x80;
        if negative {
            own[..width].iter_mut().for_each(|byte| *byte = !*byte);
        }
        let mut groups = Bytes::new(&own[..width]);
        let mut text = Digits::new();
        if negative {
            text.push(b'-');
        }
        let mut leading = true;
        let rest = self.integer % GROUP;
        for digits in std::iter::once(rest).chain((0..self.integer / GROUP).map(|_| GROUP)) {
            let number = group(&mut groups, digits)?;
            if !leading {
                text.digits(number, digits.into());
            } else if number > 0 {
                leading = false;
                text.number(number);
            }
        }
        if leading {
            text.push(b'0');
        }
        if self.fraction > 0 {
            text.push(b'.');
            for _ in 0..self.fraction / GROUP {
                text.digits(group(&mut groups, GROUP)?, GROUP.into());
            }
            let rest = self.fraction % GROUP;
            text.digits(group(&mut groups, rest)?, rest.into());
        }
        Ok(text)
    }
}

fn group(bytes: &mut Bytes, digits: u8) -> Checked<u32> {
    let number = bytes.big(WIDTHS[usize::from(digits)].into())? as u32;
    if number >= 10u32.pow(digits.into()) {
        return Err(Malformed("a decimal has a group of too many digits"));
    }
    Ok(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(precision: u8, scale: u8, bytes: &[u8], expected: &str) {
        let value = Decimal::new(precision, scale).unwrap().read(&mut Bytes::new(bytes));
        assert_eq!(value.as_ref().map(Digits::as_str), Ok(expected), "decimal({precision},{scale})");
    }

    #[test]
    fn numbers_are_printed_as_the_server_prints_them() {
        check(10, 2, &[0x80, 0, 0, 0, 0x32], "0.50");
        check(10, 2, &[0x7f, 0xff, 0xff, 0xfe, 0xeb], "-1.20");
        check(10, 2, &[0x85, 0xf5, 0xe0, 0xff, 99], "99999999.99");
        check(4, 0, &[0x80, 42], "42");
        check(4, 0, &[0x80, 0], "0");
        check(5, 5, &[0x80, 0x30, 0x39], "0.12345");
        check(14, 4, &[0x81, 0x0d, 0xfb, 0x38, 0xd2, 0x04, 0xd2], "1234567890.1234");
        check(18, 9, &[0x80, 0, 0, 1, 0, 0, 0, 1], "1.000000001");
        check(19, 0, &[0x81, 0, 0, 0, 0, 0, 0, 0, 7], "1000000000000000007");
    }

    #[test]
    fn the_longest_has_65_digits() {
        let decimal = Decimal::new(65, 30).unwrap();
        assert_eq!(decimal.width, 30);
        // 35 digits before the point are 8 (4 bytes) and three groups; 30 after it three groups and 3 (2 bytes).
        let mut bytes = Vec::new();
        bytes.extend(99_999_999u32.to_be_bytes());
        (0..6).for_each(|_| bytes.extend(999_999_999u32.to_be_bytes()));
        bytes.extend(999u16.to_be_bytes());
        bytes[0] ^= 0x80;
        let nines = format!("{}.{}", "9".repeat(35), "9".repeat(30));
        check(65, 30, &bytes, &nines);
        bytes.iter_mut().for_each(|byte| *byte = !*byte);
        check(65, 30, &bytes, &format!("-{nines}"));
    }

    #[test]
    fn what_is_no_decimal_is_refused() {
        for (precision, scale) in [(0, 0), (66, 0), (65, 39), (3, 4), (255, 255)] {
            assert_eq!(Decimal::new(precision, scale), None, "decimal({precision},{scale})");
        }
        let read = |bytes: &[u8]| Decimal::new(4, 2).unwrap().read(&mut Bytes::new(bytes));
        assert_eq!(read(&[0x80]), Err(Malformed::SHORT));
        assert!(read(&[0x80, 100]).is_err());
        assert!(read(&[0xff, 0]).is_err());
    }
}
