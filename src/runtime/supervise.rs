//! Runs the roles of a node, each by itself: one that fails waits, one that must not go on stops, the others continue.

use std::any::Any;
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout};

use super::switch::RoleSwitch;
use super::{Backoff, Disposition, Shutdown, Stop, Switches};

/// A role that worked this long has recovered: its next failure is a new one, and waits are short again.
const RECOVERED: Duration = Duration::from_secs(60);

/// A role that is paused or started anew ends within this time, or is dropped where it stands.
const LET_END: Duration = Duration::from_secs(8);

/// What a role is doing.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RoleState {
    Running,
    /// It failed in a way that may mend itself, and waits before the next attempt.
    Retrying,
    /// Somebody wants it to do nothing for now, since this second of the Unix epoch.
    Paused {
        since_second: u64,
    },
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
/// any other error, and a panic, stops it with the reason shown, until somebody starts it anew by its switch. `Ok` means that
/// it has ended by itself.
pub struct Supervisor {
    shutdown: Shutdown,
    watch: Arc<dyn RoleWatch>,
    roles: JoinSet<Result<(), Halt>>,
    backoff: Backoff,
    switches: Switches,
    active: Arc<Active>,
}

/// What stopped a role for good, and how many were stopped before it.
struct Halt {
    before: u64,
    stop: Stop,
}

impl Supervisor {
    pub fn new(watch: Arc<dyn RoleWatch>, shutdown: Shutdown) -> Self {
        let (roles, backoff, switches) = (JoinSet::new(), Backoff::connection(), Switches::default());
        Self { shutdown, watch, roles, backoff, switches, active: Arc::default() }
    }

    /// Waits between attempts other than those for a connection.
    pub fn with_backoff(self, backoff: Backoff) -> Self {
        Self { backoff, ..self }
    }

    /// Roles begin as these say, and follow them.
    pub fn with_switches(self, switches: Switches) -> Self {
        Self { switches, ..self }
    }

    /// Starts a role. `start` is called for every attempt, so it takes clones of what the role needs. The token that it is given
    /// ends this attempt alone.
    pub fn role<F, Work>(&mut self, name: impl Into<Arc<str>>, start: F)
    where
        F: Fn(Shutdown) -> Work + Send + Sync + 'static,
        Work: Future<Output = Result<(), Stop>> + Send + 'static,
    {
        let name = name.into();
        let role = Role {
            switch: self.switches.add(&name),
            name,
            shutdown: self.shutdown.clone(),
            watch: self.watch.clone(),
            backoff: self.backoff.clone(),
            active: self.active.clone(),
        };
        self.active.enter();
        self.roles.spawn(role.supervise(Arc::new(start)));
    }

    /// Until no role works or may go on by itself: all have ended or stopped; or within `grace` after shutdown; those that do
    /// not end are dropped where they stand, which is safe as a crash is. The error is the first that stopped a role for good.
    pub async fn run(mut self, grace: Duration) -> Result<(), Stop> {
        self.active.leave();
        let mut first: Option<Halt> = None;
        loop {
            tokio::select! {
                ended = self.roles.join_next() => match ended {
                    Some(ended) => first = earlier(first, ended),
                    None => break,
                },
                () = self.shutdown.cancelled() => break,
            }
        }
        let rest = async {
            while let Some(ended) = self.roles.join_next().await {
                first = earlier(first.take(), ended);
            }
        };
        let late = timeout(grace, rest).await.is_err();
        self.roles.shutdown().await;
        if let Some(halt) = first {
            return Err(halt.stop);
        }
        if late {
            let seconds = grace.as_secs_f64();
            let hint = "nothing is lost: what was not committed is done again at the next start";
            return Err(Stop::halt(format!("not every role ended within {seconds} s of the shutdown"), hint));
        }
        Ok(())
    }
}

