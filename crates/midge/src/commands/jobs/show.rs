//! `midge jobs show`: all that is known about a job.

use std::fmt::Display;
use std::time::Duration;

use anyhow::Result;
use midge_cli::output::{bold, dim, note, say, say_json, say_table, state};
use midge_cli::table::{Table, cut, first_line};
use midge_cli::words;
use midge_client::Client;
use midge_protocol::api::RequestView;
use midge_protocol::job::{AttemptView, JobView};
use midge_protocol::{AttemptNumber, JobId, Tag, Timestamp, shown};

use crate::connection::Answered;

/// The most of the args that is shown; `--json` has all of them.
const ARGS_WIDTH_MAX: usize = 200;

pub(super) async fn show(client: &Client, id: JobId, json: bool) -> Result<()> {
    let detail = client.job(id).await.answered()?;
    if json {
        return say_json(&detail);
    }
    let now = words::now();
    let after: Vec<String> = detail.after.iter().map(JobId::to_string).collect();
    for (name, value) in facts(&detail.job, &cut(detail.args.get(), ARGS_WIDTH_MAX), now) {
        say(format_args!("{} {value}", bold(format_args!("{name:<9}"))))?;
    }
    if let Some(cost) = detail.cost {
        let of = format_args!("{} for its shares of its Machines", cost.short());
        say(format_args!("{} {of}", bold(format_args!("{:<9}", "cost"))))?;
    }
    if !after.is_empty() {
        let then = detail.job.after_failed.as_str();
        let after = cut(&after.join(", "), ARGS_WIDTH_MAX);
        say(format_args!("{} {after}; if one fails: {then}", bold(format_args!("{:<9}", "after"))))?;
    }
    if let Some(children) = detail.children {
        let listed = dim(format_args!("(`midge jobs list --parent {id}`)"));
        say(format_args!("{} {children} {listed}", bold(format_args!("{:<9}", "children"))))?;
    }
    if !detail.attempts.is_empty() {
        say("")?;
        say_table(attempts(&detail.attempts))?;
    }
    if let Some(range) = detail.forgotten_attempts {
        say(dim(format_args!("not kept any more, nor their logs: {range}")))?;
    }
    if !detail.unreadable_attempts.is_empty() {
        let numbers: Vec<String> = detail.unreadable_attempts.iter().map(AttemptNumber::to_string).collect();
        say(format_args!("attempts whose rows cannot be read: {}", numbers.join(", ")))?;
    }
    if let Some(attempt) = detail.recorded {
        say(dim(format_args!(
            "attempt {attempt} was recorded: `midge jobs pull {id}` gets what it takes to replay it"
        )))?;
        if !detail.recorded_requests.is_empty() {
            say_table(requests(&detail.recorded_requests))?;
        }
        if let Some(more) = detail.more_recorded_requests {
            say(dim(format_args!("and {more} more, which are in the recording")))?;
        }
    }
    if detail.job.unreadable.is_some() {
        note(format_args!("it runs no more: `midge jobs delete {id}` deletes it"));
        return Ok(());
    }
    let log = client.log(id, None).await.answered()?;
    if !log.is_empty() {
        say("")?;
        say(bold("log of the last attempt"))?;
        say(shown::bytes(&log).trim_end())?;
    }
    Ok(())
}

