//! `tandem healthcheck`: for whatever watches over the process.

use std::process::ExitCode;

use clap::Args;

use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, Outcome, output};

/// Ask the running node whether it is well, for what watches over it: exit code 0 or 1.
#[derive(Args)]
pub struct HealthcheckArgs {
    #[command(flatten)]
    common: Common,
    /// Whether every role has started and none has stopped, and not only whether the process answers. A node that is offline
    /// is ready.
    #[arg(long)]
    ready: bool,
}

/// Needs no key and no secret: only the address comes from the configuration.
pub async fn run(args: HealthcheckArgs) -> Outcome {
    let api = NodeApi::without_key(&args.common)?;
    match api.text(if args.ready { "/readyz" } else { "/healthz" }).await {
        Ok(said) => {
            output::line(said.trim_end());
            Ok(ExitCode::SUCCESS)
        }
        Err(stop) => {
            eprintln!("error: {stop}");
            Ok(ExitCode::from(DIFFERENCE))
        }
    }
}
