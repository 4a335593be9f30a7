//! The command line: one file a subcommand.
//!
//! Exit codes: 0 good; 1 looked and found a difference; 2 wrong usage, or it could not be done; 130 interrupted. An error is
//! one line on standard error that says what, where and what next: `error: … — …`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::{Config, Faults};
use crate::runtime::Stop;

mod config;

/// Keeps MariaDB databases of two or more sites the same, in both directions.
#[derive(Parser)]
#[command(name = "tandem", version, max_term_width = 120, arg_required_else_help = true, disable_help_subcommand = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    Config(config::ConfigArgs),
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

const COULD_NOT: u8 = 2;

type Outcome = Result<ExitCode, Failure>;

pub fn main() -> ExitCode {
    let cli = Cli::parse();
    let outcome = match cli.command {
        Command::Config(args) => config::run(args),
    };
    outcome.unwrap_or_else(|failure| {
        failure.print();
        ExitCode::from(COULD_NOT)
    })
}
