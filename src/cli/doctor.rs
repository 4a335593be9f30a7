//! `tandem doctor`: is everything set up as it must be?

use std::process::ExitCode;

use clap::Args;

use crate::runtime::{Finding, Level};
use crate::wiring;

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
}

pub async fn run(args: DoctorArgs) -> Outcome {
    let config = args.common.load()?;
    let own = config.own_node(args.common.node.as_deref())?;
    let name = own.name().clone();
    let found = wiring::examine(&config, own).await;
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
