//! Dates and times, old format and new, as the text that MariaDB prints.
//!
//! The new format (since MariaDB 10.1) is big-endian with the fraction behind; the old one (`mysql56_temporal_format=OFF`,
//! tables from before) is a decimal or packed number, little end first. Zero dates and parts of zero are values like any other.

use super::ascii::Ascii;
use super::bytes::{Bytes, Checked};
use super::error::Malformed;

/// The longest: `-838:59:59.999999` and `9999-12-31 23:59:59.999999`.
pub(super) type Text = Ascii<32>;

pub(super) const DIGITS_MAX: u8 = 6;

/// Bytes that a fraction of so many digits takes.
fn fraction_width(digits: u8) -> usize {
    usize::from(digits.div_ceil(2))
}

/// The fraction's digits, behind a point; it counts in hundredths, ten-thousandths or millionths.
#[inline]
fn push_fraction(text: &mut Text, fraction: u32, digits: u8) -> Checked<()> {
    if digits == 0 {
        return Ok(());
    }
    let stored = digits.next_multiple_of(2);
    if fraction >= 10u32.pow(stored.into()) {
        return Err(Malformed("a fraction of a second is a second or more"));
    }
    text.push(b'.');
    text.digits(if stored > digits { fraction / 10 } else { fraction }, digits.into());
    Ok(())
}

#[inline]
fn push_date(text: &mut Text, year: u32, month: u32, day: u32) -> Checked<()> {
    if year > 9999 || month > 12 || day > 31 {
        return Err(Malformed("a date is no date"));
    }
    text.digits(year, 4);
    text.push(b'-');
    text.digits(month, 2);
    text.push(b'-');
    text.digits(day, 2);
    Ok(())
}

#[inline]
fn push_time(text: &mut Text, hour: u32, minute: u32, second: u32) -> Checked<()> {
    if hour > 838 || minute > 59 || second > 59 {
        return Err(Malformed("a time is no time"));
    }
    text.digits(hour, if hour > 99 { 3 } else { 2 });
    text.push(b':');
    text.digits(minute, 2);
    text.push(b':');
    text.digits(second, 2);
    Ok(())
}

/// DATE: day (5 bits), month (4) and year.
#[inline]
pub(super) fn date(bytes: &mut Bytes) -> Checked<Text> {
    let packed = bytes.little(3)? as u32;
    let mut text = Text::new();
    push_date(&mut text, packed >> 9, packed >> 5 & 15, packed & 31)?;
    Ok(text)
}

/// TIME: hour, minute and second with the fraction as one number, offset so that negative ones sort first.
#[inline]
pub(super) fn time(bytes: &mut Bytes, digits: u8) -> Checked<Text> {
    let width = fraction_width(digits);
    let shift = 8 * width;
    let packed = bytes.big(3 + width)? as i64 - (0x80_0000 << shift);
    let parts = packed.unsigned_abs() >> shift;
    let fraction = packed.unsigned_abs() & ((1 << shift) - 1);
    let mut text = Text::new();
    if packed < 0 {
        text.push(b'-');
    }
    push_time(&mut text, (parts >> 12) as u32, parts as u32 >> 6 & 63, parts as u32 & 63)?;
    push_fraction(&mut text, fraction as u32, digits)?;
    Ok(text)
}

/// DATETIME: 17 bits of year and month, 5 of day, 5 of hour, 6 of minute, 6 of second; then the fraction.
#[inline]
pub(super) fn datetime(bytes: &mut Bytes, digits: u8) -> Checked<Text> {
    let packed = bytes.big(5)?.checked_sub(0x80_0000_0000).ok_or(Malformed("a date is negative"))?;
    let fraction = bytes.big(fraction_width(digits))? as u32;
    let (year_month, parts) = ((packed >> 22) as u32, packed as u32);
    let mut text = Text::new();
    push_date(&mut text, year_month / 13, year_month % 13, parts >> 17 & 31)?;
    text.push(b' ');
    push_time(&mut text, parts >> 12 & 31, parts >> 6 & 63, parts & 63)?;
    push_fraction(&mut text, fraction, digits)?;
    Ok(text)
}

