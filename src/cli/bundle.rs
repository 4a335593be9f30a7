//! `tandem bundle`: everything that somebody who helps needs to know of a node, in one file, without secrets and without rows.

use std::fs;
use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;

use crate::config::Config;
use crate::runtime::{Clock, Stop, SystemClock};
use crate::wiring;

use super::node_api::NodeApi;
use super::{Common, Outcome, output};

/// Pack what somebody who helps needs to know of this node, without secrets and rows.
#[derive(Args)]
pub struct BundleArgs {
    #[command(flatten)]
    common: Common,
    /// The file to write; it must not be there.
    #[arg(long, short, default_value = "tandem-bundle.tar.gz", value_name = "FILE")]
    output: PathBuf,
}

/// A secret that is shorter is no secret, and would be found in every other word.
const SECRET_LETTERS_MIN: usize = 4;

const HIDDEN: &str = "(hidden)";

struct Entry {
    name: &'static str,
    text: String,
}

pub async fn run(args: BundleArgs) -> Outcome {
    let config = args.common.load()?;
    let mut entries = vec![
        Entry { name: "version.txt", text: about() },
        Entry { name: "config.toml", text: config.show() },
        Entry { name: "doctor.txt", text: String::new() },
    ];
    // A node that does not run is a reason to ask for help, so what it would say is replaced by why it does not.
    let api = NodeApi::new(&args.common)?;
    entries[2].text = doctor(&config, &args.common, api.runs().await).await;
    for (name, path) in [
        ("status.json", "/api/status"),
        ("metrics.txt", "/metrics"),
        ("position.json", "/api/position"),
        ("verify.json", "/api/verify"),
        ("snapshots.json", "/api/snapshots"),
        ("log.txt", "/api/log"),
    ] {
        let text = api.text(path).await.unwrap_or_else(|stop| format!("error: {stop}\n"));
        entries.push(Entry { name, text });
    }
    let secrets = secrets(&entries[1].text);
    for entry in &mut entries {
        entry.text = hide(&entry.text, &secrets);
    }
    let now = SystemClock.now_seconds();
    let cannot = |error: std::io::Error| {
        Stop::halt(format!("cannot write {}: {error}", args.output.display()), "name another file with --output")
    };
    let file = fs::File::create_new(&args.output).map_err(cannot)?;
    archive(file, &entries, now).map_err(cannot)?;
    output::line(format_args!("{} holds:", args.output.display()));
    entries.iter().for_each(|entry| output::line(format_args!("  {}", entry.name)));
    output::line("No secret and no row is in it; look it through before you pass it on.");
    Ok(ExitCode::SUCCESS)
}

fn about() -> String {
    let (os, machine) = (std::env::consts::OS, std::env::consts::ARCH);
    format!("tandem {}\n{os} {machine}\n", env!("CARGO_PKG_VERSION"))
}

async fn doctor(config: &Config, common: &Common, running: bool) -> String {
    let own = match config.own_node(common.node.as_deref()) {
        Ok(own) => own,
        Err(faults) => return faults.lines().map(|line| format!("error: {line}\n")).collect(),
    };
    let found = wiring::examine(config, &own, wiring::Look { running, against: Vec::new() }).await;
    found.iter().map(|finding| format!("{:?}  {}  {}\n", finding.level, finding.code, finding.what)).collect()
}

/// Every secret that this process could find where the configuration says that one is, longest first.
fn secrets(shown: &str) -> Vec<String> {
    let named = |line: &str| {
        let (key, value) = line.split_once(" = ")?;
        let value = value.trim().trim_matches('"').to_owned();
        match key.trim() {
            key if key.ends_with("_env") => std::env::var(value).ok(),
            key if key.ends_with("_file") && !key.contains("certificate") => fs::read_to_string(value).ok(),
            _ => None,
        }
    };
    // A table may stand in one line: `sasl = { …, password_env = "NAME" }`.
    let lines = shown.lines().flat_map(|line| line.split([',', '{', '}']));
    let trimmed = lines.filter_map(named).map(|secret| secret.trim().to_owned());
    let mut secrets: Vec<String> = trimmed.filter(|secret| secret.len() >= SECRET_LETTERS_MIN).collect();
    secrets.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    secrets.dedup();
    secrets
}

/// Nothing of this should be in the texts at all; that it is not is made sure of.
fn hide(text: &str, secrets: &[String]) -> String {
    secrets.iter().fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
}

/// A tar file, compressed by gzip: every system can open it.
fn archive(file: impl Write, entries: &[Entry], now: u64) -> std::io::Result<()> {
    let mut out = GzEncoder::new(file, Compression::default());
    for Entry { name, text } in entries {
        out.write_all(&header(name, text.len(), now))?;
        out.write_all(text.as_bytes())?;
        out.write_all(&vec![0; text.len().next_multiple_of(BLOCK) - text.len()])?;
    }
    // Two empty blocks are the end.
    out.write_all(&[0; 2 * BLOCK])?;
    out.finish()?.flush()
}

const BLOCK: usize = 512;

/// The header of one file, as POSIX has it (ustar).
fn header(name: &str, bytes: usize, seconds: u64) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, &format!("tandem-bundle/{name}"));
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{bytes:011o}\0"));
    put(136, &format!("{seconds:011o}\0"));
    // The sum is taken with blanks in its place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\0");
    put(263, "00");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    block
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_found_where_the_configuration_says_and_hidden_wherever_they_are() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("key");
        fs::write(&file, "geheim-in-a-file\n").unwrap();
        // The one variable that every process has.
        let path = std::env::var("PATH").unwrap();
        let shown = format!(
            "[web]\nkey_file = \"{}\"\n[topic]\nsasl = {{ username = \"tandem\", password_env = \"PATH\" }}\nreplica_id = 7\n",
            file.display()
        );
        let secrets = secrets(&shown);
        assert_eq!(secrets.len(), 2, "{secrets:?}");
        let text = hide(&format!("tried geheim-in-a-file, then {path}; 7 times"), &secrets);
        assert_eq!(text, "tried (hidden), then (hidden); 7 times");
    }

    #[test]
    fn the_header_is_that_of_a_file_of_this_size() {
        let block = header("log.txt", 8, 1_800_000_000);
        let text =
            |range: std::ops::Range<usize>| std::str::from_utf8(&block[range]).unwrap().trim_end_matches('\0').to_owned();
        assert_eq!((text(0..100).as_str(), text(124..136).as_str()), ("tandem-bundle/log.txt", "00000000010"));
        let sum: u32 =
            block.iter().enumerate().map(|(at, byte)| if (148..156).contains(&at) { 32 } else { u32::from(*byte) }).sum();
        assert_eq!(u32::from_str_radix(&text(148..154), 8).unwrap(), sum);
    }
}