fn facts(job: &JobView, args: &str, now: Timestamp) -> Vec<(&'static str, String)> {
    let time = |at: Timestamp| format!("{at} {}", dim(format_args!("({})", words::relative(at, now))));
    let mut facts = Vec::new();
    let mut fact = |name, value: &dyn Display| facts.push((name, value.to_string()));
    fact("job", &job.id);
    fact("module", &job.module);
    fact("queue", &job.queue);
    if let Some(key) = &job.key {
        fact("key", &shown::line(key.as_str()));
    }
    if job.priority != 0 {
        fact("priority", &job.priority);
    }
    if !job.labels.tags.is_empty() {
        let tags: Vec<&str> = job.labels.tags.iter().map(Tag::as_str).collect();
        fact("tags", &shown::line(&tags.join(", ")));
    }
    for (name, text) in &job.labels.meta {
        fact("meta", &format_args!("{}={}", shown::line(name), shown::line(text)));
    }
    if let Some(batch) = &job.batch {
        fact("batch", batch);
    }
    if let Some(parent) = &job.parent {
        fact("parent", parent);
    }
    if let Some(batch) = &job.callback_of {
        fact("runs for", &format_args!("batch {batch}"));
    }
    if let Some(schedule) = &job.schedule {
        let of = schedule.tick.map_or("run by hand".to_owned(), |tick| format!("tick of {}", time(tick)));
        fact("schedule", &format_args!("{}, {of}", schedule.name));
    }
    if let Some(why) = &job.unreadable {
        let why = shown::line(why);
        fact("state", &format_args!("{}, its row cannot be read: {why}", state(job.state)));
        fact("args", &args);
        return facts;
    }
    let cancelling = if job.cancelling { ", is being cancelled" } else { "" };
    fact("state", &format_args!("{}{cancelling}", state(job.state)));
    if let Some(waits) = &job.waits {
        fact("waits", &shown::line(&waits.text));
        if let Some(remedy) = waits.remedy() {
            fact("to do", &remedy);
        }
    }
    if let Some(suspicion) = &job.suspicion {
        fact("suspect", suspicion);
    }
    fact("attempts", &format_args!("{} begun, {} of {} spent", job.attempt, job.spent, job.max_attempts));
    if let Some(retries) = job.retries() {
        fact("again", &retries);
    }
    if let Some(at) = job.expires_at {
        fact("start by", &time(at));
    }
    if let Some(millis) = job.time_limit_ms {
        fact("limit", &format_args!("{} for each attempt", words::duration(Duration::from_millis(millis))));
    }
    if let Some(unique) = &job.unique {
        fact("unique", unique);
    }
    fact("enqueued", &time(job.enqueued_at));
    if !job.state.is_ended() {
        fact("scheduled", &time(job.scheduled_at));
    }
    if let Some(at) = job.started_at {
        fact("started", &time(at));
    }
    if let Some(at) = job.ended_at {
        fact("ended", &time(at));
    }
    if let Some(machine) = &job.machine {
        fact("Machine", machine);
    }
    if let Some(progress) = &job.progress {
        let total = if progress.total > 0 { format!(" of {}", progress.total) } else { String::new() };
        fact("progress", &format_args!("{}{total} {}", progress.done, shown::line(&progress.message)));
    }
    fact("args", &args);
    if let Some(bytes) = job.result_bytes {
        fact("result", &format_args!("{}, see `midge jobs result {}`", words::bytes(bytes), job.id));
    }
    if let Some(failure) = &job.failure {
        let said = format!("{}: {}", failure.cause, shown::text(&failure.message));
        let before = match (job.ended_by(), job.failed) {
            (None, Some(failed)) => {
                format!(" {}", dim(format_args!("(the last failure, {})", words::relative(failed.at, now))))
            }
            _ => String::new(),
        };
        fact("failure", &format_args!("{said}{before}"));
    }
    if let Some(fingerprint) = job.failed.and_then(|failed| failed.fingerprint) {
        fact("alike", &format_args!("{fingerprint}, see `midge failures show {fingerprint}`"));
    }
    facts
}

