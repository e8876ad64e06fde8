//! `midge schedules`: which jobs come by themselves, and what to do about them.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{dim, note, say, say_json, say_table, state};
use midge_cli::table::{Table, first_line};
use midge_cli::words;
use midge_protocol::api::{RunRequest, ScheduleView};
use midge_protocol::{JobId, ScheduleName, Tag, Timestamp, shown};

use super::pause::{Pausing, paused, resumed, said};
use crate::arguments::ServerArgs;
use crate::connection::Answered;

/// List the schedules, look at one, pause, resume or run some
#[derive(Debug, clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
#[command(after_help = "\
Without a subcommand it lists.

Examples:
  midge schedules                                            when each runs next, and how its last job ended
  midge schedules show nightly
  midge schedules pause nightly --reason 'the archive is full' --for 2d
  midge schedules resume nightly
  midge schedules run nightly                                a job of it now, beside those of its ticks")]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListArgs,
}

#[derive(Debug, clap::Subcommand)]
enum Command {
    /// List the schedules that are served
    List(ListArgs),
    /// Show a schedule: its next runs, its last job, its pause
    Show(ShowArgs),
    /// Have a schedule enqueue nothing: its ticks bring no jobs
    Pause(PauseArgs),
    /// Have a paused schedule go on; what ticked in the pause brings no jobs
    Resume(NameArgs),
    /// Enqueue a job of a schedule now, and write its id to stdout
    Run(NameArgs),
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
struct NameArgs {
    /// The schedule
    name: ScheduleName,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct ShowArgs {
    /// The schedule
    name: ScheduleName,
    /// Write JSON
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    server: ServerArgs,
}

#[derive(Debug, clap::Args)]
struct PauseArgs {
    /// The schedule
    name: ScheduleName,
    #[command(flatten)]
    pausing: Pausing,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        match self.command {
            None => list(self.list).await?,
            Some(Command::List(args)) => list(args).await?,
            Some(Command::Show(args)) => {
                let schedule = args.server.client()?.schedule(&args.name).await.answered()?;
                if args.json {
                    say_json(&schedule)?;
                } else {
                    for (name, value) in facts(&schedule, words::now()) {
                        say(format_args!("{} {value}", dim(format_args!("{name:<10}"))))?;
                    }
                }
            }
            Some(Command::Pause(args)) => {
                let client = args.server.client()?;
                let pause = client.pause_schedule(&args.name, &args.pausing.request()).await.answered()?;
                say(said(&args.name, &pause, &format!("midge schedules resume {}", args.name)))?;
            }
            Some(Command::Resume(args)) => {
                let client = args.server.client()?;
                let before = client.schedule(&args.name).await.answered()?.pause;
                client.resume_schedule(&args.name).await.answered()?;
                say(resumed(&args.name, before.as_ref()))?;
            }
            Some(Command::Run(args)) => {
                let request = RunRequest { id: JobId::generate() };
                let enqueued = args.server.client()?.run_schedule(&args.name, &request).await.answered()?;
                say(enqueued.id)?;
            }
        }
        Ok(ExitCode::SUCCESS)
    }
}

async fn list(args: ListArgs) -> Result<()> {
    let schedules = args.server.client()?.schedules().await.answered()?;
    if args.json {
        return say_json(&schedules);
    }
    let table = table(&schedules.schedules, words::now());
    if table.is_empty() {
        note("there are no schedules: add a section such as [schedules.nightly] to midge.toml");
        return Ok(());
    }
    say_table(table)
}

fn table(schedules: &[ScheduleView], now: Timestamp) -> Table {
    let mut table = Table::new(&["SCHEDULE", "MODULE", "CRON", "ZONE", "NEXT", "LAST JOB", "NOTE"]);
    for schedule in schedules {
        let next = schedule.next.first().map(|next| words::relative(next.due, now));
        let last = schedule.last.as_ref().map(|last| {
            let how = last.state.map_or_else(|| "deleted".to_owned(), state);
            let of = last.tick.map_or_else(|| "by hand".to_owned(), |tick| words::relative(tick, now));
            format!("{how}, {of}")
        });
        table.row([
            schedule.name.to_string(),
            schedule.module.to_string(),
            shown::line(&schedule.cron).into_owned(),
            shown::line(&schedule.zone).into_owned(),
            next.unwrap_or_else(|| "-".to_owned()),
            last.unwrap_or_else(|| "-".to_owned()),
            first_line(&remark(schedule).unwrap_or_default()),
        ]);
    }
    table
}

/// Returns why a schedule does not run, where that is so.
fn remark(schedule: &ScheduleView) -> Option<String> {
    match &schedule.pause {
        Some(pause) => Some(paused(pause)),
        None => schedule.waits.as_ref().map(|waits| waits.text.clone()),
    }
}

fn facts(schedule: &ScheduleView, now: Timestamp) -> Vec<(&'static str, String)> {
    let mut facts = vec![
        ("schedule", schedule.name.to_string()),
        ("module", schedule.module.to_string()),
        ("queue", schedule.queue.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)),
        ("cron", format!("{} in {}", shown::line(&schedule.cron), shown::line(&schedule.zone))),
        ("missed", schedule.missed.as_str().to_owned()),
        ("args", shown::line(&schedule.args.to_string()).into_owned()),
    ];
    if schedule.jitter_ms > 0 {
        let most = words::duration(Duration::from_millis(schedule.jitter_ms));
        facts.push(("jitter", format!("up to {most} after a tick; the next times have it")));
    }
    if schedule.priority != 0 {
        facts.push(("priority", schedule.priority.to_string()));
    }
    if let Some(key) = &schedule.key {
        facts.push(("key", shown::line(key.as_str()).into_owned()));
    }
    if let Some(millis) = schedule.expires_in_ms {
        facts.push(("expires in", words::duration(Duration::from_millis(millis))));
    }
    if !schedule.labels.tags.is_empty() {
        let tags: Vec<&str> = schedule.labels.tags.iter().map(Tag::as_str).collect();
        facts.push(("tags", shown::line(&tags.join(", ")).into_owned()));
    }
    for (name, text) in &schedule.labels.meta {
        facts.push(("meta", format!("{}={}", shown::line(name), shown::line(text))));
    }
    if let Some(unique) = &schedule.unique {
        facts.push(("unique", format!("while {}: a tick then brings no job", unique.states())));
    }
    if let Some(remark) = remark(schedule) {
        facts.push((
            if schedule.pause.is_some() { "pause" } else { "waits" },
            shown::line(&remark).into_owned(),
        ));
    }
    facts.extend(schedule.next.iter().map(|next| {
        ("next", format!("{} ({})", words::in_zone(next.due, &schedule.zone), words::relative(next.due, now)))
    }));
    if let Some(last) = &schedule.last {
        let how = last.state.map_or_else(|| "deleted".to_owned(), state);
        let of = last.tick.map_or_else(
            || "by hand".to_owned(),
            |tick| format!("of {}", words::in_zone(tick, &schedule.zone)),
        );
        facts.push(("last job", format!("{} {how}, {of}", last.job)));
    }
    facts
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schedule(more: serde_json::Value) -> ScheduleView {
        let mut schedule = json!({
            "name": "nightly", "module": "report", "queue": "default", "args": null, "cron": "30 2 * * *",
            "zone": "Europe/Berlin", "missed": "skip", "missed_max": 60, "jitter_ms": 0, "next": [],
        });
        schedule.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        serde_json::from_value(schedule).unwrap()
    }

