//! `midge bench network`: what a guest's request takes beside that of a native program, to a server on this computer.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use midge_cli::progress::spinner;
use midge_cli::stop::StopSignal;
use midge_client::EnqueueRequest;
use midge_protocol::QueueName;
use midge_protocol::manifest::{FILE_NAME, Manifest};
use serde::Serialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::lab::{self, Lab};
use super::report::{Better, Measure, Report, Row, Spread, Unit, or_dash};
use super::{Bench, modules};

/// Requests of one block: of each block only the mean is known, since a guest that looked at the clock would be slower.
const BLOCK: u32 = 2_000;
/// Blocks of each caller, in turns with those of the others.
const BLOCKS: usize = 12;
/// Callers at once.
const AT_ONCE: u32 = 32;
/// Requests of each of them.
const EACH: u32 = 1_500;
/// A job that has not ended by then is an error.
const JOB_TIME_MAX: Duration = Duration::from_secs(60);
/// What the server answers, to whatever is asked.
const ANSWER: &[u8] =
    b"HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: 13\r\n\r\nHello, world!";

/// Measure what a guest's HTTP request takes beside a native program's
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The server answers the same few bytes to whatever is asked, on one thread of this process; all
connections are kept. `socket` is a client that writes and reads and nothing else: the server's
own time. `reqwest` is what a native program would have, `guest` a job that makes its requests
through the host's network program.

Examples:
  midge bench network
  midge bench network --json")]
pub(super) struct Args {}

/// How long requests took.
#[derive(Debug, Serialize)]
pub(super) struct Figures {
    /// Who made them: `socket`, `reqwest` or `guest`.
    caller: &'static str,
    at_once: u32,
    /// How long one took where each came after the one before; means of blocks.
    request: Option<Spread>,
    /// How many were made in a second, where many made them at once.
    a_second: Option<f64>,
}

impl Row for Figures {
    const HEADS: &'static [&'static str] = &["CALLER", ">AT ONCE", ">REQUEST p50", ">p10", ">REQUESTS/s"];

    fn cells(&self) -> Vec<String> {
        let micros = |value: f64| format!("{value:.1} us");
        vec![
            self.caller.to_owned(),
            self.at_once.to_string(),
            or_dash(self.request, |spread| micros(spread.p50_us)),
            or_dash(self.request, |spread| micros(spread.p10_us)),
            or_dash(self.a_second, |rate| format!("{rate:.0}")),
        ]
    }

    fn name(&self) -> String {
        format!("{}, {} at once", self.caller, self.at_once)
    }

    fn measures(&self) -> Vec<Measure> {
        let request = self.request.map(|spread| Measure::median("request", spread));
        let rate = self.a_second.map(|rate| Measure::once("rate", Unit::PerSecond, Better::Higher, rate));
        request.into_iter().chain(rate).collect()
    }
}

impl Args {
    pub(super) async fn run(&self, bench: &Bench) -> Result<Option<Report<Figures>>> {
        let mut stop = StopSignal::listen()?;
        let mut report = Report::new("network");
        let server = serve()?;
        allow(bench, server)?;
        let warm = lab::queue("warm")?;
        let lab = Lab::start(bench, [(warm.clone(), lab::always(1, AT_ONCE))]).await?;
        let rows = stop.or(measure(&lab, &warm, server)).await;
        lab.end(&mut stop).await;
        let Some(rows) = rows else { return Ok(None) };
        report.rows = rows?;
        let p50 = |caller: &str| {
            let row = report.rows.iter().find(|row| row.caller == caller && row.at_once == 1);
            row.and_then(|row| Some(row.request?.p50_us))
        };
        if let (Some(guest), Some(socket)) = (p50("guest"), p50("socket")) {
            let added = guest - socket;
            report
                .notes
                .push(format!("a guest's request takes {added:.1} us more than the server's own time"));
        }
        Ok(Some(report))
    }
}

async fn measure(lab: &Lab, queue: &QueueName, server: SocketAddr) -> Result<Vec<Figures>> {
    let spinner = spinner("one after the other");
    lab.machines_are(queue, |machines| machines.iter().any(lab::is_up)).await?;
    let url = format!("http://{server}/");
    let client = client()?;
    let mut blocks = [Vec::new(), Vec::new(), Vec::new()];
    guests(lab, queue, &url, 1, BLOCK).await?;
    for _ in 0..BLOCKS {
        blocks[0].push(mean(sockets(server, 1, BLOCK).await?, BLOCK));
        blocks[1].push(mean(natives(&client, &url, 1, BLOCK).await?, BLOCK));
        blocks[2].push(mean(guests(lab, queue, &url, 1, BLOCK).await?, BLOCK));
    }
    let callers = ["socket", "reqwest", "guest"];
    let mut rows: Vec<Figures> = callers
        .into_iter()
        .zip(blocks)
        .map(|(caller, block)| Figures { caller, at_once: 1, request: Spread::of(block), a_second: None })
        .collect();
    spinner.set_message(format!("{AT_ONCE} at once"));
    let took = [
        sockets(server, AT_ONCE, EACH).await?,
        natives(&client, &url, AT_ONCE, EACH).await?,
        guests(lab, queue, &url, AT_ONCE, EACH).await?,
    ];
    for (caller, took) in callers.into_iter().zip(took) {
        let a_second = Some(f64::from(AT_ONCE * EACH) / took.as_secs_f64());
        rows.push(Figures { caller, at_once: AT_ONCE, request: None, a_second });
    }
    spinner.finish_and_clear();
    Ok(rows)
}

