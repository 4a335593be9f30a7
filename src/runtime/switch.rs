//! Roles that people pause, resume and start anew while the process runs.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, watch};
use tokio::time::timeout;

use super::{Clock, Stop, SystemClock};

/// Longer than a role may take to end: see `supervise::LET_END`.
const SETTLED_WITHIN: Duration = Duration::from_secs(12);

/// Keeps which roles are paused while no process runs.
pub trait PauseBook: Send + Sync {
    /// Since when each paused role is, in seconds of the Unix epoch.
    fn load(&self) -> Result<BTreeMap<String, u64>, Stop>;

    /// Replaces what was kept before. A pause that cannot be kept is refused: it would end with the process, unnoticed.
    fn save(&self, paused: &BTreeMap<String, u64>) -> Result<(), Stop>;
}

/// Keeps nothing: a pause ends with the process.
struct NoBook;

impl PauseBook for NoBook {
    fn load(&self) -> Result<BTreeMap<String, u64>, Stop> {
        Ok(BTreeMap::new())
    }

    fn save(&self, _: &BTreeMap<String, u64>) -> Result<(), Stop> {
        Ok(())
    }
}

/// What is wanted of a role. A higher number of starts than before: start anew.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct Wanted {
    pub paused_since: Option<u64>,
    starts: u64,
}

/// One role's end of its switch.
pub(super) struct RoleSwitch {
    pub wanted: watch::Receiver<Wanted>,
    /// What the role has come to.
    pub acted: watch::Sender<Option<Wanted>>,
    /// Whoever waits before the next attempt need not wait any longer.
    pub hurry: Arc<Notify>,
}

struct Switch {
    wanted: watch::Sender<Wanted>,
    acted: watch::Receiver<Option<Wanted>>,
}

/// The switches of all roles of a process. Cheap to clone.
#[derive(Clone)]
pub struct Switches(Arc<Shared>);

struct Shared {
    book: Box<dyn PauseBook>,
    clock: Arc<dyn Clock>,
    inner: Mutex<Inner>,
    hurry: Arc<Notify>,
}

#[derive(Default)]
struct Inner {
    roles: BTreeMap<Arc<str>, Switch>,
    /// Those of roles that do not run in this process too: another may run them.
    paused: BTreeMap<String, u64>,
}

impl Default for Switches {
    fn default() -> Self {
        Self::with(Box::new(NoBook), Arc::new(SystemClock), BTreeMap::new())
    }
}

impl Switches {
    /// With what the book keeps: a role that was paused begins paused.
    pub fn open(book: Box<dyn PauseBook>, clock: Arc<dyn Clock>) -> Result<Self, Stop> {
        let paused = book.load()?;
        Ok(Self::with(book, clock, paused))
    }

    fn with(book: Box<dyn PauseBook>, clock: Arc<dyn Clock>, paused: BTreeMap<String, u64>) -> Self {
        Self(Arc::new(Shared {
            book,
            clock,
            inner: Mutex::new(Inner { roles: BTreeMap::new(), paused }),
            hurry: Arc::default(),
        }))
    }

    /// The roles of this process.
    pub fn roles(&self) -> Vec<Arc<str>> {
        self.inner().roles.keys().cloned().collect()
    }

    /// Ends the role's work until it is resumed. Answers when it has ended. Does nothing where it is paused already.
    pub async fn pause(&self, role: &str) -> Result<(), Stop> {
        let since = self.0.clock.now_seconds();
        self.set(role, |paused| paused.or(Some(since))).await
    }

    /// Lets a paused role work again. Does nothing where it is not paused.
    pub async fn resume(&self, role: &str) -> Result<(), Stop> {
        self.set(role, |_| None).await
    }

    /// Ends the role's work in order and begins it anew, also where it has stopped until somebody acts. Answers when it has
    /// begun.
    pub async fn restart(&self, role: &str) -> Result<(), Stop> {
        {
            let inner = self.inner();
            let switch = inner.switch(role)?;
            if switch.wanted.borrow().paused_since.is_some() {
                return Err(Stop::halt(format!("the {role} is paused"), format!("`tandem resume {role}` starts it")));
            }
            switch.wanted.send_modify(|wanted| wanted.starts += 1);
        }
        self.settled(role).await
    }

    /// Lets all roles that wait before their next attempt make it now. Those that work, are paused or have stopped are not touched.
    pub fn hurry(&self) {
        self.0.hurry.notify_waiters();
    }

    async fn set(&self, role: &str, of: impl FnOnce(Option<u64>) -> Option<u64>) -> Result<(), Stop> {
        {
            let mut inner = self.inner();
            let before = inner.switch(role)?.wanted.borrow().paused_since;
            let now = of(before);
            let mut paused = inner.paused.clone();
            match now {
                Some(since) => drop(paused.insert(role.to_owned(), since)),
                None => drop(paused.remove(role)),
            }
            if paused != inner.paused {
                self.0.book.save(&paused)?;
                inner.paused = paused;
            }
            let differs = |wanted: &mut Wanted| std::mem::replace(&mut wanted.paused_since, now) != now;
            inner.switch(role)?.wanted.send_if_modified(differs);
        }
        self.settled(role).await
    }

    /// Waits until the role has come to what is wanted of it.
    async fn settled(&self, role: &str) -> Result<(), Stop> {
        let (mut acted, wanted) = {
            let inner = self.inner();
            let switch = inner.switch(role)?;
            (switch.acted.clone(), *switch.wanted.borrow())
        };
        let came = timeout(SETTLED_WITHIN, acted.wait_for(|acted| *acted == Some(wanted))).await;
        match came {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) => Err(Stop::halt(format!("the {role} has ended"), "start tandem again")),
            Err(_) => {
                let message = format!("the {role} did not come to it within {} s", SETTLED_WITHIN.as_secs());
                Err(Stop::halt(message, "it does when it can: see `tandem status`"))
            }
        }
    }

    pub(super) fn add(&self, role: &Arc<str>) -> RoleSwitch {
        let mut inner = self.inner();
        let begins = Wanted { paused_since: inner.paused.get(&**role).copied(), starts: 0 };
        let (wanted, for_role) = watch::channel(begins);
        let (acted, for_us) = watch::channel(None);
        inner.roles.insert(role.clone(), Switch { wanted, acted: for_us });
        RoleSwitch { wanted: for_role, acted, hurry: self.0.hurry.clone() }
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn switch(&self, role: &str) -> Result<&Switch, Stop> {
        self.roles.get(role).ok_or_else(|| {
            let names: Vec<&str> = self.roles.keys().map(|name| &**name).collect();
            Stop::halt(format!("this process does not run the role {role}"), format!("it runs: {}", names.join(", ")))
        })
    }
}
