//! A private MariaDB: its own port, data directory and process.

use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use mysql_async::prelude::{FromRow, Queryable};
use mysql_async::{Conn, Opts, OptsBuilder};

use super::process::{Running, outlive};
use super::template::{fresh_data_dir, mariadbd, program, user};
use super::{free_port, wait_until};

/// The server is up in about a second; a busy machine that runs many tests is slower.
const READY_WITHIN: Duration = Duration::from_secs(60);
const END_WITHIN: Duration = Duration::from_secs(60);

/// May do everything. For arranging a test, never for the node under test.
const ADMIN: &str = "harness";
const ADMIN_PASSWORD: &str = "harness-only";
/// The account a node runs with.
const ACCOUNT: &str = "tandem";
const PASSWORD: &str = "tandem-test-only";

/// What a node's account needs, as docs/operations.md lists it. BINLOG REPLAY is the one it can do without.
pub const GRANTS: &[&str] = &[
    "SELECT, INSERT, UPDATE, DELETE, TRIGGER, CREATE, ALTER, DROP, INDEX, REFERENCES ON *.*",
    "ALL ON tandem.*",
    "REPLICATION SLAVE, BINLOG MONITOR, BINLOG REPLAY ON *.*",
];

/// What survives the loss of the machine. The loss of the process alone loses nothing in either.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sync {
    /// `sync_binlog=0`, `innodb_flush_log_at_trx_commit=2`: quick.
    OnSchedule,
    /// `sync_binlog=1`, `innodb_flush_log_at_trx_commit=1`: what production uses.
    EachCommit,
}

/// How the server is set. [`Default`] is what Tandem asks for: row binlog with full images and full metadata.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    pub server_id: u32,
    pub gtid_domain_id: u32,
    pub log_bin: bool,
    pub binlog_format: &'static str,
    pub binlog_row_image: &'static str,
    pub binlog_row_metadata: &'static str,
    /// (increment, offset): which ids this server gives to new rows.
    pub auto_increment: (u32, u32),
    pub sync: Sync,
    /// Grants of the node's account, without `GRANT` and `TO …`.
    pub grants: Vec<String>,
    /// More arguments for mariadbd, such as `--log-bin-compress=1`. The last one wins.
    pub args: Vec<String>,
    /// The data directory, kept at the end. Without it a temporary one is used and removed.
    pub dir: Option<PathBuf>,
    /// The server lives on after this program ends; [`PrivateServer::leave`] gives its process id.
    pub outlives: bool,
}

impl Default for ServerOptions {
    fn default() -> Self {
        Self {
            server_id: 1,
            gtid_domain_id: 0,
            log_bin: true,
            binlog_format: "ROW",
            binlog_row_image: "FULL",
            binlog_row_metadata: "FULL",
            auto_increment: (1, 1),
            sync: Sync::OnSchedule,
            grants: GRANTS.iter().map(|grant| grant.to_string()).collect(),
            args: Vec::new(),
            dir: None,
            outlives: false,
        }
    }
}

impl ServerOptions {
    /// The settings of the n-th node (from 1): server id, domain and ids of its own.
    pub fn node(n: u32) -> Self {
        Self { server_id: n, gtid_domain_id: n, auto_increment: (10, n), ..Self::default() }
    }

    pub fn arg(mut self, arg: impl Into<String>) -> Self {
        self.args.push(arg.into());
        self
    }
}

/// A running (or stopped) server with a data directory of its own. Dropping it ends the process and removes the data.
pub struct PrivateServer {
    // In this order: the process ends before its directory goes.
    process: Option<Running>,
    options: ServerOptions,
    port: u16,
    dir: PathBuf,
    _temporary: Option<tempfile::TempDir>,
}

impl PrivateServer {
    /// Starts the server of the n-th node, with [`ServerOptions::node`].
    pub async fn node(n: u32) -> Self {
        Self::start(ServerOptions::node(n)).await
    }

