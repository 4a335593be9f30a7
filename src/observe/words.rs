//! Numbers and times as people read them, the same on the status page and the command line.

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// `0 s`, `9 min`, `3 h 5 min`, `12 d`.
pub fn spoken_duration(seconds: u64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    let with_rest = |whole: u64, unit: &str, rest: u64, rest_unit: &str| match rest {
        0 => format!("{whole} {unit}"),
        rest => format!("{whole} {unit} {rest} {rest_unit}"),
    };
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3_600 => format!("{minutes} min"),
        3_600..86_400 => with_rest(hours, "h", minutes % 60, "min"),
        86_400..864_000 => with_rest(days, "d", hours % 24, "h"),
        _ => format!("{days} d"),
    }
}

/// Digits in groups of three: `1 204`.
pub fn spoken_count(count: u64) -> String {
    let digits = count.to_string();
    let mut out = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

/// Date and time of day here: `2026-11-22 14:05:10`.
pub fn spoken_time(seconds: u64) -> String {
    let zoned = i64::try_from(seconds).ok().and_then(|seconds| Timestamp::from_second(seconds).ok());
    zoned.map_or_else(
        || format!("{seconds} s after 1970"),
        |time| time.to_zoned(TimeZone::system()).strftime("%Y-%m-%d %H:%M:%S").to_string(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_counts_and_times_are_short() {
        let check = |seconds: u64, expected: &str| assert_eq!(spoken_duration(seconds), expected);
        check(0, "0 s");
        check(59, "59 s");
        check(60, "1 min");
        check(3_599, "59 min");
        check(3_600, "1 h");
        check(11_130, "3 h 5 min");
        check(90_000, "1 d 1 h");
        check(1_036_800, "12 d");
        for (count, expected) in [(0, "0"), (999, "999"), (1_204, "1 204"), (12_345_678, "12 345 678")] {
            assert_eq!(spoken_count(count), expected);
        }
        assert_eq!(spoken_time(0).len(), "1970-01-01 00:00:00".len());
        assert_eq!(spoken_time(u64::MAX), "18446744073709551615 s after 1970");
    }
}
