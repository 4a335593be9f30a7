//! `tandem init`: a node set up, from a few answers.
//!
//! The first node writes the configuration of the whole cluster, keys of all nodes for its hub, and an invitation for each other
//! node. There `tandem init --join` writes the same configuration. So the hub knows all keys from the beginning, and nothing
//! has to be carried back.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use secrecy::ExposeSecret;
use serde::{Deserialize, Serialize};

use crate::change::OriginId;
use crate::config::{Config, DatabaseAddress, Draft, DraftHub, DraftNode, NAME_FIX, TopicUrl, is_name};
use crate::runtime::Stop;
use crate::wiring;

use self::ask::{Asker, Question};
use self::files::{Files, refuse_existing};
use super::{Failure, Outcome, output};

mod ask;
mod files;
mod server;

/// Where a hub listens if nothing else is said.
const HUB_PORT: u16 = 7421;
/// The first node's replica_id is one more: far from the small numbers that people give to servers.
const REPLICA_ID_BASE: u32 = 1100;
/// An invitation is a page; what is larger is some other file.
const INVITATION_BYTES_MAX: u64 = 1 << 20;
const INVITATION_VERSION: u32 = 1;

/// Set up a node: its configuration, keys, and what its MariaDB needs.
///
/// On the first laptop it asks, or takes from flags, what a cluster needs, and writes an invitation for every other one. There:
/// `tandem init --join FILE`. Nothing is started and no server is changed.
#[derive(Args)]
pub struct InitArgs {
    /// Name of this node.
    #[arg(long, short, env = "TANDEM_NODE", value_name = "NODE")]
    node: Option<String>,
    /// Name of another node. May be given several times.
    #[arg(long = "peer", value_name = "NODE")]
    peers: Vec<String>,
    /// This node's database, without a password: mysql://user@host:port/schema.
    #[arg(long, value_name = "URL")]
    database: Option<String>,
    /// Where the other nodes reach this one, which keeps the topics: an address, host:port or URL.
    #[arg(long, value_name = "ADDRESS")]
    hub: Option<String>,
    /// Name of the cluster [default: the schema's].
    #[arg(long, value_name = "NAME")]
    cluster: Option<String>,
    /// Tables to keep the same, as database.table with * for any letters [default: all of the schema].
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    tables: Vec<String>,
    /// Tables of these to leave out.
    #[arg(long, value_name = "TABLES", value_delimiter = ',')]
    exclude: Vec<String>,
    /// Join a cluster, with the invitation that the first node's `tandem init` wrote.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["peers", "hub", "cluster", "tables", "exclude"])]
    join: Option<PathBuf>,
    /// The configuration file to write. Keys, SQL and the lines for MariaDB go beside it.
    #[arg(long, short, env = "TANDEM_CONFIG", default_value = "tandem.toml", value_name = "FILE")]
    output: PathBuf,
    /// Replace what an earlier `tandem init` wrote, keys and passwords included.
    #[arg(long)]
    force: bool,
}

/// What another node needs to join: its own key, and the answers of the first.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Invitation {
    tandem_invitation: u32,
    node: String,
    hub_key: String,
    draft: Draft,
}

pub fn run(args: InitArgs) -> Outcome {
    match &args.join {
        Some(invitation) => join(&args, invitation),
        None if std::io::stdin().is_terminal() => {
            found(&args, &mut Asker::new(Some((std::io::stdin().lock(), std::io::stderr()))))
        }
        None => found(&args, &mut Asker::<std::io::StdinLock, std::io::Stderr>::new(None)),
    }
}

/// Begins a cluster.
fn found<R: BufRead, W: Write>(args: &InitArgs, asker: &mut Asker<R, W>) -> Outcome {
    let names = names(args, asker)?;
    let (own, peers) = names.split_first().expect("this node's name is the first");
    let files = Files::beside(&args.output);
    let secrets = [files.path(&Draft::password_file(own)), files.path(&Draft::hub_key_file(own))];
    let invitations: Vec<PathBuf> = peers.iter().map(|peer| files.path(&format!("{peer}.invitation"))).collect();
    if !args.force {
        let ours = [args.output.clone(), sql_file(&files, own), settings_file(&files, own)];
        refuse_existing(&[&ours[..], &secrets, &invitations].concat())?;
    }
    let (mut draft, keys) = answers(args, asker, &names)?;
    // Every fault is said before anything is written.
    let config = checked(&args.output, &draft)?;
    if draft.hub.url.starts_with("https://") {
        draft.hub.fingerprint = Some(wiring::hub_fingerprint(&config)?);
    }
    let mut files = files;
    for ((peer, path), key) in peers.iter().zip(invitations).zip(&keys[1..]) {
        let invitation = Invitation {
            tandem_invitation: INVITATION_VERSION,
            node: peer.clone(),
            hub_key: key.clone(),
            draft: draft.clone(),
        };
        let text = serde_json::to_string_pretty(&invitation);
        let text = text.map_err(|error| Stop::halt(format!("cannot write an invitation: {error}"), "report this"))?;
        files.add(path, text + "\n", true, format!("for {peer}: holds its key, so take it there by a safe way"));
    }
    finish(args, files, &draft, own, &keys[0])
}

