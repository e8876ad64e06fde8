//! The simulation's rules: see `midge_tests::sim`.
//!
//! `MIDGE_SEEDS=FROM..TO cargo test -p midge-tests --test simulation` runs other seeds than the usual ones.

// How much a run saw belongs to its report.
#![allow(clippy::print_stdout)]

use std::collections::BTreeMap;
use std::num::NonZero;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;

use midge_tests::sim::{Fault, Summary, Violation, run};

/// Seeds that once found a bug. They stay, though the world may have changed so much that they find it no more: the
/// rules that they found are told again in `midge-server`'s `tests/all/rules.rs`.
const SEEDS: &[u64] = &[15, 300, 658, 1976];
/// Seeds of every run of the tests: as many as take a minute of two processors.
const SEEDS_USUAL: Range<u64> = 0..2_200;
/// So many of them are to be of [`LONG_STEPS`] at least. The others are short on purpose: what a busy system mends by chance,
/// one with few jobs must mend too.
const LONG_RUNS_MIN: usize = 2_000;
/// Steps of a long run.
const LONG_STEPS: u64 = 1_000;
/// Seeds among which each fault must show.
const SEEDS_WITH_FAULT: Range<u64> = 0..100;

/// What the usual seeds must have seen, taken together.
const MUST_HAPPEN: &[&str] = &[
    "Machines drained by hand",
    "Machines resumed",
    "Machines suspended",
    "Machines that gave way",
    "Machines that stopped",
    "attempts given twice",
    "attempts that could not begin",
    "attempts that enqueued in vain",
    "batches cancelled",
    "batches pruned",
    "batches that ended",
    "batches that failed",
    "callbacks that ran",
    "cancels",
    "clocks put back",
    "clocks put back while no server was there",
    "clocks put forward",
    "clocks put forward while no server was there",
    "crashes by guests",
    "crashes of the server",
    "deploys",
    "deploys that go back",
    "enqueues that were given up",
    "hosts cut off",
    "hosts denied",
    "hosts that hung",
    "hosts that left",
    "hosts that lost the server",
    "hosts that stood still",
    "hosts told to drain",
    "hosts told to stop",
    "jobs cancelled",
    "jobs completed",
    "jobs deleted by hand",
    "jobs deleted by sweeps",
    "jobs discarded",
    "jobs that expired",
    "jobs that jobs enqueued",
    "jobs that lost Machines",
    "groups of failures",
    "jobs pruned",
    "jobs that no batch took",
    "jobs that ran and were not deleted",
    "jobs that were held",
    "jobs that waited for others",
    "jobs that were not tried again",
    "jobs that were swept",
    "jobs whose dependency failed",
    "messages lost",
    "modules for which a Machine lacked something",
    "pauses",
    "pauses of modules",
    "poison that was found",
    "queues that were full",
    "requests without an answer",
    "retries by hand",
    "schedules paused",
    "schedules resumed",
    "stale requests",
    "states that are safe",
    "states that were found",
    "suspects that were cleared",
    "settings changed",
    "sweeps",
    "sweeps that found no room",
    "ticks",
    "unique jobs that met another",
];

/// Returns the seeds that somebody asked for.
fn seeds_asked_for() -> Option<Range<u64>> {
    let range = std::env::var("MIDGE_SEEDS").ok()?;
    let (from, to) = range.split_once("..").expect("MIDGE_SEEDS is a range such as 0..10000");
    Some(from.parse().expect("a number")..to.parse().expect("a number"))
}

/// Runs seeds on all processors. What came of each is in their order, up to the first that failed.
fn side_by_side(
    seeds: &[u64],
    run: impl Fn(u64) -> Result<Summary, Violation> + Sync,
) -> Vec<Result<Summary, Violation>> {
    let (next, failed) = (AtomicUsize::new(0), AtomicBool::new(false));
    let worker = || {
        let mut done = Vec::new();
        while !failed.load(Ordering::Relaxed) {
            let index = next.fetch_add(1, Ordering::Relaxed);
            let Some(seed) = seeds.get(index) else { break };
            let ended = run(*seed);
            failed.fetch_or(ended.is_err(), Ordering::Relaxed);
            done.push((index, ended));
        }
        done
    };
    let workers = thread::available_parallelism().map_or(1, NonZero::get);
    let mut done: Vec<(usize, Result<Summary, Violation>)> = thread::scope(|scope| {
        let workers: Vec<_> = (0..workers).map(|_| scope.spawn(worker)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("a run panicked")).collect()
    });
    done.sort_by_key(|(index, _)| *index);
    done.into_iter().map(|(_, ended)| ended).collect()
}

