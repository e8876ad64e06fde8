//! `midge enqueue`: one job, or many from a file; and what became of it.

mod again;
mod bulk;
mod ties;
mod unique;
mod wait;

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{note, say, say_json};
use midge_cli::words;
use midge_client::{ClientError, EnqueueRequest};
use midge_protocol::{JobId, JobKey, ModuleName, QueueName, Tag, Timestamp, limits};

use self::again::AgainArgs;
use self::ties::{BatchArgs, TiesArgs};
use self::unique::UniqueArgs;
pub(super) use self::wait::exit::NOT_ENDED;
use self::wait::follow;
pub(super) use self::wait::{Told, failed, wait};
use crate::arguments::{ContentArgs, ServerArgs, key_value, priority, time_limit};
use crate::connection::Answered;

/// Enqueue a job, and perhaps wait for its result
#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("waits").args(["wait", "follow"]).multiple(true))]
#[command(after_help = "\
Prints the job's id. With --wait, writes the id to stderr at once, the job's result to stdout, and
each attempt that fails meanwhile to stderr; with --follow the job's log as well, as it comes. It exits with 0 if the job completed, 3 if it was discarded,
4 if it was cancelled, and 5 if --timeout is over before; 1 is an error of the command itself,
and 2 a wrong command line.

Examples:
  midge enqueue hello --args '{\"name\": \"you\"}'
  midge enqueue resize --args '{\"width\": 320}' --input photo.jpg --wait > small.jpg
  midge enqueue report --follow > report.html
  midge enqueue report --args @report.json --in 10m --queue nightly
  midge enqueue news --expires-in 1h --backoff 10s..5m --backoff-after trap=none --retry-for 2h
  midge enqueue import --key acme --priority -5
  midge enqueue sync --unique --in 5m --on-conflict push-back
  midge enqueue mail --tag customer:42 --meta by=Ada
  midge enqueue report --after 0190b3e4-7d5c-7c3a-9f00-0123456789ab --after-failed go-on
  midge enqueue --jsonl jobs.jsonl --batch $(midge batches new)
  midge enqueue --jsonl jobs.jsonl        where each line is such as {\"module\": \"hello\"}")]
pub(crate) struct Args {
    /// The module to run
    #[arg(required_unless_present = "jsonl")]
    module: Option<ModuleName>,
    #[command(flatten)]
    content: ContentArgs,
    /// The queue [default: the module's]
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Run it not before so long from now
    #[arg(long, value_name = "DURATION", value_parser = words::parse_duration, conflicts_with = "at")]
    r#in: Option<Duration>,
    /// Run it not before this time, such as 2030-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    at: Option<Timestamp>,
    /// Run it before others of its queue and key (less than 0) or behind them, from -100 to 100
    #[arg(long, value_name = "N", default_value_t = 0, allow_hyphen_values = true, value_parser = priority)]
    priority: i8,
    /// What it has in common with others that are limited together and take turns, such as a tenant
    #[arg(long)]
    key: Option<JobKey>,
    /// A word by which it is found, such as customer:42; may be given several times
    #[arg(long = "tag", value_name = "TAG")]
    tags: Vec<Tag>,
    /// A text under a name that is shown with it; may be given several times
    #[arg(long, value_name = "NAME=TEXT", value_parser = key_value)]
    meta: Vec<(String, String)>,
    /// How many attempts may be spent [default: the module's]
    #[arg(long, value_name = "N", value_parser = words::whole::<u32>(1..=i64::from(limits::ATTEMPTS_MAX)))]
    max_attempts: Option<u32>,
    /// How long an attempt may run [default: the module's]
    #[arg(long, value_name = "DURATION", value_parser = time_limit)]
    time_limit: Option<Duration>,
    #[command(flatten)]
    again: AgainArgs,
    #[command(flatten)]
    unique: UniqueArgs,
    #[command(flatten)]
    ties: TiesArgs,
    #[command(flatten)]
    batch: BatchArgs,
    /// The job's id, a UUID: enqueuing the same again is then the same job
    #[arg(long)]
    id: Option<JobId>,
    /// Wait for the job to end, and write its result to stdout
    #[arg(long)]
    wait: bool,
    /// Wait, and write the job's log to stderr as it comes
    #[arg(long, short)]
    follow: bool,
    /// Give up waiting after so long; the job goes on
    #[arg(long, value_name = "DURATION", value_parser = words::parse_duration, requires = "waits")]
    timeout: Option<Duration>,
    /// Write JSON: the enqueue's answer, or with --wait the job
    #[arg(long)]
    json: bool,
    /// Enqueue every line of a file as a job, 1,000 at a time, each time all or none; `-` is stdin
    #[arg(
        long, value_name = "FILE|-",
        conflicts_with_all = ["module", "args", "input", "queue", "in", "at", "priority", "key", "tags", "meta", "max_attempts", "time_limit", "id", "wait", "follow", "AgainArgs", "UniqueArgs", "TiesArgs"]
    )]
    jsonl: Option<PathBuf>,
    #[command(flatten)]
    server: ServerArgs,
}

