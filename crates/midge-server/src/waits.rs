//! Says in words why a job that waits does not start.
//!
//! Invariant: the reason is [`midge_core::Outlook`]'s; here are its words.

use std::time::Duration;

use midge_core::{Callback, DependencyEnd, WhyWaiting};
use midge_protocol::api::{BatchEvent, Pause};
use midge_protocol::job::{MODULE_LACKS, Waits};
use midge_protocol::{JobId, Timestamp};

/// A time of the last hours is told without its date.
const SAME_DAY: Duration = Duration::from_secs(20 * 3_600);

/// Returns a reason as the API tells it at a time.
pub(crate) fn waits(why: &WhyWaiting, now: Timestamp) -> Waits {
    let (code, text) = match why {
        WhyWaiting::Scheduled { at } => ("scheduled", format!("scheduled for {}", clock(*at, now))),
        WhyWaiting::TriedAgain { at } => ("tried_again", format!("tried again at {}", clock(*at, now))),
        WhyWaiting::AfterJobs { jobs: number, first } => ("after_jobs", after_jobs(*number, first)),
        WhyWaiting::AfterBatch(Callback { batch, when }) => {
            let when = match when {
                BatchEvent::Completed => "all jobs have completed",
                BatchEvent::Ended => "all jobs have ended",
                BatchEvent::Failure => "a job is discarded",
            };
            ("after_batch", format!("it is to run when {when} of batch {batch}"))
        }
        WhyWaiting::ModuleNotServed => {
            let text = "no module of this name is served now: add it to midge.toml, build, and start the server again \
                        (`midge dev` does both by itself), or cancel the job";
            ("module_not_served", text.to_owned())
        }
        WhyWaiting::ModuleIsPaused(pause) => ("module_is_paused", paused("module", pause, now)),
        WhyWaiting::ModuleLacks { what, times, since, next } => {
            let tries = tries(*times, *since, *next, now);
            (MODULE_LACKS, format!("Machines lack {what}: tried {tries}"))
        }
        WhyWaiting::JobsAreHeld { jobs } => {
            let text = format!(
                "{} held: a module is paused or not served, or Machines lack something for it",
                are(*jobs)
            );
            ("jobs_are_held", text)
        }
        WhyWaiting::QueueIsPaused(pause) => ("queue_is_paused", paused("queue", pause, now)),
        WhyWaiting::BudgetIsSpent { until } => (
            "budget_is_spent",
            format!(
                "the queue's budget of this month is spent: it starts nothing until {}, or until the budget is raised",
                clock(*until, now)
            ),
        ),
        WhyWaiting::QueueIsAtLimit { running, max } => (
            "queue_is_at_limit",
            format!("the queue runs {} of the {max} that it may run at once", jobs(*running)),
        ),
        WhyWaiting::QueueIsAtRate { next } => {
            ("queue_is_at_rate", format!("the queue keeps to its rate: the next begins {}", soon(*next, now)))
        }
        WhyWaiting::KeyIsAtLimit { running, max } => (
            "key_is_at_limit",
            format!("its key runs {} of the {max} that it may run at once", jobs(*running)),
        ),
        WhyWaiting::KeyIsAtRate { next } => {
            ("key_is_at_rate", format!("its key keeps to its rate: the next begins {}", soon(*next, now)))
        }
        WhyWaiting::KeysAreAtLimit => {
            ("keys_are_at_limit", "each key whose jobs are due is at its limit or its rate".to_owned())
        }
        WhyWaiting::PlaceIsFree => {
            ("place_is_free", "a place is free: a Machine is about to take it".to_owned())
        }
        WhyWaiting::MachineStarts => ("machine_starts", "a Machine is starting".to_owned()),
        WhyWaiting::MachineRefused { words, times, since, next } => {
            let tries = tries(*times, *since, *next, now);
            ("machine_refused", format!("no Machine can be had: {words} ({tries})"))
        }
        WhyWaiting::MachineDoesNotComeUp { words, times, since, next } => {
            let tries = tries(*times, *since, *next, now);
            ("machine_does_not_come_up", format!("no Machine comes up: {words} ({tries})"))
        }
        WhyWaiting::QueueIsBusy { machines, max } => {
            ("queue_is_busy", format!("the queue has its {machines} of {max} Machines, all busy"))
        }
        WhyWaiting::MachinesDoNotGo { machines, words, next } => {
            let (are, next) = (if *machines == 1 { "Machine is" } else { "Machines are" }, soon(*next, now));
            (
                "machines_do_not_go",
                format!("{machines} {are} to be destroyed to make room, and not: {words} (next try {next})"),
            )
        }
        WhyWaiting::ServerIsFull { machines, max } => {
            ("server_is_full", format!("the server has its {machines} of {max} Machines"))
        }
        WhyWaiting::MachineIsNext => ("machine_is_next", "a Machine is about to be made".to_owned()),
    };
    Waits { code: code.to_owned(), text }
}

