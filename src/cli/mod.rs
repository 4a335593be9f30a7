//! The command line: one file a subcommand.
//!
//! Exit codes: 0 good; 1 looked and found a difference; 2 wrong usage, or it could not be done; 3 `doctor` found something that must be mended; 130 interrupted. An error is
//! one line on standard error that says what, where and what next: `error: … — …`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Faults};
use crate::runtime::Stop;

mod bundle;
mod cloud_keep;
mod cloud_server;
mod completions;
mod config;
mod conflicts;
mod ddl;
mod doctor;
mod exchange;
mod failed;
mod files;
mod healthcheck;
mod hub;
mod init;
mod node;
mod node_api;
mod output;
mod position;
mod reseed;
mod roles;
mod run;
mod snapshot;
mod status;
mod sync;
mod tail;
mod topic;
mod verify;
mod where_row;

/// Keeps MariaDB databases of two or more sites the same, in both directions.
#[derive(Parser)]
#[command(name = "tandem", version, max_term_width = 120, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Init(init::InitArgs),
    Run(run::RunArgs),
    Status(status::StatusArgs),
    Pause(roles::PauseArgs),
    Resume(roles::ResumeArgs),
    Restart(roles::RestartArgs),
    Snapshot(snapshot::SnapshotArgs),
    Sync(sync::SyncArgs),
    Verify(verify::VerifyArgs),
    Tail(tail::TailArgs),
    Topic(topic::TopicArgs),
    Conflicts(conflicts::ConflictsArgs),
    Failed(failed::FailedArgs),
    Files(files::FilesArgs),
    Ddl(ddl::DdlArgs),
    Node(node::NodeArgs),
    Reseed(reseed::ReseedArgs),
    Where(where_row::WhereArgs),
    Position(position::PositionArgs),
    Config(config::ConfigArgs),
    Doctor(doctor::DoctorArgs),
    Bundle(bundle::BundleArgs),
    Healthcheck(healthcheck::HealthcheckArgs),
    Hub(hub::HubArgs),
    CloudServer(Box<cloud_server::CloudServerArgs>),
    Completions(completions::CompletionsArgs),
}

/// Which configuration, and which node of it: the same for every command that needs them.
#[derive(Args)]
struct Common {
    /// The configuration file.
    #[arg(long, short, env = "TANDEM_CONFIG", default_value = "tandem.toml", value_name = "FILE")]
    config: PathBuf,
    /// Which node of the configuration this is.
    #[arg(long, short, env = "TANDEM_NODE", value_name = "NODE")]
    node: Option<String>,
}

impl Common {
    fn load(&self) -> Result<Config, Faults> {
        Config::load(&self.config)
    }
}

/// Why a command ended without doing what it should.
enum Failure {
    Stop(Stop),
    Config(Faults),
}

impl From<Stop> for Failure {
    fn from(stop: Stop) -> Self {
        Self::Stop(stop)
    }
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Config(faults)
    }
}

impl Failure {
    fn print(&self) {
        match self {
            Self::Stop(stop) => eprintln!("error: {stop}"),
            Self::Config(faults) => faults.lines().for_each(|line| eprintln!("error: {line}")),
        }
    }
}

/// Looked, and found a difference.
const DIFFERENCE: u8 = 1;
const COULD_NOT: u8 = 2;
/// `doctor` found something that must be mended.
const MUST_MEND: u8 = 3;
const INTERRUPTED: u8 = 130;

type Outcome = Result<ExitCode, Failure>;

pub fn main() -> ExitCode {
    let outcome = match Cli::parse().command {
        Command::Run(args) => block_on(run::run(args)),
        Command::Init(args) => init::run(args),
        Command::Config(args) => config::run(args),
        Command::Completions(args) => completions::run(&args),
        Command::Status(args) => block_on(status::run(args)),
        Command::Pause(args) => block_on(roles::pause(args)),
        Command::Resume(args) => block_on(roles::resume(args)),
        Command::Restart(args) => block_on(roles::restart(args)),
        Command::Snapshot(args) => block_on(snapshot::run(args)),
        Command::Sync(args) => block_on(sync::run(args)),
        Command::Verify(args) => block_on(verify::run(args)),
        Command::Tail(args) => block_on(tail::run(args)),
        Command::Topic(args) => block_on(topic::run(args)),
        Command::Conflicts(args) => block_on(conflicts::run(args)),
        Command::Failed(args) => block_on(failed::run(args)),
        Command::Files(args) => block_on(files::run(args)),
        Command::Reseed(args) => block_on(reseed::run(args)),
        Command::Node(args) => block_on(node::run(args)),
        Command::Where(args) => block_on(where_row::run(args)),
        Command::Position(args) => block_on(position::run(args)),
        Command::Bundle(args) => block_on(bundle::run(args)),
        Command::Healthcheck(args) => block_on(healthcheck::run(args)),
        Command::Ddl(args) => block_on(ddl::run(args)),
        Command::Doctor(args) => block_on(doctor::run(args)),
        Command::Hub(args) => block_on(hub::run(args)),
        Command::CloudServer(args) => block_on(cloud_server::run(*args)),
    };
    outcome.unwrap_or_else(|failure| {
        failure.print();
        ExitCode::from(COULD_NOT)
    })
}

fn block_on(work: impl Future<Output = Outcome>) -> Outcome {
    // All connections of this process use one implementation of cryptography. It can be there already only if a test put it.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.map_err(|error| Stop::halt(format!("cannot start: {error}"), "free memory or threads"))?;
    let outcome = runtime.block_on(work);
    // What does not end is not waited for: everything durable is durable already.
    runtime.shutdown_background();
    outcome
}
