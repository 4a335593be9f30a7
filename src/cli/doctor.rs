//! `tandem doctor`: is everything set up as it must be?

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::change::OriginId;
use crate::runtime::{Finding, Level, Stop};
use crate::wiring::{self, Facts, Look};

use super::node_api::NodeApi;
use super::{Common, MUST_MEND, Outcome, output};

/// Look a node's set-up over: what must be mended, and how.
///
/// The database, its settings, rights and tables, the topics and the state folder. Changes nothing. Exits with 3 where something
/// must be mended.
#[derive(Args)]
pub struct DoctorArgs {
    #[command(flatten)]
    common: Common,
    /// Print JSON, for programs.
    #[arg(long)]
    json: bool,
    /// Write what another node's doctor needs to compare its database with this one: settings and definitions of tables, no rows.
    #[arg(long, value_name = "FILE")]
    save: Option<PathBuf>,
    /// Compare with what `doctor --save` wrote on another node. May be given several times.
    #[arg(long, value_name = "FILE")]
    against: Vec<PathBuf>,
}

/// A line for each column of thousands of tables; what is larger is some other file.
const FACTS_BYTES_MAX: u64 = 64 << 20;

pub async fn run(args: DoctorArgs) -> Outcome {
    let config = args.common.load()?;
    let own = config.own_node(args.common.node.as_deref())?;
    let name = own.name().clone();
    let others = args.against.iter().map(|file| read_facts(file)).collect::<Result<Vec<Facts>, Stop>>()?;
    if others.iter().any(|other| other.node == name.as_str()) {
        let what = format!("the facts to compare with are of {name} itself");
        return Err(Stop::halt(what, "use what `tandem doctor --save FILE` wrote on another node").into());
    }
    let foreign = others.iter().find(|other| !config.nodes.contains_key(&OriginId::new(&other.node)));
    if let Some(foreign) = foreign {
        let what = format!(
            "the facts to compare with are of {}, which is no node of this configuration",
            output::plain(&foreign.node)
        );
        return Err(Stop::halt(what, "use what a node of the same cluster wrote").into());
    }
    if let Some(file) = &args.save {
        save_facts(file, &wiring::facts(&config, &own).await?)?;
    }
    // Pages that could not be served are a finding below; nobody is there to be asked.
    let running = match NodeApi::without_key(&args.common) {
        Ok(api) => api.runs().await,
        Err(_) => false,
    };
    let found = wiring::examine(&config, &own, Look { running, against: others }).await;
    if args.json {
        output::json(&found)?;
    } else {
        found.iter().flat_map(lines).for_each(|line| output::line(output::plain(&line)));
        output::line("");
        output::line(format_args!("{name}: {}", verdict(&found)));
    }
    let must = found.iter().any(|finding| finding.level == Level::Fail);
    Ok(if must { ExitCode::from(MUST_MEND) } else { ExitCode::SUCCESS })
}

fn save_facts(file: &Path, facts: &Facts) -> Result<(), Stop> {
    let text = serde_json::to_string_pretty(facts);
    let text = text.map_err(|error| Stop::halt(format!("cannot write JSON: {error}"), "report this"))?;
    fs::write(file, text + "\n").map_err(|error| {
        let what = format!("cannot write {}: {error}", file.display());
        Stop::halt(what, "name a file that this user may write with --save")
    })
}

fn read_facts(file: &Path) -> Result<Facts, Stop> {
    let cannot = |why: String| {
        let fix = "give what `tandem doctor --save FILE` wrote on another node, with the same version of tandem";
        Stop::halt(format!("cannot compare with {}: {why}", file.display()), fix)
    };
    let mut text = String::new();
    let read = fs::File::open(file).and_then(|opened| opened.take(FACTS_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| cannot(error.to_string()))?;
    serde_json::from_str(&text).map_err(|error| cannot(error.to_string()))
}

/// The finding, and below it what to do.
fn lines(finding: &Finding) -> Vec<String> {
    let level = match finding.level {
        Level::Good => "ok  ",
        Level::Warn => "WARN",
        Level::Fail => "FAIL",
    };
    let mut lines = vec![format!("  {level}  {:<12}  {}", finding.code, finding.what)];
    lines.extend(finding.remedy.as_ref().map(|remedy| format!("                      {remedy}")));
    lines
}

fn verdict(found: &[Finding]) -> String {
    let count = |level| found.iter().filter(|finding| finding.level == level).count();
    match (count(Level::Fail), count(Level::Warn)) {
        (0, 0) => "everything is as it should be".into(),
        (0, warned) => format!("it works; {warned} of {} could be better", found.len()),
        (failed, _) => format!("{failed} of {} must be mended", found.len()),
    }
}
