//! Waits for a job: says what fails meanwhile, writes its result, and tells by the exit code how it ended.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Result;
use bytes::Bytes;
use indicatif::ProgressBar;
use midge_cli::output::{bold, dim, note, say_json, write_result};
use midge_cli::progress::{is_drawn, spinner, style};
use midge_cli::words;
use midge_client::{Client, Position};
use midge_protocol::job::{AttemptView, Failure, JobView, State};
use midge_protocol::{AttemptNumber, JobId, shown};
use tokio::time::Instant;

use crate::commands::follow::{self, LogTo};
use crate::connection::Answered;

/// How often one looks while somebody looks on, and how often otherwise.
const DRAWN_EVERY: Duration = Duration::from_millis(300);
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// A server that is restarted while somebody waits is waited for, for about half a minute.
const WAIT_TRIES: u32 = 20;
/// Lines of the log that are shown of a job that failed.
const LOG_LINES_SHOWN: usize = 20;

/// What the command exits with where a job did not complete; 1 is an error of the command, and 2 a wrong command line.
pub(super) mod exit {
    pub(crate) const DISCARDED: u8 = 3;
    pub(crate) const CANCELLED: u8 = 4;
    /// It goes on, and `--timeout` is over.
    pub(crate) const NOT_ENDED: u8 = 5;
}

/// Waits for a job to end, writes its result to stdout or its failure to stderr, and returns what to exit with.
pub(crate) async fn wait(
    client: &Client,
    id: JobId,
    mut told: Told,
    timeout: Option<Duration>,
    json: bool,
) -> Result<ExitCode> {
    // Without a server one hears of it at once; a server that goes away later may be restarted.
    let mut job = client.wait(id, Some(Duration::ZERO)).await.answered()?;
    told.tell_failed(client, &job).await?;
    if !job.state.is_ended() {
        job = wait_and_show(&client.clone().tries(WAIT_TRIES), id, &mut told, timeout).await?;
    }
    end(client, &job, json, Log::Unseen).await
}

/// Writes a job's log to stderr as it comes until the job has ended, and then does as [`wait`] does.
pub(super) async fn follow(
    client: &Client,
    id: JobId,
    timeout: Option<Duration>,
    json: bool,
) -> Result<ExitCode> {
    // As above: without a server one hears of it at once.
    client.wait(id, Some(Duration::ZERO)).await.answered()?;
    let patient = client.clone().tries(WAIT_TRIES);
    let followed = follow::follow(&patient, id, Position::BEGINNING, LogTo::Stderr);
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    let job = match deadline {
        None => followed.await?,
        Some(deadline) => match tokio::time::timeout_at(deadline, followed).await {
            Ok(job) => job?,
            Err(_) => client.wait(id, Some(Duration::ZERO)).await.answered()?,
        },
    };
    end(client, &job, json, Log::Seen).await
}

/// Whether the log of a job's last attempt was written already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Log {
    Seen,
    Unseen,
}

/// Writes what a job came to, and returns what to exit with.
async fn end(client: &Client, job: &JobView, json: bool, log: Log) -> Result<ExitCode> {
    let id = job.id;
    if json && job.state.is_ended() {
        say_json(&client.job(id).await.answered()?)?;
    }
    match job.state {
        State::Completed if !json => write_result(&client.result_bytes(id).await.answered()?)?,
        State::Discarded | State::Cancelled => show_failure(client, job, log).await,
        _ => {}
    }
    Ok(match job.state {
        State::Completed => ExitCode::SUCCESS,
        State::Discarded => ExitCode::from(exit::DISCARDED),
        State::Cancelled => ExitCode::from(exit::CANCELLED),
        state => {
            let again = format!("`midge jobs wait {id}` waits for it again");
            note(format_args!("job {id} is still {state}: it goes on, and {again}"));
            ExitCode::from(exit::NOT_ENDED)
        }
    })
}

/// Waits, says which attempts failed, and draws the job's state and progress where there is a terminal.
async fn wait_and_show(
    client: &Client,
    id: JobId,
    told: &mut Told,
    timeout: Option<Duration>,
) -> Result<JobView> {
    let (line, every) = match is_drawn() {
        true => (spinner(format!("{id}")), DRAWN_EVERY),
        false => (ProgressBar::hidden(), LOOK_EVERY),
    };
    let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
    loop {
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        let job = client.wait(id, Some(left.map_or(every, |left| left.min(every)))).await.answered()?;
        told.tell_failed(client, &job).await?;
        if job.state.is_ended() || left.is_some_and(|left| left.is_zero()) {
            line.finish_and_clear();
            return Ok(job);
        }
        if let Some(progress) = job.progress.as_ref().filter(|progress| progress.total > 0) {
            line.set_style(style("{spinner} {bar:30} {percent}% {wide_msg}"));
            line.set_length(progress.total);
            line.set_position(progress.done.min(progress.total));
        }
        line.set_message(describe(&job));
    }
}

/// What is known of a job's attempts by whoever waits for it.
pub(crate) struct Told {
    /// The last attempt that has ended and need not be told of; nothing where all so far need not.
    last: Option<AttemptNumber>,
}

