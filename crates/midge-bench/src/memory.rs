//! `midge bench memory`: what an idle server and a waiting host hold, and how large the programs are.

use std::io::{BufRead, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use midge_build::Project;
use midge_cli::checkout::Checkout;
use midge_cli::progress::spinner;
use midge_cli::stop::StopSignal;
use midge_cli::words;
use midge_client::{Client, EnqueueRequest};
use midge_protocol::api::MachineView;
use serde::Serialize;
use tokio::time::Instant;

use super::report::{Better, Measure, Report, Row, Unit};
use super::{Bench, lab, modules, network, processes};

/// Jobs that wait, for what each costs in memory. The first take what any number takes, such as buffers.
const WAITING_JOBS: usize = 100_000;
/// How often as many again are enqueued, for what they alone take.
const WAITING_MORE: usize = 2;
const BULK_JOBS: usize = 1_000;
/// The program that has the network, beside the host's.
const NETWORK_PROGRAM: &str = "midge-net";
const LOOK_EVERY: Duration = Duration::from_millis(20);
/// By then the Machine is up, or something is wrong.
const UP_TIME_MAX: Duration = Duration::from_secs(30);
/// A process holds what it holds when it has not changed for so long, or after all it goes on changing.
const SETTLED_AFTER: Duration = Duration::from_millis(300);
const SETTLED_TIME_MAX: Duration = Duration::from_secs(3);

/// Measure what a server and a host hold, idle and per job or place, and how large the programs are
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server is this command, started again as `midge serve`; the host is one that it keeps warm.
What is per place or per 100,000 jobs is a difference: with them, less without them. A guest in
a place sleeps, and has one page of memory; what a guest allocates comes on top. The network
program is started at a guest's first request; here that is to a server on this computer.

Examples:
  midge bench memory
  midge bench memory --json")]
pub(super) struct Args {}

/// How large something is, in memory or on the disk.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    what: String,
    kind: Kind,
    bytes: u64,
    /// How it is compared with another run's.
    #[serde(skip)]
    measure: Measure,
}

/// What the bytes of a row are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// The bytes that a process has resident in memory.
    Resident,
    /// A difference of two such figures.
    Difference,
    /// The size of files on the disk.
    File,
}

impl Kind {
    fn as_str(self) -> &'static str {
        match self {
            Kind::Resident => "resident",
            Kind::Difference => "difference",
            Kind::File => "file",
        }
    }
}

impl Row for Figures {
    const HEADS: &'static [&'static str] = &["WHAT", "KIND", ">SIZE"];

    fn cells(&self) -> Vec<String> {
        vec![self.what.clone(), self.kind.as_str().to_owned(), words::bytes(self.bytes)]
    }

    fn name(&self) -> String {
        format!("{}, {}", self.what, self.kind.as_str())
    }

    fn measures(&self) -> Vec<Measure> {
        vec![self.measure.clone()]
    }
}

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = StopSignal::listen()?;
        let mut report = Report::new("memory");
        let site = network::serve()?;
        network::allow(bench, site)?;
        let Some(rows) = stop.or(resident(bench, site)).await else { return Ok(None) };
        report.rows = rows?;
        report.notes.push(format!("per place: with {} guests that sleep less with one, by the number of the others; per 100,000 jobs: with {} less with {WAITING_JOBS}", modules::WARM_PLACES, WAITING_JOBS * (1 + WAITING_MORE)));
        files(bench, &mut report)?;
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

    /// Returns what it holds.
    async fn resident(&self) -> Result<u64> {
        settled(self.child.id()).await
    }

    fn host(&self) -> Result<u32> {
        only_child(self.child.id(), "host")
    }

    /// Returns what its one host holds.
    async fn host_resident(&self) -> Result<u64> {
        settled(self.host()?).await
    }

    /// Returns what the network program of its one host holds.
    async fn network_resident(&self) -> Result<u64> {
        settled(only_child(self.host()?, "network program")?).await
    }
}

fn only_child(parent: u32, what: &str) -> Result<u32> {
    match processes::children(parent)?[..] {
        [child] => Ok(child),
        ref children => bail!("there should be one {what}, and there are {}", children.len()),
    }
}

/// Waits until what a process holds does not change any more, and returns it.
async fn settled(pid: u32) -> Result<u64> {
    let deadline = Instant::now() + SETTLED_TIME_MAX;
    let (mut bytes, mut since) = (processes::resident_bytes(pid)?, Instant::now());
    while since.elapsed() < SETTLED_AFTER && Instant::now() < deadline {
        tokio::time::sleep(LOOK_EVERY).await;
        let now = processes::resident_bytes(pid)?;
        if now != bytes {
            (bytes, since) = (now, Instant::now());
        }
    }
    Ok(bytes)
}

async fn resident(bench: &Bench, site: SocketAddr) -> Result<Vec<Figures>> {
    let spinner = spinner("waiting for the Machine");
    let server = Server::start(bench)?;
    let client = Client::new(&server.url)?;
    wait_for_host(&client).await?;
    let mut rows = vec![
        held("server, idle, with one waiting host", server.resident().await?),
        held("host, waiting, before its first job", server.host_resident().await?),
    ];
    spinner.set_message("places");
    rows.extend(places(&server, &client, site).await?);

    spinner.set_message("enqueueing jobs that wait");
    enqueue_waiting(&client, WAITING_JOBS).await?;
    let some = server.resident().await?;
    enqueue_waiting(&client, WAITING_JOBS * WAITING_MORE).await?;
    let all = server.resident().await?;
    rows.push(held("server, with 100,000 jobs waiting", some));
    rows.push(difference("server, per 100,000 more jobs waiting", all, some, WAITING_MORE as u64));
    spinner.finish_and_clear();
    Ok(rows)
}

