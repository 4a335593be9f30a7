//! What a run costs: seconds by the clock, seconds of the processor, and memory.
#![allow(dead_code)]

use std::time::{Duration, Instant};

/// What one run took, in seconds.
#[derive(Clone, Copy, Debug)]
pub struct Cost {
    pub wall: f64,
    pub cpu: f64,
}

impl Cost {
    /// Since then, when `who` had used that much of the processor.
    pub fn since(start: Instant, before: Duration, who: libc::c_int) -> Self {
        Self { wall: start.elapsed().as_secs_f64(), cpu: (cpu(who) - before).as_secs_f64() }
    }

    /// The run whose wall time is the median.
    pub fn median(mut costs: Vec<Self>) -> Self {
        costs.sort_by(|one, other| one.wall.total_cmp(&other.wall));
        costs[costs.len() / 2]
    }
}

/// Processor time of this process, or of those of its children that have ended; the system's for them included.
pub fn cpu(who: libc::c_int) -> Duration {
    // SAFETY: all zero is a good value of this struct of numbers, and the call fills it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        assert_eq!(libc::getrusage(who, &mut usage), 0);
        usage
    };
    let time = |time: libc::timeval| Duration::new(time.tv_sec as u64, time.tv_usec as u32 * 1000);
    time(usage.ru_utime) + time(usage.ru_stime)
}

/// The same of any process that runs, in seconds.
pub fn cpu_of(process: u32) -> f64 {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // Its name, in brackets, may hold spaces.
    let numbers = stat.rsplit(") ").next().expect("a line about the process");
    let ticks: u64 = numbers.split(' ').skip(11).take(2).map(|number| number.parse::<u64>().expect("a number of ticks")).sum();
    // SAFETY: asks for a number, and changes nothing.
    ticks as f64 / unsafe { libc::sysconf(libc::_SC_CLK_TCK) } as f64
}

/// The most memory that a process (by its id, or `self`) ever held, as the kernel counts it.
pub fn peak_rss_mb(process: &str) -> f64 {
    memory_mb(process, "VmHWM:")
}

/// What it holds now.
pub fn rss_mb(process: &str) -> f64 {
    memory_mb(process, "VmRSS:")
}

fn memory_mb(process: &str, field: &str) -> f64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field));
    let kb: f64 = line.and_then(|line| line.trim().trim_end_matches("kB").trim().parse().ok()).unwrap_or(f64::NAN);
    kb / 1024.0
}
