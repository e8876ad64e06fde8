//! What `midge queues pause` and `midge schedules pause` have in common.

use std::time::Duration;

use midge_cli::words;
use midge_protocol::Timestamp;
use midge_protocol::api::{Pause, PauseRequest};

use super::enqueue::parse_time;

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

/// Returns when a pause ends, in words, where `resume` is the command that ends it.
pub(super) fn until(pause: &Pause, resume: &str) -> String {
    match pause.until {
        Some(until) => format!("until {until}"),
        None => format!("until `{resume}`"),
    }
}