/// Measures the host after a job and after one that made a request, with the program that made it, and with guests in its
/// places.
async fn places(server: &Server, client: &Client, site: SocketAddr) -> Result<Vec<Figures>> {
    let warm = lab::queue("warm")?;
    let job = |module| EnqueueRequest::new(modules::name(module)).queue(warm.clone());
    let id = client.enqueue(&job(modules::STAMP)).await?.id;
    client.wait_result_bytes(id, Some(UP_TIME_MAX)).await?;
    let waiting = server.host_resident().await?;
    let request = serde_json::Value::String(format!("1 GET http://{site}/"));
    let id = client.enqueue(&job(modules::FETCH).args(&request)?).await?.id;
    client.wait_result_bytes(id, Some(UP_TIME_MAX)).await?;
    let asked = [server.host_resident().await?, server.network_resident().await?];
    client.enqueue(&job(modules::SLEEP)).await?;
    wait_for_machine(client, |machine| machine.running == 1).await?;
    let one = server.host_resident().await?;
    let more = modules::WARM_PLACES - 1;
    client.enqueue_all((0..more).map(|_| job(modules::SLEEP)).collect()).await?;
    wait_for_machine(client, |machine| machine.running == modules::WARM_PLACES).await?;
    let all = server.host_resident().await?;
    Ok(vec![
        held("host, waiting, after a job", waiting),
        held("host, waiting, after a job with a request", asked[0]),
        held("network program, waiting, after a request", asked[1]),
        held("host, with a guest in one place", one),
        held(&format!("host, with guests in {} places", modules::WARM_PLACES), all),
        difference("host, per place with a guest", all, one, more.into()),
    ])
}

async fn enqueue_waiting(client: &Client, count: usize) -> Result<()> {
    // Its one Machine has no place left.
    let full = lab::queue("warm")?;
    let waiting = || EnqueueRequest::new(modules::name(modules::NOOP)).queue(full.clone());
    let jobs = std::iter::repeat_with(waiting).take(count);
    Ok(client.enqueue_in_bulks(jobs, BULK_JOBS, |_| {}).await?)
}

async fn wait_for_host(client: &Client) -> Result<()> {
    wait_for_machine(client, lab::is_up).await
}

async fn wait_for_machine(client: &Client, right: impl Fn(&MachineView) -> bool) -> Result<()> {
    let deadline = Instant::now() + UP_TIME_MAX;
    loop {
        let machines = client.machines().await?.machines;
        if machines.iter().any(&right) {
            return Ok(());
        }
        if Instant::now() > deadline {
            bail!("after {} s the Machines are {machines:?}", UP_TIME_MAX.as_secs());
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Adds the sizes of programs and modules, and of what an image holds of them.
fn files(bench: &Bench, report: &mut Report<Figures>) -> Result<()> {
    let ours = std::env::current_exe().context("cannot tell where this program is")?;
    let guests = [modules::NOOP, modules::STAMP, modules::STAMP_LARGE];
    let compiled =
        guests.map(|name| (format!("module {name}"), modules::compiled_path(&bench.modules, name)));
    let network = bench.host.with_file_name(NETWORK_PROGRAM);
    let programs =
        [("host program", bench.host.clone()), ("network program", network), ("midge command", ours)];
    let programs = programs.map(|(what, path)| (what.to_owned(), path));
    for (what, path) in programs.iter().chain(&compiled) {
        report.rows.push(file(what.clone(), size(path)?));
    }
    let mut image = programs.iter().map(|(_, path)| size(path)).sum::<Result<u64>>()?;
    let mut holds = "both programs of hosts and midge command".to_owned();
    match example_modules() {
        Some((count, bytes)) => {
            let what = format!("{count} example modules with their manifest");
            report.rows.push(file(what.clone(), bytes));
            image += bytes;
            holds = format!("both programs of hosts, midge command and {what}");
        }
        None => report.notes.push(
            "the example modules are not in the image here, since they are not built: `midge build guest-examples`"
                .to_owned(),
        ),
    }
    report.rows.push(file(format!("image: {holds}"), image));
    report.notes.push("an image is what it holds of midge, uncompressed; an app of one's own and the base image (debian:bookworm-slim in the Dockerfile) come on top".to_owned());
    Ok(())
}

/// Returns how many example modules are compiled in the checkout, and what their folder holds.
fn example_modules() -> Option<(usize, u64)> {
    let project = Project::read(&Checkout::find()?.guest_examples()).ok()?;
    let files: Vec<PathBuf> =
        std::fs::read_dir(project.out).ok()?.filter_map(|entry| Some(entry.ok()?.path())).collect();
    let modules = files.iter().filter(|file| file.extension().is_some_and(|end| end == "cwasm")).count();
    let bytes =
        files.iter().filter(|file| file.is_file()).map(|file| size(file)).sum::<Result<u64>>().ok()?;
    (modules > 0).then_some((modules, bytes))
}

fn held(what: &str, bytes: u64) -> Figures {
    let measure = Measure::once("size", Unit::Bytes, Better::Lower, bytes as f64);
    Figures { what: what.to_owned(), kind: Kind::Resident, bytes, measure }
}

fn difference(what: &str, more: u64, less: u64, among: u64) -> Figures {
    let measure = Measure::difference("size", more, less, among);
    Figures {
        what: what.to_owned(),
        kind: Kind::Difference,
        bytes: more.saturating_sub(less) / among,
        measure,
    }
}

fn file(what: String, bytes: u64) -> Figures {
    Figures { what, kind: Kind::File, bytes, measure: Measure::size("size", bytes) }
}

fn size(path: &Path) -> Result<u64> {
    let data = std::fs::metadata(path).with_context(|| format!("cannot look at {}", path.display()))?;
    Ok(data.len())
}
