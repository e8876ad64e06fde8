//! What is looked at, one thing after the other, each by what the ones before have found.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use midge_cli::checkout::{Missing, host_program};
use midge_cli::{config, words};
use midge_client::{Client, ClientError};
use midge_machines::own::{Model, OwnMachine};
use midge_machines::{FlyMachines, FlySettings};
use midge_protocol::manifest::{FILE_NAME, Manifest};
use midge_protocol::{Timestamp, shown};
use midge_server::{Catalog, Fork};

use super::{Check, Finding, Verdict};
use crate::fly::{FlyArgs, check_wanted};

/// By how much the clock here may differ from the API's. Tokens and certificates have a minute or more; a lease has half.
const SKEW_MAX: Duration = Duration::from_secs(30);

/// What is looked at, and with what.
pub(super) struct Patient {
    pub(super) modules: PathBuf,
    pub(super) host_program: Option<PathBuf>,
    pub(super) listen: SocketAddr,
    pub(super) fly: FlyArgs,
    pub(super) own: OwnMachine,
}

impl Patient {
    /// Looks at everything that can be seen from here.
    pub(super) async fn look(&self) -> Vec<Finding> {
        let mut findings = vec![self.modules(), self.host(), self.sizes()];
        let api = match self.fly.api(&self.own) {
            Ok(Some(api)) => api,
            other => {
                let text = other.err().map_or("there is none".to_owned(), |error| error.to_string());
                let todo = "set FLY_API_TOKEN to what `fly tokens create deploy -a APP` says, and name the app: MIDGE_FLY_APP";
                findings.push(Finding::wrong(Check::Token, text, todo));
                let rest =
                    [Check::Api, Check::App, Check::Time, Check::Regions, Check::Image, Check::Reachability];
                findings.extend(rest.map(|check| Finding::skipped(check, "not without a token")));
                return findings;
            }
        };
        findings.extend(self.api(&api).await);
        let answers =
            findings.iter().all(|finding| finding.check != Check::Api || finding.state == Verdict::Ok);
        let model = Model::find(&self.own, &api, crate::config::cpus()).await;
        match self.fly.fork(model, Vec::new(), String::new()) {
            Ok(fork) => {
                findings.push(if answers {
                    self.regions(&api, &fork).await
                } else {
                    Finding::skipped(Check::Regions, "not while the API does not answer")
                });
                findings.push(self.image(&fork));
            }
            Err(error) => {
                findings.push(Finding::skipped(Check::Regions, "not while the image is not known"));
                let todo = "run it in the server's Machine, or name the image: MIDGE_IMAGE";
                findings.push(Finding::wrong(Check::Image, error.to_string(), todo));
            }
        }
        findings.push(self.reachability().await);
        findings
    }

    fn modules(&self) -> Finding {
        let opened = Catalog::open(&self.modules).map_err(|error| error.to_string()).and_then(|catalog| {
            midge_engine::Modules::open(&self.modules).map_err(|error| error.to_string()).map(|_| catalog)
        });
        match opened {
            Ok(catalog) => {
                let modules = words::count(catalog.manifest.modules.len(), "module");
                Finding::ok(Check::Modules, format!("{modules} in {}", self.modules.display()))
            }
            Err(error) => {
                Finding::wrong(Check::Modules, error, "run `midge build`, or name its folder: MIDGE_MODULES")
            }
        }
    }

    fn host(&self) -> Finding {
        let todo = "put `midge-host` beside `midge` in the image, or name it: MIDGE_HOST";
        let found = host_program(self.host_program.as_deref(), Missing::Fail, &config::environment());
        let program = match found {
            Ok(program) => program,
            Err(error) => return Finding::wrong(Check::Host, error.to_string(), todo),
        };
        let shown = program.display().to_string();
        match runs(&program) {
            Ok(()) => Finding::ok(Check::Host, shown),
            Err(why) => Finding::wrong(Check::Host, format!("{shown} {why}"), todo),
        }
    }

