//! Runs the roles of a node, each by itself: one that fails waits, one that must not go on stops, the others continue.

use std::any::Any;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use super::{Backoff, Disposition, Shutdown, Stop};

/// A role that worked this long has recovered: its next failure is a new one, and waits are short again.
const RECOVERED: Duration = Duration::from_secs(60);

/// What a role is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleState {
    Running,
    /// It failed in a way that may mend itself, and waits before the next attempt.
    Retrying,
    /// Going on could lose or change data: it stays stopped until a person acts.
    Halted,
    /// It has done its work, or the process ends.
    Ended,
}

/// Learns what becomes of roles.
pub trait RoleWatch: Send + Sync {
    fn role_changed(&self, role: &str, state: RoleState, why: Option<&Stop>);
}

/// Owns the tasks of all roles.
///
/// A role is an async function that works until shutdown. `Err` with `Retry` starts it again after a backoff, for ever;
/// any other error, and a panic, stops it for good with the reason shown. `Ok` means that it has ended by itself.
pub struct Supervisor {
    shutdown: Shutdown,
    watch: Arc<dyn RoleWatch>,
    roles: JoinSet<Result<(), Stop>>,
    backoff: Backoff,
}

impl Supervisor {
    pub fn new(watch: Arc<dyn RoleWatch>, shutdown: Shutdown) -> Self {
        Self { shutdown, watch, roles: JoinSet::new(), backoff: Backoff::connection() }
    }

    /// Waits between attempts other than those for a connection.
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Starts a role. `start` is called for every attempt, so it takes clones of what the role needs.
    pub fn role<F, Work>(&mut self, name: impl Into<Arc<str>>, start: F)
    where
        F: Fn(Shutdown) -> Work + Send + Sync + 'static,
        Work: Future<Output = Result<(), Stop>> + Send + 'static,
    {
        let (name, start) = (name.into(), Arc::new(start));
        let (shutdown, watch, backoff) = (self.shutdown.clone(), self.watch.clone(), self.backoff.clone());
        self.roles.spawn(supervise(name, start, shutdown, watch, backoff));
    }

    /// Until all roles have ended: by themselves, or within `grace` after shutdown; those that do not are dropped where
    /// they stand, which is safe as a crash is. The error is the first that stopped a role for good.
    pub async fn run(mut self, grace: Duration) -> Result<(), Stop> {
        let mut first = Ok(());
        loop {
            tokio::select! {
                ended = self.roles.join_next() => match ended {
                    Some(ended) => first = first.and(outcome("supervision", ended)),
                    None => return first,
                },
                () = self.shutdown.cancelled() => break,
            }
        }
        let rest = async {
            while let Some(ended) = self.roles.join_next().await {
                let ended = outcome("supervision", ended);
                if first.is_ok() {
                    first = ended;
                }
            }
        };
        if timeout(grace, rest).await.is_err() {
            self.roles.shutdown().await;
            let seconds = grace.as_secs_f64();
            let hint = "nothing is lost: what was not committed is done again at the next start";
            return first.and(Err(Stop::halt(format!("not every role ended within {seconds} s of the shutdown"), hint)));
        }
        first
    }
}

async fn supervise<F, Work>(
    name: Arc<str>,
    start: Arc<F>,
    shutdown: Shutdown,
    watch: Arc<dyn RoleWatch>,
    mut backoff: Backoff,
) -> Result<(), Stop>
where
    F: Fn(Shutdown) -> Work + Send + Sync + 'static,
    Work: Future<Output = Result<(), Stop>> + Send + 'static,
{
    loop {
        if shutdown.is_cancelled() {
            watch.role_changed(&name, RoleState::Ended, None);
            return Ok(());
        }
        watch.role_changed(&name, RoleState::Running, None);
        let began = Instant::now();
        // In a task of its own, so that a panic ends the attempt only; in a set, so that it goes when we go.
        let mut attempt = JoinSet::new();
        let (start, token) = (start.clone(), shutdown.clone());
        attempt.spawn(async move { start(token).await });
        let ended = attempt.join_next().await.expect("the set holds the attempt");
        match outcome(&name, ended) {
            Ok(()) => {
                watch.role_changed(&name, RoleState::Ended, None);
                return Ok(());
            }
            Err(stop) if stop.disposition == Disposition::Retry => {
                if began.elapsed() >= RECOVERED {
                    backoff.reset();
                }
                watch.role_changed(&name, RoleState::Retrying, Some(&stop));
                // Ends early at shutdown; a time-out is the ordinary end of the wait.
                let _ = timeout(backoff.next_wait(), shutdown.cancelled()).await;
            }
            Err(stop) => {
                watch.role_changed(&name, RoleState::Halted, Some(&stop));
                return Err(stop);
            }
        }
    }
}

