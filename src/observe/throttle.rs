//! Keeps a log readable while the same thing happens again and again.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// One line per kind in this many seconds.
const INTERVAL_SECONDS: u64 = 10;

/// Different things remembered at once; beyond that all are forgotten, which costs a few lines more.
const KINDS_MAX: usize = 1_000;

/// Decides which repetitions are logged.
#[derive(Default)]
pub struct Throttle(Mutex<HashMap<(&'static str, String), Window>>);

#[derive(Default)]
struct Window {
    began_second: u64,
    suppressed: u64,
}

impl Throttle {
    /// `Some` where it should be logged now, with how often it was not since the last time.
    pub fn pass(&self, what: &'static str, about: &str, now_second: u64) -> Option<u64> {
        let mut kinds = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kinds.len() >= KINDS_MAX {
            kinds.clear();
        }
        match kinds.get_mut(&(what, about.to_owned())) {
            // A clock that was set back must not silence anything.
            Some(window) if (window.began_second..window.began_second + INTERVAL_SECONDS).contains(&now_second) => {
                window.suppressed += 1;
                None
            }
            Some(window) => {
                let suppressed = window.suppressed;
                *window = Window { began_second: now_second, suppressed: 0 };
                Some(suppressed)
            }
            None => {
                kinds.insert((what, about.to_owned()), Window { began_second: now_second, suppressed: 0 });
                Some(0)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_in_an_interval_and_the_rest_counted() {
        let throttle = Throttle::default();
        assert_eq!(throttle.pass("conflict", "a", 100), Some(0));
        assert_eq!(throttle.pass("conflict", "a", 100), None);
        assert_eq!(throttle.pass("conflict", "a", 109), None);
        assert_eq!(throttle.pass("conflict", "b", 109), Some(0));
        assert_eq!(throttle.pass("conflict", "a", 110), Some(2));
        assert_eq!(throttle.pass("conflict", "a", 50), Some(0), "the clock was set back");
    }
}