    /// Looks at sizes in the manifest as it is written: where one is wrong, no catalog can be opened.
    fn sizes(&self) -> Finding {
        let read = std::fs::read(self.modules.join(FILE_NAME)).ok();
        let manifest = read.and_then(|text| serde_json::from_slice::<Manifest>(&text).ok());
        let Some(manifest) = manifest else {
            return Finding::skipped(Check::Sizes, "not without a manifest");
        };
        let sized =
            || manifest.queues.iter().filter_map(|(queue, policy)| Some((queue, policy.size.as_ref()?)));
        for (queue, size) in sized() {
            if let Err(error) = size.check() {
                let text = format!("queue `{queue}`: {error}");
                return Finding::wrong(
                    Check::Sizes,
                    text,
                    "change `size` of the queue in midge.toml, and run `midge build`",
                );
            }
        }
        let said = sized().map(|(queue, size)| format!("{queue}: {size}")).collect::<Vec<_>>().join(", ");
        let rest = "others as the server's own Machine";
        Finding::ok(Check::Sizes, if said.is_empty() { rest.to_owned() } else { format!("{said}; {rest}") })
    }

    /// Asks the API once, and says what that tells of the token, the app and the time.
    async fn api(&self, api: &FlySettings) -> Vec<Finding> {
        let FlySettings { base_url, app, .. } = api;
        // It is what somebody wrote, and may have a password in it.
        let base_url = shown::url(base_url);
        let machines = match FlyMachines::new(api.clone()) {
            Ok(machines) => machines,
            Err(error) => {
                let todo = "set FLY_FLAPS_BASE_URL, FLY_API_TOKEN and MIDGE_FLY_APP as Fly shows them";
                return no_api(error.to_string(), todo);
            }
        };
        let probe = match machines.probe().await {
            Ok(probe) => probe,
            Err(error) => {
                let cause = std::error::Error::source(&error).map(ToString::to_string).unwrap_or_default();
                let text = format!("{base_url} does not answer: {cause}");
                let todo = "look at the network, and at FLY_FLAPS_BASE_URL; in a Machine http://_api.internal:4280 answers too";
                return no_api(text, todo);
            }
        };
        let new_token = format!("make a new one: fly tokens create deploy -a {app}");
        let (token, app) = match probe.status {
            200..300 => (
                Finding::ok(Check::Token, format!("is good for {app}")),
                Finding::ok(Check::App, format!("{app} is there")),
            ),
            401 => (
                Finding::wrong(Check::Token, "it is not known, or has expired", new_token),
                Finding::skipped(Check::App, "not without a token"),
            ),
            403 => (
                Finding::wrong(Check::Token, format!("it is not good for {app}"), new_token),
                Finding::skipped(Check::App, "not without a token"),
            ),
            404 => (
                Finding::skipped(Check::Token, "nobody can tell without an app"),
                Finding::wrong(
                    Check::App,
                    format!("there is no app {app}, or the token is another's"),
                    format!("fly apps create {app}, or set MIDGE_FLY_APP to the one that the token is for"),
                ),
            ),
            status => {
                let text = format!("{base_url} answers {status}: {}", probe.said);
                return no_api(text, "try again; https://status.flyio.net says more");
            }
        };
        let time = time(probe.date.as_deref().and_then(words::http_date), words::now());
        vec![Finding::ok(Check::Api, format!("{base_url} answers")), token, app, time]
    }

    async fn regions(&self, api: &FlySettings, fork: &Fork) -> Finding {
        let Ok(catalog) = Catalog::open(&self.modules) else {
            return Finding::skipped(Check::Regions, "not without modules");
        };
        let known = match FlyMachines::new(api.clone()) {
            Ok(machines) => machines.regions().await,
            Err(error) => Err(error),
        };
        let Ok(known) = known else {
            return Finding::skipped(Check::Regions, "the API does not say which there are");
        };
        match check_wanted(&known, &catalog, fork) {
            Ok(()) => {
                let region = fork.region.as_deref().unwrap_or("the one nearest the API");
                Finding::ok(Check::Regions, format!("{region}, where a queue says none"))
            }
            Err(error) => {
                let todo = "change `regions` of the queue in midge.toml, or MIDGE_REGION";
                Finding::wrong(Check::Regions, error.to_string(), todo)
            }
        }
    }