/// What a task came to; a panic is a halt.
fn outcome(name: &str, ended: Result<Result<(), Stop>, JoinError>) -> Result<(), Stop> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => Err(Stop::halt(
                format!("{name} met a fault in the program: {}", panic_text(panic.as_ref())),
                "start tandem again; if it comes back, report it with the log around this line",
            )),
            Err(_) => Err(Stop::halt(format!("{name} was cancelled"), "start tandem again")),
        },
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no reason given")
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[derive(Default)]
    struct Seen(Mutex<Vec<(String, RoleState, Option<String>)>>);

    impl RoleWatch for Seen {
        fn role_changed(&self, role: &str, state: RoleState, why: Option<&Stop>) {
            self.0.lock().unwrap().push((role.to_owned(), state, why.map(|stop| stop.message.clone())));
        }
    }

    impl Seen {
        fn states(&self, role: &str) -> Vec<RoleState> {
            self.0.lock().unwrap().iter().filter(|(name, ..)| name == role).map(|(_, state, _)| *state).collect()
        }

        fn last_reason(&self, role: &str) -> Option<String> {
            self.0.lock().unwrap().iter().rfind(|(name, ..)| name == role)?.2.clone()
        }
    }

    const GRACE: Duration = Duration::from_secs(5);

    fn retry(message: &str) -> Stop {
        Stop { disposition: Disposition::Retry, message: message.into(), hint: None }
    }

    fn start() -> (Supervisor, Arc<Seen>, Shutdown) {
        let (seen, shutdown) = (Arc::new(Seen::default()), Shutdown::new());
        (Supervisor::new(seen.clone(), shutdown.clone()), seen, shutdown)
    }

    async fn until_shutdown(shutdown: Shutdown) -> Result<(), Stop> {
        shutdown.cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_may_recover_is_started_again_until_it_works() {
        let (mut supervisor, seen, shutdown) = start();
        let attempts = Arc::new(AtomicU32::new(0));
        let (count, end) = (attempts.clone(), shutdown.clone());
        supervisor.role("tailer", move |_| {
            let (count, end) = (count.clone(), end.clone());
            async move {
                if count.fetch_add(1, Ordering::Relaxed) < 30 {
                    return Err(retry("no route"));
                }
                end.cancel();
                Ok(())
            }
        });
        let began = Instant::now();
        supervisor.run(GRACE).await.unwrap();
        assert_eq!(attempts.load(Ordering::Relaxed), 31);
        // 30 waits with a limit of 10 s each, of which at least half is waited.
        assert!(began.elapsed() > Duration::from_secs(90) && began.elapsed() < Duration::from_secs(300));
        let states = seen.states("tailer");
        assert_eq!(states.iter().filter(|state| **state == RoleState::Retrying).count(), 30);
        assert_eq!(states.last(), Some(&RoleState::Ended));
    }

    #[tokio::test(start_paused = true)]
    async fn a_halt_and_a_panic_stop_one_role_and_no_other() {
        let (mut supervisor, seen, shutdown) = start();
        supervisor.role("tailer", |_| async { Err(Stop::halt("the binlog is gone", "seed again")) });
        supervisor.role("hub", |_| async { panic!("out of {}", "cheese") });
        supervisor.role("applier", until_shutdown);
        let run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("tailer").last() != Some(&RoleState::Halted) || seen.states("hub").last() != Some(&RoleState::Halted)
        {
            tokio::task::yield_now().await;
        }
        assert_eq!(seen.states("applier"), [RoleState::Running]);
        assert!(!run.is_finished());
        assert_eq!(seen.last_reason("hub").unwrap(), "hub met a fault in the program: out of cheese");
        shutdown.cancel();
        assert!(run.await.unwrap().is_err(), "the first halt is the outcome");
        assert_eq!(seen.states("applier"), [RoleState::Running, RoleState::Ended]);
    }

    #[tokio::test(start_paused = true)]
    async fn the_run_ends_when_every_role_has() {
        let (mut supervisor, seen, _shutdown) = start();
        supervisor.role("tailer", |_| async { Err(Stop::halt("no", "yes")) });
        supervisor.role("applier", |_| async { Ok(()) });
        assert_eq!(supervisor.run(GRACE).await.unwrap_err().message, "no");
        assert_eq!(seen.states("applier"), [RoleState::Running, RoleState::Ended]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_shutdown_interrupts_a_wait_and_does_not_wait_for_ever() {
        let (mut supervisor, seen, shutdown) = start();
        let slow = Backoff::seeded(Duration::from_secs(3_600), Duration::from_secs(3_600), 1);
        supervisor = supervisor.with_backoff(slow);
        supervisor.role("tailer", |_| async { Err(retry("away")) });
        supervisor.role("deaf", |_| std::future::pending());
        let run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("tailer").last() != Some(&RoleState::Retrying) {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        shutdown.cancel();
        let stop = run.await.unwrap().unwrap_err();
        assert_eq!(stop.message, "not every role ended within 5 s of the shutdown");
        assert!(began.elapsed() >= GRACE && began.elapsed() < GRACE + Duration::from_secs(1));
        assert_eq!(seen.states("tailer").last(), Some(&RoleState::Ended));
    }
}
