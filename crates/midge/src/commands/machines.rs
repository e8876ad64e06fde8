//! `midge machines`: the Machines of a server.

use std::process::ExitCode;

use anyhow::Result;
use midge_cli::output::{note, say, say_json};
use midge_cli::table::{Table, cut};
use midge_cli::words;
use midge_protocol::api::MachineView;
use midge_protocol::{Timestamp, shown};

use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// The width of a note in the table; `--json` has all of it.
const NOTE_WIDTH_MAX: usize = 60;

/// List the Machines that are there, and those that went away lately
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists.

Examples:
  midge machines
  midge machines --json | jq '.machines[] | select(.state == \"up\").name'")]
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
}

#[derive(Debug, clap::Args)]
struct ListArgs {
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let Command::List(args) = self.command.unwrap_or(Command::List(self.list));
        let machines = args.server.client()?.machines().await.answered()?;
        let table = table(&machines.machines, words::now());
        if args.json {
            say_json(&machines)?;
        } else if table.is_empty() {
            note("there are no Machines: they are started when there is work");
        } else {
            say(table)?;
        }
        Ok(ExitCode::SUCCESS)
    }
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
            machine.note.as_deref().map(|note| cut(note, NOTE_WIDTH_MAX)).unwrap_or_default(),
        ]);
    }
    table
}
