//! Fails as often as it is told to, and then does not.

use std::time::Duration;

use midge_job::{Error, Result};
use serde::{Deserialize, Serialize};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Args {
    /// Attempts that fail.
    failures: u32,
    /// How long to ask to wait after each, rather than what the retry policy has.
    retry_after_ms: Option<u64>,
}

#[derive(Debug, PartialEq, Serialize)]
struct Success {
    attempt: u32,
}

#[midge_job::main]
fn flaky(args: Args) -> Result<Success> {
    let attempt = midge_job::attempt();
    if attempt > args.failures {
        return Ok(Success { attempt });
    }
    let error = Error::new(format!("attempt {attempt} fails, as {} should", args.failures));
    Err(match args.retry_after_ms {
        Some(wait) => error.retry_after(Duration::from_millis(wait)),
        None => error,
    })
}

#[cfg(test)]
mod tests {
    use midge_job::Disposition;
    use midge_job::testing::Given;

    use super::*;

    #[test]
    fn the_attempt_after_the_failures_succeeds() {
        let attempt = |number| {
            Given::new().attempt(number).run(|| flaky(Args { failures: 2, retry_after_ms: Some(50) }))
        };
        let after = Some(Duration::from_millis(50));
        assert_eq!(attempt(1).unwrap_err().disposition(), Disposition::Retry { after });
        assert_eq!(attempt(2).unwrap_err().disposition(), Disposition::Retry { after });
        assert_eq!(attempt(3).unwrap(), Success { attempt: 3 });
    }
}
