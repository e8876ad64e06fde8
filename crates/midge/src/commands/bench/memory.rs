//! `midge bench memory`: what an idle server and a waiting host hold, and how large the programs are.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use midge_client::{Client, EnqueueRequest};
use midge_protocol::job::State;
use serde::Serialize;
use tokio::time::Instant;

use super::report::{Better, Measure, Report, Row, Unit};
use super::{Bench, lab, modules, processes};
use crate::progress::spinner;
use crate::stop::Stop;
use crate::words;

/// Jobs that wait, for what each costs in memory.
const WAITING_JOBS: usize = 100_000;
/// They are due so long from now that none begins.
const WAITING_DELAY: Duration = Duration::from_secs(24 * 3600);
const BULK_JOBS: usize = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// By then the Machine is up, or something is wrong.
const UP_TIME_MAX: Duration = Duration::from_secs(30);

/// Measure what an idle server and a waiting host hold, and how large the programs are
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server is this command, started again as `midge serve`; the host is one that it keeps warm.

Examples:
  midge bench memory
  midge bench memory --json")]
pub(super) struct Args {}

/// The size of something.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    what: String,
    /// `resident` or `file`.
    kind: &'static str,
    bytes: u64,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] = &["WHAT", "KIND", ">SIZE"];

    fn cells(&self) -> Vec<String> {
        vec![self.what.clone(), self.kind.to_owned(), words::bytes(self.bytes)]
    }

    fn name(&self) -> String {
        format!("{}, {}", self.what, self.kind)
    }

    fn measures(&self) -> Vec<Measure> {
        match self.kind {
            "file" => vec![Measure::size("size", self.bytes)],
            _ => vec![Measure::once("size", Unit::Bytes, Better::Lower, self.bytes as f64)],
        }
    }
}

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = Stop::listen()?;
        let mut report = Report::new("memory");
        let Some(rows) = stop.or(resident(bench)).await else { return Ok(None) };
        report.rows = rows?;
        report.rows.extend(files(bench)?);
        Ok(Some(report))
    }
}

/// A server in a process of its own, which ends with this.
struct Server {
    child: Child,
    url: String,
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended. Its hosts end with it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Server {
    fn start(bench: &Bench) -> Result<Server> {
        let ours = std::env::current_exe().context("cannot tell where this program is")?;
        let mut command = Command::new(ours);
        command.args(["serve", "--listen", "127.0.0.1:0", "--log", "warn", "--modules"]).arg(&bench.modules);
        command.arg("--db").arg(bench.folder.path().join("midge.db")).arg("--host-program").arg(&bench.host);
        // Nothing from outside is to tell it of Fly or of a token.
        command.env_clear().stdin(Stdio::null()).stderr(Stdio::piped());
        let mut child = command.spawn().context("cannot start a server")?;
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let url = lines.find_map(|line| {
            let line = line.ok()?;
            let url = line.strip_prefix("midge listens on ")?.split(": ").next()?;
            Some(url.to_owned())
        });
        // What else it says is read to the end, so that it never waits for a reader.
        std::thread::spawn(move || lines.for_each(drop));
        let mut server = Server { child, url: String::new() };
        server.url = url.context("the server did not start")?;
        Ok(server)
    }

    fn resident(&self, what: &str) -> Result<Figures> {
        held(what, self.child.id())
    }

    /// Returns what its one host holds.
    fn host_resident(&self, what: &str) -> Result<Figures> {
        let hosts = processes::children(self.child.id())?;
        let [host] = hosts[..] else { bail!("there should be one host, and there are {}", hosts.len()) };
        held(what, host)
    }
}

async fn resident(bench: &Bench) -> Result<Vec<Figures>> {
    let spinner = spinner("waiting for the Machine");
    let server = Server::start(bench)?;
    let client = Client::new(&server.url)?;
    wait_for_host(&client).await?;
    let mut rows = vec![
        server.resident("server, idle, with one waiting host")?,
        server.host_resident("host, waiting, before its first job")?,
    ];
    let job = EnqueueRequest::new(modules::name(modules::STAMP)).queue(lab::queue("warm")?);
    let id = client.enqueue(&job).await?.id;
    let ended = client.wait(id, Some(UP_TIME_MAX)).await?;
    if ended.state != State::Completed {
        bail!("the job is {}: {:?}", ended.state, ended.failure);
    }
    rows.push(server.host_resident("host, waiting, after a job")?);
    spinner.set_message("enqueueing jobs that wait");
    let waiting = || EnqueueRequest::new(modules::name(modules::NOOP)).delay(WAITING_DELAY);
    let jobs = std::iter::repeat_with(waiting).take(WAITING_JOBS);
    client.enqueue_in_batches(jobs, BULK_JOBS, |_| {}).await?;
    rows.push(server.resident("server, with 100,000 jobs waiting")?);
    spinner.finish_and_clear();
    Ok(rows)
}

async fn wait_for_host(client: &Client) -> Result<()> {
    let deadline = Instant::now() + UP_TIME_MAX;
    while !client.machines().await?.machines.iter().any(lab::is_up) {
        if Instant::now() > deadline {
            bail!("no Machine is up after {} s", UP_TIME_MAX.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

fn files(bench: &Bench) -> Result<Vec<Figures>> {
    let ours = std::env::current_exe().context("cannot tell where this program is")?;
    let guests = [modules::NOOP, modules::STAMP, modules::STAMP_LARGE];
    let compiled =
        guests.map(|name| (format!("module {name}"), modules::compiled_path(&bench.modules, name)));
    let programs = [("host program".to_owned(), bench.host.clone()), ("midge command".to_owned(), ours)];
    programs.into_iter().chain(compiled).map(|(what, path)| file(what, &path)).collect()
}

fn held(what: &str, pid: u32) -> Result<Figures> {
    Ok(Figures { what: what.to_owned(), kind: "resident", bytes: processes::resident_bytes(pid)? })
}

fn file(what: String, path: &Path) -> Result<Figures> {
    let data = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(Figures { what, kind: "file", bytes: data.len() })
}