/// The halt that came first, of the one known and what a role came to.
fn earlier(known: Option<Halt>, ended: Result<Result<(), Halt>, JoinError>) -> Option<Halt> {
    let halt = match ended {
        Ok(Ok(())) => return known,
        Ok(Err(halt)) => halt,
        Err(error) => Halt { before: 0, stop: fault_of("supervision", error) },
    };
    match known {
        Some(known) if known.before <= halt.before => Some(known),
        _ => Some(halt),
    }
}

/// Counts the roles that work or may go on by themselves. When none is left, those that have stopped end too: nobody is there
/// who could start them anew.
struct Active {
    count: Mutex<ActiveCount>,
    none_left: Shutdown,
}

struct ActiveCount {
    working: usize,
    halts: u64,
}

impl Default for Active {
    /// The supervisor counts as one until it runs, so that a role which ends at once does not end those to come.
    fn default() -> Self {
        Self { count: Mutex::new(ActiveCount { working: 1, halts: 0 }), none_left: Shutdown::new() }
    }
}

impl Active {
    fn enter(&self) {
        self.with(|count| count.working += 1);
    }

    fn leave(&self) {
        self.with(|count| count.working -= 1);
    }

    /// Leaves because of a halt; how many there were before.
    fn halt(&self) -> u64 {
        self.with(|count| {
            count.working -= 1;
            count.halts += 1;
            count.halts - 1
        })
    }

    fn with<T>(&self, change: impl FnOnce(&mut ActiveCount) -> T) -> T {
        let mut count = self.count.lock().unwrap_or_else(PoisonError::into_inner);
        let answer = change(&mut count);
        if count.working == 0 {
            self.none_left.cancel();
        }
        answer
    }
}

struct Role {
    name: Arc<str>,
    shutdown: Shutdown,
    watch: Arc<dyn RoleWatch>,
    backoff: Backoff,
    switch: RoleSwitch,
    active: Arc<Active>,
}

impl Role {
    async fn supervise<F, Work>(mut self, start: Arc<F>) -> Result<(), Halt>
    where
        F: Fn(Shutdown) -> Work + Send + Sync + 'static,
        Work: Future<Output = Result<(), Stop>> + Send + 'static,
    {
        loop {
            if self.shutdown.is_cancelled() {
                return self.end();
            }
            let wanted = *self.switch.wanted.borrow_and_update();
            if let Some(since_second) = wanted.paused_since {
                self.tell(RoleState::Paused { since_second }, None);
                self.switch.acted.send_replace(Some(wanted));
                self.told_or_shutdown().await;
                continue;
            }
            self.tell(RoleState::Running, None);
            self.switch.acted.send_replace(Some(wanted));
            let began = Instant::now();
            let (ended, told) = self.attempt(&start).await;
            match ended {
                Ok(()) if told => {}
                Ok(()) => return self.end(),
                Err(stop) if stop.disposition == Disposition::Retry => {
                    if told || began.elapsed() >= RECOVERED {
                        self.backoff.reset();
                    }
                    if told {
                        continue;
                    }
                    self.tell(RoleState::Retrying, Some(&stop));
                    let wait = self.backoff.next_wait();
                    let hurry = self.switch.hurry.clone();
                    // Ends early at shutdown and when something else is wanted; a time-out is the ordinary end of the wait.
                    tokio::select! {
                        _ = timeout(wait, self.told_or_shutdown()) => {}
                        () = hurry.notified() => self.backoff.reset(),
                    }
                }
                Err(stop) => {
                    self.tell(RoleState::Halted, Some(&stop));
                    let before = self.active.halt();
                    let none_left = self.active.none_left.clone();
                    tokio::select! {
                        biased;
                        () = none_left.cancelled() => return Err(Halt { before, stop }),
                        () = self.told_or_shutdown() => {}
                    }
                    if self.shutdown.is_cancelled() {
                        return Err(Halt { before, stop });
                    }
                    self.active.enter();
                    self.backoff.reset();
                }
            }
        }
    }

