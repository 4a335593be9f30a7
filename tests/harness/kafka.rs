//! A private Apache Kafka: one broker that is its own controller, from its published jars, with a log folder of its own.
//!
//! The jars come from Maven's ordinary client, once for a target folder (`tests/kafka/pom.xml` names them). Where they
//! cannot be had, [`broker_or_say`] says so loudly, and fails where TANDEM_REQUIRE_KAFKA=1 is set.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::process::{Running, outlive};
use super::{Link, free_port, harness_dir, wait_until};

/// Five seconds here; a machine that builds at the same time is slower.
const READY_WITHIN: Duration = Duration::from_secs(120);

/// Counts up when what the template holds changes.
const TEMPLATE: u32 = 1;

/// Who may log in, by SCRAM-SHA-256 and by PLAIN, over TLS.
pub const USER: &str = "tandem";
pub const PASSWORD: &str = "tandem-test-only";
/// Who may log in and nothing more.
pub const GUEST: &str = "guest";

/// How the broker is set; [`Default`] lets everybody do everything.
#[derive(Clone, Debug, Default)]
pub struct BrokerOptions {
    /// A second listener, with TLS and login, for whose users rights are asked.
    pub secure: bool,
    /// So many more listeners, each behind a network that can be cut; [`PrivateBroker::take_links`] gives these.
    pub linked: usize,
    /// More lines for server.properties. The last one wins.
    pub settings: Vec<String>,
    /// The folder, kept at the end. Without it a temporary one is used and removed.
    pub dir: Option<PathBuf>,
    /// The broker lives on after this program ends; [`PrivateBroker::leave`] gives its process id.
    pub outlives: bool,
}

/// A running (or stopped) broker. Dropping it ends the process and removes the data.
pub struct PrivateBroker {
    // In this order: the process ends before its folder goes.
    process: Option<Running>,
    options: BrokerOptions,
    port: u16,
    secure_port: u16,
    controller_port: u16,
    /// The ports behind the links, and the links.
    linked: Vec<u16>,
    links: Vec<Link>,
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

/// A broker; or `None`, said loudly, where its jars cannot be had and nobody insists on it.
pub async fn broker_or_say(options: BrokerOptions) -> Option<PrivateBroker> {
    if !kafka_or_say() {
        return None;
    }
    Some(PrivateBroker::start(options).await.unwrap_or_else(|reason| panic!("the jars were there a moment ago: {reason}")))
}

/// Whether there is a Kafka to test with; where not, says so loudly, and panics if somebody insists on it.
pub fn kafka_or_say() -> bool {
    if !tandem::topic::kafka::BUILT_IN {
        not_tested("the program is built without the Kafka client");
        return false;
    }
    // kcat reads our topics as a stranger does.
    let kcat = Command::new("kcat").arg("-V").output().map_err(|error| format!("kcat cannot be run ({error})"));
    let Err(reason) = jars().and(kcat) else { return true };
    not_tested(&reason);
    false
}

/// The jars of a reader of Debezium's envelope that is not ours, where there is a Java that runs it from its source; where
/// not, says so as [`kafka_or_say`] does.
pub fn foreign_reader_or_say() -> Option<PathBuf> {
    let compiler = Command::new("javac").arg("-version").output().map_err(|error| format!("javac cannot be run ({error})"));
    match compiler.and_then(|_| fetched("foreign-reader-jars", "tests/kafka/foreign/pom.xml")) {
        Ok(jars) => Some(jars),
        Err(reason) => {
            not_tested(&reason);
            None
        }
    }
}

/// Says loudly that a test with Kafka does not run; panics if somebody insists on it.
fn not_tested(reason: &str) {
    let insisted = std::env::var_os("TANDEM_REQUIRE_KAFKA").is_some_and(|value| value == "1");
    assert!(!insisted, "TANDEM_REQUIRE_KAFKA=1, and there is no Kafka: {reason}");
    // To the terminal itself: the test runner keeps what a test that passes prints to itself.
    let line = format!("\n#### KAFKA WAS NOT TESTED: {reason}. `make setup` installs what it needs. ####\n");
    if let Ok(mut terminal) = fs::OpenOptions::new().append(true).open("/dev/stderr") {
        // A closed terminal hears nothing anyway.
        let _ = terminal.write_all(line.as_bytes());
    }
}

impl PrivateBroker {
    /// Returns when the broker takes connections.
    pub async fn start(options: BrokerOptions) -> Result<Self, String> {
        let jars = jars()?;
        let (dir, temporary) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temporary = tempfile::Builder::new().prefix("tandem-kafka-").tempdir();
                let temporary = temporary.unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"));
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let template = template(&jars);
        copy(&template, &dir.join("data"));
        if options.secure {
            make_certificates(&dir);
        }
        let (port, secure_port, controller_port) = (free_port(), free_port(), free_port());
        let linked: Vec<u16> = (0..options.linked).map(|_| free_port()).collect();
        let mut links = Vec::new();
        for &behind in &linked {
            links.push(Link::to(behind).await);
        }
        let mut broker =
            Self { process: None, options, port, secure_port, controller_port, linked, links, dir, _temporary: temporary };
        broker.write_settings();
        broker.start_again().await;
        Ok(broker)
    }

    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Where TLS and login are asked for.
    pub fn secure_address(&self) -> String {
        format!("127.0.0.1:{}", self.secure_port)
    }