    /// Returns when the server takes connections.
    pub async fn start(options: ServerOptions) -> Self {
        let (dir, temporary) = match &options.dir {
            Some(dir) => (dir.clone(), None),
            None => {
                let temporary = tempfile::Builder::new().prefix("tandem-").tempdir();
                let temporary = temporary.unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"));
                (temporary.path().to_owned(), Some(temporary))
            }
        };
        let data = dir.join("data");
        tokio::task::spawn_blocking(move || fresh_data_dir(&data)).await.expect("copying the template panicked");
        let mut server = Self { process: None, options, port: free_port(), dir, _temporary: temporary };
        fs::create_dir_all(server.dir.join("tmp")).unwrap_or_else(|error| panic!("cannot make a temporary directory: {error}"));
        server.write_accounts();
        // Another process may have taken the port between the look and the start.
        for _ in 0..3 {
            match server.boot().await {
                Ok(()) => return server,
                Err(reason) if reason.contains("Address already in use") => server.port = free_port(),
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("three ports in a row were taken while mariadbd started");
    }

    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    pub fn dir(&self) -> &Path {
        &self.dir
    }

    pub fn data_dir(&self) -> PathBuf {
        self.dir.join("data")
    }

    /// The server's own log: errors, and its story of starts and stops.
    pub fn log(&self) -> PathBuf {
        self.dir.join("mariadbd.log")
    }

    pub fn options(&self) -> &ServerOptions {
        &self.options
    }

    /// Where a node finds this server, with its account and without the password.
    pub fn url(&self) -> String {
        format!("mysql://{ACCOUNT}@127.0.0.1:{}", self.port)
    }

    pub fn password(&self) -> &'static str {
        PASSWORD
    }

    /// Connection settings of the node's account.
    pub fn account_opts(&self) -> Opts {
        self.opts(ACCOUNT, PASSWORD)
    }

    /// Connection settings of the account that may do everything.
    pub fn admin_opts(&self) -> Opts {
        self.opts(ADMIN, ADMIN_PASSWORD)
    }

    fn opts(&self, user: &str, password: &str) -> Opts {
        OptsBuilder::default()
            .ip_or_hostname("127.0.0.1")
            .tcp_port(self.port)
            .user(Some(user))
            .pass(Some(password))
            .prefer_socket(false)
            .max_allowed_packet(Some(1 << 30))
            .into()
    }

    /// A connection that may do everything.
    pub async fn conn(&self) -> Conn {
        Conn::new(self.admin_opts()).await.unwrap_or_else(|error| panic!("cannot log in on port {}: {error}", self.port))
    }

    /// Runs statements (several, separated by `;`, are allowed) and forgets their results. Panics on an error.
    pub async fn query(&self, sql: &str) {
        let mut conn = self.conn().await;
        let mut result = conn.query_iter(sql).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
        while !result.is_empty() {
            result.for_each(drop).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
        }
        drop(result);
        conn.disconnect().await.unwrap_or_else(|error| panic!("{error} after: {sql}"));
    }

    /// All rows of a query. Panics on an error.
    pub async fn rows<T: FromRow + Send + 'static>(&self, sql: &str) -> Vec<T> {
        let mut conn = self.conn().await;
        let rows = conn.query(sql).await.unwrap_or_else(|error| panic!("{error} in: {sql}"));
        conn.disconnect().await.unwrap_or_else(|error| panic!("{error} after: {sql}"));
        rows
    }

