//! What commands that pause or drain have in common.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::note;
use midge_cli::words;
use midge_protocol::Timestamp;
use midge_protocol::api::{Pause, PauseRequest};
use tokio::time::Instant;

use super::enqueue::{NOT_ENDED, parse_time};

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
    #[arg(long = "for", value_name = "DURATION", value_parser = words::parse_duration, conflicts_with = "until")]
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
    wait: bool,
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
                note(format_args!("{left}: the time is over, and it goes on"));
                return Ok(Some(ExitCode::from(NOT_ENDED)));
            }
            let until = Instant::now() + every;
            tokio::time::sleep_until(deadline.map_or(until, |deadline| deadline.min(until))).await;
        }
        Ok(None)
    }
}

/// Returns when a pause ends, in words, where `resume` is the command that ends it.
pub(super) fn until(pause: &Pause, resume: &str) -> String {
    match pause.until {
        Some(until) => format!("until {until}"),
        None => format!("until `{resume}`"),
    }
}