impl Args {
    pub(crate) async fn run(self) -> Result<ExitCode> {
        let client = self.server.client()?;
        if let Some(file) = &self.jsonl {
            return bulk::enqueue(&client, file, self.batch.batch, self.json).await;
        }
        let request = self.request()?;
        let enqueued = client.enqueue(&request).await.answered().map_err(in_flags)?;
        if let Some(conflict) = enqueued.conflict {
            note(format_args!("there is one like it already, {}: {conflict}", enqueued.id));
        }
        if self.follow || self.wait {
            // Who is interrupted while waiting knows which job it was.
            note(format_args!("job {}", enqueued.id));
        }
        if self.follow {
            return follow(&client, enqueued.id, self.timeout, self.json).await;
        }
        if self.wait {
            return wait(&client, enqueued.id, Told::nothing(), self.timeout, self.json).await;
        }
        if self.json {
            say_json(&enqueued)?;
        } else {
            say(enqueued.id)?;
        }
        Ok(ExitCode::SUCCESS)
    }

    fn request(&self) -> Result<EnqueueRequest> {
        let module = self.module.clone().expect("clap asks for a module where there is no --jsonl");
        let mut request = EnqueueRequest {
            id: self.id.unwrap_or_else(JobId::generate),
            args: self.content.args()?,
            input: self.content.input()?,
            queue: self.queue.clone(),
            scheduled_at: self.at,
            in_ms: self.r#in.map(millis),
            priority: self.priority,
            key: self.key.clone(),
            tags: self.tags.clone(),
            meta: self.meta.iter().cloned().collect(),
            max_attempts: self.max_attempts,
            time_limit_ms: self.time_limit.map(millis),
            batch: self.batch.batch,
            ..EnqueueRequest::new(module)
        };
        self.again.fill(&mut request)?;
        request.unique = self.unique.unique();
        self.ties.fill(&mut request);
        Ok(request)
    }
}

/// Names the flags in an error of the server, which names fields of the API.
fn in_flags(error: anyhow::Error) -> anyhow::Error {
    // All others are about what has a name, which may be that of a field.
    let is_of_a_field =
        error.downcast_ref::<ClientError>().is_some_and(|error| error.code() == Some("invalid"));
    if !is_of_a_field {
        return error;
    }
    let in_flag = |text: String, (field, flag): &(&str, &str)| {
        text.replace(&format!("`{field}`"), &format!("`{flag}`"))
    };
    anyhow::anyhow!(FLAGS.iter().fold(error.to_string(), in_flag))
}

/// The fields of the API that flags of this command fill, with those.
const FLAGS: [(&str, &str); 22] = [
    ("in_ms", "--in"),
    ("scheduled_at", "--at"),
    ("expires_at", "--expires-at"),
    ("expires_in_ms", "--expires-in"),
    ("retry_until", "--retry-until"),
    ("retry_for_ms", "--retry-for"),
    ("time_limit_ms", "--time-limit"),
    ("max_attempts", "--max-attempts"),
    ("backoff", "--backoff"),
    ("backoff_by_cause", "--backoff-after"),
    ("jitter_percent", "--jitter-percent"),
    ("priority", "--priority"),
    ("queue", "--queue"),
    ("key", "--key"),
    ("tags", "--tag"),
    ("meta", "--meta"),
    ("unique.by", "--unique"),
    ("unique.text", "--unique-text"),
    ("unique.states", "--unique-while"),
    ("unique.for_ms", "--unique-for"),
    ("after", "--after"),
    ("batch", "--batch"),
];

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