    fn image(&self, fork: &Fork) -> Finding {
        let how = if fork.image.contains('@') { "by its digest" } else { "by a tag" };
        Finding::ok(Check::Image, format!("{}, {how}", fork.image))
    }

    async fn reachability(&self) -> Finding {
        let check = Check::Reachability;
        let ways = match self.fly.server_url(&self.own, self.listen.ip().is_loopback(), self.listen.port()) {
            Ok(ways) => ways,
            // On a laptop nobody knows where the server will be.
            Err(_) if self.own.id.is_none() => {
                return Finding::skipped(check, "run it in the server's Machine, or say MIDGE_SERVER_URL");
            }
            Err(error) => {
                return Finding::wrong(
                    check,
                    error.to_string(),
                    "set MIDGE_LISTEN=[::]:7433 and MIDGE_TOKEN",
                );
            }
        };
        let mut failed = Vec::new();
        for way in ways.split(',') {
            match answers(way).await {
                Ok(()) => return Finding::ok(check, format!("a server answers at {way}")),
                Err(why) => failed.push(format!("{way}: {why}")),
            }
        }
        let todo = "start the server and run this again; it has to listen on [::], and MIDGE_SERVER_URL has to lead to it";
        Finding::wrong(check, format!("no server answers at {}", failed.join("; ")), todo)
    }
}

/// Returns what is wrong with the API, and what cannot be seen for that.
fn no_api(text: String, todo: &str) -> Vec<Finding> {
    let skipped = [Check::Token, Check::App, Check::Time];
    let skipped = skipped.map(|check| Finding::skipped(check, "not while the API does not answer"));
    [Finding::wrong(Check::Api, text, todo)].into_iter().chain(skipped).collect()
}

/// Says whether a program can be run here.
fn runs(program: &Path) -> Result<(), String> {
    let mut help = Command::new(program);
    help.arg("--help").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    match help.status() {
        Ok(status) if status.success() => Ok(()),
        Ok(status) => Err(format!("does not run: {status}")),
        Err(error) => Err(format!("cannot be run: {error}")),
    }
}

/// Says whether a server of midge's answers at a URL, whatever it says.
async fn answers(way: &str) -> Result<(), String> {
    match Client::new(way).map(|client| client.tries(1)) {
        Ok(client) => match client.machines().await {
            Err(ClientError::Unreachable { source, .. }) => Err(source.to_string()),
            _ => Ok(()),
        },
        Err(error) => Err(error.to_string()),
    }
}

/// Compares the time there with the time here.
fn time(there: Option<Timestamp>, here: Timestamp) -> Finding {
    let Some(there) = there else { return Finding::skipped(Check::Time, "the API does not tell its own") };
    let apart = here.since(there).max(there.since(here));
    let seconds = apart.as_secs();
    if apart <= SKEW_MAX {
        return Finding::ok(Check::Time, format!("{seconds} s from the API's"));
    }
    let side = if here > there { "ahead of" } else { "behind" };
    let text = format!("the clock here is {seconds} s {side} the API's");
    Finding::wrong(
        Check::Time,
        text,
        "set the clock; a Machine that has slept long sets its own within a minute",
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clock_that_differs_by_more_than_half_a_minute_is_wrong() {
        let here = Timestamp::from_millis(1_795_694_700_000);
        let state = |there| time(there, here).state;
        let seconds = |seconds: i64| Some(Timestamp::from_millis(here.as_millis() + seconds * 1_000));
        assert_eq!([seconds(0), seconds(30), seconds(-30)].map(state), [Verdict::Ok; 3]);
        assert_eq!([seconds(31), seconds(-86_400)].map(state), [Verdict::Wrong; 2]);
        assert_eq!(state(None), Verdict::Skipped);
        assert!(time(seconds(60), here).text.contains("60 s behind"));
    }
}
