//! What commands that pause or drain have in common.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{note, say};
use midge_cli::words;
use midge_protocol::Timestamp;
use midge_protocol::api::{Pause, PauseRequest, Paused};
use midge_protocol::shown;
use tokio::time::Instant;

use super::enqueue::{NOT_ENDED, parse_time};

/// How often one looks whether jobs of what is paused still run.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Why something is paused, by whom, and until when.
#[derive(Debug, clap::Args)]
pub(super) struct Pausing {
    /// Why, for others who wonder
    #[arg(long, value_name = "TEXT", default_value = "")]
    reason: String,
    /// Who pauses it
    #[arg(long, value_name = "NAME", env = "USER", default_value = "")]
    by: String,
    /// Let it go on by itself after so long
    #[arg(long = "for", value_name = "DURATION", value_parser = parse_length, conflicts_with = "until")]
    r#for: Option<Duration>,
    /// Let it go on by itself at this time, such as 2030-01-31T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = parse_time)]
    until: Option<Timestamp>,
}

impl Pausing {
    pub(super) fn request(self) -> PauseRequest {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        PauseRequest { reason: self.reason, by: self.by, until: self.until, for_ms: self.r#for.map(millis) }
    }
}

/// Whether to wait until what was asked for has come about.
#[derive(Debug, clap::Args)]
pub(super) struct Waiting {
    /// Wait until nothing of it runs any more
    #[arg(long)]
    pub(super) wait: bool,
    /// Give up waiting after so long
    #[arg(long, value_name = "DURATION", value_parser = words::parse_duration, requires = "wait")]
    timeout: Option<Duration>,
}

impl Waiting {
    /// Waits, if that was asked for, until `look` finds nothing that is still to come about: it says what. Returns what to
    /// exit with where the time is over before.
    pub(super) async fn until(
        &self,
        every: Duration,
        mut look: impl AsyncFnMut() -> Result<Option<String>>,
    ) -> Result<Option<ExitCode>> {
        if !self.wait {
            return Ok(None);
        }
        let deadline = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        while let Some(left) = look().await? {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                note(format_args!("the time is over, and {left}"));
                return Ok(Some(ExitCode::from(NOT_ENDED)));
            }
            let until = Instant::now() + every;
            tokio::time::sleep_until(deadline.map_or(until, |deadline| deadline.min(until))).await;
        }
        Ok(None)
    }
}

impl Waiting {
    /// Waits, if that was asked for, until no job of what is paused runs any more: `running` looks how many do. Returns what
    /// to exit with.
    pub(super) async fn until_none_runs(
        &self,
        name: impl std::fmt::Display,
        mut running: impl AsyncFnMut() -> Result<u64>,
    ) -> Result<ExitCode> {
        let still = self.until(LOOK_EVERY, async || {
            let running = running().await?;
            let jobs = words::count(usize::try_from(running).unwrap_or(usize::MAX), "job");
            let run = if running == 1 { "runs" } else { "run" };
            Ok((running > 0).then(|| format!("{jobs} of {name} still {run}")))
        });
        if let Some(code) = still.await? {
            return Ok(code);
        }
        if self.wait {
            say(format_args!("nothing of {name} runs any more"))?;
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn parse_length(text: &str) -> Result<Duration, String> {
    match words::parse_duration(text)? {
        short if short < Duration::from_millis(1) => {
            Err("a pause lasts 1ms at least; leave it out to pause until somebody resumes it".to_owned())
        }
        long => Ok(long),
    }
}

/// Says that something is paused, until when, and which pause was replaced. `resume` is the command that ends it.
pub(super) fn said(name: impl std::fmt::Display, paused: &Paused, resume: &str) -> String {
    let until = match paused.pause.until {
        Some(until) => format!("until {until}"),
        None => format!("until `{resume}`"),
    };
    let replaced =
        paused.replaced.as_ref().map_or(String::new(), |pause| format!(", in place of {}", before(pause)));
    format!("{name} is paused {until}{replaced}")
}

/// Says what became of something that was to go on, by the pause that it was in.
pub(super) fn resumed(name: impl std::fmt::Display, before: Option<&Pause>) -> String {
    match before {
        Some(_) => format!("{name} goes on"),
        None => format!("{name} was not paused"),
    }
}

/// Says that something is paused, by whom, until when, and why.
pub(super) fn paused(pause: &Pause) -> String {
    let by = if pause.by.is_empty() { String::new() } else { format!(" by {}", pause.by) };
    let until = pause.until.map(|until| format!(" until {until}")).unwrap_or_default();
    let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
    shown::line(&format!("paused{by}{until}{reason}")).into_owned()
}

/// Tells of a pause that another has replaced.
fn before(pause: &Pause) -> String {
    let by = if pause.by.is_empty() { String::new() } else { format!(" by {}", pause.by) };
    let until = pause.until.map_or_else(|| " without an end".to_owned(), |until| format!(" until {until}"));
    let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
    shown::line(&format!("a pause{by}{until}{reason}")).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_that_replaces_another_says_which() {
        let now = Timestamp::from_millis(0);
        let pause = Pause { since: now, until: None, reason: "mine".into(), by: "Ada".into() };
        let first = Paused { pause: pause.clone(), replaced: None };
        assert_eq!(said("mail", &first, "resume"), "mail is paused until `resume`");
        let second = Paused { pause: pause.clone(), replaced: Some(pause) };
        let told = "mail is paused until `resume`, in place of a pause by Ada without an end: mine";
        assert_eq!(said("mail", &second, "resume"), told);
    }

    #[test]
    fn what_was_not_paused_is_not_said_to_go_on() {
        let pause =
            Pause { since: Timestamp::from_millis(0), until: None, reason: String::new(), by: String::new() };
        assert_eq!(resumed("mail", Some(&pause)), "mail goes on");
        assert_eq!(resumed("mail", None), "mail was not paused");
    }

    #[test]
    fn a_pause_is_told_with_what_is_known_of_it() {
        let now = Timestamp::from_millis(0);
        let mut pause = Pause { since: now, until: None, reason: String::new(), by: String::new() };
        assert_eq!(paused(&pause), "paused");
        pause = Pause { until: Some(now), reason: "a\u{1b}b".into(), by: "Ada".into(), ..pause };
        assert_eq!(paused(&pause), "paused by Ada until 1970-01-01T00:00:00.000Z: a\u{fffd}b");
    }

    #[test]
    fn a_pause_of_no_length_is_refused() {
        assert!(parse_length("0s").unwrap_err().contains("1ms at least"));
        assert_eq!(parse_length("1ms"), Ok(Duration::from_millis(1)));
    }
}