/// Takes part in one.
fn join(args: &InitArgs, from: &Path) -> Outcome {
    let invitation = read_invitation(from)?;
    let own = invitation.node;
    if let Some(named) = args.node.as_ref().filter(|named| **named != own) {
        let what = format!("{} invites {own}, not {named}", from.display());
        return Err(Stop::halt(what, "use the invitation that was written for this node").into());
    }
    let mut draft = invitation.draft;
    let node = draft.nodes.iter_mut().find(|node| node.name == own);
    let Some(node) = node.filter(|_| is_name(&own)) else {
        return Err(no_invitation(from, "it does not name its node").into());
    };
    if let Some(database) = &args.database {
        node.database = database.clone();
    }
    let files = Files::beside(&args.output);
    if !args.force {
        let password = files.path(&Draft::password_file(&own));
        let key = files.path(&Draft::hub_key_file(&own));
        refuse_existing(&[args.output.clone(), sql_file(&files, &own), settings_file(&files, &own), password, key])?;
    }
    finish(args, files, &draft, &own, &invitation.hub_key)
}

fn read_invitation(file: &Path) -> Result<Invitation, Stop> {
    use std::io::Read as _;
    let mut text = String::new();
    let read = std::fs::File::open(file).and_then(|opened| opened.take(INVITATION_BYTES_MAX).read_to_string(&mut text));
    read.map_err(|error| no_invitation(file, &error.to_string()))?;
    // What it holds is not shown: it may be a key.
    let invitation: Invitation = serde_json::from_str(&text)
        .map_err(|error| no_invitation(file, &format!("line {} is not as it was written", error.line())))?;
    match invitation.tandem_invitation {
        INVITATION_VERSION => Ok(invitation),
        version => Err(no_invitation(file, &format!("it has version {version}, which this tandem does not know"))),
    }
}

fn no_invitation(file: &Path, why: &str) -> Stop {
    let fix = "give the .invitation file that `tandem init` wrote on the first node, with the same version of tandem";
    Stop::halt(format!("{} cannot be used as an invitation: {why}", file.display()), fix)
}

/// This node's name, then those of the others.
fn names<R: BufRead, W: Write>(args: &InitArgs, asker: &mut Asker<R, W>) -> Result<Vec<String>, Stop> {
    let wrong_name = |name: &str| (!is_name(name)).then(|| NAME_FIX.to_owned());
    let own = Question { flag: "--node", text: "Name of this node", default: None, wrong: &wrong_name };
    let mut names = vec![asker.answer(args.node.clone(), &own)?];
    let mut given = args.peers.iter().cloned().map(Some).collect::<Vec<_>>();
    if given.is_empty() {
        given.push(None);
    }
    for peer in given {
        let taken = names.clone();
        let wrong = |name: &str| match taken.iter().find(|taken| taken.eq_ignore_ascii_case(name)) {
            Some(taken) => Some(format!("\"{taken}\" is a node already: every node needs a name of its own")),
            None => wrong_name(name),
        };
        let question = Question { flag: "--peer", text: "Name of the other node", default: None, wrong: &wrong };
        names.push(asker.answer(peer, &question)?);
    }
    Ok(names)
}

