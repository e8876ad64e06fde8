//! The flags that say which jobs are meant.

use anyhow::Result;
use midge_cli::words;
use midge_client::{Client, ClientError};
use midge_protocol::api::{JobFilter, Sort};
use midge_protocol::job::{Cause, State};
use midge_protocol::{BatchId, Fingerprint, JobId, JobKey, ModuleName, QueueName, Tag, Timestamp, api};

use crate::commands::enqueue::parse_time;
use crate::connection::{Answered, did_you_mean};

/// The flags that say which jobs are meant: those that fit all that are given.
#[derive(Debug, Clone, Default, clap::Args)]
#[command(next_help_heading = "Which jobs")]
pub(crate) struct FilterArgs {
    /// Only jobs in this state
    #[arg(long, value_name = "STATE")]
    state: Option<State>,
    /// Only jobs of this queue
    #[arg(long, value_name = "NAME")]
    queue: Option<QueueName>,
    /// Only jobs of this module
    #[arg(long, value_name = "NAME")]
    module: Option<ModuleName>,
    /// Only jobs of this batch
    #[arg(long, value_name = "ID")]
    batch: Option<BatchId>,
    /// Only jobs that an attempt at this job enqueued
    #[arg(long, value_name = "ID")]
    parent: Option<JobId>,
    /// Only jobs with this key
    #[arg(long, value_name = "KEY")]
    key: Option<JobKey>,
    /// Only jobs that have this tag
    #[arg(long, value_name = "TAG")]
    tag: Option<Tag>,
    /// Only jobs whose last attempt failed for this cause, such as trap
    #[arg(long, value_name = "CAUSE", value_parser = api::cause)]
    cause: Option<Cause>,
    /// Only jobs that failed alike, as `midge failures` lists them
    #[arg(long, value_name = "FINGERPRINT")]
    failure: Option<Fingerprint>,
    /// Only jobs whose ids begin with a time since then: 2030-01-31T08:00:00Z, or so long ago, such as 2h; ids that midge
    /// makes do, those of an Idempotency-Key do not
    #[arg(long, value_name = "TIME|DURATION", value_parser = time_or_ago)]
    since: Option<Timestamp>,
    /// Only jobs whose ids begin with a time before then, as above
    #[arg(long, value_name = "TIME|DURATION", value_parser = time_or_ago)]
    until: Option<Timestamp>,
    /// Only jobs whose last attempt failed since then
    #[arg(long, value_name = "TIME|DURATION", value_parser = time_or_ago)]
    failed_since: Option<Timestamp>,
    /// Only jobs whose last attempt failed before then
    #[arg(long, value_name = "TIME|DURATION", value_parser = time_or_ago)]
    failed_until: Option<Timestamp>,
    /// Only jobs in the message of whose last failure this stands
    #[arg(long, value_name = "TEXT")]
    text: Option<String>,
    /// Only jobs in whose args, as they were written, this stands
    #[arg(long, value_name = "TEXT")]
    args_text: Option<String>,
}

/// Reads a time, or how long ago it was.
fn time_or_ago(text: &str) -> Result<Timestamp, String> {
    match words::parse_duration(text) {
        Ok(ago) => Ok(words::now().before(ago)),
        Err(_) if text.contains('-') => parse_time(text),
        Err(wrong) => Err(format!("{wrong}, or a time such as 2030-01-31T08:00:00Z")),
    }
}

impl FilterArgs {
    /// Returns the filter that the flags say.
    pub(crate) fn filter(self) -> JobFilter {
        let FilterArgs { state, queue, module, batch, parent, key, tag, cause, failure, text, .. } = self;
        JobFilter {
            state,
            queue,
            module,
            batch,
            parent,
            key,
            tag,
            cause,
            failure,
            since: self.since,
            until: self.until,
            failed_since: self.failed_since,
            failed_until: self.failed_until,
            text,
            args: self.args_text,
            sort: None,
            before: None,
            limit: None,
        }
    }
}

/// Returns the filter of a list for people: who looks at jobs that failed sees the newest failure first.
pub(super) fn for_people(filter: JobFilter) -> JobFilter {
    let failed = filter.state == Some(State::Retryable);
    JobFilter { sort: failed.then_some(Sort::Failed).or(filter.sort), ..filter }
}

/// Says that there are no jobs of a kind, and, where it names what is not there, what was likely meant.
pub(crate) async fn none_of(client: &Client, filter: &JobFilter) -> Result<String> {
    if let Some(module) = &filter.module {
        let known = client.modules().await.answered()?.modules;
        if known.iter().all(|known| known.name != *module) {
            return Ok(no_jobs("module", module.as_str(), known.iter().map(|known| known.name.as_str())));
        }
    }
    if let Some(queue) = &filter.queue {
        let known = client.queues().await.answered()?.queues;
        if !known.iter().any(|known| known.name == *queue) {
            return Ok(no_jobs("queue", queue.as_str(), known.iter().map(|queue| queue.name.as_str())));
        }
    }
    for named in [
        match filter.batch {
            Some(batch) => client.batch(batch).await.err(),
            None => None,
        },
        match filter.failure {
            Some(failure) => client.failure(failure).await.err(),
            None => None,
        },
    ] {
        if let Some(ClientError::Refused { error, .. }) = named {
            return Ok(error.error);
        }
    }
    if let Some(Cause::Unknown(_)) = &filter.cause {
        let word = filter.cause.as_ref().map_or("", Cause::as_str);
        return Ok(no_jobs("known cause", word, Cause::KNOWN.iter().map(Cause::as_str)));
    }
    Ok("there are no such jobs".to_owned())
}

fn no_jobs<'a>(what: &str, name: &str, known: impl Iterator<Item = &'a str>) -> String {
    let hint = did_you_mean(name, known);
    format!("there is no {what} `{name}`, and there are no jobs of it{hint}")
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_name_that_nothing_has_is_told_with_the_nearest() {
        let none = |name| no_jobs("module", name, ["resize", "hello"].into_iter());
        assert_eq!(
            none("resise"),
            "there is no module `resise`, and there are no jobs of it: did you mean `resize`?"
        );
        assert_eq!(none("x"), "there is no module `x`, and there are no jobs of it");
    }

    #[test]
    fn a_time_may_be_said_as_how_long_ago_it_was() {
        let hour = words::now().since(time_or_ago("1h").unwrap());
        assert!(hour >= Duration::from_secs(3_600) && hour < Duration::from_secs(3_700));
        assert_eq!(time_or_ago("2030-01-31T08:00:00Z"), parse_time("2030-01-31T08:00:00Z"));
        assert!(time_or_ago("2030-01-31").unwrap_err().contains("is a day and no time"));
        let error = time_or_ago("yesterday").unwrap_err();
        assert!(error.contains("a duration") && error.contains("or a time"), "{error}");
    }

    #[test]
    fn who_lists_jobs_that_failed_sees_the_newest_failure_first() {
        let listed = |state| for_people(JobFilter { state: Some(state), ..JobFilter::default() }).sort();
        assert_eq!(listed(State::Discarded), Sort::Failed);
        assert_eq!(listed(State::Retryable), Sort::Failed);
        assert_eq!(listed(State::Completed), Sort::Newest);
    }
}