/// TIMESTAMP: seconds of the epoch and the fraction, printed as UTC.
#[inline]
pub(super) fn timestamp(bytes: &mut Bytes, digits: u8) -> Checked<Text> {
    let second = bytes.big(4)? as u32;
    let fraction = bytes.big(fraction_width(digits))? as u32;
    utc(second, fraction, digits)
}

#[inline]
fn utc(second: u32, fraction: u32, digits: u8) -> Checked<Text> {
    let mut text = Text::new();
    if second == 0 && fraction == 0 {
        push_date(&mut text, 0, 0, 0)?;
    } else {
        let (year, month, day) = civil(second / 86_400);
        push_date(&mut text, year, month, day)?;
    }
    text.push(b' ');
    push_time(&mut text, second / 3600 % 24, second / 60 % 60, second % 60)?;
    push_fraction(&mut text, fraction, digits)?;
    Ok(text)
}

/// Year, month and day of so many days after 1970-01-01: Howard Hinnant's `civil_from_days`. Its year begins in March,
/// so that the day too many comes last.
#[inline]
fn civil(days: u32) -> (u32, u32, u32) {
    const DAYS_OF_400_YEARS: u32 = 146_097;
    let days = days + 719_468; // since 0000-03-01
    let (era, day) = (days / DAYS_OF_400_YEARS, days % DAYS_OF_400_YEARS);
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 { (month + 3, 0) } else { (month - 9, 1) };
    (era * 400 + year + next, month, day)
}

/// TIME of the old format: the decimal number hhmmss, with a sign.
pub(super) fn old_time(bytes: &mut Bytes) -> Checked<Text> {
    let packed = (bytes.little(3)? as i32) << 8 >> 8;
    let parts = packed.unsigned_abs();
    let mut text = Text::new();
    if packed < 0 {
        text.push(b'-');
    }
    push_time(&mut text, parts / 10_000, parts / 100 % 100, parts % 100)?;
    Ok(text)
}

/// DATETIME of the old format: the decimal number YYYYMMDDhhmmss.
pub(super) fn old_datetime(bytes: &mut Bytes) -> Checked<Text> {
    let packed = bytes.little(8)?;
    let date = u32::try_from(packed / 1_000_000).map_err(|_| Malformed("a date is no date"))?;
    let time = (packed % 1_000_000) as u32;
    let mut text = Text::new();
    push_date(&mut text, date / 10_000, date / 100 % 100, date % 100)?;
    text.push(b' ');
    push_time(&mut text, time / 10_000, time / 100 % 100, time % 100)?;
    Ok(text)
}

