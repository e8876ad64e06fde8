//! `midge machines`: the Machines of a server, and those that are taken out of service.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Result, ensure};
use midge_cli::output::{dim, note, say, say_json, say_table, show_error};
use midge_cli::table::{Table, first_line};
use midge_cli::words;
use midge_protocol::api::MachineView;
use midge_protocol::{MachineName, QueueName, Timestamp, shown};

use super::pause::Waiting;
use crate::arguments::ServerArgs;
use crate::connection::{Answered, no_such};

/// How many of those that are gone are listed.
const GONE_SHOWN_MAX: usize = 5;
/// How often one looks whether drained Machines are gone.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// List the Machines, and take some out of service
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists those that are there, and the last few that went away.

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
    /// Also all of those that went away lately, and not only the last few
    #[arg(long)]
    all: bool,
    /// Write JSON of all of them
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct DrainArgs {
    /// The Machines, by their names or ids
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
    let mut machines = args.server.client()?.machines().await.answered()?;
    if args.json {
        say_json(&machines)?;
        return Ok(ExitCode::SUCCESS);
    }
    let hidden = if args.all { 0 } else { hide_gone(&mut machines.machines) };
    let table = table(&machines.machines, words::now());
    if table.is_empty() {
        note("there are no Machines: they are started when there is work");
    } else {
        say_table(table)?;
    }
    if hidden > 0 {
        note(dim(format_args!("{hidden} more are gone: use --all to see them")));
    }
    Ok(ExitCode::SUCCESS)
}

/// Leaves out those that are gone, but for the last few. Returns how many. They are the newest first.
fn hide_gone(machines: &mut Vec<MachineView>) -> usize {
    let (mut gone, before) = (0, machines.len());
    machines.retain(|machine| {
        gone += usize::from(machine.is_gone());
        !machine.is_gone() || gone <= GONE_SHOWN_MAX
    });
    before - machines.len()
}

async fn drain(args: DrainArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    let all = client.machines().await.answered()?.machines;
    let (mut code, mut drained) = (ExitCode::SUCCESS, BTreeSet::new());
    let mut names = Vec::new();
    for given in args.names {
        match named(given, &all) {
            Ok(name) => names.push(name),
            Err(unknown) => {
                show_error(&unknown);
                code = ExitCode::FAILURE;
            }
        }
    }
    if let Some(queue) = args.queue {
        let of_queue = all.into_iter().filter(|machine| machine.queue == queue && !machine.is_gone());
        names.extend(of_queue.map(|machine| machine.name));
        if names.is_empty() {
            let known = client.queues().await.answered()?.queues;
            let mut names = known.iter().map(|known| known.name.as_str());
            ensure!(
                names.clone().any(|name| name == queue.as_str()),
                no_such("queue", queue.as_str(), names.by_ref(), "midge queues")
            );
            note(format_args!("no Machine serves queue {queue}"));
        }
    }
    for name in names {
        match client.drain_machine(&name).await.answered() {
            Ok(machine) => {
                let jobs = match machine.running {
                    0 => "nothing".to_owned(),
                    running => words::count(running as usize, "job"),
                };
                say(format_args!("{name} drains: it runs {jobs}"))?;
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
        let is_there = |machine: &&MachineView| drained.contains(&machine.name) && !machine.is_gone();
        let left = there.iter().filter(is_there).count();
        let are = if left == 1 { "is" } else { "are" };
        Ok((left > 0).then(|| format!("{} {are} still there", words::count(left, "Machine"))))
    });
    if let Some(not_ended) = gone.await? {
        return Ok(not_ended);
    }
    if args.waiting.wait {
        drained.iter().try_for_each(|name| say(format_args!("{name} is gone")))?;
    }
    Ok(code)
}

/// Returns the name of the Machine that was meant, by its name or its id.
fn named(given: MachineName, machines: &[MachineView]) -> Result<MachineName> {
    let has_id = |machine: &&MachineView| machine.id.as_ref().is_some_and(|id| id.as_str() == given.as_str());
    if machines.iter().any(|machine| machine.name == given) {
        return Ok(given);
    }
    let there = machines.iter().filter(|machine| !machine.is_gone()).map(|machine| machine.name.as_str());
    let unknown = || no_such("Machine", given.as_str(), there, "midge machines");
    machines.iter().find(has_id).map(|machine| machine.name.clone()).ok_or_else(unknown)
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
            shown::line(&machine.state_in_words()).into_owned(),
            words::relative(machine.since, now),
            machine.running.to_string(),
            machine.attempts.to_string(),
            or_dash(machine.heard_at.map(|at| words::relative(at, now))),
            machine.note.as_deref().map(first_line).unwrap_or_default(),
        ]);
    }
    table
}
