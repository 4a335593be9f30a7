//! `tandem hub`: keeps the topics on a server that is no node itself.

use std::process::ExitCode;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use crate::runtime::{Shutdown, Stop};
use crate::wiring;

use super::run::{LogArgs, until_signal};
use super::{Common, Outcome, output};

/// Keep the topics, without a database here: for a server between the nodes.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct HubArgs {
    #[command(subcommand)]
    command: Option<HubCommand>,
    #[command(flatten)]
    common: Common,
    #[command(flatten)]
    log: LogArgs,
}

#[derive(Subcommand)]
enum HubCommand {
    /// Make a key for a node, and the hash by which the hub knows it.
    Key,
    /// Print the fingerprint of the hub's certificate, which is made if it is missing.
    Fingerprint,
}

pub async fn run(args: HubArgs) -> Outcome {
    if let Some(HubCommand::Key) = args.command {
        return key();
    }
    let config = args.common.load()?;
    if let Some(HubCommand::Fingerprint) = args.command {
        output::line(format_args!("{}", wiring::hub_fingerprint(&config)?));
        return Ok(ExitCode::SUCCESS);
    }
    args.log.start()?;
    let shutdown = Shutdown::new();
    until_signal(wiring::run_hub(&config, shutdown.clone()), shutdown).await
}

fn key() -> Outcome {
    let (key, hash) =
        wiring::make_key().ok_or_else(|| Stop::halt("this system gives no random numbers", "try it on another machine"))?;
    output::line(format_args!("key            {}", key.expose_secret()));
    output::line(format_args!("hub_key_hash   {hash}"));
    eprintln!(
        "The key belongs to one node: put it where its hub_key_env or hub_key_file points. The hash belongs in the configuration."
    );
    Ok(ExitCode::SUCCESS)
}
