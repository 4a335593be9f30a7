//! When a cloud is fed: all the time, every so often, or at times of the day. Pure: what time it is, is told.

use std::str::FromStr;
use std::time::Duration;

use croner::Cron;
use jiff::Timestamp;
use jiff::tz::TimeZone;

#[derive(Clone, Debug)]
pub enum Schedule {
    Continuous,
    Every(Duration),
    /// In this machine's time zone.
    Cron(Box<CronTimes>),
}

/// Five fields of cron, as text and as times.
#[derive(Clone, Debug)]
pub struct CronTimes {
    text: String,
    cron: Cron,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("is no time of cron: {reason}")]
pub struct ScheduleError {
    pub reason: String,
}

impl Schedule {
    /// `"0 2 * * *"`: minute, hour, day of the month, month, day of the week.
    pub fn cron(text: &str) -> Result<Self, ScheduleError> {
        let fault = |reason: String| ScheduleError { reason };
        if text.split_whitespace().count() != 5 {
            return Err(fault("it has five fields: minute, hour, day of the month, month, day of the week".into()));
        }
        let cron = Cron::from_str(text).map_err(|error| fault(error.to_string()))?;
        let times = CronTimes { text: text.to_owned(), cron };
        if times.next(Timestamp::UNIX_EPOCH.as_second(), &TimeZone::UTC).is_none() {
            return Err(fault("it never comes".into()));
        }
        Ok(Self::Cron(Box::new(times)))
    }

    /// The second of the next run, after one that began at `last` (never yet: `None`). What was missed while the node was off is
    /// made up for at once, one time. `None`: there is no next time, it is fed all the time.
    pub fn next(&self, last: Option<u64>, now: u64) -> Option<u64> {
        match self {
            Self::Continuous => None,
            Self::Every(length) => {
                Some(last.map_or(now, |last| last.saturating_add(length.as_secs().max(1)).min(now + length.as_secs())))
            }
            Self::Cron(times) => Some(times.next_here(last.unwrap_or(now), now)),
        }
    }

    /// How old the last success may be before somebody should look; `None` where it is fed all the time.
    pub fn interval(&self, now: u64) -> Option<Duration> {
        match self {
            Self::Continuous => None,
            Self::Every(length) => Some(*length),
            Self::Cron(times) => {
                let first = times.next_here(now, now);
                Some(Duration::from_secs(times.next_here(first, first).saturating_sub(first)))
            }
        }
    }
}

impl std::fmt::Display for Schedule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Continuous => f.write_str("continuous"),
            Self::Every(length) => write!(f, "every {} s", length.as_secs()),
            Self::Cron(times) => f.write_str(&times.text),
        }
    }
}

impl CronTimes {
    pub fn text(&self) -> &str {
        &self.text
    }

    fn next_here(&self, after: u64, now: u64) -> u64 {
        let after = i64::try_from(after).unwrap_or(i64::MAX);
        // A day that never comes again is asked about tomorrow.
        let next = self.next(after, &TimeZone::system()).and_then(|next| u64::try_from(next).ok());
        next.unwrap_or(now + 86_400)
    }

    fn next(&self, after: i64, zone: &TimeZone) -> Option<i64> {
        let after = Timestamp::from_second(after).ok()?.to_zoned(zone.clone());
        let next = self.cron.find_next_occurrence(&after, false).ok()?;
        Some(next.timestamp().as_second())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_made_up_for_once() {
        let hourly = Schedule::Every(Duration::from_secs(3_600));
        assert_eq!(hourly.next(None, 1_000), Some(1_000), "never yet: at once");
        assert_eq!(hourly.next(Some(1_000), 2_000), Some(4_600));
        assert_eq!(hourly.next(Some(1_000), 50_000), Some(4_600), "it is past, so at once");
        assert_eq!(hourly.next(Some(90_000), 1_000), Some(4_600), "a clock that was set back does not hold it up");
        assert_eq!(Schedule::Continuous.next(Some(5), 9), None);
    }

    #[test]
    fn cron_knows_the_hour_of_the_night() {
        let Schedule::Cron(nightly) = Schedule::cron("0 2 * * *").unwrap() else { panic!("it is cron") };
        let two = |day: i64| day * 86_400 + 7_200;
        assert_eq!(nightly.next(two(10) - 1, &TimeZone::UTC), Some(two(10)));
        assert_eq!(nightly.next(two(10), &TimeZone::UTC), Some(two(11)));
        let six_hourly = Schedule::cron("0 */6 * * *").unwrap();
        assert_eq!(six_hourly.interval(two(10) as u64), Some(Duration::from_secs(21_600)));
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in ["", "hourly", "99 2 * * *", "0 2 * *", "0 0 2 * * *", "0 0 31 2 *"] {
            assert!(Schedule::cron(text).is_err(), "{text}");
        }
    }
}