fn after_jobs(number: u64, first: &[(JobId, Option<DependencyEnd>)]) -> String {
    let told = |(id, end): &(JobId, Option<DependencyEnd>)| match end {
        Some(DependencyEnd::Discarded) => format!("{id} (discarded: retry it)"),
        Some(DependencyEnd::Cancelled) => format!("{id} (cancelled: retry it)"),
        Some(DependencyEnd::Completed | DependencyEnd::Deleted) | None => id.to_string(),
    };
    let ids = first.iter().map(told).collect::<Vec<_>>().join(", ");
    let more = match number.saturating_sub(first.len() as u64) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let have = if number == 1 { "has" } else { "have" };
    format!("it is to run after {} that {have} not completed: {ids}{more}", jobs(number))
}

fn paused(what: &str, pause: &Pause, now: Timestamp) -> String {
    let by = if pause.by.is_empty() { String::new() } else { format!(" by {}", pause.by) };
    let until = pause.until.map_or(String::new(), |until| format!(" until {}", clock(until, now)));
    let reason = if pause.reason.is_empty() { String::new() } else { format!(": {}", pause.reason) };
    format!("the {what} is paused{by}{until}{reason}")
}

fn are(jobs: u64) -> String {
    if jobs == 1 { "1 job is".to_owned() } else { format!("{jobs} jobs are") }
}

fn soon(at: Timestamp, now: Timestamp) -> String {
    if at > now { format!("in {}", span(at.since(now))) } else { "now".to_owned() }
}

fn tries(times: u32, since: Timestamp, next: Timestamp, now: Timestamp) -> String {
    let next = soon(next, now);
    format!("{} since {}; next try {next}", count(u64::from(times), "time"), clock(since, now))
}

fn clock(at: Timestamp, now: Timestamp) -> String {
    let text = at.to_string();
    let (Some(day), Some(minute)) = (text.get(..10), text.get(11..16)) else { return text };
    let away = at.since(now).max(now.since(at));
    if away < SAME_DAY { format!("{minute} UTC") } else { format!("{day} {minute} UTC") }
}

fn span(span: Duration) -> String {
    match span.as_secs() + u64::from(span.subsec_nanos() > 0) {
        seconds @ 0..120 => count(seconds, "second"),
        seconds @ 120..7_200 => count(seconds / 60, "minute"),
        seconds => count(seconds / 3_600, "hour"),
    }
}

fn jobs(number: impl Into<u64>) -> String {
    count(number.into(), "job")
}