    /// One attempt, and whether it ended because something else is wanted of the role.
    async fn attempt<F, Work>(&mut self, start: &Arc<F>) -> (Result<(), Stop>, bool)
    where
        F: Fn(Shutdown) -> Work + Send + Sync + 'static,
        Work: Future<Output = Result<(), Stop>> + Send + 'static,
    {
        // In a task of its own, so that a panic ends the attempt only; in a set, so that it goes when we go.
        let mut attempt = JoinSet::new();
        let token = self.shutdown.child_token();
        let (start, ends) = (start.clone(), token.clone());
        attempt.spawn(async move { start(ends).await });
        const HELD: &str = "the set holds the attempt";
        tokio::select! {
            ended = attempt.join_next() => return (outcome(&self.name, ended.expect(HELD)), false),
            // The sender lives as long as the process: an error cannot be.
            _ = self.switch.wanted.changed() => token.cancel(),
        }
        match timeout(LET_END, attempt.join_next()).await {
            Ok(ended) => (outcome(&self.name, ended.expect(HELD)), true),
            // Dropped where it stands, which is safe as a crash is.
            Err(_) => {
                attempt.shutdown().await;
                (Ok(()), true)
            }
        }
    }

    /// Until something else is wanted, or the process ends.
    async fn told_or_shutdown(&mut self) {
        tokio::select! {
            () = self.shutdown.cancelled() => {}
            _ = self.switch.wanted.changed() => {}
        }
    }

    fn tell(&self, state: RoleState, why: Option<&Stop>) {
        self.watch.role_changed(&self.name, state, why);
    }

    fn end(&self) -> Result<(), Halt> {
        self.tell(RoleState::Ended, None);
        self.active.leave();
        Ok(())
    }
}

/// What a task came to; a panic is a halt.
fn outcome(name: &str, ended: Result<Result<(), Stop>, JoinError>) -> Result<(), Stop> {
    match ended {
        Ok(outcome) => outcome,
        Err(error) => Err(fault_of(name, error)),
    }
}

