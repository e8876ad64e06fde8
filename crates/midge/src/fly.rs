//! How Machines are made at Fly: what a server and `midge doctor` are told of it, and what is made of that.

use anyhow::{Context, Result, anyhow, bail, ensure};
use midge_client::Client;
use midge_machines::own::{Model, OwnMachine};
use midge_machines::{FlyMachines, FlySettings, regions};
use midge_protocol::manifest::{QueuePolicy, contradiction};
use midge_protocol::{RegionName, Secret, limits, shown};
use midge_server::{Catalog, Fork};

use crate::arguments::{given, secret};

/// How Machines are made at Fly.
#[derive(Debug, Clone, clap::Args)]
#[command(next_help_heading = "Machines at Fly")]
pub(crate) struct FlyArgs {
    /// A token that may make Machines in the app; with it, Machines are Fly's
    #[arg(long, value_name = "TOKEN", env = "FLY_API_TOKEN", hide_env_values = true, value_parser = secret)]
    fly_token: Option<Secret>,
    /// The app whose Machines these are [default: this Machine's own, FLY_APP_NAME]
    #[arg(long, value_name = "NAME", env = "MIDGE_FLY_APP")]
    fly_app: Option<String>,
    /// The Machines API
    #[arg(long, value_name = "URL", env = "FLY_FLAPS_BASE_URL", default_value = FlySettings::BASE_URL_DEFAULT)]
    fly_api: String,
    /// The image of Machines [default: this Machine's own, by its digest where the token may read it; else FLY_IMAGE_REF]
    #[arg(long, value_name = "REF", env = "MIDGE_IMAGE")]
    image: Option<String>,
    /// Where Machines are made, such as `ams`, or several in the order of preference: `ams,fra,any` [default: this
    /// Machine's own, FLY_REGION]
    #[arg(long, value_name = "REGION", env = "MIDGE_REGION")]
    region: Option<String>,
    /// Where hosts reach this server, such as `http://app.process.shop.internal:7433`; several are tried in turn, with commas
    /// between [default: this Machine's private address, and then its names]
    #[arg(long, value_name = "URL", env = "MIDGE_SERVER_URL")]
    server_url: Option<String>,
}

/// Says that something is missing for Machines at Fly.
fn needs(what: &str) -> String {
    format!("there is a Fly token, so Machines are Fly's: {what}; for Machines here, unset FLY_API_TOKEN")
}

impl FlyArgs {
    /// Returns the API, where Machines are Fly's.
    pub(crate) fn api(&self, own: &OwnMachine) -> Result<Option<FlySettings>> {
        let Some(token) = given(self.fly_token.as_ref(), "FLY_API_TOKEN")? else { return Ok(None) };
        let app = self.fly_app.clone().filter(|app| !app.is_empty()).or_else(|| own.app.clone());
        let app = app.with_context(|| needs("name the app with --fly-app, MIDGE_FLY_APP or FLY_APP_NAME"))?;
        Ok(Some(FlySettings { base_url: self.fly_api.clone(), app, token }))
    }

    /// Returns the URL under which hosts reach a server of this Machine on a port.
    pub(crate) fn server_url(&self, own: &OwnMachine, on_loopback: bool, port: u16) -> Result<String> {
        let is_local_api =
            ["http://127.0.0.1:", "http://[::1]:"].iter().any(|at| self.fly_api.starts_with(at));
        if on_loopback && !is_local_api {
            bail!(needs(
                "they cannot reach a server that listens on loopback; use --listen '[::]:7433' and set MIDGE_TOKEN"
            ));
        }
        if let Some(url) = &self.server_url {
            let ways = url.split(',').take(limits::SERVER_URLS_MAX).map(|way| reached(way.trim()));
            return Ok(ways.collect::<Result<Vec<_>>>()?.join(","));
        }
        if is_local_api {
            return Ok(format!("http://127.0.0.1:{port}"));
        }
        let ways = own.ways(port);
        if ways.is_empty() {
            bail!(needs(
                "say where they reach this server with --server-url, since this is not one of Fly's Machines"
            ));
        }
        Ok(ways.join(","))
    }