    #[test]
    fn a_schedule_that_does_not_run_says_why() {
        let pause = json!({"pause": {"since": "2030-01-01T00:00:00Z", "by": "Ada", "reason": "flood"}});
        assert_eq!(remark(&schedule(pause)).unwrap(), "paused by Ada: flood");
        let pause = json!({"pause": {"since": "2030-01-01T00:00:00Z", "until": "2030-01-02T00:00:00Z"}});
        assert_eq!(remark(&schedule(pause)).unwrap(), "paused until 2030-01-02T00:00:00.000Z");
        let waits = json!({"waits": {"code": "queue_full", "text": "queue `a` is full: its ticks wait"}});
        assert_eq!(remark(&schedule(waits)).unwrap(), "queue `a` is full: its ticks wait");
        assert_eq!(remark(&schedule(json!({}))), None);
    }

    #[test]
    fn a_schedule_is_shown_with_its_jitter_where_it_has_one() {
        let jitter = |millis| {
            let facts = facts(&schedule(json!({"jitter_ms": millis})), words::now());
            facts.into_iter().find(|(name, _)| *name == "jitter").map(|(_, jitter)| jitter)
        };
        assert!(jitter(600_000).unwrap().starts_with("up to 10m "), "{:?}", jitter(600_000));
        assert_eq!(jitter(0), None);
    }
}