fn attempts(attempts: &[AttemptView]) -> Table {
    let mut table = Table::new(&[
        ">ATTEMPT",
        "MACHINE",
        "STARTED",
        ">WAITED",
        ">RAN",
        ">CPU",
        ">MEMORY",
        ">COST",
        "SPENT",
        "ENDED WITH",
    ]);
    for attempt in attempts {
        let usage = |show: &dyn Fn(&midge_protocol::job::Usage) -> String| {
            attempt.usage.as_ref().map_or_else(|| "-".to_owned(), show)
        };
        let ended = match &attempt.failure {
            Some(failure) => first_line(&format!("{}: {}", failure.cause, super::gist(&failure.message))),
            None => "a result".to_owned(),
        };
        table.row([
            attempt.attempt.to_string(),
            attempt.machine.to_string(),
            attempt.started_at.to_string(),
            words::duration(attempt.started_at.since(attempt.scheduled_at)),
            usage(&|usage| words::duration(Duration::from_micros(usage.ran_us))),
            usage(&|usage| words::duration(Duration::from_micros(usage.cpu_us))),
            usage(&|usage| words::bytes(usage.memory_peak_bytes)),
            attempt.cost.map_or_else(|| "-".to_owned(), |cost| cost.short()),
            if attempt.spent { "yes" } else { "no" }.to_owned(),
            ended,
        ]);
    }
    table
}

/// Returns the requests of a recording as a table.
fn requests(requests: &[RequestView]) -> Table {
    let mut table =
        Table::new(&[">REQUEST", "METHOD", "TO", "ANSWER", ">SENT", ">RECEIVED", ">BEGAN AFTER", ">TOOK"]);
    for (number, request) in (1..).zip(requests) {
        let micros = |micros| words::duration(Duration::from_micros(micros));
        table.row([
            number.to_string(),
            first_line(&request.method),
            request.origin.as_deref().map_or_else(|| "(no URL)".to_owned(), first_line),
            request.became(),
            words::bytes(request.sent_bytes),
            words::bytes(request.received_bytes),
            micros(request.began_us),
            request.took_us.map_or_else(|| "-".to_owned(), micros),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::tests::job;
    use super::*;

    fn names(job: &JobView) -> Vec<&'static str> {
        facts(job, "null", words::now()).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn of_a_job_that_cannot_be_read_only_what_is_known_is_shown() {
        let unreadable = job(json!({"state": "discarded", "unreadable": "it is no JSON"}));
        assert_eq!(names(&unreadable), ["job", "module", "queue", "state", "args"]);
        let state = &facts(&unreadable, "null", words::now())[3].1;
        assert!(state.contains("cannot be read: it is no JSON"), "{state}");
    }

    #[test]
    fn nothing_that_a_terminal_obeys_comes_from_why_a_job_waits_or_cannot_be_read() {
        let text = "paused by Ada: \u{1b}[2J\u{202e}a\r\nINFO all is well";
        let waits = job(json!({"state": "available", "waits": {"code": "queue_paused", "text": text}}));
        let unreadable = job(json!({"state": "discarded", "unreadable": text}));
        for (job, name) in [(waits, "waits"), (unreadable, "state")] {
            let facts = facts(&job, "null", words::now());
            let (_, said) = facts.iter().find(|(fact, _)| *fact == name).unwrap();
            assert!(said.ends_with("Ada: \u{fffd}[2J\u{fffd}a INFO all is well"), "{said:?}");
        }
    }

    #[test]
    fn a_failure_that_did_not_end_the_job_is_said_to_be_the_last_one_before() {
        let failed = |state| {
            job(json!({
                "state": state, "failure": {"cause": "exit", "message": "no luck"},
                "failed": {"at": "2030-01-01T00:00:00Z"},
            }))
        };
        let said = |state| {
            let facts = facts(&failed(state), "null", "2030-01-01T01:00:00Z".parse().unwrap());
            facts.into_iter().find(|(name, _)| *name == "failure").unwrap().1
        };
        assert_eq!(said("discarded"), "exit: no luck");
        for state in ["cancelled", "available", "running"] {
            assert!(said(state).contains("(the last failure, "), "{}", said(state));
        }
    }

    #[test]
    fn a_time_is_called_what_the_api_calls_it() {
        let waiting = job(json!({"state": "scheduled"}));
        assert!(names(&waiting).contains(&"scheduled") && !names(&waiting).contains(&"due"));
    }
}