fn fault_of(name: &str, error: JoinError) -> Stop {
    match error.try_into_panic() {
        Ok(panic) => Stop::halt(
            format!("{name} met a fault in the program: {}", panic_text(panic.as_ref())),
            "start tandem again; if it comes back, report it with the log around this line",
        ),
        Err(_) => Stop::halt(format!("{name} was cancelled"), "start tandem again"),
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
    use crate::runtime::{ManualClock, PauseBook};

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
    async fn whoever_waits_before_its_next_attempt_can_be_told_to_make_it_now() {
        let (supervisor, seen, shutdown) = start();
        let switches = Switches::default();
        let mut supervisor = supervisor
            .with_switches(switches.clone())
            .with_backoff(Backoff::new(Duration::from_secs(3_600), Duration::from_secs(3_600)));
        let attempts = Arc::new(AtomicU32::new(0));
        let count = attempts.clone();
        supervisor.role("tailer", move |shutdown| {
            let first = count.fetch_add(1, Ordering::Relaxed) == 0;
            async move { if first { Err(retry("no route")) } else { until_shutdown(shutdown).await } }
        });
        let run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("tailer").last() != Some(&RoleState::Retrying) {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        // It may be told just before it waits: who orders it asks again.
        while seen.states("tailer").last() != Some(&RoleState::Running) {
            switches.hurry();
            tokio::task::yield_now().await;
        }
        assert!(began.elapsed() < Duration::from_secs(60) && attempts.load(Ordering::Relaxed) == 2);
        shutdown.cancel();
        run.await.unwrap().unwrap();
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

    /// A book that keeps what it is told, and can be full.
    #[derive(Clone, Default)]
    struct Book {
        kept: Arc<Mutex<std::collections::BTreeMap<String, u64>>>,
        full: bool,
    }

    impl PauseBook for Book {
        fn load(&self) -> Result<std::collections::BTreeMap<String, u64>, Stop> {
            Ok(self.kept.lock().unwrap().clone())
        }

        fn save(&self, paused: &std::collections::BTreeMap<String, u64>) -> Result<(), Stop> {
            if self.full {
                return Err(Stop::halt("the disk is full", "make room"));
            }
            *self.kept.lock().unwrap() = paused.clone();
            Ok(())
        }
    }

    fn switches(book: &Book, second: u64) -> Switches {
        Switches::open(Box::new(book.clone()), Arc::new(ManualClock::at_micros(second * 1_000_000))).unwrap()
    }

    #[tokio::test(start_paused = true)]
    async fn a_paused_role_does_nothing_until_it_is_resumed_in_another_process_too() {
        let book = Book::default();
        let (mut supervisor, seen, shutdown) = start();
        let first = switches(&book, 100);
        supervisor = supervisor.with_switches(first.clone());
        supervisor.role("tailer", until_shutdown);
        supervisor.role("applier", until_shutdown);
        let run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("applier").is_empty() {
            tokio::task::yield_now().await;
        }
        first.pause("applier").await.unwrap();
        assert_eq!(seen.states("applier"), [RoleState::Running, RoleState::Paused { since_second: 100 }]);
        assert_eq!(seen.states("tailer"), [RoleState::Running], "the other goes on");
        first.pause("applier").await.expect("it is paused already");
        assert!(first.restart("applier").await.unwrap_err().hint.unwrap().contains("tandem resume applier"));
        assert!(first.pause("cook").await.unwrap_err().message.contains("does not run the role cook"));
        shutdown.cancel();
        run.await.unwrap().unwrap();

        let (mut supervisor, seen, shutdown) = start();
        let second = switches(&book, 500);
        supervisor = supervisor.with_switches(second.clone());
        supervisor.role("applier", until_shutdown);
        let run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("applier").is_empty() {
            tokio::task::yield_now().await;
        }
        assert_eq!(seen.states("applier"), [RoleState::Paused { since_second: 100 }], "since then, and it never began");
        second.resume("applier").await.unwrap();
        assert_eq!(seen.states("applier").last(), Some(&RoleState::Running));
        assert_eq!(book.kept.lock().unwrap().len(), 0);
        shutdown.cancel();
        run.await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_has_stopped_is_started_anew_and_what_stays_stopped_is_the_outcome() {
        let (mut supervisor, seen, shutdown) = start();
        let switches = Switches::default();
        supervisor = supervisor.with_switches(switches.clone());
        let attempts = Arc::new(AtomicU32::new(0));
        let count = attempts.clone();
        supervisor.role("applier", move |shutdown| {
            let attempt = count.fetch_add(1, Ordering::Relaxed);
            async move {
                match attempt {
                    0 => Err(Stop::halt("a table is missing", "make it")),
                    1 => until_shutdown(shutdown).await,
                    _ => Err(Stop::halt("worse", "look")),
                }
            }
        });
        supervisor.role("web", until_shutdown);
        let run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("applier").last() != Some(&RoleState::Halted) {
            tokio::task::yield_now().await;
        }
        switches.restart("applier").await.unwrap();
        assert_eq!(seen.states("applier"), [RoleState::Running, RoleState::Halted, RoleState::Running]);
        switches.restart("applier").await.unwrap();
        while seen.states("applier").last() != Some(&RoleState::Halted) {
            tokio::task::yield_now().await;
        }
        shutdown.cancel();
        assert_eq!(run.await.unwrap().unwrap_err().message, "worse");
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_does_not_end_is_dropped_and_a_pause_that_cannot_be_kept_is_refused() {
        let (mut supervisor, seen, _shutdown) = start();
        let switches = switches(&Book { full: true, ..Book::default() }, 7);
        supervisor = supervisor.with_switches(switches.clone());
        supervisor.role("deaf", |_| std::future::pending());
        let _run = tokio::spawn(supervisor.run(GRACE));
        while seen.states("deaf").is_empty() {
            tokio::task::yield_now().await;
        }
        let began = Instant::now();
        switches.restart("deaf").await.unwrap();
        assert!(began.elapsed() >= LET_END);
        assert_eq!(seen.states("deaf"), [RoleState::Running, RoleState::Running]);
        assert_eq!(switches.pause("deaf").await.unwrap_err().message, "the disk is full");
        assert_eq!(seen.states("deaf").len(), 2, "it works on");
    }
}
