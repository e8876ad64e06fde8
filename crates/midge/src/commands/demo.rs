//! `midge demo`: builds the example jobs, starts everything, runs real work, and shows it.

mod cast;
mod sales;
mod show;
mod site;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use bytes::Bytes;
use midge_build::Project;
use midge_cli::build::Builder;
use midge_cli::checkout::{Checkout, Missing, host_program};
use midge_cli::output::{bold, dim, note, path, say, say_table};
use midge_cli::progress::spinner;
use midge_cli::serving::{Backend, Serving, Start, listen, open_database};
use midge_cli::stop::StopSignal;
use midge_cli::words;
use midge_client::Client;
use midge_flylet::Latency;
use midge_protocol::api::{JobDetail, JobFilter, MachineView};
use midge_protocol::job::JobView;
use midge_protocol::manifest::{Destination, Wait};
use midge_server::{Catalog, Retention};
use tokio::net::TcpListener;
use tokio::time::Instant;

use self::cast::{Part, cast};
use self::show::Lines;
use super::start_log;

/// How long Machines wait for another job: short, so that one sees them go.
const WAIT: Duration = Duration::from_secs(2);
/// Jobs that are looked at: those of the cast, and those that they enqueue.
const PAGE_JOBS: u32 = 100;
/// How often the jobs are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// By then every job has ended, or something is wrong: ten times what it takes on two slow cores.
const JOBS_TIME_MAX: Duration = Duration::from_secs(300);
/// By then the Machines have gone: their wait, and a round or two of the dispatcher.
const MACHINES_TIME_MAX: Duration = Duration::from_secs(60);

/// See it work: build the example jobs, start a server, run real work on Machines that come and go
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Does all set-up by itself: builds the host program and the example jobs, fetching a Rust
toolchain for guests where there is none, then starts a server on a new SQLite database with
Machines that are processes on this computer.

Examples:
  midge demo                       then look at the dashboard, until Ctrl-C
  midge demo --exit                end when the Machines have gone
  midge demo --keep demo-results")]
pub(crate) struct Args {
    /// End when all jobs have ended and all Machines have gone, with 0 only if every job ended as it should
    #[arg(long)]
    exit: bool,
    /// Where the database and the results go: a new or empty folder [default: a new temporary folder]
    #[arg(long, value_name = "DIR")]
    keep: Option<PathBuf>,
    /// Where to listen: a loopback address [default: 127.0.0.1:7433, or any free port where that is in use]
    #[arg(long, value_name = "ADDR")]
    listen: Option<SocketAddr>,
    /// The host program [default: the one beside midge, or built from its source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST")]
    host_program: Option<PathBuf>,
    /// A rustc that has the target wasm32-wasip1
    #[arg(long, value_name = "PATH", env = "MIDGE_GUEST_RUSTC")]
    rustc: Option<PathBuf>,
    /// What to log, such as `info` or `midge_server=debug`
    #[arg(long, value_name = "FILTER", env = "MIDGE_LOG", default_value = "warn")]
    log: String,
}

/// A job that has ended, and whether it did so as it should have.
struct EndedRole {
    part: Part,
    detail: JobDetail,
    /// Its result's file, in the demo's folder.
    file: Option<&'static str>,
    fault: Option<String>,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        start_log(&self.log)?;
        let mut stop = StopSignal::listen()?;
        let folder = folder(self.keep.as_deref())?;
        let listener = self.listener().await?;
        let site = site::start().await?;
        let Some(built) = stop.or(self.build(&site)).await else {
            return Ok(ExitCode::FAILURE);
        };
        let (catalog, host_program) = built?;

