//! What `midge enqueue` takes of when a job expires and how it is tried again.

use std::time::Duration;

use midge_cli::words;
use midge_client::EnqueueRequest;
use midge_protocol::job::{Backoff, Cause, InvalidBackoff};
use midge_protocol::{Timestamp, limits};

use super::{millis, parse_time};

#[derive(Debug, clap::Args)]
pub(super) struct AgainArgs {
    /// Discard it if it was not started so long from now
    #[arg(long, value_name = "DURATION", value_parser = words::parse_some_duration, conflicts_with = "expires_at")]
    expires_in: Option<Duration>,
    /// Discard it if it was not started by this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    expires_at: Option<Timestamp>,
    /// How long it waits after a failure: sidekiq, none, 2s, 2s..1d, "fixed 30s" or 1s,10s,5m [default: the module's]
    #[arg(long, value_name = "BACKOFF", value_parser = parse_backoff)]
    backoff: Option<Backoff>,
    /// The same after failures of one cause, such as trap=none; may be repeated [default: the module's]
    #[arg(long, value_name = "CAUSE=BACKOFF", value_parser = parse_backoff_after)]
    backoff_after: Vec<(Cause, Backoff)>,
    /// How much chance adds to such a wait at most, in percent [default: the module's]
    #[arg(long, value_name = "PERCENT", value_parser = words::whole::<u32>(0..=i64::from(limits::JITTER_PERCENT_MAX)))]
    jitter_percent: Option<u32>,
    /// Do not try it again so long after it was due first [default: the module's]
    #[arg(long, value_name = "DURATION", value_parser = words::parse_some_duration, conflicts_with = "retry_until")]
    retry_for: Option<Duration>,
    /// Do not try it again after this time
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    retry_until: Option<Timestamp>,
}

impl AgainArgs {
    /// Writes what was said into a request. Fails where two things are said of one cause.
    pub(super) fn fill(&self, request: &mut EnqueueRequest) -> anyhow::Result<()> {
        request.expires_in_ms = self.expires_in.map(millis);
        request.expires_at = self.expires_at;
        request.backoff = self.backoff.clone();
        request.jitter_percent = self.jitter_percent;
        request.retry_for_ms = self.retry_for.map(millis);
        request.retry_until = self.retry_until;
        for (cause, backoff) in &self.backoff_after {
            let by_cause = request.backoff_by_cause.get_or_insert_default();
            if by_cause.insert(cause.clone(), backoff.clone()).is_some() {
                anyhow::bail!("`--backoff-after {cause}=` is there twice: say it once for each cause");
            }
        }
        Ok(())
    }
}

fn parse_backoff(text: &str) -> Result<Backoff, String> {
    text.parse().map_err(|error: InvalidBackoff| error.to_string())
}

fn parse_backoff_after(text: &str) -> Result<(Cause, Backoff), String> {
    let (cause, backoff) =
        text.split_once('=').ok_or_else(|| format!("`{text}` is not CAUSE=BACKOFF, such as trap=none"))?;
    let cause = Cause::tried_again(cause).map_err(|error| error.to_string())?;
    Ok((cause, parse_backoff(backoff)?))
}

#[cfg(test)]
mod tests {
    use clap::Parser;

    use crate::cli::{Cli, Command};

    fn request(words: &[&str]) -> serde_json::Value {
        let line = ["midge", "enqueue", "hello"].iter().chain(words);
        let Command::Enqueue(args) = Cli::parse_from(line).command else { panic!("not enqueue") };
        let mut request = serde_json::to_value(args.request().unwrap()).unwrap();
        for common in ["id", "module", "args"] {
            request.as_object_mut().unwrap().remove(common);
        }
        request
    }

    fn refused(words: &[&str]) -> String {
        let line = ["midge", "enqueue", "hello"].iter().chain(words);
        Cli::try_parse_from(line).unwrap_err().to_string()
    }

    #[test]
    fn how_a_job_is_tried_again_and_when_it_expires_is_asked_for_as_it_is_said() {
        let said = request(&[
            "--expires-in",
            "1h",
            "--backoff",
            "10s..5m",
            "--backoff-after",
            "trap=none",
            "--backoff-after",
            "over_time=fixed 1m",
            "--jitter-percent",
            "0",
            "--retry-for",
            "2h",
        ]);
        let expected = serde_json::json!({
            "expires_in_ms": 3_600_000, "backoff": {"exponential": {"base_ms": 10_000, "cap_ms": 300_000}},
            "backoff_by_cause": {"trap": "none", "over_time": {"fixed": {"wait_ms": 60_000}}},
            "jitter_percent": 0, "retry_for_ms": 7_200_000,
        });
        assert_eq!(said, expected);
        let times = ["--expires-at", "2030-01-31T08:00:00Z", "--retry-until", "2030-01-31T08:00:00Z"];
        let at = "2030-01-31T08:00:00.000Z";
        assert_eq!(request(&times), serde_json::json!({"expires_at": at, "retry_until": at}));
    }

    #[test]
    fn of_one_cause_one_thing_is_said() {
        let words = ["--backoff-after", "trap=none", "--backoff-after", "trap=fixed 1m"];
        let line = ["midge", "enqueue", "hello"].iter().chain(&words);
        let Command::Enqueue(args) = Cli::parse_from(line).command else { panic!("not enqueue") };
        assert!(args.request().unwrap_err().to_string().contains("`--backoff-after trap=` is there twice"));
    }

    #[test]
    fn what_cannot_be_is_refused_with_what_may() {
        assert!(refused(&["--backoff", "sidekik"]).contains("use `sidekiq`, `none`"));
        assert!(refused(&["--backoff-after", "over_tiem=none"]).contains("did you mean `over_time`?"));
        assert!(refused(&["--backoff-after", "trap"]).contains("is not CAUSE=BACKOFF"));
        assert!(refused(&["--jitter-percent", "101"]).contains("use a whole number from 0 to 100"));
        assert!(refused(&["--expires-at", "9999-12-31T00:00:00Z"]).contains("to 9999-12-30T22:00:00.000Z"));
        for both in [
            ["--expires-in", "1h", "--expires-at", "2030-01-31T08:00:00Z"],
            ["--retry-for", "1h", "--retry-until", "2030-01-31T08:00:00Z"],
            ["--jsonl", "jobs.jsonl", "--backoff", "none"],
        ] {
            assert!(refused(&both).contains("cannot be used with"), "{both:?}");
        }
    }
}