fn mean(took: Duration, requests: u32) -> Duration {
    took / requests
}

/// Makes requests on sockets, and returns how long all of them took.
async fn sockets(server: SocketAddr, at_once: u32, each: u32) -> Result<Duration> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        callers.spawn_blocking(move || socket(server, each));
    }
    callers.join_all().await.into_iter().collect::<Result<()>>()?;
    Ok(began.elapsed())
}

fn socket(server: SocketAddr, requests: u32) -> Result<()> {
    let mut stream = TcpStream::connect(server)?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nhost: {server}\r\n\r\n");
    let mut room = vec![0; ANSWER.len()];
    for _ in 0..requests {
        stream.write_all(request.as_bytes())?;
        stream.read_exact(&mut room)?;
    }
    Ok(())
}

fn client() -> Result<reqwest::Client> {
    // What is spoken to here is on this computer, in the clear: nobody is trusted.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let tls = tls.with_root_certificates(rustls::RootCertStore::empty()).with_no_client_auth();
    Ok(reqwest::Client::builder().no_proxy().tls_backend_preconfigured(tls).build()?)
}

/// Makes requests as a native program would, and returns how long all of them took.
async fn natives(client: &reqwest::Client, url: &str, at_once: u32, each: u32) -> Result<Duration> {
    let began = Instant::now();
    let mut callers = JoinSet::new();
    for _ in 0..at_once {
        let (client, url) = (client.clone(), url.to_owned());
        callers.spawn(async move {
            for _ in 0..each {
                client.get(&url).send().await?.bytes().await?;
            }
            anyhow::Ok(())
        });
    }
    callers.join_all().await.into_iter().collect::<Result<()>>()?;
    Ok(began.elapsed())
}

/// Has jobs make requests, and returns how long it was from the first one's begin to the last one's end.
async fn guests(lab: &Lab, queue: &QueueName, url: &str, at_once: u32, each: u32) -> Result<Duration> {
    let args = serde_json::Value::String(format!("{each} GET {url}"));
    let job =
        || EnqueueRequest::new(modules::name(modules::FETCH)).args(&args).map(|job| job.queue(queue.clone()));
    let jobs = (0..at_once).map(|_| job()).collect::<Result<Vec<_>, _>>()?;
    let mut ids = Vec::new();
    for job in &jobs {
        ids.push(lab.client.enqueue(job).await?.id);
    }
    let (mut begin, mut end) = (u64::MAX, 0);
    for id in ids {
        let bytes = lab.client.wait_result_bytes(id, Some(JOB_TIME_MAX)).await?;
        let times: [u8; 16] = bytes.as_ref().try_into().context("the job wrote no two times")?;
        let [began, ended] = [&times[..8], &times[8..]]
            .map(|time| u64::from_le_bytes(time.try_into().expect("it is eight bytes")));
        (begin, end) = (begin.min(began), end.max(ended));
    }
    ensure!(begin < end, "the clock was set");
    Ok(Duration::from_nanos(end - begin))
}

/// Lets the guest reach the server.
pub(super) fn allow(bench: &Bench, server: SocketAddr) -> Result<()> {
    let file = bench.modules.join(FILE_NAME);
    let mut manifest: Manifest = serde_json::from_slice(&std::fs::read(&file)?)?;
    let module = manifest.modules.get_mut(modules::FETCH).context("there is no such guest")?;
    module.http = vec![format!("http://{server}").parse()?];
    std::fs::write(&file, serde_json::to_vec(&manifest)?).context("cannot write the manifest")
}

/// Starts a server on a thread of its own, which ends with this process.
pub(super) fn serve() -> Result<SocketAddr> {
    let listener = std::net::TcpListener::bind(("127.0.0.1", 0)).context("cannot listen on 127.0.0.1")?;
    listener.set_nonblocking(true)?;
    let address = listener.local_addr()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    std::thread::Builder::new().name("server".to_owned()).spawn(move || {
        runtime.block_on(async {
            let listener = TcpListener::from_std(listener)?;
            loop {
                let (mut stream, _) = listener.accept().await?;
                stream.set_nodelay(true)?;
                tokio::spawn(async move {
                    let mut room = vec![0; 8 * 1024];
                    let mut length = 0;
                    // Whoever goes away ends this.
                    while let Ok(read @ 1..) = stream.read(&mut room[length..]).await {
                        length += read;
                        if room[..length].ends_with(b"\r\n\r\n") {
                            length = 0;
                            if stream.write_all(ANSWER).await.is_err() {
                                break;
                            }
                        }
                    }
                });
            }
            #[allow(unreachable_code)]
            std::io::Result::Ok(())
        })
    })?;
    Ok(address)
}