    /// The first row of a query, if there is one. Panics on an error.
    pub async fn first<T: FromRow + Send + 'static>(&self, sql: &str) -> Option<T> {
        self.rows(sql).await.into_iter().next()
    }

    /// Runs SQL through the ordinary `mariadb` client, as a person would, and returns what it prints (tab separated,
    /// without headings). Panics when the client fails.
    pub fn sql_client(&self, sql: &str) -> String {
        let mut client = Command::new(program("mariadb", &["/usr/local/bin", "/opt/mariadb/bin"]))
            .arg("--no-defaults")
            .args(["--protocol=tcp", "--host=127.0.0.1", "--batch", "--skip-column-names", "--default-character-set=utf8mb4"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--user={ADMIN}"))
            .env("MYSQL_PWD", ADMIN_PASSWORD)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("cannot run the mariadb client: {error}"));
        let mut input = client.stdin.take().expect("standard input is a pipe");
        let sql_bytes = sql.as_bytes().to_vec();
        // The client may print before it has read everything: feed it from a thread of its own.
        let feeding = std::thread::spawn(move || input.write_all(&sql_bytes));
        let output = client.wait_with_output().unwrap_or_else(|error| panic!("the mariadb client was lost: {error}"));
        let fed = feeding.join().expect("writing to a pipe does not panic");
        assert!(
            output.status.success() && fed.is_ok(),
            "the mariadb client failed: {} in: {sql}",
            String::from_utf8_lossy(&output.stderr).trim()
        );
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// The command line of the ordinary client for this server, for a person to type.
    pub fn client_command(&self) -> String {
        format!("mariadb --protocol=tcp -h 127.0.0.1 -P {} -u {ADMIN} -p{ADMIN_PASSWORD}", self.port)
    }

    /// SIGKILL, as a crash would end it. The data directory stays.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// An orderly end. The data directory stays.
    pub async fn stop(&mut self) -> Option<ExitStatus> {
        let mut process = self.process.take()?;
        Some(process.terminate(END_WITHIN).await)
    }

    /// Starts again on the same port and data directory; ends it in order first, if it runs.
    pub async fn restart(&mut self) {
        self.stop().await;
        // The port was ours; a connection in its last state may still hold it for a moment.
        for _ in 0..10 {
            match self.boot().await {
                Ok(()) => return,
                Err(reason) if reason.contains("Address already in use") => {}
                Err(reason) => panic!("{reason}"),
            }
        }
        panic!("port {} was taken by somebody else while the server was down", self.port);
    }

    /// [`Self::restart`] with more arguments for mariadbd from now on.
    pub async fn restart_with(&mut self, args: &[&str]) {
        self.options.args.extend(args.iter().map(|arg| arg.to_string()));
        self.restart().await;
    }

    /// [`Self::restart`] with these arguments for mariadbd in place of those that were added before.
    pub async fn restart_as(&mut self, args: Vec<String>) {
        self.options.args = args;
        self.restart().await;
    }

    /// Gives the process up: it lives on. Needs [`ServerOptions::outlives`] and [`ServerOptions::dir`].
    pub fn leave(mut self) -> Option<u32> {
        assert!(self.options.outlives && self.options.dir.is_some(), "a server that stays needs a place that stays");
        self.process.take().map(Running::leave)
    }

    /// Accounts are made by the server itself at each start, out of the binlog, before it takes connections.
    fn write_accounts(&self) {
        let mut sql = String::from("SET sql_log_bin = 0;\n");
        for (user, password) in [(ADMIN, ADMIN_PASSWORD), (ACCOUNT, PASSWORD)] {
            sql += &format!("CREATE USER IF NOT EXISTS '{user}'@'%' IDENTIFIED BY '{password}';\n");
        }
        sql += &format!("GRANT ALL ON *.* TO '{ADMIN}'@'%' WITH GRANT OPTION;\n");
        for grant in &self.options.grants {
            sql += &format!("GRANT {grant} TO '{ACCOUNT}'@'%';\n");
        }
        let file = self.dir.join("accounts.sql");
        fs::write(&file, sql).unwrap_or_else(|error| panic!("cannot write {}: {error}", file.display()));
    }

    async fn boot(&mut self) -> Result<(), String> {
        let log = self.log();
        let said_before = fs::metadata(&log).map_or(0, |file| file.len());
        let process = Running::start(format!("mariadbd on port {}", self.port), self.command());
        let mut process = process.map_err(|error| format!("cannot start mariadbd: {error}"))?;
        let opts = self.admin_opts();
        let mut ended = None;
        let ready = wait_until("mariadbd to take connections", READY_WITHIN, async || {
            ended = process.ended();
            if ended.is_some() {
                return true;
            }
            match Conn::new(opts.clone()).await {
                Ok(conn) => conn.disconnect().await.is_ok(),
                Err(_) => false,
            }
        })
        .await;
        let said = || {
            let log = fs::read(&log).unwrap_or_default();
            let from = usize::try_from(said_before).map_or(0, |from| from.min(log.len()));
            String::from_utf8_lossy(&log[from..]).into_owned()
        };
        match (ready, ended) {
            (Ok(_), None) => {
                self.process = Some(process);
                Ok(())
            }
            (Ok(_), Some(status)) => Err(format!("mariadbd ended at its start ({status}):\n{}", said())),
            (Err(missed), _) => Err(format!("{missed}:\n{}", said())),
        }
    }

    fn command(&self) -> Command {
        let (program, _) = mariadbd();
        let options = &self.options;
        let dir = self.dir.display();
        let log = File::options().create(true).append(true).open(self.log());
        let log = log.unwrap_or_else(|error| panic!("cannot open {}: {error}", self.log().display()));
        let mut command = Command::new(program);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={dir}/data"))
            // Its own: servers beside each other have been seen to remove each other's temporary tables.
            .arg(format!("--tmpdir={dir}/tmp"))
            // Below the data directory: an absolute path may be longer than the 107 bytes that a socket's may have.
            .args(["--socket=socket", "--pid-file=pid"])
            .arg(format!("--init-file={dir}/accounts.sql"))
            .args(["--bind-address=127.0.0.1", "--skip-name-resolve", "--skip-slave-start"])
            .arg(format!("--port={}", self.port))
            .arg(format!("--server-id={}", options.server_id))
            .arg(format!("--gtid-domain-id={}", options.gtid_domain_id))
            .arg(format!("--auto-increment-increment={}", options.auto_increment.0))
            .arg(format!("--auto-increment-offset={}", options.auto_increment.1))
            .args(["--character-set-server=utf8mb4", "--collation-server=utf8mb4_general_ci"])
            // Small: many servers run side by side on a developer's machine.
            .args(["--innodb-buffer-pool-size=32M", "--innodb-log-file-size=8M", "--innodb-log-buffer-size=2M"])
            .args(["--key-buffer-size=1M", "--aria-pagecache-buffer-size=1M", "--performance-schema=OFF"])
            .args(["--max-connections=100", "--max-allowed-packet=1G", "--skip-external-locking"]);
        if options.log_bin {
            command
                .arg("--log-bin=binlog")
                .arg(format!("--binlog-format={}", options.binlog_format))
                .arg(format!("--binlog-row-image={}", options.binlog_row_image))
                .arg(format!("--binlog-row-metadata={}", options.binlog_row_metadata));
        }
        command.args(match options.sync {
            Sync::OnSchedule => ["--sync-binlog=0", "--innodb-flush-log-at-trx-commit=2"],
            Sync::EachCommit => ["--sync-binlog=1", "--innodb-flush-log-at-trx-commit=1"],
        });
        command.args(&options.args);
        if let Some(user) = user() {
            command.arg(format!("--user={user}"));
        }
        command.stdin(Stdio::null()).stdout(log.try_clone().expect("a file handle can be copied")).stderr(log);
        if options.outlives {
            outlive(&mut command);
        }
        command
    }
}
