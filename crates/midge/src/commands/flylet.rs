//! `midge flylet`: the local Machines API, apart from any server.

use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result};
use midge_cli::output::{note, say};
use midge_cli::stop::StopSignal;
use midge_flylet::{Flylet, FlyletSettings};
use midge_protocol::Secret;

use super::start_log;
use crate::arguments::{given, listen_address, secret};

/// Run a local Machines API, whose Machines are processes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`midge serve` and `midge dev` bring one of their own. This is for having it apart: a server
can then be restarted while its Machines go on.

Examples:
  midge flylet --token secret
  midge serve --fly-api http://127.0.0.1:4280 --fly-token secret --fly-app midge --image local")]
pub(crate) struct Args {
    /// Where to listen: a loopback address
    #[arg(long, value_parser = listen_address, value_name = "ADDR", default_value = "127.0.0.1:4280")]
    listen: SocketAddr,
    /// The app whose Machines it has
    #[arg(long, value_name = "NAME", default_value = "midge")]
    app: String,
    /// Who knows it may start processes as you; made up and printed where it is missing
    #[arg(long, env = "FLY_API_TOKEN", hide_env_values = true, value_parser = secret)]
    token: Option<Secret>,
    /// What to log
    #[arg(long, value_name = "FILTER", env = "MIDGE_LOG", default_value = "info")]
    log: String,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        start_log(&self.log)?;
        let mut stop = StopSignal::listen()?;
        let token = given(self.token.as_ref(), "FLY_API_TOKEN")?;
        let made_up = token.is_none();
        let settings = FlyletSettings { listen: self.listen, token, ..FlyletSettings::new(self.app.clone()) };
        let flylet = Flylet::start(settings).await.context("cannot start flylet")?;
        say(format_args!("export FLY_FLAPS_BASE_URL={}", flylet.url()))?;
        say(format_args!("export FLY_APP_NAME={}", self.app))?;
        if made_up {
            say(format_args!("export FLY_API_TOKEN={}", flylet.token().expose()))?;
        }
        note("flylet listens; Ctrl-C ends it and its Machines");
        stop.asked().await;
        flylet.shutdown().await;
        Ok(ExitCode::SUCCESS)
    }
}