    /// Who signed the broker's certificate, in PEM.
    pub fn authority(&self) -> PathBuf {
        self.dir.join("broker.pem")
    }

    /// The networks that can be cut: a client that comes through one is led back to it by the broker.
    pub fn take_links(&mut self) -> Vec<Link> {
        std::mem::take(&mut self.links)
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// SIGKILL. What was acknowledged is in the kernel's hands, and comes back.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    pub async fn start_again(&mut self) {
        let jars = jars().unwrap_or_else(|reason| panic!("the jars were there a moment ago: {reason}"));
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.unwrap_or_else(|error| panic!("cannot write {}: {error}", self.log().display()));
        let mut command = java(&jars);
        command.arg("kafka.Kafka").arg(self.dir.join("server.properties")).current_dir(&self.dir);
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("an open file can be opened twice")).stderr(log);
        if self.options.outlives {
            outlive(&mut command);
        }
        let mut process = Running::start("kafka", command).unwrap_or_else(|error| panic!("cannot start java: {error}"));
        let (port, log) = (self.port, self.log());
        let up = wait_until("the broker", READY_WITHIN, async || {
            assert!(process.ended().is_none(), "the broker ended; its log:\n{}", tail(&log));
            tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_ok()
        });
        let up = up.await;
        up.unwrap_or_else(|missed| panic!("{missed}; its log:\n{}", tail(&log)));
        self.process = Some(process);
    }

    /// Starts anew with other lines of [`BrokerOptions::settings`].
    pub async fn restart_with(&mut self, settings: Vec<String>) {
        self.process = None;
        self.options.settings = settings;
        self.write_settings();
        self.start_again().await;
    }

    /// Gives the broker up: it lives on after this program. For `make demo KEEP=1`.
    pub fn leave(mut self) -> u32 {
        let process = self.process.take().expect("the broker runs");
        process.leave()
    }

    fn log(&self) -> PathBuf {
        self.dir.join("broker.log")
    }

