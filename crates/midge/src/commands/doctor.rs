//! `midge doctor`: what stands between this computer and jobs that run on Fly.

mod checks;

use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Result;
use midge_cli::output::{bold, dim, say, say_json};
use midge_protocol::shown;
use serde::Serialize;

use self::checks::Patient;
use crate::arguments::listen_address;
use crate::config::own_machine;
use crate::fly::FlyArgs;

/// Look for what is wrong between here and jobs on Fly, and say what to do
#[derive(Debug, clap::Args)]
#[command(after_help = "\
It takes the flags and variables of `midge serve`, and changes nothing. Run it in the server's
Machine to see what that sees, or on a laptop: what cannot be seen from there is skipped.

Exits with 0 if nothing is wrong, and with 1 else.

Examples:
  midge doctor
  fly ssh console -C 'midge doctor'
  FLY_API_TOKEN=... midge doctor --fly-app shop-machines --json")]
pub(crate) struct Args {
    /// The folder that `midge build` wrote
    #[arg(long, value_name = "DIR", env = "MIDGE_MODULES", default_value = "target/midge")]
    modules: PathBuf,
    /// The host program in Machines [default: the one beside midge]
    #[arg(long, value_name = "PATH", env = "MIDGE_HOST")]
    host_program: Option<PathBuf>,
    /// Where the server listens
    #[arg(long, value_parser = listen_address, value_name = "ADDR", env = "MIDGE_LISTEN", default_value = "127.0.0.1:7433")]
    listen: SocketAddr,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    fly: FlyArgs,
}

/// What was found of one thing.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Finding {
    /// What was looked at.
    check: Check,
    /// Whether it is as it should be.
    state: Verdict,
    /// What was seen.
    text: String,
    /// What to do, where something is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    todo: Option<String>,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Check {
    Modules,
    Host,
    Sizes,
    Token,
    Api,
    App,
    Time,
    Regions,
    Image,
    Reachability,
}

/// Whether something is as it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Verdict {
    Ok,
    Wrong,
    /// It cannot be seen from here, or not while something else is wrong.
    Skipped,
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Check::Modules => "modules",
            Check::Host => "host",
            Check::Sizes => "sizes",
            Check::Token => "token",
            Check::Api => "api",
            Check::App => "app",
            Check::Time => "time",
            Check::Regions => "regions",
            Check::Image => "image",
            Check::Reachability => "reachability",
        })
    }
}

impl Finding {
    fn ok(check: Check, text: impl Into<String>) -> Finding {
        Finding { check, state: Verdict::Ok, text: text.into(), todo: None }
    }

    fn wrong(check: Check, text: impl Into<String>, todo: impl Into<String>) -> Finding {
        Finding { check, state: Verdict::Wrong, text: text.into(), todo: Some(todo.into()) }
    }

    fn skipped(check: Check, text: impl Into<String>) -> Finding {
        Finding { check, state: Verdict::Skipped, text: text.into(), todo: None }
    }
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let Args { modules, host_program, listen, json, fly } = self;
        let patient = Patient { modules, host_program, listen, fly, own: own_machine() };
        let findings = patient.look().await;
        if json {
            say_json(&findings)?;
        } else {
            findings.iter().try_for_each(tell)?;
        }
        let is_well = findings.iter().all(|finding| finding.state != Verdict::Wrong);
        Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

fn tell(finding: &Finding) -> Result<()> {
    let Finding { check, state, text, todo } = finding;
    let text = shown::line(text);
    match state {
        Verdict::Ok => say(format_args!("ok       {check:<13} {text}"))?,
        Verdict::Wrong => say(format_args!("{}    {check:<13} {text}", bold("wrong")))?,
        Verdict::Skipped => say(dim(format_args!("skipped  {check:<13} {text}")))?,
    }
    match todo {
        Some(todo) => say(format_args!("{:23}{}", "", shown::line(todo))),
        None => Ok(()),
    }
}