#[test]
fn whatever_fails_every_job_ends_once_and_no_machine_outlives_its_reason() {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    let asked_for = seeds_asked_for();
    let seeds: Vec<u64> = match asked_for.clone() {
        Some(seeds) => seeds.collect(),
        None => SEEDS.iter().copied().chain(SEEDS_USUAL).collect(),
    };
    let mut long_runs = 0;
    for done in side_by_side(&seeds, |seed| run(seed, None)) {
        let summary = done.unwrap_or_else(|violation| panic!("{violation}"));
        long_runs += usize::from(summary.steps() >= LONG_STEPS);
        for (what, count) in summary.counts {
            *counts.entry(what).or_default() += count;
        }
    }
    println!(
        "{} seeds, {long_runs} of them of {LONG_STEPS} steps at least; {} in all",
        seeds.len(),
        counts["steps"]
    );
    if asked_for.is_some_and(|asked_for| asked_for.end - asked_for.start < SEEDS_USUAL.end) {
        return;
    }
    assert!(long_runs >= LONG_RUNS_MIN, "{long_runs} runs had {LONG_STEPS} steps");
    // A world in which nothing goes wrong would find nothing.
    for what in MUST_HAPPEN {
        assert!(counts.contains_key(what), "no run saw {what}: {counts:#?}");
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    let hash = |seed| run(seed, None).map(|summary: Summary| summary.trace_hash);
    for seed in 0..5 {
        assert_eq!(hash(seed), hash(seed), "seed {seed}");
    }
    assert_ne!(hash(0), hash(1));
}

/// Runs seeds with a fault, and checks that one of them finds it, by what it breaks.
fn is_found(fault: Fault, breaks: &[&str]) {
    let found = SEEDS_WITH_FAULT.into_iter().find_map(|seed| run(seed, Some(fault)).err());
    let violation = found.unwrap_or_else(|| panic!("no seed shows {fault:?}"));
    println!("{fault:?} is found by seed {}", violation.seed);
    assert!(
        breaks.iter().any(|words| violation.broken.contains(words)),
        "{fault:?} was found, but not by what it breaks: {violation}"
    );
}

#[test]
fn without_the_fence_a_late_report_is_found_to_finish_another_attempt() {
    is_found(Fault::FenceNotChecked, &["with the result", "what its host said"]);
}

#[test]
fn a_late_report_of_a_deleted_job_is_found_to_end_another_under_its_id() {
    is_found(Fault::EnqueueNotChecked, &["with the result", "what its host said", " logged "]);
}

#[test]
fn a_limit_that_is_read_outside_of_the_transaction_is_found_to_be_exceeded() {
    is_found(Fault::LimitReadOutside, &[" jobs: QueuePolicy"]);
}

#[test]
fn an_end_that_is_taken_twice_is_found_to_be_counted_twice() {
    is_found(Fault::DoubleFinish, &["are spent, and"]);
}

#[test]
fn a_job_that_is_not_given_back_with_its_machine_is_found_to_be_leased_to_none() {
    is_found(Fault::LostHandBack, &[" leases"]);
}

#[test]
fn what_an_attempt_enqueues_that_has_lost_its_job_is_found_to_be_of_none_that_completed() {
    is_found(Fault::EnqueuesWithoutRight, &["children of jobs that have not completed"]);
}

#[test]
fn a_bucket_that_is_filled_twice_is_found_to_let_too_many_begin() {
    is_found(Fault::BucketRefilledTwice, &["attempts in"]);
}

#[test]
fn a_claim_from_a_paused_queue_is_found() {
    is_found(Fault::PausedQueueClaims, &["its queue is paused"]);
}

#[test]
fn lanes_that_do_not_take_turns_are_found_to_be_passed_by() {
    is_found(Fault::LanesInOneOrder, &["was served before"]);
}

#[test]
fn a_priority_that_no_wait_makes_up_for_is_found_to_go_before_an_older_job() {
    is_found(Fault::AgeingForgotten, &["began before"]);
}

#[test]
fn an_end_that_is_counted_twice_in_its_batch_is_found_to_be_of_no_job() {
    is_found(Fault::BatchCountedTwice, &["has jobs that come to"]);
}

#[test]
fn a_tick_whose_job_has_no_id_of_its_own_is_found_to_fire_twice() {
    is_found(Fault::TickFiredTwice, &["tick fired twice"]);
}

#[test]
fn a_tick_whose_state_is_lost_fires_once_since_its_job_is_there() {
    let mut spoilt = 0;
    for seed in 0..20 {
        let summary = run(seed, Some(Fault::TickStateLost)).unwrap_or_else(|violation| panic!("{violation}"));
        spoilt += summary.counts.get("ticks that were spoilt").copied().unwrap_or(0);
    }
    assert!(spoilt > 0, "no state was lost");
}
