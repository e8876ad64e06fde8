//! `midge flylet`: the local Machines API, apart from any server.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use midge_cli::output::{note, say};
use midge_cli::stop::StopSignal;
use midge_flylet::{Fault, Faults, Flylet, FlyletSettings, Latency, Region};
use midge_protocol::Secret;

use super::start_log;
use crate::arguments::{given, listen_address, secret};

/// Run a local Machines API, whose Machines are processes
#[derive(Debug, clap::Args)]
#[command(after_help = "\
`midge serve` and `midge dev` bring one of their own. This is for having it apart: a server
can then be restarted while its Machines go on. It is also there for whatever else calls the
Machines API: docs/flylet.md says what it has and what not.

Examples:
  midge flylet --token secret
  midge flylet --latency fly --limits --regions iad,lhr=5 --fault lost-answer=0.05 --seed 7
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
    /// The regions, the nearest first: NAME, NAME=MACHINES or NAME=MACHINES/MEMORY_MIB for those with that much room; one
    /// that answers to every name where none are given
    #[arg(long, value_delimiter = ',', value_name = "REGION")]
    regions: Vec<Region>,
    /// The most Machines that there may be
    #[arg(long, value_name = "N", default_value_t = midge_protocol::limits::MACHINES_MAX)]
    max_machines: u32,
    /// How long Machines take to be made, to start and to go on: no time, or as long as people have measured on Fly
    #[arg(long, value_enum, default_value = "none")]
    latency: LatencyOption,
    /// Refuse calls beyond Fly's limits
    #[arg(long)]
    limits: bool,
    /// A fault, and the share of the calls which meet it that can; may be repeated
    #[arg(long = "fault", value_parser = fault, value_name = "NAME=SHARE")]
    faults: Vec<(Fault, f64)>,
    /// What faults and latencies repeat under
    #[arg(long, value_name = "N", default_value_t = 0)]
    seed: u64,
    /// How many times faster than on Fly time passes, for latencies, limits and faults
    #[arg(long, value_parser = speed, value_name = "FACTOR", default_value = "1")]
    speed: f64,
    /// What to log
    #[arg(long, value_name = "FILTER", env = "MIDGE_LOG", default_value = "info")]
    log: String,
}

/// The names of latencies.
#[derive(Debug, Clone, Copy, clap::ValueEnum)]
enum LatencyOption {
    /// No longer than a process takes
    None,
    /// Drawn from published figures
    Fly,
}

/// Reads `NAME=SHARE`.
fn fault(text: &str) -> Result<(Fault, f64), String> {
    let (name, share) = text.split_once('=').ok_or("it is not NAME=SHARE, such as lost-answer=0.05")?;
    let read = share.parse().ok().filter(|share| (0.0..=1.0).contains(share));
    Ok((name.parse()?, read.ok_or_else(|| format!("`{share}` is not a share from 0 to 1"))?))
}

/// Makes the shares of faults.
///
/// # Errors
/// Where one is given twice: it is not for us to say which share is meant.
fn rates(faults: Vec<(Fault, f64)>) -> Result<BTreeMap<Fault, f64>> {
    let mut rates = BTreeMap::new();
    for (fault, share) in faults {
        if rates.insert(fault, share).is_some() {
            bail!("--fault {fault} is given twice");
        }
    }
    Ok(rates)
}

fn speed(text: &str) -> Result<f64, String> {
    let read = text.parse::<f64>().ok().filter(|speed| speed.is_finite() && *speed > 0.0);
    read.ok_or_else(|| format!("`{text}` is not a number above 0"))
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        start_log(&self.log)?;
        let mut stop = StopSignal::listen_to_all()?;
        let token = given(self.token.as_ref(), "FLY_API_TOKEN")?;
        let made_up = token.is_none();
        let settings = FlyletSettings {
            listen: self.listen,
            token,
            machines_max: self.max_machines as usize,
            regions: self.regions,
            latency: match self.latency {
                LatencyOption::None => Latency::None,
                LatencyOption::Fly => Latency::Fly,
            },
            limits_calls: self.limits,
            faults: Faults { rates: rates(self.faults)?, ..Faults::default() },
            seed: self.seed,
            speed: self.speed,
            ..FlyletSettings::new(self.app.clone())
        };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_read_with_its_share_and_what_is_wrong_is_said() {
        assert_eq!(fault("lost-answer=0.05"), Ok((Fault::LostAnswer, 0.05)));
        for (text, part) in [
            ("lost-answer", "NAME=SHARE"),
            ("lost-answer=2", "`2` is not a share"),
            ("lost-answer=NaN", "`NaN` is not a share"),
            ("nothing=0.1", "there is no fault `nothing`"),
        ] {
            assert!(fault(text).unwrap_err().contains(part), "{text}");
        }
        let twice = vec![(Fault::Dies, 0.1), (Fault::LostAnswer, 0.1), (Fault::Dies, 0.2)];
        assert_eq!(rates(twice[..2].to_vec()).unwrap().len(), 2);
        assert_eq!(rates(twice).unwrap_err().to_string(), "--fault dies is given twice");
        assert_eq!(speed("20"), Ok(20.0));
        for bad in ["0", "-1", "inf", "x"] {
            assert!(speed(bad).is_err(), "{bad}");
        }
    }
}