impl Told {
    /// Of a new job, each attempt that fails is news.
    pub(crate) fn nothing() -> Told {
        Told { last: Some(AttemptNumber(0)) }
    }

    /// Of a job that was there before, those that fail from now on are.
    pub(crate) fn all_so_far() -> Told {
        Told { last: None }
    }

    /// Says of each attempt that has failed since the last look why, and when the job is tried again. The one that ended the
    /// job is not among them: what became of the job is said at the end.
    async fn tell_failed(&mut self, client: &Client, job: &JobView) -> Result<()> {
        let ended = match job.state {
            State::Pending | State::Scheduled | State::Available | State::Retryable => job.attempt,
            State::Running | State::Completed | State::Cancelled | State::Discarded => {
                AttemptNumber(job.attempt.0.saturating_sub(1))
            }
        };
        let last = *self.last.get_or_insert(ended);
        if ended <= last {
            return Ok(());
        }
        let detail = client.job(job.id).await.answered()?;
        for attempt in &detail.attempts {
            if let Some(failure) = &attempt.failure
                && (last.next()..=ended).contains(&attempt.attempt)
            {
                note(failed(attempt, failure, &detail.job));
            }
        }
        self.last = Some(ended);
        Ok(())
    }
}

pub(crate) fn failed(attempt: &AttemptView, failure: &Failure, job: &JobView) -> String {
    // Of an older one it is known that it was.
    let again = match job.state {
        State::Retryable | State::Scheduled if attempt.attempt == job.attempt => {
            // The whole wait: what is left of it depends on when one looked.
            format!("; tried again after {}", words::duration(job.scheduled_at.since(attempt.ended_at)))
        }
        _ => "; tried again".to_owned(),
    };
    let failed = if attempt.spent { "failed" } else { "does not count" };
    let message = shown::line(&failure.message);
    format!("attempt {} {failed}: {}: {message}{again}", attempt.attempt, failure.cause)
}

fn describe(job: &JobView) -> String {
    let attempt = match job.attempt.0 {
        0 | 1 => String::new(),
        number => format!(", attempt {number}"),
    };
    let progress = match &job.progress {
        Some(progress) if progress.total > 0 => {
            format!("  {}/{} {}", progress.done, progress.total, shown::line(&progress.message))
        }
        Some(progress) => format!("  {} {}", progress.done, shown::line(&progress.message)),
        None => String::new(),
    };
    format!("{} {}{attempt}{progress}", job.module, job.state)
}

/// Says how a job ended without a result.
async fn show_failure(client: &Client, job: &JobView, log: Log) {
    let attempts = words::count(job.spent as usize, "attempt");
    match job.ended_by() {
        Some(failure) => note(format_args!(
            "{}: {}: {} {}",
            bold(format_args!("{} was {}", job.module, job.state)),
            failure.cause,
            shown::text(&failure.message),
            dim(format_args!("({attempts} spent)"))
        )),
        None => note(bold(format_args!("{} was {}", job.module, job.state))),
    }
    // The log is beside the point: what matters was said.
    let log = match log {
        Log::Seen => Bytes::new(),
        Log::Unseen => client.log(job.id, None).await.unwrap_or_default(),
    };
    let log = shown::bytes(&log);
    let lines: Vec<&str> = log.lines().collect();
    let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
    if !shown.is_empty() {
        note(dim("the log of its last attempt ends with:"));
        shown.iter().for_each(|line| note(format_args!("  {line}")));
    }
    note(dim(format_args!(
        "`midge jobs show {0}` shows all of it, `midge jobs retry {0}` runs it again",
        job.id
    )));
}

#[cfg(test)]
mod tests {
    use midge_protocol::Timestamp;
    use midge_protocol::job::Cause;

    use super::*;

    #[test]
    fn a_failed_attempt_is_told_with_its_cause_and_when_the_job_is_tried_again() {
        let now: Timestamp = "2030-01-01T00:00:00Z".parse().unwrap();
        let attempt = |number: u32, spent| AttemptView {
            attempt: AttemptNumber(number),
            machine: midge_protocol::MachineName::new("m").unwrap(),
            scheduled_at: now,
            started_at: now,
            ended_at: now,
            spent,
            failure: None,
            usage: None,
            cost: None,
        };
        let job: JobView = serde_json::from_value(serde_json::json!({
            "id": JobId::generate(), "module": "flaky", "queue": "default", "state": "retryable", "attempt": 2,
            "spent": 1, "max_attempts": 25, "enqueued_at": now, "scheduled_at": "2030-01-01T00:00:20Z",
        }))
        .unwrap();
        let failure = |cause| Failure::new(cause, "no\u{1b}\nluck");
        let says = |number, spent, cause| failed(&attempt(number, spent), &failure(cause), &job);
        assert_eq!(
            says(2, true, Cause::Exit),
            "attempt 2 failed: exit: no\u{fffd} luck; tried again after 20.0 s"
        );
        assert_eq!(
            says(1, false, Cause::MachineLost),
            "attempt 1 does not count: machine_lost: no\u{fffd} luck; tried again"
        );
    }
}