fn count(number: u64, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use midge_protocol::BatchId;

    use super::*;

    #[test]
    fn every_reason_is_told_with_what_is_known() {
        // 2026-11-26 12:05 UTC.
        let now = Timestamp::from_millis(1_795_694_700_000);
        let at = |seconds: i64| Timestamp::from_millis(now.as_millis() + seconds * 1_000);
        let refused = WhyWaiting::MachineRefused {
            words: "the Machines API refuses the request: the Machine came out without its program".into(),
            times: 7,
            since: at(-300),
            next: at(120),
        };
        let not_up = WhyWaiting::MachineDoesNotComeUp {
            words: "it stopped".into(),
            times: 1,
            since: at(-86_400),
            next: now,
        };
        let table = [
            (WhyWaiting::Scheduled { at: at(3_600) }, "scheduled for 13:05 UTC"),
            (WhyWaiting::Scheduled { at: at(86_400) }, "scheduled for 2026-11-27 12:05 UTC"),
            (WhyWaiting::TriedAgain { at: at(60) }, "tried again at 12:06 UTC"),
            (
                WhyWaiting::ModuleNotServed,
                "no module of this name is served now: add it to midge.toml, build, and start the server again (`midge dev` does \
                 both by itself), or cancel the job",
            ),
            (
                WhyWaiting::JobsAreHeld { jobs: 1 },
                "1 job is held: a module is paused or not served, or Machines lack something for it",
            ),
            (
                WhyWaiting::JobsAreHeld { jobs: 20 },
                "20 jobs are held: a module is paused or not served, or Machines lack something for it",
            ),
            (
                WhyWaiting::ModuleLacks {
                    what: "the secret `KEY`".into(),
                    times: 2,
                    since: at(-300),
                    next: at(20),
                },
                "Machines lack the secret `KEY`: tried 2 times since 12:00 UTC; next try in 20 seconds",
            ),
            (
                WhyWaiting::AfterJobs { jobs: 1, first: vec![(JobId::from_bytes([1; 16]), None)] },
                "it is to run after 1 job that has not completed: 01010101-0101-0101-0101-010101010101",
            ),
            (
                WhyWaiting::AfterJobs {
                    jobs: 9,
                    first: vec![(JobId::from_bytes([1; 16]), Some(DependencyEnd::Discarded))],
                },
                "it is to run after 9 jobs that have not completed: 01010101-0101-0101-0101-010101010101 (discarded: \
                 retry it) and 8 more",
            ),
            (
                WhyWaiting::AfterBatch(Callback {
                    batch: BatchId::from_bytes([1; 16]),
                    when: BatchEvent::Completed,
                }),
                "it is to run when all jobs have completed of batch 01010101-0101-0101-0101-010101010101",
            ),
            (WhyWaiting::KeysAreAtLimit, "each key whose jobs are due is at its limit or its rate"),
            (WhyWaiting::PlaceIsFree, "a place is free: a Machine is about to take it"),
            (WhyWaiting::MachineStarts, "a Machine is starting"),
            (
                refused,
                "no Machine can be had: the Machines API refuses the request: the Machine came out without its \
                 program (7 times since 12:00 UTC; next try in 2 minutes)",
            ),
            (not_up, "no Machine comes up: it stopped (1 time since 2026-11-25 12:05 UTC; next try now)"),
            (WhyWaiting::QueueIsBusy { machines: 4, max: 4 }, "the queue has its 4 of 4 Machines, all busy"),
            (WhyWaiting::ServerIsFull { machines: 20, max: 20 }, "the server has its 20 of 20 Machines"),
            (
                WhyWaiting::MachinesDoNotGo { machines: 2, words: "denied".into(), next: at(30) },
                "2 Machines are to be destroyed to make room, and not: denied (next try in 30 seconds)",
            ),
            (WhyWaiting::MachineIsNext, "a Machine is about to be made"),
            (
                WhyWaiting::QueueIsPaused(Pause {
                    since: now,
                    until: Some(at(60)),
                    reason: "the API is down".into(),
                    by: "ops".into(),
                }),
                "the queue is paused by ops until 12:06 UTC: the API is down",
            ),
            (
                WhyWaiting::QueueIsAtLimit { running: 3, max: 3 },
                "the queue runs 3 jobs of the 3 that it may run at once",
            ),
            (
                WhyWaiting::QueueIsAtRate { next: at(2) },
                "the queue keeps to its rate: the next begins in 2 seconds",
            ),
            (
                WhyWaiting::KeyIsAtLimit { running: 1, max: 1 },
                "its key runs 1 job of the 1 that it may run at once",
            ),
            (WhyWaiting::KeyIsAtRate { next: now }, "its key keeps to its rate: the next begins now"),
        ];
        for (why, text) in table {
            assert_eq!(waits(&why, now).text, text);
        }
    }
}
