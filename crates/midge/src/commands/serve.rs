//! `midge serve`: the server, apart from any app.

mod kept;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use midge_cli::checkout::{Missing, host_program};
use midge_cli::config;
use midge_cli::output::note;
use midge_cli::serving::{Backend, Serving, Start, check_exposure, listen, open_database};
use midge_cli::stop::StopSignal;
use midge_cli::words;
use midge_client::Client;
use midge_machines::FlySettings;
use midge_protocol::{Secret, limits, shown};
use midge_server::{Catalog, Fork, Retention};
use midge_store::{MemoryStore, Store};

use self::kept::Kept;
pub(super) use self::kept::copy_modules;
use super::start_log;
use crate::arguments::{given, listen_address, secret};
use crate::config::{FlyMachine, fly_machine, secrets};

/// Run a server: queue, dispatcher, HTTP API and dashboard
#[derive(Debug, clap::Args)]
#[command(after_help = "\
With a Fly token it starts Machines at Fly, from this app's own image. Without one its
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

/// How Machines are made at Fly.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Machines at Fly")]
struct FlyArgs {
    /// A token that may make Machines in the app; with it, Machines are Fly's
    #[arg(long, value_name = "TOKEN", env = "FLY_API_TOKEN", hide_env_values = true, value_parser = secret)]
    fly_token: Option<Secret>,
    /// The app whose Machines these are
    #[arg(long, value_name = "NAME", env = "FLY_APP_NAME")]
    fly_app: Option<String>,
    /// The Machines API
    #[arg(long, value_name = "URL", env = "FLY_FLAPS_BASE_URL", default_value = FlySettings::BASE_URL_DEFAULT)]
    fly_api: String,
    /// The image of Machines: this app's own
    #[arg(long, value_name = "REF", env = "FLY_IMAGE_REF")]
    image: Option<String>,
    /// Where Machines are made, such as `ams`, or several in the order of preference: `ams,fra,any`
    #[arg(long, value_name = "REGION", env = "FLY_REGION")]
    region: Option<String>,
    /// Where hosts reach this server [default: this Machine's private address]
    #[arg(long, value_name = "URL", env = "MIDGE_SERVER_URL")]
    server_url: Option<String>,
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
        let at_fly = self.fly.api_and_fork(&fly_machine(), self.listen.ip().is_loopback(), port)?;
        // Machines at Fly have an image with modules of their own.
        let kept = if at_fly.is_some() { None } else { Some(Kept::open(&self.modules)?) };
        if let Some(kept) = &kept {
            catalog = kept.catalog.clone();
        }
        if self.max_machines.is_some() {
            catalog.manifest.server.max_machines = self.max_machines;
        }
        let backend = match at_fly {
            Some((api, mut fork)) => {
                fork.host = vec![self.host_program(Missing::Fail).await?.display().to_string()];
                catalog.generation.clone_from(&fork.image);
                Backend::Fly { api, fork }
            }
            None => {
                let host_program = self.host_program(Missing::Build).await?;
                Backend::Local { host_program, secrets: secrets(&catalog.manifest) }
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

impl FlyArgs {
    /// Returns the API and how Machines are made, where Machines are Fly's.
    fn api_and_fork(
        &self,
        machine: &FlyMachine,
        listens_on_loopback: bool,
        port: u16,
    ) -> Result<Option<(FlySettings, Fork)>> {
        let Some(token) = given(self.fly_token.as_ref(), "FLY_API_TOKEN")? else { return Ok(None) };
        let needs = |what: &str| {
            format!(
                "there is a Fly token, so Machines are Fly's: {what}; for Machines here, unset FLY_API_TOKEN"
            )
        };
        let app =
            self.fly_app.clone().with_context(|| needs("name the app with --fly-app or FLY_APP_NAME"))?;
        let image = self
            .image
            .clone()
            .with_context(|| needs("name the app's image with --image or FLY_IMAGE_REF"))?;
        let is_local_api =
            self.fly_api.starts_with("http://127.0.0.1:") || self.fly_api.starts_with("http://[::1]:");
        if listens_on_loopback && !is_local_api {
            bail!(needs(
                "they cannot reach a server that listens on loopback; use --listen '[::]:7433' and set MIDGE_TOKEN"
            ));
        }
        let server_url = match (&self.server_url, &machine.private_ip, &machine.id) {
            (Some(url), ..) => reached(url)?,
            (None, ..) if is_local_api => format!("http://127.0.0.1:{port}"),
            (None, Some(ip), _) => format!("http://[{ip}]:{port}"),
            (None, None, Some(id)) => format!("http://{id}.vm.{app}.internal:{port}"),
            (None, None, None) => bail!(needs(
                "say where they reach this server with --server-url, since this is not one of Fly's Machines"
            )),
        };
        let api = FlySettings { base_url: self.fly_api.clone(), app, token };
        Ok(Some((api, Fork { image, region: self.region.clone(), host: Vec::new(), server_url })))
    }
}

/// Returns where hosts reach this server, by a URL that they take: it would be refused there, Machine by Machine.
fn reached(url: &str) -> Result<String> {
    Client::new(url).context("hosts cannot reach this server by --server-url or MIDGE_SERVER_URL")?;
    ensure!(
        url.starts_with("http://") && !url.contains('@'),
        "hosts cannot reach this server at `{}`: use http://HOST:PORT, since the network is private, without a user",
        shown::url(url)
    );
    Ok(url.trim_end_matches('/').to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_that_hosts_would_refuse_is_refused_at_the_start_and_not_shown_with_its_password() {
        assert_eq!(reached("http://app.internal:8080/jobs/").unwrap(), "http://app.internal:8080/jobs");
        for bad in ["http://me:pass", "http://me:pass@host", "https://host", "http://host/?a=pass", "host:80"]
        {
            let error = format!("{:#}", reached(bad).unwrap_err());
            assert!(!error.contains("pass") && error.contains("use http://HOST:PORT"), "{error}");
        }
    }

    fn fly() -> FlyArgs {
        FlyArgs {
            fly_token: Some(Secret::new("t")),
            fly_app: Some("app".to_owned()),
            fly_api: FlySettings::BASE_URL_DEFAULT.to_owned(),
            image: Some("registry.example/app@sha256:1".to_owned()),
            region: None,
            server_url: None,
        }
    }

    fn in_fly() -> FlyMachine {
        FlyMachine { id: Some("d8d9".to_owned()), private_ip: Some("fdaa::3".to_owned()) }
    }

    #[test]
    fn without_a_fly_token_machines_are_local() {
        let args = FlyArgs { fly_token: None, ..fly() };
        assert!(args.api_and_fork(&in_fly(), false, 80).unwrap().is_none());
    }

    #[test]
    fn hosts_reach_the_server_at_its_private_address_unless_told_otherwise() {
        let url = |args: FlyArgs, machine: FlyMachine| {
            args.api_and_fork(&machine, false, 80).unwrap().unwrap().1.server_url
        };
        assert_eq!(url(fly(), in_fly()), "http://[fdaa::3]:80");
        let without_ip = FlyMachine { private_ip: None, ..in_fly() };
        assert_eq!(url(fly(), without_ip), "http://d8d9.vm.app.internal:80");
        let told = FlyArgs { server_url: Some("http://app.internal:8080/jobs/".to_owned()), ..fly() };
        assert_eq!(url(told, in_fly()), "http://app.internal:8080/jobs");
        let flylet = FlyArgs { fly_api: "http://127.0.0.1:4280".to_owned(), ..fly() };
        assert_eq!(url(flylet, FlyMachine::default()), "http://127.0.0.1:80");
    }

    #[test]
    fn what_is_missing_for_fly_is_named() {
        let error = |args: FlyArgs, machine, loopback| {
            args.api_and_fork(&machine, loopback, 80).unwrap_err().to_string()
        };
        assert!(error(FlyArgs { fly_app: None, ..fly() }, in_fly(), false).contains("FLY_APP_NAME"));
        assert!(error(FlyArgs { image: None, ..fly() }, in_fly(), false).contains("FLY_IMAGE_REF"));
        assert!(error(fly(), FlyMachine::default(), false).contains("--server-url"));
        assert!(error(fly(), in_fly(), true).contains("--listen"));
    }
}
