//! A server in this process, on a new SQLite database, whose Machines are processes here.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use midge_cli::serving::{Backend, Serving, Start, listen, open_database};
use midge_cli::stop::StopSignal;
use midge_client::Client;
use midge_flylet::Latency;
use midge_protocol::QueueName;
use midge_protocol::api::MachineView;
use midge_protocol::job::State;
use midge_protocol::manifest::{QueuePolicy, Wait};
use midge_server::{Catalog, Retention};
use tempfile::TempDir;
use tokio::time::Instant;

use super::Bench;

/// How often the Machines are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// By then Machines are as they are to be, or something is wrong.
const MACHINES_TIME_MAX: Duration = Duration::from_secs(30);

/// A server in this process on a database of its own, and a client of it.
pub(super) struct Lab {
    pub(super) serving: Serving,
    pub(super) client: Client,
    /// Holds the database, which goes with it.
    _folder: TempDir,
}

/// How many jobs of a queue wait, and how many have completed.
#[derive(Debug, Clone, Copy)]
pub(super) struct Jobs {
    pub(super) waiting: u64,
    pub(super) completed: u64,
}

impl Lab {
    /// Starts a server with these queues, whose Machines are there as soon as their processes are.
    pub(super) async fn start(
        bench: &Bench,
        queues: impl IntoIterator<Item = (QueueName, QueuePolicy)>,
    ) -> Result<Lab> {
        Lab::with_latency(bench, queues, Latency::None).await
    }

    /// Starts a server with these queues, whose Machines take so long to be made and started.
    pub(super) async fn with_latency(
        bench: &Bench,
        queues: impl IntoIterator<Item = (QueueName, QueuePolicy)>,
        latency: Latency,
    ) -> Result<Lab> {
        let mut catalog = Catalog::open(&bench.modules)?;
        catalog.manifest.queues = queues.into_iter().collect();
        let folder = TempDir::with_prefix_in("lab-", bench.folder.path());
        let folder = folder.context("cannot make a folder for a database")?;
        let serving = Serving::start(Start {
            catalog,
            store: open_database(&folder.path().join("midge.db")).await?,
            listener: listen(SocketAddr::from(([127, 0, 0, 1], 0))).await?,
            token: None,
            retention: Retention::default(),
            backend: Backend::Local { host_program: bench.host.clone(), secrets: BTreeMap::new(), latency },
        })
        .await?;
        let client = Client::new(&serving.url)?;
        Ok(Lab { serving, client, _folder: folder })
    }

    /// Gives the server other queues. Machines of a generation before get no more jobs, and go.
    pub(super) async fn deploy(
        &self,
        generation: &str,
        queues: impl IntoIterator<Item = (QueueName, QueuePolicy)>,
    ) {
        let mut catalog = (*self.serving.midge.catalog()).clone();
        catalog.manifest.queues = queues.into_iter().collect();
        catalog.generation = generation.to_owned();
        self.serving.midge.deploy(catalog).await;
    }

    /// Returns how many jobs of a queue wait and have completed. Fails where one was discarded.
    pub(super) async fn jobs(&self, queue: &QueueName) -> Result<Jobs> {
        let queues = self.serving.midge.queues().await?.queues;
        let view = queues.into_iter().find(|view| view.name == *queue).context("the queue is gone")?;
        let in_state = |state| view.jobs.get(&state).copied().unwrap_or(0);
        if in_state(State::Discarded) > 0 {
            bail!("jobs of queue {queue} that cannot fail have failed: {:?}", view.jobs);
        }
        Ok(Jobs { waiting: in_state(State::Available), completed: in_state(State::Completed) })
    }

    /// Waits until `right` holds for the Machines of a queue, those that have gone left out. Fails where it takes too
    /// long.
    pub(super) async fn machines_are(
        &self,
        queue: &QueueName,
        right: impl Fn(&[MachineView]) -> bool,
    ) -> Result<()> {
        let deadline = Instant::now() + MACHINES_TIME_MAX;
        loop {
            let mut machines = self.serving.midge.machines().await?.machines;
            machines.retain(|machine| machine.queue == *queue && !machine.is_gone());
            if right(&machines) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("after {} s the Machines of {queue} are {machines:?}", MACHINES_TIME_MAX.as_secs());
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Ends the server and its Machines.
    pub(super) async fn end(self, stop: &mut StopSignal) {
        self.serving.shutdown(stop).await;
    }
}

/// Returns a text as the name of a queue.
pub(super) fn queue(name: &str) -> Result<QueueName> {
    QueueName::new(name).with_context(|| format!("{name} is not a name"))
}

/// Returns the policy of a queue with so many Machines that are always there, each with so many places.
pub(super) fn always(machines: u32, places: u32) -> QueuePolicy {
    QueuePolicy {
        max_machines: machines,
        warm_machines: machines,
        jobs_per_machine: places,
        wait: Wait::Forever,
        ..QueuePolicy::default()
    }
}

/// Returns the policy of a queue whose jobs wait, since it has no Machines. None of them is refused.
pub(super) fn held() -> QueuePolicy {
    QueuePolicy { max_machines: 0, max_jobs: u64::from(u32::MAX), ..QueuePolicy::default() }
}

/// Returns whether a Machine's host has phoned home.
pub(super) fn is_up(machine: &MachineView) -> bool {
    machine.state == "up"
}
