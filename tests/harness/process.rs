//! Child processes that cannot outlive the program that started them.

use std::io;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::process::{Child, Command, ExitStatus};
use std::sync::{OnceLock, mpsc};
use std::time::{Duration, Instant};

/// A child process: killed when dropped, and by the kernel when we die.
pub struct Running {
    child: Child,
    what: String,
}

impl Running {
    pub fn start(what: impl Into<String>, command: Command) -> io::Result<Self> {
        Ok(Self { child: spawn_guarded(command)?, what: what.into() })
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().unwrap_or_else(|error| panic!("cannot ask for the state of {}: {error}", self.what))
    }

    /// SIGKILL, and gone when this returns.
    pub fn kill9(&mut self) {
        // Failing means that it has ended already; either way it is collected below.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGTERM, without waiting.
    pub fn ask_to_end(&self) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        // SAFETY: kill has no memory effects, and the id is ours until the child is waited for.
        unsafe { libc::kill(id, libc::SIGTERM) };
    }

    /// SIGTERM; panics if it has not ended by the deadline (and kills it).
    pub async fn terminate(&mut self, deadline: Duration) -> ExitStatus {
        self.ask_to_end();
        self.join(deadline).await
    }

    /// Waits until it ends by itself; panics if it has not by the deadline (and kills it).
    pub async fn join(&mut self, deadline: Duration) -> ExitStatus {
        let start = Instant::now();
        let waited = super::wait_until(&format!("the end of {}", self.what), deadline, async || self.ended().is_some()).await;
        if let Err(missed) = waited {
            self.kill9();
            panic!("{missed}, after {:.1} s", start.elapsed().as_secs_f32());
        }
        self.ended().expect("it was seen to have ended")
    }

    /// Gives the process up: it lives on after this program. For `make demo KEEP=1`, with a command from [`outlive`].
    pub fn leave(self) -> u32 {
        let id = self.child.id();
        std::mem::forget(self);
        id
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.kill9();
    }
}

/// True for an end by SIGKILL.
pub fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGKILL)
}

/// Starts the command so that the kernel kills it when this program ends, however it ends.
///
/// The kernel's promise (PR_SET_PDEATHSIG) is about the *thread* that started the child, and test threads and pool threads
/// end early. So one thread that lives as long as the program starts them all.
fn spawn_guarded(command: Command) -> io::Result<Child> {
    type Order = (Command, mpsc::Sender<io::Result<Child>>);
    static STARTER: OnceLock<mpsc::Sender<Order>> = OnceLock::new();
    let starter = STARTER.get_or_init(|| {
        let (orders, inbox) = mpsc::channel::<Order>();
        std::thread::Builder::new()
            .name("starter".into())
            .spawn(move || {
                for (mut command, answer) in inbox {
                    let us = std::process::id();
                    if !lives_on(&command) {
                        // SAFETY: prctl and getppid are async-signal-safe and allocate nothing.
                        unsafe { command.pre_exec(move || die_with(us)) };
                    }
                    // The asker waits for the answer; if it is gone, the child is dropped unguarded only by a panic there.
                    let _ = answer.send(command.spawn());
                }
            })
            .expect("a program can start one thread");
        orders
    });
    let (answer, outcome) = mpsc::channel();
    starter.send((command, answer)).expect("the starter lives as long as the program");
    outcome.recv().expect("the starter answers every order")
}

const LIVE_ON: &str = "TANDEM_HARNESS_LIVES_ON";

/// Marks a command whose process may outlive this program: it leads a process group of its own and is not guarded.
pub fn outlive(command: &mut Command) {
    command.env(LIVE_ON, "1").process_group(0);
}

fn lives_on(command: &Command) -> bool {
    command.get_envs().any(|(key, value)| key == LIVE_ON && value.is_some())
}

fn die_with(parent: u32) -> io::Result<()> {
    // SAFETY: plain system calls on our own process.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        // The parent may have died before the call above.
        if u32::try_from(libc::getppid()) != Ok(parent) {
            return Err(io::Error::other("the program that started this has ended"));
        }
    }
    Ok(())
}
