//! `tandem run`: this node, until it is told to end.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::observe::{LogFormat, start_log};
use crate::runtime::{Shutdown, Stop};

use crate::wiring::{self, Role};

use super::{Common, Failure, INTERRUPTED, Outcome};

/// Run this node: all its roles, or those named.
#[derive(Args)]
pub struct RunArgs {
    /// Which of the node's roles; all of them if none is named. `hub` runs where the configuration says so.
    #[arg(value_name = "ROLE")]
    roles: Vec<RoleArg>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Clone, Copy, ValueEnum)]
enum RoleArg {
    /// Keeps the topics.
    Hub,
    /// Publishes this node's changes.
    Tailer,
    /// Applies the other nodes' changes.
    Applier,
    /// Feeds the clouds that the configuration names.
    Cloud,
    /// Shows status and metrics.
    Web,
}

pub async fn run(args: RunArgs) -> Outcome {
    let config = args.common.load()?;
    let own = config.own_node(args.common.node.as_deref())?;
    args.log.start()?;
    let roles: Vec<Role> = args
        .roles
        .iter()
        .map(|role| match role {
            RoleArg::Hub => Role::Hub,
            RoleArg::Tailer => Role::Tailer,
            RoleArg::Applier => Role::Applier,
            RoleArg::Cloud => Role::Cloud,
            RoleArg::Web => Role::Web,
        })
        .collect();
    let shutdown = Shutdown::new();
    until_signal(wiring::run_node(&config, own, &roles, shutdown.clone()), shutdown).await
}

/// How the log is written.
#[derive(Args)]
pub struct LogArgs {
    /// Form of the log on standard error.
    #[arg(long, env = "TANDEM_LOG_FORMAT", default_value = "text", value_name = "FORM")]
    log_format: Format,
    /// What is logged: error, warn, info, debug, or a list such as `info,tandem::tail=debug`.
    #[arg(long, env = "TANDEM_LOG", default_value = "info", value_name = "FILTER")]
    log: String,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One object per line, for programs.
    Json,
}

impl LogArgs {
    pub fn start(&self) -> Result<(), Stop> {
        let format = match self.log_format {
            Format::Text => LogFormat::Text,
            Format::Json => LogFormat::Json,
        };
        start_log(format, &self.log).map_err(|why| Stop::halt(why, "write --log info, or see docs/operations.md"))
    }
}

/// Runs until the work ends by itself or the process is told to end: the first signal asks it to, a second Ctrl-C does not
/// wait.
pub async fn until_signal(work: impl Future<Output = Result<(), Stop>>, shutdown: Shutdown) -> Outcome {
    tokio::pin!(work);
    let mut signals = Signals::new()?;
    tokio::select! {
        ended = &mut work => return ended.map(|()| ExitCode::SUCCESS).map_err(Failure::from),
        () = signals.next() => shutdown.cancel(),
    }
    tokio::select! {
        ended = work => ended.map(|()| ExitCode::SUCCESS).map_err(Failure::from),
        () = signals.interrupt() => Ok(ExitCode::from(INTERRUPTED)),
    }
}

/// What tells a process to end, on each kind of system.
struct Signals {
    #[cfg(unix)]
    terminate: tokio::signal::unix::Signal,
    #[cfg(unix)]
    interrupt: tokio::signal::unix::Signal,
    #[cfg(windows)]
    interrupt: tokio::signal::windows::CtrlC,
    #[cfg(windows)]
    close: tokio::signal::windows::CtrlClose,
    #[cfg(windows)]
    shutdown: tokio::signal::windows::CtrlShutdown,
}

fn no_signals(error: std::io::Error) -> Stop {
    Stop::halt(format!("cannot listen for signals: {error}"), "start it from a shell or a service")
}

#[cfg(unix)]
impl Signals {
    fn new() -> Result<Self, Stop> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(no_signals)?,
            interrupt: signal(SignalKind::interrupt()).map_err(no_signals)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }

    async fn interrupt(&mut self) {
        self.interrupt.recv().await;
    }
}

#[cfg(windows)]
impl Signals {
    fn new() -> Result<Self, Stop> {
        use tokio::signal::windows::{ctrl_c, ctrl_close, ctrl_shutdown};
        Ok(Self {
            interrupt: ctrl_c().map_err(no_signals)?,
            close: ctrl_close().map_err(no_signals)?,
            shutdown: ctrl_shutdown().map_err(no_signals)?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.close.recv() => {}
            _ = self.shutdown.recv() => {}
        }
    }

    async fn interrupt(&mut self) {
        self.interrupt.recv().await;
    }
}
