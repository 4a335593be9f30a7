//! `tandem config`: is the file right, and what does it come to?

use std::process::ExitCode;

use clap::{Args, Subcommand};

use super::{Common, Outcome};

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
            print!("{}", common.load()?.show());
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn check(common: &Common) -> Outcome {
    let config = common.load()?;
    let nodes = config.nodes.keys().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
    println!("{} is in order: cluster {}, nodes {nodes}.", config.file.display(), config.cluster);
    match &common.node {
        Some(name) => {
            let own = config.own_node(Some(name))?;
            config.web_key()?;
            println!("This is {}; its secrets are there.", own.name());
        }
        None => println!("No node is named (--node or TANDEM_NODE), so secrets were not looked for."),
    }
    Ok(ExitCode::SUCCESS)
}