/// TIMESTAMP of the old format: seconds of the epoch, printed as UTC.
pub(super) fn old_timestamp(bytes: &mut Bytes) -> Checked<Text> {
    utc(bytes.little(4)? as u32, 0, 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(read: impl Fn(&mut Bytes) -> Checked<Text>, bytes: &[u8], expected: &str) {
        let mut bytes = Bytes::new(bytes);
        assert_eq!(read(&mut bytes).as_ref().map(Text::as_str), Ok(expected));
        assert!(bytes.is_empty(), "{expected}");
    }

    fn refused(read: impl Fn(&mut Bytes) -> Checked<Text>, bytes: &[u8]) {
        assert!(read(&mut Bytes::new(bytes)).is_err(), "{bytes:02x?}");
    }

    #[test]
    fn dates() {
        check(date, &[0, 0, 0], "0000-00-00");
        check(date, &[0x9f, 0x1f, 0x4e], "9999-12-31");
        check(date, &[0x5d, 0xd0, 0x0f], "2024-02-29");
        check(date, &[0x40, 0xd0, 0x0f], "2024-02-00");
        refused(date, &[0xff, 0xff, 0xff]);
        refused(date, &[0, 0]);
    }

    #[test]
    fn times_have_signs_and_fractions() {
        check(|b| time(b, 0), &[0x80, 0, 0], "00:00:00");
        check(|b| time(b, 0), &[0xb4, 0x6e, 0xfb], "838:59:59");
        check(|b| time(b, 0), &[0x4b, 0x91, 0x05], "-838:59:59");
        check(|b| time(b, 1), &[0x7f, 0xff, 0xff, 0xce], "-00:00:00.5");
        check(|b| time(b, 2), &[0x7f, 0xff, 0xfe, 0xff], "-00:00:01.01");
        check(|b| time(b, 3), &[0x80, 0, 1, 0x04, 0xce], "00:00:01.123");
        check(|b| time(b, 6), &[0x4b, 0x91, 0x04, 0xf0, 0xbd, 0xc1], "-838:59:59.999999");
        check(|b| time(b, 6), &[0x80, 0, 1, 0, 0, 1], "00:00:01.000001");
        refused(|b| time(b, 0), &[0xff, 0xff, 0xff]);
        refused(|b| time(b, 2), &[0x80, 0, 1, 100]);
        refused(|b| time(b, 6), &[0x80, 0, 1]);
    }

    #[test]
    fn datetimes() {
        check(|b| datetime(b, 0), &[0x80, 0, 0, 0, 0], "0000-00-00 00:00:00");
        check(|b| datetime(b, 0), &[0xfe, 0xf3, 0xff, 0x7e, 0xfb], "9999-12-31 23:59:59");
        check(|b| datetime(b, 1), &[0x99, 0xb2, 0xbb, 0x78, 0x83, 50], "2024-02-29 23:34:03.5");
        check(|b| datetime(b, 6), &[0x80, 0, 0, 0, 0, 0x0f, 0x42, 0x3f], "0000-00-00 00:00:00.999999");
        refused(|b| datetime(b, 0), &[0x7f, 0, 0, 0, 0]);
        refused(|b| datetime(b, 0), &[0xff, 0xff, 0xff, 0xff, 0xff]);
    }

    #[test]
    fn timestamps_are_printed_as_utc() {
        check(|b| timestamp(b, 0), &[0, 0, 0, 0], "0000-00-00 00:00:00");
        check(|b| timestamp(b, 3), &[0, 0, 0, 0, 0, 0], "0000-00-00 00:00:00.000");
        check(|b| timestamp(b, 0), &[0, 0, 0, 1], "1970-01-01 00:00:01");
        check(|b| timestamp(b, 6), &[0x7f, 0xff, 0xff, 0xff, 0x0f, 0x42, 0x3f], "2038-01-19 03:14:07.999999");
        check(|b| timestamp(b, 0), &[0xff, 0xff, 0xff, 0xff], "2106-02-07 06:28:15");
        check(|b| timestamp(b, 0), &0x65e0_7fcf_u32.to_be_bytes(), "2024-02-29 12:59:59");
    }

    #[test]
    fn every_day_of_two_centuries_has_its_date() {
        let mut day = (1970, 1, 1);
        for days in 0..=u32::MAX / 86_400 {
            assert_eq!(civil(days), day);
            let leap = day.0 % 4 == 0 && (day.0 % 100 != 0 || day.0 % 400 == 0);
            let last = [31, if leap { 29 } else { 28 }, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31][day.1 as usize - 1];
            day = match day {
                (year, 12, 31) => (year + 1, 1, 1),
                (year, month, day) if day == last => (year, month + 1, 1),
                (year, month, day) => (year, month, day + 1),
            };
        }
    }

    #[test]
    fn the_old_format() {
        check(old_time, &8_385_959_i32.to_le_bytes()[..3], "838:59:59");
        check(old_time, &(-8_385_959_i32).to_le_bytes()[..3], "-838:59:59");
        check(old_datetime, &0u64.to_le_bytes(), "0000-00-00 00:00:00");
        check(old_datetime, &99_991_231_235_959_u64.to_le_bytes(), "9999-12-31 23:59:59");
        check(old_timestamp, &[0, 0, 0, 0], "0000-00-00 00:00:00");
        check(old_timestamp, &i32::MAX.to_le_bytes(), "2038-01-19 03:14:07");
        refused(old_datetime, &u64::MAX.to_le_bytes());
        refused(old_time, &[0xff, 0xff, 0x7f]);
    }
}
