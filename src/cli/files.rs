//! `tandem files`: what became of the files that rows name, for clouds.

use std::process::ExitCode;

use clap::Args;
use serde::{Deserialize, Serialize};

use crate::observe::CloudFile;

use super::node_api::{NodeApi, path_part};
use super::{Common, Outcome, output};

/// Files in one answer of the node.
const PAGE: usize = 500;

/// List the files that rows name, and what became of each on its way to a cloud.
#[derive(Args)]
pub struct FilesArgs {
    #[command(flatten)]
    common: Common,
    /// Which cloud; may be left out where there is one.
    #[arg(long, value_name = "NAME")]
    cloud: Option<String>,
    /// Only those in this state.
    #[arg(long, value_parser = ["queued", "uploading", "synced", "missing", "skipped", "failed"])]
    state: Option<String>,
    /// At most so many.
    #[arg(long, default_value_t = 1_000, value_name = "N")]
    limit: usize,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

/// As the node tells them.
#[derive(Deserialize)]
struct Page {
    cloud: String,
    files: Vec<CloudFile>,
    next: Option<String>,
}

/// As programs are told.
#[derive(Serialize)]
struct Listed<'a> {
    cloud: &'a str,
    files: &'a [CloudFile],
    /// There are more than these.
    more: bool,
}

pub async fn run(args: FilesArgs) -> Outcome {
    let api = NodeApi::new(&args.common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    api.status().await?;
    let (mut files, mut after): (Vec<CloudFile>, Option<String>) = (Vec::new(), None);
    let cloud = loop {
        let mut path = format!("/api/cloud-sync/files?limit={}", PAGE.min(args.limit - files.len()).max(1));
        for (name, value) in [("cloud", &args.cloud), ("state", &args.state), ("after", &after)] {
            if let Some(value) = value {
                path.push_str(&format!("&{name}={}", path_part(value)));
            }
        }
        let page: Page = api.get(&path).await?;
        files.extend(page.files);
        after = page.next;
        if after.is_none() || files.len() >= args.limit {
            break page.cloud;
        }
    };
    files.truncate(args.limit);
    if args.json {
        output::json(&Listed { cloud: &cloud, files: &files, more: after.is_some() })?;
        return Ok(ExitCode::SUCCESS);
    }
    if files.is_empty() {
        output::line(output::plain(&match &args.state {
            Some(state) => format!("No file for {cloud} is {state}."),
            None => format!("No row that went to {cloud} names a file."),
        }));
        return Ok(ExitCode::SUCCESS);
    }
    let mut rows = output::table(["STATE", "KIND", "FILE", "BYTES", "WHY OR WHERE"], &[3]);
    for file in &files {
        rows.add_row([
            file.state.clone(),
            output::plain(&file.scope),
            output::plain(&file.path),
            if file.size > 0 { file.size.to_string() } else { "-".into() },
            output::plain(file.reason.as_deref().or(file.url.as_deref()).unwrap_or("-")),
        ]);
    }
    output::print(&rows);
    if after.is_some() {
        output::line("");
        output::line(format_args!("There are more: --limit {} shows the next.", args.limit.saturating_mul(2)));
    }
    Ok(ExitCode::SUCCESS)
}
