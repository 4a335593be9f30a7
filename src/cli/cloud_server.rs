//! `tandem cloud-server`: a small cloud that nodes can feed, for those who have none and to try it with.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Subcommand};
use secrecy::ExposeSecret;

use crate::runtime::{Shutdown, Stop};
use crate::wiring::{self, CloudServer};

use super::cloud_keep::{DatabaseArgs, FilesArgs};
use super::run::{LogArgs, until_signal};
use super::{Outcome, output};

/// Receive rows and files that nodes send to a cloud. Needs no configuration file.
#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct CloudServerArgs {
    #[command(subcommand)]
    command: Option<CloudServerCommand>,
    /// Address and port.
    #[arg(long, env = "TANDEM_CLOUD_LISTEN", default_value = "127.0.0.1:7430", value_name = "ADDRESS")]
    listen: SocketAddr,
    /// Where everything is kept that is not kept elsewhere.
    #[arg(long, env = "TANDEM_CLOUD_DATA", default_value = "tandem-cloud", value_name = "FOLDER")]
    data: PathBuf,
    /// Who may send: a name, and the hash of its key. `tandem cloud-server key` makes both.
    #[arg(long = "key", env = "TANDEM_CLOUD_KEYS", value_delimiter = ',', value_name = "NAME=blake3:…")]
    keys: Vec<String>,
    /// Encrypt, with a certificate of its own where none is given.
    #[arg(long, env = "TANDEM_CLOUD_TLS")]
    tls: bool,
    /// Certificate (PEM) to show; with --certificate-key.
    #[arg(long, env = "TANDEM_CLOUD_CERTIFICATE", requires = "certificate_key", requires = "tls", value_name = "FILE")]
    certificate: Option<PathBuf>,
    /// Its key (PEM).
    #[arg(long, env = "TANDEM_CLOUD_CERTIFICATE_KEY", requires = "certificate", value_name = "FILE")]
    certificate_key: Option<PathBuf>,
    /// A name or address by which senders reach it, for a certificate of its own. May be given several times.
    #[arg(
        long = "name",
        env = "TANDEM_CLOUD_NAMES",
        value_delimiter = ',',
        requires = "tls",
        conflicts_with = "certificate",
        value_name = "HOST"
    )]
    names: Vec<String>,
    /// Listen to other machines without --tls: only behind a proxy that encrypts.
    #[arg(long)]
    allow_http: bool,
    /// The largest request, in bytes.
    #[arg(long, default_value_t = 16 << 20, value_name = "BYTES", value_parser = clap::value_parser!(u64).range(1_024..=256 << 20))]
    body_bytes_max: u64,
    /// How many requests each key may make in a second.
    #[arg(long, default_value_t = 200, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    requests_per_second: u32,
    #[command(flatten)]
    log: LogArgs,
    #[command(flatten)]
    database: DatabaseArgs,
    #[command(flatten)]
    files: FilesArgs,
}

#[derive(Subcommand)]
enum CloudServerCommand {
    /// Make a key for a sender, and the hash by which the server knows it.
    Key,
}

pub async fn run(args: CloudServerArgs) -> Outcome {
    if let Some(CloudServerCommand::Key) = args.command {
        return key();
    }
    let keys = args.keys.iter().map(|text| {
        let (name, hash) = text.split_once('=')?;
        Some((name.trim().to_owned(), hash.trim().parse().ok()?))
    });
    let keys: Option<Vec<_>> = keys.collect();
    let fix = "write --key NAME=blake3:… with a hash that `tandem cloud-server key` makes";
    let keys = keys.ok_or_else(|| Stop::halt("a --key is no name with the hash of a key", fix))?;
    if keys.is_empty() {
        return Err(Stop::halt("nobody may send anything: there is no --key", fix).into());
    }
    if !args.listen.ip().is_loopback() && !args.tls && !args.allow_http {
        let message = format!("{} is open to other machines, and keys and rows would come unencrypted", args.listen);
        return Err(Stop::halt(message, "add --tls, or --allow-http behind a proxy that encrypts").into());
    }
    args.log.start()?;
    let server = CloudServer {
        listen: args.listen,
        database: args.database.choice()?,
        files: args.files.choice(&args.data)?,
        data: args.data,
        keys,
        tls: args.tls,
        certificate: args.certificate.zip(args.certificate_key),
        names: args.names,
        body_bytes_max: args.body_bytes_max as usize,
        requests_per_second: args.requests_per_second,
    };
    if server.lacks_a_name() {
        let message = format!("{} is open to other machines, and none could know its own certificate", server.listen);
        let fix = "add --name HOST with the name or address by which senders reach it, or --certificate and --certificate-key";
        return Err(Stop::halt(message, fix).into());
    }
    let shutdown = Shutdown::new();
    until_signal(wiring::run_cloud_server(server, shutdown.clone()), shutdown).await
}

fn key() -> Outcome {
    let made = wiring::make_key();
    let (key, hash) = made.ok_or_else(|| Stop::halt("this system gives no random numbers", "try it on another machine"))?;
    output::line(format_args!("key    {}", key.expose_secret()));
    output::line(format_args!("hash   {hash}"));
    eprintln!(
        "The key belongs where the sender's key_env or key_file points. The hash belongs in --key NAME=HASH of the server."
    );
    Ok(ExitCode::SUCCESS)
}
