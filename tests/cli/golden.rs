//! What the program prints, word for word: the help of every command, and each typical error with its exit code.
//!
//! The texts lie in tests/golden/cli. After a change that is meant, `make golden-cli` writes them anew: look at the difference before
//! it is committed, as at any other.

use std::collections::BTreeMap;
use std::fs;
use std::io::{BufRead, BufReader};
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::{Place, Said, Shown, config};

impl Shown {
    /// Where its pages are, as its configuration says.
    fn address(&self) -> String {
        let text = std::fs::read_to_string(self.place.path().join("tandem.toml")).unwrap();
        let listen = text.split("[web]\nlisten = \"").nth(1).and_then(|rest| rest.split('"').next());
        listen.expect("it was written so").to_owned()
    }
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/golden/cli")
}

/// Compares the texts with the files of these names below the folder, or writes them where the environment says so.
fn hold(part: &str, texts: &BTreeMap<String, String>) {
    let folder = folder().join(part);
    if std::env::var_os("TANDEM_GOLDEN").is_some_and(|value| value == "write") {
        let _ = fs::remove_dir_all(&folder);
        fs::create_dir_all(&folder).unwrap();
        texts.iter().for_each(|(name, text)| fs::write(folder.join(name), text).unwrap());
        return;
    }
    compare(part, texts);
    let kept = fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}; make golden-cli", folder.display()));
    let kept: Vec<String> = kept.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    let stale: Vec<&String> = kept.iter().filter(|name| !texts.contains_key(*name)).collect();
    assert!(stale.is_empty(), "{part} has texts of what is no more: {stale:?}; make golden-cli");
}

fn compare(part: &str, texts: &BTreeMap<String, String>) {
    for (name, text) in texts {
        let golden = fs::read_to_string(folder().join(part).join(name)).unwrap_or_default();
        if let Some(difference) = difference(text, &golden) {
            panic!("{part}/{name}: {difference}\nIf that is meant: make golden-cli");
        }
    }
}

/// The first line that is another one.
fn difference(text: &str, golden: &str) -> Option<String> {
    let (at, (now, then)) = lines(text).zip(lines(golden)).enumerate().find(|(_, (now, then))| now != then)?;
    let shown = |line: Option<&str>| line.unwrap_or("(nothing)").to_owned();
    Some(format!("line {} was\n  {}\nand is\n  {}", at + 1, shown(then), shown(now)))
}

/// And then nothing for ever, so that a text which only goes on differs too. Two nothings are the end.
fn lines(text: &str) -> impl Iterator<Item = Option<&str>> {
    text.lines().map(Some).chain(std::iter::repeat(None)).take(10_000)
}

/// Names of the commands that a help lists.
fn commands(help: &str) -> Vec<String> {
    let list = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    // A long description goes on in lines that are indented further.
    let names = list
        .filter(|line| line.starts_with("  ") && !line.starts_with("   "))
        .filter_map(|line| line.split_whitespace().next());
    names.map(str::to_owned).collect()
}

#[test]
fn the_help_of_every_command_is_as_it_was_read_last() {
    let place = Place::with("");
    let (mut texts, mut open) = (BTreeMap::new(), vec![Vec::<String>::new()]);
    while let Some(words) = open.pop() {
        let args: Vec<&str> = words.iter().map(String::as_str).chain(["--help"]).collect();
        let said = place.run(&args);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{args:?}");
        open.extend(commands(&said.out).into_iter().map(|name| [words.clone(), vec![name]].concat()));
        let name = std::iter::once("tandem").chain(words.iter().map(String::as_str)).collect::<Vec<_>>().join(" ");
        texts.insert(format!("{name}.txt"), said.out);
    }
    assert!(texts.len() > 30 && texts.contains_key("tandem conflicts settle.txt"), "{:?}", texts.keys());
    hold("help", &texts);
}

/// As a person sees it: the command, what it answers, and its exit code.
fn shown(args: &[&str], said: &Said, hide: &[(&str, &str)]) -> String {
    let text = format!("$ tandem {}\n{}{}exit code {}\n\n", args.join(" "), said.out, said.err, said.code);
    hide.iter().fold(text, |text, (from, to)| text.replace(from, to))
}