    fn write_settings(&self) {
        let Self { port, secure_port, controller_port, dir, .. } = self;
        let mut advertised = format!("PLAINTEXT://127.0.0.1:{port}");
        let mut listeners = format!("{advertised},CONTROLLER://127.0.0.1:{controller_port}");
        let mut protocols = "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,SECURE:SASL_SSL".to_owned();
        for (at, (behind, link)) in self.linked.iter().zip(&self.links).enumerate() {
            listeners.push_str(&format!(",LINK{at}://127.0.0.1:{behind}"));
            advertised.push_str(&format!(",LINK{at}://127.0.0.1:{}", link.port()));
            protocols.push_str(&format!(",LINK{at}:PLAINTEXT"));
        }
        let mut settings = vec![
            "process.roles=broker,controller".to_owned(),
            "node.id=1".into(),
            format!("controller.quorum.voters=1@127.0.0.1:{controller_port}"),
            "controller.listener.names=CONTROLLER".into(),
            format!("listener.security.protocol.map={protocols}"),
            format!("log.dirs={}", dir.join("data").display()),
            "offsets.topic.replication.factor=1".into(),
            "share.coordinator.state.topic.replication.factor=1".into(),
            "transaction.state.log.replication.factor=1".into(),
            "transaction.state.log.min.isr=1".into(),
            // A broker that was killed is not let in again before this has passed. Nine seconds by default; with two, one on
            // a machine with much else to do was taken for dead.
            "broker.session.timeout.ms=5000".into(),
            "broker.heartbeat.interval.ms=500".into(),
            // As Redpanda does it: a topic is there only if somebody made it.
            "auto.create.topics.enable=false".into(),
        ];
        if self.options.secure {
            let secure = format!(",SECURE://127.0.0.1:{secure_port}");
            listeners.push_str(&secure);
            advertised.push_str(&secure);
            let module = "org.apache.kafka.common.security";
            settings.extend([
                "sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN".to_owned(),
                "ssl.keystore.type=PKCS12".into(),
                format!("ssl.keystore.location={}", dir.join("broker.p12").display()),
                format!("ssl.keystore.password={PASSWORD}"),
                format!("listener.name.secure.scram-sha-256.sasl.jaas.config={module}.scram.ScramLoginModule required;"),
                format!(
                    "listener.name.secure.plain.sasl.jaas.config={module}.plain.PlainLoginModule required user_{USER}=\"{PASSWORD}\";"
                ),
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer".into(),
                format!("super.users=User:ANONYMOUS;User:{USER}"),
            ]);
        }
        settings.push(format!("listeners={listeners}"));
        settings.push(format!("advertised.listeners={advertised}"));
        settings.extend(self.options.settings.iter().cloned());
        let file = dir.join("server.properties");
        fs::write(&file, settings.join("\n") + "\n").unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }
}