pub(super) fn parse_time(text: &str) -> Result<Timestamp, String> {
    text.parse().map_err(|error: midge_protocol::InvalidTime| error.to_string())
}

#[cfg(test)]
mod tests {
    use clap::Parser;
    use midge_protocol::api::ApiError;

    use super::*;
    use crate::cli::{Cli, Command};

    fn request(line: &str) -> EnqueueRequest {
        let Command::Enqueue(args) = Cli::parse_from(line.split(' ')).command else { panic!("not enqueue") };
        args.request().unwrap()
    }

    #[test]
    fn what_is_said_is_what_is_asked_for() {
        let request = request(
            "midge enqueue hello --args [1] --in 1h30m --queue slow --max-attempts 3 --time-limit 90s --tag a --tag b:1 --meta by=Ada \
             --id 0190b3e4-7d5c-7c3a-9f00-0123456789ab"
                .replace("  ", " ")
                .as_str(),
        );
        let json = serde_json::to_value(&request).unwrap();
        let expected = serde_json::json!({
            "id": "0190b3e4-7d5c-7c3a-9f00-0123456789ab", "module": "hello", "args": [1], "queue": "slow",
            "in_ms": 5_400_000, "max_attempts": 3, "time_limit_ms": 90_000, "tags": ["a", "b:1"],
            "meta": {"by": "Ada"},
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn what_is_not_said_is_left_to_the_module() {
        let request = request("midge enqueue hello");
        let json = serde_json::to_value(&request).unwrap();
        assert_eq!(json, serde_json::json!({"id": request.id, "module": "hello", "args": null}));
    }

    #[test]
    fn what_the_server_says_of_a_field_is_said_of_its_flag_and_a_name_stays_what_it_is() {
        let said = |code: &str, error: &str| {
            let error = ApiError { code: code.to_owned(), error: error.to_owned() };
            in_flags(ClientError::Refused { status: 422, error }.into()).to_string()
        };
        let told = "the job would expire at T, and is not to run before T: use a larger `expires_in_ms`, or a smaller `in_ms`";
        let named = said("invalid", told);
        assert!(named.ends_with("use a larger `--expires-in`, or a smaller `--in`"), "{named}");
        for (code, told) in [
            ("unknown_queue", "there is no queue `priority`"),
            ("unknown_module", "there is no module `backoff`: did you mean `batch`?"),
            ("queue_full", "queue `key` is full"),
        ] {
            assert_eq!(said(code, told), told);
        }
    }

    #[test]
    fn a_span_that_cannot_be_is_refused_under_the_name_of_its_flag() {
        for (flag, value, says) in [
            ("--in", "300000000000s", "is too long: the longest duration is 2900000d"),
            ("--in", "99999999999999999999d", "is too long: the longest duration is 2900000d"),
            ("--expires-in", "0s", "use 1ms or more"),
            ("--retry-for", "0s", "use 1ms or more"),
            ("--unique-for", "0s", "use 1ms or more"),
            ("--time-limit", "25h", "an attempt may take from 1ms to 24h"),
        ] {
            let error =
                Cli::try_parse_from(["midge", "enqueue", "hello", flag, value]).unwrap_err().to_string();
            assert!(error.contains(&format!("for '{flag} <DURATION>'")) && error.contains(says), "{error}");
        }
    }

    #[test]
    fn a_time_that_is_too_late_is_refused_with_the_latest_that_may_be() {
        let error = parse_time("9999-12-31T23:59:59Z").unwrap_err();
        assert!(error.ends_with("to 9999-12-30T22:00:00.000Z"), "{error}");
    }

    #[test]
    fn a_time_may_have_an_offset() {
        assert_eq!(parse_time("2030-01-31T08:00:00+01:00"), parse_time("2030-01-31T07:00:00Z"));
        assert!(parse_time("tomorrow").unwrap_err().contains("a time like"));
    }
}
