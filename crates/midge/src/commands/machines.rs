//! `midge machines`: the Machines of a server, and those that are taken out of service.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{note, say, say_json, say_table, show_error};
use midge_cli::table::{Table, first_line};
use midge_cli::words;
use midge_protocol::api::MachineView;
use midge_protocol::{MachineName, QueueName, Timestamp, shown};

use super::pause::Waiting;
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// How often one looks whether drained Machines are gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// List the Machines, and take some out of service
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists those that are there, and those that went away lately.

Examples:
  midge machines
  midge machines --json | jq '.machines[] | select(.state == \"up\").name'
  midge machines drain midge-0190b3e4 --wait
  midge machines drain --queue mail        all that serve the queue now")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the Machines
    List(ListArgs),
    /// Have Machines take no more jobs, finish what they run, and go
    Drain(DrainArgs),
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct DrainArgs {
    /// The Machines, by midge's names for them
    #[arg(required_unless_present = "queue", conflicts_with = "queue")]
    names: Vec<MachineName>,
    /// All Machines that serve this queue now
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(args) => list(args).await,
            Command::Drain(args) => drain(args).await,
        }
    }
}

async fn list(args: ListArgs) -> Result<ExitCode> {
    let machines = args.server.client()?.machines().await.answered()?;
    let table = table(&machines.machines, words::now());
    if args.json {
        say_json(&machines)?;
    } else if table.is_empty() {
        note("there are no Machines: they are started when there is work");
    } else {
        say_table(table)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn drain(args: DrainArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    let mut names = args.names;
    if let Some(queue) = args.queue {
        let all = client.machines().await.answered()?.machines;
        let of_queue = all.into_iter().filter(|machine| machine.queue == queue && !is_gone(machine));
        names.extend(of_queue.map(|machine| machine.name));
        if names.is_empty() {
            note(format_args!("no Machine serves queue {queue}"));
        }
    }
    let (mut code, mut drained) = (ExitCode::SUCCESS, BTreeSet::new());
    for name in names {
        match client.drain_machine(&name).await.answered() {
            Ok(machine) => {
                let jobs = words::count(machine.running as usize, "job");
                say(format_args!("{name} is drained: it runs {jobs}"))?;
                drained.insert(name);
            }
            Err(error) => {
                show_error(&error);
                code = ExitCode::FAILURE;
            }
        }
    }
    let gone = args.waiting.until(LOOK_EVERY, async || {
        let there = client.machines().await.answered()?.machines;
        let is_there = |machine: &&MachineView| drained.contains(&machine.name) && !is_gone(machine);
        let left = there.iter().filter(is_there).count();
        Ok((left > 0).then(|| format!("{} still there", words::count(left, "drained Machine"))))
    });
    Ok(gone.await?.unwrap_or(code))
}

fn is_gone(machine: &MachineView) -> bool {
    machine.state == "gone"
}

fn table(machines: &[MachineView], now: Timestamp) -> Table {
    let mut table =
        Table::new(&["NAME", "ID", "QUEUE", "STATE", "SINCE", ">RUNNING", ">ATTEMPTS", "HEARD OF", "NOTE"]);
    for machine in machines {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        table.row([
            machine.name.to_string(),
            or_dash(machine.id.as_ref().map(ToString::to_string)),
            machine.queue.to_string(),
            shown::line(&machine.state).into_owned(),
            words::relative(machine.since, now),
            machine.running.to_string(),
            machine.attempts.to_string(),
            or_dash(machine.heard_at.map(|at| words::relative(at, now))),
            machine.note.as_deref().map(first_line).unwrap_or_default(),
        ]);
    }
    table
}
