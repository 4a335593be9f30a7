//! A `tandem` process: the built program with its config, environment and log.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Output, Stdio};
use std::time::Duration;

use super::process::{Running, outlive};

const END_WITHIN: Duration = Duration::from_secs(30);

/// How a node is started: `program args…`, in `dir`, with `env`.
#[derive(Clone, Debug)]
pub struct NodeOptions {
    /// For messages, and the name of its log: `<dir>/<name>.log`.
    pub name: String,
    pub program: PathBuf,
    pub args: Vec<String>,
    pub env: Vec<(String, String)>,
    pub dir: PathBuf,
    pub outlives: bool,
}

impl NodeOptions {
    pub fn new(name: impl Into<String>, program: impl Into<PathBuf>, dir: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), program: program.into(), args: Vec::new(), env: Vec::new(), dir: dir.into(), outlives: false }
    }

    pub fn args<A: Into<String>>(mut self, args: impl IntoIterator<Item = A>) -> Self {
        self.args.extend(args.into_iter().map(Into::into));
        self
    }

    pub fn env(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.env.push((key.into(), value.into()));
        self
    }

    /// The program with other arguments and the same environment.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(&self.program);
        command.args(args).envs(self.env.iter().map(|(key, value)| (key, value))).current_dir(&self.dir).stdin(Stdio::null());
        command
    }

    /// Runs the program once with other arguments and the same environment, and returns what it said.
    pub fn run_once(&self, args: &[&str]) -> Output {
        let output = self.command(args).output();
        output.unwrap_or_else(|error| panic!("cannot run {}: {error}", self.program.display()))
    }
}

/// A running (or stopped) node. Dropping it kills it.
pub struct Node {
    process: Option<Running>,
    options: NodeOptions,
}

impl Node {
    pub fn start(options: NodeOptions) -> Self {
        let mut node = Self { process: None, options };
        node.restart();
        node
    }

    pub fn options(&self) -> &NodeOptions {
        &self.options
    }

    pub fn name(&self) -> &str {
        &self.options.name
    }

    pub fn process_id(&self) -> Option<u32> {
        self.process.as_ref().map(Running::id)
    }

    /// Where standard output and standard error go, from all its starts.
    pub fn log(&self) -> PathBuf {
        self.options.dir.join(format!("{}.log", self.options.name))
    }

    pub fn log_text(&self) -> String {
        read_lossy(&self.log())
    }

    /// How it ended, if it did by itself.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.process.as_mut().and_then(Running::ended)
    }

    /// SIGKILL. Gone when this returns.
    pub fn kill9(&mut self) {
        self.process = None;
    }

    /// SIGTERM, and its exit status; panics with the end of its log if it does not end.
    pub async fn terminate(&mut self) -> ExitStatus {
        let process = self.process.as_mut().unwrap_or_else(|| panic!("{} is not running", self.options.name));
        let status = process.terminate(END_WITHIN).await;
        self.process = None;
        status
    }

    /// Starts it, if need be after a kill. Its log goes on.
    pub fn restart(&mut self) {
        self.process = None;
        let options = &self.options;
        let log = self.log();
        let log = File::options().create(true).append(true).open(&log);
        let log = log.unwrap_or_else(|error| panic!("cannot open {}: {error}", self.log().display()));
        let mut command = Command::new(&options.program);
        command
            .args(&options.args)
            .envs(options.env.iter().map(|(key, value)| (key, value)))
            .current_dir(&options.dir)
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be copied"))
            .stderr(log);
        if options.outlives {
            outlive(&mut command);
        }
        let process = Running::start(format!("tandem as {}", options.name), command);
        self.process = Some(process.unwrap_or_else(|error| panic!("cannot start {}: {error}", options.program.display())));
    }

    /// Gives the process up: it lives on. Needs [`NodeOptions::outlives`].
    pub fn leave(mut self) -> Option<u32> {
        assert!(self.options.outlives, "a node that stays must be started so");
        self.process.take().map(Running::leave)
    }
}

fn read_lossy(file: &Path) -> String {
    String::from_utf8_lossy(&fs::read(file).unwrap_or_default()).into_owned()
}