fn java(jars: &Path) -> Command {
    let mut command = Command::new("java");
    // One core of two, and as soon as possible: brokers in tests live for seconds.
    command.args(["-Xms64m", "-Xmx768m", "-XX:+UseSerialGC", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp"]);
    command.arg(jars.join("*"));
    command
}

/// The folder with the broker's jars.
fn jars() -> Result<PathBuf, String> {
    fetched("kafka-jars", "tests/kafka/pom.xml")
}

/// A folder with the jars that a pom names, fetched unless they are there. Safe among threads and processes.
fn fetched(name: &str, pom: &str) -> Result<PathBuf, String> {
    let pom = Path::new(env!("CARGO_MANIFEST_DIR")).join(pom);
    let wanted = fs::read(&pom).unwrap_or_else(|error| panic!("cannot read {}: {error}", pom.display()));
    let (folder, lock) = (harness_dir().join(name), harness_dir().join(format!("{name}.lock")));
    let lock = File::create(&lock).unwrap_or_else(|error| panic!("cannot create {}: {error}", lock.display()));
    lock.lock().unwrap_or_else(|error| panic!("cannot lock the jars: {error}"));
    // Written last, with what it was fetched for.
    let whole = folder.join("fetched-for.xml");
    if fs::read(&whole).is_ok_and(|fetched| fetched == wanted) {
        return Ok(folder);
    }
    let _ = fs::remove_dir_all(&folder);
    let java = Command::new("java").arg("-version").output();
    java.map_err(|error| format!("java cannot be run ({error})"))?;
    let output = Command::new("mvn")
        .args(["-q", "-B", "-f"])
        .arg(&pom)
        .arg("org.apache.maven.plugins:maven-dependency-plugin:3.8.1:copy-dependencies")
        .arg(format!("-DoutputDirectory={}", folder.display()))
        .arg("-DincludeScope=runtime")
        .output()
        .map_err(|error| format!("Maven (mvn) cannot be run ({error})"))?;
    if !output.status.success() {
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let line = text.lines().find(|line| line.contains("ERROR")).unwrap_or("it says nothing").to_owned();
        return Err(format!("Maven could not fetch the jars: {line}"));
    }
    fs::write(&whole, wanted).unwrap_or_else(|error| panic!("cannot write {}: {error}", whole.display()));
    Ok(folder)
}

/// A formatted log folder, made once: formatting takes the time of one more start of Java.
fn template(jars: &Path) -> PathBuf {
    let harness = harness_dir();
    let template = harness.join(format!("kafka-template-{TEMPLATE}"));
    let lock = harness.join("kafka-template.lock");
    let lock = File::create(&lock).unwrap_or_else(|error| panic!("cannot create {}: {error}", lock.display()));
    lock.lock().unwrap_or_else(|error| panic!("cannot lock the template: {error}"));
    if template.is_dir() {
        return template;
    }
    let unfinished = harness.join("kafka-template-unfinished");
    let _ = fs::remove_dir_all(&unfinished);
    let settings = harness.join("kafka-template.properties");
    let lines = format!(
        "process.roles=broker,controller\nnode.id=1\ncontroller.quorum.voters=1@127.0.0.1:1\ncontroller.listener.names=CONTROLLER\n\
         listeners=PLAINTEXT://127.0.0.1:2,CONTROLLER://127.0.0.1:1\nlog.dirs={}\n",
        unfinished.display()
    );
    fs::write(&settings, lines).unwrap_or_else(|error| panic!("cannot write {}: {error}", settings.display()));
    let mut command = java(jars);
    // Any 16 bytes in base64 name a cluster.
    command.args(["kafka.tools.StorageTool", "format", "-t", "dGFuZGVtLXRlc3RzLTAwMA", "-c"]).arg(&settings);
    for user in [USER, GUEST] {
        command.arg("--add-scram").arg(format!("SCRAM-SHA-256=[name={user},password={PASSWORD}]"));
    }
    run(command, "formatting Kafka's log folder");
    fs::rename(&unfinished, &template).unwrap_or_else(|error| panic!("cannot name {}: {error}", template.display()));
    template
}

/// A key and a certificate that it signs itself, with the tool that comes with Java.
fn make_certificates(dir: &Path) {
    let store = dir.join("broker.p12");
    let keytool = |arguments: &[&str]| {
        let mut command = Command::new("keytool");
        command.args(arguments).arg("-keystore").arg(&store).args(["-storepass", PASSWORD, "-alias", "broker"]);
        command
    };
    let name = "SAN=ip:127.0.0.1,dns:localhost";
    let make = ["-genkeypair", "-keyalg", "EC", "-dname", "CN=broker", "-ext", name, "-validity", "30", "-storetype", "PKCS12"];
    run(keytool(&make), "making a key");
    let mut export = keytool(&["-exportcert", "-rfc"]);
    export.arg("-file").arg(dir.join("broker.pem"));
    run(export, "exporting a certificate");
}

fn run(mut command: Command, what: &str) {
    let output = command.output().unwrap_or_else(|error| panic!("{what}: {error}"));
    let text = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{what} failed:\n{}", String::from_utf8_lossy(&text));
}

fn copy(from: &Path, to: &Path) {
    let copied = fs::create_dir_all(to).and_then(|()| {
        for entry in fs::read_dir(from)? {
            let entry = entry?;
            fs::copy(entry.path(), to.join(entry.file_name()))?;
        }
        Ok(())
    });
    copied.unwrap_or_else(|error| panic!("cannot copy {} to {}: {error}", from.display(), to.display()));
}

fn tail(log: &Path) -> String {
    let text = fs::read_to_string(log).unwrap_or_else(|error| format!("{}: {error}", log.display()));
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(40)..].join("\n")
}