    /// Returns how Machines are made: as the model is, where nothing else was said.
    pub(crate) fn fork(&self, model: Model, host: Vec<String>, server_url: String) -> Result<Fork> {
        let model = Model {
            image: self.image.clone().or(model.image),
            region: self.region.clone().or(model.region),
            ..model
        };
        Fork::like(model, host, server_url)
            .with_context(|| needs("name the app's image with --image, MIDGE_IMAGE or FLY_IMAGE_REF"))
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

/// Fails where a queue's Machines cannot be what it says once they have the size that they have by default.
pub(crate) fn check_sizes(catalog: &Catalog, fork: &Fork) -> Result<()> {
    for (queue, policy) in &catalog.manifest.queues {
        let size = policy.size.clone().or_else(|| fork.size.clone());
        if let Some(why) = contradiction(&QueuePolicy { size, ..policy.clone() }) {
            bail!("queue `{queue}` of midge.toml, whose Machines have the size of the server's: {why}");
        }
    }
    Ok(())
}

/// Fails where a region is named that there is none of. Where nobody can say which there are, none is.
pub(crate) async fn check_regions(api: &FlySettings, catalog: &Catalog, fork: &Fork) -> Result<()> {
    match FlyMachines::new(api.clone())?.regions().await {
        Ok(known) => check_wanted(&known, catalog, fork),
        Err(error) => {
            tracing::warn!(%error, "cannot ask which regions there are: a wrong name is found where a Machine is made");
            Ok(())
        }
    }
}

/// Fails where a region is named that is not among those that there are.
pub(crate) fn check_wanted(known: &[String], catalog: &Catalog, fork: &Fork) -> Result<()> {
    let wrong = |region: &str, who: &str| {
        let regions = known.join(", ");
        anyhow!(
            "there is no region `{region}` at Fly, which {who}: use some of {regions}, or a part of the world such as eu, or any"
        )
    };
    let general = fork.region.as_deref().into_iter().flat_map(|regions| regions.split(',').map(str::trim));
    if let Some(region) = regions::unknown(general, known) {
        return Err(wrong(region, "--region (MIDGE_REGION) names"));
    }
    for (queue, policy) in &catalog.manifest.queues {
        if let Some(region) = regions::unknown(policy.regions.iter().map(RegionName::as_str), known) {
            return Err(wrong(region, &format!("queue `{queue}` of midge.toml names")));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use midge_protocol::MachineId;

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
            fly_app: Some("machines".to_owned()),
            fly_api: FlySettings::BASE_URL_DEFAULT.to_owned(),
            image: None,
            region: None,
            server_url: None,
        }
    }

    fn in_fly() -> OwnMachine {
        OwnMachine {
            app: Some("shop".to_owned()),
            id: Some(MachineId::new("d8d9").unwrap()),
            private_ip: Some("fdaa::3".to_owned()),
            ..OwnMachine::default()
        }
    }

    #[test]
    fn without_a_fly_token_machines_are_local() {
        assert!(FlyArgs { fly_token: None, ..fly() }.api(&in_fly()).unwrap().is_none());
    }

    #[test]
    fn machines_are_of_the_app_that_is_named_else_of_the_server_s_own() {
        let app = |args: FlyArgs| args.api(&in_fly()).unwrap().unwrap().app;
        assert_eq!(app(fly()), "machines");
        assert_eq!(app(FlyArgs { fly_app: None, ..fly() }), "shop");
        assert_eq!(app(FlyArgs { fly_app: Some(String::new()), ..fly() }), "shop");
    }

    #[test]
    fn hosts_reach_the_server_at_its_private_address_or_by_its_names_unless_told_otherwise() {
        let url = |args: FlyArgs, own: OwnMachine| args.server_url(&own, false, 80).unwrap();
        // The server is in its own app, wherever its Machines are.
        assert_eq!(url(fly(), in_fly()), "http://[fdaa::3]:80,http://d8d9.vm.shop.internal:80");
        let told =
            FlyArgs { server_url: Some("http://app.internal:8080/jobs/, http://x:1".to_owned()), ..fly() };
        assert_eq!(url(told, in_fly()), "http://app.internal:8080/jobs,http://x:1");
        let flylet = FlyArgs { fly_api: "http://127.0.0.1:4280".to_owned(), ..fly() };
        assert_eq!(url(flylet, OwnMachine::default()), "http://127.0.0.1:80");
    }

    #[test]
    fn what_is_said_goes_before_what_the_server_s_own_machine_is() {
        let model = || Model {
            image: Some("shop@sha256:1".to_owned()),
            region: Some("ams".to_owned()),
            ..Model::default()
        };
        let fork = |args: FlyArgs| args.fork(model(), Vec::new(), String::new()).unwrap();
        let own = fork(fly());
        assert_eq!((own.image.as_str(), own.region.as_deref()), ("shop@sha256:1", Some("ams")));
        let (image, region) = (Some("other".to_owned()), Some("fra,any".to_owned()));
        let said = fork(FlyArgs { image, region, ..fly() });
        assert_eq!((said.image.as_str(), said.region.as_deref()), ("other", Some("fra,any")));
    }

    #[test]
    fn what_is_missing_for_fly_is_named() {
        let no_app = FlyArgs { fly_app: None, ..fly() }.api(&OwnMachine::default()).unwrap_err();
        assert!(no_app.to_string().contains("FLY_APP_NAME"), "{no_app}");
        let no_image = fly().fork(Model::default(), Vec::new(), String::new()).unwrap_err();
        assert!(no_image.to_string().contains("FLY_IMAGE_REF"), "{no_image}");
        let url = |own, on_loopback| fly().server_url(&own, on_loopback, 80).unwrap_err().to_string();
        assert!(url(OwnMachine::default(), false).contains("--server-url"));
        assert!(url(in_fly(), true).contains("--listen"));
    }
}