        let serving = Serving::start(Start {
            catalog,
            store: open_database(&folder.join("midge.db")).await?,
            listener,
            token: None,
            retention: Retention::default(),
            backend: Backend::Local {
                host_program,
                secrets: [(site::KEY_VARIABLE.to_owned(), site::KEY.into())].into(),
                latency: Latency::None,
            },
        })
        .await?;
        let client = Client::new(&serving.url)?;
        let answer = stop.or(self.show(&client, &folder, &serving.url, &site)).await;
        if matches!(answer, Some(Ok(_))) && !self.exit {
            note(format_args!("\nthe dashboard is at {}; Ctrl-C ends it", bold(&serving.url)));
            stop.asked().await;
        }
        serving.shutdown(&mut stop).await;
        match answer {
            Some(Ok(true)) => Ok(ExitCode::SUCCESS),
            Some(Ok(false)) | None => Ok(ExitCode::FAILURE),
            Some(Err(error)) => Err(error),
        }
    }

    async fn listener(&self) -> Result<TcpListener> {
        match self.listen {
            Some(address) => {
                midge_cli::serving::check_loopback(address)?;
                listen(address).await
            }
            None => match TcpListener::bind(("127.0.0.1", 7433)).await {
                Ok(listener) => Ok(listener),
                Err(_) => listen(SocketAddr::from(([127, 0, 0, 1], 0))).await,
            },
        }
    }

    /// Builds host and example jobs.
    async fn build(&self, site: &str) -> Result<(Catalog, PathBuf)> {
        let site: Destination = site.parse()?;
        let (host, rustc) = (self.host_program.clone(), self.rustc.clone());
        let build = move || {
            let checkout = Checkout::find().context(
                "the example jobs are in midge's source, and the folder that it was built from is gone",
            )?;
            let builder = Builder::new(rustc)?;
            note(bold("building the example jobs"));
            let mut project = Project::read(&checkout.guest_examples())?;
            for module in project.modules.values_mut() {
                // Whoever makes requests makes them to the demo's own server.
                module.http.fill(site.clone());
                module.secrets.values_mut().for_each(|destinations| destinations.fill(site.clone()));
            }
            let built = builder.build(&project)?;
            note(bold("building the host program"));
            let host = host_program(host.as_deref(), Missing::Build, builder.environment())?;
            let mut catalog = Catalog::open(&built.out)?;
            for queue in catalog.queues() {
                let mut policy = catalog.policy(&queue);
                policy.wait = Wait::Millis(WAIT.as_millis() as u64);
                catalog.manifest.queues.insert(queue, policy);
            }
            anyhow::Ok((catalog, host))
        };
        tokio::task::spawn_blocking(build).await.context("the build ended unfinished")?
    }

    /// Runs the jobs, shows them, and returns whether all of it went as it should.
    async fn show(&self, client: &Client, folder: &Path, url: &str, site: &str) -> Result<bool> {
        note(format_args!("{} {}", bold("running jobs, at"), bold(url)));
        let began = Instant::now();
        let mut lines = Lines::default();
        let ended = run_all(client, folder, site, &mut lines).await;
        lines.clear();
        let ended = ended?;
        let took = words::duration(began.elapsed());
        say("")?;
        say_table(show::table(&ended))?;
        say("")?;
        let right = ended.iter().filter(|ended| ended.fault.is_none()).count();
        say(format_args!("{right} of {} jobs ended as they should, in {took}", ended.len()))?;
        say(format_args!("pictures, reports and other results are in {}", bold(path(folder))))?;
        let machines =
            if self.exit { wait_for_machines(client).await? } else { client.machines().await?.machines };
        let gone = machines.iter().filter(|machine| machine.is_gone()).count();
        let started = words::count(machines.len(), "Machine");
        say(format_args!("{started} started for them, {gone} gone again"))?;
        if gone < machines.len() {
            say(dim(format_args!("the others go {} after their last job", words::duration(WAIT))))?;
        }
        Ok(right == ended.len() && (!self.exit || gone == machines.len()))
    }
}

/// Returns the demo's folder.
fn folder(keep: Option<&Path>) -> Result<PathBuf> {
    let Some(keep) = keep else {
        let made = tempfile::Builder::new().prefix("midge-demo-").tempdir();
        return Ok(made.context("cannot make a temporary folder: name one with --keep")?.keep());
    };
    std::fs::create_dir_all(keep).with_context(|| format!("cannot make {}", keep.display()))?;
    let mut entries = std::fs::read_dir(keep).with_context(|| format!("cannot read {}", keep.display()))?;
    if entries.next().is_some() {
        bail!("{} is not empty: name a new folder", keep.display());
    }
    std::path::absolute(keep).context("there is no current folder")
}

