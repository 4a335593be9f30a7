//! `tandem pause`, `resume` and `restart`: orders to the roles of the running node.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::observe::{OrderedRole, spoken_time};
use crate::runtime::Stop;

use super::node_api::{NodeApi, path_part};
use super::{Common, Outcome, output};

/// Let a role of the running node do nothing until it is resumed, also over a new start.
#[derive(Args)]
pub struct PauseArgs {
    #[command(flatten)]
    order: OrderArgs,
}

/// Let a paused role go on.
#[derive(Args)]
pub struct ResumeArgs {
    #[command(flatten)]
    order: OrderArgs,
}

/// Start a role of the running node anew, also one that has stopped.
#[derive(Args)]
pub struct RestartArgs {
    #[command(flatten)]
    order: OrderArgs,
    /// From an older place, or `beginning`: the tailer reads the binlog again after a GTID position, the applier looks again at
    /// the changes of --origin from an offset on. Nothing is published twice, and no newer write is lost.
    #[arg(long, value_name = "GTID or OFFSET")]
    from: Option<String>,
    /// Of the applier with --from: of which node's topic.
    #[arg(long, value_name = "NODE", requires = "from")]
    origin: Option<String>,
}

#[derive(Args)]
struct OrderArgs {
    #[arg(value_name = "ROLE")]
    role: RoleWord,
    /// Of the role `cloud`: only this cloud of the configuration.
    #[arg(value_name = "CLOUD")]
    cloud: Option<String>,
    #[command(flatten)]
    common: Common,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum RoleWord {
    /// Publishes this node's changes.
    Tailer,
    /// Applies the other nodes' changes.
    Applier,
    /// Feeds the clouds.
    Cloud,
    /// Keeps the topics.
    Hub,
}

pub async fn pause(args: PauseArgs) -> Outcome {
    order(&args.order, "pause", &json!({})).await
}

pub async fn resume(args: ResumeArgs) -> Outcome {
    order(&args.order, "resume", &json!({})).await
}

pub async fn restart(args: RestartArgs) -> Outcome {
    let from: Map<String, Value> = [("from", args.from), ("origin", args.origin)]
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), value?.into())))
        .collect();
    order(&args.order, "restart", &from).await
}

async fn order(args: &OrderArgs, verb: &str, body: &impl Serialize) -> Outcome {
    let role = args.role()?;
    let api = NodeApi::new(&args.common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let node = api.status().await?.node;
    let path = format!("/api/roles/{}/{verb}", path_part(&role));
    let roles: Vec<OrderedRole> = api.post_slowly(&path, body).await?;
    if args.json {
        output::json(&roles)?;
        return Ok(ExitCode::SUCCESS);
    }
    for OrderedRole { role, again } in &roles {
        let since = spoken_time(role.since_seconds);
        let why = role.reason.as_ref().map(|reason| format!(" — {reason}")).unwrap_or_default();
        output::line(output::plain(&format!("{node}: the {} is {} since {since}{why}", role.name, role.state)));
        if let Some(again) = again {
            output::line(output::plain(&again.told));
        }
    }
    Ok(ExitCode::SUCCESS)
}

impl OrderArgs {
    /// As the node calls it.
    fn role(&self) -> Result<String, Stop> {
        let name = match self.role {
            RoleWord::Tailer => "tailer",
            RoleWord::Applier => "applier",
            RoleWord::Cloud => "cloud",
            RoleWord::Hub => "hub",
        };
        match &self.cloud {
            None => Ok(name.to_owned()),
            Some(cloud) if self.role == RoleWord::Cloud => Ok(format!("cloud {cloud}")),
            Some(word) => {
                Err(Stop::halt(format!("the {name} is one role, and `{word}` names none of it"), format!("write: {name}")))
            }
        }
    }
}
