//! Waiting for facts. The only place in the tests that lets time pass.

use std::time::{Duration, Instant};

/// Short against the facts waited for (a row that crosses two servers), long against the cost of asking.
const BETWEEN_LOOKS: Duration = Duration::from_millis(5);

/// Looks until the fact is true and returns how long that took; panics at the deadline, naming what was awaited.
///
/// `wait_for("the row on b", Duration::from_secs(10), async || b.value::<u64>("SELECT …").await == Some(1)).await`
pub async fn wait_for(what: &str, deadline: Duration, fact: impl AsyncFnMut() -> bool) -> Duration {
    wait_until(what, deadline, fact).await.unwrap_or_else(|missed| panic!("{missed}"))
}

/// [`wait_for`] for programs that want to say more before they end.
pub async fn wait_until(what: &str, deadline: Duration, mut fact: impl AsyncFnMut() -> bool) -> Result<Duration, String> {
    let start = Instant::now();
    loop {
        if fact().await {
            return Ok(start.elapsed());
        }
        if start.elapsed() >= deadline {
            return Err(format!("waited {} s in vain for {what}", deadline.as_secs_f32()));
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
}
