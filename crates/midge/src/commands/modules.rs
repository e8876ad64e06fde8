//! `midge modules`: the modules of a server.

use std::process::ExitCode;

use anyhow::Result;
use midge_cli::output::{note, say, say_json, say_table};
use midge_cli::table::Table;
use midge_cli::words;
use midge_protocol::api::{JobFilter, ModuleView};
use midge_protocol::job::{LACK_REMEDY, State};
use midge_protocol::{ModuleName, shown};

use super::pause::{Pausing, Waiting, paused, resumed, said};
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// List the modules, pause one, and let it go on
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists: the queue of jobs that name none, how many are due and held
until they start, and whether they start, or why not. A module that is no longer served is listed as
long as such jobs are there.

Examples:
  midge modules
  midge modules pause report --reason 'wrong totals' --for 2h
  midge modules pause report --wait      come back when nothing of it runs any more
  midge modules resume report")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the modules
    List(ListArgs),
    /// Have no job of a module start, in whatever queue: what runs ends
    Pause(PauseArgs),
    /// Have a module start jobs again that is paused, or try one where Machines lacked something
    Resume(ResumeArgs),
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
struct PauseArgs {
    /// The module
    name: ModuleName,
    #[command(flatten)]
    pausing: Pausing,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ResumeArgs {
    /// The module
    name: ModuleName,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command.unwrap_or(Command::List(self.list)) {
            Command::List(args) => list(args).await?,
            Command::Pause(args) => return pause(args).await,
            Command::Resume(args) => {
                let client = args.server.client()?;
                let before = client.modules().await.answered()?.modules;
                client.resume_module(&args.name).await.answered()?;
                say(became(&args.name, &before))?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let modules = args.server.client()?.modules().await.answered()?;
    if args.json {
        return say_json(&modules);
    }
    let mut table = Table::new(&["MODULE", "QUEUE", ">HELD", "STARTS JOBS"]);
    for module in &modules.modules {
        table.row([
            module.name.to_string(),
            module.entry.as_ref().map_or_else(|| "-".to_owned(), |entry| entry.queue.to_string()),
            module.held.to_string(),
            starts_jobs(module),
        ]);
    }
    say_table(table)?;
    if modules.modules.iter().any(|module| module.lacks.is_some()) {
        note(format_args!("what Machines lack: {LACK_REMEDY}"));
    }
    Ok(())
}

async fn pause(args: PauseArgs) -> Result<ExitCode> {
    let client = args.server.client()?;
    let pause = client.pause_module(&args.name, &args.pausing.request()).await.answered()?;
    say(said(&args.name, &pause, &format!("midge modules resume {}", args.name)))?;
    let running =
        JobFilter { state: Some(State::Running), module: Some(args.name.clone()), ..JobFilter::default() };
    let look = async || Ok(client.count_jobs(&running).await.answered()?.jobs);
    args.waiting.until_none_runs(&args.name, look).await
}

/// Says what has become of a module that was to go on; `before` are the modules as they were.
fn became(name: &ModuleName, before: &[ModuleView]) -> String {
    match before.iter().find(|module| module.name == *name) {
        Some(ModuleView { entry: Some(_), pause: None, lacks: Some(lack), .. }) => {
            format!("{name}: one job tries now whether Machines still lack {}", shown::line(&lack.what))
        }
        Some(module) if module.entry.is_some() => resumed(name, module.pause.as_ref()),
        _ => format!("{name} is not paused, and not served either: its jobs start when it is deployed again"),
    }
}

fn starts_jobs(module: &ModuleView) -> String {
    if module.entry.is_none() {
        return "no, it is not served".to_owned();
    }
    match (&module.pause, &module.lacks) {
        (Some(pause), _) => format!("no, it is {}", paused(pause)),
        (None, Some(lack)) => {
            let next = match lack.next <= words::now() {
                true => "one job tries as soon as its queue lets it".to_owned(),
                false => format!("next try at {}", lack.next),
            };
            format!("no, Machines lack {}; {next}", shown::line(&lack.what))
        }
        (None, None) => "yes".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_module_that_is_not_served_does_not_go_on() {
        let name = ModuleName::new("old").unwrap();
        let not_served: ModuleView = serde_json::from_value(json!({"name": "old", "held": 3})).unwrap();
        for modules in [vec![not_served], vec![]] {
            assert!(became(&name, &modules).contains("not served"));
        }
    }
}
