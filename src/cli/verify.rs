//! `tandem verify`: proof that this node's rows are those of the others, or which are not.

use std::io::IsTerminal;
use std::process::ExitCode;
use std::time::Duration;

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use crate::observe::{DifferenceView, VerifyView, VerifyWish, spoken_count};
use crate::runtime::Stop;

use super::node_api::NodeApi;
use super::{Common, DIFFERENCE, INTERRUPTED, Outcome, output};

/// Compare this node's rows with those of the other nodes, and settle what differs.
///
/// Both sides may be written to meanwhile. Every value counts as it is stored: the last bit of a number, capital letters, NULL. Ends
/// with 1 where a row differs or a table could not be compared. The other nodes must be running; one that is offline answers when it is back.
#[derive(Args)]
pub struct VerifyArgs {
    #[command(flatten)]
    common: Common,
    /// Tables as campus.riders, riders, or with `*`; all that are synced where none is named.
    tables: Vec<String>,
    /// Have what differs settled as at the first start of a pair, the loser kept as a conflict; then compare again.
    #[arg(long, conflicts_with_all = ["dry_run", "list", "cancel"])]
    repair: bool,
    /// Only show what --repair would settle: the same as without it.
    #[arg(long)]
    dry_run: bool,
    /// Do not wait for the end: the node goes on by itself.
    #[arg(long, conflicts_with = "repair")]
    no_wait: bool,
    /// Show the comparison that is under way, or the last one since the node was started.
    #[arg(long, conflicts_with_all = ["tables", "cancel"])]
    list: bool,
    /// End the comparison that is under way.
    #[arg(long, conflicts_with_all = ["tables", "no_wait"])]
    cancel: bool,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
}

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A repair goes the way of any change; it is looked for so often, with this long in between.
const REPAIR_LOOKS: u32 = 5;
const REPAIR_WAIT: Duration = Duration::from_secs(2);

pub async fn run(args: VerifyArgs) -> Outcome {
    let api = NodeApi::new(&args.common)?;
    // Asked first, so that another node on this machine does not answer for the one that is meant.
    let node = api.status().await?.node;
    if args.cancel {
        let _: serde_json::Value = api.post("/api/verify/cancel", &serde_json::json!({})).await?;
        output::line(format_args!("The comparison of {node} is ended."));
        return Ok(ExitCode::SUCCESS);
    }
    if args.list {
        let Some(view) = api.get::<Option<VerifyView>>("/api/verify").await? else {
            output::line(format_args!("{node} was not compared since it was started."));
            return Ok(ExitCode::SUCCESS);
        };
        return tell(&view, args.json);
    }
    let compared = tokio::select! {
        compared = compare(&api, &args) => compared?,
        _ = tokio::signal::ctrl_c() => {
            eprintln!("The node goes on with it. See it with: tandem verify --list");
            return Ok(ExitCode::from(INTERRUPTED));
        }
    };
    tell(&compared, args.json)
}

async fn compare(api: &NodeApi, args: &VerifyArgs) -> Result<VerifyView, Stop> {
    let wish = VerifyWish { tables: args.tables.clone(), repair: args.repair };
    let begun: VerifyView = api.post("/api/verify", &wish).await?;
    if args.no_wait {
        return Ok(begun);
    }
    let mut view = watch(api, begun, args.json).await?;
    if !args.repair || view.differing == 0 {
        return Ok(view);
    }
    if !args.json {
        print_differences(&view);
        output::line(format_args!("{} Both sides publish them, and they are settled; comparing again.", view.verdict()));
    }
    for _ in 0..REPAIR_LOOKS {
        tokio::time::sleep(REPAIR_WAIT).await;
        let again: VerifyView = api.post("/api/verify", &VerifyWish { repair: false, ..wish.clone() }).await?;
        view = watch(api, again, args.json).await?;
        if view.differing == 0 {
            break;
        }
    }
    Ok(view)
}

/// Until it has ended, with a bar where a person looks.
async fn watch(api: &NodeApi, mut view: VerifyView, quiet: bool) -> Result<VerifyView, Stop> {
    let bar = match std::io::stderr().is_terminal() && !quiet {
        true => ProgressBar::new(0),
        false => ProgressBar::hidden(),
    };
    let form = "{bar:30} {percent:>3}%  {human_pos} of about {human_len} rows  {per_sec}  {eta} left  {msg}";
    bar.set_style(ProgressStyle::with_template(form).expect("the form is a constant"));
    let number = view.number;
    while view.is_open() {
        let (done, expected) = view.rows();
        bar.set_length(expected);
        bar.set_position(done);
        let waits = view.parts.iter().find(|part| !matches!(&*part.state, "done" | "failed"));
        bar.set_message(match (view.look, waits) {
            (0, Some(part)) if part.state == "waiting" => format!("waits for {}", output::plain(&part.node)),
            (0, Some(part)) => output::plain(&part.table),
            _ => "looks again at what differs".into(),
        });
        tokio::time::sleep(LOOK_EVERY).await;
        let now: Option<VerifyView> = api.get("/api/verify").await?;
        let lost =
            || Stop::halt("the node no longer knows of this comparison: it was started anew", "run `tandem verify` again");
        view = now.filter(|now| now.number == number).ok_or_else(lost)?;
    }
    bar.finish_and_clear();
    Ok(view)
}

fn tell(view: &VerifyView, json: bool) -> Outcome {
    if json {
        output::json(view)?;
    } else {
        let mut rows = output::table(["NODE", "TABLE", "STATE", "ROWS", "PASSED BY", ""], &[3, 4]);
        for part in &view.parts {
            rows.add_row([
                output::plain(&part.node),
                output::plain(&part.table),
                part.state.clone(),
                spoken_count(part.rows),
                spoken_count(part.passed_by),
                part.reason.as_deref().map(output::plain).unwrap_or_default(),
            ]);
        }
        output::print(&rows);
        print_differences(view);
        output::line(format_args!("\n{}", view.verdict()));
    }
    let good = view.is_open() || view.differing == 0 && view.failed().next().is_none();
    Ok(if good { ExitCode::SUCCESS } else { ExitCode::from(DIFFERENCE) })
}

fn print_differences(view: &VerifyView) {
    if view.differences.is_empty() {
        return;
    }
    output::line("");
    let mut rows = output::table(["TABLE", "ROW", "BESIDE", "WHAT", "COLUMNS"], &[]);
    for difference in &view.differences {
        rows.add_row([
            output::plain(&difference.table),
            output::key(&difference.key),
            output::plain(&difference.node),
            what(difference).to_owned(),
            output::plain(&difference.columns.join(", ")),
        ]);
    }
    output::print(&rows);
    let more = view.differing.saturating_sub(view.differences.len() as u64);
    if more > 0 {
        output::line(format_args!("and {} more", spoken_count(more)));
    }
}

fn what(difference: &DifferenceView) -> &'static str {
    match difference.kind.as_str() {
        "missing_here" => "is missing here",
        "missing_there" => "is missing there",
        _ => "differs",
    }
}