#[test]
fn errors_of_usage_and_configuration_are_as_they_were_read_last() {
    let mut texts = BTreeMap::new();
    let usage: &[&[&str]] = &[
        &["syncronise"],
        &["status", "--no-such"],
        &["status", "--watch", "--check"],
        &["conflicts"],
        &["conflicts", "list", "--limit", "0"],
        &["conflicts", "settle", "c-1"],
        &["pause"],
        &["pause", "cook"],
        &["sync", "--only", "cook"],
        &["snapshot", "--cancel", "first"],
        &["where", "riders"],
        &["completions", "abacus"],
    ];
    let nowhere = Place::with("");
    let said = usage.iter().map(|args| shown(args, &nowhere.run(args), &[]));
    texts.insert("usage.txt".to_owned(), said.collect());

    let good = config("127.0.0.1:7420");
    let files: &[(&str, String)] = &[
        ("no configuration", String::new()),
        ("no TOML", "version = 1\ncluster = campus\n".into()),
        ("an unknown key", good.replace("[web]\nlisten", "[web]\nlistn")),
        ("an unknown section", good.clone() + "[confilcts]\ndefault = \"manual\"\n"),
        ("several faults at once", good.replace("replica_id = 2", "replica_id = 1").replace("\"campus.*\"", "\"campus\"")),
        ("a password in the address", good.replace("mysql://tandem@", "mysql://tandem:not-to-be-seen@")),
        ("a secret in place of its name", good.replace("\"HUB_KEY\"", "\"not to be seen!\"")),
        (
            "a secret in the address of the hub",
            good.replace("http://127.0.0.1:7421", "http://me:not-to-be-seen@127.0.0.1:7421"),
        ),
        ("a secret in the query of the address", good.replace(":3306/campus", ":3306/campus?password=not-to-be-seen")),
        ("open to other machines without a key", config("0.0.0.0:7420")),
    ];
    let mut text = String::new();
    for (name, file) in files {
        let place = Place::with(file);
        if file.is_empty() {
            fs::remove_file(place.path().join("tandem.toml")).unwrap();
        }
        let args = ["config", "check"];
        text += &format!("# {name}\n{}", shown(&args, &place.run(&args), &[]));
    }
    assert!(!text.contains("not-to-be-seen") && !text.contains("not to be seen"), "{text}");
    texts.insert("configuration.txt".to_owned(), text);

    let place = Place::with(&good);
    let mut text = String::new();
    for (args, env) in [
        (&["run"][..], &[][..]),
        (&["run", "--node", "laptop-c"], &[]),
        (&["run", "--node", "laptop-a"], &[("PASSWORD", "p")]),
        (&["run", "--node", "laptop-a"], &[("PASSWORD", ""), ("HUB_KEY", "k")]),
        (&["doctor", "--node", "laptop-a", "--against", "no.facts"], &[("PASSWORD", "p"), ("HUB_KEY", "k")]),
        (&["doctor", "--node", "laptop-a", "--against", "tandem.toml"], &[("PASSWORD", "p"), ("HUB_KEY", "k")]),
        (&["cloud-server", "--key", "laptops"], &[]),
    ] {
        text += &shown(args, &place.run_with(args, env), &[]);
    }
    texts.insert("node.txt".to_owned(), text);
    hold("errors", &texts);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_of_asking_a_node_are_as_they_were_read_last() {
    let node = Shown::start(Some("open sesame")).await;
    // Bound and dropped: nobody listens there now.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let absent = Place::with(&config(&free.to_string()));
    let asked: &[&[&str]] = &[
        &["status"],
        &["sync"],
        &["pause", "tailer"],
        &["conflicts", "list"],
        &["failed", "list"],
        &["snapshot"],
        &["verify"],
        &["where", "riders", "7"],
        &["position"],
        &["ddl", "list"],
        &["healthcheck"],
    ];
    let (free, port) = (free.to_string(), node.address());
    let mut text = String::from("# No node runs\n");
    asked.iter().for_each(|args| text += &shown(args, &absent.run(args), &[(&free, "ADDRESS")]));
    text += "# The key is another one\n";
    let wrong = [("WEB_KEY", "sesame")];
    asked.iter().take(3).for_each(|args| text += &shown(args, &node.place.run_with(args, &wrong), &[(&port, "ADDRESS")]));
    text += "# Another node answers; there is no such thing; it has no such role\n";
    let right = [("WEB_KEY", "open sesame")];
    for args in [
        &["status", "--node", "laptop-b"][..],
        &["conflicts", "show", "c-9"],
        &["conflicts", "settle", "c-9", "--keep", "winner"],
        &["failed", "show", "f-9"],
        &["snapshot", "--cancel", "9"],
        &["ddl", "approve", "9"],
    ] {
        text += &shown(args, &node.place.run_with(args, &right), &[(&port, "ADDRESS")]);
    }
    hold("asking", &BTreeMap::from([("asking.txt".to_owned(), text)]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupted_command_ends_with_130() {
    let node = Shown::start(None).await;
    let folder = node.place.path().to_owned();
    let waited = tokio::task::spawn_blocking(move || {
        let mut watching = Command::new(env!("CARGO_BIN_EXE_tandem"))
            .args(["status", "--watch"])
            .current_dir(folder)
            .env_remove("TANDEM_CONFIG")
            .env_remove("TANDEM_NODE")
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = BufReader::new(watching.stdout.take().unwrap());
        let mut first = String::new();
        said.read_line(&mut first).unwrap();
        assert!(first.starts_with("LINK"), "{first}");
        // SAFETY: it is our own child, which has not been waited for, so its number is nobody else's.
        assert_eq!(unsafe { libc::kill(watching.id() as i32, libc::SIGINT) }, 0);
        watching.wait().unwrap()
    });
    assert_eq!(waited.await.unwrap().code(), Some(130));
}

#[test]
fn a_text_that_differs_is_seen() {
    assert_eq!(difference("a\nb\n", "a\nb\n"), None);
    assert_eq!(difference("a\nc\n", "a\nb\n").unwrap(), "line 2 was\n  b\nand is\n  c");
    assert_eq!(difference("a\n", "a\nb\n").unwrap(), "line 2 was\n  b\nand is\n  (nothing)");
    assert_eq!(difference("a\nb\n", "").unwrap(), "line 1 was\n  (nothing)\nand is\n  a");
}
