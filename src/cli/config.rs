//! `tandem config`: is the file right, and what does it come to?

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Common, Outcome, output};

/// Check the configuration, or show what is in force.
#[derive(Args)]
pub struct ConfigArgs {
    #[command(subcommand)]
    command: ConfigCommand,
}

#[derive(Subcommand)]
enum ConfigCommand {
    /// Report every fault of the file and the environment; with a node, see that its secrets are there. Starts nothing.
    Check(#[command(flatten)] Common),
    /// Print the settings in force with all defaults, secrets hidden.
    Show(#[command(flatten)] Common),
}

pub fn run(args: ConfigArgs) -> Outcome {
    match args.command {
        ConfigCommand::Check(common) => check(&common),
        ConfigCommand::Show(common) => {
            output::line(common.load()?.show().trim_end());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(common: &Common) -> Outcome {
    let config = common.load()?;
    let nodes = config.nodes.keys().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    output::line(format_args!("{} is in order: cluster {}, nodes {nodes}.", config.file.display(), config.cluster));
    match &common.node {
        Some(name) => {
            let own = config.own_node(Some(name))?;
            config.web_key()?;
            output::line(format_args!("This is {}; its secrets are there.", own.name()));
        }
        None => output::line(format_args!("No node is named (--node or TANDEM_NODE), so secrets were not looked for.")),
    }
    Ok(ExitCode::SUCCESS)
}