/// All that the configuration says, and the nodes' keys for the hub.
fn answers<R: BufRead, W: Write>(
    args: &InitArgs,
    asker: &mut Asker<R, W>,
    names: &[String],
) -> Result<(Draft, Vec<String>), Stop> {
    let said = |(rule, fix): (String, String)| format!("it {rule}: {fix}");
    let wrong = |text: &str| DatabaseAddress::parse(text).map_err(said).err();
    let text = "This node's database, without a password (mysql://tandem@127.0.0.1:3306/SCHEMA)";
    let database = asker.answer(args.database.clone(), &Question { flag: "--database", text, default: None, wrong: &wrong })?;
    let address = DatabaseAddress::parse(&database).map_err(|(rule, fix)| Stop::halt(format!("--database {rule}"), fix))?;

    let wrong = |text: &str| TopicUrl::parse(&hub_url(text)).map_err(said).err();
    let text = "Where the other nodes reach this one: its address in the network they share";
    let hub = asker.answer(args.hub.clone(), &Question { flag: "--hub", text, default: None, wrong: &wrong })?;
    let url = hub_url(&hub);

    let wrong = |name: &str| (!is_name(name)).then(|| NAME_FIX.to_owned());
    let default = if is_name(&address.schema) { address.schema.clone() } else { "tandem".to_owned() };
    let cluster = asker.answer(
        args.cluster.clone(),
        &Question { flag: "--cluster", text: "Name of the cluster", default: Some(default), wrong: &wrong },
    )?;
    let include = match &*args.tables {
        [] => vec![format!("{}.*", address.schema)],
        tables => tables.to_vec(),
    };

    let mut keys = Vec::new();
    let mut nodes = Vec::new();
    for (name, number) in names.iter().zip(1..) {
        let (key, hash) = secret()?;
        keys.push(key);
        let replica_id = REPLICA_ID_BASE + number;
        nodes.push(DraftNode { name: name.clone(), database: database.clone(), replica_id, hub_key_hash: hash });
    }
    let listen = listen(&url);
    let hub = DraftHub { node: names[0].clone(), url, listen, fingerprint: None };
    Ok((Draft { cluster, nodes, hub, include, exclude: args.exclude.clone() }, keys))
}

/// 256 random bits as a key, and the key's hash.
fn secret() -> Result<(String, String), Stop> {
    let made = wiring::make_key();
    let (key, hash) = made.ok_or_else(|| Stop::halt("this system gives no random numbers", "try it on another machine"))?;
    Ok((key.expose_secret().to_owned(), hash.to_string()))
}

/// `192.168.1.101`, `host:port` or a URL, as a URL with a port.
fn hub_url(text: &str) -> String {
    let (scheme, place) = text.trim().split_once("://").unwrap_or(("https", text.trim()));
    let place = place.trim_end_matches('/');
    let bare_v6 = place.matches(':').count() > 1 && !place.starts_with('[');
    let host = if bare_v6 { format!("[{place}]") } else { place.to_owned() };
    let has_port = host.rsplit_once(']').map_or(host.as_str(), |(_, after)| after).contains(':');
    if has_port || host.contains('/') { format!("{scheme}://{host}") } else { format!("{scheme}://{host}:{HUB_PORT}") }
}

/// On all addresses of this machine, or on none that others see where the hub is for this machine alone.
fn listen(url: &str) -> String {
    let port = url.rsplit_once(':').and_then(|(_, port)| port.split('/').next()?.parse().ok()).unwrap_or(HUB_PORT);
    let here = TopicUrl::parse(url).is_ok_and(|url| url.is_loopback());
    format!("{}:{port}", if here { "127.0.0.1" } else { "0.0.0.0" })
}

fn checked(file: &Path, draft: &Draft) -> Result<Config, Failure> {
    Ok(Config::parse(file, &draft.text(), Default::default())?)
}

fn sql_file(files: &Files, node: &str) -> PathBuf {
    files.path(&format!("{node}.account.sql"))
}

fn settings_file(files: &Files, node: &str) -> PathBuf {
    files.path(&format!("{node}.mariadb.cnf"))
}

/// Writes everything and says what comes next.
fn finish(args: &InitArgs, mut files: Files, draft: &Draft, own: &str, hub_key: &str) -> Outcome {
    let config = checked(&args.output, draft)?;
    let number = draft.nodes.iter().position(|node| node.name == own).expect("the draft has this node") + 1;
    let node = &config.nodes[&OriginId::new(own)];
    let (password, _) = secret()?;
    let (sql, settings) = (sql_file(&files, own), settings_file(&files, own));
    files.add(&settings, server::settings(&config, own, number as u32), false, "the lines that this MariaDB needs");
    let account = server::account(&config, own, &node.database, &password.clone().into());
    files.add(&sql, account, true, "the account: an administrator runs it once");
    files.add(files.path(&Draft::password_file(own)), password + "\n", true, "the account's password");
    files.add(files.path(&Draft::hub_key_file(own)), format!("{hub_key}\n"), true, "this node's key for the hub");
    // The last one, so that it is never there without the rest.
    files.add(&args.output, draft.text(), false, "the configuration, the same on every node");
    files.write()?;

    output::line("Written:");
    files.list().for_each(output::line);
    next_steps(args, draft, own, &settings, &sql).iter().for_each(output::line);
    Ok(ExitCode::SUCCESS)
}

