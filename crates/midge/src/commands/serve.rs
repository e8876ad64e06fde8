//! `midge serve`: the server, apart from any app.

mod kept;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use midge_cli::checkout::{Missing, host_program};
use midge_cli::config;
use midge_cli::output::note;
use midge_cli::serving::{Backend, Serving, Start, check_exposure, listen, open_database};
use midge_cli::stop::StopSignal;
use midge_cli::words;
use midge_flylet::Latency;
use midge_machines::own::Model;
use midge_protocol::{Secret, limits};
use midge_server::{Catalog, Retention};
use midge_store::{MemoryStore, Store};

use self::kept::Kept;
pub(super) use self::kept::copy_modules;
use super::start_log;
use crate::arguments::{given, listen_address, secret};
use crate::config::{cpus, own_machine, secrets};
use crate::fly::{FlyArgs, check_regions, check_sizes};

/// Run a server: queue, dispatcher, HTTP API and dashboard
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a Fly token it starts Machines at Fly, like the one that it runs in. Without one its
Machines are processes on this computer.

Examples:
  midge build && midge serve
  MIDGE_TOKEN=... midge serve --modules /app/modules --db /data/midge.db --listen '[::]:8080'
  midge serve --memory --listen 127.0.0.1:0")]
pub(crate) struct Args {
    /// The folder that `midge build` wrote
    #[arg(long, value_name = "DIR", env = "MIDGE_MODULES", default_value = "target/midge")]
    modules: PathBuf,
    /// The database; made where there is none
    #[arg(long, value_name = "FILE", env = "MIDGE_DB", default_value = "midge.db")]
    db: PathBuf,
    /// Keep jobs in memory only: they are gone when the server ends
    #[arg(long, conflicts_with = "db")]
    memory: bool,
    /// Where to listen; port 0 takes any that is free
    #[arg(long, value_parser = listen_address, value_name = "ADDR", env = "MIDGE_LISTEN", default_value = "127.0.0.1:7433")]
    listen: SocketAddr,
    /// What callers must know; needed to listen on anything but loopback
    #[arg(long, env = "MIDGE_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
    /// The host program in Machines [default: the one beside midge, or built from its source]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST")]
    host_program: Option<PathBuf>,
    /// The most Machines of all queues together [default: what midge.toml says, or else what its queues may have, and
    /// at least 20]
    #[arg(long, value_name = "N", env = "MIDGE_MAX_MACHINES", value_parser = words::whole::<u32>(1..=i64::from(limits::SERVER_MACHINES_MAX)))]
    max_machines: Option<u32>,
    /// How long completed and cancelled jobs are kept, where their queue does not say
    #[arg(long, value_name = "DURATION", default_value = "1d", value_parser = words::parse_duration)]
    keep_ended: Duration,
    /// How long discarded jobs are kept, where their queue does not say
    #[arg(long, value_name = "DURATION", default_value = "7d", value_parser = words::parse_duration)]
    keep_discarded: Duration,
    /// What to log, such as `info` or `midge_server=debug`
    #[arg(long, value_name = "FILTER", env = "MIDGE_LOG", default_value = "info")]
    log: String,
    #[command(flatten)]
    fly: FlyArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        start_log(&self.log)?;
        let mut stop = StopSignal::listen()?;
        // Who sets it to nothing by a slip would have a server that asks for no token.
        ensure!(
            self.token.as_ref().is_none_or(|token| !token.expose().is_empty()),
            "the token is empty: set MIDGE_TOKEN to one (`openssl rand -hex 32` makes one), or unset it"
        );
        let token = given(self.token.as_ref(), "MIDGE_TOKEN")?;
        check_exposure(self.listen, token.as_ref())?;
        let mut catalog = Catalog::open(&self.modules)?;
        // What hosts would refuse, job by job, is refused here, once.
        midge_engine::Modules::open(&self.modules)?;
        let listener = listen(self.listen).await?;
        let port = listener.local_addr()?.port();
        let own = own_machine();
        let at_fly = match self.fly.api(&own)? {
            Some(api) => Some((api, self.fly.server_url(&own, self.listen.ip().is_loopback(), port)?)),
            None => None,
        };
        // Machines at Fly have an image with modules of their own.
        let kept = if at_fly.is_some() { None } else { Some(Kept::open(&self.modules)?) };
        if let Some(kept) = &kept {
            catalog = kept.catalog.clone();
        }
        if self.max_machines.is_some() {
            catalog.manifest.server.max_machines = self.max_machines;
        }
        let backend = match at_fly {
            Some((api, server_url)) => {
                let host = vec![self.host_program(Missing::Fail).await?.display().to_string()];
                let model = Model::find(&own, &api, cpus()).await;
                let fork = self.fly.fork(model, host, server_url)?;
                check_sizes(&catalog, &fork)?;
                check_regions(&api, &catalog, &fork).await?;
                catalog.generation = fork.generation();
                Backend::Fly { api, fork }
            }
            None => {
                let host_program = self.host_program(Missing::Build).await?;
                let secrets = secrets(&catalog.manifest);
                Backend::Local { host_program, secrets, latency: Latency::None }
            }
        };
        let store: Arc<dyn Store> =
            if self.memory { Arc::new(MemoryStore::new()) } else { open_database(&self.db).await? };
        let retention = Retention { ended: self.keep_ended, discarded: self.keep_discarded };
        let serving = Serving::start(Start { catalog, store, listener, token, retention, backend }).await?;
        note(format_args!("midge listens on {0}: the dashboard is there, the API under {0}/v1", serving.url));
        match &kept {
            Some(kept) => drop(stop.or(kept.tell_of_builds(&self.modules)).await),
            None => stop.asked().await,
        }
        serving.shutdown(&mut stop).await;
        Ok(ExitCode::SUCCESS)
    }

    async fn host_program(&self, missing: Missing) -> Result<PathBuf> {
        let named = self.host_program.clone();
        let find = move || host_program(named.as_deref(), missing, &config::environment());
        tokio::task::spawn_blocking(find).await.context("the search for the host program ended")?
    }
}
