//! `tandem node`: who takes part, and how a node is removed.

use std::io::{IsTerminal, Write};
use std::process::ExitCode;

use clap::{Args, Subcommand};
use serde_json::{Value, json};

use crate::change::OriginId;
use crate::observe::spoken_time;
use crate::runtime::Stop;
use crate::wiring::{self, Member};

use super::{Common, Outcome, output};

/// See which nodes take part, and remove one.
#[derive(Args)]
pub struct NodeArgs {
    #[command(subcommand)]
    command: NodeCommand,
}

#[derive(Subcommand)]
enum NodeCommand {
    /// List the nodes of the configuration, and whether they take part.
    List {
        #[command(flatten)]
        common: Common,
        /// Print JSON, for programs.
        #[arg(long)]
        json: bool,
    },
    /// Say what it takes to add a node: its section of the configuration, its numbers, and the steps. Changes nothing.
    Add {
        #[command(flatten)]
        common: Common,
        /// The name of the new node.
        #[arg(value_name = "NAME")]
        name: String,
        /// Where its database is, as that node reaches it.
        #[arg(long, value_name = "URL")]
        database: Option<String>,
    },
    /// Remove another node for good: what it has published counts, nothing that it writes later does, and nobody waits for it.
    ///
    /// What it has not published yet stays on it alone. Its name cannot be used again.
    Remove {
        #[command(flatten)]
        common: Common,
        /// The node that goes. Run this on one that stays.
        #[arg(value_name = "NAME")]
        name: String,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
}

pub async fn run(args: NodeArgs) -> Outcome {
    match args.command {
        NodeCommand::List { common, json } => list(&common, json).await,
        NodeCommand::Add { common, name, database } => add(&common, &OriginId::new(&name), database.as_deref()),
        NodeCommand::Remove { common, name, yes } => remove(&common, &OriginId::new(&name), yes).await,
    }
}

async fn list(common: &Common, json: bool) -> Outcome {
    let own = common.load()?.own_node(common.node.as_deref())?;
    let members = wiring::members(&own).await?;
    if json {
        let names = |names: &[OriginId]| names.iter().map(ToString::to_string).collect::<Vec<_>>();
        let entry = |member: &Member| {
            json!({
                "node": member.name.as_str(), "own": member.name == *own.name(), "first": member.first, "end": member.end,
                "last_commit_seconds": member.last_commit_seconds, "removed_by": member.removed_by.as_ref().map(OriginId::as_str),
                "lacking": names(&member.lacking), "can_leave": member.can_leave(),
            })
        };
        output::json(&members.iter().map(entry).collect::<Vec<Value>>())?;
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["NODE", "STATE", "RECORDS", "LAST COMMIT"], &[2]);
    for member in &members {
        let here = if member.name == *own.name() { " (this one)" } else { "" };
        rows.add_row([
            format!("{}{here}", member.name),
            state(member),
            (member.end.0 - member.first.0).to_string(),
            member.last_commit_seconds.map_or_else(|| "-".into(), spoken_time),
        ]);
    }
    output::print(&rows);
    for member in members.iter().filter(|member| member.can_leave()) {
        let name = &member.name;
        output::line(format_args!("{name}: take [nodes.{name}] out of the configuration of every node, and start them anew."));
    }
    Ok(ExitCode::SUCCESS)
}

fn state(member: &Member) -> String {
    let Some(by) = &member.removed_by else {
        return if member.end.0 == 0 { "has published nothing yet".into() } else { "takes part".into() };
    };
    let lacking: Vec<&str> = member.lacking.iter().map(OriginId::as_str).collect();
    match &*lacking {
        [] => format!("removed by {by}; all have what it published"),
        some => format!("removed by {by}; not all of it is applied on {}", some.join(", ")),
    }
}

fn add(common: &Common, node: &OriginId, database: Option<&str>) -> Outcome {
    let config = common.load()?;
    if config.nodes.contains_key(node) {
        let message = format!("there is a node \"{node}\" already");
        return Err(Stop::halt(message, "give the new one another name: that of a removed node cannot be used again").into());
    }
    let url = match database {
        Some(url) => url.to_owned(),
        None => config.nodes.values().next().map(|other| other.database.to_string()).unwrap_or_default(),
    };
    let replica_id = config.nodes.values().map(|other| other.replica_id).max().unwrap_or(1_100).saturating_add(1);
    let hub = matches!(config.topic.keeper, crate::config::TopicKeeper::Hub(_));
    let mut section = format!(
        "[nodes.{node}]\ndatabase = \"{url}\"\npassword_file = \"secrets/{node}.password\"\nreplica_id = {replica_id}\n"
    );
    if hub {
        section += &format!(
            "hub_key_file = \"secrets/{node}.hub-key\"\nhub_key_hash = \"blake3:…\"   # of `tandem hub key` on {node}; the key goes into the file\n"
        );
    }
    // A mistake in the name or the address is said now, and not when all nodes have it.
    let text = std::fs::read_to_string(&common.config).unwrap_or_default();
    let hash = format!("blake3:{}", "0".repeat(64));
    crate::config::Config::parse(
        &common.config,
        &format!("{text}\n{}", section.replace("blake3:…", &hash)),
        std::env::vars().collect(),
    )?;
    let number = config.nodes.len() + 1;
    output::line(format_args!("Into the configuration of every node, {node} included:\n\n{section}"));
    output::line(format_args!(
        "In the MariaDB of {node}, under [mysqld], with numbers that no other node has, for example:\n\nserver_id = {number}\ngtid_domain_id = {number}\n\
         auto_increment_offset = {number}\n\nWhat else it needs:   tandem doctor --node {node}"
    ));
    output::line(format_args!(
        "\nThen:  start all nodes anew, first whoever keeps the topics\n       make the database on {node}, empty or filled, and start tandem \
         there\n       tandem reseed --node {node} --from NODE   gets the tables and rows that are there, and every write since"
    ));
    Ok(ExitCode::SUCCESS)
}

async fn remove(common: &Common, node: &OriginId, yes: bool) -> Outcome {
    let config = common.load()?;
    let own = config.own_node(common.node.as_deref())?;
    if node == own.name() {
        let message = format!("{node} is this node, and what it has not published would be lost unseen");
        return Err(Stop::halt(message, "run it on a node that stays, when `tandem status` here shows nothing pending").into());
    }
    if !config.nodes.contains_key(node) {
        let names: Vec<&str> = config.nodes.keys().filter(|name| *name != own.name()).map(OriginId::as_str).collect();
        return Err(Stop::halt(format!("there is no node \"{node}\""), format!("use one of {}", names.join(", "))).into());
    }
    if !yes && !agreed(node)? {
        output::line(format_args!("Nothing was done."));
        return Ok(ExitCode::SUCCESS);
    }
    let removal = wiring::remove(&own, node).await?;
    match &removal.before {
        Some(by) => output::line(format_args!("{node} was removed before, by {by}: its topic ends at {}.", removal.end)),
        None => output::line(format_args!(
            "{node} is removed: its topic ends at {}, and all before counts. What it had not published is on its database alone.",
            removal.end
        )),
    }
    output::line(format_args!(
        "\nNext:  wait until `tandem node list` says that all nodes have what it published\n       take [nodes.{node}] out of the \
         configuration of every node, and start them anew"
    ));
    Ok(ExitCode::SUCCESS)
}

fn agreed(node: &OriginId) -> Result<bool, Stop> {
    if !std::io::stdin().is_terminal() {
        return Err(Stop::halt("nobody is there to be asked", "add --yes"));
    }
    eprint!("Remove {node} for good? What it has not published stays on it alone, and its name cannot be used again. [y/N] ");
    let failed = |error: std::io::Error| Stop::halt(format!("cannot ask: {error}"), "add --yes");
    std::io::stderr().flush().map_err(failed)?;
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).map_err(failed)?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