fn next_steps(args: &InitArgs, draft: &Draft, own: &str, settings: &Path, sql: &Path) -> Vec<String> {
    let tandem = |command: &str, node: &str| match args.output == Path::new("tandem.toml") {
        true => format!("tandem {command} --node {node}"),
        false => format!("tandem {command} --config {} --node {node}", args.output.display()),
    };
    let mut lines = vec![String::new(), "Next, on this laptop:".to_owned()];
    lines.push(format!("  1. Give MariaDB the lines of {}, then restart it:", settings.display()));
    lines.extend(server::PLACES.map(|(system, place)| format!("       {system:<20}{place}")));
    lines.push("  2. Make the account, as an administrator of MariaDB:".to_owned());
    lines.push(format!("       {} -u root -p < {}", server::CLIENT, sql.display()));
    lines.push("  3. See that all is well, and start:".to_owned());
    lines.push(format!("       {}", tandem("doctor", own)));
    lines.push(format!("       {}", tandem("run", own)));
    if draft.hub.node == own {
        for peer in draft.nodes.iter().map(|node| &node.name).filter(|name| *name != own) {
            lines.push(String::new());
            lines.push(format!("On {peer}, with {peer}.invitation brought there by a safe way (then delete it on both):"));
            lines.push(format!("       tandem init --join {peer}.invitation"));
        }
        lines.push(String::new());
        lines.push(format!("The others come to {}: let port {} through this laptop's firewall.", draft.hub.url, port(draft)));
    } else {
        lines.push(String::new());
        lines.push(format!("The topics are at {}, while `tandem run` runs on {}.", draft.hub.url, draft.hub.node));
    }
    lines.push(
        "Tables and rows that are there already go to the others when you ask for it, once all run: tandem snapshot".to_owned(),
    );
    lines
}

fn port(draft: &Draft) -> &str {
    draft.hub.listen.rsplit_once(':').map_or("", |(_, port)| port)
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        args: InitArgs,
    }

    #[test]
    fn a_person_is_asked_for_what_no_flag_says_and_again_where_it_cannot_be() {
        let args = Line::parse_from(["init", "--cluster", "campus"]).args;
        let typed =
            "laptop a\nlaptop-a\nLaptop-A\nlaptop-b\nmysql://tandem:geheim@h/x\nmysql://tandem@127.0.0.1/shop\n192.168.1.101\n";
        let mut shown = Vec::new();
        let mut asker = Asker::new(Some((typed.as_bytes(), &mut shown)));
        let names = names(&args, &mut asker).expect("all is answered");
        assert_eq!(names, ["laptop-a", "laptop-b"]);
        let (draft, keys) = answers(&args, &mut asker, &names).expect("all is answered");
        assert_eq!(
            (draft.hub.url.as_str(), draft.include.as_slice()),
            ("https://192.168.1.101:7421", &["shop.*".to_owned()][..])
        );
        assert!(keys.len() == 2 && keys[0] != keys[1]);
        assert!(checked(Path::new("tandem.toml"), &draft).is_ok());
        let shown = String::from_utf8(shown).expect("it is text");
        assert!(
            shown.contains("Name of this node: ") && shown.contains("That cannot be: \"laptop-a\" is a node already"),
            "{shown}"
        );
        assert!(shown.contains("must not hold the password") && !shown.contains("geheim"), "{shown}");
    }

    #[test]
    fn a_hub_may_be_named_in_several_ways() {
        for (given, url, listens) in [
            ("192.168.1.101", "https://192.168.1.101:7421", "0.0.0.0:7421"),
            ("campus.lan:9000", "https://campus.lan:9000", "0.0.0.0:9000"),
            ("https://campus.lan", "https://campus.lan:7421", "0.0.0.0:7421"),
            ("https://127.0.0.1:9000/", "https://127.0.0.1:9000", "127.0.0.1:9000"),
            ("http://localhost", "http://localhost:7421", "127.0.0.1:7421"),
            ("fd00::1", "https://[fd00::1]:7421", "0.0.0.0:7421"),
            ("[fd00::1]:9000", "https://[fd00::1]:9000", "0.0.0.0:9000"),
        ] {
            assert_eq!(hub_url(given), url);
            assert_eq!(listen(url), listens, "{given}");
        }
    }
}