/// A job of the cast while it goes on.
struct Role {
    part: Part,
    state: RoleState,
}

enum RoleState {
    /// Waits for the result that it is to read.
    NotEnqueued,
    Enqueued,
    Ended(Box<JobDetail>, Option<Bytes>),
}

/// Enqueues every job of the cast as soon as it can be, and returns them when all have ended, in the cast's order.
async fn run_all(client: &Client, folder: &Path, site: &str, lines: &mut Lines) -> Result<Vec<EndedRole>> {
    let deadline = Instant::now() + JOBS_TIME_MAX;
    let mut roles: Vec<Role> =
        cast(site).into_iter().map(|part| Role { part, state: RoleState::NotEnqueued }).collect();
    loop {
        enqueue_what_can_be(client, &mut roles).await?;
        let page = client.jobs(&JobFilter { limit: Some(PAGE_JOBS), ..JobFilter::default() }).await?;
        for role in roles.iter_mut().filter(|role| matches!(role.state, RoleState::Enqueued)) {
            let Some(job) = page.jobs.iter().find(|job| job.id == role.part.id) else { continue };
            lines.update(&role.part, job);
            if job.state.is_ended() {
                let (detail, result) = keep_result(client, folder, &role.part, job).await?;
                role.state = RoleState::Ended(Box::new(detail), result);
            }
        }
        if roles.iter().all(|role| matches!(role.state, RoleState::Ended(..))) {
            return Ok(roles.into_iter().filter_map(Role::ended).collect());
        }
        if Instant::now() > deadline {
            bail!("after {} there are jobs that have not ended", words::duration(JOBS_TIME_MAX));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Role {
    fn ended(self) -> Option<EndedRole> {
        let RoleState::Ended(detail, result) = self.state else { return None };
        let fault = self.part.fault(&detail, result.as_ref());
        Some(EndedRole { file: self.part.file(), part: self.part, detail: *detail, fault })
    }
}

/// Enqueues the jobs that read no result, and those whose result has come since the last time.
async fn enqueue_what_can_be(client: &Client, roles: &mut [Role]) -> Result<()> {
    for index in 0..roles.len() {
        let Role { part, state: RoleState::NotEnqueued } = &roles[index] else { continue };
        let result = match part.after() {
            None => None,
            Some(after) => {
                match roles.iter().find(|role| role.part.module.as_str() == after).map(|r| &r.state) {
                    Some(RoleState::Ended(_, Some(result))) => Some(result.clone()),
                    Some(RoleState::Ended(detail, None)) => {
                        let why = detail.job.failure.as_ref().map_or("", |failure| &failure.message);
                        bail!("{after} gave no result for {} to read: {why}", part.module);
                    }
                    _ => continue,
                }
            }
        };
        client.enqueue(&part.request(result)?).await?;
        roles[index].state = RoleState::Enqueued;
    }
    Ok(())
}

/// Fetches what is known of a job that has ended, and writes its result to its file.
async fn keep_result(
    client: &Client,
    folder: &Path,
    part: &Part,
    job: &JobView,
) -> Result<(JobDetail, Option<Bytes>)> {
    let detail = client.job(job.id).await?;
    let Some(file) = part.file().filter(|_| job.result_bytes.is_some()) else { return Ok((detail, None)) };
    let result = client.result_bytes(job.id).await?;
    let path = folder.join(file);
    std::fs::write(&path, &result).with_context(|| format!("cannot write {}", path.display()))?;
    Ok((detail, Some(result)))
}

/// Waits until all Machines have gone, and returns them; gives up on those that do not.
async fn wait_for_machines(client: &Client) -> Result<Vec<MachineView>> {
    let waiting = spinner("waiting for the Machines to go away");
    let deadline = Instant::now() + MACHINES_TIME_MAX;
    loop {
        let machines = client.machines().await?.machines;
        if machines.iter().all(MachineView::is_gone) || Instant::now() > deadline {
            waiting.finish_and_clear();
            return Ok(machines);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}
