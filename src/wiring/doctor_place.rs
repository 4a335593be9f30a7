//! What a node has around it on its machine: the state folder and its disk, the ports it listens on, who may read its secrets.

use std::fs;
use std::io::ErrorKind;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;

use secrecy::ExposeSecret;

use crate::config::{Config, OwnNode};
use crate::runtime::Finding;
use crate::state::free_bytes;

/// Shorter keys are guessed by who has time. The same as in deploy/README.md, "Hardening".
const KEY_LETTERS: usize = 32;

/// Every finding, good ones too. `running` where this very node runs now, so that its ports are taken by itself.
pub fn examine(config: &Config, own: &OwnNode, running: bool) -> Vec<Finding> {
    let mut found = vec![state(own)];
    let mut places = vec![("state folder", own.state_folder.as_path())];
    let hub = config.hub.as_ref().filter(|_| own.keeps_topics);
    places.extend(hub.map(|hub| ("hub's data", hub.data.as_path())));
    found.extend(places.into_iter().map(|(what, folder)| disk(what, folder, config.limits.disk_free_min)));
    found.push(port("web", config.web.listen, running));
    found.extend(hub.map(|hub| port("hub", hub.listen, running)));
    found.extend(web(config));
    found.extend(secrets(config, own));
    found
}

fn state(own: &OwnNode) -> Finding {
    let folder = &own.state_folder;
    let probe = folder.join(".doctor");
    let existed = folder.exists();
    let tried = fs::create_dir_all(folder).and_then(|()| fs::write(&probe, b"")).and_then(|()| fs::remove_file(&probe));
    if !existed {
        // It is left as it was found; parents that were made too are empty and harmless.
        let _ = fs::remove_dir(folder);
    }
    match tried {
        Ok(()) => Finding::good("STATE", format!("{} can be written", folder.display())),
        Err(error) => Finding::fail(
            "STATE",
            format!("the state folder {} cannot be written: {error}", folder.display()),
            "give it to the account that runs tandem, or set another `folder` under [state]",
        ),
    }
}

fn disk(what: &str, folder: &Path, least: u64) -> Finding {
    const CODE: &str = "STATE-DISK";
    let mebibytes = |bytes: u64| bytes >> 20;
    match free_bytes(folder) {
        Ok(free) if free < least => Finding::warn(
            CODE,
            format!(
                "{} MiB are left for the {what} {}, less than {}: when nothing is left, changes wait and are lost to nobody, but nothing goes on",
                mebibytes(free),
                folder.display(),
                mebibytes(least)
            ),
            "free space on that disk, or lower disk_free_min under [limits]",
        ),
        Ok(free) => Finding::good(CODE, format!("{} MiB are left for the {what}", mebibytes(free))),
        Err(error) => Finding::warn(
            CODE,
            format!("nobody can say how much is left for the {what} {}: {error}", folder.display()),
            "give the folder to the account that runs tandem",
        ),
    }
}

fn port(section: &str, listen: SocketAddr, running: bool) -> Finding {
    const CODE: &str = "PORT";
    match TcpListener::bind(listen) {
        Ok(_) => Finding::good(CODE, format!("{listen} is free for the {section}")),
        Err(error) if error.kind() == ErrorKind::AddrInUse && running => {
            Finding::good(CODE, format!("{listen} is used by this node, which runs"))
        }
        Err(error) if error.kind() == ErrorKind::AddrInUse => Finding::fail(
            CODE,
            format!("another program listens on {listen}, where the {section} of this node is to listen"),
            format!("end it, or set another `listen` under [{section}]"),
        ),
        Err(error) => Finding::fail(
            CODE,
            format!("this node cannot listen on {listen}: {error}"),
            format!("set `listen` under [{section}] to an address that this machine has, and a port above 1023"),
        ),
    }
}

/// Pages that other machines reach. Where only this one does, nobody is asked for a key.
fn web(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if config.web.listen.ip().is_loopback() {
        return found;
    }
    if !config.web.tls {
        let what = format!(
            "other machines reach the pages at {} unencrypted: the key and rows pass by whoever listens",
            config.web.listen
        );
        found.push(Finding::warn("WEB-TLS", what, "set tls = true under [web], or listen on 127.0.0.1"));
    } else {
        found.push(Finding::good("WEB-TLS", "the pages are encrypted"));
    }
    // A key that is not there is told by what needs it.
    if let (Some(source), Ok(Some(key))) = (&config.web.key, config.web_key()) {
        let letters = key.expose_secret().chars().count();
        found.push(match letters < KEY_LETTERS {
            true => Finding::warn(
                "WEB-KEY",
                format!("the key of the pages has fewer than {KEY_LETTERS} letters, and other machines may try keys"),
                format!(
                    "put {KEY_LETTERS} random letters or more into {source}, here and in the running node: openssl rand -hex 32"
                ),
            ),
            false => Finding::good("WEB-KEY", "the key of the pages is long enough not to be guessed"),
        });
    }
    found
}

/// Files that hold secrets, and that others than their owner may read.
#[cfg(unix)]
fn secrets(config: &Config, own: &OwnNode) -> Vec<Finding> {
    use std::os::unix::fs::PermissionsExt;
    const CODE: &str = "SECRET-FILE";
    let files = config.secret_files(own.name());
    let open = |file: &&std::path::PathBuf| fs::metadata(file).is_ok_and(|found| found.permissions().mode() & 0o077 != 0);
    let warn = |file: &std::path::PathBuf| {
        let file = file.display();
        Finding::warn(
            CODE,
            format!("other users of this machine may read or change {file}, which holds a secret"),
            format!("chmod 600 {file}"),
        )
    };
    let found: Vec<Finding> = files.iter().filter(open).map(warn).collect();
    match (found.is_empty(), files.len()) {
        (true, 0) => Vec::new(),
        (true, count) => vec![Finding::good(CODE, format!("no other user may read this node's files with secrets ({count})"))],
        (false, _) => found,
    }
}

/// Windows keeps rights elsewhere; deploy/windows.md says who should have them.
#[cfg(not(unix))]
fn secrets(_: &Config, _: &OwnNode) -> Vec<Finding> {
    Vec::new()
}
